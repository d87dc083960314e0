/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The chunk walk: a region is a row of chunks, each of which says where the next begins. The lists
 * say which of them are free; both are merged in address order, and each contradiction is a
 * finding.
 *
 * The walk runs at the speed of memory: a window of bytes at a time, one load, one compare chain
 * and one store a chunk. Anything unusual goes to the slow path, odd(). Behind damage the walk goes
 * on at the next chunk that a free list vouches for.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "arch/arch.h"
#include "glibc/walk.h"

enum { INDEX_EVERY = 4096, SMALL_WINDOW = 8192 };

#define unlikely(x) __builtin_expect(!!(x), 0)

static bool is_free(enum asc_state s)
{
	return s == ASC_UNSORTED || s == ASC_SMALL || s == ASC_LARGE;
}

/* Is the page of @p p in memory, and if so up to where? */
static uint64_t present_from(const struct asc_model *m, asc_addr p, uint64_t want)
{
	const struct asc_residency *res = m->res;
	size_t i;

	if (!res || res->source == ASC_RESIDENCY_UNKNOWN)
		return want;
	i = asc_residency_seek(res, p);
	if (i == res->n || asc_page_run_start(&res->v[i]) > p)
		return ASC_CACHE_PAGE;
	while (i + 1 < res->n && asc_page_run_start(&res->v[i + 1]) == res->v[i].end &&
	       res->v[i].end - p < want)
		i++;
	return asc_min(want, res->v[i].end - p);
}

/* Make the header at w->p readable through the window. */
static bool refill(struct asc_walk *w)
{
	asc_addr from = w->p & ~(asc_addr)(ASC_CACHE_PAGE - 1);
	uint64_t want;

	/* far behind the last window: chunks are large here, and few headers are wanted */
	if (from > w->win + w->win_len + ASC_CACHE_PAGE)
		w->win_want = SMALL_WINDOW;
	else
		w->win_want = asc_min(w->win_want * 4, ASC_WALK_WINDOW);
	want = asc_min(w->win_want, asc_align_up(w->end, ASC_CACHE_PAGE) - from);
	want = present_from(w->m, from, want);
	/* a header may lie across the end of what is present */
	want = asc_max(want, w->p - from + 2u * w->m->l->word);
	w->win = from;
	w->win_len = asc_read_some(w->m->t, from, w->m->window, (size_t)want);
	return w->win_len >= w->p - from + 2u * w->m->l->word;
}

/* What there is so far goes to the file, and the rest behind it. */
static struct asc_error *spill(struct asc_walk *w)
{
	struct asc_model *m = w->m;
	uint64_t room = (w->end - w->region->first) / m->l->hdr + w->chunks.len + 2;

	ASC_TRY(asc_model_spill(m));
	ASC_TRY(asc_spill_begin(m->spill_fd, (size_t)room, &w->spill));
	while (w->spill.cap < w->chunks.len + 1) {
		size_t at = w->spill.cap;

		ASC_TRY(asc_spill_grow(&w->spill, m->spill_fd));
		if (at < w->chunks.len)
			memcpy(w->spill.words + at, w->chunks.data + at,
			       (asc_min(w->chunks.len, w->spill.cap) - at) * sizeof(uint64_t));
	}
	m->memory -= asc_min(m->memory, w->chunks.cap * sizeof(uint64_t));
	free(w->chunks.data);
	w->chunks.data = w->spill.words;
	w->chunks.cap = w->spill.cap;
	return NULL;
}

/* Room for one chunk more, in memory as long as it may be. */
static struct asc_error *grow(struct asc_walk *w)
{
	size_t cap = asc_max(w->chunks.cap * 2, 16);
	uint64_t *data;

	if (!w->spill.words && !asc_model_account(w->m, (cap - w->chunks.cap) * sizeof(uint64_t)))
		return spill(w);
	if (w->spill.words) {
		ASC_TRY(asc_spill_grow(&w->spill, w->m->spill_fd));
		w->chunks.cap = w->spill.cap;
		return NULL;
	}
	data = reallocarray(w->chunks.data, cap, sizeof(*data));
	if (!data)
		return asc_err(ASC_ENOMEM, "%zu chunks", cap);
	w->chunks.data = data;
	w->chunks.cap = cap;
	return NULL;
}

