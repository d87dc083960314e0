/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Is the shape right, when no debug file of this very build says it? A struct with one member more
 * or less still looks right in most places, so every member is held to what glibc does with it:
 * sums that end at a page, lists that lead home, defaults that only mallopt changes. Damage of a
 * heap hits chunks, hardly ever these words; a shape that is off by a word breaks several of them
 * at once.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/scan.h"
#include "symbols/tls.h"

enum {
	ARENAS_MAX = 256, /* of the ring, looked at */
	ATTACHED_MAX = 65536,
	HEAPS_MAX = 4096,
	BINMAP_WRONG_MAX = 2, /* a bin that is being filled at this moment */
	DEFAULT = 0x20000,
};

struct shape {
	struct asc_target *t;
	const struct asc_libc *lib;
	const struct asc_layout *l;
	uint64_t page;
	uint8_t *p;	/* one arena */
	asc_addr arena; /* its address */
	asc_addr sbrk_base;
	/* votes of arenas in heaps: the first chunk is where the structs end */
	unsigned heaps, heaps_wrong;
	/* over all arenas */
	unsigned arenas, locked, unflagged;
	uint64_t attached;
};

#define WRONG(...) asc_err(ASC_ENOSYM, __VA_ARGS__)

static bool word(const struct shape *s, asc_addr at, uint64_t *ret)
{
	struct asc_error *err = asc_read_word(s->t, at, ret);

	asc_error_free(err);
	return !err;
}

static uint64_t of(const struct shape *s, struct asc_field f)
{
	return f.present && f.elem <= 8 ? asc_uint_at(s->t, s->p + f.off, f.elem) : 0;
}

static bool is_main(const struct shape *s)
{
	return s->arena == s->lib->main_arena;
}

static bool is_arena(const struct shape *s, asc_addr a)
{
	uint64_t v;

	return a == s->lib->main_arena ||
	       (word(s, a - s->l->sizeof__heap_info + s->l->_heap_info_ar_ptr.off, &v) && v == a);
}

/* What malloc got from the system is whole pages; static programs' brk begins inside of one. */
static bool ends_at_page(const struct shape *s, uint64_t bytes)
{
	if (is_main(s) && !s->lib->mp)
		return true; /* where it begins is not known yet */
	return ((is_main(s) ? s->sbrk_base : 0) + bytes) % s->page == 0;
}

static bool ends_with_top(const struct shape *s, uint64_t sys)
{
	asc_addr top = of(s, s->l->malloc_state_top);
	uint64_t size;

	return of(s, s->l->malloc_state_flags) & 2 || !s->lib->mp ||
	       (word(s, top + s->l->word, &size) &&
		top + (size & ~(uint64_t)7) == s->sbrk_base + sys);
}

static struct asc_error *check_sums(const struct shape *s)
{
	uint64_t sys = of(s, s->l->malloc_state_system_mem);
	uint64_t max = of(s, s->l->malloc_state_max_system_mem);
	uint64_t users = of(s, s->l->malloc_state_attached_threads);
	size_t n;

	asc_target_threads(s->t, &n);
	if (users > asc_max(ATTACHED_MAX, 2 * (uint64_t)n))
		return WRONG("attached_threads is %" PRIu64, users);
	if (!sys)
		return max ? WRONG("system_mem is 0, its maximum %" PRIu64, max) : NULL;
	if (sys < s->page || max < s->page || !ends_at_page(s, sys) || !ends_at_page(s, max))
		return WRONG("system_mem %" PRIu64 " and its maximum %" PRIu64
			     " are not whole pages",
			     sys, max);
	/* only malloc_trim on a main arena without a top does that, and then all of it is known */
	if (sys > max && (!is_main(s) || !ends_with_top(s, sys)))
		return WRONG("system_mem %" PRIu64 " is more than its maximum %" PRIu64, sys, max);
	return NULL;
}

static struct asc_error *check_lists(const struct shape *s)
{
	const struct asc_layout *l = s->l;
	uint64_t v = of(s, l->malloc_state_next_free), size;
	asc_addr top = of(s, l->malloc_state_top);
	bool inside = top >= s->arena && top < s->arena + l->sizeof_malloc_state;

