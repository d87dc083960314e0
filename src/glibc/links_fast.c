/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The fastbins of an arena by a pass over its chunks, in address order.
 *
 * Their members look in use, but begin with a link to another chunk of the arena, or with one that leads nowhere. So may
 * chunks that are in use: many were in a list before, and their owner has not written there since. Members are
 * told from them by this: each member is linked to once, by a head or by another one, and nothing that is not a member
 * is linked to by one. A sketch of those that look so, less those that are linked to, leaves the few at which both
 * differ: those that nobody links to are in use, and so is, then, whoever only they link to; at the other end
 * the last of each list, where its link says nothing by itself. What a list's head says and the members of its size
 * then have to cancel, by their hashes; else the lists are followed.
 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "glibc/links.h"

enum { IN_USE_MOST = 32 << 10, SLOTS = 128 << 10, ENDS_MOST = 2 * ASC_NFASTBINS_MAX };

/* NULL: such chunks are in none. */
static struct asc_bin *bin_of(struct asc_links *k, uint64_t size, unsigned *ret_i)
{
	const unsigned i = asc_fastbin_index(&k->m->h->libc, size);

	*ret_i = i;
	return i < k->m->l->nfastbins && i < ASC_NFASTBINS_MAX ? &k->fast_bins[i] : NULL;
}

static void count(struct asc_bin *b, uint64_t size)
{
	b->count++;
	b->bytes += size;
	b->raw_bytes = b->bytes;
	b->raw_min = b->raw_max = size;
}

static void add(struct asc_links *k, asc_addr p, uint64_t *sum, int32_t n)
{
	const uint64_t hash = asc_sketch_hash(&k->sketch, p);

	if (!p)
		return;
	asc_sketch_add(&k->sketch, p, hash, n);
	*sum += (uint64_t)(int64_t)n * hash;
}

/* What was freed in the order of addresses, up or down, cancels without being added. */
struct asc_error *asc_links_take_fast(struct asc_links *k, asc_addr p, uint64_t raw, asc_addr to)
{
	const uint64_t size = raw & ~(uint64_t)7;
	struct asc_links_pair *w;
	unsigned i;
	struct asc_bin *b = bin_of(k, size, &i);

	if (!b || asc_links_known(k, p))
		return NULL;
	w = &k->waiting[i];
	if (p == w->to) {
		w->to = to;
	} else if (to && to == w->p) {
		w->p = p;
	} else {
		add(k, w->p, &k->fast_sum[i], 1);
		add(k, w->to, &k->fast_sum[i], -1);
		*w = (struct asc_links_pair){ p, to };
	}
	b->count++;
	b->bytes += size;
	return asc_links_push(k, p, size, ASC_FASTBIN);
}

void asc_links_flush_fast(struct asc_links *k)
{
	for (unsigned i = 0; i < ASC_NFASTBINS_MAX; i++) {
		struct asc_links_pair *w = &k->waiting[i];
		struct asc_bin *b = &k->fast_bins[i];

		add(k, w->p, &k->fast_sum[i], 1);
		add(k, w->to, &k->fast_sum[i], -1);
		*w = (struct asc_links_pair){ 0 };
		b->raw_bytes = b->bytes;
		b->raw_min = b->raw_max = b->count ? b->bytes / b->count : 0;
	}
}

/* ---- which of them are in use ---- */

struct judge {
	struct asc_links *k;
	struct asc_sketch_item *slots; /* by key; 0: none */
	ASC_VEC(asc_addr) todo;	       /* nobody links to them */
	ASC_VEC(asc_addr) in_use;
};

static void judge_deinit(struct judge *j)
{
	free(j->slots);
	asc_vec_free(&j->todo);
	asc_vec_free(&j->in_use);
}

/* There is room for all that can be asked for. */
static struct asc_sketch_item *slot(const struct judge *j, asc_addr p)
{
	size_t i = (size_t)asc_sketch_hash(&j->k->sketch, p) & (SLOTS - 1);

	while (j->slots[i].key && j->slots[i].key != p)
		i = (i + 1) & (SLOTS - 1);
	j->slots[i].key = p;
	return &j->slots[i];
}

/* @p n more look like a member at @p p than are linked to. */
static struct asc_error *more(struct judge *j, asc_addr p, int32_t n)
{
	struct asc_sketch_item *at = slot(j, p);

	at->n += n;
	return at->n > 0 ? asc_vec_push(&j->todo, p) : NULL;
}

/* Size word and first word of a chunk. */
static bool look(const struct judge *j, asc_addr p, uint64_t *ret_size, asc_addr *ret_to)
{
	struct asc_model *m = j->k->m;
	uint64_t w[3];

	if (!asc_model_words(m, p, w, 3))
		return false;
	*ret_size = w[1] & ~(uint64_t)7;
	*ret_to = asc_link_target(m->l, p + m->l->hdr, w[2]);
	return true;
}

/* Nobody links to @p p: it is no member, and does not link. */
static struct asc_error *take_out(struct judge *j, asc_addr p, bool *fit)
{
	struct asc_links *k = j->k;
	struct asc_bin *b;
	uint64_t size;
	unsigned i;
	asc_addr to;

