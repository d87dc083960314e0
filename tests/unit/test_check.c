/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Damage of every kind, on heaps of every shape: each must be named with its code and the right
 * address, and whatever is not behind the damage must still be reported.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "base/num.h"
#include "heap_std.h"

struct damage {
	const char *name;
	const char *code; /* expected */
	/* does it, and says where the finding must be; 0: not possible in this shape */
	asc_addr (*apply)(struct std_heap *s);
};

static uint64_t size_of(struct std_heap *s, asc_addr c)
{
	return hi_peek(s->hi, c + hi_word(s->hi)) & ~(uint64_t)7;
}

static asc_addr size_at(struct std_heap *s, asc_addr c)
{
	return c + hi_word(s->hi);
}

static asc_addr poke_size(struct std_heap *s, asc_addr c, uint64_t raw)
{
	hi_poke(s->hi, size_at(s, c), raw);
	return c;
}

static asc_addr link_at(struct std_heap *s, asc_addr c, unsigned word)
{
	return c + word * hi_word(s->hi);
}

static asc_addr arena_field(struct std_heap *s, size_t arena, struct asc_field f, uint64_t v)
{
	hi_poke_int(s->hi, hi_arena_addr(s->hi, arena) + f.off, f.size, v);
	return hi_arena_addr(s->hi, arena);
}

static const struct asc_layout *layout(struct std_heap *s)
{
	return &hi_libc(s->hi)->layout;
}

/* ---- headers ---- */

static asc_addr zero_size(struct std_heap *s)
{
	return poke_size(s, s->behind_large, 0);
}

static asc_addr text_over_size(struct std_heap *s)
{
	return poke_size(s, s->behind_small, hi_word(s->hi) == 8 ? 0x4141414141414141 : 0x41414141);
}

static asc_addr unaligned_size(struct std_heap *s)
{
	/* a half of what chunks are aligned to; where that is 8, the bits below are flags: too
	 * small */
	uint64_t size = hi_align(s->hi) == 16 ? hi_size(s->hi, 48) + 8 : 8;

	return poke_size(s, s->behind_fast, size | 1);
}

static asc_addr size_over_free_chunk(struct std_heap *s)
{
	return poke_size(s, s->used2, (size_of(s, s->used2) + hi_align(s->hi)) | 1);
}

/* Its list counts it up to the other one, and so must the walk. */
static asc_addr free_size_over_free_chunk(struct std_heap *s)
{
	asc_addr lower = asc_min(s->large[0], s->large[1]),
		 upper = asc_max(s->large[0], s->large[1]);

	return poke_size(s, lower, (upper - lower + 2 * hi_align(s->hi)) | 1u);
}

static asc_addr size_beyond_heap(struct std_heap *s)
{
	return poke_size(s, s->used1, (1 << 24) | 5);
}

static asc_addr free_size_changed(struct std_heap *s)
{
	uint64_t size = size_of(s, s->unsorted);

	/* the copy behind it stays */
	hi_poke(s->hi, s->behind_unsorted, size + hi_align(s->hi));
	return s->behind_unsorted;
}

static asc_addr poison_null_byte(struct std_heap *s)
{
	asc_addr c = s->used2;

	return poke_size(s, c, hi_peek(s->hi, size_at(s, c)) & ~(uint64_t)1);
}

static asc_addr in_use_behind_free(struct std_heap *s)
{
	asc_addr c = s->behind_small;

	return poke_size(s, c, hi_peek(s->hi, size_at(s, c)) | 1);
}

static asc_addr cached_marked_free(struct std_heap *s)
{
	if (!s->cache)
		return 0;
	return poke_size(s, s->behind_cached,
			 hi_peek(s->hi, size_at(s, s->behind_cached)) & ~(uint64_t)1);
}

static asc_addr fast_marked_free(struct std_heap *s)
{
	if (!s->fast)
		return 0;
	return poke_size(s, s->behind_fast,
			 hi_peek(s->hi, size_at(s, s->behind_fast)) & ~(uint64_t)1);
}

static asc_addr mmapped_flag(struct std_heap *s)
{
	return poke_size(s, s->used, hi_peek(s->hi, size_at(s, s->used)) | 2);
}

