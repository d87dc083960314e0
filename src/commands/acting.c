/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "commands/acting.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/proc.h"

enum { BACKOFF_MAX = 16, TICK_MS = 50 };

struct asc_usage_now asc_usage_read(pid_t pid)
{
	struct asc_usage_now u = { 0 };
	struct asc_text text = { 0 };
	uint64_t rss, swap;
	pid_t tid = asc_proc_live_tid(pid);
	const char *p;

	if (!tid || asc_proc_read(pid, pid, "smaps_rollup", &text)) {
		asc_text_free(&text);
		return u;
	}
	p = strstr(text.p, "\nRss:");
	u.known = p && sscanf(p, "\nRss: %" SCNu64, &rss) == 1;
	p = strstr(text.p, "\nSwap:");
	if (p && sscanf(p, "\nSwap: %" SCNu64, &swap) == 1)
		u.swap = swap * 1024;
	if (u.known)
		u.rss = rss * 1024;
	asc_text_free(&text);
	return u;
}

static struct asc_error *can_change(const struct asc_session *s)
{
	if (!s->live)
		return asc_err_id(asc_err(ASC_EUSAGE, "a core file cannot be changed"), "E-CORE");
	if (s->opts.no_stop)
		return asc_err_id(asc_err(ASC_EUSAGE, "--no-stop forbids to change the process"),
				  "E-USAGE");
	return NULL;
}

struct asc_error *asc_may_act(const struct asc_session *s, const char *command)
{
	ASC_TRY(can_change(s));
	if (s->opts.yes || (s->opts.interactive && isatty(STDIN_FILENO)))
		return NULL;
	return asc_err_try(
		asc_err_id(asc_err(ASC_EUSAGE, "%s changes the process and was not told --yes",
				   command),
			   "E-CONSENT"),
		"%s -n shows what it would bring, %s --yes does it", command, command);
}

struct asc_error *asc_consent(const struct asc_session *s, const char *command,
			      const char *question, bool *ret)
{
	ASC_AUTO(asc_freep) char *line = NULL;
	size_t cap = 0;

	*ret = true;
	if (s->opts.yes)
		return NULL;
	ASC_TRY(asc_may_act(s, command));
	fprintf(stderr, "%s\nGo on? [y/N] ", question);
	fflush(stderr);
	if (getline(&line, &cap, stdin) < 0) {
		clearerr(stdin);
		*ret = false;
		return NULL;
	}
	*ret = line[0] == 'y' || line[0] == 'Y';
	return NULL;
}

/* As ISO 8601 has it, in UTC. */
static const char *time_text(time_t at, char *buf, size_t size)
{
	struct tm tm;

	gmtime_r(&at, &tm);
	strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return buf;
}

