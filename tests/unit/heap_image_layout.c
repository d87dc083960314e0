/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Layouts of struct malloc_state and its kin by release, as arithmetic. */
#include "heap_image_priv.h"

const struct hi_shape hi_shapes[] = {
	{ 8, false, 17 }, { 8, false, 23 }, { 8, false, 26 }, { 8, false, 27 }, { 8, false, 31 },
	{ 8, false, 36 }, { 8, false, 42 }, { 8, false, 43 }, { 8, true, 17 },	{ 8, true, 23 },
	{ 8, true, 26 },  { 8, true, 27 },  { 8, true, 31 },  { 8, true, 36 },	{ 8, true, 42 },
	{ 8, true, 43 },  { 4, false, 17 }, { 4, false, 23 }, { 4, false, 26 }, { 4, false, 27 },
	{ 4, false, 31 }, { 4, false, 36 }, { 4, false, 42 }, { 4, false, 43 }, { 4, true, 17 },
	{ 4, true, 23 },  { 4, true, 26 },  { 4, true, 27 },  { 4, true, 31 },	{ 4, true, 36 },
	{ 4, true, 42 },  { 4, true, 43 },
};
const size_t hi_nshapes = sizeof(hi_shapes) / sizeof(hi_shapes[0]);

/* Lay members one behind the other, as a compiler does. */
static struct asc_field put(uint64_t *at, uint32_t elem, uint32_t n)
{
	struct asc_field f = { .present = true, .size = elem * n, .elem = elem };

	*at = (*at + elem - 1) / elem * elem;
	f.off = (uint32_t)*at;
	*at += f.size;
	return f;
}

static uint64_t round_to(uint64_t v, uint64_t to)
{
	return (v + to - 1) / to * to;
}

static void state(struct asc_layout *l, unsigned minor)
{
	uint32_t w = l->word;
	uint64_t at = 0;

	l->malloc_state_mutex = put(&at, 4, 1);
	l->malloc_state_flags = put(&at, 4, 1);
	if (minor >= 27 && minor <= 42)
		l->malloc_state_have_fastchunks = put(&at, 4, 1);
	if (minor <= 42)
		l->malloc_state_fastbinsY = put(&at, w, l->nfastbins);
	l->malloc_state_top = put(&at, w, 1);
	l->malloc_state_last_remainder = put(&at, w, 1);
	l->malloc_state_bins = put(&at, w, 254);
	l->malloc_state_binmap = put(&at, 4, 4);
	l->malloc_state_next = put(&at, w, 1);
	l->malloc_state_next_free = put(&at, w, 1);
	if (minor >= 23)
		l->malloc_state_attached_threads = put(&at, w, 1);
	l->malloc_state_system_mem = put(&at, w, 1);
	l->malloc_state_max_system_mem = put(&at, w, 1);
	l->sizeof_malloc_state = round_to(at, w);
}

static void par(struct asc_layout *l, unsigned minor)
{
	uint32_t w = l->word;
	uint64_t at = 0;

	l->malloc_par_trim_threshold = put(&at, w, 1);
	l->malloc_par_top_pad = put(&at, w, 1);
	l->malloc_par_mmap_threshold = put(&at, w, 1);
	l->malloc_par_arena_test = put(&at, w, 1);
	l->malloc_par_arena_max = put(&at, w, 1);
	if (minor >= 43)
		l->malloc_par_thp_mode = put(&at, 4, 1);
	if (minor >= 35) {
		l->malloc_par_thp_pagesize = put(&at, w, 1);
		l->malloc_par_hp_pagesize = put(&at, w, 1);
		l->malloc_par_hp_flags = put(&at, 4, 1);
	}
	l->malloc_par_n_mmaps = put(&at, 4, 1);
	l->malloc_par_n_mmaps_max = put(&at, 4, 1);
	l->malloc_par_max_n_mmaps = put(&at, 4, 1);
	l->malloc_par_no_dyn_threshold = put(&at, 4, 1);
	l->malloc_par_mmapped_mem = put(&at, w, 1);
	l->malloc_par_max_mmapped_mem = put(&at, w, 1);
	if (minor <= 23)
		l->malloc_par_max_total_mem = put(&at, w, 1);
	l->malloc_par_sbrk_base = put(&at, w, 1);
	if (minor >= 26 && minor <= 41)
		l->malloc_par_tcache_bins = put(&at, w, 1);
	if (minor >= 42)
		l->malloc_par_tcache_small_bins = put(&at, w, 1);
	if (minor >= 26) {
		l->malloc_par_tcache_max_bytes = put(&at, w, 1);
		l->malloc_par_tcache_count = put(&at, w, 1);
	}
	if (minor >= 26 && minor <= 43)
		l->malloc_par_tcache_unsorted_limit = put(&at, w, 1);
	l->sizeof_malloc_par = round_to(at, w);
}

