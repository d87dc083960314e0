/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/pagenotes.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <xxhash.h>
#ifdef ASC_XXH_DISPATCH
/* the fastest for the CPU at hand: names the functions anew */
#include <xxh_x86dispatch.h>
#endif

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"

/* ---- the digest ---- */

uint64_t asc_page_digest(const struct asc_notes *s, const uint8_t *page)
{
	uint64_t d = XXH3_64bits_withSecret(page, s->page_size, s->secret, sizeof(s->secret));

	return d > ASC_NOTE_TORN ? d : d + 2;
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

struct asc_note_block *asc_notes_block(const struct asc_notes *s, uint64_t page)
{
	return *block_at(s, page / s->page_size / ASC_NOTES_BLOCK);
}

struct asc_note *asc_notes_at(const struct asc_notes *s, uint64_t page)
{
	struct asc_note_block *b = asc_notes_block(s, page);

	return b ? &b->notes[page / s->page_size % ASC_NOTES_BLOCK] : NULL;
}

/* For @p more blocks. */
static struct asc_error *grow(struct asc_notes *s, size_t more)
{
	struct asc_note_block **old = s->blocks;
	size_t n = s->cap, cap = asc_max(n, 1024);
	struct asc_note_block **v;

	while (cap / 2 < s->nblocks + more)
		cap *= 2;
	if (cap == n)
		return NULL;
	v = calloc(cap, sizeof(struct asc_note_block *));
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
	if (getrandom(s->secret, sizeof(s->secret), 0) != sizeof(s->secret))
		return asc_err_os(errno, "random bytes");
	return grow(s, 0);
}

void asc_notes_deinit(struct asc_notes *s)
{
	for (size_t i = 0; i < s->slabs.len; i++)
		munmap(s->slabs.data[i].v, s->slabs.data[i].n * sizeof(struct asc_note_block));
	asc_vec_free(&s->slabs);
	free(s->blocks);
}

/* All at once in large pages: these are many, and written to while somebody waits. */
static struct asc_error *make_slab(struct asc_notes *s, size_t n)
{
	struct asc_note_slab slab = { .n = n };
	struct asc_error *err;

	slab.v = mmap(NULL, n * sizeof(*slab.v), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slab.v == MAP_FAILED)
		return asc_err(ASC_ENOMEM, "digests of %zu pages", n * ASC_NOTES_BLOCK);
	(void)madvise(slab.v, n * sizeof(*slab.v), MADV_HUGEPAGE); /* only for speed */
	err = asc_vec_push(&s->slabs, slab);
	if (err)
		munmap(slab.v, n * sizeof(*slab.v));
	return err;
}

/* Blocks of @p res that are not there. @p add: put them into the last slab, which has room for them */
static size_t missing(struct asc_notes *s, const struct asc_residency *res, bool add)
{
	const uint64_t bytes = s->page_size * ASC_NOTES_BLOCK;
	struct asc_note_slab *slab = add ? &s->slabs.data[s->slabs.len - 1] : NULL;
	uint64_t next = 0; /* runs are by address, and several are of one block */
	size_t n = 0;

	for (size_t i = 0; i < res->n; i++) {
		uint64_t end = (res->v[i].end - 1) / bytes;

		for (uint64_t nr = asc_max(next, asc_page_run_start(&res->v[i]) / bytes); nr <= end;
		     nr++) {
			struct asc_note_block **at = block_at(s, nr);

			next = nr + 1;
			if (*at)
				continue;
			n++;
			if (!slab)
				continue;
			*at = &slab->v[slab->used++];
			(*at)->nr = nr;
			s->nblocks++;
		}
	}
	return n;
}

struct asc_error *asc_notes_make(struct asc_notes *s, const struct asc_residency *res)
{
	const size_t n = missing(s, res, false);

	if (!n)
		return NULL;
	ASC_TRY(grow(s, n));
	ASC_TRY(make_slab(s, n));
	missing(s, res, true);
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
