/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Members of the free lists by address: there may be millions, and the lists' order is nearly random.
 * Radix sort by the address alone, least significant digit first, through other memory of a bounded
 * size; what does not fit there is divided in place first, most significant byte first. Equal and
 * overlapping ones are damage.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

enum {
	RADIX = 256,
	RADIX_BITS = 8,
	SMALL = 32,
	DIGIT_BITS = 9, /* as many places to write to as the first cache has lines for */
	DIGITS = 1 << DIGIT_BITS,
	DIGITS_MIN = 2048,     /* below, dividing in place is as fast */
	SPARE_MAX = 512 << 10, /* words */
};

/* Other memory; n == 0: none. */
struct spare {
	uint64_t *v;
	size_t n;
};

#define unlikely(x) __builtin_expect(!!(x), 0)

static void insertion(uint64_t *v, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		uint64_t e = v[i];
		size_t j = i;

		for (; j && v[j - 1] > e; j--)
			v[j] = v[j - 1];
		v[j] = e;
	}
}

/* Are equal addresses, which only damage has, in order as well? */
static bool sorted(const uint64_t *v, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (v[i - 1] > v[i])
			return false;
	return true;
}

/* By the bits of the address below @p high; those above are equal in all. */
static void by_address(const struct spare *s, uint64_t *v, size_t n, unsigned high)
{
	uint64_t *from = v, *to = s->v;

	for (unsigned at = ASC_EXTENT_ADDR; at < high; at += DIGIT_BITS) {
		size_t next[DIGITS] = { 0 }, sum = 0;
		uint64_t *other = from;

		for (size_t i = 0; i < n; i++)
			next[from[i] >> at & (DIGITS - 1)]++;
		for (size_t d = 0; d < DIGITS; d++) {
			size_t count = next[d];

			next[d] = sum;
			sum += count;
		}
		for (size_t i = 0; i < n; i++)
			to[next[from[i] >> at & (DIGITS - 1)]++] = from[i];
		from = to;
		to = other;
	}
	if (from != v)
		memcpy(v, from, n * sizeof(*v));
}

static void radix(const struct spare *s, uint64_t *v, size_t n, unsigned shift);

/* By the bits below @p high; those above are equal in all. */
static void sort_part(const struct spare *s, uint64_t *v, size_t n, unsigned high)
{
	if (n >= DIGITS_MIN && n <= s->n && high > ASC_EXTENT_ADDR) {
		by_address(s, v, n, high);
		if (sorted(v, n))
			return;
	}
	if (n > SMALL)
		radix(s, v, n, high > RADIX_BITS ? high - RADIX_BITS : 0);
	else
		insertion(v, n);
}

/* By the 8 bits from @p shift on; those above are equal in all. Depth is at most 8. */
static void radix(const struct spare *s, uint64_t *v, size_t n, unsigned shift)
{
	size_t count[RADIX] = { 0 }, next[RADIX], end[RADIX], at = 0;

	for (size_t i = 0; i < n; i++)
		count[v[i] >> shift & 0xff]++;
	for (size_t b = 0; b < RADIX; b++) {
		next[b] = at;
		at += count[b];
		end[b] = at;
	}
	for (size_t b = 0; b < RADIX; b++) {
		while (next[b] < end[b]) {
			uint64_t e = v[next[b]];
			size_t to = e >> shift & 0xff;

			while (to != b) {
				uint64_t other = v[next[to]];

				v[next[to]++] = e;
				e = other;
				to = e >> shift & 0xff;
			}
			v[next[b]++] = e;
		}
	}
	for (size_t b = 0; b < RADIX && shift; b++) {
		if (count[b] > 1)
			sort_part(s, v + end[b] - count[b], count[b], shift);
	}
}

static void sort_words(uint64_t *v, size_t n)
{
	uint64_t differ = 0;
	struct spare s = { 0 };

	if (sorted(v, n))
		return;
	for (size_t i = 1; i < n; i++)
		differ |= v[i] ^ v[0];
	if (n >= DIGITS_MIN) {
		s.n = asc_min(n, SPARE_MAX);
		s.v = malloc(s.n * sizeof(*s.v));
		s.n = s.v ? s.n : 0;
	}
	/* the first pass by bits that all differ */
	sort_part(&s, v, n, 64 - (unsigned)__builtin_clzll(differ));
	free(s.v);
}

void asc_extents_sort(struct asc_extents *x)
{
	sort_words(x->v, x->n);
	asc_extents_sort_large(x);
}

/* More of them than chunks that the arena has room for are in no list: each is there once, or damage. */
static size_t members_max(const struct asc_model *m, size_t arena)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < m->h->arenas[arena].nregions; i++)
		bytes += m->h->arenas[arena].regions[i].end - m->h->arenas[arena].regions[i].start;
	return (size_t)(bytes / m->l->minsize) * 2 + (1 << 20);
}

static struct asc_error *spill(struct asc_model *m, struct asc_arena_work *w, size_t arena)
{
	size_t had = w->members.n;

	if (!w->spill.words) {
		ASC_TRY(asc_model_spill(m));
		ASC_TRY(asc_spill_begin(m->spill_fd, members_max(m, arena), &w->spill));
	}
	do
		ASC_TRY(asc_spill_grow(&w->spill, m->spill_fd));
	while (w->spill.cap <= had);
	if (w->members.v != w->spill.words) {
		memcpy(w->spill.words, w->members.v, had * sizeof(uint64_t));
		m->memory -= asc_min(m->memory, w->members_cap * sizeof(uint64_t));
		free(w->members.v);
		w->members.v = w->spill.words;
	}
	w->members_cap = w->spill.cap;
	return NULL;
}

