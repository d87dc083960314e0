/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Residency of a core: pages with contents that are not all zero; a kernel core has a hole for an
 * untouched page. To know it every page has to be looked at, and a heap's pages are read for their
 * chunks anyway: what passes by then is noted, two bits a page, so that nothing is read twice.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/core.h"
#include "target/readers.h"
#include "target/runs.h"

enum {
	WORD = 64,
	WINDOW = 256 << 10, /* stays in the second-level cache */
	JOB = 4 << 20,
	TWO_READERS = 16 << 20, /* below that a second thread costs more than it saves */
	HOLES_MAX = 65536,	/* that are looked for; behind them everything is data */
};

/* Bits of the pages of all segments, one behind the other; set by two threads at once. */
struct asc_core_pages {
	uint64_t *known, *used; /* looked at; not all zero */
};

/* ---- noting ---- */

static asc_addr page_down(const struct asc_core *c, asc_addr addr)
{
	return asc_align_down(addr, c->t.page_size);
}

/* Bit of the page at @p addr of a segment. */
static uint64_t bit_of(const struct asc_core *c, const struct asc_core_seg *seg, asc_addr addr)
{
	return seg->page0 + (page_down(c, addr) - page_down(c, seg->start)) / c->t.page_size;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

static void set(uint64_t *bits, uint64_t word, uint64_t mask)
{
	if (mask)
		__atomic_fetch_or(&bits[word], mask, __ATOMIC_RELAXED);
}

/* Bytes [at, at + n) of a segment are in @p buf. A page of which only a part is there may be in use. */
void asc_core_note(const struct asc_core *c, const struct asc_core_seg *seg, uint64_t at,
		   const uint8_t *buf, size_t n)
{
	const uint64_t page = c->t.page_size;
	struct asc_core_pages *pages = c->pages;
	uint64_t known = 0, used = 0, bit = bit_of(c, seg, seg->start + at), word = bit / WORD;

	if (!pages)
		return;
	for (size_t k = 0, len; k < n; k += len, bit++) {
		asc_addr addr = seg->start + at + k, lo = page_down(c, addr);
		bool whole, zero;

		len = (size_t)asc_min(n - k, lo + page - addr);
		whole = (addr == lo || addr == seg->start) &&
			(addr + len == lo + page || at + k + len == seg->have);
		zero = all_zero(buf + k, len);
		if (bit / WORD != word) {
			set(pages->known, word, known);
			set(pages->used, word, used);
			known = used = 0;
			word = bit / WORD;
		}
		known |= (uint64_t)(whole || !zero) << bit % WORD;
		used |= (uint64_t)!zero << bit % WORD;
	}
	set(pages->known, word, known);
	set(pages->used, word, used);
}

void asc_core_pages_free(struct asc_core *c)
{
	if (!c->pages)
		return;
	free(c->pages->known);
	free(c->pages->used);
	free(c->pages);
	c->pages = NULL;
}

static struct asc_error *begin(struct asc_core *c)
{
	size_t n = 0;

	if (c->pages)
		return NULL;
	for (size_t i = 0; i < c->nsegs; i++) {
		struct asc_core_seg *s = &c->segs[i];

		s->page0 = n;
		if (s->have)
			n += (size_t)(bit_of(c, s, s->start + s->have - 1) - n + 1);
	}
	c->pages = calloc(1, sizeof(*c->pages));
	if (!c->pages)
		return asc_err(ASC_ENOMEM, "residency of the core");
	c->pages->known = calloc(n / WORD + 1, sizeof(uint64_t));
	c->pages->used = calloc(n / WORD + 1, sizeof(uint64_t));
	if (c->pages->known && c->pages->used)
		return NULL;
	asc_core_pages_free(c);
	return asc_err(ASC_ENOMEM, "residency of %zu pages", n);
}

/* ---- holes ---- */

struct holes {
	const struct asc_core *c;
	unsigned looked;
};

/* Next offset with data at or after @p off; UINT64_MAX: nothing but a hole up to the end. */
static uint64_t next_data(struct holes *h, uint64_t off)
{
	off_t at = h->looked++ < HOLES_MAX ? lseek(h->c->bytes.fd, (off_t)off, SEEK_DATA) : -2;

	if (at == -1 && errno == ENXIO)
		return UINT64_MAX;
	return at < 0 ? off : (uint64_t)at;
}

/* Where the data at @p off ends. */
static uint64_t next_hole(struct holes *h, uint64_t off)
{
	off_t at = h->looked++ < HOLES_MAX ? lseek(h->c->bytes.fd, (off_t)off, SEEK_HOLE) : -1;

	return at < 0 || (uint64_t)at <= off ? h->c->bytes.len : (uint64_t)at;
}

/* The next stretch of a segment, from @p at on, that is data of the file. */
static bool next_extent(struct holes *h, const struct asc_core_seg *seg, uint64_t at,
			uint64_t *ret_lo, uint64_t *ret_hi)
{
	uint64_t lo, hi;

	if (at >= seg->have)
		return false;
	lo = next_data(h, seg->off + at);
	if (lo - seg->off >= seg->have)
		return false;
	hi = next_hole(h, lo);
	*ret_lo = lo - seg->off;
	*ret_hi = asc_min(hi - seg->off, seg->have);
	return true;
}

/* ---- runs ---- */

static struct asc_error *add_run(struct asc_runs *v, asc_addr start, asc_addr end, unsigned flags)
{
	struct asc_page_run *last = v->n ? &v->v[v->n - 1] : NULL;

	if (end < start || (last && last->end > start))
		return NULL; /* only where segments do not begin on pages */
	if (last && last->end == start && asc_page_run_flags(last) == flags) {
		last->end = end;
		return NULL;
	}
	return asc_runs_push(v, asc_page_run_make(start, end, flags));
}

static unsigned flags_of(const struct asc_core *c, const struct asc_core_seg *seg)
{
	const struct asc_map *m = asc_maps_find(&c->t.maps, seg->start);
	bool file = m && m->inode && !(m->flags & ASC_MAP_WRITE);

	return ASC_PAGE_PRESENT | (file ? ASC_PAGE_FILE : 0u);
}

/* Pages that are not a hole. */
static struct asc_error *rough_runs(struct asc_core *c, struct asc_runs *v)
{
	struct holes h = { .c = c };

	for (size_t i = 0; i < c->nsegs; i++) {
		const struct asc_core_seg *s = &c->segs[i];

		for (uint64_t lo = 0, hi = 0; next_extent(&h, s, hi, &lo, &hi);)
			ASC_TRY(add_run(v, page_down(c, s->start + lo),
					page_down(c, s->start + hi - 1) + c->t.page_size,
					flags_of(c, s)));
	}
	return NULL;
}

struct asc_error *asc_core_foresee(struct asc_target *t, struct asc_residency **ret)
{
	struct asc_core *c = (struct asc_core *)t;
	struct asc_runs v = { 0 };
	struct asc_error *err = begin(c);

	if (!err)
		err = rough_runs(c, &v);
	if (!err)
		return asc_residency_of(ASC_RESIDENCY_CORE, t->page_size, &v, ret);
	asc_runs_free(&v);
	return err;
}

/* The word that has the bit: the other reader may set others in it just now. */
static uint64_t word_of(const uint64_t *bits, uint64_t bit)
{
	return __atomic_load_n(&bits[bit / WORD], __ATOMIC_RELAXED);
}

static bool is_set(const uint64_t *bits, uint64_t bit)
{
	return word_of(bits, bit) >> bit % WORD & 1;
}

/* The end of the row of equal bits that begins at @p bit. */
static uint64_t row_end(const uint64_t *bits, uint64_t bit, uint64_t end)
{
	const bool value = is_set(bits, bit);

	while (bit < end) {
		uint64_t word = word_of(bits, bit), left = (value ? ~word : word) >> bit % WORD;

		if (left)
			return asc_min(bit + (uint64_t)__builtin_ctzll(left), end);
		bit += WORD - bit % WORD;
	}
	return end;
}

/* From the bits, once all are known. */
static struct asc_error *exact_runs(struct asc_core *c, struct asc_runs *v)
{
	for (size_t i = 0; i < c->nsegs; i++) {
		const struct asc_core_seg *s = &c->segs[i];
		asc_addr first = page_down(c, s->start);
		uint64_t end = s->have ? bit_of(c, s, s->start + s->have - 1) + 1 : s->page0, next;
		unsigned flags = flags_of(c, s);

		for (uint64_t bit = s->page0; bit < end; bit = next) {
			next = row_end(c->pages->used, bit, end);
			if (is_set(c->pages->used, bit))
				ASC_TRY(add_run(v, first + (bit - s->page0) * c->t.page_size,
						first + (next - s->page0) * c->t.page_size, flags));
		}
	}
	return NULL;
}

/* ---- looking at the rest ---- */

/* Bytes [lo, hi) of a segment, at most JOB of them. */
struct job {
	const struct asc_core_seg *seg;
	uint64_t lo, hi;
};

struct crew {
	struct asc_core *c;
	ASC_VEC(struct job) jobs;
	uint64_t total;
	size_t next;   /* atomic */
	uint64_t done; /* ditto */
	bool stop;     /* ditto */
};

static struct asc_error *find_jobs(struct crew *w)
{
	struct holes h = { .c = w->c };

	for (size_t i = 0; i < w->c->nsegs; i++) {
		const struct asc_core_seg *s = &w->c->segs[i];

		for (uint64_t lo = 0, hi = 0; next_extent(&h, s, hi, &lo, &hi);) {
			/* whole pages: the hole beside the data belongs to a page as its zeros do */
			asc_addr page = page_down(w->c, s->start + lo);
			uint64_t at = page > s->start ? page - s->start : 0;

			page = asc_align_up(s->start + hi, w->c->t.page_size);
			hi = asc_min(page - s->start, s->have);
			w->total += hi - at;
			for (uint64_t to; at < hi; at = to) {
				to = page_down(w->c, s->start + at + JOB) - s->start;
				to = asc_min(to, hi);
				ASC_TRY(asc_vec_push(&w->jobs, ((struct job){ s, at, to })));
			}
		}
	}
	return NULL;
}

/* The next stretch of a job, from @p at on, whose pages have not been looked at. */
static bool next_unknown(const struct asc_core *c, const struct job *j, uint64_t at,
			 uint64_t *ret_lo, uint64_t *ret_hi)
{
	const asc_addr first = page_down(c, j->seg->start);
	const uint64_t end = bit_of(c, j->seg, j->seg->start + j->hi - 1) + 1;
	uint64_t bit, lo = at, to;

	for (; lo < j->hi; lo = to) {
		bit = bit_of(c, j->seg, j->seg->start + lo);
		to = first + (row_end(c->pages->known, bit, end) - j->seg->page0) * c->t.page_size -
		     j->seg->start;
		to = asc_min(to, j->hi);
		if (is_set(c->pages->known, bit))
			continue;
		*ret_lo = lo;
		*ret_hi = asc_min(to, lo + WINDOW);
		return true;
	}
	return false;
}

static void look(struct crew *w, uint8_t *buf, bool main)
{
	struct asc_core *c = w->c;

	while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		size_t i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED), n;
		const struct job *j = i < w->jobs.len ? &w->jobs.data[i] : NULL;
		uint64_t done;

		if (!j)
			return;
		for (uint64_t lo, hi = j->lo; next_unknown(c, j, hi, &lo, &hi);) {
			n = asc_bytes_direct(&c->bytes, j->seg->off + lo, buf, (size_t)(hi - lo));
			if (n)
				asc_core_note(c, j->seg, lo, buf, n);
		}
		done = __atomic_add_fetch(&w->done, j->hi - j->lo, __ATOMIC_RELAXED);
		if (main && c->progress && !c->progress(c->progress_arg, done, w->total))
			__atomic_store_n(&w->stop, true, __ATOMIC_RELAXED);
	}
}

