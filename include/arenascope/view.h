/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The short way into the library: open a live process or a core, read its heap once, look at it.
 *
 *	struct asc_view_opts opts = { .pid = 4242 };
 *	struct asc_view *view = NULL;
 *	struct asc_error *err = asc_view_open(&opts, &view);
 *	if (!err)
 *		err = asc_view_read(view, ASC_VIEW_LISTS);
 *	if (!err)
 *		printf("%llu bytes\n", (unsigned long long)asc_view_ledger(view)->malloc_pages.retained);
 *	asc_error_free(err);
 *	asc_view_close(view);
 *
 * The target is stopped only inside asc_view_read(), and runs on before that returns. It is never
 * written to. One thread at a time per view.
 */
#ifndef ARENASCOPE_VIEW_H
#define ARENASCOPE_VIEW_H

#include "arenascope/heap.h"
#include "arenascope/ledger.h"
#include "arenascope/target.h"

#ifdef __cplusplus
extern "C" {
#endif

struct asc_view;

/** Start from zeros. Strings are borrowed until the view is closed. */
struct asc_view_opts {
	pid_t pid;	       /**< a live process; or 0 */
	const char *core;      /**< a core file, if pid is 0 */
	const char *exe;       /**< executable of the core, or NULL: found */
	const char *root;      /**< where the target's files are, or NULL */
	const char *debug_dir; /**< look for debug files here first, or NULL */
	const char *libc;      /**< the target's libc; checked by build-id; or NULL: found */
	unsigned max_pause_ms; /**< refuse what would stop the target longer; 0: 500 */
	uint64_t max_memory;   /**< bytes that may be taken for copies and the model; 0: no bound */
	bool no_stop;	       /**< never stop it; what is read may not fit together */
	uint64_t reserved[4];  /**< 0 */
};

enum asc_view_depth {
	ASC_VIEW_LISTS, /**< free lists, tops, residency, the ledger: the shorter stop */
	ASC_VIEW_WALK,	/**< every chunk too: counts of live ones, asc_chunk_next() */
};

/**
 * Open a target and find its libc; nothing is stopped, nothing of the heap is read yet. No server
 * is ever asked for symbols.
 *
 * @return NULL, or as asc_live_open() and asc_core_open(); ASC_EUSAGE without a target
 */
ASC_API ASC_MUST struct asc_error *asc_view_open(const struct asc_view_opts *opts,
						 struct asc_view **ret);

/**
 * Read the heap, all of one moment. What an earlier read has given is gone then, also on failure.
 * Corruption is no error: see asc_view_heap()->findings.
 *
 * @return NULL; ASC_EUNSUPPORTED (no glibc malloc), ASC_ENOSYM (its libc cannot be read), ASC_EAGAIN
 *         (over max_pause_ms, or the target went away), ASC_ENOMEM
 */
ASC_API ASC_MUST struct asc_error *asc_view_read(struct asc_view *v, enum asc_view_depth depth);

/** The model of the first libc's malloc, or NULL before a read. Owned by the view. */
ASC_API const struct asc_heap *asc_view_heap(const struct asc_view *v);
/** Every resident page of the process by cause, or NULL before a read. Owned by the view. */
ASC_API const struct asc_ledger *asc_view_ledger(const struct asc_view *v);
/** Which pages were in memory, or NULL before a read. Owned by the view. */
ASC_API const struct asc_residency *asc_view_residency(const struct asc_view *v);
/** What the heap was read from: the core, the process, or the copy of it. Owned by the view. */
ASC_API struct asc_target *asc_view_target(struct asc_view *v);
/** The last stop; all 0 for a core or with no_stop. */
ASC_API void asc_view_pause(const struct asc_view *v, struct asc_pause *ret);
/** malloc was in the middle of an operation at every stop: some arenas may not add up. */
ASC_API bool asc_view_busy(const struct asc_view *v);

/** NULL is fine. */
ASC_API void asc_view_close(struct asc_view *v);

#ifdef __cplusplus
}
#endif
#endif
