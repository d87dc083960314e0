/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "glibc/sweep.h"

#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/links.h"
#include "target/readers.h"

enum {
	BLOCK = 64 * 1024, /* some dozen free chunks, among which one is looked for */
	SMALL_WINDOW = 8192,
	BLOCKS_BYTES = 4 << 20,
	FORESEEN_BYTES = 64 << 20, /* of a region, for which room is made in advance */
};

#define unlikely(x) __builtin_expect(!!(x), 0)

/* ---- 48 bits in three halves ---- */

static bool put48(uint16_t *to, uint64_t v)
{
	to[0] = (uint16_t)v;
	to[1] = (uint16_t)(v >> 16);
	to[2] = (uint16_t)(v >> 32);
	return !(v >> 48);
}

static uint64_t get48(const uint16_t *v)
{
	return (uint64_t)v[2] << 32 | (uint64_t)v[1] << 16 | v[0];
}

/* ---- the pass ---- */

/* Bytes that are in memory from @p at on, at most @p want. */
static uint64_t present(const struct asc_model *m, asc_addr at, uint64_t want)
{
	const struct asc_residency *res = m->res;
	size_t i;

	if (!res || res->source == ASC_RESIDENCY_UNKNOWN)
		return want;
	i = asc_residency_seek(res, at);
	if (i == res->n || asc_page_run_start(&res->v[i]) > at)
		return 0;
	while (i + 1 < res->n && asc_page_run_start(&res->v[i + 1]) == res->v[i].end &&
	       res->v[i].end - at < want)
		i++;
	return asc_min(want, res->v[i].end - at);
}

/* Move the window to the header at @p p. Tells how far it is, and may be told to end. */
static bool refill(struct asc_sweeper *r, asc_addr p)
{
	asc_addr from = asc_align_down(p, ASC_CACHE_PAGE);
	uint64_t want, swept;

	/* far behind the last window: chunks are large here, and few headers are wanted */
	r->want = from > r->win_end + ASC_CACHE_PAGE ? SMALL_WINDOW
						     : asc_min(r->want * 4, ASC_WALK_WINDOW);
	want = asc_min(r->want, asc_align_up(r->region->end, ASC_CACHE_PAGE) - from);
	want = present(r->m, from, want);
	r->win = from;
	r->win_end = from + (want ? asc_read_beside(r->m->t, from, r->window, (size_t)want) : 0);
	swept = p - r->from;
	r->from = p;
	return asc_crew_goes_on(r, swept);
}

/* What the pass has seen of the chunk before, and where it is with its blocks. */
struct trail {
	asc_addr from, prev;
	const uint8_t *b; /* its header in the window, or in saved; NULL: not all of it was there */
	uint8_t saved[48]; /* the window has moved on */
	size_t filled;
	uint64_t raw;	   /* its size word, at the end */
	uint64_t fast_max; /* no larger ones are in fastbins */
	asc_addr lo, hi;   /* the arena is somewhere there */
	asc_addr limit;	   /* chunks from there on are not looked at */
	bool full;	   /* no more is kept for the bins */
	bool fast_full;	   /* ditto for the fastbins */
};

/* Blocks up to that of @p at begin with what comes next. */
static void index_to(struct asc_sweep *s, size_t block, size_t *filled)
{
	for (; *filled <= block && *filled < s->nblocks; ++*filled)
		s->blocks[*filled] = (struct asc_sweep_block){ (uint32_t)s->nodes.len,
							       (uint32_t)s->links.len,
							       (uint32_t)s->fast.len };
}

/* Chunks that nothing is kept of but their size words. */
static size_t plain(const struct asc_sweep *s)
{
	return s->raw.len - asc_min(s->raw.len, s->nodes.len + s->fast.len);
}

/* May one more of @p size be kept in a table? Without it, it is read when its list comes to it. */
static bool room_for(struct asc_sweeper *r, enum asc_kept what, size_t len, size_t cap, size_t size)
{
	if (len < cap)
		return true;
	/* as asc_vec_push() will */
	return len < UINT32_MAX &&
	       asc_crew_room_for_lists(r, what, (cap ? cap / 2 + 1 : 16) * size, plain(r->sweep));
}

/* @p word: size word, fd, bk, fd_nextsize, bk_nextsize */
static struct asc_error *keep_node(struct asc_sweeper *r, struct trail *t, const uint64_t *word)
{
	struct asc_sweep *s = r->sweep;
	uint64_t off = t->prev - s->first;
	struct asc_sweep_node node = { .at = (uint16_t)(off % BLOCK / 8) };
	struct asc_sweep_link link = { { 0 }, { 0 } };

