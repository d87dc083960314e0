/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The stopper's own side. Two phases: seize every thread while the target runs, then interrupt them
 * and collect the stops, those that ran a moment before last; look for newborn threads until a pass
 * finds none. Then hold until the tool says so, or is gone, or the watchdog fires, let go of those
 * that ran, and exit: the exit detaches everything.
 *
 * The helper shares the tool's memory (so that neither fork nor exit copies or frees page tables
 * while the target is stopped), hence: raw system calls only, no libc, no allocation, all signals
 * blocked. While the target is stopped nothing is opened but /proc of the target itself.
 *
 * Stops are looked at with WNOWAIT and never consumed: a signal that a thread was about to take is
 * lost if its tracer dies after wait(), but is delivered if it dies before.
 */
#include "target/stopper_area.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

#include "target/stopper_thread.h"

enum {
	/* A thread in D is waited for this long: its pending trap comes before any user
	   instruction. */
	PATIENCE_D_NS = 10 * 1000 * 1000,
	PATIENCE_LOCK_NS =
		50 * 1000 * 1000, /* for the mmap lock: its holder is on the way out, too */
	/* on a loaded machine each look takes its time; the tool gives up after SLACK_MS more */
	PATIENCE_ALL_NS = 1500 * 1000 * 1000,
	LOOK_AGAIN_NS = 1000 * 1000,
	BRIEF_NS = 1000 * 1000,	   /* who sleeps stops in this and ... */
	BRIEF_EACH_NS = 20 * 1000, /* ... this for each, if there are CPUs for it */
	LATE_D_NS = 100 * 1000 * 1000,
	LATE_RUNS_NS = 2000 * 1000 * 1000,
	/* a look for dead threads goes over all of them: not while a word may come */
	REAP_NS = 50 * 1000 * 1000,
	SEIZE_PASSES = 8,
	STOP_PASSES = 1000,
	KERNEL_SIGSET_BYTES = 8,
};

#define LATE_NS (10ull * 1000 * 1000 * 1000)

