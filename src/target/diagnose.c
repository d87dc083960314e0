/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The kernel answers EPERM for a dozen reasons. Each is looked for where it can be seen, in the
 * order in which the kernel asks: credentials, dumpable, capabilities, security modules.
 */
#include "target/diagnose.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/proc.h"

enum { CAP_SYS_PTRACE_BIT = 19, PF_KERNEL_THREAD = 0x00200000 };

/* ---- states ---- */

static struct asc_error *no_process(pid_t pid)
{
	struct asc_error *err;

	if (pid > 0 && (!kill(pid, 0) || errno == EPERM)) {
		err = asc_err_id(asc_err(ASC_ENOTARGET, "process %d is hidden from us", pid),
				 "E-HIDDEN");
		err = asc_err_why(err,
				  "it exists, but /proc/%d does not: /proc is mounted with hidepid",
				  pid);
		return asc_err_try(err, "run as root, or as the user it belongs to");
	}
	err = asc_err_id(asc_err(ASC_ENOTARGET, "no process %d", pid), "E-NOPROC");
	err = asc_err_why(err, "/proc/%d does not exist", pid);
	err = asc_err_try(err, "find it: pgrep -a NAME");
	return asc_err_try(err, "in a container it has another number: use the one seen from here");
}

static void name_of(pid_t pid, char *ret, size_t size)
{
	struct asc_proc_stat st;

	snprintf(ret, size, "%s", asc_proc_stat(pid, 0, &st) ? "?" : st.comm);
}

static struct asc_error *zombie(pid_t pid, pid_t parent)
{
	char name[64];
	struct asc_error *err = asc_err_id(
		asc_err(ASC_ENOTARGET, "process %d has already exited (zombie)", pid), "E-ZOMBIE");

	name_of(parent, name, sizeof(name));
	return asc_err_why(err, "its memory is gone; its parent %d (%s) has not waited for it yet",
			   parent, name);
}

struct asc_error *asc_diagnose_state(pid_t pid)
{
	ASC_AUTO(asc_text_free) struct asc_text text = { 0 };
	struct asc_proc_stat st;
	struct asc_error *err;
	uint64_t tgid;

	if (pid <= 0 || asc_proc_stat(pid, 0, &st))
		return no_process(pid);
	if (pid == getpid()) {
		err = asc_err_id(asc_err(ASC_EUNSUPPORTED, "process %d is arenascope itself", pid),
				 "E-SELF");
		return asc_err_why(err, "it cannot stop itself");
	}
	if (st.flags & PF_KERNEL_THREAD) {
		err = asc_err_id(
			asc_err(ASC_ENOTARGET, "process %d (%s) is a kernel thread", pid, st.comm),
			"E-KTHREAD");
		return asc_err_why(err, "it has no memory of its own");
	}
	if (!asc_proc_read(pid, 0, "status", &text) && asc_proc_status_dec(text.p, "Tgid", &tgid) &&
	    tgid != (uint64_t)pid) {
		err = asc_err_id(asc_err(ASC_ENOTARGET, "%d is a thread, not a process", pid),
				 "E-TID");
		err = asc_err_why(err, "it belongs to process %" PRIu64, tgid);
		return asc_err_try(err, "-p %" PRIu64, tgid);
	}
	if ((st.state == 'Z' || st.state == 'X') && !asc_proc_live_tid(pid))
		return zombie(pid, st.ppid);
	return NULL;
}

struct asc_error *asc_diagnose_traced(pid_t pid)
{
	ASC_AUTO(asc_text_free) struct asc_text text = { 0 };
	struct asc_error *err;
	uint64_t tracer;
	char name[64];

	if (asc_proc_read(pid, 0, "status", &text) ||
	    !asc_proc_status_dec(text.p, "TracerPid", &tracer) || !tracer)
		return NULL;
	name_of((pid_t)tracer, name, sizeof(name));
	err = asc_err_id(asc_err(ASC_EPERM, "process %d is already traced", pid), "E-TRACED");
	err = asc_err_why(err, "by process %" PRIu64 " (%s); a process has one tracer at most",
			  tracer, name);
	err = asc_err_try(err, "end %s, or let it detach", name);
	return asc_err_try(err, "--no-stop reads without attaching");
}

