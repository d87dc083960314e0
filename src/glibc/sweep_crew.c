/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who sweeps what. The lists of an arena need its sweep to be whole, and keep one thread busy; so a
 * second one sweeps the arenas behind it meanwhile, as far as AHEAD bytes beyond the last one whose
 * sweep was wanted, or as many as that one has. Whoever wants one that is not ready sweeps along, a
 * region at a time.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/sweep.h"
#include "target/readers.h"

enum {
	AHEAD = 320 << 20,
	AHEAD_NARROW = 64 << 20,
	AHEAD_MOST = 512 << 20, /* beside a heap that takes as long */
	TWO_READERS = 4 << 20,	/* below that a second thread costs more than it saves */
	BYTES_A_MISS = 16384,	/* read in the time of one system call */
	MANY = 64
	       << 10, /* free chunks, which a pass may tell in less time than following them takes */
	PASSES = 2,   /* as many have told: so will the next ones */
};

/* Of what is kept for lists, where only they are read, and in a walk, where its other tables have left nothing. */
static const uint64_t NODES_BYTES = 12 << 20, FAST_BYTES = 8 << 20, WALK_BYTES = 20 << 20,
		      NARROW_BYTES = 6 << 20;

struct job {
	size_t arena, region;
	uint64_t before; /* bytes of all jobs before it */
};

/* Of an arena's jobs. */
struct state {
	size_t first, n; /* in crew.jobs */
	size_t running, done;
	bool over; /* nobody wants the rest of them any more */
};

struct asc_crew {
	ASC_VEC(struct job) jobs;
	struct state *arenas;
	struct asc_sweeper main, beside;
	bool two;
	pthread_t thread;
	uint64_t told;	/* of bytes, to the caller's progress */
	uint64_t bytes; /* atomic: swept */
	uint64_t taken; /* ditto: bytes of tables that the model has not counted yet */
	uint64_t limit; /* ditto: what they may be */
	uint64_t for_lists[ASC_KEPT_KINDS]; /* ditto: bytes of what is kept for lists */
	bool stop;			    /* ditto */

	pthread_mutex_t lock; /* of what follows, and of arenas[] but for first and n */
	pthread_cond_t moved;
	bool resting;	/* nothing is swept ahead: it would not be looked at */
	size_t next;	/* job that nobody has begun */
	uint64_t up_to; /* the second thread begins none behind as many bytes ... */
	size_t wanted;	/* ... and where there is little memory, none of an arena behind this one */
	struct asc_error *err;
};

bool asc_crew_goes_on(struct asc_sweeper *r, uint64_t bytes)
{
	struct asc_crew *c = r->crew;
	uint64_t swept = __atomic_add_fetch(&c->bytes, bytes, __ATOMIC_RELAXED);

	if (r->main) {
		r->err = asc_model_progress(r->m, swept - c->told);
		c->told = swept;
		if (r->err)
			__atomic_store_n(&c->stop, true, __ATOMIC_RELAXED);
	}
	return !__atomic_load_n(&c->stop, __ATOMIC_RELAXED);
}

bool asc_crew_room(struct asc_sweeper *r, uint64_t bytes)
{
	struct asc_crew *c = r->crew;

	if (!r->m->memory_max)
		return true;
	if (__atomic_add_fetch(&c->taken, bytes, __ATOMIC_RELAXED) <=
	    __atomic_load_n(&c->limit, __ATOMIC_RELAXED))
		return true;
	__atomic_sub_fetch(&c->taken, bytes, __ATOMIC_RELAXED);
	return false;
}

/*
 * For all arenas together. A walk has 16 bytes a chunk and some more for its tables: 8 for each, 8 more for each that
 * is free, so that those of the others are left for a while.
 */
static bool may_keep(struct asc_sweeper *r, enum asc_kept what, uint64_t plain)
{
	const uint64_t *have = r->crew->for_lists;
	const uint64_t nodes = __atomic_load_n(&have[ASC_KEPT_NODES], __ATOMIC_RELAXED),
		       fast = __atomic_load_n(&have[ASC_KEPT_FAST], __ATOMIC_RELAXED);
	const uint64_t max = r->m->memory_max;

	if (r->m->opts->narrow)
		return nodes + fast <= asc_min(max, NARROW_BYTES);
	if (r->m->opts->depth == ASC_DEPTH_WALK)
		return nodes + fast <= asc_min(max, WALK_BYTES + 8 * plain);
	return what == ASC_KEPT_FAST ? fast <= asc_min(max, FAST_BYTES)
				     : nodes <= asc_min(max, NODES_BYTES);
}

