/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "commands/advice_out.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "commands/ledger_out.h"

void asc_put_findings(struct asc_out *o, const struct asc_advice *a, size_t most)
{
	if (asc_out_is_text(o)) {
		for (size_t i = 0; i < a->nitems && (!most || i < most); i++) {
			const struct asc_advice_item *it = &a->items[i];
			char lead[32];

			snprintf(lead, sizeof(lead), "%3zu ", i + 1);
			asc_put_wrapped(o, lead, "    ", it->text, it->command);
			if (it->fix)
				asc_out_text(o, "    fix: %s", it->fix);
		}
		if (most && a->nitems > most)
			asc_out_text(o, "    and %zu more: advise", a->nitems - most);
		return;
	}
	asc_out_list(o, "findings", NULL);
	for (size_t i = 0; i < a->nitems; i++) {
		const struct asc_advice_item *it = &a->items[i];

		asc_out_object(o, NULL, NULL);
		asc_out_field(o, "rank", NULL, ASC_V_COUNT(i + 1));
		asc_out_field(o, "code", NULL, ASC_V_STR(it->code));
		asc_out_field(o, "bytes", NULL, ASC_V_BYTES(it->bytes));
		asc_out_field(o, "message", NULL, ASC_V_STR(it->text));
		asc_out_field(o, "command", NULL,
			      it->command ? ASC_V_STR(it->command) : ASC_V_NONE);
		asc_out_field(o, "fix", NULL, it->fix ? ASC_V_STR(it->fix) : ASC_V_NONE);
		asc_out_object_end(o);
	}
	asc_out_list_end(o);
}

void asc_put_verdict(struct asc_out *o, const struct asc_advice *a, uint64_t rss)
{
	const bool known = a->verdict != ASC_VERDICT_UNKNOWN;
	char buf[32];

	if (asc_out_is_text(o)) {
		if (!known)
			asc_out_text(o, "Verdict: UNKNOWN, since %s", a->why_unknown);
		else
			asc_out_text(
				o, "Verdict: %s%s%s   %s, %.0f%% of RSS",
				asc_out_color(o, ASC_C_BOLD), asc_verdict_name(a->verdict),
				*asc_out_color(o, ASC_C_BOLD) ? asc_out_color(o, ASC_C_NONE) : "",
				asc_fmt_bytes(buf, a->verdict_bytes, asc_out_opts(o)->exact_bytes),
				rss ? (double)a->verdict_bytes / (double)rss * 100 : 0.0);
		return;
	}
	asc_out_object(o, "verdict", NULL);
	asc_out_field(o, "code", NULL, ASC_V_STR(asc_verdict_key(a->verdict)));
	asc_out_field(o, "name", NULL, ASC_V_STR(asc_verdict_name(a->verdict)));
	asc_out_field(o, "bytes", NULL, ASC_V_BYTES_IF(known, a->verdict_bytes));
	asc_out_field(o, "share_of_rss", NULL,
		      known && rss ? ASC_V_RATIO((double)a->verdict_bytes / (double)rss)
				   : ASC_V_UNKNOWN);
	asc_out_field(o, "dynamic_threshold_grown", NULL, ASC_V_BOOL(a->dynamic_grown));
	asc_out_object_end(o);
}

static void fix_text(struct asc_out *o, const struct asc_fix *f)
{
	const bool exact = asc_out_opts(o)->exact_bytes;
	char buf[32];
	ASC_AUTO(asc_freep) char *set = f->set_to ? asc_escape(f->set_to) : NULL;

	if (f->usable)
		asc_out_text(o, "  GLIBC_TUNABLES=%s=%" PRIu64, f->tunable, f->value);
	if (f->variable)
		asc_out_text(o, "  %s%s=%" PRIu64, f->usable ? "or " : "", f->variable, f->value);
	asc_out_text(o, "      saves up to %s; %s%s", asc_fmt_bytes(buf, f->saves, exact),
		     !f->set_known ? "whether it is set already is unknown"
		     : f->set_to   ? "it is set now to "
				   : "not set now",
		     set ? set : "");
	asc_put_wrapped(o, "      cost: ", "            ", f->cost, NULL);
	if (f->freezes)
		asc_out_text(o,
			     "      setting it ends the dynamic rule: thresholds no longer grow");
}

void asc_put_fixes(struct asc_out *o, const struct asc_advice *a)
{
	if (asc_out_is_text(o)) {
		if (a->nfixes)
			asc_out_title(o, "For good (at the next start)");
		for (size_t i = 0; i < a->nfixes; i++)
			fix_text(o, &a->fixes[i]);
		return;
	}
	asc_out_list(o, "fixes", NULL);
	for (size_t i = 0; i < a->nfixes; i++) {
		const struct asc_fix *f = &a->fixes[i];
		char set[128];

		snprintf(set, sizeof(set), "GLIBC_TUNABLES=%s=%" PRIu64, f->tunable, f->value);
		asc_out_object(o, NULL, NULL);
		asc_out_field(o, "setting", NULL, f->usable ? ASC_V_STR(set) : ASC_V_NONE);
		if (f->variable)
			snprintf(set, sizeof(set), "%s=%" PRIu64, f->variable, f->value);
		asc_out_field(o, "variable", NULL, f->variable ? ASC_V_STR(set) : ASC_V_NONE);
		asc_out_field(o, "already_set", NULL,
			      f->set_known ? ASC_V_BOOL(f->set_to != NULL) : ASC_V_UNKNOWN);
		asc_out_field(o, "set_to", NULL, f->set_to ? ASC_V_STR(f->set_to) : ASC_V_NONE);
		asc_out_field(o, "saves_up_to_bytes", NULL, ASC_V_BYTES(f->saves));
		asc_out_field(o, "cost", NULL, ASC_V_STR(f->cost));
		asc_out_field(o, "ends_dynamic_rule", NULL, ASC_V_BOOL(f->freezes));
		asc_out_object_end(o);
	}
	asc_out_list_end(o);
}
