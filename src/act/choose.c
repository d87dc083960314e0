/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which thread can lend itself: on its own real stack with room below it, no interrupted frame
 * anywhere above, not in the loader, not in a restartable sequence, no shadow stack, no filter that
 * would kill it. A thread asleep in a system call costs the program nothing.
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
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/diagnose.h"
#include "target/proc.h"
#include "target/target.h"

enum {
	PF_IO_WORKER = 0x10,
	PF_USER_WORKER = 0x4000,
	TRIES = 64,
	FEW = 4,
	MAPS_TRIES = 8,
	PTHREAD_BYTES = 4096, /* of struct pthread that are searched */
	STACK_MAX = 64 << 20,
	STACK_STEP = 64 << 10,
	GUARD_GAP = 1 << 20,
};

/* ---- what the kernel says about a thread ---- */

static struct asc_error *no(const char *why)
{
	return asc_err_id(asc_err(ASC_EUNSUPPORTED, "%s", why), "E-THREAD");
}

bool asc_thread_feature(const char *status, const char *name)
{
	const char *v = asc_proc_status_value(status, "x86_Thread_features");
	const char *end = v ? strchr(v, '\n') : NULL, *at = v ? strstr(v, name) : NULL;

	return at && (!end || at < end);
}

static struct asc_error *check_seccomp(struct asc_borrow *b, pid_t tid)
{
	const struct asc_seccomp_call calls[] = {
		{ SYS_tkill, { (uint64_t)b->ns_tid, (uint64_t)b->sig }, true },
		{ SYS_rt_sigreturn, { 0 }, true },
		{ SYS_madvise, { 0x7f0000000000, 4096, MADV_DONTNEED }, true },
		{ SYS_futex, { 0x7f0000000000, 128, 2 }, true },
		{ SYS_brk, { 0 }, true },
		/* reclaim only */
		{ SYS_mmap,
		  { 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, UINT64_MAX },
		  true },
		{ SYS_mmap,
		  { 0x7f0000000000, 4096, PROT_READ | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, UINT64_MAX },
		  true },
		{ SYS_munmap, { 0x7f0000000000, 4096 }, true },
		{ SYS_ppoll, { 0 }, false },
		{ 449 /* futex_waitv */, { 0x7f0000000000, 1 }, false },
		{ SYS_clock_gettime, { 1 }, false },
		{ SYS_rt_sigprocmask, { 1000, 0x7f0000000000, 0, 8 }, false },
		{ 440, { (uint64_t)-10000, 0x7f0000000000, 1, MADV_DONTNEED }, false },
	};

	const struct asc_seccomp_call fork_calls[] = {
		calls[0],
		calls[1],
		{ SYS_clone3, { 0x7f0000000000, 88 }, true },
		{ SYS_clone, { 0 }, true },
		{ SYS_wait4, { 1000, 0, 0x40000000 }, true },
		{ SYS_exit_group, { 0 }, true },
		{ SYS_prctl, { PR_GET_CHILD_SUBREAPER, 0x7f0000000000 }, true },
		{ SYS_close_range, { 0, UINT32_MAX }, false },
	};

	if (b->op->fork)
		return asc_seccomp_check(tid, fork_calls, ASC_ARRAY_SIZE(fork_calls));
	return asc_seccomp_check(tid, calls, b->op->reclaim ? ASC_ARRAY_SIZE(calls) : 5);
}

/*
 * The signal that T sends to itself, and which does nothing when nobody traces: ignored by default,
 * or ignored by choice. Best one that T does not block: then nobody can be waiting for it with
 * sigwait or a signalfd, which need it blocked everywhere.
 */
static int marker(uint64_t caught, uint64_t ignored, uint64_t blocked, uint64_t pending)
{
	static const int preferred[] = { SIGURG, SIGWINCH };

	for (int pass = 0; pass < 2; pass++) {
		uint64_t no_good = pending | (pass ? 0 : blocked);

		for (size_t i = 0; i < ASC_ARRAY_SIZE(preferred); i++) {
			if (!((caught | no_good) >> (preferred[i] - 1) & 1))
				return preferred[i];
		}
		for (int s = 1; s < 32; s++) {
			if (s != SIGCHLD && (ignored & ~no_good) >> (s - 1) & 1)
				return s;
		}
	}
	return 0;
}

static struct asc_error *check_status(struct asc_borrow *b, const struct asc_halted *t)
{
	pid_t tid = t->tid;
	struct asc_text text = { 0 };
	struct asc_proc_stat st;
	uint64_t caught = 0, ignored = 0, pending = 0, shared = 0, mode = 0, blocked = 0;
	const char *ns;
	bool shadow;

