// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * How a session reads its target: what a stop will cost is estimated first, the engine is chosen by
 * it, then everything that must be of one moment is read in one stop.
 */
#include <limits.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/capture.h"
#include "base/spill.h"
#include "render/render.h"
#include "target/capture.h"
#include "target/diagnose.h"
#include "target/foresight.h"
#include "target/readers.h"
#include "target/stackplan.h"
#include "target/urgency.h"

enum {
	THREAD_US = 25,		/* of the pause */
	BYTES_PER_MS = 5000000, /* ditto: 5 GB/s */
	MANY_THREADS = 32,
	FORESEEN_PAGES = 4096,
	FORESEEN_OF_WALK = 1024, /* that reads the heap anyway, and keeps its chunks */
	SPARE_A_THREAD = 2,	 /* where they are known */
	LOOK_THREADS = 1500,
	PAGES_A_THREAD = 16, /* control block, tcache, and what is in it */
	WARM_BYTES = 10 << 20,
	MANY_CHUNKS = 96 << 20,	     /* bytes: a report keeps not all in memory */
	STACK_GUESS = 1 << 20,	     /* of what is copied for the stacks ... */
	STACK_GUESS_EACH = 16 << 10, /* ... of each thread */
	STACK_MAX = 8 << 20,	     /* captured of one stack ... */
	STACK_MIN = 128 << 10,	     /* ... and what is tried where that is too much */
};

/* What is read with the residency at hand: it says what need not be read. */
static const unsigned PAGES_NEEDS = ASC_NEED_RESIDENCY | ASC_NEED_LEDGER | ASC_NEED_HEAPS;

/* ---- what to copy ---- */

/* Borrowed: what analysis/reading.h asks for. */
static struct asc_source source_of(const struct asc_session *s)
{
	return (struct asc_source){ s->live, s->data, s->modules, s->libcs, s->nlibcs };
}

static struct asc_error *plan_heaps(const struct asc_session *s, struct asc_target *from,
				    const struct asc_residency *res, enum asc_depth depth,
				    asc_range_vec *v)
{
	const struct asc_source src = source_of(s);

	return asc_plan_heaps(&src, from, res, depth, v);
}

static uint64_t pause_estimate_ms(const struct asc_session *s, uint64_t bytes)
{
	size_t n;

	asc_target_threads(s->live, &n);
	return (uint64_t)n * THREAD_US / 1000 + bytes / BYTES_PER_MS;
}

static bool fits_pause(const struct asc_session *s, uint64_t bytes)
{
	return s->opts.no_stop || s->opts.hold || !s->opts.max_pause_ms ||
	       pause_estimate_ms(s, bytes) <= s->opts.max_pause_ms;
}

/* Whole stacks, or as much of each as the pause allows: deep frames are worth less than all. */
static struct asc_error *plan_stacks(struct asc_session *s, struct asc_target *from,
				     asc_range_vec *v)
{
	ASC_AUTO(asc_freep) struct asc_range *r = NULL;
	uint64_t bytes = 0, each = STACK_MAX;
	size_t n = 0;

	for (;; each /= 4) {
		ASC_TRY(asc_stack_ranges(from, each, &r, &n, &bytes));
		if (fits_pause(s, bytes) || each / 4 < STACK_MIN)
			break;
		free(asc_take(r));
	}
	for (size_t i = 0; i < n; i++)
		ASC_TRY(asc_vec_push(v, r[i]));
	return NULL;
}

struct asc_error *asc_session_plan(struct asc_session *s, struct asc_target *from,
				   const struct asc_residency *res, unsigned needs,
				   asc_range_vec *v)
{
	enum asc_depth depth = needs & ASC_NEED_WALK ? ASC_DEPTH_WALK : ASC_DEPTH_LISTS;

	if (needs & (ASC_NEED_LISTS | ASC_NEED_WALK))
		ASC_TRY(plan_heaps(s, from, res, depth, v));
	else if (needs & ASC_NEED_ARENAS)
		ASC_TRY(plan_heaps(s, from, res, ASC_DEPTH_HEADERS, v));
	return needs & ASC_NEED_STACKS ? plan_stacks(s, from, v) : NULL;
}

