/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/ranges.h"

#include <stdlib.h>

#include "base/num.h"

void asc_range_vec_free(asc_range_vec *v)
{
	asc_vec_free(v);
}

static int by_addr(const void *a, const void *b)
{
	const struct asc_range *x = a, *y = b;

	return (x->addr > y->addr) - (x->addr < y->addr);
}

void asc_ranges_normalise(asc_range_vec *v)
{
	size_t m = 0;

	asc_sort(v->data, v->len, sizeof(*v->data), by_addr);
	for (size_t i = 1; i < v->len; i++) {
		struct asc_range *last = &v->data[m], *r = &v->data[i];

		if (r->addr <= last->addr + last->len)
			last->len = asc_max(last->addr + last->len, r->addr + r->len) - last->addr;
		else
			v->data[++m] = *r;
	}
	v->len = v->len ? m + 1 : 0;
}

struct asc_error *asc_ranges_add(asc_range_vec *v, asc_addr lo, asc_addr hi)
{
	struct asc_range r = { lo, hi - lo }, *last = v->len ? &v->data[v->len - 1] : NULL;

	if (hi <= lo)
		return NULL;
	if (last && last->addr <= lo && lo <= last->addr + last->len) {
		last->len = asc_max(last->addr + last->len, hi) - last->addr;
		return NULL;
	}
	return asc_vec_push(v, r);
}

uint64_t asc_ranges_bytes(const asc_range_vec *v)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < v->len; i++)
		sum += v->data[i].len;
	return sum;
}

size_t asc_ranges_seek(const asc_range_vec *v, asc_addr at)
{
	return ASC_SEEK(v->len, i, v->data[i].addr + v->data[i].len <= at);
}

bool asc_ranges_touch(const asc_range_vec *v, asc_addr lo, asc_addr hi)
{
	size_t i = asc_ranges_seek(v, lo);

	return lo < hi && i < v->len && v->data[i].addr < hi;
}

struct asc_error *asc_ranges_subtract(asc_range_vec *v, const asc_range_vec *what)
{
	asc_range_vec left = { 0 };
	struct asc_error *err = NULL;

	for (size_t i = 0; i < v->len && !err; i++) {
		asc_addr at = v->data[i].addr, end = at + v->data[i].len;

		for (size_t k = asc_ranges_seek(what, at);
		     k < what->len && what->data[k].addr < end && !err; k++) {
			err = asc_ranges_add(&left, at, what->data[k].addr);
			at = asc_max(at, what->data[k].addr + what->data[k].len);
		}
		if (!err)
			err = asc_ranges_add(&left, at, end);
	}
	asc_vec_free(v);
	*v = left;
	return err;
}
