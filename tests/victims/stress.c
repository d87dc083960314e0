/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A process that checks itself without a pause, for all that is done to it from outside:
 *
 *   alloc   blocks of 16 B to 8 MB in all arenas, filled, and every byte verified at free
 *   sleep   every kind of blocking system call, its result, errno and time (no EINTR, no early end)
 *   spin    general, x87, SSE, AVX and AVX-512 registers, flags and the red zone, in a loop
 *   churn   threads created and joined, each with an allocation
 *   fork    children that allocate, verify and exit; SIGCHLD
 *   signal  interval timers with handlers on an alternate stack
 *
 * stress [alloc=N] [sleep=N] [spin=N] [churn=N] [fork=N] [signal=N] [max=BYTES] [rest=US]
 *        [seconds=S]
 * Prints "ready", then one line at the end: "ok N checks ..." or "WRONG what". Ends by itself after S
 * seconds, or at end of file on stdin.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIVE = 48, KINDS = 16, NAP_MS = 60, ALT_STACK = 32768 };

static _Atomic bool stop;
static _Atomic uint64_t checks, handled, interrupted, longest_us;
static bool may_interrupt; /* EINTR is counted, not an error */
static uint64_t max_bytes = 8 << 20;
static unsigned int rest_us; /* of an alloc thread, now and then */

static void wrong(const char *fmt, ...)
{
	char text[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text) - 1, fmt, ap);
	va_end(ap);
	text[n] = '\n';
	if (write(1, "WRONG ", 6) < 0 || write(1, text, (size_t)n + 1) < 0)
		_exit(4);
	_exit(3);
}

static uint64_t mix(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	return *x ^= *x << 17;
}

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* ---- alloc ---- */

struct block {
	uint64_t *p;
	size_t words;
	uint64_t seed;
};

static void fill(struct block *b)
{
	for (size_t i = 0; i < b->words; i++)
		b->p[i] = b->seed + i * 0x9e3779b97f4a7c15u;
}

static void verify(const struct block *b, const char *who)
{
	for (size_t i = 0; i < b->words; i++) {
		if (b->p[i] != b->seed + i * 0x9e3779b97f4a7c15u)
			wrong("%s: block %p of %zu words: word %zu is %" PRIx64, who, (void *)b->p,
			      b->words, i, b->p[i]);
	}
	checks++;
}

static size_t some_size(uint64_t *x)
{
	uint64_t r = mix(x) % 1000;
	size_t size;

	if (r < 500)
		size = 16 + mix(x) % 1000;
	else if (r < 850)
		size = 1000 + mix(x) % 60000;
	else if (r < 985)
		size = 60000 + mix(x) % 400000;
	else
		size = 400000 + mix(x) % (8 << 20);
	return size > max_bytes ? 16 + size % max_bytes : size;
}

/* The longest malloc or free of any thread, in microseconds. */
static void took(double ms)
{
	uint64_t us = (uint64_t)(ms * 1e3), before = longest_us;

	while (us > before && !atomic_compare_exchange_weak(&longest_us, &before, us))
		;
}

static void *alloc_thread(void *arg)
{
	uint64_t x = 0x1234567 + (uintptr_t)arg * 7919;
	struct block v[LIVE] = { { 0 } };

	while (!stop) {
		struct block *b = &v[mix(&x) % LIVE];
		double t;

		if (rest_us && mix(&x) % 16 == 0)
			usleep(rest_us);

		if (b->p) {
			verify(b, "alloc");
			if (mix(&x) % 8 == 0) {
				size_t size = some_size(&x);
				uint64_t *p = realloc(b->p, size);

				if (!p)
					wrong("realloc");
				b->p = p;
				if (b->words > size / 8)
					b->words = size / 8;
				verify(b, "realloc");
				b->words = size / 8;
				fill(b);
				continue;
			}
			t = now_ms();
			free(b->p);
			took(now_ms() - t);
			b->p = NULL;
		} else {
			size_t size = some_size(&x);

			b->words = size / 8;
			b->seed = mix(&x);
			t = now_ms();
			b->p = mix(&x) % 5 ? malloc(size) : calloc(1, size);
			took(now_ms() - t);
			if (!b->p)
				wrong("malloc");
			fill(b);
		}
	}
	for (int i = 0; i < LIVE; i++) {
		if (v[i].p)
			verify(&v[i], "end");
		free(v[i].p);
	}
	return NULL;
}

