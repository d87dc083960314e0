/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Pages of a stopped process, kept while a reader wants them: headers, parameters and thread-local
 * words are hundreds of small reads of a few pages.
 */
#ifndef ASC_TARGET_READCACHE_H
#define ASC_TARGET_READCACHE_H

#include <stddef.h>

#include "arenascope/target.h"

struct asc_read_cache;

ASC_MUST struct asc_error *asc_read_cache_new(struct asc_read_cache **ret);
void asc_read_cache_free(struct asc_read_cache *c);
/* Is a read of @p len bytes one for the cache? */
bool asc_read_cache_wants(asc_addr addr, size_t len);
/*
 * @p read reads from the front as far as possible. @return bytes, as @p read would
 */
size_t asc_read_cache_get(struct asc_read_cache *c, asc_addr addr, void *buf, size_t len,
			  size_t (*read)(void *arg, asc_addr addr, void *buf, size_t len),
			  void *arg);

#endif
