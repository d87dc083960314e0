/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the table of main options, their values and the parser share. */
#ifndef ASC_CLI_OPTIONS_H
#define ASC_CLI_OPTIONS_H

#include "cli/cli.h"

/* Options without a letter. */
enum {
	KEY_ROOT = 256,
	KEY_DEBUG_DIR,
	KEY_LIBC,
	KEY_DEBUGINFOD,
	KEY_SYMBOLS_TIMEOUT,
	KEY_MAX_PAUSE,
	KEY_CAPTURE,
	KEY_NO_STOP,
	KEY_HOLD,
	KEY_WAIT,
	KEY_FORCE,
	KEY_MAX_MEMORY,
	KEY_EX,
	KEY_KEEP_GOING,
	KEY_JSONL,
	KEY_BYTES,
	KEY_COLOR,
	KEY_ASCII,
	KEY_NO_PAGER,
	KEY_PROGRESS,
	KEY_USAGE,
};

/* The row of @p key, or NULL. */
const struct asc_main_opt *asc_main_opt_of(int key);

#endif
