/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Linked into the programs of the tests, never into what is installed. */
#include <stdlib.h>

#include "base/fault.h"

const char *asc_test_hook(const char *name)
{
	return getenv(name);
}
