/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A finding of damage is a contradiction between places. If one of them was read after the stop they may be
 * of two moments, whatever the comparison with the reading before it says: that looks at chunks and their
 * sizes, and a chunk that is given back after the stop, or allocated, has the same size, and on its
 * neighbour's page one bit that no list of the stop confirms. So such a place counts as changed: the next
 * round reads it in its stop, and what contradicts itself then is damage.
 */
#include "base/cleanup.h"
#include "base/num.h"
#include "commands/optimistic.h"
#include "target/overlay.h"

struct doubt {
	struct asc_target *overlay;
	uint64_t page;
	asc_range_vec *changed;
};

static struct asc_error *doubt_place(const struct doubt *d, asc_addr at)
{
	struct asc_range page = { asc_align_down(at, d->page), d->page };

	if (!asc_overlay_is_later(d->overlay, page.addr))
		return NULL;
	return asc_vec_push(d->changed, page);
}

/* Its header and the next one's, which says whether it is in use. */
static struct asc_error *doubt_chunk(const struct doubt *d, const struct asc_heap *h, asc_addr at)
{
	struct asc_where w;

	if (!at)
		return NULL;
	ASC_TRY(doubt_place(d, at));
	ASC_TRY(doubt_place(d, at + h->libc.word));
	if (!asc_heap_where(h, at, &w) || !w.have_chunk || !w.chunk.size)
		return NULL;
	return doubt_place(d, w.chunk.addr + w.chunk.size + h->libc.word);
}

struct asc_error *asc_round_doubt(struct asc_round *r)
{
	const struct asc_session *s = r->s;
	const struct doubt d = { r->overlay, asc_target_page_size(r->overlay), &r->changed };

	for (size_t i = 0; i < s->nheaps; i++) {
		const struct asc_heap *h = s->heaps[i];

		for (size_t k = 0; h && k < h->nfindings; k++) {
			if (h->findings[k].severity != ASC_SEV_CORRUPT)
				continue;
			ASC_TRY(doubt_chunk(&d, h, h->findings[k].addr));
			ASC_TRY(doubt_chunk(&d, h, h->findings[k].prev));
		}
	}
	asc_ranges_normalise(&r->changed);
	return NULL;
}
