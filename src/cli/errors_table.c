// SPDX-License-Identifier: GPL-3.0-or-later
/* What `help E-YAMA` says offline; arenascope-errors(7) is made from the same words. */
#include "cli/cli.h"

const struct asc_error_help asc_error_helps[] = {
	{ 0 },
};
