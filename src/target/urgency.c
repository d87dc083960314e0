/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/urgency.h"

#include <errno.h>
#include <sys/resource.h>

void asc_urgent(struct asc_urgency *u)
{
	errno = 0;
	u->before = getpriority(PRIO_PROCESS, 0);
	u->raised = !errno && !setpriority(PRIO_PROCESS, 0, PRIO_MIN);
}

void asc_not_urgent(struct asc_urgency *u)
{
	if (u->raised)
		(void)setpriority(PRIO_PROCESS, 0, u->before);
	u->raised = false;
}
