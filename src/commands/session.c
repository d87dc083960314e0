// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * One stop serves all: whatever is slow and needs no stop (modules, DWARF, the estimate) comes
 * first; then the target is stopped, read or copied, released; the model is built from the copy
 * while it runs on. What was read before is read again in the same stop, so that everything a
 * session holds is of one moment.
 */
#include "commands/session.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "commands/capture.h"
#include "glibc/heap.h"
#include "render/render.h"
#include "symbols/allocator.h"
#include "target/capture.h"
#include "target/diagnose.h"
#include "target/foresight.h"
#include "target/proc.h"
#include "target/readers.h"
#include "target/stackplan.h"
#include "target/vmflags.h"

enum {
	BUSY_TRIES = 20,
	THREAD_US = 25,			 /* of the pause */
	BYTES_PER_MS = 5000000,		 /* ditto: 5 GB/s */
	STACK_MAX = 8 << 20,		 /* captured of one stack ... */
	STACK_MIN = 128 << 10,		 /* ... and what is tried where that is too much */
};

/* What one stop reads; SYMBOLS and LIBC do not need it. */
static const unsigned STOPPED_NEEDS = ASC_NEED_LISTS | ASC_NEED_WALK | ASC_NEED_RESIDENCY |
				      ASC_NEED_LEDGER | ASC_NEED_REGS | ASC_NEED_STACKS |
				      ASC_NEED_COUNTS;

/* What is read with the residency at hand: it says what need not be read. */
static const unsigned PAGES_NEEDS = ASC_NEED_RESIDENCY | ASC_NEED_LEDGER | ASC_NEED_LISTS |
				    ASC_NEED_WALK;

const struct asc_heap *asc_session_heap(const struct asc_session *s)
{
	return s->nheaps ? s->heaps[0] : NULL;
}

struct asc_error *asc_session_open(const struct asc_session_opts *opts, struct asc_session **ret)
{
	struct asc_session *s = calloc(1, sizeof(*s));
	struct asc_error *err;

	if (!s)
		return asc_err(ASC_ENOMEM, "opening a session");
	s->opts = *opts;
	if (opts->core) {
		struct asc_core_opts co = { .exe = opts->exe, .root = opts->symbols.root };
		err = asc_core_open(opts->core, &co, &s->data);
	} else {
		struct asc_live_opts lo = { .no_stop = opts->no_stop };
		err = asc_live_open(opts->pid, &lo, &s->live);
		s->data = s->live;
	}
	if (err) {
		free(s);
		return err;
	}
	s->opts.symbols.arg = s;
	s->taken_at = time(NULL);
	s->have = ASC_NEED_TARGET;
	*ret = s;
	return NULL;
}

/* Everything that one stop has read. */
static void forget_data(struct asc_session *s)
{
	for (size_t i = 0; i < s->nheaps; i++)
		asc_heap_free(s->heaps[i]);
	free(s->heaps);
	s->heaps = NULL;
	s->nheaps = 0;
	asc_ledger_free(s->ledger);
	s->ledger = NULL;
	asc_residency_free(s->residency);
	s->residency = NULL;
	s->kernel_rss_known = false;
	if (s->live && s->data != s->live) {
		if (s->modules)
			asc_modules_retarget(s->modules, s->live);
		asc_target_close(s->data);
		s->data = s->live;
	}
	s->busy = s->in_malloc = false;
	s->busy_retries = 0;
	s->captured_bytes = 0;
	s->provenance = (struct asc_provenance){ 0 };
	asc_error_free(s->other_libcs);
	s->other_libcs = NULL;
	s->have &= ~STOPPED_NEEDS;
}

static void forget_symbols(struct asc_session *s)
{
	free(s->libcs);
	s->libcs = NULL;
	s->nlibcs = 0;
	asc_modules_close(s->modules);
	s->modules = NULL;
	asc_error_free(s->no_heap);
	s->no_heap = NULL;
	s->allocator = s->allocator_module = NULL;
	s->have &= ~(unsigned)(ASC_NEED_SYMBOLS | ASC_NEED_LIBC);
}

void asc_session_release(struct asc_session *s)
{
	if (s->live)
		asc_target_release(s->live, &s->pause);
}

