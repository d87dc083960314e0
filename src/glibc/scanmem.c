/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * main_arena and mp_ from the memory image alone: a core without its libc. An empty bin points at
 * itself, so the array of bins is a run of words that say where they are. The array alone is
 * self-similar; which word is bins[0], and which release this is, `next` decides: it leads back to
 * the start of the struct. mp_ is in the same data segment, and its sbrk_base ties it to the arena.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/scan.h"

enum {
	EMPTY_MIN = 8,		/* self-pointing bins, of 127, that make a candidate */
	MAPPING_MAX = 16 << 20, /* libc's data is less than 100 KiB */
	PAR_REACH = 64 << 10,	/* mp_ is this near to main_arena */
};

struct window {
	asc_addr start;
	uint8_t *p;
	size_t len;
};

static uint64_t at(const struct asc_target *t, const struct window *w, size_t off)
{
	return asc_word_at(t, w->p + off);
}

static bool self_pointing(const struct asc_target *t, const struct window *w, size_t off,
			  size_t word)
{
	uint64_t head = w->start + off - 2 * word;

	return at(t, w, off) == head && at(t, w, off + word) == head;
}

/* Is there an arena of this shape whose bins begin at @p off? */
static bool try_base(struct asc_target *t, const struct window *w, size_t off, struct asc_libc *lib)
{
	unsigned first, last, n = 0, known = asc_layout_known(lib->minor);
	struct asc_layout l, best = { 0 };
	struct asc_error *err;

	for (size_t i = 0; asc_layout_row(asc_target_arch(t), i, &l, &first, &last); i++) {
		if (off < l.malloc_state_bins.off)
			continue;
		if (known && (known < first || known > last))
			continue;
		/* rows of one arena shape come together; the later steps tell them apart */
		lib->layout = l;
		lib->main_arena = w->start + off - l.malloc_state_bins.off;
		lib->mp = 0;
		err = asc_verify_arena(t, lib);
		if (!err)
			err = asc_verify_shape(t, lib);
		if (!err) {
			best = l;
			n++;
		}
		asc_error_free(err);
	}
	if (!n)
		return false;
	lib->layout = best;
	lib->main_arena = w->start + off - best.malloc_state_bins.off;
	return true;
}

static bool find_arena(struct asc_target *t, const struct window *w, struct asc_libc *lib)
{
	size_t word = asc_target_arch(t)->word_size, bins = 127 * 2 * word, step = 2 * word;

	for (size_t parity = 0; parity < 2; parity++) {
		size_t first = parity * word, count = 0;

		for (size_t off = first; off + 2 * word <= w->len; off += step) {
			count += self_pointing(t, w, off, word);
			if (off >= first + bins)
				count -= self_pointing(t, w, off - bins, word);
			if (off + step >= first + bins && count >= EMPTY_MIN &&
			    try_base(t, w, off + step - bins, lib))
				return true;
		}
	}
	return false;
}