	if (word[0] > UINT32_MAX || t->full || !put48(node.fd, word[1]) || !put48(node.bk, word[2]))
		return NULL;
	t->full = !room_for(r, ASC_KEPT_NODES, s->nodes.len, s->nodes.cap, sizeof(node));
	if (t->full)
		return NULL;
	node.raw[0] = (uint16_t)word[0];
	node.raw[1] = (uint16_t)(word[0] >> 16);
	index_to(s, off / BLOCK, &t->filled);
	if (word[0] >= r->m->large_min) {
		if (!put48(link.fd, word[3]) || !put48(link.bk, word[4]))
			return NULL;
		t->full = !room_for(r, ASC_KEPT_NODES, s->links.len, s->links.cap, sizeof(link));
		if (t->full)
			return NULL;
		ASC_TRY(asc_vec_push(&s->links, link));
	}
	return asc_vec_push(&s->nodes, node);
}

/* Its first word as a fastbin's link: to elsewhere in the arena? The last of a list has none. */
static struct asc_error *keep_fast(struct asc_sweeper *r, struct trail *t, uint64_t raw,
				   uint64_t fd)
{
	const struct asc_model *m = r->m;
	struct asc_sweep *s = r->sweep;
	uint64_t off = t->prev - s->first;
	asc_addr to = asc_link_target(m->l, t->prev + m->l->hdr, fd);
	struct asc_sweep_fast fast = { (uint16_t)(off % BLOCK / 8), (uint16_t)raw, { 0 } };
	bool near = to - t->lo < t->hi - t->lo && asc_chunk_aligned(m, to);

	/* a word that is 0 says nothing, but one that is 0 by way of its address does */
	if (r->links)
		return near || (!to && m->l->safe_linking)
			       ? asc_links_take_fast(r->links, t->prev, raw, to)
			       : NULL;
	if (!near || t->fast_full || !put48(fast.fd, fd))
		return NULL;
	t->fast_full = !room_for(r, ASC_KEPT_FAST, s->fast.len, s->fast.cap, sizeof(fast));
	if (t->fast_full)
		return NULL;
	index_to(s, off / BLOCK, &t->filled);
	return asc_vec_push(&s->fast, fast);
}

/* The window moves: what may still be wanted of the chunk before is put aside. */
static bool move_on(struct asc_sweeper *r, struct trail *t, asc_addr p, unsigned word)
{
	if (t->b && t->b != t->saved) {
		memcpy(t->saved, t->b, 6 * word);
		t->b = t->saved;
	}
	return refill(r, p);
}

static inline __attribute__((__always_inline__)) struct asc_error *keep_free(struct asc_sweeper *r,
									     struct trail *t,
									     unsigned word, bool be)
{
	uint64_t w[5];
	unsigned n = 3;

	for (unsigned i = 0; i < n; i++) {
		w[i] = asc_load_word(t->b + (i + 1) * word, word, be);
		if (!i && w[0] >= r->m->large_min)
			n = 5;
	}
	return r->links ? asc_links_take(r->links, t->prev, w) : keep_node(r, t, w);
}

/* @p n words, not through what only one thread may use. */
static bool read_words(const struct asc_sweeper *r, asc_addr p, uint64_t *w, size_t n)
{
	const unsigned word = r->m->l->word;
	uint8_t b[6 * 8];

	if (asc_read_beside(r->m->t, p, b, n * word) != n * word)
		return false;
	for (size_t i = 0; i < n; i++)
		w[i] = asc_word_at(r->m->t, b + i * word);
	return true;
}

/* A chunk that may be in a fastbin, where not all of it was in the window. */
static struct asc_error *tell_fast(struct asc_sweeper *r, struct trail *t, uint64_t raw)
{
	uint64_t fd;

	if (raw > t->fast_max)
		return NULL;
	if (read_words(r, t->prev + r->m->l->hdr, &fd, 1))
		return keep_fast(r, t, raw, fd);
	r->links->unfit = true;
	return NULL;
}

/* The same of a free one. */
static struct asc_error *tell_free(struct asc_sweeper *r, const struct trail *t)
{
	uint64_t w[6] = { 0 };
	const size_t n = 4;

	if (!read_words(r, t->prev, w, n) ||
	    (w[1] >= r->m->large_min && !read_words(r, t->prev, w, 6))) {
		r->links->unfit = true;
		return NULL;
	}
	return asc_links_take(r->links, t->prev, w + 1);
}

