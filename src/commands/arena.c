// SPDX-License-Identifier: GPL-3.0-or-later
/* One arena in full. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/arenas_out.h"
#include "commands/bins_out.h"
#include "commands/cmd.h"

static void put_head(struct asc_out *o, const struct asc_arena *a)
{
	char flags[96];

	snprintf(flags, sizeof(flags), "%s%s%s%s%s", a->initialised ? "" : "never used, ",
		 a->noncontiguous ? "noncontiguous, " : "",
		 a->on_free_list ? "on the free list, " : "", a->busy ? "busy, " : "",
		 a->have_fastchunks ? "has fast chunks, " : "");
	size_t len = strlen(flags);
	if (len)
		flags[len - 2] = 0;
	asc_out_field(o, NULL, "address", ASC_V_ADDR(a->addr));
	asc_out_field(o, NULL, "top", a->top_size ? ASC_V_ADDR(a->top) : ASC_V_NONE);
	asc_out_field(o, NULL, "top size", ASC_V_BYTES(a->top_size));
	asc_out_field(o, NULL, "from the system", ASC_V_BYTES(a->system_mem));
	asc_out_field(o, NULL, "at most so far", ASC_V_BYTES(a->max_system_mem));
	asc_out_field(o, NULL, "lock", ASC_V_STR(asc_lock_text(a->mutex)));
	if (len)
		asc_out_field(o, NULL, "state", ASC_V_STR(flags));
	if (a->foreign_bytes)
		asc_out_field(o, NULL, "foreign sbrk", ASC_V_BYTES(a->foreign_bytes));
	if (a->unwalked_bytes)
		asc_out_field(o, NULL, "not walked", ASC_V_BYTES(a->unwalked_bytes));
}

static void put_pages(struct asc_out *o, const struct asc_pages *p)
{
	bool k = p->known;

	asc_out_object(o, NULL, "Resident");
	asc_out_field(o, NULL, "resident", ASC_V_BYTES_IF(k, p->resident));
	asc_out_field(o, NULL, "in use", ASC_V_BYTES_IF(k, p->in_use));
	asc_out_field(o, NULL, "cached", ASC_V_BYTES_IF(k && p->cached_known, p->cached));
	asc_out_field(o, NULL, "trimmable", ASC_V_BYTES_IF(k, p->trimmable));
	asc_out_field(o, NULL, "retained", ASC_V_BYTES_IF(k, p->retained));
	asc_out_field(o, NULL, "fragmented", ASC_V_BYTES_IF(k, p->fragmented));
	asc_out_field(o, NULL, "headers", ASC_V_BYTES_IF(k, p->metadata));
	asc_out_field(o, NULL, "not resident", ASC_V_BYTES_IF(k, p->nonresident));
	asc_out_field(o, NULL, "in swap", ASC_V_BYTES_IF(k, p->swapped));
	asc_out_object_end(o);
}

/* Keyless tables and fields: people only; JSON has it all in the arena's own object. */
static const struct asc_col state_cols[] = {
	{ NULL, "CHUNKS", 0 },
	{ NULL, "COUNT", ASC_COL_RIGHT },
	{ NULL, "BYTES", ASC_COL_RIGHT },
};

static void put_states(struct asc_out *o, const struct asc_heap *heap, const struct asc_arena *a)
{
	asc_out_table(o, NULL, NULL, NULL, state_cols, ASC_ARRAY_SIZE(state_cols));
	for (int i = 0; i < ASC_NSTATES; i++) {
		bool known = asc_state_known(heap, a, (enum asc_state)i);
		const struct asc_value v[] = {
			ASC_V_STR(asc_state_name((enum asc_state)i)),
			known ? ASC_V_COUNT(a->counts[i]) : ASC_V_UNKNOWN,
			ASC_V_BYTES_IF(known, a->bytes[i]),
		};
		asc_out_row(o, v);
	}
	asc_out_table_end(o);
}

static const struct asc_col heap_cols[] = {
	{ NULL, "HEAP", 0 },
	{ NULL, "SIZE", ASC_COL_RIGHT },
	{ NULL, "RSS", ASC_COL_RIGHT },
	{ NULL, "TOP", 0 },
};

