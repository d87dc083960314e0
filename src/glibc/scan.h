/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by the scans of a stripped file, of memory, and of thread-local storage. */
#ifndef ASC_GLIBC_SCAN_H
#define ASC_GLIBC_SCAN_H

#include "glibc/layout.h"
#include "symbols/elffile.h"

/* Layouts of the built-in table that fit the target's CPU. @return false: no more */
bool asc_layout_row(const struct asc_arch *arch, size_t i, struct asc_layout *ret,
		    unsigned *ret_first, unsigned *ret_last);

/* Members lie inside their structs, arrays are as long as in any release: a debug file may lie. */
bool asc_layout_sane(const struct asc_layout *l);
/* layout_cache.c: layouts from DWARF, by build-id, in the user's cache. */
bool asc_layout_cache_get(const struct asc_arch *arch, const char *build_id,
			  struct asc_layout *ret);
void asc_layout_cache_put(const struct asc_arch *arch, const char *build_id,
			  const struct asc_layout *l);

/* scanfile.c: main_arena and mp_ in the file's own data. */
ASC_MUST struct asc_error *asc_scan_file(struct asc_modules *m, struct asc_target *t,
					 struct asc_elf *e, struct asc_libc *lib);
/* scanmem.c: main_arena and mp_ in the memory of @p lib's module, or anywhere. */
ASC_MUST struct asc_error *asc_scan_memory(struct asc_target *t, struct asc_libc *lib);
/* scantls.c: thread_arena and tcache in the threads' TLS; refines the release. */
ASC_MUST struct asc_error *asc_scan_tls(struct asc_modules *m, struct asc_target *t,
					struct asc_libc *lib);

/* tcache.c: does its thread pointer lead to a control block of libc's? */
bool asc_thread_is_libcs(struct asc_target *t, const struct asc_thread *thread);

/* verify.c: one struct at a time. */
ASC_MUST struct asc_error *asc_verify_arena(struct asc_target *t, const struct asc_libc *lib);
ASC_MUST struct asc_error *asc_verify_par(struct asc_target *t, const struct asc_libc *lib);
/* verify_shape.c: member by member, for shapes that no debug file of this build confirms; without
 * mp (0) what the arenas say. */
ASC_MUST struct asc_error *asc_verify_shape(struct asc_target *t, const struct asc_libc *lib);

#endif
