/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/sketch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/cleanup.h"

enum { CELLS = ASC_SKETCH_ROWS * ASC_SKETCH_ROW, OFTEN_MOST = 64 };

struct asc_error *asc_sketch_init(struct asc_sketch *s)
{
	if (getrandom(s->secret, sizeof(s->secret), 0) != sizeof(s->secret))
		return asc_err_os(errno, "random numbers");
	s->cells = calloc(CELLS, sizeof(*s->cells));
	return s->cells ? NULL : asc_err(ASC_ENOMEM, "%d cells", CELLS);
}

struct asc_error *asc_sketch_open(const struct asc_sketch *like, struct asc_sketch *ret)
{
	*ret = *like;
	ret->cells = calloc(CELLS, sizeof(*ret->cells));
	return ret->cells ? NULL : asc_err(ASC_ENOMEM, "%d cells", CELLS);
}

void asc_sketch_join(struct asc_sketch *s, const struct asc_sketch *other)
{
	for (size_t i = 0; i < CELLS; i++) {
		s->cells[i].keys += other->cells[i].keys;
		s->cells[i].n += other->cells[i].n;
		s->cells[i].hashes += other->cells[i].hashes;
	}
}

void asc_sketch_deinit(struct asc_sketch *s)
{
	free(s->cells);
	*s = (struct asc_sketch){ 0 };
}

/* Is there one number alone in a cell, some times? */
static bool alone(const struct asc_sketch *s, const struct asc_sketch_cell *c,
		  struct asc_sketch_item *ret)
{
	const int32_t n = (int32_t)c->n;
	const int64_t keys = (int64_t)c->keys;

	if (!n || n < -OFTEN_MOST || n > OFTEN_MOST || keys % n)
		return false;
	*ret = (struct asc_sketch_item){ (uint64_t)(keys / n), n };
	return (uint32_t)(asc_sketch_hash(s, ret->key) >> 32) * c->n == c->hashes;
}

static bool empty(const struct asc_sketch *s)
{
	for (size_t i = 0; i < CELLS; i++)
		if (s->cells[i].n || s->cells[i].keys || s->cells[i].hashes)
			return false;
	return true;
}

struct asc_error *asc_sketch_take(struct asc_sketch *s, struct asc_sketch_item **ret, size_t *ret_n,
				  bool *ret_told)
{
	ASC_AUTO(asc_freep) struct asc_sketch_item *v = calloc(CELLS, sizeof(*v));
	size_t n = 0, before;

	if (!v)
		return asc_err(ASC_ENOMEM, "%d numbers", CELLS);
	/* each one that is taken out may leave another one alone */
	do {
		before = n;
		for (size_t i = 0; i < CELLS && n < CELLS; i++) {
			if (!alone(s, &s->cells[i], &v[n]))
				continue;
			asc_sketch_add(s, v[n].key, asc_sketch_hash(s, v[n].key), -v[n].n);
			n++;
		}
	} while (n > before && n < CELLS);
	*ret_told = empty(s);
	*ret_n = n;
	*ret = asc_take(v);
	return NULL;
}
