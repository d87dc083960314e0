/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A malloc of the program's own in front of glibc's, with a lock, that logs and so allocates again:
 * its first thread waits for itself, three more for it.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile int on;

static void __attribute__((noinline)) log_call(size_t size)
{
	char *copy = strdup("malloc");

	(void)size;
	free(copy);
}

void *malloc(size_t size)
{
	void *p;

	if (on)
		pthread_mutex_lock(&lock);
	p = __libc_malloc(size);
	if (on) {
		log_call(size);
		pthread_mutex_unlock(&lock);
	}
	return p;
}

static void *allocate(void *arg)
{
	while (!on)
		usleep(1000);
	free(malloc(100));
	return arg;
}

int main(void)
{
	pthread_t t;
	char c;

	printf("pid %d\n", (int)getpid());
	fflush(stdout);
	for (int i = 0; i < 4; i++)
		if (pthread_create(&t, NULL, allocate, NULL))
			return 1;
	usleep(50000);
	on = 1;
	usleep(400000);
	if (write(1, "ready\n", 6) != 6)
		return 1;
	while (read(0, &c, 1) > 0)
		;
	_exit(0);
}