static asc_addr arena_flag_in_main(struct std_heap *s)
{
	return poke_size(s, s->used, hi_peek(s->hi, size_at(s, s->used)) | 4);
}

static asc_addr arena_flag_missing(struct std_heap *s)
{
	return poke_size(s, s->behind_small1,
			 hi_peek(s->hi, size_at(s, s->behind_small1)) & ~(uint64_t)4);
}

static asc_addr arena_flag_on_free(struct std_heap *s)
{
	return poke_size(s, s->small1, hi_peek(s->hi, size_at(s, s->small1)) | 4);
}

static asc_addr first_chunk_flag(struct std_heap *s)
{
	asc_addr c = hi_tcache(s->hi, 0) ? hi_tcache(s->hi, 0) - 2 * hi_word(s->hi) : s->used;

	return poke_size(s, c, hi_peek(s->hi, size_at(s, c)) & ~(uint64_t)1);
}

/* ---- bins ---- */

static asc_addr fd_wild(struct std_heap *s)
{
	hi_poke(s->hi, link_at(s, s->small, 2),
		0x4242424242424240 & (hi_word(s->hi) == 8 ? UINT64_MAX : UINT32_MAX));
	return s->small;
}

static asc_addr fd_unaligned(struct std_heap *s)
{
	hi_poke(s->hi, link_at(s, s->small, 2), s->small2 + 4);
	return s->small;
}

static asc_addr fd_to_live_chunk(struct std_heap *s)
{
	hi_poke(s->hi, link_at(s, s->unsorted, 2), s->used);
	return s->unsorted;
}

static asc_addr fd_in_circle(struct std_heap *s)
{
	hi_poke(s->hi, link_at(s, s->unsorted2, 2), s->unsorted);
	return s->unsorted2;
}

static asc_addr fd_into_other_arena(struct std_heap *s)
{
	hi_poke(s->hi, link_at(s, s->small, 2), s->small1);
	return s->small;
}

static asc_addr bk_wild(struct std_heap *s)
{
	hi_poke(s->hi, link_at(s, s->unsorted2, 3), s->used + 8);
	return s->unsorted2;
}

static asc_addr wrong_bin(struct std_heap *s)
{
	/* both copies of the size agree with each other, but not with the list */
	uint64_t size = size_of(s, s->unsorted), more = hi_align(s->hi);
	asc_addr next = s->behind_unsorted;

	(void)size;
	/* move the border between the small chunk and the one behind it */
	next = s->behind_small + more;
	hi_poke(s->hi, size_at(s, s->small), (size_of(s, s->small) + more) | 1);
	hi_poke(s->hi, next, size_of(s, s->small));
	hi_poke(s->hi, size_at(s, next),
		hi_size(s->hi, 48) - more >= hi_minsize(s->hi) ? hi_size(s->hi, 48) - more
							       : hi_minsize(s->hi));
	return s->small;
}

static asc_addr binmap_clear(struct std_heap *s)
{
	struct asc_heap *h = std_read(s, ASC_DEPTH_LISTS);
	unsigned bin = asc_bin_index(&h->libc, size_of(s, s->small));
	asc_addr at = hi_arena_addr(s->hi, 0) + layout(s)->malloc_state_binmap.off + 4 * (bin / 32);

	asc_heap_free(h);
	hi_poke_int(s->hi, at, 4, 0);
	return at;
}

static asc_addr head_bk(struct std_heap *s)
{
	asc_addr at = hi_arena_addr(s->hi, 0) + layout(s)->malloc_state_bins.off + hi_word(s->hi);

	hi_poke(s->hi, at, s->used);
	return at;
}

static asc_addr nextsize_wild(struct std_heap *s)
{
	/* the largest leads: its fd_nextsize should be the next size's */
	hi_poke(s->hi, link_at(s, s->large[2], 4), s->used);
	return s->large[2];
}

static asc_addr nextsize_missing(struct std_heap *s)
{
	hi_poke(s->hi, link_at(s, s->large[1], 4), 0);
	return s->large[1];
}

