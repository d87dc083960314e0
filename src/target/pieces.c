/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Many pieces, or many bytes, are read by two threads. */
#include <pthread.h>

#include "target/readers.h"
#include "target/target.h"

enum { TWO_READERS = 1024 }; /* pieces: below that a second thread costs more than it saves */

struct reader {
	struct asc_target *t;
	struct asc_iov *iov;
	size_t n;
	struct asc_error *err;
};

static void *read_half(void *arg)
{
	struct reader *r = arg;

	r->err = asc_read_bulk(r->t, r->iov, r->n);
	return NULL;
}

struct asc_error *asc_read_halves(struct asc_target *t, struct asc_iov *iov, size_t half, size_t n)
{
	struct reader a = { .t = t, .iov = iov, .n = half };
	struct reader b = { .t = t, .iov = iov + half, .n = n - half };
	pthread_t thread;

	if (!half || t->one_reader || !t->ops->concurrent_bulk ||
	    pthread_create(&thread, NULL, read_half, &b))
		return asc_read_bulk(t, iov, n);
	read_half(&a);
	pthread_join(thread, NULL);
	if (!a.err)
		return b.err;
	asc_error_free(b.err);
	return a.err;
}

struct asc_error *asc_read_pieces(struct asc_target *t, struct asc_iov *iov, size_t n)
{
	return asc_read_halves(t, iov, n < TWO_READERS ? 0 : n / 2, n);
}
