/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Processes in which a call from outside could do harm, one situation a mode:
 *
 *   idle       two threads, asleep
 *   frag MB N  N free chunks in one arena among live ones, MB in all; one thread allocates in that
 *              arena without a pause and measures its longest wait
 *   tiny       a thread with 200 bytes of stack left
 *   coroutine  the only thread sleeps on a stack that is a malloc'ed block
 *   handler    the only thread is in a signal handler that interrupted malloc
 *   alt        the same on an alternate stack
 *   lock       a thread holds the main arena's lock while the main thread waits for it (it prints
 *              malloc_stats into a full pipe that the main thread does not read)
 *   corrupt    a free chunk's size is wrong
 *   single     the only thread is in malloc nearly all the time
 *   madvise    seccomp: madvise kills
 *   batch      seccomp: process_madvise fails, all else is allowed
 *   tkill      seccomp: tkill fails with EPERM
 *   locked     mlockall
 *   blocked    all signals blocked in all threads
 *   taken      handlers for every signal that is ignored by default
 *   signalfd   SIGURG and SIGWINCH are blocked everywhere and read from a signalfd
 *   leader     the main thread has ended
 *   deep       the only thread sleeps far down on a main stack that must grow for the call
 *   stale      the only thread sleeps above what sigaction() left on its stack: the address of sigreturn
 *   rseq       two threads a CPU that count in restartable sequences; "sum": is none lost?
 *   uring      an io_uring whose kernel thread polls
 *   slow       as frag, but the kernel holds each madvise in it (userfaultfd) until "release"
 *   exec MS, exit MS, vfork MS
 *
 * Prints "ready TID" (of the thread that the mode is about). Commands on stdin, one answer each:
 * verify, longest, release, quit.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#if defined(__x86_64__) && __GLIBC_PREREQ(2, 35)
#include <sys/rseq.h>
#endif
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

static char **args;
static unsigned int nr_args;
static _Atomic int about; /* the thread that it is about */
static _Atomic uint64_t longest_us, rounds;
static _Atomic bool go;

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static unsigned long number(unsigned int i, unsigned long otherwise)
{
	return i < nr_args ? strtoul(args[i], NULL, 10) : otherwise;
}

static void ready(void)
{
	printf("ready %d\n", about ? (int)about : (int)getpid());
	fflush(stdout);
}

static void sleep_for_ever(void)
{
	for (;;)
		pause();
}

/* ---- frag ---- */

struct live {
	uint64_t *p;
	size_t words;
};
static struct live *kept;
static size_t nr_kept;

static size_t verify(void)
{
	size_t bad = 0;

	for (size_t i = 0; i < nr_kept; i++) {
		for (size_t k = 0; k < kept[i].words; k++)
			bad += kept[i].p[k] != i * 1000003 + k;
	}
	return bad;
}

static void *frag(void *arg)
{
	size_t bytes = number(2, 64) << 20, n = number(3, 1000), each = bytes / n & ~(size_t)15;
	void **v = calloc(n, sizeof(*v));
	uint64_t count = 0;

	(void)arg;
	kept = calloc(n, sizeof(*kept));
	for (size_t i = 0; i < n; i++) {
		v[i] = malloc(each);
		memset(v[i], 0x77, each);
		kept[i].words = 8;
		kept[i].p = malloc(64);
		for (size_t k = 0; k < 8; k++)
			kept[i].p[k] = i * 1000003 + k;
	}
	nr_kept = n;
	for (size_t i = 0; i < n; i++)
		free(v[i]);
	free(v);
	/* sorts the unsorted list into its bins */
	free(malloc(each + 4096));
	about = gettid();
	go = true;
	for (;;) {
		double t = now_us(), took;
		/* too large for the tcache, too small to be split off a large chunk each time */
		void *p = malloc(1100 + count % 5 * 160);

		((char *)p)[0] = 1;
		free(p);
		took = now_us() - t;
		if (took > (double)longest_us)
			longest_us = (uint64_t)took;
		if (++count % 64 == 0)
			rounds++;
		if (number(4, 0))
			usleep((unsigned int)number(4, 0));
	}
	return NULL;
}