static asc_addr bk_nextsize_wild(struct std_heap *s)
{
	hi_poke(s->hi, link_at(s, s->large[1], 5), s->used);
	return s->large[1];
}

static asc_addr large_order(struct std_heap *s)
{
	/* swap the neighbours large[2] and large[1] in the list */
	asc_addr a = s->large[2], b = s->large[1], before = hi_peek(s->hi, link_at(s, a, 3)),
		 behind = hi_peek(s->hi, link_at(s, b, 2));

	hi_poke(s->hi, link_at(s, before, 2), b);
	hi_poke(s->hi, link_at(s, b, 3), before);
	hi_poke(s->hi, link_at(s, b, 2), a);
	hi_poke(s->hi, link_at(s, a, 3), b);
	hi_poke(s->hi, link_at(s, a, 2), behind);
	hi_poke(s->hi, link_at(s, behind, 3), a);
	return a;
}

static asc_addr unlisted(struct std_heap *s)
{
	/* somebody unlinked it and forgot it */
	asc_addr c = s->unsorted2, bk = hi_peek(s->hi, link_at(s, c, 3)),
		 fd = hi_peek(s->hi, link_at(s, c, 2));

	hi_poke(s->hi, link_at(s, bk, 2), fd);
	hi_poke(s->hi, link_at(s, fd, 3), bk);
	return c;
}

static asc_addr adjacent(struct std_heap *s)
{
	/* the live chunk between two free ones is shrunk away by a larger first one */
	asc_addr c = s->behind_small;
	uint64_t size = size_of(s, s->small) + size_of(s, c);

	hi_poke(s->hi, size_at(s, s->small), size | 1);
	hi_poke(s->hi, s->small2, size);
	poke_size(s, s->small2, size_of(s, s->small2));
	return s->small2;
}

/* ---- fastbins and tcaches ---- */

static uint64_t mangle(struct std_heap *s, asc_addr at, asc_addr to)
{
	return layout(s)->safe_linking ? (at >> 12) ^ to : to;
}

static asc_addr fast_wild(struct std_heap *s)
{
	asc_addr at = link_at(s, s->fastc[1], 2);

	if (!s->fast)
		return 0;
	hi_poke(s->hi, at, 0x1234560);
	return at;
}

static asc_addr fast_circle(struct std_heap *s)
{
	asc_addr at = link_at(s, s->fastc[0], 2);

	if (!s->fast)
		return 0;
	/* the last of the list leads to the first: a double free */
	hi_poke(s->hi, at, mangle(s, at, s->fastc[2]));
	return at;
}

static asc_addr fast_size(struct std_heap *s)
{
	if (!s->fast)
		return 0;
	return poke_size(s, s->fastc[2], hi_size(s->hi, 48 + 2 * hi_align(s->hi)) | 1);
}

static asc_addr tcache_wild(struct std_heap *s)
{
	asc_addr at = link_at(s, s->cached[2], 2);

	if (!s->cache)
		return 0;
	hi_poke(s->hi, at, 0x1234560);
	return at;
}

static asc_addr tcache_circle(struct std_heap *s)
{
	asc_addr at = link_at(s, s->cached[0], 2);

	if (!s->cache)
		return 0;
	hi_poke(s->hi, at, mangle(s, at, s->cached[2] + 2 * hi_word(s->hi)));
	return at;
}

static asc_addr tcache_key(struct std_heap *s)
{
	if (!s->cache || !layout(s)->tcache_key_random)
		return 0;
	hi_poke(s->hi, link_at(s, s->cached[1], 3), 0x41414141);
	return s->cached[1];
}

static asc_addr tcache_owner(struct std_heap *s)
{
	if (!s->cache || !layout(s)->tcache_key_owner)
		return 0;
	hi_poke(s->hi, link_at(s, s->cached[1], 3), hi_tcache(s->hi, 1));
	return s->cached[1];
}

static asc_addr tcache_size(struct std_heap *s)
{
	if (!s->cache)
		return 0;
	return poke_size(s, s->cached[2], (size_of(s, s->cached[2]) + hi_align(s->hi)) | 1);
}

