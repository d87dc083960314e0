/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/fault.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* tests/hooks.c is the other one */
__attribute__((weak)) const char *asc_test_hook(const char *name)
{
	(void)name;
	return NULL;
}

unsigned asc_fault_number(const char *name)
{
	const char *want = asc_test_hook("ARENASCOPE_FAULT");
	size_t len = strlen(name);
	uint64_t n;

	if (want && !strncmp(want, name, len) && want[len] == ':' &&
	    asc_parse_u64(want + len + 1, &n) && n <= 100000)
		return (unsigned)n;
	return 0;
}

void asc_fault(const char *name, unsigned n)
{
	if (n && asc_fault_number(name) == n)
		raise(SIGKILL);
}
