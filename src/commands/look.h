/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What threads, stacks and stuck share: one look at every thread, and frames as people read them. */
#ifndef ASC_COMMANDS_LOOK_H
#define ASC_COMMANDS_LOOK_H

#include "analysis/stuck.h"
#include "commands/cmd.h"

/*
 * Registers, stacks and, where the program has glibc's malloc, the arenas. Without it @p ret->heap
 * is NULL and a warning says why; threads and stacks work all the same. @p extra: further needs.
 *
 * @param ret_traces  owned by the caller
 */
ASC_MUST struct asc_error *asc_look_take(struct asc_session *s, struct asc_out *o, unsigned extra,
					 pid_t only_tid, size_t depth, struct asc_look *ret,
					 struct asc_traces **ret_traces);

/* "R" for 'R'. */
const char *asc_state_text(char state);
/* "poll+0x4f libc.so.6 poll.c:29" for one frame; owned text, escaped, or NULL without memory. */
char *asc_frame_text(struct asc_modules *m, const struct asc_trace_frame *f, bool with_line);
/* "malloc_consolidate" or "libc.so.6+0x1234" or "0x7f..."; as found: not escaped. */
char *asc_frame_name(const struct asc_trace_frame *f);
/* The last part of a path. */
const char *asc_base_name(const char *path);

#endif