	if (asc_proc_stat(b->op->pid, tid, &st) ||
	    asc_proc_read(b->op->pid, tid, "status", &text)) {
		asc_text_free(&text);
		return asc_err(ASC_EAGAIN, "thread %d exited", tid);
	}
	asc_proc_status_hex(text.p, "SigCgt", &caught);
	asc_proc_status_hex(text.p, "SigIgn", &ignored);
	asc_proc_status_hex(text.p, "SigPnd", &pending);
	asc_proc_status_hex(text.p, "ShdPnd", &shared);
	asc_proc_status_dec(text.p, "Seccomp", &mode);
	asc_proc_status_hex(text.p, "SigBlk", &blocked);
	shadow = asc_thread_feature(text.p, "shstk");
	/* the last number is the one that the target itself knows it by */
	ns = asc_proc_status_value(text.p, "NSpid");
	b->ns_tid = tid;
	for (const char *p = ns; p && *p && *p != '\n'; p++) {
		bool digit = *p >= '0' && *p <= '9', starts = p == ns || p[-1] < '0';

		if (digit)
			b->ns_tid = (starts ? 0 : b->ns_tid * 10) + (*p - '0');
	}
	asc_text_free(&text);
	if (st.flags & (PF_IO_WORKER | PF_USER_WORKER))
		return no("it belongs to the kernel (io_uring)");
	if (shadow)
		return no("it has a shadow stack");
	b->sig = marker(caught, ignored, blocked, pending | shared);
	if (!b->sig)
		return no(
			"the program handles or waits for every signal that could mark the end of "
			"the call");
	b->filtered = mode != 0;
	if (mode && b->op->c->opts.suspend_seccomp) {
		b->seccomp_suspended = true;
		if (asc_pt(PTRACE_SETOPTIONS, tid, 0,
			   (void *)(long)(PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP)))
			return no("its seccomp filter cannot be suspended");
		return NULL;
	}
	if (mode == 1)
		return asc_err_id(asc_err(ASC_EUNSUPPORTED, "it runs in strict seccomp mode"),
				  "E-SECCOMP");
	return mode ? check_seccomp(b, tid) : NULL;
}

/* A restartable sequence would be committed without its end. */
static struct asc_error *check_rseq(struct asc_borrow *b, const struct asc_halted *t)
{
	struct ptrace_rseq_configuration conf = { 0 };
	uint64_t cs = 0;

	if (asc_pt(PTRACE_GET_RSEQ_CONFIGURATION, t->tid, sizeof(conf), &conf) < 0 ||
	    !conf.rseq_abi_pointer)
		return NULL;
	if (!asc_peek(b, conf.rseq_abi_pointer + 8, &cs, sizeof(cs)) || !cs)
		return NULL;
	if ((int64_t)t->regs.orig_rax >= 0 && (int64_t)t->regs.rax < 0)
		return NULL; /* in a system call: no sequence may make one */
	return asc_err(ASC_EAGAIN, "it is in a restartable sequence");
}

/* ---- its stack ---- */

static uint64_t stack_limit(pid_t pid)
{
	struct rlimit r;

	return prlimit(pid, RLIMIT_STACK, NULL, &r) ? 0 : r.rlim_cur;
}

/*
 * Where glibc says that the thread's stack is: a pair (address, size) in its struct pthread.
 * Threads without guard pages share one mapping with their neighbours.
 */
static bool pthread_stack(const struct asc_borrow *b, const struct user_regs_struct *r,
			  asc_addr *ret_lo, asc_addr *ret_hi)
{
	uint64_t v[PTHREAD_BYTES / 8];
	size_t n = asc_read_some(b->op->c->live, r->fs_base, v, sizeof(v)) / 8;

	for (size_t i = 1; i + 2 < n; i++) {
		uint64_t lo = v[i], size = v[i + 1], guard = v[i + 2];

		if (size < 4096 || size > 1ull << 40 || lo % 16 || lo > UINT64_MAX - size)
			continue;
		if (r->rsp < lo || r->rsp >= lo + size || r->fs_base <= lo ||
		    r->fs_base > lo + size)
			continue;
		*ret_lo = guard % 4096 == 0 && guard < size / 2 ? lo + guard : lo;
		*ret_hi = r->fs_base;
		return true;
	}
	return false;
}

