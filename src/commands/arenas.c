// SPDX-License-Identifier: GPL-3.0-or-later
#include <stdint.h>

#include "base/num.h"
#include "commands/arenas_out.h"
#include "commands/cmd.h"

static const struct asc_col heap_cols[] = {
	{ "arena", "ARENA", ASC_COL_RIGHT },
	{ "address", "HEAP", 0 },
	{ "size_bytes", "SIZE", ASC_COL_RIGHT },
	{ "resident_bytes", "RSS", ASC_COL_RIGHT },
	{ "in_use_bytes", "IN USE", ASC_COL_RIGHT },
	{ "cached_bytes", "CACHED", ASC_COL_RIGHT },
	{ "trimmable_bytes", "TRIMMABLE", ASC_COL_RIGHT },
	{ "retained_bytes", "RETAINED", ASC_COL_RIGHT },
	{ "fragmented_bytes", "FRAGMENTED", ASC_COL_RIGHT },
};

static void put_heap(struct asc_out *o, const struct asc_arena *a, const struct asc_region *r,
		     const struct asc_pages *p)
{
	bool k = p && p->known;
	const struct asc_value v[] = {
		ASC_V_COUNT(a->index),
		ASC_V_ADDR(r->start),
		ASC_V_BYTES(r->end - r->start),
		ASC_V_BYTES_IF(k, p->resident),
		ASC_V_BYTES_IF(k, p->in_use),
		ASC_V_BYTES_IF(k && p->cached_known, p->cached),
		ASC_V_BYTES_IF(k, p->trimmable),
		ASC_V_BYTES_IF(k, p->retained),
		ASC_V_BYTES_IF(k, p->fragmented),
	};

	asc_out_row(o, v);
}

/* JSON has them within their arenas anyway. */
static void put_heaps(struct asc_session *s, struct asc_out *o)
{
	enum asc_format f = asc_out_opts(o)->format;
	const struct asc_heap *heap = asc_session_heap(s);

	if (f == ASC_JSON || f == ASC_JSONL)
		return;
	asc_out_text(o, "%s", "");
	asc_out_table(o, "heaps", NULL, "heap", heap_cols, ASC_ARRAY_SIZE(heap_cols));
	for (size_t i = 0; i < heap->narenas; i++) {
		const struct asc_arena *a = &heap->arenas[i];
		const struct asc_arena_ledger *al =
			s->ledger && i < s->ledger->narenas ? &s->ledger->arenas[i] : NULL;
		for (size_t k = 0; k < a->nregions; k++)
			put_heap(o, a, &a->regions[k],
				 al && k < al->nregions ? &al->regions[k].pages : NULL);
	}
	asc_out_table_end(o);
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	const struct asc_arenas_opts opts = {
		.sort = asc_args_get(a, "sort"),
		.only = ASC_ARENAS_ALL,
		.text_rows = SIZE_MAX,
	};

	if (!asc_session_heap(s)->walked && !asc_out_is_text(o))
		asc_out_warn(o, "W-NOWALK",
			     "live chunks were not counted: the copy would not fit --max-pause");
	asc_put_arenas(s, o, &opts);
	if (asc_args_has(a, "heaps"))
		put_heaps(s, o);
	return NULL;
}

static const struct asc_cmd_opt options[] = {
	{ .name = "heaps", .summary = "also one row a heap" },
	{ .name = "sort",
	  .arg = "COL",
	  .summary = "largest first by this column",
	  .complete = ASC_COMPLETE_CHOICE,
	  .choices = "index|mapped|rss|in_use|cached|trimmable|retained|fragmented|top|heaps|"
		     "threads" },
	{ 0 },
};

const struct asc_cmd asc_cmd_arenas = {
	.name = "arenas",
	.args = "[--heaps] [--sort=COL]",
	.summary = "one row an arena: mapped, resident, in use, free, and why it stays",
	.help = "MAPPED is system_mem, what the arena has from the system. RSS is what of it is in "
		"memory, and is the sum of what follows:\n"
		"IN USE: live chunks, headers included. CACHED: tcache and fastbins. TRIMMABLE: "
		"whole "
		"pages that malloc_trim(0) would return now. RETAINED: whole free pages that it "
		"does "
		"not touch and that reclaim returns. FRAGMENTED: free bytes on pages that also "
		"hold "
		"live data. Headers and page rounding (metadata_bytes) are in JSON only.\n"
		"TOP is the size of the top chunk, resident or not. THR: threads attached to the "
		"arena. LOCK: \"held\" is 1, \"waited for\" is 2.\n"
		"Arenas are numbered as malloc_info numbers them; 0 is the main arena.",
	.opts = options,
	.flags = ASC_CMD_HEADLINE,
	.needs = ASC_NEED_COUNTS | ASC_NEED_LEDGER,
	.run = run,
};