	if (l->malloc_state_next_free.present && v && !is_arena(s, v))
		return WRONG("next_free 0x%" PRIx64 " is no arena", v);
	for (unsigned i = 0; i < l->nfastbins; i++) {
		v = asc_word_at(s->t, s->p + l->malloc_state_fastbinsY.off + i * l->word);
		if (v && ((v + l->hdr) % l->malloc_alignment || !word(s, v + l->word, &size)))
			return WRONG("fastbin %u begins with 0x%" PRIx64, i, v);
	}
	if (top && !inside && (top + l->hdr) % l->malloc_alignment)
		return WRONG("top 0x%" PRIx64 " is not aligned", top);
	return NULL;
}

/* A bin that is not empty has its bit, except in the moment in which it is filled. */
static struct asc_error *check_binmap(const struct shape *s)
{
	const struct asc_layout *l = s->l;
	unsigned wrong = 0;

	for (unsigned i = 2; l->malloc_state_binmap.present && i < l->nbins - 1; i++) {
		uint64_t off = l->malloc_state_bins.off + 2 * (uint64_t)(i - 1) * l->word;
		uint64_t fd = asc_word_at(s->t, s->p + off);
		uint64_t map = asc_uint_at(s->t, s->p + l->malloc_state_binmap.off + i / 32 * 4, 4);

		if (fd && fd != s->arena + off - 2u * l->word && !(map >> i % 32 & 1))
			wrong++;
	}
	return wrong > BINMAP_WRONG_MAX ? WRONG("%u bins are full, but not in the map", wrong)
					: NULL;
}

/* The chunk behind the structs at the start of an arena's first heap. */
static bool first_chunk_ok(const struct shape *s)
{
	const struct asc_layout *l = s->l;
	asc_addr at =
		asc_align_up(s->arena + l->sizeof_malloc_state + l->hdr, l->malloc_alignment) -
		l->hdr;
	uint64_t size;

	if (!word(s, at + l->word, &size))
		return false;
	return size & 1 && !(size & 2) && (size & ~(uint64_t)7) >= l->minsize &&
	       (size & ~(uint64_t)7) % l->malloc_alignment == 0 &&
	       (size & ~(uint64_t)7) <= s->page * HEAPS_MAX * 16;
}

/* Its heaps, from the one that holds top back to the first, are what system_mem counts. */
static struct asc_error *check_heaps(struct shape *s)
{
	const struct asc_layout *l = s->l;
	asc_addr top = of(s, l->malloc_state_top), first = s->arena - l->sizeof__heap_info;
	uint64_t sys = of(s, l->malloc_state_system_mem), sum = 0, size, prot, prev = first, ar;
	asc_addr heap = asc_align_down(top, l->heap_max);

	s->heaps++;
	s->heaps_wrong += !first_chunk_ok(s);
	/* with huge pages heaps are larger: then the first is all that can be said */
	if (!word(s, heap + l->_heap_info_ar_ptr.off, &ar) || ar != s->arena)
		heap = first;
	for (unsigned n = 0; heap; n++, heap = prev) {
		if (n > HEAPS_MAX || !word(s, heap + l->_heap_info_size.off, &size) ||
		    !word(s, heap + l->_heap_info_mprotect_size.off, &prot) ||
		    !word(s, heap + l->_heap_info_prev.off, &prev))
			return WRONG("the heaps of arena 0x%" PRIx64 " cannot be followed",
				     s->arena);
		if (!size || size % s->page || prot % s->page || size > prot || prev % s->page ||
		    (heap == first) != !prev)
			return WRONG("0x%" PRIx64 " is no heap", heap);
		sum += size;
	}
	/* while it runs a heap may be on its way: no more than one */
	if (sum > 2 * sys || sys > 2 * sum + l->heap_max)
		return WRONG("system_mem is %" PRIu64 ", the heaps are %" PRIu64, sys, sum);
	return NULL;
}