static bool readable(const struct asc_borrow *b, asc_addr lo, asc_addr hi)
{
	uint8_t byte;

	for (asc_addr a = asc_align_down(lo, 4096); a < hi; a += 4096) {
		if (!asc_peek(b, a, &byte, 1))
			return false;
	}
	return true;
}

/* @p ret_hi: up to where its frames reach */
static struct asc_error *check_stack(const struct asc_borrow *b, const struct asc_maps *maps,
				     const struct asc_halted *t, asc_addr *ret_hi)
{
	const struct user_regs_struct *r = &t->regs;
	uint64_t need = asc_frame_need(&b->s);
	const struct asc_map *m = asc_maps_find(maps, r->rsp);
	asc_addr lo, hi, from = r->rsp - need;

	if (!m || !(m->flags & ASC_MAP_WRITE) || m->flags & ASC_MAP_SHARED || r->rsp < need)
		return no("its stack pointer is not in a stack");
	if (!strcmp(m->path, "[stack]")) {
		uint64_t limit = stack_limit(b->op->pid);
		const struct asc_map *below = m > maps->v ? m - 1 : NULL;

		*ret_hi = m->end;
		if (from >= m->start)
			return NULL;
		/* the kernel makes it grow, unless something is in the way */
		if ((limit && limit != RLIM_INFINITY && m->end - from > limit) ||
		    (below && from < below->end + GUARD_GAP))
			return no("too little room is left on its stack");
		return NULL;
	}
	/* NPTL puts the thread's descriptor at the top of its stack. Coroutines have none there. */
	if (r->fs_base < m->start || r->fs_base >= m->end || r->rsp >= r->fs_base)
		return no("its stack pointer is not in its own stack (a coroutine, or a signal "
			  "stack)");
	if (!pthread_stack(b, r, &lo, &hi))
		return no("the bounds of its stack are not known");
	*ret_hi = hi;
	if (from < lo || from < m->start || !readable(b, from, r->rsp))
		return no("too little room is left on its stack");
	return NULL;
}

/*
 * Does the frame of a signal (or of a call of ours) begin with the word at @p at? sigaction() leaves such a word on the
 * stack as well, which long lies in a buffer that nobody has written to. A frame has the code segment of user space.
 */
static bool begins_frame(const struct asc_borrow *b, asc_addr at)
{
	/* 64 and 32 bits; under Xen */
	static const uint16_t user[] = { 0x33, 0x23, 0xe033, 0xe02b };
	const size_t off = sizeof(uint64_t) + offsetof(ucontext_t, uc_mcontext.gregs) +
			   REG_CSGSFS * sizeof(uint64_t);
	uint16_t cs;

	if (asc_read_some(b->op->c->live, at + off, &cs, sizeof(cs)) != sizeof(cs))
		return true;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(user); i++) {
		if (cs == user[i])
			return true;
	}
	return false;
}

/*
 * An interrupted frame above: a signal handler, or a call of ours whose tool was killed and which
 * is not over. What it interrupted may be malloc.
 */
static struct asc_error *check_frames(const struct asc_borrow *b, const struct asc_halted *t,
				      asc_addr hi)
{
	const struct asc_gadgets *g = &b->op->g;
	ASC_AUTO(asc_freep) uint64_t *words = malloc(STACK_STEP);
	asc_addr at = t->regs.rsp & ~7ull;

	if (!words)
		return asc_err(ASC_ENOMEM, "a stack");
	if (hi - at > STACK_MAX)
		return no("its stack is too deep to be searched for signal frames");
	while (at < hi) {
		size_t want = (size_t)asc_min(hi - at, STACK_STEP);
		size_t got = asc_read_some(b->op->c->live, at, words, want);

		for (size_t i = 0; i < got / 8; i++) {
			for (size_t k = 0; k < g->nsigreturns; k++) {
				if (words[i] == g->sigreturns[k] && begins_frame(b, at + i * 8))
					return asc_err_id(
						asc_err(ASC_EAGAIN,
							"it is in a signal handler, or an earlier "
							"call is still running on it"),
						"E-BUSY");
			}
		}
		if (got < want)
			return no("its stack cannot be read");
		at += got;
	}
	return NULL;
}

static bool in_chain(const struct asc_gadgets *g, const struct user_regs_struct *r)
{
	/* after its last instruction a chain leaves no trace on the stack but the pc */
	return (r->rip >= g->sigreturn && r->rip <= g->sigreturn + 9) ||
	       (r->rip >= g->syscall && r->rip <= g->syscall + 2) || r->rip == g->pop_rdi ||
	       r->rip == g->pop_rdi + 1 || r->rip == g->pop_rsi || r->rip == g->pop_rsi + 1 ||
	       r->rip == g->pop_rax || r->rip == g->pop_rax + 1;
}

