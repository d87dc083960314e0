/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Free chunks in one word each, and where those are that do not fit in it. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

static uint64_t units(const struct asc_extents *x, asc_addr addr)
{
	return (addr - x->base) >> x->shift;
}

/* Is @p c behind a large one that begins in the unit of @p key, or behind that by its state? */
static int compare(const struct asc_extents *x, const struct asc_chunk *c, uint64_t key)
{
	uint64_t mine = units(x, c->addr) << ASC_EXTENT_ADDR | (uint64_t)c->state;

	return mine < key ? -1 : mine > key;
}

static struct asc_chunk *large_at(const struct asc_extents *x, uint64_t word)
{
	size_t lo = 0, hi = x->nlarge;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (compare(x, &x->large[mid], word) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < x->nlarge && !compare(x, &x->large[lo], word) ? &x->large[lo] : NULL;
}

struct asc_chunk asc_extent_large(const struct asc_extents *x, uint64_t word)
{
	const struct asc_chunk *c = large_at(x, word);

	return c ? *c
		 : (struct asc_chunk){ .addr = asc_extent_addr(x, word),
				       .state = asc_extent_state(word) };
}

bool asc_extent_pack(const struct asc_extents *x, const struct asc_chunk *c, uint64_t *ret)
{
	uint64_t at = units(x, c->addr), size = c->size >> x->shift, unit = (uint64_t)1 << x->shift;
	bool fits = size && size <= ASC_EXTENT_SIZE_MAX &&
		    !(((c->addr - x->base) | c->size) & (unit - 1));

	*ret = at << ASC_EXTENT_ADDR | (fits ? size << 3 : 0) | (uint64_t)c->state;
	return fits;
}

bool asc_extent_near(const struct asc_extents *x, asc_addr addr)
{
	return addr >= x->base && units(x, addr) >> (64 - ASC_EXTENT_ADDR) == 0;
}

void asc_extents_base(struct asc_extents *x, unsigned word, asc_addr lo, asc_addr hi)
{
	x->shift = word == 8 ? 4 : 3;
	x->base = 0;
	if (!asc_extent_near(x, hi))
		x->base = asc_align_down(lo, (uint64_t)1 << x->shift);
}

static int by_place(const void *a, const void *b)
{
	const struct asc_chunk *x = a, *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return x->state < y->state ? -1 : x->state > y->state;
}

void asc_extents_sort_large(struct asc_extents *x)
{
	asc_sort(x->large, x->nlarge, sizeof(*x->large), by_place);
}

struct asc_error *asc_extents_add_large(struct asc_extents *x, const struct asc_chunk *c)
{
	struct asc_chunk *more;

	/* by doubling, without a word for it: it is full when its length is a power of 2 */
	if (!(x->nlarge & (x->nlarge - 1))) {
		more = reallocarray(x->large, asc_max(2 * x->nlarge, 1), sizeof(*more));
		if (!more)
			return asc_err(ASC_ENOMEM, "%zu large chunks", x->nlarge);
		x->large = more;
	}
	x->large[x->nlarge++] = *c;
	return NULL;
}

struct asc_error *asc_extents_cut(struct asc_extents *x, size_t i, uint64_t size)
{
	struct asc_chunk c = asc_extent_at(x, i), *large = large_at(x, x->v[i]);

	c.size = size;
	if (asc_extent_pack(x, &c, &x->v[i]))
		return NULL;
	if (large) {
		large->size = size;
		return NULL;
	}
	ASC_TRY(asc_extents_add_large(x, &c));
	asc_extents_sort_large(x);
	return NULL;
}
