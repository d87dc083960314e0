/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"
#include "commands/look.h"

enum { INLINED_MAX = 16, WIDTH = 90 };

/* ---- JSON ---- */

static void put_place(struct asc_out *o, const struct asc_trace_frame *f, const char *function,
		      const struct asc_place *place, bool inlined)
{
	asc_out_object(o, NULL, NULL);
	asc_out_field(o, "pc", NULL, ASC_V_ADDR(f->pc));
	asc_out_field(o, "sp", NULL, ASC_V_ADDR(f->sp));
	asc_out_field(o, "function", NULL, function ? ASC_V_STR(function) : ASC_V_UNKNOWN);
	asc_out_field(o, "offset_bytes", NULL, inlined ? ASC_V_NONE : ASC_V_BYTES(f->offset));
	asc_out_field(o, "module", NULL, f->module ? ASC_V_STR(f->module) : ASC_V_UNKNOWN);
	asc_out_field(o, "file", NULL,
		      place && place->file ? ASC_V_STR(place->file) : ASC_V_UNKNOWN);
	asc_out_field(o, "line", NULL,
		      place && place->line > 0 ? ASC_V_INT(place->line) : ASC_V_UNKNOWN);
	asc_out_field(o, "inlined", NULL, ASC_V_BOOL(inlined));
	asc_out_field(o, "signal_frame", NULL, ASC_V_BOOL(f->signal_frame));
	asc_out_object_end(o);
}

static void put_frame(struct asc_modules *m, struct asc_out *o, const struct asc_trace_frame *f)
{
	struct asc_place inl[INLINED_MAX], place;
	size_t n = asc_place_inlined(m, f->lookup, inl, INLINED_MAX);
	bool known = asc_place_of(m, f->lookup, true, &place);

	for (size_t i = 0; i < n; i++)
		put_place(o, f, inl[i].function, &inl[i], true);
	put_place(o, f, f->function, known ? &place : NULL, false);
}

/* ---- text ---- */

static void text_frame(struct asc_modules *m, struct asc_out *o, size_t i,
		       const struct asc_trace_frame *f)
{
	struct asc_place inl[INLINED_MAX];
	size_t n = asc_place_inlined(m, f->lookup, inl, INLINED_MAX);
	ASC_AUTO(asc_freep) char *text = asc_frame_text(m, f, true);

	for (size_t k = 0; k < n; k++) {
		ASC_AUTO(asc_freep)
		char *function = asc_escape(inl[k].function ? inl[k].function : "?");
		ASC_AUTO(asc_freep)
		char *file = asc_escape(inl[k].file ? asc_base_name(inl[k].file) : "");

		char line[16] = "";

		if (inl[k].line > 0)
			snprintf(line, sizeof(line), ":%d", inl[k].line);
		asc_out_text(o, "  #%-2zu %18s %s  (inlined)  %s%s", i, "",
			     function ? function : "?", file ? file : "", line);
	}
	asc_out_text(o, "  #%-2zu 0x%016" PRIx64 " %s%s", i, f->pc, text ? text : "?",
		     f->signal_frame ? "  <signal handler called>" : "");
}

/* "thread 12 worker", or "148 threads: 12 13 ..." over as many lines as it takes. */
static void text_tids(const struct asc_session *s, struct asc_out *o,
		      const struct asc_traces *traces, const size_t *members, size_t n)
{
	char line[WIDTH + 16];
	size_t len;

	if (n == 1) {
		pid_t tid = traces->v[members[0]].tid;
		const struct asc_thread *th = asc_target_thread(s->data, tid);
		ASC_AUTO(asc_freep) char *name = asc_escape(th ? th->name : "");

		asc_out_text(o, "thread %d%s%s", (int)tid, name && *name ? " " : "",
			     name ? name : "");
		return;
	}
	len = (size_t)snprintf(line, sizeof(line), "%zu threads:", n);
	for (size_t i = 0; i < n; i++) {
		if (len > WIDTH) {
			asc_out_text(o, "%s", line);
			len = (size_t)snprintf(line, sizeof(line), "   ");
		}
		len += (size_t)snprintf(line + len, sizeof(line) - len, " %d",
					(int)traces->v[members[i]].tid);
	}
	asc_out_text(o, "%s", line);
}

/* ---- groups ---- */

static void put_group(struct asc_session *s, struct asc_out *o, const struct asc_traces *traces,
		      const size_t *members, size_t n)
{
	const struct asc_trace *t = &traces->v[members[0]];

	asc_out_object(o, NULL, NULL);
	asc_out_field(o, "count", NULL, ASC_V_COUNT(n));
	asc_out_list(o, "threads", NULL);
	for (size_t i = 0; i < n && !asc_out_is_text(o); i++)
		asc_out_item(o, ASC_V_INT(traces->v[members[i]].tid));
	asc_out_list_end(o);
	asc_out_field(o, "note", NULL, t->note ? ASC_V_STR(t->note) : ASC_V_NONE);
	asc_out_list(o, "frames", NULL);
	if (asc_out_is_text(o))
		text_tids(s, o, traces, members, n);
	for (size_t i = 0; i < t->n; i++) {
		if (asc_out_is_text(o))
			text_frame(s->modules, o, i, &t->v[i]);
		else
			put_frame(s->modules, o, &t->v[i]);
	}
	if (t->note)
		asc_out_text(o, "  (%s)", t->note);
	asc_out_text(o, "%s", "");
	asc_out_list_end(o);
	asc_out_object_end(o);
}