static struct asc_error *check_pause(const struct asc_session *s, uint64_t bytes)
{
	uint64_t ms = pause_estimate_ms(s, bytes);
	char buf[32];
	size_t n;

	if (fits_pause(s, bytes))
		return NULL;
	asc_target_threads(s->live, &n);
	struct asc_error *err = asc_err_id(asc_err(ASC_EAGAIN,
						   "reading it would stop the target for about "
						   "%llu ms, over --max-pause=%llums",
						   (unsigned long long)ms,
						   (unsigned long long)s->opts.max_pause_ms),
					   "E-PAUSE");
	asc_err_why(err, "%zu thread%s, %s to copy", n, n == 1 ? "" : "s",
		    asc_fmt_bytes(buf, bytes, false));
	asc_err_try(err, "--max-pause=%llums", (unsigned long long)(ms + ms / 4 + 1));
	asc_err_try(err, "--capture=optimistic: reads while it runs, checks in a short stop");
	asc_err_try(err, "report, rss, arenas or bins: they read the free lists only");
	return asc_err_try(err, "--no-stop: never stops it; the result may be inconsistent");
}

/* The engine that was asked for, or for what a stop would take too long. */
static enum asc_capture_mode choose(struct asc_session *s, unsigned needs, uint64_t bytes)
{
	bool held = s->any_moment || s->opts.hold || s->opts.no_stop;

	if (held || s->opts.capture == ASC_CAP_COPY)
		return ASC_CAP_COPY;
	/* a stack that is read while its thread runs is none */
	if (s->opts.capture == ASC_CAP_OPTIMISTIC && needs & ASC_NEED_STACKS)
		return ASC_CAP_COPY;
	if (s->opts.capture != ASC_CAP_AUTO)
		return s->opts.capture;
	return needs & ASC_NEED_WALK && !fits_pause(s, bytes) && fits_pause(s, 0)
		       ? ASC_CAP_OPTIMISTIC
		       : ASC_CAP_COPY;
}

/* What there is before the stop, so that it is short. */
struct before {
	struct asc_foresight *foresight;
	struct asc_capture_buf *stacks; /* warm memory */
	bool rehearsed;			/* the whole heap: the pages of it are known */
	bool brief;			/* some milliseconds, if nobody else has the CPU */
};

static void free_before(struct before *b)
{
	asc_foresight_free(b->foresight);
	asc_capture_buf_free(b->stacks);
}

/*
 * With many threads a stop is spent on thousands of small reads all over the heap: which they will be
 * is learnt beforehand.
 */
static bool rehearse(struct asc_session *s, unsigned needs, const struct asc_residency *res)
{
	const struct asc_heap_opts ho = {
		.depth = needs & (ASC_NEED_LISTS | ASC_NEED_WALK) ? ASC_DEPTH_LISTS
								  : ASC_DEPTH_THREADS,
		.max_findings = 1,
		.rehearsal = true,
	};
	bool whole = true;
	size_t n;

	asc_target_threads(s->live, &n);
	/*
	 * With the thread pointers there are tcaches in it, too; of more threads they would not fit, and
	 * where everything is read they are on the way.
	 */
	if (n <= LOOK_THREADS && !(needs & ASC_NEED_WALK))
		asc_error_free(asc_live_look_early(s->live, res));
	if (!asc_target_rehearse(s->live,
				 needs & ASC_NEED_WALK ? FORESEEN_OF_WALK : FORESEEN_PAGES))
		return false;
	for (size_t i = 0; i < s->nlibcs; i++) {
		asc_addr arena;
		pid_t tid;

		asc_heap_busy(s->live, s->modules, &s->libcs[i], &arena, &tid);
	}
	asc_target_mark_early(s->live);
	for (size_t i = 0; i < s->nlibcs; i++) {
		struct asc_heap *heap = NULL;

		/* it runs, so that nothing has to add up */
		asc_error_free(asc_heap_read(s->live, &s->libcs[i], res, &ho, &heap));
		whole &= heap && heap->complete && heap->tcaches_known && !heap->nfindings;
		asc_heap_free(heap);
	}
	asc_target_rehearsed(s->live, n * (whole ? SPARE_A_THREAD : PAGES_A_THREAD));
	return whole;
}

