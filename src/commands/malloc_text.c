// SPDX-License-Identifier: GPL-3.0-or-later
/* What malloc_info(0, stdout) and malloc_stats() would print inside the target, byte for byte. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "commands/cmd.h"

static struct asc_error *put(struct asc_out *o, char *text)
{
	size_t len = strlen(text);

	asc_out_field(o, "text", NULL, ASC_V_STR(text));
	/* asc_out_text() ends the line itself */
	if (len && text[len - 1] == '\n')
		text[len - 1] = 0;
	asc_out_text(o, "%s", text);
	return NULL;
}

static struct asc_error *run_info(struct asc_session *s, const struct asc_args *a,
				  struct asc_out *o)
{
	ASC_AUTO(asc_freep) char *text = NULL;

	(void)a;
	ASC_TRY(asc_malloc_info(asc_session_heap(s), &text));
	if (!asc_session_heap(s)->libc.info_known) {
		asc_out_warn(o, "W-RELEASE",
			     "which release of glibc it is is not known, since no file of it is "
			     "there: it may set blanks otherwise, and count the tops otherwise");
		asc_out_partial(o);
	}
	return put(o, text);
}

static struct asc_error *run_stats(struct asc_session *s, const struct asc_args *a,
				   struct asc_out *o)
{
	ASC_AUTO(asc_freep) char *text = NULL;

	(void)a;
	ASC_TRY(asc_malloc_stats(asc_session_heap(s), &text));
	return put(o, text);
}

const struct asc_cmd asc_cmd_malloc_info = {
	.name = "malloc-info",
	.args = "",
	.summary = "what malloc_info(0, stdout) would print inside the target, byte for byte",
	.help = "Read from outside and without locks: it works on a stuck process and on a core, "
		"where malloc_info itself would wait forever or cannot be called. Its "
		"peculiarities "
		"are kept: sizes are summed with their flag bits, and cached chunks (tcache) count "
		"as "
		"used.",
	.needs = ASC_NEED_LISTS,
	.flags = ASC_CMD_RAW,
	.run = run_info,
};

const struct asc_cmd asc_cmd_malloc_stats = {
	.name = "malloc-stats",
	.args = "",
	.summary = "what malloc_stats() would print inside the target, byte for byte",
	.help = "malloc_stats writes to stderr; this writes the same text to stdout. Its "
		"peculiarities "
		"are kept: its numbers wrap at 4 GiB.",
	.needs = ASC_NEED_LISTS,
	.flags = ASC_CMD_RAW,
	.run = run_stats,
};
