/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The copy engine. Ranges are rounded to pages, merged, and cut by the maps and by residency into
 * runs: a run has bytes in one warm buffer, or is known to be zeros; what is in no run is absent.
 * Reading a page that was never touched would make the kernel map the zero page there and grow the
 * target's page tables, so such pages of private anonymous mappings are not read at all.
 */
#include "target/capture.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/runs.h"
#include "target/readers.h"
#include "target/target.h"

static const uint64_t NO_BYTES = UINT64_MAX; /* run.off: zeros */
enum {
	IOV_BYTES = 16 << 20, /* one request: large ones reach memory speed */
	HUGE_PAGE = 2 << 20,
	BAD_PAGES_MAX = 1024,	/* of one request: then the rest of it counts as unreadable */
	TWO_READERS = 32 << 20, /* below that a second thread costs more than it saves */
};

struct run {
	asc_addr start, end;
	uint64_t off; /* in the buffer */
};

struct runs {
	struct run *data;
	size_t len, cap;
};

struct iovs {
	struct asc_iov *data;
	size_t len, cap;
};

struct ranges {
	struct asc_range *data;
	size_t len, cap;
};

struct asc_capture_buf {
	uint8_t *base; /* huge-page aligned */
	uint64_t len;  /* usable from base */
	void *map;     /* the whole mapping */
	size_t map_len;
};

struct capture {
	struct asc_target t;
	struct runs runs;
	struct asc_capture_buf *buf;
	uint64_t bytes;
	struct asc_target *backing;
};

static struct capture *capture_of(struct asc_target *t)
{
	return (struct capture *)t;
}

/* ---- the buffer ---- */

void asc_capture_buf_free(struct asc_capture_buf *buf)
{
	if (!buf)
		return;
	if (buf->map)
		munmap(buf->map, buf->map_len);
	free(buf);
}

static void buf_freep(struct asc_capture_buf **buf)
{
	asc_capture_buf_free(*buf);
}

struct asc_error *asc_capture_buf_new(uint64_t bytes, struct asc_capture_buf **ret)
{
	ASC_AUTO(buf_freep) struct asc_capture_buf *buf = calloc(1, sizeof(*buf));
	uintptr_t at;

	if (!buf)
		return asc_err(ASC_ENOMEM, "capture buffer");
	if (bytes > SIZE_MAX / 2)
		return asc_err(ASC_ENOMEM, "capture buffer of %" PRIu64 " bytes", bytes);
	buf->map_len = (size_t)bytes + HUGE_PAGE;
	buf->map = mmap(NULL, buf->map_len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (buf->map == MAP_FAILED) {
		buf->map = NULL;
		return asc_err(ASC_ENOMEM, "capture buffer of %" PRIu64 " bytes", bytes);
	}
	at = asc_align_up((uintptr_t)buf->map, HUGE_PAGE);
	buf->base = (uint8_t *)at;
	buf->len = bytes;
	/* Cold pages make the copy four times slower; both calls are only for speed and may fail. */
	if (bytes >= HUGE_PAGE)
		(void)madvise(buf->base, (size_t)bytes, MADV_HUGEPAGE);
#ifdef MADV_POPULATE_WRITE
	if (bytes)
		(void)madvise(buf->base, (size_t)bytes, MADV_POPULATE_WRITE);
#endif
	*ret = asc_take(buf);
	return NULL;
}

/* ---- what to copy ---- */

static int by_addr(const void *a, const void *b)
{
	const struct asc_range *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* Round to pages, sort, merge. */
static struct asc_error *merge(const struct asc_range *in, size_t n, uint64_t page,
			       struct ranges *ret)
{
	size_t m = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t end;
		struct asc_range r = { .addr = asc_align_down(in[i].addr, page) };

		if (!in[i].len)
			continue;
		if (!asc_add(in[i].addr, in[i].len, &end))
			end = UINT64_MAX;
		r.len = asc_align_up(end, page) - r.addr;
		ASC_TRY(asc_vec_push(ret, r));
	}
	if (!ret->len)
		return NULL;
	asc_sort(ret->data, ret->len, sizeof(*ret->data), by_addr);
	for (size_t i = 1; i < ret->len; i++) {
		struct asc_range *last = &ret->data[m], *r = &ret->data[i];

		if (r->addr <= last->addr + last->len)
			last->len = asc_max(last->addr + last->len, r->addr + r->len) - last->addr;
		else
			ret->data[++m] = *r;
	}
	ret->len = m + 1;
	return NULL;
}

/* Append [start, end), joined to the run before where it continues that one. */
static struct asc_error *add_run(struct capture *c, asc_addr start, asc_addr end, bool zeros)
{
	struct run *last = c->runs.len ? &c->runs.data[c->runs.len - 1] : NULL;
	struct run r = { .start = start, .end = end, .off = zeros ? NO_BYTES : c->bytes };