static void *look_beside(void *crew)
{
	ASC_AUTO(asc_freep) uint8_t *buf = malloc(WINDOW);

	if (buf)
		look(crew, buf, false);
	return NULL;
}

static struct asc_error *look_at_rest(struct asc_core *c)
{
	ASC_AUTO(asc_freep) uint8_t *buf = malloc(WINDOW);
	struct crew w = { .c = c };
	struct asc_error *err;
	pthread_t thread;

	if (!buf)
		return asc_err(ASC_ENOMEM, "residency of the core");
	err = find_jobs(&w);
	if (!err) {
		bool two = w.total >= TWO_READERS &&
			   !pthread_create(&thread, NULL, look_beside, &w);

		look(&w, buf, true);
		if (two)
			pthread_join(thread, NULL);
		if (w.stop)
			err = asc_err(ASC_EINTR, "interrupted");
	}
	asc_vec_free(&w.jobs);
	return err;
}

struct asc_error *asc_core_residency(struct asc_target *t, struct asc_residency **ret)
{
	struct asc_core *c = (struct asc_core *)t;
	struct asc_runs v = { 0 };
	struct asc_error *err = begin(c);

	if (!err)
		err = look_at_rest(c);
	if (!err)
		err = exact_runs(c, &v);
	if (!err)
		return asc_residency_of(ASC_RESIDENCY_CORE, t->page_size, &v, ret);
	asc_runs_free(&v);
	return err;
}
