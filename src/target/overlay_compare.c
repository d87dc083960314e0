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

		if (n && n->before && n->before != asc_page_digest(bytes, (size_t)t->page_size))
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
	size_t next;  /* atomic: block that nobody has taken */
	bool differs; /* ditto */
	bool (*interrupted)(void);
};

/* @p len bytes of whole pages from @p at on. @return false: one has changed, or cannot be read any more */
static bool compare_range(struct comparison *c, asc_addr at, size_t len, uint8_t *buf)
{
	const size_t size = (size_t)c->o->t.page_size;
	bool same = asc_read_beside(c->o->live, at, buf, len) == len;

	for (size_t i = 0; i < len && same; i += size) {
		struct asc_note *n = asc_notes_at(&c->o->notes, at + i);

		n->after = asc_page_digest(buf + i, size);
		same = n->after == n->before;
	}
	return same;
}

/* Does it have to be compared? Not what was not read, and not what the stop has kept. */
static bool is_wanted(const struct comparison *c, const struct asc_note_block *b, size_t k)
{
	const uint64_t size = c->o->t.page_size, page = (b->nr * ASC_NOTES_BLOCK + k) * size;

	return b->notes[k].before && !asc_overlay_fresh(c->o, page) &&
	       !asc_ranges_touch(c->but, page, page + size);
}

static bool compare_block(struct comparison *c, const struct asc_note_block *b, uint8_t *buf)
{
	const uint64_t size = c->o->t.page_size;
	const size_t most = BUFFER / (size_t)size;
	size_t k = 0;

	while (k < ASC_NOTES_BLOCK) {
		size_t from = k;

		while (k < ASC_NOTES_BLOCK && k - from < most && is_wanted(c, b, k))
			k++;
		if (k > from && !compare_range(c, (b->nr * ASC_NOTES_BLOCK + from) * size,
					       (k - from) * (size_t)size, buf))
			return false;
		if (k == from)
			k++;
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
				      bool (*interrupted)(void), bool *ret_same)
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
	two = n * ASC_NOTES_BLOCK * t->page_size > TWO_READERS && asc_target_concurrent(o->live) &&
	      !pthread_create(&beside, NULL, compare, &c);
	compare(&c);
	if (two)
		pthread_join(beside, NULL);
	*ret_same = !c.differs;
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

	for (size_t i = 0; i < o->notes.cap; i++) {
		const struct asc_note_block *b = o->notes.blocks[i];

		for (size_t k = 0; b && k < ASC_NOTES_BLOCK; k++) {
			const struct asc_note *n = &b->notes[k];
			struct asc_range r = { (b->nr * ASC_NOTES_BLOCK + k) * size, size };
			struct asc_error *err;

			if (!n->after || asc_overlay_fresh(o, r.addr))
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
