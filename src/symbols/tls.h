/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Addresses of thread-local variables without libthread_db (reference: initial-exec TLS of libc). */
#ifndef ASC_SYMBOLS_TLS_H
#define ASC_SYMBOLS_TLS_H

#include "symbols/modules.h"

/*
 * Static TLS offset of @p mod: for variant II the block is at tp - offset, for I at tp + offset.
 * @p ret_how says how it was found ("relocation", "link_map", "static", "dtv").
 */
ASC_MUST struct asc_error *asc_tls_offset(struct asc_modules *m, struct asc_module *mod,
					  uint64_t *ret, const char **ret_how);
/* Address of the TLS block offset @p sym_off in a thread with thread pointer @p tp. */
asc_addr asc_tls_addr(const struct asc_arch *arch, asc_addr tp, uint64_t tls_offset,
		      uint64_t sym_off);

#endif
