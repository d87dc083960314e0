/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mallopt in the target: the knobs that can still be turned while it runs. */
#include <limits.h>
#include <malloc.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/acting.h"

struct knob {
	const char *name;
	int param;
	bool bytes, freezes;
	size_t field; /* of asc_layout: where the value stands in mp_ */
};

#define FIELD(member) offsetof(struct asc_layout, malloc_par_##member)
static const struct knob knobs[] = {
	{ "trim_threshold", M_TRIM_THRESHOLD, true, true, FIELD(trim_threshold) },
	{ "mmap_threshold", M_MMAP_THRESHOLD, true, true, FIELD(mmap_threshold) },
	{ "top_pad", M_TOP_PAD, true, true, FIELD(top_pad) },
	{ "mmap_max", M_MMAP_MAX, false, true, FIELD(n_mmaps_max) },
	{ "arena_max", M_ARENA_MAX, false, false, FIELD(arena_max) },
	{ "arena_test", M_ARENA_TEST, false, false, FIELD(arena_test) },
};

static struct asc_error *unknown(const char *name)
{
	struct asc_error *err =
		asc_err_id(asc_err(ASC_EUSAGE, "tune: unknown parameter %.60s", name), "E-USAGE");

	return asc_err_try(err,
			   "trim_threshold mmap_threshold top_pad mmap_max arena_max arena_test");
}

static struct asc_error *parse(const char *word, const struct knob **ret_knob, int *ret_value)
{
	const char *eq = strchr(word, '=');
	const struct knob *k = NULL;
	uint64_t v;

	if (!eq)
		return asc_err_id(asc_err(ASC_EUSAGE, "tune: what it takes is NAME=VALUE"),
				  "E-USAGE");
	for (size_t i = 0; i < ASC_ARRAY_SIZE(knobs); i++) {
		if (strlen(knobs[i].name) == (size_t)(eq - word) &&
		    !memcmp(knobs[i].name, word, (size_t)(eq - word)))
			k = &knobs[i];
	}
	if (!k)
		return unknown(word);
	if (!(k->bytes ? asc_parse_bytes(eq + 1, &v) : asc_parse_u64(eq + 1, &v)) || v > INT_MAX)
		return asc_err_id(asc_err(ASC_EUSAGE, "tune: %s takes %s up to %d", k->name,
					  k->bytes ? "bytes" : "a number", INT_MAX),
				  "E-USAGE");
	*ret_knob = k;
	*ret_value = (int)v;
	return NULL;
}

static struct asc_error *read_field(const struct asc_session *s, size_t field, bool *known,
				    uint64_t *ret)
{
	const struct asc_libc *lib = &s->libcs[0];
	struct asc_field f;

	memcpy(&f, (const char *)&lib->layout + field, sizeof(f));
	*known = f.present;
	return f.present ? asc_read_uint(s->live, lib->mp + f.off, f.size, ret) : NULL;
}

static const char *warning(const struct asc_session *s, const struct knob *k, bool frozen)
{
	uint64_t limit = 0;

	if (k->freezes)
		return frozen ? NULL
			      : "from now on mmap_threshold and trim_threshold no longer adapt by "
				"themselves, until the process ends";
	if (s->libcs[0].narenas_limit) {
		struct asc_error *err = asc_read_word(s->live, s->libcs[0].narenas_limit, &limit);

		asc_error_free(err);
	}
	return limit ? "it has no effect any more: malloc has already decided on the number of "
		       "arenas"
		     : NULL;
}

static struct asc_value value(const struct knob *k, bool known, uint64_t v)
{
	if (!known)
		return ASC_V_UNKNOWN;
	return k->bytes ? ASC_V_BYTES(v) : ASC_V_COUNT(v);
}

struct tuning {
	const struct knob *knob;
	bool known, frozen_known, done;
	uint64_t before, after, frozen_before, frozen_after;
	const char *warning;
	struct asc_act_result result;
};

