// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * --capture=fork: the target is stopped for as long as a fork of it takes. What is of that moment
 * but not memory (threads, mappings, residency, Rss) is read while it is stopped; memory is copied
 * out of the child afterwards, while the target runs.
 */
#include <stdlib.h>

#include "act/fork.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "commands/capture.h"
#include "target/capture.h"
#include "target/snapshot.h"

struct fork_arg {
	struct asc_session *s;
	unsigned needs;
};

static struct asc_error *at_stop(void *arg, const struct asc_stop_slot *slots, size_t n)
{
	struct fork_arg *a = arg;
	struct asc_session *s = a->s;

	ASC_TRY(asc_live_take(s->live, slots, n));
	ASC_TRY(asc_residency_read(s->live, &s->residency));
	if (a->needs & ASC_NEED_LEDGER)
		asc_session_read_rss(s);
	asc_session_freeze(s, true);
	return NULL;
}

static bool progress(void *arg, const char *what, double ms)
{
	(void)what;
	(void)ms;
	return asc_session_progress(arg, 0, 0);
}

/* Out of the child, and let it go as soon as may be: while it lives, writes of the target copy. */
static struct asc_error *copy_out(struct asc_session *s, unsigned needs, pid_t child)
{
	ASC_AUTO(asc_target_closep) struct asc_target *from = NULL;
	asc_range_vec v = { 0 };
	struct asc_error *err;

	ASC_TRY(asc_snapshot_open(s->live, child, &from));
	err = asc_session_plan(s, from, s->residency, needs, &v);
	if (!err)
		err = asc_capture(from, s->residency, v.data, v.len, s->opts.max_memory, &s->data);
	asc_vec_free(&v);
	ASC_TRY(err);
	s->captured_bytes = asc_capture_bytes(s->data);
	return NULL;
}

struct asc_error *asc_capture_by_fork(struct asc_session *s, unsigned needs)
{
	struct fork_arg arg = { s, needs };
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
	ASC_TRY(asc_act_fork(&c, &opts, &f));
	s->pause = *asc_act_fork_pause(f);
	s->busy_retries = asc_act_fork_retries(f);
	err = copy_out(s, needs, asc_act_fork_child(f));
	asc_act_fork_end(f);
	s->provenance = (struct asc_provenance){ .engine = "fork", .rounds = 1 };
	return err;
}
