/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/foresight.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/proc.h"
#include "target/target.h"

/* ---- the kernel's sum ---- */

struct rss {
	pid_t pid;
	uint64_t sum;
	bool found;
};

static void *read_rss(void *arg)
{
	struct rss *r = arg;
	ASC_AUTO(asc_text_free) struct asc_text text = { 0 };

	if (asc_proc_read(r->pid, 0, "smaps_rollup", &text) &&
	    asc_proc_read(r->pid, asc_proc_live_tid(r->pid), "smaps", &text))
		return NULL;
	for (char *at = text.p, *line; (line = asc_text_line(&at));) {
		uint64_t kb;
		char *number;

		if (strncmp(line, "Rss:", 4))
			continue;
		number = line + 4 + strspn(line + 4, " \t");
		number[strcspn(number, " ")] = 0;
		if (asc_parse_u64(number, &kb) && asc_add(r->sum, kb * 1024, &r->sum))
			r->found = true;
	}
	return NULL;
}

bool asc_kernel_rss(pid_t pid, uint64_t *ret)
{
	struct rss rss = { .pid = pid };

	read_rss(&rss);
	*ret = rss.sum;
	return rss.found;
}

struct asc_error *asc_residency_and_rss(struct asc_target *live, bool want_rss,
					struct asc_residency **ret, uint64_t *ret_rss,
					bool *ret_rss_known)
{
	struct rss rss = { .pid = asc_target_pid(live) };
	pthread_t thread;
	bool beside = want_rss && !pthread_create(&thread, NULL, read_rss, &rss);
	struct asc_error *err = asc_residency_read(live, ret);

	if (beside)
		pthread_join(thread, NULL);
	else if (want_rss)
		read_rss(&rss);
	*ret_rss = rss.sum;
	*ret_rss_known = rss.found;
	return err;
}

/* ---- before the stop ---- */

enum { TRIES = 4 };

/* Fields 10 to 13 of stat: faults of the process and of its children, whose ends add to theirs. */
static bool read_faults(pid_t pid, uint64_t *ret)
{
	ASC_AUTO(asc_text_free) struct asc_text text = { 0 };
	const char *at;

	if (asc_proc_read(pid, 0, "stat", &text) || !(at = strrchr(text.p, ')')))
		return false;
	at += at[1] == ' ' ? 2 : 1;
	for (int field = 3; field < 14; field++) {
		size_t n = strcspn(at, " ");
		char word[24];

		if (field >= 10) {
			if (n >= sizeof(word))
				return false;
			memcpy(word, at, n);
			word[n] = 0;
			if (!asc_parse_u64(word, &ret[field - 10]))
				return false;
		}
		at += n + (at[n] == ' ');
	}
	return true;
}

/* Not every kernel's counters are exact: VmRSS is held against the pages themselves. */
static bool read_status(pid_t pid, uint64_t *ret)
{
	static const char *const keys[] = { "RssAnon", "RssFile", "RssShmem", "VmSwap", "VmPTE" };
	ASC_AUTO(asc_text_free) struct asc_text text = { 0 };

	if (asc_proc_read(pid, 0, "status", &text))
		return false;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(keys); i++) {
		if (!asc_proc_status_dec(text.p, keys[i], &ret[i]))
			return false;
	}
	return true;
}

static uint64_t counters_sum(const uint64_t *status)
{
	return (status[0] + status[1] + status[2]) * 1024;
}

bool asc_counted_rss(pid_t pid, uint64_t *ret)
{
	uint64_t status[5];

	if (!read_status(pid, status))
		return false;
	*ret = counters_sum(status);
	return true;
}

static bool same_counters(const struct asc_foresight *f, pid_t pid)
{
	uint64_t faults[4], status[5];

	return read_faults(pid, faults) && read_status(pid, status) &&
	       !memcmp(faults, f->faults, sizeof(faults)) &&
	       !memcmp(status, f->status, sizeof(status));
}

void asc_foresight_free(struct asc_foresight *f)
{
	if (!f)
		return;
	asc_residency_free(f->residency);
	free(f);
}

void asc_foresight_freep(struct asc_foresight **f)
{
	asc_foresight_free(*f);
	*f = NULL;
}

/*
 * Do the kernel's counters agree with the pages, as they were just before or after? @p ret_again: they do
 * not, but they have changed meanwhile, which may be why.
 */
static bool is_exact(const struct asc_foresight *f, pid_t pid, bool *ret_again)
{
	uint64_t sum = asc_resident_bytes(f->residency, 0, UINT64_MAX), now;
	uint64_t before = counters_sum(f->status);
	bool known = f->residency->source != ASC_RESIDENCY_UNKNOWN && asc_counted_rss(pid, &now);

	*ret_again = known && sum != before && sum != now && before != now;
	return known && (sum == before || sum == now);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct asc_error *asc_foresight_new(struct asc_target *live, struct asc_foresight **ret)
{
	ASC_AUTO(asc_foresight_freep) struct asc_foresight *f = calloc(1, sizeof(*f));
	pid_t pid = asc_target_pid(live);
	bool again = true;

	if (!f)
		return asc_err(ASC_ENOMEM, "residency");
	f->maps_serial = live->maps_serial;
	for (int tries = 0; again && tries < TRIES; tries++) {
		const uint64_t began = now_ns();

		asc_residency_free(asc_take(f->residency));
		f->steady = read_faults(pid, f->faults) && read_status(pid, f->status);
		ASC_TRY(asc_residency_read(live, &f->residency));
		f->scan_ns = now_ns() - began;
		f->exact = is_exact(f, pid, &again);
	}
	f->steady = f->steady && f->exact && same_counters(f, pid);
	*ret = asc_take(f);
	return NULL;
}

bool asc_foresight_holds(const struct asc_foresight *f, struct asc_target *live)
{
	return f && f->steady && f->maps_serial == live->maps_serial &&
	       same_counters(f, asc_target_pid(live));
}

struct asc_error *asc_foresight_use(struct asc_foresight *before, struct asc_target *live,
				    bool want_rss, struct asc_residency **ret, uint64_t *ret_rss,
				    bool *ret_rss_known, bool *ret_foreseen)
{
	uint64_t counted = 0;

	*ret_foreseen = before && before->residency && asc_foresight_holds(before, live);
	if (*ret_foreseen) {
		*ret = asc_take(before->residency);
		*ret_rss = counters_sum(before->status);
		*ret_rss_known = true;
		return NULL;
	}
	if (!want_rss || !before || !before->exact)
		return asc_residency_and_rss(live, want_rss, ret, ret_rss, ret_rss_known);
	ASC_TRY(asc_residency_read(live, ret));
	if (asc_counted_rss(asc_target_pid(live), &counted) &&
	    (*ret)->source != ASC_RESIDENCY_UNKNOWN &&
	    counted == asc_resident_bytes(*ret, 0, UINT64_MAX)) {
		*ret_rss = counted;
		*ret_rss_known = true;
		return NULL;
	}
	*ret_rss_known = asc_kernel_rss(asc_target_pid(live), ret_rss);
	return NULL;
}
