/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Mappings: the text of /proc/PID/maps, or a list made from a core, as one sorted immutable array.
 * Paths come from whoever named the file, so any byte may be in them.
 */
#include "target/target.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"

static int by_start(const void *a, const void *b)
{
	const struct asc_map *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

struct asc_error *asc_maps_init(struct asc_map *v, size_t n, char *strings, struct asc_maps *ret)
{
	struct asc_maps maps = { .v = v, .n = n, .strings = strings };
	struct asc_error *err;

	asc_sort(v, n, sizeof(*v), by_start);
	for (size_t i = 0; i < n; i++) {
		if (v[i].start >= v[i].end)
			err = asc_err(ASC_EINPUT, "mapping 0x%" PRIx64 "-0x%" PRIx64 " is empty",
				      v[i].start, v[i].end);
		else if (i && v[i].start < v[i - 1].end)
			err = asc_err(ASC_EINPUT,
				      "mappings at 0x%" PRIx64 " and 0x%" PRIx64 " overlap",
				      v[i - 1].start, v[i].start);
		else
			continue;
		asc_maps_free(&maps);
		return err;
	}
	*ret = maps;
	return NULL;
}

void asc_maps_free(struct asc_maps *maps)
{
	free(maps->v);
	free(maps->strings);
	*maps = (struct asc_maps){ 0 };
}

struct asc_error *asc_maps_copy(const struct asc_maps *from, struct asc_maps *ret)
{
	size_t bytes = 1, at = 1;
	ASC_AUTO(asc_freep) struct asc_map *v = NULL;
	char *strings;

	for (size_t i = 0; i < from->n; i++)
		bytes += strlen(from->v[i].path) + 1;
	v = malloc((from->n ? from->n : 1) * sizeof(*v));
	strings = malloc(bytes);
	if (!v || !strings) {
		free(strings);
		return asc_err(ASC_ENOMEM, "copy of %zu mappings", from->n);
	}
	strings[0] = 0;
	for (size_t i = 0; i < from->n; i++) {
		size_t len = strlen(from->v[i].path);

		v[i] = from->v[i];
		v[i].path = strings;
		if (len) {
			v[i].path = memcpy(strings + at, from->v[i].path, len + 1);
			at += len + 1;
		}
	}
	*ret = (struct asc_maps){ .v = asc_take(v), .n = from->n, .strings = strings };
	return NULL;
}

const struct asc_map *asc_maps_find(const struct asc_maps *maps, asc_addr addr)
{
	size_t lo = ASC_SEEK(maps->n, i, maps->v[i].end <= addr);

	return lo < maps->n && maps->v[lo].start <= addr ? &maps->v[lo] : NULL;
}

struct cursor {
	const char *p, *end;
};

static bool hex(struct cursor *c, uint64_t *ret)
{
	const char *from = c->p;
	uint64_t v = 0;

	for (; c->p < c->end; c->p++) {
		unsigned char ch = (unsigned char)*c->p;
		unsigned digit;

		if (ch >= '0' && ch <= '9')
			digit = ch - '0';
		else if (ch >= 'a' && ch <= 'f')
			digit = ch - 'a' + 10u;
		else
			break;
		if (v >> 60)
			return false;
		v = v << 4 | digit;
	}
	*ret = v;
	return c->p > from;
}

static bool decimal(struct cursor *c, uint64_t *ret)
{
	const char *from = c->p;
	uint64_t v = 0;

	for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++) {
		if (!asc_mul(v, 10, &v) || !asc_add(v, (uint64_t)(*c->p - '0'), &v))
			return false;
	}
	*ret = v;
	return c->p > from;
}

static bool lit(struct cursor *c, char ch)
{
	if (c->p == c->end || *c->p != ch)
		return false;
	c->p++;
	return true;
}

static bool perms(struct cursor *c, unsigned *ret)
{
	static const char set[4] = { 'r', 'w', 'x', 's' };
	unsigned flags = 0;

	if (c->end - c->p < 4)
		return false;
	for (unsigned i = 0; i < 4; i++) {
		char ch = c->p[i];

		if (ch == set[i])
			flags |= 1u << i; /* enum asc_map_flags is in this order */
		else if (ch != (i == 3 ? 'p' : '-'))
			return false;
	}
	c->p += 4;
	*ret = flags;
	return true;
}