/*
 * Memory that was never touched costs a page fault a page, in the stop as elsewhere. What is freed
 * here stays with our malloc, and what the stop needs is taken from it.
 */
static void warm_up(void)
{
	void *p = malloc(WARM_BYTES);

	if (p)
		memset(p, 1, WARM_BYTES);
	__asm__ volatile("" : : "r"(p) : "memory");
	free(p);
}

static void prepare_many(struct asc_session *s, unsigned needs, struct before *b)
{
	size_t n;

	asc_target_threads(s->live, &n);
	if (n < MANY_THREADS)
		return;
	mallopt(M_MMAP_THRESHOLD, 2 * WARM_BYTES);
	mallopt(M_TRIM_THRESHOLD, 4 * WARM_BYTES);
	b->brief = !(needs & ASC_NEED_WALK);
	if (needs & ASC_NEED_HEAPS)
		b->rehearsed = rehearse(s, needs, b->foresight ? b->foresight->residency : NULL);
	if (needs & ASC_NEED_STACKS)
		asc_error_free(asc_capture_buf_new(STACK_GUESS + n * STACK_GUESS_EACH, &b->stacks));
	/* a rehearsal of all of it has used what the stop will need */
	if (!b->rehearsed)
		warm_up();
}

/*
 * Before the stop: what will have to be read, judged by the running target, which may be wrong in
 * detail. Refuses what is far over the budget without ever stopping it.
 */
static struct asc_error *prepare(struct asc_session *s, unsigned *needs, uint64_t *ret_bytes,
				 struct before *b)
{
	const struct asc_residency *res;
	uint64_t bytes = 0;

	if (!s->opts.hold && !s->opts.no_stop && *needs & PAGES_NEEDS) {
		/* a target that ends or changes meanwhile: the stop will tell */
		asc_error_free(asc_foresight_new(s->live, &b->foresight));
	}
	res = b->foresight ? b->foresight->residency : NULL;
	if (!s->opts.hold && !s->opts.no_stop)
		prepare_many(s, *needs, b);
	/* nothing is opened in the stop */
	if (res && *needs & ASC_NEED_HEAPS && s->spill_fd <= 0 &&
	    asc_resident_bytes(res, 0, UINT64_MAX) > MANY_CHUNKS)
		s->spill_fd = asc_spill_open();
	if (!(*needs & (ASC_NEED_WALK | ASC_NEED_COUNTS)) || s->opts.hold)
		return check_pause(s, 0);
	for (size_t i = 0; i < s->nlibcs; i++)
		bytes += asc_heap_walk_bytes(s->live, &s->libcs[i], res);
	if (!(*needs & ASC_NEED_WALK)) {
		if (!fits_pause(s, bytes))
			return check_pause(s, 0);
		*needs |= ASC_NEED_WALK;
	}
	/* a chunk has 32 bytes at the least, and 8 in a table */
	if (s->opts.max_memory && bytes / 4 > s->opts.max_memory && s->spill_fd <= 0)
		s->spill_fd = asc_spill_open();
	*ret_bytes = bytes;
	return choose(s, *needs, bytes) == ASC_CAP_OPTIMISTIC ? NULL : check_pause(s, bytes);
}

/* ---- the stop ---- */

/* Stop it at a moment when malloc is in the middle of nothing. */
struct asc_error *asc_session_stop_quiet(struct asc_session *s)
{
	const struct asc_source src = source_of(s);
	const struct asc_quiet_opts opts = {
		.max_pause_ms = s->opts.hold ? UINT_MAX
					     : (unsigned)asc_min(s->opts.max_pause_ms, UINT_MAX),
		.no_stop = s->opts.no_stop,
		.any_moment = s->any_moment,
		.interrupted = asc_interrupted,
	};
	struct asc_quiet q;

	if (asc_target_is_stopped(s->live))
		return NULL;
	ASC_TRY(asc_stop_quiet(&src, &opts, &q));
	s->busy = q.busy;
	s->in_malloc = q.in_malloc;
	s->busy_retries = q.tries;
	return NULL;
}

