/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A thread in each kind of blocking system call, with a time limit of SECONDS where the call has
 * one, and woken by the main thread after SECONDS where it has not. Prints "ready PID" when all are
 * asleep, then for each "NAME RESULT ERRNO MS". A tool that stops the process must not show: no
 * EINTR, and no shorter wait.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <netinet/in.h>

static int limit_s;
static int pipe_rd, pipe_wr, listener, tcp_port, event_fd, msg_id, sem_id;
static pid_t child;
static uint32_t futex_word;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t sem;

static struct timespec limit(void)
{
	return (struct timespec){ limit_s, 0 };
}

static struct timespec deadline(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	ts.tv_sec += limit_s;
	return ts;
}

static long errno_of(int code)
{
	errno = code;
	return code ? -1 : 0;
}

static long do_nanosleep(void)
{
	struct timespec ts = limit();

	return nanosleep(&ts, NULL);
}

static long do_clock_abs(void)
{
	struct timespec ts = deadline(CLOCK_MONOTONIC);

	return errno_of(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL));
}

static long do_poll(void)
{
	return poll(NULL, 0, limit_s * 1000);
}

static long do_ppoll(void)
{
	struct timespec ts = limit();

	return ppoll(NULL, 0, &ts, NULL);
}

static long do_select(void)
{
	struct timeval tv = { limit_s, 0 };

	return select(0, NULL, NULL, NULL, &tv);
}

static long do_pselect(void)
{
	struct timespec ts = limit();

	return pselect(0, NULL, NULL, NULL, &ts, NULL);
}

static long do_epoll_wait(void)
{
	struct epoll_event ev;

	return epoll_wait(epoll_create1(0), &ev, 1, limit_s * 1000);
}

static long do_epoll_pwait(void)
{
	struct epoll_event ev;
	sigset_t none;

	sigemptyset(&none);
	return epoll_pwait(epoll_create1(0), &ev, 1, limit_s * 1000, &none);
}

static long do_epoll_pwait2(void)
{
	struct epoll_event ev;
	struct timespec ts = limit();

	return syscall(SYS_epoll_pwait2, epoll_create1(0), &ev, 1, &ts, NULL, 8);
}

static long do_futex_timeout(void)
{
	struct timespec ts = limit();

	return syscall(SYS_futex, &futex_word, FUTEX_WAIT, 0, &ts, NULL, 0);
}

static long do_cond_timedwait(void)
{
	struct timespec ts = deadline(CLOCK_REALTIME);
	int r;

	pthread_mutex_lock(&mutex);
	r = pthread_cond_timedwait(&cond, &mutex, &ts);
	pthread_mutex_unlock(&mutex);
	return errno_of(r);
}

static long do_sem_timedwait(void)
{
	struct timespec ts = deadline(CLOCK_REALTIME);

	return sem_timedwait(&sem, &ts);
}

static long do_sigtimedwait(void)
{
	struct timespec ts = limit();
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 7);
	return sigtimedwait(&set, NULL, &ts);
}

static long do_semtimedop(void)
{
	struct timespec ts = limit();
	struct sembuf op = { 0, -1, 0 };

	return semtimedop(sem_id, &op, 1, &ts);
}

static long do_io_getevents(void)
{
	struct timespec ts = limit();
	struct io_event ev;
	aio_context_t ctx = 0;

	if (syscall(SYS_io_setup, 1, &ctx))
		return errno_of(ETIMEDOUT);
	return syscall(SYS_io_getevents, ctx, 1, 1, &ev, &ts);
}

static int socket_with_timeout(void)
{
	struct timeval tv = { limit_s, 0 };
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) ||
	    setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)))
		abort();
	return sv[0];
}

static long do_recv_timeout(void)
{
	char c;

	return recv(socket_with_timeout(), &c, 1, 0);
}

static long do_read_socket_timeout(void)
{
	char c;

	return read(socket_with_timeout(), &c, 1);
}

static long do_read_pipe(void)
{
	char c;

	return read(pipe_rd, &c, 1);
}

static long do_read_eventfd(void)
{
	uint64_t v;

	return read(event_fd, &v, sizeof(v));
}

static long do_accept(void)
{
	return accept(listener, NULL, NULL) >= 0 ? 0 : -1;
}

static long do_wait4(void)
{
	return waitpid(child, NULL, 0) == child ? 0 : -1;
}

