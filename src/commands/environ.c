// SPDX-License-Identifier: GPL-3.0-or-later
#include "commands/environ.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/proc.h"
#include "target/stackenv.h"

static bool concerns_malloc(const char *s)
{
	static const char *const names[] = { "GLIBC_TUNABLES=", "MALLOC_", "LD_PRELOAD=" };

	for (size_t i = 0; i < ASC_ARRAY_SIZE(names); i++) {
		if (!strncmp(s, names[i], strlen(names[i])))
			return true;
	}
	return false;
}

static const struct asc_col cols[] = {
	{ "name", "ENVIRONMENT", 0 },
	{ "value", "VALUE", 0 },
};

void asc_put_environ(struct asc_session *s, struct asc_out *o)
{
	struct asc_text text = { 0 };
	pid_t pid = s->live ? asc_target_pid(s->live) : 0;

	if ((!pid || asc_proc_read(pid, 0, "environ", &text)) &&
	    !asc_stackenv_read(s->data, &text)) {
		asc_out_field(o, "environment", "environment", ASC_V_UNKNOWN);
		asc_out_warn(o, "W-ENVIRON", "%s",
			     pid ? "the target's environment could not be read"
				 : "the core does not hold the end of the first stack");
		asc_text_free(&text);
		return;
	}
	bool any = false;
	for (size_t at = 0; at < text.len; at += strlen(text.p + at) + 1)
		any = any || concerns_malloc(text.p + at);
	if (!any && asc_out_is_text(o)) {
		asc_out_text(o, "No GLIBC_TUNABLES, MALLOC_ or LD_PRELOAD in its environment.");
		asc_text_free(&text);
		return;
	}
	asc_out_text(o, "%s", "");
	asc_out_table(o, "environment", NULL, "environment", cols, ASC_ARRAY_SIZE(cols));
	for (size_t at = 0, len; at < text.len; at += len + 1) {
		char *line = text.p + at;
		len = strlen(line);
		char *eq = strchr(line, '=');
		if (!eq || !concerns_malloc(line))
			continue;
		*eq = 0;
		const struct asc_value row[] = { ASC_V_STR(line), ASC_V_STR(eq + 1) };
		asc_out_row(o, row);
	}
	asc_out_table_end(o);
	asc_text_free(&text);
}
