/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"

enum { TEXT_FIRST = 4096, TEXT_MAX = 1 << 30 };

void asc_text_free(struct asc_text *t)
{
	free(t->p);
	*t = (struct asc_text){ 0 };
}

int asc_proc_open(pid_t pid, pid_t tid, const char *leaf, int flags, int *ret_fd)
{
	char path[96];
	int fd;

	if (tid == pid || !tid)
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, leaf);
	else
		snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, tid, leaf);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return errno;
	*ret_fd = fd;
	return 0;
}

static int grow(struct asc_text *t)
{
	size_t cap = t->cap ? t->cap * 2 : TEXT_FIRST;
	char *p = cap > TEXT_MAX ? NULL : realloc(t->p, cap);

	if (!p)
		return ENOMEM;
	t->p = p;
	t->cap = cap;
	return 0;
}

int asc_fd_read_all(int fd, struct asc_text *ret)
{
	ssize_t n;

	ret->len = 0;
	for (;;) {
		if (ret->cap - ret->len < 2) {
			int err = grow(ret);

			if (err)
				return err;
		}
		n = read(fd, ret->p + ret->len, ret->cap - ret->len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		if (!n)
			break;
		ret->len += (size_t)n;
	}
	ret->p[ret->len] = 0;
	return 0;
}

int asc_proc_read(pid_t pid, pid_t tid, const char *leaf, struct asc_text *ret)
{
	ASC_AUTO(asc_closep) int fd = -1;
	int err = asc_proc_open(pid, tid, leaf, O_RDONLY, &fd);

	return err ? err : asc_fd_read_all(fd, ret);
}

static bool number(const char **p, uint64_t *ret)
{
	uint64_t v = 0;
	const char *from;

	while (**p == ' ' || **p == '\t')
		++*p;
	if (**p == '-') /* no field of ours is negative */
		++*p;
	for (from = *p; **p >= '0' && **p <= '9'; ++*p) {
		if (!asc_mul(v, 10, &v) || !asc_add(v, (uint64_t)(**p - '0'), &v))
			return false;
	}
	*ret = v;
	return *p > from;
}

bool asc_proc_parse_stat(const char *text, struct asc_proc_stat *ret)
{
	/* 52 fields; the name in parentheses may hold any byte, so count from the last ')' */
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	struct asc_proc_stat s = { 0 };
	uint64_t v[24] = { 0 };
	size_t len;

	if (!open || !close || close < open || close[1] != ' ' || !close[2])
		return false;
	len = asc_min((uint64_t)(close - open - 1), sizeof(s.comm) - 1);
	memcpy(s.comm, open + 1, len);
	s.state = close[2];
	text = close + 3;
	for (unsigned field = 4; field <= 22; field++) {
		if (!number(&text, &v[field]))
			return false;
	}
	s.ppid = (pid_t)v[4];
	s.flags = (uint32_t)v[9];
	s.utime = v[14];
	s.stime = v[15];
	s.nthreads = (long)v[20];
	s.starttime = v[22];
	*ret = s;
	return true;
}

int asc_proc_stat(pid_t pid, pid_t tid, struct asc_proc_stat *ret)
{
	ASC_AUTO(asc_text_free) struct asc_text text = { 0 };
	int err = asc_proc_read(pid, tid, "stat", &text);

	if (err)
		return err;
	return asc_proc_parse_stat(text.p, ret) ? 0 : ESRCH;
}

const char *asc_proc_status_value(const char *status, const char *key)
{
	size_t len = strlen(key);

	for (const char *p = status; p; p = strchr(p, '\n')) {
		if (*p == '\n')
			p++;
		if (!strncmp(p, key, len) && p[len] == ':') {
			p += len + 1;
			while (*p == ' ' || *p == '\t')
				p++;
			return p;
		}
	}
	return NULL;
}

bool asc_proc_status_hex(const char *status, const char *key, uint64_t *ret)
{
	const char *p = asc_proc_status_value(status, key);
	char digits[20];
	size_t n = p ? strspn(p, "0123456789abcdefABCDEF") : 0;

	if (!n || n > 16)
		return false;
	memcpy(digits, p, n);
	digits[n] = 0;
	return asc_parse_addr(digits, ret);
}

bool asc_proc_status_dec(const char *status, const char *key, uint64_t *ret)
{
	const char *p = asc_proc_status_value(status, key);

	return p && number(&p, ret);
}

char *asc_text_line(char **at)
{
	char *line = *at, *nl;

	if (!*line)
		return NULL;
	nl = strchr(line, '\n');
	*at = nl ? nl + 1 : line + strlen(line);
	if (nl)
		*nl = 0;
	return line;
}

static int by_number(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return (x > y) - (x < y);
}

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

int asc_proc_tasks(pid_t pid, pid_t **ret, size_t *ret_n)
{
	ASC_VEC(pid_t) v = { 0 };
	ASC_AUTO(close_dir) DIR *dir = NULL;
	struct dirent *d;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return errno;
	while ((d = readdir(dir))) {
		uint64_t tid;
		struct asc_error *err;

		if (!asc_parse_u64(d->d_name, &tid) || !tid || tid > INT32_MAX)
			continue;
		err = asc_vec_push(&v, (pid_t)tid);
		if (err) {
			asc_error_free(err);
			asc_vec_free(&v);
			return ENOMEM;
		}
	}
	asc_sort(v.data, v.len, sizeof(*v.data), by_number);
	*ret = v.data;
	*ret_n = v.len;
	return 0;
}

static bool lives(pid_t pid, pid_t tid)
{
	struct asc_proc_stat s;

	return !asc_proc_stat(pid, tid, &s) && s.state != 'Z' && s.state != 'X';
}

pid_t asc_proc_live_tid(pid_t pid)
{
	ASC_AUTO(asc_freep) pid_t *tids = NULL;
	size_t n = 0;

	if (lives(pid, pid))
		return pid;
	if (asc_proc_tasks(pid, &tids, &n))
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (tids[i] != pid && lives(pid, tids[i]))
			return tids[i];
	}
	return 0;
}
