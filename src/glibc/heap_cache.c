/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A direct-mapped cache of pages: free lists jump about, but mostly come back to the same pages. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "glibc/model.h"
#include "target/readers.h"

struct asc_error *asc_cache_init(struct asc_cache *c)
{
	c->tags = calloc(ASC_CACHE_SLOTS, sizeof(*c->tags));
	c->valid = calloc(ASC_CACHE_SLOTS, sizeof(*c->valid));
	c->pages = malloc((size_t)ASC_CACHE_SLOTS * ASC_CACHE_PAGE);
	if (!c->tags || !c->valid || !c->pages)
		return asc_err(ASC_ENOMEM, "page cache");
	return NULL;
}

void asc_cache_deinit(struct asc_cache *c)
{
	free(c->tags);
	free(c->valid);
	free(c->pages);
	*c = (struct asc_cache){ 0 };
}

static size_t slot_of(asc_addr page)
{
	uint64_t nr = page / ASC_CACHE_PAGE;

	return (size_t)((nr ^ nr >> 8 ^ nr >> 16) % ASC_CACHE_SLOTS);
}

/* The page at @p page and how much of it is readable. */
static const uint8_t *cached(struct asc_model *m, asc_addr page, size_t *ret_valid)
{
	struct asc_cache *c = &m->cache;
	size_t slot = slot_of(page);
	uint8_t *bytes = c->pages + slot * ASC_CACHE_PAGE;

	if (c->tags[slot] != (page | 1)) {
		c->misses++;
		c->valid[slot] = (uint16_t)asc_read_some(m->t, page, bytes, ASC_CACHE_PAGE);
		c->tags[slot] = page | 1;
	}
	*ret_valid = c->valid[slot];
	return bytes;
}

/*
 * Long lists over much memory never come back to a page in time: then only what is wanted is read, unless it is
 * on a page that is here, or near what was read so before.
 */
static bool thrashing(struct asc_cache *c, asc_addr addr, size_t len)
{
	const asc_addr page = addr - addr % ASC_CACHE_PAGE, last = c->last;

	if (c->misses <= 2 * ASC_CACHE_SLOTS || c->misses <= c->reads / 2 ||
	    c->tags[slot_of(page)] == (page | 1))
		return false;
	c->last = addr;
	return addr > UINT64_MAX - len ||
	       (addr > last ? addr - last : last - addr) > ASC_CACHE_PAGE / 2;
}

bool asc_model_get(struct asc_model *m, asc_addr addr, void *buf, size_t len)
{
	uint8_t *out = buf;

	m->cache.reads++;
	if (m->cache.misses_max && m->cache.misses > m->cache.misses_max)
		return false;
	if (thrashing(&m->cache, addr, len)) {
		m->cache.misses++;
		/* without the pages that are kept for others */
		return (!m->opts->rehearsal && !asc_target_has(m->t, addr) &&
			asc_read_beside(m->t, addr, buf, len) == len) ||
		       asc_read_some(m->t, addr, buf, len) == len;
	}
	while (len) {
		size_t off = (size_t)(addr % ASC_CACHE_PAGE), valid;
		size_t n = (size_t)asc_min(len, ASC_CACHE_PAGE - off);
		const uint8_t *page = cached(m, addr - off, &valid);

		if (off + n > valid)
			return false;
		memcpy(out, page + off, n);
		out += n;
		len -= n;
		if (!asc_add(addr, n, &addr) && len)
			return false;
	}
	return true;
}

bool asc_model_uint(struct asc_model *m, asc_addr addr, size_t size, uint64_t *ret)
{
	uint8_t b[8];

	if (size > sizeof(b) || !asc_model_get(m, addr, b, size))
		return false;
	*ret = asc_uint_at(m->t, b, size);
	return true;
}

bool asc_model_word(struct asc_model *m, asc_addr addr, uint64_t *ret)
{
	const struct asc_cache *c = &m->cache;
	size_t off = (size_t)(addr % ASC_CACHE_PAGE), slot = slot_of(addr - off);
	uint8_t b[8];

	/* nearly all of them are on a page that is here */
	if (m->native && c->tags[slot] == ((addr - off) | 1) && off + 8 <= c->valid[slot] &&
	    !(c->misses_max && c->misses > c->misses_max)) {
		m->cache.reads++;
		*ret = asc_load_u64(c->pages + slot * ASC_CACHE_PAGE + off);
		return true;
	}
	if (!asc_model_get(m, addr, b, m->l->word))
		return false;
	*ret = asc_word_at(m->t, b);
	return true;
}

bool asc_model_words(struct asc_model *m, asc_addr addr, uint64_t *ret, size_t n)
{
	const struct asc_node *node = n <= 4 ? asc_node_at(&m->nodes, addr) : NULL;
	uint8_t b[8 * 8];

	for (size_t i = 0; i < n && node; i++)
		ret[i] = asc_word_at(m->t, node->bytes + i * m->l->word);
	if (node)
		return true;
	if (n > 8 || !asc_model_get(m, addr, b, n * m->l->word))
		return false;
	for (size_t i = 0; i < n; i++)
		ret[i] = asc_word_at(m->t, b + i * m->l->word);
	return true;
}

bool asc_model_field(struct asc_model *m, asc_addr base, struct asc_field f, uint64_t *ret)
{
	asc_addr at;

	return f.present && asc_add(base, f.off, &at) && asc_model_uint(m, at, f.size, ret);
}

struct asc_error *asc_field_u64(struct asc_target *t, asc_addr base, struct asc_field f,
				uint64_t *ret)
{
	asc_addr at;

	if (!f.present)
		return asc_err(ASC_EBUG, "a member that this libc does not have");
	if (!asc_add(base, f.off, &at))
		return asc_err(ASC_EFAULT, "0x%" PRIx64 "+%u", base, f.off);
	return asc_read_uint(t, at, f.size, ret);
}

bool asc_model_account(struct asc_model *m, uint64_t bytes)
{
	if (m->memory_max && (m->memory > m->memory_max || bytes > m->memory_max - m->memory))
		return false;
	m->memory += bytes;
	return true;
}

struct asc_error *asc_model_need(struct asc_model *m, uint64_t bytes)
{
	const uint64_t max = m->memory_hard;

	if (!max || (m->memory <= max && bytes <= max - m->memory)) {
		m->memory += bytes;
		return NULL;
	}
	return asc_err_try(
		asc_err(ASC_ENOMEM, "the heap's tables take more than %" PRIu64 " bytes", max),
		"allow more with --max-memory=BYTES");
}

struct asc_error *asc_model_spill(struct asc_model *m)
{
	struct asc_error *err;

	if (m->spill_fd < 0)
		m->spill_fd = m->opts->spill_fd > 0 ? fcntl(m->opts->spill_fd, F_DUPFD_CLOEXEC, 0)
						    : asc_spill_open();
	if (m->spill_fd >= 0)
		return NULL;
	err = asc_err(ASC_ENOMEM,
		      "the heap's tables take more than %" PRIu64
		      " bytes, and there is no file for them",
		      m->memory_max);
	asc_err_try(err, "allow more with --max-memory=BYTES");
	return asc_err_try(err, "TMPDIR=DIR, a directory on a disk that can be written to");
}

struct asc_error *asc_model_progress(struct asc_model *m, uint64_t bytes)
{
	m->done += bytes;
	if (m->opts->progress && !m->opts->progress(m->opts->progress_arg, m->done, m->total))
		return asc_err(ASC_EINTR, "interrupted");
	return NULL;
}
