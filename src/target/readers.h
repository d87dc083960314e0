/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How a target may be read fast. */
#ifndef ASC_TARGET_READERS_H
#define ASC_TARGET_READERS_H

#include "arenascope/target.h"

/* May two threads read from @p t at once, by asc_read_beside()? */
bool asc_target_concurrent(const struct asc_target *t);
/* As asc_read_some(), for large reads; may stop short of what that would find. */
size_t asc_read_beside(struct asc_target *t, asc_addr addr, void *buf, size_t len);
/* As asc_read_bulk(), the first @p half pieces by one thread and the others by another, if the target allows it. */
ASC_MUST struct asc_error *asc_read_halves(struct asc_target *t, struct asc_iov *iov, size_t half,
					   size_t n);
/* The same where the pieces are many; not in a rehearsal. */
ASC_MUST struct asc_error *asc_read_pieces(struct asc_target *t, struct asc_iov *iov, size_t n);

/*
 * Pages that may be in memory, for whom it is enough to skip holes: a core tells that without being
 * read. Pages that are read from here on need not be read again by asc_residency_read().
 * @p ret stays as it is where there is no such knowledge.
 */
ASC_MUST struct asc_error *asc_residency_foresee(struct asc_target *t, struct asc_residency **ret);

/*
 * While a live target is stopped, read its pages once for many small reads. To be ended before
 * anything is changed in it; a release ends it, too.
 */
void asc_target_keep_pages(struct asc_target *t, bool on);

/*
 * A rehearsal of what will be done in a stop, with the target still running: from here to
 * asc_target_rehearsed() the pages that are read are noted, at most @p max; beyond that nothing is
 * read any more. In the stop asc_target_fetch() reads them all, and those at @p more. @p res: which
 * pages are in memory, or NULL; no others are read. @p spare: about how many there will be of @p more.
 * @return false: there is no need for it here
 */
bool asc_target_rehearse(struct asc_target *t, size_t max);
void asc_target_rehearsed(struct asc_target *t, size_t spare);
void asc_target_fetch(struct asc_target *t, const struct asc_residency *res, const asc_addr *more,
		      size_t n);
/* What has been read in the rehearsal until now is read first: without residency, hence sparingly. */
void asc_target_mark_early(struct asc_target *t);
void asc_target_fetch_early(struct asc_target *t);
/* Has this byte been fetched in this stop? */
bool asc_target_has(struct asc_target *t, asc_addr addr);

/*
 * Where everything that was read in the rehearsal has been fetched and is what it was then, who reads as the
 * rehearsal did will not need the target: sealed, it answers from what was fetched in the stop and nothing
 * else, also after the release. @return false: it has changed, or not all of it was noted
 */
bool asc_target_seal(struct asc_target *t);
/* @return true: every read was answered; else what was read counts for nothing */
bool asc_target_unseal(struct asc_target *t);

/* No stop will want what was foreseen: its memory is free. */
void asc_target_forget_rehearsal(struct asc_target *t);

#endif
