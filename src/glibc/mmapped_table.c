/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Chunks with a mapping of their own, by address. A word has the page that one begins on, how the chunk
 * is aligned in it (memalign), whether its pages are huge ones, and how many pages there are. Those that
 * are longer than that have no pages there and are in a table beside it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

enum {
	PAGES_BITS = 14,
	HUGE_AT = PAGES_BITS,
	ALIGN_AT,
	ALIGN_BITS = 4,
	START_AT = ALIGN_AT + ALIGN_BITS
};

static const uint64_t PAGES_MAX = (UINT64_C(1) << PAGES_BITS) - 1;
static const unsigned ALIGN_MAX = (1u << ALIGN_BITS) - 1;
static const uint64_t START_MAX = (UINT64_C(1) << (64 - START_AT)) - 1; /* in pages */
static const uint64_t TABLE_MAX = UINT64_C(1) << 31;			/* as n_mmaps */

/* One that begins at the first place that is aligned to malloc's alignment << @p align, and ends with its mapping. */
static struct asc_mmapped shape(const struct asc_heap *h, asc_addr start, uint64_t total,
				unsigned align)
{
	const struct asc_heap_libc *l = &h->libc;
	const asc_addr chunk =
		asc_align_up(start + l->hdr, (uint64_t)l->malloc_alignment << align) - l->hdr;

	return (struct asc_mmapped){ .start = start,
				     .total = total,
				     .chunk = chunk,
				     .size = total - (chunk - start) -
					     (l->mmap_hdr_excluded ? l->hdr : 0u) };
}

struct asc_mmapped asc_mmapped_at(const struct asc_heap *h, size_t i)
{
	const struct asc_mmapped_table *t = &h->mmapped;
	const uint64_t word = t->v[i], pages = word & PAGES_MAX;
	const asc_addr start = (word >> START_AT) * h->page_size;
	struct asc_mmapped c;

	if (!pages)
		return t->odd[ASC_SEEK(t->nodd, k, t->odd[k].start < start)];
	c = shape(h, start, pages * h->page_size, (unsigned)(word >> ALIGN_AT) & ALIGN_MAX);
	c.hugetlb = word >> HUGE_AT & 1;
	return c;
}

/* @return its word, 0: it has none */
static uint64_t pack(const struct asc_heap *h, const struct asc_mmapped *c)
{
	const uint64_t page = c->start / h->page_size, pages = c->total / h->page_size;

	for (unsigned align = 0; align <= ALIGN_MAX && pages <= PAGES_MAX; align++) {
		const struct asc_mmapped s = shape(h, c->start, c->total, align);

		if (s.chunk == c->chunk && s.size == c->size)
			return page << START_AT | (uint64_t)align << ALIGN_AT |
			       (uint64_t)c->hugetlb << HUGE_AT | pages;
	}
	return 0;
}

bool asc_mmapped_next(const struct asc_heap *h, size_t *i, struct asc_mmapped *ret)
{
	const struct asc_mmapped_table *t = &h->mmapped;

	if (t->on_disk && *i && *i % ASC_SPILL_WINDOW == 0)
		asc_spill_drop(t->v, *i - ASC_SPILL_WINDOW, *i);
	if (*i >= t->n)
		return false;
	*ret = asc_mmapped_at(h, (*i)++);
	return true;
}

void asc_mmapped_free(struct asc_mmapped_table *t)
{
	if (t->on_disk)
		asc_spill_unmap(t->v, t->n);
	else
		free(t->v);
	free(t->odd);
}

/* ---- while it grows ---- */

/* The table goes to the file. */
static struct asc_error *move_out(struct asc_model *m, struct asc_mmapped_work *w)
{
	struct asc_mmapped_table *t = &m->h->mmapped;

