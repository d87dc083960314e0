/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/advice_out.h"
#include "commands/arenas_out.h"
#include "commands/cmd.h"
#include "commands/ledger_out.h"

enum { ARENAS_SHOWN = 5, FINDINGS_SHOWN = 8 };

/* Seconds since the process was started. @return false if that is not known */
static bool uptime(const struct asc_session *s, uint64_t *ret)
{
	ASC_AUTO(asc_freep) char *path = NULL, *text = NULL;
	ASC_AUTO(asc_fclosep) FILE *f = NULL;
	struct timespec now;
	unsigned long long start;
	size_t cap = 0;
	const char *end;
	long hz = sysconf(_SC_CLK_TCK);

	if (!s->live || hz <= 0 || clock_gettime(CLOCK_BOOTTIME, &now))
		return false;
	if (asprintf(&path, "/proc/%d/stat", (int)asc_target_pid(s->live)) < 0) {
		path = NULL;
		return false;
	}
	f = fopen(path, "re");
	if (!f || getdelim(&text, &cap, EOF, f) <= 0)
		return false;
	end = strrchr(text, ')'); /* the name may hold anything */
	if (!end ||
	    sscanf(end + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
		   "%*d %llu",
		   &start) != 1)
		return false;
	*ret = (uint64_t)now.tv_sec - asc_min(start / (uint64_t)hz, (uint64_t)now.tv_sec);
	return true;
}

/* Who it is, how it was read. */
static void first_line(struct asc_out *o, const struct asc_session *s)
{
	const struct asc_heap *heap = asc_session_heap(s);
	ASC_AUTO(asc_freep) char *name = asc_escape(asc_target_name(s->data));
	char up[64] = "", libc[96] = "", arenas[64] = "";
	size_t threads, heaps = 0;
	uint64_t t;

	asc_target_threads(s->data, &threads);
	if (uptime(s, &t)) {
		unsigned long long days = t / 86400, hours = t / 3600 % 24, minutes = t / 60 % 60;

		if (days)
			snprintf(up, sizeof(up), "   up %llud %02llu:%02llu", days, hours, minutes);
		else
			snprintf(up, sizeof(up), "   up %llu:%02llu:%02llu", hours, minutes,
				 (unsigned long long)t % 60);
	}
	for (size_t i = 0; heap && i < heap->narenas; i++)
		heaps += heap->arenas[i].nregions;
	if (heap) {
		snprintf(libc, sizeof(libc), "   glibc %s (symbols: %s)", heap->libc.version,
			 heap->libc.layout ? heap->libc.layout : "?");
		snprintf(arenas, sizeof(arenas), "   %zu arena%s, %zu heap%s", heap->narenas,
			 heap->narenas == 1 ? "" : "s", heaps, heaps == 1 ? "" : "s");
	}
	asc_out_text(o, "%s%s%s  %s %d   %zu thread%s%s%s%s", asc_out_color(o, ASC_C_BOLD),
		     name ? name : "?", asc_out_color(o, ASC_C_NONE),
		     s->live ? "pid" : "core of pid", (int)asc_target_pid(s->data), threads,
		     threads == 1 ? "" : "s", up, libc, arenas);
}

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
	first_line(o, s);
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
	.flags = ASC_CMD_HEADLINE | ASC_CMD_HEADLINE_ALWAYS,
	.needs = ASC_NEED_TARGET | ASC_NEED_LEDGER,
	.run = run,
};
