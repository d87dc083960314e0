/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A process to be stopped again and again. MODE [N]: what its threads do
 *   busy N     allocate, fill, check and free without a pause
 *   rows N     the same, their stacks side by side in one mapping
 *   idle N     sleep
 *   churn N    each creates and joins short-lived threads without a pause
 *   signals N  each sends counted real-time signals to the next, and takes SIGALRM a thousand times a second
 *   zombie N   the leader ends, N workers allocate
 *   vfork MS   a thread sits in vfork(2), again and again, for MS milliseconds each
 *   exec MS    replaces itself by itself every MS milliseconds, with 4 threads
 *   exit MS    ends by itself after MS milliseconds, with 32 threads
 * Prints "ready PID"; "check" on stdin is answered by "ok COUNT GAP_US" (work done, largest gap that a thread saw
 * which only reads the clock) or "bad WHAT"; "gap" starts that measurement anew; "quit" ends it, with status 0 if
 * nothing went wrong.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX = 4096, SLOTS = 64 };

static atomic_bool over;
static atomic_ulong work, gap_ns;
static const char *_Atomic wrong;
static pthread_t threads[MAX];
static int nthreads;
static bool in_rows;
static atomic_ulong sent, taken, alarms;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void pause_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

static void *watch_clock(void *arg)
{
	uint64_t last = now_ns();

	(void)arg;
	while (!over) {
		uint64_t t = now_ns();

		if (t - last > gap_ns)
			gap_ns = t - last;
		last = t;
	}
	return NULL;
}

static void *allocate(void *arg)
{
	uint64_t seed = (uintptr_t)arg * 2654435761u + 1;
	struct {
		unsigned char *p;
		size_t n;
		unsigned char mark;
	} slot[SLOTS] = { 0 };

	while (!over) {
		unsigned i;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		i = (unsigned)(seed >> 33) % SLOTS;
		for (size_t k = 0; k < slot[i].n; k++) {
			if (slot[i].p[k] != slot[i].mark)
				wrong = "memory";
		}
		free(slot[i].p);
		slot[i].n = (seed >> 40) % ((seed >> 60) ? 512 : 40000);
		slot[i].mark = (unsigned char)(seed >> 20);
		slot[i].p = malloc(slot[i].n + 1);
		memset(slot[i].p, slot[i].mark, slot[i].n);
		work++;
	}
	for (int i = 0; i < SLOTS; i++)
		free(slot[i].p);
	return NULL;
}

static void *sleeper(void *arg)
{
	(void)arg;
	while (!over) {
		pause_ms(1000);
		work++;
	}
	return NULL;
}

static void *mayfly(void *arg)
{
	void *p = malloc((uintptr_t)arg % 5000 + 1);

	work++;
	return p;
}

static void *create(void *arg)
{
	uintptr_t n = (uintptr_t)arg;

	while (!over) {
		pthread_t t[4];
		void *p;

		for (int i = 0; i < 4; i++) {
			if (pthread_create(&t[i], NULL, mayfly, (void *)n++))
				wrong = "pthread_create";
		}
		for (int i = 0; i < 4; i++) {
			pthread_join(t[i], &p);
			free(p);
		}
	}
	return NULL;
}

static void on_signal(int sig)
{
	if (sig == SIGALRM)
		alarms++;
	else
		taken++;
}

static void *signaller(void *arg)
{
	intptr_t i = (intptr_t)arg;

	while (!over) {
		/* RLIMIT_SIGPENDING bounds the queue: full is not lost */
		if (!pthread_sigqueue(threads[(i + 1) % nthreads], SIGRTMIN + 3,
				      (union sigval){ 0 }))
			sent++;
		work++;
		if (sent - taken > 1000)
			pause_ms(1);
	}
	for (int k = 0; k < 500 && sent != taken; k++)
		pause_ms(10);
	return NULL;
}

