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
/* @p live: whose head it gets (copied). @p child: lives until after asc_target_close(). */
ASC_MUST struct asc_error *asc_snapshot_open(const struct asc_target *live, pid_t child,
					     struct asc_target **ret);

#endif