static void start(void *(*fn)(void *arg), size_t stack)
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	if (stack)
		pthread_attr_setstacksize(&attr, stack);
	if (pthread_create(&t, &attr, fn, NULL))
		abort();
	while (!go)
		usleep(1000);
}

static void *idle(void *arg)
{
	(void)arg;
	about = gettid();
	go = true;
	sleep_for_ever();
	return NULL;
}

/* ---- stacks ---- */

static void fill_stack(volatile char *floor)
{
	size_t left = (size_t)((volatile char *)__builtin_frame_address(0) - floor) - 400;
	volatile char here[left];

	here[0] = here[left - 1] = 1;
	go = true;
	/* a system call needs no stack */
	for (;;)
		syscall(SYS_pause);
}

static void *tiny(void *arg)
{
	pthread_attr_t attr;
	void *lo;
	size_t size;

	(void)arg;
	pthread_getattr_np(pthread_self(), &attr);
	pthread_attr_getstack(&attr, &lo, &size);
	about = gettid();
	/* bound now: the loader would need more stack than there will be */
	syscall(SYS_getppid);
	fill_stack(lo);
	return NULL;
}

static void on_coroutine(void)
{
	ready();
	sleep_for_ever();
}

static void coroutine(void)
{
	static ucontext_t here, there;
	size_t size = 64 << 10;

	getcontext(&there);
	there.uc_stack.ss_sp = malloc(size);
	there.uc_stack.ss_size = size;
	there.uc_link = &here;
	makecontext(&there, on_coroutine, 0);
	swapcontext(&here, &there);
}

/* ---- handlers, and malloc all the time ---- */

static void handler(int sig)
{
	(void)sig;
	ready();
	sleep_for_ever();
}

static void busy_malloc(bool until_signal)
{
	uint64_t x = 88172645463325252u;
	struct live v[64] = { { 0 } };

	for (;;) {
		size_t i, words;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		i = x % 64;
		words = 100 + (x >> 8) % 4000;
		for (size_t k = 0; v[i].p && k < v[i].words; k += 17) {
			if (v[i].p[k] != i * 7 + k)
				_exit(3);
		}
		free(v[i].p);
		v[i].p = malloc(words * 8);
		v[i].words = words;
		for (size_t k = 0; k < words; k += 17)
			v[i].p[k] = i * 7 + k;
		rounds++;
		if (!until_signal && rounds % 1024 == 0) {
			struct pollfd in = { 0, POLLIN, 0 };

			if (poll(&in, 1, 0) > 0) {
				printf("ok %" PRIu64 "\n", (uint64_t)rounds);
				fflush(stdout);
				_exit(0);
			}
		}
	}
}

static void in_handler(bool alt)
{
	static char stack[64 << 10];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_handler = handler, .sa_flags = alt ? SA_ONSTACK : 0 };
	struct itimerspec it = { { 0, 0 }, { 0, 20000000 } };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	timer_t timer;

	if (alt)
		sigaltstack(&ss, NULL);
	sigaction(SIGALRM, &sa, NULL);
	timer_create(CLOCK_MONOTONIC, &ev, &timer);
	timer_settime(timer, 0, &it, NULL);
	busy_malloc(true);
}

/* ---- a lock held ---- */

static int pipe_fds[2];

static void *lock_holder(void *arg)
{
	(void)arg;
	about = gettid();
	go = true;
	/* takes the arena's lock, and writes its lines while it holds it */
	malloc_stats();
	return NULL;
}

static void hold_lock(void)
{
	char junk[4096];

	if (pipe2(pipe_fds, O_NONBLOCK))
		abort();
	memset(junk, '.', sizeof(junk));
	while (write(pipe_fds[1], junk, sizeof(junk)) > 0)
		;
	while (write(pipe_fds[1], junk, 1) > 0)
		;
	fcntl(pipe_fds[1], F_SETFL, 0);
	setvbuf(stderr, NULL, _IONBF, 0);
	dup2(pipe_fds[1], 2);
	/* one that can be borrowed, beside the one that is asked */
	start(idle, 0);
	go = false;
	start(lock_holder, 0);
	usleep(100000);
}