	if (!zeros && !asc_add(c->bytes, end - start, &c->bytes))
		return asc_err(ASC_ENOMEM, "capture of 2^64 bytes");
	if (last && last->end == start && (last->off == NO_BYTES) == zeros) {
		last->end = end;
		return NULL;
	}
	return asc_vec_push(&c->runs, r);
}

/* May absence from the page tables be taken for zeros? Only where no file and no kernel page is
 * behind. */
static bool is_plain_anonymous(const struct asc_map *m)
{
	return !m->inode && !(m->flags & ASC_MAP_SHARED) && strncmp(m->path, "[v", 2) != 0;
}

/* [lo, hi) lies in one mapping: cut it by residency. */
static struct asc_error *add_part(struct capture *c, const struct asc_map *m,
				  const struct asc_residency *res, asc_addr lo, asc_addr hi)
{
	if (m->flags_known && !(m->flags & ASC_MAP_READ))
		return NULL;
	if (!res || !is_plain_anonymous(m))
		return add_run(c, lo, hi, false);
	for (size_t i = asc_residency_seek(res, lo); lo < hi; i++) {
		asc_residency_passed(res, i);
		const struct asc_page_run *r = i < res->n ? &res->v[i] : NULL;
		asc_addr start = r ? asc_min(asc_max(asc_page_run_start(r), lo), hi) : hi;
		asc_addr end = r ? asc_min(r->end, hi) : hi;
		unsigned flags = r ? asc_page_run_flags(r) : 0;
		bool zeros = (flags & ASC_PAGE_ZERO) && !(flags & ASC_PAGE_SWAPPED);

		if (start > lo)
			ASC_TRY(add_run(c, lo, start, true));
		if (end > start)
			ASC_TRY(add_run(c, start, end, zeros));
		lo = asc_max(end, start);
	}
	return NULL;
}

static struct asc_error *plan(struct capture *c, const struct asc_maps *maps,
			      const struct asc_residency *res, const struct ranges *ranges)
{
	size_t m = 0;

	for (size_t i = 0; i < ranges->len; i++) {
		asc_addr start = ranges->data[i].addr, end = start + ranges->data[i].len;

		while (m < maps->n && maps->v[m].end <= start)
			m++;
		for (size_t k = m; k < maps->n && maps->v[k].start < end; k++)
			ASC_TRY(add_part(c, &maps->v[k], res, asc_max(start, maps->v[k].start),
					 asc_min(end, maps->v[k].end)));
	}
	return NULL;
}

/* ---- the copy ---- */

static struct asc_error *make_iovs(const struct capture *c, struct iovs *ret)
{
	for (size_t i = 0; i < c->runs.len; i++) {
		const struct run *r = &c->runs.data[i];

		if (r->off == NO_BYTES)
			continue;
		for (uint64_t at = 0, n; at < r->end - r->start; at += n) {
			struct asc_iov v = { .addr = r->start + at,
					     .buf = c->buf->base + r->off + at };

			n = asc_min(r->end - r->start - at, IOV_BYTES);
			v.len = (size_t)n;
			ASC_TRY(asc_vec_push(ret, v));
		}
	}
	return NULL;
}

/* By one thread, or by two where the bytes are many. */
static struct asc_error *read_iovs(struct asc_target *from, struct iovs *iov, uint64_t bytes)
{
	uint64_t sum = 0;
	size_t half = 0;

