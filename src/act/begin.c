/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The two ways to get hold of T. A thread that sleeps in a call that malloc never makes holds no
 * arena's lock: it alone needs to be stopped, and what it then calls waits for a lock as any thread
 * does. Where none sleeps so, everything is stopped, and any thread will do once all arena mutexes
 * are 0: it holds none, and that stays so while the others run on.
 */
#include "act/inject.h"

#if ASC_CAN_INJECT
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "target/proc.h"

enum {
	NAP_MIN_MS = 1,
	NAP_MAX_MS = 20,
	SLEEPERS_MAX = 16,
	WAIT_DEFAULT_MS = 5000,
	PEEKS = 40, /* for a moment at which no lock is held, before it is stopped */
	PEEK_NS = 100000,
	BLIND = 8, /* of so many tries one stops it without such a moment */
	SLEEPER_TRIES = 12,
};

static void nap(void)
{
	long ms = NAP_MIN_MS + random() % (NAP_MAX_MS - NAP_MIN_MS + 1);
	struct timespec ts = { 0, ms * 1000000 };

	nanosleep(&ts, NULL);
}

/* Each stop costs the target time: while a lock is held it would be for nothing. */
static bool worth_a_stop(const struct asc_borrow *b, asc_addr *busy)
{
	const struct timespec ts = { 0, PEEK_NS };

	if (b->tries % BLIND == BLIND - 1)
		return true;
	for (int i = 0; i < PEEKS && !atomic_load(&b->op->sh->cancel); i++) {
		if (!asc_preflight_locked(b->op, busy))
			return true;
		nanosleep(&ts, NULL);
	}
	return false;
}

static struct asc_error *try_all(struct asc_borrow *b, asc_addr *busy, pid_t *inside)
{
	struct asc_error *err;
	size_t alive = 0;

	if (!worth_a_stop(b, busy)) {
		b->op->sh->result.busy_arena = *busy;
		return asc_preflight_error(b->op, *busy, 0, b->tries + 1);
	}
	ASC_TRY(asc_halt_all(&b->halt));
	asc_act_fault(b->op, 1);
	if (!asc_target_alive(b->op->c->live))
		return asc_err_id(
			asc_err(ASC_EAGAIN, "process %d exited or changed its program", b->op->pid),
			"E-EXITED");
	for (size_t i = 0; i < b->halt.n; i++)
		alive += b->halt.v[i].state != ASC_HALT_GONE;
	b->single = alive <= 1;
	b->since = b->halt.since;
	if (asc_preflight_busy(b->op, &b->halt, busy, inside)) {
		b->op->sh->result.busy_arena = *busy;
		return asc_preflight_error(b->op, *busy, *inside, b->tries + 1);
	}
	b->op->sh->result.busy_arena = 0;
	asc_act_fault(b->op, 2);
	err = asc_choose(b);
	return err ? err : asc_borrow_save(b, asc_halt_find(&b->halt, b->tid));
}

struct asc_error *asc_begin_all(struct asc_borrow *b)
{
	const struct asc_op *op = b->op;
	unsigned wait_ms = op->c->opts.wait_ms ? op->c->opts.wait_ms : WAIT_DEFAULT_MS;
	double deadline = asc_act_now() + wait_ms;
	struct asc_error *err;

	b->all = true;
	srandom((unsigned)op->tool ^ (unsigned)time(NULL));
	for (;;) {
		asc_addr busy = 0;
		pid_t inside = 0;
		bool thorough = b->thorough;

		err = try_all(b, &busy, &inside);
		if (!err)
			return NULL;
		asc_halt_release(&b->halt, 0);
		if (err->code != ASC_EAGAIN ||
		    (asc_act_now() > deadline && b->thorough == thorough) ||
		    atomic_load(&op->sh->cancel) || !asc_target_alive(op->c->live))
			return err;
		asc_error_free(err);
		if (b->thorough != thorough)
			continue;
		op->sh->result.retries = ++b->tries;
		atomic_store(&op->sh->stage, ASC_STAGE_WAITING);
		nap();
	}
}

static struct asc_error *try_one(struct asc_borrow *b, pid_t tid)
{
	struct asc_halted *t;
	int64_t nr;

