/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the analyses share: a region as a sequence of segments in address order, the residency read
 * in the same order, and the page ranges that malloc_trim and reclaim release in it. Everything is
 * a linear merge over free chunks and residency runs; nothing looks at single pages or live chunks.
 */
#ifndef ASC_ANALYSIS_COVER_H
#define ASC_ANALYSIS_COVER_H

#include "arenascope/ledger.h"
#include "base/vec.h"

/* Residency read forwards. */
struct asc_cursor {
	const struct asc_residency *res; /* NULL: unknown, everything counts as present */
	size_t i;
};

struct asc_amount {
	uint64_t present, swapped;
};

struct asc_cursor asc_cursor_at(const struct asc_residency *res, asc_addr addr);
struct asc_amount asc_cursor_merge(struct asc_cursor *c, asc_addr lo, asc_addr hi);

/* Is all of [lo, hi) in the run of pages at hand, and that in Rss? Nearly always it is. */
static inline bool asc_cursor_whole(const struct asc_cursor *c, asc_addr lo, asc_addr hi)
{
	const struct asc_page_run *run = c->res && c->i < c->res->n ? &c->res->v[c->i] : NULL;

	return run && asc_page_run_start(run) <= lo && hi <= run->end && lo < hi &&
	       !(run->word &
		 (ASC_PAGE_SWAPPED | ASC_PAGE_ZERO | ASC_PAGE_HUGETLB | ASC_PAGE_DEVICE));
}

/* Bytes of [lo, hi). @p lo must not be below that of an earlier call. */
static inline struct asc_amount asc_cursor_count(struct asc_cursor *c, asc_addr lo, asc_addr hi)
{
	if (asc_cursor_whole(c, lo, hi))
		return (struct asc_amount){ .present = hi - lo };
	return asc_cursor_merge(c, lo, hi);
}

enum asc_seg_class {
	ASC_SEG_META, /* headers, alignment, what lies behind the last chunk */
	ASC_SEG_USE,  /* live chunks, and everything that is not known to be free */
	ASC_SEG_TCACHE,
	ASC_SEG_FAST,
	ASC_SEG_FREE, /* binned */
	ASC_SEG_TOP,
};
enum { ASC_SEG_NCLASSES = ASC_SEG_TOP + 1 };

struct asc_seg {
	asc_addr lo, hi;
	enum asc_seg_class class;
};

/*
 * Segments cover [start, end of region including its writable tail) without a gap or an overlap,
 * whatever the chunks say: a chunk that overlaps its predecessor or leaves the region is cut.
 */
struct asc_seg_iter {
	const struct asc_region *region;
	size_t i;
	size_t stop; /* there is none at it, or those before it leave memory */
	asc_addr pos, end;
};
void asc_seg_init(struct asc_seg_iter *it, const struct asc_region *region);
/* Only for whoever does not go to the end. */
void asc_seg_leave(const struct asc_seg_iter *it);
bool asc_seg_cut(struct asc_seg_iter *it, struct asc_seg *ret);

static inline enum asc_seg_class asc_seg_class(enum asc_state s)
{
	static const uint8_t classes[ASC_NSTATES] = {
		[ASC_INUSE] = ASC_SEG_USE,
		[ASC_FENCE] = ASC_SEG_USE, /* only a walk can tell them from a chunk in use */
		[ASC_TCACHE] = ASC_SEG_TCACHE,
		[ASC_FASTBIN] = ASC_SEG_FAST,
		[ASC_UNSORTED] = ASC_SEG_FREE,
		[ASC_SMALL] = ASC_SEG_FREE,
		[ASC_LARGE] = ASC_SEG_FREE,
		[ASC_TOP] = ASC_SEG_TOP,
	};

	return (enum asc_seg_class)classes[s];
}

/* The next segment. Where chunks fit behind one another it is a load and two compares. */
static inline bool asc_seg_next(struct asc_seg_iter *it, struct asc_seg *ret)
{
	const struct asc_region *r = it->region;
	const struct asc_extents *x = &r->extents;
	uint64_t word, size;
	asc_addr addr;

	if (it->i >= it->stop || it->pos < r->first || r->end > it->end)
		return asc_seg_cut(it, ret);
	word = x->v[it->i];
	addr = asc_extent_addr(x, word);
	size = asc_extent_size(x, word);
	if (it->pos > addr || addr >= r->end || !size || size > r->end - addr)
		return asc_seg_cut(it, ret);
	ret->lo = it->pos;
	if (addr > it->pos) {
		ret->hi = addr;
		ret->class = ASC_SEG_USE;
	} else {
		ret->hi = addr + size;
		ret->class = asc_seg_class(asc_extent_state(word));
		it->i++;
	}
	it->pos = ret->hi;
	return true;
}

/* End of what belongs to the region: of the heap's writable part, or of the last chunk. */
asc_addr asc_region_limit(const struct asc_region *region);

/* What releases a range. */
enum asc_release {
	ASC_REL_MADVISE, /* mtrim's madvise, or reclaim's */
	ASC_REL_SBRK,	 /* systrim */
};

/* A page-aligned stretch that a call would release. */
struct asc_rel_range {
	asc_addr lo, hi;
	enum asc_release how;
};
typedef ASC_VEC(struct asc_rel_range) asc_rel_vec;

