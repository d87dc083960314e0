/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The child, so that nobody is left with a zombie and nobody hears of it, whoever is killed when:
 *
 *   T       clone3(CLONE_VM, no exit signal): a process C1 that shares T's memory; nothing is
 * copied C1      clone(no exit signal): C2, the copy-on-write child; the page tables are copied
 * here C1      exit_group T       wait4(C1): the kernel wrote its number into T's chain
 *
 * C2 has lost its parent then and belongs to the reaper of the process tree, as every orphan does:
 * it can be killed at any time and the target never had a child. All of it is a chain of addresses
 * on T's stack (frame.c) and a second one for C1, so that it ends in the same way if the tool is
 * killed in between: C1 and C2, when nobody stops them, run on to exit_group.
 *
 * C2 is born traced by the helper and stopped. PTRACE_O_EXITKILL, set on it before the target is
 * let go, ties its life to the helper's, and the helper ends when the tool does.
 */
#include "act/fork.h"

#include "act/inject.h"

#if ASC_CAN_INJECT
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "act/call.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "target/proc.h"

enum {
	SPARE_SLOTS = 1024,
	STEP_MS = 10000,
	DEFAULT_PAUSE_MS = 500,
	WATCHDOG_TIMES = 4,
	CLOSE_MS = 2000,
	BURY_MS = 10000,
	END_NICE = -5, /* three times a thread's share: 64 are busy at times */
	POLL_NS = 50000,
	HOLD_NS = 10000000,
	CLONE_ARGS_BYTES = 64,
	C1_AT = 128, /* its chain, in the room for parameters */
	C1_WORDS = 13,
	NO_CHILD = INT32_MAX,
	OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE,
};
/* Both wait for any kind of child. */
static const uint64_t WAIT_ALL = 0x40000000;

enum fork_stage { FORK_BEGIN, FORK_STOPPED, FORK_HELD };
enum fork_word { WORD_NONE, WORD_GO, WORD_END };

struct asc_fork_shared {
	_Atomic int stage; /* enum fork_stage, of the helper */
	_Atomic int word;  /* enum fork_word, of the tool */
	pid_t child;
	double max_ms; /* then everything is let go */
	bool let_go;   /* it was */
	struct asc_pause pause;
	unsigned retries;
	size_t n, cap;
	struct asc_stop_slot slots[];
};

struct asc_fork {
	struct asc_op op;
	struct asc_fork_shared *sh;
	size_t bytes;
	pid_t helper;
};

/* What the helper knows of the birth. */
struct birth {
	struct asc_borrow *b;
	struct asc_fork_shared *sh;
	pid_t c1, c2;
	bool c1_over, c2_stopped, c2_killed;
	bool t_done; /* at its second self-signal */
	bool t_gone;
	bool released;
};

static void nap(long ns)
{
	struct timespec ts = { 0, ns };

	nanosleep(&ts, NULL);
}

static bool tool_lives(const struct asc_op *op)
{
	return getppid() == op->tool;
}

/* ---- the chains ---- */

static void c1_chain(const struct asc_gadgets *g, uint64_t *v)
{
	const uint64_t words[C1_WORDS] = {
		g->pop_rdi,
		0,
		g->pop_rsi,
		0,
		g->pop_rax,
		SYS_clone,
		g->syscall,
		/* C1 and C2 alike, if nobody stops C2 */
		g->pop_rdi,
		0,
		g->pop_rax,
		SYS_exit_group,
		g->syscall,
		0,
	};

	memcpy(v, words, sizeof(words));
}

static bool write_chains(const struct asc_borrow *b)
{
	asc_addr par = b->f.par, chain = par + C1_AT;
	uint64_t v[C1_WORDS];
	/* struct clone_args, first version: flags, pidfd, child_tid, parent_tid, exit_signal,
	 * stack, stack_size, tls */
	const uint64_t args[CLONE_ARGS_BYTES / 8] = {
		CLONE_VM | CLONE_PARENT_SETTID, 0, 0, b->f.map_word, 0, par + 64, C1_AT - 64, 0,
	};

	_Static_assert(sizeof(struct asc_rt_par) >= C1_AT + 8 * C1_WORDS, "room for C1's chain");
	c1_chain(&b->op->g, v);
	return asc_poke(b, chain, v, sizeof(v)) && asc_poke(b, par, args, sizeof(args));
}

/* ---- before: would the child come back to the target? ---- */

