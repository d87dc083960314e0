/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"
#include "commands/look.h"

enum { DEPTH = 16 }; /* enough to tell what a thread waits on */

static const struct asc_col cols[] = {
	{ "tid", "TID", ASC_COL_RIGHT },
	{ "name", "NAME", 0 },
	{ "state", "S", 0 },
	{ "cpu_seconds", "CPU", ASC_COL_RIGHT },
	{ "arena", "ARENA", ASC_COL_RIGHT },
	{ "tcache_chunks", "TC CHUNKS", ASC_COL_RIGHT },
	{ "tcache_bytes", "TCACHE", ASC_COL_RIGHT },
	{ "stack_resident_bytes", "STACK", ASC_COL_RIGHT },
	{ "function", "FUNCTION", 0 },
	{ "waits_on", "WAITS ON", ASC_COL_TRUNC },
};

static const struct asc_heap_thread *heap_thread(const struct asc_heap *heap, pid_t tid)
{
	for (size_t i = 0; heap && i < heap->nthreads; i++) {
		if (heap->threads[i].tid == tid)
			return &heap->threads[i];
	}
	return NULL;
}

static struct asc_value stack_resident(const struct asc_session *s, const struct asc_thread *th)
{
	const struct asc_map *m;
	asc_addr sp;

	if (!s->residency || s->residency->source == ASC_RESIDENCY_UNKNOWN ||
	    !asc_regs_sp(s->data, &th->regs, &sp))
		return ASC_V_UNKNOWN;
	m = asc_maps_find(asc_target_maps(s->data), sp);
	return m ? ASC_V_BYTES(asc_resident_bytes(s->residency, m->start, m->end)) : ASC_V_UNKNOWN;
}

static void put_thread(const struct asc_session *s, const struct asc_look *look,
		       const struct asc_stuck *stuck, size_t i, const struct asc_thread *th,
		       struct asc_out *o)
{
	const struct asc_heap_thread *ht = heap_thread(look->heap, th->tid);
	const struct asc_trace *trace = asc_trace_of(look->traces, th->tid);
	const struct asc_stuck_thread *st = &stuck->threads[i];
	double hz = (double)sysconf(_SC_CLK_TCK);
	ASC_AUTO(asc_freep)
	char *function = trace && trace->n ? asc_frame_name(&trace->v[0]) : NULL;
	struct asc_value v[ASC_ARRAY_SIZE(cols)] = {
		ASC_V_INT(th->tid),
		th->name[0] ? ASC_V_STR(th->name) : ASC_V_UNKNOWN,
		ASC_V_STR(asc_state_text(th->state)),
		ASC_V_UNKNOWN,
		ASC_V_UNKNOWN,
		ASC_V_UNKNOWN,
		ASC_V_UNKNOWN,
		stack_resident(s, th),
		function ? ASC_V_STR(function) : ASC_V_UNKNOWN,
		ASC_V_UNKNOWN,
	};

	if (th->times_valid)
		v[3] = ASC_V_SECONDS((double)(th->utime_ticks + th->stime_ticks) / hz);
	if (ht && ht->known) {
		v[4] = ht->arena >= 0 ? ASC_V_COUNT((uint64_t)ht->arena) : ASC_V_NONE;
	}
	if (ht && ht->known && ht->tcache_known) {
		v[5] = ASC_V_COUNT(ht->cached_chunks);
		v[6] = ASC_V_BYTES(ht->cached_bytes);
	}
	if (st->what[0])
		v[9] = ASC_V_STR(st->what);
	else if (st->doing == ASC_DOING_RUN)
		v[9] = ASC_V_NONE;
	asc_out_row(o, v);
}

/* ---- arenas as their threads see them ---- */

static const struct asc_col arena_cols[] = {
	{ "arena", "ARENA", ASC_COL_RIGHT },
	{ "attached_threads", "ATTACHED", ASC_COL_RIGHT },
	{ "threads_found", "FOUND", ASC_COL_RIGHT },
	{ "orphan", "ORPHAN", 0 },
	{ "resident_bytes", "RESIDENT", ASC_COL_RIGHT },
};