static struct asc_heap_opts heap_opts(struct asc_session *s, unsigned needs)
{
	return (struct asc_heap_opts){
		.depth = needs & ASC_NEED_WALK	  ? ASC_DEPTH_WALK
			 : needs & ASC_NEED_LISTS ? ASC_DEPTH_LISTS
						  : ASC_DEPTH_THREADS,
		.max_memory = s->opts.max_memory,
		.spill_fd = s->spill_fd,
		.focus = s->focus,
		.in_malloc = s->in_malloc || s->possibly_inconsistent ||
			     s->provenance.unverified_bytes,
		.narrow = s->heap_is_kept,
		.unproven = s->possibly_inconsistent || s->provenance.unverified_bytes,
		.progress = asc_session_progress,
		.progress_arg = s,
	};
}

static struct asc_error *new_heaps(struct asc_session *s)
{
	s->heaps = calloc(s->nlibcs, sizeof(struct asc_heap *));
	if (!s->heaps)
		return asc_err(ASC_ENOMEM, "heaps of %zu libcs", s->nlibcs);
	s->nheaps = s->nlibcs;
	return NULL;
}

static struct asc_error *read_heaps(struct asc_session *s, const struct asc_heap_opts *ho)
{
	const struct asc_source src = source_of(s);

	if (!s->nlibcs)
		return NULL;
	ASC_TRY(new_heaps(s));
	return asc_read_heaps(&src, s->residency, ho, s->heaps, &s->other_libcs);
}

struct asc_error *asc_session_read_heaps(struct asc_session *s, unsigned needs)
{
	const struct asc_heap_opts ho = heap_opts(s, needs);

	return read_heaps(s, &ho);
}

/* Stacks are looked at when the target runs on, and with them the locks that threads wait for. */
static struct asc_error *copy_stacks(struct asc_session *s, struct asc_capture_buf **buf)
{
	asc_range_vec v = { 0 };
	struct asc_error *err = plan_heaps(s, s->live, s->residency, ASC_DEPTH_HEADERS, &v);

	if (!err)
		err = plan_stacks(s, s->live, &v);
	if (!err)
		err = check_pause(s, asc_planned_bytes(s->residency, &v));
	if (!err)
		err = asc_capture_into(s->live, s->residency, v.data, v.len, s->opts.max_memory,
				       buf, &s->data);
	asc_vec_free(&v);
	if (!err)
		s->captured_bytes = asc_capture_bytes(s->data);
	return err;
}

/* Of this moment: as it was foreseen if that still holds, else read now. */
struct asc_error *asc_session_residency(struct asc_session *s, unsigned needs,
					struct asc_foresight *before)
{
	bool foreseen;

	ASC_TRY(asc_foresight_use(before, s->live, needs & ASC_NEED_LEDGER, &s->residency,
				  &s->kernel_rss, &s->kernel_rss_known, &foreseen));
	s->provenance.residency = foreseen ? "before" : "stop";
	return NULL;
}

/* What was rehearsed, and is all here: the target need not wait until it has been looked at. */
static bool seal(struct asc_session *s, unsigned needs, const struct before *before)
{
	return before && before->rehearsed && !s->busy && !s->opts.hold &&
	       !(needs & (ASC_NEED_WALK | ASC_NEED_STACKS)) && asc_target_seal(s->live);
}

/* The target runs; what was fetched in the stop is the heap. @p ret_done false: it does not suffice. */
static struct asc_error *read_sealed(struct asc_session *s, unsigned needs, bool *ret_done)
{
	struct asc_heap_opts ho = heap_opts(s, needs);
	struct asc_error *err;

	ho.rehearsal = ho.rehearsed = true;
	*ret_done = !asc_session_sealed();
	err = read_heaps(s, &ho);
	*ret_done &= asc_target_unseal(s->live);
	if (*ret_done)
		return err;
	asc_error_free(err);
	asc_session_forget(s);
	return NULL;
}

/*
 * With the target stopped: everything that must be of this moment. The heap is read where it is: one
 * pass over it takes no longer than to copy it, and keeps a hundredth of it. @p ret_sealed: it is here to
 * be read after the release.
 */
