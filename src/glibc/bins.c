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
#include "glibc/lists_read.h"
#include "glibc/sweep.h"

enum {
	UNSORTED_BIN = 1,
	FIRST_LARGE = 64,
	UNTOLD_MOST = 4 << 10, /* of a fastbin, where no sweep has told of its members */
};

struct walk {
	struct asc_model *m;
	size_t arena;
	unsigned bin;
	asc_addr head;
	struct asc_way *way;
	const struct asc_region_ref *here; /* of the last chunk: most stand near each other */
	struct asc_bin *out;
	uint64_t last_size;				/* large bins: descending */
	asc_addr first, ns_first, ns_last, ns_expected; /* the ring of distinct sizes */
};

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
	while (p != w->head && p != stop && w->way->budget) {
		if (misplaced(w, p) || !read_node(w, p, word) || word[2] != from ||
		    !size_fits(w, p, word[1] & ~(uint64_t)7))
			break;
		w->way->budget--;
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
	const struct asc_arena_work *work = &m->work[w->arena];
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
		w->way->cut = w->out->count >= w->way->most ||
			      (!w->way->by_hand && (work->cut || work->many || work->untold));
		if (w->way->cut)
			return NULL;
		why = misplaced(w, p);
		if (!why && !read_node(w, p, word))
			why = "is not readable";
		if (!why && (!w->way->budget || p == turtle))
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
		w->way->budget--;
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
		return w->way->budget ? salvage(w, prev) : NULL;
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
	const struct asc_arena_work *work = &m->work[w->arena];
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
		w->way->cut = !w->way->by_hand &&
			      (work->cut_fast || (work->untold && w->out->count >= UNTOLD_MOST));
		if (w->way->cut)
			return NULL;
		why = misplaced(w, p);
		if (!why && !asc_sweep_fast(m, w->arena, p, word) &&
		    !asc_model_words(m, p, word, 3))
			why = "is not readable";
		if (!why && (!w->way->budget || p == turtle)) {
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
		w->way->budget--;
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

struct asc_error *asc_bin_follow(struct asc_model *m, size_t arena, unsigned bin,
				 struct asc_way *way)
{
	struct asc_arena *a = &m->h->arenas[arena];
	struct walk w = { .m = m,
			  .arena = arena,
			  .bin = bin,
			  .way = way,
			  .head = asc_bin_at(m->l, a->addr, bin),
			  .out = &m->lists.bins[bin] };

	ASC_TRY(walk_bin(&w));
	way->most -= asc_min(way->most, w.out->count);
	m->work[arena].lists_broken |= w.out->truncated;
	return NULL;
}

struct asc_error *asc_fastbin_follow(struct asc_model *m, size_t arena, unsigned bin,
				     struct asc_way *way)
{
	struct asc_arena *a = &m->h->arenas[arena];
	struct walk w = { .m = m,
			  .arena = arena,
			  .bin = bin,
			  .way = way,
			  .head = a->addr + m->l->malloc_state_fastbinsY.off +
				  (uint64_t)bin * m->l->word,
			  .out = &m->lists.fast[bin] };

	ASC_TRY(walk_fast(&w));
	m->work[arena].lists_broken |= w.out->truncated;
	return NULL;
}