bool asc_crew_room_for_lists(struct asc_sweeper *r, enum asc_kept what, uint64_t bytes,
			     uint64_t plain)
{
	uint64_t *have = &r->crew->for_lists[what];

	if (!r->m->memory_max)
		return true;
	__atomic_add_fetch(have, bytes, __ATOMIC_RELAXED);
	if (may_keep(r, what, plain))
		return true;
	__atomic_sub_fetch(have, bytes, __ATOMIC_RELAXED);
	return false;
}

/* Is there room for more than what is wanted now? */
static bool roomy(const struct asc_crew *c)
{
	return c->main.m->opts->depth == ASC_DEPTH_WALK ||
	       __atomic_load_n(&c->for_lists[ASC_KEPT_NODES], __ATOMIC_RELAXED) < NODES_BYTES / 2;
}

/* ---- one job after the other ---- */

/* The job to begin next, or NULL. Under the lock. */
static const struct job *upcoming(struct asc_crew *c)
{
	while (c->next < c->jobs.len && c->arenas[c->jobs.data[c->next].arena].over)
		c->next++;
	return c->next < c->jobs.len ? &c->jobs.data[c->next] : NULL;
}

/* The first error is kept. Under the lock. */
static void fail(struct asc_crew *c, struct asc_error *err)
{
	if (!err)
		return;
	__atomic_store_n(&c->stop, true, __ATOMIC_RELAXED);
	if (c->err)
		asc_error_free(err);
	else
		c->err = err;
}

/* Under the lock, which is let go meanwhile. */
static void do_job(struct asc_sweeper *r, const struct job *j)
{
	struct asc_crew *c = r->crew;
	struct state *s = &c->arenas[j->arena];
	struct asc_error *err;

	c->next++;
	s->running++;
	pthread_mutex_unlock(&c->lock);
	r->arena = j->arena;
	r->region = &r->m->h->arenas[j->arena].regions[j->region];
	r->sweep = &r->m->work[j->arena].sweeps[j->region];
	err = asc_sweep_region(r);
	pthread_mutex_lock(&c->lock);
	s->running--;
	s->done++;
	fail(c, err);
	fail(c, asc_take(r->err));
	pthread_cond_broadcast(&c->moved);
}

static void *work_beside(void *crew)
{
	struct asc_crew *c = crew;

	pthread_mutex_lock(&c->lock);
	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		const struct job *j = upcoming(c);

		if (!j)
			break;
		if (!c->resting && j->before < c->up_to && (j->arena <= c->wanted || roomy(c)))
			do_job(&c->beside, j);
		else
			pthread_cond_wait(&c->moved, &c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- begin and end ---- */

static struct asc_error *add_jobs(struct asc_model *m, size_t arena, uint64_t *bytes)
{
	const struct asc_arena *a = &m->h->arenas[arena];
	struct asc_arena_work *w = &m->work[arena];
	struct asc_crew *c = m->crew;

	w->sweeps = calloc(a->nregions + 1, sizeof(*w->sweeps));
	if (!w->sweeps)
		return asc_err(ASC_ENOMEM, "%zu regions", a->nregions);
	w->nsweeps = a->nregions;
	c->arenas[arena] = (struct state){ .first = c->jobs.len, .n = a->nregions };
	for (size_t i = 0; i < a->nregions; i++) {
		ASC_TRY(asc_vec_push(&c->jobs, ((struct job){ arena, i, *bytes })));
		*bytes += a->regions[i].end - a->regions[i].first;
	}
	return NULL;
}

/* For the arenas from @p first on. */
static struct asc_error *begin(struct asc_model *m, size_t first)
{
	struct asc_crew *c = calloc(1, sizeof(*c));
	uint64_t bytes = 0;

	if (!c)
		return asc_err(ASC_ENOMEM, "a sweep");
	m->crew = c;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->moved, NULL);
	c->main = (struct asc_sweeper){ .crew = c, .m = m, .main = true, .window = m->window };
	c->beside = (struct asc_sweeper){ .crew = c, .m = m };
	c->arenas = calloc(m->h->narenas, sizeof(*c->arenas));
	if (!c->arenas)
		return asc_err(ASC_ENOMEM, "a sweep of %zu arenas", m->h->narenas);
	for (size_t i = first; i < m->h->narenas; i++)
		if (!m->work[i].pieces)
			ASC_TRY(add_jobs(m, i, &bytes));
	if (m->opts->focus || bytes < TWO_READERS || c->jobs.len < 2 ||
	    !asc_target_concurrent(m->t))
		return NULL;
	/* without the memory or the thread for it, one sweeps alone */
	c->beside.window = malloc(ASC_WALK_WINDOW + ASC_CACHE_PAGE);
	c->two = c->beside.window && !pthread_create(&c->thread, NULL, work_beside, c);
	return NULL;
}

static void drop(struct asc_crew *c, struct asc_arena_work *w, bool all)
{
	const bool walk = c->main.m->opts->depth == ASC_DEPTH_WALK;
	uint64_t bytes = 0, fast = 0;

	for (size_t i = 0; i < w->nsweeps; i++) {
		struct asc_sweep *s = &w->sweeps[i];

		fast += s->fast.cap * sizeof(*s->fast.data);
		bytes += s->nodes.cap * sizeof(*s->nodes.data) +
			 s->links.cap * sizeof(*s->links.data) +
			 (s->blocks && !walk ? s->nblocks * sizeof(*s->blocks) : 0);
		asc_vec_free(&s->nodes);
		asc_vec_free(&s->links);
		asc_vec_free(&s->fast);
		free(s->blocks);
		s->blocks = NULL;
		if (all)
			asc_vec_free(&s->raw);
	}
	__atomic_sub_fetch(&c->for_lists[ASC_KEPT_NODES], bytes, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&c->for_lists[ASC_KEPT_FAST], fast, __ATOMIC_RELAXED);
	if (!all)
		return;
	free(w->sweeps);
	w->sweeps = NULL;
	w->nsweeps = w->last_sweep = 0;
	w->swept = false;
}

void asc_sweep_end(struct asc_model *m)
{
	struct asc_crew *c = m->crew;

	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	__atomic_store_n(&c->stop, true, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&c->moved);
	pthread_mutex_unlock(&c->lock);
	if (c->two)
		pthread_join(c->thread, NULL);
	for (size_t i = 0; i < m->nwork; i++)
		drop(c, &m->work[i], true);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->moved);
	asc_error_free(c->err);
	free(c->beside.window);
	asc_vec_free(&c->jobs);
	free(c->arenas);
	free(c);
	m->crew = NULL;
}

