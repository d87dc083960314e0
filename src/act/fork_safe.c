/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a copy-on-write child can cost the target. While it lives, every page that the target writes
 * is copied and charged to the target: at worst its whole anonymous memory once more. So there must
 * be room for that, on the machine and in every control group above it. Locked and pinned pages
 * would fault or move, huge pages of the pool may run out, and a monitor of page faults would be
 * asked first: these refuse.
 */
#include "act/fork.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/proc.h"

enum { MARGIN = 64 << 20, TASKS = 4, KB = 1024 };

static struct asc_error *refuse(const char *why)
{
	struct asc_error *err = asc_err_id(
		asc_err(ASC_EUNSUPPORTED, "a copy-on-write child could harm the target"), "E-FORK");

	asc_err_why(err, "%s", why);
	return asc_err_try(err, "--capture=copy, --capture=optimistic");
}

static struct asc_error *no_room(const char *where, uint64_t room, uint64_t need)
{
	struct asc_error *err = refuse(where);

	return asc_err_why(err, "%s: %" PRIu64 " MiB are free, at worst %" PRIu64 " are needed",
			   where, room >> 20, need >> 20);
}

static uint64_t status_kb(const char *status, const char *key)
{
	uint64_t v = 0;

	return asc_proc_status_dec(status, key, &v) && v < UINT64_MAX / KB ? v * KB : 0;
}

/* ---- the machine ---- */

static bool read_text(const char *path, struct asc_text *ret)
{
	ASC_AUTO(asc_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && !asc_fd_read_all(fd, ret) && ret->len;
}

static struct asc_error *check_machine(uint64_t need, uint64_t maps_bytes)
{
	ASC_AUTO(asc_text_free) struct asc_text t = { 0 };
	uint64_t available, limit, used;

	if (!read_text("/proc/meminfo", &t))
		return refuse("how much memory is free is not known");
	available = status_kb(t.p, "MemAvailable");
	limit = status_kb(t.p, "CommitLimit");
	used = status_kb(t.p, "Committed_AS");
	if (available < need)
		return no_room("the machine has too little free memory", available, need);
	if (!read_text("/proc/sys/vm/overcommit_memory", &t))
		return NULL;
	/* strict accounting: while the child lives, the target's own allocations could fail */
	if (t.p[0] == '2' && (limit < used || limit - used < 2 * maps_bytes))
		return no_room("vm.overcommit_memory is 2 and little can be committed",
			       limit > used ? limit - used : 0, 2 * maps_bytes);
	return NULL;
}

/* ---- its control groups ---- */

/* A number, or "max". @return false: there is no such file */
static bool group_value(const char *dir, const char *leaf, uint64_t *ret)
{
	ASC_AUTO(asc_text_free) struct asc_text t = { 0 };
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", dir, leaf) >= (int)sizeof(path) ||
	    !read_text(path, &t))
		return false;
	t.p[strcspn(t.p, "\n")] = 0;
	if (!asc_parse_u64(t.p, ret))
		*ret = UINT64_MAX;
	return true;
}

/* Page cache that the kernel drops first. */
static uint64_t inactive_file(const char *dir)
{
	ASC_AUTO(asc_text_free) struct asc_text t = { 0 };
	char path[PATH_MAX], *at;
	uint64_t v = 0;

	if (snprintf(path, sizeof(path), "%s/memory.stat", dir) >= (int)sizeof(path) ||
	    !read_text(path, &t))
		return 0;
	at = t.p;
	for (char *line; (line = asc_text_line(&at));) {
		if (!strncmp(line, "inactive_file ", 14) && asc_parse_u64(line + 14, &v))
			return v;
	}
	return 0;
}

static struct asc_error *check_group(const char *dir, bool v2, uint64_t need)
{
	uint64_t limit, used, tasks_max, tasks;

