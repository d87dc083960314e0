/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From a stopped target to an immutable model. The order of work is told in model.h. */
#include "glibc/heap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "base/spill.h"
#include "glibc/sweep.h"

/*
 * Of free chunks in memory where only lists are read: what is more goes to a file, so that no heap makes a
 * report take more than its goal.
 */
static const uint64_t LISTS_BYTES = 20 << 20, LISTS_LEAST = 8 << 20;
static const uint64_t LISTS_LESS = 16 << 10; /* for each thread, which takes memory elsewhere */

const char *asc_state_name(enum asc_state s)
{
	static const char *const names[] = { "in_use", "tcache", "fastbin", "unsorted",
					     "small",  "large",	 "top",	    "fencepost" };

	return (unsigned)s < ASC_ARRAY_SIZE(names) ? names[s] : "?";
}

static void free_region(struct asc_region *r)
{
	if (r->chunks_on_disk)
		asc_spill_unmap(r->chunks, r->nchunks);
	else
		free(r->chunks);
	free(r->spans);
	free(r->index);
}

static void free_arena(struct asc_arena *a)
{
	for (size_t i = 0; i < a->nregions; i++)
		free_region(&a->regions[i]);
	free(a->regions);
	if (a->extents.on_disk)
		asc_spill_unmap(a->extents.v, a->extents.n);
	else
		free(a->extents.v);
	free(a->extents.large);
	free(a->fast);
	free(a->bins);
	free(a->threads);
}

void asc_heap_free(struct asc_heap *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->narenas; i++)
		free_arena(&h->arenas[i]);
	for (size_t i = 0; i < h->nthreads; i++) {
		free(h->threads[i].bins);
		free(h->threads[i].entries);
	}
	for (size_t i = 0; i < h->nfindings; i++)
		free(h->findings[i].message);
	free(h->arenas);
	asc_mmapped_free(&h->mmapped);
	free(h->threads);
	free(h->findings);
	free(h);
}

void asc_heap_freep(struct asc_heap **h)
{
	asc_heap_free(*h);
	*h = NULL;
}

static void copy_libc(const struct asc_libc *lib, struct asc_heap_libc *to)
{
	const struct asc_layout *l = &lib->layout;

	memcpy(to->version, lib->version, sizeof(to->version));
	memcpy(to->build_id, lib->build_id, sizeof(to->build_id));
	to->version[sizeof(to->version) - 1] = to->build_id[sizeof(to->build_id) - 1] = 0;
	to->minor = lib->minor;
	to->layout = l->from == ASC_FROM_DWARF	 ? "dwarf"
		     : l->from == ASC_FROM_TABLE ? "table"
						 : "scan";
	to->malloc_state_size = l->sizeof_malloc_state;
	to->heap_info_size = l->sizeof__heap_info;
#define COPY(member) to->member = l->member
	COPY(word);
	COPY(hdr);
	COPY(malloc_alignment);
	COPY(minsize);
	COPY(chunk_struct);
	COPY(nfastbins);
	COPY(ntcache);
	COPY(trim_consolidates);
	COPY(trim_corrupt_flag);
	COPY(systrim_minsize_quirk);
	COPY(systrim_thp);
	COPY(mmap_hdr_excluded);
	COPY(lazy_init);
	COPY(info_rest_has_top);
	COPY(info_subheaps);
	COPY(info_has_mmap);
	COPY(info_has_fast);
	COPY(info_size_tabs);
	COPY(info_size_spaces);
	COPY(info_unsorted_spaces);
#undef COPY
	/* all releases with these members write alike */
	to->info_known = lib->minor || lib->info_known || l->_heap_info_pagesize.present ||
			 !l->malloc_state_fastbinsY.present;
	to->has_tcache = l->ntcache && l->tcache_perthread_struct_entries.present;
}

static struct asc_error *check_layout(const struct asc_layout *l)
{
	if ((l->word != 4 && l->word != 8) || l->hdr != 2 * l->word || l->malloc_alignment < 8 ||
	    !asc_is_pow2(l->malloc_alignment) || l->minsize < 4u * l->word ||
	    !asc_is_pow2(l->heap_max) || !l->sizeof_malloc_state || !l->sizeof__heap_info)
		return asc_err(ASC_ENOSYM, "the layout of libc's malloc is not complete");
	return NULL;
}

static uint64_t lists_bytes(const struct asc_model *m)
{
	uint64_t bytes = LISTS_BYTES;
	size_t n;

	asc_target_threads(m->t, &n);
	bytes = asc_max(bytes - asc_min(bytes, n * LISTS_LESS), LISTS_LEAST);
	return m->memory_max ? asc_min(bytes, m->memory_max) : bytes;
}

static struct asc_error *model_init(struct asc_model *m)
{
	const struct asc_arch *arch = asc_target_arch(m->t);
	const struct asc_maps *maps = asc_target_maps(m->t);
	const struct asc_map *map;

	m->spill_fd = -1;
	ASC_TRY(check_layout(m->l));
	m->h = calloc(1, sizeof(*m->h));
	m->window = malloc(ASC_WALK_WINDOW + ASC_CACHE_PAGE);
	if (!m->h || !m->window)
		return asc_err(ASC_ENOMEM, "heap model");
	ASC_TRY(asc_cache_init(&m->cache));
	m->h->complete = true;
	m->h->page_size = asc_target_page_size(m->t);
	copy_libc(m->lib, &m->h->libc);
	m->native = arch->word_size == 8 && !arch->big_endian;
	m->align_mask = m->l->malloc_alignment - 1u;
	m->large_min = asc_large_min(&m->h->libc);
	m->chunk_phase = asc_first_chunk(m->l, 0) & m->align_mask;
	m->findings_max = m->opts->max_findings ? m->opts->max_findings : 1000;
	m->memory_max = m->memory_hard = m->opts->max_memory;
	if (m->opts->depth == ASC_DEPTH_LISTS)
		m->memory_max = lists_bytes(m);
	map = asc_maps_find(maps, m->lib->main_arena);
	m->h->libc_data_start = map ? map->start : m->lib->main_arena;
	m->h->libc_data_end = map ? map->end : m->lib->main_arena + m->l->sizeof_malloc_state;
	ASC_TRY(asc_params_read(m->t, m->lib, &m->h->params));
	m->heap_max = asc_heap_max(m->l, m->h->params.hp_pagesize);
	return NULL;
}

