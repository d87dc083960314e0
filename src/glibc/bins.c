/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The free lists of one arena: fastbins and bins. Every pointer is checked before it is followed:
 * alignment, inside a region of this arena, and a budget of as many nodes as the regions can hold.
 * A bin that breaks is also followed from its other end, so that one damaged link loses little.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/links.h"
#include "glibc/sweep.h"

enum {
	UNSORTED_BIN = 1,
	FIRST_SMALL = 2,
	FIRST_LARGE = 64,
	LAST_BIN = 127,
	FAST_MOST = 64 << 10, /* members of fastbins that are followed before a pass */
};

/* Ditto of the unsorted bin, or of the others: so many are tried, then so many. */
static const uint64_t BY_HAND[] = { 4 << 10, 32 << 10, 256 << 10 };

struct walk {
	struct asc_model *m;
	size_t arena;
	unsigned bin;
	asc_addr head;
	uint64_t budget;
	uint64_t most; /* chunks, beyond which it is not followed */
	bool by_hand;  /* it is, though a sweep keeps not as many free chunks as there are */
	bool cut;      /* it was not */
	const struct asc_region_ref *here; /* of the last chunk: most stand near each other */
	struct asc_bin *out;
	uint64_t last_size;				/* large bins: descending */
	asc_addr first, ns_first, ns_last, ns_expected; /* the ring of distinct sizes */
};

static uint64_t budget_of(const struct asc_model *m, const struct asc_arena *a)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < a->nregions; i++)
		bytes += a->regions[i].end - a->regions[i].start;
	return bytes / m->l->minsize + 1;
}

static const struct asc_region_ref *region_of(struct walk *w, asc_addr p)
{
	if (!w->here || p < w->here->start || p >= w->here->end)
		w->here = asc_region_at(w->m, p);
	return w->here;
}

/* May a chunk of this arena be at @p p? NULL, or what is wrong. */
static const char *misplaced(struct walk *w, asc_addr p)
{
	const struct asc_region_ref *r;

	if (!asc_chunk_aligned(w->m, p))
		return "is not aligned";
	r = region_of(w, p);
	if (!r)
		return "is not in any heap";
	if (r->arena != w->arena)
		return "is in another arena";
	if (p < w->m->h->arenas[w->arena].regions[r->region].first)
		return "is in a heap's header";
	return NULL;
}

/* Is a chunk of @p size possible at @p p? */
static bool size_fits(struct walk *w, asc_addr p, uint64_t size)
{
	const struct asc_region_ref *r = region_of(w, p);

	return size >= w->m->l->minsize && !(size & w->m->align_mask) && r && size <= r->end - p;
}

static struct asc_error *find_at(struct walk *w, const char *code, asc_addr p, const char *what,
				 uint64_t value)
{
	return asc_model_find(w->m, code, (struct asc_at){ .arena = (int)w->arena, .addr = p },
			      "%s %u: %s 0x%" PRIx64,
			      w->bin == UNSORTED_BIN ? "unsorted bin" : "bin", w->bin, what, value);
}

/* The ring that links the first chunk of each size in a large bin. */
static struct asc_error *check_nextsize(struct walk *w, asc_addr p, uint64_t size,
					const uint64_t *word)
{
	bool leads = word[4] != 0;

	if (w->out->count && size > w->last_size)
		ASC_TRY(find_at(w, "C-LARGE-ORDER", p,
				"not sorted: larger than the one before, size", size));
	if (leads != (!w->out->count || size != w->last_size))
		return find_at(w, "C-NEXTSIZE", p, "the ring of sizes is broken, fd_nextsize is",
			       word[4]);
	if (!leads)
		return NULL;
	if (!w->ns_first)
		w->ns_first = p;
	else if (w->ns_expected != p)
		ASC_TRY(find_at(w, "C-NEXTSIZE", w->ns_last,
				"fd_nextsize is not the next size's chunk:", w->ns_expected));
	if (w->ns_last && word[5] != w->ns_last)
		ASC_TRY(find_at(w, "C-NEXTSIZE", p,
				"bk_nextsize is not the size's chunk before:", word[5]));
	w->ns_last = p;
	w->ns_expected = word[4];
	return NULL;
}

/* One chunk of a bin. @p word: prev_size, size, fd, bk, fd_nextsize, bk_nextsize */
static struct asc_error *take(struct walk *w, asc_addr p, const uint64_t *word, bool forward)
{
	uint64_t raw = word[1], size = raw & ~(uint64_t)7;
	struct asc_model *m = w->m;
	enum asc_state state = w->bin == UNSORTED_BIN ? ASC_UNSORTED
			       : w->bin < FIRST_LARGE ? ASC_SMALL
						      : ASC_LARGE;

