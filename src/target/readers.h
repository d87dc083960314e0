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

#endif