static void model_deinit(struct asc_model *m)
{
	asc_sweep_end(m);
	for (size_t i = 0; m->work && i < m->nwork; i++) {
		if (!m->work[i].members.on_disk)
			free(m->work[i].members.v);
		asc_spill_abandon(&m->work[i].spill, m->spill_fd);
		free(m->work[i].members.large);
	}
	for (size_t i = 0; i < m->findings.len; i++)
		free(m->findings.data[i].message);
	asc_vec_free(&m->findings);
	asc_vec_free(&m->refs);
	asc_cache_deinit(&m->cache);
	asc_nodes_deinit(&m->nodes);
	if (m->spill_fd >= 0)
		close(m->spill_fd);
	free(m->window);
	free(m->work);
	asc_heap_free(m->h);
}

/* Arenas and where their chunks can be: what the plan needs, too. */
struct asc_error *asc_model_open(struct asc_model *m)
{
	ASC_TRY(model_init(m));
	ASC_TRY(asc_arenas_read(m));
	/* the main arena last: in pieces, it may be wherever the others are not */
	for (size_t i = m->h->narenas; i--;)
		ASC_TRY(asc_regions_find(m, i));
	ASC_TRY(asc_regions_index(m));
	for (size_t i = 0; i < m->refs.len; i++)
		m->total += m->refs.data[i].end - m->refs.data[i].start;
	return NULL;
}

void asc_model_close(struct asc_model *m)
{
	model_deinit(m);
	*m = (struct asc_model){ 0 };
}

static struct asc_error *read_arena(struct asc_model *m, size_t i)
{
	bool pieces = m->work[i].pieces, walk = m->opts->depth == ASC_DEPTH_WALK;

	if (walk && !pieces)
		ASC_TRY(asc_sweep_arena(m, i));
	ASC_TRY(asc_lists_read(m, i));
	ASC_TRY(asc_lists_keep(m, &m->h->arenas[i]));
	ASC_TRY(asc_tops_push(m, i));
	asc_sweep_drop(m, i, false);
	ASC_TRY(asc_members_settle(m, i));
	if (pieces)
		ASC_TRY(asc_pieces_find(m));
	if (walk) {
		ASC_TRY(asc_sweep_arena(m, i));
		asc_sweep_drop(m, i, false);
		ASC_TRY(asc_arena_walk(m, i));
	}
	asc_sweep_drop(m, i, true);
	ASC_TRY(asc_arena_finish(m, i));
	return asc_check_arena(m, i);
}

/* Is it one of those that are asked for? */
static bool wanted(const struct asc_model *m, size_t arena)
{
	const struct asc_region_ref *r;

	if (m->opts->wanted && !m->opts->wanted(m->opts->wanted_arg, m->h->arenas[arena].addr))
		return false;
	if (!m->opts->focus || m->work[arena].pieces)
		return true;
	r = asc_region_at(m, m->opts->focus);
	return r && r->arena == arena;
}

/* The lists of a large arena will be swept, or followed over more pages than are worth foreseeing. */
static bool worth_rehearsing(const struct asc_model *m, size_t arena)
{
	enum { LARGE = 4 << 20 };

	return !m->work[arena].pieces && asc_arena_walk_bytes(m, arena) <= LARGE;
}

static struct asc_error *read_all(struct asc_model *m)
{
	ASC_TRY(asc_model_open(m));
	ASC_TRY(asc_heap_threads(m));
	asc_nodes_deinit(&m->nodes);
	if (m->opts->depth != ASC_DEPTH_THREADS)
		ASC_TRY(asc_prefetch_fastbins(m));
	for (size_t i = 0; i < m->h->narenas; i++) {
		/* where the main arena's pieces are is told by its lists */
		if (m->opts->depth == ASC_DEPTH_THREADS && !m->work[i].pieces)
			continue;
		if (!wanted(m, i))
			continue;
		if (m->opts->rehearsal && !m->opts->rehearsed && !worth_rehearsing(m, i)) {
			m->h->complete = false;
			continue;
		}
		ASC_TRY(read_arena(m, i));
		if (m->opts->depth == ASC_DEPTH_LISTS)
			ASC_TRY(asc_model_progress(m, 0));
	}
	asc_sweep_end(m);
	if (m->opts->depth != ASC_DEPTH_THREADS && !m->opts->stepwise)
		ASC_TRY(asc_mmapped_read(m));
	m->h->walked = m->opts->depth == ASC_DEPTH_WALK;
	asc_findings_finish(m);
	return NULL;
}

struct asc_error *asc_heap_read(struct asc_target *t, const struct asc_libc *lib,
				const struct asc_residency *res, const struct asc_heap_opts *opts,
				struct asc_heap **ret)
{
	struct asc_model m = { .t = t, .lib = lib, .l = &lib->layout, .res = res, .opts = opts };
	struct asc_error *err = read_all(&m);

	if (!err)
		*ret = asc_take(m.h);
	else
		err = asc_wrap(err, "reading the heap");
	asc_model_close(&m);
	return err;
}
