/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The chunk table read back, and which list a size belongs to. */
#include "base/num.h"
#include "glibc/heap.h"
#include "base/spill.h"

void asc_chunk_iter_init(struct asc_chunk_iter *it, const struct asc_region *region)
{
	*it = (struct asc_chunk_iter){ .region = region };
	if (region->nspans)
		it->addr = region->spans[0].start;
}

/* Is there a chunk? @p it goes on to the span that it is in. */
static inline bool is_more(struct asc_chunk_iter *it)
{
	const struct asc_region *r = it->region;

	while (it->span < r->nspans && it->i == r->spans[it->span].n) {
		it->span++;
		it->i = 0;
		if (it->span < r->nspans)
			it->addr = r->spans[it->span].start;
	}
	if (it->span < r->nspans)
		return true;
	if (r->chunks_on_disk)
		asc_spill_passed(r->chunks, r->nchunks, r->nchunks);
	return false;
}

bool asc_chunk_next(struct asc_chunk_iter *it, struct asc_chunk *ret)
{
	const struct asc_region *r = it->region;
	uint64_t word;
	size_t n;

	if (!is_more(it))
		return false;
	n = r->spans[it->span].first + it->i++;
	word = r->chunks[n];
	if (__builtin_expect(r->chunks_on_disk, 0) && n % ASC_SPILL_STEP == 0)
		asc_spill_passed(r->chunks, n, r->nchunks);
	*ret = (struct asc_chunk){ it->addr, word & ~(uint64_t)7, (enum asc_state)(word & 7) };
	it->addr += ret->size;
	return true;
}

const uint64_t *asc_chunk_words(struct asc_chunk_iter *it, size_t *ret_n)
{
	const struct asc_region *r = it->region;
	size_t n;

	if (!is_more(it))
		return NULL;
	n = r->spans[it->span].first + it->i;
	if (r->chunks_on_disk && n % ASC_SPILL_STEP == 0)
		asc_spill_passed(r->chunks, n, r->nchunks);
	*ret_n = asc_min(r->spans[it->span].n - it->i, ASC_SPILL_STEP - n % ASC_SPILL_STEP);
	it->i += *ret_n;
	return &r->chunks[n];
}

unsigned asc_fastbin_index(const struct asc_heap_libc *libc, uint64_t size)
{
	return (unsigned)(size >> (libc->word == 8 ? 4 : 3)) - 2;
}

static unsigned bit_width(uint64_t v)
{
	return v ? 64u - (unsigned)__builtin_clzll(v) : 0;
}

unsigned asc_tcache_index(const struct asc_heap_libc *libc, uint64_t size)
{
	enum { NSMALL = 64 };
	uint64_t max_small = (NSMALL - 1) * (uint64_t)libc->malloc_alignment + libc->minsize;

	if (size < libc->minsize)
		return UINT32_MAX;
	if (size <= max_small)
		return (unsigned)((size - libc->minsize + libc->malloc_alignment - 1) /
				  libc->malloc_alignment);
	/* from 2.42 on: a list for each power of two */
	if (libc->ntcache <= NSMALL)
		return UINT32_MAX;
	return NSMALL + bit_width(size) - bit_width(max_small);
}

/* 32 bits with an alignment of 16: the small bins are one short of twice as wide */
static unsigned correction(const struct asc_heap_libc *libc)
{
	return libc->malloc_alignment > 2u * libc->word ? 1 : 0;
}

uint64_t asc_large_min(const struct asc_heap_libc *libc)
{
	return (64u - correction(libc)) * (uint64_t)libc->malloc_alignment;
}

unsigned asc_bin_index(const struct asc_heap_libc *libc, uint64_t size)
{
	unsigned width = libc->malloc_alignment;

	if (size < asc_large_min(libc))
		return (unsigned)(size / width) + correction(libc);
	if (libc->word == 8) {
		if (size >> 6 <= 48)
			return 48 + (unsigned)(size >> 6);
	} else if (width == 16) {
		if (size >> 6 <= 45)
			return 49 + (unsigned)(size >> 6);
	} else if (size >> 6 <= 38) {
		return 56 + (unsigned)(size >> 6);
	}
	if (size >> 9 <= 20)
		return 91 + (unsigned)(size >> 9);
	if (size >> 12 <= 10)
		return 110 + (unsigned)(size >> 12);
	if (size >> 15 <= 4)
		return 119 + (unsigned)(size >> 15);
	if (size >> 18 <= 2)
		return 124 + (unsigned)(size >> 18);
	return 126;
}

uint64_t asc_usable_size(const struct asc_heap_libc *libc, uint64_t size)
{
	return size > libc->word ? size - libc->word : 0;
}