/* A subreaper inherits orphans, so C2 would become its child. Only the process itself can tell. */
static struct asc_error *check_subreaper(struct asc_borrow *b)
{
	struct asc_go go = {
		.pc = b->op->g.syscall,
		.sp = b->f.after_store,
		.store_to = b->f.result,
		.rax = SYS_prctl,
		.args = { PR_GET_CHILD_SUBREAPER, b->f.par },
		.step = 40,
	};
	int32_t answer = -1;
	int sig = 0;

	if (!asc_poke(b, b->f.par, &answer, sizeof(answer)))
		return asc_err_os(errno, "cannot write the question");
	ASC_TRY(asc_borrow_start(b, &go));
	switch (asc_borrow_wait(b, b->f.stop1, STEP_MS, &sig)) {
	case ASC_RAN:
		break;
	case ASC_RAN_GONE:
		return asc_err_id(asc_err(ASC_EAGAIN, "process %d ended", b->op->pid), "E-EXITED");
	default:
		return asc_err(ASC_EAGAIN, "thread %d did not answer", b->tid);
	}
	if (asc_peek(b, b->f.par, &answer, sizeof(answer)) && answer == 0)
		return NULL;
	return asc_err_why(
		asc_err_id(asc_err(ASC_EUNSUPPORTED,
				   "a copy-on-write child would be left to the target"),
			   "E-FORK"),
		"it is a subreaper (PR_SET_CHILD_SUBREAPER): orphans become its children");
}

/* ---- the birth ---- */

static void stop_of_t(struct birth *x, int status)
{
	struct asc_borrow *b = x->b;
	int sig = WIFSTOPPED(status) ? WSTOPSIG(status) : 0, ev = status >> 16;
	struct user_regs_struct r;
	struct iovec io = { &r, sizeof(r) };
	unsigned long msg = 0;

	if (!WIFSTOPPED(status)) {
		x->t_gone = true;
		return;
	}
	if (ev == PTRACE_EVENT_CLONE && !asc_pt(PTRACE_GETEVENTMSG, b->tid, 0, &msg)) {
		x->c1 = (pid_t)msg;
		/* the target waits for both, C2 inherits it */
		setpriority(PRIO_PROCESS, (id_t)x->c1, PRIO_MIN);
	}
	if (!ev && sig == b->sig && !asc_pt(PTRACE_GETREGSET, b->tid, NT_PRSTATUS, &io) &&
	    r.rsp == b->f.stop2) {
		x->t_done = true;
		return;
	}
	if (!ev && sig == b->sig)
		b->resend = true;
	asc_pt(PTRACE_CONT, b->tid, 0, ev || sig == b->sig ? NULL : (void *)(long)sig);
}

static void stop_of_c1(struct birth *x, int status)
{
	int sig = WIFSTOPPED(status) ? WSTOPSIG(status) : 0, ev = status >> 16;
	unsigned long msg = 0;

	if (!WIFSTOPPED(status)) {
		x->c1_over = true;
		return;
	}
	asc_act_fault(x->b->op, 50);
	if (ev == PTRACE_EVENT_CLONE && !asc_pt(PTRACE_GETEVENTMSG, x->c1, 0, &msg)) {
		x->c2 = (pid_t)msg;
		if (!x->c2_stopped && !x->released)
			return; /* stays until C2 is held: the target has its pause anyway */
	}
	asc_pt(PTRACE_CONT, x->c1, 0, ev ? NULL : (void *)(long)sig);
}

static void stop_of_c2(struct birth *x, int status)
{
	long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;

	if (!WIFSTOPPED(status)) {
		x->c2_killed = true;
		return;
	}
	if (x->c2_stopped)
		return;
	asc_act_fault(x->b->op, 51);
	asc_pt(PTRACE_SETOPTIONS, x->c2, 0, (void *)options);
	asc_act_fault(x->b->op, 52);
	x->c2_stopped = true;
	asc_pt(PTRACE_CONT, x->c1, 0, NULL);
}

/* One report of the kernel. @return false: there is none now */
static bool next_stop(struct birth *x)
{
	struct asc_borrow *b = x->b;
	int status;
	pid_t p = waitpid(-1, &status, __WALL | WNOHANG);

	if (p < 0 && errno == ECHILD)
		x->t_gone = true;
	if (p <= 0)
		return false;
	if (p == b->tid) {
		stop_of_t(x, status);
	} else if (asc_halt_find(&b->halt, p)) {
		asc_borrow_other(b, p, status);
	} else if (!x->c1 || p == x->c1) {
		/* it may be heard of before T's event is */
		x->c1 = p;
		stop_of_c1(x, status);
	} else {
		x->c2 = p;
		stop_of_c2(x, status);
	}
	return true;
}

static void let_go(struct birth *x)
{
	if (!x->released)
		asc_halt_release(&x->b->halt, x->b->tid);
	x->released = true;
	x->b->keep = false;
}

