/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One call of one function of the target's libc: malloc_trim, mallopt. */
#include "act/inject.h"

#if ASC_CAN_INJECT
#include <elf.h>
#include <linux/ptrace.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "act/call.h"
#include "base/cleanup.h"

enum { TIMEOUT_DEFAULT_MS = 60000, ROUND_MS = 10000 };

void asc_act_note(struct asc_act_result *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->note, sizeof(r->note), fmt, ap);
	va_end(ap);
}

double asc_act_timeout(const struct asc_op *op)
{
	return op->c->opts.call_timeout_ms ? op->c->opts.call_timeout_ms : TIMEOUT_DEFAULT_MS;
}

void asc_act_back(struct asc_borrow *b)
{
	struct user_regs_struct r;
	struct iovec io = { &r, sizeof(r) };

	if (!asc_pt(PTRACE_GETREGSET, b->tid, NT_PRSTATUS, &io) && asc_halt_hide_eintr(b->tid, &r))
		asc_pt(PTRACE_SETREGSET, b->tid, NT_PRSTATUS, &io);
	asc_pt(PTRACE_DETACH, b->tid, 0, NULL);
}

void asc_act_left(const struct asc_borrow *b, double waited_ms, struct asc_act_result *r)
{
	char where[64];

	asc_borrow_where(b, where, sizeof(where));
	r->outcome = ASC_ACT_RUNNING;
	r->complete = false;
	asc_act_note(
		r,
		"after %.0f ms thread %d has not returned: it is %s. It goes on by itself, and "
		"restores itself when it returns; nothing was killed, and no other thread is "
		"stopped",
		waited_ms, b->tid, where);
}

void asc_act_times(const struct asc_borrow *b, struct asc_act_result *r)
{
	r->borrowed_ms = b->since > 0 ? asc_act_now() - b->since : 0;
	r->stopped_ms = b->single ? r->borrowed_ms : b->all ? b->halt.ms : 0;
	r->tid = b->tid;
}

static void crashed(struct asc_borrow *b, int sig, struct asc_act_result *r)
{
	asc_addr arena = 0;

	r->outcome = ASC_ACT_CRASHED;
	r->crash_signal = sig;
	r->lock_repaired = asc_repair(b, &arena);
	r->verified = asc_borrow_restore(b);
	if (r->lock_repaired)
		asc_act_note(r,
			     "the call crashed (%s); the thread was restored, and the lock that it "
			     "left on the arena at 0x%llx was freed",
			     strsignal(sig), (unsigned long long)arena);
	else
		asc_act_note(r, "the call crashed (%s); the thread was restored; %s",
			     strsignal(sig),
			     arena ? "an arena lock may be left behind: `stuck` shows it"
				   : "no arena lock was left behind");
}

static void finish(struct asc_borrow *b, enum asc_ran how, int sig, struct asc_act_result *r)
{
	uint64_t value = 0;

	switch (how) {
	case ASC_RAN:
		r->outcome = ASC_ACT_DONE;
		r->complete = true;
		r->return_value_known = b->op->g.store &&
					asc_peek(b, b->f.result, &value, sizeof(value));
		r->return_value = (int32_t)(uint32_t)value;
		asc_act_fault(b->op, 9);
		r->verified = asc_borrow_restore(b);
		return;
	case ASC_RAN_CRASH:
		crashed(b, sig, r);
		return;
	case ASC_RAN_ABORT:
		/* it waits for a lock and holds none: as if it had never been called */
		r->verified = asc_borrow_restore(b);
		return;
	case ASC_RAN_BACK:
		r->outcome = ASC_ACT_DONE;
		r->complete = true;
		asc_act_back(b);
		asc_act_note(r, "the thread came back by itself: its result is not known");
		return;
	case ASC_RAN_TIMEOUT:
		asc_act_left(b, r->call_ms, r);
		return;
	case ASC_RAN_GONE:
		r->outcome = ASC_ACT_GONE;
		asc_act_note(r, "the process or its thread %d ended during the call", b->tid);
		return;
	}
}

