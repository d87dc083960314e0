/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The tool's side of the stopper: start it, hear that everything is stopped, let go, reap. */
#include "target/stopper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/num.h"
#include "target/diagnose.h"
#include "target/stopper_area.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

enum {
	DEFAULT_STOP_MS = 200,
	DEFAULT_PAUSE_MS = 500,
	WATCHDOG_TIMES = 4,
	SLACK_MS = 3000, /* for seizing, and for an exec of the target in its way */
	SEIZE_END_MS = 100,
	END_MS =
		15000, /* a thread that waits for a CPU meanwhile must be caught, or its call fails */
	SPARE_SLOTS = 4096,
	STACK_BYTES = 64 * 1024,
	GUARD_BYTES = 64 * 1024,
};

struct asc_stopper {
	struct asc_stop_area *area;
	size_t area_bytes;
	char *stack;
	pid_t helper;
	int sock, task_fd, tool_pidfd;
	bool holding;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void *map(size_t bytes, int flags)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_NORESERVE | flags,
		       -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static struct asc_error *make_area(struct asc_stopper *s, const struct asc_thread *threads,
				   size_t nthreads)
{
	size_t cap = nthreads * 4 + SPARE_SLOTS, buckets = 1;
	size_t at_slots = sizeof(struct asc_stop_area), at_hash, at_running;
	char *p;

	while (buckets < cap * 2)
		buckets *= 2;
	at_hash = at_slots + cap * sizeof(struct asc_stop_slot);
	at_running = at_hash + buckets * sizeof(uint32_t);
	s->area_bytes = at_running + nthreads * sizeof(pid_t);
	p = map(s->area_bytes, MAP_SHARED);
	s->stack = map(GUARD_BYTES + STACK_BYTES, MAP_PRIVATE | MAP_STACK);
	s->area = (struct asc_stop_area *)(void *)p;
	if (!p || !s->stack || mprotect(s->stack, GUARD_BYTES, PROT_NONE))
		return asc_err(ASC_ENOMEM, "memory for the stopper of %zu threads", nthreads);
	s->area->slots = (struct asc_stop_slot *)(void *)(p + at_slots);
	s->area->hash = (uint32_t *)(void *)(p + at_hash);
	s->area->cap = (uint32_t)cap;
	s->area->hash_mask = (uint32_t)(buckets - 1);
	s->area->running = (pid_t *)(void *)(p + at_running);
	for (size_t i = 0; i < nthreads; i++) {
		if (threads[i].state == 'R')
			s->area->running[s->area->nrunning++] = threads[i].tid;
	}
	return NULL;
}

/*
 * A process that shares our memory, with its own files and signal handlers: nothing is copied when
 * it starts and nothing is torn down while it ends, so that a tool of many gigabytes pauses the
 * target no longer than a small one. Under valgrind, which has no such clone, a plain fork.
 */
static pid_t start_helper(struct asc_stopper *s)
{
	sigset_t all, before;
	pid_t pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all,
		    &before); /* no handler of ours must ever run in the helper */
	if (RUNNING_ON_VALGRIND) {
		pid = fork();
		if (!pid)
			asc_stopper_main(s->area);
	} else {
		/* exit signal 0: the tool sees no SIGCHLD and no stray child */
		pid = clone(asc_stopper_main, s->stack + GUARD_BYTES + STACK_BYTES, CLONE_VM,
			    s->area);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

static void reap(struct asc_stopper *s, bool kill_first)
{
	if (s->helper <= 0)
		return;
	if (kill_first)
		kill(s->helper, SIGKILL);
	while (waitpid(s->helper, NULL, __WALL) < 0 && errno == EINTR)
		;
	s->helper = 0;
}

/* With AddressSanitizer the redzones of its last frames would stay behind for whoever is mapped there next. */
static void drop_stack(void *stack)
{
#ifdef __SANITIZE_ADDRESS__
	void __asan_unpoison_memory_region(const volatile void *, size_t);

	__asan_unpoison_memory_region(stack, GUARD_BYTES + STACK_BYTES);
#endif
	munmap(stack, GUARD_BYTES + STACK_BYTES);
}

static void free_stopper(struct asc_stopper *s)
{
	int fds[] = { s->sock, s->tool_pidfd };

	for (size_t i = 0; i < ASC_ARRAY_SIZE(fds); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	if (s->area)
		munmap(s->area, s->area_bytes);
	if (s->stack)
		drop_stack(s->stack);
	free(s);
}

/* Wait up to @p ms for the helper's byte. @return 0, ETIMEDOUT, or EPIPE if it died */
static int hear(const struct asc_stopper *s, uint64_t ms, char *ret)
{
	uint64_t until = now_ns() + ms * 1000000u;
	struct pollfd p = { .fd = s->sock, .events = POLLIN };

	for (;;) {
		uint64_t t = now_ns();
		int r;

		if (t >= until)
			return ETIMEDOUT;
		r = poll(&p, 1, (int)asc_min((until - t) / 1000000u + 1, INT_MAX));
		if (r > 0)
			return read(s->sock, ret, 1) == 1 ? 0 : EPIPE;
	}
}

/* It lets go of what it has stopped by itself, unless PTRACE_SEIZE waits for an exec in the target. */
static void give_up(struct asc_stopper *s)
{
	uint64_t ms = __atomic_load_n(&s->area->t_interrupt, __ATOMIC_ACQUIRE) ? END_MS
									       : SEIZE_END_MS;
	char word;
	int r;

	__atomic_store_n(&s->area->abandon, 1, __ATOMIC_RELEASE);
	shutdown(s->sock, SHUT_WR);
	do {
		r = hear(s, ms, &word);
	} while (!r);
	reap(s, r == ETIMEDOUT);
}

static struct asc_error *explain(const struct asc_stop_area *a)
{
	switch (a->step) {
	case ASC_STOP_SEIZE:
		return asc_diagnose(a->pid, a->os_errno, "stop");
	case ASC_STOP_LIST:
	case ASC_STOP_GONE:
		return asc_err_id(
			asc_err(ASC_EAGAIN, "process %d ended while it was being stopped", a->pid),
			"E-GONE");
	case ASC_STOP_MANY:
		return asc_err(ASC_EAGAIN, "process %d has more than %u threads", a->pid, a->cap);
	default:
		return asc_err(ASC_EBUG, "the stopper failed at step %u", a->step);
	}
}

static struct asc_error *run(struct asc_stopper *s, uint64_t wait_ms)
{
	struct asc_stop_area *a = s->area;
	char word = 0;
	int sv[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return asc_err_os(errno, "socketpair");
	s->sock = sv[0];
	a->sock = sv[1];
	s->tool_pidfd = a->tool_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	asc_fault("tool", 1);
	s->helper = start_helper(s);
	close(sv[1]);
	if (s->helper < 0)
		return asc_err_os(errno, "cannot start the stopper");
	asc_fault("tool", 2);
	r = hear(s, wait_ms, &word);
	if (!r && word == 'S') {
		s->holding = true;
		asc_fault("tool", 3);
		return NULL;
	}
	if (r == ETIMEDOUT) {
		give_up(s);
		return asc_err_id(asc_err(ASC_EAGAIN, "process %d could not be stopped in %llu ms",
					  a->pid, (unsigned long long)wait_ms),
				  "E-NOSTOP");
	}
	reap(s, false);
	if (r)
		return asc_err_id(
			asc_err(ASC_EAGAIN, "the stopper of process %d was killed", a->pid),
			"E-STOPPER");
	return explain(a);
}

struct asc_error *asc_stopper_start(pid_t pid, int task_fd, const struct asc_thread *threads,
				    size_t nthreads, const struct asc_stop_opts *opts,
				    struct asc_stopper **ret)
{
	uint64_t stop_ms = opts && opts->stop_timeout_ms ? opts->stop_timeout_ms : DEFAULT_STOP_MS;
	uint64_t pause_ms = opts && opts->max_pause_ms ? opts->max_pause_ms : DEFAULT_PAUSE_MS;
	struct asc_stopper *s = calloc(1, sizeof(*s));
	struct asc_error *err;

	if (!s)
		return asc_err(ASC_ENOMEM, "stopper");
	s->sock = s->tool_pidfd = -1;
	err = make_area(s, threads, nthreads);
	if (!err) {
		s->area->pid = pid;
		s->area->tool_pid = getpid();
		s->area->task_fd = task_fd;
		s->area->stop_timeout_ns = stop_ms * 1000000u;
		if (pause_ms != UINT_MAX)
			s->area->watchdog_ns = pause_ms * WATCHDOG_TIMES * 1000000u;
		s->area->fault = asc_fault_number("attach");
		s->area->fault_tool = asc_fault_number("attach-tool");
		err = run(s, stop_ms + SLACK_MS);
	}
	if (err) {
		reap(s, true);
		free_stopper(s);
		return err;
	}
	*ret = s;
	return NULL;
}

bool asc_stopper_holds(const struct asc_stopper *s)
{
	struct pollfd p = { .fd = s->sock, .events = POLLIN };

	/* its end closes the socket, whatever ended it */
	return s->holding && !__atomic_load_n(&s->area->let_go, __ATOMIC_ACQUIRE) &&
	       poll(&p, 1, 0) == 0;
}

const struct asc_stop_slot *asc_stopper_slots(const struct asc_stopper *s, size_t *ret_n)
{
	*ret_n = s->area->nslots;
	return s->area->slots;
}

pid_t asc_stopper_pid(const struct asc_stopper *s)
{
	return s->helper;
}

void asc_stopper_end(struct asc_stopper *s, struct asc_pause *ret)
{
	struct asc_stop_area *a;
	bool early;
	char word = 'R';

	if (!s)
		return;
	a = s->area;
	early = !asc_stopper_holds(s);
	asc_fault("tool", 4);
	if (send(s->sock, &word, 1, MSG_NOSIGNAL) == 1)
		reap(s, hear(s, END_MS, &word) == ETIMEDOUT);
	else
		reap(s, false);
	asc_fault("tool", 5);
	*ret = (struct asc_pause){
		/* as the helper saw it: the running target may well keep us from the CPU now */
		.ms = (double)((a->t_let_go ? a->t_let_go : now_ns()) - a->t_interrupt) / 1e6,
		.stop_ms = (double)(a->t_stopped - a->t_interrupt) / 1e6,
		.threads = a->stopped,
		.not_stopped = a->late,
		.watchdog = early,
	};
	free_stopper(s);
}