static struct asc_value arena_resident(const struct asc_session *s, const struct asc_arena *a)
{
	uint64_t sum = 0;

	if (!s->residency || s->residency->source == ASC_RESIDENCY_UNKNOWN)
		return ASC_V_UNKNOWN;
	for (size_t i = 0; i < a->nregions; i++)
		sum += asc_resident_bytes(s->residency, a->regions[i].start, a->regions[i].end);
	return ASC_V_BYTES(sum);
}

/* Nobody allocates from it any more, and what it holds stays. */
static bool is_orphan(const struct asc_arena *a)
{
	return a->on_free_list || (a->index && a->attached_known && !a->attached_threads);
}

static bool is_odd(const struct asc_arena *a)
{
	return is_orphan(a) || (a->attached_known && a->attached_threads != a->nthreads);
}

/* People want the odd ones; programs want all. */
static void put_arenas(const struct asc_session *s, const struct asc_heap *heap, struct asc_out *o)
{
	bool text = asc_out_is_text(o), any = !text;

	for (size_t i = 0; heap && i < heap->narenas; i++)
		any |= is_odd(&heap->arenas[i]);
	if (!any)
		return;
	asc_out_table(o, "arenas", "Arenas without their threads", "arena", arena_cols,
		      ASC_ARRAY_SIZE(arena_cols));
	for (size_t i = 0; heap && i < heap->narenas; i++) {
		const struct asc_arena *a = &heap->arenas[i];
		struct asc_value orphan = ASC_V_BOOL(is_orphan(a));

		if (text && !is_odd(a))
			continue;
		if (text)
			orphan = is_orphan(a) ? ASC_V_STR("yes") : ASC_V_NONE;
		const struct asc_value v[] = {
			ASC_V_COUNT(a->index),
			a->attached_known ? ASC_V_COUNT(a->attached_threads) : ASC_V_UNKNOWN,
			ASC_V_COUNT(a->nthreads),
			orphan,
			arena_resident(s, a),
		};

		asc_out_row(o, v);
	}
	asc_out_table_end(o);
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	ASC_AUTO(asc_traces_freep) struct asc_traces *traces = NULL;
	ASC_AUTO(asc_stuck_freep) struct asc_stuck *stuck = NULL;
	struct asc_look look;
	size_t n;
	const struct asc_thread *th;

	(void)a;
	ASC_TRY(asc_look_take(s, o, ASC_NEED_ARENAS | ASC_NEED_RESIDENCY, 0, DEPTH, &look,
			      &traces));
	ASC_TRY(asc_stuck_make(&look, NULL, &stuck));
	th = asc_target_threads(s->data, &n);
	asc_out_table(o, "threads", NULL, "thread", cols, ASC_ARRAY_SIZE(cols));
	for (size_t i = 0; i < n; i++)
		put_thread(s, &look, stuck, i, &th[i], o);
	asc_out_table_end(o);
	put_arenas(s, look.heap, o);
	asc_partial_tcaches(s, o);
	return NULL;
}

const struct asc_cmd asc_cmd_threads = {
	.name = "threads",
	.args = "",
	.summary = "threads: state, arena, tcache, stack, and what each waits on",
	.help = "One row a thread: tid, name, state (as in ps), CPU time, the arena it allocates "
		"from, "
		"chunks and bytes in its tcache, resident bytes of its stack's mapping, the "
		"innermost "
		"function, and what it waits on: a lock by name, a system call, a condition "
		"variable.\n"
		"Below: arenas whose count of attached threads differs from the threads found, and "
		"orphans: no thread allocates from them, but they are still resident. In a core "
		"the state "
		"is S for a thread inside a system call and R for one outside.",
	.needs = ASC_NEED_TARGET,
	.run = run,
};