/*
 * First a call that does nothing. From its end on T's signals wait. Without it a kill between
 * arming and the mask would leave the function running while handlers of the program may run on
 * top of it, and one that allocates would wait for ever for the lock of its own thread.
 */
static struct asc_error *once_round(struct asc_borrow *b, enum asc_ran *how, int *sig)
{
	struct asc_go go = { .pc = b->op->g.syscall,
			     .sp = b->f.entry,
			     .store_to = b->f.result,
			     .rax = SYS_getpid,
			     .step = 4 };

	ASC_TRY(asc_borrow_start(b, &go));
	b->stopping = true; /* a wish to end it is looked at when there is something to end */
	*how = asc_borrow_wait(b, b->f.stop1, ROUND_MS, sig);
	b->stopping = false;
	asc_act_fault(b->op, 8);
	if (*how != ASC_RAN_BACK)
		return NULL;
	asc_act_back(b);
	return asc_err_id(
		asc_err(ASC_EUNSUPPORTED, "thread %d came back unseen: nothing was done", b->tid),
		"E-THREAD");
}

static struct asc_error *run(struct asc_borrow *b)
{
	const struct asc_op *op = b->op;
	struct asc_act_result *r = &op->sh->result;
	struct asc_go go;
	struct asc_error *err;
	enum asc_ran how;
	double began;
	int sig = 0;

	ASC_TRY(asc_begin_call(b));
	err = asc_borrow_write(b, 0);
	if (!err)
		err = once_round(b, &how, &sig);
	if (!err && how == ASC_RAN) {
		go = (struct asc_go){ .pc = op->function,
				      .sp = b->f.entry,
				      .store_to = b->f.result,
				      .args = { op->args[0], op->args[1] },
				      .step = 34 };
		began = asc_act_now();
		err = asc_borrow_start(b, &go);
		if (!err)
			how = asc_borrow_wait(b, b->f.stop1, asc_act_timeout(op), &sig);
		r->call_ms = asc_act_now() - began;
	}
	if (err) {
		asc_halt_release(&b->halt, 0);
		return err;
	}
	finish(b, how, sig, r);
	asc_act_times(b, r);
	if (how == ASC_RAN_ABORT)
		return asc_err_why(
			asc_err_id(asc_err(ASC_EAGAIN, "the call was taken back"), "E-BUSY"),
			"it waited for an arena lock that is held for good; nothing is left "
			"behind");
	return NULL;
}

/* In the helper. */
static struct asc_error *call(struct asc_op *op)
{
	ASC_AUTO(asc_freep) struct asc_borrow *b = calloc(1, sizeof(*b));
	struct asc_error *err;

	if (!b)
		return asc_err(ASC_ENOMEM, "the helper process");
	b->op = op;
	b->mem = -1;
	b->halt.pid = op->pid;
	err = run(b);
	asc_borrow_end(b);
	return err;
}

struct asc_error *asc_act_call(const struct asc_act_ctx *c, const char *name, uint64_t a,
			       uint64_t b, int arena, struct asc_act_result *ret)
{
	struct asc_op op = { 0 };
	struct asc_sym sym;
	struct asc_error *err;

	*ret = (struct asc_act_result){ 0 };
	ASC_TRY(asc_op_prepare(c, arena, &op));
	err = asc_symbol_find(c->modules, c->lib->module, name, &sym);
	if (err) {
		err = asc_err_id(asc_wrap(err, "the target has no %s that could be called", name),
				 "E-NOFUNC");
		err->code = ASC_EUNSUPPORTED;
	} else {
		op.name = name;
		op.function = sym.addr;
		op.args[0] = a;
		op.args[1] = b;
		err = asc_helper_run(&op, call, ret);
	}
	asc_op_deinit(&op);
	return err;
}

struct asc_error *asc_act_trim(const struct asc_act_ctx *c, uint64_t pad,
			       struct asc_act_result *ret)
{
	return asc_act_call(c, "malloc_trim", pad, 0, -1, ret);
}
#endif