/* ---- frozen ---- */

static bool file_has(const char *path, const char *word)
{
	ASC_AUTO(asc_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[256];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n < 0)
		return false;
	text[n] = 0;
	return strstr(text, word);
}

/* A line of /proc/PID/cgroup: "6:freezer:/path" (v1) or "0::/path" (v2) */
static bool cgroup_frozen(const char *line, char *file, size_t size)
{
	static const char *const v2[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
	const char *controllers = strchr(line, ':');
	const char *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path)
		return false;
	path++;
	if (!strncmp(controllers, ":freezer:", 9)) {
		snprintf(file, size, "/sys/fs/cgroup/freezer%.4096s/freezer.state", path);
		return file_has(file, "FROZEN") || file_has(file, "FREEZING");
	}
	for (size_t i = 0; i < ASC_ARRAY_SIZE(v2) && !strncmp(line, "0::", 3); i++) {
		snprintf(file, size, "%s%.4096s/cgroup.events", v2[i], path);
		if (!file_has(file, "frozen 1"))
			continue;
		snprintf(file, size, "%s%.4096s/cgroup.freeze", v2[i], path);
		return true;
	}
	return false;
}

bool asc_diagnose_frozen(pid_t pid, char *ret_file, size_t size)
{
	ASC_AUTO(asc_text_free) struct asc_text text = { 0 };
	char *line, *at;

	if (asc_proc_read(pid, 0, "cgroup", &text))
		return false;
	for (at = text.p; (line = asc_text_line(&at));) {
		if (cgroup_frozen(line, ret_file, size))
			return true;
	}
	return false;
}

/* ---- permission ---- */

static void user_name(uint64_t uid, char *ret, size_t size)
{
	const struct passwd *pw = getpwuid((uid_t)uid);

	if (pw)
		snprintf(ret, size, "%s (uid %" PRIu64 ")", pw->pw_name, uid);
	else
		snprintf(ret, size, "uid %" PRIu64, uid);
}

static bool same_ids(const struct asc_attach_facts *f)
{
	for (size_t i = 0; i < 3; i++) {
		if (f->uid[i] != f->our_uid || f->gid[i] != f->our_gid)
			return false;
	}
	return true;
}

static bool set_uid(const struct asc_attach_facts *f)
{
	return f->uid[0] != f->uid[1] || f->uid[1] != f->uid[2] || f->gid[0] != f->gid[1] ||
	       f->gid[1] != f->gid[2];
}

static struct asc_error *refused(const struct asc_attach_facts *f, const char *id)
{
	return asc_err_id(
		asc_err(ASC_EPERM, "cannot %s process %d: not permitted", f->what, f->pid), id);
}

static struct asc_error *by_yama(const struct asc_attach_facts *f)
{
	struct asc_error *err = refused(f, "E-YAMA");

	if (f->yama >= 3) {
		err = asc_err_why(
			err, "kernel.yama.ptrace_scope is 3: nobody may attach to any process, "
			     "until the next boot");
		return asc_err_try(
			err, "take a core (gcore needs the same right; the kernel's core dump does "
			     "not) and use -c CORE");
	}
	if (f->yama == 2) {
		err = asc_err_why(err, "kernel.yama.ptrace_scope is 2: only with CAP_SYS_PTRACE");
		return asc_err_try(err, "sudo arenascope -p %d", f->pid);
	}
	err = asc_err_why(
		err,
		"kernel.yama.ptrace_scope is 1: a process may attach to its own children only");
	err = asc_err_try(err, "sudo arenascope -p %d", f->pid);
	return asc_err_try(
		err, "sudo sysctl kernel.yama.ptrace_scope=0, at the cost that every process of a "
		     "user can then read every other one of that user");
}

static struct asc_error *by_uid(const struct asc_attach_facts *f)
{
	struct asc_error *err = refused(f, "E-UID");
	char ours[96], theirs[96];