void asc_session_refresh(struct asc_session *s)
{
	asc_session_release(s);
	forget_data(s);
	if (s->live)
		forget_symbols(s); /* libraries may have come and gone */
	s->taken_at = time(NULL);
}

void asc_session_close(struct asc_session *s)
{
	if (!s)
		return;
	asc_session_release(s);
	forget_data(s);
	forget_symbols(s);
	if (s->data != s->live)
		asc_target_close(s->data);
	asc_target_close(s->live);
	free(s);
}

/* ---- progress ---- */

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void wipe_progress(struct asc_session *s)
{
	if (s->progress_drawn)
		fputs("\r\033[K", stderr);
	s->progress_start = s->progress_drawn = 0;
}

bool asc_session_progress(void *session, uint64_t done, uint64_t total)
{
	struct asc_session *s = session;
	char a[32], b[32];
	uint64_t now = now_ms();

	if (asc_interrupted())
		return false;
	if (!s->opts.progress || s->opts.quiet)
		return true;
	if (!s->progress_start)
		s->progress_start = now;
	if (now - s->progress_start < 500 || now - s->progress_drawn < 100)
		return true;
	s->progress_drawn = now;
	if (total)
		fprintf(stderr, "\r\033[K%3.0f%%  %s of %s", 100.0 * (double)done / (double)total,
			asc_fmt_bytes(a, done, false), asc_fmt_bytes(b, total, false));
	else
		fprintf(stderr, "\r\033[K%s", asc_fmt_bytes(a, done, false));
	return true;
}

void asc_session_note(struct asc_session *s, const char *fmt, ...)
{
	va_list ap;

	wipe_progress(s);
	if (s->opts.quiet)
		return;
	fflush(stdout);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	putc('\n', stderr);
}

/* ---- before the stop ---- */

static struct asc_error *open_symbols(struct asc_session *s)
{
	struct asc_module *mod = NULL;

	ASC_TRY(asc_modules_open(s->data, &s->opts.symbols, &s->modules));
	s->have |= ASC_NEED_SYMBOLS;
	s->allocator = asc_allocator_detect(s->modules, s->data, &mod);
	s->allocator_module = mod ? mod->path : NULL;
	return NULL;
}

static bool is_glibc(const struct asc_session *s)
{
	if (!s->allocator || !strcmp(s->allocator, "glibc"))
		return true;
	/* it may pass everything on, or its own arena could be read */
	return !strcmp(s->allocator, "malloc_debug") && s->nlibcs &&
	       !asc_libc_unused(s->data, &s->libcs[0]);
}

static void find_libc(struct asc_session *s)
{
	if (s->have & ASC_NEED_LIBC || s->no_heap)
		return;
	s->no_heap = asc_libc_find(s->modules, s->data, &s->libcs, &s->nlibcs);
	if (!s->no_heap)
		s->have |= ASC_NEED_LIBC;
}

static struct asc_error *copy_error(const struct asc_error *e)
{
	ASC_AUTO(asc_freep) char *text = asc_error_text(e);
	const char *id = asc_error_id(e), *why = asc_error_why(e), *hint = asc_error_hint(e);
	struct asc_error *err = asc_err_id(asc_err(e->code, "%s", text ? text : "no glibc heap"),
					   id);

	if (why)
		asc_err_why(err, "%s", why);
	return hint ? asc_err_try(err, "%s", hint) : err;
}

/* ---- what to copy ---- */

static struct asc_error *plan_heaps(struct asc_session *s, struct asc_target *from,
				    const struct asc_residency *res, enum asc_depth depth,
				    asc_range_vec *v)
{
	for (size_t i = 0; i < s->nlibcs; i++) {
		ASC_AUTO(asc_freep) struct asc_range *r = NULL;
		size_t n = 0;
		struct asc_error *err =
			asc_heap_plan(from, &s->libcs[i], res, depth, &r, &n);
		/* a libc that cannot be planned is told by asc_heap_read() */
		asc_error_free(err);
		for (size_t k = 0; !err && k < n; k++)
			ASC_TRY(asc_vec_push(v, r[k]));
	}
	return NULL;
}

