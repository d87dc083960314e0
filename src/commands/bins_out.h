/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Free lists as `bins` and `arena` show them. */
#ifndef ASC_COMMANDS_BINS_OUT_H
#define ASC_COMMANDS_BINS_OUT_H

#include "commands/session.h"
#include "render/render.h"

/* "bins": [...]: every list that is not empty. @p arena -1: all; @p kind NULL: all. @return how many */
size_t asc_put_bins(const struct asc_heap *heap, struct asc_out *o, int arena, const char *kind);

#endif
