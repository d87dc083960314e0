/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * many PID COUNT [trim|reclaim|tune ...] [wait=MS]: act on a process COUNT times, the actions in
 * turn, without loading symbols anew each time. Prints what came of them; exits 0 if every one was
 * done and verified, or refused because malloc was busy.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "act/act.h"
#include "base/num.h"

enum kind { TRIM, RECLAIM, TUNE, KINDS };
static const char *const names[KINDS] = { "trim", "reclaim", "tune" };

struct tally {
	unsigned done, busy, other, unverified;
	double stopped, stopped_max, call, call_max, hold_max;
	uint64_t bytes;
};

static int die(struct asc_error *err)
{
	char *text = asc_error_text(err);

	fprintf(stderr, "many: %s\n", text ? text : "?");
	free(text);
	asc_error_free(err);
	return 2;
}

static void once(const struct asc_act_ctx *c, enum kind kind, struct tally *t)
{
	struct asc_act_result r = { 0 };
	struct asc_error *err;

	if (kind == TRIM)
		err = asc_act_trim(c, 0, &r);
	else if (kind == RECLAIM)
		err = asc_act_reclaim(c, -1, &r);
	else
		err = asc_act_mallopt(c, -1, 200000, &r);
	if (err) {
		if (err->code == ASC_EAGAIN) {
			t->busy++;
			asc_error_free(err);
		} else {
			t->other++;
			die(err);
		}
		return;
	}
	if (r.outcome != ASC_ACT_DONE) {
		t->other++;
		fprintf(stderr, "many: %s: outcome %d: %s\n", names[kind], r.outcome, r.note);
		return;
	}
	t->done++;
	t->unverified += !r.verified;
	t->stopped += r.stopped_ms;
	t->call += r.call_ms;
	t->bytes += r.asked_bytes;
	if (r.stopped_ms > t->stopped_max)
		t->stopped_max = r.stopped_ms;
	if (r.call_ms > t->call_max)
		t->call_max = r.call_ms;
	if (r.max_hold_ms > t->hold_max)
		t->hold_max = r.max_hold_ms;
}

static int report(const struct tally *v)
{
	bool good = true;

	for (int i = 0; i < KINDS; i++) {
		const struct tally *t = &v[i];
		unsigned n = t->done ? t->done : 1;

		if (!(t->done + t->busy + t->other))
			continue;
		printf("%s: %u done, %u busy, %u other, %u not verified; stopped %.2f ms (most "
		       "%.2f), "
		       "call %.2f ms (most %.2f), longest hold %.2f ms, %.0f MiB\n",
		       names[i], t->done, t->busy, t->other, t->unverified, t->stopped / n,
		       t->stopped_max, t->call / n, t->call_max, t->hold_max,
		       (double)t->bytes / (1 << 20));
		good &= t->done && !t->other && !t->unverified;
	}
	return good ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct asc_symbol_opts symbols = { 0 };
	struct asc_act_ctx c = { 0 };
	struct asc_target *t = NULL;
	struct asc_modules *m = NULL;
	struct asc_libc *libs = NULL;
	struct tally tally[KINDS] = { 0 };
	enum kind kinds[KINDS];
	struct asc_error *err;
	uint64_t pid = 0, count = 0, wait = 0;
	size_t nlibs, nkinds = 0;
	int rc;

	if (argc < 4 || !asc_parse_u64(argv[1], &pid) || !asc_parse_u64(argv[2], &count))
		return 64;
	for (int i = 3; i < argc; i++) {
		if (!strncmp(argv[i], "wait=", 5) && asc_parse_u64(argv[i] + 5, &wait))
			continue;
		for (int k = 0; k < KINDS; k++) {
			if (!strcmp(argv[i], names[k]) && nkinds < KINDS)
				kinds[nkinds++] = (enum kind)k;
		}
	}
	err = asc_live_open((pid_t)pid, NULL, &t);
	if (!err)
		err = asc_modules_open(t, &symbols, &m);
	if (!err)
		err = asc_libc_find(m, t, &libs, &nlibs);
	if (err)
		return die(err);
	c.live = t;
	c.modules = m;
	c.lib = libs;
	c.opts.wait_ms = (unsigned)wait;
	for (uint64_t i = 0; i < count && nkinds && asc_target_alive(t); i++)
		once(&c, kinds[i % nkinds], &tally[kinds[i % nkinds]]);
	rc = report(tally);
	if (!asc_target_alive(t))
		rc = 3;
	free(libs);
	asc_modules_close(m);
	asc_target_close(t);
	return rc;
}