	ASC_TRY(asc_halt_one(&b->halt, tid));
	asc_act_fault(b->op, 1);
	b->since = b->halt.since;
	t = asc_halt_find(&b->halt, tid);
	nr = asc_real_call(tid, &t->regs);
	if ((int64_t)t->regs.orig_rax < 0 || (int64_t)t->regs.rax >= 0 ||
	    !asc_safe_call(b->op, nr, t->regs.rdi))
		return asc_err(ASC_EAGAIN, "thread %d woke up", tid);
	ASC_TRY(asc_choose_check(b, t));
	asc_act_fault(b->op, 2);
	return asc_borrow_save(b, t);
}

struct asc_error *asc_begin_sleeper(struct asc_borrow *b)
{
	const struct asc_op *op = b->op;
	ASC_AUTO(asc_freep) pid_t *tids = NULL;
	pid_t *tasks = NULL;
	size_t n = 0, threads = 0;
	struct asc_error *err = NULL;

	if (asc_proc_tasks(op->pid, &tasks, &threads))
		return asc_err_id(asc_err(ASC_ENOTARGET, "no process %d", op->pid), "E-NOPROC");
	free(tasks);
	b->sleepers = 0;
	b->single = threads == 1;
	if (!b->single && asc_preflight_lockless(op, threads))
		return asc_err(ASC_EAGAIN, "malloc takes no locks, yet there are %zu threads",
			       threads);
	ASC_TRY(asc_choose_sleepers(op, &tids, &n));
	b->sleepers = n;
	for (size_t i = 0; i < n && i < SLEEPERS_MAX; i++) {
		asc_error_free(err);
		err = try_one(b, tids[i]);
		if (!err && asc_target_alive(op->c->live))
			return NULL;
		asc_halt_release(&b->halt, 0);
	}
	return err ? err : asc_err(ASC_EAGAIN, "no thread sleeps in a suitable system call");
}

/* Has every arena's lock been seen free? One that never is may be held for good. */
static struct asc_error *wait_until_free(struct asc_borrow *b, double deadline)
{
	const struct asc_op *op = b->op;
	const struct timespec ts = { 0, PEEK_NS };
	ASC_AUTO(asc_freep) bool *seen = calloc(op->narenas + 1, sizeof(*seen));
	asc_addr held = 0;

	if (!seen)
		return asc_err(ASC_ENOMEM, "%zu arenas", op->narenas);
	for (;;) {
		for (int i = 0; i < PEEKS; i++) {
			if (asc_preflight_seen_free(op, seen, &held))
				return NULL;
			nanosleep(&ts, NULL);
		}
		op->sh->result.retries = ++b->tries;
		op->sh->result.busy_arena = held;
		if (asc_act_now() > deadline || atomic_load(&op->sh->cancel) ||
		    !asc_target_alive(op->c->live))
			return asc_preflight_error(op, held, 0, b->tries);
		atomic_store(&op->sh->stage, ASC_STAGE_WAITING);
		nap();
	}
}

struct asc_error *asc_begin_any(struct asc_borrow *b)
{
	struct asc_error *err;

	/* On a busy machine a sleeper often wakes up while it is stopped, and a stop of all takes
	 * longest of all there: so another one, a moment later. */
	for (int i = 0;; i++) {
		err = asc_begin_sleeper(b);
		if (!err || (err->code != ASC_EAGAIN && err->code != ASC_EUNSUPPORTED))
			return err;
		if (err->code != ASC_EAGAIN || !b->sleepers || i == SLEEPER_TRIES ||
		    atomic_load(&b->op->sh->cancel) || !asc_target_alive(b->op->c->live))
			break;
		asc_error_free(err);
		nap();
	}
	/* one that does not sleep may do; those that did not stop in time are still ours */
	asc_error_free(err);
	b->since = b->halt.since = b->halt.ms = 0;
	return asc_begin_all(b);
}

struct asc_error *asc_begin_call(struct asc_borrow *b)
{
	const struct asc_op *op = b->op;
	unsigned wait_ms = op->c->opts.wait_ms ? op->c->opts.wait_ms : WAIT_DEFAULT_MS;

	srandom((unsigned)op->tool ^ (unsigned)time(NULL));
	ASC_TRY(wait_until_free(b, asc_act_now() + wait_ms));
	op->sh->result.busy_arena = 0;
	return asc_begin_any(b);
}
#endif
