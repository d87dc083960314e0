/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * /proc/PID/task/TID/schedstat: time on a CPU in nanoseconds. A thread that sleeps on a lock does
 * not gain one; utime and stime of stat are too coarse to tell a short run from none.
 */
#include "target/cputime.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"

static bool read_proc(pid_t pid, pid_t tid, const char *name, char *buf, size_t len)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, len - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = 0;
	return true;
}

static bool read_one(pid_t pid, pid_t tid, uint64_t *ret)
{
	char buf[96];

	if (!read_proc(pid, tid, "schedstat", buf, sizeof(buf)))
		return false;
	buf[strcspn(buf, " \n")] = 0;
	return asc_parse_u64(buf, ret);
}

static int by_tid(const void *a, const void *b)
{
	const struct asc_cpu_time *x = a, *y = b;

	return x->tid < y->tid ? -1 : x->tid > y->tid;
}

size_t asc_cpu_times(pid_t pid, const struct asc_thread *threads, size_t n,
		     struct asc_cpu_time *ret)
{
	size_t m = 0;

	for (size_t i = 0; i < n; i++) {
		ret[m].tid = threads[i].tid;
		if (read_one(pid, threads[i].tid, &ret[m].ns))
			m++;
	}
	if (m)
		qsort(ret, m, sizeof(*ret), by_tid);
	return m;
}

bool asc_cpu_time_of(const struct asc_cpu_time *v, size_t n, pid_t tid, uint64_t *ret)
{
	struct asc_cpu_time key = { .tid = tid };
	const struct asc_cpu_time *found = n ? bsearch(&key, v, n, sizeof(*v), by_tid) : NULL;

	if (found)
		*ret = found->ns;
	return found != NULL;
}

bool asc_thread_runs(pid_t pid, pid_t tid)
{
	char buf[256];
	const char *state = read_proc(pid, tid, "stat", buf, sizeof(buf)) ? strrchr(buf, ')')
									  : NULL;

	return !state || state[1] != ' ' || state[2] == 'R';
}

bool asc_threads_at_rest(pid_t pid, const struct asc_thread *threads, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char buf[256];
		const char *state;

		if (threads[i].syscall_nr < 0 ||
		    !read_proc(pid, threads[i].tid, "stat", buf, sizeof(buf)))
			continue;
		/* the name before it may hold anything, a parenthesis too */
		state = strrchr(buf, ')');
		if (state && (state[1] == ' ') && (state[2] == 'R' || state[2] == 't'))
			return false;
	}
	return true;
}