static struct asc_error *check_main(const struct shape *s)
{
	const struct asc_layout *l = s->l;
	uint64_t sys = of(s, l->malloc_state_system_mem), top = of(s, l->malloc_state_top);

	if (!sys || of(s, l->malloc_state_flags) & 2 || !s->lib->mp)
		return NULL;
	if (top < s->sbrk_base || top - s->sbrk_base >= sys)
		return WRONG("top 0x%" PRIx64 " is not in the %" PRIu64 " bytes from 0x%" PRIx64,
			     top, sys, s->sbrk_base);
	return NULL;
}

/* What is not suspicious in one arena, but in all of them. */
static struct asc_error *check_all(const struct shape *s)
{
	bool all_locked = s->locked == s->arenas;
	size_t n;

	asc_target_threads(s->t, &n);
	if (n && s->l->malloc_state_attached_threads.present && !s->attached)
		return WRONG("no thread is attached to any arena");
	/* up to 2.26 every arena begins with "no fastbin chunks" in its flags */
	if (all_locked && s->l->fastchunks_flag_inverted && s->unflagged == s->arenas)
		return WRONG("locks and flags look swapped");
	return NULL;
}

static struct asc_error *check_arenas(struct shape *s)
{
	const struct asc_layout *l = s->l;

	s->arena = s->lib->main_arena;
	for (unsigned n = 0; n < ARENAS_MAX; n++) {
		ASC_TRY(asc_read(s->t, s->arena, s->p, l->sizeof_malloc_state));
		ASC_TRY(check_sums(s));
		ASC_TRY(check_lists(s));
		ASC_TRY(check_binmap(s));
		ASC_TRY(is_main(s) ? check_main(s) : check_heaps(s));
		s->arenas++;
		s->locked += of(s, l->malloc_state_mutex) != 0;
		s->unflagged += of(s, l->malloc_state_flags) == 0;
		s->attached += of(s, l->malloc_state_attached_threads);
		s->arena = of(s, l->malloc_state_next);
		if (is_main(s))
			break;
	}
	if (s->heaps_wrong && 2 * s->heaps_wrong >= s->heaps)
		return WRONG("no chunk begins where the arena's header should end");
	return check_all(s);
}

/* ---- mp_ ---- */

static struct asc_error *check_thresholds(const struct shape *s)
{
	enum { THP_MIN = 1 << 20, HUGE_MIN = 64 << 10 };
	const struct asc_layout *l = s->l;
	uint64_t trim = of(s, l->malloc_par_trim_threshold), pad = of(s, l->malloc_par_top_pad);
	uint64_t mmap = of(s, l->malloc_par_mmap_threshold);
	uint64_t thp = of(s, l->malloc_par_thp_pagesize), huge = of(s, l->malloc_par_hp_pagesize);
	uint64_t flags = of(s, l->malloc_par_hp_flags);

	if ((thp && thp < THP_MIN) || (huge && huge < HUGE_MIN) || !huge != !flags)
		return WRONG("mp_: huge pages of %" PRIu64 " and %" PRIu64
			     " bytes, flags 0x%" PRIx64,
			     thp, huge, flags);
	/* whatever sets one of them by hand stops their growth, but for huge pages */
	if (of(s, l->malloc_par_no_dyn_threshold) || huge)
		return NULL;
	if (of(s, l->malloc_par_n_mmaps_max) != 65536)
		return WRONG("mp_: n_mmaps_max was set by nobody");
	if (thp)
		return NULL;
	if (pad != DEFAULT || mmap < DEFAULT || trim != (mmap == DEFAULT ? DEFAULT : 2 * mmap))
		return WRONG("mp_: thresholds %" PRIu64 ", %" PRIu64 " and pad %" PRIu64
			     " that nobody sets",
			     trim, mmap, pad);
	return NULL;
}

