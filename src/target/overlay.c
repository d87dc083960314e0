/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/overlay.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/capture.h"
#include "target/target.h"

enum { BATCH_PIECES = 128, BATCH_PAGES = 512 };
static const uint64_t NO_PAGE = UINT64_MAX;

struct slot {
	uint64_t page; /* address; NO_PAGE: free */
	uint64_t at;   /* page number in the buffer */
};

struct overlay {
	struct asc_target t;
	struct asc_target *base, *live; /* live: only in the stop */
	struct asc_residency *before;
	const struct asc_residency *now;
	uint64_t deadline;
	bool cut;
	struct slot *slots; /* open addressing */
	size_t mask;
	uint8_t *pages;
	size_t bytes, used, cap; /* used, cap: pages */
};

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

static struct slot *find(const struct overlay *o, uint64_t page)
{
	size_t h = (size_t)((page / o->t.page_size) * 0x9e3779b97f4a7c15u >> 20) & o->mask;

	while (o->slots[h].page != NO_PAGE && o->slots[h].page != page)
		h = (h + 1) & o->mask;
	return &o->slots[h];
}

static void empty(struct overlay *o)
{
	for (size_t i = 0; i <= o->mask; i++)
		o->slots[i].page = NO_PAGE;
	o->used = 0;
}

/* ---- residency ---- */

static bool in_runs(const struct asc_residency *r, asc_addr addr, asc_addr *ret_end)
{
	size_t i = asc_residency_seek(r, addr);
	bool in = i < r->n && r->v[i].start <= addr;

	*ret_end = i >= r->n ? UINT64_MAX : in ? r->v[i].end : r->v[i].start;
	return in;
}

static bool known(const struct asc_residency *r)
{
	return r && r->source != ASC_RESIDENCY_UNKNOWN;
}

static bool is_plain_anonymous(const struct asc_map *m)
{
	return m && !m->inode && !(m->flags & ASC_MAP_SHARED) && strncmp(m->path, "[v", 2) != 0;
}

/* ---- reading ---- */

/* One page out of the process. @return its bytes, NULL: time or room is up, or not readable */
static const uint8_t *take_page(struct overlay *o, struct slot *s, uint64_t page)
{
	const size_t size = (size_t)o->t.page_size;
	asc_addr end;

	o->cut |= o->used == o->cap || now_ns() > o->deadline;
	if (o->cut)
		return NULL;
	uint8_t *to = o->pages + o->used * size;
	/* a page that was never touched is zeros; reading it would make the kernel map one */
	if (known(o->now) && !in_runs(o->now, page, &end) &&
	    is_plain_anonymous(asc_maps_find(&o->t.maps, page)))
		memset(to, 0, size);
	else if (asc_read_some(o->live, page, to, size) != size)
		return NULL;
	*s = (struct slot){ page, o->used++ };
	return to;
}

/*
 * What was read before the stop. @p len reaches to the end of the page at most. A page that came
 * since is unknown if it was not taken, one that has gone reads as zeros.
 */
static size_t read_before(struct overlay *o, asc_addr addr, void *buf, size_t len)
{
	asc_addr end;

	if (known(o->now) && known(o->before) &&
	    is_plain_anonymous(asc_maps_find(&o->t.maps, addr))) {
		if (!in_runs(o->now, addr, &end)) {
			memset(buf, 0, len);
			return len;
		}
		if (!in_runs(o->before, addr, &end))
			return 0;
	}
	return asc_read_some(o->base, addr, buf, len);
}

static size_t overlay_read(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	struct overlay *o = overlay_of(t);
	size_t done = 0;

	while (done < len) {
		asc_addr at = addr + done, page = asc_align_down(at, t->page_size);
		size_t in = (size_t)(at - page), n;
		struct slot *s = find(o, page);
		const uint8_t *bytes = NULL;

		n = asc_min(len - done, (size_t)t->page_size - in);
		if (s->page == page)
			bytes = o->pages + s->at * (size_t)t->page_size;
		else if (o->live)
			bytes = take_page(o, s, page);
		if (bytes)
			memcpy((uint8_t *)buf + done, bytes + in, n);
		else if (o->live || read_before(o, at, (uint8_t *)buf + done, n) != n)
			break;
		done += n;
	}
	return done;
}

