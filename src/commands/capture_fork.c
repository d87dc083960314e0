// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * --capture=fork: the target is stopped for as long as a fork of it takes. What is of that moment
 * but not memory (threads, mappings, the kernel's counters) is read while it is stopped; memory is
 * read from the child afterwards, while the target runs, and so is which pages there are: a child's
 * page tables are a copy, but for files and shared memory, which are asked of the target.
 */
#include <stdlib.h>

#include "act/fork.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "commands/capture.h"
#include "target/capture.h"
#include "target/foresight.h"
#include "target/snapshot.h"
#include "target/urgency.h"
#include "target/vmflags.h"

struct fork_arg {
	struct asc_session *s;
	unsigned needs;
	struct asc_foresight *before;
	struct asc_vmflags vm;	   /* what the child will not have */
	struct asc_residency *own; /* of the stop; or NULL: all is known, or nothing is wanted */
	uint64_t counted;	   /* Rss by the kernel's counters */
	bool counted_known;
};

/*
 * The ledger is of every page of the process. Where the kernel's counters are not exact, Rss has to be
 * that of smaps, which is asked in the stop, as long as it takes.
 */
static struct asc_error *pages_at_stop(struct fork_arg *a)
{
	struct asc_session *s = a->s;

	if (!(a->needs & ASC_NEED_LEDGER))
		return asc_foresight_holds(a->before, s->live)
			       ? asc_session_residency(s, a->needs, a->before)
			       : NULL;
	if (!a->before || !a->before->exact || !a->vm.known ||
	    asc_foresight_holds(a->before, s->live))
		return asc_session_residency(s, a->needs, a->before);
	a->counted_known = asc_counted_rss(asc_target_pid(s->live), &a->counted);
	return asc_snapshot_own_pages(s->live, a->vm.unforked, a->vm.nunforked, &a->own);
}

/* From the child, once the target runs. */
static struct asc_error *pages_of_child(struct fork_arg *a, struct asc_target *child)
{
	struct asc_session *s = a->s;

	if (s->residency)
		return NULL;
	s->provenance.residency = "child";
	if (!a->own)
		return asc_residency_read(child, &s->residency);
	ASC_TRY(asc_snapshot_residency(child, a->vm.unforked, a->vm.nunforked, a->own,
				       &s->residency));
	/* else something was not copied that nobody knew of */
	s->kernel_rss_known = a->counted_known &&
			      a->counted == asc_resident_bytes(s->residency, 0, UINT64_MAX);
	s->kernel_rss = a->counted;
	return NULL;
}

static struct asc_error *at_stop(void *arg, const struct asc_stop_slot *slots, size_t n)
{
	struct fork_arg *a = arg;
	struct asc_session *s = a->s;
	struct asc_urgency urgency = { 0 };
	struct asc_error *err;

	asc_urgent(&urgency);
	err = asc_live_take(s->live, slots, n);
	if (!err)
		err = pages_at_stop(a);
	asc_not_urgent(&urgency);
	ASC_TRY(err);
	asc_session_stall();
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
static struct asc_error *read_child(struct fork_arg *a, pid_t child)
{
	ASC_AUTO(asc_target_closep) struct asc_target *from = NULL;
	struct asc_session *s = a->s;
	struct asc_error *err;

	ASC_TRY(asc_snapshot_open(s->live, child, &from));
	ASC_TRY(pages_of_child(a, from));
	s->data = from;
	err = asc_session_read_heaps(s, a->needs);
	s->data = s->live;
	return !err && a->needs & ASC_NEED_STACKS ? copy_stacks(s, from) : err;
}

static struct asc_error *take_child(struct fork_arg *a, struct asc_fork *f)
{
	struct asc_session *s = a->s;
	struct asc_error *err;

	s->pause = *asc_act_fork_pause(f);
	s->busy_retries = asc_act_fork_retries(f);
	s->provenance.engine = "fork";
	s->provenance.rounds = 1;
	err = read_child(a, asc_act_fork_child(f));
	asc_act_fork_end(f);
	return err;
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
	asc_error_free(asc_foresight_new(s->live, &before));
	arg.before = before;
	if (needs & ASC_NEED_LEDGER)
		ASC_TRY(asc_vmflags_read_all(s->live, &arg.vm));
	err = asc_act_fork(&c, &opts, &f);
	if (!err)
		err = take_child(&arg, f);
	asc_residency_free(arg.own);
	asc_vmflags_deinit(&arg.vm);
	return err;
}
