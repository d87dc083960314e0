/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frames by libunwind: one accessor table over any target, so live, captured and core agree. */
#ifndef ASC_SYMBOLS_UNWIND_H
#define ASC_SYMBOLS_UNWIND_H

#include "symbols/modules.h"

struct asc_frame {
	asc_addr pc, sp;
	bool signal_frame;
};

struct asc_stack {
	struct asc_frame *v; /* innermost first; owned */
	size_t n;
	const char *note; /* why it ended early, static text, or NULL */
};

enum { ASC_STACK_DEPTH_MAX = 1024 };

/* A corrupt stack or CFI ends the trace with a note; errors are for memory and missing registers. */
ASC_MUST struct asc_error *asc_unwind(struct asc_modules *m, struct asc_target *t,
				      const struct asc_thread *thread, size_t max_depth,
				      struct asc_stack *ret);
void asc_stack_free(struct asc_stack *s);

#endif
