// SPDX-License-Identifier: GPL-3.0-or-later
/* Histogram by chunk size: powers of two, and the single sizes that hold the most. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "commands/cmd.h"
#include "glibc/heap.h"

enum { CLASSES = 64, MOST = 10, PLAIN = 64 << 10 };

struct amount {
	uint64_t count, bytes;
};

struct size_row {
	uint64_t size; /* 0: empty slot */
	struct amount used, free;
};

/*
 * Chunks by exact size; open addressing, at most half full. Nearly all are small, and only counted until
 * all have been seen.
 */
struct sizes {
	struct amount used[CLASSES], free[CLASSES];
	uint64_t plain[PLAIN]; /* by size | state */
	struct size_row *slots;
	size_t cap, n;
};

static struct size_row *slot_of(const struct sizes *z, uint64_t size)
{
	size_t i = (size_t)((size >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (z->cap - 1);

	while (z->slots[i].size && z->slots[i].size != size)
		i = (i + 1) & (z->cap - 1);
	return &z->slots[i];
}

static struct asc_error *grow(struct sizes *z)
{
	struct sizes more = *z;

	more.cap = z->cap ? z->cap * 2 : 1024;
	more.slots = calloc(more.cap, sizeof(*more.slots));
	if (!more.slots)
		return asc_err(ASC_ENOMEM, "table of sizes");
	for (size_t i = 0; i < z->cap; i++) {
		if (z->slots[i].size)
			*slot_of(&more, z->slots[i].size) = z->slots[i];
	}
	free(z->slots);
	*z = more;
	return NULL;
}

/* @p n chunks of one size */
static struct asc_error *add(struct sizes *z, uint64_t size, bool used, uint64_t n)
{
	unsigned class = size ? 63 - (unsigned)__builtin_clzll(size) : 0;
	struct amount *a = used ? &z->used[class] : &z->free[class];

	a->count += n;
	a->bytes += n * size;
	if (!size)
		return NULL;
	if (z->n * 2 >= z->cap)
		ASC_TRY(grow(z));
	struct size_row *r = slot_of(z, size);
	if (!r->size) {
		r->size = size;
		z->n++;
	}
	a = used ? &r->used : &r->free;
	a->count += n;
	a->bytes += n * size;
	return NULL;
}

static struct asc_error *count(struct sizes *z, const uint64_t *words, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const uint64_t word = words[i], state = word & 7;

		if (word < PLAIN)
			z->plain[word]++;
		else if (state != ASC_FENCE)
			ASC_TRY(add(z, word - state, state == ASC_INUSE, 1));
	}
	return NULL;
}

static struct asc_error *add_plain(struct sizes *z)
{
	for (uint64_t word = 0; word < PLAIN; word++) {
		const uint64_t state = word & 7;

		if (z->plain[word] && state != ASC_FENCE)
			ASC_TRY(add(z, word - state, state == ASC_INUSE, z->plain[word]));
	}
	return NULL;
}

static struct asc_error *count_heap(struct sizes *z, const struct asc_heap *heap)
{
	struct asc_chunk_iter it;
	struct asc_mmapped m;
	const uint64_t *words;
	size_t n;

