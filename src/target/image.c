/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bytes at chosen addresses, of any word size and byte order: what unit tests and fuzzers build
 * heaps from. Mappings are kept sorted; each carries its bytes, so that maps and contents cannot
 * disagree.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/target.h"

struct image {
	struct asc_target t;
	uint8_t **bytes; /* of t.maps.v[i] */
	char **paths;	 /* owned, of t.maps.v[i] */
};

static struct image *image_of(struct asc_target *t)
{
	return (struct image *)t;
}

/* First mapping that ends after @p addr. */
static size_t seek(const struct asc_maps *maps, asc_addr addr)
{
	return ASC_SEEK(maps->n, i, maps->v[i].end <= addr);
}

/* Visit the bytes of [addr, addr + len) piece by piece; @return how many there are from the front. */
static size_t image_copy(struct image *im, asc_addr addr, void *out, const void *in, size_t len)
{
	const struct asc_maps *maps = &im->t.maps;
	size_t done = 0;

	for (size_t i = seek(maps, addr); done < len && i < maps->n; i++) {
		asc_addr at = addr + done;
		uint8_t *p;
		size_t n;

		if (maps->v[i].start > at)
			break;
		n = (size_t)asc_min(len - done, maps->v[i].end - at);
		p = im->bytes[i] + (at - maps->v[i].start);
		if (out)
			memcpy((uint8_t *)out + done, p, n);
		else
			memcpy(p, (const uint8_t *)in + done, n);
		done += n;
	}
	return done;
}

static size_t image_read(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	return image_copy(image_of(t), addr, buf, NULL, len);
}

static void image_close(struct asc_target *t)
{
	struct image *im = image_of(t);

	for (size_t i = 0; i < t->maps.n; i++) {
		free(im->bytes[i]);
		free(im->paths[i]);
	}
	free(im->bytes);
	free(im->paths);
}

static const struct asc_target_ops image_ops = {
	.kind = ASC_IMAGE,
	.read = image_read,
	.close = image_close,
};

struct asc_error *asc_image_new(const char *arch, struct asc_target **ret)
{
	const struct asc_arch *row = asc_arch_by_name(arch);
	struct image *im;

	if (!row)
		return asc_err(ASC_EUNSUPPORTED, "no CPU named \"%s\"", arch);
	im = calloc(1, sizeof(*im));
	if (!im)
		return asc_err(ASC_ENOMEM, "image");
	im->t.ops = &image_ops;
	im->t.arch = row;
	im->t.page_size = 4096;
	memcpy(im->t.name, "image", sizeof("image"));
	*ret = &im->t;
	return NULL;
}

static struct asc_error *check_image(const struct asc_target *t)
{
	if (t->ops != &image_ops)
		return asc_err(ASC_EBUG, "not an image");
	return NULL;
}

/* Make room for one more mapping in all three arrays. */
static struct asc_error *grow(struct image *im)
{
	size_t n = im->t.maps.n + 1;
	void *p;

	p = reallocarray(im->t.maps.v, n, sizeof(*im->t.maps.v));
	if (!p)
		goto nomem;
	im->t.maps.v = p;
	p = reallocarray(im->bytes, n, sizeof(*im->bytes));
	if (!p)
		goto nomem;
	im->bytes = p;
	p = reallocarray(im->paths, n, sizeof(*im->paths));
	if (!p)
		goto nomem;
	im->paths = p;
	return NULL;
nomem:
	return asc_err(ASC_ENOMEM, "image of %zu mappings", n);
}

struct asc_error *asc_image_add(struct asc_target *t, const struct asc_map *map, const void *bytes)
{
	struct image *im = image_of(t);
	uint64_t len = map->end - map->start;
	size_t at, tail;

	ASC_TRY(check_image(t));
	if (map->end <= map->start || len > PTRDIFF_MAX)
		return asc_err(ASC_EUSAGE, "mapping 0x%" PRIx64 "-0x%" PRIx64, map->start,
			       map->end);
	if (t->arch->word_size == 4 && map->end > (uint64_t)UINT32_MAX + 1)
		return asc_err(ASC_EUSAGE, "mapping at 0x%" PRIx64 " in a 32-bit image",
			       map->start);
	at = seek(&t->maps, map->start);
	if (at < t->maps.n && t->maps.v[at].start < map->end)
		return asc_err(ASC_EUSAGE,
			       "mapping at 0x%" PRIx64 " overlaps the one at 0x%" PRIx64,
			       map->start, t->maps.v[at].start);

	ASC_AUTO(asc_freep) uint8_t *copy = calloc(1, (size_t)len);
	ASC_AUTO(asc_freep) char *path = strdup(map->path ? map->path : "");
	if (!copy || !path)
		return asc_err(ASC_ENOMEM, "mapping of %" PRIu64 " bytes", len);
	if (bytes)
		memcpy(copy, bytes, (size_t)len);
	ASC_TRY(grow(im));
	tail = t->maps.n - at;
	memmove(&t->maps.v[at + 1], &t->maps.v[at], tail * sizeof(*t->maps.v));
	memmove(&im->bytes[at + 1], &im->bytes[at], tail * sizeof(*im->bytes));
	memmove(&im->paths[at + 1], &im->paths[at], tail * sizeof(*im->paths));
	t->maps.v[at] = *map;
	t->maps.v[at].path = path;
	im->bytes[at] = asc_take(copy);
	im->paths[at] = asc_take(path);
	t->maps.n++;
	return NULL;
}

struct asc_error *asc_image_poke(struct asc_target *t, asc_addr addr, const void *bytes, size_t len)
{
	size_t done;

	ASC_TRY(check_image(t));
	/* all or nothing: a half-done poke would make a test lie */
	for (size_t i = seek(&t->maps, addr), left = len; left; i++) {
		asc_addr at = addr + (len - left);

		if (i == t->maps.n || t->maps.v[i].start > at)
			return asc_err(ASC_EFAULT, "0x%" PRIx64 " is not mapped in the image", at);
		left -= (size_t)asc_min(left, t->maps.v[i].end - at);
	}
	done = image_copy(image_of(t), addr, NULL, bytes, len);
	return done == len ? NULL : asc_err(ASC_EBUG, "poke of %zu bytes did %zu", len, done);
}

struct asc_error *asc_image_add_thread(struct asc_target *t, const struct asc_thread *thread)
{
	struct asc_thread *v;

	ASC_TRY(check_image(t));
	v = reallocarray(t->threads, t->nthreads + 1, sizeof(*v));
	if (!v)
		return asc_err(ASC_ENOMEM, "%zu threads", t->nthreads + 1);
	v[t->nthreads++] = *thread;
	t->threads = v;
	if (!t->pid)
		t->pid = thread->tid;
	return NULL;
}

struct asc_error *asc_image_set_auxv(struct asc_target *t, uint64_t type, uint64_t value)
{
	uint64_t *v;

	ASC_TRY(check_image(t));
	for (size_t i = 0; i < t->nauxv; i++) {
		if (t->auxv[2 * i] == type) {
			t->auxv[2 * i + 1] = value;
			return NULL;
		}
	}
	v = reallocarray(t->auxv, t->nauxv + 1, 2 * sizeof(*v));
	if (!v)
		return asc_err(ASC_ENOMEM, "auxv");
	v[2 * t->nauxv] = type;
	v[2 * t->nauxv + 1] = value;
	t->auxv = v;
	t->nauxv++;
	return NULL;
}
