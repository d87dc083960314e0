/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Sorting the words of free chunks: there may be millions, and the lists' order is nearly random.
 * Radix sort by the address alone, least significant digit first, through other memory of a bounded
 * size; what does not fit there is divided in place first, most significant byte first.
 *
 * Those in a file are never looked at all over it: as many as fit in memory are sorted at a time, and what
 * comes of it is merged, read and written in order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

enum {
	RADIX = 256,
	RADIX_BITS = 8,
	SMALL = 32,
	DIGIT_BITS = 9, /* as many places to write to as the first cache has lines for */
	DIGITS = 1 << DIGIT_BITS,
	DIGITS_MIN = 2048,     /* below, dividing in place is as fast */
	SPARE_MAX = 512 << 10, /* words */
	TAIL_MOST = 512 << 10, /* ditto */
};

/* Other memory; n == 0: none. */
struct spare {
	uint64_t *v;
	size_t n;
};

static void insertion(uint64_t *v, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		uint64_t e = v[i];
		size_t j = i;

		for (; j && v[j - 1] > e; j--)
			v[j] = v[j - 1];
		v[j] = e;
	}
}

/* Are equal addresses, which only damage has, in order as well? */
static bool sorted(const uint64_t *v, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (v[i - 1] > v[i])
			return false;
	return true;
}

/* By the bits of the address below @p high; those above are equal in all. */
static void by_address(const struct spare *s, uint64_t *v, size_t n, unsigned high)
{
	uint64_t *from = v, *to = s->v;

	for (unsigned at = ASC_EXTENT_ADDR; at < high; at += DIGIT_BITS) {
		size_t next[DIGITS] = { 0 }, sum = 0;
		uint64_t *other = from;

		for (size_t i = 0; i < n; i++)
			next[from[i] >> at & (DIGITS - 1)]++;
		for (size_t d = 0; d < DIGITS; d++) {
			size_t count = next[d];

			next[d] = sum;
			sum += count;
		}
		for (size_t i = 0; i < n; i++)
			to[next[from[i] >> at & (DIGITS - 1)]++] = from[i];
		from = to;
		to = other;
	}
	if (from != v)
		memcpy(v, from, n * sizeof(*v));
}

static void radix(const struct spare *s, uint64_t *v, size_t n, unsigned shift);

/* By the bits below @p high; those above are equal in all. */
static void sort_part(const struct spare *s, uint64_t *v, size_t n, unsigned high)
{
	if (n >= DIGITS_MIN && n <= s->n && high > ASC_EXTENT_ADDR) {
		by_address(s, v, n, high);
		if (sorted(v, n))
			return;
	}
	if (n > SMALL)
		radix(s, v, n, high > RADIX_BITS ? high - RADIX_BITS : 0);
	else
		insertion(v, n);
}

/* By the 8 bits from @p shift on; those above are equal in all. Depth is at most 8. */
static void radix(const struct spare *s, uint64_t *v, size_t n, unsigned shift)
{
	size_t count[RADIX] = { 0 }, next[RADIX], end[RADIX], at = 0;

	for (size_t i = 0; i < n; i++)
		count[v[i] >> shift & 0xff]++;
	for (size_t b = 0; b < RADIX; b++) {
		next[b] = at;
		at += count[b];
		end[b] = at;
	}
	for (size_t b = 0; b < RADIX; b++) {
		while (next[b] < end[b]) {
			uint64_t e = v[next[b]];
			size_t to = e >> shift & 0xff;

			while (to != b) {
				uint64_t other = v[next[to]];

				v[next[to]++] = e;
				e = other;
				to = e >> shift & 0xff;
			}
			v[next[b]++] = e;
		}
	}
	for (size_t b = 0; b < RADIX && shift; b++) {
		if (count[b] > 1)
			sort_part(s, v + end[b] - count[b], count[b], shift);
	}
}

