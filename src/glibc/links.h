/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The bins of an arena by one pass over its chunks, in address order, for more free chunks than a sweep may keep.
 *
 * Following a list costs a look at memory that is nowhere near for each of its chunks. Which chunks a bin holds is
 * told without that: those that their neighbours call free and whose size is the bin's, if all links of them and
 * of the bin's head fit together, each "fd of p is q" with one "bk of q is p". Whether they do, two sums tell, of
 * the links in one direction and in the other, under a secret key. The unsorted bin holds chunks of all sizes: either it
 * was followed before, or all others were; those chunks are left out.
 *
 * Members of fastbins look in use: links_fast.c tells them from others that look like them.
 *
 * It judges nothing: where anything does not fit, the lists are followed, which tells what is wrong. What it cannot see
 * is a circle of free chunks that no bin leads to, and the order of sizes in large bins; a walk's check sees these.
 */
#ifndef ASC_GLIBC_LINKS_H
#define ASC_GLIBC_LINKS_H

#include "base/sketch.h"
#include "glibc/model.h"

/* A chunk, and one that is linked to, that are not added yet; 0: none. */
struct asc_links_pair {
	asc_addr p, to;
};

/* What the second of two threads finds, until the first one is done with its half. */
struct asc_links_half {
	struct asc_bin bins[ASC_NBINS], fast[ASC_NFASTBINS_MAX];
	struct asc_extents x; /* v is not used: */
	uint64_t *words;      /* the first ones ... */
	size_t cap;
	struct asc_spill spill; /* ... and the others, in a file */
};

struct asc_links {
	struct asc_model *m;
	size_t arena;
	uint64_t key[2];
	unsigned first, last; /* bins that are read; those of the others are known */
	bool fast;	      /* fastbins are read, too */
	uint64_t *known;      /* members that are known already: their words, by address */
	uint64_t *before;     /* the same in their own order */
	size_t nknown;

	/* of a pass */
	struct asc_bin *bins, *fast_bins;
	struct asc_links_half *half; /* NULL: what is found becomes members of the arena */
	size_t at;		     /* in known */
	bool unfit;		     /* it does not fit together */
	bool missed;		     /* two halves did not meet: it has to be made by one thread */
	uint64_t sum[ASC_NBINS];     /* of fd links less those of bk */
	uint64_t sizes;		     /* ditto, of the ring of sizes in large bins */
	struct asc_sketch sketch; /* chunks that look like members, less those that are linked to */
	uint64_t fast_sum[ASC_NFASTBINS_MAX]; /* ditto, hashes of those of each size */
	struct asc_links_pair waiting[ASC_NFASTBINS_MAX];
};

/*
 * Read bins @p first to @p last, of which bin 1, the unsorted one, is read alone, and with @p fast the fastbins; the
 * chunks of what is not read are members already. @p ret_done: false, nothing was changed, and they have to be followed.
 */
ASC_MUST struct asc_error *asc_links_read(struct asc_model *m, size_t arena, unsigned first,
					  unsigned last, bool fast, bool *ret_done);
/* A free chunk at @p p, one after the other. @p word: size word, fd, bk, fd_nextsize, bk_nextsize */
ASC_MUST struct asc_error *asc_links_take(struct asc_links *k, asc_addr p, const uint64_t *word);

/* A chunk that was found. */
ASC_MUST struct asc_error *asc_links_push(struct asc_links *k, asc_addr p, uint64_t size,
					  enum asc_state state);

/* ---- links_half.c ---- */

/* The same pass for another thread. Close it in any case. */
ASC_MUST struct asc_error *asc_links_open_half(const struct asc_links *k, struct asc_links *ret);
/* Both are done: what the second one has found comes behind what the first one has. */
ASC_MUST struct asc_error *asc_links_join_half(struct asc_links *k, struct asc_links *half);
void asc_links_close_half(struct asc_links *half);

/* ---- links_fast.c ---- */

/* A chunk that looks in use, small enough for a fastbin, with size word @p raw; its first word links to @p to. */
ASC_MUST struct asc_error *asc_links_take_fast(struct asc_links *k, asc_addr p, uint64_t raw,
					       asc_addr to);
/* Nothing waits any more. */
void asc_links_flush_fast(struct asc_links *k);
/* The pass is over: who is a member? @p ret_fit: false, it cannot be told so */
ASC_MUST struct asc_error *asc_links_end_fast(struct asc_links *k, bool *ret_fit);
/* Is @p p, which is not before the last one that was asked for, a member already? */
static inline bool asc_links_known(struct asc_links *k, asc_addr p)
{
	const struct asc_extents *x = &k->m->work[k->arena].members;

	while (k->at < k->nknown && asc_extent_addr(x, k->known[k->at]) < p)
		k->at++;
	return k->at < k->nknown && asc_extent_addr(x, k->known[k->at]) == p;
}

#endif
