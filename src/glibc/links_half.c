/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who finds what in a pass: the first thread for the arena, a second one aside. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/links.h"

enum { WORDS_MOST = 256 << 10 }; /* in memory */

/* Room for one more word. */
static struct asc_error *grow(struct asc_links *k)
{
	struct asc_links_half *h = k->half;
	size_t cap = (size_t)asc_min(h->cap * 2 + 4096, WORDS_MOST);
	uint64_t *v;

	if (h->x.n >= WORDS_MOST)
		return h->x.n - WORDS_MOST < h->spill.cap
			       ? NULL
			       : asc_spill_grow(&h->spill, k->m->spill_fd);
	v = reallocarray(h->words, cap, sizeof(*v));
	if (!v)
		return asc_err(ASC_ENOMEM, "%zu free chunks", cap);
	h->words = v;
	h->cap = cap;
	return NULL;
}

struct asc_error *asc_links_push(struct asc_links *k, asc_addr p, uint64_t size,
				 enum asc_state state)
{
	const struct asc_chunk c = { p, size, state };
	struct asc_links_half *h = k->half;
	uint64_t word;

	if (!h)
		return asc_member_push(k->m, k->arena, p, size, state);
	if (!asc_extent_near(&h->x, p)) {
		k->unfit = true;
		return NULL;
	}
	if (h->x.n >= h->cap)
		ASC_TRY(grow(k));
	if (!asc_extent_pack(&h->x, &c, &word))
		ASC_TRY(asc_extents_add_large(&h->x, &c));
	if (h->x.n < h->cap)
		h->words[h->x.n++] = word;
	else
		h->spill.words[h->x.n++ - h->cap] = word;
	return NULL;
}

struct asc_error *asc_links_open_half(const struct asc_links *k, struct asc_links *ret)
{
	struct asc_links_half *h;

	*ret = *k;
	ret->half = NULL;
	ret->sketch = (struct asc_sketch){ 0 };
	ASC_TRY(asc_model_spill(k->m));
	h = calloc(1, sizeof(*h));
	if (!h)
		return asc_err(ASC_ENOMEM, "a second thread");
	ret->half = h;
	ret->bins = h->bins;
	ret->fast_bins = h->fast;
	asc_members_base(k->m, k->arena, &h->x);
	if (k->fast)
		ASC_TRY(asc_sketch_open(&k->sketch, &ret->sketch));
	/* by this thread: the place in the file is taken at once */
	return asc_spill_begin(k->m->spill_fd, asc_members_max(k->m, k->arena), &h->spill);
}

static void add_bin(struct asc_bin *to, const struct asc_bin *b)
{
	if (!b->count)
		return;
	to->raw_min = to->count ? asc_min(to->raw_min, b->raw_min) : b->raw_min;
	to->raw_max = asc_max(to->raw_max, b->raw_max);
	to->raw_bytes += b->raw_bytes;
	to->bytes += b->bytes;
	to->count += b->count;
}

static struct asc_error *move_members(struct asc_links *k, struct asc_links_half *h)
{
	const size_t n = h->x.n - asc_min(h->x.n, h->cap);

	for (size_t i = 0; i < h->x.n - n; i++)
		ASC_TRY(asc_member_push_word(k->m, k->arena, h->words[i]));
	for (size_t i = 0; i < n; i++) {
		if (i % ASC_SPILL_WINDOW == 0)
			asc_spill_drop(h->spill.words, 0, i);
		ASC_TRY(asc_member_push_word(k->m, k->arena, h->spill.words[i]));
	}
	for (size_t i = 0; i < h->x.nlarge; i++)
		ASC_TRY(asc_extents_add_large(&k->m->work[k->arena].members, &h->x.large[i]));
	return NULL;
}

struct asc_error *asc_links_join_half(struct asc_links *k, struct asc_links *half)
{
	k->unfit |= half->unfit;
	for (unsigned i = 0; i < ASC_NBINS; i++) {
		k->sum[i] += half->sum[i];
		add_bin(&k->bins[i], &half->bins[i]);
	}
	k->sizes += half->sizes;
	if (k->fast) {
		asc_links_flush_fast(half);
		asc_sketch_join(&k->sketch, &half->sketch);
	}
	for (unsigned i = 0; i < ASC_NFASTBINS_MAX; i++) {
		k->fast_sum[i] += half->fast_sum[i];
		add_bin(&k->fast_bins[i], &half->fast_bins[i]);
	}
	return move_members(k, half->half);
}

void asc_links_close_half(struct asc_links *half)
{
	asc_sketch_deinit(&half->sketch);
	if (!half->half)
		return;
	asc_spill_abandon(&half->half->spill, half->m->spill_fd);
	free(half->half->words);
	free(half->half->x.large);
	free(half->half);
}
