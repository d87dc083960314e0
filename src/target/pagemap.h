/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Residency of a live process, from the kernel. */
#ifndef ASC_TARGET_PAGEMAP_H
#define ASC_TARGET_PAGEMAP_H

#include "arenascope/target.h"

struct asc_pagemap;

/*
 * Open what is needed, while the target runs. Never an error for what the kernel refuses to tell:
 * then the residency will be UNKNOWN, with the reason.
 */
ASC_MUST struct asc_error *asc_pagemap_open(pid_t pid, pid_t tid, struct asc_pagemap **ret);
void asc_pagemap_close(struct asc_pagemap *p);
ASC_MUST struct asc_error *asc_pagemap_residency(struct asc_pagemap *p, const struct asc_maps *maps,
						 struct asc_residency **ret);
/* The same of some mappings alone: @p maps lacks others, whose page tables are not looked at. */
ASC_MUST struct asc_error *asc_pagemap_residency_part(struct asc_pagemap *p,
						      const struct asc_maps *maps,
						      struct asc_residency **ret);
/* Pretend that the kernel has no PAGEMAP_SCAN (tests). */
void asc_pagemap_set_no_scan(struct asc_pagemap *p);
/* The same for a live target. */
void asc_live_set_no_scan(struct asc_target *live);

#endif
