/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What calls and the routine share. */
#ifndef ASC_ACT_CALL_H
#define ASC_ACT_CALL_H

#include "act/inject.h"

#if ASC_CAN_INJECT
/* Call a function of the target's libc. @p arena: findings elsewhere do not matter; -1 all. */
ASC_MUST struct asc_error *asc_act_call(const struct asc_act_ctx *c, const char *name, uint64_t a,
					uint64_t b, int arena, struct asc_act_result *ret);
double asc_act_timeout(const struct asc_op *op);
/* T returned without a stop: let it go as any other thread. */
void asc_act_back(struct asc_borrow *b);
/* The call did not return in time: T goes on by itself. */
void asc_act_left(const struct asc_borrow *b, double waited_ms, struct asc_act_result *r);
void asc_act_times(const struct asc_borrow *b, struct asc_act_result *r);
void asc_act_note(struct asc_act_result *r, const char *fmt, ...) ASC_PRINTF(2, 3);
#endif

#endif
