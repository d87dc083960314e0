/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Is this really malloc's state? Invariants that hold in every release, at any moment, and in a
 * heap with a few overwritten chunks; a wrong address or a wrong shape breaks most of them.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/scan.h"

enum { RING_MAX = 65536, BINS_WRONG_MAX = 16 };

struct image {
	struct asc_target *t;
	const struct asc_libc *lib;
	const uint8_t *p; /* the struct's bytes */
	size_t len;
};

static bool get(const struct image *im, struct asc_field f, uint64_t *ret)
{
	if (!f.present || f.elem > 8 || (size_t)f.off + f.elem > im->len)
		return false;
	*ret = asc_uint_at(im->t, im->p + f.off, f.elem);
	return true;
}

static uint64_t field(const struct image *im, struct asc_field f)
{
	uint64_t v = 0;

	return get(im, f, &v) ? v : 0;
}

static bool readable(struct asc_target *t, asc_addr addr)
{
	const struct asc_map *map = asc_maps_find(asc_target_maps(t), addr);

	return map && (!map->flags_known || (map->flags & ASC_MAP_READ));
}

#define WRONG(...) asc_err(ASC_ENOSYM, __VA_ARGS__)

/* fd and bk of a bin: both zero (never used), both the bin itself, or chunks somewhere else. */
static struct asc_error *check_bins(const struct image *im)
{
	const struct asc_layout *l = &im->lib->layout;
	unsigned self = 0, zero = 0, wrong = 0, used = 0, w = l->word;
	asc_addr bins = im->lib->main_arena + l->malloc_state_bins.off;

	for (unsigned i = 1; i < l->nbins; i++) {
		uint64_t off = l->malloc_state_bins.off + 2 * (uint64_t)(i - 1) * w;
		asc_addr head = bins + 2 * (uint64_t)(i - 1) * w - 2 * (uint64_t)w;
		uint64_t fd, bk;

		if (off + 2 * w > im->len)
			return WRONG("bins do not fit into malloc_state");
		fd = asc_uint_at(im->t, im->p + off, w);
		bk = asc_uint_at(im->t, im->p + off + w, w);
		if (fd == head && bk == head)
			self++;
		else if (!fd && !bk)
			zero++;
		else if (fd && bk && !(fd % w) && !(bk % w) && readable(im->t, fd) &&
			 readable(im->t, bk))
			used++;
		else
			wrong++;
	}
	if (zero == l->nbins - 1)
		return NULL; /* before the first malloc */
	if (wrong > BINS_WRONG_MAX || self + used < l->nbins / 2 || (zero && self))
		return WRONG("the bins at 0x%" PRIx64 " are not bins: %u of %u are wrong", bins,
			     wrong + zero, l->nbins - 1);
	return NULL;
}

static struct asc_error *check_header(const struct image *im)
{
	const struct asc_layout *l = &im->lib->layout;
	uint64_t v, top, sys, max;

	v = field(im, l->malloc_state_mutex);
	if (v > 2)
		return WRONG("mutex is %" PRIu64, v);
	v = field(im, l->malloc_state_flags);
	if (v > 7)
		return WRONG("flags are 0x%" PRIx64, v);
	if (get(im, l->malloc_state_have_fastchunks, &v) && v > 1)
		return WRONG("have_fastchunks is %" PRIu64, v);
	/* the main arena is attached to the first thread from the start */
	if (get(im, l->malloc_state_attached_threads, &v) && v > 1 << 22)
		return WRONG("attached_threads is %" PRIu64, v);
	sys = field(im, l->malloc_state_system_mem);
	max = field(im, l->malloc_state_max_system_mem);
	if (sys > max && (!l->systrim_minsize_quirk || sys - max > ASC_SYSTRIM_GROWTH_MAX))
		return WRONG("system_mem %" PRIu64 " is more than its maximum %" PRIu64, sys, max);
	top = field(im, l->malloc_state_top);
	if (sys && (top % l->word || !readable(im->t, top)))
		return WRONG("top 0x%" PRIx64 " is not mapped", top);
	return NULL;
}

/* Every arena but the first lives in a heap that points back to it. */
static bool is_heap_arena(const struct image *im, asc_addr arena)
{
	const struct asc_layout *l = &im->lib->layout;
	struct asc_error *err;
	asc_addr heap = arena - l->sizeof__heap_info;
	uint64_t v;

	if (arena < l->sizeof__heap_info || heap % asc_target_page_size(im->t))
		return false;
	err = asc_read_uint(im->t, heap + l->_heap_info_ar_ptr.off, l->word, &v);
	asc_error_free(err);
	return !err && v == arena;
}

/* The list of arenas leads back. A process that runs may only add to it. */
static struct asc_error *check_ring(const struct image *im)
{
	const struct asc_layout *l = &im->lib->layout;
	asc_addr at = field(im, l->malloc_state_next), slow = at;

