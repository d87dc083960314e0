/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Building the model (arenascope/heap.h) from a target and the layout of one of its libcs. */
#ifndef ASC_GLIBC_HEAP_H
#define ASC_GLIBC_HEAP_H

#include "arenascope/heap.h"
#include "glibc/layout.h"

enum asc_depth {
	ASC_DEPTH_HEADERS, /* arena and heap headers alone: for asc_heap_plan() */
	ASC_DEPTH_THREADS, /* also the threads' tcaches, but no other list */
	ASC_DEPTH_LISTS,   /* arena headers, heaps, every free list, tcaches, mmapped chunks */
	ASC_DEPTH_WALK,	   /* also every chunk, and every invariant */
};

struct asc_heap_opts {
	enum asc_depth depth;
	uint64_t max_memory; /* bytes that tables of chunks may take in memory; 0: no bound */
	int spill_fd;	     /* a file for tables beyond that (spill.h), borrowed; 0: one is made */
	size_t max_findings; /* 0: 1000 */
	asc_addr focus; /* not 0: only the arena that holds this address is read beyond its header */
	bool in_malloc; /* a thread that takes no lock is inside malloc: no arena may add up */
	/* in a stop: lists are followed node by node, mmapped chunks are not searched for */
	bool stepwise;
	/* may be NULL: all. Of an arena (by address) that is not wanted there is the header alone. */
	bool (*wanted)(void *arg, asc_addr arena);
	void *wanted_arg;
	bool rehearsal; /* only to learn which pages are read: no sweeps, large arenas are left out */
	bool rehearsed; /* likewise no sweeps, but nothing is left out: as it was found to do */
	bool narrow; /* another model of it is kept meanwhile: less is swept ahead and kept for lists */
	bool unproven; /* read while it ran: what contradicts itself there need not be damage */
	/* may be NULL; called now and then; false ends the build with ASC_EINTR */
	bool (*progress)(void *arg, uint64_t done, uint64_t total);
	void *progress_arg;
};

/*
 * Read every arena of a stopped (or captured, or dead) target into an immutable model.
 *
 * @param t    borrowed for the call only
 * @param res  which pages are in memory, or NULL: speeds up the search for mmapped chunks
 * @param ret  new heap, free with asc_heap_free(); untouched on error
 * @return NULL, or ASC_EFAULT (main_arena is not readable), ASC_ENOMEM, ASC_EINTR.
 *         Corruption is not an error: see heap->findings.
 */
ASC_MUST struct asc_error *asc_heap_read(struct asc_target *t, const struct asc_libc *lib,
					 const struct asc_residency *res,
					 const struct asc_heap_opts *opts, struct asc_heap **ret);

/*
 * The target ran on before @p heap was read to its end (asc_pause.watchdog): what does not add up is no
 * damage. NULL is fine.
 */
void asc_heap_doubt(struct asc_heap *heap);

/*
 * What a capture must copy so that asc_heap_read() works on it: libc's data, every arena and heap
 * header, the regions' extents (WALK), thread TLS blocks and tcaches, candidates for mmapped
 * chunks, thread stacks' top pages. Cheap: reads headers only.
 *
 * @param ret  array of ranges, owned by the caller
 */
ASC_MUST struct asc_error *asc_heap_plan(struct asc_target *t, const struct asc_libc *lib,
					 const struct asc_residency *res, enum asc_depth depth,
					 struct asc_range **ret, size_t *ret_n);

/*
 * About how many bytes asc_heap_read() will read of @p t for a walk: what is in memory of every heap
 * but for the tops. Cheap: reads headers only. 0 if they cannot be read.
 */
uint64_t asc_heap_walk_bytes(struct asc_target *t, const struct asc_libc *lib,
			     const struct asc_residency *res);

/*
 * Is malloc in the middle of an operation? All threads stopped: an arena mutex that is not 0, or, in
 * a single-threaded process, a PC or return address inside malloc's functions.
 *
 * @param ret_arena  the arena's address, 0 for "thread inside malloc" or not busy
 * @param ret_tid    thread, 0 unknown
 * @return true: let it run 1-5 ms and stop it again
 */
bool asc_heap_busy(struct asc_target *t, struct asc_modules *m, const struct asc_libc *lib,
		   asc_addr *ret_arena, pid_t *ret_tid);

/* The ring of arena addresses from main_arena on, bounded and checked. @p ret owned by the caller. */
ASC_MUST struct asc_error *asc_arena_ring(struct asc_target *t, const struct asc_libc *lib,
					  asc_addr **ret, size_t *ret_n, bool *ret_broken);

/* The smallest size of a chunk in the large bins. */
uint64_t asc_large_min(const struct asc_heap_libc *libc);

/*
 * For whoever wants no addresses: words (size | state) of the chunks that asc_chunk_next() would go to, as many
 * in a row as are at hand, at most 2^20. NULL: no more. @p it then is for this function alone.
 */
const uint64_t *asc_chunk_words(struct asc_chunk_iter *it, size_t *ret_n);

/* Field of a struct in the target, zero-extended. Absent field: ASC_EBUG. */
ASC_MUST struct asc_error *asc_field_u64(struct asc_target *t, asc_addr base, struct asc_field f,
					 uint64_t *ret);

#endif