static bool asleep(const struct user_regs_struct *r)
{
	return (int64_t)r->orig_rax >= 0 && (int64_t)r->rax < 0;
}

/* Others map and unmap meanwhile: a list that is torn is read again. */
static struct asc_error *read_maps(const struct asc_borrow *b, pid_t tid, struct asc_maps *ret)
{
	for (int i = 0; i < MAPS_TRIES; i++) {
		struct asc_text text = { 0 };
		struct asc_error *err;

		if (asc_proc_read(b->op->pid, tid, "maps", &text)) {
			asc_text_free(&text);
			return asc_err(ASC_EAGAIN, "thread %d exited", tid);
		}
		err = asc_maps_parse(text.p, text.len, ret);
		asc_text_free(&text);
		if (!err || err->code != ASC_EINPUT)
			return err;
		asc_error_free(err);
	}
	return asc_err_id(asc_err(ASC_EAGAIN, "its mappings are changing"), "E-BUSY");
}

struct asc_error *asc_choose_check(struct asc_borrow *b, const struct asc_halted *t)
{
	struct asc_maps maps = { 0 };
	struct asc_error *err;
	asc_addr hi = 0;

	if (!t->known)
		return no("its registers are not known");
	if (t->regs.cs != 0x33)
		return no("it runs 32-bit code");
	if (t->regs.rip >= b->op->ld_lo && t->regs.rip < b->op->ld_hi)
		return asc_err(ASC_EAGAIN, "it is in the loader");
	if (b->op->watched && asleep(&t->regs) &&
	    asc_waits_for_input(asc_real_call(t->tid, &t->regs)))
		return no("it may be the one that serves the process's userfaultfd");
	if (in_chain(&b->op->g, &t->regs) && !asleep(&t->regs))
		return asc_err_id(asc_err(ASC_EAGAIN, "an earlier call is just ending"), "E-BUSY");
	if (b->mem >= 0)
		close(b->mem);
	b->mem = -1;
	if (asc_proc_open(b->op->pid, t->tid, "mem", O_RDWR, &b->mem))
		return asc_err_os(errno, "cannot open the memory of thread %d", t->tid);
	ASC_TRY(check_status(b, t));
	ASC_TRY(check_rseq(b, t));
	ASC_TRY(asc_borrow_save_xstate(b, t->tid));
	ASC_TRY(read_maps(b, t->tid, &maps));
	err = check_stack(b, &maps, t, &hi);
	asc_maps_free(&maps);
	ASC_TRY(err);
	ASC_TRY(check_frames(b, t, hi));
	/* the only thread: no lock tells */
	if (b->single && !asc_preflight_outside(b->op, t, hi))
		return asc_err_id(asc_err(ASC_EAGAIN, "it may be inside malloc"), "E-BUSY");
	b->tid = t->tid;
	return NULL;
}

/* ---- which one ---- */

/* Threads whose absence for a moment would be noticed. */
static bool watches(pid_t pid, pid_t tid)
{
	struct asc_proc_stat st;

	return !asc_proc_stat(pid, tid, &st) &&
	       (strcasestr(st.comm, "watchdog") || strcasestr(st.comm, "heartbeat"));
}

static int score(const struct asc_op *op, pid_t tid, int64_t nr, bool sleeps)
{
	int s = 1;

	if (sleeps && nr == SYS_futex)
		s = 6;
	else if (sleeps && (nr == SYS_nanosleep || nr == SYS_clock_nanosleep || nr == SYS_pause))
		s = 5;
	else if (sleeps && nr < 0)
		s = 2; /* restarted, and not known what: if we die, it returns EINTR */
	else if (sleeps)
		s = 4;
	return tid == op->pid ? s - 1 : s;
}

struct scored {
	pid_t tid;
	int score;
};

static int better(const void *a, const void *b)
{
	const struct scored *x = a, *y = b;

	return x->score != y->score ? (x->score < y->score) - (x->score > y->score)
				    : (x->tid > y->tid) - (x->tid < y->tid);
}

