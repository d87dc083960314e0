/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/cleanup.h"
#include "commands/advice_out.h"
#include "commands/cmd.h"
#include "commands/ledger_out.h"

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
	asc_out_begin(o, "advise");
	asc_put_verdict(o, advice, s->ledger->rss);
	if (advice->nitems)
		asc_out_title(o, "Because");
	asc_put_findings(o, advice, 0);
	asc_put_fixes(o, advice);
	asc_warn_ledger(o, s);
	return NULL;
}

const struct asc_cmd asc_cmd_advise = {
	.name = "advise",
	.args = "",
	.summary = "the verdict, what brings the memory back now, and which setting for good",
	.help = "The verdict is the largest free share (trimmable, retained, fragmented, cached) "
		"when it\n"
		"is at least a quarter of RSS, else the largest share of all. It is UNKNOWN where "
		"what\n"
		"could not be found out, pages in memory or tcaches, would decide. Every sentence "
		"carries the\n"
		"number behind it. Settings: the tunable and the older variable, whether it is "
		"set\n"
		"already, what it would save at most, what it costs, and whether setting it ends "
		"the\n"
		"dynamic rule (any of mmap_threshold, trim_threshold, top_pad, mmap_max does).",
	.needs = ASC_NEED_TARGET | ASC_NEED_LEDGER,
	.flags = ASC_CMD_FIELDS,
	.run = run,
};