/* Room for one more, in memory as long as it may be. */
static struct asc_error *grow(struct asc_model *m, struct asc_arena_work *w, size_t arena)
{
	size_t cap = asc_max(w->members_cap + w->members_cap / 2, 16);
	uint64_t *v;

	if (w->spill.words || !asc_model_account(m, (cap - w->members_cap) * sizeof(*v)))
		return spill(m, w, arena);
	v = reallocarray(w->members.v, cap, sizeof(*v));
	if (!v)
		return asc_err(ASC_ENOMEM, "%zu free chunks", cap);
	w->members.v = v;
	w->members_cap = cap;
	return NULL;
}

/* Where its regions are is known by then; pieces are in them. */
static void set_base(struct asc_model *m, struct asc_arena_work *w, size_t arena)
{
	const struct asc_arena *a = &m->h->arenas[arena];

	asc_extents_base(&w->members, m->l->word, a->nregions ? a->regions[0].start : 0,
			 a->nregions ? a->regions[a->nregions - 1].end : 0);
}

struct asc_error *asc_member_push(struct asc_model *m, size_t arena, asc_addr addr, uint64_t size,
				  enum asc_state state)
{
	const struct asc_chunk c = { addr, size & ~(uint64_t)7, state };
	struct asc_arena_work *w = &m->work[arena];
	uint64_t word;

	if (unlikely(w->members.n == w->members_cap)) {
		if (!w->members_cap)
			set_base(m, w, arena);
		ASC_TRY(grow(m, w, arena));
	}
	if (unlikely(!asc_extent_near(&w->members, addr))) {
		m->h->complete = false;
		return asc_model_find(m, "S-EXTENT",
				      (struct asc_at){ .arena = (int)arena, .addr = addr },
				      "a free chunk is too far from the arena's other heaps");
	}
	if (unlikely(!asc_extent_pack(&w->members, &c, &word)))
		ASC_TRY(asc_extents_add_large(&w->members, &c));
	w->members.v[w->members.n++] = word;
	return NULL;
}

static bool binned(enum asc_state s)
{
	return s == ASC_UNSORTED || s == ASC_SMALL || s == ASC_LARGE;
}

static struct asc_error *twice(struct asc_model *m, size_t arena, const struct asc_chunk *a,
			       const struct asc_chunk *b)
{
	struct asc_at at = { .arena = (int)arena, .addr = a->addr };

	if (a->state == ASC_TCACHE && b->state == ASC_TCACHE)
		return asc_model_find(m, "C-TCACHE-TWICE", at,
				      "the chunk is twice in tcaches: it was freed twice, perhaps "
				      "by two threads");
	if (binned(a->state) && binned(b->state))
		return asc_model_find(m, "C-BIN-TWICE", at, "the chunk is in two bins");
	return asc_model_find(m, "C-TWICE", at, "the chunk is free twice: %s and %s; a double free",
			      asc_state_name(a->state), asc_state_name(b->state));
}

static struct asc_error *reaches_over(struct asc_model *m, size_t arena, const struct asc_chunk *a,
				      const struct asc_chunk *b)
{
	return asc_model_find(
		m, "C-OVERLAP", (struct asc_at){ .arena = (int)arena, .addr = a->addr },
		"free chunk of %" PRIu64 " bytes reaches over the free chunk at 0x%" PRIx64
		": one of the two sizes is damaged",
		a->size, b->addr);
}

/* The member at @p i against the last one that was kept. @p ret_drop: it is the same chunk */
static struct asc_error *settle_odd(struct asc_model *m, size_t arena, size_t kept, size_t i,
				    bool *ret_drop)
{
	struct asc_extents *x = &m->work[arena].members;
	struct asc_chunk c = asc_extent_at(x, i), last;

	if (!kept)
		return NULL;
	last = asc_extent_at(x, kept - 1);
	*ret_drop = c.addr == last.addr;
	if (*ret_drop)
		return twice(m, arena, &last, &c);
	if (c.addr >= last.addr + last.size)
		return NULL;
	ASC_TRY(reaches_over(m, arena, &last, &c));
	return asc_extents_cut(x, kept - 1, c.addr - last.addr);
}

struct asc_error *asc_members_settle(struct asc_model *m, size_t arena)
{
	struct asc_extents *x = &m->work[arena].members;
	asc_addr last = UINT64_MAX, end = 0; /* of the last one that was kept */
	size_t kept = 0;

	asc_extents_sort(x);
	for (size_t i = 0; i < x->n; i++) {
		asc_addr addr = asc_extent_addr(x, x->v[i]);
		uint64_t size = asc_extent_size(x, x->v[i]);

		if (unlikely(!size || addr < end || addr == last)) {
			struct asc_chunk c = asc_extent_at(x, i);
			bool drop = false;

			ASC_TRY(settle_odd(m, arena, kept, i, &drop));
			if (drop)
				continue;
			addr = c.addr;
			size = c.size;
		}
		last = addr;
		end = addr + size;
		x->v[kept++] = x->v[i];
	}
	x->n = kept;
	return NULL;
}
