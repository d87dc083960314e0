/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What an overlay can tell of the pages that were read before a stop: in it, whether those that were kept
 * are as they were; after it, whether all others are, which two threads read once more for, as fast as
 * memory is; and which have changed.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/overlay_priv.h"
#include "target/readers.h"

enum {
	TURN = 16, /* blocks that a thread takes at once: 4 MB */
	TWO_READERS = 4 << 20,
	BUFFER = 256 << 10,
};

bool asc_overlay_is_same(const struct asc_target *t, const asc_range_vec *but)
{
	const struct overlay *o = (const struct overlay *)t;

	if (o->again || o->cut || o->phase != STOPPED)
		return false;
	for (size_t i = 0; i <= o->mask; i++) {
		const uint64_t page = o->slots[i].page;
		const uint8_t *bytes = page == UINT64_MAX ? NULL : asc_overlay_fresh(o, page);
		const struct asc_note *n = bytes ? asc_notes_at(&o->notes, page) : NULL;

		if (n && asc_ranges_touch(but, page, page + t->page_size))
			continue;

		if (n && n->before && n->before != asc_page_digest(&o->notes, bytes))
			return false;
	}
	return true;
}

/* ---- once more ---- */

struct comparison {
	struct overlay *o;
	const asc_range_vec *but;
	struct asc_note_block **blocks; /* by address */
	size_t n;
	size_t next;	 /* atomic: block that nobody has taken */
	uint64_t steady; /* ditto: bytes that are the same */
	bool differs;	 /* ditto */
	bool (*interrupted)(void);
};

/* Say in each block which pages of it the stop has kept. */
static void mark_kept(const struct overlay *o)
{
	const uint64_t size = o->t.page_size;

	for (size_t i = 0; i < o->notes.cap; i++) {
		if (o->notes.blocks[i])
			o->notes.blocks[i]->kept = 0;
	}
	for (size_t i = 0; i <= o->mask; i++) {
		const uint64_t page = o->slots[i].page;
		struct asc_note_block *b = page == UINT64_MAX || o->slots[i].at == UINT64_MAX
						   ? NULL
						   : asc_notes_block(&o->notes, page);

		if (b)
			b->kept |= 1ull << page / size % ASC_NOTES_BLOCK;
	}
}

/* A bit a page that has to be compared. Not what was not read, and not what the stop has kept. */
static uint64_t wanted(const struct comparison *c, const struct asc_note_block *b)
{
	const uint64_t size = c->o->t.page_size, first = b->nr * ASC_NOTES_BLOCK * size;
	uint64_t mask = 0;

	for (size_t k = 0; k < ASC_NOTES_BLOCK; k++)
		mask |= (uint64_t)(b->notes[k].before != 0) << k;
	mask &= ~b->kept;
	if (!mask || !asc_ranges_touch(c->but, first, first + ASC_NOTES_BLOCK * size))
		return mask;
	for (size_t k = 0; k < ASC_NOTES_BLOCK; k++) {
		if (asc_ranges_touch(c->but, first + k * size, first + (k + 1) * size))
			mask &= ~(1ull << k);
	}
	return mask;
}

/* @p n pages from the @p from th on. @return false: one has changed, or cannot be read any more */
static bool compare_pages(struct comparison *c, struct asc_note_block *b, size_t from, size_t n,
			  uint8_t *buf)
{
	const size_t size = (size_t)c->o->t.page_size;
	bool same = asc_read_beside(c->o->live, (b->nr * ASC_NOTES_BLOCK + from) * size, buf,
				    n * size) == n * size;

	for (size_t i = 0; i < n && same; i++) {
		struct asc_note *note = &b->notes[from + i];
		const uint64_t now = asc_page_digest(&c->o->notes, buf + i * size);

		same = now == note->before;
		if (!same)
			note->after =
				now; /* it has changed, whatever it is when it is read again */
	}
	return same;
}

