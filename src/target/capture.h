/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A capture is a target: bytes copied out of a live one while it was stopped, with its maps,
 * threads and auxv. It stays valid after the live target runs on, changes or exits.
 */
#ifndef ASC_TARGET_CAPTURE_H
#define ASC_TARGET_CAPTURE_H

#include "arenascope/target.h"

/*
 * Copy @p ranges (any order, may overlap) of the stopped @p from. Pages that @p res says are neither
 * present nor swapped are not read (reading them would grow the target's page tables): they read as
 * zeros from the capture. Pages that cannot be read (guard pages) stay absent: reading them is
 * ASC_EFAULT. @p res may be NULL or UNKNOWN: then everything is read.
 *
 * @p max_bytes bounds the copy (0: no bound), ASC_ENOMEM with the estimate in its text beyond it.
 * @return NULL, ASC_ENOMEM, ASC_EAGAIN (the target went away)
 */
ASC_MUST struct asc_error *asc_capture(struct asc_target *from, const struct asc_residency *res,
				       const struct asc_range *ranges, size_t n, uint64_t max_bytes,
				       struct asc_target **ret);

/*
 * A warm buffer, made before the stop: page faults are then not part of the pause. asc_capture_into()
 * takes it over (and clears @p buf) if it is large enough, else makes one of its own.
 */
struct asc_capture_buf;
ASC_MUST struct asc_error *asc_capture_buf_new(uint64_t bytes, struct asc_capture_buf **ret);
void asc_capture_buf_free(struct asc_capture_buf *buf);
ASC_MUST struct asc_error *asc_capture_into(struct asc_target *from,
					    const struct asc_residency *res,
					    const struct asc_range *ranges, size_t n,
					    uint64_t max_bytes, struct asc_capture_buf **buf,
					    struct asc_target **ret);
/* What does not live in memory (maps, threads, auxv, name) into the empty head of another target. */
ASC_MUST struct asc_error *asc_capture_head(const struct asc_target *from, struct asc_target *to);
/* Bytes copied. */
uint64_t asc_capture_bytes(const struct asc_target *capture);
/*
 * Read the file-backed, never-written part (text, rodata, unwind tables) from @p live on demand, while
 * @p live is open: what is not in the capture and lies in a read-only file mapping. NULL: no longer.
 */
void asc_capture_set_backing(struct asc_target *capture, struct asc_target *live);

#endif
