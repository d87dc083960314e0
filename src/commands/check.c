// SPDX-License-Identifier: GPL-3.0-or-later
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"

static const struct asc_col cols[] = {
	{ "severity", "SEVERITY", 0 },
	{ "arena", "ARENA", ASC_COL_RIGHT },
	{ "address", "ADDRESS", 0 },
	{ "code", "CODE", 0 },
	{ "previous", NULL, ASC_COL_NOTEXT },
	{ "unwalked_bytes", NULL, ASC_COL_NOTEXT },
	{ "message", "WHAT", 0 },
};

static void put(struct asc_out *o, const struct asc_finding *f)
{
	const struct asc_value v[] = {
		ASC_V_STR(asc_severity_name(f->severity)),
		f->arena >= 0 ? ASC_V_INT(f->arena) : ASC_V_NONE,
		f->addr ? ASC_V_ADDR(f->addr) : ASC_V_NONE,
		ASC_V_STR(f->code),
		f->prev ? ASC_V_ADDR(f->prev) : ASC_V_NONE,
		ASC_V_BYTES(f->unwalked),
		ASC_V_STR(f->message),
	};

	asc_out_row(o, v);
}

/* Findings of every libc; @p put_them or only counted. */
static size_t each(const struct asc_session *s, struct asc_out *o, int arena, bool put_them)
{
	size_t n = 0;

	for (size_t h = 0; h < s->nheaps; h++) {
		const struct asc_heap *heap = s->heaps[h];
		for (size_t i = 0; heap && i < heap->nfindings; i++) {
			if (arena >= 0 && (h || heap->findings[i].arena != arena))
				continue;
			n++;
			if (put_them)
				put(o, &heap->findings[i]);
		}
	}
	return n;
}

static void put_totals(struct asc_session *s, struct asc_out *o)
{
	uint64_t chunks = 0, bytes = 0, unwalked = 0, lost = 0;

	for (size_t h = 0; h < s->nheaps; h++) {
		const struct asc_heap *heap = s->heaps[h];
		if (!heap)
			continue;
		lost += heap->nfindings_lost;
		for (size_t i = 0; i < heap->narenas; i++) {
			unwalked += heap->arenas[i].unwalked_bytes;
			for (int k = 0; k < ASC_NSTATES; k++) {
				chunks += heap->arenas[i].counts[k];
				bytes += heap->arenas[i].bytes[k];
			}
		}
	}
	asc_out_field(o, "checked_chunks", "chunks checked", ASC_V_COUNT(chunks));
	asc_out_field(o, "checked_bytes", "in bytes", ASC_V_BYTES(bytes));
	asc_out_field(o, "unwalked_bytes", "not walked", ASC_V_BYTES(unwalked));
	if (lost)
		asc_out_warn(o, "W-FINDINGS", "%llu more findings were only counted",
			     (unsigned long long)lost);
	asc_out_field(o, "findings_lost", NULL, ASC_V_COUNT(lost));
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	int arena;

	ASC_TRY(asc_args_arena(a, s, &arena));
	if (asc_out_is_text(o) && !each(s, o, arena, false)) {
		asc_out_text(o, "Nothing is wrong.");
	} else {
		asc_out_table(o, "findings", NULL, "finding", cols, ASC_ARRAY_SIZE(cols));
		each(s, o, arena, true);
		asc_out_table_end(o);
	}
	put_totals(s, o);
	return NULL;
}

static const struct asc_cmd_opt options[] = {
	{ .name = "arena",
	  .arg = "N",
	  .summary = "only this arena",
	  .complete = ASC_COMPLETE_ARENA },
	{ 0 },
};

const struct asc_cmd asc_cmd_check = {
	.name = "check",
	.args = "[--arena=N]",
	.summary = "every violated invariant of the heap, with address and meaning",
	.help = "Walks every chunk and every list and holds them against the invariants of malloc. "
		"\"corrupt\" breaks one that the allocator relies on; \"suspect\" is possible but "
		"unusual; \"info\" explains. previous (JSON) is the chunk before the damaged one: "
		"the "
		"usual suspect of an overflow.\n"
		"The walk goes on behind the damage; what could not be walked is counted. Exit "
		"status "
		"1 when something could not be read to its end.",
	.opts = options,
	.needs = ASC_NEED_WALK,
	.flags = ASC_CMD_FIELDS,
	.run = run,
};
