/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "analysis/traces.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"

bool asc_function_is(const char *function, const char *name)
{
	static const char internal[] = "__GI_";
	size_t len = strlen(name);

	if (!function)
		return false;
	if (!strncmp(function, internal, sizeof(internal) - 1) &&
	    strncmp(name, internal, sizeof(internal) - 1) != 0)
		function += sizeof(internal) - 1;
	return !strncmp(function, name, len) &&
	       (!function[len] || function[len] == '.' || function[len] == '@');
}

static bool is_loader(const struct asc_module *mod)
{
	return !strncmp(mod->soname, "ld-linux", 8) || !strncmp(mod->soname, "ld.so", 5) ||
	       !strncmp(mod->soname, "ld64.so", 7);
}

static void name_frame(struct asc_modules *m, const struct asc_libc *libcs, size_t nlibcs,
		       struct asc_trace_frame *f)
{
	const struct asc_module *mod = asc_modules_at(m, f->pc);
	struct asc_place place;

	if (!mod)
		return;
	f->module = *mod->path ? mod->path : mod->is_vdso ? "[vdso]" : "[unnamed]";
	f->offset = f->pc - mod->bias;
	f->in_loader = is_loader(mod);
	f->in_libc = !nlibcs && !strncmp(mod->soname, "libc.so", 7);
	for (size_t i = 0; i < nlibcs; i++)
		f->in_libc |= libcs[i].module == mod;
	if (asc_place_of(m, f->lookup, false, &place) && place.function) {
		f->function = place.function;
		f->offset = place.offset + (f->pc - f->lookup);
	}
}

static const char *no_registers(const struct asc_thread *th)
{
	switch (th->state) {
	case 'D':
		return "uninterruptible sleep: no registers";
	case 'Z':
	case 'X':
		return "it has ended";
	default:
		return th->stopped ? "no registers" : "it runs: no registers without a stop";
	}
}

static bool in_vdso(struct asc_modules *m, asc_addr pc)
{
	const struct asc_module *mod = asc_modules_at(m, pc);

	return mod && mod->is_vdso;
}

static struct asc_error *read_trace(struct asc_unwinder *u, struct asc_modules *m,
				    const struct asc_libc *libcs, size_t nlibcs,
				    const struct asc_thread *th, size_t max_depth,
				    struct asc_trace *ret)
{
	struct asc_stack s = { 0 };
	struct asc_error *err;

	ret->tid = th->tid;
	if (!th->regs.valid) {
		ret->note = no_registers(th);
		return NULL;
	}
	err = asc_unwinder_run(u, th, max_depth, &s);
	if (err)
		return err;
	ret->note = th->ran_meanwhile ? "it ran while it was read (--no-stop): may be torn"
				      : s.note;
	ret->v = calloc(s.n ? s.n : 1, sizeof(*ret->v));
	if (!ret->v) {
		asc_stack_free(&s);
		return asc_err(ASC_ENOMEM, "stack of thread %d", (int)th->tid);
	}
	for (size_t i = 0; i < s.n; i++) {
		ret->v[i] = (struct asc_trace_frame){
			.pc = s.v[i].pc,
			.sp = s.v[i].sp,
			.lookup = asc_frame_lookup_pc(&s, i),
			.signal_frame = s.v[i].signal_frame,
		};
		name_frame(m, libcs, nlibcs, &ret->v[i]);
	}
	ret->n = s.n;
	/* i386's system calls, and everybody's clock_gettime, are a part of libc there */
	if (s.n > 1 && in_vdso(m, ret->v[0].pc))
		ret->v[0].in_libc = ret->v[1].in_libc;
	asc_stack_free(&s);
	return NULL;
}

struct asc_error *asc_traces_read(struct asc_target *t, struct asc_modules *m,
				  const struct asc_libc *libcs, size_t nlibcs, pid_t only_tid,
				  size_t max_depth, struct asc_traces **ret)
{
	ASC_AUTO(asc_unwinder_closep) struct asc_unwinder *u = NULL;
	ASC_AUTO(asc_traces_freep) struct asc_traces *out = calloc(1, sizeof(*out));
	size_t n;
	const struct asc_thread *threads = asc_target_threads(t, &n);

	if (!out)
		return asc_err(ASC_ENOMEM, "stacks");
	out->v = calloc(n ? n : 1, sizeof(*out->v));
	if (!out->v)
		return asc_err(ASC_ENOMEM, "stacks of %zu threads", n);
	ASC_TRY(asc_unwinder_open(m, t, &u));
	for (size_t i = 0; i < n; i++) {
		if (only_tid && threads[i].tid != only_tid)
			continue;
		out->n++; /* before: a half-made trace is freed too */
		ASC_TRY(read_trace(u, m, libcs, nlibcs, &threads[i], max_depth,
				   &out->v[out->n - 1]));
	}
	*ret = asc_take(out);
	return NULL;
}

void asc_traces_free(struct asc_traces *traces)
{
	if (!traces)
		return;
	for (size_t i = 0; i < traces->n; i++)
		free(traces->v[i].v);
	free(traces->v);
	free(traces);
}

void asc_traces_freep(struct asc_traces **traces)
{
	asc_traces_free(*traces);
}

const struct asc_trace *asc_trace_of(const struct asc_traces *traces, pid_t tid)
{
	for (size_t i = 0; i < traces->n; i++) {
		if (traces->v[i].tid == tid)
			return &traces->v[i];
	}
	return NULL;
}

bool asc_trace_equal(const struct asc_trace *a, const struct asc_trace *b)
{
	if (a->n != b->n || a->note != b->note)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		if (a->v[i].pc != b->v[i].pc || a->v[i].signal_frame != b->v[i].signal_frame)
			return false;
	}
	return true;
}
