/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "heap_std.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void main_arena(struct std_heap *s)
{
	struct heap_image *hi = s->hi;
	uint64_t big = 0x2000;

	hi_thread(hi, 0);
	s->used = hi_chunk(hi, 0, hi_size(hi, 100), ASC_INUSE);
	s->used2 = hi_chunk(hi, 0, hi_size(hi, 112), ASC_INUSE);
	s->small = hi_chunk(hi, 0, hi_size(hi, 200), ASC_SMALL);
	s->behind_small = hi_chunk(hi, 0, hi_size(hi, 48), ASC_INUSE);
	s->small2 = hi_chunk(hi, 0, hi_size(hi, 200), ASC_SMALL);
	hi_chunk(hi, 0, hi_size(hi, 48), ASC_INUSE);
	s->unsorted = hi_chunk(hi, 0, hi_size(hi, 320), ASC_UNSORTED);
	s->behind_unsorted = hi_chunk(hi, 0, hi_size(hi, 64), ASC_INUSE);
	s->unsorted2 = hi_chunk(hi, 0, hi_size(hi, 400), ASC_UNSORTED);
	hi_chunk(hi, 0, hi_size(hi, 64), ASC_INUSE);
	/* one bin, three sizes, two alike */
	for (unsigned i = 0; i < 4; i++) {
		s->large[i] = hi_chunk(hi, 0, big + (i == 3 ? 0 : i * hi_align(hi)), ASC_LARGE);
		s->behind_large = hi_chunk(hi, 0, hi_size(hi, 80), ASC_INUSE);
	}
	for (unsigned i = 0; i < 3 && s->fast; i++)
		s->fastc[i] = hi_chunk(hi, 0, hi_size(hi, 48), ASC_FASTBIN);
	s->behind_fast = hi_chunk(hi, 0, hi_size(hi, 48), ASC_INUSE);
	for (unsigned i = 0; i < 3 && s->cache; i++)
		s->cached[i] = hi_cached(hi, 0, hi_size(hi, 96), 0);
	s->behind_cached = hi_chunk(hi, 0, hi_size(hi, 1000), ASC_INUSE);
}

static void second_arena(struct std_heap *s)
{
	struct heap_image *hi = s->hi;

	hi_arena(hi);
	hi_thread(hi, 1);
	s->used1 = hi_chunk(hi, 1, hi_size(hi, 128), ASC_INUSE);
	s->small1 = hi_chunk(hi, 1, hi_size(hi, 256), ASC_SMALL);
	s->behind_small1 = hi_chunk(hi, 1, hi_size(hi, 3000), ASC_INUSE);
	hi_new_region(hi, 1);
	hi_chunk(hi, 1, hi_size(hi, 5000), ASC_INUSE);
	/* a chunk of this arena in the other thread's cache */
	if (s->cache)
		s->cached1 = hi_cached(hi, 1, hi_size(hi, 160), 0);
	s->last1 = hi_chunk(hi, 1, hi_size(hi, 32), ASC_INUSE);
	hi_arena(hi);
	hi_chunk(hi, 2, hi_size(hi, 700), ASC_INUSE);
}

struct std_heap std_heap(struct hi_shape shape)
{
	return std_heap_in(hi_new(shape.word, shape.big_endian, shape.minor), shape);
}

struct std_heap std_heap_in(struct heap_image *hi, struct hi_shape shape)
{
	struct std_heap s = { .hi = hi };

	s.fast = shape.minor <= 42;
	s.cache = shape.minor >= 26;
	main_arena(&s);
	second_arena(&s);
	s.mm[0] = hi_mmapped(s.hi, 200000, 0, true);
	s.mm[1] = hi_mmapped(s.hi, 150000, 0, false);
	s.mm[2] = hi_mmapped(s.hi, 300000, 4096, true);
	s.t = hi_finish(s.hi);
	return s;
}

void std_free(struct std_heap *s)
{
	hi_free(s->hi);
}

struct asc_heap *std_read(struct std_heap *s, enum asc_depth depth)
{
	struct asc_heap_opts opts = { .depth = depth };
	struct asc_heap *h = NULL;
	struct asc_error *err = asc_heap_read(s->t, hi_libc(s->hi), NULL, &opts, &h);

	if (err) {
		fprintf(stderr, "%s\n", asc_error_text(err));
		abort();
	}
	return h;
}

const struct asc_finding *std_finding(const struct asc_heap *h, const char *code, asc_addr addr)
{
	for (size_t i = 0; i < h->nfindings; i++)
		if (!strcmp(h->findings[i].code, code) && h->findings[i].addr == addr)
			return &h->findings[i];
	return NULL;
}

void std_print_findings(const struct asc_heap *h)
{
	for (size_t i = 0; i < h->nfindings; i++) {
		const struct asc_finding *f = &h->findings[i];

		fprintf(stderr, "  %s %s arena %d 0x%" PRIx64 " prev 0x%" PRIx64 ": %s\n",
			asc_severity_name(f->severity), f->code, f->arena, f->addr, f->prev,
			f->message);
	}
}
