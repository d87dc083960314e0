/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/overlay.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/capture.h"
#include "target/overlay_priv.h"
#include "target/snapshot.h"

enum { BATCH_PIECES = 128, BATCH_PAGES = 512, PAGE_MAX = 64 << 10 };
static const uint64_t NO_PAGE = UINT64_MAX;

static struct overlay *overlay_of(struct asc_target *t)
{
	return (struct overlay *)t;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- pages that were kept ---- */

static struct slot *find(const struct overlay *o, uint64_t page)
{
	size_t h = asc_page_hash(page / o->t.page_size) & o->mask;

	while (o->slots[h].page != NO_PAGE && o->slots[h].page != page)
		h = (h + 1) & o->mask;
	return &o->slots[h];
}

const uint8_t *asc_overlay_fresh(const struct overlay *o, uint64_t page)
{
	const struct slot *s = find(o, page);

	return s->page == page && s->at != NO_PAGE ? o->pages + s->at * o->t.page_size : NULL;
}

static void empty(struct overlay *o)
{
	for (size_t i = 0; i <= o->mask; i++)
		o->slots[i].page = NO_PAGE;
	o->used = 0;
}

/* ---- digests ---- */

/* Page @p i of @p b. @return 1: it is not what it was before the stop */
static uint64_t take_note(struct overlay *o, struct asc_note_block *b, size_t i,
			  const uint8_t *bytes)
{
	const uint64_t was = __atomic_load_n(&b->digest[i], __ATOMIC_RELAXED);
	uint64_t d = asc_page_digest(&o->notes, bytes);

	if (d == was)
		return 0;
	/* read more than once, and not the same */
	if (o->phase == RUNNING ? was != 0
				: __atomic_load_n(&b->changed, __ATOMIC_RELAXED) >> i & 1)
		d = ASC_NOTE_TORN;
	__atomic_store_n(&b->digest[i], d, __ATOMIC_RELAXED);
	return o->phase != RUNNING;
}

/* @p len bytes of whole pages from @p at on */
static void take_notes(struct overlay *o, asc_addr at, const uint8_t *bytes, size_t len)
{
	const uint64_t size = o->t.page_size;

	for (size_t done = 0; done < len;) {
		struct asc_note_block *b = asc_notes_block(&o->notes, at + done);
		size_t k = asc_note_index(&o->notes, at + done);
		uint64_t later = 0, changed = 0;

		for (; k < ASC_NOTES_BLOCK && done < len; k++, done += (size_t)size) {
			if (b)
				changed |= take_note(o, b, k, bytes + done) << k;
			later |= 1ull << k;
		}
		if (!b || o->phase == RUNNING)
			continue;
		__atomic_or_fetch(&b->later, later, __ATOMIC_RELAXED);
		if (changed)
			__atomic_or_fetch(&b->changed, changed, __ATOMIC_RELAXED);
	}
}

/* ---- residency ---- */

static bool in_runs(const struct asc_residency *r, asc_addr addr, asc_addr *ret_end)
{
	size_t i = asc_residency_seek(r, addr);
	asc_addr start = i < r->n ? asc_page_run_start(&r->v[i]) : UINT64_MAX;
	bool in = i < r->n && start <= addr;

	*ret_end = in ? r->v[i].end : start;
	return in;
}

static bool is_plain_anonymous(const struct asc_map *m)
{
	return m && !m->inode && !(m->flags & ASC_MAP_SHARED) && strncmp(m->path, "[v", 2) != 0;
}

/*
 * Memory from @p at on that was never touched: zeros, and reading it would make the kernel map a page.
 * @return its bytes, 0: there is a page; @p ret_there: bytes that are alike in this
 */
static uint64_t absent(const struct overlay *o, asc_addr at, uint64_t *ret_there)
{
	const struct asc_map *m = asc_maps_find(&o->t.maps, at);
	asc_addr end = UINT64_MAX;
	bool in = true;

	if (o->res && o->res->source != ASC_RESIDENCY_UNKNOWN && is_plain_anonymous(m))
		in = in_runs(o->res, at, &end);
	if (m)
		end = asc_min(end, m->end);
	*ret_there = end - at;
	return in ? 0 : end - at;
}

/* A page that was not there before the stop: has it come since? */
static bool has_come(struct overlay *o, asc_addr page)
{
	const struct asc_map *m = asc_maps_find(&o->t.maps, page);
	struct asc_map one = { 0 };
	const struct asc_maps maps = { .v = &one, .n = 1 };
	struct asc_residency *res = NULL;
	struct asc_error *err;
	bool come;

	if (!m)
		return true;
	one = *m;
	one.start = page;
	one.end = page + o->t.page_size;
	err = asc_live_residency_part(o->live, &maps, &res);
	come = err || res->source == ASC_RESIDENCY_UNKNOWN || res->n;
	asc_error_free(err);
	asc_residency_free(res);
	return come;
}

/*
 * Pages that are not there now, and of which nobody knows whether they were in the stop: those that were
 * before it have changed, those that were kept are as they were kept. @return bytes up to one of these
 */
static uint64_t pass_gone(struct overlay *o, asc_addr at, uint64_t len)
{
	const uint64_t size = o->t.page_size;

	for (asc_addr page = asc_align_down(at, size); page < at + len; page += size) {
		struct asc_note_block *b = asc_notes_block(&o->notes, page);
		const size_t i = asc_note_index(&o->notes, page);

		if (asc_overlay_fresh(o, page))
			return page > at ? page - at : 0;
		if (b && b->digest[i])
			asc_note_changed(b, i, ASC_NOTE_TORN);
	}
	return len;
}

/* ---- reading: while it runs ---- */

/* Whole pages, none of them fresh. @return bytes, whole pages */
static size_t read_pages(struct overlay *o, asc_addr at, uint8_t *buf, size_t len)
{
	const size_t size = (size_t)o->t.page_size;
	size_t n = 0, got;

	if (o->phase == AFTER && asc_overlay_fresh(o, at)) {
		memcpy(buf, asc_overlay_fresh(o, at), size);
		return size;
	}
	if (o->phase == RUNNING)
		n = len;
	while (n < len && !asc_overlay_fresh(o, at + n))
		n += size;
	got = asc_align_down(asc_read_some(o->live, at, buf, n), size);
	take_notes(o, at, buf, got);
	return got;
}

/* Part of a page. */
static size_t read_part(struct overlay *o, asc_addr at, uint8_t *buf, size_t len)
{
	const asc_addr page = asc_align_down(at, o->t.page_size);
	uint8_t bytes[PAGE_MAX];

	if (read_pages(o, page, bytes, (size_t)o->t.page_size) == 0)
		return 0;
	memcpy(buf, bytes + (at - page), len);
	return len;
}

static size_t read_running(struct overlay *o, asc_addr addr, uint8_t *buf, size_t len)
{
	const size_t size = (size_t)o->t.page_size;
	size_t done = 0;

	while (done < len) {
		asc_addr at = addr + done;
		size_t in = (size_t)(at % size), n = len - done, got;
		uint64_t there, zeros = absent(o, at, &there);

		if (zeros && o->phase == AFTER && o->stale)
			zeros = pass_gone(o, at, asc_min(n, zeros));
		if (zeros) {
			got = n = (size_t)asc_min(n, zeros);
			memset(buf + done, 0, n);
		} else if (in || n < size) {
			n = asc_min(n, size - in);
			got = read_part(o, at, buf + done, n);
		} else {
			n = asc_align_down((size_t)asc_min(n, asc_max(there, size)), size);
			got = read_pages(o, at, buf + done, n);
		}
		done += got;
		if (!got)
			break;
	}
	return done;
}

/* ---- reading: in the stop ---- */

/* One page out of the process. @return its bytes, NULL: time or room is up, or not readable */
static const uint8_t *take_page(struct overlay *o, uint64_t page)
{
	const size_t size = (size_t)o->t.page_size;
	uint8_t *to = o->pages + o->used * size;
	uint64_t there;

	o->cut |= o->used == o->cap || now_ns() > o->deadline;
	if (o->cut)
		return NULL;
	if (absent(o, page, &there) && !(o->stale && has_come(o, page)))
		memset(to, 0, size);
	else if (asc_read_some(o->live, page, to, size) != size)
		return NULL;
	*find(o, page) = (struct slot){ page, o->used++ };
	return to;
}

static size_t read_stopped(struct overlay *o, asc_addr addr, uint8_t *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		asc_addr at = addr + done, page = asc_align_down(at, o->t.page_size);
		size_t in = (size_t)(at - page);
		size_t n = asc_min(len - done, (size_t)o->t.page_size - in);
		const uint8_t *bytes = asc_overlay_fresh(o, page);

		if (!bytes)
			bytes = take_page(o, page);
		if (!bytes)
			break;
		memcpy(buf + done, bytes + in, n);
		done += n;
	}
	return done;
}

