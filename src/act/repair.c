/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A call crashed while it held an arena lock: nobody else will ever unlock it. Which one? Its
 * address is in T's registers or in the call's own frames, and its mutex stays held however often
 * one looks while the others run on. If that leaves exactly one, T is the holder: the mutex is
 * cleared and one waiter is woken, as lll_unlock does. If it leaves several, nothing is touched.
 */
#include "act/inject.h"

#if ASC_CAN_INJECT
#include <elf.h>
#include <limits.h>
#include <linux/ptrace.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/num.h"

enum {
	FRAMES_MAX = 1 << 20,
	LOOKS = 100,
	LOOK_NS = 2000000,
	FUTEX_WAKE_PRIVATE = 129,
	WAKE_TIMEOUT_MS = 5000,
	RED_ZONE = 128,
};

static uint32_t mutex_of(const struct asc_borrow *b, asc_addr arena)
{
	uint32_t m = 0;

	asc_peek(b, arena + b->op->c->lib->layout.malloc_state_mutex.off, &m, sizeof(m));
	return m;
}

/* Is @p arena, or its mutex, or a bin in it, named in T's registers or frames? */
static bool named(const struct asc_op *op, asc_addr arena, const uint64_t *words, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (words[i] >= arena && words[i] - arena < op->c->lib->layout.sizeof_malloc_state)
			return true;
	}
	return false;
}

static size_t call_words(const struct asc_borrow *b, uint64_t **ret)
{
	struct user_regs_struct r;
	struct iovec io = { &r, sizeof(r) };
	asc_addr lo, hi = b->f.entry;
	uint64_t *words;
	size_t n = sizeof(r) / 8, more;

	if (asc_pt(PTRACE_GETREGSET, b->tid, NT_PRSTATUS, &io))
		return 0;
	lo = asc_align_down(r.rsp - RED_ZONE, 8);
	more = lo < hi && hi - lo < FRAMES_MAX ? (hi - lo) / 8 : 0;
	words = malloc((n + more) * 8);
	if (!words)
		return 0;
	memcpy(words, &r, sizeof(r));
	if (!asc_peek(b, lo, words + n, more * 8))
		more = 0;
	*ret = words;
	return n + more;
}

/* Clear and wake in T, by one system call through its own chain. */
static bool unlock(struct asc_borrow *b, asc_addr mutex)
{
	uint32_t zero = 0;
	int sig;
	struct asc_go go = {
		.pc = b->op->g.syscall,
		.sp = b->f.after_store,
		.store_to = b->f.result,
		.rax = SYS_futex,
		.args = { mutex, FUTEX_WAKE_PRIVATE, 1 },
		.step = 200,
	};
	struct asc_error *err;

	if (!asc_poke(b, mutex, &zero, sizeof(zero)))
		return false;
	err = asc_borrow_start(b, &go);
	if (err) {
		asc_error_free(err);
		return false;
	}
	return asc_borrow_wait(b, b->f.stop1, WAKE_TIMEOUT_MS, &sig) == ASC_RAN;
}

bool asc_repair(struct asc_borrow *b, asc_addr *ret_arena)
{
	const struct asc_op *op = b->op;
	ASC_AUTO(asc_freep) uint64_t *words = NULL;
	size_t n = call_words(b, &words), left = 0;
	ASC_AUTO(asc_freep) bool *suspect = calloc(op->narenas + 1, sizeof(*suspect));
	asc_addr found = 0;

	if (!suspect)
		return false;
	for (size_t i = 0; i < op->narenas; i++)
		suspect[i] = named(op, op->arenas[i], words, n);
	for (int look = 0; look < LOOKS; look++) {
		struct timespec ts = { 0, LOOK_NS };

		left = 0;
		for (size_t i = 0; i < op->narenas; i++) {
			suspect[i] = suspect[i] && mutex_of(b, op->arenas[i]);
			if (suspect[i]) {
				found = op->arenas[i];
				left++;
			}
		}
		if (left == 0 || (b->single && left == 1))
			break;
		nanosleep(&ts, NULL);
	}
	*ret_arena = left ? found : 0;
	return left == 1 && unlock(b, found + op->c->lib->layout.malloc_state_mutex.off);
}
#endif
