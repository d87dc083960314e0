/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the reclaim routine is told and what it answers. The block lies in the borrowed thread's own
 * frame, so that nothing has to be freed. Every member is one 64-bit word: no padding to agree on.
 */
#ifndef ASC_ACT_ROUTINE_PAR_H
#define ASC_ACT_ROUTINE_PAR_H

#include <stdint.h>

/* Where in the code page. */
enum { ASC_RT_RECLAIM = 0, ASC_RT_UNLOCK = 16 };
/* A page map: one bit a page of 4 KiB for 64 MiB of addresses. Larger pages use fewer bits. */
enum { ASC_RT_REGION_SHIFT = 26, ASC_RT_MAP_BYTES = 2048 };
enum { ASC_RT_BATCH = 64, ASC_RT_BATCH_MIN = 8, ASC_RT_RING_MAX = 65536 };

/* A range that must not be released (userfaultfd, shared memory, memory tags). */
struct asc_rt_skip {
	uint64_t lo, hi;
};

struct asc_rt_par {
	/* asked */
	uint64_t first; /* arena to begin with */
	uint64_t only;	/* 1: that arena and no other */
	uint64_t main_arena;
	uint64_t page; /* bytes; ranges are rounded to granule, a multiple of it */
	uint64_t granule;
	uint64_t slice_ns;    /* longest hold of a lock */
	uint64_t piece;	      /* bytes after which a batch is full */
	uint64_t heap_max;    /* HEAP_MAX_SIZE */
	uint64_t heap_header; /* sizeof(heap_info) */
	uint64_t chunk_struct;
	uint64_t min_size;
	uint64_t sbrk_base; /* first address of a contiguous main arena */
	uint64_t o_mutex, o_flags, o_top, o_bins, o_next, o_system_mem, o_ar_ptr, o_heap_size,
		o_prev;
	uint64_t map, map_len; /* where all this is mapped */
	uint64_t table;	       /* slots keys, then slots page maps; zeroed */
	uint64_t slots;	       /* a power of two */
	uint64_t skips;	       /* asc_rt_skip[nskips], by address */
	uint64_t nskips;
	uint64_t no_batch; /* 1: process_madvise does not work here */
	uint64_t batch;	   /* ranges a call, _MIN to ASC_RT_BATCH; fewer where a call takes long */
	uint64_t raised;   /* 1: its priority was raised; at the end it is nice again */
	uint64_t nice;	   /* (int64_t) */
	/* asked while it runs */
	uint64_t stop; /* 1: end after this slice */
	/* told while it runs */
	uint64_t held;	    /* address of the mutex that it holds, or 0 */
	uint64_t waits_for; /* address of the mutex that it waits for, or 0 */
	/* told */
	uint64_t done; /* 1: came to the end of the list of arenas */
	uint64_t arenas, skipped, ranges, bytes, errors, first_errno, damaged, damaged_at;
	uint64_t skipped_at; /* the first arena that was left out */
	uint64_t max_hold_ns, max_hold_cpu_ns, max_wait_ns, holds, walked;
};

#endif