static void *vforker(void *arg)
{
	struct timespec ts = { (intptr_t)arg / 1000, (intptr_t)arg % 1000 * 1000000 };

	while (!over) {
		pid_t pid = vfork();
		int status;

		if (!pid) {
			syscall(SYS_nanosleep, &ts, NULL);
			_exit(7);
		}
		if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 7)
			wrong = "vfork";
		work++;
	}
	return NULL;
}

static void *(*job)(void *);
static atomic_int begun;

static void *begin(void *arg)
{
	begun++;
	return job(arg);
}

/* Returns when all of them really run: until then they have all signals blocked. */
static void start(int n, void *(*fn)(void *))
{
	pthread_attr_t attr;

	nthreads = n;
	job = fn;
	pthread_attr_init(&attr);
	if (in_rows)
		pthread_attr_setguardsize(&attr, 0);
	for (intptr_t i = 0; i < n; i++) {
		if (pthread_create(&threads[i], &attr, begin, (void *)i)) {
			printf("bad cannot create threads\n");
			exit(1);
		}
	}
	while (begun < n)
		pause_ms(1);
}

static void *commands(void *arg)
{
	char line[64];

	(void)arg;
	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "check\n")) {
			unsigned long before = work;

			for (int i = 0; i < 1000 && work == before; i++)
				pause_ms(10);
			if (work == before)
				wrong = "no progress";
			if (wrong)
				printf("bad %s\n", wrong);
			else
				printf("ok %lu %lu\n", work, gap_ns / 1000);
		} else if (!strcmp(line, "gap\n")) {
			gap_ns = 0;
			printf("gap\n");
		} else {
			break;
		}
		fflush(stdout);
	}
	over = true;
	for (int i = 0; i < nthreads; i++)
		pthread_join(threads[i], NULL);
	if (sent != taken)
		wrong = "signals lost";
	printf("end %lu sent %lu taken %lu alarms %lu %s\n", work, sent, taken, alarms,
	       wrong ? wrong : "good");
	fflush(stdout);
	_exit(wrong ? 1 : 0);
}

static void signals(int n)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct itimerval it = { { 0, 1000 }, { 0, 1000 } };

	sigaction(SIGALRM, &sa, NULL);
	sigaction(SIGRTMIN + 3, &sa, NULL);
	nthreads = n;
	for (int i = 0; i < n; i++)
		threads[i] = pthread_self();
	start(n, signaller);
	setitimer(ITIMER_REAL, &it, NULL);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "idle";
	int n = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 1;
	pthread_t t;

	if (n < 1 || n > MAX)
		return 64;
	if (!strcmp(mode, "exec")) {
		char round[32];

		snprintf(round, sizeof(round), "%ld", argc > 3 ? strtol(argv[3], NULL, 10) + 1 : 0);
		if (argc <= 3)
			printf("ready %d\n", getpid()), fflush(stdout);
		start(4, sleeper);
		pause_ms(n);
		execl("/proc/self/exe", argv[0], mode, argv[2], round, (char *)NULL);
		return 1;
	}
	if (!strcmp(mode, "exit")) {
		start(32, allocate);
		printf("ready %d\n", getpid()), fflush(stdout);
		pause_ms(n);
		return 0;
	}
	in_rows = !strcmp(mode, "rows");
	if (!strcmp(mode, "busy") || in_rows || !strcmp(mode, "zombie"))
		start(n, allocate);
	else if (!strcmp(mode, "idle"))
		start(n, sleeper);
	else if (!strcmp(mode, "churn"))
		start(n, create);
	else if (!strcmp(mode, "signals"))
		signals(n);
	else if (!strcmp(mode, "vfork"))
		nthreads = pthread_create(&threads[0], NULL, vforker, (void *)(intptr_t)n) ? 0 : 1;
	else
		return 64;
	if (!strcmp(mode, "idle"))
		pthread_create(&t, NULL, watch_clock, NULL);
	printf("ready %d\n", getpid());
	fflush(stdout);
	if (!strcmp(mode, "zombie")) {
		pthread_create(&t, NULL, commands, NULL);
		pthread_exit(NULL);
	}
	commands(NULL);
}