/* ---- sleep ---- */

struct sleeper {
	int pipe[2], sock[2], epoll, listener, queue;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	sem_t sem;
};

static struct timespec in_ms(clockid_t clock, int ms)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	ts.tv_nsec += (long)ms * 1000000;
	ts.tv_sec += ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	return ts;
}

static const char *const kind_names[KINDS] = {
	"poll",	       "ppoll",		 "select",
	"pselect",     "nanosleep",	 "clock_nanosleep",
	"epoll_wait",  "cond_timedwait", "sem_timedwait",
	"recv",	       "accept",	 "sigtimedwait",
	"msgrcv",      "read",		 "usleep",
	"epoll_pwait",
};

/* @return 0 as it should be, else the errno that it must not have had */
static int sleep_once(struct sleeper *s, int kind)
{
	struct timespec ts = { 0, NAP_MS * 1000000l }, abs;
	struct timeval tv = { 0, NAP_MS * 1000 };
	struct pollfd pfd = { s->pipe[0], POLLIN, 0 };
	struct epoll_event ev;
	struct {
		long type;
		char text[8];
	} msg;
	char buf[8];
	sigset_t set;
	fd_set fds;
	int r = 0;

	FD_ZERO(&fds);
	FD_SET(s->pipe[0], &fds);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	errno = 0;
	switch (kind) {
	case 0:
		r = poll(&pfd, 1, NAP_MS);
		return r == 0 ? 0 : errno;
	case 1:
		r = ppoll(&pfd, 1, &ts, NULL);
		return r == 0 ? 0 : errno;
	case 2:
		r = select(s->pipe[0] + 1, &fds, NULL, NULL, &tv);
		return r == 0 ? 0 : errno;
	case 3:
		r = pselect(s->pipe[0] + 1, &fds, NULL, NULL, &ts, NULL);
		return r == 0 ? 0 : errno;
	case 4:
		r = nanosleep(&ts, NULL);
		return r == 0 ? 0 : errno;
	case 5:
		abs = in_ms(CLOCK_MONOTONIC, NAP_MS);
		return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &abs, NULL);
	case 6:
		r = epoll_wait(s->epoll, &ev, 1, NAP_MS);
		return r == 0 ? 0 : errno;
	case 7:
		abs = in_ms(CLOCK_REALTIME, NAP_MS);
		pthread_mutex_lock(&s->mutex);
		do
			r = pthread_cond_timedwait(&s->cond, &s->mutex, &abs);
		while (r == 0);
		pthread_mutex_unlock(&s->mutex);
		return r == ETIMEDOUT ? 0 : r;
	case 8:
		abs = in_ms(CLOCK_REALTIME, NAP_MS);
		r = sem_timedwait(&s->sem, &abs);
		return r < 0 && errno == ETIMEDOUT ? 0 : errno;
	case 9:
		r = (int)recv(s->sock[0], buf, sizeof(buf), 0);
		return r < 0 && errno == EAGAIN ? 0 : errno;
	case 10:
		r = accept(s->listener, NULL, NULL);
		return r < 0 && errno == EAGAIN ? 0 : errno;
	case 11:
		r = sigtimedwait(&set, NULL, &ts);
		return r < 0 && errno == EAGAIN ? 0 : errno;
	case 12:
		/* no timeout: a message that another end sends */
		msg.type = 1;
		r = msgsnd(s->queue, &msg, sizeof(msg.text), 0);
		usleep(NAP_MS * 1000);
		r = (int)msgrcv(s->queue, &msg, sizeof(msg.text), 1, 0);
		return r == sizeof(msg.text) ? 0 : errno;
	case 13:
		r = (int)read(s->sock[0], buf, sizeof(buf));
		return r < 0 && errno == EAGAIN ? 0 : errno;
	case 14:
		r = usleep(NAP_MS * 1000);
		return r == 0 ? 0 : errno;
	default:
		r = epoll_pwait(s->epoll, &ev, 1, NAP_MS, NULL);
		return r == 0 ? 0 : errno;
	}
}

