/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Why a process cannot be attached or read: facts measured when it failed, and what to try. */
#ifndef ASC_TARGET_DIAGNOSE_H
#define ASC_TARGET_DIAGNOSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "arenascope/error.h"

/*
 * @p what ("stop", "read the memory of") was tried on @p pid and failed with @p os_errno.
 * @return the error, with id, why and try; never NULL
 */
ASC_MUST struct asc_error *asc_diagnose(pid_t pid, int os_errno, const char *what);
/* States in which nothing needs to be tried: no such process, zombie, kernel thread, a thread's id,
 * ourselves. */
ASC_MUST struct asc_error *asc_diagnose_state(pid_t pid);
/* ASC_EPERM, E-TRACED, if another process traces @p pid. */
ASC_MUST struct asc_error *asc_diagnose_traced(pid_t pid);
/*
 * Is it in a frozen cgroup (docker pause, freezer)? Its memory can be read, but nothing of it runs.
 * @p ret_file: the file that thaws it, cut to @p size.
 */
bool asc_diagnose_frozen(pid_t pid, char *ret_file, size_t size);

enum { ASC_FACT_TEXT = 128 };

/* What decides about a refused attach. Gathered by asc_diagnose; apart from it for tests. */
struct asc_attach_facts {
	pid_t pid;
	const char *what;
	bool have_cap; /* CAP_SYS_PTRACE in our effective set */
	uid_t our_uid, our_gid;
	uint64_t uid[3], gid[3]; /* real, effective, saved of the target */
	bool ids_known;
	bool protected_files; /* /proc/PID/mem belongs to root though the process does not: not
				 dumpable */
	bool more_caps;	      /* it holds capabilities that we do not */
	int yama;	      /* kernel.yama.ptrace_scope, -1: no Yama */
	bool other_userns;
	bool seccomp; /* a filter is on us */
	bool selinux_denies;
	char apparmor[ASC_FACT_TEXT]; /* its profile, "" or "unconfined": none */
};

/* The most likely cause first. @return never NULL */
ASC_MUST struct asc_error *asc_diagnose_facts(const struct asc_attach_facts *f);

#endif
