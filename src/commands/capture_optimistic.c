// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * --capture=optimistic: for a heap that would stop the target for too long.
 *
 *   before  the heap is read where it is, as --no-stop does; each page leaves a digest
 *   stop    the arenas' headers and free lists are read, those of few pages first, then the pages that
 *           are known to change, and whole arenas, the small ones first: as long as the time allows
 *   after   it is read again: from what the stop has kept, the rest where it is. A page that is as it
 *           was before the stop was so in it (target/overlay). Of a page that is not, only chunk
 *           headers matter to the model: if they are the same in both readings, so were they in the stop,
 *           unless they contradict the lists (optimistic_doubt.c).
 *           What is left is not verified, and is said to be, with the arenas it is in.
 *
 * An arena whose lists are too long to be followed in a stop is read as a running process is, all of it:
 * pages of two moments would contradict each other all over. If nothing has changed in it, it is as good.
 *
 * Nothing is copied but the pages of the stop. No bit of the kernel's page tables is touched to learn
 * what changed (soft-dirty, write protection): that would change the target.
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/capture.h"
#include "commands/optimistic.h"
#include "target/foresight.h"
#include "target/overlay.h"
#include "target/proc.h"
#include "target/stackplan.h"

enum {
	ROUNDS = 3,
	ROUNDS_MS = 10000,     /* no further one is begun if it would not end in this */
	ROOM_BYTES = 20 << 20, /* of a walk: two models are kept, of 8 bytes a chunk each ... */
	ROOM_LEAST = 4 << 20,  /* ... of a large heap less, for there are more digests */
	ROOM_SHARE = 256,
	ROOM_LISTS = 40 << 20, /* where no walk needs more */
	BUSY_LISTS = 16 << 20, /* what a stop of a process that changes much may well read of it */
	GROWTH_BYTES = 16 << 20, /* of a small heap, before the stop */
	SPARE_BYTES = 4 << 20,	 /* beside the lists: libc's data, headers, tcaches */
	SPARE_EACH = 32 << 10,	 /* ditto, of each arena and thread */
	LOOKS = 5,
	FEW = 4,
	BUSY_SHARE = 10, /* of the time of the first reading, on a CPU: it changes much */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- before the stop ---- */

/*
 * The model of the moment at hand, through the overlay. What contradicts itself in it because the process
 * runs is told from damage later, by what has changed (asc_round_mark): the first reading is used only
 * where nothing has.
 */
static struct asc_error *read_model(struct asc_round *r)
{
	struct asc_session *s = r->s;
	struct asc_error *err;

	if (!(r->needs & (ASC_NEED_LISTS | ASC_NEED_WALK)))
		return NULL;
	s->data = r->overlay;
	s->heap_is_kept = r->first != NULL;
	err = asc_session_read_heaps(s, r->needs);
	s->heap_is_kept = false;
	s->data = s->live;
	return err;
}

/* The primary heap goes from the session to the round. */
static void keep_first(struct asc_round *r)
{
	struct asc_session *s = r->s;

	asc_heap_free(r->first);
	r->first = s->nheaps ? s->heaps[0] : NULL;
	for (size_t i = 1; i < s->nheaps; i++)
		asc_heap_free(s->heaps[i]);
	free(s->heaps);
	s->heaps = NULL;
	s->nheaps = 0;
}

/* CPU time of the process, in ticks of 10 ms or so. */
static uint64_t ticks_of(pid_t pid)
{
	struct asc_proc_stat st;

	return asc_proc_stat(pid, 0, &st) ? 0 : st.utime + st.stime;
}

/* What can be kept of the stop, of a process with @p resident bytes. */
static uint64_t room_of(const struct asc_round *r, uint64_t resident)
{
	const uint64_t less = asc_min(resident / ROOM_SHARE, ROOM_BYTES - ROOM_LEAST);

	return asc_min(resident + GROWTH_BYTES,
		       r->needs & ASC_NEED_WALK ? ROOM_BYTES - less : ROOM_LISTS);
}

/* For what a stop of a process that rests would read, or for as much as most stops can read at all. */
static uint64_t room_wanted(const struct asc_round *r, bool busy)
{
	const uint64_t much = r->needs & ASC_NEED_WALK ? ROOM_BYTES : BUSY_LISTS;

	if (busy || !r->first)
		return much;
	return asc_min(asc_ranges_bytes(&r->lists) + SPARE_BYTES +
			       (r->first->narenas + r->first->nthreads) * SPARE_EACH,
		       much);
}

/* @p begin: of the first reading */
static bool is_busy(const struct asc_round *r, uint64_t ticks, uint64_t begin)
{
	const uint64_t a_tick = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
	const uint64_t ran = (ticks_of(asc_target_pid(r->s->live)) - ticks) * a_tick;

	return ran * BUSY_SHARE > now_ns() - begin;
}

/*
 * With the thread pointers there are tcaches in the first reading, too. That of a thread that runs cannot be
 * known without a stop; if there are few such, they may sleep a moment later.
 */
static struct asc_error *look_at_threads(struct asc_target *live)
{
	const struct timespec nap = { 0, 1000000 };

