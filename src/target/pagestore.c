/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/pagestore.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>
#ifdef ASC_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#endif

#include "base/cleanup.h"
#include "base/num.h"
#include "target/target.h"

enum {
	WIDEST = 64 << 10, /* reads that are longer are large requests anyway */
	TWO_READERS = 256, /* pages: below that a second thread costs more than it saves */
};

struct slot {
	asc_addr page;	 /* | 1; 0: empty */
	uint64_t digest; /* of its bytes in the rehearsal, if it is one of the nmarked */
	uint32_t at;	 /* of its bytes */
	bool loaded;
	bool early;
};

struct asc_page_store {
	struct slot *slots; /* open addressing, at most half full */
	uint32_t *order;    /* the slots by their at */
	size_t nslots, n, max;
	uint8_t *bytes; /* of nslots / 2 pages; what is not used is not touched */
	size_t tried;	/* so many have been read, or cannot be */
	size_t nmarked; /* of the rehearsal */
	size_t nsame;	/* of these: read since, and the same */
	bool partial;	/* something was read that is not noted */
};

static struct slot *slot_of(const struct asc_page_store *s, asc_addr page)
{
	size_t i = (size_t)((page / ASC_STORE_PAGE) * UINT64_C(0x9e3779b97f4a7c15) >> 32);

	for (i &= s->nslots - 1; s->slots[i].page && s->slots[i].page != (page | 1);)
		i = (i + 1) & (s->nslots - 1);
	return &s->slots[i];
}

struct asc_error *asc_page_store_new(size_t max, struct asc_page_store **ret)
{
	struct asc_page_store *s = calloc(1, sizeof(*s));
	size_t n = 1024;

	while (n < 2 * max)
		n *= 2;
	if (s) {
		s->slots = calloc(n, sizeof(*s->slots));
		s->order = calloc(n / 2, sizeof(*s->order));
		s->bytes = mmap(NULL, n / 2 * ASC_STORE_PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		s->nslots = n;
	}
	if (!s || !s->slots || !s->order || s->bytes == MAP_FAILED) {
		asc_page_store_free(s);
		return asc_err(ASC_ENOMEM, "%zu pages", max);
	}
	s->max = max;
	*ret = s;
	return NULL;
}

void asc_page_store_free(struct asc_page_store *s)
{
	if (!s)
		return;
	if (s->bytes != MAP_FAILED)
		munmap(s->bytes, s->nslots / 2 * ASC_STORE_PAGE);
	free(s->slots);
	free(s->order);
	free(s);
}

bool asc_page_store_note(struct asc_page_store *s, asc_addr addr, size_t len)
{
	asc_addr page = asc_align_down(addr, ASC_STORE_PAGE);

	if (!len)
		return true;
	if (len > WIDEST || addr > UINT64_MAX - len) {
		s->partial = true;
		return true;
	}
	for (; page < addr + len; page += ASC_STORE_PAGE) {
		struct slot *slot = slot_of(s, page);

		if (slot->page)
			continue;
		if (s->n == s->max) {
			s->partial = true;
			return false;
		}
		s->order[s->n] = (uint32_t)(slot - s->slots);
		*slot = (struct slot){ .page = page | 1, .at = (uint32_t)s->n++ };
	}
	return true;
}

static int by_page(const void *a, const void *b, void *slots)
{
	const struct slot *x = (const struct slot *)slots + *(const uint32_t *)a;
	const struct slot *y = (const struct slot *)slots + *(const uint32_t *)b;

	return (x->page > y->page) - (x->page < y->page);
}

/* Neighbours side by side: they are read as one piece. */
static void arrange(struct asc_page_store *s)
{
	if (s->n)
		qsort_r(s->order, s->n, sizeof(*s->order), by_page, s->slots);
	for (size_t i = 0; i < s->n; i++)
		s->slots[s->order[i]].at = (uint32_t)i;
}

static struct slot *slot_at(const struct asc_page_store *s, size_t at)
{
	return &s->slots[s->order[at]];
}

static asc_addr page_at(const struct asc_page_store *s, size_t at)
{
	return slot_at(s, at)->page & ~(asc_addr)1;
}

static bool wants(const struct asc_page_store *s, size_t at, bool early)
{
	return at < s->n && !slot_at(s, at)->loaded && (!early || slot_at(s, at)->early);
}

/* Of the pages from the one at @p at on: how many are read as one piece? 0: this one is not in memory. */
static size_t piece(const struct asc_page_store *s, const struct asc_residency *res, size_t at,
		    bool early)
{
	const asc_addr page = page_at(s, at);
	size_t n = 1;

	while (n < WIDEST / ASC_STORE_PAGE && wants(s, at + n, early) &&
	       page_at(s, at + n) == page + n * ASC_STORE_PAGE)
		n++;
	if (!res || asc_resident_bytes(res, page, page + n * ASC_STORE_PAGE) == n * ASC_STORE_PAGE)
		return n;
	for (size_t i = 0; i < n; i++) {
		const asc_addr next = page + i * ASC_STORE_PAGE;

		if (!asc_resident_bytes(res, next, next + ASC_STORE_PAGE))
			return i;
	}
	return n;
}

static uint64_t digest(const struct asc_page_store *s, size_t at)
{
	return XXH3_64bits(s->bytes + at * ASC_STORE_PAGE, ASC_STORE_PAGE);
}

struct reader {
	struct asc_page_store *s;
	struct asc_target *t;
	struct asc_iov *iov;
	size_t n, nsame;
	struct asc_error *err;
};

/* How many pages of a piece are what they were? Up to the first that is not. */
static size_t count_same(const struct asc_page_store *s, size_t at, size_t n)
{
	size_t same = 0;

	while (same < n && at + same < s->nmarked &&
	       slot_at(s, at + same)->digest == digest(s, at + same))
		same++;
	return same;
}

static void *read_pieces(void *arg)
{
	struct reader *r = arg;
	struct asc_page_store *s = r->s;
	bool same = !s->partial;

	r->err = asc_read_bulk(r->t, r->iov, r->n);
	for (size_t i = 0; i < r->n && !r->err; i++) {
		size_t at = (size_t)((uint8_t *)r->iov[i].buf - s->bytes) / ASC_STORE_PAGE;
		size_t n = r->iov[i].got / ASC_STORE_PAGE, nsame;

		for (size_t k = 0; k < n; k++)
			slot_at(s, at + k)->loaded = true;
		nsame = same ? count_same(s, at, n) : 0;
		same = nsame == n;
		r->nsame += nsame;
	}
	return NULL;
}

/* Two readers where the pages are many: somebody waits for them. */
static struct asc_error *read_all(struct asc_page_store *s, struct asc_target *t,
				  struct asc_iov *iov, size_t n, size_t pages)
{
	struct reader a = { .s = s, .t = t, .iov = iov, .n = n };
	struct reader b = { .s = s, .t = t };
	pthread_t thread;
	size_t half = 0;

