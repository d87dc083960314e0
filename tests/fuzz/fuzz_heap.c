/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bytes laid over a valid heap: far deeper than random memory would lead. Input: a byte for the
 * shape, then records of { where: 3 bytes, what: 1, value: 8 } that overwrite a word of some mapping.
 * Whatever comes, the model ends, names an address for each finding, and accounts for every byte.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "heap_std.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static void lay(struct std_heap *s, const uint8_t *r)
{
	const struct asc_maps *maps = asc_target_maps(s->t);
	const struct asc_map *map = &maps->v[r[0] % maps->n];
	uint64_t off = ((uint64_t)r[1] << 8 | r[2]) * hi_word(s->hi) % (map->end - map->start),
		 v = 0;
	asc_addr at = map->start + off;

	memcpy(&v, r + 4, 8);
	switch (r[3] % 5) {
	case 0: /* anything */
		break;
	case 1: /* a place in a heap */
		v = s->used + (v & 0xfff8);
		break;
	case 2: /* a small change */
		v = hi_peek(s->hi, at) + (v & 0x3f) - 0x20;
		break;
	case 3: /* what stands elsewhere */
		v = hi_peek(s->hi, map->start + (v & 0xfff) / 8 * 8);
		break;
	default: /* a bit */
		v = hi_peek(s->hi, at) ^ (uint64_t)1 << (v & 63);
		break;
	}
	hi_poke(s->hi, at, v);
}

static asc_addr end_of(struct asc_chunk c)
{
	return c.addr + c.size;
}

static void check(const struct asc_heap *h)
{
	for (size_t i = 0; i < h->nfindings; i++)
		require(h->findings[i].message && h->findings[i].message[0] && h->findings[i].addr);
	for (size_t i = 0; i < h->narenas; i++) {
		const struct asc_arena *a = &h->arenas[i];

		for (size_t j = 0; j < a->nregions; j++) {
			const struct asc_region *r = &a->regions[j];
			struct asc_chunk_iter it;
			struct asc_chunk c;
			asc_addr last = r->first;

			for (size_t k = 1; k < r->extents.n; k++)
				require(asc_extent_at(&r->extents, k).addr >=
					end_of(asc_extent_at(&r->extents, k - 1)));
			asc_chunk_iter_init(&it, r);
			while (asc_chunk_next(&it, &c)) {
				require(c.addr >= last && c.size && c.size <= r->end - c.addr);
				last = c.addr + c.size;
			}
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum asc_depth depths[] = { ASC_DEPTH_LISTS, ASC_DEPTH_WALK };
	struct std_heap s;

	if (!size)
		return 0;
	s = std_heap(hi_shapes[data[0] % hi_nshapes]);
	for (size_t at = 1; at + 12 <= size && at < 1200; at += 12)
		lay(&s, data + at);
	for (size_t i = 0; i < 2; i++) {
		struct asc_heap_opts opts = { .depth = depths[i], .max_memory = 64 << 20 };
		struct asc_heap *h = NULL;
		struct asc_range *r = NULL;
		struct asc_where w;
		char *text = NULL;
		size_t n = 0;
		struct asc_error *err = asc_heap_read(s.t, hi_libc(s.hi), NULL, &opts, &h);

		if (!err) {
			check(h);
			asc_heap_where(h, s.small + 4, &w);
			asc_error_free(asc_malloc_info(h, &text));
			free(text);
		}
		asc_heap_free(h);
		asc_error_free(err);
		asc_error_free(asc_heap_plan(s.t, hi_libc(s.hi), NULL, depths[i], &r, &n));
		free(r);
	}
	std_free(&s);
	return 0;
}