static uint64_t plan_bytes(const struct asc_residency *res, const asc_range_vec *v)
{
	uint64_t sum = 0;
	bool known = res && res->source != ASC_RESIDENCY_UNKNOWN;

	for (size_t i = 0; i < v->len; i++) {
		const struct asc_range *r = &v->data[i];
		uint64_t n = known ? asc_resident_bytes(res, r->addr, r->addr + r->len)
				   : r->len;
		if (!asc_add(sum, n, &sum))
			return UINT64_MAX;
	}
	return sum;
}

static uint64_t pause_estimate_ms(const struct asc_session *s, uint64_t bytes)
{
	size_t n;

	asc_target_threads(s->live, &n);
	return (uint64_t)n * THREAD_US / 1000 + bytes / BYTES_PER_MS;
}

static bool fits_pause(const struct asc_session *s, uint64_t bytes)
{
	return s->opts.no_stop || s->opts.hold || !s->opts.max_pause_ms ||
	       pause_estimate_ms(s, bytes) <= s->opts.max_pause_ms;
}

/* Whole stacks, or as much of each as the pause allows: deep frames are worth less than all. */
static struct asc_error *plan_stacks(struct asc_session *s, struct asc_target *from,
				     asc_range_vec *v)
{
	ASC_AUTO(asc_freep) struct asc_range *r = NULL;
	uint64_t bytes = 0, each = STACK_MAX;
	size_t n = 0;

	for (;; each /= 4) {
		ASC_TRY(asc_stack_ranges(from, each, &r, &n, &bytes));
		if (fits_pause(s, bytes) || each / 4 < STACK_MIN)
			break;
		free(asc_take(r));
	}
	for (size_t i = 0; i < n; i++)
		ASC_TRY(asc_vec_push(v, r[i]));
	return NULL;
}

struct asc_error *asc_session_plan(struct asc_session *s, struct asc_target *from,
				   const struct asc_residency *res, unsigned needs,
				   asc_range_vec *v)
{
	enum asc_depth depth = needs & ASC_NEED_WALK ? ASC_DEPTH_WALK : ASC_DEPTH_LISTS;

	if (needs & (ASC_NEED_LISTS | ASC_NEED_WALK))
		ASC_TRY(plan_heaps(s, from, res, depth, v));
	return needs & ASC_NEED_STACKS ? plan_stacks(s, from, v) : NULL;
}

static struct asc_error *check_pause(const struct asc_session *s, uint64_t bytes)
{
	uint64_t ms = pause_estimate_ms(s, bytes);
	char buf[32];
	size_t n;

	if (fits_pause(s, bytes))
		return NULL;
	asc_target_threads(s->live, &n);
	struct asc_error *err = asc_err_id(
		asc_err(ASC_EAGAIN,
			"reading it would stop the target for about %llu ms, over --max-pause=%llums",
			(unsigned long long)ms, (unsigned long long)s->opts.max_pause_ms),
		"E-PAUSE");
	asc_err_why(err, "%zu threads, %s to copy", n, asc_fmt_bytes(buf, bytes, false));
	asc_err_try(err, "--max-pause=%llums", (unsigned long long)(ms + ms / 4 + 1));
	asc_err_try(err, "--capture=optimistic: reads while it runs, checks in a short stop");
	asc_err_try(err, "report, rss, arenas or bins: they read the free lists only");
	return asc_err_try(err, "--no-stop: never stops it; the result may be inconsistent");
}

/* The engine that was asked for, or for what a stop would take too long. */
static enum asc_capture_mode choose(struct asc_session *s, unsigned needs, uint64_t bytes)
{
	bool held = s->any_moment || s->opts.hold || s->opts.no_stop;

	if (held || s->opts.capture == ASC_CAP_COPY)
		return ASC_CAP_COPY;
	if (s->opts.capture != ASC_CAP_AUTO)
		return s->opts.capture;
	return needs & ASC_NEED_WALK && !fits_pause(s, bytes) && fits_pause(s, 0)
		       ? ASC_CAP_OPTIMISTIC
		       : ASC_CAP_COPY;
}

/*
 * Before the stop: what will have to be read, judged by the running target, which may be wrong in
 * detail. Refuses what is far over the budget without ever stopping it.
 */
