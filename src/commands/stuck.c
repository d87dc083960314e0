/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"
#include "commands/look.h"

enum {
	SETTLE_MS = 10,	   /* after a stop, interrupted threads go back to sleep ... */
	SETTLE_TRIES = 50, /* ... which takes longer on a loaded machine */
	BETWEEN_MS = 100,  /* between the looks */
	WAITERS_SHOWN = 12,
	FRAMES_SHOWN = 4,
};

/* ---- two looks ---- */

struct cpu {
	struct asc_cpu_time *v;
	size_t n;
};

static void cpu_read(const struct asc_session *s, struct cpu *ret)
{
	size_t n;
	const struct asc_thread *th = asc_target_threads(s->data, &n);

	ret->v = calloc(n ? n : 1, sizeof(*ret->v));
	ret->n = ret->v ? asc_cpu_times(asc_target_pid(s->live), th, n, ret->v) : 0;
}

static void sleep_ms(long ms)
{
	struct timespec ts = { .tv_nsec = ms * 1000000 };

	nanosleep(&ts, NULL);
}

static void settle(const struct asc_session *s)
{
	size_t n;
	const struct asc_thread *th = asc_target_threads(s->data, &n);

	for (unsigned i = 0; i < SETTLE_TRIES; i++) {
		sleep_ms(SETTLE_MS);
		if (asc_threads_at_rest(asc_target_pid(s->live), th, n))
			return;
	}
}

/* A stop is shorter without the lists, and they matter only if a thread seems to walk them. */
static unsigned first_need(const struct asc_session *s)
{
	return s->live && !s->opts.hold ? ASC_NEED_ARENAS : ASC_NEED_LISTS;
}

static struct asc_error *look_twice(struct asc_session *s, struct asc_out *o, struct asc_look *look,
				    struct asc_traces **traces, struct cpu *before,
				    struct cpu *after, struct asc_look_memo **memo)
{
	unsigned extra = first_need(s);

	ASC_TRY(asc_look_take(s, o, extra, 0, 0, look, traces));
	if (!s->live || s->opts.hold || !asc_target_alive(s->live))
		return NULL; /* what stands still tells nothing by standing still */
	ASC_TRY(asc_look_remember(look, memo));
	settle(s);
	cpu_read(s, before);
	sleep_ms(BETWEEN_MS);
	cpu_read(s, after);
	if (!asc_target_alive(s->live))
		return asc_err_id(asc_err(ASC_EAGAIN, "process %d exited between the looks",
					  (int)asc_target_pid(s->live)),
				  "E-GONE");
	asc_traces_free(asc_take(*traces));
	asc_session_refresh(s);
	ASC_TRY(asc_look_take(s, o, look->heap ? extra : 0, 0, 0, look, traces));
	look->cpu_before = before->v;
	look->ncpu_before = before->n;
	look->cpu_after = after->v;
	look->ncpu_after = after->n;
	return NULL;
}

/* Somebody runs inside malloc: are the lists in order? A walk may not fit the pause: then not. */
static struct asc_error *look_deeper(struct asc_session *s, struct asc_out *o, unsigned extra,
				     struct asc_look *look, struct asc_traces **traces,
				     const struct asc_look_memo *memo, struct asc_stuck **st)
{
	struct asc_look now = { 0 };
	struct asc_traces *fresh = NULL;
	struct asc_stuck *again = NULL;
	struct asc_error *err = asc_look_take(s, o, extra, 0, 0, &now, &fresh);

	if (err && err->code == ASC_EAGAIN && s->live && asc_target_alive(s->live)) {
		asc_out_warn(o, "W-NO-CHECK",
			     "the heap was not checked for corrupt lists: a larger "
			     "--max-pause would allow it");
		asc_error_free(err);
		/* what was read is gone: read it again, as it was asked for before */
		err = asc_look_take(s, o, ASC_NEED_LISTS, 0, 0, &now, &fresh);
	}
	ASC_TRY(err);
	now.cpu_before = look->cpu_before;
	now.ncpu_before = look->ncpu_before;
	now.cpu_after = look->cpu_after;
	now.ncpu_after = look->ncpu_after;
	asc_traces_free(*traces);
	*traces = fresh;
	*look = now;
	ASC_TRY(asc_stuck_make(&now, memo, &again));
	asc_stuck_free(*st);
	*st = again;
	return NULL;
}

