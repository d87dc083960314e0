/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What VmFlags of /proc/PID/smaps say of mappings: what madvise cannot release, what a fork leaves out. */
#ifndef ASC_TARGET_VMFLAGS_H
#define ASC_TARGET_VMFLAGS_H

#include <stdio.h>

#include "arenascope/target.h"

struct asc_vmflags {
	struct asc_range *mlocked, *hugetlb; /* by address */
	size_t nmlocked, nhugetlb;
	struct asc_range
		*unforked; /* MADV_DONTFORK, MADV_WIPEONFORK: a child has other pages there */
	size_t nunforked;
	bool known;
};

/*
 * Cheap when nothing is locked and no huge page is in use (VmLck and HugetlbPages of
 * /proc/PID/status are 0): smaps is not read then. Not a live process, or no permission: not known.
 */
ASC_MUST struct asc_error *asc_vmflags_read(const struct asc_target *t, struct asc_vmflags *ret);
/* The same, and smaps is read in any case. */
ASC_MUST struct asc_error *asc_vmflags_read_all(const struct asc_target *t,
						struct asc_vmflags *ret);
/* The text of smaps; for asc_vmflags_read() and tests. */
ASC_MUST struct asc_error *asc_vmflags_parse(FILE *smaps, struct asc_vmflags *ret);
void asc_vmflags_deinit(struct asc_vmflags *v);

#endif
