/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Chunks with a mapping of their own are in no list. Their headers stand at page starts of
 * anonymous memory; mp_ says how many there are and how large together. Most begin a mapping or
 * follow another one, so these are tried first; only if the sums do not agree is every page looked
 * at.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

enum {
	BATCH = 512,
	AHEAD = 64,		 /* pages read at once of chunks in a row ... */
	AHEAD_BYTES = 256 << 10, /* ... and their bytes, but for a single one */
	JUDGED = 256,		 /* so many are told apart by what they add up to ... */
	DOUBTFUL = 16,		 /* ... so many of them in doubt */
};

/* Chunks of one size often follow one another: their first pages, read before anybody knows. */
struct ahead {
	uint8_t *bytes;
	asc_addr at, step; /* page i is that of at + i * step */
	size_t got[AHEAD];
	size_t n, next;
};

/* Anonymous memory without a hole. */
struct span {
	asc_addr start, end;
};
typedef ASC_VEC(struct span) span_vec;

struct hunt {
	struct asc_model *m;
	uint64_t want, want_bytes;
	struct asc_mmapped_work found;
	struct ahead ahead;
	uint64_t bytes;
	span_vec chains;		  /* that begin where mappings do */
	bool by_page;			  /* any page may look like a header */
	bool tie;			  /* several sets of what was found have what mp_ counts */
	ASC_VEC(struct asc_mmapped) seen; /* then: all of them, but not many more than JUDGED */
};

static struct asc_error *spans(struct asc_model *m, span_vec *ret)
{
	const struct asc_maps *maps = asc_target_maps(m->t);

	for (size_t i = 0; i < maps->n; i++) {
		const struct asc_map *map = &maps->v[i];
		struct span *last = ret->len ? &ret->data[ret->len - 1] : NULL;
		struct span s = { map->start, map->end };

		if (!asc_map_anonymous(map))
			continue;
		if (last && last->end == map->start)
			last->end = map->end;
		else
			ASC_TRY(asc_vec_push(ret, s));
	}
	return NULL;
}

/* Does the header in @p b (of the first possible chunk behind the page start @p a) say so? */
static bool header(const struct hunt *h, asc_addr a, asc_addr end, const uint8_t *b,
		   struct asc_mmapped *ret)
{
	const struct asc_layout *l = h->m->l;
	uint64_t prev = asc_word_at(h->m->t, b), size = asc_word_at(h->m->t, b + l->word), total;
	asc_addr chunk = asc_first_chunk(l, a);
	bool huge = l->mmap_hdr_excluded && prev & 1;

	if (l->mmap_hdr_excluded)
		prev &= ~(uint64_t)1;
	/* a program has no such addresses, wherever this came from */
	if (prev != chunk - a || (size & 7) != 2 || a >> 57)
		return false;
	size &= ~(uint64_t)7;
	if (size < l->minsize || !asc_add(prev, size, &total) ||
	    !asc_add(total, l->mmap_hdr_excluded ? l->hdr : 0, &total))
		return false;
	if (total % h->m->h->page_size || total > end - a || total > h->want_bytes)
		return false;
	*ret = (struct asc_mmapped){ a, total, chunk, size, huge };
	return true;
}

/* memalign leaves the header at the start as it was; the real one lies behind it, on the same page @p b. */
static void find_aligned(const struct hunt *h, const uint8_t *b, size_t got, struct asc_mmapped *c)
{
	const struct asc_model *m = h->m;
	const struct asc_layout *l = m->l;

	for (uint64_t align = 2u * l->malloc_alignment; align <= m->h->page_size; align *= 2) {
		asc_addr q = asc_align_up(c->start + l->hdr, align) - l->hdr;
		uint64_t prev, raw, off = q - c->start, size = c->total - off;

		if (q <= c->chunk || off >= c->total)
			continue;
		if (l->mmap_hdr_excluded)
			size -= l->hdr;
		if (off + 2u * l->word > got)
			return;
		prev = asc_word_at(m->t, b + off);
		raw = asc_word_at(m->t, b + off + l->word);
		if ((l->mmap_hdr_excluded ? prev & ~(uint64_t)1 : prev) == off &&
		    raw == (size | 2)) {
			c->chunk = q;
			c->size = size;
			return;
		}
	}
}

static struct asc_error *record(struct hunt *h, const struct asc_mmapped *c)
{
	h->bytes += c->total;
	if (h->by_page && h->seen.len <= JUDGED)
		ASC_TRY(asc_vec_push(&h->seen, *c));
	return asc_mmapped_push(h->m, &h->found, c);
}

