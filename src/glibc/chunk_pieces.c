/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The main arena in several pieces. After a foreign sbrk malloc goes on behind it: the old top ends
 * with two fenceposts, the new piece begins somewhere behind the foreign bytes. Where brk fails it
 * goes on in mappings, each a piece that begins a page and ends with fenceposts or with top. None
 * of this is recorded: a piece is believed when its chain of chunks leads to a place that is known.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/walk.h"

/* Skip what is not in memory, from @p at on. */
static asc_addr next_present(const struct asc_model *m, asc_addr at, asc_addr end)
{
	const struct asc_residency *res = m->res;
	size_t i;

	if (!res || res->source == ASC_RESIDENCY_UNKNOWN)
		return at;
	i = asc_residency_seek(res, at);
	return i == res->n ? end : asc_min(asc_max(at, asc_page_run_start(&res->v[i])), end);
}

static bool plausible(const struct asc_model *m, uint64_t raw, uint64_t room)
{
	uint64_t size = raw & ~(uint64_t)7;

	return !(raw & 6) && size >= m->l->minsize && !(size & m->align_mask) && size <= room;
}

/*
 * Does the chain of chunks from @p c lead exactly to @p target? Each address of the gap is tried
 * once:
 * @p dead marks those that lead elsewhere.
 */
static bool leads_to(struct asc_model *m, asc_addr c, asc_addr base, asc_addr target, uint8_t *dead)
{
	const struct asc_layout *l = m->l;
	uint64_t word[2], last = 0;

	for (asc_addr p = c; p < target; p += last) {
		uint64_t bit = (p - base) / l->malloc_alignment;

		if (dead[bit / 8] >> bit % 8 & 1)
			return false;
		dead[bit / 8] |= (uint8_t)(1u << bit % 8);
		if (!asc_model_words(m, p, word, 2) || !plausible(m, word[1], target - p))
			return false;
		if (p == c ? !(word[1] & 1) : (!(word[1] & 1) && word[0] != last))
			return false;
		last = word[1] & ~(uint64_t)7;
	}
	return true;
}

/* Where chunks go on in (from, target), given that one begins at @p target. */
static asc_addr find_start(struct asc_model *m, asc_addr from, asc_addr target)
{
	const struct asc_layout *l = m->l;
	asc_addr base = asc_first_chunk(l, from);
	uint8_t *dead;

	if (base >= target)
		return target;
	dead = calloc(1, (size_t)((target - base) / l->malloc_alignment / 8 + 1));
	if (!dead)
		return target;
	for (asc_addr c = base; c < target;) {
		asc_addr at = next_present(m, c, target);

		if (at > c) {
			c = asc_first_chunk(l, at);
			continue;
		}
		if (leads_to(m, c, base, target, dead)) {
			target = c;
			break;
		}
		c += l->malloc_alignment;
	}
	free(dead);
	return target;
}

/* Is there a pair of fenceposts at @p p? */
static bool fence_pair(struct asc_model *m, asc_addr p)
{
	const struct asc_layout *l = m->l;
	uint64_t first, second;

	return asc_model_word(m, p + l->word, &first) &&
	       asc_model_word(m, p + l->hdr + l->word, &second) &&
	       (first & ~(uint64_t)7) == l->hdr && (second & ~(uint64_t)7) == l->hdr;
}

bool asc_walk_main_fence(struct asc_walk *w, uint64_t raw, uint64_t prev_size,
			 struct asc_error **err)
{
	struct asc_model *m = w->m;
	const struct asc_layout *l = m->l;
	asc_addr behind = w->p + 2u * l->hdr, next = w->end;
	bool last;

	if (!fence_pair(m, w->p))
		return false;
	last = behind + l->malloc_alignment >= w->end;
	*err = asc_walk_judge(w, raw, prev_size);
	for (int i = 0; i < 2 && !*err; i++) {
		uint64_t size = i && last ? w->end - w->p : l->hdr;

		*err = asc_vec_push(&w->unlisted, ((struct asc_chunk){ w->p, size, ASC_FENCE }));
		if (!*err)
			*err = asc_walk_push(w, size, ASC_FENCE);
	}
	if (*err || last)
		return true;
	while (asc_walk_ahead(w) < behind)
		w->member++;
	if (w->member < w->member_end)
		next = find_start(m, behind, asc_walk_ahead(w));
	w->foreign += next - behind;
	*err = asc_walk_skip(w, next);
	return true;
}