struct kernel_dirent {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

ASC_BARE static uint64_t now(void)
{
	struct timespec ts = { 0 };

	asc_raw(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&ts, 0, 0, 0);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

ASC_BARE static void fault(const struct asc_stop_area *a, uint32_t n)
{
	if (a->fault == n)
		asc_raw(SYS_kill, asc_raw(SYS_getpid, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0);
	if (a->fault_tool == n)
		asc_raw(SYS_kill, a->tool_pid, SIGKILL, 0, 0, 0);
}

ASC_BARE static struct asc_stop_slot *slot_of(struct asc_stop_area *a, pid_t tid, bool *ret_new)
{
	uint32_t h = (uint32_t)tid * 2654435761u;
	struct asc_stop_slot *s;

	*ret_new = false;
	for (;; h++) {
		uint32_t i = a->hash[h & a->hash_mask];

		if (!i)
			break;
		s = &a->slots[i - 1];
		if (s->tid != tid)
			continue;
		if (s->state == ASC_SLOT_GONE) { /* the number was given out again */
			s->state = ASC_SLOT_NEW;
			s->found = s->asked = 0;
			*ret_new = true;
		}
		return s;
	}
	if (a->nslots == a->cap)
		return NULL;
	s = &a->slots[a->nslots++];
	s->tid = tid;
	s->state = ASC_SLOT_NEW;
	a->hash[h & a->hash_mask] = a->nslots;
	*ret_new = true;
	return s;
}

ASC_BARE static void mark_running(struct asc_stop_area *a)
{
	for (uint32_t k = 0; k < a->nrunning; k++) {
		uint32_t h = (uint32_t)a->running[k] * 2654435761u, i;

		for (; (i = a->hash[h & a->hash_mask]) != 0; h++)
			a->slots[i - 1].runs |= a->slots[i - 1].tid == a->running[k];
	}
}

ASC_BARE static bool fail(struct asc_stop_area *a, enum asc_stop_step step, long err, pid_t tid)
{
	a->step = step;
	a->os_errno = (int32_t)-err;
	a->err_tid = tid;
	return false;
}

/* List /proc/PID/task into slots. @return how many are new, or a negative errno */
ASC_BARE static long list(struct asc_stop_area *a)
{
	long added = 0;

	asc_raw(SYS_lseek, a->task_fd, 0, SEEK_SET, 0, 0);
	for (;;) {
		long n = asc_raw(SYS_getdents64, a->task_fd, (long)a->dents, ASC_STOP_DENTS, 0, 0);

		if (n <= 0)
			return n ? n : added;
		for (long at = 0; at < n;) {
			const struct kernel_dirent *d = (const void *)(a->dents + at);
			unsigned tid = 0;
			const char *p = d->name;
			bool is_new;

			at += d->reclen;
			for (; *p >= '0' && *p <= '9'; p++)
				tid = tid * 10 + (unsigned)(*p - '0');
			if (!tid || *p)
				continue;
			if (!slot_of(a, (pid_t)tid, &is_new))
				return -E2BIG;
			added += is_new;
		}
	}
}

/*
 * Make a listed thread ours. EPERM may mean that it is ours already (born of a seized thread), that
 * it is exiting, or that we may not: only PTRACE_INTERRUPT and its state tell.
 */
ASC_BARE static long seize(struct asc_stop_area *a, struct asc_stop_slot *s)
{
	long opts = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;
	char state;
	long r = 0;

	for (int i = 0; i < 3; i++) {
		r = asc_stopper_ptrace(PTRACE_SEIZE, s->tid, 0, (void *)opts);
		if (!r) {
			s->state = ASC_SLOT_SEIZED;
			return 0;
		}
		if (r == -EPERM && !asc_stopper_ptrace(PTRACE_INTERRUPT, s->tid, 0, NULL)) {
			s->state = ASC_SLOT_SEIZED;
			s->asked = 1;
			return 0;
		}
		state = asc_stopper_task_state(a, s->tid);
		if (!state || state == 'X' || state == 'Z') {
			s->state = state == 'Z' && s->tid == a->pid ? ASC_SLOT_ZOMBIE
								    : ASC_SLOT_GONE;
			return 0;
		}
		if (r != -EPERM && r != -ESRCH)
			break;
	}
	return r;
}

ASC_BARE static bool seize_all(struct asc_stop_area *a)
{
	uint32_t next = 0;

	for (int pass = 0; pass < SEIZE_PASSES; pass++) {
		long added = list(a);

		if (added == -E2BIG)
			return fail(a, ASC_STOP_MANY, added, 0);
		if (added < 0)
			return fail(a, ASC_STOP_LIST, added, 0);
		if (!added)
			break;
		/* a reused number has an old slot; they are few, stop_all() takes them */
		for (; next < a->nslots; next++) {
			long r = seize(a, &a->slots[next]);

			if (r)
				return fail(a, ASC_STOP_SEIZE, r, a->slots[next].tid);
			fault(a, 2);
		}
	}
	return true;
}

ASC_BARE static void await_change(uint64_t ns)
{
	uint64_t set = 1ull << (SIGCHLD - 1);
	struct timespec ts = { .tv_nsec = (long)ns };

	asc_raw(SYS_rt_sigtimedwait, (long)&set, 0, (long)&ts, KERNEL_SIGSET_BYTES, 0);
}

/* A thread that did not stop at once: is it worth waiting for? @return true: no */
ASC_BARE static bool give_up(struct asc_stop_area *a, struct asc_stop_slot *s, uint64_t elapsed)
{
	char state = asc_stopper_task_state(a, s->tid);

	if (!state || state == 'X') {
		s->state = ASC_SLOT_GONE;
	} else if (state == 'Z') {
		s->state = s->tid == a->pid ? ASC_SLOT_ZOMBIE : ASC_SLOT_GONE;
	} else if (elapsed > a->stop_timeout_ns ||
		   (state == 'D' && elapsed > PATIENCE_D_NS &&
		    (elapsed > PATIENCE_LOCK_NS || !asc_stopper_waits_for_lock(a, s->tid)))) {
		s->state = ASC_SLOT_LATE;
		s->found = (uint8_t)state;
	}
	return s->state != ASC_SLOT_SEIZED;
}

/* The tool waits no longer. */
ASC_BARE static bool is_abandoned(const struct asc_stop_area *a)
{
	return __atomic_load_n(&a->abandon, __ATOMIC_ACQUIRE);
}

/*
 * They stop side by side, so waiting for the first one costs nothing for the others. Whoever has not stopped
 * by then is given up after one more look each, and once that takes too long without. Not beyond @p until.
 */
ASC_BARE static void collect(struct asc_stop_area *a, uint64_t until)
{
	uint64_t asked_state = a->t_interrupt;

	for (uint32_t i = 0; i < a->nslots; i++) {
		struct asc_stop_slot *s = &a->slots[i];

		while (s->state == ASC_SLOT_SEIZED && s->asked && !asc_stopper_look(a, s)) {
			uint64_t t = now();

			if (t > until)
				return;
			if (t - asked_state > LOOK_AGAIN_NS ||
			    t - a->t_interrupt > a->stop_timeout_ns + PATIENCE_ALL_NS) {
				asked_state = t;
				if (is_abandoned(a))
					return;
				if (give_up(a, s, t - a->t_interrupt))
					break;
			}
			await_change(LOOK_AGAIN_NS);
		}
		if (i == a->nslots / 2)
			fault(a, 6);
	}
}

/* Ask all to stop but those that run; @p runners: these, too. */
ASC_BARE static long interrupt_all(struct asc_stop_area *a, bool runners)
{
	for (uint32_t i = 0; i < a->nslots; i++) {
		struct asc_stop_slot *s = &a->slots[i];

		if (s->state == ASC_SLOT_NEW) {
			long r = seize(a, s);

			if (r)
				return fail(a, ASC_STOP_SEIZE, r, s->tid), r;
		}
		if (s->state == ASC_SLOT_SEIZED && !s->asked && (runners || !s->runs)) {
			asc_stopper_ptrace(PTRACE_INTERRUPT, s->tid, 0, NULL);
			s->asked = 1;
			fault(a, 4);
		}
	}
	return 0;
}

ASC_BARE static bool stop_all(struct asc_stop_area *a)
{
	a->t_interrupt = now();
	for (int pass = 0; pass < STOP_PASSES; pass++) {
		long added;

		/*
		 * Who sleeps does not notice how long the others take to stop, who runs does. On a loaded
		 * machine those that run have the CPUs that the others need for it: then they stop first.
		 */
		if (interrupt_all(a, false))
			return false;
		collect(a, now() + BRIEF_NS + a->nslots * (uint64_t)BRIEF_EACH_NS);
		if (interrupt_all(a, true))
			return false;
		if (!pass)
			fault(a, 5);
		collect(a, UINT64_MAX);
		if (is_abandoned(a))
			return false;
		added = list(a);
		if (added == -E2BIG)
			return fail(a, ASC_STOP_MANY, added, 0);
		if (added < 0)
			return fail(a, ASC_STOP_LIST, added, 0);
		if (!added)
			break;
	}
	for (uint32_t i = 0; i < a->nslots; i++) {
		struct asc_stop_slot *s = &a->slots[i];

		if (s->state == ASC_SLOT_LATE)
			asc_stopper_look(a, s);
		a->stopped += s->state == ASC_SLOT_STOPPED;
		a->late += s->state == ASC_SLOT_LATE;
	}
	a->t_stopped = now();
	return a->stopped || a->late || fail(a, ASC_STOP_GONE, 0, 0);
}

/*
 * Threads that were killed are waited for. Each by its number: a wait for any takes stops as well, asked for or
 * not, and whoever stopped late was never seen again.
 */
ASC_BARE static void reap(struct asc_stop_area *a)
{
	const long opts = WEXITED | WNOHANG | __WALL;
	siginfo_t si;

	for (uint32_t i = 0; i < a->nslots; i++) {
		const struct asc_stop_slot *s = &a->slots[i]; /* the tool may be reading it */

		if (s->state != ASC_SLOT_STOPPED)
			continue;
		si.si_pid = 0;
		asc_raw(SYS_waitid, P_PID, s->tid, (long)&si, opts | WNOWAIT, 0);
		if (si.si_pid && si.si_code != CLD_TRAPPED && si.si_code != CLD_STOPPED)
			asc_raw(SYS_waitid, P_PID, s->tid, (long)&si, opts, 0);
	}
}

/* Wait for the tool's word, its end, or the watchdog. Threads killed meanwhile are reaped. */
ASC_BARE static void hold(struct asc_stop_area *a)
{
	uint64_t chld = 1ull << (SIGCHLD - 1);
	struct pollfd p[3] = {
		{ .fd = a->sock, .events = POLLIN },
		{ .fd = a->tool_pidfd, .events = POLLIN },
		{ .fd = (int)asc_raw(SYS_signalfd4, -1, (long)&chld, KERNEL_SIGSET_BYTES, O_CLOEXEC,
				     0),
		  .events = POLLIN },
	};

	bool dirty = false;

	for (;;) {
		uint64_t age = now() - a->t_interrupt, left = UINT64_MAX, wait;
		struct timespec ts;
		long r;

		if (a->watchdog_ns)
			left = age < a->watchdog_ns ? a->watchdog_ns - age : 0;
		wait = dirty && left > REAP_NS ? REAP_NS : left;
		ts.tv_sec = (time_t)(wait / 1000000000u);
		ts.tv_nsec = (long)(wait % 1000000000u);
		r = asc_raw(SYS_ppoll, (long)p, 3, wait == UINT64_MAX ? 0 : (long)&ts, 0, 0);
		if (r == 0 && wait == left) {
			__atomic_store_n(&a->let_go, 1, __ATOMIC_RELEASE);
			return;
		}
		if (r == 0) {
			reap(a);
			dirty = false;
		}
		if (r < 0 && r != -EINTR)
			return;
		if (r > 0 && (p[0].revents || (p[1].revents & POLLIN)))
			return;
		if (r > 0 && p[2].revents) {
			char info[128]; /* struct signalfd_siginfo */

			asc_raw(SYS_read, p[2].fd, (long)info, sizeof(info), 0, 0);
			dirty = true;
		}
	}
}

/* Asked to stop, and did not yet: let go now, its system call would return EINTR. */
ASC_BARE static bool pending(const struct asc_stop_slot *s)
{
	return s->asked && (s->state == ASC_SLOT_LATE || s->state == ASC_SLOT_SEIZED);
}

/*
 * Of one that has not stopped yet. In state D nothing is interrupted, but what follows in the same call may be:
 * those that waited for a lock of a thread that was stopped are soon out of it. One that ran before it was asked to
 * stop is in no call that could fail, most likely, and may wait for a CPU for 10 s (seen with 64 of them on 2). 't' is
 * one that stops just now.
 */
ASC_BARE static bool is_late(const struct asc_stop_slot *s, char state, uint64_t waited)
{
	if (state == 'D')
		return waited < LATE_D_NS;
	if (state == 'R' && s->runs)
		return waited < LATE_RUNS_NS;
	return state && state != 'X' && state != 'Z';
}

/* The others run on; a late one is caught for a moment, so that it notices nothing. */
ASC_BARE static void await_late(struct asc_stop_area *a)
{
	uint64_t began = now();
	bool late = true;

	for (uint32_t i = 0; i < a->nslots; i++) {
		if (a->slots[i].state == ASC_SLOT_STOPPED)
			asc_stopper_ptrace(PTRACE_DETACH, a->slots[i].tid, 0, NULL);
	}
	while (late && now() - began < LATE_NS) {
		late = false;
		for (uint32_t i = 0; i < a->nslots; i++) {
			struct asc_stop_slot *s = &a->slots[i];

			if (!pending(s))
				continue;
			if (!asc_stopper_look(a, s)) {
				if (a->fault == 11)
					await_change(20 * LOOK_AGAIN_NS);
				late |= is_late(s, asc_stopper_task_state(a, s->tid),
						now() - began);
			} else if (s->state == ASC_SLOT_STOPPED) {
				asc_stopper_ptrace(PTRACE_DETACH, s->tid, 0, NULL);
			}
		}
		if (late)
			await_change(LOOK_AGAIN_NS);
	}
}

/* Those that ran go first; our exit detaches the others. */
ASC_BARE static void let_run(struct asc_stop_area *a)
{
	bool late = false;

	for (uint32_t i = 0; i < a->nslots; i++) {
		struct asc_stop_slot *s = &a->slots[i];

		if (s->state == ASC_SLOT_LATE)
			asc_stopper_look(a, s);
		if (s->state == ASC_SLOT_STOPPED && s->runs)
			asc_stopper_ptrace(PTRACE_DETACH, s->tid, 0, NULL);
		late |= pending(s);
		if (i == a->nslots / 2)
			fault(a, 9);
	}
	if (late)
		await_late(a);
}

ASC_BARE static void close_but(const struct asc_stop_area *a)
{
	unsigned keep[3] = { (unsigned)a->task_fd, (unsigned)a->sock, (unsigned)a->tool_pidfd };
	unsigned from = 0;

	for (int i = 0; i < 3; i++) { /* three numbers: sort by exchange */
		for (int j = i + 1; j < 3; j++) {
			if (keep[j] < keep[i]) {
				unsigned t = keep[i];

				keep[i] = keep[j];
				keep[j] = t;
			}
		}
	}
	for (int i = 0; i < 3 && keep[i] <= INT_MAX; i++) {
		if (keep[i] > from)
			asc_raw(SYS_close_range, from, keep[i] - 1, 0, 0, 0);
		from = keep[i] + 1;
	}
	asc_raw(SYS_close_range, from, -1, 0, 0, 0);
}

/*
 * Out of reach of the terminal's signals; prompt even on a busy machine. Not a session of its own: the kernel
 * makes a scheduling group of each (sched_autogroup), in which a priority says nothing to other groups; a
 * new one was seen to wait for seconds beside 64 busy threads.
 */
ASC_BARE static void settle(const struct asc_stop_area *a)
{
	const struct sched_param first = { .sched_priority = 1 };
	uint64_t act[4] = { 0 }; /* struct kernel_sigaction with SIG_DFL and no flags */

	asc_raw(SYS_setpgid, 0, 0, 0, 0, 0);
	asc_raw(SYS_rt_sigaction, SIGCHLD, (long)act, 0, KERNEL_SIGSET_BYTES, 0);
	asc_raw(SYS_setpriority, 0, 0, -20, 0, 0);
	asc_raw(SYS_sched_setscheduler, 0, SCHED_FIFO | SCHED_RESET_ON_FORK, (long)&first, 0, 0);
	close_but(a);
}

ASC_BARE static bool tool_lives(const struct asc_stop_area *a)
{
	struct pollfd p[2] = { { .fd = a->sock, .events = POLLIN },
			       { .fd = a->tool_pidfd, .events = POLLIN } };
	struct timespec none = { 0 };

	return asc_raw(SYS_ppoll, (long)p, 2, (long)&none, 0, 0) <= 0;
}

int asc_stopper_main(void *area)
{
	struct asc_stop_area *a = area;
	char word = 'E';

	settle(a);
	fault(a, 1);
	if (seize_all(a) && tool_lives(a)) {
		mark_running(a);
		fault(a, 3);
		if (stop_all(a))
			word = 'S';
	}
	if (word == 'S')
		fault(a, 7);
	asc_raw(SYS_write, a->sock, (long)&word, 1, 0, 0);
	if (word == 'S') {
		hold(a);
		fault(a, 8);
	}
	let_run(a);
	fault(a, 10);
	a->t_let_go = now();
	for (;;)
		asc_raw(SYS_exit_group, 0, 0, 0, 0, 0);
}
