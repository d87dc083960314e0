/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How a target may be read fast. */
#ifndef ASC_TARGET_READERS_H
#define ASC_TARGET_READERS_H

#include "arenascope/target.h"

/* May two threads read from @p t at once? */
bool asc_target_concurrent(const struct asc_target *t);

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

#endif
