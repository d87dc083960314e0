/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "glibc/layout.h"
struct asc_error *asc_libc_scan(struct asc_modules *m, struct asc_target *t, struct asc_module *mod, struct asc_libc *lib)
{
	(void)m; (void)t; (void)lib;
	return asc_err(ASC_ENOSYM, "no symbols for %s", mod->path);
}
