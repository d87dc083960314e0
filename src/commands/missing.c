// SPDX-License-Identifier: GPL-3.0-or-later
/* Weak rows, so that the table links while a command's own file is not there. */
#include "commands/cmd.h"

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	(void)s;
	(void)a;
	(void)o;
	return asc_err(ASC_EUNSUPPORTED, "this build does not have the command");
}

#define X(id, text)                                                                                \
	__attribute__((weak)) const struct asc_cmd asc_cmd_##id = {                                \
		.name = text, .args = "", .summary = "", .help = "", .max_args = 9, .run = run,    \
	};
X(report, "report")
X(rss, "rss")
X(arenas, "arenas")
X(arena, "arena")
X(bins, "bins")
X(sizes, "sizes")
X(chunks, "chunks")
X(find, "find")
X(map, "map")
X(threads, "threads")
X(stacks, "stacks")
X(stuck, "stuck")
X(params, "params")
X(check, "check")
X(pins, "pins")
X(advise, "advise")
X(malloc_info, "malloc-info")
X(malloc_stats, "malloc-stats")
X(trim, "trim")
X(reclaim, "reclaim")
X(tune, "tune")
X(symbols, "symbols")