static size_t overlay_read(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	struct overlay *o = overlay_of(t);

	return o->phase == STOPPED ? read_stopped(o, addr, buf, len)
				   : read_running(o, addr, buf, len);
}

static void overlay_close(struct asc_target *t)
{
	struct overlay *o = overlay_of(t);

	asc_notes_deinit(&o->notes);
	free(o->slots);
	if (o->pages)
		munmap(o->pages, o->bytes);
}

/* Two may read at once while it runs; in a stop a page is taken after the other (one_reader). */
static const struct asc_target_ops ops = {
	.kind = ASC_CAPTURE,
	.concurrent_bulk = true,
	.read = overlay_read,
	.close = overlay_close,
};

/* ---- its life ---- */

static struct asc_error *make_room(struct overlay *o, uint64_t room)
{
	size_t buckets = 1024;

	o->cap = (size_t)(asc_min(room, SIZE_MAX / 4) / o->t.page_size);
	o->bytes = asc_max(o->cap, 1) * (size_t)o->t.page_size;
	while (buckets < o->cap * 2)
		buckets *= 2;
	o->mask = buckets - 1;
	o->slots = malloc(buckets * sizeof(*o->slots));
	o->pages = mmap(NULL, o->bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (o->pages == MAP_FAILED)
		o->pages = NULL;
	if (!o->slots || !o->pages)
		return asc_err(ASC_ENOMEM, "pages of a stop");
	empty(o);
	return NULL;
}

void asc_overlay_warm(struct asc_target *t, uint64_t bytes)
{
	struct overlay *o = overlay_of(t);
	size_t warm =
		(size_t)asc_min(asc_align_up(asc_min(bytes, o->bytes), t->page_size), o->bytes);

	/* only for speed, may fail */
	(void)madvise(o->pages, warm, MADV_HUGEPAGE);
#ifdef MADV_POPULATE_WRITE
	(void)madvise(o->pages, warm, MADV_POPULATE_WRITE);
#endif
}

struct asc_error *asc_overlay_new(struct asc_target *live, const struct asc_residency *before,
				  uint64_t room, struct asc_target **ret)
{
	ASC_AUTO(asc_target_closep) struct asc_target *t = calloc(1, sizeof(struct overlay));

	if (!t)
		return asc_err(ASC_ENOMEM, "pages of a stop");
	t->ops = &ops;
	overlay_of(t)->live = live;
	overlay_of(t)->res = before;
	ASC_TRY(asc_capture_head(live, t));
	if (t->page_size > PAGE_MAX)
		return asc_err(ASC_EUNSUPPORTED, "pages of %llu bytes",
			       (unsigned long long)t->page_size);
	ASC_TRY(asc_notes_init(&overlay_of(t)->notes, t->page_size));
	ASC_TRY(asc_notes_make(&overlay_of(t)->notes, before));
	ASC_TRY(make_room(overlay_of(t), room));
	*ret = asc_take(t);
	return NULL;
}

struct asc_error *asc_overlay_begin(struct asc_target *t, const struct asc_residency *now,
				    uint64_t deadline_ns)
{
	struct overlay *o = overlay_of(t);

	asc_maps_free(&t->maps);
	free(t->threads);
	free(t->auxv);
	t->threads = NULL;
	t->auxv = NULL;
	t->nthreads = t->nauxv = 0;
	ASC_TRY(asc_capture_head(o->live, t));
	if (o->phase == AFTER) {
		asc_notes_turn(&o->notes);
		empty(o);
		o->again = true;
	}
	o->phase = STOPPED;
	t->one_reader = true;
	o->stale = !now;
	if (now)
		o->res = now;
	o->cut = false;
	o->deadline = deadline_ns;
	return NULL;
}

struct asc_error *asc_overlay_end(struct asc_target *t, const struct asc_residency *now)
{
	struct overlay *o = overlay_of(t);