/* Stopped threads, best first. */
static size_t rank(struct asc_borrow *b, struct scored *v)
{
	const struct asc_op *op = b->op;
	size_t n = 0;

	for (size_t i = 0; i < b->halt.n; i++) {
		const struct asc_halted *t = &b->halt.v[i];

		if (t->state != ASC_HALT_STOPPED || !t->known ||
		    (op->c->opts.tid && op->c->opts.tid != t->tid))
			continue;
		v[n++] = (struct scored){ t->tid, score(op, t->tid, asc_real_call(t->tid, &t->regs),
							asleep(&t->regs)) };
	}
	asc_sort(v, n, sizeof(*v), better);
	return n;
}

static struct asc_error *none_stopped(pid_t pid)
{
	struct asc_error *err = asc_err_id(
		asc_err(ASC_EAGAIN, "no thread of process %d could be stopped", pid), "E-BUSY");
	char file[512];

	if (asc_diagnose_frozen(pid, file, sizeof(file))) {
		asc_err_why(err, "its cgroup is frozen");
		asc_err_try(err, "again when it is thawed: %s", file);
	} else {
		asc_err_why(err, "each of them is in the kernel, where nothing interrupts it");
	}
	return err;
}

/* The first of them that can lend itself. */
static struct asc_error *first_of(struct asc_borrow *b, const struct scored *v, size_t n, bool more)
{
	struct asc_error *last = NULL;

	for (size_t i = 0; i < n; i++) {
		struct asc_error *err;

		if ((more || i + 1 < n) && watches(b->op->pid, v[i].tid))
			continue;
		err = asc_choose_check(b, asc_halt_find(&b->halt, v[i].tid));
		if (!err) {
			asc_error_free(last);
			return NULL;
		}
		err = asc_wrap(err, "thread %d cannot lend itself", v[i].tid);
		/* one that only has to be waited for is the better news */
		if (!last || (err->code == ASC_EAGAIN && last->code != ASC_EAGAIN)) {
			asc_error_free(last);
			last = err;
		} else {
			asc_error_free(err);
		}
	}
	return last ? last : none_stopped(b->op->pid);
}

struct asc_error *asc_choose(struct asc_borrow *b)
{
	ASC_AUTO(asc_freep) struct scored *v = calloc(b->halt.n + 1, sizeof(*v));
	struct asc_error *err;
	size_t n, most = b->thorough ? TRIES : FEW;
	bool more;

	if (!v)
		return asc_err(ASC_ENOMEM, "%zu threads", b->halt.n);
	n = rank(b, v);
	more = n > most;
	n = asc_min(n, most);
	for (size_t i = 0; i < n; i++)
		asc_halt_find(&b->halt, v[i].tid)->keep = true;
	if (!b->keep)
		asc_halt_thin(&b->halt);
	err = first_of(b, v, n, more);
	if (!err || !more || b->thorough)
		return err;
	/* among the others there may be one: at once, in a stop of its own */
	b->thorough = true;
	asc_error_free(err);
	return asc_err_id(asc_err(ASC_EAGAIN, "none of the %zu best threads can lend itself", n),
			  "E-BUSY");
}

struct asc_error *asc_choose_sleepers(const struct asc_op *op, pid_t **ret, size_t *ret_n)
{
	ASC_AUTO(asc_freep) pid_t *tids = NULL;
	ASC_AUTO(asc_freep) struct scored *v = NULL;
	struct asc_text text = { 0 };
	size_t n = 0, kept = 0;

	if (asc_proc_tasks(op->pid, &tids, &n))
		return asc_err_id(asc_err(ASC_ENOTARGET, "no process %d", op->pid), "E-NOPROC");
	v = calloc(n + 1, sizeof(*v));
	if (!v)
		return asc_err(ASC_ENOMEM, "%zu threads", n);
	for (size_t i = 0; i < n; i++) {
		long long nr;
		unsigned long long arg;

		if (op->c->opts.tid && op->c->opts.tid != tids[i])
			continue;
		if (asc_proc_read(op->pid, tids[i], "syscall", &text) ||
		    sscanf(text.p, "%lld %llx", &nr, &arg) != 2)
			continue;
		if ((nr != SYS_restart_syscall && !asc_safe_call(op, nr, arg)) ||
		    (n > 1 && watches(op->pid, tids[i])))
			continue;
		v[kept++] = (struct scored){ tids[i], score(op, tids[i], nr, true) };
	}
	asc_text_free(&text);
	asc_sort(v, kept, sizeof(*v), better);
	for (size_t i = 0; i < kept; i++)
		tids[i] = v[i].tid;
	*ret = asc_take(tids);
	*ret_n = kept;
	return NULL;
}
#endif
