/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One thread, as the stopper's helper sees it. Private to stopper_helper.c: code without libc, as that. */
#ifndef ASC_TARGET_STOPPER_THREAD_H
#define ASC_TARGET_STOPPER_THREAD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/ptrace.h>

#include "target/rawsys.h"
#include "target/stopper_area.h"

ASC_BARE static inline long asc_stopper_ptrace(long op, pid_t tid, long addr, void *data)
{
	return asc_raw(SYS_ptrace, op, tid, addr, (long)data, 0);
}

/* State letter of a thread, 0 if it is gone. */
char asc_stopper_task_state(const struct asc_stop_area *a, pid_t tid);
/* Does it wait for a read-write semaphore ("rwsem_down_write_slowpath"), as the mmap lock is one? */
bool asc_stopper_waits_for_lock(const struct asc_stop_area *a, pid_t tid);

/* What did it come to, that was asked to stop? @return true if it is decided: stopped, or gone */
bool asc_stopper_look(const struct asc_stop_area *a, struct asc_stop_slot *s);

#endif