	for (int tries = 0; tries < LOOKS; tries++) {
		const struct asc_thread *t;
		size_t n, missing = 0;

		if (tries)
			nanosleep(&nap, NULL);
		ASC_TRY(asc_live_look(live));
		t = asc_target_threads(live, &n);
		for (size_t i = 0; i < n; i++)
			missing += !t[i].regs.tp_valid;
		if (!missing || missing > FEW)
			break;
	}
	return NULL;
}

static struct asc_error *before_stops(struct asc_round *r)
{
	struct asc_session *s = r->s;
	const uint64_t begin = now_ns(), ticks = ticks_of(asc_target_pid(s->live));
	uint64_t room;

	ASC_TRY(look_at_threads(s->live));
	if (!r->before)
		ASC_TRY(asc_foresight_new(s->live, &r->before));
	ASC_TRY(asc_round_need_residency(r->before->residency));
	room = room_of(r, asc_resident_bytes(r->before->residency, 0, UINT64_MAX));
	if (s->opts.max_memory)
		room = asc_min(room, s->opts.max_memory / 2);
	ASC_TRY(asc_overlay_new(s->live, r->before->residency, room, &r->overlay));
	ASC_TRY(read_model(r));
	keep_first(r);
	ASC_TRY(asc_round_plan(r));
	asc_overlay_warm(r->overlay, room_wanted(r, is_busy(r, ticks, begin)));
	return NULL;
}

/* ---- after it ---- */

/* A hopeless arena is read as it is now, header and all. */
static void forget_hopeless(struct asc_round *r)
{
	for (size_t i = 0; r->listed && i < r->listed->narenas; i++) {
		const struct asc_arena *a = &r->listed->arenas[i];

		if (!asc_round_is_hopeless(r, a->addr))
			continue;
		asc_overlay_forget(
			r->overlay,
			(struct asc_range){ a->addr, r->listed->libc.malloc_state_size });
		for (size_t k = 0; k < a->nregions; k++)
			asc_overlay_forget(
				r->overlay,
				(struct asc_range){ a->regions[k].start,
						    a->regions[k].end - a->regions[k].start });
	}
}

static void tell(struct asc_round *r, unsigned rounds)
{
	struct asc_provenance *p = &r->s->provenance;

	p->engine = "optimistic";
	p->rounds = rounds;
	p->unverified_bytes = asc_ranges_bytes(&r->changed);
	p->reread_bytes = r->let_go ? 0 : asc_overlay_fresh_bytes(r->overlay);
	p->steady_bytes = r->steady;
}

static struct asc_error *find_changes(struct asc_round *r)
{
	struct asc_error *err;

