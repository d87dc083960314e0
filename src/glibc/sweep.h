/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A sweep: one pass over an arena's chunks in address order, at the speed of memory, which keeps
 * what the lists and the walk will ask for. Following a list of a fragmented heap costs a system
 * call a member; the sweep costs one for hundreds.
 *
 * It judges nothing. It keeps what it has seen up to the first header that is not plain, and
 * whatever it has not kept, for want of memory for one, is read from the target as if there were no sweep.
 */
#ifndef ASC_GLIBC_SWEEP_H
#define ASC_GLIBC_SWEEP_H

#include "glibc/model.h"

/* A free chunk, by the P bit of the one behind it. Small: there may be millions. */
struct asc_sweep_node {
	uint16_t at; /* from its block's start, in units of 8 */
	uint16_t raw[2];
	uint16_t fd[3], bk[3];
};

/* A small chunk that looks in use, but begins as a member of a fastbin does. */
struct asc_sweep_fast {
	uint16_t at, raw, fd[3];
};

/* fd_nextsize and bk_nextsize of a large one. */
struct asc_sweep_link {
	uint16_t fd[3], bk[3];
};

struct asc_sweep_block {
	uint32_t node, link, fast; /* the first ones at or behind its start */
};

/* Of one region. */
struct asc_sweep {
	asc_addr first, stop;  /* chunks of [first, stop) were seen */
	bool cut;	       /* there was no room for more free chunks */
	bool cut_fast;	       /* ditto for what looks like members of fastbins */
	ASC_VEC(uint64_t) raw; /* their size words, for a walk */
	ASC_VEC(struct asc_sweep_node) nodes;
	ASC_VEC(struct asc_sweep_link) links;
	ASC_VEC(struct asc_sweep_fast) fast;
	struct asc_sweep_block *blocks;
	size_t nblocks;
};

/* Sweep an arena. Where two threads can read, the second one is ahead with those behind it. */
ASC_MUST struct asc_error *asc_sweep_arena(struct asc_model *m, size_t arena);
/* Called before a list's node is read: sweeps once following the lists turns out to be slower. */
ASC_MUST struct asc_error *asc_sweep_if_slow(struct asc_model *m, size_t arena);
/* A pass has told of its bins in few steps, or has not: then it is swept, if it was not, and they are followed. */
ASC_MUST struct asc_error *asc_sweep_passed(struct asc_model *m, size_t arena, bool told);
/* When to lose patience; before an arena's lists. */
void asc_sweep_expect(struct asc_model *m, size_t arena);
/*
 * The free chunk at @p p as a sweep has seen it: size, fd, bk, and with @p n == 6 fd_nextsize and
 * bk_nextsize (word[1] to word[5]; word[0] is not kept). @return false: it did not
 */
bool asc_sweep_node(const struct asc_model *m, size_t arena, asc_addr p, uint64_t *word, size_t n);
/* The same of a member of a fastbin: size and fd, word[1] and word[2]. */
bool asc_sweep_fast(const struct asc_model *m, size_t arena, asc_addr p, uint64_t *word);
/*
 * Another pass over an arena, which keeps nothing and tells of every free chunk; @p halves: by two threads, if that
 * pays. @p ret_whole: it met no odd header.
 */
struct asc_links;
ASC_MUST struct asc_error *asc_sweep_links(struct asc_model *m, size_t arena, struct asc_links *k,
					   bool halves, bool *ret_whole);
/* Forget what the lists wanted; @p all: also what the walk did, and never sweep that arena again. */
void asc_sweep_drop(struct asc_model *m, size_t arena, bool all);
/* Ends the second thread; before the model goes. */
void asc_sweep_end(struct asc_model *m);

/* ---- sweep.c and sweep_crew.c ---- */

/* One thread at one region. */
struct asc_sweeper {
	struct asc_crew *crew;
	struct asc_model *m; /* the second thread looks only at what does not change any more */
	bool main;
	struct asc_error *err; /* of the caller's progress */
	uint8_t *window;

	size_t arena;
	const struct asc_region *region;
	struct asc_sweep *sweep;
	asc_addr win, win_end, from;
	uint64_t want;
	struct asc_links *links; /* who is told, instead of keeping; NULL: nobody */

	/* of the region before */
	uint64_t bytes;
	size_t nraw, nnodes;
};
ASC_MUST struct asc_error *asc_sweep_region(struct asc_sweeper *r);
/*
 * From the chunk at @p from to that at @p to, UINT64_MAX: the region's end; all is told to r->links. @p ret_whole: every
 * chunk of them was seen
 */
ASC_MUST struct asc_error *asc_sweep_tell(struct asc_sweeper *r, asc_addr from, asc_addr to,
					  bool *ret_whole);
/* Is every one to end? */
bool asc_crew_stops(const struct asc_model *m);
/* A sweeper that keeps nothing, and is not the second thread; window: the caller's. */
struct asc_sweeper asc_crew_sweeper(const struct asc_model *m);
/* @p bytes more were swept. @return false: it is to end here */
bool asc_crew_goes_on(struct asc_sweeper *r, uint64_t bytes);
/* May a table of size words grow by @p bytes? */
bool asc_crew_room(struct asc_sweeper *r, uint64_t bytes);
/*
 * May what is kept for the lists, if @p plain chunks of its region have nothing kept but their size words? What is not kept
 * is read when its list comes to it, or told by a pass.
 */
enum asc_kept { ASC_KEPT_NODES, ASC_KEPT_FAST };
enum { ASC_KEPT_KINDS = 2 };
bool asc_crew_room_for_lists(struct asc_sweeper *r, enum asc_kept what, uint64_t bytes,
			     uint64_t plain);

#endif
