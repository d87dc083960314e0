/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One hold: top and the bins, as far as a slice goes, and where the next one goes on. A bin is
 * taken up at a chunk whose two neighbours in the list still name it, under the new lock: malloc
 * changes both when it takes a chunk out, so nothing but a member of a list passes. If none of
 * the last few is one any more, the bin is begun again from its head.
 */
#ifndef ASC_ACT_ROUTINE_WALK_H
#define ASC_ACT_ROUTINE_WALK_H

#include "follow.h"

enum {
	LOOK = 64,	/* chunks from one look at the clock to the next */
	PLACES = 8,	/* remembered, LOOK chunks apart */
	FRUITLESS = 32, /* begun anew so often without a new range: then without a limit */
};

/* Where in an arena the next hold goes on. */
struct place {
	uint64_t bin;		/* 0: top */
	uint64_t chunk[PLACES]; /* of that bin, the latest at last % PLACES; 0: none */
	uint64_t last;
	uint64_t steps;	    /* since the bin was begun at its head */
	uint64_t fruitless; /* begun at the head since the last new range */
	uint64_t ranges;    /* p->ranges at the end of the last hold */
};

/* The latest remembered chunk that is a member of a list still. @return 0: none is */
static TEXT uint64_t resume(volatile struct asc_rt_par *p, struct hold *h, struct place *at)
{
	for (uint64_t i = 0; i < PLACES && i < at->last; i++) {
		uint64_t c = at->chunk[(at->last - 1 - i) % PLACES], prev, next;

		if (!is_ours(p, h, c))
			continue;
		prev = word(c + FD);
		next = word(c + BK);
		if (!is_link(p, h, prev) || !is_link(p, h, next) || word(prev + BK) != c ||
		    word(next + FD) != c || !free_chunk(p, h, c, prev))
			continue;
		at->last -= i;
		return c;
	}
	return 0;
}

static void remember(struct place *at, uint64_t chunk)
{
	at->chunk[at->last++ % PLACES] = chunk;
}

static int over(volatile struct asc_rt_par *p, struct hold *h)
{
	return p->table && !h->unmarked && now() - h->began > p->slice_ns;
}

/* @return 1: the slice is over */
static TEXT int walk_bin(volatile struct asc_rt_par *p, struct hold *h, struct place *at)
{
	uint64_t head = header(p, h, at->bin), prev, chunk = resume(p, h, at);
	int resumed = chunk != 0, limited = 1;

	if (resumed) {
		prev = word(chunk + FD);
	} else {
		limited = at->fruitless++ < FRUITLESS;
		at->last = at->steps = 0;
		prev = head;
		chunk = word(head + BK);
	}
	if (!chunk) /* an arena that was never used */
		return 0;
	/* backwards (bk), the order in which the links behind are known */
	for (uint64_t n = 1; chunk != head; n++) {
		uint64_t size;

		/* Begun at a chunk that is in another bin by now, or in a circle that was made and that
		 * nothing but such a chunk leads to: the next hold begins at the head. */
		if (resumed &&
		    (is_header(p, h, chunk) || at->steps++ > h->system_mem / p->min_size)) {
			at->last = 0;
			flush(p, h);
			return 1;
		}
		size = free_chunk(p, h, chunk, prev);
		if (!size) {
			damage(p, chunk);
			return 0;
		}
		p->walked++;
		if (up(chunk + p->chunk_struct, p->granule) <
			    ((chunk + size) & ~(p->granule - 1)) &&
		    release(p, h, chunk + p->chunk_struct, chunk + size)) {
			remember(at, chunk);
			return 1;
		}
		if (n % LOOK == 0) {
			remember(at, chunk);
			if (limited && over(p, h)) {
				flush(p, h);
				return 1;
			}
		}
		prev = chunk;
		chunk = word(chunk + BK);
	}
	return 0;
}

/* Look at top, which bounds everything else. @return 0: this arena has none */
static TEXT int look_at_top(volatile struct asc_rt_par *p, struct hold *h)
{
	uint64_t size;

	h->system_mem = word(h->arena + p->o_system_mem);
	h->top = word(h->arena + p->o_top);
	h->top_end = 0;
	/* not yet used, or the initial top inside the arena itself */
	if (!h->top || (h->top >= h->arena && h->top < h->arena + p->o_bins))
		return 0;
	if (h->top & (2 * WORD - 1) ||
	    (h->arena == p->main_arena ? !mapped(p, h->top) : !in_heap(p, h, h->top, 2 * WORD)))
		goto bad;
	size = word(h->top + WORD) & ~(uint64_t)FLAGS;
	if (size > h->system_mem || h->top + size < h->top ||
	    (h->arena != p->main_arena && !in_heap(p, h, h->top, size)))
		goto bad;
	h->top_end = h->top + size;
	return 1;
bad:
	damage(p, h->top);
	return 0;
}

static void begin_bin(struct place *at, uint64_t bin)
{
	at->bin = bin;
	at->last = at->steps = at->fruitless = 0;
}

/* One hold, going on where the last one ended. @return 1: there is more to do */
static TEXT int one_hold(volatile struct asc_rt_par *p, struct hold *h, struct place *at)
{
	if (!look_at_top(p, h))
		return 0;
	if (at->bin == 0) {
		if (release(p, h, h->top + p->chunk_struct, h->top_end))
			return 1;
		begin_bin(at, UNSORTED);
	}
	while (at->bin <= LAST_LARGE) {
		if (walk_bin(p, h, at))
			return 1;
		begin_bin(at, at->bin == UNSORTED ? FIRST_LARGE : at->bin + 1);
	}
	flush(p, h);
	return 0;
}

#endif
