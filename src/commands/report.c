/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/advice_out.h"
#include "commands/arenas_out.h"
#include "commands/cmd.h"
#include "commands/ledger_out.h"

enum { ARENAS_SHOWN = 5, FINDINGS_SHOWN = 8 };

/* Narrow: what does not fit a terminal of 80 columns is left to `arenas`. */
static const struct asc_col cols[] = {
	{ NULL, "ARENA", ASC_COL_RIGHT },    { NULL, "MAPPED", ASC_COL_RIGHT },
	{ NULL, "RSS", ASC_COL_RIGHT },	     { NULL, "IN USE", ASC_COL_RIGHT },
	{ NULL, "CACHED", ASC_COL_RIGHT },   { NULL, "TRIMMABLE", ASC_COL_RIGHT },
	{ NULL, "RETAINED", ASC_COL_RIGHT }, { NULL, "FRAGMENTED", ASC_COL_RIGHT },
	{ NULL, "THR", ASC_COL_RIGHT },
};

static int by_resident(const void *a, const void *b, void *ledger)
{
	const struct asc_ledger *l = ledger;
	size_t x = *(const size_t *)a, y = *(const size_t *)b;
	uint64_t rx = l->known ? l->arenas[x].pages.resident : l->arenas[x].mapped;
	uint64_t ry = l->known ? l->arenas[y].pages.resident : l->arenas[y].mapped;

	return rx != ry ? (rx < ry) - (rx > ry) : (x > y) - (x < y);
}

static struct asc_error *narrow_table(struct asc_out *o, const struct asc_session *s)
{
	const struct asc_heap *heap = asc_session_heap(s);
	struct asc_ledger *l = s->ledger;
	ASC_AUTO(asc_freep) size_t *order = calloc(l->narenas + 1, sizeof(*order));

	if (!order)
		return asc_err(ASC_ENOMEM, "order of %zu arenas", l->narenas);
	for (size_t i = 0; i < l->narenas; i++)
		order[i] = i;
	qsort_r(order, l->narenas, sizeof(*order), by_resident, l);
	asc_out_table(o, NULL, NULL, NULL, cols, ASC_ARRAY_SIZE(cols));
	for (size_t i = 0; i < l->narenas && i < ARENAS_SHOWN; i++) {
		const struct asc_arena *a = &heap->arenas[order[i]];
		const struct asc_pages *p = &l->arenas[order[i]].pages;
		const struct asc_value v[] = {
			ASC_V_COUNT(a->index),
			ASC_V_BYTES(l->arenas[order[i]].mapped),
			ASC_V_BYTES_IF(p->known, p->resident),
			ASC_V_BYTES_IF(p->known, p->in_use),
			ASC_V_BYTES_IF(p->known && p->cached_known, p->cached),
			ASC_V_BYTES_IF(p->known, p->trimmable),
			ASC_V_BYTES_IF(p->known, p->retained),
			ASC_V_BYTES_IF(p->known, p->fragmented),
			a->attached_known ? ASC_V_COUNT(a->attached_threads) : ASC_V_UNKNOWN,
		};

		asc_out_row(o, v);
	}
	asc_out_table_end(o);
	return NULL;
}

/* The largest arenas; in JSON all of them. */
static struct asc_error *arena_head(struct asc_out *o, const struct asc_session *s)
{
	enum { WIDE = 100 };
	const struct asc_heap *heap = asc_session_heap(s);
	const unsigned width = asc_out_opts(o)->width;
	const bool narrow = asc_out_is_text(o) && width && width < WIDE;
	const struct asc_arenas_opts opts = { .sort = "rss",
					      .only = ASC_ARENAS_ALL,
					      .text_rows = ARENAS_SHOWN };

	if (!heap)
		return NULL;
	asc_out_title(o, heap->narenas > 1 ? "Arenas" : "Arena");
	if (narrow)
		ASC_TRY(narrow_table(o, s));
	else
		asc_put_arenas(s, o, &opts);
	if (asc_out_opts(o)->format == ASC_TEXT && heap->narenas > ARENAS_SHOWN)
		asc_out_text(o, "  and %zu more: arenas", heap->narenas - ARENAS_SHOWN);
	return NULL;
}

static void advice_freep(struct asc_advice **a)
{
	asc_advice_free(*a);
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *args, struct asc_out *o)
{
	ASC_AUTO(advice_freep) struct asc_advice *advice = NULL;

	(void)args;
	ASC_TRY(asc_session_need(s, ASC_NEED_LEDGER));
	ASC_TRY(asc_advice_get(s, &advice));
	asc_out_begin(o, "report");
	asc_put_bars(o, s);
	asc_put_ledger(o, s);
	ASC_TRY(arena_head(o, s));
	if (!asc_out_is_text(o))
		asc_put_verdict(o, advice, s->ledger->rss);
	if (!asc_out_is_text(o) && asc_session_heap(s) && !asc_session_heap(s)->walked)
		asc_out_warn(o, "W-NOWALK", "live chunks were not counted: arenas counts them");
	if (advice->nitems)
		asc_out_title(o, "Findings");
	asc_put_findings(o, advice, asc_out_opts(o)->format == ASC_TEXT ? FINDINGS_SHOWN : 0);
	asc_warn_ledger(o, s);
	return NULL;
}

const struct asc_cmd asc_cmd_report = {
	.name = "report",
	.args = "",
	.summary = "the default screen: where RSS is, the largest arenas, ranked findings",
	.help = "Where the resident memory is, in bytes that add up to the kernel's Rss:\n"
		"  in use        resident bytes of live chunks, their headers included\n"
		"  malloc_trim   whole pages that malloc_trim(0) would return now\n"
		"  reclaim       other whole free pages: tops of non-main arenas ...\n"
		"  fragmented    free bytes on pages that also hold live data or list headers\n"
		"  cached        chunks in tcaches and fastbins\n"
		"Findings are ranked by the bytes they are about; each names the command to go on "
		"with.",
	.flags = ASC_CMD_FIELDS | ASC_CMD_HEADLINE | ASC_CMD_HEADLINE_ALWAYS,
	.needs = ASC_NEED_TARGET | ASC_NEED_LEDGER,
	.run = run,
};