/* What systrim(pad) does to the main arena. */
struct asc_systrim {
	asc_addr top, end; /* after consolidation; end == top: no top */
	uint64_t extra;	   /* bytes that brk goes down */
	int64_t brk_delta; /* change of brk: -extra, or > 0 with the MINSIZE quirk */
	bool refused;	   /* brk is not at the end of top */
};

/*
 * Ranges that malloc_trim(pad) releases in one region, by address. @p walked counts the free chunks
 * that it looks at, @p st (only filled in for the region with the main arena's top) may be NULL.
 */
ASC_MUST struct asc_error *asc_trim_ranges(const struct asc_heap *heap, const struct asc_arena *a,
					   const struct asc_region *r, uint64_t pad,
					   asc_rel_vec *ret, uint64_t *walked,
					   struct asc_systrim *st);
/* Likewise for reclaim. */
ASC_MUST struct asc_error *asc_reclaim_ranges(const struct asc_heap *heap,
					      const struct asc_region *r, asc_rel_vec *ret,
					      uint64_t *walked);

/* What mtrim sees as one chunk; hi == 0: none. */
struct asc_free_run {
	asc_addr lo, hi;
	bool top;
	unsigned chunks;
};

/* What is released of a region's chunks, told by address. */
struct asc_releasing {
	const struct asc_heap *heap;
	const struct asc_arena *arena;
	const struct asc_region *region;
	uint64_t pad;
	asc_rel_vec *trim, *reclaim; /* either may be NULL */
	uint64_t *walked;
	struct asc_systrim *st; /* or NULL */

	struct asc_free_run run;
	size_t i, stop; /* the next chunk; when to let those before it leave memory */
	asc_addr pos;	/* it is not below that */
};

/* Ranges of which those before the one at i were passed. */
struct asc_rel_list {
	asc_rel_vec v;
	size_t i;
};

/* The ranges of one region, some thousand at a time: there may be millions. */
struct asc_feed {
	struct asc_rel_list trim, reclaim;
	asc_addr known;		 /* all that begin below it are in the lists */
	uint64_t ranges, walked; /* so far */
	struct asc_systrim st;	 /* once known is UINT64_MAX */
	const struct asc_trim_in *blocked;
	struct asc_releasing g;
};

/*
 * To be read in order. @p pad: for malloc_trim(@p pad), if @p trim; for reclaim, if @p reclaim. @p blocked: cut to
 * what madvise really releases, or NULL. The feed must stay where it is.
 */
void asc_feed_init(struct asc_feed *f, const struct asc_heap *heap, const struct asc_arena *a,
		   const struct asc_region *r, bool trim, bool reclaim, uint64_t pad,
		   const struct asc_trim_in *blocked);
/* Whoever has come to known needs more. */
ASC_MUST struct asc_error *asc_feed_more(struct asc_feed *f);
/* Count what is left. */
ASC_MUST struct asc_error *asc_feed_drain(struct asc_feed *f);
void asc_feed_deinit(struct asc_feed *f);

/* Where the next range of a list begins. */
static inline asc_addr asc_rel_next(const struct asc_rel_list *l)
{
	return l->i < l->v.len ? l->v.data[l->i].lo : UINT64_MAX;
}

/* Resident bytes of regions. */
struct asc_bounds {
	uint64_t resident, live, meta;
	uint64_t ideal; /* on whole pages without a live byte, which an ideal allocator releases */
};
/* Adds those of one region, of which every segment is told in order. */
struct asc_bounding {
	const struct asc_heap *heap;
	struct asc_bounds *sum;
	struct asc_cursor whole;
	asc_addr lo, hi; /* of the row of segments without a live byte; hi == 0: none */
};
void asc_bound_row(struct asc_bounding *b);

static inline void asc_bound(struct asc_bounding *b, const struct asc_seg *seg, uint64_t present)
{
	b->sum->resident += present;
	if (seg->class == ASC_SEG_USE || seg->class == ASC_SEG_META) {
		*(seg->class == ASC_SEG_USE ? &b->sum->live : &b->sum->meta) += present;
		if (b->hi)
			asc_bound_row(b);
	} else {
		b->lo = b->hi ? b->lo : seg->lo;
		b->hi = seg->hi;
	}
}

/*
 * How far madvise gets in [lo, hi): it releases mapping by mapping and gives up at the first one
 * that is locked or from the hugetlb pool; @p ret_why says which.
 */
asc_addr asc_madvise_end(const struct asc_trim_in *in, asc_addr lo, asc_addr hi,
			 enum asc_stay *ret_why);
/* Cut every range to what madvise really releases of it. */
void asc_drop_blocked(const struct asc_trim_in *in, asc_rel_vec *v);

/* mtrim never touches this arena (2.22 to 2.26: it was found corrupt). */
bool asc_trim_skips(const struct asc_heap *heap, const struct asc_arena *a);

/* May systrim give up because someone else moved brk? false: ASC_STAY_FOREIGN_SBRK is 0, for sure. */
bool asc_trim_foreign(const struct asc_heap *heap);

/* Are there so many free chunks that a second thread pays? */
bool asc_many_chunks(const struct asc_heap *heap);

#endif
