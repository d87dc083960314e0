/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/parts.h"

#include <pthread.h>

struct parts {
	asc_part_fn fn;
	const void *in;
	void *ret;
	size_t n;
	size_t next; /* atomic: nobody has begun it */
};

struct worker {
	struct parts *parts;
	struct asc_error *err;
	size_t at; /* part of err */
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct parts *p = w->parts;

	while (!w->err) {
		w->at = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED);
		if (w->at >= p->n)
			break;
		w->err = p->fn(p->in, p->ret, w->at);
	}
	/* whoever is at work elsewhere ends with the part at hand */
	if (w->err)
		__atomic_store_n(&p->next, p->n, __ATOMIC_RELAXED);
	return NULL;
}

struct asc_error *asc_parts_do(size_t n, bool two, asc_part_fn fn, const void *in, void *ret)
{
	struct parts p = { .fn = fn, .in = in, .ret = ret, .n = n };
	struct worker here = { .parts = &p }, beside = { .parts = &p };
	struct worker *first = &here, *other = &beside;
	pthread_t thread;

	two = two && n > 1 && !pthread_create(&thread, NULL, work, &beside);
	work(&here);
	if (two)
		pthread_join(thread, NULL);
	if (!here.err || (beside.err && beside.at < here.at)) {
		first = &beside;
		other = &here;
	}
	asc_error_free(other->err);
	return first->err;
}
