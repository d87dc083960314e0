/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One heap with something of everything, for the tests of the model. */
#ifndef ASC_HEAP_STD_H
#define ASC_HEAP_STD_H

#include "heap_image.h"

struct std_heap {
	struct heap_image *hi;
	struct asc_target *t;
	bool fast, cache;
	/* main arena */
	asc_addr used, used2, small, small2, unsorted, unsorted2, large[4], behind_large, fastc[3],
		cached[3];
	asc_addr behind_small, behind_unsorted, behind_fast, behind_cached;
	/* arena 1: two heaps */
	asc_addr used1, small1, behind_small1, cached1, last1;
	asc_addr mm[3];
};

struct std_heap std_heap(struct hi_shape shape);
/* The same in an image that was begun already. */
struct std_heap std_heap_in(struct heap_image *hi, struct hi_shape shape);
void std_free(struct std_heap *s);
struct asc_heap *std_read(struct std_heap *s, enum asc_depth depth);
/* The finding of @p code at @p addr, or NULL. */
const struct asc_finding *std_finding(const struct asc_heap *h, const char *code, asc_addr addr);
void std_print_findings(const struct asc_heap *h);

#endif
