/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A capture of a running process with pages of a later stop laid over it. In the stop, reading a
 * page takes it from the process (and keeps it) until the time is up; afterwards what was kept is
 * of the stop, and everything else is as it was read before.
 */
#ifndef ASC_TARGET_OVERLAY_H
#define ASC_TARGET_OVERLAY_H

#include "arenascope/target.h"

/*
 * @p base: a capture of @p from ranges, @p before: residency when it was made (both taken over,
 * also on errors). @p room: bytes of pages that can be kept; made warm here.
 */
ASC_MUST struct asc_error *asc_overlay_new(struct asc_target *base, struct asc_residency *before,
					   uint64_t room, struct asc_target **ret);
/*
 * @p live is stopped: its mappings and threads are the overlay's from now on. @p now: residency of
 * the stop, borrowed until the overlay is closed. Reads after @p deadline_ns (CLOCK_MONOTONIC) fail.
 */
ASC_MUST struct asc_error *asc_overlay_begin(struct asc_target *overlay, struct asc_target *live,
					     const struct asc_residency *now, uint64_t deadline_ns);
/* Take pages of the stop, in this order, until the time or the room is up. */
void asc_overlay_pull(struct asc_target *overlay, const struct asc_range *ranges, size_t n);
void asc_overlay_set_deadline(struct asc_target *overlay, uint64_t deadline_ns);
/* Was there something that could not be taken any more? */
bool asc_overlay_is_cut(const struct asc_target *overlay);
/* The process runs on. */
void asc_overlay_end(struct asc_target *overlay);
/* Was the page of @p addr read in the stop? */
bool asc_overlay_is_fresh(const struct asc_target *overlay, asc_addr addr);
uint64_t asc_overlay_fresh_bytes(const struct asc_target *overlay);
/* The capture below; @p overlay keeps it. */
struct asc_target *asc_overlay_base(struct asc_target *overlay);

#endif
