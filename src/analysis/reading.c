/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "analysis/reading.h"

#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/readers.h"
#include "target/vmflags.h"

/* How often, and how long, a moment is waited for at which no lock is held. */
enum { BUSY_TRIES = 20, BUSY_MS = 1000 };

static void look(const struct asc_source *s, struct asc_quiet *q)
{
	asc_addr arena = 0;
	pid_t tid;

	q->busy = false;
	asc_target_keep_pages(s->live, true);
	asc_target_fetch_early(s->live);
	for (size_t i = 0; i < s->nlibcs && !q->busy; i++)
		q->busy = asc_heap_busy(s->live, s->modules, &s->libcs[i], &arena, &tid);
	asc_target_keep_pages(s->live, false);
	q->in_malloc = q->busy && !arena;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* With a long run queue one stop of many threads takes seconds: tries alone are no bound. */
static bool tried_enough(const struct asc_quiet_opts *opts, unsigned tries, uint64_t since_ms)
{
	return opts->any_moment || tries == BUSY_TRIES || now_ms() - since_ms >= BUSY_MS ||
	       (opts->interrupted && opts->interrupted());
}

struct asc_error *asc_stop_quiet(const struct asc_source *s, const struct asc_quiet_opts *opts,
				 struct asc_quiet *ret)
{
	const struct asc_stop_opts so = { .max_pause_ms = opts->max_pause_ms };
	const uint64_t since = now_ms();
	struct asc_quiet q = { 0 };

	for (;; q.tries++) {
		struct asc_pause p;
		struct timespec ts = { .tv_nsec = 1000000L * (1 + q.tries % 5) };

		ASC_TRY(asc_target_stop(s->live, &so));
		if (!opts->no_stop)
			look(s, &q);
		if (!q.busy || tried_enough(opts, q.tries, since))
			break;
		asc_target_release(s->live, &p);
		nanosleep(&ts, NULL);
	}
	*ret = q;
	return NULL;
}

struct asc_error *asc_plan_heaps(const struct asc_source *s, struct asc_target *from,
				 const struct asc_residency *res, enum asc_depth depth,
				 asc_range_vec *v)
{
	for (size_t i = 0; i < s->nlibcs; i++) {
		ASC_AUTO(asc_freep) struct asc_range *r = NULL;
		size_t n = 0;
		struct asc_error *err = asc_heap_plan(from, &s->libcs[i], res, depth, &r, &n);

		/* a libc that cannot be planned is told by asc_heap_read() */
		asc_error_free(err);
		for (size_t k = 0; !err && k < n; k++)
			ASC_TRY(asc_vec_push(v, r[k]));
	}
	return NULL;
}

uint64_t asc_planned_bytes(const struct asc_residency *res, const asc_range_vec *v)
{
	const bool known = res && res->source != ASC_RESIDENCY_UNKNOWN;
	uint64_t sum = 0;

	for (size_t i = 0; i < v->len; i++) {
		const struct asc_range *r = &v->data[i];
		uint64_t n = known ? asc_resident_bytes(res, r->addr, r->addr + r->len) : r->len;

		if (!asc_add(sum, n, &sum))
			return UINT64_MAX;
	}
	return sum;
}

struct asc_error *asc_read_heaps(const struct asc_source *s, const struct asc_residency *res,
				 const struct asc_heap_opts *opts, struct asc_heap **heaps,
				 struct asc_error **ret_other)
{
	struct asc_heap_opts ho = *opts;

	for (size_t i = 0; i < s->nlibcs; i++) {
		asc_addr arena;
		pid_t tid;

		if (!s->live) /* a core is of any moment */
			ho.in_malloc =
				asc_heap_busy(s->data, s->modules, &s->libcs[i], &arena, &tid) &&
				!arena;
		struct asc_error *err = asc_heap_read(s->data, &s->libcs[i], res, &ho, &heaps[i]);
		if (err && (i == 0 || err->code == ASC_EINTR || err->code == ASC_ENOMEM))
			return err;
		if (err) {
			asc_error_free(*ret_other);
			*ret_other = err;
		}
	}
	return NULL;
}

struct asc_error *asc_read_core(const struct asc_source *s, const struct asc_heap_opts *opts,
				bool exact, struct asc_heap **heaps, struct asc_residency **ret_res,
				struct asc_error **ret_other)
{
	struct asc_residency *rough = NULL;
	struct asc_error *err = NULL;

	if (heaps) {
		err = asc_residency_foresee(s->data, &rough);
		if (!err)
			err = asc_read_heaps(s, rough, opts, heaps, ret_other);
		asc_residency_free(rough);
	}
	return !err && exact ? asc_residency_read(s->data, ret_res) : err;
}

struct asc_error *asc_ledger_of(const struct asc_source *s, const struct asc_ledger_of *of,
				struct asc_ledger **ret)
{
	struct asc_vmflags vm = { 0 };
	struct asc_ledger_in in = {
		.heaps = (const struct asc_heap *const *)of->heaps,
		.nheaps = of->nheaps,
		.res = of->residency,
		.maps = asc_target_maps(s->data),
		.arch = asc_target_arch(s->data),
		.kernel_rss = of->kernel_rss,
		.kernel_rss_known = of->kernel_rss_known,
		.core = !s->live,
		.later = of->later,
		.allocator = of->allocator,
	};

	in.threads = asc_target_threads(s->data, &in.nthreads);
	if (s->live)
		ASC_TRY(asc_vmflags_read(s->live, &vm));
	in.mlocked = vm.mlocked;
	in.nmlocked = vm.nmlocked;
	in.hugetlb = vm.hugetlb;
	in.nhugetlb = vm.nhugetlb;
	struct asc_error *err = asc_ledger_make(&in, ret);
	asc_vmflags_deinit(&vm);
	return err;
}