void asc_words_sort(uint64_t *v, size_t n)
{
	uint64_t differ = 0;
	struct spare s = { 0 };

	if (sorted(v, n))
		return;
	for (size_t i = 1; i < n; i++)
		differ |= v[i] ^ v[0];
	if (n >= DIGITS_MIN) {
		s.n = asc_min(n, SPARE_MAX);
		s.v = malloc(s.n * sizeof(*s.v));
		s.n = s.v ? s.n : 0;
	}
	/* the first pass by bits that all differ */
	sort_part(&s, v, n, 64 - (unsigned)__builtin_clzll(differ));
	free(s.v);
}

/* ---- in order, but for a few at the end ---- */

/* How many from the start on are in order. */
static size_t in_order(const uint64_t *v, size_t n, bool on_disk)
{
	size_t i = 1;

	for (; i < n && v[i - 1] <= v[i]; i++) {
		if (on_disk && i % ASC_SPILL_WINDOW == 0)
			asc_spill_drop(v, 0, i);
	}
	return asc_min(i, n);
}

/* @p tail, in order, goes where it belongs among the first @p at of @p n words. */
static void merge_tail(uint64_t *v, size_t at, size_t n, const uint64_t *tail, bool on_disk)
{
	for (size_t to = n, left = n - at; left;) {
		to--;
		v[to] = at && v[at - 1] > tail[left - 1] ? v[--at] : tail[--left];
		if (on_disk && to % ASC_SPILL_WINDOW == 0)
			asc_spill_drop(v, at, n);
	}
}

/* @return false: there are many at the end, or no memory for them, and nothing was done */
static bool sort_tail(uint64_t *v, size_t n, bool on_disk)
{
	const size_t at = in_order(v, n, on_disk);
	ASC_AUTO(asc_freep) uint64_t *tail = NULL;

	if (at == n)
		return true;
	if (n - at > TAIL_MOST || n - at > at / 4)
		return false;
	tail = malloc((n - at) * sizeof(*tail));
	if (!tail)
		return false;
	memcpy(tail, v + at, (n - at) * sizeof(*tail));
	asc_words_sort(tail, n - at);
	merge_tail(v, at, n, tail, on_disk);
	return true;
}

void asc_extents_sort(struct asc_extents *x)
{
	if (!sort_tail(x->v, x->n, false))
		asc_words_sort(x->v, x->n);
	asc_extents_sort_large(x);
}

/* ---- in a file ---- */

enum {
	FAN = 128,     /* sorted stretches that become one */
	BUFFER = 1024, /* words that are read of each at a time */
	OUT = 8192,    /* and written */
};

/* A sorted stretch that is being read. */
struct stretch {
	uint64_t head;
	uint64_t *buffer;
	size_t at, len;	  /* in the buffer */
	size_t next, end; /* in the table */
};

struct merge {
	int fd;
	const struct asc_spill *from, *to;
	size_t written;
	struct stretch s[FAN];
	size_t heap[FAN], n; /* by their heads, the least first */
	uint64_t *out;
	size_t nout;
};

static struct asc_error *file_error(int e)
{
	return asc_err_os(e ? e : EIO, "a table of free chunks in a file");
}

/* @p write or read words from @p at on. */
static struct asc_error *transfer(int fd, const struct asc_spill *s, size_t at, void *words,
				  size_t n, bool write)
{
	uint8_t *p = words;
	size_t left = n * sizeof(uint64_t);
	off_t off = s->at + (off_t)(at * sizeof(uint64_t));

	while (left) {
		ssize_t done = write ? pwrite(fd, p, left, off) : pread(fd, p, left, off);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return file_error(done ? errno : 0);
		p += done;
		off += done;
		left -= (size_t)done;
	}
	return NULL;
}

static struct asc_error *flush(struct merge *g)
{
	ASC_TRY(transfer(g->fd, g->to, g->written, g->out, g->nout, true));
	g->written += g->nout;
	g->nout = 0;
	return NULL;
}

