/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/diagnose.h"

#include <errno.h>

#include "target/proc.h"

struct asc_error *asc_diagnose(pid_t pid, int os_errno, const char *what)
{
	return asc_err_os(os_errno, "cannot %s process %d", what, pid);
}

struct asc_error *asc_diagnose_state(pid_t pid)
{
	struct asc_proc_stat st;

	if (pid <= 0 || asc_proc_stat(pid, 0, &st))
		return asc_err_id(asc_err(ASC_ENOTARGET, "no process %d", pid), "E-NOPROC");
	return NULL;
}

struct asc_error *asc_diagnose_traced(pid_t pid)
{
	(void)pid;
	return NULL;
}