static void *sleep_thread(void *arg)
{
	struct sleeper s = { .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
	struct timeval tv = { 0, NAP_MS * 1000 };
	struct epoll_event ev = { .events = EPOLLIN };
	uint64_t x = 99 + (uintptr_t)arg * 104729;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	sem_init(&s.sem, 0, 0);
	if (pipe(s.pipe) || socketpair(AF_UNIX, SOCK_STREAM, 0, s.sock))
		wrong("pipe");
	setsockopt(s.sock[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	s.epoll = epoll_create1(0);
	epoll_ctl(s.epoll, EPOLL_CTL_ADD, s.pipe[0], &ev);
	s.listener = socket(AF_INET, SOCK_STREAM, 0);
	listen(s.listener, 1);
	setsockopt(s.listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	s.queue = msgget(IPC_PRIVATE, 0600);
	while (!stop) {
		int kind = (int)(mix(&x) % KINDS), e, kept;
		double t = now_ms(), took;

		if (kind == 12 && s.queue < 0)
			continue;
		e = sleep_once(&s, kind);
		took = now_ms() - t;
		if (e == EINTR && may_interrupt) {
			interrupted++;
			continue;
		}
		if (e)
			wrong("%s: %s after %.1f ms", kind_names[kind], strerror(e), took);
		/* socket timeouts count in ticks of 10 ms at worst */
		if (took < NAP_MS - (kind == 9 || kind == 10 || kind == 13 ? 21 : 5))
			wrong("%s: back after %.2f of %d ms", kind_names[kind], took, NAP_MS);
		errno = kept = 4000 + kind;
		for (int i = 0; i < 200; i++) {
			if (errno != kept)
				wrong("errno became %d", errno);
			__asm__ volatile("" ::: "memory");
		}
		checks++;
	}
	msgctl(s.queue, IPC_RMID, NULL);
	return NULL;
}

/* ---- spin: registers ---- */

#ifdef __x86_64__
/* In one block, so that nothing but the outside can change a register. @return 0 as it was */
static int spin_sse(uint64_t seed)
{
	uint64_t v[2] = { seed, ~seed }, back[2] = { 0, 0 }, red = 0;
	uint64_t bad = 0;

	__asm__ volatile(
		"movdqu %[v], %%xmm0\n\tmovdqu %[v], %%xmm7\n\tmovdqu %[v], %%xmm15\n\t"
		"mov %[s], %%r12\n\tmov %[s], %%r13\n\tmov %[s], %%r14\n\tmov %[s], %%r8\n\t"
		"mov %[s], %%r9\n\tmov %[s], %%r10\n\t"
		"mov %[s], -8(%%rsp)\n\tmov %[s], -120(%%rsp)\n\t"
		"mov $20000, %%ecx\n\tstc\n"
		"1:\tlea -1(%%rcx), %%rcx\n\tjnc 2f\n\tjrcxz 3f\n\tjmp 1b\n"
		"2:\tmov $1, %[bad]\n"
		"3:\tcmp %[s], %%r12\n\tjne 4f\n\tcmp %[s], %%r13\n\tjne 4f\n\t"
		"cmp %[s], %%r14\n\tjne 4f\n\tcmp %[s], %%r8\n\tjne 4f\n\tcmp %[s], %%r9\n\tjne "
		"4f\n\t"
		"cmp %[s], %%r10\n\tjne 4f\n\tcmp %[s], -8(%%rsp)\n\tjne 5f\n\t"
		"cmp %[s], -120(%%rsp)\n\tje 6f\n"
		"5:\tmov $1, %[red]\n\tjmp 6f\n"
		"4:\tmov $1, %[bad]\n"
		"6:\tpxor %%xmm7, %%xmm0\n\tpxor %%xmm7, %%xmm15\n\tpor %%xmm15, %%xmm0\n\t"
		"movdqu %%xmm0, %[b]\n"
		: [b] "=m"(back), [bad] "+&r"(bad), [red] "+&r"(red)
		: [v] "m"(v), [s] "r"(seed)
		: "rcx", "r8", "r9", "r10", "r12", "r13", "r14", "xmm0", "xmm7", "xmm15", "cc",
		  "memory");
	return (back[0] | back[1] | bad | red) != 0;
}

__attribute__((target("avx512f"))) static int spin_avx512(uint64_t seed)
{
	uint64_t v[8], back[8], mask = seed & 0xffff, got;

	for (int i = 0; i < 8; i++)
		v[i] = seed * (unsigned)(i + 3);
	__asm__ volatile(
		"vmovdqu64 %[v], %%zmm1\n\tvmovdqu64 %[v], %%zmm16\n\tvmovdqu64 %[v], %%zmm31\n\t"
		"kmovw %k[m], %%k1\n\tkmovw %k[m], %%k7\n\tmov $20000, %%ecx\n"
		"1:\tdec %%ecx\n\tjnz 1b\n\t"
		"vpxorq %%zmm1, %%zmm16, %%zmm16\n\tvpxorq %%zmm1, %%zmm31, %%zmm31\n\t"
		"vporq %%zmm16, %%zmm31, %%zmm31\n\tvpxorq %[v], %%zmm1, %%zmm1\n\t"
		"vporq %%zmm1, %%zmm31, %%zmm31\n\tvmovdqu64 %%zmm31, %[b]\n\t"
		"kxorw %%k1, %%k7, %%k7\n\tkmovw %%k7, %k[g]\n"
		: [b] "=m"(back), [g] "=&r"(got)
		: [v] "m"(v), [m] "r"(mask)
		: "rcx", "xmm1", "memory", "cc");
	for (int i = 0; i < 8; i++)
		got |= back[i];
	return got != 0;
}

__attribute__((target("avx"))) static int spin_avx(uint64_t seed)
{
	uint64_t v[4] = { seed, seed * 3, seed * 5, seed * 7 }, back[4];

	__asm__ volatile("vmovdqu %[v], %%ymm3\n\tvmovdqu %[v], %%ymm14\n\tmov $20000, %%ecx\n"
			 "1:\tdec %%ecx\n\tjnz 1b\n\t"
			 "vxorps %[v], %%ymm3, %%ymm3\n\tvxorps %[v], %%ymm14, %%ymm14\n\t"
			 "vorps %%ymm3, %%ymm14, %%ymm14\n\tvmovdqu %%ymm14, %[b]\n\tvzeroupper"
			 : [b] "=m"(back)
			 : [v] "m"(v)
			 : "rcx", "xmm3", "xmm14", "memory", "cc");
	return (back[0] | back[1] | back[2] | back[3]) != 0;
}

static int spin_x87(void)
{
	long double a = 1.0L / 3, sum = 0, want = 0;
	uint16_t cw_before, cw_after;

	__asm__ volatile("fnstcw %0" : "=m"(cw_before));
	for (int i = 0; i < 3000; i++) {
		sum += a;
		__asm__ volatile("" : "+t"(sum));
	}
	for (int i = 0; i < 3000; i++)
		want += a;
	__asm__ volatile("fnstcw %0" : "=m"(cw_after));
	return sum != want || cw_before != cw_after;
}
#endif

static void *spin_thread(void *arg)
{
	uint64_t x = 7 + (uintptr_t)arg * 31337;

	while (!stop) {
#ifdef __x86_64__
		uint64_t seed = mix(&x);
		uint32_t mxcsr = 0x1f80 | (seed & 3) << 13, back;

		/* a rounding mode of its own */
		__asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
		if (spin_sse(seed))
			wrong("general or SSE registers, flags or the red zone changed");
		if (__builtin_cpu_supports("avx") && spin_avx(seed))
			wrong("AVX registers changed");
		if (__builtin_cpu_supports("avx512f") && spin_avx512(seed))
			wrong("AVX-512 registers changed");
		__asm__ volatile("stmxcsr %0" : "=m"(back));
		if ((back ^ mxcsr) & 0xffc0)
			wrong("MXCSR was %x, is %x", mxcsr, back);
		mxcsr = 0x1f80;
		__asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
		if (spin_x87())
			wrong("x87 state changed");
#endif
		checks++;
		if (mix(&x) % 4 == 0)
			usleep(2000);
	}
	return NULL;
}

/* ---- churn, fork, signal ---- */

static void *short_thread(void *arg)
{
	uint64_t x = (uintptr_t)arg;
	struct block b = { .words = some_size(&x) / 8, .seed = mix(&x) };

	b.p = malloc(b.words * 8);
	if (!b.p)
		wrong("malloc in a short thread");
	fill(&b);
	verify(&b, "short thread");
	free(b.p);
	return NULL;
}

static void *churn_thread(void *arg)
{
	uint64_t x = 3 + (uintptr_t)arg * 15485863;

	while (!stop) {
		pthread_t t;

		if (pthread_create(&t, NULL, short_thread, (void *)(uintptr_t)mix(&x)))
			wrong("pthread_create");
		pthread_join(t, NULL);
		checks++;
		usleep(1000);
	}
	return NULL;
}

static void *fork_thread(void *arg)
{
	uint64_t x = 11 + (uintptr_t)arg * 32452843;

	while (!stop) {
		int status;
		pid_t p = fork();

		if (p < 0)
			wrong("fork");
		if (p == 0) {
			for (int i = 0; i < 20; i++)
				short_thread((void *)(uintptr_t)mix(&x));
			_exit(17);
		}
		while (waitpid(p, &status, 0) < 0) {
			if (errno != EINTR)
				wrong("waitpid");
		}
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 17)
			wrong("a child ended with status %x", status);
		checks++;
		usleep(5000 + rest_us);
	}
	return NULL;
}

static void handler(int sig)
{
	volatile char here[512];

	(void)sig;
	here[0] = here[511] = 1;
	handled++;
}

/* The timers' signals go to these threads alone: the others must never see EINTR. */
static void *signal_thread(void *arg)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };
	struct itimerspec it = { { 0, 3000000 }, { 0, 3000000 } };
	static _Thread_local char alt[ALT_STACK];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) }, now;
	sigset_t set;
	timer_t timer;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigaddset(&set, SIGCHLD);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	ev._sigev_un._tid = gettid();
	sigaltstack(&ss, NULL);
	if (timer_create(CLOCK_MONOTONIC, &ev, &timer) || timer_settime(timer, 0, &it, NULL))
		wrong("timer");
	while (!stop) {
		struct timespec ts = { 0, 10000000 };

		nanosleep(&ts, NULL);
		if (sigaltstack(NULL, &now) || now.ss_sp != alt || now.ss_size != sizeof(alt))
			wrong("the alternate stack changed");
		checks++;
	}
	timer_delete(timer);
	return NULL;
}

