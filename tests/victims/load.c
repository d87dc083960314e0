/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A heap of a given size under load, that notices what is done to it from outside: the largest gap
 * between two readings of the clock in a thread that does nothing else, system calls that return
 * EINTR, children that it never made, queued signals that did not arrive, bytes that changed.
 *
 * load [mb=N] [threads=N] [rest=US] [size=BYTES] [threads that only sleep: idle=N] [no signals: signals=0]
 *      [fifo=1: the clock is read every millisecond, by a thread that waits for a CPU behind none of the others]
 *      [spare=N: so many blocks in the main arena that no thread touches]
 * Prints "ready PID". Commands: "gap" (since the last one), "fork" (largest gap while the process
 * itself forks once, and how long the call took), "count", "stop" and "go" (the load), "drop" (frees some of the spare
 * blocks, each between two that stay), "take" (allocates them again), "smash" (clears the flag of one of them that says
 * that its neighbour is in use), "quit" (verifies: "ok ..." or "WRONG ...").
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64, IDLE_MAX = 2000, IDLE_STACK = 65536 };
enum { SPARE = 3000, SPARE_MAX = 65536, DROPPED = 8 }; /* too large for a tcache */

static struct {
	unsigned long mb, threads, rest, size, idle, signals, spare, fifo;
} opt = { 64, 2, 0, 800, 0, 1, 0, 0 };

static char *spare[SPARE_MAX];

static _Atomic bool over, resting;
static _Atomic uint64_t gap_ns, ops, interrupted, bad, children, sent, received;
static _Atomic unsigned filled;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void *watch(void *arg)
{
	const struct sched_param first = { .sched_priority = 1 };
	const struct timespec nap = { 0, 1000000 };
	uint64_t last = now_ns();

	(void)arg;
	if (opt.fifo && pthread_setschedparam(pthread_self(), SCHED_FIFO, &first)) {
		fprintf(stderr, "load: no SCHED_FIFO\n");
		exit(1);
	}
	while (!over) {
		uint64_t now = now_ns();

		if (now - last > gap_ns)
			gap_ns = now - last;
		last = now;
		if (opt.fifo)
			nanosleep(&nap, NULL);
	}
	return NULL;
}

/* Calls that a stop interrupts; none of them may tell. */
static void *sleeper(void *arg)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev;

	(void)arg;
	while (!over) {
		struct timespec ts = { 0, 3000000 };

		if (epoll_wait(fd, &ev, 1, 5) < 0 && errno == EINTR)
			interrupted++;
		if (nanosleep(&ts, NULL) < 0 && errno == EINTR)
			interrupted++;
	}
	close(fd);
	return NULL;
}

static void on_signal(int sig)
{
	if (sig == SIGCHLD)
		children++;
	else
		received++;
}

static void *signaller(void *arg)
{
	sigset_t all;

	/* it alone sends, and the main thread alone receives */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	while (!over) {
		union sigval v = { 0 };
		struct timespec ts = { 0, 1000000 };

		if (!sigqueue(getpid(), SIGRTMIN + 3, v))
			sent++;
		nanosleep(&ts, NULL);
	}
	(void)arg;
	return NULL;
}

static void *nothing(void *arg)
{
	(void)arg;
	while (!over)
		usleep(200000);
	return NULL;
}

struct block {
	unsigned char *p;
	uint32_t size;
	unsigned char fill;
};

static void make(struct block *b, uint64_t *rng)
{
	*rng = *rng * 6364136223846793005u + 1442695040888963407u;
	b->size = (uint32_t)(24 + (*rng >> 33) % opt.size);
	b->fill = (unsigned char)(*rng >> 25);
	b->p = malloc(b->size);
	if (!b->p)
		_exit(4);
	memset(b->p, b->fill, b->size);
}

static void check(const struct block *b)
{
	for (uint32_t i = 0; i < b->size; i++) {
		if (b->p[i] != b->fill) {
			bad++;
			return;
		}
	}
}

static void *work(void *arg)
{
	uint64_t rng = (uintptr_t)arg * 0x9e3779b97f4a7c15u;
	size_t n = (opt.mb << 20) / opt.threads / (opt.size / 2 + 40);
	struct block *v = calloc(n + 1, sizeof(*v));

	if (!v)
		_exit(4);
	for (size_t i = 0; i < n; i++)
		make(&v[i], &rng);
	filled++;
	while (!over) {
		rng = rng * 6364136223846793005u + 1442695040888963407u;
		struct block *b = &v[(rng >> 33) % n];

		if (resting) {
			usleep(1000);
			continue;
		}
		check(b);
		free(b->p);
		make(b, &rng);
		ops++;
		if (opt.rest)
			usleep((useconds_t)opt.rest);
	}
	for (size_t i = 0; i < n; i++) {
		check(&v[i]);
		free(v[i].p);
	}
	free(v);
	return NULL;
}

/* Pages that a child does not have, or has others in their place. */
static void not_for_children(void)
{
	enum { BYTES = 1 << 20 };
	const int advice[] = { MADV_DONTFORK, MADV_WIPEONFORK };

	for (int i = 0; i < 3; i++) {
		char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
			       (i == 2 ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED || (i < 2 && madvise(p, BYTES, advice[i])))
			_exit(7);
		memset(p, i + 1, BYTES);
	}
}

