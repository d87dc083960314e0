/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Members of the free lists: collected in the order of the lists, in memory or in a file, then sorted by
 * address (extents_sort.c). Equal and overlapping ones are damage.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

#define unlikely(x) __builtin_expect(!!(x), 0)

/* More of them than chunks that the arena has room for are in no list: each is there once, or damage. */
size_t asc_members_max(const struct asc_model *m, size_t arena)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < m->h->arenas[arena].nregions; i++)
		bytes += m->h->arenas[arena].regions[i].end - m->h->arenas[arena].regions[i].start;
	return (size_t)(bytes / m->l->minsize) * 2 + (1 << 20);
}

/* Into the file, never all of them in memory twice. */
static struct asc_error *move_out(struct asc_model *m, struct asc_arena_work *w)
{
	const size_t had = w->members.n;

	while (w->spill.cap <= had) {
		size_t at = w->spill.cap, end;

		ASC_TRY(asc_spill_grow(&w->spill, m->spill_fd));
		end = (size_t)asc_min(w->spill.cap, had);
		memcpy(w->spill.words + at, w->members.v + at, (end - at) * sizeof(uint64_t));
		asc_spill_drop(w->spill.words, at, end);
	}
	m->memory -= asc_min(m->memory, w->members_cap * sizeof(uint64_t));
	free(w->members.v);
	w->members.v = w->spill.words;
	w->members.on_disk = true;
	return NULL;
}

static struct asc_error *spill(struct asc_model *m, struct asc_arena_work *w, size_t arena)
{
	struct asc_error *err;

	if (w->members.on_disk) {
		ASC_TRY(asc_spill_grow(&w->spill, m->spill_fd));
	} else {
		ASC_TRY(asc_model_spill(m));
		ASC_TRY(asc_spill_begin(m->spill_fd, asc_members_max(m, arena), &w->spill));
		err = move_out(m, w);
		if (err) {
			asc_spill_abandon(&w->spill, m->spill_fd);
			return err;
		}
	}
	w->members_cap = w->spill.cap;
	return NULL;
}

/* There is no room on the disk either, but some in memory, that was saved as long as it could be. */
static struct asc_error *move_in(struct asc_model *m, struct asc_arena_work *w, size_t cap,
				 struct asc_error *err)
{
	uint64_t *v;

	if (err->code != ASC_ENOMEM || m->memory_max == m->memory_hard)
		return err;
	m->memory_max = m->memory_hard;
	if (!asc_model_account(m, (cap - (w->members.on_disk ? 0 : w->members_cap)) * sizeof(*v)))
		return err;
	asc_error_free(err);
	if (w->members.on_disk) {
		v = malloc(cap * sizeof(*v));
		if (v)
			memcpy(v, w->members.v, w->members.n * sizeof(*v));
	} else {
		v = reallocarray(w->members.v, cap, sizeof(*v));
	}
	if (!v)
		return asc_err(ASC_ENOMEM, "%zu free chunks", cap);
	asc_spill_abandon(&w->spill, m->spill_fd);
	w->members.v = v;
	w->members.on_disk = false;
	w->members_cap = cap;
	return NULL;
}

/* Room for one more, in memory as long as it may be. */
static struct asc_error *grow(struct asc_model *m, struct asc_arena_work *w, size_t arena)
{
	size_t cap = asc_max(w->members_cap + w->members_cap / 2, 16);
	uint64_t *v;

	if (w->members.on_disk || !asc_model_account(m, (cap - w->members_cap) * sizeof(*v))) {
		struct asc_error *err = spill(m, w, arena);

		return err ? move_in(m, w, cap, err) : NULL;
	}
	v = reallocarray(w->members.v, cap, sizeof(*v));
	if (!v)
		return asc_err(ASC_ENOMEM, "%zu free chunks", cap);
	w->members.v = v;
	w->members_cap = cap;
	return NULL;
}

/* Where its regions are is known by then; pieces are in them. */
void asc_members_base(const struct asc_model *m, size_t arena, struct asc_extents *x)
{
	const struct asc_arena *a = &m->h->arenas[arena];

	asc_extents_base(x, m->l->word, a->nregions ? a->regions[0].start : 0,
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
			asc_members_base(m, arena, &w->members);
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

struct asc_error *asc_member_push_word(struct asc_model *m, size_t arena, uint64_t word)
{
	struct asc_arena_work *w = &m->work[arena];

	if (w->members.n == w->members_cap)
		ASC_TRY(grow(m, w, arena));
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

struct asc_error *asc_members_sort(struct asc_model *m, size_t arena)
{
	struct asc_arena_work *w = &m->work[arena];
	struct asc_error *err;

	if (!w->members.on_disk) {
		asc_extents_sort(&w->members);
		return NULL;
	}
	asc_spill_drop(w->members.v, 0, w->members.n);
	asc_extents_sort_large(&w->members);
	err = asc_words_sort_spilled(&w->spill, m->spill_fd, w->members.n, ASC_SORT_PART);
	w->members.v = w->spill.words;
	w->members_cap = w->spill.cap;
	return err;
}

struct asc_error *asc_members_settle(struct asc_model *m, size_t arena)
{
	struct asc_extents *x = &m->work[arena].members;
	asc_addr last = UINT64_MAX, end = 0; /* of the last one that was kept */
	size_t kept = 0;

	ASC_TRY(asc_members_sort(m, arena));
	for (size_t i = 0; i < x->n; i++) {
		if (unlikely(x->on_disk && i % ASC_SPILL_WINDOW == 0))
			asc_spill_drop(x->v, 0, i);
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
		/* a page that is not written to need not be written out */
		if (kept != i)
			x->v[kept] = x->v[i];
		kept++;
	}
	x->n = kept;
	return NULL;
}
