/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The heap model: everything that one libc's malloc says about its memory at one moment.
 * Immutable; holds no pointer to the target it was read from and stays valid without it.
 *
 * Sizes are bytes, chunk headers included, flag bits stripped, unless a field says otherwise.
 * Corruption is not an error: see findings.
 */
#ifndef ARENASCOPE_HEAP_H
#define ARENASCOPE_HEAP_H

#include "arenascope/target.h"

#ifdef __cplusplus
extern "C" {
#endif

/** State of a chunk: exactly eight, three bits beside its size. */
enum asc_state {
	ASC_INUSE,
	ASC_TCACHE,
	ASC_FASTBIN,
	ASC_UNSORTED,
	ASC_SMALL,
	ASC_LARGE,
	ASC_TOP,
	ASC_FENCE, /**< fencepost: the end of a heap or of a region of the main arena */
};
enum { ASC_NSTATES = 8 };

/** "in_use", "tcache", "fastbin", "unsorted", "small", "large", "top", "fencepost" */
ASC_API const char *asc_state_name(enum asc_state s);

struct asc_chunk {
	asc_addr addr; /**< of the header (prev_size field); user memory is addr + 2 words */
	uint64_t size;
	enum asc_state state;
};

/**
 * Chunks by address, one word each, for there may be millions: address, size and state. What does
 * not fit in it (sizes of 2 MiB and more, as a rule) has a size of 0 there and stands in a table
 * beside it. asc_extent_at() reads both.
 */
struct asc_extents {
	uint64_t *v;
	size_t n;
	asc_addr base;		 /**< addresses are told from here ... */
	unsigned shift;		 /**< ... in units of 1 << shift, as sizes are */
	struct asc_chunk *large; /**< by address */
	size_t nlarge;
	bool on_disk; /**< v is mapped from a file */
};

/** In a word: the state in the lowest 3 bits, the size in 17, the address in 44. */
enum { ASC_EXTENT_ADDR = 20, ASC_EXTENT_SIZE_MAX = (1 << 17) - 1 };

/** The chunk of a word without a size. */
ASC_API struct asc_chunk asc_extent_large(const struct asc_extents *x, uint64_t word);

/** Address and size of a word's chunk; the size is 0 where asc_extent_large() has to be asked for both. */
static inline asc_addr asc_extent_addr(const struct asc_extents *x, uint64_t word)
{
	return x->base + (word >> ASC_EXTENT_ADDR << x->shift);
}

static inline uint64_t asc_extent_size(const struct asc_extents *x, uint64_t word)
{
	return (word >> 3 & ASC_EXTENT_SIZE_MAX) << x->shift;
}

static inline enum asc_state asc_extent_state(uint64_t word)
{
	return (enum asc_state)(word & 7);
}

/** The chunk at @p i, which is below x->n. */
static inline struct asc_chunk asc_extent_at(const struct asc_extents *x, size_t i)
{
	uint64_t word = x->v[i];
	struct asc_chunk c;

	if (!asc_extent_size(x, word))
		return asc_extent_large(x, word);
	c.addr = asc_extent_addr(x, word);
	c.size = asc_extent_size(x, word);
	c.state = asc_extent_state(word);
	return c;
}

/** A stretch that was walked without a break. */
struct asc_span {
	asc_addr start, end;
	size_t first, n; /**< its chunks: region->chunks[first .. first + n) */
};

/**
 * A contiguous extent of one arena: one heap (heap_info) of a non-main arena, or one piece of the
 * main arena between brk moves and fenceposts.
 */
struct asc_region {
	asc_addr start;	    /**< heap: the heap_info; main: the first byte malloc counts */
	asc_addr end;	    /**< heap: start + heap size; main: end of the last chunk */
	asc_addr first;	    /**< first chunk */
	asc_addr heap_info; /**< 0 in the main arena */
	uint64_t mprotect_size,
		pagesize;  /**< of the heap_info; 0 in the main arena / before 2.35 */
	bool has_top;	   /**< the arena's top chunk ends it */
	uint64_t unwalked; /**< bytes of [first, end) that no span covers: damaged */

	/** Every free (binned, fastbin, tcache), top and fencepost chunk, by address. Always there. */
	struct asc_extents extents; /**< points into the arena's */

	/** Only after a walk (heap->walked). One word a chunk: size | state. */
	uint64_t *chunks;
	size_t nchunks;
	bool chunks_on_disk; /**< mapped from a file: read it in order (asc_chunk_next() does) */
	struct asc_span *spans;
	size_t nspans;
	asc_addr *index; /**< address of every 4096th chunk */
	size_t nindex;
};

/** One list of free chunks. */
struct asc_bin {
	uint64_t count, bytes; /**< chunks, and their sizes without flag bits */
	uint64_t raw_bytes; /**< sum of the size fields as malloc_info adds them (flag bits included) */
	uint64_t raw_min, raw_max; /**< ditto, smallest and largest; 0 when empty */
	uint8_t nr;	/**< bins: 1 = unsorted, 2..63 small, 64..126 large; fastbins from 0 on */
	bool truncated; /**< the list could not be followed to its end: a finding says why */
};

enum { ASC_NBINS = 128, ASC_NFASTBINS_MAX = 11, ASC_NTCACHE_MAX = 76 };

struct asc_arena {
	unsigned index; /**< 0 = main, then in list order, as malloc_info numbers them */
	asc_addr addr;
	uint32_t mutex; /**< 0 free, 1 held, 2 held and waited for */
	uint32_t flags;
	bool noncontiguous;
	bool initialised; /**< false: never used */
	bool on_free_list;
	bool busy; /**< was in the middle of an operation: its lists may not add up */
	bool attached_known;
	bool unverified; /**< read while it ran: may be of another moment than the rest (optimistic) */
	uint64_t attached_threads;
	asc_addr top, last_remainder, next, next_free;
	uint64_t top_size; /**< 0 when there is none */
	uint64_t system_mem, max_system_mem;
	bool have_fastchunks;

	/** Lists that are not empty, or could not be followed, by number. asc_arena_bin() finds one. */
	struct asc_bin *fast, *bins;
	unsigned nfast, nbins;

	struct asc_region *regions; /**< by address */
	size_t nregions;
	struct asc_extents extents; /**< of all its regions */
	/** Chunks by state; in_use only after a walk. tcache: chunks of this arena's regions. */
	uint64_t counts[ASC_NSTATES], bytes[ASC_NSTATES];
	bool in_use_known;
	uint64_t header_bytes;	 /**< heap_info + malloc_state + alignment in its heaps */
	uint64_t foreign_bytes;	 /**< counted in system_mem, but not malloc's: foreign sbrk */
	uint64_t unwalked_bytes; /**< of the regions, plus regions that could not be found */
	size_t *threads;	 /**< indices into heap->threads */
	size_t nthreads;
};

/** A chunk with its own mapping. */
struct asc_mmapped {
	asc_addr start; /**< of the mapping */
	uint64_t total; /**< bytes of the mapping */
	asc_addr chunk; /**< header; differs from start by memalign */
	uint64_t size;	/**< chunk size as its header says */
	bool hugetlb;
};

/**
 * Those of a heap, by address: a word each, for there may be millions of pages with one. Those that are
 * too long for that stand in a table beside it. asc_mmapped_at() reads both.
 */
struct asc_mmapped_table {
	uint64_t *v;
	size_t n;
	struct asc_mmapped *odd; /**< by address */
	size_t nodd;
	bool on_disk; /**< v is mapped from a file */
};

struct asc_tcache_bin {
	uint32_t nr;
	uint32_t count;	 /**< chunks found in the list */
	uint32_t stated; /**< as the tcache's own counter says */
	uint64_t bytes;	 /**< sum of chunk sizes */
	uint64_t min, max;
};

/** What malloc knows of a thread. */
struct asc_heap_thread {
	pid_t tid;
	bool known;	      /**< its TLS could be read */
	asc_addr arena_addr;  /**< value of thread_arena, 0: none yet or exiting */
	int arena;	      /**< index, -1: none */
	asc_addr tcache;      /**< the struct; 0: none (the dummies of 2.43 count as none) */
	bool tcache_known;    /**< false: it may have one, and its chunks look in use */
	bool tcache_disabled; /**< 2.43: tcache_count = 0 */
	uint64_t cached_chunks, cached_bytes;
	struct asc_tcache_bin *bins; /**< those with chunks, found or stated, by number */
	size_t nbins;
	asc_addr *entries; /**< every cached chunk's header, sorted by address */
	size_t nentries;
};

enum asc_severity { ASC_SEV_CORRUPT, ASC_SEV_SUSPECT, ASC_SEV_INFO };
ASC_API const char *asc_severity_name(enum asc_severity s); /* "corrupt", "suspect", "info" */

/** A violated invariant. */
struct asc_finding {
	enum asc_severity severity;
	const char *code;  /**< static: "C-PREV-SIZE" ... listed in arenascope-errors(7) */
	int arena;	   /**< index, -1: none */
	asc_addr addr;	   /**< the chunk, list node or field that is wrong */
	asc_addr prev;	   /**< the chunk before it (overflow suspect), or 0 */
	uint64_t unwalked; /**< bytes that could not be walked because of it */
	char *message;	   /**< owned: what is wrong, what it means */
};

/** What a code means; `check` and the manual print it. */
struct asc_finding_code {
	const char *code;
	enum asc_severity severity; /**< unless an operation under way may explain it */
	const char *meaning;
};
/** Every code there is, in order. */
ASC_API const struct asc_finding_code *asc_finding_codes(size_t *ret_n);

/** mp_, as found. */
struct asc_params {
	uint64_t trim_threshold, top_pad, mmap_threshold, arena_test, arena_max;
	uint64_t thp_pagesize, hp_pagesize, hp_flags, thp_mode;
	uint64_t n_mmaps, n_mmaps_max, max_n_mmaps, no_dyn_threshold;
	uint64_t mmapped_mem, max_mmapped_mem, max_total_mem, sbrk_base;
	uint64_t tcache_bins, tcache_max_bytes, tcache_count, tcache_unsorted_limit;
	bool has_thp_mode, has_thp, has_hp, has_tcache, has_tcache_unsorted_limit,
		has_max_total_mem;
	bool global_max_fast_known, narenas_known, narenas_limit_known, curbrk_known;
	uint64_t global_max_fast, narenas, narenas_limit, curbrk;
	bool single_threaded_known, single_threaded; /**< malloc takes no locks */
	bool list_lock_known, free_list_lock_known;
	uint32_t list_lock, free_list_lock;
};

/** Facts about the libc that analyses need (a copy: the heap outlives the symbols). */
struct asc_heap_libc {
	char version[16];
	unsigned minor; /**< 36 for 2.36; 0 unknown */
	char build_id[65];
	const char *layout; /**< "dwarf", "table", "scan" */
	uint8_t word, hdr;
	uint16_t malloc_alignment, minsize, chunk_struct;
	uint64_t malloc_state_size, heap_info_size;
	unsigned nfastbins, ntcache;
	bool trim_consolidates, trim_corrupt_flag, systrim_minsize_quirk, systrim_thp;
	bool has_tcache, mmap_hdr_excluded, lazy_init;
	bool info_known; /**< false: which release it is decides about malloc_info's text, and is unknown */
	bool info_rest_has_top, info_subheaps, info_has_mmap, info_has_fast;
	uint8_t info_size_tabs, info_size_spaces, info_unsorted_spaces;
};

struct asc_heap {
	struct asc_heap_libc libc;
	struct asc_params params;
	struct asc_arena *arenas; /**< in list order */
	size_t narenas;
	bool ring_broken; /**< the arena list could not be followed to its end */
	struct asc_mmapped_table mmapped;
	uint64_t mmapped_bytes;		 /**< sum of totals found */
	bool mmapped_complete;		 /**< count and sum agree with mp_ */
	struct asc_heap_thread *threads; /**< in the target's order */
	size_t nthreads;
	bool tcaches_known;	      /**< false: cached chunks of some thread look in use here */
	struct asc_finding *findings; /**< in order of arena, then address */
	size_t nfindings, nfindings_lost; /**< kept; more than the limit were counted only */
	bool walked;			  /**< chunk tables are there */
	bool complete;			  /**< nothing was unreadable, broken or busy */
	uint64_t page_size;
	asc_addr libc_data_start,
		libc_data_end; /**< the arena header of the main arena is in here */
};

ASC_API void asc_heap_free(struct asc_heap *heap);
ASC_API void asc_heap_freep(struct asc_heap **heap);

/** Where an address is. Pointers into the heap. */
struct asc_where {
	const struct asc_arena *arena;	 /**< or NULL */
	const struct asc_region *region; /**< or NULL */
	bool in_mmapped;		 /**< in that one: */
	struct asc_mmapped mmapped;
	bool in_header;				    /**< in a heap_info or malloc_state */
	bool have_chunk;			    /**< only after a walk */
	struct asc_chunk chunk, prev, next;	    /**< size 0: none */
	const struct asc_heap_thread *tcache_owner; /**< or NULL */
	int bin; /**< bin, fastbin or tcache index of the chunk, -1 */
};
/** @return false if the address is in nothing of malloc's */
ASC_API bool asc_heap_where(const struct asc_heap *heap, asc_addr addr, struct asc_where *ret);

/** The chunk at @p i, which is below heap->mmapped.n. */
ASC_API struct asc_mmapped asc_mmapped_at(const struct asc_heap *heap, size_t i);
/** All in order: @p i begins at 0. @return false: there is none any more */
ASC_API bool asc_mmapped_next(const struct asc_heap *heap, size_t *i, struct asc_mmapped *ret);

/** Walk the chunks of a region in address order; needs heap->walked. */
struct asc_chunk_iter {
	const struct asc_region *region;
	size_t span, i;
	asc_addr addr;
};
ASC_API void asc_chunk_iter_init(struct asc_chunk_iter *it, const struct asc_region *region);
ASC_API bool asc_chunk_next(struct asc_chunk_iter *it, struct asc_chunk *ret);

/** A list of an arena by its number; an empty one without a number where there is nothing in it. */
ASC_API const struct asc_bin *asc_arena_bin(const struct asc_arena *arena, unsigned nr);
ASC_API const struct asc_bin *asc_arena_fastbin(const struct asc_arena *arena, unsigned nr);

/** Bin number (1..127) for a chunk size, by the rules of the heap's libc. */
ASC_API unsigned asc_bin_index(const struct asc_heap_libc *libc, uint64_t size);
ASC_API unsigned asc_tcache_index(const struct asc_heap_libc *libc, uint64_t size);
ASC_API unsigned asc_fastbin_index(const struct asc_heap_libc *libc, uint64_t size);

/** Bytes of user memory that malloc_usable_size would report for an in-use chunk of @p size. */
ASC_API uint64_t asc_usable_size(const struct asc_heap_libc *libc, uint64_t size);

/* ---- the text that glibc's own functions would print, byte for byte ---- */

/** malloc_info(0, f). @p ret is an owned string. ASC_ENOTFOUND if a list could not be followed. */
ASC_API ASC_MUST struct asc_error *asc_malloc_info(const struct asc_heap *heap, char **ret);
/** malloc_stats(). */
ASC_API ASC_MUST struct asc_error *asc_malloc_stats(const struct asc_heap *heap, char **ret);

#ifdef __cplusplus
}
#endif
#endif