/* ---- output ---- */

/* "  48229 worker-1  R  #0 malloc_consolidate  #1 _int_malloc  #3 main x.c:211" */
static void text_thread(struct asc_session *s, struct asc_out *o, const struct asc_look *look,
			pid_t tid)
{
	const struct asc_thread *th = asc_target_thread(s->data, tid);
	const struct asc_trace *t = asc_trace_of(look->traces, tid);
	ASC_AUTO(asc_freep) char *name = asc_escape(th ? th->name : "");
	char line[1024] = "";
	size_t len = 0, shown = 0;
	bool left_libc = false;

	for (size_t i = 0; t && i < t->n && len < sizeof(line); i++) {
		ASC_AUTO(asc_freep) char *raw = asc_frame_name(&t->v[i]);
		ASC_AUTO(asc_freep) char *safe = asc_escape(raw ? raw : "?");
		struct asc_place place;
		char at[128] = "";

		/* the first few, and the first of the program's own */
		if (shown >= FRAMES_SHOWN && (left_libc || t->v[i].in_libc))
			continue;
		if (!t->v[i].in_libc && !left_libc) {
			left_libc = true;
			if (asc_place_of(look->m, t->v[i].lookup, true, &place) && place.file)
				snprintf(at, sizeof(at), " %s:%d", asc_base_name(place.file),
					 place.line);
		}
		len += (size_t)snprintf(line + len, sizeof(line) - len, "  #%zu %s%s", i,
					safe ? safe : "?", at);
		shown++;
	}
	asc_out_text(o, "  %d %s  %s%s", (int)tid, name ? name : "",
		     th ? asc_state_text(th->state) : "?", line);
}

static void text_lock(struct asc_session *s, struct asc_out *o, const struct asc_look *look,
		      const struct asc_stuck_lock *l)
{
	char value[64] = "", waiters[256] = "";
	size_t len = 0;

	if (l->value_known)
		snprintf(value, sizeof(value), " = %" PRIu32 "%s", l->value,
			 l->kind > ASC_LOCK_FREE_LIST ? ""
			 : l->value > 1		      ? ", contended"
			 : l->value		      ? ", held"
						      : ", free");
	if (l->holder && !l->holder_gone)
		asc_out_text(o, "%s (0x%" PRIx64 "%s)   holder: thread %d (%s, confidence %s)",
			     l->name, l->addr, value, (int)l->holder, l->how,
			     asc_sure_name(l->sure));
	else if (l->holder_gone && l->holder)
		asc_out_text(o, "%s (0x%" PRIx64 "%s)   holder: %d, no thread of this process",
			     l->name, l->addr, value, (int)l->holder);
	else
		asc_out_text(o, "%s (0x%" PRIx64 "%s)   holder: unknown%s%s", l->name, l->addr,
			     value, l->how[0] ? ", " : "", l->how);
	if (l->holder && !l->holder_gone)
		text_thread(s, o, look, l->holder);
	if (!l->nwaiters)
		return;
	for (size_t i = 0; i < l->nwaiters && i < WAITERS_SHOWN; i++)
		len += (size_t)snprintf(waiters + len, sizeof(waiters) - len, " %d",
					(int)l->waiters[i]);
	asc_out_text(o, "  %zu waiting:%s%s%s", l->nwaiters, waiters,
		     l->nwaiters > WAITERS_SHOWN ? " ..." : "", l->moved ? "  (they move)" : "");
	if (l->waiters[0] != l->holder)
		text_thread(s, o, look, l->waiters[0]);
}

