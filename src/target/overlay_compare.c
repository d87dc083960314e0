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

bool asc_overlay_is_same(struct asc_target *t, const asc_range_vec *but)
{
	struct overlay *o = (struct overlay *)t;

	if (o->again || o->cut || o->phase != STOPPED)
		return false;
	for (size_t i = 0; i <= o->mask; i++) {
		const uint64_t page = o->slots[i].page;
		const uint8_t *bytes = page == UINT64_MAX ? NULL : asc_overlay_fresh(o, page);
		const struct asc_note_block *b = bytes ? asc_notes_block(&o->notes, page) : NULL;
		const uint64_t was = b ? b->digest[asc_note_index(&o->notes, page)] : 0;

		if (!was || asc_ranges_touch(but, page, page + t->page_size))
			continue;
		if (was != asc_page_digest(&o->notes, bytes))
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
static void mark_kept(struct overlay *o, struct asc_note_block **blocks)
{
	for (size_t i = 0; i < o->notes.nblocks; i++, asc_notes_passed(&o->notes))
		blocks[i]->kept = 0;
	for (size_t i = 0; i <= o->mask; i++) {
		const uint64_t page = o->slots[i].page;
		struct asc_note_block *b = page == UINT64_MAX || o->slots[i].at == UINT64_MAX
						   ? NULL
						   : asc_notes_block(&o->notes, page);

		if (b)
			b->kept |= 1ull << asc_note_index(&o->notes, page);
	}
}

/* A bit a page that has to be compared. Not what was not read, and not what the stop has kept. */
static uint64_t wanted(const struct comparison *c, const struct asc_note_block *b)
{
	const uint64_t size = c->o->t.page_size, first = b->nr * ASC_NOTES_BLOCK * size;
	uint64_t mask = 0;

	for (size_t k = 0; k < ASC_NOTES_BLOCK; k++)
		mask |= (uint64_t)(b->digest[k] != 0) << k;
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
		const uint64_t now = asc_page_digest(&c->o->notes, buf + i * size);

		same = now == b->digest[from + i];
		if (!same) /* it has changed, whatever it is when it is read again */
			asc_note_changed(b, from + i, now);
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
			asc_notes_passed(&c->o->notes);
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
	mark_kept(o, blocks);
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

bool asc_overlay_is_later(struct asc_target *t, asc_addr page)
{
	struct overlay *o = (struct overlay *)t;
	const struct asc_note_block *b = asc_notes_block(&o->notes, page);

	return b && b->later >> asc_note_index(&o->notes, page) & 1 && !asc_overlay_fresh(o, page);
}

/* Those of a block, one behind the other as one. */
static struct asc_error *add_changed(asc_range_vec *v, const struct asc_note_block *b,
				     uint64_t size)
{
	for (uint64_t mask = b->later & b->changed & ~b->kept; mask; mask &= mask - 1) {
		const uint64_t page = b->nr * ASC_NOTES_BLOCK + (unsigned)__builtin_ctzll(mask);
		struct asc_range *last = v->len ? &v->data[v->len - 1] : NULL;

		if (last && last->addr + last->len == page * size)
			last->len += size;
		else
			ASC_TRY(asc_vec_push(v, ((struct asc_range){ page * size, size })));
	}
	return NULL;
}

struct asc_error *asc_overlay_changed(struct asc_target *t, struct asc_range **ret, size_t *ret_n,
				      uint64_t *ret_steady)
{
	struct overlay *o = (struct overlay *)t;
	const size_t n = o->notes.nblocks;
	ASC_AUTO(asc_freep)
	struct asc_note_block **blocks = calloc(n + 1, sizeof(struct asc_note_block *));
	struct asc_error *err = NULL;
	asc_range_vec v = { 0 };
	uint64_t steady = 0;

	if (!blocks)
		return asc_err(ASC_ENOMEM, "%zu blocks of pages", n);
	asc_notes_sorted(&o->notes, blocks);
	mark_kept(o, blocks);
	for (size_t i = 0; i < n && !err; i++, asc_notes_passed(&o->notes)) {
		const struct asc_note_block *b = blocks[i];

		steady += (unsigned)__builtin_popcountll(b->later & ~b->changed & ~b->kept) *
			  t->page_size;
		err = add_changed(&v, b, t->page_size);
	}
	if (err) {
		asc_vec_free(&v);
		return err;
	}
	*ret = v.data;
	*ret_n = v.len;
	*ret_steady = steady;
	return NULL;
}
