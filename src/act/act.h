/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Planned changes in a live target. See reference of the mechanism in inject.c. */
#ifndef ASC_ACT_ACT_H
#define ASC_ACT_ACT_H

#include "arenascope/act.h"
#include "arenascope/heap.h"
#include "glibc/layout.h"
#include "symbols/modules.h"

/* What an action works with; all borrowed. */
struct asc_act_ctx {
	struct asc_target *live;
	struct asc_modules *modules;
	const struct asc_libc *lib;
	const struct asc_heap *heap; /* recent model: its findings decide about a refusal */
	struct asc_act_opts opts;
	/* may be NULL: called while waiting, false ends the wait (the call itself goes on) */
	bool (*progress)(void *arg, const char *what, double ms);
	void *arg;
};

/* malloc_trim(pad). ASC_EAGAIN: busy (which arena, which thread); ASC_EUNSUPPORTED: a clear
 * refusal. */
ASC_MUST struct asc_error *asc_act_trim(const struct asc_act_ctx *c, uint64_t pad,
					struct asc_act_result *ret);
/* Every whole free page of one arena (index) or all (-1), under that arena's lock. */
ASC_MUST struct asc_error *asc_act_reclaim(const struct asc_act_ctx *c, int arena,
					   struct asc_act_result *ret);
/* mallopt(param, value). */
ASC_MUST struct asc_error *asc_act_mallopt(const struct asc_act_ctx *c, int param, int value,
					   struct asc_act_result *ret);

#endif
