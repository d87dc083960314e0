/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "glibc/links.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/sweep.h"

enum { UNSORTED = 1, FIRST = 2, FIRST_LARGE = 64, KNOWN_MOST = 512 << 10 };

/* Of the link from @p a to @p b. */
static inline uint64_t link_of(const struct asc_links *k, uint64_t a, uint64_t b)
{
	__extension__ const unsigned __int128 p =
		(unsigned __int128)(a ^ k->key[0]) * (b ^ k->key[1]);

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static enum asc_state state_in(unsigned bin)
{
	return bin == UNSORTED ? ASC_UNSORTED : bin < FIRST_LARGE ? ASC_SMALL : ASC_LARGE;
}

struct asc_error *asc_links_take(struct asc_links *k, asc_addr p, const uint64_t *word)
{
	const uint64_t raw = word[0], size = raw & ~(uint64_t)7;
	const unsigned own = asc_bin_index(&k->m->h->libc, size),
		       bin = k->first == UNSORTED ? UNSORTED : own;
	struct asc_bin *out = &k->bins[bin];

	if (asc_links_known(k, p))
		return NULL;
	if (raw & 4 || own < FIRST || bin < k->first || bin > k->last ||
	    !asc_chunk_aligned(k->m, p)) {
		k->unfit = true;
		return NULL;
	}
	k->sum[bin] += link_of(k, p, word[1]) - link_of(k, word[2], p);
	if (bin >= FIRST_LARGE && word[3])
		k->sizes += link_of(k, p, word[3]) - link_of(k, word[4], p);
	out->raw_min = out->count ? asc_min(out->raw_min, raw) : raw;
	out->raw_max = asc_max(out->raw_max, raw);
	out->raw_bytes += raw;
	out->bytes += size;
	out->count++;
	return asc_links_push(k, p, size, state_in(bin));
}

/* What is a member already is put aside. @return false: there are too many of them */
static bool put_aside(struct asc_links *k)
{
	struct asc_extents *x = &k->m->work[k->arena].members;

	if (x->n > KNOWN_MOST)
		return false;
	k->known = malloc((x->n + 1) * sizeof(*k->known));
	k->before = malloc((x->n + 1) * sizeof(*k->before));
	if (!k->known || !k->before)
		return false;
	if (x->n) {
		memcpy(k->before, x->v, x->n * sizeof(*k->before));
		memcpy(k->known, x->v, x->n * sizeof(*k->known));
	}
	k->nknown = x->n;
	asc_words_sort(k->known, k->nknown);
	x->n = 0;
	return true;
}

/* Behind what was found, or instead of it: then in the order in which the lists were followed. */
static struct asc_error *put_back(struct asc_links *k)
{
	for (size_t i = 0; i < k->nknown; i++)
		ASC_TRY(asc_member_push_word(k->m, k->arena, k->before[i]));
	return NULL;
}

/* The heads' own links close each ring; an empty one has no chunks. */
static bool rings_close(struct asc_links *k)
{
	struct asc_model *m = k->m;
	const asc_addr arena = m->h->arenas[k->arena].addr;

	for (unsigned i = k->first; i <= k->last; i++) {
		const asc_addr head = asc_bin_at(m->l, arena, i);
		uint64_t fd, bk;

		if (!asc_model_word(m, head + 2u * m->l->word, &fd) ||
		    !asc_model_word(m, head + 3u * m->l->word, &bk))
			return false;
		if (k->sum[i] + link_of(k, head, fd) - link_of(k, bk, head) ||
		    (fd == head) != !k->bins[i].count)
			return false;
	}
	return !k->sizes;
}

/* Whatever a pass has found is as if it had not been made. */
static void forget(struct asc_links *k, size_t nlarge)
{
	struct asc_extents *x = &k->m->work[k->arena].members;

	x->n = 0;
	x->nlarge = nlarge;
	memset(&k->bins[k->first], 0, (k->last + 1 - k->first) * sizeof(*k->bins));
	if (k->fast)
		memset(k->fast_bins, 0, ASC_NFASTBINS_MAX * sizeof(*k->fast_bins));
	asc_sketch_deinit(&k->sketch);
	*k = (struct asc_links){ .m = k->m,
				 .arena = k->arena,
				 .key = { k->key[0], k->key[1] },
				 .first = k->first,
				 .last = k->last,
				 .fast = k->fast,
				 .known = k->known,
				 .before = k->before,
				 .nknown = k->nknown,
				 .bins = k->bins,
				 .fast_bins = k->fast_bins };
}

static struct asc_error *pass(struct asc_links *k, bool halves, bool *ret_fit)
{
	if (k->fast)
		ASC_TRY(asc_sketch_init(&k->sketch));
	ASC_TRY(asc_sweep_links(k->m, k->arena, k, halves, ret_fit));
	*ret_fit = *ret_fit && !k->unfit && rings_close(k);
	return *ret_fit && k->fast ? asc_links_end_fast(k, ret_fit) : NULL;
}

static void close_links(struct asc_links *k)
{
	asc_sketch_deinit(&k->sketch);
	free(k->known);
	free(k->before);
}

struct asc_error *asc_links_read(struct asc_model *m, size_t arena, unsigned first, unsigned last,
				 bool fast, bool *ret_done)
{
	const size_t nlarge = m->work[arena].members.nlarge;
	struct asc_links k = { .m = m,
			       .arena = arena,
			       .first = first,
			       .last = last,
			       .fast = fast,
			       .bins = m->lists.bins,
			       .fast_bins = m->lists.fast };
	struct asc_error *err;

	*ret_done = false;
	if (getrandom(k.key, sizeof(k.key), 0) != sizeof(k.key) || !put_aside(&k)) {
		close_links(&k);
		return NULL;
	}
	err = pass(&k, true, ret_done);
	if (!err && k.missed) {
		forget(&k, nlarge);
		err = pass(&k, false, ret_done);
	}
	*ret_done = *ret_done && !err;
	if (!*ret_done)
		forget(&k, nlarge);
	if (!err)
		err = put_back(&k);
	close_links(&k);
	return err;
}