	*fit = j->in_use.len < IN_USE_MOST && look(j, p, &size, &to);
	b = *fit ? bin_of(k, size, &i) : NULL;
	*fit = b && b->count;
	if (!*fit)
		return NULL;
	slot(j, p)->n--;
	b->count--;
	b->bytes -= size;
	b->raw_bytes = b->bytes;
	k->fast_sum[i] -= asc_sketch_hash(&k->sketch, p);
	ASC_TRY(asc_vec_push(&j->in_use, p));
	if (!to)
		return NULL;
	k->fast_sum[i] += asc_sketch_hash(&k->sketch, to);
	return more(j, to, 1);
}

/* Of what is linked to, but does not look like a member: the last of a list. */
static struct asc_error *take_end(struct judge *j, asc_addr p, bool *fit)
{
	struct asc_model *m = j->k->m;
	const struct asc_region_ref *r = asc_chunk_aligned(m, p) ? asc_region_at(m, p) : NULL;
	const struct asc_arena *a = &m->h->arenas[j->k->arena];
	struct asc_bin *b;
	uint64_t size;
	unsigned i;
	asc_addr to;

	*fit = r && r->arena == j->k->arena && p >= a->regions[r->region].first &&
	       look(j, p, &size, &to) && !to && size <= r->end - p;
	b = *fit ? bin_of(j->k, size, &i) : NULL;
	*fit = b;
	if (!b)
		return NULL;
	j->k->fast_sum[i] += asc_sketch_hash(&j->k->sketch, p);
	count(b, size);
	return asc_links_push(j->k, p, size, ASC_FASTBIN);
}

static struct asc_error *take_ends(struct judge *j, bool *fit)
{
	size_t ends = 0;

	for (size_t i = 0; i < SLOTS && *fit; i++) {
		if (!j->slots[i].n)
			continue;
		*fit = j->slots[i].n == -1 && ++ends <= ENDS_MOST;
		if (*fit)
			ASC_TRY(take_end(j, j->slots[i].key, fit));
	}
	return NULL;
}

static int by_address(const void *a, const void *b)
{
	asc_addr x = *(const asc_addr *)a, y = *(const asc_addr *)b;

	return (x > y) - (x < y);
}

/* Of the members that were found in the pass, by address. */
static void drop_in_use(struct judge *j)
{
	struct asc_extents *x = &j->k->m->work[j->k->arena].members;
	size_t kept = 0, at = 0;

	if (!j->in_use.len)
		return;
	qsort(j->in_use.data, j->in_use.len, sizeof(*j->in_use.data), by_address);
	for (size_t i = 0; i < x->n; i++) {
		const asc_addr p = asc_extent_addr(x, x->v[i]);

		if (x->on_disk && i % ASC_SPILL_WINDOW == 0)
			asc_spill_drop(x->v, 0, i);
		while (at < j->in_use.len && j->in_use.data[at] < p)
			at++;
		if (at == j->in_use.len || j->in_use.data[at] != p)
			x->v[kept++] = x->v[i];
	}
	x->n = kept;
}

/* The heads, which link to the first of each list. @p ret_first: 0: none */
static bool read_heads(const struct asc_links *k, asc_addr *ret_first)
{
	struct asc_model *m = k->m;
	const struct asc_layout *l = m->l;
	const asc_addr at = m->h->arenas[k->arena].addr + l->malloc_state_fastbinsY.off;

	for (unsigned i = 0; i < l->nfastbins && i < ASC_NFASTBINS_MAX; i++)
		if (!asc_model_word(m, at + (uint64_t)i * l->word, &ret_first[i]))
			return false;
	return true;
}

static struct asc_error *judge(struct judge *j, bool *fit)
{
	ASC_AUTO(asc_freep) struct asc_sketch_item *items = NULL;
	asc_addr first[ASC_NFASTBINS_MAX] = { 0 };
	struct asc_links *k = j->k;
	size_t n;

	*fit = read_heads(k, first);
	asc_links_flush_fast(k);
	for (size_t i = 0; i < ASC_NFASTBINS_MAX; i++)
		add(k, first[i], &k->fast_sum[i], -1);
	if (*fit)
		ASC_TRY(asc_sketch_take(&k->sketch, &items, &n, fit));
	for (size_t i = 0; *fit && i < n; i++) {
		*fit = items[i].key != 0;
		if (*fit)
			ASC_TRY(more(j, items[i].key, items[i].n));
	}
	while (*fit && j->todo.len) {
		const asc_addr p = j->todo.data[--j->todo.len];

		if (slot(j, p)->n > 0)
			ASC_TRY(take_out(j, p, fit));
	}
	if (*fit) {
		drop_in_use(j);
		ASC_TRY(take_ends(j, fit));
	}
	for (size_t i = 0; i < ASC_NFASTBINS_MAX && *fit; i++)
		*fit = !k->fast_sum[i] && !first[i] == !k->fast_bins[i].count;
	return NULL;
}

struct asc_error *asc_links_end_fast(struct asc_links *k, bool *ret_fit)
{
	struct judge j = { .k = k };
	struct asc_error *err;

	j.slots = calloc(SLOTS, sizeof(*j.slots));
	err = j.slots ? judge(&j, ret_fit) : asc_err(ASC_ENOMEM, "%d chunks", SLOTS);
	judge_deinit(&j);
	return err;
}
