// SPDX-License-Identifier: GPL-3.0-or-later
/* What tests ask for of the engines (ARENASCOPE_FAULT): base/fault.c reads nothing in a program that is shipped. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "commands/capture.h"
#include "target/proc.h"

/* Has every thread of the process come to rest by the signal, with nobody tracing it? */
static bool all_frozen(pid_t pid)
{
	ASC_AUTO(asc_freep) pid_t *tids = NULL;
	struct asc_proc_stat st;
	size_t n = 0;

	if (asc_proc_tasks(pid, &tids, &n))
		return true;
	for (size_t i = 0; i < n; i++) {
		if (!asc_proc_stat(pid, tids[i], &st) && st.state != 'T' && st.state != 'Z')
			return false;
	}
	return true;
}

/*
 * For tests: the target is SIGSTOPped in our stop, so that it can be compared with a copy of this
 * very moment. When all of it has come to that, which takes seconds beside a hundred busy threads, we stop
 * ourselves, and go on when the test says so.
 */
void asc_session_freeze(const struct asc_session *s, bool begin)
{
	enum { PATIENCE = 10000 }; /* naps of 2 ms */
	const struct timespec nap = { 0, 2000000 };
	struct asc_proc_stat st;
	pid_t pid = asc_target_pid(s->live);
	const struct asc_thread *t;
	size_t n;

	if (!asc_fault_number("freeze"))
		return;
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
	for (int i = 0; !begin && i < PATIENCE && !all_frozen(pid); i++)
		nanosleep(&nap, NULL);
	if (!begin)
		raise(SIGSTOP);
}

void asc_session_stall(void)
{
	const unsigned ms = asc_fault_number("stall");
	const struct timespec nap = { ms / 1000, (long)(ms % 1000) * 1000000 };

	if (ms)
		nanosleep(&nap, NULL);
}

bool asc_session_sealed(void)
{
	enum { STAND_STILL = 1, TOO_LITTLE = 2 };
	const unsigned want = asc_fault_number("sealed");

	if (want == STAND_STILL)
		raise(SIGSTOP);
	return want == TOO_LITTLE;
}