static void put_heaps(struct asc_out *o, const struct asc_arena *a,
		      const struct asc_arena_ledger *l)
{
	asc_out_table(o, NULL, NULL, NULL, heap_cols, ASC_ARRAY_SIZE(heap_cols));
	for (size_t i = 0; i < a->nregions; i++) {
		const struct asc_pages *p = l && i < l->nregions ? &l->regions[i].pages : NULL;
		const struct asc_value v[] = {
			ASC_V_ADDR(a->regions[i].start),
			ASC_V_BYTES(a->regions[i].end - a->regions[i].start),
			ASC_V_BYTES_IF(p && p->known, p->resident),
			ASC_V_STR(a->regions[i].has_top ? "here" : ""),
		};
		asc_out_row(o, v);
	}
	asc_out_table_end(o);
}

static const struct asc_col thread_cols[] = {
	{ NULL, "THREAD", ASC_COL_RIGHT },
	{ NULL, "CACHED CHUNKS", ASC_COL_RIGHT },
	{ NULL, "CACHED BYTES", ASC_COL_RIGHT },
};

static void put_threads(struct asc_out *o, const struct asc_heap *heap, const struct asc_arena *a)
{
	if (!a->nthreads)
		return;
	asc_out_table(o, NULL, NULL, NULL, thread_cols, ASC_ARRAY_SIZE(thread_cols));
	for (size_t i = 0; i < a->nthreads; i++) {
		if (a->threads[i] >= heap->nthreads)
			continue;
		const struct asc_heap_thread *t = &heap->threads[a->threads[i]];
		const struct asc_value v[] = {
			ASC_V_INT(t->tid),
			t->tcache_known ? ASC_V_COUNT(t->cached_chunks) : ASC_V_UNKNOWN,
			ASC_V_BYTES_IF(t->tcache_known, t->cached_bytes),
		};
		asc_out_row(o, v);
	}
	asc_out_table_end(o);
}

static void put_text(struct asc_session *s, struct asc_out *o, unsigned n)
{
	const struct asc_heap *heap = asc_session_heap(s);
	const struct asc_arena *a = &heap->arenas[n];
	const struct asc_ledger *l = s->ledger;
	const struct asc_arena_ledger *al = l && l->known && n < l->narenas ? &l->arenas[n] : NULL;
	static const struct asc_pages unknown;

	asc_out_text(o, "Arena %u (%s)", n, n ? "mmap" : "main");
	put_head(o, a);
	asc_out_text(o, "%s", "");
	put_pages(o, al ? &al->pages : &unknown);
	asc_out_text(o, "%s", "");
	put_states(o, heap, a);
	asc_out_text(o, "%s", "");
	put_heaps(o, a, al);
	asc_out_text(o, "%s", "");
	put_threads(o, heap, a);
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	unsigned n = 0;

	ASC_TRY(asc_args_at_arena(a, 0, s, &n));
	if (!asc_session_heap(s)->walked)
		asc_out_warn(o, "W-NOWALK",
			     "live chunks were not counted: the copy would not fit --max-pause");
	const struct asc_arenas_opts opts = { .only = (int)n };
	if (asc_out_is_text(o))
		put_text(s, o, n);
	asc_put_arenas(s, o, &opts);
	asc_out_text(o, "%s", "");
	asc_put_bins(asc_session_heap(s), o, (int)n, NULL);
	return NULL;
}

const struct asc_cmd asc_cmd_arena = {
	.name = "arena",
	.args = "N",
	.summary = "one arena in full: pages, chunks by state, heaps, threads, bins",
	.help = "Everything that `arenas` says of arena N, and its lists. Chunks are counted by a "
		"walk, "
		"bytes by chunk size, resident or not.",
	.min_args = 1,
	.max_args = 1,
	.complete = ASC_COMPLETE_ARENA,
	.needs = ASC_NEED_COUNTS | ASC_NEED_LEDGER,
	.flags = ASC_CMD_FIELDS,
	.run = run,
};