static void put_tids(struct asc_out *o, const char *key, const pid_t *v, size_t n)
{
	asc_out_list(o, key, NULL);
	for (size_t i = 0; i < n; i++)
		asc_out_item(o, ASC_V_INT(v[i]));
	asc_out_list_end(o);
}

static void put_lock(struct asc_out *o, const struct asc_stuck *st, const struct asc_stuck_lock *l)
{
	asc_out_object(o, NULL, NULL);
	asc_out_field(o, "kind", NULL, ASC_V_STR(asc_lock_kind_name(l->kind)));
	asc_out_field(o, "name", NULL, ASC_V_STR(l->name));
	asc_out_field(o, "address", NULL, ASC_V_ADDR(l->addr));
	asc_out_field(o, "arena", NULL,
		      l->arena >= 0 ? ASC_V_COUNT((uint64_t)l->arena) : ASC_V_NONE);
	asc_out_field(o, "value", NULL, l->value_known ? ASC_V_COUNT(l->value) : ASC_V_UNKNOWN);
	asc_out_field(o, "holder", NULL, l->holder ? ASC_V_INT(l->holder) : ASC_V_UNKNOWN);
	asc_out_field(o, "holder_is_gone", NULL, ASC_V_BOOL(l->holder_gone));
	asc_out_field(o, "confidence", NULL, ASC_V_STR(asc_sure_name(l->sure)));
	asc_out_field(o, "how", NULL, l->how[0] ? ASC_V_STR(l->how) : ASC_V_NONE);
	asc_out_field(o, "moves", NULL, st->looks > 1 ? ASC_V_BOOL(l->moved) : ASC_V_UNKNOWN);
	put_tids(o, "waiters", l->waiters, l->nwaiters);
	asc_out_object_end(o);
}

static const struct asc_col thread_cols[] = {
	{ "tid", "TID", ASC_COL_RIGHT },
	{ "state", "S", 0 },
	{ "doing", "DOING", 0 },
	{ "what", "WHAT", 0 },
	{ "moved", "MOVED", 0 },
	{ "in_malloc", "IN MALLOC", 0 },
	{ "malloc_in_signal_handler", "IN HANDLER", 0 },
};

static const char *doing_name(enum asc_doing d)
{
	static const char *const names[] = { "unknown", "running", "idle", "lock",
					     "disk",	"stopped", "call" };

	return names[d];
}

static void put_json(struct asc_session *s, struct asc_out *o, const struct asc_stuck *st)
{
	asc_out_field(o, "verdict", NULL, ASC_V_STR(asc_stuck_verdict_name(st->verdict)));
	asc_out_field(o, "summary", NULL, ASC_V_STR(st->summary));
	asc_out_field(o, "looks", NULL, ASC_V_COUNT(st->looks));
	asc_out_field(o, "fork_child", NULL, ASC_V_BOOL(st->fork_child));
	put_tids(o, "cycle", st->cycle, st->ncycle);
	asc_out_list(o, "locks", NULL);
	for (size_t i = 0; i < st->nlocks; i++)
		put_lock(o, st, &st->locks[i]);
	asc_out_list_end(o);
	asc_out_table(o, "threads", NULL, "thread", thread_cols, ASC_ARRAY_SIZE(thread_cols));
	for (size_t i = 0; i < st->nthreads; i++) {
		const struct asc_stuck_thread *t = &st->threads[i];
		const struct asc_thread *th = asc_target_thread(s->data, t->tid);
		const struct asc_value v[] = {
			ASC_V_INT(t->tid),
			ASC_V_STR(asc_state_text(th ? th->state : '?')),
			ASC_V_STR(doing_name(t->doing)),
			t->what[0] ? ASC_V_STR(t->what) : ASC_V_NONE,
			st->looks > 1 ? ASC_V_BOOL(t->moved) : ASC_V_UNKNOWN,
			ASC_V_BOOL(t->in_malloc),
			ASC_V_BOOL(t->handler_malloc),
		};

		asc_out_row(o, v);
	}
	asc_out_table_end(o);
}

