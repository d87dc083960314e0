// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The library's short way: everything slow before the stop, then stop, read or copy, release, and
 * the model from the copy. The program's session does the same with more to choose from.
 */
#include "arenascope/view.h"

#include <stdlib.h>

#include "analysis/reading.h"
#include "base/cleanup.h"
#include "symbols/allocator.h"
#include "symbols/modules.h"
#include "target/capture.h"

enum { MAX_PAUSE_MS = 500, BYTES_PER_MS = 5000000 };

struct asc_view {
	struct asc_view_opts opts;
	struct asc_target *live; /* NULL: a core */
	struct asc_target *data; /* what is read: live, the core or a copy */
	struct asc_modules *modules;
	struct asc_libc *libcs;
	size_t nlibcs;
	const char *allocator;
	struct asc_heap **heaps; /* nlibcs of them */
	struct asc_residency *residency;
	struct asc_ledger *ledger;
	struct asc_pause pause;
	bool busy, in_malloc;
};

static void forget(struct asc_view *v)
{
	for (size_t i = 0; v->heaps && i < v->nlibcs; i++)
		asc_heap_free(v->heaps[i]);
	free(asc_take(v->heaps));
	asc_ledger_free(asc_take(v->ledger));
	asc_residency_free(asc_take(v->residency));
	if (v->live && v->data != v->live) {
		asc_modules_retarget(v->modules, v->live);
		asc_target_close(v->data);
		v->data = v->live;
	}
	v->pause = (struct asc_pause){ 0 };
	v->busy = v->in_malloc = false;
}

void asc_view_close(struct asc_view *v)
{
	if (!v)
		return;
	if (v->modules)
		forget(v);
	free(v->libcs);
	asc_modules_close(v->modules);
	if (v->data != v->live)
		asc_target_close(v->data);
	asc_target_close(v->live);
	free(v);
}

static void closep(struct asc_view **v)
{
	asc_view_close(*v);
}

struct asc_error *asc_view_open(const struct asc_view_opts *opts, struct asc_view **ret)
{
	struct asc_module *provider = NULL;
	ASC_AUTO(closep) struct asc_view *v = calloc(1, sizeof(*v));

	if (!v)
		return asc_err(ASC_ENOMEM, "opening a view");
	v->opts = *opts;
	if (!v->opts.max_pause_ms)
		v->opts.max_pause_ms = MAX_PAUSE_MS;
	if (opts->pid) {
		struct asc_live_opts lo = { .no_stop = opts->no_stop };
		ASC_TRY(asc_live_open(opts->pid, &lo, &v->live));
		v->data = v->live;
	} else if (opts->core) {
		struct asc_core_opts co = { .exe = opts->exe, .root = opts->root };
		ASC_TRY(asc_core_open(opts->core, &co, &v->data));
	} else {
		return asc_err(ASC_EUSAGE, "neither a process nor a core");
	}
	struct asc_symbol_opts so = {
		.root = opts->root,
		.debug_dir = opts->debug_dir,
		.libc = opts->libc,
		.exe = opts->exe,
		.debuginfod = ASC_DEBUGINFOD_OFF,
	};
	ASC_TRY(asc_modules_open(v->data, &so, &v->modules));
	v->allocator = asc_allocator_detect(v->modules, v->data, &provider);
	*ret = asc_take(v);
	return NULL;
}

/* ---- a live target ---- */

static struct asc_source source_of(const struct asc_view *v)
{
	return (struct asc_source){ v->live, v->data, v->modules, v->libcs, v->nlibcs };
}

static struct asc_error *check_pause(const struct asc_view *v, uint64_t bytes)
{
	if (v->opts.no_stop || bytes / BYTES_PER_MS <= v->opts.max_pause_ms)
		return NULL;
	return asc_err_id(asc_err(ASC_EAGAIN,
				  "reading it would stop the target for about %llu ms, over %u",
				  (unsigned long long)(bytes / BYTES_PER_MS), v->opts.max_pause_ms),
			  "E-PAUSE");
}

static struct asc_heap_opts heap_opts(const struct asc_view *v, enum asc_view_depth depth)
{
	return (struct asc_heap_opts){
		.depth = depth == ASC_VIEW_WALK ? ASC_DEPTH_WALK : ASC_DEPTH_LISTS,
		.max_memory = v->opts.max_memory,
		.in_malloc = v->in_malloc,
	};
}