static struct asc_error *prepare(struct asc_session *s, unsigned *needs, uint64_t *ret_bytes,
				 struct asc_foresight **ret)
{
	uint64_t bytes = 0;

	if (!s->opts.hold && !s->opts.no_stop && *needs & PAGES_NEEDS) {
		/* a target that ends or changes meanwhile: the stop will tell */
		asc_error_free(asc_foresight_new(s->live, *needs & ASC_NEED_LEDGER, ret));
	}
	if (!(*needs & (ASC_NEED_WALK | ASC_NEED_COUNTS)) || s->opts.hold)
		return check_pause(s, 0);
	for (size_t i = 0; i < s->nlibcs; i++)
		bytes += asc_heap_walk_bytes(s->live, &s->libcs[i], *ret ? (*ret)->residency : NULL);
	if (!(*needs & ASC_NEED_WALK)) {
		if (!fits_pause(s, bytes))
			return check_pause(s, 0);
		*needs |= ASC_NEED_WALK;
	}
	*ret_bytes = bytes;
	return choose(s, *needs, bytes) == ASC_CAP_OPTIMISTIC ? NULL : check_pause(s, bytes);
}

/* ---- the stop ---- */

void asc_session_read_rss(struct asc_session *s)
{
	s->kernel_rss_known = asc_kernel_rss(asc_target_pid(s->live), &s->kernel_rss);
}

/* Stop it at a moment when malloc is in the middle of nothing. */
struct asc_error *asc_session_stop_quiet(struct asc_session *s)
{
	struct asc_stop_opts so = {
		.max_pause_ms = s->opts.hold ? UINT_MAX
					     : (unsigned)asc_min(s->opts.max_pause_ms, UINT_MAX),
	};

	if (asc_target_is_stopped(s->live))
		return NULL;
	for (unsigned try = 0;; try++) {
		bool busy = false;
		ASC_TRY(asc_target_stop(s->live, &so));
		asc_target_keep_pages(s->live, true);
		asc_addr arena = 0;
		pid_t tid;
		for (size_t i = 0; i < s->nlibcs && !busy && !s->opts.no_stop; i++)
			busy = asc_heap_busy(s->live, s->modules, &s->libcs[i], &arena, &tid);
		asc_target_keep_pages(s->live, false);
		s->busy = busy;
		s->in_malloc = busy && !arena;
		s->busy_retries = try;
		if (!busy || s->any_moment || try == BUSY_TRIES || asc_interrupted())
			return NULL;
		struct asc_pause p;
		asc_target_release(s->live, &p);
		struct timespec ts = { .tv_nsec = 1000000L * (1 + try % 5) };
		nanosleep(&ts, NULL);
	}
}

struct asc_error *asc_session_read_heaps(struct asc_session *s, unsigned needs)
{
	struct asc_heap_opts ho = {
		.depth = needs & ASC_NEED_WALK ? ASC_DEPTH_WALK : ASC_DEPTH_LISTS,
		.max_memory = s->opts.max_memory,
		.focus = s->focus,
		.in_malloc = s->in_malloc || s->possibly_inconsistent ||
			     s->provenance.unverified_bytes,
		.unproven = s->possibly_inconsistent || s->provenance.unverified_bytes,
		.progress = asc_session_progress,
		.progress_arg = s,
	};

	if (!s->nlibcs)
		return NULL;
	s->heaps = calloc(s->nlibcs, sizeof(struct asc_heap *));
	if (!s->heaps)
		return asc_err(ASC_ENOMEM, "heaps of %zu libcs", s->nlibcs);
	s->nheaps = s->nlibcs;
	for (size_t i = 0; i < s->nlibcs; i++) {
		asc_addr arena;
		pid_t tid;
		if (!s->live)
			ho.in_malloc = asc_heap_busy(s->data, s->modules, &s->libcs[i], &arena, &tid) &&
				       !arena;
		struct asc_error *err = asc_heap_read(s->data, &s->libcs[i], s->residency, &ho,
						      &s->heaps[i]);
		if (err && (i == 0 || err->code == ASC_EINTR || err->code == ASC_ENOMEM))
			return err;
		if (err) {
			asc_error_free(s->other_libcs);
			s->other_libcs = err;
		}
	}
	return NULL;
}