static void heap_info(struct asc_layout *l, unsigned minor)
{
	uint32_t w = l->word;
	uint64_t at = 0;

	l->_heap_info_ar_ptr = put(&at, w, 1);
	l->_heap_info_prev = put(&at, w, 1);
	l->_heap_info_size = put(&at, w, 1);
	l->_heap_info_mprotect_size = put(&at, w, 1);
	if (minor >= 35)
		l->_heap_info_pagesize = put(&at, w, 1);
	/* padded so that the chunk behind it is aligned */
	while ((at + l->hdr) % l->malloc_alignment)
		at += w;
	l->sizeof__heap_info = at;
}

static void tcache(struct asc_layout *l, unsigned minor)
{
	uint64_t at = 0;

	if (minor < 26)
		return;
	l->ntcache_small = 64;
	l->ntcache = minor >= 42 ? 76 : 64;
	if (minor >= 42)
		l->tcache_perthread_struct_num_slots = put(&at, 2, 76);
	else
		l->tcache_perthread_struct_counts = put(&at, minor >= 30 ? 2 : 1, 64);
	l->tcache_perthread_struct_entries = put(&at, l->word, l->ntcache);
	l->sizeof_tcache_perthread_struct = round_to(at, l->word);
}

void hi_layout(struct asc_layout *l, unsigned word, unsigned minor)
{
	*l = (struct asc_layout){ .from = ASC_FROM_TABLE, .word = (uint8_t)word, .nbins = 128 };
	l->hdr = (uint8_t)(2 * word);
	l->malloc_alignment = word == 4 && minor <= 25 ? 8 : 16;
	l->minsize = (uint16_t)(4 * word);
	l->chunk_struct = (uint16_t)(6 * word);
	l->heap_max = word == 8 ? 64 << 20 : 1 << 20;
	l->nfastbins = minor >= 43 ? 0 : word == 4 && minor >= 26 ? 11 : 10;
	state(l, minor);
	par(l, minor);
	heap_info(l, minor);
	tcache(l, minor);
	l->safe_linking = minor >= 32;
	l->tcache_key_random = minor >= 34;
	l->tcache_key_owner = minor >= 29 && minor <= 33;
	l->tcache_counts_are_slots = minor >= 42;
	l->tcache_dummy = minor >= 43;
	l->mmap_hdr_excluded = minor >= 43;
	l->heap_max_is_4hp = minor >= 35 && minor <= 41;
	l->lazy_init = minor <= 41;
	l->trim_consolidates = minor <= 42;
	l->trim_corrupt_flag = minor >= 22 && minor <= 26;
	l->systrim_minsize_quirk = minor >= 19;
	l->systrim_thp = minor >= 35;
	l->fastchunks_flag_inverted = minor <= 26;
	l->small_to_smallbin = minor >= 41;
	l->single_thread_unlocked = minor >= 27;
	l->largebin_32_big = word == 4 && minor >= 26;
	l->info_rest_has_top = minor >= 31;
	l->info_subheaps = minor >= 27;
	l->info_has_mmap = minor >= 20;
	l->info_has_fast = minor <= 42;
	l->info_size_tabs = minor >= 19 && minor <= 30 ? 7 : 0;
	l->info_size_spaces = minor <= 18 ? 0 : minor == 19 ? 6 : minor <= 30 ? 8 : 2;
	l->info_unsorted_spaces = minor <= 19 ? 0 : 2;
}