struct group {
	size_t *members, n, first;
};

static int largest_first(const void *a, const void *b)
{
	const struct group *x = a, *y = b;

	if (x->n != y->n)
		return x->n > y->n ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

static uint64_t hash_of(const struct asc_trace *t)
{
	uint64_t h = t->n;

	for (size_t i = 0; i < t->n; i++)
		h = (h ^ t->v[i].pc) * 0x100000001b3;
	return h;
}

static struct asc_error *put_groups(struct asc_session *s, struct asc_out *o,
				    const struct asc_traces *traces, bool all)
{
	size_t n = traces->n, ngroups = 0, used = 0;
	ASC_AUTO(asc_freep) struct group *groups = calloc(n ? n : 1, sizeof(*groups));
	ASC_AUTO(asc_freep) size_t *members = calloc(n ? n : 1, sizeof(*members));
	ASC_AUTO(asc_freep) uint64_t *hash = calloc(n ? n : 1, sizeof(*hash));
	ASC_AUTO(asc_freep) bool *done = calloc(n ? n : 1, sizeof(*done));

	if (!groups || !members || !hash || !done)
		return asc_err(ASC_ENOMEM, "stacks of %zu threads", n);
	for (size_t i = 0; i < n; i++)
		hash[i] = hash_of(&traces->v[i]);
	for (size_t i = 0; i < n; i++) {
		struct group *g = &groups[ngroups];

		if (done[i])
			continue;
		*g = (struct group){ .members = members + used, .first = i };
		for (size_t k = i; k < n && (!all || k == i); k++) {
			if (done[k] || hash[k] != hash[i] ||
			    !asc_trace_equal(&traces->v[i], &traces->v[k]))
				continue;
			done[k] = true;
			g->members[g->n++] = k;
		}
		used += g->n;
		ngroups++;
	}
	if (!all && ngroups)
		qsort(groups, ngroups, sizeof(*groups), largest_first);
	asc_out_list(o, "stacks", NULL);
	for (size_t i = 0; i < ngroups; i++)
		put_group(s, o, traces, groups[i].members, groups[i].n);
	asc_out_list_end(o);
	return NULL;
}

/* Several threads may have the name. */
static void keep_named(struct asc_session *s, struct asc_traces *traces, const char *name)
{
	size_t kept = 0;

	for (size_t i = 0; i < traces->n; i++) {
		const struct asc_thread *th = asc_target_thread(s->data, traces->v[i].tid);

		if (th && !strcmp(th->name, name))
			traces->v[kept++] = traces->v[i];
		else
			free(traces->v[i].v);
	}
	traces->n = kept;
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	ASC_AUTO(asc_traces_freep) struct asc_traces *traces = NULL;
	struct asc_look look;
	const char *which = asc_args_at(a, 0);
	uint64_t tid = 0;

	if (which && (!asc_parse_u64(which, &tid) || tid > INT32_MAX))
		tid = 0; /* a name, then */
	ASC_TRY(asc_look_take(s, o, 0, (pid_t)tid, 0, &look, &traces));
	if (which && !tid)
		keep_named(s, traces, which);
	if (which && !traces->n) {
		ASC_AUTO(asc_freep) char *shown = asc_escape(which);
		return asc_err_try(asc_err(ASC_ENOTFOUND, "no thread %.60s", shown ? shown : "?"),
				   "threads   lists ids and names");
	}
	for (size_t i = 0; i < traces->n; i++) {
		if (!traces->v[i].n)
			asc_out_partial(o);
	}
	return put_groups(s, o, traces, asc_args_has(a, "all"));
}

static const struct asc_cmd_opt opts[] = {
	{ .name = "all", .summary = "every thread on its own, identical stacks not grouped" },
	{ 0 },
};

const struct asc_cmd asc_cmd_stacks = {
	.name = "stacks",
	.args = "[TID] [--all]",
	.summary = "native call stacks, identical ones grouped",
	.help = "Call stacks of all threads, or of thread TID (an id, or a name), innermost frame "
		"first: address, "
		"function and "
		"offset, module, source line and inlined functions where debug information is "
		"found. "
		"Threads with the same stack are one group; the largest comes first. A stack that "
		"cannot be followed to its end says why in parentheses.",
	.opts = opts,
	.max_args = 1,
	.complete = ASC_COMPLETE_TID,
	.needs = ASC_NEED_TARGET,
	.run = run,
};