static long do_msgrcv(void)
{
	struct {
		long type;
		char text[8];
	} m;

	return msgrcv(msg_id, &m, sizeof(m.text), 0, 0);
}

static const struct call {
	const char *name;
	long (*fn)(void);
} calls[] = {
	{ "nanosleep", do_nanosleep },
	{ "clock_nanosleep_abs", do_clock_abs },
	{ "poll", do_poll },
	{ "ppoll", do_ppoll },
	{ "select", do_select },
	{ "pselect", do_pselect },
	{ "epoll_wait", do_epoll_wait },
	{ "epoll_pwait", do_epoll_pwait },
	{ "epoll_pwait2", do_epoll_pwait2 },
	{ "futex_timeout", do_futex_timeout },
	{ "cond_timedwait", do_cond_timedwait },
	{ "sem_timedwait", do_sem_timedwait },
	{ "sigtimedwait", do_sigtimedwait },
	{ "semtimedop", do_semtimedop },
	{ "io_getevents", do_io_getevents },
	{ "recv_timeout", do_recv_timeout },
	{ "read_socket_timeout", do_read_socket_timeout },
	{ "read_pipe", do_read_pipe },
	{ "read_eventfd", do_read_eventfd },
	{ "accept", do_accept },
	{ "wait4", do_wait4 },
	{ "msgrcv", do_msgrcv },
};
enum { NCALLS = sizeof(calls) / sizeof(calls[0]) };

static pid_t tids[NCALLS];
static struct {
	long result, ms;
	int code;
} outcome[NCALLS];

static long ms_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void *run(void *arg)
{
	size_t i = (size_t)(uintptr_t)arg;
	long t = ms_now();

	__atomic_store_n(&tids[i], (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	errno = 0;
	outcome[i].result = calls[i].fn();
	outcome[i].code = errno;
	outcome[i].ms = ms_now() - t;
	return NULL;
}

/* Asleep: the kernel says that it is in a system call and state S. */
static void await_sleep(pid_t tid)
{
	char path[64], text[256];

	for (int i = 0; i < 2000; i++) {
		FILE *f;
		char *p;

		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
		f = fopen(path, "r");
		p = f && fgets(text, sizeof(text), f) ? strrchr(text, ')') : NULL;
		if (f)
			fclose(f);
		if (p && p[2] == 'S')
			return;
		usleep(1000);
	}
}

static void set_up(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	int fds[2];

	if (pipe(fds))
		abort();
	pipe_rd = fds[0];
	pipe_wr = fds[1];
	event_fd = eventfd(0, 0);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&in, sizeof(in)) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&in, &len))
		abort();
	tcp_port = in.sin_port;
	msg_id = msgget(IPC_PRIVATE, 0600);
	sem_id = semget(IPC_PRIVATE, 1, 0600);
	sem_init(&sem, 0, 0);
	child = fork();
	if (!child) {
		sleep((unsigned)limit_s);
		_exit(0);
	}
}

/* Wake those that have no time limit. */
static void wake(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				  .sin_port = (in_port_t)tcp_port };
	struct {
		long type;
		char text[8];
	} m = { 1, "x" };
	uint64_t one = 1;
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(s, (struct sockaddr *)&in, sizeof(in)) || write(pipe_wr, "x", 1) != 1 ||
	    write(event_fd, &one, sizeof(one)) != sizeof(one) ||
	    msgsnd(msg_id, &m, sizeof(m.text), 0))
		abort();
}

int main(int argc, char **argv)
{
	pthread_t t[NCALLS];
	sigset_t set;
	long until;

	limit_s = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 3;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 7);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	set_up();
	until = ms_now() + limit_s * 1000;
	for (size_t i = 0; i < NCALLS; i++)
		pthread_create(&t[i], NULL, run, (void *)(uintptr_t)i);
	for (size_t i = 0; i < NCALLS; i++) {
		while (!__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE))
			usleep(100);
		await_sleep(tids[i]);
	}
	printf("ready %d\n", getpid());
	fflush(stdout);
	while (ms_now() < until)
		usleep(1000);
	wake();
	for (size_t i = 0; i < NCALLS; i++) {
		pthread_join(t[i], NULL);
		printf("%s %ld %d %ld\n", calls[i].name, outcome[i].result, outcome[i].code,
		       outcome[i].ms);
	}
	msgctl(msg_id, IPC_RMID, NULL);
	semctl(sem_id, 0, IPC_RMID);
	printf("end\n");
	return 0;
}
