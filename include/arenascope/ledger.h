/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where every resident page is, and what malloc_trim and reclaim would return. Pure functions of
 * a heap model, residency and maps: no target is read.
 */
#ifndef ARENASCOPE_LEDGER_H
#define ARENASCOPE_LEDGER_H

#include "arenascope/heap.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * resident = in_use + cached + trimmable + retained + fragmented + metadata, exactly.
 * Every field is bytes. Unknown residency: `known` is false and the fields mean nothing.
 */
struct asc_pages {
	bool known;
	bool cached_known; /**< false: not every tcache was found; what is in them is in in_use */
	uint64_t resident, in_use, cached, trimmable, retained, fragmented, metadata;
	uint64_t nonresident, swapped;
};

struct asc_region_ledger {
	asc_addr start;
	struct asc_pages pages;
	uint64_t mapped;
};

struct asc_arena_ledger {
	struct asc_pages pages;
	uint64_t mapped, max_mapped;	   /**< system_mem, max_system_mem */
	struct asc_region_ledger *regions; /**< as heap->arenas[i].regions */
	size_t nregions;
};

/** A named line of the ledger that is not malloc's. */
struct asc_ledger_item {
	char *name; /**< owned, may hold foreign bytes */
	uint64_t bytes, swapped;
};

struct asc_stack_use {
	pid_t tid;
	asc_addr start, end; /**< the stack's mapping (guard excluded) */
	uint64_t resident, swapped;
};

/** What owns the resident bytes of one mapping. */
struct asc_map_use {
	size_t map; /**< index in the maps the ledger was made from */
	uint64_t resident, swapped;
	const char *
		owner; /**< static: "malloc", "mmapped chunk", "stack", "file", "shared", "other" ... */
	int detail; /**< index into other[] for "other", arena index for "malloc", -1 none */
};

struct asc_ledger {
	bool known;	     /**< false: residency unknown, every byte count below is meaningless */
	bool approximate;    /**< a core, or the pages are of another moment than the heaps */
	uint64_t rss;	     /**< sum of the lines == kernel's Rss of the same stop */
	uint64_t kernel_rss; /**< smaps Rss read in the same stop */
	bool kernel_rss_known;
	uint64_t swap;
	struct asc_pages malloc_pages; /**< sum over arenas of all libcs */
	uint64_t mmapped_chunks, mmapped_swapped;
	uint64_t thread_stacks, files, shared, unknown_anonymous;
	struct asc_stack_use *stacks;
	size_t nstacks;
	struct asc_ledger_item *other; /**< other anonymous memory that could be named */
	size_t nother;
	struct asc_map_use *maps;
	size_t nmaps;
	struct asc_arena_ledger *arenas; /**< as heap->arenas */
	size_t narenas;
};

struct asc_ledger_in {
	const struct asc_heap *const *heaps; /**< one a libc; [0] is the primary */
	size_t nheaps;
	const struct asc_residency *res;
	const struct asc_maps *maps;
	const struct asc_thread *threads;
	size_t nthreads;
	const struct asc_arch *arch;
	uint64_t kernel_rss;
	bool kernel_rss_known;
	bool core;
	bool later; /**< res is of a moment after that of the heaps and of kernel_rss */
	const struct asc_range *mlocked,
		*hugetlb; /**< by address; may be empty (asc_vmflags_read) */
	size_t nmlocked, nhugetlb;
	const char *allocator; /**< who malloc is, if it is not glibc: "jemalloc" ...; or NULL */
};

ASC_API ASC_MUST struct asc_error *asc_ledger_make(const struct asc_ledger_in *in,
						   struct asc_ledger **ret);
ASC_API void asc_ledger_free(struct asc_ledger *l);

/* ---- what malloc_trim(pad) and reclaim would return ---- */

enum asc_stay {
	ASC_STAY_TOP,	      /**< top of a non-main arena: malloc_trim never touches it */
	ASC_STAY_SHARED_PAGE, /**< free bytes on a page with live data or list headers */
	ASC_STAY_TCACHE,
	ASC_STAY_FASTBIN,      /**< reclaim only: it may not touch them */
	ASC_STAY_PAD,	       /**< top of the main arena below pad, MINSIZE and page rounding */
	ASC_STAY_FOREIGN_SBRK, /**< someone moved brk: systrim gives up */
	ASC_STAY_NONCONTIGUOUS,
	ASC_STAY_MLOCKED,
	ASC_STAY_HUGETLB,
	ASC_STAY_BUSY,	  /**< the arena could not be read cleanly, or its lock is held */
	ASC_STAY_CORRUPT, /**< glibc 2.22 to 2.26: it found the arena corrupt and leaves it alone */
	ASC_NSTAYS
};
/** A short phrase: "in tops of non-main arenas" ... */
ASC_API const char *asc_stay_name(enum asc_stay s);
/** For JSON: "top", "shared_page", "tcache" ... */
ASC_API const char *asc_stay_key(enum asc_stay s);

struct asc_trim_arena {
	unsigned index;
	uint64_t bytes;	  /**< resident bytes that would be returned */
	uint64_t swapped; /**< swapped bytes that would be freed as well */
	uint64_t ranges;  /**< madvise calls */
	uint64_t walked;  /**< free chunks looked at: the lock is held for them */
};

struct asc_prediction {
	bool known; /**< false: residency unknown; bytes is an upper bound from chunk sizes */
	bool upper_bound;
	uint64_t pad;
	uint64_t bytes, swapped, ranges;
	int return_value;  /**< of malloc_trim: 0 or 1 */
	int64_t brk_delta; /**< change of brk by systrim: < 0 shrinks, > 0 the MINSIZE quirk */
	struct asc_trim_arena *arenas;
	size_t narenas;
	uint64_t stays[ASC_NSTAYS]; /**< resident free bytes that stay, by reason */
	double stall_ms;	    /**< estimate: longest hold of one arena's lock */
	/**
	 * What of the arenas would stay resident if every page without a live byte or a header were
	 * released, tcaches included (b1), and with perfect compaction (b2). mmapped chunks apart.
	 */
	uint64_t bound_b1, bound_b2;
};

/** Which ranges cannot be released: mlocked and hugetlb mappings, by address. May be empty. */
struct asc_trim_in {
	const struct asc_heap *heap;
	const struct asc_residency *res;
	const struct asc_range *mlocked, *hugetlb;
	size_t nmlocked, nhugetlb;
	int arena; /**< reclaim: only this one; -1 all */
};

/** Replay mtrim and systrim of the heap's own glibc version. */
ASC_API ASC_MUST struct asc_error *asc_predict_trim(const struct asc_trim_in *in, uint64_t pad,
						    struct asc_prediction **ret);
/** Every whole free resident page of binned chunks and tops (DESIGN section 6). */
ASC_API ASC_MUST struct asc_error *asc_predict_reclaim(const struct asc_trim_in *in,
						       struct asc_prediction **ret);
ASC_API void asc_prediction_free(struct asc_prediction *p);

#ifdef __cplusplus
}
#endif
#endif
