/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which bytes of a stopped process its stacks are in. */
#ifndef ASC_TARGET_STACKPLAN_H
#define ASC_TARGET_STACKPLAN_H

#include "arenascope/target.h"

/*
 * From a little below each thread's stack pointer upwards, at most @p each_max bytes a thread, to
 * the end of its mapping. What the kernel says is in no page is left out, since reading it would
 * make pages in the target. @p ret is owned by the caller; @p ret_bytes: their sum.
 */
ASC_MUST struct asc_error *asc_stack_ranges(struct asc_target *live, uint64_t each_max,
					    struct asc_range **ret, size_t *ret_n,
					    uint64_t *ret_bytes);

/*
 * Live, opened with no_stop: mark the threads of @p data (itself, or what was captured of it) that
 * have run since asc_target_stop(): what was read of their stacks may be torn. @return how many; if
 * none, everything that was read is of one moment
 */
size_t asc_live_mark_runners(struct asc_target *live, struct asc_target *data);

/*
 * Threads and mappings of a live target as they are while it runs, and the thread pointers of those that
 * sleep: what --no-stop reads instead of stopping it.
 */
ASC_MUST struct asc_error *asc_live_look(struct asc_target *live);

/*
 * Likewise the threads alone, of a target that will be stopped: no page is read but those that are in memory
 * by @p res (NULL: not known).
 */
ASC_MUST struct asc_error *asc_live_look_early(struct asc_target *live,
					       const struct asc_residency *res);

#endif