static struct asc_error *read_stopped(struct asc_session *s, unsigned needs, struct before *before,
				      bool *ret_sealed)
{
	*ret_sealed = false;
	asc_target_keep_pages(s->live, true);
	if (needs & PAGES_NEEDS)
		ASC_TRY(asc_session_residency(s, needs, before ? before->foresight : NULL));
	asc_session_stall();
	asc_target_fetch(s->live, s->residency, NULL, 0);
	if (needs & ASC_NEED_HEAPS) {
		*ret_sealed = seal(s, needs, before);
		if (!*ret_sealed)
			ASC_TRY(asc_session_read_heaps(s, needs));
	}
	return needs & ASC_NEED_STACKS && !s->opts.hold
		       ? copy_stacks(s, before ? &before->stacks : NULL)
		       : NULL;
}

/*
 * Without a stop: who ran while it was read? If nobody did, it is as good as with one. Else what
 * does not add up is no damage: it is read again with that in mind.
 */
static struct asc_error *read_running(struct asc_session *s, unsigned needs)
{
	bool sealed;

	s->possibly_inconsistent = false;
	ASC_TRY(read_stopped(s, needs, NULL, &sealed));
	s->ran = asc_live_mark_runners(s->live, s->data);
	s->possibly_inconsistent = s->ran;
	if (!s->ran || !s->nheaps)
		return NULL;
	struct asc_provenance how = s->provenance;
	asc_session_forget(s);
	s->provenance = how;
	ASC_TRY(read_stopped(s, needs, NULL, &sealed));
	s->ran = asc_live_mark_runners(s->live, s->data);
	return NULL;
}

void asc_session_doubt(struct asc_session *s)
{
	for (size_t i = 0; i < s->nheaps; i++) {
		struct asc_heap *h = s->heaps[i];

		for (size_t k = 0; h && k < h->narenas; k++)
			h->arenas[k].unverified = true;
		for (size_t k = 0; h && k < h->nfindings; k++) {
			if (h->findings[k].severity == ASC_SEV_CORRUPT)
				h->findings[k].severity = ASC_SEV_INFO;
		}
	}
}

static void say_pause(struct asc_session *s)
{
	const struct asc_pause *p = &s->pause;

	if (s->opts.no_stop || !p->threads)
		return;
	asc_session_note(s, "paused %.*f ms", p->ms < 10 ? 1 : 0, p->ms);
	if (p->watchdog)
		asc_session_note(s, "arenascope: it took too long: the target was let go before "
				    "everything was read");
}

/* What was read is a copy of its own: text is still read from the process, while it is there. */
static struct asc_error *use_copy(struct asc_session *s, unsigned needs)
{
	asc_capture_set_backing(s->data, s->live);
	if (s->modules)
		asc_modules_retarget(s->modules, s->data);
	if (needs & ASC_NEED_HEAPS && !s->heaps)
		return asc_session_read_heaps(s, needs);
	return NULL;
}

/* Both engines read while the target runs, so that neither lists nor live chunks cost it anything. */
static unsigned all_of(unsigned needs)
{
	if (needs & ASC_NEED_ARENAS)
		needs |= ASC_NEED_LISTS;
	return needs & ASC_NEED_COUNTS ? needs | ASC_NEED_WALK : needs;
}

static struct asc_error *read_fork(struct asc_session *s, unsigned *want)
{
	*want = all_of(*want);
	s->taken_at = time(NULL);
	ASC_TRY(asc_capture_by_fork(s, *want));
	say_pause(s);
	return use_copy(s, *want);
}

/* @p before: owned */
static struct asc_error *read_optimistic(struct asc_session *s, unsigned *want,
					 struct asc_foresight *before)
{
	struct asc_error *err = check_pause(s, 0);

	if (err) {
		asc_foresight_free(before);
		return err;
	}
	*want = all_of(*want);
	ASC_TRY(asc_capture_optimistic_run(s, *want, before));
	say_pause(s);
	return use_copy(s, *want);
}

