// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * --capture=fork: the target is stopped for as long as a fork of it takes. What is of that moment
 * but not memory (threads, mappings, residency, Rss) is read while it is stopped; memory is read
 * from the child afterwards, while the target runs.
 */
#include <stdlib.h>

#include "act/fork.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "commands/capture.h"
#include "target/capture.h"
#include "target/foresight.h"
#include "target/snapshot.h"

struct fork_arg {
	struct asc_session *s;
	unsigned needs;
	struct asc_foresight *before;
};

static struct asc_error *at_stop(void *arg, const struct asc_stop_slot *slots, size_t n)
{
	struct fork_arg *a = arg;
	struct asc_session *s = a->s;

	ASC_TRY(asc_live_take(s->live, slots, n));
	/* Rss is asked of the target; of what malloc and the stacks use, the child's pages tell later */
	if (a->needs & ASC_NEED_LEDGER || asc_foresight_holds(a->before, s->live))
		ASC_TRY(asc_session_residency(s, a->needs, a->before));
	asc_session_freeze(s, true);
	return NULL;
}

static bool progress(void *arg, const char *what, double ms)
{
	(void)what;
	(void)ms;
	return asc_session_progress(arg, 0, 0);
}

/* Stacks are looked at later, and with them the locks that threads wait for. */
static struct asc_error *copy_stacks(struct asc_session *s, struct asc_target *from)
{
	ASC_AUTO(asc_range_vec_free) asc_range_vec v = { 0 };
	struct asc_target *copy = NULL;

	ASC_TRY(asc_session_plan(s, from, s->residency, ASC_NEED_ARENAS | ASC_NEED_STACKS, &v));
	ASC_TRY(asc_capture(from, s->residency, v.data, v.len, s->opts.max_memory, &copy));
	s->captured_bytes = asc_capture_bytes(copy);
	s->data = copy;
	return NULL;
}

/*
 * The child is read where it is, as a stopped process is: no copy of a heap is as fast as one pass over
 * it. Then let it go as soon as may be: while it lives, what the target writes is copied.
 */
static struct asc_error *read_child(struct asc_session *s, unsigned needs, pid_t child)
{
	ASC_AUTO(asc_target_closep) struct asc_target *from = NULL;
	struct asc_error *err;

	ASC_TRY(asc_snapshot_open(s->live, child, &from));
	if (!s->residency)
		ASC_TRY(asc_residency_read(from, &s->residency));
	s->data = from;
	err = asc_session_read_heaps(s, needs);
	s->data = s->live;
	return !err && needs & ASC_NEED_STACKS ? copy_stacks(s, from) : err;
}

struct asc_error *asc_capture_by_fork(struct asc_session *s, unsigned needs)
{
	ASC_AUTO(asc_foresight_freep) struct asc_foresight *before = NULL;
	struct fork_arg arg = { .s = s, .needs = needs };
	struct asc_act_ctx c = {
		.live = s->live,
		.modules = s->modules,
		.lib = s->libcs,
		.opts = { .wait_ms = (unsigned)asc_min(s->opts.wait_ms, UINT32_MAX),
			  .force = s->opts.force },
		.progress = progress,
		.arg = s,
	};
	struct asc_fork_opts opts = {
		.max_pause_ms = (unsigned)asc_min(s->opts.max_pause_ms, UINT32_MAX),
		.at_stop = at_stop,
		.arg = &arg,
	};
	struct asc_fork *f = NULL;
	struct asc_error *err;

	if (!s->nlibcs)
		return asc_err_try(
			asc_err_id(asc_err(ASC_EUNSUPPORTED,
					   "a copy-on-write child needs glibc's malloc in the "
					   "target"),
				   "E-UNSUPPORTED"),
			"--capture=copy");
	/* a target that ends or changes meanwhile: the stop will tell */
	asc_error_free(asc_foresight_new(s->live, needs & ASC_NEED_LEDGER, &before));
	arg.before = before;
	ASC_TRY(asc_act_fork(&c, &opts, &f));
	s->pause = *asc_act_fork_pause(f);
	s->busy_retries = asc_act_fork_retries(f);
	s->provenance = (struct asc_provenance){ .engine = "fork", .rounds = 1 };
	err = read_child(s, needs, asc_act_fork_child(f));
	asc_act_fork_end(f);
	return err;
}