static void put(struct asc_out *o, const struct tuning *t)
{
	asc_out_object(o, "tune", NULL);
	asc_out_field(o, "name", "parameter", ASC_V_STR(t->knob->name));
	asc_out_field(o, t->knob->bytes ? "before_bytes" : "before", "before",
		      value(t->knob, t->known, t->before));
	if (t->done) {
		asc_out_field(o, t->knob->bytes ? "after_bytes" : "after", "after",
			      value(t->knob, t->known, t->after));
		asc_out_field(o, "accepted", "accepted", ASC_V_BOOL(t->result.return_value == 1));
		asc_out_field(o, "stopped_ms", "stopped", ASC_V_MS(t->result.stopped_ms));
		asc_out_field(o, "call_ms", NULL, ASC_V_MS(t->result.call_ms));
		asc_out_field(o, "verified", NULL, ASC_V_BOOL(t->result.verified));
	}
	asc_out_field(o, "thresholds_frozen", "thresholds frozen",
		      t->frozen_known
			      ? ASC_V_BOOL((t->done ? t->frozen_after : t->frozen_before) != 0)
			      : ASC_V_UNKNOWN);
	asc_out_field(o, "note", t->warning ? "note" : NULL,
		      t->warning ? ASC_V_STR(t->warning) : ASC_V_NONE);
	asc_out_object_end(o);
}

static struct asc_error *check(const struct asc_args *a)
{
	const struct knob *k;
	int v;

	return parse(asc_args_at(a, 0), &k, &v);
}

static struct asc_error *call(struct asc_session *s, struct asc_out *o, const struct asc_act_ctx *c,
			      struct tuning *t, int v)
{
	struct asc_error *err = asc_act_mallopt(c, t->knob->param, v, &t->result);

	if (!err && t->result.outcome == ASC_ACT_RUNNING)
		asc_out_warn(o, "W-RUNNING", "the call did not return in time: %s", t->result.note);
	return asc_acting_blame(s, o, t->result.busy_arena, err);
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	struct tuning t = { 0 };
	struct asc_act_ctx c;
	int v = 0;
	bool yes;
	char line[256];

	ASC_TRY(parse(asc_args_at(a, 0), &t.knob, &v));
	ASC_TRY(asc_acting_ctx(s, a, &c));
	ASC_TRY(read_field(s, t.knob->field, &t.known, &t.before));
	ASC_TRY(read_field(s, FIELD(no_dyn_threshold), &t.frozen_known, &t.frozen_before));
	t.warning = warning(s, t.knob, t.frozen_before != 0);
	if (s->opts.dry_run) {
		put(o, &t);
		return NULL;
	}
	snprintf(line, sizeof(line), "mallopt sets %s to %d in the process.%s%s", t.knob->name, v,
		 t.warning ? " Note: " : "", t.warning ? t.warning : "");
	ASC_TRY(asc_consent(s, "tune", line, &yes));
	if (!yes) {
		put(o, &t);
		return NULL;
	}
	ASC_TRY(call(s, o, &c, &t, v));
	ASC_TRY(read_field(s, t.knob->field, &t.known, &t.after));
	ASC_TRY(read_field(s, FIELD(no_dyn_threshold), &t.frozen_known, &t.frozen_after));
	t.done = true;
	asc_acting_log(s, "mallopt(%s, %d) in thread %d: %s", t.knob->name, v, t.result.tid,
		       asc_acting_outcome(&t.result));
	put(o, &t);
	if (t.result.return_value != 1 || t.result.outcome != ASC_ACT_DONE)
		asc_out_partial(o);
	asc_session_refresh(s);
	return NULL;
}

static const struct asc_cmd_opt opts[] = {
	{ "tid", "TID", "borrow this thread", ASC_COMPLETE_TID, NULL },
	{ "call-timeout", "TIME", "then leave the call to itself (60s)", 0, NULL },
	{ "suspend-seccomp", NULL, "put the borrowed thread's seccomp filter to sleep", 0, NULL },
	{ 0 },
};

const struct asc_cmd asc_cmd_tune = {
	.name = "tune",
	.args = "NAME=VALUE --yes [--tid=TID] [--call-timeout=TIME] [--suspend-seccomp]",
	.summary = "set a malloc parameter by mallopt, and show it before and after",
	.help = "NAME is trim_threshold, mmap_threshold, top_pad (bytes), mmap_max, arena_max or "
		"arena_test (numbers). mallopt is called in one borrowed thread, as trim does it; "
		"the "
		"values shown are read back from malloc's own parameters.\n\n"
		"Setting any of the first four ends the adaptation of mmap_threshold and "
		"trim_threshold for the rest of the process's life. arena_max counts only until "
		"malloc "
		"has decided on its number of arenas. A lower trim_threshold takes effect when an "
		"arena next frees a large chunk. With -n: the value as it is.",
	.opts = opts,
	.min_args = 1,
	.max_args = 1,
	.needs = ASC_NEED_TARGET,
	.flags = ASC_CMD_WRITES,
	.check = check,
	.run = run,
};
