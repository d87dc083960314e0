/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside asc_heap_read(): what its files share. Order of work: arena ring and headers, heaps and
 * regions, tcaches, free lists, then each arena's members sorted by address, laid over its regions
 * and, for a walk, merged with the chunks themselves.
 */
#ifndef ASC_GLIBC_MODEL_H
#define ASC_GLIBC_MODEL_H

#include "base/spill.h"
#include "base/vec.h"
#include "glibc/heap.h"

/* ---- heap_cache.c: list nodes are read at random addresses, a page at a time ---- */

enum { ASC_CACHE_PAGE = 4096, ASC_CACHE_SLOTS = 256 };

struct asc_cache {
	asc_addr *tags;	 /* page address | 1; 0: empty */
	uint16_t *valid; /* readable bytes from the page's start */
	uint8_t *pages;
	uint64_t reads, misses;
	uint64_t misses_max; /* 0: no bound; beyond it nothing is read any more */
	asc_addr last;	     /* what was read for itself alone */
};

/* ---- lists.c: those of the arena that is being read ---- */

struct asc_lists {
	struct asc_bin fast[ASC_NFASTBINS_MAX];
	struct asc_bin bins[ASC_NBINS];
};

/* ---- prefetch.c: nodes of fastbins and tcaches that were read beforehand ---- */

struct asc_node {
	asc_addr addr; /* of the chunk; 0: empty slot */
	uint8_t bytes[32];
};

/* Open addressing, at most half full. */
struct asc_nodes {
	struct asc_node *slots;
	size_t cap, len;
};

/* A region, by address, of any arena. */
struct asc_region_ref {
	asc_addr start, end;
	size_t arena, region;
};

/* What is collected for an arena besides its public part. */
struct asc_arena_work {
	struct asc_extents members; /* free, top and fence chunks found by lists and headers */
	size_t members_cap;
	struct asc_spill spill;	  /* where they are if they are too many for memory */
	bool lists_broken;	  /* a list was not followed to its end */
	struct asc_sweep *sweeps; /* of its regions, or NULL (sweep.h) */
	size_t nsweeps, last_sweep;
	bool swept;	   /* they can be looked at */
	bool cut;	   /* there were more free chunks than may be kept */
	bool cut_fast;	   /* ditto of what looks like members of fastbins */
	bool many;	   /* so many free chunks that a pass may be shorter than following them */
	bool untold;	   /* it was not swept, since a pass is, most likely */
	uint64_t patience; /* misses of the cache at which to sweep */
	bool pieces;	   /* main arena of unknown extent: regions are zones until walked */
};

struct asc_model {
	struct asc_target *t;
	const struct asc_libc *lib;
	const struct asc_layout *l;
	const struct asc_residency *res;
	const struct asc_heap_opts *opts;
	struct asc_heap *h;
	struct asc_arena_work *work; /* of h->arenas */
	size_t nwork;
	struct asc_cache cache;
	struct asc_nodes nodes;
	struct asc_lists lists;
	size_t sweeps;	       /* how many arenas were swept */
	unsigned passes, lost; /* arenas whose bins a pass has told, or has not */
	bool lists_long;       /* fastbins went on where a sweep is cheaper (prefetch.c) */
	struct asc_crew *crew; /* who sweeps, or NULL (sweep_crew.c) */
	ASC_VEC(struct asc_region_ref) refs;
	ASC_VEC(struct asc_finding) findings;
	size_t findings_max;
	uint64_t heap_max;    /* alignment and room of a heap_info */
	uint64_t align_mask;  /* of chunks */
	uint64_t large_min;   /* the smallest size of large bins */
	uint64_t chunk_phase; /* chunk addresses are this modulo the alignment */
	uint64_t memory;      /* bytes of the tables */
	uint64_t memory_max;  /* beyond that they go to a file; 0: no bound */
	uint64_t memory_hard; /* ... or, where there is none, may be in memory up to that */
	int spill_fd;	      /* for what is more than that; -1: none yet */
	uint64_t done, total; /* progress in bytes of regions */
	bool native;	      /* words as the host's: 64-bit little-endian */
	uint8_t *window;
	bool large_only; /* follow only the bins that hold chunks of ASC_PLAN_LARGE bytes and more */
};

/* What a link at address @p at that holds @p raw points to (safe-linking). */
static inline asc_addr asc_link_target(const struct asc_layout *l, asc_addr at, uint64_t raw)
{
	return l->safe_linking ? raw ^ at >> 12 : raw;
}

static inline bool asc_chunk_aligned(const struct asc_model *m, asc_addr addr)
{
	return (addr & m->align_mask) == m->chunk_phase;
}

