/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * call PID ADDRESS ARGUMENT [SIGNAL]: one function of a process at rest is called in its main thread, every
 * other thread held, and what it returned is printed. With SIGNAL the process gets it at once, all threads
 * still held, and its end is waited for; else all threads go on as they were (stopped, if they were stopped).
 *
 * What gdb's `call` is for the oracles, for CPUs whose register state gdb 13 cannot write back (AMX).
 * It has nothing in common with the way arenascope calls. x86-64 only.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/procfs.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <elf.h>

enum { MAX_THREADS = 4096, RED_ZONE = 128, XSTATE_MAX = 1 << 16 };

static pid_t held[MAX_THREADS];
static size_t n_held;

static int is_held(pid_t tid)
{
	for (size_t i = 0; i < n_held; i++)
		if (held[i] == tid)
			return 1;
	return 0;
}

static int wait_stop(pid_t tid)
{
	int status;

	while (waitpid(tid, &status, __WALL) < 0)
		if (errno != EINTR)
			err(1, "thread %d", tid);
	if (!WIFSTOPPED(status))
		errx(1, "thread %d ended", tid);
	return status;
}

static void hold(pid_t tid)
{
	if (n_held == MAX_THREADS)
		errx(1, "more than %d threads", MAX_THREADS);
	if (ptrace(PTRACE_SEIZE, tid, 0, 0) || ptrace(PTRACE_INTERRUPT, tid, 0, 0)) {
		if (errno == ESRCH)
			return;
		err(1, "thread %d", tid);
	}
	wait_stop(tid);
	held[n_held++] = tid;
}

/* All threads, until a pass finds no new one. */
static void hold_all(pid_t pid)
{
	char path[64];
	size_t before;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	do {
		DIR *dir = opendir(path);
		struct dirent *e;

		if (!dir)
			err(1, "%s", path);
		before = n_held;
		while ((e = readdir(dir))) {
			pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);

			if (tid > 0 && !is_held(tid))
				hold(tid);
		}
		closedir(dir);
	} while (n_held != before);
}

static void registers(int request, pid_t tid, int note, void *data, size_t *len)
{
	struct iovec iov = { data, *len };

	if (ptrace((enum __ptrace_request)request, tid, note, &iov))
		err(1, "registers of %d", tid);
	*len = iov.iov_len;
}

/* The function returns to address 0, and the fault of that is the end of the call. */
static unsigned long long call(pid_t tid, unsigned long function, unsigned long argument)
{
	static unsigned char extended[XSTATE_MAX];
	struct user_regs_struct regs, set;
	size_t n_extended = sizeof(extended), n_regs = sizeof(regs);
	int status;

	registers(PTRACE_GETREGSET, tid, NT_X86_XSTATE, extended, &n_extended);
	registers(PTRACE_GETREGSET, tid, NT_PRSTATUS, &regs, &n_regs);
	set = regs;
	set.rsp = ((regs.rsp - RED_ZONE - 1024) & ~15ull) - 8;
	set.rip = function;
	set.rdi = argument;
	set.rax = 0;
	set.orig_rax =
		(unsigned long long)-1; /* no system call is begun anew in the middle of it */
	set.eflags &= ~(1ull << 10);
	if (ptrace(PTRACE_POKEDATA, tid, set.rsp, 0))
		err(1, "stack of %d", tid);
	registers(PTRACE_SETREGSET, tid, NT_PRSTATUS, &set, &n_regs);
	do {
		if (ptrace(PTRACE_CONT, tid, 0, 0))
			err(1, "thread %d", tid);
		status = wait_stop(tid);
	} while (WSTOPSIG(status) != SIGSEGV);
	registers(PTRACE_GETREGSET, tid, NT_PRSTATUS, &set, &n_regs);
	registers(PTRACE_SETREGSET, tid, NT_PRSTATUS, &regs, &n_regs);
	registers(PTRACE_SETREGSET, tid, NT_X86_XSTATE, extended, &n_extended);
	if (set.rip)
		errx(1, "the call crashed at %#llx", set.rip);
	return set.rax;
}

/* The leader's end is told after that of all others, which are ours to wait for as well. */
static void end_by(pid_t pid, int sig)
{
	int status;
	pid_t tid;

	if (ptrace(PTRACE_CONT, pid, 0, sig))
		err(1, "signal %d", sig);
	do {
		tid = waitpid(-1, &status, __WALL);
		if (tid > 0 && WIFSTOPPED(status))
			ptrace(PTRACE_CONT, tid, 0, 0);
	} while (tid > 0 || errno == EINTR);
}

int main(int argc, char **argv)
{
	pid_t pid;

	if (argc < 4)
		errx(2, "usage: call PID ADDRESS ARGUMENT [SIGNAL]");
	pid = (pid_t)strtol(argv[1], NULL, 10);
	hold_all(pid);
	if (!is_held(pid))
		errx(1, "process %d has no main thread", pid);
	printf("%llu\n", call(pid, strtoul(argv[2], NULL, 16), strtoul(argv[3], NULL, 0)));
	if (argc > 4)
		end_by(pid, (int)strtol(argv[4], NULL, 10));
	else
		for (size_t i = 0; i < n_held; i++)
			ptrace(PTRACE_DETACH, held[i], 0, 0);
	return 0;
}