static void release_lock(void)
{
	char junk[4096];

	fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 200; i++) {
		while (read(pipe_fds[0], junk, sizeof(junk)) > 0)
			;
		usleep(1000);
	}
}

/* ---- madvise that does not return ---- */

static int faults = -1, serve_fds[2];

/* Until it reads the kernel's messages, whoever removes a page waits for it. */
static void *serve(void *arg)
{
	struct uffd_msg m;

	(void)arg;
	if (read(serve_fds[0], &m, 1) != 1)
		return NULL;
	for (;;) {
		ssize_t n = read(faults, &m, sizeof(m));
		struct uffdio_zeropage z = { .range = { m.arg.pagefault.address & ~4095ull,
							4096 } };

		if (n != sizeof(m)) {
			printf("read of userfaultfd: %zd, %s\n", n, strerror(errno));
			fflush(stdout);
			return NULL;
		}
		if (m.event == UFFD_EVENT_PAGEFAULT)
			ioctl(faults, UFFDIO_ZEROPAGE, &z);
	}
}

static void slow(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t t;

	faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (pipe(serve_fds))
		abort();
	reg.range.start = (uintptr_t)kept[0].p & ~4095ull;
	reg.range.len = ((uintptr_t)kept[nr_kept - 1].p & ~4095ull) - reg.range.start;
	if (faults < 0 || ioctl(faults, UFFDIO_API, &api) || ioctl(faults, UFFDIO_REGISTER, &reg) ||
	    pthread_create(&t, NULL, serve, NULL))
		abort();
	/* it begins with all signals blocked */
	usleep(50000);
}

/* ---- seccomp ---- */

static void filter(unsigned int nr, unsigned int action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog))
		abort();
}

/* ---- io_uring ---- */

static void uring(void)
{
	/* struct io_uring_params: 120 bytes, the flags at 8, the thread's patience in ms at 16 */
	uint32_t params[30] = { 0, 0, 2 /* IORING_SETUP_SQPOLL */, 0, 100000 };

	if (syscall(SYS_io_uring_setup, 4, params) < 0)
		_exit(5);
}

/* ---- restartable sequences ---- */

#if defined(__x86_64__) && __GLIBC_PREREQ(2, 35)
enum { CPUS = 1024 };
static struct {
	_Alignas(64) uint64_t n;
} per_cpu[CPUS];
static _Atomic uint64_t counted;
static _Atomic bool enough;
static pthread_t counters[8];

/* Add 1 to this CPU's counter, by a read and a write some time apart; whoever is moved or preempted
 * in between begins anew. */
static void count_here(void)
{
	__asm__ volatile(".pushsection __rseq_cs, \"aw\"\n.balign 32\n"
			 "9:\t.long 0, 0\n\t.quad 1f, 2f - 1f, 4f\n.popsection\n"
			 "3:\tlea 9b(%%rip), %%rax\n\tmov %%rax, %%fs:8(%[rseq])\n"
			 "1:\tmovl %%fs:4(%[rseq]), %%ecx\n\tshl $6, %%rcx\n\t"
			 "mov (%[v],%%rcx), %%rdx\n\tmov $300, %%eax\n"
			 "5:\tdec %%eax\n\tjnz 5b\n\tadd $1, %%rdx\n\tmov %%rdx, (%[v],%%rcx)\n"
			 "2:\tjmp 6f\n\t.byte 0x0f, 0xb9, 0x3d\n\t.long 0x53053053\n"
			 "4:\tjmp 3b\n"
			 "6:\tmovq $0, %%fs:8(%[rseq])"
			 :
			 : [v] "r"(per_cpu), [rseq] "r"(__rseq_offset)
			 : "rax", "rcx", "rdx", "memory", "cc");
}

static void *count_thread(void *arg)
{
	uint64_t n = 0;

	(void)arg;
	about = gettid();
	go = true;
	while (!enough) {
		for (int i = 0; i < 1000; i++, n++)
			count_here();
		usleep(200);
	}
	counted += n;
	return NULL;
}