	asc_vec_free(&r->changed);
	r->changed = (asc_range_vec){ 0 };
	err = asc_overlay_changed(r->overlay, &r->changed.data, &r->changed.len, &r->steady);
	r->changed.cap = r->changed.len;
	asc_ranges_normalise(&r->changed);
	return err;
}

/*
 * The stop has found everything as it was before it. If every page that the first reading has read is
 * the same once more, that reading is the heap of the stop: whoever reads the same bytes in the same
 * order comes to the same model. To compare pages takes half as long as to read their chunks again.
 * @p ret_proven: it is, and has become the session's
 */
static struct asc_error *prove_first(struct asc_round *r, bool *ret_proven)
{
	struct asc_session *s = r->s;
	bool same = false;

	*ret_proven = false;
	if (!r->calm || !(r->needs & ASC_NEED_WALK))
		return NULL;
	ASC_TRY(asc_overlay_compare(r->overlay, &r->but, asc_interrupted, &same, &r->steady));
	if (!same)
		return NULL;
	r->changed.len = 0;
	s->heaps = calloc(1, sizeof(struct asc_heap *));
	if (!s->heaps)
		return asc_err(ASC_ENOMEM, "a heap");
	s->nheaps = 1;
	s->heaps[0] = asc_take(r->first);
	*ret_proven = true;
	return NULL;
}

static struct asc_error *after_stop(struct asc_round *r, unsigned rounds)
{
	struct asc_session *s = r->s;
	bool proven;

	s->provenance.unverified_bytes = 0; /* of an earlier round */
	ASC_TRY(prove_first(r, &proven));
	if (!proven) {
		if (r->let_go)
			asc_overlay_forget(r->overlay, (struct asc_range){ 0, UINT64_MAX });
		else
			forget_hopeless(r);
		ASC_TRY(read_model(r));
		ASC_TRY(find_changes(r));
		ASC_TRY(asc_round_settle(r));
		ASC_TRY(asc_round_doubt(r));
		asc_round_mark(r);
	}
	if (r->let_go)
		asc_session_doubt(s);
	tell(r, rounds);
	return NULL;
}

/* ---- rounds ---- */

/* Another round may read in its stop all that this one could not. */
static bool worth_another(const struct asc_round *r, uint64_t began, uint64_t last)
{
	const uint64_t fits = (uint64_t)ASC_ROUND_STOP_MS << 20; /* 1 GB/s, at the least */
	const uint64_t now = now_ns();

	return r->changed.len && !r->let_go && asc_ranges_bytes(&r->changed) <= 2 * fits &&
	       !asc_interrupted() && now - began + 2 * (now - last) < ROUNDS_MS * 1000000ull;
}

/* What has changed will change again. */
static struct asc_error *heat(struct asc_round *r)
{
	for (size_t i = 0; i < r->changed.len; i++)
		ASC_TRY(asc_vec_push(&r->hot, r->changed.data[i]));
	asc_ranges_normalise(&r->hot);
	return NULL;
}

static struct asc_error *run(struct asc_round *r)
{
	const uint64_t began = now_ns();
	uint64_t last = began;
	struct asc_error *err = before_stops(r);

	for (unsigned n = 1; !err; n++) {
		err = asc_round_stop(r);
		if (!err)
			err = after_stop(r, n);
		if (err || n == ROUNDS || !worth_another(r, began, last))
			break;
		last = now_ns();
		err = heat(r);
		keep_first(r);
		if (!err)
			err = asc_round_plan(r);
	}
	return err;
}

struct asc_error *asc_capture_optimistic_run(struct asc_session *s, unsigned needs,
					     struct asc_foresight *before)
{
	struct asc_round r = { .s = s, .needs = needs, .before = before };
	struct asc_error *err;

	s->pause = (struct asc_pause){ 0 };
	err = run(&r);
	if (!err)
		s->data = asc_take(r.overlay);
	asc_target_close(r.overlay);
	asc_foresight_free(r.before);
	asc_heap_free(r.first);
	asc_heap_free(r.listed);
	asc_vec_free(&r.hopeless);
	asc_vec_free(&r.lists);
	asc_vec_free(&r.but);
	asc_vec_free(&r.hot);
	asc_vec_free(&r.changed);
	return err;
}
