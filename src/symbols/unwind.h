/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frames by libunwind: one accessor table over any target, so live, captured and core agree. */
#ifndef ASC_SYMBOLS_UNWIND_H
#define ASC_SYMBOLS_UNWIND_H

#include "symbols/modules.h"

struct asc_frame {
	asc_addr pc, sp;
	bool signal_frame; /* the signal trampoline: the next frame is what the signal interrupted */
};

struct asc_stack {
	struct asc_frame *v; /* innermost first; owned */
	size_t n;
	const char *note; /* why it ended early, static text, or NULL */
};

enum { ASC_STACK_DEPTH_MAX = 1024 };

/*
 * What the traces of one moment share: a small page cache and what was found of each module. Valid
 * as long as the target stays as it is.
 */
struct asc_unwinder;
ASC_MUST struct asc_error *asc_unwinder_open(struct asc_modules *m, struct asc_target *t,
					     struct asc_unwinder **ret);
void asc_unwinder_close(struct asc_unwinder *u);
void asc_unwinder_closep(struct asc_unwinder **u);

/*
 * A corrupt stack or CFI ends the trace with a note; errors are for memory and missing registers.
 * @p max_depth 0: ASC_STACK_DEPTH_MAX.
 */
ASC_MUST struct asc_error *asc_unwinder_run(struct asc_unwinder *u, const struct asc_thread *thread,
					    size_t max_depth, struct asc_stack *ret);

/* The three in one, for a single trace. */
ASC_MUST struct asc_error *asc_unwind(struct asc_modules *m, struct asc_target *t,
				      const struct asc_thread *thread, size_t max_depth,
				      struct asc_stack *ret);
void asc_stack_free(struct asc_stack *s);

/*
 * Where to look up the function of frame @p i: a return address may already be in the next
 * function, so one byte before it, but not where the frame was interrupted.
 */
asc_addr asc_frame_lookup_pc(const struct asc_stack *s, size_t i);

#endif