static bool enough(const struct hunt *h)
{
	uint64_t over = h->want_bytes - h->bytes;

	if (h->m->h->mmapped.n != h->want || h->bytes > h->want_bytes)
		return false;
	/* from 2.43 on every mremap leaves mmapped_mem a header too large */
	return !over || (h->m->l->mmap_hdr_excluded && over % h->m->l->hdr == 0);
}

/* May something be there? What is not in memory is not read: that would make page tables for it. */
static bool may_begin(const struct hunt *h, asc_addr a)
{
	const struct asc_residency *res = h->m->res;

	return !res || res->source == ASC_RESIDENCY_UNKNOWN ||
	       asc_resident_bytes(res, a, a + h->m->h->page_size);
}

/* Read the page at @p a and, if those before were guessed well, more of them, @p step apart. */
static struct asc_error *read_ahead(struct hunt *h, asc_addr a, asc_addr end, uint64_t step)
{
	struct ahead *p = &h->ahead;
	const uint64_t page = h->m->h->page_size;
	const bool well = step && p->next == p->n && p->at + p->n * p->step == a;
	size_t most = (size_t)asc_min(well ? 2 * p->n : 1, AHEAD);
	struct asc_iov iov[AHEAD];

	most = asc_max((size_t)asc_min(most, AHEAD_BYTES / page), 1);
	*p = (struct ahead){ .bytes = p->bytes, .at = a, .step = step };
	for (; p->n < most && a < end && (!p->n || may_begin(h, a)); p->n++, a += step)
		iov[p->n] = (struct asc_iov){ a, p->bytes + p->n * page, page, 0 };
	ASC_TRY(asc_read_bulk(h->m->t, iov, p->n));
	for (size_t i = 0; i < p->n; i++)
		p->got[i] = iov[i].got;
	return NULL;
}

/* The page at @p a, which a chunk may begin on. @p step: bytes of the one before it, 0: there is none */
static struct asc_error *first_page(struct hunt *h, asc_addr a, asc_addr end, uint64_t step,
				    const uint8_t **ret, size_t *ret_got)
{
	struct ahead *p = &h->ahead;

	if (p->next == p->n || p->at + p->next * p->step != a)
		ASC_TRY(read_ahead(h, a, end, step));
	*ret = p->bytes + p->next * h->m->h->page_size;
	*ret_got = p->got[p->next++];
	return NULL;
}

/* Chunks one behind the other from @p a on. @return in *ret_end where they end */
static struct asc_error *chain(struct hunt *h, asc_addr a, asc_addr end, asc_addr *ret_end)
{
	const struct asc_layout *l = h->m->l;
	struct asc_mmapped c = { 0 };
	const uint8_t *b;
	size_t got;

	h->ahead.n = h->ahead.next = 0;
	while (a < end) {
		const uint64_t first = asc_first_chunk(l, a) - a;

		ASC_TRY(first_page(h, a, end, c.total, &b, &got));
		if (first + 2u * l->word > got || !header(h, a, end, b + first, &c))
			break;
		find_aligned(h, b, got, &c);
		ASC_TRY(record(h, &c));
		a += c.total;
	}
	*ret_end = a;
	return NULL;
}

/* Skip to the next page that can hold a header: not in a region, not absent. */
static asc_addr next_page(const struct hunt *h, asc_addr a, asc_addr end)
{
	const struct asc_model *m = h->m;

	while (a < end) {
		const struct asc_region_ref *r = asc_region_at(m, a);
		size_t i;

		if (r && r->arena != 0) {
			a = r->start + m->heap_max;
			continue;
		}
		if (r && !m->work[0].pieces) {
			a = asc_align_up(r->end, m->h->page_size);
			continue;
		}
		if (!m->res || m->res->source == ASC_RESIDENCY_UNKNOWN)
			return a;
		i = asc_residency_seek(m->res, a);
		if (i == m->res->n)
			return end;
		return asc_max(a, asc_page_run_start(&m->res->v[i]));
	}
	return end;
}

