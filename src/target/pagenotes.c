/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/pagenotes.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"

/* ---- the digest ---- */

static uint64_t mix(uint64_t a, uint64_t b)
{
	a = (a ^ b) * 0x9fb21c651e98df25u;
	return a << 29 | a >> 35;
}

/*
 * In each lane every step can be undone, so that no change of one word is lost. Eight names, not an array:
 * that is in registers whatever the compiler thinks of loops (16 GB/s against 6).
 */
uint64_t asc_page_digest(const uint8_t *p, size_t n)
{
	uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8, sum = n;

	for (const uint8_t *end = p + n; end - p >= 64; p += 64) {
		a = mix(a, asc_load_u64(p));
		b = mix(b, asc_load_u64(p + 8));
		c = mix(c, asc_load_u64(p + 16));
		d = mix(d, asc_load_u64(p + 24));
		e = mix(e, asc_load_u64(p + 32));
		f = mix(f, asc_load_u64(p + 40));
		g = mix(g, asc_load_u64(p + 48));
		h = mix(h, asc_load_u64(p + 56));
	}
	sum = mix(mix(mix(mix(sum, a), b), c), d);
	sum = mix(mix(mix(mix(sum, e), f), g), h);
	return sum > ASC_NOTE_TORN ? sum : ASC_NOTE_TORN + 1;
}

size_t asc_page_hash(uint64_t nr)
{
	return (size_t)(nr * 0x9e3779b97f4a7c15u >> 20);
}

/* ---- the table ---- */

static struct asc_note_block **block_at(const struct asc_notes *s, uint64_t nr)
{
	size_t h = asc_page_hash(nr) & (s->cap - 1);

	while (s->blocks[h] && s->blocks[h]->nr != nr)
		h = (h + 1) & (s->cap - 1);
	return &s->blocks[h];
}

struct asc_note *asc_notes_at(const struct asc_notes *s, uint64_t page)
{
	uint64_t nr = page / s->page_size;
	struct asc_note_block *b = *block_at(s, nr / ASC_NOTES_BLOCK);

	return b ? &b->notes[nr % ASC_NOTES_BLOCK] : NULL;
}

static struct asc_error *grow(struct asc_notes *s)
{
	struct asc_note_block **old = s->blocks;
	size_t n = s->cap, cap = asc_max(2 * n, 1024);
	struct asc_note_block **v = calloc(cap, sizeof(struct asc_note_block *));

	if (!v)
		return asc_err(ASC_ENOMEM, "digests of %zu pages", cap * ASC_NOTES_BLOCK);
	s->blocks = v;
	s->cap = cap;
	for (size_t i = 0; i < n; i++) {
		if (old[i])
			*block_at(s, old[i]->nr) = old[i];
	}
	free(old);
	return NULL;
}

struct asc_error *asc_notes_init(struct asc_notes *s, uint64_t page_size)
{
	s->page_size = page_size;
	return grow(s);
}

void asc_notes_deinit(struct asc_notes *s)
{
	for (size_t i = 0; i < s->cap; i++)
		free(s->blocks[i]);
	free(s->blocks);
}

static struct asc_error *make_block(struct asc_notes *s, uint64_t nr)
{
	struct asc_note_block **at, *b;

	if (s->nblocks * 2 >= s->cap)
		ASC_TRY(grow(s));
	at = block_at(s, nr);
	if (*at)
		return NULL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return asc_err(ASC_ENOMEM, "digests of pages");
	b->nr = nr;
	*at = b;
	s->nblocks++;
	return NULL;
}

struct asc_error *asc_notes_make(struct asc_notes *s, const struct asc_residency *res)
{
	const uint64_t bytes = s->page_size * ASC_NOTES_BLOCK;

	for (size_t i = 0; i < res->n; i++) {
		uint64_t end = (res->v[i].end - 1) / bytes;

		for (uint64_t nr = asc_page_run_start(&res->v[i]) / bytes; nr <= end; nr++)
			ASC_TRY(make_block(s, nr));
	}
	return NULL;
}

void asc_notes_turn(struct asc_notes *s)
{
	for (size_t i = 0; i < s->cap; i++) {
		struct asc_note_block *b = s->blocks[i];

		for (size_t k = 0; b && k < ASC_NOTES_BLOCK; k++) {
			if (b->notes[k].after)
				b->notes[k] = (struct asc_note){ b->notes[k].after, 0 };
		}
	}
}

static int by_nr(const void *a, const void *b)
{
	const struct asc_note_block *x = *(struct asc_note_block *const *)a;
	const struct asc_note_block *y = *(struct asc_note_block *const *)b;

	return (x->nr > y->nr) - (x->nr < y->nr);
}

void asc_notes_sorted(const struct asc_notes *s, struct asc_note_block **ret)
{
	size_t n = 0;

	for (size_t i = 0; i < s->cap; i++) {
		if (s->blocks[i])
			ret[n++] = s->blocks[i];
	}
	asc_sort(ret, n, sizeof(struct asc_note_block *), by_nr);
}
