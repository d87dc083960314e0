/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which live chunks keep free memory from going back, how full pages are, and a heap as cells of
 * a map. Pure functions of a heap model and residency.
 */
#ifndef ARENASCOPE_PINS_H
#define ARENASCOPE_PINS_H

#include "arenascope/ledger.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * An island: live (and cached) chunks side by side between two free ones. Without it the free
 * chunks around it would be one, and pages that it touches would become whole free pages.
 */
struct asc_pin {
	asc_addr addr;	  /**< first live chunk of it */
	uint64_t size;	  /**< of that chunk */
	uint64_t chunks;  /**< live chunks in the island */
	uint64_t cached;  /**< tcache and fastbin chunks in it */
	uint64_t bytes;	  /**< of the whole island */
	uint64_t strands; /**< resident free bytes that would come back without it */
	uint64_t frees;	  /**< resident bytes that would come back, its own included */
	unsigned arena;
	asc_addr region;   /**< start of its region */
	bool last_in_heap; /**< the only live chunk of its heap */
};

/** Islands of a single live chunk, by the size of that chunk; size 0: islands of several. */
struct asc_pin_group {
	uint64_t size; /**< for size >= 64 KiB: rounded down to a power of two */
	uint64_t count, bytes, strands;
};

struct asc_pins {
	struct asc_pin *v; /**< most stranded bytes first */
	size_t n;
	struct asc_pin_group *groups; /**< ditto */
	size_t ngroups;
	uint64_t islands, bytes, strands; /**< of all, not only of those kept */
};

/**
 * @param heap   with chunk tables (heap->walked)
 * @param arena  index, -1: all
 * @param top    keep this many
 */
ASC_API ASC_MUST struct asc_error *asc_pins_make(const struct asc_heap *heap,
						 const struct asc_residency *res, int arena,
						 size_t top, struct asc_pins **ret);
ASC_API void asc_pins_free(struct asc_pins *p);

enum { ASC_UTIL_BUCKETS = 12 };

/** How full malloc's resident pages are. */
struct asc_utilisation {
	/** Pages by live bytes: 0 | 1..10 % | 11..20 % | ... | 91..99 % | 100 % */
	uint64_t pages[ASC_UTIL_BUCKETS];
	uint64_t resident, live; /**< bytes; live / resident is the page utilisation */
	/** Pages that hold live and free (binned or top) bytes: how many, and the live bytes. */
	uint64_t mixed_pages, mixed_live, mixed_free;
	/** Free bytes (binned and top, resident or not), and those of them in whole pages. */
	uint64_t free_bytes, whole_page_bytes;
	/** Sum of the arenas' highest system_mem, and the live bytes now. */
	uint64_t peak_bytes, in_use_bytes;
};
ASC_API ASC_MUST struct asc_error *asc_utilisation(const struct asc_heap *heap,
						   const struct asc_residency *res, int arena,
						   struct asc_utilisation *ret);

/** One cell of a heap map: bytes. */
struct asc_cell {
	uint64_t live; /**< resident: live, cached, headers */
	uint64_t free; /**< resident: binned */
	uint64_t top;  /**< resident: top */
	uint64_t absent;
};
enum asc_map_after { ASC_AFTER_NOTHING, ASC_AFTER_TRIM, ASC_AFTER_RECLAIM };

/**
 * Cells of one region, @p cell bytes each, from asc_align_down(region->start, cell) on; @p ret is
 * owned by the caller. @p after shows it as it would be after malloc_trim(0) or reclaim.
 */
ASC_API ASC_MUST struct asc_error *asc_region_cells(const struct asc_heap *heap,
						    const struct asc_arena *arena,
						    const struct asc_region *region,
						    const struct asc_residency *res, uint64_t cell,
						    enum asc_map_after after, struct asc_cell **ret,
						    size_t *ret_n);

#ifdef __cplusplus
}
#endif
#endif
