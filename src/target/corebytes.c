/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reading a file that may change under us. Small reads go through a direct-mapped cache of blocks
 * (the walks read headers next to each other), large ones straight into the caller's buffer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/core.h"

enum { BLOCK = 16384, NBLOCKS = 256, LARGE = 4096 };

struct block {
	uint64_t off; /* UINT64_MAX: empty */
	size_t len;
	uint8_t *data;
};

struct asc_blocks {
	struct block v[NBLOCKS];
	uint64_t reads, misses;
};

struct asc_error *asc_bytes_init(struct asc_bytes *b, int fd, uint64_t len)
{
	struct asc_blocks *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return asc_err(ASC_ENOMEM, "block cache");
	for (size_t i = 0; i < NBLOCKS; i++)
		cache->v[i].off = UINT64_MAX;
	*b = (struct asc_bytes){ .fd = fd, .len = len, .cache = cache };
	return NULL;
}

void asc_bytes_deinit(struct asc_bytes *b)
{
	if (!b->cache)
		return;
	for (size_t i = 0; i < NBLOCKS; i++)
		free(b->cache->v[i].data);
	free(b->cache);
	close(b->fd);
	*b = (struct asc_bytes){ .fd = -1 };
}

static size_t read_at(int fd, uint64_t off, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (uint8_t *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

static const struct block *load(struct asc_bytes *b, uint64_t off)
{
	struct block *k = &b->cache->v[off / BLOCK % NBLOCKS];

	if (k->off == off)
		return k;
	b->cache->misses++;
	if (!k->data)
		k->data = malloc(BLOCK);
	if (!k->data)
		return NULL;
	k->len = read_at(b->fd, off, k->data, (size_t)asc_min(BLOCK, b->len - off));
	k->off = off;
	return k;
}

size_t asc_bytes_direct(const struct asc_bytes *b, uint64_t off, void *buf, size_t len)
{
	return off < b->len ? read_at(b->fd, off, buf, (size_t)asc_min(len, b->len - off)) : 0;
}

/* Whoever jumps about and never comes back to a block in time reads only what is wanted. */
static bool thrashing(const struct asc_blocks *c)
{
	return c->misses > 4 * NBLOCKS && c->misses > c->reads / 2;
}

size_t asc_bytes_read(struct asc_bytes *b, uint64_t off, void *buf, size_t len)
{
	size_t done = 0;

	if (!b->cache || off >= b->len)
		return 0;
	len = (size_t)asc_min(len, b->len - off);
	if (len >= LARGE)
		return read_at(b->fd, off, buf, len);
	b->cache->reads++;
	if (thrashing(b->cache)) {
		b->cache->misses++;
		return read_at(b->fd, off, buf, len);
	}
	while (done < len) {
		uint64_t at = off + done, base = at - at % BLOCK;
		const struct block *k = load(b, base);
		size_t skip = (size_t)(at - base), n;

		if (!k || k->len <= skip)
			break;
		n = (size_t)asc_min(len - done, k->len - skip);
		memcpy((uint8_t *)buf + done, k->data + skip, n);
		done += n;
		if (skip + n < BLOCK && done < len)
			break; /* the file ends here */
	}
	return done;
}
