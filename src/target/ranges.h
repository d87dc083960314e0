/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sets of addresses: ranges that are sorted and apart from each other, once asc_ranges_normalise() was called. */
#ifndef ASC_TARGET_RANGES_H
#define ASC_TARGET_RANGES_H

#include "arenascope/target.h"
#include "base/vec.h"

typedef ASC_VEC(struct asc_range) asc_range_vec;

void asc_range_vec_free(asc_range_vec *v);
void asc_ranges_normalise(asc_range_vec *v);
/* [lo, hi) behind what is there, or joined to the last. An empty one is not added. */
ASC_MUST struct asc_error *asc_ranges_add(asc_range_vec *v, asc_addr lo, asc_addr hi);
uint64_t asc_ranges_bytes(const asc_range_vec *v);
/* The first that ends behind @p at; v->len: none. */
size_t asc_ranges_seek(const asc_range_vec *v, asc_addr at);
bool asc_ranges_touch(const asc_range_vec *v, asc_addr lo, asc_addr hi);
/* Take away from @p v what is in @p what; both are normalised. */
ASC_MUST struct asc_error *asc_ranges_subtract(asc_range_vec *v, const asc_range_vec *what);

#endif