struct asc_error *asc_walk_push(struct asc_walk *w, uint64_t size, enum asc_state state)
{
	if (w->keep) {
		if (w->chunks.len % INDEX_EVERY == 0)
			ASC_TRY(asc_vec_push(&w->index, w->p));
		if (w->chunks.len == w->chunks.cap)
			ASC_TRY(grow(w));
		w->chunks.data[w->chunks.len++] = size | state;
	}
	w->n++;
	w->counts[state]++;
	w->bytes[state] += size;
	w->prev = w->p;
	w->prev_size = size;
	w->prev_state = state;
	w->have_prev = true;
	w->p += size;
	return NULL;
}

/* The previous chunk turns out to be something else. */
static void restate(struct asc_walk *w, enum asc_state state)
{
	w->counts[w->prev_state]--;
	w->bytes[w->prev_state] -= w->prev_size;
	w->counts[state]++;
	w->bytes[state] += w->prev_size;
	w->prev_state = state;
	if (w->keep)
		w->chunks.data[w->chunks.len - 1] = w->prev_size | state;
}

static struct asc_error *end_span(struct asc_walk *w, asc_addr end)
{
	struct asc_span s = { w->span_start, end, w->span_first, w->n - w->span_first };

	w->have_prev = false;
	if (s.n == 0 || !w->keep)
		return NULL;
	return asc_vec_push(&w->spans, s);
}

static void begin_span(struct asc_walk *w, asc_addr at)
{
	w->p = w->span_start = at;
	w->span_first = w->n;
}

/* Nothing can be believed at w->p: report, and go on behind it. */
struct asc_error *asc_walk_damage(struct asc_walk *w, const char *code, const char *what,
				  uint64_t raw)
{
	asc_addr at = w->p, next = w->end;

	while (w->member < w->member_end && asc_walk_ahead(w) <= at)
		w->member++;
	if (w->member < w->member_end)
		next = asc_walk_ahead(w);
	w->unwalked += next - at;
	w->m->h->complete = false;
	ASC_TRY(asc_model_find(w->m, code,
			       (struct asc_at){ .arena = (int)w->arena,
						.addr = at,
						.prev = w->have_prev ? w->prev : 0,
						.unwalked = next - at },
			       "%s 0x%" PRIx64 "; %" PRIu64 " bytes from here on were not walked",
			       what, raw, next - at));
	ASC_TRY(end_span(w, at));
	begin_span(w, next);
	return NULL;
}

struct asc_error *asc_walk_skip(struct asc_walk *w, asc_addr next)
{
	while (asc_walk_ahead(w) < next)
		w->member++;
	ASC_TRY(end_span(w, w->p));
	begin_span(w, next);
	return NULL;
}

/* The lists count the chunk before up to the next member (asc_members_settle()): so does the walk. */
static void cut_prev(struct asc_walk *w, asc_addr next)
{
	w->bytes[w->prev_state] -= w->prev_size - (next - w->prev);
	w->prev_size = next - w->prev;
	if (w->keep)
		w->chunks.data[w->chunks.len - 1] = w->prev_size | w->prev_state;
	w->have_prev = false;
	w->p = next;
}

static bool prev_is_member(const struct asc_walk *w)
{
	return w->member && asc_extent_at(w->members, w->member - 1).addr == w->prev;
}

/* The chunk before reaches over the start of a free chunk: take it back and go on at the latter. */
static struct asc_error *overlap(struct asc_walk *w)
{
	asc_addr at = w->prev, next = asc_walk_ahead(w);
	bool counted = prev_is_member(w);
	uint64_t unwalked = counted ? 0 : next - at;

	w->m->h->complete = false;
	ASC_TRY(asc_model_find(
		w->m, "C-SIZE",
		(struct asc_at){ .arena = (int)w->arena, .addr = at, .unwalked = unwalked },
		"size 0x%" PRIx64 " reaches over the free chunk at 0x%" PRIx64
		": the size field was overwritten",
		w->prev_size, next));
	if (counted) {
		cut_prev(w, next);
		return NULL;
	}
	w->counts[w->prev_state]--;
	w->bytes[w->prev_state] -= w->prev_size;
	w->n--;
	if (w->keep) {
		w->chunks.len--;
		if (w->chunks.len % INDEX_EVERY == 0)
			w->index.len--;
	}
	w->unwalked += unwalked;
	ASC_TRY(end_span(w, at));
	begin_span(w, next);
	return NULL;
}

