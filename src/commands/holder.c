/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who has the lock that an action did not get? One look at all threads, after it gave up. */
#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "commands/acting.h"
#include "commands/look.h"

static const struct asc_stuck_lock *lock_of(const struct asc_stuck *st, const struct asc_heap *heap,
					    asc_addr arena)
{
	for (size_t i = 0; i < st->nlocks; i++) {
		const struct asc_stuck_lock *l = &st->locks[i];

		if (l->kind == ASC_LOCK_ARENA && l->arena >= 0 &&
		    (size_t)l->arena < heap->narenas && heap->arenas[l->arena].addr == arena)
			return l;
	}
	return NULL;
}

/* "which sleeps in write" */
static void doing(const struct asc_stuck *st, pid_t tid, char *buf, size_t size)
{
	buf[0] = 0;
	for (size_t i = 0; i < st->nthreads; i++) {
		const struct asc_stuck_thread *th = &st->threads[i];

		if (th->tid != tid)
			continue;
		if (th->doing == ASC_DOING_RUN)
			snprintf(buf, size, ", which is running");
		else if (th->doing == ASC_DOING_STOP)
			snprintf(buf, size, ", which is stopped by a signal");
		else if (th->doing == ASC_DOING_LOCK)
			snprintf(buf, size, ", which itself waits for %s", th->what);
		else if (th->what[0])
			snprintf(buf, size, ", which %s in %s",
				 th->doing == ASC_DOING_DISK ? "is uninterruptible" : "sleeps",
				 th->what);
	}
}

static void say(const struct asc_look *look, const struct asc_stuck *st, asc_addr arena, char *buf,
		size_t size)
{
	const struct asc_stuck_lock *l = look->heap ? lock_of(st, look->heap, arena) : NULL;
	char does[128];

	if (!l) {
		snprintf(buf, size, "a moment later it was free");
	} else if (l->holder_gone) {
		snprintf(buf, size, "%s is held by nobody who is in this process (%s)", l->name,
			 l->how);
	} else if (l->holder) {
		const struct asc_thread *th = asc_target_thread(look->t, l->holder);
		ASC_AUTO(asc_freep) char *name = asc_escape(th ? th->name : "");

		doing(st, l->holder, does, sizeof(does));
		/* it names a function, as the target's libc has it */
		ASC_AUTO(asc_freep) char *safe = asc_escape(does);
		snprintf(buf, size, "%s is held by thread %d %s%s (%s, confidence %s)", l->name,
			 (int)l->holder, name ? name : "?", safe ? safe : "", l->how,
			 asc_sure_name(l->sure));
	} else {
		snprintf(buf, size, "who holds %s cannot be told%s%s", l->name,
			 l->how[0] ? ": " : "", l->how);
	}
}

void asc_acting_holder(struct asc_session *s, struct asc_out *o, asc_addr arena, char *buf,
		       size_t size)
{
	ASC_AUTO(asc_stuck_freep) struct asc_stuck *st = NULL;
	struct asc_traces *traces = NULL;
	struct asc_look look = { 0 };
	struct asc_error *err;
	const bool any_moment = s->any_moment;

	buf[0] = 0;
	if (!arena || asc_interrupted() || !asc_target_alive(s->live))
		return;
	asc_session_refresh(s);
	s->any_moment = true; /* that malloc is busy is what is looked at */
	err = asc_look_take(s, o, ASC_NEED_ARENAS, 0, 0, &look, &traces);
	s->any_moment = any_moment;
	if (!err)
		err = asc_stuck_make(&look, NULL, &st);
	if (!err)
		say(&look, st, arena, buf, size);
	/* what the action itself said stands without it */
	asc_error_free(err);
	asc_traces_free(traces);
}

struct asc_error *asc_acting_blame(struct asc_session *s, struct asc_out *o, asc_addr arena,
				   struct asc_error *err)
{
	char who[512];
	ASC_AUTO(asc_freep) char *why = NULL;

	if (!err || err->code != ASC_EAGAIN)
		return err;
	asc_acting_holder(s, o, arena, who, sizeof(who));
	if (!who[0])
		return err;
	if (asprintf(&why, "%s; %s", asc_error_why(err) ? asc_error_why(err) : "", who) < 0)
		return err;
	return asc_err_why(err, "%s", why);
}