/* Follow chunks from @p first to the end of their piece: 0 if they do not lead to one. */
static asc_addr piece_end(struct asc_model *m, asc_addr first, asc_addr limit)
{
	const struct asc_layout *l = m->l;
	const struct asc_arena *a = &m->h->arenas[0];
	asc_addr p = first;
	uint64_t word[2], last = 0;

	while (p < limit) {
		if (p == a->top)
			return asc_min(limit, p + asc_max(a->top_size, l->minsize));
		if (!asc_model_words(m, p, word, 2))
			return 0;
		if ((word[1] & ~(uint64_t)7) == l->hdr)
			return fence_pair(m, p) ? asc_align_up(p + 2u * l->hdr, m->h->page_size)
						: 0;
		if (!plausible(m, word[1], limit - p))
			return 0;
		if (p == first ? !(word[1] & 1) : (!(word[1] & 1) && word[0] != last))
			return 0;
		last = word[1] & ~(uint64_t)7;
		p += last;
	}
	return 0;
}

struct pieces {
	struct asc_model *m;
	ASC_VEC(struct asc_region) found;
	uint64_t bytes;
};

static struct asc_error *add(struct pieces *ps, asc_addr start, asc_addr first, asc_addr end)
{
	asc_addr top = ps->m->h->arenas[0].top;
	struct asc_region r = { .start = start, .first = first, .end = end };

	r.has_top = top >= first && top < end;
	ps->bytes += end - start;
	return asc_vec_push(&ps->found, r);
}

/* The end of the piece that covers @p addr, or 0. */
static asc_addr covered(const struct pieces *ps, asc_addr addr)
{
	for (size_t i = ps->found.len; i--;)
		if (addr >= ps->found.data[i].start && addr < ps->found.data[i].end)
			return ps->found.data[i].end;
	return 0;
}

/* Pieces that begin a page of @p zone. */
static struct asc_error *search_zone(struct pieces *ps, const struct asc_region *zone)
{
	struct asc_model *m = ps->m;
	const uint64_t page = m->h->page_size, want = m->h->arenas[0].system_mem;
	asc_addr at = zone->start;

	while (at < zone->end && ps->bytes < want) {
		asc_addr end = covered(ps, at);

		if (end) {
			at = asc_align_up(end, page);
			continue;
		}
		at = next_present(m, at, zone->end);
		if (at >= zone->end)
			break;
		end = piece_end(m, asc_first_chunk(m->l, at), zone->end);
		if (!end) {
			at += page;
			continue;
		}
		ASC_TRY(add(ps, at, asc_first_chunk(m->l, at), end));
		at = end;
	}
	return NULL;
}

static const struct asc_region *zone_of(const struct asc_arena *a, asc_addr addr)
{
	for (size_t i = 0; i < a->nregions; i++)
		if (addr >= a->regions[i].start && addr < a->regions[i].end)
			return &a->regions[i];
	return NULL;
}

/* A known chunk in no piece: the chain that led to it is damaged. It begins a piece of its own. */
static struct asc_error *rescue(struct pieces *ps, asc_addr chunk)
{
	const struct asc_region *zone = zone_of(&ps->m->h->arenas[0], chunk);
	asc_addr end;

	if (!zone || covered(ps, chunk))
		return NULL;
	end = piece_end(ps->m, chunk, zone->end);
	return add(ps, chunk, chunk, end ? end : zone->end);
}

/* Members in a file leave memory behind whoever looks at them in order. */
static void passed(const struct asc_extents *x, size_t i)
{
	if (x->on_disk && i % ASC_SPILL_WINDOW == 0)
		asc_spill_drop(x->v, 0, i);
}

static struct asc_error *find_all(struct pieces *ps)
{
	struct asc_model *m = ps->m;
	struct asc_arena *a = &m->h->arenas[0];
	const struct asc_extents *members = &m->work[0].members;
	asc_addr base = m->h->params.sbrk_base, end;
	const struct asc_region *zone = zone_of(a, base);

	if (zone) {
		end = piece_end(m, asc_first_chunk(m->l, base), zone->end);
		if (end)
			ASC_TRY(add(ps, base, asc_first_chunk(m->l, base), end));
	}
	/* where a member is, a piece is: these zones first */
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0, j = 0; i < a->nregions && ps->bytes < a->system_mem; i++) {
			const struct asc_region *z = &a->regions[i];
			bool holds;

			while (j < members->n && asc_extent_at(members, j).addr < z->start)
				passed(members, ++j);
			holds = j < members->n && asc_extent_at(members, j).addr < z->end;
			if (holds == (pass == 0))
				ASC_TRY(search_zone(ps, z));
		}
	}
	for (size_t i = 0; i < members->n && ps->bytes < a->system_mem; i++) {
		passed(members, i);
		ASC_TRY(rescue(ps, asc_extent_at(members, i).addr));
	}
	return NULL;
}

struct asc_error *asc_pieces_find(struct asc_model *m)
{
	struct asc_arena *a = &m->h->arenas[0];
	struct pieces ps = { .m = m };
	struct asc_error *err = find_all(&ps);

	if (err) {
		asc_vec_free(&ps.found);
		return err;
	}
	free(a->regions);
	a->regions = ps.found.data;
	a->nregions = ps.found.len;
	m->work[0].pieces = false;
	return asc_regions_index(m);
}
