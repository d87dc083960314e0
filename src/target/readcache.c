/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/readcache.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"

enum { PAGE = 4096, SLOTS = 128, SMALL = 512 };

struct asc_read_cache {
	asc_addr tags[SLOTS]; /* page | 1; 0: empty */
	size_t valid[SLOTS];
	uint8_t pages[SLOTS][PAGE];
};

struct asc_error *asc_read_cache_new(struct asc_read_cache **ret)
{
	struct asc_read_cache *c = malloc(sizeof(*c));

	if (!c)
		return asc_err(ASC_ENOMEM, "page cache");
	/* the pages stay untouched until they are used */
	memset(c->tags, 0, sizeof(c->tags));
	*ret = c;
	return NULL;
}

void asc_read_cache_free(struct asc_read_cache *c)
{
	free(c);
}

bool asc_read_cache_wants(asc_addr addr, size_t len)
{
	return len <= SMALL && addr % PAGE + len <= PAGE;
}

size_t asc_read_cache_get(struct asc_read_cache *c, asc_addr addr, void *buf, size_t len,
			  size_t (*read)(void *arg, asc_addr addr, void *buf, size_t len),
			  void *arg)
{
	asc_addr page = asc_align_down(addr, PAGE);
	uint64_t nr = page / PAGE;
	size_t slot = (size_t)((nr ^ nr >> 7 ^ nr >> 14) % SLOTS), off = (size_t)(addr - page);

	if (c->tags[slot] != (page | 1)) {
		c->valid[slot] = read(arg, page, c->pages[slot], PAGE);
		c->tags[slot] = page | 1;
	}
	if (c->valid[slot] <= off)
		return 0;
	len = (size_t)asc_min(len, c->valid[slot] - off);
	memcpy(buf, c->pages[slot] + off, len);
	return len;
}