static struct asc_error *new_heaps(struct asc_view *v)
{
	v->heaps = calloc(v->nlibcs, sizeof(struct asc_heap *));
	return v->heaps ? NULL : asc_err(ASC_ENOMEM, "heaps of %zu libcs", v->nlibcs);
}

static struct asc_error *read_heaps(struct asc_view *v, enum asc_view_depth depth)
{
	const struct asc_source src = source_of(v);
	const struct asc_heap_opts ho = heap_opts(v, depth);
	struct asc_error *other = NULL, *err = new_heaps(v);

	if (!err)
		err = asc_read_heaps(&src, v->residency, &ho, v->heaps, &other);
	asc_error_free(other); /* a further libc: its pages stay unknown */
	return err;
}

static struct asc_error *read_core(struct asc_view *v, enum asc_view_depth depth)
{
	const struct asc_source src = source_of(v);
	const struct asc_heap_opts ho = heap_opts(v, depth);
	struct asc_error *other = NULL, *err = new_heaps(v);

	if (!err)
		err = asc_read_core(&src, &ho, true, v->heaps, &v->residency, &other);
	asc_error_free(other);
	return err;
}

/* Free lists are read where they are, chunks from a copy. */
static struct asc_error *read_stopped(struct asc_view *v, enum asc_view_depth depth)
{
	const struct asc_source src = source_of(v);
	ASC_AUTO(asc_range_vec_free) asc_range_vec ranges = { 0 };
	struct asc_capture_buf *buf = NULL;

	ASC_TRY(asc_residency_read(v->live, &v->residency));
	if (depth != ASC_VIEW_WALK)
		return read_heaps(v, depth);
	ASC_TRY(asc_plan_heaps(&src, v->live, v->residency, ASC_DEPTH_WALK, &ranges));
	ASC_TRY(check_pause(v, asc_planned_bytes(v->residency, &ranges)));
	return asc_capture_into(v->live, v->residency, ranges.data, ranges.len, v->opts.max_memory,
				&buf, &v->data);
}

static struct asc_error *read_live(struct asc_view *v, enum asc_view_depth depth)
{
	const struct asc_source src = source_of(v);
	const struct asc_quiet_opts opts = {
		.max_pause_ms = v->opts.max_pause_ms,
		.no_stop = v->opts.no_stop,
	};
	struct asc_quiet q = { 0 };
	struct asc_error *err = asc_stop_quiet(&src, &opts, &q);

	v->busy = q.busy;
	v->in_malloc = q.in_malloc;
	if (!err)
		err = read_stopped(v, depth);
	asc_target_release(v->live, &v->pause);
	if (!err && v->data != v->live) {
		asc_capture_set_backing(v->data, v->live);
		asc_modules_retarget(v->modules, v->data);
		err = read_heaps(v, depth);
	}
	for (size_t i = 0; v->heaps && i < v->nlibcs && v->pause.watchdog; i++)
		asc_heap_doubt(v->heaps[i]);
	return err;
}

/* ---- all of it ---- */

static struct asc_error *make_ledger(struct asc_view *v)
{
	const struct asc_source src = source_of(v);
	const struct asc_ledger_of of = { .heaps = v->heaps,
					  .nheaps = v->nlibcs,
					  .residency = v->residency,
					  .allocator = v->allocator };

	return asc_ledger_of(&src, &of, &v->ledger);
}

static struct asc_error *read_all(struct asc_view *v, enum asc_view_depth depth)
{
	if (!v->nlibcs)
		ASC_TRY(asc_libc_find(v->modules, v->data, &v->libcs, &v->nlibcs));
	ASC_TRY(v->live ? read_live(v, depth) : read_core(v, depth));
	return make_ledger(v);
}

struct asc_error *asc_view_read(struct asc_view *v, enum asc_view_depth depth)
{
	forget(v);
	struct asc_error *err = read_all(v, depth);
	if (err)
		forget(v);
	return err;
}

/* ---- looking ---- */

const struct asc_heap *asc_view_heap(const struct asc_view *v)
{
	return v->heaps ? v->heaps[0] : NULL;
}

const struct asc_ledger *asc_view_ledger(const struct asc_view *v)
{
	return v->ledger;
}

const struct asc_residency *asc_view_residency(const struct asc_view *v)
{
	return v->residency;
}

struct asc_target *asc_view_target(struct asc_view *v)
{
	return v->data;
}

void asc_view_pause(const struct asc_view *v, struct asc_pause *ret)
{
	*ret = v->pause;
}

bool asc_view_busy(const struct asc_view *v)
{
	return v->busy;
}