	while (bytes >= TWO_READERS && half + 1 < iov->len && sum < bytes / 2)
		sum += iov->data[half++].len;
	return asc_read_halves(from, iov->data, half, iov->len);
}

/* A request stopped at a page that cannot be read: go on behind it. Appends what is there as runs. */
static struct asc_error *salvage(struct asc_target *from, const struct asc_iov *v, uint64_t off,
				 struct runs *ret)
{
	uint64_t page = from->page_size, at = 0, got = asc_align_down(v->got, page);
	unsigned bad = 0;

	for (;;) {
		struct run r = { .start = v->addr + at,
				 .end = v->addr + at + got,
				 .off = off + at };

		if (got)
			ASC_TRY(asc_vec_push(ret, r));
		at += got;
		if (at + page >= v->len || bad++ == BAD_PAGES_MAX)
			return NULL;
		at += page;
		got = asc_read_some(from, v->addr + at, (uint8_t *)v->buf + at,
				    v->len - (size_t)at);
		got = asc_align_down(got, page);
	}
}

/* Replace the runs by what was really read. */
static struct asc_error *settle(struct asc_target *from, struct capture *c, const struct iovs *iov)
{
	struct runs out = { 0 };
	struct asc_error *err = NULL;
	size_t k = 0;

	for (size_t i = 0; i < c->runs.len && !err; i++) {
		const struct run *r = &c->runs.data[i];

		if (r->off == NO_BYTES) {
			err = asc_vec_push(&out, *r);
			continue;
		}
		for (; k < iov->len && iov->data[k].addr >= r->start &&
		       iov->data[k].addr < r->end && !err;
		     k++)
			err = salvage(from, &iov->data[k], r->off + (iov->data[k].addr - r->start),
				      &out);
	}
	asc_vec_free(&c->runs);
	c->runs = out;
	return err;
}

static struct asc_error *copy(struct asc_target *from, struct capture *c)
{
	struct iovs iov = { 0 };
	struct asc_error *err;
	bool whole = true;
	uint64_t got = 0;

