/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which pages will a reader want once the process is stopped? Those that it wants of the running one.
 * They are noted in a rehearsal and read in the stop in a few large requests instead of one system
 * call each. Only which pages are read is foreseen: what is in them is of the stop.
 *
 * If all of them are in the stop what they were, a reader who takes the same way as in the rehearsal finds
 * every page here: the target may run on while he reads.
 */
#ifndef ASC_TARGET_PAGESTORE_H
#define ASC_TARGET_PAGESTORE_H

#include <stddef.h>

#include "arenascope/target.h"

struct asc_page_store;

enum { ASC_STORE_PAGE = 4096 };

/* @p max: pages that it may hold */
ASC_MUST struct asc_error *asc_page_store_new(size_t max, struct asc_page_store **ret);
void asc_page_store_free(struct asc_page_store *s);

/* A read of these bytes happened. @return false: it holds as many pages as it may */
bool asc_page_store_note(struct asc_page_store *s, asc_addr addr, size_t len);

/*
 * Read what was noted and not read yet. @p res: which pages are in memory, others are not read; or NULL.
 * @p early: of these only the early ones
 */
ASC_MUST struct asc_error *asc_page_store_load(struct asc_page_store *s,
					       const struct asc_residency *res, bool early,
					       struct asc_target *t);
/* What was noted until now is wanted early. */
void asc_page_store_mark_early(struct asc_page_store *s);
/*
 * End of the rehearsal: what was read is remembered by its digest alone. Memory for it, and for @p spare pages,
 * is made warm.
 */
void asc_page_store_mark(struct asc_page_store *s, size_t spare);
/* Was everything of the rehearsal read again, and is it the same? That foretells what is read, and no more. */
bool asc_page_store_is_same(const struct asc_page_store *s);
/* What was read is of the past; what was noted stays. */
void asc_page_store_drop(struct asc_page_store *s);

/* Is the page of this byte here? */
bool asc_page_store_has(const struct asc_page_store *s, asc_addr addr);
/* @return true: all @p len bytes are here, and copied */
bool asc_page_store_get(const struct asc_page_store *s, asc_addr addr, void *buf, size_t len);

#endif
