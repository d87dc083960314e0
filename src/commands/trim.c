/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/cleanup.h"
#include "commands/acting.h"
#include "commands/prediction.h"

static void free_prediction(struct asc_prediction **p)
{
	asc_prediction_free(*p);
}

static void question(char *buf, size_t size, const struct asc_prediction *p)
{
	char bytes[32];

	if (!p->known) {
		snprintf(buf, size, "malloc_trim(%llu) is called in one thread of the process.",
			 (unsigned long long)p->pad);
		return;
	}
	snprintf(buf, size,
		 "malloc_trim(%llu) is called in one thread of the process and returns about %s. "
		 "While "
		 "an arena is looked through, its threads wait in malloc: up to about %.0f ms%s.",
		 (unsigned long long)p->pad, asc_fmt_bytes(bytes, p->bytes, false), p->stall_ms,
		 p->stall_ms > 20 ? " (reclaim never holds a lock for more than a few)" : "");
}

static struct asc_error *act(struct asc_session *s, const struct asc_args *a, uint64_t pad,
			     struct asc_round *r)
{
	struct asc_act_ctx c;
	struct asc_error *err;

	ASC_TRY(asc_acting_ctx(s, a, &c));
	r->before = asc_usage_read(s->opts.pid);
	err = asc_act_trim(&c, pad, &r->result);
	r->after = asc_usage_read(s->opts.pid);
	return err;
}

static struct asc_error *once(struct asc_session *s, const struct asc_args *a, struct asc_out *o,
			      struct asc_round *r)
{
	ASC_AUTO(free_prediction) struct asc_prediction *p = NULL;
	uint64_t pad = 0, min = 0;

	(void)o;
	ASC_TRY(asc_args_bytes(a, "pad", &pad));
	ASC_TRY(asc_args_bytes(a, "min", &min));
	ASC_TRY(asc_prediction_get(s, ASC_PREDICT_TRIM, pad, -1, &p));
	r->predicted_known = p->known && !p->upper_bound;
	r->predicted = p->bytes;
	if (p->known && p->bytes < min)
		return NULL;
	return act(s, a, pad, r);
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	ASC_AUTO(free_prediction) struct asc_prediction *p = NULL;
	struct asc_round r = { 0 };
	struct asc_error *err;
	char line[512];
	uint64_t pad = 0;
	bool yes;

	ASC_TRY(asc_args_bytes(a, "pad", &pad));
	if (!s->opts.dry_run && asc_args_has(a, "every")) {
		ASC_TRY(asc_consent(s, "trim", "malloc_trim is called again and again.", &yes));
		return yes ? asc_rounds(s, a, o, once) : NULL;
	}
	ASC_TRY(asc_prediction_get(s, ASC_PREDICT_TRIM, pad, -1, &p));
	if (s->opts.dry_run) {
		asc_prediction_put(o, s, ASC_PREDICT_TRIM, p);
		return NULL;
	}
	question(line, sizeof(line), p);
	ASC_TRY(asc_consent(s, "trim", line, &yes));
	asc_prediction_json(o, s, ASC_PREDICT_TRIM, p);
	if (!yes) {
		asc_out_text(o, "nothing was changed");
		return NULL;
	}
	err = act(s, a, pad, &r);
	err = asc_acting_blame(s, o, r.result.busy_arena, err);
	if (!err) {
		r.predicted_known = p->known && !p->upper_bound;
		r.predicted = p->bytes;
		asc_acting_log(s, "malloc_trim(%llu) in thread %d: %s", (unsigned long long)pad,
			       r.result.tid, asc_acting_outcome(&r.result));
		asc_round_put(o, &r);
		asc_stays_text(o, p);
	}
	asc_session_refresh(s);
	return err;
}

static const struct asc_cmd_opt opts[] = {
	{ "pad", "BYTES", "leave so much free at the top of the main arena", 0, NULL },
	{ "every", "TIME", "again and again, until Ctrl-C", 0, NULL },
	{ "min", "BYTES", "with --every: only if so much can be returned", 0, NULL },
	{ "tid", "TID", "borrow this thread", ASC_COMPLETE_TID, NULL },
	{ "call-timeout", "TIME", "then leave the call to itself (60s)", 0, NULL },
	{ "suspend-seccomp", NULL, "put the borrowed thread's seccomp filter to sleep", 0, NULL },
	{ 0 },
};

const struct asc_cmd asc_cmd_trim = {
	.name = "trim",
	.args = "-n | --yes [--pad=BYTES] [--every=TIME [--min=BYTES]] [--tid=TID] "
		"[--call-timeout=TIME] [--suspend-seccomp]",
	.summary = "what malloc_trim returns; with consent, call it and measure",
	.help = "With -n: what malloc_trim(PAD) would return now, per arena, and what it would "
		"not.\n"
		"Nothing is changed.\n\n"
		"With --yes: one sleeping thread of the process is borrowed; the others are not "
		"stopped. Where none sleeps in a call that malloc never makes, all are stopped for "
		"a moment. Every arena's lock must be seen free first (else it tries again, up to "
		"--wait). The call runs, and every register, the signal mask and errno are put "
		"back. If arenascope is killed meanwhile, the thread finishes the call and "
		"restores "
		"itself. While an arena is trimmed its threads wait in malloc; reclaim keeps that "
		"short.\n\n"
		"A damaged heap is refused: malloc would abort in it. --force does it all the "
		"same.",
	.opts = opts,
	.needs = ASC_NEED_TARGET,
	.flags = ASC_CMD_FIELDS | ASC_CMD_WRITES,
	.run = run,
};
