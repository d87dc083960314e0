/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * many PID COUNT [trim|reclaim|tune ...] [wait=MS] [seconds=S] [kill]: act on a process COUNT
 * times, the actions in turn, without loading symbols anew each time. Prints what came of them;
 * exits 0 if every one was done and verified, or refused because malloc was busy.
 *
 * kill: each action is made by a process of its own, which is killed by SIGKILL at a random moment
 * of its life: it, its helper, or both in any order. COUNT is the number of kills that hit.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "act/act.h"
#include "base/num.h"

enum kind { TRIM, RECLAIM, TUNE, KINDS };
static const char *const names[KINDS] = { "trim", "reclaim", "tune" };

struct tally {
	unsigned done, busy, other, unverified;
	double stopped, stopped_max, call, call_max, hold_max, cpu_max;
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
	if (r.max_hold_cpu_ms > t->cpu_max)
		t->cpu_max = r.max_hold_cpu_ms;
}

/* ---- kill ---- */

struct kills {
	unsigned tool, helper, both, late, done, busy, other;
	double typical_ms;
};

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void sleep_ms(double ms)
{
	struct timespec ts = { (time_t)(ms / 1e3), (long)(ms * 1e6) % 1000000000 };

	nanosleep(&ts, NULL);
}

static pid_t child_of(pid_t pid)
{
	char path[64];
	FILE *f;
	int child = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	f = fopen(path, "r");
	if (f && fscanf(f, "%d", &child) != 1)
		child = 0;
	if (f)
		fclose(f);
	return child;
}

/* Exit status of the process that makes one action. */
enum { DONE, BUSY, OTHER };

static _Noreturn void act_once(const struct asc_act_ctx *c, enum kind kind)
{
	struct tally t = { 0 };

	once(c, kind, &t);
	_exit(t.done && !t.unverified ? DONE : t.busy ? BUSY : OTHER);
}

static void killed_once(const struct asc_act_ctx *c, enum kind kind, bool spare, struct kills *k)
{
	double began = now_ms();
	pid_t pid = fork(), helper, p;
	int status, tool_status = 0;
	bool hit_tool = false, hit_helper = false;

	if (pid == 0)
		act_once(c, kind);
	if (!spare) {
		int how = (int)(random() % 4);

		sleep_ms(k->typical_ms * 1.2 * (double)random() / RAND_MAX);
		helper = child_of(pid);
		if (how == 0 && helper) /* the helper first */
			hit_helper = !kill(helper, SIGKILL);
		if (how != 1 || !helper)
			hit_tool = !kill(pid, SIGKILL);
		if ((how == 1 || how == 2) && helper)
			hit_helper = !kill(helper, SIGKILL);
	}
	/* the helper of a killed tool becomes our child: it goes on to its own end */
	while ((p = waitpid(-1, &status, 0)) > 0) {
		if (p == pid)
			tool_status = status;
	}
	if (WIFEXITED(tool_status) && !hit_helper) {
		k->done += WEXITSTATUS(tool_status) == DONE;
		k->busy += WEXITSTATUS(tool_status) == BUSY;
		k->other += WEXITSTATUS(tool_status) == OTHER;
		k->late += hit_tool;
		if (spare)
			k->typical_ms += (now_ms() - began) / 4;
		return;
	}
	k->both += hit_tool && hit_helper;
	k->tool += hit_tool && !hit_helper;
	k->helper += !hit_tool && hit_helper;
}

/* Executable memory without a file: the routine's mapping, while it is there. */
static unsigned code_maps(pid_t pid)
{
	char path[64], line[512], perms[8], name[64];
	unsigned long inode;
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		n += sscanf(line, "%*s %7s %*s %*s %lu %63s", perms, &inode, name) == 2 && !inode &&
		     strchr(perms, 'x');
	if (f)
		fclose(f);
	return n;
}

static int kill_many(const struct asc_act_ctx *c, pid_t pid, uint64_t count, const enum kind *kinds,
		     size_t nkinds, double until)
{
	struct kills k = { 0 };
	unsigned before = code_maps(pid), after;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	srandom((unsigned)getpid());
	for (uint64_t i = 0; i < 4; i++)
		killed_once(c, kinds[i % nkinds], true, &k);
	for (uint64_t i = 0;
	     k.tool + k.helper + k.both < count && now_ms() < until && asc_target_alive(c->live);
	     i++)
		killed_once(c, kinds[i % nkinds], false, &k);
	/* what a killed tool began may still be at its end */
	for (int i = 0; (after = code_maps(pid)) != before && i < 2000; i++)
		sleep_ms(10);
	printf("killed: %u (tool %u, helper %u, both %u) of actions of %.1f ms; not hit: %u done, "
	       "%u busy, %u other; mappings left: %d\n",
	       k.tool + k.helper + k.both, k.tool, k.helper, k.both, k.typical_ms, k.done, k.busy,
	       k.other, (int)after - (int)before);
	return k.other || after != before;
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
		       "call %.2f ms (most %.2f), longest hold %.2f ms "
		       "(CPU %.2f), %.0f MiB\n",
		       names[i], t->done, t->busy, t->other, t->unverified, t->stopped / n,
		       t->stopped_max, t->call / n, t->call_max, t->hold_max, t->cpu_max,
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
	uint64_t pid = 0, count = 0, wait = 0, seconds = 100000;
	size_t nlibs, nkinds = 0;
	bool kills = false;
	double until;
	int rc;

	if (argc < 4 || !asc_parse_u64(argv[1], &pid) || !asc_parse_u64(argv[2], &count))
		return 64;
	for (int i = 3; i < argc; i++) {
		if (!strncmp(argv[i], "wait=", 5) && asc_parse_u64(argv[i] + 5, &wait))
			continue;
		if (!strncmp(argv[i], "seconds=", 8) && asc_parse_u64(argv[i] + 8, &seconds))
			continue;
		kills |= !strcmp(argv[i], "kill");
		for (int k = 0; k < KINDS; k++) {
			if (!strcmp(argv[i], names[k]) && nkinds < KINDS)
				kinds[nkinds++] = (enum kind)k;
		}
	}
	if (!nkinds)
		return 64;
	until = now_ms() + (double)seconds * 1e3;
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
	if (kills) {
		rc = kill_many(&c, (pid_t)pid, count, kinds, nkinds, until);
	} else {
		for (uint64_t i = 0; i < count && now_ms() < until && asc_target_alive(t); i++)
			once(&c, kinds[i % nkinds], &tally[kinds[i % nkinds]]);
		rc = report(tally);
	}
	if (!asc_target_alive(t))
		rc = 3;
	free(libs);
	asc_modules_close(m);
	asc_target_close(t);
	return rc;
}
