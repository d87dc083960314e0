// SPDX-License-Identifier: GPL-3.0-or-later
/* One row an arena: the model's numbers beside the ledger's. */
#include "commands/arenas_out.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"

const char asc_arenas_sort_keys[] =
	"index|mapped|rss|in_use|cached|trimmable|retained|fragmented|top|heaps|threads";

struct line {
	const struct asc_heap *heap;
	const struct asc_arena *arena;
	const struct asc_arena_ledger *ledger; /* NULL: unknown */
	size_t libc;
	uint64_t key;
};

const char *asc_lock_text(uint32_t mutex)
{
	switch (mutex) {
	case 0:
		return "-";
	case 1:
		return "held";
	case 2:
		return "waited for";
	default:
		return "?";
	}
}

static struct json_object *bytes_if(bool known, uint64_t v)
{
	return known ? json_object_new_uint64(v) : NULL;
}

void asc_json_pages(struct json_object *to, const struct asc_pages *p)
{
	bool known = p && p->known;
	enum { CACHED = 2 }; /* of the fields */
	static const struct asc_pages none;
	const struct asc_pages *v = known ? p : &none;
	const struct {
		const char *key;
		uint64_t bytes;
	} fields[] = {
		{ "resident_bytes", v->resident }, { "in_use_bytes", v->in_use },
		{ "cached_bytes", v->cached },	   { "trimmable_bytes", v->trimmable },
		{ "retained_bytes", v->retained }, { "fragmented_bytes", v->fragmented },
		{ "metadata_bytes", v->metadata }, { "nonresident_bytes", v->nonresident },
		{ "swapped_bytes", v->swapped },
	};

	for (size_t i = 0; i < ASC_ARRAY_SIZE(fields); i++)
		json_object_object_add(
			to, fields[i].key,
			bytes_if(known && (v->cached_known || i != CACHED), fields[i].bytes));
}

static const struct asc_pages *pages_of(const struct line *l)
{
	static const struct asc_pages unknown;

	return l->ledger ? &l->ledger->pages : &unknown;
}

static struct json_object *addr(asc_addr a)
{
	char buf[32];

	snprintf(buf, sizeof(buf), "0x%" PRIx64, a);
	return json_object_new_string(buf);
}

static struct json_object *heaps_json(const struct line *l)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < l->arena->nregions; i++) {
		const struct asc_region *r = &l->arena->regions[i];
		const struct asc_region_ledger *rl =
			l->ledger && i < l->ledger->nregions ? &l->ledger->regions[i] : NULL;
		struct json_object *j = json_object_new_object();

		json_object_object_add(j, "address", addr(r->start));
		json_object_object_add(j, "size_bytes", json_object_new_uint64(r->end - r->start));
		json_object_object_add(
			j, "mprotect_bytes",
			bytes_if(r->heap_info && r->mprotect_size, r->mprotect_size));
		json_object_object_add(j, "has_top", json_object_new_boolean(r->has_top));
		json_object_object_add(j, "unwalked_bytes", json_object_new_uint64(r->unwalked));
		asc_json_pages(j, rl ? &rl->pages : NULL);
		json_object_array_add(list, j);
	}
	return list;
}

bool asc_state_known(const struct asc_heap *heap, const struct asc_arena *a, enum asc_state s)
{
	return (s != ASC_INUSE || a->in_use_known) && (s != ASC_TCACHE || heap->tcaches_known);
}

static struct json_object *states_json(const struct line *l, const uint64_t *v)
{
	struct json_object *j = json_object_new_object();

	for (int i = 0; i < ASC_NSTATES; i++)
		json_object_object_add(
			j, asc_state_name((enum asc_state)i),
			bytes_if(asc_state_known(l->heap, l->arena, (enum asc_state)i), v[i]));
	return j;
}

static void extras(struct asc_out *o, const struct line *l)
{
	const struct asc_arena *a = l->arena;
	struct json_object *tids = json_object_new_array();

	for (size_t i = 0; i < a->nthreads; i++) {
		if (a->threads[i] < l->heap->nthreads)
			json_object_array_add(
				tids, json_object_new_int64(l->heap->threads[a->threads[i]].tid));
	}
	asc_out_row_extra(o, "threads", tids);
	asc_out_row_extra(o, "heaps", heaps_json(l));
	asc_out_row_extra(o, "chunk_counts", states_json(l, a->counts));
	asc_out_row_extra(o, "chunk_bytes", states_json(l, a->bytes));
}