void asc_sweep_drop(struct asc_model *m, size_t arena, bool all)
{
	struct asc_crew *c = m->crew;
	struct state *s = c ? &c->arenas[arena] : NULL;

	if (!c || !m->work[arena].sweeps)
		return;
	if (!all && !m->work[arena].swept)
		return; /* it may be at work there; nobody has looked at it */
	pthread_mutex_lock(&c->lock);
	s->over |= all;
	while (s->running)
		pthread_cond_wait(&c->moved, &c->lock);
	pthread_mutex_unlock(&c->lock);
	drop(c, &m->work[arena], all);
	if (!all)
		return;
	/* there may be room for those behind it again */
	pthread_mutex_lock(&c->lock);
	pthread_cond_broadcast(&c->moved);
	pthread_mutex_unlock(&c->lock);
}

/* ---- wanting one ---- */

/* Sweep along until those of @p arena are done. Under the lock. */
static void finish(struct asc_crew *c, size_t arena)
{
	const struct state *s = &c->arenas[arena];

	while (s->done < s->n && !__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		const struct job *j = upcoming(c);

		if (j && (j->arena <= arena || (c->two && j->before < c->up_to && roomy(c))))
			do_job(&c->main, j);
		else
			pthread_cond_wait(&c->moved, &c->lock);
	}
}

/* How far the second thread may be when @p arena is wanted. A region is swept by one thread alone. */
static uint64_t ahead_of(const struct asc_model *m, size_t arena)
{
	const struct state *s = &m->crew->arenas[arena];
	const struct job *last = &m->crew->jobs.data[s->first + s->n - 1];
	const struct asc_region *r = &m->h->arenas[arena].regions[last->region];
	uint64_t size = r->end > r->first ? r->end - r->first : 0;

	if (m->opts->narrow)
		return last->before + size + AHEAD_NARROW;
	return last->before + asc_max(AHEAD, size + asc_min(size, AHEAD_MOST));
}

/* The model counts what the sweep keeps, which has asked for room before. */
static void account(struct asc_model *m, size_t arena)
{
	const struct asc_arena_work *w = &m->work[arena];
	uint64_t bytes = 0;

	for (size_t i = 0; i < w->nsweeps; i++)
		bytes += w->sweeps[i].raw.cap * sizeof(uint64_t);
	m->memory += bytes;
	__atomic_sub_fetch(&m->crew->taken, bytes, __ATOMIC_RELAXED);
}

/* What comes of it for the lists. */
static void conclude(const struct asc_model *m, struct asc_arena_work *w)
{
	size_t nodes = 0;

	for (size_t i = 0; i < w->nsweeps; i++) {
		w->cut |= w->sweeps[i].cut;
		w->cut_fast |= w->sweeps[i].cut_fast;
		nodes += w->sweeps[i].nodes.len;
	}
	w->many = nodes > MANY && !m->lost && m->opts->depth == ASC_DEPTH_LISTS;
}

