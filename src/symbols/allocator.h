/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whose malloc the program really calls. */
#ifndef ASC_SYMBOLS_ALLOCATOR_H
#define ASC_SYMBOLS_ALLOCATOR_H

#include "symbols/modules.h"

/*
 * "glibc", "jemalloc", "tcmalloc", "mimalloc", "musl", "ASan", "valgrind", "malloc_debug"
 * (MALLOC_CHECK_ by libc_malloc_debug.so), "Go" for its runtime, or "another" for a library that nobody knows: static
 * text. NULL: it cannot be told.
 *
 * @param ret  the module that provides it, or NULL; may be NULL itself
 */
const char *asc_allocator_detect(struct asc_modules *m, struct asc_target *t,
				 struct asc_module **ret);

#endif