static struct asc_error *every_page(struct hunt *h, const struct span *s, struct asc_iov *iov,
				    uint8_t *bytes)
{
	struct asc_model *m = h->m;
	size_t width = 2u * m->l->word;
	asc_addr a = next_page(h, s->start, s->end), behind;

	while (a < s->end && !enough(h)) {
		size_t n = 0;

		for (asc_addr p = a; n < BATCH && p < s->end; n++) {
			iov[n] = (struct asc_iov){ asc_first_chunk(m->l, p), bytes + n * width,
						   width, 0 };
			p = next_page(h, p + m->h->page_size, s->end);
		}
		ASC_TRY(asc_read_bulk(m->t, iov, n));
		behind = a;
		for (size_t i = 0; i < n; i++) {
			asc_addr p = iov[i].addr & ~(m->h->page_size - 1);
			struct asc_mmapped c;

			a = p + m->h->page_size;
			if (p < behind || iov[i].got < width ||
			    !header(h, p, s->end, iov[i].buf, &c))
				continue;
			ASC_TRY(chain(h, p, s->end, &behind));
		}
		a = next_page(h, asc_max(a, behind), s->end);
	}
	return NULL;
}

/* Of few that were found all are looked at again, so that judge() knows what each stands beside. */
static struct asc_error *hunt_pages(struct hunt *h, const span_vec *v)
{
	const size_t known = h->m->h->mmapped.n, nchains = known > JUDGED ? h->chains.len : 0;
	ASC_AUTO(asc_freep) struct asc_iov *iov = calloc(BATCH, sizeof(*iov));
	ASC_AUTO(asc_freep) uint8_t *bytes = malloc(BATCH * 16);

	if (!iov || !bytes)
		return asc_err(ASC_ENOMEM, "search for mmapped chunks");
	if (!nchains) {
		asc_mmapped_reset(h->m, &h->found);
		h->bytes = 0;
	}
	h->by_page = true;
	for (size_t i = 0, k = 0; i < v->len && !enough(h); i++) {
		struct span s = v->data[i];

		for (; k < nchains && h->chains.data[k].start < s.end; k++) {
			const struct span gap = { s.start, h->chains.data[k].start };

			ASC_TRY(every_page(h, &gap, iov, bytes));
			s.start = h->chains.data[k].end;
		}
		ASC_TRY(every_page(h, &s, iov, bytes));
	}
	return nchains ? asc_mmapped_sort(h->m, &h->found, known) : NULL;
}

static struct asc_error *hunt_starts(struct hunt *h, const span_vec *v)
{
	const struct asc_maps *maps = asc_target_maps(h->m->t);
	asc_addr behind = 0;

	for (size_t i = 0, j = 0; i < maps->n; i++) {
		asc_addr start = maps->v[i].start;

		while (j < v->len && v->data[j].end <= start)
			j++;
		if (j == v->len)
			break;
		if (start < behind || start < v->data[j].start || start % h->m->h->page_size ||
		    next_page(h, start, v->data[j].end) != start)
			continue;
		ASC_TRY(chain(h, start, v->data[j].end, &behind));
		if (behind > start)
			ASC_TRY(asc_vec_push(&h->chains, ((struct span){ start, behind })));
	}
	return NULL;
}

/* Sets of doubtful ones that have the number and the bytes which are missing. */
struct sets {
	const struct asc_mmapped *v[DOUBTFUL];
	size_t n, solutions;
	uint32_t last;
};

static void try_sets(struct sets *s, size_t i, uint32_t set, uint64_t count, uint64_t bytes)
{
	if (count && i < s->n) {
		if (s->v[i]->total <= bytes)
			try_sets(s, i + 1, set | UINT32_C(1) << i, count - 1,
				 bytes - s->v[i]->total);
		try_sets(s, i + 1, set, count, bytes);
		return;
	}
	if (count || bytes)
		return;
	s->solutions++;
	s->last = set;
}

/* Is the @p i-th where few words are that only look like a header? @p linked: as below */
static bool is_sure(const struct hunt *h, size_t i, bool before, bool linked)
{
	const struct asc_mmapped *c = &h->seen.data[i];
	const struct asc_map *map = asc_maps_find(asc_target_maps(h->m->t), c->start);
	const bool follows = i && c[-1].start + c[-1].total == c->start;
	const bool goes_on = i + 1 < h->seen.len && c->start + c->total == c[1].start;

	return (map && map->start == c->start) || (before && follows) ||
	       (linked && (follows || goes_on));
}

/*
 * Keep all that are sure, and of the others the set that has what mp_ counts beside them. Sure are those that begin a
 * mapping or follow one that does; with @p linked those as well that follow another one or are followed by one,
 * as the kernel puts one mapping beside the other.
 * @return how many sets there are; one: it is what was found
 */
