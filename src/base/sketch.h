/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is in one multiset of numbers and not in another, in memory that does not grow with either: the
 * difference is told exactly as long as it is small, however many numbers were put in and taken out again.
 * (An invertible Bloom lookup table, under a secret key: no input can be made to fool it.)
 */
#ifndef ASC_BASE_SKETCH_H
#define ASC_BASE_SKETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arenascope/error.h"

enum { ASC_SKETCH_ROWS = 3, ASC_SKETCH_ROW_BITS = 13, ASC_SKETCH_ROW = 1 << ASC_SKETCH_ROW_BITS };

/* Sums over the numbers that fell here. */
struct asc_sketch_cell {
	uint64_t keys;
	uint32_t n, hashes;
};

struct asc_sketch {
	struct asc_sketch_cell *cells; /* of all rows */
	uint64_t secret[2];
};

/* A number, and how often more it is in the first multiset than in the second. */
struct asc_sketch_item {
	uint64_t key;
	int32_t n;
};

ASC_MUST struct asc_error *asc_sketch_init(struct asc_sketch *s);
/* Another one with the secret of @p like, to be joined to that. */
ASC_MUST struct asc_error *asc_sketch_open(const struct asc_sketch *like, struct asc_sketch *ret);
void asc_sketch_join(struct asc_sketch *s, const struct asc_sketch *other);
void asc_sketch_deinit(struct asc_sketch *s);

static inline uint64_t asc_sketch_hash(const struct asc_sketch *s, uint64_t key)
{
	__extension__ const unsigned __int128 p =
		(unsigned __int128)(key ^ s->secret[0]) * (key + s->secret[1]);

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static inline struct asc_sketch_cell *asc_sketch_at(const struct asc_sketch *s, unsigned row,
						    uint64_t hash)
{
	return &s->cells[row * ASC_SKETCH_ROW +
			 (hash >> (row * ASC_SKETCH_ROW_BITS) & (ASC_SKETCH_ROW - 1))];
}

/* @p key: below 1 << 56. @p hash: asc_sketch_hash() of it. @p n: how often more; it may be less */
static inline void asc_sketch_add(struct asc_sketch *s, uint64_t key, uint64_t hash, int32_t n)
{
	for (unsigned row = 0; row < ASC_SKETCH_ROWS; row++) {
		struct asc_sketch_cell *c = asc_sketch_at(s, row, hash);

		c->n += (uint32_t)n;
		c->keys += (uint64_t)(int64_t)n * key;
		c->hashes += (uint32_t)n * (uint32_t)(hash >> 32);
	}
}

/*
 * The difference, in any order, owned by the caller; the sketch is empty then. @p ret_told: false: it is too
 * large to be told (about 18,000 numbers are not).
 */
ASC_MUST struct asc_error *asc_sketch_take(struct asc_sketch *s, struct asc_sketch_item **ret,
					   size_t *ret_n, bool *ret_told);

#endif
