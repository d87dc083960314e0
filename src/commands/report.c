/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/cleanup.h"
#include "commands/advice_out.h"
#include "commands/arenas_out.h"
#include "commands/cmd.h"
#include "commands/ledger_out.h"

enum { ARENAS_SHOWN = 5, FINDINGS_SHOWN = 8 };

/* The largest arenas; in JSON all of them. */
static void arena_head(struct asc_out *o, const struct asc_session *s)
{
	const struct asc_heap *heap = asc_session_heap(s);
	const struct asc_arenas_opts opts = { .sort = "rss",
					      .only = ASC_ARENAS_ALL,
					      .text_rows = ARENAS_SHOWN };

	if (!heap)
		return;
	asc_out_text(o, heap->narenas > 1 ? "Arenas" : "Arena");
	asc_put_arenas(s, o, &opts);
	if (heap->narenas > ARENAS_SHOWN)
		asc_out_text(o, "  and %zu more: arenas", heap->narenas - ARENAS_SHOWN);
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
	arena_head(o, s);
	if (!asc_out_is_text(o))
		asc_put_verdict(o, advice, s->ledger->rss);
	if (advice->nitems)
		asc_out_text(o, "Findings");
	asc_put_findings(o, advice, FINDINGS_SHOWN);
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
	.needs = ASC_NEED_TARGET | ASC_NEED_LEDGER,
	.run = run,
};
