/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tables of free chunks made by hand, in storage of the caller's for as many. */
#ifndef ASC_TESTS_EXTENTS_H
#define ASC_TESTS_EXTENTS_H

#include "glibc/model.h"

/* An empty one, of a 64-bit target. */
static inline struct asc_extents packed_in(uint64_t *v, struct asc_chunk *large)
{
	return (struct asc_extents){ .v = v, .large = large, .shift = 4 };
}

static inline void packed_add(struct asc_extents *x, asc_addr addr, uint64_t size,
			      enum asc_state state)
{
	const struct asc_chunk c = { addr, size & ~(uint64_t)7, state };

	if (!asc_extent_pack(x, &c, &x->v[x->n++]))
		x->large[x->nlarge++] = c;
}

#endif
