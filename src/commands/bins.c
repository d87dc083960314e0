// SPDX-License-Identifier: GPL-3.0-or-later
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/bins_out.h"
#include "commands/cmd.h"

static const struct asc_col cols[] = {
	{ "arena", "ARENA", ASC_COL_RIGHT },
	{ "kind", "KIND", 0 },
	{ "bin", "BIN", ASC_COL_RIGHT },
	{ "thread", "THREAD", ASC_COL_RIGHT },
	{ "count", "CHUNKS", ASC_COL_RIGHT },
	{ "bytes", "BYTES", ASC_COL_RIGHT },
	{ "smallest_bytes", "SMALLEST", ASC_COL_RIGHT },
	{ "largest_bytes", "LARGEST", ASC_COL_RIGHT },
	{ "complete", NULL, ASC_COL_NOTEXT },
};

struct list {
	int arena;
	const char *kind;
	unsigned bin;
	pid_t tid; /* 0: no thread's */
	uint64_t count, bytes, min, max;
	bool truncated;
};

static void put(struct asc_out *o, const struct list *l)
{
	const struct asc_value v[] = {
		l->arena >= 0 ? ASC_V_INT(l->arena) : ASC_V_NONE,
		ASC_V_STR(l->kind),
		ASC_V_COUNT(l->bin),
		l->tid ? ASC_V_INT(l->tid) : ASC_V_NONE,
		ASC_V_COUNT(l->count),
		ASC_V_BYTES(l->bytes),
		l->count ? ASC_V_BYTES(l->min) : ASC_V_NONE,
		l->count ? ASC_V_BYTES(l->max) : ASC_V_NONE,
		ASC_V_BOOL(!l->truncated),
	};

	asc_out_row(o, v);
	if (l->truncated)
		asc_out_partial(o);
}

static bool wanted(const char *kind, const char *this)
{
	return !kind || !strcmp(kind, this);
}

/* @return rows that it was worth, as all of these do */
static size_t put_bin(struct asc_out *o, const struct asc_arena *a, const char *kind,
		      const struct asc_bin *b)
{
	const struct list l = {
		.arena = (int)a->index,
		.kind = kind,
		.bin = b->nr,
		.count = b->count,
		.bytes = b->bytes,
		.min = b->raw_min & ~UINT64_C(7),
		.max = b->raw_max & ~UINT64_C(7),
		.truncated = b->truncated,
	};

	put(o, &l);
	return 1;
}

static size_t put_arena(struct asc_out *o, const struct asc_arena *a, const char *kind)
{
	size_t n = 0;

	for (unsigned i = 0; wanted(kind, "fast") && i < a->nfast; i++)
		n += put_bin(o, a, "fast", &a->fast[i]);
	for (unsigned i = 0; i < a->nbins; i++) {
		const unsigned nr = a->bins[i].nr;
		const char *this = nr == 1 ? "unsorted" : nr < 64 ? "small" : "large";

		if (wanted(kind, this))
			n += put_bin(o, a, this, &a->bins[i]);
	}
	return n;
}

static size_t put_tcache(struct asc_out *o, const struct asc_heap_thread *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->nbins; i++) {
		const struct asc_tcache_bin *b = &t->bins[i];
		const struct list l = {
			.arena = t->arena,
			.kind = "tcache",
			.bin = b->nr,
			.tid = t->tid,
			.count = b->count,
			.bytes = b->bytes,
			.min = b->min,
			.max = b->max,
			.truncated = b->count != b->stated,
		};

		put(o, &l);
		n++;
	}
	return n;
}

size_t asc_put_bins(const struct asc_heap *heap, struct asc_out *o, int arena, const char *kind)
{
	size_t n = 0;

	asc_out_table(o, "bins", NULL, "bin", cols, ASC_ARRAY_SIZE(cols));
	for (size_t i = 0; wanted(kind, "tcache") && i < heap->nthreads; i++) {
		if (arena < 0 || heap->threads[i].arena == arena)
			n += put_tcache(o, &heap->threads[i]);
	}
	for (size_t i = 0; i < heap->narenas; i++) {
		if (arena < 0 || heap->arenas[i].index == (unsigned)arena)
			n += put_arena(o, &heap->arenas[i], kind);
	}
	asc_out_table_end(o);
	return n;
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	unsigned n = 0;

	ASC_TRY(asc_args_at_arena(a, 0, s, &n));
	if (!asc_put_bins(asc_session_heap(s), o, asc_args_count(a) ? (int)n : -1,
			  asc_args_get(a, "kind")))
		asc_out_text(o, "No free chunk is in such a list.");
	if (wanted(asc_args_get(a, "kind"), "tcache"))
		asc_partial_tcaches(s, o);
	return NULL;
}

static const struct asc_cmd_opt options[] = {
	{ .name = "kind",
	  .arg = "KIND",
	  .summary = "only lists of this kind",
	  .complete = ASC_COMPLETE_CHOICE,
	  .choices = "tcache|fast|unsorted|small|large" },
	{ 0 },
};

const struct asc_cmd asc_cmd_bins = {
	.name = "bins",
	.args = "[N] [--kind=KIND]",
	.summary = "count, bytes, smallest and largest chunk of every free list",
	.help = "One row a list that is not empty, of all arenas or of arena N. Bins are numbered "
		"as "
		"in malloc.c: 1 is unsorted, 2 to 63 small, 64 to 126 large; fastbins and tcache "
		"bins "
		"have numbers of their own.\n"
		"Lists of kind tcache belong to a thread; ARENA is then the arena that the thread "
		"is "
		"attached to, and the chunks may be another arena's. complete (JSON) is false for "
		"a "
		"list that could not be followed to its end.",
	.opts = options,
	.max_args = 1,
	.complete = ASC_COMPLETE_ARENA,
	.needs = ASC_NEED_LISTS,
	.run = run,
};
