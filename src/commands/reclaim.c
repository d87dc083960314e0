/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "commands/acting.h"
#include "commands/prediction.h"

static void free_prediction(struct asc_prediction **p)
{
	asc_prediction_free(*p);
}

static struct asc_error *act(struct asc_session *s, const struct asc_args *a, int arena,
			     struct asc_round *r)
{
	struct asc_act_ctx c;
	struct asc_error *err;

	ASC_TRY(asc_acting_ctx(s, a, &c));
	r->before = asc_usage_read(s->opts.pid);
	err = asc_act_reclaim(&c, arena, &r->result);
	r->after = asc_usage_read(s->opts.pid);
	return err;
}

/* --arena=N is checked against the heap. */
static struct asc_error *which(struct asc_session *s, const struct asc_args *a, int *ret)
{
	/* all that the prediction needs as well, in one stop */
	ASC_TRY(asc_session_need(s, ASC_NEED_LIBC | ASC_NEED_LISTS | ASC_NEED_RESIDENCY |
					    ASC_NEED_LEDGER));
	return asc_args_arena(a, s, ret);
}

static struct asc_error *once(struct asc_session *s, const struct asc_args *a, struct asc_out *o,
			      struct asc_round *r)
{
	ASC_AUTO(free_prediction) struct asc_prediction *p = NULL;
	uint64_t min = 0;
	int arena = -1;

	(void)o;
	ASC_TRY(asc_args_bytes(a, "min", &min));
	ASC_TRY(which(s, a, &arena));
	ASC_TRY(asc_prediction_get(s, ASC_PREDICT_RECLAIM, 0, arena, &p));
	r->predicted_known = p->known && !p->upper_bound;
	r->predicted = p->bytes;
	if (p->known && p->bytes < min)
		return NULL;
	return act(s, a, arena, r);
}

/* An arena whose lock was held for good: by whom? */
static void left_out(struct asc_session *s, struct asc_out *o, struct asc_act_result *r)
{
	char who[256];
	size_t len = strlen(r->note);

	if (!r->busy_arena)
		return;
	asc_acting_holder(s, o, r->busy_arena, who, sizeof(who));
	if (who[0])
		snprintf(r->note + len, sizeof(r->note) - len, "; %s", who);
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	ASC_AUTO(free_prediction) struct asc_prediction *p = NULL;
	struct asc_round r = { 0 };
	struct asc_error *err;
	char line[512], bytes[32];
	int arena = -1;
	bool yes;

	if (!s->opts.dry_run && asc_args_has(a, "every")) {
		ASC_TRY(asc_consent(s, "reclaim", "Free pages are released again and again.",
				    &yes));
		return yes ? asc_rounds(s, a, o, once) : NULL;
	}
	ASC_TRY(which(s, a, &arena));
	ASC_TRY(asc_prediction_get(s, ASC_PREDICT_RECLAIM, 0, arena, &p));
	if (s->opts.dry_run) {
		asc_prediction_put(o, s, ASC_PREDICT_RECLAIM, p);
		return NULL;
	}
	snprintf(line, sizeof(line),
		 "One thread of the process releases every whole free page (about %s), arena by "
		 "arena, "
		 "under each arena's own lock; no lock is held for more than a few ms.",
		 p->known ? asc_fmt_bytes(bytes, p->bytes, false) : "how much is not known");
	ASC_TRY(asc_consent(s, "reclaim", line, &yes));
	asc_prediction_json(o, s, ASC_PREDICT_RECLAIM, p);
	if (!yes) {
		asc_out_text(o, "nothing was changed");
		return NULL;
	}
	err = act(s, a, arena, &r);
	err = asc_acting_blame(s, o, r.result.busy_arena, err);
	if (!err) {
		left_out(s, o, &r.result);
		r.predicted_known = p->known && !p->upper_bound;
		r.predicted = p->bytes;
		asc_acting_log(s, "reclaim in thread %d: %s", r.result.tid,
			       asc_acting_outcome(&r.result));
		asc_round_put(o, &r);
		asc_stays_text(o, p);
	}
	asc_session_refresh(s);
	return err;
}

static const struct asc_cmd_opt opts[] = {
	{ "arena", "N", "only this arena", ASC_COMPLETE_ARENA, NULL },
	{ "every", "TIME", "again and again, until Ctrl-C", 0, NULL },
	{ "min", "BYTES", "with --every: only if so much can be returned", 0, NULL },
	{ "tid", "TID", "borrow this thread", ASC_COMPLETE_TID, NULL },
	{ "call-timeout", "TIME", "then leave the call to itself (60s)", 0, NULL },
	{ "suspend-seccomp", NULL, "put the borrowed thread's seccomp filter to sleep", 0, NULL },
	{ 0 },
};

const struct asc_cmd asc_cmd_reclaim = {
	.name = "reclaim",
	.args = "-n | --yes [--arena=N] [--every=TIME [--min=BYTES]] [--tid=TID] "
		"[--call-timeout=TIME] [--suspend-seccomp]",
	.summary = "return every whole free resident page, the tops of all arenas included",
	.help = "With -n: what reclaim would return now, per arena. Nothing is changed.\n\n"
		"With --yes: one sleeping thread of the process is borrowed; the others are not "
		"stopped. A small routine in it takes each arena's lock, releases the whole pages "
		"of "
		"free chunks and of the top by madvise, and unlocks: after 1 ms of one hold, and "
		"then goes on where it was. It leaves nothing behind, whether arenascope lives or "
		"is killed meanwhile: the thread finishes and restores itself. With the right to "
		"do so (CAP_SYS_NICE), the thread runs at nice -20 meanwhile, so that nobody waits "
		"for one who holds a lock and has no CPU; that too it takes back by itself.\n\n"
		"Chunks in tcaches and fastbins stay, and so does every page that holds a live "
		"byte or "
		"a list's links. The program may fault the pages in again when it needs them; "
		"--every "
		"backs off if it does so at once.",
	.opts = opts,
	.needs = ASC_NEED_TARGET,
	.flags = ASC_CMD_FIELDS | ASC_CMD_WRITES,
	.run = run,
};
