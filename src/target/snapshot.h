/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A copy-on-write child of a live process as a target: its memory is the process's memory of the
 * moment when it was made; threads and mappings are those of the process at that moment.
 */
#ifndef ASC_TARGET_SNAPSHOT_H
#define ASC_TARGET_SNAPSHOT_H

#include "target/stopper.h"

/* Everything is stopped by somebody else: read mappings and threads of @p live, as a stop would. */
ASC_MUST struct asc_error *asc_live_take(struct asc_target *live, const struct asc_stop_slot *slots,
					 size_t n);
/* Which pages of @p part, some of its mappings, are in memory. */
ASC_MUST struct asc_error *asc_live_residency_part(struct asc_target *live,
						   const struct asc_maps *part,
						   struct asc_residency **ret);
/* @p live: whose head it gets (copied). @p child: lives until after asc_target_close(). */
ASC_MUST struct asc_error *asc_snapshot_open(const struct asc_target *live, pid_t child,
					     struct asc_target **ret);

/*
 * A child's page tables are a copy of its parent's where memory is private and has no file; of files
 * and shared memory they have nothing, and of what is @p unforked (madvise; sorted) something else. All
 * that, and that alone, is asked of the stopped @p live: it is little, and the stop is short.
 */
ASC_MUST struct asc_error *asc_snapshot_own_pages(struct asc_target *live,
						  const struct asc_range *unforked, size_t n,
						  struct asc_residency **ret);
/* Residency of the moment of the fork: @p own, the rest of the child's tables. */
ASC_MUST struct asc_error *asc_snapshot_residency(struct asc_target *snapshot,
						  const struct asc_range *unforked, size_t n,
						  const struct asc_residency *own,
						  struct asc_residency **ret);

#endif
