/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Threads of a live process: what /proc says while they run, and what the stopper saw. */
#ifndef ASC_TARGET_LIVE_THREADS_H
#define ASC_TARGET_LIVE_THREADS_H

#include "arch/arch.h"
#include "target/proc.h"
#include "target/stopper.h"

struct asc_thread_list {
	struct asc_thread *v; /* ascending tid */
	size_t n;
};

void asc_threads_free(struct asc_thread_list *list);
/* What to read of each thread besides name, state and times: a file each, for a thousand threads. */
enum asc_threads_what {
	ASC_THREADS_WCHAN = 1,
	ASC_THREADS_SYSCALL = 2, /* the system call it is blocked in, with pc and sp */
};
/* @p task_fd: /proc/PID/task. @p text is a scratch buffer. Threads that end meanwhile are left out. */
ASC_MUST struct asc_error *asc_threads_read(pid_t pid, int task_fd, const struct asc_arch *arch,
					    unsigned what, struct asc_text *text,
					    struct asc_thread_list *ret);
/* What was read @p before the stop, with registers and states as of the stop. */
ASC_MUST struct asc_error *asc_threads_stopped(int task_fd, const struct asc_arch *arch,
					       const struct asc_thread_list *before,
					       const struct asc_stop_slot *slots, size_t n,
					       struct asc_thread_list *ret);

#endif