static asc_addr count_at(struct std_heap *s, asc_addr chunk)
{
	const struct asc_layout *l = layout(s);
	struct asc_field f = l->tcache_perthread_struct_counts.present
				     ? l->tcache_perthread_struct_counts
				     : l->tcache_perthread_struct_num_slots;
	uint64_t idx = (size_of(s, chunk) - l->minsize) / l->malloc_alignment;

	return hi_tcache(s->hi, 0) + f.off + idx * f.elem;
}

static asc_addr tcache_count(struct std_heap *s)
{
	asc_addr at = s->cache ? count_at(s, s->cached[0]) : 0;

	if (!s->cache)
		return 0;
	hi_poke_int(s->hi, at,
		    layout(s)->tcache_perthread_struct_counts.present
			    ? layout(s)->tcache_perthread_struct_counts.elem
			    : 2,
		    0);
	return at;
}

static asc_addr tcache_twice(struct std_heap *s)
{
	const struct asc_layout *l = layout(s);
	asc_addr mem = s->cached[2] + 2 * hi_word(s->hi), at;
	uint64_t idx;

	if (!s->cache)
		return 0;
	/* the other thread freed it, too */
	idx = (size_of(s, s->cached[2]) - l->minsize) / l->malloc_alignment;
	at = hi_tcache(s->hi, 1) + l->tcache_perthread_struct_entries.off + idx * hi_word(s->hi);
	hi_poke(s->hi, at, mem);
	return s->cached[2];
}

static asc_addr tcache_pointer(struct std_heap *s)
{
	struct asc_heap *h;
	asc_addr slot;

	if (!s->cache || layout(s)->tcache_dummy)
		return 0;
	h = std_read(s, ASC_DEPTH_LISTS);
	asc_heap_free(h);
	/* its header says that it is smaller than the struct */
	slot = hi_tcache(s->hi, 1);
	poke_size(s, slot - 2 * hi_word(s->hi), hi_size(s->hi, 32) | 5);
	return slot;
}

static asc_addr in_bin_and_cache(struct std_heap *s)
{
	const struct asc_layout *l = layout(s);
	uint64_t idx;

	if (!s->cache)
		return 0;
	idx = (size_of(s, s->small) - l->minsize) / l->malloc_alignment;
	hi_poke(s->hi,
		hi_tcache(s->hi, 0) + l->tcache_perthread_struct_entries.off + idx * hi_word(s->hi),
		s->small + 2 * hi_word(s->hi));
	return s->small;
}

/* ---- arenas and heaps ---- */

static asc_addr top_size(struct std_heap *s)
{
	return poke_size(s, hi_top(s->hi, 1), hi_word(s->hi) == 8 ? UINT64_MAX : UINT32_MAX);
}

static asc_addr top_small(struct std_heap *s)
{
	return poke_size(s, hi_top(s->hi, 2), hi_minsize(s->hi) | 1);
}

static asc_addr top_pointer(struct std_heap *s)
{
	arena_field(s, 1, layout(s)->malloc_state_top, 0x10);
	return 0x10;
}

static asc_addr mutex(struct std_heap *s)
{
	return arena_field(s, 1, layout(s)->malloc_state_mutex, 77);
}

static asc_addr flags(struct std_heap *s)
{
	return arena_field(s, 1, layout(s)->malloc_state_flags, 0x41414140);
}

static asc_addr system_mem(struct std_heap *s)
{
	return arena_field(s, 1, layout(s)->malloc_state_system_mem, 1 << 28);
}

static asc_addr max_system_mem(struct std_heap *s)
{
	return arena_field(s, 2, layout(s)->malloc_state_max_system_mem, 1);
}

static asc_addr ring(struct std_heap *s)
{
	return arena_field(s, 1, layout(s)->malloc_state_next, 0x41414141);
}

static asc_addr ring_circle(struct std_heap *s)
{
	arena_field(s, 2, layout(s)->malloc_state_next, hi_arena_addr(s->hi, 1));
	return hi_arena_addr(s->hi, 2);
}

static asc_addr heap_arena(struct std_heap *s)
{
	asc_addr h = hi_heap_addr(s->hi, 1, 1);

	hi_poke(s->hi, h + layout(s)->_heap_info_ar_ptr.off, hi_arena_addr(s->hi, 2));
	return h;
}

