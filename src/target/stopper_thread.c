/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One thread, as the stopper's helper sees it: what /proc says of it, and what it came to when it was to stop. */
#include "target/stopper_thread.h"

#include <asm/ldt.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "target/restart.h"

enum { EVENT_STOP = 128 };

/* "TID/leaf" for openat and readlinkat below /proc/PID/task. */
ASC_BARE static void task_path(char *to, pid_t tid, const char *leaf)
{
	char digits[12];
	int n = 0;

	for (unsigned v = (unsigned)tid; v || !n; v /= 10)
		digits[n++] = (char)('0' + v % 10);
	while (n)
		*to++ = digits[--n];
	while ((*to++ = *leaf++))
		;
}

/* Read a short file of a thread. @return bytes, or a negative errno */
ASC_BARE static long task_file(const struct asc_stop_area *a, pid_t tid, const char *leaf,
			       char *text, size_t size)
{
	char path[32];
	long fd, n;

	task_path(path, tid, leaf);
	fd = asc_raw(SYS_openat, a->task_fd, (long)path, O_RDONLY | O_CLOEXEC, 0, 0);
	if (fd < 0)
		return fd;
	n = asc_raw(SYS_read, fd, (long)text, (long)size, 0, 0);
	asc_raw(SYS_close, fd, 0, 0, 0, 0);
	return n;
}

ASC_BARE char asc_stopper_task_state(const struct asc_stop_area *a, pid_t tid)
{
	char text[128];
	long i = task_file(a, tid, "/stat", text, sizeof(text)) - 3;

	/* the name may hold any byte; it is short, so the last ')' that fits ends it */
	for (; i > 0 && text[i] != ')'; i--)
		;
	return i > 0 ? text[i + 2] : (char)0;
}

ASC_BARE bool asc_stopper_waits_for_lock(const struct asc_stop_area *a, pid_t tid)
{
	char text[64];

	return task_file(a, tid, "/wchan", text, sizeof(text)) > 5 && text[0] == 'r' &&
	       text[1] == 'w' && text[2] == 's' && text[3] == 'e' && text[4] == 'm';
}

/* Thread pointer of a 32-bit thread: the base of the descriptor that its gs selects. */
ASC_BARE static void read_tls32(struct asc_stop_slot *s)
{
	struct user_desc desc[3]; /* no zeroing of large things here: compilers call memset */
	struct iovec iov = { desc, sizeof(desc) };
	unsigned gs = (unsigned)s->raw[40] | (unsigned)s->raw[41] << 8;

	if (asc_stopper_ptrace(PTRACE_GETREGSET, s->tid, NT_386_TLS, &iov))
		return;
	for (size_t i = 0; i < iov.iov_len / sizeof(desc[0]) && i < 3; i++) {
		if (desc[i].entry_number != gs >> 3)
			continue;
		s->tp = desc[i].base_addr;
		s->tp_valid = 1;
	}
}

ASC_BARE static void read_tp(struct asc_stop_slot *s)
{
#if defined(__aarch64__)
	struct iovec iov = { &s->tp, sizeof(s->tp) };

	s->tp_valid = !asc_stopper_ptrace(PTRACE_GETREGSET, s->tid, NT_ARM_TLS, &iov);
#else
	enum { FS_BASE = 21 * 8, LEN64 = 27 * 8, LEN32 = 17 * 4 };

	if (s->len == LEN64) {
		__builtin_memcpy(&s->tp, s->raw + FS_BASE, sizeof(s->tp));
		s->tp_valid = 1;
	} else if (s->len == LEN32) {
		read_tls32(s);
	}
#endif
}

ASC_BARE static bool is_socket(const struct asc_stop_area *a, pid_t tid, uint64_t fd)
{
	static const char want[] = { 's', 'o', 'c', 'k', 'e', 't', ':' };
	char leaf[24] = "/fd/", path[48], link[sizeof(want)];

	if (fd > INT_MAX)
		return false;
	task_path(leaf + 4, (pid_t)fd, "");
	task_path(path, tid, leaf);
	if (asc_raw(SYS_readlinkat, a->task_fd, (long)path, (long)link, sizeof(link), 0) !=
	    (long)sizeof(link))
		return false;
	for (size_t i = 0; i < sizeof(want); i++) {
		if (link[i] != want[i])
			return false;
	}
	return true;
}

/*
 * See restart.h: some system calls would return EINTR for our interrupt alone. Done as soon as the
 * thread is stopped, so that not even the helper's death shows; the slot keeps what was there.
 */
ASC_BARE static void hide_eintr(const struct asc_stop_area *a, struct asc_stop_slot *s)
{
	struct iovec iov = { s->raw, s->len };
	uint64_t fd = 0;

	switch (asc_restart_kind(s->raw, s->len, &fd)) {
	case ASC_RESTART_NEVER:
		return;
	case ASC_RESTART_IF_SOCKET:
		if (!is_socket(a, s->tid, fd))
			return;
		break;
	case ASC_RESTART_ALWAYS:
		break;
	}
	asc_restart_set(s->raw, s->len, ASC_KERNEL_ERESTARTNOHAND);
	asc_stopper_ptrace(PTRACE_SETREGSET, s->tid, NT_PRSTATUS, &iov);
	asc_restart_set(s->raw, s->len, ASC_KERNEL_EINTR);
}

ASC_BARE static void stopped(const struct asc_stop_area *a, struct asc_stop_slot *s)
{
	struct iovec iov = { s->raw, sizeof(s->raw) };

	if (asc_stopper_ptrace(PTRACE_GETREGSET, s->tid, NT_PRSTATUS, &iov)) {
		/* killed in its stop: SIGKILL ends every ptrace stop */
		s->len = 0;
	} else {
		s->len = (uint32_t)iov.iov_len;
		read_tp(s);
		hide_eintr(a, s);
	}
	s->state = ASC_SLOT_STOPPED;
}

ASC_BARE bool asc_stopper_look(const struct asc_stop_area *a, struct asc_stop_slot *s)
{
	siginfo_t si;
	long opts = WEXITED | WSTOPPED | WNOHANG | __WALL;
	int event, sig;
	long r;

	si.si_pid = 0;
	r = asc_raw(SYS_waitid, P_PID, s->tid, (long)&si, opts | WNOWAIT, 0);
	if (r == -ECHILD) { /* gone in another thread's exec */
		s->state = ASC_SLOT_GONE;
		return true;
	}
	if (r || !si.si_pid)
		return false;
	if (si.si_code != CLD_TRAPPED && si.si_code != CLD_STOPPED) {
		asc_raw(SYS_waitid, P_PID, s->tid, (long)&si, opts, 0);
		s->state = ASC_SLOT_GONE;
		return true;
	}
	event = si.si_status >> 8;
	sig = si.si_status & 0x7f;
	if (event == EVENT_STOP) {
		if (sig != SIGTRAP)
			s->found = 'T';
		stopped(a, s);
		return true;
	}
	/*
	 * A signal came first, or it has just created a thread: on with it, to the trap. Any stop
	 * takes a pending interrupt with it, so ask anew before it runs.
	 */
	asc_stopper_ptrace(PTRACE_INTERRUPT, s->tid, 0, NULL);
	asc_stopper_ptrace(PTRACE_CONT, s->tid, 0, (void *)(long)(event ? 0 : sig));
	return false;
}