	if (!size_fits(w, p, size)) {
		w->out->truncated = true;
		return find_at(w, "C-SIZE", p, "a free chunk's size cannot be", raw);
	}
	if (w->bin != UNSORTED_BIN && asc_bin_index(&m->h->libc, size) != w->bin)
		ASC_TRY(find_at(w, "C-BIN-SIZE", p, "chunk in the wrong bin, its size is", size));
	if (raw & 4)
		ASC_TRY(find_at(w, "S-ARENA-FLAG", p,
				"the arena flag is set on a free chunk, size field", raw));
	if (w->bin >= FIRST_LARGE && forward)
		ASC_TRY(check_nextsize(w, p, size, word));
	w->last_size = size;
	w->out->raw_min = w->out->count ? asc_min(w->out->raw_min, raw) : raw;
	w->out->raw_max = asc_max(w->out->raw_max, raw);
	w->out->raw_bytes += raw;
	w->out->bytes += size;
	w->out->count++;
	return asc_member_push(m, w->arena, p, size, state);
}

static size_t node_words(const struct walk *w)
{
	return w->bin >= FIRST_LARGE ? 6 : 4;
}

static bool read_node(const struct walk *w, asc_addr p, uint64_t *word)
{
	size_t n = node_words(w);

	return asc_sweep_node(w->m, w->arena, p, word, n) || asc_model_words(w->m, p, word, n);
}

static struct asc_error *broken(struct walk *w, asc_addr at, asc_addr p, const char *link,
				const char *why)
{
	w->out->truncated = true;
	return asc_model_find(
		w->m, "C-BIN-LINK", (struct asc_at){ .arena = (int)w->arena, .addr = at },
		"bin %u: %s 0x%" PRIx64 " %s; the list was damaged by a write to freed memory",
		w->bin, link, p, why);
}

/* What is behind the break, from the other end up to @p stop or the next damage. */
static struct asc_error *salvage(struct walk *w, asc_addr stop)
{
	struct asc_model *m = w->m;
	asc_addr p, from = w->head;
	uint64_t word[6];

	if (!asc_model_word(m, w->head + 3u * m->l->word, &p))
		return NULL;
	while (p != w->head && p != stop && w->budget) {
		if (misplaced(w, p) || !read_node(w, p, word) || word[2] != from ||
		    !size_fits(w, p, word[1] & ~(uint64_t)7))
			break;
		w->budget--;
		ASC_TRY(take(w, p, word, false));
		from = p;
		p = word[3];
	}
	return NULL;
}

/*
 * p->bk is not the chunk we came from. Is p a member all the same, with only its bk damaged? Then
 * it links on, and nothing else claims to be before it.
 */
static bool links_on(struct walk *w, asc_addr p, const uint64_t *word)
{
	struct asc_model *m = w->m;
	uint64_t bk, fd;

	if (word[2] != w->head && misplaced(w, word[2]))
		return false;
	if (!asc_model_word(m, word[2] + 3u * m->l->word, &bk) || bk != p)
		return false;
	if (word[3] != w->head && misplaced(w, word[3]))
		return true;
	return !asc_model_word(m, word[3] + 2u * m->l->word, &fd) || fd != p;
}

/* Follow fd from the bin's head round to it again. */
static struct asc_error *walk_bin(struct walk *w)
{
	struct asc_model *m = w->m;
	asc_addr p, prev = w->head, turtle = 0;
	const char *why = NULL;
	uint64_t word[6], step = 1;

