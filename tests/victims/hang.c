/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hangs, each made on purpose and in one way only. Usage: hang MODE. Prints "pid N" (which process
 * hangs) and "ready" when it does; ends at end of file on standard input.
 *
 * An arena's lock is kept by malloc_trim: seccomp makes its madvise wait for an answer that never
 * comes (the thread sleeps with the lock held), or raise SIGSYS (a handler runs with the lock held).
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BIG = 5000 }; /* beyond the tcache */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static volatile int go;
static unsigned futex_word;
static FILE *stream;

static void *run(void *(*f)(void *))
{
	pthread_t t;

	if (pthread_create(&t, NULL, f, NULL))
		abort();
	return NULL;
}

static void rest(unsigned ms)
{
	usleep(ms * 1000);
}

static void filter_madvise(unsigned action, unsigned flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog) < 0) {
		perror("seccomp");
		exit(77);
	}
}

/* Whole free pages between live chunks: something for malloc_trim to release. */
static void make_hole(void)
{
	char *a = malloc(BIG), *hole = malloc(100000), *b = malloc(BIG);

	if (!a || !hole || !b)
		abort();
	memset(hole, 1, 100000);
	free(hole);
}

static void *trim(void *arg)
{
	make_hole();
	go = 1;
	malloc_trim(0);
	return arg;
}

static void *allocate(void *arg)
{
	while (!go)
		rest(1);
	rest(100);
	for (;;) { /* who holds the lock may come late to it */
		free(malloc(BIG));
		rest(10);
	}
	return arg;
}

static void *hold_in_madvise(void *arg)
{
	filter_madvise(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
	return trim(arg);
}

static void sleeps(void)
{
	for (int i = 0; i < 7; i++)
		run(allocate); /* first: making a thread takes the lock */
	run(hold_in_madvise);
}

/* ---- signal handler ---- */

static void handler_allocates(int sig)
{
	(void)sig;
	free(malloc(BIG));
}

static void handler_locks(int sig)
{
	(void)sig;
	pthread_mutex_lock(&mutex);
}

static void *trim_trapped(void *arg)
{
	filter_madvise(SECCOMP_RET_TRAP, 0);
	return trim(arg);
}

static void on_sigsys(void (*f)(int))
{
	struct sigaction sa = { .sa_handler = f };

	sigaction(SIGSYS, &sa, NULL);
}

static void handler(void)
{
	on_sigsys(handler_allocates);
	run(trim_trapped);
}

/* ---- ABBA ---- */

static void *mutex_then_arena(void *arg)
{
	pthread_mutex_lock(&mutex);
	go = 2;
	while (go != 1)
		rest(1);
	rest(100);
	free(malloc(BIG));
	return arg;
}

static void abba(void)
{
	on_sigsys(handler_locks);
	run(mutex_then_arena);
	while (go != 2)
		rest(1);
	run(trim_trapped);
}

/* ---- fork ---- */

static pid_t fork_raw(void)
{
	/* what a library does that forks by itself: no handlers run that would put malloc in order */
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); /* every CPU has it */
}

static void forked(void)
{
	pid_t child;

	run(hold_in_madvise);
	while (!go)
		rest(1);
	rest(100);
	child = fork_raw();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		free(malloc(BIG));
		_exit(1);
	}
	printf("pid %d\n", (int)child);
}

static void *hold_mutex(void *arg)
{
	pthread_mutex_lock(&mutex);
	go = 1;
	pause();
	return arg;
}

static void forked_mutex(void)
{
	pid_t child;

	run(hold_mutex);
	while (!go)
		rest(1);
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pthread_mutex_lock(&mutex);
		_exit(1);
	}
	printf("pid %d\n", (int)child);
}

/* ---- a damaged list ---- */

static void *walk_in_circles(void *arg)
{
	size_t *small = malloc(0x1400 - 8), *guard = malloc(BIG), *large = malloc(0x1500 - 8);
	size_t *end = malloc(BIG);

	if (!small || !guard || !large || !end)
		abort();
	/* outlives the free */
	volatile size_t *words = (volatile size_t *)(uintptr_t)small;

	free(small);
	free(large);
	free(malloc(0x8000));		/* sorts both into one bin */
	words[3] = (size_t)(words - 2); /* bk_nextsize: itself */
	go = 1;
	free(malloc(0x1480 - 8));
	return arg;
}

static void loop(void)
{
	for (int i = 0; i < 3; i++)
		run(allocate);
	run(walk_in_circles);
}

static void loop_alone(void)
{
	run(walk_in_circles);
}

/* ---- contention ---- */

static void *churn(void *arg)
{
	for (;;) {
		void *p[32];

		for (int i = 0; i < 32; i++)
			p[i] = malloc(BIG + (size_t)i * 16);
		for (int i = 0; i < 32; i++)
			free(p[i]);
	}
	return arg;
}

