/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which pages will a reader want once the process is stopped? Those that it wants of the running one.
 * They are noted in a rehearsal and read in the stop in a few large requests instead of one system
 * call each. Only which pages are read is foreseen: what is in them is of the stop.
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
/* Memory for all that was noted and @p spare pages, made warm. */
ASC_MUST struct asc_error *asc_page_store_warm(struct asc_page_store *s, size_t spare);

/*
 * Read what was noted and not read yet. @p res: which pages are in memory, others are not read; or NULL
 */
ASC_MUST struct asc_error *asc_page_store_load(struct asc_page_store *s,
					       const struct asc_residency *res,
					       struct asc_target *t);
/* What was read is of the past; what was noted stays. */
void asc_page_store_drop(struct asc_page_store *s);

/* @return true: all @p len bytes are here, and copied */
bool asc_page_store_get(const struct asc_page_store *s, asc_addr addr, void *buf, size_t len);

#endif
