/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Is malloc in the middle of something? With several threads the arena mutexes tell: 0 means
 * consistent. A single-threaded process takes no lock, so its thread itself must be proven outside:
 * it sleeps in a call that malloc never makes, or its frames were unwound to the bottom and none is
 * malloc's, or no word of its stack points into malloc. A signal handler counts as inside: what it
 * interrupted may be malloc.
 */
#include "act/inject.h"

#if ASC_CAN_INJECT
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/heap.h"
#include "symbols/unwind.h"
#include "target/proc.h"

enum { NEW_MAX = 4096 /* arenas made since the list was read */ };
enum { IOV = 512, STACK_MAX = 64 << 20, STACK_STEP = 64 << 10 };

/* Blocking calls that malloc never makes while it holds an arena lock. */
static const int16_t safe_calls[] = {
	SYS_pause,	     SYS_nanosleep,
	SYS_clock_nanosleep, SYS_poll,
	SYS_ppoll,	     SYS_select,
	SYS_pselect6,	     SYS_epoll_wait,
	SYS_epoll_pwait,     SYS_read,
	SYS_wait4,	     SYS_rt_sigtimedwait,
	SYS_accept,	     SYS_accept4,
	SYS_recvfrom,	     SYS_recvmsg,
	SYS_waitid,	     SYS_rt_sigsuspend,
	SYS_msgrcv,	     SYS_semop,
	SYS_semtimedop,	     441 /* epoll_pwait2 */,
};

bool asc_waits_for_input(int64_t nr)
{
	static const int16_t calls[] = {
		SYS_read,     SYS_poll,	      SYS_ppoll,       SYS_select,
		SYS_pselect6, SYS_epoll_wait, SYS_epoll_pwait, 441 /* epoll_pwait2 */,
	};

	for (size_t i = 0; i < ASC_ARRAY_SIZE(calls); i++) {
		if (nr == calls[i])
			return true;
	}
	return false;
}

bool asc_safe_call(const struct asc_op *op, int64_t nr, uint64_t first_arg)
{
	uint64_t state = op->c->lib->layout.sizeof_malloc_state;

	for (size_t i = 0; i < ASC_ARRAY_SIZE(safe_calls); i++) {
		if (nr == safe_calls[i])
			return true;
	}
	if (nr != SYS_futex)
		return false;
	/* not a lock of libc, of the loader or of an arena */
	if ((first_arg >= op->libc_lo && first_arg < op->libc_hi) ||
	    (first_arg >= op->ld_lo && first_arg < op->ld_hi))
		return false;
	for (size_t i = 0; i < op->narenas; i++) {
		if (first_arg >= op->arenas[i] && first_arg < op->arenas[i] + state)
			return false;
	}
	return true;
}

int64_t asc_real_call(pid_t tid, const struct user_regs_struct *regs)
{
	uint8_t code[7];
	struct iovec local = { code, sizeof(code) };
	struct iovec remote = { (void *)(uintptr_t)(regs->rip - sizeof(code)), sizeof(code) };

	if ((int64_t)regs->orig_rax < 0 || regs->orig_rax != SYS_restart_syscall)
		return (int64_t)regs->orig_rax;
	/* mov $nr,%eax; syscall */
	if (process_vm_readv(tid, &local, 1, &remote, 1, 0) != (ssize_t)sizeof(code) ||
	    code[0] != 0xb8 || code[5] != 0x0f || code[6] != 0x05)
		return -1;
	return (int32_t)asc_load_u32(code + 1);
}

bool asc_preflight_lockless(const struct asc_op *op, size_t threads)
{
	const struct asc_libc *lib = op->c->lib;
	uint64_t v = 0;
	struct asc_error *err = NULL;

	if (!lib->layout.single_thread_unlocked)
		return false;
	if (lib->single_threaded) {
		err = asc_read_uint(op->c->live, lib->single_threaded, 1, &v);
		v = !err && v != 0;
	} else if (lib->multiple_threads) {
		err = asc_read_uint(op->c->live, lib->multiple_threads, 4, &v);
		v = !err && v == 0;
	} else {
		v = threads == 1;
	}
	if (err) {
		asc_error_free(err);
		return threads == 1;
	}
	return v != 0;
}