/* Stacks are looked at when the target runs on, and with them the locks that threads wait for. */
static struct asc_error *copy_stacks(struct asc_session *s)
{
	struct asc_capture_buf *buf = NULL;
	asc_range_vec v = { 0 };
	struct asc_error *err = plan_heaps(s, s->live, s->residency, ASC_DEPTH_HEADERS, &v);

	if (!err)
		err = plan_stacks(s, s->live, &v);
	if (!err)
		err = check_pause(s, plan_bytes(s->residency, &v));
	if (!err)
		err = asc_capture_into(s->live, s->residency, v.data, v.len, s->opts.max_memory,
				       &buf, &s->data);
	asc_vec_free(&v);
	if (!err)
		s->captured_bytes = asc_capture_bytes(s->data);
	return err;
}

/*
 * With the target stopped: everything that must be of this moment. The heap is read where it is: one
 * pass over it takes no longer than to copy it, and keeps a hundredth of it.
 */
static struct asc_error *read_stopped(struct asc_session *s, unsigned needs,
				      struct asc_foresight *before)
{
	asc_target_keep_pages(s->live, true);
	if (needs & PAGES_NEEDS && asc_foresight_holds(before, s->live)) {
		s->residency = asc_take(before->residency);
		s->kernel_rss = before->rss;
		s->kernel_rss_known = before->rss_known;
	} else if (needs & PAGES_NEEDS) {
		ASC_TRY(asc_residency_and_rss(s->live, needs & ASC_NEED_LEDGER, &s->residency,
					      &s->kernel_rss, &s->kernel_rss_known));
	}
	if (needs & (ASC_NEED_LISTS | ASC_NEED_WALK))
		ASC_TRY(asc_session_read_heaps(s, needs));
	return needs & ASC_NEED_STACKS && !s->opts.hold ? copy_stacks(s) : NULL;
}

/*
 * Without a stop: who ran while it was read? If nobody did, it is as good as with one. Else what
 * does not add up is no damage: it is read again with that in mind.
 */
static struct asc_error *read_running(struct asc_session *s, unsigned needs)
{
	s->possibly_inconsistent = false;
	ASC_TRY(read_stopped(s, needs, NULL));
	s->ran = asc_live_mark_runners(s->live, s->data);
	s->possibly_inconsistent = s->ran;
	if (!s->ran || !s->nheaps)
		return NULL;
	struct asc_provenance how = s->provenance;
	forget_data(s);
	s->provenance = how;
	ASC_TRY(read_stopped(s, needs, NULL));
	s->ran = asc_live_mark_runners(s->live, s->data);
	return NULL;
}

static void say_pause(struct asc_session *s)
{
	const struct asc_pause *p = &s->pause;

	if (s->opts.no_stop || !p->threads)
		return;
	asc_session_note(s, "paused %.*f ms", p->ms < 10 ? 1 : 0, p->ms);
	if (p->watchdog)
		asc_session_note(s, "arenascope: it took too long: the target was let go before "
				    "everything was read");
}

/* What was read is a copy of its own: text is still read from the process, while it is there. */
static struct asc_error *use_copy(struct asc_session *s, unsigned needs)
{
	asc_capture_set_backing(s->data, s->live);
	if (s->modules)
		asc_modules_retarget(s->modules, s->data);
	if (needs & (ASC_NEED_LISTS | ASC_NEED_WALK) && !s->heaps)
		return asc_session_read_heaps(s, needs);
	return NULL;
}

/* Both engines walk while the target runs, so the counts of live chunks cost it nothing. */
static struct asc_error *read_fork(struct asc_session *s, unsigned *want)
{
	if (*want & ASC_NEED_COUNTS)
		*want |= ASC_NEED_WALK;
	s->taken_at = time(NULL);
	ASC_TRY(asc_capture_by_fork(s, *want));
	say_pause(s);
	return use_copy(s, *want);
}

static struct asc_error *read_optimistic(struct asc_session *s, unsigned *want)
{
	if (*want & ASC_NEED_COUNTS)
		*want |= ASC_NEED_WALK;
	ASC_TRY(check_pause(s, 0));
	ASC_TRY(asc_capture_optimistic_run(s, *want));
	say_pause(s);
	return use_copy(s, *want);
}