/* Until C2 is there and held, or cannot come any more. */
static void await_birth(struct birth *x)
{
	double began = asc_act_now();

	while (!x->c2_stopped && !x->t_done && !x->t_gone && !x->c2_killed) {
		if (next_stop(x))
			continue;
		if (!x->released && asc_act_now() - x->b->since > x->sh->max_ms) {
			x->sh->let_go = true;
			let_go(x);
		}
		if (asc_act_now() - began > STEP_MS)
			return;
		nap(POLL_NS);
	}
}

static struct asc_error *bear(struct birth *x)
{
	struct asc_borrow *b = x->b;
	struct asc_go go = {
		.pc = b->op->g.syscall,
		.sp = b->f.munmap - 8,
		.store_to = b->f.result,
		.rax = SYS_clone3,
		/* the chain's wait4 finds its options and its rusage in rdx and r10 */
		.args = { b->f.par, CLONE_ARGS_BYTES, WAIT_ALL, 0 },
		.step = 44,
	};

	if (!write_chains(b))
		return asc_err_os(errno, "cannot write the child's chain");
	if (asc_pt(PTRACE_SETOPTIONS, b->tid, 0, (void *)(long)OPTIONS))
		return asc_err_os(errno, "cannot follow the child of thread %d", b->tid);
	ASC_TRY(asc_borrow_start(b, &go));
	await_birth(x);
	if (x->c2_stopped && !x->sh->let_go)
		return NULL;
	if (x->t_gone)
		return asc_err_id(asc_err(ASC_EAGAIN, "process %d ended", b->op->pid), "E-EXITED");
	if (x->sh->let_go)
		return asc_err_id(
			asc_err(ASC_EAGAIN, "the fork took longer than four times --max-pause"),
			"E-PAUSE");
	return asc_err_why(
		asc_err_id(asc_err(ASC_EUNSUPPORTED, "the kernel refused the child"), "E-FORK"),
		"too little memory may be committed, or a limit of processes is reached");
}

/* ---- with the child there ---- */

static void put_slots(const struct asc_halt *h, struct asc_fork_shared *sh)
{
	_Static_assert(sizeof(struct user_regs_struct) <= ASC_GREGS_MAX, "room for registers");
	for (size_t i = 0; i < h->n && sh->n < sh->cap; i++) {
		const struct asc_halted *t = &h->v[i];
		struct asc_stop_slot *s = &sh->slots[sh->n];

		if (t->state != ASC_HALT_STOPPED && t->state != ASC_HALT_LATE)
			continue;
		*s = (struct asc_stop_slot){ .tid = t->tid,
					     .state = t->known ? ASC_SLOT_STOPPED : ASC_SLOT_LATE };
		sh->pause.threads += t->known;
		sh->pause.not_stopped += !t->known;
		sh->n++;
		if (!t->known)
			continue;
		s->len = sizeof(t->regs);
		memcpy(s->raw, &t->regs, sizeof(t->regs));
		s->tp = t->regs.fs_base;
		s->tp_valid = 1;
	}
}

/* Everything is stopped: the tool takes what is of this moment and is not memory. */
static void stopped(struct birth *x)
{
	struct asc_fork_shared *sh = x->sh;
	const struct asc_op *op = x->b->op;

	sh->child = x->c2;
	put_slots(&x->b->halt, sh);
	asc_act_fault(op, 53);
	atomic_store(&sh->stage, FORK_STOPPED);
	while (atomic_load(&sh->word) == WORD_NONE && tool_lives(op)) {
		if (asc_act_now() - x->b->since > sh->max_ms) {
			sh->let_go = true;
			break;
		}
		nap(POLL_NS);
	}
	let_go(x);
	asc_act_fault(op, 54);
}

/* The child's copies of the program's files and sockets would keep them open. */
static void close_files(struct birth *x)
{
	struct user_regs_struct r;
	struct iovec io = { &r, sizeof(r) };
	double began = asc_act_now();

	if (asc_pt(PTRACE_GETREGSET, x->c2, NT_PRSTATUS, &io))
		return;
	r.rip = x->b->op->g.syscall;
	r.rax = SYS_close_range;
	r.orig_rax = UINT64_MAX;
	r.rdi = 0;
	r.rsi = UINT32_MAX;
	r.rdx = 0;
	if (asc_pt(PTRACE_SETREGSET, x->c2, NT_PRSTATUS, &io))
		return;
	/* it stops at the entry and at the end of the call, and stays there */
	for (int i = 0; i < 2; i++) {
		int status;

		asc_pt(PTRACE_SYSCALL, x->c2, 0, NULL);
		while (waitpid(x->c2, &status, __WALL | WNOHANG) == 0) {
			if (asc_act_now() - began > CLOSE_MS)
				return;
			nap(POLL_NS);
		}
	}
}

