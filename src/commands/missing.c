// SPDX-License-Identifier: GPL-3.0-or-later
/* A weak row, so that the table links while a command's own file is not there. */
#include "commands/cmd.h"

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	(void)s;
	(void)a;
	(void)o;
	return asc_err(ASC_EUNSUPPORTED, "this build does not have the command");
}

__attribute__((weak)) const struct asc_cmd asc_cmd_pins = {
	.name = "pins",
	.args = "",
	.summary = "",
	.help = "",
	.max_args = 9,
	.run = run,
};