static struct asc_error *read_stop(struct asc_session *s, unsigned *want)
{
	uint64_t bytes = 0;
	ASC_AUTO(asc_foresight_freep) struct asc_foresight *before = NULL;
	struct asc_error *err = prepare(s, want, &bytes, &before);
	const unsigned needs = *want;

	if (!err && choose(s, needs, bytes) == ASC_CAP_OPTIMISTIC) {
		asc_session_note(s,
				 "reading it would stop the target for about %llu ms, over "
				 "--max-pause=%llums: reading while it runs "
				 "(--capture=optimistic)",
				 (unsigned long long)pause_estimate_ms(s, bytes),
				 (unsigned long long)s->opts.max_pause_ms);
		return read_optimistic(s, want);
	}
	s->provenance.engine = s->opts.no_stop || s->opts.hold ? "direct" : "copy";
	s->provenance.rounds = !s->opts.no_stop;

	if (!err)
		err = asc_session_stop_quiet(s);
	s->taken_at = time(NULL);
	if (!err)
		err = s->opts.no_stop ? read_running(s, needs) : read_stopped(s, needs, before);
	asc_target_keep_pages(s->live, false);
	if (s->opts.hold && !err) {
		asc_session_note(s, "held: the target stays stopped");
		return NULL;
	}
	asc_target_release(s->live, &s->pause);
	say_pause(s);
	if (err || s->data == s->live)
		return err;
	return use_copy(s, needs);
}

static struct asc_error *read_live(struct asc_session *s, unsigned *want)
{
	if (!asc_diagnose_frozen(asc_target_pid(s->live), s->frozen, sizeof(s->frozen)))
		s->frozen[0] = 0;
	switch (choose(s, 0, 0)) {
	case ASC_CAP_FORK:
		return read_fork(s, want);
	case ASC_CAP_OPTIMISTIC:
		return read_optimistic(s, want);
	default:
		return read_stop(s, want);
	}
}

static struct asc_error *read_core(struct asc_session *s, unsigned *want)
{
	unsigned needs = *want;

	if (needs & ASC_NEED_COUNTS)
		*want = needs |= ASC_NEED_WALK;
	if (needs & (ASC_NEED_RESIDENCY | ASC_NEED_LEDGER))
		ASC_TRY(asc_residency_read(s->data, &s->residency));
	if (needs & (ASC_NEED_LISTS | ASC_NEED_WALK))
		return asc_session_read_heaps(s, needs);
	return NULL;
}

/* ---- after it ---- */

static struct asc_error *make_ledger(struct asc_session *s)
{
	struct asc_vmflags vm = { 0 };
	struct asc_ledger_in in = {
		.heaps = (const struct asc_heap *const *)s->heaps,
		.nheaps = s->nheaps,
		.res = s->residency,
		.maps = asc_target_maps(s->data),
		.arch = asc_target_arch(s->data),
		.kernel_rss = s->kernel_rss,
		.kernel_rss_known = s->kernel_rss_known,
		.core = !s->live,
		.allocator = s->allocator,
	};

	in.threads = asc_target_threads(s->data, &in.nthreads);
	if (s->live)
		ASC_TRY(asc_vmflags_read(s->live, &vm));
	in.mlocked = vm.mlocked;
	in.nmlocked = vm.nmlocked;
	in.hugetlb = vm.hugetlb;
	in.nhugetlb = vm.nhugetlb;
	struct asc_error *err = asc_ledger_make(&in, &s->ledger);
	asc_vmflags_deinit(&vm);
	return err;
}

/* The program's malloc is not glibc's: what that means, measured. */
static struct asc_error *foreign_allocator(struct asc_session *s)
{
	const struct asc_ledger *l = s->ledger;
	ASC_AUTO(asc_freep) char *path = s->allocator_module ? asc_escape(s->allocator_module)
							      : NULL;

	struct asc_error *err = asc_err_id(
		asc_err(ASC_EUNSUPPORTED, "this program's malloc is %s, not glibc's", s->allocator),
		"E-ALLOCATOR");
	if (l && l->known && l->rss && asc_session_heap(s))
		asc_err_why(err, "%s provides malloc; glibc's arenas hold %.1f%% of RSS",
			    path ? path : s->allocator,
			    100.0 * (double)(l->malloc_pages.resident + l->mmapped_chunks) /
				    (double)l->rss);
	else if (path)
		asc_err_why(err, "%s provides malloc", path);
	asc_err_try(err, "rss, threads and stacks work");
	return asc_err_try(err, "--force shows glibc's arenas all the same");
}