	user_name(f->our_uid, ours, sizeof(ours));
	user_name(f->uid[1], theirs, sizeof(theirs));
	if (set_uid(f))
		err = asc_err_why(
			err,
			"it is set-uid or set-gid: real, effective, saved uid %" PRIu64 " %" PRIu64
			" %" PRIu64 ", gid %" PRIu64 " %" PRIu64 " %" PRIu64 "; we are %s",
			f->uid[0], f->uid[1], f->uid[2], f->gid[0], f->gid[1], f->gid[2], ours);
	else if (f->uid[1] == f->our_uid)
		err = asc_err_why(err, "its group is gid %" PRIu64 ", ours is gid %u", f->gid[1],
				  (unsigned)f->our_gid);
	else
		err = asc_err_why(err, "it belongs to %s, we are %s", theirs, ours);
	return asc_err_try(err, "sudo arenascope -p %d", f->pid);
}

static struct asc_error *by_cap(const struct asc_attach_facts *f)
{
	struct asc_error *err = refused(f, "E-CAP");

	err = asc_err_why(err, "we are root, but without CAP_SYS_PTRACE (bit 19 of CapEff)%s",
			  f->seccomp ? ", under a seccomp filter" : "");
	err = asc_err_try(err, "docker run --cap-add=SYS_PTRACE ...");
	err = asc_err_try(err, "kubectl debug --profile=general --target=CONTAINER ...");
	return asc_err_try(err, "on the host, with the process id seen there");
}

static struct asc_error *by_protection(const struct asc_attach_facts *f)
{
	struct asc_error *err = refused(f, "E-NODUMP");

	if (f->more_caps)
		err = asc_err_why(err, "it holds capabilities that we do not");
	else
		err = asc_err_why(
			err,
			"it is not dumpable: /proc/%d/mem belongs to root; it was started set-uid, "
			"with capabilities, or called prctl(PR_SET_DUMPABLE, 0)",
			f->pid);
	return asc_err_try(err, "sudo arenascope -p %d", f->pid);
}

static struct asc_error *by_userns(const struct asc_attach_facts *f)
{
	struct asc_error *err = refused(f, "E-USERNS");

	err = asc_err_why(err,
			  "it is in another user namespace, where we have no rights, root or not");
	return asc_err_try(err,
			   "run on the host, or in the namespace that is the parent of its own");
}

/* With every right that we can see, somebody else said no. */
static struct asc_error *by_policy(const struct asc_attach_facts *f)
{
	struct asc_error *err;

	if (f->selinux_denies) {
		err = asc_err_why(refused(f, "E-SELINUX"),
				  "SELinux: the boolean deny_ptrace is on");
		return asc_err_try(err,
				   "sudo setsebool deny_ptrace off; the denial: ausearch -m avc");
	}
	if (f->apparmor[0] && strcmp(f->apparmor, "unconfined")) {
		err = asc_err_why(refused(f, "E-APPARMOR"),
				  "it is confined by the AppArmor profile %s", f->apparmor);
		return asc_err_try(err, "allow ptrace in that profile; the denial: dmesg");
	}
	if (f->seccomp) {
		err = asc_err_why(refused(f, "E-SECCOMP"),
				  "a seccomp filter is on arenascope itself");
		return asc_err_try(
			err,
			"docker run --security-opt seccomp=unconfined ..., or run on the host");
	}
	err = asc_err_why(refused(f, "E-PERM"),
			  "%s CAP_SYS_PTRACE; same user: %s; Yama: %d; none of the known causes",
			  f->have_cap ? "with" : "without", same_ids(f) ? "yes" : "no", f->yama);
	return asc_err_try(err, "dmesg may say which security module refused");
}

struct asc_error *asc_diagnose_facts(const struct asc_attach_facts *f)
{
	if (f->yama >= 3)
		return by_yama(f);
	if (f->other_userns && (f->have_cap || !f->our_uid))
		return by_userns(f);
	if (!f->have_cap) {
		if (!f->our_uid)
			return by_cap(f);
		if (f->ids_known && !same_ids(f))
			return by_uid(f);
		if (f->protected_files || f->more_caps)
			return by_protection(f);
		if (f->yama > 0)
			return by_yama(f);
	}
	return by_policy(f);
}