	for (size_t i = 0; i < heap->narenas; i++) {
		for (size_t k = 0; k < heap->arenas[i].nregions; k++) {
			asc_chunk_iter_init(&it, &heap->arenas[i].regions[k]);
			while ((words = asc_chunk_words(&it, &n))) {
				ASC_TRY(count(z, words, n));
				if (asc_interrupted())
					return asc_err(ASC_EINTR, "interrupted");
			}
		}
	}
	for (size_t i = 0; asc_mmapped_next(heap, &i, &m);)
		ASC_TRY(add(z, m.total, true, 1));
	return NULL;
}

static const struct asc_col class_cols[] = {
	{ "from_bytes", "FROM", ASC_COL_RIGHT },
	{ "below_bytes", "BELOW", ASC_COL_RIGHT },
	{ "used_count", "USED", ASC_COL_RIGHT },
	{ "used_bytes", "BYTES", ASC_COL_RIGHT },
	{ NULL, "", 0 },
	{ "free_count", "FREE", ASC_COL_RIGHT },
	{ "free_bytes", "BYTES", ASC_COL_RIGHT },
	{ NULL, "", 0 },
};

static void put_classes(struct asc_out *o, const struct sizes *z, bool used, bool free_)
{
	bool ascii = asc_out_opts(o)->ascii;
	uint64_t most = 1;
	char u[64], f[64];

	for (unsigned i = 0; i < CLASSES; i++)
		most = asc_max(most,
			       asc_max(used ? z->used[i].bytes : 0, free_ ? z->free[i].bytes : 0));
	asc_out_table(o, "sizes", NULL, "size_class", class_cols, ASC_ARRAY_SIZE(class_cols));
	for (unsigned i = 0; i < CLASSES; i++) {
		const struct amount *a = &z->used[i], *b = &z->free[i];
		if (!(used && a->count) && !(free_ && b->count))
			continue;
		asc_fmt_bar(u, sizeof(u), used ? (double)a->bytes / (double)most : 0, 12, ascii);
		asc_fmt_bar(f, sizeof(f), free_ ? (double)b->bytes / (double)most : 0, 12, ascii);
		const struct asc_value v[] = {
			ASC_V_BYTES(UINT64_C(1) << i),
			i < 63 ? ASC_V_BYTES(UINT64_C(1) << (i + 1)) : ASC_V_NONE,
			used ? ASC_V_COUNT(a->count) : ASC_V_NONE,
			used ? ASC_V_BYTES(a->bytes) : ASC_V_NONE,
			ASC_V_STR(u),
			free_ ? ASC_V_COUNT(b->count) : ASC_V_NONE,
			free_ ? ASC_V_BYTES(b->bytes) : ASC_V_NONE,
			ASC_V_STR(f),
		};
		asc_out_row(o, v);
	}
	asc_out_table_end(o);
}

static uint64_t weight(const struct size_row *r, bool used, bool free_)
{
	return (used ? r->used.bytes : 0) + (free_ ? r->free.bytes : 0);
}

static const struct asc_col top_cols[] = {
	{ "size_bytes", "SIZE", ASC_COL_RIGHT },  { "used_count", "USED", ASC_COL_RIGHT },
	{ "used_bytes", "BYTES", ASC_COL_RIGHT }, { "free_count", "FREE", ASC_COL_RIGHT },
	{ "free_bytes", "BYTES", ASC_COL_RIGHT },
};

static void put_top(struct asc_out *o, const struct sizes *z, bool used, bool free_)
{
	const struct size_row *top[MOST];
	size_t n = 0;

	for (size_t i = 0; i < z->cap; i++) {
		const struct size_row *r = &z->slots[i];
		uint64_t w = r->size ? weight(r, used, free_) : 0;
		size_t at = n;
		if (!w)
			continue;
		while (at &&
		       (weight(top[at - 1], used, free_) < w ||
			(weight(top[at - 1], used, free_) == w && top[at - 1]->size > r->size)))
			at--;
		if (at == MOST)
			continue;
		n += n < MOST;
		memmove(top + at + 1, top + at, (n - at - 1) * sizeof(struct size_row *));
		top[at] = r;
	}
	if (!n && asc_out_is_text(o))
		return;
	asc_out_text(o, "%s", "");
	asc_out_table(o, "largest", "Sizes that hold the most", "size", top_cols,
		      ASC_ARRAY_SIZE(top_cols));
	for (size_t i = 0; i < n; i++) {
		const struct asc_value v[] = {
			/* exact: this is the number to look for in the program */
			asc_out_is_text(o) ? ASC_V_COUNT(top[i]->size) : ASC_V_BYTES(top[i]->size),
			used ? ASC_V_COUNT(top[i]->used.count) : ASC_V_NONE,
			used ? ASC_V_BYTES(top[i]->used.bytes) : ASC_V_NONE,
			free_ ? ASC_V_COUNT(top[i]->free.count) : ASC_V_NONE,
			free_ ? ASC_V_BYTES(top[i]->free.bytes) : ASC_V_NONE,
		};
		asc_out_row(o, v);
	}
	asc_out_table_end(o);
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	bool used = asc_args_has(a, "used"), free_ = asc_args_has(a, "free");
	struct asc_error *err = NULL;

	if (!used && !free_)
		used = free_ = true;
	struct sizes *z = calloc(1, sizeof(*z));
	if (!z)
		return asc_err(ASC_ENOMEM, "table of sizes");
	for (size_t h = 0; h < s->nheaps && !err; h++) {
		if (s->heaps[h])
			err = count_heap(z, s->heaps[h]);
	}
	if (!err)
		err = add_plain(z);
	if (!err) {
		put_classes(o, z, used, free_);
		put_top(o, z, used, free_);
		asc_partial_tcaches(s, o);
	}
	free(z->slots);
	free(z);
	return err;
}

static const struct asc_cmd_opt options[] = {
	{ .name = "used", .summary = "only live chunks" },
	{ .name = "free", .summary = "only free chunks, cached ones and tops included" },
	{ 0 },
};

const struct asc_cmd asc_cmd_sizes = {
	.name = "sizes",
	.args = "[--used|--free]",
	.summary = "histogram by chunk size, and the sizes that hold the most",
	.help = "Chunk sizes, headers included, in classes of powers of two. USED are live chunks "
		"and "
		"mmapped ones (with their whole mapping); FREE is everything else but fenceposts: "
		"bins, fastbins, tcache, tops. A request of N bytes has a chunk of N + 8 rounded "
		"up "
		"to 16, at least 32 (on 64-bit).",
	.opts = options,
	.needs = ASC_NEED_WALK,
	.run = run,
};