static asc_addr heap_size(struct std_heap *s)
{
	asc_addr h = hi_heap_addr(s->hi, 1, 0);

	hi_poke(s->hi, h + layout(s)->_heap_info_size.off, 0x7fffffff);
	return h;
}

static asc_addr heap_prev(struct std_heap *s)
{
	asc_addr h = hi_heap_addr(s->hi, 1, 1);

	hi_poke(s->hi, h + layout(s)->_heap_info_prev.off, h);
	return h;
}

static asc_addr fencepost(struct std_heap *s)
{
	asc_addr end = hi_region_end(s->hi, 1, 0);

	for (asc_addr at = end - 4 * hi_word(s->hi); at < end; at += hi_word(s->hi))
		hi_poke(s->hi, at, 0x51515151);
	return end - (hi_minsize(s->hi) - 2 * hi_word(s->hi));
}

static asc_addr mmapped_header(struct std_heap *s)
{
	poke_size(s, s->mm[0], 0x41414141);
	return hi_libc(s->hi)->mp;
}

static const struct damage damages[] = {
	{ "size field zero", "C-SIZE", zero_size },
	{ "text over a size field", "C-SIZE", text_over_size },
	{ "size not aligned", "C-SIZE", unaligned_size },
	{ "size reaches over a free chunk", "C-SIZE", size_over_free_chunk },
	{ "free size reaches over a free chunk", "C-OVERLAP", free_size_over_free_chunk },
	{ "size beyond the heap", "C-SIZE", size_beyond_heap },
	{ "prev_size changed", "C-PREV-SIZE", free_size_changed },
	{ "one zero byte over a size field", "C-PREV-INUSE", poison_null_byte },
	{ "chunk behind a free one says in use", "C-BIN-INUSE", in_use_behind_free },
	{ "cached chunk marked free", "C-CACHED-FREE", cached_marked_free },
	{ "first chunk's flag", "C-PREV-INUSE", first_chunk_flag },
	{ "mmapped flag", "C-MMAPPED-FLAG", mmapped_flag },
	{ "arena flag in the main arena", "C-ARENA-FLAG", arena_flag_in_main },
	{ "arena flag missing", "C-ARENA-FLAG", arena_flag_missing },
	{ "arena flag on a free chunk", "S-ARENA-FLAG", arena_flag_on_free },
	{ "fd wild", "C-BIN-LINK", fd_wild },
	{ "fd unaligned", "C-BIN-LINK", fd_unaligned },
	{ "fd to a live chunk", "C-BIN-LINK", fd_to_live_chunk },
	{ "fd in a circle", "C-BIN-LINK", fd_in_circle },
	{ "fd into another arena", "C-BIN-LINK", fd_into_other_arena },
	{ "bk wild", "C-BIN-LINK", bk_wild },
	{ "a bin's head", "C-BIN-LINK", head_bk },
	{ "chunk in the wrong bin", "C-BIN-SIZE", wrong_bin },
	{ "binmap", "C-BINMAP", binmap_clear },
	{ "fd_nextsize wild", "C-NEXTSIZE", nextsize_wild },
	{ "fd_nextsize missing", "C-NEXTSIZE", nextsize_missing },
	{ "bk_nextsize wild", "C-NEXTSIZE", bk_nextsize_wild },
	{ "large bin unsorted", "C-LARGE-ORDER", large_order },
	{ "free chunk in no bin", "C-UNLISTED", unlisted },
	{ "free neighbours", "C-ADJACENT", adjacent },
	{ "fastbin link wild", "C-FAST-LINK", fast_wild },
	{ "fastbin in a circle", "C-FAST-LINK", fast_circle },
	{ "fastbin size", "C-FAST-SIZE", fast_size },
	{ "tcache link wild", "C-TCACHE-LINK", tcache_wild },
	{ "tcache in a circle", "C-TCACHE-LINK", tcache_circle },
	{ "tcache key", "C-TCACHE-KEY", tcache_key },
	{ "tcache owner", "C-TCACHE-KEY", tcache_owner },
	{ "tcache size", "C-TCACHE-SIZE", tcache_size },
	{ "tcache count", "C-TCACHE-COUNT", tcache_count },
	{ "chunk in two tcaches", "C-TCACHE-TWICE", tcache_twice },
	{ "chunk in a bin and a tcache", "C-TWICE", in_bin_and_cache },
	{ "tcache pointer", "C-TCACHE", tcache_pointer },
	{ "top size", "C-TOP", top_size },
	{ "top too small", "C-TOP", top_small },
	{ "top pointer", "C-TOP", top_pointer },
	{ "arena lock", "C-MUTEX", mutex },
	{ "arena flags", "C-FLAGS", flags },
	{ "system_mem", "C-SYSTEM-MEM", system_mem },
	{ "max_system_mem", "C-SYSTEM-MEM", max_system_mem },
	{ "arena list", "C-RING", ring },
	{ "arena list in a circle", "C-RING", ring_circle },
	{ "heap of another arena", "C-HEAP", heap_arena },
	{ "heap size", "C-HEAP", heap_size },
	{ "heap chain", "C-HEAP", heap_prev },
	{ "fencepost", "C-FENCE", fencepost },
	{ "mmapped header", "S-MMAPPED", mmapped_header },
	{ "fast chunk marked free", "C-CACHED-FREE", fast_marked_free },
};
enum { NDAMAGES = sizeof(damages) / sizeof(damages[0]) };

