/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names of C++ and Rust symbols as people write them. */
#ifndef ASC_SYMBOLS_DEMANGLE_H
#define ASC_SYMBOLS_DEMANGLE_H

#include "symbols/modules.h"

/* Owned text; NULL: not a mangled name, or one that cannot be read. */
char *asc_demangle(struct asc_modules *m, const char *name);
/* Rust's legacy (_ZN..17h<hash>E) and v0 (_R...) names, without the hash. Owned; NULL: not one. */
char *asc_demangle_rust(const char *name);
void asc_demangle_close(struct asc_modules *m);

#endif
