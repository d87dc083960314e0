/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Somebody waits for this thread: as much of a CPU as we may have, for a few milliseconds. */
#ifndef ASC_TARGET_URGENCY_H
#define ASC_TARGET_URGENCY_H

#include <stdbool.h>

struct asc_urgency {
	bool raised;
	int before; /* its nice value */
};

/* For the calling thread, and those that it makes from here on; without the right to do so nothing happens. */
void asc_urgent(struct asc_urgency *u);
/* Again as it was; may be called twice. */
void asc_not_urgent(struct asc_urgency *u);

#endif