/* Is there nothing left to be kept for the lists? Where there are many of one kind and few of the other, that one decides. */
static bool enough(const struct asc_sweeper *r, const struct trail *t)
{
	const size_t nodes = r->sweep->nodes.len, fast = r->sweep->fast.len;

	return r->m->opts->depth != ASC_DEPTH_WALK &&
	       ((t->full && (t->fast_full || fast < nodes / 8)) ||
		(t->fast_full && nodes < fast / 8));
}

static inline __attribute__((__always_inline__)) struct asc_error *pass(struct asc_sweeper *r,
									struct trail *t,
									unsigned word, bool be)
{
	const struct asc_model *m = r->m;
	const struct asc_region *region = r->region;
	struct asc_sweep *s = r->sweep;
	const uint64_t align = m->align_mask, minsize = m->l->minsize, fast_max = t->fast_max;
	const asc_addr end = asc_min(region->end, t->limit),
		       top = region->has_top ? m->h->arenas[r->arena].top : end;
	asc_addr p = t->from;
	uint64_t prev_raw = 0;
	const bool walk = m->opts->depth == ASC_DEPTH_WALK && !r->links;
	const bool fast = r->links ? r->links->fast : true;
	bool keep = walk;

	while (p < end && p != top) {
		const uint8_t *b;
		uint64_t raw, size;

		if (unlikely(p + 6 * word > r->win_end || p < r->win)) {
			if (enough(r, t) || !move_on(r, t, p, word) || p + 2 * word > r->win_end)
				break;
		}
		b = r->window + (p - r->win);
		raw = asc_load_word(b + word, word, be);
		size = raw & ~(uint64_t)7;
		if (unlikely(size & align || size < minsize || size > region->end - p))
			break;
		if (!(raw & 1)) {
			if (!t->prev || asc_load_word(b, word, be) != (prev_raw & ~(uint64_t)7))
				break;
			if (t->b)
				ASC_TRY(keep_free(r, t, word, be));
			else if (r->links)
				ASC_TRY(tell_free(r, t));
		} else if (prev_raw <= fast_max && fast && t->prev) {
			if (t->b)
				ASC_TRY(keep_fast(r, t, prev_raw,
						  asc_load_word(t->b + 2 * word, word, be)));
			else if (r->links)
				ASC_TRY(tell_fast(r, t, prev_raw));
		}
		if (keep) {
			if (unlikely(s->raw.len == s->raw.cap)) {
				/* the walk reads on from here; list nodes are kept all the same */
				keep = asc_crew_room(r, asc_max(s->raw.cap, 16) * sizeof(uint64_t));
				if (keep)
					ASC_TRY(asc_vec_push(&s->raw, raw));
			} else {
				s->raw.data[s->raw.len++] = raw;
			}
		}
		t->b = p + 6 * word <= r->win_end ? b : NULL;
		t->prev = p;
		prev_raw = raw;
		p += size;
	}
	index_to(s, SIZE_MAX - 1, &t->filled);
	s->stop = p;
	t->raw = prev_raw;
	return NULL;
}

static struct asc_error *pass_any(struct asc_sweeper *r, struct trail *t)
{
	const bool be = asc_target_arch(r->m->t)->big_endian;

	if (r->m->l->word == 8)
		return be ? pass(r, t, 8, true) : pass(r, t, 8, false);
	return be ? pass(r, t, 4, true) : pass(r, t, 4, false);
}

/* Where fastbins may link to, and from what. */
static void set_out(struct asc_sweeper *r, struct trail *t)
{
	const struct asc_arena *a = &r->m->h->arenas[r->arena];
	const struct asc_layout *l = r->m->l;

	t->lo = UINT64_MAX;
	for (size_t i = 0; i < a->nregions; i++) {
		t->lo = asc_min(t->lo, a->regions[i].start);
		t->hi = asc_max(t->hi, a->regions[i].end);
	}
	if (l->malloc_state_fastbinsY.present)
		t->fast_max = (l->nfastbins + 2u) * 2 * l->word; /* asc_fastbin_index() */
}

/* How many there will be, and so how far it goes, where there is not the memory for a very long region. */
static bool begin_blocks(struct asc_sweeper *r, struct trail *t)
{
	const struct asc_region *region = r->region;
	const size_t size = sizeof(*r->sweep->blocks);
	uint64_t n = (region->end - region->first) / BLOCK + 2;

	t->from = region->first;
	t->limit = UINT64_MAX;
	if (r->m->opts->depth != ASC_DEPTH_WALK && n * size > BLOCKS_BYTES) {
		n = BLOCKS_BYTES / size;
		t->limit = region->first + (n - 2) * BLOCK;
	}
	r->sweep->nblocks = (size_t)n;
	/* a walk goes to the end in any case */
	return r->m->opts->depth == ASC_DEPTH_WALK ||
	       asc_crew_room_for_lists(r, ASC_KEPT_NODES, n * size, 0);
}