/* If memory runs out, let it be this one. */
static void die_first(pid_t child)
{
	char path[48];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", child);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "1000", 4) != 4)
		(void)fd; /* only a precaution */
	close(fd);
}

static void hold(struct birth *x)
{
	die_first(x->c2);
	close_files(x); /* before the target's threads are given the CPU: it is urgent still */
	/* its end takes as long as the fork did: no thread of the target's shall wait for all of that */
	setpriority(PRIO_PROCESS, (id_t)x->c2, END_NICE);
	asc_act_fault(x->b->op, 56);
	atomic_store(&x->sh->stage, FORK_HELD);
	while (atomic_load(&x->sh->word) != WORD_END && tool_lives(x->b->op))
		nap(HOLD_NS);
	asc_act_fault(x->b->op, 57);
}

/* Beside many busy threads a dying process waits for a CPU, too: after a while it is left to its reaper. */
static void bury(struct birth *x)
{
	double began = asc_act_now();

	if (!x->c2 || x->c2_killed)
		return;
	kill(x->c2, SIGKILL);
	while (waitpid(x->c2, NULL, __WALL | WNOHANG) == 0 && asc_act_now() - began < BURY_MS)
		nap(POLL_NS);
	asc_act_fault(x->b->op, 58);
}

/* ---- the helper ---- */

/*
 * C1 to its end, for which T waits. C2 may be heard of before C1 comes to the stop at which it tells
 * of it: nobody else would let it go on from there.
 */
static void end_c1(struct birth *x)
{
	const double began = asc_act_now();
	int status;

	if (x->c1 && !x->c2_stopped)
		asc_pt(PTRACE_CONT, x->c1, 0, NULL);
	while (x->c1 && !x->c1_over && asc_act_now() - began < STEP_MS) {
		pid_t p = waitpid(x->c1, &status, __WALL | WNOHANG);

		if (p == x->c1)
			stop_of_c1(x, status);
		else if (p < 0 && errno != EINTR)
			x->c1_over = true;
		else
			nap(POLL_NS);
	}
}

/* T to the end of its chain, put back and let go. */
static void bring_back(struct birth *x, struct asc_act_result *r)
{
	enum asc_ran how = ASC_RAN;
	int sig = 0;

	end_c1(x);
	if (x->t_gone) {
		r->outcome = ASC_ACT_GONE;
		return;
	}
	if (!x->t_done)
		how = asc_borrow_wait(x->b, x->b->f.stop2, STEP_MS, &sig);
	if (how == ASC_RAN || how == ASC_RAN_CRASH)
		r->verified = asc_borrow_restore(x->b);
	else if (how == ASC_RAN_BACK)
		asc_act_back(x->b);
	asc_act_fault(x->b->op, 55);
}

static struct asc_error *forked(struct birth *x)
{
	struct asc_act_result *r = &x->b->op->sh->result;
	struct asc_error *err = bear(x);

	if (!err)
		stopped(x);
	else
		let_go(x);
	bring_back(x, r);
	asc_act_times(x->b, r);
	x->sh->pause.ms = r->stopped_ms;
	x->sh->pause.stop_ms = r->stopped_ms;
	x->sh->pause.watchdog = x->sh->let_go;
	x->sh->retries = x->b->tries;
	if (!err && atomic_load(&x->sh->word) != WORD_END && tool_lives(x->b->op))
		hold(x);
	bury(x);
	return err;
}

static struct asc_error *fork_op(struct asc_op *op)
{
	ASC_AUTO(asc_freep) struct asc_borrow *b = calloc(1, sizeof(*b));
	struct birth x = { .b = b, .sh = op->fork };
	struct asc_error *err;

	if (!b)
		return asc_err(ASC_ENOMEM, "the helper process");
	b->op = op;
	b->mem = -1;
	b->halt.pid = op->pid;
	b->keep = b->thorough = true;
	ASC_TRY(asc_begin_all(b));
	err = asc_borrow_write(b, 0);
	if (!err && b->halt.n > op->fork->cap)
		err = asc_err(ASC_EAGAIN, "process %d has more than %zu threads", op->pid,
			      op->fork->cap);
	if (!err)
		err = check_subreaper(b);
	if (!err) {
		err = forked(&x);
	} else {
		let_go(&x);
		if (b->armed && err->code != ASC_EAGAIN)
			asc_borrow_restore(b);
		else
			asc_halt_release(&b->halt, 0);
	}
	asc_borrow_end(b);
	return err;
}

