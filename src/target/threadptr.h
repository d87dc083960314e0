/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The thread pointer of threads that were not stopped, found by what it points to. */
#ifndef ASC_TARGET_THREADPTR_H
#define ASC_TARGET_THREADPTR_H

#include "target/target.h"

/*
 * Fill in `regs.tp` of threads whose other registers came from /proc. On x86 it points to the
 * thread's own descriptor, which begins with that very address, has it again two words on, and the
 * thread id behind. Of a thread whose registers nobody could tell it is looked for at the ends of
 * what is mapped. Where it is not found it stays unknown. @p res: which pages are in memory, no others
 * are read, and the ends are not; or NULL.
 */
void asc_find_thread_pointers(struct asc_target *t, const struct asc_residency *res);

#endif
