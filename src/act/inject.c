/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Arm, run, put back. The order is what makes it safe: at every point a SIGKILL of the tool leaves
 * a target that is untouched, or a thread that finishes the call and restores itself.
 *
 *   write the frame   on dead stack: nothing has happened
 *   set registers     armed: one kernel call, all or nothing
 *   set the mask      after arming, or a kill would leave the mask behind
 *   continue          ... until the self-signal at the end of the chain
 *   extended state, errno
 *   mask              before the registers: from here on the frame does not restore it any more
 *   registers, first converted (complete without the kernel's help), then the original ones
 *   detach
 *
 * No breakpoint, no single step, no text written: each of these kills the target if the tool dies.
 */
#include "act/inject.h"

#if ASC_CAN_INJECT
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ptrace.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

#include "base/cleanup.h"
#include "base/num.h"
#include "target/proc.h"

enum {
	TRAP_FLAG = 0x100,
	DIRECTION_FLAG = 0x400,
	TICK_MS = 20,
	LOST_CHECK_MS =
		200, /* the self-signal should have come long ago: has T returned without? */
	LOCK_PATIENCE_MS = 2000,
	XSTATE_MIN = 576, /* legacy area and header */
};

/* Stay unblocked during the call: blocking a signal that the thread raises itself resets its
 * handler. */
static const int synchronous[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT };

bool asc_peek(const struct asc_borrow *b, asc_addr addr, void *buf, size_t len)
{
	return pread(b->mem, buf, len, (off_t)addr) == (ssize_t)len;
}

bool asc_poke(const struct asc_borrow *b, asc_addr addr, const void *buf, size_t len)
{
	return pwrite(b->mem, buf, len, (off_t)addr) == (ssize_t)len;
}

static bool get_regs(pid_t tid, struct user_regs_struct *ret)
{
	struct iovec io = { ret, sizeof(*ret) };

	return !asc_pt(PTRACE_GETREGSET, tid, NT_PRSTATUS, &io) && io.iov_len == sizeof(*ret);
}

static bool set_regs(pid_t tid, struct user_regs_struct *regs)
{
	struct iovec io = { regs, sizeof(*regs) };

	return !asc_pt(PTRACE_SETREGSET, tid, NT_PRSTATUS, &io);
}

struct asc_error *asc_borrow_save_xstate(struct asc_borrow *b, pid_t tid)
{
	struct asc_saved *s = &b->s;
	struct iovec io = { s->xstate, sizeof(s->xstate) };

	if (asc_pt(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &io) || io.iov_len < XSTATE_MIN ||
	    io.iov_len >= sizeof(s->xstate))
		return asc_err(ASC_EUNSUPPORTED, "its extended state cannot be saved");
	s->xstate_len = io.iov_len;
	return NULL;
}

struct asc_error *asc_borrow_save(struct asc_borrow *b, struct asc_halted *t)
{
	struct asc_saved *s = &b->s;
	const struct asc_op *op = b->op;

	s->found = t->regs;
	asc_halt_hide_eintr(b->tid, &s->found);
	if (asc_pt(PTRACE_GETSIGMASK, b->tid, sizeof(s->mask), &s->mask))
		return asc_err_os(errno, "cannot read the signal mask of thread %d", b->tid);
	asc_frame_convert(&s->found, asc_real_call(b->tid, &s->found), &s->converted);
	s->errno_addr = 0;
	if (op->errno_known && !op->reclaim) {
		asc_addr at = s->found.fs_base - op->errno_off;

		if (asc_peek(b, at, &s->errno_value, sizeof(s->errno_value)))
			s->errno_addr = at;
	}
	return NULL;
}

struct asc_error *asc_borrow_write(struct asc_borrow *b, uint64_t map_len)
{
	struct asc_frame_in in = {
		.g = &b->op->g,
		.s = &b->s,
		.sig = b->sig,
		.ns_tid = b->ns_tid,
		.map_len = map_len,
		.fork = b->op->fork,
	};

	ASC_TRY(asc_frame_build(&in, &b->f));
	if (!asc_poke(b, b->f.lo, b->f.bytes, b->f.len))
		return asc_err_os(errno,
				  "cannot write %zu bytes below the stack pointer of thread %d",
				  b->f.len, b->tid);
	asc_act_fault(b->op, 3);
	return NULL;
}

static uint64_t call_mask(const struct asc_borrow *b)
{
	uint64_t mask = UINT64_MAX;

	for (size_t i = 0; i < ASC_ARRAY_SIZE(synchronous); i++)
		mask &= ~(1ull << (synchronous[i] - 1));
	return mask & ~(1ull << (b->sig - 1));
}

struct asc_error *asc_borrow_start(struct asc_borrow *b, const struct asc_go *go)
{
	struct user_regs_struct r = b->s.found;

	r.orig_rax = UINT64_MAX; /* or the kernel would restart the old call at the new place */
	r.eflags &= ~(uint64_t)(TRAP_FLAG | DIRECTION_FLAG);
	r.rip = go->pc;
	r.rsp = go->sp;
	r.rbx = go->store_to;
	r.rax = go->rax;
	r.rdi = go->args[0];
	r.rsi = go->args[1];
	r.rdx = go->args[2];
	r.r10 = go->args[3];
	r.r8 = go->args[4];
	r.r9 = go->args[5];
	if (!set_regs(b->tid, &r))
		return asc_err(b->armed ? ASC_EOTHER : ASC_EAGAIN, "thread %d is gone", b->tid);
	b->armed = true;
	asc_act_fault(b->op, go->step);
	if (go->hurry) {
		setpriority(PRIO_PROCESS, (id_t)b->tid, PRIO_MIN);
		asc_act_fault(b->op, 8);
	}
	if (!b->masked) {
		uint64_t mask = call_mask(b);

		asc_pt(PTRACE_SETSIGMASK, b->tid, sizeof(mask), &mask);
		b->masked = true;
		asc_act_fault(b->op, go->step + 1);
		/* Before T runs: it may have to wait for a lock that one of them holds. */
		if (!b->keep)
			asc_halt_release(&b->halt, b->tid);
		asc_act_fault(b->op, go->step + 2);
	}
	atomic_store(&b->op->sh->stage, ASC_STAGE_RUNNING);
	asc_pt(PTRACE_CONT, b->tid, 0, NULL);
	asc_act_fault(b->op, go->step + 3);
	return NULL;
}

/* Number, arguments, stack pointer and pc of a thread that sleeps. @return false: it runs */
static bool proc_syscall(const struct asc_borrow *b, int64_t *nr, uint64_t *arg0, uint64_t *sp)
{
	struct asc_text text = { 0 };
	unsigned long long v[8];
	long long number;
	bool ok = !asc_proc_read(b->op->pid, b->tid, "syscall", &text) &&
		  sscanf(text.p, "%lld %llx %llx %llx %llx %llx %llx %llx", &number, &v[0], &v[1],
			 &v[2], &v[3], &v[4], &v[5], &v[6]) == 8;

	asc_text_free(&text);
	if (ok) {
		*nr = number;
		*arg0 = v[0];
		*sp = v[6];
	}
	return ok;
}

static bool is_arena_lock(const struct asc_op *op, uint64_t addr)
{
	uint64_t off = op->c->lib->layout.malloc_state_mutex.off;

	for (size_t i = 0; i < op->narenas; i++) {
		if (op->arenas[i] + off == addr)
			return true;
	}
	return false;
}

void asc_borrow_where(const struct asc_borrow *b, char *buf, size_t size)
{
	static const struct {
		int nr;
		const char *name;
	} names[] = { { SYS_madvise, "madvise" }, { SYS_process_madvise, "process_madvise" },
		      { SYS_munmap, "munmap" },	  { SYS_mmap, "mmap" },
		      { SYS_brk, "brk" },	  { SYS_mprotect, "mprotect" },
		      { SYS_ppoll, "ppoll" },	  { SYS_futex, "futex" } };
	int64_t nr;
	uint64_t arg, sp;
	bool waits;

	if (!proc_syscall(b, &nr, &arg, &sp)) {
		snprintf(buf, size, "running");
		return;
	}
	snprintf(buf, size, "in system call %lld", (long long)nr);
	for (size_t i = 0; i < ASC_ARRAY_SIZE(names); i++) {
		if (nr == names[i].nr)
			snprintf(buf, size, "in %s", names[i].name);
	}
	waits = nr == SYS_futex && is_arena_lock(b->op, arg);
	if (b->op->reclaim)
		waits = asc_peek(b, b->f.par + offsetof(struct asc_rt_par, waits_for), &arg,
				 sizeof(arg)) &&
			arg;
	if (waits)
		snprintf(buf, size, "waiting for an arena's lock (0x%llx)",
			 (unsigned long long)arg);
}

/*
 * Now and then while it runs. A call that waits for an arena lock can be taken back: nothing is
 * held. And where a filter makes the self-signal fail, T returns without a stop.
 */
static bool stop_it(struct asc_borrow *b, double *lock_since)
{
	int64_t nr;
	uint64_t arg, sp;

	if (!proc_syscall(b, &nr, &arg, &sp)) {
		*lock_since = 0;
		return false;
	}
	if (sp >= b->s.found.rsp)
		return true;
	if (nr != SYS_futex || !is_arena_lock(b->op, arg)) {
		*lock_since = 0;
		return false;
	}
	if (*lock_since == 0)
		*lock_since = asc_act_now();
	return asc_act_now() - *lock_since > LOCK_PATIENCE_MS;
}

/* An EVENT_STOP that we asked for, of T, because of stop_it(). */
static enum asc_ran event(struct asc_borrow *b)
{
	struct user_regs_struct r;

	if (!get_regs(b->tid, &r))
		return ASC_RAN_GONE;
	if (r.rsp >= b->s.found.rsp)
		return ASC_RAN_BACK;
	if ((int64_t)r.orig_rax != SYS_futex || !is_arena_lock(b->op, r.rdi))
		return ASC_RAN;
	return ASC_RAN_ABORT;
}

static bool is_synchronous(int sig)
{
	for (size_t i = 0; i < ASC_ARRAY_SIZE(synchronous); i++) {
		if (synchronous[i] == sig)
			return true;
	}
	return false;
}

/* One stop of T. @return ASC_RAN_TIMEOUT: it goes on */
static enum asc_ran one_stop(struct asc_borrow *b, int status, asc_addr stop, bool asked,
			     int *ret_signal)
{
	int sig = WSTOPSIG(status), ev = status >> 16;
	struct user_regs_struct r;
	enum asc_ran how;

	if (ev == PTRACE_EVENT_STOP) {
		how = asked ? event(b) : ASC_RAN;
		if (how != ASC_RAN)
			return how;
		/* also when the whole process was stopped meanwhile: T finishes all the same */
		asc_pt(PTRACE_CONT, b->tid, 0, NULL);
		return ASC_RAN_TIMEOUT;
	}
	if (!ev && sig == b->sig) {
		if (get_regs(b->tid, &r) && r.rsp == stop && r.rip == b->op->g.syscall + 2)
			return ASC_RAN;
		b->resend = true;
		asc_pt(PTRACE_CONT, b->tid, 0, NULL);
		return ASC_RAN_TIMEOUT;
	}
	if (!ev && is_synchronous(sig)) {
		*ret_signal = sig;
		return ASC_RAN_CRASH;
	}
	asc_pt(PTRACE_CONT, b->tid, 0, ev ? NULL : (void *)(long)sig);
	return ASC_RAN_TIMEOUT;
}

static void wait_child(double ms)
{
	struct timespec ts = { 0, (long)(ms * 1e6) };
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigtimedwait(&chld, NULL, &ts);
}

/*
 * The next stop of T, or of another. T's is looked at and not consumed: of a consumed one
 * the kernel drops the signal if we die before T goes on. @return 0: none, -1: T is gone
 */
static pid_t next_stop(struct asc_borrow *b, int *status)
{
	siginfo_t si = { 0 };
	pid_t p;

	if (waitid(P_PID, (id_t)b->tid, &si, WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL))
		return errno == EINTR ? 0 : -1;
	if (si.si_pid && si.si_code != CLD_TRAPPED && si.si_code != CLD_STOPPED)
		return -1;
	if (si.si_pid) {
		*status = si.si_status << 8 | 0x7f;
		return b->tid;
	}
	/* the others, and children of T's that it can only wait for when their tracer has */
	p = waitpid(-1, status, __WALL | WNOHANG);
	if (p == b->tid && !WIFSTOPPED(*status))
		return -1;
	return p > 0 ? p : 0;
}

void asc_borrow_other(struct asc_borrow *b, pid_t tid, int status)
{
	if (b->keep)
		asc_halt_hold(&b->halt, tid, status);
	else
		asc_halt_late(&b->halt, tid, status);
}

enum asc_ran asc_borrow_wait(struct asc_borrow *b, asc_addr stop, double timeout_ms,
			     int *ret_signal)
{
	double began = asc_act_now(), looked = began, lock_since = 0;
	bool asked = false;

	for (;;) {
		int status;
		pid_t p = next_stop(b, &status);
		double now = asc_act_now();
		enum asc_ran how;

		if (p < 0)
			return ASC_RAN_GONE;
		if (p > 0 && p != b->tid) {
			asc_borrow_other(b, p, status);
			continue;
		}
		if (p == b->tid) {
			how = one_stop(b, status, stop, asked, ret_signal);
			if (status >> 16 == PTRACE_EVENT_STOP)
				asked = false;
			if (how != ASC_RAN_TIMEOUT)
				return how;
			continue;
		}
		if (now - began > timeout_ms || (!b->stopping && atomic_load(&b->op->sh->cancel)))
			return ASC_RAN_TIMEOUT;
		if (!asked && now - began > LOST_CHECK_MS && now - looked > TICK_MS) {
			looked = now;
			if (stop_it(b, &lock_since)) {
				asked = true;
				lock_since = 0;
				asc_pt(PTRACE_INTERRUPT, b->tid, 0, NULL);
			}
		}
		wait_child(TICK_MS);
	}
}

static bool same(struct asc_borrow *b)
{
	struct user_regs_struct r;
	struct iovec io;
	uint64_t mask = 0;
	ASC_AUTO(asc_freep) uint8_t *x = malloc(ASC_XSTATE_MAX);

	if (!x || !get_regs(b->tid, &r) || memcmp(&r, &b->s.found, sizeof(r)))
		return false;
	if (asc_pt(PTRACE_GETSIGMASK, b->tid, sizeof(mask), &mask) || mask != b->s.mask)
		return false;
	io = (struct iovec){ x, ASC_XSTATE_MAX };
	return !asc_pt(PTRACE_GETREGSET, b->tid, NT_X86_XSTATE, &io) &&
	       io.iov_len == b->s.xstate_len && !memcmp(x, b->s.xstate, io.iov_len);
}

bool asc_borrow_restore(struct asc_borrow *b)
{
	struct asc_saved *s = &b->s;
	struct iovec io = { s->xstate, s->xstate_len };
	bool ok = true;

	/* Each step goes on if one before it failed: the rest is still right. */
	ok &= !asc_pt(PTRACE_SETREGSET, b->tid, NT_X86_XSTATE, &io);
	asc_act_fault(b->op, 80);
	if (s->errno_addr)
		ok &= asc_poke(b, s->errno_addr, &s->errno_value, sizeof(s->errno_value));
	ok &= !asc_pt(PTRACE_SETSIGMASK, b->tid, sizeof(s->mask), &s->mask);
	asc_act_fault(b->op, 81);
	ok &= set_regs(b->tid, &s->converted);
	asc_act_fault(b->op, 82);
	ok &= set_regs(b->tid, &s->found);
	asc_act_fault(b->op, 83);
	ok = same(b) && ok;
	asc_pt(PTRACE_DETACH, b->tid, 0, NULL);
	if (b->resend)
		kill(b->op->pid, b->sig);
	asc_act_fault(b->op, 84);
	b->armed = false;
	return ok;
}

void asc_borrow_end(struct asc_borrow *b)
{
	if (b->mem >= 0)
		close(b->mem);
	b->mem = -1;
	asc_halt_settle(&b->halt);
	asc_halt_free(&b->halt);
}
#endif
