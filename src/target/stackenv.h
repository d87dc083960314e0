/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The environment as the kernel laid it on the initial stack: for targets without /proc. */
#ifndef ASC_TARGET_STACKENV_H
#define ASC_TARGET_STACKENV_H

#include "target/proc.h"

/*
 * The bytes of /proc/PID/environ, "NAME=VALUE" strings each with its NUL, found through the
 * auxiliary vector in the stack. @return false, and @p ret untouched, when they are not there.
 */
bool asc_stackenv_read(struct asc_target *t, struct asc_text *ret);

#endif