static asc_addr end_of(struct asc_chunk c)
{
	return c.addr + c.size;
}

static void check_extents(const struct asc_region *r)
{
	for (size_t k = 1; k < r->extents.n; k++)
		assert_true(asc_extent_at(&r->extents, k).addr >=
			    end_of(asc_extent_at(&r->extents, k - 1)));
}

/* Sums hold whatever was damaged: each byte of a region is some chunk's, or said not to be walked. */
static void check_bytes(const struct asc_heap *h)
{
	for (size_t i = 0; i < h->narenas; i++) {
		const struct asc_arena *a = &h->arenas[i];
		uint64_t walked = 0, counted = 0;

		for (size_t j = 0; j < a->nregions; j++) {
			const struct asc_region *r = &a->regions[j];
			uint64_t sum = 0;
			struct asc_chunk_iter it;
			struct asc_chunk c;

			asc_chunk_iter_init(&it, r);
			while (asc_chunk_next(&it, &c))
				sum += c.size;
			if (h->walked)
				assert_int_equal(sum + r->unwalked + a->foreign_bytes,
						 r->end - r->first);
			walked += sum;
			check_extents(r);
		}
		for (int k = 0; k < ASC_NSTATES; k++)
			counted += a->bytes[k];
		if (h->walked)
			assert_int_equal(counted, walked);
	}
}

static unsigned bad;

static bool one(const struct damage *d, struct hi_shape shape)
{
	struct std_heap s = std_heap(shape);
	asc_addr want = d->apply(&s);
	const struct asc_finding *f;
	struct asc_heap *h;
	bool done = want != 0;

	if (done) {
		h = std_read(&s, ASC_DEPTH_WALK);
		f = std_finding(h, d->code, want);
		if (!f || !f->message[0] || (f->severity == ASC_SEV_CORRUPT && h->complete)) {
			fprintf(stderr, "%s, %u bits%s, 2.%u: want %s at 0x%" PRIx64 "\n", d->name,
				shape.word * 8, shape.big_endian ? " BE" : "", shape.minor, d->code,
				want);
			std_print_findings(h);
			bad++;
		}
		check_bytes(h);
		asc_heap_free(h);
		h = std_read(&s, ASC_DEPTH_LISTS);
		check_bytes(h);
		asc_heap_free(h);
	}
	std_free(&s);
	return done;
}

static void test_damages(void **state)
{
	(void)state;
	for (size_t i = 0; i < NDAMAGES; i++) {
		unsigned done = 0;

		for (size_t j = 0; j < hi_nshapes; j++)
			done += one(&damages[i], hi_shapes[j]);
		if (!done) {
			fprintf(stderr, "%s: in no shape\n", damages[i].name);
			fail();
		}
	}
	assert_int_equal(bad, 0);
}