static struct asc_error *check_mmaps(const struct shape *s)
{
	const struct asc_layout *l = s->l;
	uint64_t n = of(s, l->malloc_par_n_mmaps), bytes = of(s, l->malloc_par_mmapped_mem);
	uint64_t nmax = of(s, l->malloc_par_max_n_mmaps);
	uint64_t max = of(s, l->malloc_par_max_mmapped_mem);

	if (bytes / s->page < n)
		return WRONG("mp_: %" PRIu64 " mmapped chunks in %" PRIu64 " bytes", n, bytes);
	if (nmax > 1 && max < s->page)
		return WRONG("mp_: at most %" PRIu64 " mmapped chunks in %" PRIu64 " bytes", nmax,
			     max);
	if (!bytes != !n || bytes > max)
		return WRONG("mp_: %" PRIu64 " bytes in no mmapped chunk", bytes);
	/* 2.43 leaves the headers out of the sum in some places */
	if (!l->mmap_hdr_excluded && (bytes % s->page || max % s->page))
		return WRONG("mp_: mmapped_mem %" PRIu64 " of %" PRIu64 " is not whole pages",
			     bytes, max);
	return NULL;
}

/* A thread's cache holds something. */
static bool caches_used(const struct shape *s)
{
	const struct asc_layout *l = s->l;
	const struct asc_arch *arch = asc_target_arch(s->t);
	const struct asc_thread *th;
	size_t n;

	if (!s->lib->tls_known || s->lib->tcache_off == UINT64_MAX)
		return false;
	th = asc_target_threads(s->t, &n);
	for (size_t i = 0; i < n; i++) {
		asc_addr at =
			asc_tls_addr(arch, th[i].regs.tp, s->lib->tls_offset, s->lib->tcache_off);
		uint64_t cache, entry;

		if (!th[i].regs.tp_valid || !word(s, at, &cache) || !cache)
			continue;
		for (unsigned k = 0; k < l->ntcache; k++)
			if (word(s,
				 cache + l->tcache_perthread_struct_entries.off +
					 k * (uint64_t)l->word,
				 &entry) &&
			    entry)
				return true;
	}
	return false;
}

static struct asc_error *check_cache(const struct shape *s)
{
	enum { LARGE = 4 << 20, COUNT = 65535 };
	const struct asc_layout *l = s->l;
	uint64_t bytes = of(s, l->malloc_par_tcache_max_bytes);
	uint64_t count = of(s, l->malloc_par_tcache_count), last, bins;
	bool small = l->malloc_par_tcache_small_bins.present;

	if (!l->malloc_par_tcache_count.present)
		return NULL;
	if (bytes > LARGE || count > COUNT || (!count && caches_used(s)))
		return WRONG("mp_: tcache_max_bytes %" PRIu64 ", tcache_count %" PRIu64, bytes,
			     count);
	bins = of(s, small ? l->malloc_par_tcache_small_bins : l->malloc_par_tcache_bins);
	/*
	 * The last bin's largest request is the limit, unless a tunable rounds it up; from 2.42 on
	 * chunks are counted, not requests, and large ones have bins of their own.
	 */
	last = bins * l->malloc_alignment + (l->minsize - l->malloc_alignment) - l->word;
	if (!bins || bins > l->ntcache_small || bytes + l->malloc_alignment + l->word < last ||
	    (bytes > last + (small ? l->malloc_alignment + l->word : 0) &&
	     !(small && bins == l->ntcache_small)))
		return WRONG("mp_: tcache_max_bytes %" PRIu64 " does not fit %" PRIu64 " bins",
			     bytes, bins);
	return NULL;
}

/* A member that nobody sets has another value, and its own is found in a neighbour's place. */
static struct asc_error *check_swapped(const struct shape *s)
{
	const struct asc_layout *l = s->l;
	const struct {
		struct asc_field f;
		uint64_t usual;
		bool known; /* seldom has another value */
	} m[] = {
		{ l->malloc_par_arena_test, l->word == 8 ? 8 : 2, true },
		{ l->malloc_par_tcache_count, l->malloc_state_fastbinsY.present ? 7 : 16, true },
		{ l->malloc_par_arena_max, 0, true },
		{ l->malloc_par_tcache_unsorted_limit, 0, true },
		{ l->malloc_par_tcache_bins, 64, true },
		{ l->malloc_par_tcache_small_bins, 64, true },
		{ l->malloc_par_n_mmaps, 0, false },
		{ l->malloc_par_max_n_mmaps, 0, false },
		{ l->malloc_par_hp_flags, 0, true },
		{ l->malloc_par_thp_mode, 0, true },
		{ l->malloc_par_mmapped_mem, 0, false },
	};