static bool compare_block(struct comparison *c, struct asc_note_block *b, uint8_t *buf)
{
	const size_t most = BUFFER / (size_t)c->o->t.page_size;
	uint64_t mask = wanted(c, b);

	while (mask) {
		const size_t from = (size_t)__builtin_ctzll(mask);
		size_t n = 1;

		while (n < most && from + n < ASC_NOTES_BLOCK && mask >> (from + n) & 1)
			n++;
		if (!compare_pages(c, b, from, n, buf))
			return false;
		__atomic_add_fetch(&c->steady, n * c->o->t.page_size, __ATOMIC_RELAXED);
		mask &= from + n < ASC_NOTES_BLOCK ? UINT64_MAX << (from + n) : 0;
	}
	return true;
}

static void *compare(void *comparison)
{
	struct comparison *c = comparison;
	uint8_t *buf = malloc(BUFFER);

	for (;;) {
		size_t i = __atomic_fetch_add(&c->next, TURN, __ATOMIC_RELAXED), end = i + TURN;

		if (i >= c->n || __atomic_load_n(&c->differs, __ATOMIC_RELAXED))
			break;
		for (bool same = buf != NULL; i < asc_min(end, c->n); i++) {
			same = same && compare_block(c, c->blocks[i], buf);
			if (!same)
				__atomic_store_n(&c->differs, true, __ATOMIC_RELAXED);
		}
		if (c->interrupted && c->interrupted())
			__atomic_store_n(&c->differs, true, __ATOMIC_RELAXED);
	}
	free(buf);
	return NULL;
}

struct asc_error *asc_overlay_compare(struct asc_target *t, const asc_range_vec *but,
				      bool (*interrupted)(void), bool *ret_same,
				      uint64_t *ret_steady)
{
	struct overlay *o = (struct overlay *)t;
	const size_t n = o->notes.nblocks;
	ASC_AUTO(asc_freep)
	struct asc_note_block **blocks = calloc(n + 1, sizeof(struct asc_note_block *));
	struct comparison c = {
		.o = o, .but = but, .blocks = blocks, .n = n, .interrupted = interrupted
	};
	pthread_t beside;
	bool two;

	if (!blocks)
		return asc_err(ASC_ENOMEM, "%zu blocks of pages", n);
	asc_notes_sorted(&o->notes, blocks);
	mark_kept(o);
	two = n * ASC_NOTES_BLOCK * t->page_size > TWO_READERS && asc_target_concurrent(o->live) &&
	      !pthread_create(&beside, NULL, compare, &c);
	compare(&c);
	if (two)
		pthread_join(beside, NULL);
	*ret_same = !c.differs;
	*ret_steady = c.steady;
	return NULL;
}

/* ---- the verdict ---- */

bool asc_overlay_is_later(const struct asc_target *t, asc_addr page)
{
	const struct overlay *o = (const struct overlay *)t;
	const struct asc_note *n = asc_notes_at(&o->notes, page);

	return n && n->after && !asc_overlay_fresh(o, page);
}

static int by_addr(const void *a, const void *b)
{
	const struct asc_range *x = a, *y = b;

	return (x->addr > y->addr) - (x->addr < y->addr);
}

struct asc_error *asc_overlay_changed(const struct asc_target *t, struct asc_range **ret,
				      size_t *ret_n, uint64_t *ret_steady)
{
	const struct overlay *o = (const struct overlay *)t;
	const uint64_t size = t->page_size;
	ASC_VEC(struct asc_range) v = { 0 };
	uint64_t steady = 0;

	mark_kept(o);
	for (size_t i = 0; i < o->notes.cap; i++) {
		const struct asc_note_block *b = o->notes.blocks[i];

		for (size_t k = 0; b && k < ASC_NOTES_BLOCK; k++) {
			const struct asc_note *n = &b->notes[k];
			struct asc_range r = { (b->nr * ASC_NOTES_BLOCK + k) * size, size };
			struct asc_error *err;

			if (!n->after || b->kept >> k & 1)
				continue;
			if (n->after == n->before) {
				steady += size;
				continue;
			}
			err = asc_vec_push(&v, r);
			if (err) {
				asc_vec_free(&v);
				return err;
			}
		}
	}
	asc_sort(v.data, v.len, sizeof(*v.data), by_addr);
	*ret = v.data;
	*ret_n = v.len;
	*ret_steady = steady;
	return NULL;
}
