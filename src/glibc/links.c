/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "glibc/links.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/sweep.h"

enum { UNSORTED = 1, FIRST = 2, FIRST_LARGE = 64, END = 127, KNOWN_MOST = 512 << 10 };

/* Of the link from @p a to @p b. */
static inline uint64_t link_of(const struct asc_links *k, uint64_t a, uint64_t b)
{
	__extension__ const unsigned __int128 p =
		(unsigned __int128)(a ^ k->key[0]) * (b ^ k->key[1]);

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/* They come in the same order. */
static inline bool is_known(struct asc_links *k, asc_addr p)
{
	while (k->at < k->nknown && k->known[k->at] < p)
		k->at++;
	return k->at < k->nknown && k->known[k->at] == p;
}

static enum asc_state state_in(unsigned bin)
{
	return bin == UNSORTED ? ASC_UNSORTED : bin < FIRST_LARGE ? ASC_SMALL : ASC_LARGE;
}

struct asc_error *asc_links_take(struct asc_links *k, asc_addr p, const uint64_t *word)
{
	const uint64_t raw = word[0], size = raw & ~(uint64_t)7;
	const unsigned own = asc_bin_index(&k->m->h->libc, size),
		       bin = k->unsorted ? UNSORTED : own;
	struct asc_bin *out = &k->m->lists.bins[bin];

	if (is_known(k, p))
		return NULL;
	if (raw & 4 || own < FIRST || own >= END || !asc_chunk_aligned(k->m, p)) {
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
	return asc_member_push(k->m, k->arena, p, size, state_in(bin));
}

static int by_address(const void *a, const void *b)
{
	asc_addr x = *(const asc_addr *)a, y = *(const asc_addr *)b;

	return x < y ? -1 : x > y;
}

/* @return false: there are too many of them */
static bool find_known(struct asc_links *k)
{
	const struct asc_extents *x = &k->m->work[k->arena].members;
	const struct asc_bin *bins = k->m->lists.bins;
	uint64_t n = k->unsorted ? 0 : bins[UNSORTED].count;

	for (unsigned i = FIRST; i < END && k->unsorted; i++)
		n += bins[i].count;
	if (n > KNOWN_MOST)
		return false;
	k->known = malloc((n + 1) * sizeof(*k->known));
	if (!k->known)
		return false;
	for (size_t i = 0; i < x->n; i++) {
		const enum asc_state s = asc_extent_state(x->v[i]);

		if (x->on_disk && i % ASC_SPILL_WINDOW == 0)
			asc_spill_drop(x->v, 0, i);
		if (k->unsorted ? s != ASC_SMALL && s != ASC_LARGE : s != ASC_UNSORTED)
			continue;
		if (k->nknown == n)
			return false;
		k->known[k->nknown++] = asc_extent_addr(x, x->v[i]);
	}
	asc_sort(k->known, k->nknown, sizeof(*k->known), by_address);
	return k->nknown == n;
}

/* The heads' own links close each ring; an empty one has no chunks. */
static bool rings_close(struct asc_links *k, unsigned first, unsigned end)
{
	struct asc_model *m = k->m;
	const struct asc_arena *a = &m->h->arenas[k->arena];

	for (unsigned i = first; i < end; i++) {
		const asc_addr head = asc_bin_at(m->l, a->addr, i);
		uint64_t fd, bk;

		if (!asc_model_word(m, head + 2u * m->l->word, &fd) ||
		    !asc_model_word(m, head + 3u * m->l->word, &bk))
			return false;
		if (k->sum[i] + link_of(k, head, fd) - link_of(k, bk, head) ||
		    (fd == head) != !m->lists.bins[i].count)
			return false;
	}
	return !k->sizes;
}

struct asc_error *asc_links_read(struct asc_model *m, size_t arena, bool unsorted, bool *ret_done)
{
	const unsigned first = unsorted ? UNSORTED : FIRST, end = unsorted ? FIRST : END;
	struct asc_links k = { .m = m, .arena = arena, .unsorted = unsorted };
	struct asc_extents *x = &m->work[arena].members;
	const size_t n = x->n, nlarge = x->nlarge;
	struct asc_error *err = NULL;
	bool whole = false;

	*ret_done = false;
	if (getrandom(k.key, sizeof(k.key), 0) == sizeof(k.key) && find_known(&k))
		err = asc_sweep_links(m, arena, &k, &whole);
	*ret_done = !err && whole && !k.unfit && rings_close(&k, first, end);
	if (!*ret_done) {
		x->n = n;
		x->nlarge = nlarge;
		memset(&m->lists.bins[first], 0, (end - first) * sizeof(struct asc_bin));
	}
	free(k.known);
	return err;
}
