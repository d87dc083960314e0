/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * In which way the lists of an arena are read. Most are short, and followed. Where that turns out slow, the
 * arena is swept, and they are followed through what the sweep has kept. Where it has seen many free chunks, or more
 * than it may keep, one pass in the order of addresses is shorter than following them, as long as either the
 * unsorted bin is short or all others are; and where that was so a few times, the next arenas are
 * not swept at all.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/links.h"
#include "glibc/lists_read.h"
#include "glibc/sweep.h"

enum {
	UNSORTED_BIN = 1,
	FIRST_SMALL = 2,
	FIRST_LARGE = 64,
	LAST_LARGE = 126,
	LAST_BIN = 127,	      /* always empty */
	FAST_MOST = 64 << 10, /* members of fastbins that are followed before a pass */
};

/* Ditto chunks of the unsorted bin, or of the others: so many are tried, then so many. */
static const uint64_t BY_HAND[] = { 256, 4 << 10, 32 << 10, 256 << 10 };
enum { STEPS_SHORT = 2, STEPS = ASC_ARRAY_SIZE(BY_HAND) };

static uint64_t budget_of(const struct asc_model *m, const struct asc_arena *a)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < a->nregions; i++)
		bytes += a->regions[i].end - a->regions[i].start;
	return bytes / m->l->minsize + 1;
}

/* What was known before lists were followed. */
struct mark {
	size_t members, large, findings, lost;
	uint64_t budget;
};

static struct mark mark(const struct asc_model *m, size_t arena, uint64_t budget)
{
	const struct asc_extents *x = &m->work[arena].members;

	return (struct mark){ x->n, x->nlarge, m->findings.len, m->h->nfindings_lost, budget };
}

/* The lists that were followed since are as if nobody had; @p fast: fastbins, too. */
static void back_to(struct asc_model *m, size_t arena, bool fast, const struct mark *to)
{
	struct asc_extents *x = &m->work[arena].members;

	x->n = to->members;
	x->nlarge = to->large;
	while (m->findings.len > to->findings)
		free(m->findings.data[--m->findings.len].message);
	m->h->nfindings_lost = to->lost;
	memset(m->lists.bins, 0, sizeof(m->lists.bins));
	if (fast)
		memset(m->lists.fast, 0, sizeof(m->lists.fast));
}

static struct asc_error *follow(struct asc_model *m, size_t arena, unsigned first, unsigned last,
				struct asc_way *way)
{
	for (unsigned i = first; i <= last && !way->cut; i++) {
		if (m->large_only && i > UNSORTED_BIN &&
		    i < asc_bin_index(&m->h->libc, ASC_PLAN_LARGE))
			continue;
		ASC_TRY(asc_bin_follow(m, arena, i, way));
	}
	return NULL;
}

static struct asc_error *follow_fast(struct asc_model *m, size_t arena, struct asc_way *way)
{
	const struct asc_layout *l = m->l;

	if (!l->malloc_state_fastbinsY.present)
		return NULL;
	for (unsigned i = 0; i < l->nfastbins && i < ASC_NFASTBINS_MAX && !way->cut; i++)
		ASC_TRY(asc_fastbin_follow(m, arena, i, way));
	return NULL;
}

/*
 * By one pass over the arena, where either the unsorted bin can be followed before it, or all others. Which of
 * them is the shorter one is not known. Large bins are followed for a walk, which tells whether they are in order.
 */