static void start(pthread_t *t, void *(*fn)(void *), void *arg, size_t stack)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	if (stack)
		pthread_attr_setstacksize(&attr, stack);
	if (pthread_create(t, &attr, fn, arg))
		_exit(5);
	pthread_attr_destroy(&attr);
}

/* From the middle on: the first ones are on pages that are read before all others. */
static char **to_drop(unsigned i)
{
	return &spare[opt.spare / 2 + i * (opt.spare / 2 / DROPPED)];
}

static void drop(void)
{
	for (unsigned i = 0; i < DROPPED; i++) {
		free(*to_drop(i));
		*to_drop(i) = NULL;
	}
	printf("dropped\n");
}

static void take(void)
{
	for (unsigned i = 0; i < DROPPED; i++)
		*to_drop(i) = malloc(SPARE);
	printf("taken\n");
}

static void smash(void)
{
	((volatile size_t *)*to_drop(1))[-1] &= ~(size_t)1;
	printf("smashed\n");
}

static void bare_fork(void)
{
	uint64_t began;
	pid_t pid;

	gap_ns = 0;
	began = now_ns();
	pid = fork();
	if (!pid)
		_exit(0);
	began = now_ns() - began;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	printf("fork %.3f call %.3f\n", (double)gap_ns / 1e6, (double)began / 1e6);
}

static void command(const char *line)
{
	if (!strncmp(line, "gap", 3)) {
		printf("gap %.3f\n", (double)atomic_exchange(&gap_ns, 0) / 1e6);
	} else if (!strncmp(line, "fork", 4)) {
		bare_fork();
	} else if (!strncmp(line, "count", 5)) {
		printf("count ops %llu interrupted %llu children %llu bad %llu\n",
		       (unsigned long long)ops, (unsigned long long)interrupted,
		       (unsigned long long)children, (unsigned long long)bad);
	} else if (!strncmp(line, "stop", 4)) {
		resting = true;
		printf("stopped\n");
	} else if (!strncmp(line, "drop", 4) && opt.spare) {
		drop();
	} else if (!strncmp(line, "take", 4) && opt.spare) {
		take();
	} else if (!strncmp(line, "smash", 5) && opt.spare) {
		smash();
	} else if (!strncmp(line, "go", 2)) {
		resting = false;
		printf("going\n");
	}
	fflush(stdout);
}

static void options(int argc, char **argv)
{
	const struct {
		const char *name;
		unsigned long *to;
	} names[] = { { "mb", &opt.mb },       { "threads", &opt.threads },
		      { "rest", &opt.rest },   { "size", &opt.size },
		      { "idle", &opt.idle },   { "signals", &opt.signals },
		      { "spare", &opt.spare }, { "fifo", &opt.fifo } };

	for (int i = 1; i < argc; i++) {
		char *eq = strchr(argv[i], '=');

		for (size_t k = 0; eq && k < sizeof(names) / sizeof(*names); k++) {
			if (!strncmp(argv[i], names[k].name, (size_t)(eq - argv[i])))
				*names[k].to = strtoul(eq + 1, NULL, 10);
		}
	}
}

int main(int argc, char **argv)
{
	static pthread_t workers[THREADS_MAX], others[3], idle[IDLE_MAX];
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	char line[64];
	sigset_t set;

	options(argc, argv);
	if (opt.threads < 1 || opt.threads > THREADS_MAX || opt.idle > IDLE_MAX || opt.size < 1 ||
	    opt.spare > SPARE_MAX)
		return 2;
	for (size_t i = 0; i < opt.spare; i++)
		spare[i] = malloc(SPARE);
	not_for_children();
	sigaction(SIGCHLD, &sa, NULL);
	sigaction(SIGRTMIN + 3, &sa, NULL);
	/* only the main thread takes signals */
	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	for (uintptr_t i = 0; i < opt.threads; i++)
		start(&workers[i], work, (void *)(i + 1), 0);
	for (uintptr_t i = 0; i < opt.idle; i++)
		start(&idle[i], nothing, NULL, IDLE_STACK);
	start(&others[0], watch, NULL, 0);
	start(&others[1], sleeper, NULL, 0);
	if (opt.signals)
		start(&others[2], signaller, NULL, 0);
	sigemptyset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	while (filled < opt.threads)
		usleep(1000);
	printf("ready %d\n", getpid());
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) && strncmp(line, "quit", 4))
		command(line);
	over = true;
	for (uintptr_t i = 0; i < opt.threads; i++)
		pthread_join(workers[i], NULL);
	for (size_t i = 0; i < (opt.signals ? 3 : 2); i++)
		pthread_join(others[i], NULL);
	for (int i = 0; i < 100 && received < sent; i++)
		usleep(1000);
	printf("%s ops %llu interrupted %llu bad %llu lost %llu\n",
	       interrupted || bad || received != sent ? "WRONG" : "ok", (unsigned long long)ops,
	       (unsigned long long)interrupted, (unsigned long long)bad,
	       (unsigned long long)(sent - received));
	return interrupted || bad || received != sent;
}