	ASC_TRY(asc_model_spill(m));
	ASC_TRY(asc_spill_begin(m->spill_fd, TABLE_MAX, &w->spill));
	while (w->spill.cap <= t->n) {
		const size_t at = w->spill.cap;
		struct asc_error *err = asc_spill_grow(&w->spill, m->spill_fd);

		if (err) {
			asc_spill_abandon(&w->spill, m->spill_fd);
			return err;
		}
		memcpy(w->spill.words + at, t->v + at,
		       (asc_min(w->spill.cap, t->n) - at) * sizeof(*t->v));
	}
	m->memory -= asc_min(m->memory, w->cap * sizeof(*t->v));
	free(t->v);
	t->v = w->spill.words;
	t->on_disk = true;
	w->cap = w->spill.cap;
	return NULL;
}

static struct asc_error *grow_in_memory(struct asc_model *m, struct asc_mmapped_work *w, size_t cap)
{
	uint64_t *v = reallocarray(m->h->mmapped.v, cap, sizeof(*v));

	if (!v)
		return asc_err(ASC_ENOMEM, "%zu mmapped chunks", cap);
	m->h->mmapped.v = v;
	w->cap = cap;
	return NULL;
}

/* Room for one more, in memory as long as it may be; and where there is no file, as long as it can be. */
static struct asc_error *grow(struct asc_model *m, struct asc_mmapped_work *w)
{
	const size_t cap = asc_max(w->cap + w->cap / 2, 16);
	const uint64_t more = (cap - w->cap) * sizeof(uint64_t);
	struct asc_error *err;

	if (m->h->mmapped.on_disk) {
		ASC_TRY(asc_spill_grow(&w->spill, m->spill_fd));
		w->cap = w->spill.cap;
		return NULL;
	}
	if (asc_model_account(m, more))
		return grow_in_memory(m, w, cap);
	err = move_out(m, w);
	if (!err || err->code != ASC_ENOMEM || m->memory_max == m->memory_hard)
		return err;
	m->memory_max = m->memory_hard;
	if (!asc_model_account(m, more))
		return err;
	asc_error_free(err);
	return grow_in_memory(m, w, cap);
}

struct asc_error *asc_mmapped_push(struct asc_model *m, struct asc_mmapped_work *w,
				   const struct asc_mmapped *c)
{
	struct asc_mmapped_table *t = &m->h->mmapped;
	const uint64_t page = c->start / m->h->page_size, word = pack(m->h, c);

	if (page > START_MAX)
		return asc_err(ASC_EBUG, "a mapping beyond all addresses");
	if (t->n == w->cap)
		ASC_TRY(grow(m, w));
	if (!word) {
		ASC_TRY(asc_model_need(m, sizeof(*c)));
		ASC_TRY(asc_vec_push(&w->odd, *c));
	}
	t->v[t->n++] = word ? word : page << START_AT;
	return NULL;
}

static int odd_by_start(const void *a, const void *b)
{
	const struct asc_mmapped *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

struct asc_error *asc_mmapped_sort(struct asc_model *m, struct asc_mmapped_work *w, size_t known)
{
	struct asc_mmapped_table *t = &m->h->mmapped;
	size_t n = t->n - known, at = t->n;
	ASC_AUTO(asc_freep) uint64_t *later = malloc((n + 1) * sizeof(*later));

	if (!later)
		return asc_err(ASC_ENOMEM, "%zu mmapped chunks", n);
	memcpy(later, t->v + known, n * sizeof(*later));
	/* a word begins with where its chunk does */
	while (n)
		t->v[--at] = known && t->v[known - 1] > later[n - 1] ? t->v[--known] : later[--n];
	asc_sort(w->odd.data, w->odd.len, sizeof(*w->odd.data), odd_by_start);
	return NULL;
}

void asc_mmapped_reset(struct asc_model *m, struct asc_mmapped_work *w)
{
	m->h->mmapped.n = 0;
	w->odd.len = 0;
}

void asc_mmapped_finish(struct asc_model *m, struct asc_mmapped_work *w)
{
	struct asc_mmapped_table *t = &m->h->mmapped;

	if (t->on_disk) {
		t->v = asc_spill_end(&w->spill, m->spill_fd, t->n);
	} else if (t->n) {
		uint64_t *v = realloc(t->v, t->n * sizeof(*v));

		t->v = v ? v : t->v;
	}
	t->odd = w->odd.data;
	t->nodd = w->odd.len;
}
