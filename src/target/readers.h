/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How a target may be read fast. */
#ifndef ASC_TARGET_READERS_H
#define ASC_TARGET_READERS_H

#include "arenascope/target.h"

/* May two threads read from @p t at once? */
bool asc_target_concurrent(const struct asc_target *t);

#endif