static void put_text(struct asc_session *s, struct asc_out *o, const struct asc_look *look,
		     const struct asc_stuck *st)
{
	ASC_AUTO(asc_freep) char *summary = asc_escape(st->summary);
	char head[16];

	snprintf(head, sizeof(head), "%s", asc_stuck_verdict_name(st->verdict));
	for (char *c = head; *c; c++)
		*c = *c == '_' ? ' ' : (char)toupper((unsigned char)*c);
	asc_out_text(o, "%s%s%s: %s", asc_out_color(o, ASC_C_BOLD), head,
		     asc_out_color(o, ASC_C_NONE), summary ? summary : "");
	for (size_t i = 0; i < st->nlocks; i++)
		text_lock(s, o, look, &st->locks[i]);
	for (size_t i = 0; i < st->nthreads; i++) {
		const struct asc_stuck_thread *t = &st->threads[i];
		ASC_AUTO(asc_freep) char *what = asc_escape(t->what);

		if (t->handler_malloc)
			asc_out_text(o, "thread %d allocates inside a signal handler%s",
				     (int)t->tid,
				     t->handler_over_malloc ? " that interrupted malloc" : "");
		if (t->doing == ASC_DOING_DISK)
			asc_out_text(o, "thread %d is in uninterruptible sleep: %s", (int)t->tid,
				     what ? what : "?");
		if (t->handler_malloc || t->doing == ASC_DOING_DISK)
			text_thread(s, o, look, t->tid);
	}
	if (st->fork_child)
		asc_out_text(o, "one thread, but its arenas count more: the child of a threaded "
				"process that "
				"forked without exec");
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	ASC_AUTO(asc_traces_freep) struct asc_traces *traces = NULL;
	ASC_AUTO(asc_look_memo_freep) struct asc_look_memo *memo = NULL;
	ASC_AUTO(asc_stuck_freep) struct asc_stuck *st = NULL;
	struct cpu before = { 0 }, after = { 0 };
	struct asc_look look = { 0 };
	struct asc_error *err;

	(void)a;
	s->any_moment = true;
	err = look_twice(s, o, &look, &traces, &before, &after, &memo);
	if (!err)
		err = asc_stuck_make(&look, memo, &st);
	if (!err && look.heap && first_need(s) != ASC_NEED_LISTS && asc_stuck_may_loop(st))
		err = look_deeper(s, o, ASC_NEED_LISTS, &look, &traces, memo, &st);
	if (!err && look.heap && asc_stuck_suspects_loop(st))
		err = look_deeper(s, o, ASC_NEED_LISTS | ASC_NEED_WALK, &look, &traces, memo, &st);
	free(before.v);
	free(after.v);
	ASC_TRY(err);
	if (asc_out_is_text(o))
		put_text(s, o, &look, st);
	else
		put_json(s, o, st);
	return NULL;
}

const struct asc_cmd asc_cmd_stuck = {
	.name = "stuck",
	.args = "",
	.summary = "who waits for which lock, who most likely holds it, and does anything move",
	.help = "A verdict first: deadlock (a circle of waits), orphaned (a lock held by nobody in "
		"the "
		"process: left behind by fork or by a thread that ended), loop (running on the "
		"spot inside "
		"malloc), blocked (behind a holder that sleeps), busy (contended, but it moves), "
		"unclear, "
		"disk wait, stopped, frozen (in a cgroup freezer), or idle: nothing is stuck.\n"
		"Then every lock that is waited for, and malloc's that are held. Mutexes, stdio "
		"streams and the "
		"loader name their owner; for malloc's locks it is inferred from the stacks, with "
		"how sure "
		"that is. A live process is looked at twice, 100 ms apart, which tells waiting "
		"from "
		"progress; a core or a held process only once. Nothing is called in the target and "
		"no lock "
		"of it is taken.",
	.needs = ASC_NEED_TARGET,
	.flags = ASC_CMD_FIELDS,
	.run = run,
};
