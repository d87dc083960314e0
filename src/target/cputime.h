/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CPU time of threads in nanoseconds, read without stopping anything: did it run meanwhile? */
#ifndef ASC_TARGET_CPUTIME_H
#define ASC_TARGET_CPUTIME_H

#include "arenascope/target.h"

struct asc_cpu_time {
	pid_t tid;
	uint64_t ns;
};

/* One entry a thread whose schedstat can be read, sorted by tid. @return how many, at most @p n */
size_t asc_cpu_times(pid_t pid, const struct asc_thread *threads, size_t n,
		     struct asc_cpu_time *ret);
/* @return false: not there */
bool asc_cpu_time_of(const struct asc_cpu_time *v, size_t n, pid_t tid, uint64_t *ret);

/* Is it on a CPU, or waiting for one? true also when that cannot be read. */
bool asc_thread_runs(pid_t pid, pid_t tid);
/*
 * Is every thread that was seen inside a system call asleep again? After a stop they are woken
 * once, and on a loaded machine it takes them a while to get there.
 */
bool asc_threads_at_rest(pid_t pid, const struct asc_thread *threads, size_t n);

#endif
