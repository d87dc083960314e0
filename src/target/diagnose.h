/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Why a process cannot be attached or read: facts measured when it failed, and what to try. */
#ifndef ASC_TARGET_DIAGNOSE_H
#define ASC_TARGET_DIAGNOSE_H

#include <stdbool.h>
#include <sys/types.h>

#include "arenascope/error.h"

/*
 * @p what was tried on @p pid and failed with @p os_errno. @return the error, with id, why and try
 */
ASC_MUST struct asc_error *asc_diagnose(pid_t pid, int os_errno, const char *what);
/* States in which nothing needs to be tried: no such process, zombie, kernel thread, a thread's id,
 * ourselves. */
ASC_MUST struct asc_error *asc_diagnose_state(pid_t pid);
/* ASC_EPERM if another process traces @p pid. */
ASC_MUST struct asc_error *asc_diagnose_traced(pid_t pid);

#endif