/* As many as the region before had in as many bytes before its top, and a sixteenth. */
static size_t foreseen(const struct asc_sweeper *r, size_t n)
{
	const struct asc_region *region = r->region;
	const asc_addr top = r->m->h->arenas[r->arena].top,
		       end = region->has_top && top > region->first ? asc_min(top, region->end)
								    : region->end;
	const uint64_t bytes = asc_min(end - region->first, FORESEEN_BYTES);

	return r->bytes ? (size_t)((double)n * 1.0625 * (double)bytes / (double)r->bytes) : 0;
}

/* So that tables need not grow a dozen times; they still may. */
static void make_room(struct asc_sweeper *r)
{
	struct asc_sweep *s = r->sweep;
	const size_t raw = foreseen(r, r->nraw), nodes = foreseen(r, r->nnodes);

	if (r->m->opts->depth != ASC_DEPTH_WALK)
		return;
	if (raw && asc_crew_room(r, raw * sizeof(*s->raw.data))) {
		s->raw.data = malloc(raw * sizeof(*s->raw.data));
		s->raw.cap = s->raw.data ? raw : 0;
	}
	if (nodes && asc_crew_room_for_lists(r, ASC_KEPT_NODES, nodes * sizeof(*s->nodes.data),
					     raw - asc_min(raw, nodes))) {
		s->nodes.data = malloc(nodes * sizeof(*s->nodes.data));
		s->nodes.cap = s->nodes.data ? nodes : 0;
	}
}

struct asc_error *asc_sweep_region(struct asc_sweeper *r)
{
	const struct asc_region *region = r->region;
	struct asc_sweep *s = r->sweep;
	struct trail t = { 0 };
	struct asc_error *err;

	s->first = s->stop = r->win = r->win_end = r->from = region->first;
	r->want = SMALL_WINDOW;
	if (region->first >= region->end)
		return NULL;
	if (!begin_blocks(r, &t)) {
		s->cut = s->cut_fast = true;
		return NULL;
	}
	s->blocks = calloc(s->nblocks, sizeof(*s->blocks));
	if (!s->blocks)
		return asc_err(ASC_ENOMEM, "index of %zu blocks", s->nblocks);
	set_out(r, &t);
	make_room(r);
	err = pass_any(r, &t);
	s->cut = t.full || t.limit < region->end || enough(r, &t);
	s->cut_fast = t.fast_full || t.limit < region->end || enough(r, &t);
	r->bytes = s->stop - s->first;
	r->nraw = s->raw.len;
	r->nnodes = s->nodes.len;
	return err;
}

/* ---- a pass that keeps nothing ---- */

/* What ends a region: top, or a fencepost, whose P bit tells of the last chunk; or another part of it. */
static struct asc_error *tell_end(struct asc_sweeper *r, struct trail *t, asc_addr p,
				  bool *ret_whole)
{
	const struct asc_model *m = r->m;
	const struct asc_region *region = r->region;
	const bool top = region->has_top && p == m->h->arenas[r->arena].top, part = p == t->limit;
	uint64_t w[2];

	*ret_whole =
		p < region->end && read_words(r, p, w, 2) &&
		(top || part ||
		 (!region->has_top && region->heap_info && region->end - p <= 2u * m->l->minsize &&
		  (w[1] & ~(uint64_t)7) <= m->l->hdr));
	if (!*ret_whole)
		return NULL;
	if (w[1] & 1)
		return t->prev && r->links->fast ? tell_fast(r, t, t->raw) : NULL;
	if (t->prev && w[0] == p - t->prev)
		return tell_free(r, t);
	*ret_whole = false;
	return NULL;
}

struct asc_error *asc_sweep_tell(struct asc_sweeper *r, asc_addr from, asc_addr to, bool *ret_whole)
{
	struct trail t = { .from = from, .limit = to };

	set_out(r, &t);
	r->win = r->win_end = r->from = from;
	r->want = SMALL_WINDOW;
	ASC_TRY(pass_any(r, &t));
	ASC_TRY(tell_end(r, &t, r->sweep->stop, ret_whole));
	*ret_whole = *ret_whole && (to == UINT64_MAX || r->sweep->stop == to);
	return NULL;
}

