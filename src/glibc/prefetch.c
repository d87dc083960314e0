/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fastbins and tcache bins are many short lists of chunks that no sweep can tell from live ones.
 * They are followed side by side: the next node of each list in one request. What is read is kept
 * by address for those who follow and judge them afterwards, one by one; nothing is judged here.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"
#include "target/readers.h"

enum { NODES_MAX = 1 << 18, FEW = 16, AT_ONCE = 8192 };

/* Lists of one kind, each by the chunk that comes next. */
struct lists {
	ASC_VEC(asc_addr) at;
	bool tcache; /* links point to user memory, not to headers */
};

void asc_nodes_deinit(struct asc_nodes *n)
{
	free(n->slots);
	*n = (struct asc_nodes){ 0 };
}

static size_t slot_of(const struct asc_nodes *n, asc_addr addr)
{
	size_t i = (size_t)(addr * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (n->cap - 1);

	while (n->slots[i].addr && n->slots[i].addr != addr)
		i = (i + 1) & (n->cap - 1);
	return i;
}

const struct asc_node *asc_node_at(const struct asc_nodes *n, asc_addr addr)
{
	const struct asc_node *node = n->cap && addr ? &n->slots[slot_of(n, addr)] : NULL;

	return node && node->addr ? node : NULL;
}

static struct asc_error *grow(struct asc_nodes *n)
{
	struct asc_nodes more = { .cap = n->cap ? n->cap * 2 : 1024, .len = n->len };

	more.slots = calloc(more.cap, sizeof(*more.slots));
	if (!more.slots)
		return asc_err(ASC_ENOMEM, "%zu list nodes", n->len);
	for (size_t i = 0; i < n->cap; i++) {
		if (n->slots[i].addr)
			more.slots[slot_of(&more, n->slots[i].addr)] = n->slots[i];
	}
	free(n->slots);
	*n = more;
	return NULL;
}

/* Would a list that is followed read a node there, and has neither it nor its page been read yet? */
static bool wanted(const struct asc_model *m, asc_addr chunk)
{
	return chunk && asc_chunk_aligned(m, chunk) && !asc_target_has(m->t, chunk) &&
	       asc_region_at(m, chunk) && !asc_node_at(&m->nodes, chunk);
}

/* Keep what was read of @p n of the lists from @p from on; those that go on are moved down to @p kept. */
static struct asc_error *take(struct asc_model *m, struct lists *v, size_t from, size_t n,
			      const struct asc_iov *iov, size_t *kept)
{
	const struct asc_layout *l = m->l;

	for (size_t i = 0; i < n; i++) {
		const asc_addr at = v->at.data[from + i];
		struct asc_node *node;
		asc_addr next;

		if (iov[i].got < 4u * l->word)
			continue;
		if (m->nodes.len * 2 >= m->nodes.cap)
			ASC_TRY(grow(&m->nodes));
		node = &m->nodes.slots[slot_of(&m->nodes, at)];
		m->nodes.len += !node->addr;
		node->addr = at;
		memcpy(node->bytes, iov[i].buf, 4u * l->word);
		next = asc_link_target(l, at + l->hdr,
				       asc_word_at(m->t, node->bytes + 2u * l->word));
		if (v->tcache)
			next -= asc_min(next, l->hdr);
		if (wanted(m, next))
			v->at.data[(*kept)++] = next;
	}
	return NULL;
}

/* At most @p most nodes. */
static struct asc_error *follow(struct asc_model *m, struct lists *v, size_t most)
{
	const size_t word = m->l->word, room = (size_t)asc_min(v->at.len, AT_ONCE) + 1;
	ASC_AUTO(asc_freep) struct asc_iov *iov = calloc(room, sizeof(*iov));
	ASC_AUTO(asc_freep) uint8_t *bytes = malloc(room * sizeof(m->nodes.slots->bytes));

	if (!iov || !bytes)
		return asc_err(ASC_ENOMEM, "%zu lists", v->at.len);
	/* of the last few lists one read at a time is as good */
	while (v->at.len >= FEW && m->nodes.len < most) {
		size_t kept = 0;

		for (size_t from = 0, n; from < v->at.len; from += n) {
			n = (size_t)asc_min(v->at.len - from, AT_ONCE);
			for (size_t i = 0; i < n; i++)
				iov[i] = (struct asc_iov){ .addr = v->at.data[from + i],
							   .buf = bytes + i * 4u * word,
							   .len = 4u * word };
			/* where pages are kept, several nodes are on each */
			asc_target_fetch(m->t, m->res, v->at.data + from, n);
			ASC_TRY(m->opts->rehearsal ? asc_read_bulk(m->t, iov, n)
						   : asc_read_pieces(m->t, iov, n));
			ASC_TRY(take(m, v, from, n, iov, &kept));
			ASC_TRY(asc_model_progress(m, 0));
		}
		v->at.len = kept;
	}
	return NULL;
}

static struct asc_error *push(struct asc_model *m, struct lists *v, asc_addr chunk)
{
	return wanted(m, chunk) ? asc_vec_push(&v->at, chunk) : NULL;
}

struct asc_error *asc_prefetch_tcaches(struct asc_model *m, const asc_addr *tcache, size_t n)
{
	const struct asc_layout *l = m->l;
	struct asc_error *err = NULL;
	struct lists v = { .tcache = true };

	for (size_t i = 0; i < n && l->tcache_perthread_struct_entries.present; i++) {
		asc_addr at = tcache[i] + l->tcache_perthread_struct_entries.off, e;

		for (unsigned bin = 0; bin < l->ntcache && bin < ASC_NTCACHE_MAX && !err; bin++) {
			if (asc_model_word(m, at + (uint64_t)bin * l->word, &e) && e > l->hdr)
				err = push(m, &v, e - l->hdr);
		}
	}
	if (!err)
		err = follow(m, &v, NODES_MAX);
	asc_vec_free(&v.at);
	return err;
}

/* Is it swept in any case? Then that sees the fastbins' members as well. */
static bool will_sweep(const struct asc_model *m, size_t arena)
{
	return m->opts->depth == ASC_DEPTH_WALK && !m->work[arena].pieces && !m->opts->focus;
}

/* How many nodes, before it is cheaper to sweep; but not everything can be swept. */
static size_t worth(const struct asc_model *m)
{
	enum { AT_LEAST = 1024, BYTES_A_NODE = 256 << 10 };
	uint64_t bytes = 0;

	if (m->work[0].pieces || m->opts->rehearsal || m->opts->stepwise)
		return NODES_MAX;
	for (size_t i = 0; i < m->h->narenas; i++)
		bytes += asc_arena_walk_bytes(m, i);
	return m->nodes.len + (size_t)asc_min(AT_LEAST + bytes / BYTES_A_NODE, NODES_MAX);
}

struct asc_error *asc_prefetch_fastbins(struct asc_model *m)
{
	const struct asc_layout *l = m->l;
	struct asc_error *err = NULL;
	struct lists v = { 0 };

	for (size_t i = 0; i < m->h->narenas && l->malloc_state_fastbinsY.present; i++) {
		asc_addr at = m->h->arenas[i].addr + l->malloc_state_fastbinsY.off, p;

		if (will_sweep(m, i) || (m->opts->wanted && !m->opts->wanted(m->opts->wanted_arg,
									     m->h->arenas[i].addr)))
			continue;
		for (unsigned bin = 0; bin < l->nfastbins && bin < ASC_NFASTBINS_MAX && !err;
		     bin++) {
			if (asc_model_word(m, at + (uint64_t)bin * l->word, &p))
				err = push(m, &v, p);
		}
	}
	if (!err) {
		size_t most = worth(m);

		err = follow(m, &v, most);
		m->lists_long = m->nodes.len >= most;
	}
	asc_vec_free(&v.at);
	return err;
}