/* ---- the tool ---- */

static bool helper_lives(const struct asc_fork *f)
{
	siginfo_t si = { 0 };

	return !waitid(P_PID, (id_t)f->helper, &si, WEXITED | WNOHANG | WNOWAIT) && !si.si_pid;
}

static bool await_stage(const struct asc_fork *f, int stage, const char *what)
{
	struct asc_seize_watch seize = { 0 };

	while (atomic_load(&f->sh->stage) < stage) {
		asc_helper_stuck(&seize, f->helper);
		if (!helper_lives(f))
			return false;
		nap(POLL_NS);
		if (f->op.c->progress && !f->op.c->progress(f->op.c->arg, what, 0))
			atomic_store(&f->op.sh->cancel, 1);
	}
	return true;
}

static void free_fork(struct asc_fork *f)
{
	if (f->sh)
		munmap(f->sh, f->bytes);
	asc_op_deinit(&f->op);
	free(f);
}

static struct asc_error *end(struct asc_fork *f)
{
	struct asc_act_result r;
	struct asc_error *err = NULL;

	if (f->helper) {
		atomic_store(&f->sh->word, WORD_END);
		err = asc_helper_end(&f->op, f->helper, &r);
	}
	free_fork(f);
	return err;
}

static struct asc_error *start(struct asc_fork *f, const struct asc_act_ctx *c,
			       const struct asc_fork_opts *opts)
{
	size_t threads;

	ASC_TRY(asc_fork_safe(c));
	ASC_TRY(asc_op_prepare(c, -1, &f->op));
	asc_target_threads(c->live, &threads);
	f->bytes = sizeof(*f->sh) + (2 * threads + SPARE_SLOTS) * sizeof(struct asc_stop_slot);
	f->sh = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (f->sh == MAP_FAILED) {
		f->sh = NULL;
		return asc_err(ASC_ENOMEM, "%zu threads", threads);
	}
	f->sh->cap = 2 * threads + SPARE_SLOTS;
	f->sh->max_ms = (double)WATCHDOG_TIMES *
			(opts->max_pause_ms ? opts->max_pause_ms : DEFAULT_PAUSE_MS);
	f->op.fork = f->sh;
	return asc_helper_start(&f->op, fork_op, &f->helper);
}

struct asc_error *asc_act_fork(const struct asc_act_ctx *c, const struct asc_fork_opts *opts,
			       struct asc_fork **ret)
{
	struct asc_fork *f = calloc(1, sizeof(*f));
	struct asc_error *err, *late;

	if (!f)
		return asc_err(ASC_ENOMEM, "a child of the target");
	err = start(f, c, opts);
	if (err) {
		free_fork(f);
		return err;
	}
	if (await_stage(f, FORK_STOPPED, "attaching"))
		err = opts->at_stop(opts->arg, f->sh->slots, f->sh->n);
	if (!err && f->sh->stage >= FORK_STOPPED) {
		atomic_store(&f->sh->word, WORD_GO);
		if (await_stage(f, FORK_HELD, "letting it go")) {
			*ret = f;
			return NULL;
		}
	}
	late = end(f);
	if (!err)
		return late ? late
			    : asc_err(ASC_EAGAIN, "the helper process that held the child ended");
	asc_error_free(late);
	return err;
}

pid_t asc_act_fork_child(const struct asc_fork *f)
{
	return f->sh->child;
}

const struct asc_pause *asc_act_fork_pause(const struct asc_fork *f)
{
	return &f->sh->pause;
}

unsigned asc_act_fork_retries(const struct asc_fork *f)
{
	return f->sh->retries;
}

void asc_act_fork_end(struct asc_fork *f)
{
	if (f)
		asc_error_free(end(f));
}

#else

struct asc_error *asc_act_fork(const struct asc_act_ctx *c, const struct asc_fork_opts *opts,
			       struct asc_fork **ret)
{
	(void)c;
	(void)opts;
	(void)ret;
	return asc_err_try(asc_err_id(asc_err(ASC_EUNSUPPORTED,
					      "this build of arenascope cannot fork a process"),
				      "E-ARCH"),
			   "--capture=copy, --capture=optimistic");
}

pid_t asc_act_fork_child(const struct asc_fork *f)
{
	(void)f;
	return 0;
}

const struct asc_pause *asc_act_fork_pause(const struct asc_fork *f)
{
	(void)f;
	return NULL;
}

unsigned asc_act_fork_retries(const struct asc_fork *f)
{
	(void)f;
	return 0;
}

void asc_act_fork_end(struct asc_fork *f)
{
	(void)f;
}
#endif
