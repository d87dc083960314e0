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
 * It judges nothing: where anything does not fit, the lists are followed, which tells what is wrong. What it cannot see
 * is a circle of free chunks that no bin leads to, and the order of sizes in large bins; a walk's check sees these.
 */
#ifndef ASC_GLIBC_LINKS_H
#define ASC_GLIBC_LINKS_H

#include "glibc/model.h"

struct asc_links {
	struct asc_model *m;
	size_t arena;
	uint64_t key[2];
	uint64_t sum[ASC_NBINS]; /* of fd links less those of bk */
	uint64_t sizes;		 /* ditto, of the ring of sizes in large bins */
	bool unsorted;		 /* that bin is read, the others are known */
	asc_addr *known;	 /* chunks of these, by address */
	size_t nknown, at;
	bool unfit; /* they do not fit together */
};

/*
 * Read bin 1, the unsorted one, or all others; the chunks of what is not read are members already. @p ret_done: false,
 * nothing was changed, and they have to be followed.
 */
ASC_MUST struct asc_error *asc_links_read(struct asc_model *m, size_t arena, bool unsorted,
					  bool *ret_done);
/* A free chunk at @p p, one after the other. @p word: size word, fd, bk, fd_nextsize, bk_nextsize */
ASC_MUST struct asc_error *asc_links_take(struct asc_links *k, asc_addr p, const uint64_t *word);

#endif