void asc_acting_log(const struct asc_session *s, const char *fmt, ...)
{
	char when[32];
	va_list ap;

	if (s->opts.quiet)
		return;
	fprintf(stderr, "%s pid %d: ", time_text(time(NULL), when, sizeof(when)), s->opts.pid);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static bool go_on(void *arg, const char *what, double ms)
{
	(void)arg;
	(void)what;
	(void)ms;
	return !asc_interrupted();
}

struct asc_error *asc_acting_ctx(struct asc_session *s, const struct asc_args *a,
				 struct asc_act_ctx *ret)
{
	uint64_t tid = 0, timeout = 0;
	const char *text = asc_args_get(a, "call-timeout");

	ASC_TRY(can_change(s));
	ASC_TRY(asc_args_u64(a, "tid", &tid));
	if (text && (!asc_parse_ms(text, &timeout) || !timeout || timeout > INT32_MAX))
		return asc_err(ASC_EUSAGE, "--call-timeout is a time: 500ms, 60s");
	if (tid > INT32_MAX)
		return asc_err(ASC_EUSAGE, "--tid is a thread id");
	ASC_TRY(asc_session_need(s, ASC_NEED_LIBC | ASC_NEED_LISTS));
	if (!s->nlibcs)
		return asc_err(ASC_ENOSYM, "no libc is known");
	*ret = (struct asc_act_ctx){
		.live = s->live,
		.modules = s->modules,
		.lib = &s->libcs[0],
		.heap = asc_session_heap(s),
		.opts = { .wait_ms = (unsigned)asc_min(s->opts.wait_ms, 1u << 30),
			  .force = s->opts.force,
			  .call_timeout_ms = (unsigned)timeout,
			  .suspend_seccomp = asc_args_has(a, "suspend-seccomp"),
			  .tid = (pid_t)tid },
		.progress = go_on,
	};
	return NULL;
}

const char *asc_acting_outcome(const struct asc_act_result *r)
{
	static const char *const names[] = {
		[ASC_ACT_DONE] = "done",
		[ASC_ACT_CRASHED] = "crashed",
		[ASC_ACT_RUNNING] = "running",
		[ASC_ACT_GONE] = "gone",
	};

	return names[r->outcome];
}

static uint64_t dropped(const struct asc_round *r)
{
	return r->before.rss > r->after.rss ? r->before.rss - r->after.rss : 0;
}

static void put_json(struct asc_out *o, const struct asc_round *r)
{
	const struct asc_act_result *res = &r->result;
	bool known = r->before.known && r->after.known;

	asc_out_object(o, "result", NULL);
	asc_out_field(o, "outcome", NULL, ASC_V_STR(asc_acting_outcome(res)));
	asc_out_field(o, "rss_before_bytes", NULL, ASC_V_BYTES_IF(r->before.known, r->before.rss));
	asc_out_field(o, "rss_after_bytes", NULL, ASC_V_BYTES_IF(r->after.known, r->after.rss));
	/* may be negative: the program runs on */
	asc_out_field(o, "bytes", NULL,
		      known ? ASC_V_INT((int64_t)(r->before.rss - r->after.rss)) : ASC_V_UNKNOWN);
	asc_out_field(o, "swap_before_bytes", NULL,
		      ASC_V_BYTES_IF(r->before.known, r->before.swap));
	asc_out_field(o, "swap_after_bytes", NULL, ASC_V_BYTES_IF(r->after.known, r->after.swap));
	asc_out_field(o, "stopped_ms", NULL, ASC_V_MS(res->stopped_ms));
	asc_out_field(o, "borrowed_ms", NULL, ASC_V_MS(res->borrowed_ms));
	asc_out_field(o, "call_ms", NULL, ASC_V_MS(res->call_ms));
	asc_out_field(o, "return_value", NULL,
		      res->return_value_known ? ASC_V_INT(res->return_value) : ASC_V_UNKNOWN);
	asc_out_field(o, "tid", NULL, ASC_V_COUNT((uint64_t)res->tid));
	asc_out_field(o, "verified", NULL, ASC_V_BOOL(res->verified));
	asc_out_field(o, "retries", NULL, ASC_V_COUNT(res->retries));
	asc_out_field(o, "crash_signal", NULL,
		      res->crash_signal ? ASC_V_COUNT((uint64_t)res->crash_signal) : ASC_V_NONE);
	asc_out_field(o, "lock_repaired", NULL, ASC_V_BOOL(res->lock_repaired));
	asc_out_field(o, "note", NULL, res->note[0] ? ASC_V_STR(res->note) : ASC_V_NONE);
	if (res->arenas) {
		asc_out_field(o, "arenas", NULL, ASC_V_COUNT(res->arenas));
		asc_out_field(o, "ranges", NULL, ASC_V_COUNT(res->ranges));
		asc_out_field(o, "asked_bytes", NULL, ASC_V_BYTES(res->asked_bytes));
		asc_out_field(o, "errors", NULL, ASC_V_COUNT(res->errors));
		asc_out_field(o, "max_hold_ms", NULL, ASC_V_MS(res->max_hold_ms));
		asc_out_field(o, "max_hold_cpu_ms", NULL, ASC_V_MS(res->max_hold_cpu_ms));
		asc_out_field(o, "max_wait_ms", NULL, ASC_V_MS(res->max_wait_ms));
	}
	asc_out_object_end(o);
}

static const char *head(const struct asc_act_result *r)
{
	switch (r->outcome) {
	case ASC_ACT_DONE:
		return r->complete ? "Done." : "Done in part.";
	case ASC_ACT_CRASHED:
		return "The call crashed.";
	case ASC_ACT_RUNNING:
		return "Still running.";
	case ASC_ACT_GONE:
		return "The process ended.";
	}
	return "";
}

const char *asc_round_text(char *buf, size_t size, const struct asc_round *r, bool exact)
{
	const struct asc_act_result *res = &r->result;
	char before[32], after[32], diff[32], said[32], what[96] = "", predicted[64] = "";
	bool grew = r->after.rss > r->before.rss;

	if (!r->before.known || !r->after.known) {
		snprintf(buf, size, "%s", head(res));
		return buf;
	}
	if (r->predicted_known)
		snprintf(predicted, sizeof(predicted), ", predicted -%s",
			 asc_fmt_bytes(said, r->predicted, exact));
	if (res->arenas)
		snprintf(what, sizeof(what), "; %" PRIu64 " arenas, %" PRIu64 " ranges",
			 res->arenas, res->ranges);
	snprintf(buf, size, "%s RSS %s -> %s (%c%s%s) in %.0f ms, stopped %.1f ms%s%s", head(res),
		 asc_fmt_bytes(before, r->before.rss, exact),
		 asc_fmt_bytes(after, r->after.rss, exact), grew ? '+' : '-',
		 asc_fmt_bytes(diff, grew ? r->after.rss - r->before.rss : dropped(r), exact),
		 predicted, res->call_ms, res->stopped_ms, what,
		 res->verified ? "; registers restored and verified" : "");
	return buf;
}

void asc_round_put(struct asc_out *o, const struct asc_round *r)
{
	char line[512];

	put_json(o, r);
	asc_out_text(o, "%s", asc_round_text(line, sizeof(line), r, asc_out_opts(o)->exact_bytes));
	if (r->result.outcome == ASC_ACT_RUNNING)
		asc_out_warn(o, "W-RUNNING", "the call did not return in time: %s", r->result.note);
	else if (r->result.note[0])
		asc_out_text(o, "  %s", r->result.note);
	if (r->result.outcome != ASC_ACT_DONE || !r->result.complete)
		asc_out_partial(o);
}

void asc_stays_text(struct asc_out *o, const struct asc_prediction *p)
{
	bool exact = asc_out_opts(o)->exact_bytes;
	char bytes[32];

	if (!p->known)
		return;
	for (int i = 0; i < ASC_NSTAYS; i++) {
		if (p->stays[i])
			asc_out_text(o, "  stays: %10s  %s",
				     asc_fmt_bytes(bytes, p->stays[i], exact),
				     asc_stay_name((enum asc_stay)i));
	}
}

/* ---- --every ---- */

static const struct asc_col round_cols[] = {
	{ "at_seconds", NULL, ASC_COL_NOTEXT },
	{ NULL, "TIME", 0 },
	{ "rss_before_bytes", "BEFORE", ASC_COL_RIGHT },
	{ "rss_after_bytes", "AFTER", ASC_COL_RIGHT },
	{ "predicted_bytes", "PREDICTED", ASC_COL_RIGHT },
	{ "bytes", "RETURNED", ASC_COL_RIGHT },
	{ "call_ms", "CALL", ASC_COL_RIGHT },
	{ "stopped_ms", "STOPPED", ASC_COL_RIGHT },
};

static void put_rounds(struct asc_out *o, const struct asc_round *v, size_t n)
{
	asc_out_table(o, "rounds", NULL, "round", round_cols, ASC_ARRAY_SIZE(round_cols));
	for (size_t i = 0; i < n; i++) {
		char when[32];
		const struct asc_value row[] = {
			ASC_V_INT(v[i].at),
			ASC_V_STR(time_text(v[i].at, when, sizeof(when))),
			ASC_V_BYTES_IF(v[i].before.known, v[i].before.rss),
			ASC_V_BYTES_IF(v[i].after.known, v[i].after.rss),
			ASC_V_BYTES_IF(v[i].predicted_known, v[i].predicted),
			ASC_V_BYTES_IF(v[i].before.known && v[i].after.known, dropped(&v[i])),
			ASC_V_MS(v[i].result.call_ms),
			ASC_V_MS(v[i].result.stopped_ms),
		};

		asc_out_row(o, row);
	}
	asc_out_table_end(o);
}

static void sleep_ms(uint64_t ms)
{
	for (uint64_t slept = 0; slept < ms && !asc_interrupted(); slept += TICK_MS) {
		struct timespec ts = { 0, TICK_MS * 1000000 };

		nanosleep(&ts, NULL);
	}
}

struct asc_error *asc_rounds(struct asc_session *s, const struct asc_args *a, struct asc_out *o,
			     asc_round_fn once)
{
	ASC_VEC(struct asc_round) v = { 0 };
	struct asc_error *err = NULL;
	uint64_t every = 0, min = 0, back_off = 1;
	const char *text = asc_args_get(a, "every");

	if (!asc_parse_ms(text, &every) || !every)
		return asc_err(ASC_EUSAGE, "--every is a time: 60s, 5m");
	ASC_TRY(asc_args_bytes(a, "min", &min));
	while (!err && !asc_interrupted()) {
		struct asc_round r = { .at = time(NULL) };
		char line[512];

		asc_session_refresh(s);
		err = once(s, a, o, &r);
		if (err && (err->code == ASC_EAGAIN && asc_target_alive(s->live))) {
			ASC_AUTO(asc_freep) char *why = asc_error_text(err);

			asc_acting_log(s, "%s", why);
			asc_error_free(err);
			err = NULL;
		} else if (!err && !r.result.tid) {
			char bytes[32];

			asc_acting_log(s, "%s could be returned: not worth it yet",
				       asc_fmt_bytes(bytes, r.predicted, false));
		} else if (!err) {
			struct asc_round *last = v.len ? &v.data[v.len - 1] : NULL;
			/* nearly all of what the last round returned is there again */
			bool straight_back = last && dropped(last) &&
					     r.before.rss >=
						     last->after.rss + dropped(last) / 10 * 9;

			back_off = straight_back ? asc_min(back_off * 2, BACKOFF_MAX) : 1;
			asc_acting_log(s, "%s%s", asc_round_text(line, sizeof(line), &r, false),
				       straight_back
					       ? "; the pages come straight back: next round later"
					       : "");
			err = asc_vec_push(&v, r);
		}
		if (!err)
			sleep_ms(every * back_off);
	}
	/* Ctrl-C is how it ends */
	if (err && err->code == ASC_EINTR) {
		asc_error_free(err);
		err = NULL;
	}
	put_rounds(o, v.data, v.len);
	asc_vec_free(&v);
	return err;
}