static int yama_scope(void)
{
	ASC_AUTO(asc_closep)
	int fd = open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);
	char c;

	return fd >= 0 && read(fd, &c, 1) == 1 && c >= '0' && c <= '9' ? c - '0' : -1;
}

/* Are we in a user namespace below the first one, which maps every id to itself? */
static bool in_child_userns(void)
{
	ASC_AUTO(asc_closep) int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
	char text[128];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	uint64_t in, out, len;

	if (n <= 0)
		return false;
	text[n] = 0;
	return sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &in, &out, &len) != 3 || in ||
	       out || len != UINT32_MAX;
}

static bool other_userns(pid_t pid)
{
	char path[64], theirs[64], ours[64];
	ssize_t n, k;

	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	n = readlink(path, theirs, sizeof(theirs));
	k = readlink("/proc/self/ns/user", ours, sizeof(ours));
	if (n > 0 && k > 0)
		return n != k || memcmp(theirs, ours, (size_t)n);
	return in_child_userns(); /* our rights end at our namespace, so we cannot even look */
}

/* "Uid:	1000	0	0	0": real, effective, saved */
static bool three(const char *status, const char *key, uint64_t v[3])
{
	const char *p = asc_proc_status_value(status, key);

	return p && sscanf(p, "%" SCNu64 " %" SCNu64 " %" SCNu64, &v[0], &v[1], &v[2]) == 3;
}

static void profile_of(pid_t pid, char *ret, size_t size)
{
	ASC_AUTO(asc_text_free) struct asc_text text = { 0 };
	ASC_AUTO(asc_closep)
	int on = open("/sys/module/apparmor/parameters/enabled", O_RDONLY | O_CLOEXEC);
	char c = 'N';

	*ret = 0;
	if (on < 0 || read(on, &c, 1) != 1 || c != 'Y')
		return;
	if (!asc_proc_read(pid, 0, "attr/current", &text))
		snprintf(ret, size, "%.*s", (int)strcspn(text.p, "\n"), text.p);
}

static void gather(pid_t pid, struct asc_attach_facts *f)
{
	ASC_AUTO(asc_text_free) struct asc_text theirs = { 0 }, ours = { 0 };
	uint64_t caps = 0, their_caps = 0, seccomp = 0;
	struct stat st;
	char path[64];

	f->our_uid = geteuid();
	f->our_gid = getegid();
	f->yama = yama_scope();
	f->other_userns = other_userns(pid);
	if (!asc_proc_read(getpid(), 0, "status", &ours)) {
		asc_proc_status_hex(ours.p, "CapEff", &caps);
		f->seccomp = asc_proc_status_dec(ours.p, "Seccomp", &seccomp) && seccomp;
	}
	f->have_cap = caps >> CAP_SYS_PTRACE_BIT & 1;
	if (!asc_proc_read(pid, 0, "status", &theirs)) {
		f->ids_known = three(theirs.p, "Uid", f->uid) && three(theirs.p, "Gid", f->gid);
		asc_proc_status_hex(theirs.p, "CapPrm", &their_caps);
	}
	f->more_caps = their_caps & ~caps;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	f->protected_files = !stat(path, &st) && !st.st_uid && f->ids_known && f->uid[1];
	f->selinux_denies = file_has("/sys/fs/selinux/booleans/deny_ptrace", "1 ");
	profile_of(pid, f->apparmor, sizeof(f->apparmor));
}

struct asc_error *asc_diagnose(pid_t pid, int os_errno, const char *what)
{
	struct asc_attach_facts f = { .pid = pid, .what = what };
	struct asc_error *err = asc_diagnose_state(pid);

	if (err) { /* it was there when we began */
		err->code = err->code == ASC_ENOTARGET ? ASC_EAGAIN : err->code;
		return err;
	}
	if (os_errno == ENOENT || os_errno == ESRCH)
		return asc_err_id(asc_err(ASC_EAGAIN, "process %d is exiting", pid), "E-GONE");
	if (os_errno != EPERM && os_errno != EACCES)
		return asc_err_os(os_errno, "cannot %s process %d", what, pid);
	err = asc_diagnose_traced(pid);
	if (err)
		return err;
	gather(pid, &f);
	return asc_diagnose_facts(&f);
}
