/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Does malloc's search through a large bin come to an end? The sizes in a large bin are linked by
 * fd_nextsize, downwards, and bk_nextsize, upwards. _int_malloc goes up from the smallest until one
 * is large enough, and has seen to it that the bin's first chunk is; where it puts a chunk in, it
 * goes down until one is small enough, and the last one is. So the search ends if a chunk as large
 * as the first (as small as the last) is on the way: whatever else is wrong there, be it damage or
 * an operation that is half done, as in any core of a process that is merely busy.
 */
#include "analysis/stuck_priv.h"
#include "glibc/model.h"

enum { FIRST_LARGE = 64, STEPS = 1 << 14 };

struct ring {
	const struct asc_look *look;
	unsigned word, hdr;
};

/* Word @p i of the chunk @p p: 1 size, 2 fd, 3 bk, 4 fd_nextsize, 5 bk_nextsize. */
static bool member(const struct ring *r, asc_addr p, unsigned i, uint64_t *ret)
{
	if (!asc_look_peek(r->look, p + (uint64_t)i * r->word, r->word, ret))
		return false;
	if (i == 1)
		*ret &= ~(uint64_t)7;
	return true;
}

/* From @p first along @p link: is there a circle that has no chunk of @p goal bytes or beyond? */
static bool turns(const struct ring *r, asc_addr first, unsigned link, uint64_t goal)
{
	asc_addr v = first, turtle = 0;
	uint64_t size;

	for (unsigned step = 0, power = 1; step < STEPS; step++) {
		if (!member(r, v, link, &v) || !v || !member(r, v, 1, &size))
			return false;
		if (link == 5 ? size >= goal : size <= goal)
			return false;
		if (v == turtle)
			return true;
		if (step == power) { /* Brent */
			turtle = v;
			power *= 2;
		}
	}
	return false;
}

bool asc_ring_turns(const struct asc_look *look, int arena, asc_addr chunk)
{
	struct ring r = { .look = look };
	uint64_t size, first, last, largest, smallest;
	asc_addr bin;
	unsigned i;

	if (!look->heap || !look->lib || arena < 0 || (size_t)arena >= look->heap->narenas)
		return false;
	r.word = look->heap->libc.word;
	r.hdr = look->heap->libc.hdr;
	if (!member(&r, chunk, 1, &size))
		return false;
	i = asc_bin_index(&look->heap->libc, size);
	if (i < FIRST_LARGE || i >= ASC_NBINS)
		return false;
	bin = asc_bin_at(&look->lib->layout, look->heap->arenas[arena].addr, i);
	if (!member(&r, bin, 2, &first) || !member(&r, bin, 3, &last) || first == bin ||
	    last == bin || !member(&r, first, 1, &largest) || !member(&r, last, 1, &smallest))
		return false;
	return turns(&r, first, 5, largest) || turns(&r, first, 4, smallest);
}
