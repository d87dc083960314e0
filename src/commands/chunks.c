// SPDX-License-Identifier: GPL-3.0-or-later
/* The list of chunks; it streams, whatever its length. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"

struct filter {
	int arena; /* -1: all */
	int state; /* -1: all */
	uint64_t lo, hi, limit, seen, put;
};

static const struct asc_col cols[] = {
	{ "address", "CHUNK", 0 },
	{ "user_address", NULL, ASC_COL_NOTEXT },
	{ "size_bytes", "SIZE", ASC_COL_RIGHT },
	{ "state", "STATE", 0 },
	{ "arena", "ARENA", ASC_COL_RIGHT },
	{ "heap", NULL, ASC_COL_NOTEXT },
};

static void put(struct asc_out *o, const struct asc_heap *heap, const struct asc_arena *a,
		const struct asc_region *r, const struct asc_chunk *c)
{
	const struct asc_value v[] = {
		ASC_V_ADDR(c->addr),
		ASC_V_ADDR(c->addr + heap->libc.hdr),
		/* exact in text too: people look for one */
		asc_out_is_text(o) ? ASC_V_COUNT(c->size) : ASC_V_BYTES(c->size),
		ASC_V_STR(asc_state_name(c->state)),
		ASC_V_COUNT(a->index),
		ASC_V_ADDR(r->start),
	};

	asc_out_row(o, v);
}

/* @return false: enough */
static bool list_region(struct asc_out *o, const struct asc_heap *heap, const struct asc_arena *a,
			const struct asc_region *r, struct filter *f)
{
	struct asc_chunk_iter it;
	struct asc_chunk c;

	asc_chunk_iter_init(&it, r);
	while (asc_chunk_next(&it, &c)) {
		if (!(++f->seen & 0x3fff) && (asc_interrupted() || asc_out_broken(o)))
			return false;
		if (c.size < f->lo || c.size > f->hi)
			continue;
		if (f->state >= 0 && c.state != (enum asc_state)f->state)
			continue;
		if (f->put == f->limit)
			return false;
		put(o, heap, a, r, &c);
		f->put++;
	}
	return true;
}

static bool list_arena(struct asc_out *o, const struct asc_heap *heap, const struct asc_arena *a,
		       struct filter *f)
{
	for (size_t i = 0; i < a->nregions; i++) {
		if (!list_region(o, heap, a, &a->regions[i], f))
			return false;
	}
	return true;
}

static const char mmapped_state[] = "mmapped";

static bool list_mmapped(struct asc_out *o, const struct asc_heap *heap, struct filter *f)
{
	struct asc_mmapped m;

	for (size_t i = 0; asc_mmapped_next(heap, &i, &m);) {
		if (m.size < f->lo || m.size > f->hi)
			continue;
		if (f->put == f->limit)
			return false;
		const struct asc_value v[] = {
			ASC_V_ADDR(m.chunk),
			ASC_V_ADDR(m.chunk + heap->libc.hdr),
			asc_out_is_text(o) ? ASC_V_COUNT(m.size) : ASC_V_BYTES(m.size),
			ASC_V_STR(mmapped_state),
			ASC_V_NONE,
			ASC_V_NONE,
		};
		asc_out_row(o, v);
		f->put++;
	}
	return true;
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	struct filter f = { .state = -1, .hi = UINT64_MAX, .limit = UINT64_MAX };
	const char *state = asc_args_get(a, "state");
	bool mmapped = !state || !strcmp(state, mmapped_state);
	bool go_on = true;

	ASC_TRY(asc_args_arena(a, s, &f.arena));
	ASC_TRY(asc_args_byte_range(a, "size", &f.lo, &f.hi));
	ASC_TRY(asc_args_u64(a, "limit", &f.limit));
	for (int i = 0; state && i < ASC_NSTATES; i++) {
		if (!strcmp(state, asc_state_name((enum asc_state)i)))
			f.state = i;
	}
	bool walk = !state || f.state >= 0;

	asc_out_table(o, "chunks", NULL, "chunk", cols, ASC_ARRAY_SIZE(cols));
	for (size_t h = 0; h < s->nheaps && go_on; h++) {
		const struct asc_heap *heap = s->heaps[h];
		for (size_t i = 0; heap && walk && go_on && i < heap->narenas; i++) {
			if (f.arena < 0 || (h == 0 && heap->arenas[i].index == (unsigned)f.arena))
				go_on = list_arena(o, heap, &heap->arenas[i], &f);
		}
		if (heap && mmapped && go_on && f.arena < 0)
			go_on = list_mmapped(o, heap, &f);
	}
	asc_out_table_end(o);
	if (asc_interrupted())
		return asc_err(ASC_EINTR, "interrupted after %llu chunks",
			       (unsigned long long)f.put);
	asc_partial_tcaches(s, o);
	if (!f.put)
		asc_out_text(o, "No such chunk.");
	/* what --limit cut off is said, but is what was asked for */
	asc_out_field(o, "listed", NULL, ASC_V_COUNT(f.put));
	asc_out_field(o, "limited", NULL, ASC_V_BOOL(!go_on && f.put == f.limit));
	return NULL;
}

static const struct asc_cmd_opt options[] = {
	{ .name = "arena",
	  .arg = "N",
	  .summary = "only this arena",
	  .complete = ASC_COMPLETE_ARENA },
	{ .name = "size", .arg = "A..B", .summary = "chunk size in bytes, both ends included" },
	{ .name = "state",
	  .arg = "S",
	  .summary = "only chunks in this state",
	  .complete = ASC_COMPLETE_CHOICE,
	  .choices = "in_use|tcache|fastbin|unsorted|small|large|top|fencepost|mmapped" },
	{ .name = "limit", .arg = "N", .summary = "stop after N chunks" },
	{ 0 },
};

const struct asc_cmd asc_cmd_chunks = {
	.name = "chunks",
	.args = "[--arena=N] [--size=A..B] [--state=S] [--limit=N]",
	.summary = "list of chunks by address, streaming",
	.help = "CHUNK is the address of the header (where prev_size is); user memory begins two "
		"words "
		"behind it (user_address in JSON). SIZE includes the header. With --format=jsonl "
		"or "
		"csv a row goes out as soon as it is known.",
	.opts = options,
	.needs = ASC_NEED_WALK,
	.flags = ASC_CMD_STREAM,
	.run = run,
};
