// SPDX-License-Identifier: GPL-3.0-or-later
/* What tests ask for of the engines (ARENASCOPE_FAULT): base/fault.c reads nothing in a program that is shipped. */
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "commands/capture.h"
#include "target/proc.h"

/*
 * For tests: the target is SIGSTOPped in our stop, so that it can be compared with a copy of this
 * very moment; it goes on, and so do we, when the test lets it.
 */
void asc_session_freeze(const struct asc_session *s, bool begin)
{
	const struct timespec nap = { 0, 2000000 };
	struct asc_proc_stat st;
	pid_t pid = asc_target_pid(s->live);

	if (!asc_fault_number("freeze"))
		return;
	const struct asc_thread *t;
	size_t n;

	/*
	 * To each of them: one that is released first must not run before another takes the signal. On a
	 * busy machine a thread may not have come to its stop yet. The one that a fork has borrowed
	 * sleeps, and is left alone.
	 */
	t = asc_target_threads(s->live, &n);
	for (size_t i = 0; begin && i < n; i++) {
		if (!asc_proc_stat(pid, t[i].tid, &st) && strchr("tRD", st.state))
			syscall(SYS_tgkill, pid, t[i].tid, SIGSTOP);
	}
	for (int i = 0; !begin && i < 100; i++, nanosleep(&nap, NULL)) {
		if (asc_proc_stat(pid, 0, &st) || st.state == 'T')
			break;
	}
	while (!begin && !asc_proc_stat(pid, 0, &st) && st.state == 'T')
		nanosleep(&nap, NULL);
}

void asc_session_stall(void)
{
	const unsigned ms = asc_fault_number("stall");
	const struct timespec nap = { ms / 1000, (long)(ms % 1000) * 1000000 };

	if (ms)
		nanosleep(&nap, NULL);
}