static struct asc_error *read_by_pass(struct asc_model *m, size_t arena, unsigned steps, bool fast,
				      const struct mark *start, bool *ret_done)
{
	const bool ordered = m->opts->depth == ASC_DEPTH_WALK;

	for (unsigned i = 0; i < 2 * steps; i++) {
		const bool unsorted = i % 2;
		struct asc_way way = { .by_hand = true,
				       .most = BY_HAND[i / 2],
				       .budget = start->budget };

		back_to(m, arena, fast, start);
		ASC_TRY(follow(m, arena, unsorted ? FIRST_SMALL : UNSORTED_BIN,
			       unsorted ? LAST_BIN : UNSORTED_BIN, &way));
		if (!unsorted && ordered)
			ASC_TRY(follow(m, arena, FIRST_LARGE, LAST_BIN, &way));
		if (way.cut)
			continue;
		if (unsorted)
			return asc_links_read(m, arena, UNSORTED_BIN, UNSORTED_BIN, fast, ret_done);
		return asc_links_read(m, arena, FIRST_SMALL, ordered ? FIRST_LARGE - 1 : LAST_LARGE,
				      fast, ret_done);
	}
	return NULL;
}

/* @p at: from where they are read again where way->cut says that they were not all read; @p ret_fast: fastbins, too */
static struct asc_error *follow_all(struct asc_model *m, size_t arena, struct asc_way *way,
				    struct mark *at, bool *ret_fast)
{
	ASC_TRY(follow_fast(m, arena, way));
	/* what is known before a pass is kept meanwhile */
	*ret_fast = way->cut || m->work[arena].members.n - at->members > FAST_MOST;
	if (!*ret_fast)
		*at = mark(m, arena, way->budget);
	return way->cut ? NULL : follow(m, arena, UNSORTED_BIN, LAST_BIN, way);
}

static struct asc_error *read_lists(struct asc_model *m, size_t arena, uint64_t budget)
{
	const struct asc_arena_work *w = &m->work[arena];
	const struct mark start = mark(m, arena, budget);
	struct asc_way way = { .most = UINT64_MAX, .budget = budget };
	struct mark at = start;
	bool done = false, fast, many;

	ASC_TRY(follow_all(m, arena, &way, &at, &fast));
	many = way.cut && (w->many || w->untold);
	if (many) {
		ASC_TRY(read_by_pass(m, arena, STEPS_SHORT, fast, &at, &done));
		ASC_TRY(asc_sweep_passed(m, arena, done));
	}
	if (many && !done) {
		back_to(m, arena, true, &start);
		way = (struct asc_way){ .most = UINT64_MAX, .budget = budget };
		at = start;
		ASC_TRY(follow_all(m, arena, &way, &at, &fast));
	}
	if (!way.cut || done)
		return NULL;
	ASC_TRY(read_by_pass(m, arena, STEPS, fast, &at, &done));
	if (done)
		return NULL;
	back_to(m, arena, fast, &at);
	way = (struct asc_way){ .by_hand = true, .most = UINT64_MAX, .budget = at.budget };
	if (fast)
		ASC_TRY(follow_fast(m, arena, &way));
	return follow(m, arena, UNSORTED_BIN, LAST_BIN, &way);
}

static struct asc_error *check_binmap(struct asc_model *m, size_t arena, unsigned bin)
{
	struct asc_field f = m->l->malloc_state_binmap;
	asc_addr at = m->h->arenas[arena].addr + f.off + 4u * (bin / 32);
	uint64_t bits;

	if (!f.present || bin < FIRST_SMALL || !m->lists.bins[bin].count ||
	    !asc_model_uint(m, at, 4, &bits) || bits >> bin % 32 & 1)
		return NULL;
	return asc_model_find(
		m, "C-BINMAP", (struct asc_at){ .arena = (int)arena, .addr = at },
		"bin %u holds chunks, but its bit in binmap is clear: malloc will not find them",
		bin);
}

struct asc_error *asc_lists_read(struct asc_model *m, size_t arena)
{
	struct asc_arena *a = &m->h->arenas[arena];

	if (!a->initialised)
		return NULL;
	asc_sweep_expect(m, arena);
	ASC_TRY(read_lists(m, arena, budget_of(m, a)));
	for (unsigned i = UNSORTED_BIN; i <= LAST_BIN; i++)
		ASC_TRY(check_binmap(m, arena, i));
	if (m->work[arena].lists_broken)
		m->h->complete = false;
	return NULL;
}
