/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files of /proc. A process may end at any moment, so plain errno values instead of errors: the
 * caller knows which of them are news. Paths are "/proc/PID/leaf" or, to live with a zombie leader,
 * "/proc/PID/task/TID/leaf".
 */
#ifndef ASC_TARGET_PROC_H
#define ASC_TARGET_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "arenascope/target.h"

/* A reusable text buffer, always NUL-terminated behind len. */
struct asc_text {
	char *p;
	size_t len, cap;
};

void asc_text_free(struct asc_text *t);
/* @return 0 or an errno */
int asc_proc_open(pid_t pid, pid_t tid, const char *leaf, int flags, int *ret_fd);
int asc_proc_read(pid_t pid, pid_t tid, const char *leaf, struct asc_text *ret);
/* Read the rest of @p fd. */
int asc_fd_read_all(int fd, struct asc_text *ret);

struct asc_proc_stat {
	char comm[64]; /* kernel threads have long names */
	char state;
	pid_t ppid;
	uint32_t flags;
	uint64_t utime, stime, starttime;
	long nthreads;
};

/* Parse /proc/PID/stat. @return false if it does not look like one */
bool asc_proc_parse_stat(const char *text, struct asc_proc_stat *ret);
int asc_proc_stat(pid_t pid, pid_t tid, struct asc_proc_stat *ret);
/* Value of "Key:" in /proc/PID/status text, NULL if absent. */
const char *asc_proc_status_value(const char *status, const char *key);
bool asc_proc_status_hex(const char *status, const char *key, uint64_t *ret);
bool asc_proc_status_dec(const char *status, const char *key, uint64_t *ret);

/* The next line at @p at, its newline replaced by NUL; moves @p at on. NULL at the end. */
char *asc_text_line(char **at);
/* Thread ids, ascending. @p ret is owned by the caller. */
int asc_proc_tasks(pid_t pid, pid_t **ret, size_t *ret_n);
/* A thread that has not exited: @p pid itself if possible. @return 0 if there is none */
pid_t asc_proc_live_tid(pid_t pid);

#endif