	if (!asc_model_word(m, w->head + 2u * m->l->word, &p)) {
		w->out->truncated = true;
		return NULL;
	}
	if (!p && !m->h->arenas[w->arena].initialised)
		return NULL;
	while (p != w->head) {
		ASC_TRY(asc_sweep_if_slow(m, w->arena));
		w->cut = (!w->by_hand && m->work[w->arena].cut) || w->out->count >= w->most;
		if (w->cut)
			return NULL;
		why = misplaced(w, p);
		if (!why && !read_node(w, p, word))
			why = "is not readable";
		if (!why && (!w->budget || p == turtle))
			why = "leads in a circle";
		if (why)
			break;
		if (word[3] != prev) {
			if (!links_on(w, p, word)) {
				why = "is not a member of the list";
				break;
			}
			ASC_TRY(asc_model_find(
				m, "C-BIN-LINK",
				(struct asc_at){ .arena = (int)w->arena, .addr = p, .prev = prev },
				"bin %u: bk is 0x%" PRIx64 ", not the chunk before, 0x%" PRIx64
				": \"corrupted double-linked list\"",
				w->bin, word[3], prev));
		}
		w->budget--;
		ASC_TRY(take(w, p, word, true));
		if (w->out->truncated)
			break;
		if (w->out->count == step) {
			turtle = p;
			step *= 2;
		}
		prev = p;
		p = word[2];
	}
	if (why)
		ASC_TRY(broken(w, prev, p, "fd", why));
	if (w->out->truncated)
		return w->budget ? salvage(w, prev) : NULL;
	if (w->ns_first && w->ns_expected != w->ns_first)
		ASC_TRY(find_at(w, "C-NEXTSIZE", w->ns_last,
				"fd_nextsize does not close the ring:", w->ns_expected));
	if (!asc_model_word(m, w->head + 3u * m->l->word, &p) || p == prev)
		return NULL;
	return asc_model_find(
		m, "C-BIN-LINK",
		(struct asc_at){ .arena = (int)w->arena, .addr = w->head + 3u * m->l->word },
		"bin %u: the head's bk is 0x%" PRIx64 ", not the last chunk, 0x%" PRIx64, w->bin, p,
		prev);
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

static struct asc_error *fast_broken(struct walk *w, asc_addr at, asc_addr p, const char *why)
{
	w->out->truncated = true;
	return asc_model_find(
		w->m, "C-FAST-LINK", (struct asc_at){ .arena = (int)w->arena, .addr = at },
		"fastbin %u: the link 0x%" PRIx64 " %s; a write to freed memory, or a double free",
		w->bin, p, why);
}

/*
 * The list from member @p first on has come back to the middle member of its last doubling. Keep
 * every chunk once. @return the place of the link that closes the circle
 */
static asc_addr cut_cycle(struct walk *w, size_t first)
{
	struct asc_extents *x = &w->m->work[w->arena].members;
	const uint64_t *s = x->v + first;
	size_t n = x->n - first, turtle = 1, len, i = 0;

	while (turtle * 2 <= n)
		turtle *= 2;
	len = n - (turtle - 1);
	while (i + len < n && s[i] >> ASC_EXTENT_ADDR != s[i + len] >> ASC_EXTENT_ADDR) {
		if (++i % ASC_SPILL_WINDOW == 0 && x->on_disk)
			asc_spill_drop(x->v, 0, x->n);
	}
	while (x->n > first + i + len) {
		uint64_t size = asc_extent_at(x, --x->n).size;

		w->out->count--;
		w->out->bytes -= size;
		w->out->raw_bytes -= size;
	}
	return asc_extent_at(x, x->n - 1).addr + 2u * w->m->l->word;
}

/* A fastbin is a stack linked by fd, which is mangled from 2.32 on. */
static struct asc_error *walk_fast(struct walk *w)
{
	struct asc_model *m = w->m;
	asc_addr p, at = w->head, turtle = 0;
	uint64_t word[3], step = 1;
	size_t first = m->work[w->arena].members.n;

	if (!asc_model_word(m, w->head, &p)) {
		w->out->truncated = true;
		return NULL;
	}
	while (p) {
		const char *why;
		uint64_t size;

		ASC_TRY(asc_sweep_if_slow(m, w->arena));
		w->cut = !w->by_hand && m->work[w->arena].cut_fast;
		if (w->cut)
			return NULL;
		why = misplaced(w, p);
		if (!why && !asc_sweep_fast(m, w->arena, p, word) &&
		    !asc_model_words(m, p, word, 3))
			why = "is not readable";
		if (!why && (!w->budget || p == turtle)) {
			why = "leads in a circle";
			at = p == turtle ? cut_cycle(w, first) : at;
		}
		if (why)
			return fast_broken(w, at, p, why);
		size = word[1] & ~(uint64_t)7;
		if (!size_fits(w, p, size) || asc_fastbin_index(&m->h->libc, size) != w->bin) {
			w->out->truncated = true;
			return asc_model_find(m, "C-FAST-SIZE",
					      (struct asc_at){ .arena = (int)w->arena, .addr = p },
					      "fastbin %u: a chunk of size 0x%" PRIx64
					      " does not belong here: its header was overwritten",
					      w->bin, word[1]);
		}
		w->budget--;
		w->out->count++;
		w->out->bytes += size;
		w->out->raw_bytes = w->out->bytes;
		w->out->raw_min = w->out->raw_max = size;
		ASC_TRY(asc_member_push(m, w->arena, p, size, ASC_FASTBIN));
		if (w->out->count == step) {
			turtle = p;
			step *= 2;
		}
		at = p + 2u * m->l->word;
		p = asc_link_target(m->l, at, word[2]);
	}
	return NULL;
}

/* What was known before lists were followed. */
struct mark {
	size_t members, large, findings;
	uint64_t budget;
};

static struct mark mark(const struct asc_model *m, size_t arena, uint64_t budget)
{
	const struct asc_extents *x = &m->work[arena].members;