static struct asc_error *find_here(struct asc_walk *w, const char *code, asc_addr addr,
				   asc_addr prev, const char *what, uint64_t value)
{
	return asc_model_find(w->m, code,
			      (struct asc_at){ .arena = (int)w->arena, .addr = addr, .prev = prev },
			      "%s 0x%" PRIx64, what, value);
}

/* What the header at w->p says of the chunk before it. */
struct asc_error *asc_walk_judge(struct asc_walk *w, uint64_t raw, uint64_t prev_size)
{
	bool p = raw & 1, was_free = is_free(w->prev_state);

	if (!w->have_prev) {
		if (w->p == w->region->first && !p)
			return find_here(w, "C-PREV-INUSE", w->p, 0,
					 "the first chunk of a heap says that one before it is "
					 "free, size field",
					 raw);
		return NULL;
	}
	if (p)
		return was_free ? find_here(w, "C-BIN-INUSE", w->p, w->prev,
					    "says that the chunk before it is in use, but that is "
					    "in a bin; size field",
					    raw)
				: NULL;
	if (was_free)
		return prev_size == w->prev_size
			       ? NULL
			       : find_here(w, "C-PREV-SIZE", w->p, w->prev,
					   "\"corrupted size vs. prev_size\": prev_size is",
					   prev_size);
	if (w->prev_state == ASC_FENCE)
		return NULL; /* the second fencepost: the first one has been freed into the rest */
	if (w->prev_state != ASC_INUSE)
		return find_here(w, "C-CACHED-FREE", w->p, w->prev,
				 "says that the chunk before it is free, but that is in a tcache "
				 "or fastbin; size field",
				 raw);
	if (prev_size != w->prev_size)
		return find_here(w, "C-PREV-INUSE", w->p, w->prev,
				 "says that the chunk before it is free, but prev_size does not "
				 "fit it: the size "
				 "field was overwritten (by one zero byte?),",
				 raw);
	restate(w, asc_bin_index(&w->m->h->libc, w->prev_size) < 64 ? ASC_SMALL : ASC_LARGE);
	ASC_TRY(asc_vec_push(&w->unlisted,
			     ((struct asc_chunk){ w->prev, w->prev_size, w->prev_state })));
	if (w->m->work[w->arena].lists_broken)
		return NULL; /* that has been said already */
	return find_here(w, "C-UNLISTED", w->prev, 0,
			 "the chunk is free, but in no bin: a list lost it; size", w->prev_size);
}

/* Flags of the chunk at w->p against where it is. */
static struct asc_error *judge_flags(struct asc_walk *w, uint64_t raw, uint64_t size,
				     enum asc_state state)
{
	bool used = !is_free(state) && state != ASC_TOP, want = used && w->arena != 0;

	if (raw & 2)
		return find_here(w, "C-MMAPPED-FLAG", w->p, w->prev,
				 "the mmapped flag is set on a chunk inside a heap, size field",
				 raw);
	if (used && !!(raw & 4) != want) {
		/* what was too small to be freed before the fencepost stays without the flag */
		if (w->arena && !w->region->has_top &&
		    w->end - (w->p + size) < 2u * w->m->l->minsize)
			return NULL;
		return find_here(
			w, "C-ARENA-FLAG", w->p, w->prev,
			want ? "the arena flag is missing on a chunk of a thread's arena, size "
			       "field"
			     : "the arena flag is set on a chunk of the main arena, size field",
			raw);
	}
	if (state == ASC_TOP && raw & 4)
		return find_here(w, "S-ARENA-FLAG", w->p, w->prev,
				 "the arena flag is set on top, size field", raw);
	return NULL;
}

