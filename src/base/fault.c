/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/fault.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

unsigned asc_fault_number(const char *name)
{
#ifdef ASC_FAULTS
	const char *want = getenv("ARENASCOPE_FAULT");
	size_t len = strlen(name);
	uint64_t n;

	if (want && !strncmp(want, name, len) && want[len] == ':' &&
	    asc_parse_u64(want + len + 1, &n) && n <= 100000)
		return (unsigned)n;
#else
	(void)name;
#endif
	return 0;
}

void asc_fault(const char *name, unsigned n)
{
	if (n && asc_fault_number(name) == n)
		raise(SIGKILL);
}
