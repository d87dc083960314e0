/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Work in parts that do not concern one another, done by two threads. */
#ifndef ASC_BASE_PARTS_H
#define ASC_BASE_PARTS_H

#include <stdbool.h>
#include <stddef.h>

#include "arenascope/error.h"

/* @p ret: array of what becomes of the parts; only that of @p part may be changed. */
typedef struct asc_error *(*asc_part_fn)(const void *in, void *ret, size_t part);

/*
 * @p fn of each part of [0, n), by this thread and, if @p two, by a second one: without that one it is
 * the same, but slower. Who wants sums adds them up afterwards, in order.
 *
 * @return NULL, or the error of the lowest part that failed; then others were not begun
 */
ASC_MUST struct asc_error *asc_parts_do(size_t n, bool two, asc_part_fn fn, const void *in,
					void *ret);

#endif
