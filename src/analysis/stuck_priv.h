/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by stuck*.c. */
#ifndef ASC_ANALYSIS_STUCK_PRIV_H
#define ASC_ANALYSIS_STUCK_PRIV_H

#include "analysis/stuck.h"

/* An unsigned integer of the look, or else of the process as it runs on. */
bool asc_look_peek(const struct asc_look *look, asc_addr addr, size_t size, uint64_t *ret);
/* Is the frame a function of malloc's? */
bool asc_frame_is_malloc(const struct asc_trace_frame *f);
/* stuck_ring.c: would malloc go round for ever in the large bin that the chunk of @p arena is in? */
bool asc_ring_turns(const struct asc_look *look, int arena, asc_addr chunk);
/* Index of a thread in s->threads, -1: none. */
int asc_stuck_index(const struct asc_stuck *s, pid_t tid);
/*
 * Find the locks that are held or waited for, what they are, and who holds them. @p kinds: what
 * asc_stuck_classify said of each thread.
 */
ASC_MUST struct asc_error *asc_stuck_locks(const struct asc_look *look,
					   const enum asc_lock_kind *kinds, struct asc_stuck *s);

#endif