static struct asc_error *choose(struct hunt *h, bool linked, size_t *ret_sets)
{
	struct sets s = { 0 };
	uint64_t count = h->want, bytes = h->want_bytes;
	bool sure[JUDGED] = { false };

	*ret_sets = 0;
	for (size_t i = 0; i < h->seen.len; i++) {
		const struct asc_mmapped *c = &h->seen.data[i];

		sure[i] = is_sure(h, i, i && sure[i - 1], linked);
		if (!sure[i] && s.n == DOUBTFUL)
			return NULL;
		if (!sure[i]) {
			s.v[s.n++] = c;
		} else if (!count || c->total > bytes) {
			return NULL;
		} else {
			count--;
			bytes -= c->total;
		}
	}
	try_sets(&s, 0, 0, count, bytes);
	*ret_sets = s.solutions;
	if (s.solutions != 1)
		return NULL;
	asc_mmapped_reset(h->m, &h->found);
	h->bytes = 0;
	h->by_page = false;
	for (size_t i = 0, k = 0; i < h->seen.len; i++) {
		if (sure[i] || s.last >> k++ & 1)
			ASC_TRY(record(h, &h->seen.data[i]));
	}
	return NULL;
}

/* Data may look like a header (Java's does), and then there are too many. Where several sets fit, none is guessed. */
static struct asc_error *judge(struct hunt *h)
{
	size_t sets, narrower;

	if (h->seen.len > JUDGED || h->m->h->mmapped.n > JUDGED)
		return NULL;
	ASC_TRY(choose(h, false, &sets));
	if (sets < 2)
		return NULL;
	ASC_TRY(choose(h, true, &narrower));
	h->tie = narrower != 1;
	return NULL;
}

/* Is a thread in the middle of mapping or unmapping? Then the counters are behind. */
static bool in_flight(const struct asc_model *m)
{
	const struct asc_arch *arch = asc_target_arch(m->t);
	const struct asc_thread *threads;
	size_t n;

	threads = asc_target_threads(m->t, &n);
	for (size_t i = 0; i < n; i++) {
		int64_t nr = threads[i].syscall_nr;

		if (asc_thread_in_libc(m, &threads[i]))
			return true;
		if (nr > 0 &&
		    (nr == arch->nr_mmap || nr == arch->nr_munmap || nr == arch->nr_mremap))
			return true;
	}
	return false;
}

static struct asc_error *reconcile(struct hunt *h)
{
	struct asc_model *m = h->m;
	bool moving;

	m->h->mmapped_complete = enough(h);
	if (m->h->mmapped_complete)
		return NULL;
	moving = in_flight(m);
	if (!moving)
		m->h->complete = false;
	return asc_model_find(
		m, "S-MMAPPED",
		(struct asc_at){ .arena = -1, .addr = m->lib->mp, .transient = moving || h->tie },
		"mp_ counts %" PRIu64 " mmapped chunks of %" PRIu64
		" bytes; found were %zu of %" PRIu64 " bytes%s",
		h->want, h->want_bytes, m->h->mmapped.n, h->bytes,
		h->tie ? ": which of these are chunks cannot be told from data that looks like them"
		       : "");
}

static struct asc_error *begin(struct hunt *h, span_vec *v)
{
	h->ahead.bytes = malloc((size_t)asc_max(h->m->h->page_size, AHEAD_BYTES));
	if (!h->ahead.bytes)
		return asc_err(ASC_ENOMEM, "search for mmapped chunks");
	return spans(h->m, v);
}

struct asc_error *asc_mmapped_read(struct asc_model *m)
{
	struct hunt h = { .m = m,
			  .want = m->h->params.n_mmaps,
			  .want_bytes = m->h->params.mmapped_mem };
	span_vec v = { 0 };
	struct asc_error *err = NULL;

	if (h.want)
		err = begin(&h, &v);
	if (!err && h.want)
		err = hunt_starts(&h, &v);
	if (!err && h.want && !enough(&h))
		err = hunt_pages(&h, &v);
	if (!err && h.want && !enough(&h))
		err = judge(&h);
	asc_vec_free(&v);
	asc_vec_free(&h.seen);
	asc_vec_free(&h.chains);
	free(h.ahead.bytes);
	asc_mmapped_finish(m, &h.found);
	m->h->mmapped_bytes = h.bytes;
	return err ? err : reconcile(&h);
}
