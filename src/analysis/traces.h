/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Stacks of all threads with the names of their functions: what `threads`, `stacks` and `stuck`
 * show. */
#ifndef ASC_ANALYSIS_TRACES_H
#define ASC_ANALYSIS_TRACES_H

#include "glibc/layout.h"
#include "symbols/unwind.h"

struct asc_trace_frame {
	asc_addr pc, sp;
	asc_addr lookup; /* where to look up function and line */
	bool signal_frame;
	bool in_libc;	/* in a module whose malloc is glibc's, or in the vDSO that it called */
	bool in_loader; /* in the dynamic linker */
	const char *function; /* owned by the modules, or NULL */
	uint64_t offset;      /* from the function, or from the module */
	const char *module;   /* path, owned by the modules, or NULL */
};

struct asc_trace {
	pid_t tid;
	struct asc_trace_frame *v; /* innermost first */
	size_t n;
	const char *note; /* static text: why it ended early, or why there is none */
};

struct asc_traces {
	struct asc_trace *v; /* one a thread, in the target's order */
	size_t n;
};

/*
 * Unwind threads of @p t (all, or only @p only_tid if it is not 0). A thread without registers gets
 * an empty trace with a note. @p libcs may be NULL.
 */
ASC_MUST struct asc_error *asc_traces_read(struct asc_target *t, struct asc_modules *m,
					   const struct asc_libc *libcs, size_t nlibcs,
					   pid_t only_tid, size_t max_depth,
					   struct asc_traces **ret);
void asc_traces_free(struct asc_traces *traces);
void asc_traces_freep(struct asc_traces **traces);
/* The trace of a thread, or NULL. */
const struct asc_trace *asc_trace_of(const struct asc_traces *traces, pid_t tid);
/* Same frames and same note? */
bool asc_trace_equal(const struct asc_trace *a, const struct asc_trace *b);
/*
 * Is the function @p name, whatever its linkage decoration ("__GI_x", "x.part.0", "x@GLIBC_2.2")?
 */
bool asc_function_is(const char *function, const char *name);

#endif