	for (size_t i = 0; i < ASC_ARRAY_SIZE(m); i++)
		for (size_t k = 0; k < ASC_ARRAY_SIZE(m); k++) {
			uint64_t own = of(s, m[i].f), other = of(s, m[k].f);

			if (!m[i].f.present || !m[k].f.present || !m[i].known || !m[i].usual ||
			    m[i].f.size != m[k].f.size || own == m[i].usual)
				continue;
			if (other == m[i].usual && (!m[k].known || other != m[k].usual))
				return WRONG("mp_: members look swapped");
		}
	return NULL;
}

/* Behind a mp_ of before 2.26 there is no second half that looks like the cache's parameters. */
static bool cut_short(const struct shape *s)
{
	asc_addr end = s->lib->mp + s->l->sizeof_malloc_par;
	uint64_t bins, count;

	return !s->l->malloc_par_tcache_count.present && word(s, end, &bins) && bins == 64 &&
	       word(s, end + 2u * s->l->word, &count) && count == 7;
}

static struct asc_error *check_par(struct shape *s)
{
	enum { ARENAS = 1 << 20, MODES = 3 };
	const struct asc_layout *l = s->l;
	uint64_t test = l->word == 8 ? 8 : 2;

	ASC_TRY(asc_read(s->t, s->lib->mp, s->p, l->sizeof_malloc_par));
	if (of(s, l->malloc_par_arena_max) > ARENAS || of(s, l->malloc_par_arena_test) > ARENAS ||
	    of(s, l->malloc_par_n_mmaps_max) > INT32_MAX || of(s, l->malloc_par_thp_mode) > MODES)
		return WRONG("mp_: limits that nobody sets");
	/* the file has shown where it is, or it is what everybody has */
	if (!s->lib->shape_in_file && of(s, l->malloc_par_arena_test) != test)
		return WRONG("mp_: arena_test was set by nobody");
	if (of(s, l->malloc_par_max_total_mem) || cut_short(s))
		return WRONG("mp_ is of another release");
	ASC_TRY(check_thresholds(s));
	ASC_TRY(check_mmaps(s));
	ASC_TRY(check_swapped(s));
	return check_cache(s);
}

static struct asc_error *verify(struct asc_target *t, const struct asc_libc *lib)
{
	const struct asc_layout *l = &lib->layout;
	uint64_t size = asc_max(l->sizeof_malloc_state, l->sizeof_malloc_par);
	ASC_AUTO(asc_freep) uint8_t *buf = calloc(1, size + 8);
	struct shape s = { .t = t, .lib = lib, .l = l, .page = asc_target_page_size(t), .p = buf };

	if (!buf)
		return asc_err(ASC_ENOMEM, "checking malloc's structs");
	if (lib->mp && !word(&s, lib->mp + l->malloc_par_sbrk_base.off, &s.sbrk_base))
		return WRONG("mp_ is not readable");
	ASC_TRY(check_arenas(&s));
	return lib->mp ? check_par(&s) : NULL;
}

struct asc_error *asc_verify_shape(struct asc_target *t, const struct asc_libc *lib)
{
	/* a process that runs may be between two stores that belong together */
	enum { TRIES = 4, WAIT_US = 1000 };
	struct asc_error *err = verify(t, lib);

	for (int i = 1; err && i < TRIES; i++) {
		if (asc_target_kind(t) != ASC_LIVE || asc_target_is_stopped(t))
			break;
		asc_error_free(err);
		usleep(WAIT_US);
		err = verify(t, lib);
	}
	return err;
}
