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
/*
 * Names, states, times, signal masks, wait channels; with @p syscalls also the system call each is
 * blocked in. @p text is a scratch buffer. Threads that end meanwhile are left out.
 */
ASC_MUST struct asc_error *asc_threads_read(pid_t pid, bool syscalls, struct asc_text *text,
					    struct asc_thread_list *ret);
/* What was read @p before the stop, with registers and states as of the stop. */
ASC_MUST struct asc_error *asc_threads_stopped(pid_t pid, const struct asc_arch *arch,
					       const struct asc_thread_list *before,
					       const struct asc_stop_slot *slots, size_t n,
					       struct asc_thread_list *ret);

#endif