/* The kernel writes a newline in a path as \012 and nothing else specially. @return bytes written */
static size_t unescape(const char *from, size_t len, char *to)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (len - i >= 4 && !memcmp(from + i, "\\012", 4)) {
			to[n++] = '\n';
			i += 3;
		} else {
			to[n++] = from[i];
		}
	}
	return n;
}

static bool parse_line(struct cursor c, struct asc_map *map, char *path, size_t *ret_path_len)
{
	static const char gone[] = " (deleted)";
	uint64_t major, minor;
	size_t len;

	if (!hex(&c, &map->start) || !lit(&c, '-') || !hex(&c, &map->end) || !lit(&c, ' ') ||
	    !perms(&c, &map->flags) || !lit(&c, ' ') || !hex(&c, &map->offset) || !lit(&c, ' ') ||
	    !hex(&c, &major) || !lit(&c, ':') || !hex(&c, &minor) || !lit(&c, ' ') ||
	    !decimal(&c, &map->inode) || major > UINT32_MAX || minor > UINT32_MAX)
		return false;
	if (c.p < c.end && *c.p != ' ')
		return false;
	map->dev_major = (uint32_t)major;
	map->dev_minor = (uint32_t)minor;
	map->flags_known = true;
	while (c.p < c.end && *c.p == ' ')
		c.p++;
	len = unescape(c.p, (size_t)(c.end - c.p), path);
	if (len > sizeof(gone) - 1 &&
	    !memcmp(path + len - (sizeof(gone) - 1), gone, sizeof(gone) - 1)) {
		map->deleted = true;
		len -= sizeof(gone) - 1;
	}
	path[len] = 0;
	*ret_path_len = len;
	return true;
}

/* The lists of a process with thousands of threads are long, and few of their lines have a path. */
static void fit(struct asc_map **v, size_t n, char **strings, size_t len)
{
	struct asc_map *fewer = n ? realloc(*v, n * sizeof(**v)) : NULL;
	char *shorter = malloc(len);

	if (fewer)
		*v = fewer;
	if (!shorter)
		return;
	memcpy(shorter, *strings, len);
	for (size_t i = 0; i < n; i++)
		(*v)[i].path = shorter + ((*v)[i].path - *strings);
	free(*strings);
	*strings = shorter;
}

bool asc_maps_same(const struct asc_maps *a, const struct asc_maps *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		const struct asc_map *x = &a->v[i], *y = &b->v[i];

		if (x->start != y->start || x->end != y->end || x->flags != y->flags ||
		    x->inode != y->inode || x->offset != y->offset ||
		    x->dev_major != y->dev_major || x->dev_minor != y->dev_minor ||
		    x->deleted != y->deleted || strcmp(x->path, y->path))
			return false;
	}
	return true;
}

struct asc_error *asc_maps_parse(const char *text, size_t len, struct asc_maps *ret)
{
	struct cursor c = { text, text + len };
	ASC_VEC(struct asc_map) v = { 0 };
	struct asc_error *err = NULL;
	size_t at = 1, line = 0;
	/* a path is never longer than its line, and the line holds more than the path's NUL */
	char *strings = malloc(len + 2);

	if (!strings)
		return asc_err(ASC_ENOMEM, "mappings of %zu bytes", len);
	strings[0] = 0;
	while (!err && c.p < c.end) {
		const char *nl = memchr(c.p, '\n', (size_t)(c.end - c.p));
		struct cursor one = { c.p, nl ? nl : c.end };
		struct asc_map map = { 0 };
		size_t path_len;

		line++;
		c.p = nl ? nl + 1 : c.end;
		if (!parse_line(one, &map, strings + at, &path_len)) {
			err = asc_err(ASC_EINPUT, "line %zu of the mappings is not one: %.*s", line,
				      (int)asc_min((uint64_t)(one.end - one.p), 120), one.p);
			break;
		}
		map.path = path_len ? strings + at : strings;
		at += path_len ? path_len + 1 : 0;
		err = asc_vec_push(&v, map);
	}
	if (err) {
		asc_vec_free(&v);
		free(strings);
		return err;
	}
	fit(&v.data, v.len, &strings, at);
	return asc_maps_init(v.data, v.len, strings, ret);
}