/* ---- */

struct kind {
	const char *name;
	void *(*fn)(void *arg);
	unsigned int n;
};

static struct kind kinds[] = {
	{ "alloc", alloc_thread, 4 }, { "sleep", sleep_thread, 8 }, { "spin", spin_thread, 1 },
	{ "churn", churn_thread, 0 }, { "fork", fork_thread, 0 },   { "signal", signal_thread, 0 },
};

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART };
	static pthread_t threads[4096];
	unsigned int n = 0;
	double end, seconds = 1e9;
	sigset_t set;

	for (int i = 1; i < argc; i++) {
		char *eq = strchr(argv[i], '=');

		if (!eq)
			return 2;
		*eq++ = 0;
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
			if (!strcmp(argv[i], kinds[k].name))
				kinds[k].n = (unsigned int)strtoul(eq, NULL, 10);
		}
		if (!strcmp(argv[i], "max"))
			max_bytes = strtoul(eq, NULL, 10);
		if (!strcmp(argv[i], "interrupted"))
			may_interrupt = true;
		if (!strcmp(argv[i], "rest"))
			rest_us = (unsigned int)strtoul(eq, NULL, 10);
		if (!strcmp(argv[i], "seconds"))
			seconds = strtod(eq, NULL);
	}
	sigaction(SIGALRM, &sa, NULL);
	sigaction(SIGCHLD, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigaddset(&set, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		for (unsigned int i = 0; i < kinds[k].n && n < 4096; i++) {
			if (pthread_create(&threads[n], NULL, kinds[k].fn,
					   (void *)(uintptr_t)(n + 1)))
				wrong("pthread_create");
			n++;
		}
	}
	printf("ready pid %d, %u threads\n", getpid(), n);
	fflush(stdout);
	end = now_ms() + seconds * 1e3;
	while (now_ms() < end) {
		struct pollfd in = { 0, POLLIN, 0 };
		char c;

		/* only with seconds=: stdin may be anything */
		if (seconds < 1e9) {
			usleep(20000);
			continue;
		}
		if (poll(&in, 1, 1000) > 0 && read(0, &c, 1) <= 0)
			break;
	}
	stop = true;
	for (unsigned int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	printf("ok %" PRIu64 " checks, %" PRIu64 " signals, %" PRIu64
	       " interrupted, longest malloc "
	       "or free %.1f ms\n",
	       (uint64_t)checks, (uint64_t)handled, (uint64_t)interrupted,
	       (double)longest_us / 1e3);
	return 0;
}
