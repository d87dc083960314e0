/* SPDX-License-Identifier: GPL-3.0-or-later */
/* "offset and size of member M of struct S" from the DWARF of one module. */
#ifndef ASC_SYMBOLS_TYPES_H
#define ASC_SYMBOLS_TYPES_H

#include "symbols/modules.h"

struct asc_types; /* the complete struct DIEs of one module, by name */

/*
 * Index the struct types named in @p names (NULL-terminated). @p near_code is the address of a
 * function in the same source file, or 0: it makes the search fast. ASC_ENOTFOUND: no DWARF.
 */
ASC_MUST struct asc_error *asc_types_open(struct asc_modules *m, struct asc_module *mod,
					  const char *const *names, asc_addr near_code,
					  struct asc_types **ret);
void asc_types_close(struct asc_types *types);
/* @return false if there is no complete struct of that name */
bool asc_type_size(const struct asc_types *types, const char *name, uint64_t *ret);
/* @p size is the member's whole size, @p elem that of one array element (== size if no array). */
bool asc_type_member(const struct asc_types *types, const char *name, const char *member,
		     uint32_t *off, uint32_t *size, uint32_t *elem);

#endif