/* Every code is either shown here or needs what an image cannot have. */
static void test_table(void **state)
{
	static const char *const elsewhere[] = { "C-ARENA",	   "C-UNREADABLE",  "C-BIN-TWICE",
						 "S-TCACHE-COUNT", "S-MAIN-EXTENT", "S-EXTENT",
						 "I-ATTACHED",	   "I-BUSY" };
	const struct asc_finding_code *codes;
	size_t n;

	(void)state;
	codes = asc_finding_codes(&n);
	assert_true(n > 30);
	for (size_t i = 0; i < n; i++) {
		bool seen = false;

		assert_true(codes[i].meaning[0]);
		assert_int_equal(codes[i].code[0], "CSI"[codes[i].severity]);
		for (size_t j = 0; j < NDAMAGES; j++)
			seen |= !strcmp(damages[j].code, codes[i].code);
		for (size_t j = 0; j < sizeof(elsewhere) / sizeof(elsewhere[0]); j++)
			seen |= !strcmp(elsewhere[j], codes[i].code);
		if (!seen)
			fprintf(stderr, "no test for %s\n", codes[i].code);
		assert_true(seen);
	}
}

/* A held lock explains damage away in a live target; the arena is marked. */
static void test_busy(void **state)
{
	struct std_heap s = std_heap((struct hi_shape){ 8, false, 36 });
	const struct asc_finding *f;
	struct asc_heap *h;

	(void)state;
	free_size_changed(&s);
	arena_field(&s, 0, layout(&s)->malloc_state_mutex, 1);
	h = std_read(&s, ASC_DEPTH_WALK);
	f = std_finding(h, "C-PREV-SIZE", s.behind_unsorted);
	assert_non_null(f);
	assert_int_equal(f->severity, ASC_SEV_INFO);
	assert_true(h->arenas[0].busy);
	assert_false(h->complete);
	assert_non_null(std_finding(h, "I-BUSY", hi_arena_addr(s.hi, 0)));
	asc_heap_free(h);
	std_free(&s);
}

/*
 * An arena in the middle of an operation, one of whose heaps cannot be found just then: what other threads
 * have cached there is no damage either. Without a held lock it is.
 */
static void test_busy_loses_a_heap(void **state)
{
	(void)state;
	for (size_t j = 0; j < hi_nshapes; j++) {
		for (int busy = 0; busy < 2; busy++) {
			struct std_heap s = std_heap(hi_shapes[j]);
			struct asc_heap *h;
			unsigned links = 0, corrupt = 0;

			arena_field(&s, 1, layout(&s)->malloc_state_top, s.behind_small1);
			arena_field(&s, 1, layout(&s)->malloc_state_mutex, (uint64_t)busy);
			h = std_read(&s, ASC_DEPTH_WALK);
			for (size_t i = 0; i < h->nfindings; i++) {
				const struct asc_finding *f = &h->findings[i];

				if (strncmp(f->code, "C-TCACHE", 8))
					continue;
				links += !strcmp(f->code, "C-TCACHE-LINK");
				corrupt += f->severity != ASC_SEV_INFO;
				assert_int_equal(f->arena, 1);
			}
			assert_int_equal(links, s.cache);
			assert_int_equal(corrupt != 0, s.cache && !busy);
			assert_false(h->complete);
			asc_heap_free(h);
			std_free(&s);
		}
	}
}

/* More findings than are kept are counted. */
static void test_limit(void **state)
{
	struct std_heap s = std_heap((struct hi_shape){ 8, false, 36 });
	struct asc_heap_opts opts = { .depth = ASC_DEPTH_WALK, .max_findings = 2 };
	struct asc_heap *h = NULL;

	(void)state;
	mmapped_flag(&s);
	free_size_changed(&s);
	nextsize_wild(&s);
	tcache_key(&s);
	assert_null(asc_heap_read(s.t, hi_libc(s.hi), NULL, &opts, &h));
	assert_int_equal(h->nfindings, 2);
	assert_true(h->nfindings_lost >= 2);
	asc_heap_free(h);
	std_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damages), cmocka_unit_test(test_table),
		cmocka_unit_test(test_busy),	cmocka_unit_test(test_busy_loses_a_heap),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
