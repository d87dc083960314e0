/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A process that is read three times, and nothing of it is copied but what its stop allows:
 *
 *   running  each page that is read leaves a digest of its bytes
 *   stop     pages are taken, and kept, until the time is up: these are fresh
 *   after    what is fresh is read from what was kept, all else from the running process again: a
 *            page that has the digest it had before the stop is steady, any other has changed
 *
 * A steady page is taken to have been in the stop as it was before and after it. That it was another
 * one meanwhile, and the same again, cannot be seen from outside without marking the target's pages.
 */
#ifndef ASC_TARGET_OVERLAY_H
#define ASC_TARGET_OVERLAY_H

#include "arenascope/target.h"
#include "target/ranges.h"

/*
 * Begins as running. @p live is borrowed until the overlay is closed. @p before: which pages it has,
 * borrowed until the stop; no others are read. @p room: bytes of pages that can be kept.
 */
ASC_MUST struct asc_error *asc_overlay_new(struct asc_target *live,
					   const struct asc_residency *before, uint64_t room,
					   struct asc_target **ret);
/* Before a stop that keeps about @p bytes: memory that was never touched would make it longer. */
void asc_overlay_warm(struct asc_target *overlay, uint64_t bytes);
/*
 * The stop: mappings and threads of @p live are the overlay's from now on. @p now: residency of the
 * stop, borrowed until the overlay is closed; NULL: it takes too long to ask for, and is that of before
 * for the time being. Reads after @p deadline_ns (CLOCK_MONOTONIC) fail. What an earlier stop has kept is
 * let go, and the digests are those of the reading after it.
 */
ASC_MUST struct asc_error *asc_overlay_begin(struct asc_target *overlay,
					     const struct asc_residency *now, uint64_t deadline_ns);
/* Take pages of the stop, in this order, until the time or the room is up. */
void asc_overlay_pull(struct asc_target *overlay, const struct asc_range *ranges, size_t n);
/* Was there something that could not be taken any more? */
bool asc_overlay_is_cut(const struct asc_target *overlay);
/*
 * In the first stop: is all that was kept by now, and was read before, as it was then? @p but: where that does
 * not matter, normalised, borrowed; so in asc_overlay_compare().
 */
bool asc_overlay_is_same(struct asc_target *overlay, const asc_range_vec *but);
/* The process runs on: after. @p now: which pages there are now, where that of the stop is not known. */
ASC_MUST struct asc_error *asc_overlay_end(struct asc_target *overlay,
					   const struct asc_residency *now);
/* What was kept of @p range is not used: all of it is to be of one moment. */
void asc_overlay_forget(struct asc_target *overlay, struct asc_range range);
/* Was this page read after the stop, and not in it? @p page: its first address */
bool asc_overlay_is_later(struct asc_target *overlay, asc_addr page);
/* Bytes of pages that were read in the stop. */
uint64_t asc_overlay_fresh_bytes(const struct asc_target *overlay);
/*
 * After it: read again, by two, what was read before it and is not fresh. Ends at the first page that has
 * changed. @p ret_same: none has. @p ret_steady: bytes that were compared and are the same. @p interrupted:
 * may be NULL
 */
ASC_MUST struct asc_error *asc_overlay_compare(struct asc_target *overlay, const asc_range_vec *but,
					       bool (*interrupted)(void), bool *ret_same,
					       uint64_t *ret_steady);
/*
 * Of what was read after the stop and is not fresh: the pages that have changed (malloc'ed, by
 * address, those behind one another as one), and how many bytes have not.
 */
ASC_MUST struct asc_error *asc_overlay_changed(struct asc_target *overlay, struct asc_range **ret,
					       size_t *ret_n, uint64_t *ret_steady);

#endif