static const struct asc_col cols[] = {
	{ "libc", NULL, ASC_COL_NOTEXT },
	{ "index", "ARENA", ASC_COL_RIGHT },
	{ "kind", "KIND", 0 },
	{ "address", NULL, ASC_COL_NOTEXT },
	{ "mapped_bytes", "MAPPED", ASC_COL_RIGHT },
	{ "max_mapped_bytes", NULL, ASC_COL_NOTEXT },
	{ "resident_bytes", "RSS", ASC_COL_RIGHT },
	{ "in_use_bytes", "IN USE", ASC_COL_RIGHT },
	{ "cached_bytes", "CACHED", ASC_COL_RIGHT },
	{ "trimmable_bytes", "TRIMMABLE", ASC_COL_RIGHT },
	{ "retained_bytes", "RETAINED", ASC_COL_RIGHT },
	{ "fragmented_bytes", "FRAGMENTED", ASC_COL_RIGHT },
	{ "metadata_bytes", NULL, ASC_COL_NOTEXT },
	{ "nonresident_bytes", NULL, ASC_COL_NOTEXT },
	{ "swapped_bytes", NULL, ASC_COL_NOTEXT },
	{ "top_bytes", "TOP", ASC_COL_RIGHT },
	{ "heap_count", "HEAPS", ASC_COL_RIGHT },
	{ "attached_threads", "THR", ASC_COL_RIGHT },
	{ "lock", NULL, ASC_COL_NOTEXT },
	{ NULL, "LOCK", 0 },
	{ "on_free_list", NULL, ASC_COL_NOTEXT },
	{ "noncontiguous", NULL, ASC_COL_NOTEXT },
	{ "busy", NULL, ASC_COL_NOTEXT },
	{ "foreign_sbrk_bytes", NULL, ASC_COL_NOTEXT },
	{ "unwalked_bytes", NULL, ASC_COL_NOTEXT },
};

static void row(struct asc_out *o, const struct line *l, bool many)
{
	const struct asc_arena *a = l->arena;
	const struct asc_pages *p = pages_of(l);
	bool k = p->known;
	char kind[32];

	snprintf(kind, sizeof(kind), "%s", a->index == 0 ? "main" : "mmap");
	if (many && asc_out_is_text(o))
		snprintf(kind, sizeof(kind), "%s (libc %zu)", a->index == 0 ? "main" : "mmap",
			 l->libc);
	/* What malloc_trim never touches in the main arena has no number of its own. */
	const struct asc_value v[] = {
		ASC_V_COUNT(l->libc),
		ASC_V_COUNT(a->index),
		ASC_V_STR(kind),
		ASC_V_ADDR(a->addr),
		ASC_V_BYTES(a->system_mem),
		ASC_V_BYTES(a->max_system_mem),
		ASC_V_BYTES_IF(k, p->resident),
		ASC_V_BYTES_IF(k, p->in_use),
		ASC_V_BYTES_IF(k && p->cached_known, p->cached),
		ASC_V_BYTES_IF(k, p->trimmable),
		ASC_V_BYTES_IF(k, p->retained),
		ASC_V_BYTES_IF(k, p->fragmented),
		ASC_V_BYTES_IF(k, p->metadata),
		ASC_V_BYTES_IF(k, p->nonresident),
		ASC_V_BYTES_IF(k, p->swapped),
		ASC_V_BYTES(a->top_size),
		ASC_V_COUNT(a->nregions),
		a->attached_known ? ASC_V_COUNT(a->attached_threads) : ASC_V_UNKNOWN,
		ASC_V_COUNT(a->mutex),
		ASC_V_STR(asc_lock_text(a->mutex)),
		ASC_V_BOOL(a->on_free_list),
		ASC_V_BOOL(a->noncontiguous),
		ASC_V_BOOL(a->busy),
		ASC_V_BYTES(a->foreign_bytes),
		ASC_V_BYTES(a->unwalked_bytes),
	};

	_Static_assert(ASC_ARRAY_SIZE(v) == ASC_ARRAY_SIZE(cols), "a value for every column");
	asc_out_row(o, v);
	if (!asc_out_is_text(o))
		extras(o, l);
}

