/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Numbered fault points: ARENASCOPE_FAULT=NAME:N ends the process that comes to point N of NAME by
 * SIGKILL, as an out-of-memory killer would. Tests walk N = 1, 2, 3 ... and look at the target.
 * Only programs that are linked with tests/hooks.c look at the environment for it.
 */
#ifndef ASC_BASE_FAULT_H
#define ASC_BASE_FAULT_H

/* What a test asks for by this environment variable; NULL in everything that is installed. */
const char *asc_test_hook(const char *name);
/* The N asked for by ARENASCOPE_FAULT=NAME:N, or 0. */
unsigned asc_fault_number(const char *name);
/* Die here if point @p n of @p name was asked for. */
void asc_fault(const char *name, unsigned n);

#endif