/* @return true: it is a fencepost, and was dealt with */
static bool fencepost(struct asc_walk *w, uint64_t raw, uint64_t prev_size, struct asc_error **err)
{
	const struct asc_layout *l = w->m->l;
	uint64_t left = w->end - w->p, next, size = raw & ~(uint64_t)7;

	if (size != 0 && size != l->hdr)
		return false;
	if (w->arena == 0)
		return size == l->hdr && asc_walk_main_fence(w, raw, prev_size, err);
	if (w->region->has_top || left > 2u * l->minsize)
		return false;
	if (size == l->hdr && left > l->hdr + 1u * l->word &&
	    asc_model_word(w->m, w->p + l->hdr + l->word, &next) && (next & ~(uint64_t)7) == 0) {
		*err = asc_walk_judge(w, raw, prev_size);
		if (!*err)
			*err = asc_walk_push(w, l->hdr, ASC_FENCE);
		return true;
	}
	if (size != 0)
		return false;
	*err = asc_walk_push(w, left, ASC_FENCE);
	return true;
}

static struct asc_error *take_top(struct asc_walk *w, uint64_t raw, uint64_t prev_size)
{
	uint64_t left = w->end - w->p;

	if (w->have_prev && is_free(w->prev_state))
		ASC_TRY(find_here(w, "C-ADJACENT", w->prev, 0,
				  "a free chunk borders on top without being part of it, size",
				  w->prev_size));
	ASC_TRY(asc_walk_judge(w, raw | 1, prev_size));
	ASC_TRY(judge_flags(w, raw, raw & ~(uint64_t)7, ASC_TOP));
	return asc_walk_push(w, left, ASC_TOP);
}

static enum asc_state member_state(const struct asc_walk *w)
{
	return asc_extent_state(w->members->v[w->member]);
}

/* The slow path: everything that can be said of the header at w->p, the usual included. */
static struct asc_error *odd(struct asc_walk *w, uint64_t raw, uint64_t prev_size)
{
	const struct asc_model *m = w->m;
	uint64_t size = raw & ~(uint64_t)7;
	enum asc_state state = ASC_INUSE;
	struct asc_error *err = NULL;

	while (asc_walk_ahead(w) < w->p) {
		if (w->have_prev && asc_walk_ahead(w) > w->prev)
			return overlap(w);
		w->member++;
	}
	if (asc_walk_ahead(w) == w->p && member_state(w) == ASC_FENCE)
		w->member++;
	if (w->region->has_top && w->p == m->h->arenas[w->arena].top) {
		w->member = w->member_end;
		return take_top(w, raw, prev_size);
	}
	if (fencepost(w, raw, prev_size, &err))
		return err;
	if (size < m->l->minsize || size & m->align_mask || size > w->end - w->p)
		return asc_walk_damage(w, "C-SIZE", "the size field cannot be:", raw);
	if (asc_walk_ahead(w) == w->p) {
		state = member_state(w);
		w->member++;
	}
	ASC_TRY(asc_walk_judge(w, raw, prev_size));
	if (is_free(state) && w->have_prev && is_free(w->prev_state))
		ASC_TRY(find_here(w, "C-ADJACENT", w->p, w->prev,
				  "two free chunks side by side, size", size));
	ASC_TRY(judge_flags(w, raw, size, state));
	return asc_walk_push(w, size, state);
}

/*
 * From w->p as far as the window goes and nothing unusual comes. @return true: w->p needs odd().
 * Usual is: a possible size, the right flags, and the P bit of the state of the chunk before.
 */