static uint64_t sort_key(const struct line *l, const char *sort)
{
	const struct asc_pages *p = pages_of(l);
	const struct {
		const char *name;
		uint64_t v;
	} keys[] = {
		{ "mapped", l->arena->system_mem },
		{ "rss", p->resident },
		{ "in_use", p->in_use },
		{ "cached", p->cached },
		{ "trimmable", p->trimmable },
		{ "retained", p->retained },
		{ "fragmented", p->fragmented },
		{ "top", l->arena->top_size },
		{ "heaps", l->arena->nregions },
		{ "threads", l->arena->attached_threads },
	};

	for (size_t i = 0; i < ASC_ARRAY_SIZE(keys); i++) {
		if (!strcmp(keys[i].name, sort))
			return keys[i].v;
	}
	return 0;
}

/* Largest first; equal ones as in memory. */
static int by_key(const void *pa, const void *pb)
{
	const struct line *a = pa, *b = pb;

	if (a->key != b->key)
		return a->key < b->key ? 1 : -1;
	if (a->libc != b->libc)
		return a->libc < b->libc ? -1 : 1;
	return a->arena->index < b->arena->index ? -1 : a->arena->index > b->arena->index;
}

static size_t collect(const struct asc_session *s, const struct asc_arenas_opts *opts,
		      struct line *lines)
{
	size_t n = 0;

	for (size_t h = 0; h < s->nheaps; h++) {
		const struct asc_heap *heap = s->heaps[h];
		for (size_t i = 0; heap && i < heap->narenas; i++) {
			bool ledger = h == 0 && s->ledger && s->ledger->known &&
				      i < s->ledger->narenas;
			if (opts->only != ASC_ARENAS_ALL &&
			    (h || heap->arenas[i].index != (unsigned)opts->only))
				continue;
			lines[n] = (struct line){ .heap = heap,
						  .arena = &heap->arenas[i],
						  .ledger = ledger ? &s->ledger->arenas[i] : NULL,
						  .libc = h };
			lines[n].key = opts->sort ? sort_key(&lines[n], opts->sort) : 0;
			n++;
		}
	}
	return n;
}

static void put_mmapped(const struct asc_session *s, struct asc_out *o)
{
	uint64_t count = 0, bytes = 0;
	bool known = s->ledger && s->ledger->known;

	for (size_t h = 0; h < s->nheaps; h++) {
		count += s->heaps[h] ? s->heaps[h]->mmapped.n : 0;
		bytes += s->heaps[h] ? s->heaps[h]->mmapped_bytes : 0;
	}
	asc_out_object(o, "mmapped", NULL);
	asc_out_field(o, "count", NULL, ASC_V_COUNT(count));
	asc_out_field(o, "bytes", NULL, ASC_V_BYTES(bytes));
	asc_out_field(o, "resident_bytes", NULL,
		      ASC_V_BYTES_IF(known, known ? s->ledger->mmapped_chunks : 0));
	asc_out_object_end(o);
}

void asc_put_arenas(const struct asc_session *s, struct asc_out *o,
		    const struct asc_arenas_opts *opts)
{
	size_t max = 0, heaps = 0;

	for (size_t h = 0; h < s->nheaps; h++) {
		max += s->heaps[h] ? s->heaps[h]->narenas : 0;
		heaps += s->heaps[h] != NULL;
	}
	ASC_AUTO(asc_freep) struct line *lines = calloc(max + 1, sizeof(*lines));
	if (!lines) {
		asc_out_warn(o, "W-MEMORY", "no memory for the table of arenas");
		asc_out_partial(o);
		return;
	}
	size_t n = collect(s, opts, lines);
	if (opts->sort && strcmp(opts->sort, "index"))
		asc_sort(lines, n, sizeof(*lines), by_key);
	if (asc_out_opts(o)->format == ASC_TEXT) /* a page has room for all */
		n = asc_min(n, opts->text_rows);
	if (n || !asc_out_is_text(o)) {
		asc_out_table(o, "arenas", NULL, "arena", cols, ASC_ARRAY_SIZE(cols));
		for (size_t i = 0; i < n; i++)
			row(o, &lines[i], heaps > 1);
		asc_out_table_end(o);
	}
	put_mmapped(s, o);
}
