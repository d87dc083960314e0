/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Members of the free lists by address. Radix sort in place, most significant byte first: there may
 * be millions, and the lists' order is nearly random. Equal and overlapping ones are damage.
 */
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

enum { RADIX = 256, RADIX_BITS = 8, SMALL = 32 };

static void insertion(struct asc_extent *v, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		struct asc_extent e = v[i];
		size_t j = i;

		for (; j && v[j - 1].addr > e.addr; j--)
			v[j] = v[j - 1];
		v[j] = e;
	}
}

/*
 * By the 8 bits from @p shift on; those above are equal in all, and those below @p low. Depth is at
 * most 8.
 */
static void radix(struct asc_extent *v, size_t n, unsigned shift, unsigned low)
{
	size_t count[RADIX] = { 0 }, next[RADIX], end[RADIX], at = 0;

	for (size_t i = 0; i < n; i++)
		count[v[i].addr >> shift & 0xff]++;
	for (size_t b = 0; b < RADIX; b++) {
		next[b] = at;
		at += count[b];
		end[b] = at;
	}
	for (size_t b = 0; b < RADIX; b++) {
		while (next[b] < end[b]) {
			struct asc_extent e = v[next[b]];
			size_t to = e.addr >> shift & 0xff;

			while (to != b) {
				struct asc_extent other = v[next[to]];

				v[next[to]++] = e;
				e = other;
				to = e.addr >> shift & 0xff;
			}
			v[next[b]++] = e;
		}
	}
	for (size_t b = 0; b < RADIX && shift > low; b++) {
		size_t from = end[b] - count[b];

		if (count[b] > SMALL)
			radix(v + from, count[b],
			      shift > low + RADIX_BITS ? shift - RADIX_BITS : low, low);
		else if (count[b] > 1)
			insertion(v + from, count[b]);
	}
}

void asc_extents_sort(struct asc_extent *v, size_t n)
{
	uint64_t differ = 0;
	bool sorted = true;
	unsigned high, low;

	for (size_t i = 1; i < n; i++) {
		differ |= v[i].addr ^ v[0].addr;
		sorted = sorted && v[i - 1].addr <= v[i].addr;
	}
	if (sorted)
		return;
	if (n <= SMALL) {
		insertion(v, n);
		return;
	}
	/* the first pass by bits that all differ: two are enough for a heap of 64 MiB */
	high = 64 - (unsigned)__builtin_clzll(differ);
	low = (unsigned)__builtin_ctzll(differ);
	radix(v, n, high > low + RADIX_BITS ? high - RADIX_BITS : low, low);
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
	enum { WORDS = sizeof(struct asc_extent) / sizeof(uint64_t) };
	size_t had = w->members.len;

	if (!w->spill.words) {
		ASC_TRY(asc_model_spill(m));
		ASC_TRY(asc_spill_begin(m->spill_fd, members_max(m, arena) * WORDS, &w->spill));
	}
	do
		ASC_TRY(asc_spill_grow(&w->spill, m->spill_fd));
	while (w->spill.cap / WORDS <= had);
	if (w->members.data != (void *)w->spill.words) {
		memcpy(w->spill.words, w->members.data, had * sizeof(struct asc_extent));
		m->memory -= asc_min(m->memory, w->members.cap * sizeof(struct asc_extent));
		free(w->members.data);
		w->members.data = (struct asc_extent *)(void *)w->spill.words;
	}
	w->members.cap = w->spill.cap / WORDS;
	return NULL;
}

/* Room for one more, in memory as long as it may be. */
static struct asc_error *grow(struct asc_model *m, struct asc_arena_work *w, size_t arena)
{
	size_t cap = asc_max(w->members.cap + w->members.cap / 2, 16);
	struct asc_extent *data;

	if (w->spill.words ||
	    !asc_model_account(m, (cap - w->members.cap) * sizeof(struct asc_extent)))
		return spill(m, w, arena);
	data = reallocarray(w->members.data, cap, sizeof(*data));
	if (!data)
		return asc_err(ASC_ENOMEM, "%zu free chunks", cap);
	w->members.data = data;
	w->members.cap = cap;
	return NULL;
}

struct asc_error *asc_member_push(struct asc_model *m, size_t arena, asc_addr addr, uint64_t size,
				  enum asc_state state)
{
	struct asc_arena_work *w = &m->work[arena];

	if (w->members.len == w->members.cap)
		ASC_TRY(grow(m, w, arena));
	w->members.data[w->members.len++] = asc_extent_make(addr, size, state);
	return NULL;
}

static bool binned(enum asc_state s)
{
	return s == ASC_UNSORTED || s == ASC_SMALL || s == ASC_LARGE;
}

static struct asc_error *twice(struct asc_model *m, size_t arena, const struct asc_extent *a,
			       const struct asc_extent *b)
{
	enum asc_state s = asc_extent_state(a), u = asc_extent_state(b);
	struct asc_at at = { .arena = (int)arena, .addr = a->addr };

	if (s == ASC_TCACHE && u == ASC_TCACHE)
		return asc_model_find(m, "C-TCACHE-TWICE", at,
				      "the chunk is twice in tcaches: it was freed twice, perhaps "
				      "by two threads");
	if (binned(s) && binned(u))
		return asc_model_find(m, "C-BIN-TWICE", at, "the chunk is in two bins");
	return asc_model_find(m, "C-TWICE", at, "the chunk is free twice: %s and %s; a double free",
			      asc_state_name(s), asc_state_name(u));
}

struct asc_error *asc_members_settle(struct asc_model *m, size_t arena)
{
	asc_extent_vec *v = &m->work[arena].members;
	size_t kept = 0;

	asc_extents_sort(v->data, v->len);
	for (size_t i = 0; i < v->len; i++) {
		struct asc_extent *last = kept ? &v->data[kept - 1] : NULL, e = v->data[i];

		if (last && e.addr == last->addr) {
			ASC_TRY(twice(m, arena, last, &e));
			continue;
		}
		if (last && e.addr < last->addr + asc_extent_size(last)) {
			uint64_t room = e.addr - last->addr;

			ASC_TRY(asc_model_find(
				m, "C-OVERLAP",
				(struct asc_at){ .arena = (int)arena, .addr = last->addr },
				"free chunk of %" PRIu64
				" bytes reaches over the free chunk at 0x%" PRIx64
				": one of the two sizes is damaged",
				asc_extent_size(last), e.addr));
			*last = asc_extent_make(last->addr, room, asc_extent_state(last));
		}
		v->data[kept++] = e;
	}
	v->len = kept;
	return NULL;
}
