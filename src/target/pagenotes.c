/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A digest of each page that was read. Where a heap has so many that their table is a burden itself, most
 * of it is in a file without a name: it is read and written by address, more or less, and what was
 * looked at leaves memory. That may happen while others look, for it takes pages out of this process alone.
 */
#include "target/pagenotes.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>
#ifdef ASC_XXH_DISPATCH
/* the fastest for the CPU at hand: names the functions anew */
#include <xxh_x86dispatch.h>
#endif

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/num.h"
#include "base/spill.h"
#include "base/vec.h"

enum {
	IN_MEMORY = 8 << 20, /* bytes */
	DROP_EVERY = 256,    /* blocks */
};

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

void asc_notes_passed(struct asc_notes *s)
{
	if (s->fd < 0 || __atomic_add_fetch(&s->looks, 1, __ATOMIC_RELAXED) % DROP_EVERY)
		return;
	for (size_t i = 0; i < s->slabs.len; i++) {
		const struct asc_note_slab *slab = &s->slabs.data[i];

		if (slab->on_disk)
			(void)madvise(slab->v, slab->n * sizeof(*slab->v), MADV_DONTNEED);
	}
}

struct asc_note_block *asc_notes_block(struct asc_notes *s, uint64_t page)
{
	asc_notes_passed(s);
	return *block_at(s, page / s->page_size / ASC_NOTES_BLOCK);
}

size_t asc_note_index(const struct asc_notes *s, uint64_t page)
{
	return page / s->page_size % ASC_NOTES_BLOCK;
}

void asc_note_changed(struct asc_note_block *b, size_t i, uint64_t digest)
{
	__atomic_store_n(&b->digest[i], digest, __ATOMIC_RELAXED);
	__atomic_or_fetch(&b->later, 1ull << i, __ATOMIC_RELAXED);
	__atomic_or_fetch(&b->changed, 1ull << i, __ATOMIC_RELAXED);
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
		asc_notes_passed(s);
	}
	free(old);
	return NULL;
}

struct asc_error *asc_notes_init(struct asc_notes *s, uint64_t page_size)
{
	const char *hook = asc_test_hook("ARENASCOPE_NOTES");
	uint64_t n;

	s->page_size = page_size;
	s->in_memory_max = IN_MEMORY / sizeof(struct asc_note_block);
	if (hook && asc_parse_u64(hook, &n) && n < s->in_memory_max)
		s->in_memory_max = (size_t)n;
	s->fd = -1;
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
	if (s->page_size && s->fd >= 0)
		close(s->fd);
}

/* @return room for @p n blocks in the file, NULL: there is none */
static void *map_file(struct asc_notes *s, size_t n)
{
	const uint64_t bytes =
		asc_align_up(n * sizeof(struct asc_note_block), (uint64_t)sysconf(_SC_PAGESIZE));
	void *p;

	if (s->fd < 0)
		s->fd = asc_spill_open();
	if (s->fd < 0 || asc_spill_room(s->fd, s->on_disk, bytes))
		return NULL;
	p = mmap(NULL, n * sizeof(struct asc_note_block), PROT_READ | PROT_WRITE, MAP_SHARED, s->fd,
		 s->on_disk);
	if (p == MAP_FAILED)
		return NULL;
	s->on_disk += (int64_t)bytes;
	return p;
}

/* In large pages: these are many, and written to while somebody waits. */
static void *map_memory(size_t n)
{
	const size_t bytes = n * sizeof(struct asc_note_block);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	(void)madvise(p, bytes, MADV_HUGEPAGE); /* only for speed */
	return p;
}

static struct asc_error *make_slab(struct asc_notes *s, size_t n, bool on_disk)
{
	struct asc_note_slab slab = { .n = n, .on_disk = on_disk };
	struct asc_error *err;

	slab.v = on_disk ? map_file(s, n) : NULL;
	slab.on_disk = slab.v != NULL;
	if (!slab.v)
		slab.v = map_memory(n);
	if (!slab.v)
		return asc_err(ASC_ENOMEM, "digests of %zu pages", n * ASC_NOTES_BLOCK);
	err = asc_vec_push(&s->slabs, slab);
	if (err)
		munmap(slab.v, n * sizeof(*slab.v));
	return err;
}

static struct asc_error *make_slabs(struct asc_notes *s, size_t n)
{
	const size_t near = asc_min(n, s->in_memory_max - s->in_memory);

	if (near)
		ASC_TRY(make_slab(s, near, false));
	s->in_memory += near;
	return near < n ? make_slab(s, n - near, true) : NULL;
}

/* Put a block into the first of the new slabs that has room for it. */
static struct asc_note_block *add_block(struct asc_notes *s, uint64_t nr)
{
	struct asc_note_slab *slab = &s->slabs.data[s->slabs.len - 1];
	struct asc_note_block *b;

	if (s->slabs.len > 1 && slab[-1].used < slab[-1].n)
		slab--;
	b = &slab->v[slab->used++];
	b->nr = nr;
	s->nblocks++;
	return b;
}

/* Blocks of @p res that are not there. @p add: put them into the last slabs, which have room for them */
static size_t missing(struct asc_notes *s, const struct asc_residency *res, bool add)
{
	const uint64_t bytes = s->page_size * ASC_NOTES_BLOCK;
	uint64_t next = 0; /* runs are by address, and several are of one block */
	size_t n = 0;

	for (size_t i = 0; i < res->n; i++) {
		uint64_t end = (res->v[i].end - 1) / bytes;

		for (uint64_t nr = asc_max(next, asc_page_run_start(&res->v[i]) / bytes); nr <= end;
		     nr++) {
			struct asc_note_block **at = block_at(s, nr);

			next = nr + 1;
			asc_notes_passed(s);
			n += !*at;
			if (add && !*at)
				*at = add_block(s, nr);
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
	ASC_TRY(make_slabs(s, n));
	missing(s, res, true);
	return NULL;
}

void asc_notes_turn(struct asc_notes *s)
{
	for (size_t i = 0; i < s->slabs.len; i++) {
		struct asc_note_slab *slab = &s->slabs.data[i];

		for (size_t k = 0; k < slab->used; k++, asc_notes_passed(s))
			slab->v[k].later = slab->v[k].changed = 0;
	}
}

/* @p n sorted blocks and those of @p slab, which are sorted, too. */
static void merge(struct asc_notes *s, struct asc_note_block **v, size_t n,
		  const struct asc_note_slab *slab)
{
	for (size_t k = slab->used, to = n + k; k;) {
		const bool above = n && v[n - 1]->nr > slab->v[k - 1].nr;

		v[--to] = above ? v[--n] : &slab->v[--k];
		asc_notes_passed(s);
	}
}

void asc_notes_sorted(struct asc_notes *s, struct asc_note_block **ret)
{
	size_t n = 0;

	for (size_t i = 0; i < s->slabs.len; i++) {
		merge(s, ret, n, &s->slabs.data[i]);
		n += s->slabs.data[i].used;
	}
}