enum { ASC_PLAN_LARGE = 64 * 1024 };

/* Window of the chunk walk: small enough to stay in the second-level cache. */
enum { ASC_WALK_WINDOW = 256 * 1024 };

/* ---- heap.c ---- */

/* Arena headers and regions. Close it in any case. */
ASC_MUST struct asc_error *asc_model_open(struct asc_model *m);
void asc_model_close(struct asc_model *m);

/* ---- heap_cache.c ---- */

ASC_MUST struct asc_error *asc_cache_init(struct asc_cache *c);
void asc_cache_deinit(struct asc_cache *c);
/* Copy @p len bytes; false if any of them is not readable. */
bool asc_model_get(struct asc_model *m, asc_addr addr, void *buf, size_t len);
bool asc_model_word(struct asc_model *m, asc_addr addr, uint64_t *ret);
bool asc_model_uint(struct asc_model *m, asc_addr addr, size_t size, uint64_t *ret);
/* @p n words from @p addr. */
bool asc_model_words(struct asc_model *m, asc_addr addr, uint64_t *ret, size_t n);
/* A member of a struct; false if it is absent or not readable. */
bool asc_model_field(struct asc_model *m, asc_addr base, struct asc_field f, uint64_t *ret);

/* ---- prefetch.c ---- */

void asc_nodes_deinit(struct asc_nodes *n);
const struct asc_node *asc_node_at(const struct asc_nodes *n, asc_addr addr);
ASC_MUST struct asc_error *asc_prefetch_tcaches(struct asc_model *m, const asc_addr *tcache,
						size_t n);
ASC_MUST struct asc_error *asc_prefetch_fastbins(struct asc_model *m);

/* Count @p bytes of tables. @return false: that would be beyond the bound, and they are not counted */
bool asc_model_account(struct asc_model *m, uint64_t bytes);
/* ... or ASC_ENOMEM naming --max-memory: for what cannot be anywhere else. */
ASC_MUST struct asc_error *asc_model_need(struct asc_model *m, uint64_t bytes);
/* A file for tables beyond it; ASC_ENOMEM naming --max-memory where there is none. */
ASC_MUST struct asc_error *asc_model_spill(struct asc_model *m);
/* Progress; ASC_EINTR when the caller wants it to end. */
ASC_MUST struct asc_error *asc_model_progress(struct asc_model *m, uint64_t bytes);

/* ---- check.c ---- */

struct asc_at {
	int arena; /* -1: none */
	asc_addr addr, prev;
	uint64_t unwalked;
	bool transient; /* what is wrong may be a thread between two stores */
	bool hard;	/* never to be explained by an operation under way */
};
/* Add a finding of the table in asc_finding_codes; its severity follows from the code, unless
 * the arena is busy. */
ASC_MUST struct asc_error *asc_model_find(struct asc_model *m, const char *code, struct asc_at at,
					  const char *fmt, ...) ASC_PRINTF(4, 5);
ASC_MUST struct asc_error *asc_check_arena(struct asc_model *m, size_t arena);
ASC_MUST struct asc_error *asc_check_heap(struct asc_model *m);
void asc_findings_finish(struct asc_model *m);

/* ---- arena.c, arena_regions.c ---- */

ASC_MUST struct asc_error *asc_arenas_read(struct asc_model *m);
ASC_MUST struct asc_error *asc_regions_find(struct asc_model *m, size_t arena);
ASC_MUST struct asc_error *asc_region_add(struct asc_model *m, size_t arena, struct asc_region r);
/* First chunk address at or behind @p addr. */
asc_addr asc_first_chunk(const struct asc_layout *l, asc_addr addr);
uint64_t asc_heap_max(const struct asc_layout *l, uint64_t hp_pagesize);
ASC_MUST struct asc_error *asc_regions_index(struct asc_model *m);
/* The region that holds @p addr, or NULL. */
const struct asc_region_ref *asc_region_at(const struct asc_model *m, asc_addr addr);
ASC_MUST struct asc_error *asc_params_read(struct asc_target *t, const struct asc_libc *lib,
					   struct asc_params *ret);
/* Base address of a bin's pseudo chunk. */
asc_addr asc_bin_at(const struct asc_layout *l, asc_addr arena, unsigned i);

/* ---- lists.c ---- */

/* An arena's lists are as m->lists has them, which is empty then. */
ASC_MUST struct asc_error *asc_lists_keep(struct asc_model *m, struct asc_arena *arena);

/* ---- lists_read.c, bins_sort.c ---- */