	if (group_value(dir, v2 ? "memory.max" : "memory.limit_in_bytes", &limit) &&
	    group_value(dir, v2 ? "memory.current" : "memory.usage_in_bytes", &used) &&
	    limit != UINT64_MAX) {
		uint64_t cache = inactive_file(dir);

		used -= asc_min(used, cache);
		if (limit < used || limit - used < need)
			return no_room("its control group's memory limit is too close",
				       limit > used ? limit - used : 0, need);
	}
	if (group_value(dir, "pids.max", &tasks_max) && group_value(dir, "pids.current", &tasks) &&
	    (tasks_max < tasks || tasks_max - tasks < TASKS))
		return refuse("its control group may have no more processes (pids.max)");
	return NULL;
}

/* The group and every one above it. */
static struct asc_error *check_groups(const char *root, const char *path, bool v2, uint64_t need)
{
	char dir[PATH_MAX];
	size_t base = strlen(root);

	if (snprintf(dir, sizeof(dir), "%s%s", root, path) >= (int)sizeof(dir) ||
	    strstr(path, "/.."))
		return refuse("its control group is outside of what can be seen from here");
	if (access(dir, R_OK))
		return refuse("its control group's limits cannot be read");
	for (;;) {
		char *slash;

		ASC_TRY(check_group(dir, v2, need));
		slash = strrchr(dir + base, '/');
		if (!slash)
			return NULL;
		*slash = 0;
	}
}

static struct asc_error *check_cgroups(pid_t pid, uint64_t need)
{
	ASC_AUTO(asc_text_free) struct asc_text t = { 0 };
	char *at;

	if (asc_proc_read(pid, 0, "cgroup", &t))
		return NULL; /* a kernel without control groups */
	at = t.p;
	for (char *line; (line = asc_text_line(&at));) {
		char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = 0;
		list++;
		if (!strcmp(path, "/"))
			path = path + 1;
		if (!*list && *path)
			ASC_TRY(check_groups("/sys/fs/cgroup", path, true, need));
		if (!strcmp(list, "memory") && *path)
			ASC_TRY(check_groups("/sys/fs/cgroup/memory", path, false, need));
		if (!strcmp(list, "pids") && *path)
			ASC_TRY(check_groups("/sys/fs/cgroup/pids", path, false, need));
	}
	return NULL;
}

/* ---- its memory ---- */

/* A fork would wait for an answer of whoever monitors the page faults of these mappings. */
static bool has_monitor(pid_t pid)
{
	ASC_AUTO(asc_text_free) struct asc_text t = { 0 };
	if (asc_proc_read(pid, 0, "smaps", &t))
		return false;
	for (char *at = t.p, *line; (line = asc_text_line(&at));) {
		if (!strncmp(line, "VmFlags:", 8) &&
		    (strstr(line, " um") || strstr(line, " uw") || strstr(line, " ui")))
			return true;
	}
	return false;
}

struct asc_error *asc_fork_safe(const struct asc_act_ctx *c)
{
	ASC_AUTO(asc_text_free) struct asc_text t = { 0 };
	pid_t pid = asc_target_pid(c->live);
	uint64_t anon, need;
	const char *ns;

	if (asc_proc_read(pid, 0, "status", &t))
		return asc_err_id(asc_err(ASC_EAGAIN, "process %d ended", pid), "E-GONE");
	if (status_kb(t.p, "VmLck") || status_kb(t.p, "VmPin"))
		return refuse("it has locked or pinned memory, which a fork makes it fault on or "
			      "copies at once");
	if (status_kb(t.p, "HugetlbPages"))
		return refuse("it uses huge pages of the pool, which may run out on the first "
			      "write");
	ns = asc_proc_status_value(t.p, "NSpid");
	if (ns) {
		const char *end = strchr(ns, '\n');

		if (end && end - ns >= 2 && end[-1] == '1' && (end[-2] < '0' || end[-2] > '9'))
			return refuse("it is the first process of its namespace: the child would "
				      "be left to it as a zombie");
	}
	anon = status_kb(t.p, "RssAnon");
	need = anon + anon / 256 + MARGIN;
	if (!c->opts.force) {
		ASC_TRY(check_machine(need, status_kb(t.p, "VmData") + status_kb(t.p, "VmStk")));
		ASC_TRY(check_cgroups(pid, need));
	}
	if (has_monitor(pid))
		return refuse("a userfaultfd is registered on its memory");
	return NULL;
}