	if (o->phase != STOPPED)
		return NULL;
	o->phase = AFTER;
	t->one_reader = false;
	if (now)
		o->res = now;
	return o->res ? asc_notes_make(&o->notes, o->res) : NULL;
}

void asc_overlay_forget(struct asc_target *t, struct asc_range range)
{
	struct overlay *o = overlay_of(t);
	asc_addr end = range.addr + range.len;

	for (size_t i = 0; i <= o->mask; i++) {
		struct slot *s = &o->slots[i];

		if (s->page != NO_PAGE && s->page < end && s->page + t->page_size > range.addr)
			s->at = NO_PAGE;
	}
}

/* ---- taking many ---- */

/* Pages to be read with one request; contiguous ones as one piece. */
struct batch {
	struct asc_iov iov[BATCH_PIECES];
	size_t n, pages;
};

/* Read them and note what was got. A piece that ended early has a page that cannot be read. */
static void flush(struct overlay *o, struct batch *b)
{
	const size_t size = (size_t)o->t.page_size;
	struct asc_error *err = b->n ? asc_read_bulk(o->live, b->iov, b->n) : NULL;

	for (size_t i = 0; i < b->n && !err; i++) {
		uint64_t at = (uint64_t)((uint8_t *)b->iov[i].buf - o->pages) / size;

		for (size_t k = 0; k < b->iov[i].got / size; k++) {
			uint64_t page = b->iov[i].addr + k * size;

			*find(o, page) = (struct slot){ page, at + k };
		}
	}
	o->used += b->pages;
	b->n = b->pages = 0;
	asc_error_free(err);
}

static void add_page(struct overlay *o, struct batch *b, asc_addr page)
{
	const size_t size = (size_t)o->t.page_size;
	struct asc_iov *last = b->n ? &b->iov[b->n - 1] : NULL;

	if (last && last->addr + last->len == page)
		last->len += size;
	else
		b->iov[b->n++] = (struct asc_iov){
			.addr = page,
			.buf = o->pages + (o->used + b->pages) * size,
			.len = size,
		};
	b->pages++;
}

/* @return false: no more */
static bool pull_range(struct overlay *o, struct batch *b, asc_addr at, asc_addr end)
{
	while (at < end) {
		uint64_t there, zeros = absent(o, at, &there);
		asc_addr to = asc_min(
			end, at + asc_max(asc_align_up(there, o->t.page_size), o->t.page_size));

		for (; !zeros && at < to; at += o->t.page_size) {
			if (find(o, at)->page == at)
				continue;
			if (b->n == BATCH_PIECES || b->pages == BATCH_PAGES)
				flush(o, b);
			o->cut |= o->used + b->pages == o->cap ||
				  (!b->pages && now_ns() > o->deadline);
			if (o->cut)
				return false;
			add_page(o, b, at);
		}
		at = to; /* what is not there is known to be zeros */
	}
	return true;
}

void asc_overlay_pull(struct asc_target *t, const struct asc_range *ranges, size_t n)
{
	struct overlay *o = overlay_of(t);
	struct batch b;

	b.n = b.pages = 0;
	for (size_t i = 0; i < n && o->phase == STOPPED; i++) {
		if (!pull_range(o, &b, asc_align_down(ranges[i].addr, t->page_size),
				asc_align_up(ranges[i].addr + ranges[i].len, t->page_size)))
			break;
	}
	flush(o, &b);
}

bool asc_overlay_is_cut(const struct asc_target *t)
{
	return ((const struct overlay *)t)->cut;
}

uint64_t asc_overlay_fresh_bytes(const struct asc_target *t)
{
	return ((const struct overlay *)t)->used * t->page_size;
}