	return (struct mark){ x->n, x->nlarge, m->findings.len, budget };
}

/* The lists that were followed since are as if nobody had; @p fast: fastbins, too. */
static void back_to(struct asc_model *m, size_t arena, bool fast, const struct mark *to)
{
	struct asc_extents *x = &m->work[arena].members;

	x->n = to->members;
	x->nlarge = to->large;
	while (m->findings.len > to->findings)
		free(m->findings.data[--m->findings.len].message);
	memset(m->lists.bins, 0, sizeof(m->lists.bins));
	if (fast)
		memset(m->lists.fast, 0, sizeof(m->lists.fast));
}

/* How to follow lists. */
struct way {
	bool by_hand;
	uint64_t most, budget;
	bool cut; /* they were not all followed */
};

static struct asc_error *follow(struct asc_model *m, size_t arena, unsigned first, unsigned last,
				struct way *way)
{
	struct asc_arena *a = &m->h->arenas[arena];

	for (unsigned i = first; i <= last && !way->cut; i++) {
		struct walk b = { .m = m,
				  .arena = arena,
				  .budget = way->budget,
				  .bin = i,
				  .most = way->most,
				  .by_hand = way->by_hand };

		if (m->large_only && i > UNSORTED_BIN &&
		    i < asc_bin_index(&m->h->libc, ASC_PLAN_LARGE))
			continue;
		b.head = asc_bin_at(m->l, a->addr, i);
		b.out = &m->lists.bins[i];
		ASC_TRY(walk_bin(&b));
		way->cut = b.cut;
		way->budget = b.budget;
		way->most -= asc_min(way->most, b.out->count);
		m->work[arena].lists_broken |= b.out->truncated;
	}
	return NULL;
}

static struct asc_error *follow_fast(struct asc_model *m, size_t arena, struct way *way)
{
	struct asc_arena *a = &m->h->arenas[arena];
	const struct asc_layout *l = m->l;

	if (!l->malloc_state_fastbinsY.present)
		return NULL;
	for (unsigned i = 0; i < l->nfastbins && i < ASC_NFASTBINS_MAX && !way->cut; i++) {
		struct walk w = { .m = m,
				  .arena = arena,
				  .budget = way->budget,
				  .bin = i,
				  .by_hand = way->by_hand };

		w.head = a->addr + l->malloc_state_fastbinsY.off + (uint64_t)i * l->word;
		w.out = &m->lists.fast[i];
		ASC_TRY(walk_fast(&w));
		way->cut = w.cut;
		way->budget = w.budget;
		m->work[arena].lists_broken |= w.out->truncated;
	}
	return NULL;
}

/*
 * There are more than a sweep keeps: by one pass over the arena, where either the unsorted bin can be followed before
 * it, or all others. Which of them is the shorter one is not known.
 */
static struct asc_error *read_by_pass(struct asc_model *m, size_t arena, bool fast,
				      const struct mark *start, bool *ret_done)
{
	for (unsigned i = 0; i < 2 * ASC_ARRAY_SIZE(BY_HAND); i++) {
		const bool unsorted = i % 2;
		struct way way = { .by_hand = true,
				   .most = BY_HAND[i / 2],
				   .budget = start->budget };

		back_to(m, arena, fast, start);
		ASC_TRY(follow(m, arena, unsorted ? FIRST_SMALL : UNSORTED_BIN,
			       unsorted ? LAST_BIN : UNSORTED_BIN, &way));
		if (!way.cut)
			return asc_links_read(m, arena, unsorted, fast, ret_done);
	}
	return NULL;
}

static struct asc_error *read_lists(struct asc_model *m, size_t arena, uint64_t budget)
{
	struct way way = { .most = UINT64_MAX, .budget = budget };
	struct mark at = mark(m, arena, budget);
	bool done = false, fast;

	ASC_TRY(follow_fast(m, arena, &way));
	/* what is known before a pass is kept meanwhile */
	fast = way.cut || m->work[arena].members.n - at.members > FAST_MOST;
	if (!fast)
		at = mark(m, arena, way.budget);
	if (!way.cut)
		ASC_TRY(follow(m, arena, UNSORTED_BIN, LAST_BIN, &way));
	if (!way.cut)
		return NULL;
	ASC_TRY(read_by_pass(m, arena, fast, &at, &done));
	if (done)
		return NULL;
	back_to(m, arena, fast, &at);
	way = (struct way){ .by_hand = true, .most = UINT64_MAX, .budget = at.budget };
	if (fast)
		ASC_TRY(follow_fast(m, arena, &way));
	return follow(m, arena, UNSORTED_BIN, LAST_BIN, &way);
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
