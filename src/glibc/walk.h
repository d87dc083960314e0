/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The chunk walk of one region. */
#ifndef ASC_GLIBC_WALK_H
#define ASC_GLIBC_WALK_H

#include "glibc/model.h"

struct asc_walk {
	struct asc_model *m;
	size_t arena;
	const struct asc_region *region;
	bool keep; /* make the chunk table, not only sums */
	asc_addr end;
	const struct asc_extents *members; /* of the arena, by address */
	size_t member, member_end;	   /* those ahead, in it */

	asc_addr p; /* next header */
	asc_addr prev;
	uint64_t prev_size;
	enum asc_state prev_state;
	bool have_prev;

	/* size words that a sweep has read: those of [region->first, swept_end); the table of chunks
	 * takes their place one by one */
	const uint64_t *swept;
	size_t nswept, at_swept;

	asc_addr win;
	size_t win_len;
	uint64_t win_want;

	uint64_t n; /* chunks so far */
	uint64_t counts[ASC_NSTATES], bytes[ASC_NSTATES], unwalked, foreign;
	asc_addr span_start;
	uint64_t span_first;
	ASC_VEC(uint64_t) chunks; /* in memory, or in spill.words */
	struct asc_spill spill;
	ASC_VEC(struct asc_span) spans;
	ASC_VEC(asc_addr) index;
	ASC_VEC(struct asc_chunk) unlisted; /* free chunks and fenceposts that no list knew */
};

/* The next member's address; UINT64_MAX: there is none. */
static inline asc_addr asc_walk_ahead(const struct asc_walk *w)
{
	return w->member < w->member_end ? asc_extent_at(w->members, w->member).addr : UINT64_MAX;
}

ASC_MUST struct asc_error *asc_walk(struct asc_walk *w);
void asc_walk_deinit(struct asc_walk *w);
ASC_MUST struct asc_error *asc_walk_push(struct asc_walk *w, uint64_t size, enum asc_state state);
ASC_MUST struct asc_error *asc_walk_damage(struct asc_walk *w, const char *code, const char *what,
					   uint64_t raw);
/* End the span here and go on at @p next; what lies between belongs to somebody else. */
ASC_MUST struct asc_error *asc_walk_skip(struct asc_walk *w, asc_addr next);
/* A header of size HDR in the main arena: the double fencepost before foreign memory? */
bool asc_walk_main_fence(struct asc_walk *w, uint64_t raw, uint64_t prev_size,
			 struct asc_error **err);
/* What the header at w->p says of the chunk before it, against what the lists say. */
ASC_MUST struct asc_error *asc_walk_judge(struct asc_walk *w, uint64_t raw, uint64_t prev_size);

#endif