struct asc_error *asc_session_alive(struct asc_session *s)
{
	struct asc_proc_stat st;
	pid_t pid = s->live ? asc_target_pid(s->live) : 0;

	if (!s->live || asc_target_alive(s->live))
		return NULL;
	bool there = !asc_proc_stat(pid, 0, &st) && st.state != 'Z' && st.state != 'X';
	struct asc_error *err =
		there ? asc_err_id(asc_err(ASC_EAGAIN, "process %d has started another program",
					   (int)pid),
				   "E-EXEC")
		      : asc_err_id(asc_err(ASC_ENOTARGET, "process %d has ended", (int)pid),
				   "E-EXITED");
	if (s->have & STOPPED_NEEDS)
		asc_err_why(err, "it cannot be read again; what was read before stays");
	return there ? asc_err_try(err, "attach %d, or arenascope -p %d", (int)pid, (int)pid) : err;
}

static unsigned imply(unsigned needs)
{
	if (needs & ASC_NEED_LEDGER)
		needs |= ASC_NEED_RESIDENCY | ASC_NEED_SYMBOLS | ASC_NEED_REGS;
	if (needs & (ASC_NEED_WALK | ASC_NEED_COUNTS))
		needs |= ASC_NEED_LISTS;
	if (needs & ASC_NEED_LISTS)
		needs |= ASC_NEED_LIBC;
	if (needs & (ASC_NEED_LIBC | ASC_NEED_STACKS))
		needs |= ASC_NEED_SYMBOLS | ASC_NEED_REGS;
	return needs | ASC_NEED_TARGET;
}

struct asc_error *asc_session_need(struct asc_session *s, unsigned asked)
{
	unsigned needs = imply(asked);
	bool heap = needs & (ASC_NEED_LIBC | ASC_NEED_LISTS | ASC_NEED_WALK);

	if (s->have & ASC_NEED_WALK) /* what a walk has given need not be read again */
		needs &= ~(unsigned)ASC_NEED_COUNTS;
	if (s->have & ASC_NEED_WALK)
		needs |= ASC_NEED_WALK; /* a walk is also the lists */
	if ((needs & ASC_NEED_SYMBOLS || heap) && !s->modules) {
		ASC_TRY(asc_session_alive(s));
		ASC_TRY(open_symbols(s));
	}
	if (heap || needs & ASC_NEED_LEDGER)
		find_libc(s);
	if (s->no_heap && heap)
		return copy_error(s->no_heap);
	if (s->have & ASC_NEED_LIBC && needs & ASC_NEED_LEDGER)
		needs |= ASC_NEED_LISTS;
	bool foreign = heap && !is_glibc(s) && !s->opts.force;
	if (foreign)
		needs = imply(ASC_NEED_LEDGER) | ASC_NEED_LISTS;

	unsigned missing = needs & STOPPED_NEEDS & ~s->have;
	if (missing) {
		ASC_TRY(asc_session_alive(s));
		/* again what was there: one moment for all of it */
		needs |= s->have & STOPPED_NEEDS;
		forget_data(s);
		struct asc_error *err = s->live ? read_live(s, &needs) : read_core(s, &needs);
		if (!err && needs & ASC_NEED_LEDGER)
			err = make_ledger(s);
		wipe_progress(s);
		if (err) {
			forget_data(s);
			return err;
		}
		s->have |= needs & STOPPED_NEEDS;
	}
	return foreign ? foreign_allocator(s) : NULL;
}

struct asc_error *asc_session_need_at(struct asc_session *s, asc_addr addr)
{
	struct asc_error *err;

	if (!(s->have & ASC_NEED_WALK))
		s->focus = addr;
	err = asc_session_need(s, ASC_NEED_TARGET | ASC_NEED_WALK | ASC_NEED_RESIDENCY);
	if (s->focus)
		s->have &= ~STOPPED_NEEDS;
	s->focus = 0;
	return err;
}