/* ---- what was seen ---- */

static bool in_sweep(const struct asc_sweep *s, asc_addr p)
{
	return p >= s->first && p < s->stop;
}

static const struct asc_sweep *sweep_of(const struct asc_model *m, size_t arena, asc_addr p)
{
	struct asc_arena_work *w = &m->work[arena];

	if (in_sweep(&w->sweeps[w->last_sweep], p))
		return &w->sweeps[w->last_sweep];
	/* by address, as the regions are */
	for (size_t lo = 0, hi = w->nsweeps; lo < hi;) {
		size_t mid = lo + (hi - lo) / 2;

		if (in_sweep(&w->sweeps[mid], p)) {
			w->last_sweep = mid;
			return &w->sweeps[mid];
		}
		if (p < w->sweeps[mid].first)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

static uint32_t raw_of(const struct asc_sweep_node *n)
{
	return (uint32_t)n->raw[1] << 16 | n->raw[0];
}

/*
 * Of @p n records of @p stride numbers, from the one @p at on: the last one whose first number is at most @p want,
 * or @p at. They are all over the block, most likely as many here as there: the search begins where it would be then,
 * since each look elsewhere is at memory that is in no cache.
 */
static inline size_t seek(const uint16_t *v, size_t stride, size_t at, size_t n, uint16_t want)
{
	const size_t first = at, end = at + n;
	size_t step = 1, mid;

	at += want * n / (BLOCK / 8);
	if (v[at * stride] <= want) {
		for (; end - at > step && v[(at + step) * stride] <= want; step *= 2)
			at += step;
		n = (size_t)asc_min(step, end - at);
	} else {
		mid = at;
		for (; mid - first > step && v[(mid - step) * stride] > want; step *= 2)
			mid -= step;
		at = mid - (size_t)asc_min(step, mid - first);
		n = mid - at;
	}
	/* without a branch that would be guessed wrong half of the time */
	while (n > 1) {
		const size_t half = n / 2;

		at += v[(at + half) * stride] <= want ? half : 0;
		n -= half;
	}
	return at;
}

static size_t find(const struct asc_sweep *s, uint64_t off)
{
	const struct asc_sweep_block *b = &s->blocks[off / BLOCK];
	const uint16_t want = (uint16_t)(off % BLOCK / 8);
	const size_t n = b[1].node - b[0].node;
	size_t at;

	if (!n)
		return SIZE_MAX;
	at = seek(&s->nodes.data->at, sizeof(*s->nodes.data) / 2, b[0].node, n, want);
	return s->nodes.data[at].at == want ? at : SIZE_MAX;
}

bool asc_sweep_node(const struct asc_model *m, size_t arena, asc_addr p, uint64_t *word, size_t n)
{
	const struct asc_sweep *s = m->work[arena].swept ? sweep_of(m, arena, p) : NULL;
	const struct asc_sweep_node *node;
	const struct asc_sweep_link *link;
	const struct asc_sweep_block *block;
	size_t at;

	if (!s || !s->blocks)
		return false;
	at = find(s, p - s->first);
	if (at == SIZE_MAX)
		return false;
	node = &s->nodes.data[at];
	word[1] = raw_of(node);
	word[2] = get48(node->fd);
	word[3] = get48(node->bk);
	if (n < 6)
		return true;
	if (word[1] < m->large_min)
		return false;
	block = &s->blocks[(p - s->first) / BLOCK];
	link = &s->links.data[block->link];
	for (size_t i = block->node; i < at; i++)
		link += raw_of(&s->nodes.data[i]) >= m->large_min;
	word[4] = get48(link->fd);
	word[5] = get48(link->bk);
	return true;
}

bool asc_sweep_fast(const struct asc_model *m, size_t arena, asc_addr p, uint64_t *word)
{
	const struct asc_sweep *s = m->work[arena].swept ? sweep_of(m, arena, p) : NULL;
	const struct asc_sweep_block *b;
	uint64_t off;
	uint16_t want;
	size_t at;

	if (!s || !s->blocks)
		return false;
	off = p - s->first;
	want = (uint16_t)(off % BLOCK / 8);
	b = &s->blocks[off / BLOCK];
	if (b[0].fast == b[1].fast)
		return false;
	at = seek(&s->fast.data->at, sizeof(*s->fast.data) / 2, b[0].fast, b[1].fast - b[0].fast,
		  want);
	if (s->fast.data[at].at != want)
		return false;
	word[1] = s->fast.data[at].raw;
	word[2] = get48(s->fast.data[at].fd);
	return true;
}
