/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Most threads use a few pages at the top of a stack, all of them touched. Only what is longer is
 * looked up: a stack pointer in a large mapping (coroutines, generated code), or a large buffer.
 */
#include "target/stackplan.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/proc.h"

enum {
	BELOW = 512,	      /* the red zone, and what a signal frame's unwinder looks at */
	LOOKED_UP = 64 << 10, /* longer ranges than this */
	ENTRIES = 1024,
};

static const uint64_t HAS_PAGE = 3ull << 62; /* present or swapped */

typedef ASC_VEC(struct asc_range) range_vec;

/* The parts of @p r that have pages; all of it where the kernel does not tell. */
static struct asc_error *add_parts(int fd, uint64_t page, struct asc_range r, range_vec *v)
{
	uint64_t entries[ENTRIES];
	asc_addr at = asc_align_down(r.addr, page), end = r.addr + r.len, from = 0;
	bool inside = false;

	while (at < end) {
		size_t want = (size_t)asc_min((end - at + page - 1) / page, ENTRIES) * 8;
		ssize_t n = fd < 0 ? -1 : pread(fd, entries, want, (off_t)(at / page * 8));

		if (n < 8) {
			struct asc_range rest = { .addr = inside ? from : at };

			rest.len = end - rest.addr;
			return asc_vec_push(v, rest);
		}
		for (size_t i = 0; i < (size_t)n / 8; i++, at += page) {
			bool has = entries[i] & HAS_PAGE;

			if (has == inside)
				continue;
			inside = has;
			if (has)
				from = at;
			else
				ASC_TRY(asc_vec_push(
					v, ((struct asc_range){ .addr = from, .len = at - from })));
		}
	}
	if (!inside)
		return NULL;
	return asc_vec_push(v, ((struct asc_range){ .addr = from, .len = end - from }));
}

static int by_addr(const void *a, const void *b)
{
	const struct asc_range *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* Join what overlaps: coroutines of one mapping would be read once each. */
static void join(range_vec *v)
{
	size_t m = 0;

	asc_sort(v->data, v->len, sizeof(*v->data), by_addr);
	for (size_t i = 1; i < v->len; i++) {
		struct asc_range *last = &v->data[m], r = v->data[i];

		if (r.addr <= last->addr + last->len)
			last->len = asc_max(last->addr + last->len, r.addr + r.len) - last->addr;
		else
			v->data[++m] = r;
	}
	if (v->len)
		v->len = m + 1;
}

static struct asc_error *stacks(struct asc_target *live, uint64_t each_max, range_vec *ret)
{
	const struct asc_maps *maps = asc_target_maps(live);
	size_t n;
	const struct asc_thread *t = asc_target_threads(live, &n);

	for (size_t i = 0; i < n; i++) {
		const struct asc_map *m;
		struct asc_range r;
		asc_addr sp;

		if (!t[i].regs.valid || !asc_regs_sp(live, &t[i].regs, &sp))
			continue;
		m = asc_maps_find(maps, sp);
		if (!m)
			continue;
		r.addr = asc_max(m->start, sp < BELOW ? 0 : sp - BELOW);
		r.len = asc_min(m->end - r.addr, each_max);
		ASC_TRY(asc_vec_push(ret, r));
	}
	join(ret);
	return NULL;
}

static struct asc_error *with_pages(struct asc_target *live, const range_vec *v, range_vec *ret)
{
	ASC_AUTO(asc_closep) int fd = -1;
	bool tried = false;

	for (size_t i = 0; i < v->len; i++) {
		if (v->data[i].len <= LOOKED_UP) {
			ASC_TRY(asc_vec_push(ret, v->data[i]));
			continue;
		}
		if (!tried)
			(void)asc_proc_open(asc_target_pid(live),
					    asc_proc_live_tid(asc_target_pid(live)), "pagemap",
					    O_RDONLY, &fd);
		tried = true;
		ASC_TRY(add_parts(fd, asc_target_page_size(live), v->data[i], ret));
	}
	return NULL;
}

struct asc_error *asc_stack_ranges(struct asc_target *live, uint64_t each_max,
				   struct asc_range **ret, size_t *ret_n, uint64_t *ret_bytes)
{
	range_vec v = { 0 }, parts = { 0 };
	struct asc_error *err = stacks(live, each_max, &v);
	uint64_t sum = 0;

	if (!err)
		err = with_pages(live, &v, &parts);
	asc_vec_free(&v);
	if (err) {
		asc_vec_free(&parts);
		return err;
	}
	for (size_t i = 0; i < parts.len; i++)
		sum += parts.data[i].len;
	*ret = parts.data;
	*ret_n = parts.len;
	*ret_bytes = sum;
	return NULL;
}