static void overlay_close(struct asc_target *t)
{
	struct overlay *o = overlay_of(t);

	asc_target_close(o->base);
	asc_residency_free(o->before);
	free(o->slots);
	if (o->pages)
		munmap(o->pages, o->bytes);
}

static const struct asc_target_ops ops = {
	.kind = ASC_CAPTURE,
	.read = overlay_read,
	.close = overlay_close,
};

/* ---- making ---- */

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
	/* cold pages would make the stop longer; only for speed, may fail */
	(void)madvise(o->pages, o->bytes, MADV_HUGEPAGE);
#ifdef MADV_POPULATE_WRITE
	(void)madvise(o->pages, o->bytes, MADV_POPULATE_WRITE);
#endif
	return NULL;
}

struct asc_error *asc_overlay_new(struct asc_target *base, struct asc_residency *before,
				  uint64_t room, struct asc_target **ret)
{
	ASC_AUTO(asc_target_closep) struct asc_target *t = calloc(1, sizeof(struct overlay));

	if (!t) {
		asc_target_close(base);
		asc_residency_free(before);
		return asc_err(ASC_ENOMEM, "pages of a stop");
	}
	t->ops = &ops;
	overlay_of(t)->base = base;
	overlay_of(t)->before = before;
	ASC_TRY(asc_capture_head(base, t));
	ASC_TRY(make_room(overlay_of(t), room));
	*ret = asc_take(t);
	return NULL;
}

struct asc_error *asc_overlay_begin(struct asc_target *t, struct asc_target *live,
				    const struct asc_residency *now, uint64_t deadline_ns)
{
	struct overlay *o = overlay_of(t);

	asc_maps_free(&t->maps);
	free(t->threads);
	free(t->auxv);
	t->threads = NULL;
	t->auxv = NULL;
	t->nthreads = t->nauxv = 0;
	ASC_TRY(asc_capture_head(live, t));
	empty(o);
	o->live = live;
	o->now = now;
	o->cut = false;
	o->deadline = deadline_ns;
	return NULL;
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

void asc_overlay_pull(struct asc_target *t, const struct asc_range *ranges, size_t n)
{
	struct overlay *o = overlay_of(t);
	struct batch b;

	b.n = b.pages = 0;
	for (size_t i = 0; i < n && o->live; i++) {
		asc_addr at = asc_align_down(ranges[i].addr, t->page_size);
		asc_addr end = asc_align_up(ranges[i].addr + ranges[i].len, t->page_size);

		for (; at < end; at += t->page_size) {
			if (find(o, at)->page == at)
				continue;
			if (b.n == BATCH_PIECES || b.pages == BATCH_PAGES)
				flush(o, &b);
			o->cut |= o->used + b.pages == o->cap ||
				  (!b.pages && now_ns() > o->deadline);
			if (o->cut) {
				flush(o, &b);
				return;
			}
			add_page(o, &b, at);
		}
	}
	flush(o, &b);
}

bool asc_overlay_is_cut(const struct asc_target *t)
{
	return ((const struct overlay *)t)->cut;
}

void asc_overlay_end(struct asc_target *t)
{
	overlay_of(t)->live = NULL;
}

bool asc_overlay_is_fresh(const struct asc_target *t, asc_addr addr)
{
	const struct overlay *o = (const struct overlay *)t;
	uint64_t page = asc_align_down(addr, t->page_size);

	return find(o, page)->page == page;
}

uint64_t asc_overlay_fresh_bytes(const struct asc_target *t)
{
	return ((const struct overlay *)t)->used * t->page_size;
}

struct asc_target *asc_overlay_base(struct asc_target *t)
{
	return overlay_of(t)->base;
}