/*
 * The mutexes of the arenas that are known, and of those that were made since. Read through a
 * living thread: the first one may have ended.
 */
static bool locks_busy(const struct asc_op *op, pid_t tid, asc_addr *ret_arena)
{
	const struct asc_layout *l = &op->c->lib->layout;
	uint32_t mutexes[IOV];
	uint64_t next[IOV];
	struct iovec local[2 * IOV], remote[2 * IOV];

	for (size_t at = 0; at < op->narenas; at += IOV) {
		size_t n = (size_t)asc_min(op->narenas - at, IOV);

		for (size_t i = 0; i < n; i++) {
			asc_addr a = op->arenas[at + i];

			local[2 * i] = (struct iovec){ &mutexes[i], 4 };
			remote[2 * i] =
				(struct iovec){ (void *)(uintptr_t)(a + l->malloc_state_mutex.off),
						4 };
			local[2 * i + 1] = (struct iovec){ &next[i], 8 };
			remote[2 * i + 1] =
				(struct iovec){ (void *)(uintptr_t)(a + l->malloc_state_next.off),
						8 };
		}
		if (process_vm_readv(tid, local, 2 * n, remote, 2 * n, 0) != (ssize_t)(12 * n)) {
			*ret_arena = op->arenas[at];
			return true;
		}
		for (size_t i = 0; i < n; i++) {
			asc_addr follows = at + i + 1 < op->narenas ? op->arenas[at + i + 1]
								    : op->arenas[0];

			if (mutexes[i]) {
				*ret_arena = op->arenas[at + i];
				return true;
			}
			/* new arenas come right behind the main one */
			unsigned steps = 0;

			for (asc_addr a = next[i]; a != follows; a = next[i]) {
				uint64_t m = 1;
				struct asc_error *err = asc_read_uint(
					op->c->live, a + l->malloc_state_mutex.off, 4, &m);

				if (!err && steps++ < NEW_MAX)
					err = asc_read_word(op->c->live,
							    a + l->malloc_state_next.off, &next[i]);
				if (err || m || steps > NEW_MAX) {
					asc_error_free(err);
					*ret_arena = a;
					return true;
				}
			}
		}
	}
	return false;
}

bool asc_preflight_locked(const struct asc_op *op, asc_addr *ret_arena)
{
	pid_t tid = asc_proc_live_tid(op->pid);

	/* what cannot be read now is looked at in the stop */
	*ret_arena = 0;
	return tid && locks_busy(op, tid, ret_arena) && asc_target_alive(op->c->live);
}

bool asc_preflight_seen_free(const struct asc_op *op, bool *seen, asc_addr *ret_held)
{
	uint64_t off = op->c->lib->layout.malloc_state_mutex.off;
	pid_t tid = asc_proc_live_tid(op->pid);
	uint32_t mutexes[IOV];
	struct iovec remote[IOV];

	*ret_held = 0;
	for (size_t at = 0; at < op->narenas; at += IOV) {
		size_t n = (size_t)asc_min(op->narenas - at, IOV);
		struct iovec local = { mutexes, 4 * n };

		for (size_t i = 0; i < n; i++)
			remote[i] =
				(struct iovec){ (void *)(uintptr_t)(op->arenas[at + i] + off), 4 };
		if (process_vm_readv(tid, &local, 1, remote, n, 0) != (ssize_t)(4 * n))
			return true; /* the stop will tell */
		for (size_t i = 0; i < n; i++) {
			seen[at + i] |= mutexes[i] == 0;
			if (!seen[at + i])
				*ret_held = op->arenas[at + i];
		}
	}
	return !*ret_held;
}

static bool in_malloc(const struct asc_op *op, asc_addr pc)
{
	return pc >= op->malloc_lo && pc < op->malloc_hi;
}