static void rseq(void)
{
	for (int i = 0; i < 4; i++)
		pthread_create(&counters[i], NULL, count_thread, NULL);
	usleep(50000);
}

static const char *sum(void)
{
	uint64_t all = 0;

	enough = true;
	for (int i = 0; i < 4; i++)
		pthread_join(counters[i], NULL);
	for (int i = 0; i < CPUS; i++)
		all += per_cpu[i].n;
	return all == counted && all ? "right" : "wrong";
}
#else
static void rseq(void)
{
}
static const char *sum(void)
{
	return "right";
}
#endif

/* ---- signals ---- */

static void count_signal(int sig)
{
	(void)sig;
	rounds++;
}

static void take_signals(void)
{
	struct sigaction sa = { .sa_handler = count_signal, .sa_flags = SA_RESTART };

	sigaction(SIGURG, &sa, NULL);
	sigaction(SIGWINCH, &sa, NULL);
	sigaction(SIGCHLD, &sa, NULL);
	sigaction(SIGCONT, &sa, NULL);
}

static int signal_fd = -1;

/* Before any thread is made. */
static void read_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal_fd = signalfd(-1, &set, SFD_NONBLOCK);
}

/* A signal that was meant for the program: is it there, and only it? */
static const char *signals_read(void)
{
	struct signalfd_siginfo si;
	int n = 0;

	while (read(signal_fd, &si, sizeof(si)) == sizeof(si))
		n++;
	kill(getpid(), SIGURG);
	if (read(signal_fd, &si, sizeof(si)) != sizeof(si))
		return "lost";
	return n ? "foreign" : "right";
}

/* ---- the rest ---- */

static void corrupt(void)
{
	/* a chunk in a fastbin whose size says another one: malloc_trim aborts on it, under the
	 * lock */
	char *v[9], *hold;
	uint64_t wrong = 0x41;
	uintptr_t at;

	for (int i = 0; i < 9; i++)
		v[i] = malloc(100);
	hold = malloc(100);
	at = (uintptr_t)v[8] - 8;
	/* seven go to the tcache */
	for (int i = 0; i < 9; i++)
		free(v[i]);
	memcpy((void *)at, &wrong, sizeof(wrong));
	__asm__ volatile("" ::"r"(hold) : "memory");
}

static void torn(void)
{
	/* beyond fastbin and tcache; the size of one is overwritten */
	char *a = malloc(3000), *hold = malloc(100), *b = malloc(3000), *hold2 = malloc(100);
	uint64_t wild = 0x7777777777777771u;
	uintptr_t at = (uintptr_t)b - 8;

	free(a);
	free(b);
	memcpy((void *)at, &wild, sizeof(wild));
	__asm__ volatile("" ::"r"(hold), "r"(hold2) : "memory");
}

static void *block_signals(void *arg)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	return idle(arg);
}

static void *later(void *arg)
{
	(void)arg;
	usleep((unsigned int)number(2, 100) * 1000);
	if (!strcmp(args[1], "exit"))
		_exit(0);
	if (!strcmp(args[1], "exec"))
		execl("/bin/sleep", "sleep", "2", (char *)NULL);
	return NULL;
}

static void vforks(void)
{
	char ms[32];
	pid_t p;

	snprintf(ms, sizeof(ms), "%lu", number(2, 2000));
	ready();
	p = vfork();
	if (p == 0) {
		struct timespec ts = { (time_t)(number(2, 2000) / 1000), 0 };

		nanosleep(&ts, NULL);
		_exit(0);
	}
	waitpid(p, NULL, 0);
	printf("vforked\n");
	fflush(stdout);
}