	for (size_t sum = 0; pages >= TWO_READERS && sum < pages / 2; half++)
		sum += iov[half].len / ASC_STORE_PAGE;
	b.iov = iov + half;
	b.n = n - half;
	if (half && t->ops->concurrent_bulk && !pthread_create(&thread, NULL, read_pieces, &b)) {
		a.n = half;
		read_pieces(&a);
		pthread_join(thread, NULL);
	} else {
		read_pieces(&a);
	}
	s->nsame += a.nsame + b.nsame;
	if (!a.err)
		return b.err;
	asc_error_free(b.err);
	return a.err;
}

struct asc_error *asc_page_store_load(struct asc_page_store *s, const struct asc_residency *res,
				      bool early, struct asc_target *t)
{
	ASC_AUTO(asc_freep) struct asc_iov *iov = calloc(s->n - s->tried + 1, sizeof(*iov));
	size_t n = 0, pages = 0;

	if (!iov)
		return asc_err(ASC_ENOMEM, "%zu pages", s->n);
	if (res && res->source == ASC_RESIDENCY_UNKNOWN)
		res = NULL;
	for (size_t at = s->tried, k; at < s->n; at += asc_max(k, 1)) {
		k = wants(s, at, early) ? piece(s, res, at, early) : 0;
		if (!k)
			continue;
		pages += k;
		iov[n++] = (struct asc_iov){ .addr = page_at(s, at),
					     .buf = s->bytes + at * ASC_STORE_PAGE,
					     .len = k * ASC_STORE_PAGE };
	}
	if (!early)
		s->tried = s->n;
	return n ? read_all(s, t, iov, n, pages) : NULL;
}

void asc_page_store_mark_early(struct asc_page_store *s)
{
	for (size_t at = 0; at < s->n; at++)
		slot_at(s, at)->early = true;
}

void asc_page_store_mark(struct asc_page_store *s, size_t spare)
{
	for (size_t at = 0; at < s->n; at++) {
		struct slot *slot = slot_at(s, at);

		s->partial |= !slot->loaded;
		slot->digest = slot->loaded ? digest(s, at) : 0;
	}
	s->nmarked = s->n;
	asc_page_store_drop(s);
	arrange(s);
	s->max = asc_min(s->n + spare, s->nslots / 2);
#ifdef MADV_POPULATE_WRITE
	/* for speed alone */
	if (s->max)
		(void)madvise(s->bytes, s->max * ASC_STORE_PAGE, MADV_POPULATE_WRITE);
#endif
}

bool asc_page_store_is_same(const struct asc_page_store *s)
{
	return !s->partial && s->nmarked && s->nsame == s->nmarked;
}

bool asc_page_store_has(const struct asc_page_store *s, asc_addr addr)
{
	return slot_of(s, asc_align_down(addr, ASC_STORE_PAGE))->loaded;
}

void asc_page_store_drop(struct asc_page_store *s)
{
	for (size_t at = 0; s && at < s->n; at++)
		slot_at(s, at)->loaded = false;
	if (s)
		s->nsame = s->tried = 0;
}

bool asc_page_store_get(const struct asc_page_store *s, asc_addr addr, void *buf, size_t len)
{
	uint8_t *to = buf;

	if (len > WIDEST || addr > UINT64_MAX - len)
		return false;
	while (len) {
		size_t off = (size_t)(addr % ASC_STORE_PAGE);
		size_t n = (size_t)asc_min(len, ASC_STORE_PAGE - off);
		const struct slot *slot = slot_of(s, addr - off);

		if (!slot->page || !slot->loaded)
			return false;
		memcpy(to, s->bytes + (size_t)slot->at * ASC_STORE_PAGE + off, n);
		to += n;
		addr += n;
		len -= n;
	}
	return true;
}
