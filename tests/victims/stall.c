/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * More hangs, with less help from malloc than those of hang.c. Usage: stall MODE [FILE]. Prints
 * "pid N" and "ready" as that does; ends at end of file on standard input.
 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BIG = 5000 }; /* beyond the tcache */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static volatile int go;
static int never[2]; /* a pipe that nobody writes to */
static const char *file;

static pthread_t run(void *(*f)(void *))
{
	pthread_t t;

	if (pthread_create(&t, NULL, f, NULL))
		abort();
	return t;
}

static void rest(unsigned ms)
{
	usleep(ms * 1000);
}

static void await_go(void)
{
	while (!go)
		rest(1);
	rest(50);
}

static void sleep_in_read(void)
{
	char c;

	while (read(never[0], &c, 1) < 0 && errno == EINTR)
		;
}

/* ---- under an arena's lock: malloc_trim's madvise raises SIGSYS ---- */

static void trap_madvise(unsigned action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0) {
		perror("seccomp");
		exit(77);
	}
}

static void *trim(void *arg)
{
	char *a = malloc(BIG), *hole = malloc(100000), *b = malloc(BIG);

	if (!a || !hole || !b)
		abort();
	memset(hole, 1, 100000);
	free(hole);
	trap_madvise(SECCOMP_RET_TRAP);
	malloc_trim(0);
	return arg;
}

static void *allocate(void *arg)
{
	await_go();
	free(malloc(BIG));
	return arg;
}

static void on_sigsys(void (*f)(int))
{
	struct sigaction sa = { .sa_handler = f };

	sigaction(SIGSYS, &sa, NULL);
	for (int i = 0; i < 3; i++)
		run(allocate); /* first: making a thread takes the lock */
	run(trim);
}

static void handler_reads(int sig)
{
	(void)sig;
	go = 1;
	sleep_in_read();
}

static void handler_exits(int sig)
{
	(void)sig;
	go = 1;
	syscall(SYS_exit, 0); /* of the thread, past everything that would let go */
}

static void pipe_arena(void)
{
	on_sigsys(handler_reads);
}

static void dead_arena(void)
{
	on_sigsys(handler_exits);
}

/* ---- locks of the program ---- */

static void *take_mutex(void *arg)
{
	await_go();
	pthread_mutex_lock(&mutex);
	return arg;
}

static void *die_with_mutex(void *arg)
{
	pthread_mutex_lock(&mutex);
	go = 1;
	return arg;
}

static void dead_mutex(void)
{
	for (int i = 0; i < 3; i++)
		run(take_mutex);
	run(die_with_mutex);
}

static void *hold_rwlock_to_write(void *arg)
{
	pthread_rwlock_wrlock(&rwlock);
	go = 1;
	sleep_in_read();
	return arg;
}

static void *hold_rwlock_to_read(void *arg)
{
	pthread_rwlock_rdlock(&rwlock);
	go = 1;
	sleep_in_read();
	return arg;
}

static void *want_to_read(void *arg)
{
	await_go();
	pthread_rwlock_rdlock(&rwlock);
	return arg;
}

static void *want_to_write(void *arg)
{
	await_go();
	pthread_rwlock_wrlock(&rwlock);
	return arg;
}

static void rwlock_writer(void)
{
	for (int i = 0; i < 3; i++)
		run(want_to_read);
	run(want_to_write);
	run(hold_rwlock_to_write);
}

static void rwlock_reader(void)
{
	for (int i = 0; i < 2; i++)
		run(want_to_write);
	run(hold_rwlock_to_read);
}

static void *wait_cond(void *arg)
{
	pthread_mutex_lock(&mutex);
	while (!go)
		pthread_cond_wait(&cond, &mutex);
	return arg;
}

static void lost_wakeup(void)
{
	pthread_cond_signal(&cond); /* nobody waits yet */
	for (int i = 0; i < 3; i++)
		run(wait_cond);
}

static void initialise(void)
{
	go = 1;
	sleep_in_read();
}

static void *do_once(void *arg)
{
	pthread_once(&once, initialise);
	return arg;
}

static void once_only(void)
{
	for (int i = 0; i < 4; i++)
		run(do_once);
}

/* ---- fork handlers, the loader ---- */

static void prepare(void)
{
	pthread_mutex_lock(&mutex);
}

static void *do_fork(void *arg)
{
	await_go();
	if (!fork())
		_exit(0);
	return arg;
}

static void *hold_mutex(void *arg)
{
	pthread_mutex_lock(&mutex);
	go = 1;
	sleep_in_read();
	return arg;
}

static void atfork(void)
{
	pthread_atfork(prepare, NULL, NULL);
	run(do_fork);
	run(hold_mutex);
}

static int nothing(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)info;
	(void)size;
	(void)arg;
	return 1;
}

static void *need_loader(void *arg)
{
	dl_iterate_phdr(nothing, NULL);
	return arg;
}

/* As a constructor does that waits for a thread which needs the loader. */
static int join_in_callback(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)info;
	(void)size;
	(void)arg;
	pthread_join(run(need_loader), NULL);
	return 1;
}

static void *hold_loader(void *arg)
{
	dl_iterate_phdr(join_in_callback, NULL);
	return arg;
}

static void loader_join(void)
{
	run(hold_loader);
}

/* ---- states ---- */

__attribute__((noinline)) static ssize_t write_frozen(int fd)
{
	ssize_t n = write(fd, "x", 1);

	go = 2;
	return n;
}

static void *write_disk(void *arg)
{
	int fd = open(file, O_RDWR | O_CREAT, 0600);

	pthread_mutex_lock(&mutex);
	go = 1;
	write_frozen(fd);
	pthread_mutex_unlock(&mutex);
	return arg;
}

static void disk(void)
{
	for (int i = 0; i < 2; i++)
		run(take_mutex);
	run(write_disk);
}

/* The parent of a vfork() sleeps uninterruptibly for as long as the child has its memory. */
static void vforking(void)
{
	pid_t child = fork();

	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!vfork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
			_exit(0);
		}
		_exit(0);
	}
	printf("pid %d\n", (int)child);
}

static void seccomp(void)
{
	trap_madvise(SECCOMP_RET_ERRNO);
	run(hold_mutex);
}

static const struct {
	const char *name;
	void (*start)(void);
} modes[] = {
	{ "pipe-arena", pipe_arena },
	{ "dead-arena", dead_arena },
	{ "dead-mutex", dead_mutex },
	{ "rwlock-writer", rwlock_writer },
	{ "rwlock-reader", rwlock_reader },
	{ "lost-wakeup", lost_wakeup },
	{ "once", once_only },
	{ "atfork", atfork },
	{ "loader-join", loader_join },
	{ "disk", disk },
	{ "vfork", vforking },
	{ "seccomp", seccomp },
};

int main(int argc, char **argv)
{
	char c;

	mallopt(M_ARENA_MAX, 1); /* everybody shares the main arena */
	if (pipe(never))
		return 1;
	file = argc > 2 ? argv[2] : NULL;
	printf("pid %d\n", (int)getpid());
	for (size_t i = 0; argc > 1 && i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(modes[i].name, argv[1]))
			continue;
		modes[i].start();
		rest(400);
		puts("ready");
		fflush(stdout);
		while (read(0, &c, 1) > 0)
			;
		_exit(0);
	}
	fprintf(stderr, "usage: stall MODE [FILE]\n");
	return 64;
}
