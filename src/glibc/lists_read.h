/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The lists of one arena: in which way they are read (lists_read.c), and how one is followed (bins.c). */
#ifndef ASC_GLIBC_LISTS_READ_H
#define ASC_GLIBC_LISTS_READ_H

#include "glibc/model.h"

/* How to follow lists. */
struct asc_way {
	bool by_hand;	 /* whatever a sweep has told, or has not */
	uint64_t most;	 /* chunks of bins, beyond which they are not followed */
	uint64_t budget; /* ditto of all lists, beyond which they lead in a circle */
	bool cut;	 /* a list was not followed to its end, though it goes on */
};

/* Follow bin @p bin, and a fastbin: their chunks become members of the arena; what is wrong is a finding. */
ASC_MUST struct asc_error *asc_bin_follow(struct asc_model *m, size_t arena, unsigned bin,
					  struct asc_way *way);
ASC_MUST struct asc_error *asc_fastbin_follow(struct asc_model *m, size_t arena, unsigned bin,
					      struct asc_way *way);

#endif