/* Frames to the bottom, none of them malloc's. @return 1 outside, 0 inside, -1 cannot be told */
static int unwound(const struct asc_op *op, const struct asc_halted *t)
{
	struct asc_thread thread = { .tid = t->tid, .stopped = true, .state = 't' };
	struct asc_stack stack = { 0 };
	struct asc_error *err;
	int outside = 1;

	thread.regs.valid = true;
	thread.regs.len = sizeof(t->regs);
	memcpy(thread.regs.raw, &t->regs, sizeof(t->regs));
	thread.regs.tp = t->regs.fs_base;
	thread.regs.tp_valid = true;
	err = asc_unwind(op->c->modules, op->c->live, &thread, ASC_STACK_DEPTH_MAX, &stack);
	if (err) {
		asc_error_free(err);
		return -1;
	}
	if (stack.note || stack.n < 2 || stack.n >= ASC_STACK_DEPTH_MAX)
		outside = -1;
	for (size_t i = 0; i < stack.n && outside; i++) {
		if (stack.v[i].signal_frame || in_malloc(op, stack.v[i].pc))
			outside = 0;
	}
	asc_stack_free(&stack);
	return outside;
}

bool asc_preflight_outside(const struct asc_op *op, const struct asc_halted *t, asc_addr stack_hi)
{
	ASC_AUTO(asc_freep) uint64_t *words = NULL;
	asc_addr at = t->regs.rsp & ~7ull;
	int how;

	if (in_malloc(op, t->regs.rip))
		return false;
	if (asc_safe_call(op, asc_real_call(t->tid, &t->regs), t->regs.rdi) &&
	    (int64_t)t->regs.rax < 0)
		return true;
	how = unwound(op, t);
	if (how >= 0)
		return how == 1;
	words = malloc(STACK_STEP);
	if (!words || stack_hi <= at || stack_hi - at > STACK_MAX)
		return false;
	while (at < stack_hi) {
		size_t want = (size_t)asc_min(stack_hi - at, STACK_STEP);
		size_t got = asc_read_some(op->c->live, at, words, want);

		for (size_t i = 0; i < got / 8; i++) {
			if (in_malloc(op, words[i]))
				return false;
		}
		if (got < want)
			return false;
		at += got;
	}
	return true;
}

bool asc_preflight_busy(const struct asc_op *op, struct asc_halt *h, asc_addr *ret_arena,
			pid_t *ret_tid)
{
	size_t alive = 0;
	pid_t inside = 0, stopped = op->pid;

	*ret_arena = 0;
	*ret_tid = 0;
	for (size_t i = 0; i < h->n; i++) {
		const struct asc_halted *t = &h->v[i];

		if (t->state == ASC_HALT_GONE)
			continue;
		alive++;
		if (t->state == ASC_HALT_STOPPED)
			stopped = t->tid;
		if (t->known && in_malloc(op, t->regs.rip))
			inside = t->tid;
	}
	if (locks_busy(op, stopped, ret_arena)) {
		*ret_tid = inside;
		return true;
	}
	/*
	 * Without locks the only thread is judged when it is chosen. More than one thread, and yet
	 * no locks: threads that glibc does not know, or one that is just ending.
	 */
	if (alive > 1 && asc_preflight_lockless(op, alive)) {
		*ret_tid = inside ? inside : h->v[0].tid;
		return true;
	}
	return false;
}

struct asc_error *asc_preflight_error(const struct asc_op *op, asc_addr arena, pid_t tid,
				      unsigned tries)
{
	struct asc_error *err;
	int index = -1;

	for (size_t i = 0; arena && i < op->narenas; i++) {
		if (op->arenas[i] == arena)
			index = (int)i;
	}
	err = asc_err_id(
		asc_err(ASC_EAGAIN, "malloc of process %d is busy: nothing was done", op->pid),
		"E-BUSY");
	if (index >= 0 && tid)
		asc_err_why(
			err,
			"the lock of arena %d (0x%llx) was held every time (%u tries), and thread "
			"%d was inside malloc",
			index, (unsigned long long)arena, tries, tid);
	else if (arena)
		asc_err_why(err, "the lock of arena %d (0x%llx) was held every time (%u tries)",
			    index, (unsigned long long)arena, tries);
	else if (tid)
		asc_err_why(err, "thread %d could not be seen outside malloc in %u tries", tid,
			    tries);
	else
		asc_err_why(err, "%u tries", tries);
	return asc_err_try(err, "again later, or --wait=30s; `stuck` shows who holds the lock");
}
#endif