static void commands(void)
{
	char line[64];

	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "verify", 6)) {
			printf("verified %zu kept, %zu bad\n", nr_kept, verify());
		} else if (!strncmp(line, "longest", 7)) {
			printf("longest %" PRIu64 " us, %" PRIu64 " rounds\n", (uint64_t)longest_us,
			       (uint64_t)rounds);
			longest_us = 0;
		} else if (!strncmp(line, "release", 7)) {
			if (!strcmp(args[1], "lock"))
				release_lock();
			else if (write(serve_fds[1], "", 1) != 1)
				abort();
			printf("released\n");
		} else if (!strncmp(line, "sum", 3)) {
			printf("sum %s\n", sum());
		} else if (!strncmp(line, "signals", 7)) {
			printf("signals %s\n", signals_read());
		} else if (!strncmp(line, "ping", 4)) {
			void *p = malloc(100000);

			free(p);
			printf("pong %" PRIu64 "\n", (uint64_t)++rounds);
		} else {
			break;
		}
		fflush(stdout);
	}
}

static void *serve_commands(void *arg)
{
	(void)arg;
	/* the main thread is a zombie soon */
	usleep(50000);
	about = gettid();
	ready();
	commands();
	_exit(0);
}

/* Far down: below it the stack has never been touched. */
static void deep(void)
{
	volatile char here[400000];

	here[0] = here[sizeof(here) - 1] = 1;
	ready();
	commands();
	_exit(here[0] != 1);
}

__attribute__((noinline)) static void handle(void)
{
	struct sigaction sa = { .sa_handler = count_signal };

	sigaction(SIGUSR2, &sa, NULL);
}

__attribute__((noinline)) static void stale(void)
{
	volatile char here[4096];

	here[0] = here[sizeof(here) - 1] = 1; /* and nothing else */
	ready();
	commands();
	_exit(here[0] != 1);
}

int main(int argc, char **argv)
{
	static char in[512], out[512];
	const char *mode = argc > 1 ? argv[1] : "idle";
	sigset_t all;

	args = argv;
	nr_args = (unsigned int)argc;
	/* no buffer from malloc: some modes speak while malloc cannot */
	setvbuf(stdin, in, _IOLBF, sizeof(in));
	setvbuf(stdout, out, _IOFBF, sizeof(out));
	if (!strcmp(mode, "signalfd"))
		read_signals();
	if (!strcmp(mode, "frag") || !strcmp(mode, "slow")) {
		start(frag, 0);
	} else if (!strcmp(mode, "tiny")) {
		start(tiny, 64 << 10);
	} else if (!strcmp(mode, "coroutine")) {
		coroutine();
	} else if (!strcmp(mode, "handler") || !strcmp(mode, "alt")) {
		in_handler(mode[0] == 'a');
	} else if (!strcmp(mode, "single")) {
		ready();
		busy_malloc(false);
	} else if (!strcmp(mode, "vfork")) {
		vforks();
	} else if (!strcmp(mode, "deep")) {
		deep();
	} else if (!strcmp(mode, "stale")) {
		handle();
		stale();
	} else if (!strcmp(mode, "lock")) {
		hold_lock();
	} else if (!strcmp(mode, "blocked")) {
		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
		start(block_signals, 0);
	} else {
		start(idle, 0);
	}
	if (!strcmp(mode, "corrupt"))
		corrupt();
	if (!strcmp(mode, "torn"))
		torn();
	if (!strcmp(mode, "slow"))
		slow();
	if (!strcmp(mode, "rseq"))
		rseq();
	if (!strcmp(mode, "uring"))
		uring();
	if (!strcmp(mode, "taken"))
		take_signals();
	if (!strcmp(mode, "leader")) {
		pthread_t t;

		pthread_create(&t, NULL, serve_commands, NULL);
		pthread_exit(NULL);
	}
	if (!strcmp(mode, "locked"))
		mlockall(MCL_CURRENT | MCL_FUTURE);
	if (!strcmp(mode, "madvise"))
		filter(SYS_madvise, SECCOMP_RET_KILL_PROCESS);
	if (!strcmp(mode, "batch"))
		filter(SYS_process_madvise, SECCOMP_RET_ERRNO | EPERM);
	if (!strcmp(mode, "tkill"))
		filter(SYS_tkill, SECCOMP_RET_ERRNO | EPERM);
	if (!strcmp(mode, "exec") || !strcmp(mode, "exit")) {
		go = false;
		pthread_t t;

		pthread_create(&t, NULL, later, NULL);
	}
	if (strcmp(mode, "vfork"))
		ready();
	commands();
	return 0;
}
