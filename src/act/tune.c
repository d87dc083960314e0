/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "act/call.h"

#if ASC_CAN_INJECT
/* mallopt locks and consolidates the main arena, and walks no other. */
struct asc_error *asc_act_mallopt(const struct asc_act_ctx *c, int param, int value,
				  struct asc_act_result *ret)
{
	return asc_act_call(c, "mallopt", (uint64_t)(uint32_t)param, (uint64_t)(uint32_t)value, 0,
			    ret);
}
#endif