/* Has nobody begun with it, and will a pass tell of it, too? Then nobody begins. */
static bool leave_it(struct asc_model *m, size_t arena)
{
	struct asc_crew *c = m->crew;
	struct state *s = &c->arenas[arena];
	bool leave;

	if (m->opts->depth != ASC_DEPTH_LISTS || m->passes < PASSES || m->lost)
		return false;
	pthread_mutex_lock(&c->lock);
	leave = !s->running && !s->done;
	s->over |= leave;
	pthread_mutex_unlock(&c->lock);
	return leave;
}

struct asc_error *asc_sweep_arena(struct asc_model *m, size_t arena)
{
	struct asc_arena_work *w = &m->work[arena];
	struct asc_crew *c;
	struct asc_error *err = NULL;

	if (w->swept)
		return NULL;
	if (!m->crew)
		ASC_TRY(begin(m, arena));
	c = m->crew;
	w->swept = true;
	m->sweeps++;
	if (!w->sweeps)
		return NULL; /* in pieces when the others were begun: it is read chunk by chunk */
	w->untold = leave_it(m, arena);
	if (w->untold)
		return NULL;
	__atomic_store_n(&c->limit, m->memory_max - asc_min(m->memory, m->memory_max),
			 __ATOMIC_RELAXED);
	pthread_mutex_lock(&c->lock);
	if (c->arenas[arena].n) {
		c->up_to = asc_max(c->up_to, ahead_of(m, arena));
		c->wanted = asc_max(c->wanted, arena);
		pthread_cond_broadcast(&c->moved);
		finish(c, arena);
		err = asc_take(c->err);
	}
	pthread_mutex_unlock(&c->lock);
	if (!err)
		account(m, arena);
	conclude(m, w);
	return err;
}

/* By this thread alone, whatever became of its jobs. */
static struct asc_error *sweep_now(struct asc_model *m, size_t arena)
{
	struct asc_arena_work *w = &m->work[arena];
	struct asc_sweeper r = m->crew->main;

	for (size_t i = 0; i < w->nsweeps; i++) {
		r.arena = arena;
		r.region = &m->h->arenas[arena].regions[i];
		r.sweep = &w->sweeps[i];
		ASC_TRY(asc_sweep_region(&r));
		ASC_TRY(asc_take(r.err));
	}
	return NULL;
}

struct asc_error *asc_sweep_passed(struct asc_model *m, size_t arena, bool told)
{
	struct asc_arena_work *w = &m->work[arena];
	struct asc_crew *c = m->crew;

	m->passes += told;
	m->lost += !told;
	pthread_mutex_lock(&c->lock);
	c->resting = m->passes >= PASSES && !m->lost;
	pthread_cond_broadcast(&c->moved);
	pthread_mutex_unlock(&c->lock);
	if (told)
		return NULL;
	if (w->untold)
		ASC_TRY(sweep_now(m, arena));
	w->untold = false;
	conclude(m, w);
	return NULL;
}

struct asc_sweeper asc_crew_sweeper(const struct asc_model *m)
{
	return m->crew->main;
}

bool asc_crew_stops(const struct asc_model *m)
{
	return __atomic_load_n(&m->crew->stop, __ATOMIC_RELAXED);
}

uint64_t asc_arena_walk_bytes(const struct asc_model *m, size_t arena)
{
	const struct asc_arena *a = &m->h->arenas[arena];
	uint64_t bytes = 0;

	for (size_t i = 0; i < a->nregions; i++) {
		const struct asc_region *r = &a->regions[i];
		asc_addr end = r->has_top ? a->top : r->end;

		if (m->res && m->res->source != ASC_RESIDENCY_UNKNOWN)
			bytes += asc_resident_bytes(m->res, r->start, end);
		else
			bytes += end > r->start ? end - r->start : 0;
	}
	return bytes;
}

/* Has somebody begun with its sweep? */
static bool begun(const struct asc_model *m, size_t arena)
{
	struct asc_crew *c = m->crew;
	bool yes;

	if (!c || !m->work[arena].sweeps)
		return false;
	pthread_mutex_lock(&c->lock);
	yes = c->arenas[arena].running || c->arenas[arena].done;
	pthread_mutex_unlock(&c->lock);
	return yes;
}

void asc_sweep_expect(struct asc_model *m, size_t arena)
{
	uint64_t misses = asc_arena_walk_bytes(m, arena) / BYTES_A_MISS;

	/* once it has paid, it will again; and where fastbins are that long, other lists may be */
	const uint64_t patience = misses / (m->sweeps || m->lists_long ? 16 : 4);

	m->work[arena].patience = begun(m, arena) ? 0 : m->cache.misses + 32 + patience;
}

struct asc_error *asc_sweep_if_slow(struct asc_model *m, size_t arena)
{
	const struct asc_arena_work *w = &m->work[arena];

	if (w->swept || w->pieces || m->large_only || m->opts->rehearsal || m->opts->stepwise ||
	    m->cache.misses < w->patience)
		return NULL;
	return asc_sweep_arena(m, arena);
}