/* How much speaks for mp_ at @p addr. 0: it is not. */
static unsigned par_score(struct asc_target *t, struct asc_libc *lib, const struct window *w,
			  size_t off)
{
	const struct asc_layout *l = &lib->layout;
	uint64_t sbrk, top, sys, v;
	struct asc_error *err;
	unsigned score = 0;

	if (off + l->sizeof_malloc_par > w->len)
		return 0;
#define PAR(member)                                                                                \
	asc_uint_at(t, w->p + off + l->malloc_par_##member.off, l->malloc_par_##member.size)
	sbrk = PAR(sbrk_base);
	if (!sbrk)
		return 0; /* a static program has its TLS below it: it need not be a page's start */
	lib->mp = w->start + off;
	err = asc_verify_par(t, lib);
	asc_error_free(err);
	if (err)
		return 0;
	err = asc_read_word(t, lib->main_arena + l->malloc_state_top.off, &top);
	if (!err)
		err = asc_read_word(t, lib->main_arena + l->malloc_state_system_mem.off, &sys);
	asc_error_free(err);
	if (err)
		return 0;
	if (top >= sbrk && top < sbrk + sys)
		score += 2;
	v = PAR(n_mmaps_max);
	if (v == 65536)
		score += 2;
	v = PAR(arena_test);
	if (v == (l->word == 8 ? 8 : 2))
		score++;
	v = PAR(trim_threshold);
	if (v == 0x20000 || v == 2 * PAR(mmap_threshold))
		score++;
	if (PAR(top_pad) == 0x20000)
		score++;
	if (l->malloc_par_tcache_count.present) {
		v = PAR(tcache_count);
		if (v == 7 || v == 16)
			score++;
		if (!PAR(tcache_max_bytes))
			return 0;
	}
#undef PAR
	return score >= 4 ? score : 0;
}

/* The best place over every shape that has this arena. */
static bool find_par(struct asc_target *t, const struct window *w, struct asc_libc *lib)
{
	size_t word = asc_target_arch(t)->word_size;
	size_t arena = (size_t)(lib->main_arena - w->start);
	size_t lo = arena > PAR_REACH ? arena - PAR_REACH : 0;
	size_t hi = (size_t)asc_min(w->len, (uint64_t)arena + PAR_REACH);
	struct asc_libc best = { 0 };
	unsigned first, last, top = 0, ties = 0, known = asc_layout_known(lib->minor);
	struct asc_layout l;

	for (size_t i = 0; asc_layout_row(asc_target_arch(t), i, &l, &first, &last); i++) {
		struct asc_error *err;

		if (known && (known < first || known > last))
			continue;
		if (l.malloc_state_bins.off != lib->layout.malloc_state_bins.off ||
		    l.sizeof_malloc_state != lib->layout.sizeof_malloc_state)
			continue;
		lib->layout = l;
		err = asc_verify_arena(t, lib); /* heap_info's size differs too */
		asc_error_free(err);
		if (err)
			continue;
		for (size_t off = lo; off < hi; off += word) {
			unsigned score = par_score(t, lib, w, off);

			if (!score || score < top)
				continue;
			ties = score == top && lib->mp != best.mp ? ties + 1 : 0;
			top = score;
			best = *lib;
		}
	}
	if (!top || ties)
		return false;
	*lib = best;
	return true;
}

static bool scan_window(struct asc_target *t, const struct asc_map *map, asc_addr end,
			struct asc_libc *lib)
{
	struct window w = { .start = map->start, .len = (size_t)(end - map->start) };
	struct asc_libc found = *lib;
	size_t page = asc_target_page_size(t);
	bool ok;

	w.p = calloc(1, w.len ? w.len : 1);
	if (!w.p)
		return false;
	for (size_t off = 0; off < w.len;) {
		size_t got = asc_read_some(t, w.start + off, w.p + off, w.len - off);

		off += got ? got : page - (w.start + off) % page;
	}
	ok = find_arena(t, &w, &found) && find_par(t, &w, &found);
	free(w.p);
	if (ok) {
		*lib = found;
		lib->layout.from = ASC_FROM_SCAN;
	}
	return ok;
}

static bool in_module(const struct asc_module *mod, const struct asc_map *map)
{
	return !mod || (map->start < mod->end && map->end > mod->start);
}

struct asc_error *asc_scan_memory(struct asc_target *t, struct asc_libc *lib)
{
	const struct asc_maps *maps = asc_target_maps(t);
	struct asc_libc found = *lib;

	for (size_t i = 0; i < maps->n; i++) {
		const struct asc_map *map = &maps->v[i];
		asc_addr end = map->end;

		if (map->flags_known && (map->flags & ASC_MAP_SHARED))
			continue;
		if (map->flags_known && !(map->flags & ASC_MAP_WRITE))
			continue;
		/* .data and .bss are neighbours */
		for (size_t k = i + 1; k < maps->n && maps->v[k].start == end; k++)
			if (!maps->v[k].flags_known || (maps->v[k].flags & ASC_MAP_WRITE))
				end = asc_min(maps->v[k].end, end + (1 << 20));
		if (!in_module(lib->module, map) || end - map->start > MAPPING_MAX)
			continue;
		if (!scan_window(t, map, end, &found))
			continue;
		*lib = found;
		asc_libc_fact(lib, "main_arena", "bins in memory", lib->main_arena);
		asc_libc_fact(lib, "mp_", "memory", lib->mp);
		return NULL;
	}
	return asc_err(ASC_ENOSYM, "no array of bins was found in memory");
}