/* The next word of a stretch becomes its head. @p ret: there is one */
static inline struct asc_error *advance(struct merge *g, struct stretch *s, bool *ret)
{
	if (s->at == s->len) {
		s->len = (size_t)asc_min(BUFFER, s->end - s->next);
		s->at = 0;
		*ret = s->len;
		if (!s->len)
			return NULL;
		ASC_TRY(transfer(g->fd, g->from, s->next, s->buffer, s->len, false));
		s->next += s->len;
	}
	s->head = s->buffer[s->at++];
	*ret = true;
	return NULL;
}

static void sift_down(struct merge *g, size_t i)
{
	size_t mine = g->heap[i], child;

	for (; (child = 2 * i + 1) < g->n; i = child) {
		if (child + 1 < g->n && g->s[g->heap[child + 1]].head < g->s[g->heap[child]].head)
			child++;
		if (g->s[g->heap[child]].head >= g->s[mine].head)
			break;
		g->heap[i] = g->heap[child];
	}
	g->heap[i] = mine;
}

/* Stretches of @p len words of [at, end) become one. */
static struct asc_error *merge(struct merge *g, size_t at, size_t end, size_t len)
{
	bool more;

	g->n = 0;
	for (; at < end; at += len) {
		struct stretch *s = &g->s[g->n];

		*s = (struct stretch){ .buffer = s->buffer,
				       .next = at,
				       .end = (size_t)asc_min(at + len, end) };
		ASC_TRY(advance(g, s, &more));
		g->heap[g->n] = g->n;
		g->n++;
	}
	for (size_t i = g->n / 2; i--;)
		sift_down(g, i);
	while (g->n) {
		struct stretch *s = &g->s[g->heap[0]];

		g->out[g->nout++] = s->head;
		if (g->nout == OUT)
			ASC_TRY(flush(g));
		ASC_TRY(advance(g, s, &more));
		if (!more)
			g->heap[0] = g->heap[--g->n];
		if (g->n)
			sift_down(g, 0);
	}
	return flush(g);
}

static struct asc_error *sort_parts(int fd, const struct asc_spill *s, size_t n, size_t most)
{
	ASC_AUTO(asc_freep) uint64_t *part = malloc(asc_min(most, n) * sizeof(*part));

	if (!part)
		return asc_err(ASC_ENOMEM, "sorting %zu free chunks", n);
	for (size_t at = 0; at < n; at += most) {
		const size_t len = (size_t)asc_min(most, n - at);

		ASC_TRY(transfer(fd, s, at, part, len, false));
		if (sorted(part, len))
			continue;
		asc_words_sort(part, len);
		ASC_TRY(transfer(fd, s, at, part, len, true));
	}
	return NULL;
}

static struct asc_error *merge_parts(struct merge *g, struct asc_spill *s, size_t n, size_t part)
{
	for (size_t len = part; len < n; len *= FAN) {
		struct asc_spill to = { 0 };
		struct asc_error *err = asc_spill_begin(g->fd, n, &to);

		while (!err && to.cap < n)
			err = asc_spill_grow(&to, g->fd);
		g->from = s;
		g->to = &to;
		g->written = 0;
		for (size_t at = 0; at < n && !err; at += len * FAN)
			err = merge(g, at, (size_t)asc_min(at + len * FAN, n), len);
		asc_spill_abandon(err ? &to : s, g->fd);
		if (err)
			return err;
		*s = to;
	}
	return NULL;
}

struct asc_error *asc_words_sort_spilled(struct asc_spill *s, int fd, size_t n, size_t part)
{
	struct asc_error *err;

	if (sort_tail(s->words, n, true))
		return NULL;
	err = sort_parts(fd, s, n, part);
	if (err || n <= part)
		return err;
	ASC_AUTO(asc_freep) struct merge *g = calloc(1, sizeof(*g));
	ASC_AUTO(asc_freep) uint64_t *buffers = malloc((FAN * BUFFER + OUT) * sizeof(*buffers));
	if (!g || !buffers)
		return asc_err(ASC_ENOMEM, "sorting %zu free chunks", n);
	g->fd = fd;
	g->out = buffers + FAN * BUFFER;
	for (size_t i = 0; i < FAN; i++)
		g->s[i].buffer = buffers + i * BUFFER;
	return merge_parts(g, s, n, part);
}