static inline __attribute__((__always_inline__)) bool run(struct asc_walk *w, unsigned word,
							  bool be, bool swept)
{
	const uint8_t *win = w->m->window;
	const uint64_t *in = w->swept + w->at_swept, *in_end = w->swept + w->nswept;
	const uint64_t align = w->m->align_mask, minsize = w->m->l->minsize,
		       used = w->arena ? 4 : 0;
	const asc_addr base = w->win, end = w->end;
	uint64_t *out = w->chunks.data + w->chunks.len, *out_end = w->chunks.data + w->chunks.cap;
	asc_addr p = w->p, prev = w->prev;
	/* a free chunk ends at the next header: 1 or 0 by its state */
	uint64_t prev_size = w->prev_size, prev_inuse = !is_free(w->prev_state), n = w->n;
	enum asc_state prev_state = w->prev_state;
	asc_addr member = asc_walk_ahead(w);
	const asc_addr last = w->win_len >= 2 * word ? base + w->win_len - 2 * word : 0;
	bool stop = false;

	if (!w->have_prev || !w->keep)
		return true;
	while (p < end && (swept ? in < in_end : p <= last)) {
		const uint8_t *b = win + (swept ? 0 : p - base);
		uint64_t raw = swept ? *in : asc_load_word(b + word, word, be),
			 size = raw & ~(uint64_t)7;
		enum asc_state state = ASC_INUSE;

		stop = true;
		if (unlikely(size & align || size < minsize || size > end - p || p > member ||
			     (raw & 1) != prev_inuse || out == out_end || n % INDEX_EVERY == 0))
			break;
		/* a sweep has looked at that */
		if (!swept && !(raw & 1) && unlikely(asc_load_word(b, word, be) != prev_size))
			break;
		if (p == member) {
			state = member_state(w);
			if (unlikely(state == ASC_TOP || state == ASC_FENCE ||
				     (is_free(state) && !prev_inuse)))
				break;
			if (unlikely((raw & 6) != (is_free(state) ? 0 : used)))
				break;
			w->member++;
			member = asc_walk_ahead(w);
			prev_inuse = !is_free(state);
		} else {
			if (unlikely((raw & 6) != used))
				break;
			prev_inuse = 1;
		}
		stop = false;
		in += swept;
		*out++ = size | state;
		w->counts[state]++;
		w->bytes[state] += size;
		n++;
		prev = p;
		prev_size = size;
		prev_state = state;
		p += size;
	}
	w->chunks.len = (size_t)(out - w->chunks.data);
	w->at_swept = (size_t)(in - w->swept);
	w->n = n;
	w->p = p;
	w->prev = prev;
	w->prev_size = prev_size;
	w->prev_state = prev_state;
	return stop;
}

static bool run_any(struct asc_walk *w)
{
	bool be = asc_target_arch(w->m->t)->big_endian;

	if (w->m->l->word == 8)
		return be ? run(w, 8, true, false) : run(w, 8, false, false);
	return be ? run(w, 4, true, false) : run(w, 4, false, false);
}

/*
 * What a sweep has read, as long as it and the walk agree where the next chunk is. Of a chunk that
 * is free the sweep has made sure that prev_size behind it is its size.
 */
static struct asc_error *walk_swept(struct asc_walk *w)
{
	while (w->at_swept < w->nswept) {
		uint64_t raw;
		asc_addr next;

		run(w, 8, false, true);
		if (w->at_swept == w->nswept)
			break;
		raw = w->swept[w->at_swept++];
		next = w->p + (raw & ~(uint64_t)7);
		ASC_TRY(odd(w, raw, w->have_prev ? w->prev_size : 0));
		if (w->p != next)
			break;
	}
	w->nswept = 0;
	return NULL;
}

/* Walk [w->p, w->end). */
struct asc_error *asc_walk(struct asc_walk *w)
{
	const unsigned word = w->m->l->word;
	asc_addr told;

	begin_span(w, w->p);
	ASC_TRY(walk_swept(w));
	told = w->p;
	w->win_len = 0;
	w->win = w->p;
	w->win_want = SMALL_WINDOW;
	while (w->p < w->end) {
		const uint8_t *b;

		if (w->p < w->win || w->p - w->win + 2 * word > w->win_len) {
			if (!refill(w)) {
				ASC_TRY(asc_walk_damage(w, "C-UNREADABLE",
							"memory is not readable at", w->p));
				continue;
			}
			ASC_TRY(asc_model_progress(w->m, w->p - told));
			told = w->p;
		}
		if (!run_any(w))
			continue;
		b = w->m->window + (w->p - w->win);
		ASC_TRY(odd(w, asc_word_at(w->m->t, b + word), asc_word_at(w->m->t, b)));
	}
	return end_span(w, w->end);
}

void asc_walk_deinit(struct asc_walk *w)
{
	if (w->spill.words) {
		asc_spill_unmap(w->spill.words, w->spill.max);
		w->chunks.data = NULL;
	}
	asc_vec_free(&w->chunks);
	asc_vec_free(&w->spans);
	asc_vec_free(&w->index);
	asc_vec_free(&w->unlisted);
}
