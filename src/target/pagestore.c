/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/pagestore.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/target.h"

enum { WIDEST = 64 << 10 }; /* reads that are longer are large requests anyway */

struct slot {
	asc_addr page; /* | 1; 0: empty */
	uint32_t at;   /* of its bytes */
	bool loaded;
};

struct asc_page_store {
	struct slot *slots; /* open addressing, at most half full */
	size_t nslots, n, max;
	uint8_t *bytes; /* of room pages; the first of them at 0 */
	size_t room;
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
	if (s)
		s->slots = calloc(n, sizeof(*s->slots));
	if (!s || !s->slots) {
		free(s);
		return asc_err(ASC_ENOMEM, "%zu pages", max);
	}
	s->nslots = n;
	s->max = max;
	*ret = s;
	return NULL;
}

void asc_page_store_free(struct asc_page_store *s)
{
	if (!s)
		return;
	if (s->bytes)
		munmap(s->bytes, s->room * ASC_STORE_PAGE);
	free(s->slots);
	free(s);
}

bool asc_page_store_note(struct asc_page_store *s, asc_addr addr, size_t len)
{
	asc_addr page = asc_align_down(addr, ASC_STORE_PAGE);

	if (!len || len > WIDEST || addr > UINT64_MAX - len)
		return true;
	for (; page < addr + len; page += ASC_STORE_PAGE) {
		struct slot *slot = slot_of(s, page);

		if (slot->page)
			continue;
		if (s->n == s->max)
			return false;
		*slot = (struct slot){ .page = page | 1, .at = (uint32_t)s->n++ };
	}
	return true;
}

struct asc_error *asc_page_store_warm(struct asc_page_store *s, size_t spare)
{
	void *p;

	s->max = asc_min(s->n + spare, s->nslots / 2);
	if (!s->max)
		return NULL;
	p = mmap(NULL, s->max * ASC_STORE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		 -1, 0);
	if (p == MAP_FAILED)
		return asc_err(ASC_ENOMEM, "%zu pages", s->max);
	s->bytes = p;
	s->room = s->max;
#ifdef MADV_POPULATE_WRITE
	(void)madvise(p, s->room * ASC_STORE_PAGE, MADV_POPULATE_WRITE); /* for speed alone */
#endif
	return NULL;
}

struct asc_error *asc_page_store_load(struct asc_page_store *s, const struct asc_residency *res,
				      struct asc_target *t)
{
	bool known = res && res->source != ASC_RESIDENCY_UNKNOWN;
	ASC_AUTO(asc_freep) struct asc_iov *iov = calloc(s->n + 1, sizeof(*iov));
	ASC_AUTO(asc_freep) struct slot **of = calloc(s->n + 1, sizeof(struct slot *));
	size_t n = 0;

	if (!iov || !of)
		return asc_err(ASC_ENOMEM, "%zu pages", s->n);
	for (size_t i = 0; i < s->nslots; i++) {
		struct slot *slot = &s->slots[i];
		asc_addr page = slot->page & ~(asc_addr)1;

		if (!slot->page || slot->loaded || slot->at >= s->room)
			continue;
		if (known && !asc_resident_bytes(res, page, page + ASC_STORE_PAGE))
			continue;
		of[n] = slot;
		iov[n++] = (struct asc_iov){ .addr = page,
					     .buf = s->bytes + (size_t)slot->at * ASC_STORE_PAGE,
					     .len = ASC_STORE_PAGE };
	}
	ASC_TRY(asc_read_bulk(t, iov, n));
	for (size_t i = 0; i < n; i++)
		of[i]->loaded = iov[i].got == ASC_STORE_PAGE;
	return NULL;
}

void asc_page_store_drop(struct asc_page_store *s)
{
	for (size_t i = 0; s && i < s->nslots; i++)
		s->slots[i].loaded = false;
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