static void contend(void)
{
	for (int i = 0; i < 64; i++)
		run(churn);
}

/* ---- other locks ---- */

static int stay(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)info;
	(void)size;
	(void)arg;
	go = 1;
	pause();
	return 1;
}

static void *iterate(void *arg)
{
	dl_iterate_phdr(stay, NULL);
	return arg;
}

static void loader(void)
{
	run(iterate);
	while (!go)
		rest(1);
	for (int i = 0; i < 3; i++)
		run(iterate);
}

static void *hold_stream(void *arg)
{
	flockfile(stream);
	go = 1;
	pause();
	return arg;
}

static void *write_stream(void *arg)
{
	fputs("x", stream);
	return arg;
}

static void stdio(void)
{
	stream = fopen("/dev/null", "w");
	run(hold_stream);
	while (!go)
		rest(1);
	for (int i = 0; i < 3; i++)
		run(write_stream);
}

static void *take_mutex(void *arg)
{
	pthread_mutex_lock(&mutex);
	return arg;
}

static void convoy(void)
{
	run(hold_mutex);
	while (!go)
		rest(1);
	for (int i = 0; i < 5; i++)
		run(take_mutex);
}

static void *wait_futex(void *arg)
{
	for (;;)
		syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return arg;
}

static void sleep_on(uint32_t *word, const struct timespec *timeout)
{
	for (;;)
		syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, *word, timeout, NULL, 0);
}

/* The names that a Rust program's functions have: the older mangling, and the newer. */
void rust_condvar(void *arg) __asm__(
	"_ZN3std3sys4unix5locks5futex7Condvar4wait17h5f917b05b5a5d565E");
void rust_mutex(void *arg) __asm__(
	"_RNvMNtNtNtNtCsjrHSEGnQ3l9_3std3sys4sync5mutex5futexNtB2_5Mutex14lock_contended");

__attribute__((noinline)) void rust_condvar(void *arg)
{
	sleep_on(arg, NULL);
}

__attribute__((noinline)) void rust_mutex(void *arg)
{
	sleep_on(arg, NULL);
}

static void *wait_condvar(void *arg)
{
	static uint32_t sequence = 1226;

	rust_condvar(&sequence);
	return arg;
}

static void *wait_mutex(void *arg)
{
	static uint32_t contended = 2;

	rust_mutex(&contended);
	return arg;
}

static void *wait_event(void *arg)
{
	static const struct timespec some_day = { .tv_sec = 100000 };
	static uint32_t sequence = 1226;

	sleep_on(&sequence, &some_day);
	return arg;
}

static void of_five(void *(*wait)(void *))
{
	for (int i = 0; i < 5; i++)
		run(wait);
}

static void raw_futex(void)
{
	of_five(wait_futex);
}

static void rust_waits(void)
{
	of_five(wait_condvar);
}

static void rust_locks(void)
{
	of_five(wait_mutex);
}

static void event(void)
{
	of_five(wait_event);
}

static void *wait_cond(void *arg)
{
	pthread_mutex_lock(&mutex);
	for (;;)
		pthread_cond_wait(&cond, &mutex);
	return arg;
}

static void *wait_signal(void *arg)
{
	pause();
	return arg;
}

static void *wait_time(void *arg)
{
	for (;;)
		sleep(1000);
	return arg;
}

static void idle(void)
{
	for (int i = 0; i < 4; i++)
		run(wait_cond);
	run(wait_signal);
	run(wait_time);
}

static const struct {
	const char *name;
	void (*start)(void);
} modes[] = {
	{ "sleeps", sleeps },
	{ "handler", handler },
	{ "fork", forked },
	{ "fork-mutex", forked_mutex },
	{ "abba", abba },
	{ "loop", loop },
	{ "loop-alone", loop_alone },
	{ "contend", contend },
	{ "loader", loader },
	{ "stdio", stdio },
	{ "convoy", convoy },
	{ "raw-futex", raw_futex },
	{ "rust-condvar", rust_waits },
	{ "rust-mutex", rust_locks },
	{ "event", event },
	{ "idle", idle },
};

int main(int argc, char **argv)
{
	char c;

	mallopt(M_ARENA_MAX, 1); /* everybody shares the main arena */
	printf("pid %d\n", (int)getpid());
	for (size_t i = 0; argc > 1 && i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(modes[i].name, argv[1]))
			continue;
		modes[i].start();
		rest(400);
		/* write() only: stdio's buffer is there already, but malloc may be stuck */
		puts("ready");
		fflush(stdout);
		while (read(0, &c, 1) > 0)
			;
		_exit(0);
	}
	fprintf(stderr, "usage: hang MODE\n");
	return 64;
}