/* One stop. @p ret_done false, without an error: what was foreseen did not suffice, and it takes another. */
static struct asc_error *read_round(struct asc_session *s, unsigned needs, struct before *before,
				    unsigned round, bool *ret_done)
{
	struct asc_urgency urgency = { 0 };
	struct asc_pause last = { 0 };
	bool sealed = false;
	struct asc_error *err;

	s->provenance.engine = s->opts.no_stop || s->opts.hold ? "direct" : "copy";
	s->provenance.rounds = s->opts.no_stop ? 0 : round;
	before->rehearsed &= round == 1;
	*ret_done = true;
	if (before->brief && !s->opts.hold && !s->opts.no_stop)
		asc_urgent(&urgency);
	err = asc_session_stop_quiet(s);
	s->taken_at = time(NULL);
	if (!err)
		err = s->opts.no_stop ? read_running(s, needs)
				      : read_stopped(s, needs, before, &sealed);
	asc_target_keep_pages(s->live, false);
	if (s->opts.hold && !err)
		return NULL;
	asc_target_release(s->live, &last);
	asc_not_urgent(&urgency);
	last.ms = s->pause.ms > last.ms ? s->pause.ms : last.ms;
	s->pause = last;
	return sealed && !err ? read_sealed(s, needs, ret_done) : err;
}

static struct asc_error *read_stop(struct asc_session *s, unsigned *want)
{
	uint64_t bytes = 0;
	ASC_AUTO(free_before) struct before before = { 0 };
	struct asc_error *err = prepare(s, want, &bytes, &before);
	const unsigned needs = *want;
	bool done = false;

	if (!err && choose(s, needs, bytes) == ASC_CAP_OPTIMISTIC) {
		asc_session_note(s,
				 "reading it would stop the target for about %llu ms, over "
				 "--max-pause=%llums: reading while it runs "
				 "(--capture=optimistic)",
				 (unsigned long long)pause_estimate_ms(s, bytes),
				 (unsigned long long)s->opts.max_pause_ms);
		return read_optimistic(s, want, asc_take(before.foresight));
	}
	s->pause = (struct asc_pause){ 0 };
	if (err)
		asc_target_release(s->live, &s->pause);
	for (unsigned round = 1; !err && !done; round++)
		err = read_round(s, needs, &before, round, &done);
	if (s->opts.hold && !err) {
		asc_session_note(s, "held: the target stays stopped");
		return NULL;
	}
	asc_target_forget_rehearsal(s->live);
	if (s->pause.watchdog)
		asc_session_doubt(s);
	say_pause(s);
	if (err || s->data == s->live)
		return err;
	return use_copy(s, needs);
}

static struct asc_error *read_live(struct asc_session *s, unsigned *want)
{
	if (!asc_diagnose_frozen(asc_target_pid(s->live), s->frozen, sizeof(s->frozen)))
		s->frozen[0] = 0;
	switch (choose(s, *want, 0)) {
	case ASC_CAP_FORK:
		return read_fork(s, want);
	case ASC_CAP_OPTIMISTIC:
		return read_optimistic(s, want, NULL);
	default:
		return read_stop(s, want);
	}
}

static struct asc_error *read_core(struct asc_session *s, unsigned *want)
{
	unsigned needs = *want;

	if (needs & ASC_NEED_COUNTS)
		*want = needs |= ASC_NEED_WALK;
	const struct asc_source src = source_of(s);
	const struct asc_heap_opts ho = heap_opts(s, needs);

	if (needs & ASC_NEED_HEAPS && s->nlibcs)
		ASC_TRY(new_heaps(s));
	return asc_read_core(&src, &ho, needs & (ASC_NEED_RESIDENCY | ASC_NEED_LEDGER), s->heaps,
			     &s->residency, &s->other_libcs);
}

bool asc_session_pages_later(const struct asc_session *s)
{
	return s->live && s->provenance.residency && !strcmp(s->provenance.residency, "after");
}

static struct asc_error *make_ledger(struct asc_session *s)
{
	const struct asc_source src = source_of(s);
	const struct asc_ledger_of of = {
		.heaps = s->heaps,
		.nheaps = s->nheaps,
		.residency = s->residency,
		.allocator = s->allocator,
		.kernel_rss = s->kernel_rss,
		.kernel_rss_known = s->kernel_rss_known,
		.later = asc_session_pages_later(s),
	};

	return asc_ledger_of(&src, &of, &s->ledger);
}

struct asc_error *asc_session_read(struct asc_session *s, unsigned *needs)
{
	struct asc_error *err = s->live ? read_live(s, needs) : read_core(s, needs);

	for (size_t i = 0; i < s->nheaps && s->pause.watchdog; i++)
		asc_heap_doubt(s->heaps[i]);
	return !err && *needs & ASC_NEED_LEDGER ? make_ledger(s) : err;
}