	err = make_iovs(c, &iov);
	if (!err)
		err = read_iovs(from, &iov, c->bytes);
	for (size_t i = 0; !err && i < iov.len; i++) {
		whole &= iov.data[i].got == iov.data[i].len;
		got += iov.data[i].got;
	}
	if (!err && !whole) {
		if (!got && !asc_target_alive(from))
			err = asc_err(ASC_EAGAIN, "process %d went away while it was read",
				      (int)from->pid);
		else
			err = settle(from, c, &iov);
	}
	asc_vec_free(&iov);
	return err;
}

/* ---- the target ---- */

/* First run that ends after @p addr. */
static size_t seek(const struct runs *runs, asc_addr addr)
{
	return ASC_SEEK(runs->len, i, runs->data[i].end <= addr);
}

/* What was not captured: text and the like, as long as the process is there to be asked. */
static size_t read_backing(struct capture *c, asc_addr addr, void *buf, size_t len)
{
	const struct asc_map *m = asc_maps_find(&c->t.maps, addr);

	if (!c->backing || !m || !m->flags_known || (m->flags & ASC_MAP_WRITE))
		return 0;
	if (!m->inode && strcmp(m->path, "[vdso]") != 0)
		return 0;
	return asc_read_some(c->backing, addr, buf, (size_t)asc_min(len, m->end - addr));
}

static size_t capture_read(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	struct capture *c = capture_of(t);
	size_t done = 0;

	for (size_t i = seek(&c->runs, addr); done < len;) {
		const struct run *r = i < c->runs.len ? &c->runs.data[i] : NULL;
		asc_addr at = addr + done;
		size_t n;

		if (!r || r->start > at) {
			n = (size_t)(r ? asc_min(len - done, r->start - at) : len - done);
			n = read_backing(c, at, (uint8_t *)buf + done, n);
			if (!n)
				break;
			done += n;
			continue;
		}
		n = (size_t)asc_min(len - done, r->end - at);
		if (r->off == NO_BYTES)
			memset((uint8_t *)buf + done, 0, n);
		else
			memcpy((uint8_t *)buf + done, c->buf->base + r->off + (at - r->start), n);
		done += n;
		i++;
	}
	return done;
}

static void capture_close(struct asc_target *t)
{
	struct capture *c = capture_of(t);

	asc_vec_free(&c->runs);
	asc_capture_buf_free(c->buf);
}

static const struct asc_target_ops capture_ops = {
	.kind = ASC_CAPTURE,
	.read = capture_read,
	.close = capture_close,
};

/* What does not live in memory: maps, threads, auxv. */
struct asc_error *asc_capture_head(const struct asc_target *from, struct asc_target *t)
{
	t->arch = from->arch;
	t->pid = from->pid;
	t->page_size = from->page_size;
	memcpy(t->name, from->name, sizeof(t->name));
	ASC_TRY(asc_maps_copy(&from->maps, &t->maps));
	if (from->nthreads) {
		t->threads = calloc(from->nthreads, sizeof(*t->threads));
		if (!t->threads)
			return asc_err(ASC_ENOMEM, "%zu threads", from->nthreads);
		memcpy(t->threads, from->threads, from->nthreads * sizeof(*t->threads));
		t->nthreads = from->nthreads;
	}
	if (from->nauxv) {
		t->auxv = calloc(from->nauxv, 2 * sizeof(*t->auxv));
		if (!t->auxv)
			return asc_err(ASC_ENOMEM, "auxv");
		memcpy(t->auxv, from->auxv, from->nauxv * 2 * sizeof(*t->auxv));
		t->nauxv = from->nauxv;
	}
	return NULL;
}

struct asc_error *asc_capture_into(struct asc_target *from, const struct asc_residency *res,
				   const struct asc_range *ranges, size_t n, uint64_t max_bytes,
				   struct asc_capture_buf **buf, struct asc_target **ret)
{
	ASC_AUTO(asc_target_closep) struct asc_target *t = calloc(1, sizeof(struct capture));
	struct capture *c = (struct capture *)t;
	struct ranges merged = { 0 };
	struct asc_error *err;

	if (!t)
		return asc_err(ASC_ENOMEM, "capture");
	t->ops = &capture_ops;
	ASC_TRY(asc_capture_head(from, t));
	/* In a core, a page that is not there is unknown, not zero. */
	if (res && (res->source == ASC_RESIDENCY_UNKNOWN || from->ops->kind == ASC_CORE))
		res = NULL;
	err = merge(ranges, n, t->page_size, &merged);
	if (!err)
		err = plan(c, &from->maps, res, &merged);
	asc_vec_free(&merged);
	ASC_TRY(err);
	if (max_bytes && c->bytes > max_bytes)
		return asc_err_try(asc_err(ASC_ENOMEM,
					   "copying %" PRIu64
					   " bytes of process %d, limit %" PRIu64,
					   c->bytes, (int)from->pid, max_bytes),
				   "--max-memory=%" PRIu64, c->bytes);
	if (buf && *buf && (*buf)->len >= c->bytes)
		c->buf = asc_take(*buf);
	else
		ASC_TRY(asc_capture_buf_new(c->bytes, &c->buf));
	ASC_TRY(copy(from, c));
	*ret = asc_take(t);
	return NULL;
}

struct asc_error *asc_capture(struct asc_target *from, const struct asc_residency *res,
			      const struct asc_range *ranges, size_t n, uint64_t max_bytes,
			      struct asc_target **ret)
{
	return asc_capture_into(from, res, ranges, n, max_bytes, NULL, ret);
}

uint64_t asc_capture_bytes(const struct asc_target *capture)
{
	return capture->ops == &capture_ops ? ((const struct capture *)capture)->bytes : 0;
}

void asc_capture_set_backing(struct asc_target *capture, struct asc_target *live)
{
	if (capture->ops == &capture_ops)
		capture_of(capture)->backing = live;
}