	for (unsigned n = 0; at != im->lib->main_arena; n++) {
		struct asc_error *err;

		if (n > RING_MAX || (n && at == slow))
			return WRONG("the list of arenas does not come back to main_arena");
		if (!is_heap_arena(im, at))
			return WRONG("0x%" PRIx64 " in the list of arenas is no arena", at);
		if (n & 1) {
			err = asc_read_uint(im->t, slow + l->malloc_state_next.off, l->word, &slow);
			if (err)
				return err;
		}
		ASC_TRY(asc_read_uint(im->t, at + l->malloc_state_next.off, l->word, &at));
	}
	return NULL;
}

static struct asc_error *check_par(const struct image *im, uint64_t flags, uint64_t system_mem)
{
	const struct asc_layout *l = &im->lib->layout;
	uint64_t v, max;

	v = field(im, l->malloc_par_no_dyn_threshold);
	if (v > 1)
		return WRONG("mp_.no_dyn_threshold is %" PRIu64, v);
	v = field(im, l->malloc_par_n_mmaps);
	max = field(im, l->malloc_par_max_n_mmaps);
	if (v > max || max > INT32_MAX)
		return WRONG("mp_.n_mmaps %" PRIu64 " is more than its maximum %" PRIu64, v, max);
	if (field(im, l->malloc_par_mmapped_mem) > field(im, l->malloc_par_max_mmapped_mem))
		return WRONG("mp_.mmapped_mem is more than its maximum");
	if (!!max != !!field(im, l->malloc_par_max_mmapped_mem))
		return WRONG("mp_.max_n_mmaps and max_mmapped_mem disagree");
	if (field(im, l->malloc_par_arena_test) > UINT32_MAX)
		return WRONG("mp_.arena_test is not plausible");
	v = field(im, l->malloc_par_sbrk_base);
	if (v && !readable(im->t, v) && !(flags & 2))
		return WRONG("mp_.sbrk_base 0x%" PRIx64 " is not mapped", v);
	if (system_mem && !v)
		return WRONG("mp_.sbrk_base is not set");
	if (get(im, l->malloc_par_tcache_count, &v) && v > 65535)
		return WRONG("mp_.tcache_count is %" PRIu64, v);
	if ((get(im, l->malloc_par_tcache_bins, &v) ||
	     get(im, l->malloc_par_tcache_small_bins, &v)) &&
	    v > l->ntcache)
		return WRONG("mp_.tcache_bins is %" PRIu64, v);
	if (get(im, l->malloc_par_hp_pagesize, &v) && v && !asc_is_pow2(v))
		return WRONG("mp_.hp_pagesize is %" PRIu64, v);
	if (get(im, l->malloc_par_thp_pagesize, &v) && v && !asc_is_pow2(v))
		return WRONG("mp_.thp_pagesize is %" PRIu64, v);
	return NULL;
}

static struct asc_error *load(struct asc_target *t, const struct asc_libc *lib, asc_addr addr,
			      uint64_t size, struct image *ret)
{
	uint8_t *buf;
	struct asc_error *err;

	if (!addr || !lib->layout.word || !lib->layout.malloc_state_bins.present || !size ||
	    size > 65536)
		return WRONG("no layout");
	buf = malloc(size);
	if (!buf)
		return asc_err(ASC_ENOMEM, "checking main_arena");
	err = asc_read(t, addr, buf, size);
	if (err) {
		free(buf);
		return err;
	}
	*ret = (struct image){ .t = t, .lib = lib, .p = buf, .len = size };
	return NULL;
}

struct asc_error *asc_verify_arena(struct asc_target *t, const struct asc_libc *lib)
{
	struct asc_error *err;
	struct image im = { 0 };

	ASC_TRY(load(t, lib, lib->main_arena, lib->layout.sizeof_malloc_state, &im));
	err = check_header(&im);
	if (!err)
		err = check_bins(&im);
	if (!err)
		err = check_ring(&im);
	free((void *)im.p);
	return err;
}

struct asc_error *asc_verify_par(struct asc_target *t, const struct asc_libc *lib)
{
	const struct asc_layout *l = &lib->layout;
	struct asc_error *err;
	uint64_t flags, system_mem;
	struct image im = { 0 };

	ASC_TRY(asc_read_uint(t, lib->main_arena + l->malloc_state_flags.off, 4, &flags));
	ASC_TRY(asc_read_word(t, lib->main_arena + l->malloc_state_system_mem.off, &system_mem));
	ASC_TRY(load(t, lib, lib->mp, l->sizeof_malloc_par, &im));
	err = check_par(&im, flags, system_mem);
	free((void *)im.p);
	return err;
}

struct asc_error *asc_libc_verify(struct asc_target *t, const struct asc_libc *lib)
{
	ASC_TRY(asc_verify_arena(t, lib));
	ASC_TRY(asc_verify_par(t, lib));
	return asc_verify_shape(t, lib);
}