/* Into m->lists. */
ASC_MUST struct asc_error *asc_lists_read(struct asc_model *m, size_t arena);
ASC_MUST struct asc_error *asc_member_push(struct asc_model *m, size_t arena, asc_addr addr,
					   uint64_t size, enum asc_state state);
/* One that was a member of this arena before, by its word. */
ASC_MUST struct asc_error *asc_member_push_word(struct asc_model *m, size_t arena, uint64_t word);
/* More words of them than there can be. */
size_t asc_members_max(const struct asc_model *m, size_t arena);
void asc_members_base(const struct asc_model *m, size_t arena, struct asc_extents *x);
/* Sort members, report and drop what overlaps. */
ASC_MUST struct asc_error *asc_members_settle(struct asc_model *m, size_t arena);
/* By address, wherever they are. */
ASC_MUST struct asc_error *asc_members_sort(struct asc_model *m, size_t arena);

/* ---- extents_sort.c ---- */

void asc_extents_sort(struct asc_extents *x);
void asc_words_sort(uint64_t *v, size_t n);
enum { ASC_SORT_PART = 256 << 10 }; /* words */
/* The first @p n words of a table in file @p fd, which becomes another one there; @p part at a time. */
ASC_MUST struct asc_error *asc_words_sort_spilled(struct asc_spill *s, int fd, size_t n,
						  size_t part);

/* ---- extents.c ---- */

/* For an arena between @p lo and @p hi of a target of this word size. */
void asc_extents_base(struct asc_extents *x, unsigned word, asc_addr lo, asc_addr hi);
/* Can an address be told from the base? */
bool asc_extent_near(const struct asc_extents *x, asc_addr addr);
/* A chunk's word. @return false: it needs asc_extents_add_large() as well */
bool asc_extent_pack(const struct asc_extents *x, const struct asc_chunk *c, uint64_t *ret);
ASC_MUST struct asc_error *asc_extents_add_large(struct asc_extents *x, const struct asc_chunk *c);
void asc_extents_sort_large(struct asc_extents *x);
/* Of sorted ones, make the one at @p i as short as that. */
ASC_MUST struct asc_error *asc_extents_cut(struct asc_extents *x, size_t i, uint64_t size);

/* ---- chunk.c, chunk_regions.c, chunk_pieces.c ---- */

/* Members that no list holds: top, and the fenceposts of full heaps. */
ASC_MUST struct asc_error *asc_tops_push(struct asc_model *m, size_t arena);
/* Turn the zones of a main arena in pieces into its regions. */
ASC_MUST struct asc_error *asc_pieces_find(struct asc_model *m);

ASC_MUST struct asc_error *asc_arena_walk(struct asc_model *m, size_t arena);
/* Give every region its slice of the arena's extents, and sum up. */
ASC_MUST struct asc_error *asc_arena_finish(struct asc_model *m, size_t arena);

/* Bytes in memory of an arena's regions, but for its top. */
uint64_t asc_arena_walk_bytes(const struct asc_model *m, size_t arena);

/* ---- mmapped_table.c ---- */

/* One that grows: in a file where it is more than may be in memory. */
struct asc_mmapped_work {
	size_t cap;
	ASC_VEC(struct asc_mmapped) odd;
	struct asc_spill spill;
};
/* Behind all others. */
ASC_MUST struct asc_error *asc_mmapped_push(struct asc_model *m, struct asc_mmapped_work *w,
					    const struct asc_mmapped *c);
/* Begin anew. */
/* Those from the @p known -th on, by address among themselves, go to where they belong among those before. */
ASC_MUST struct asc_error *asc_mmapped_sort(struct asc_model *m, struct asc_mmapped_work *w,
					    size_t known);
void asc_mmapped_reset(struct asc_model *m, struct asc_mmapped_work *w);
/* It grows no more. */
void asc_mmapped_finish(struct asc_model *m, struct asc_mmapped_work *w);
void asc_mmapped_free(struct asc_mmapped_table *t);

/* ---- tcache.c, mmapped.c ---- */

ASC_MUST struct asc_error *asc_heap_threads(struct asc_model *m);
ASC_MUST struct asc_error *asc_mmapped_read(struct asc_model *m);
asc_addr asc_thread_slot(const struct asc_target *t, const struct asc_libc *lib,
			 const struct asc_thread *thread, uint64_t off);
/* Is its PC in libc, and not in a system call? Then malloc may be half done. */
bool asc_thread_in_libc(const struct asc_model *m, const struct asc_thread *thread);
/* May @p map hold mmapped chunks or pieces of the main arena: private, writable, no file. */
bool asc_map_anonymous(const struct asc_map *map);

#endif
