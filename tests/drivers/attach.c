/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Stops a process through the library and says what was seen, for the attach tests.
 *
 * attach PID [times=N] [hold=MS] [watchdog=MS] [timeout=MS] [no_stop] [no_scan] [read] [threads]
 *        [bare]
 *
 * One JSON object a stop. With `bare` it is stopped and released, and nothing else is asked. With
 * `read` every readable mapping is read once, in bulk and piece by piece, and must be the same both
 * ways. Exit status as the program's; the error is a JSON object.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/pagemap.h"
#include "target/target.h"

struct options {
	uint64_t times, hold, watchdog, timeout;
	bool no_stop, no_scan, read, threads, bare;
};

static void print_text(const char *name, const char *s)
{
	printf("\"%s\": \"", name);
	for (; s && *s; s++) {
		if (*s == '"' || *s == '\\' || (unsigned char)*s < 32)
			printf("\\u%04x", (unsigned char)*s);
		else
			putchar((unsigned char)*s < 127 ? *s : '?');
	}
	putchar('"');
}

static int failed(struct asc_error *err)
{
	char *text = asc_error_text(err);
	int status = asc_error_exit(err);

	printf("{");
	print_text("error", text);
	printf(", ");
	print_text("id", asc_error_id(err));
	printf(", ");
	print_text("why", asc_error_why(err));
	printf(", ");
	print_text("try", asc_error_hint(err));
	printf(", \"exit\": %d}\n", status);
	free(text);
	asc_error_free(err);
	return status;
}

static bool option(struct options *o, const char *arg)
{
	const struct {
		const char *name;
		uint64_t *number;
		bool *flag;
	} table[] = {
		{ "times", &o->times, NULL },	    { "hold", &o->hold, NULL },
		{ "watchdog", &o->watchdog, NULL }, { "timeout", &o->timeout, NULL },
		{ "no_stop", NULL, &o->no_stop },   { "no_scan", NULL, &o->no_scan },
		{ "read", NULL, &o->read },	    { "threads", NULL, &o->threads },
		{ "bare", NULL, &o->bare },
	};

	for (size_t i = 0; i < ASC_ARRAY_SIZE(table); i++) {
		size_t len = strlen(table[i].name);

		if (strncmp(arg, table[i].name, len))
			continue;
		if (table[i].flag && !arg[len])
			return *table[i].flag = true;
		if (table[i].number && arg[len] == '=')
			return asc_parse_u64(arg + len + 1, table[i].number);
	}
	return false;
}

static void pause_ms(uint64_t ms)
{
	struct timespec ts = { (time_t)(ms / 1000), (long)(ms % 1000 * 1000000) };

	nanosleep(&ts, NULL);
}

/* The kernel's own word, in the same stop. */
static uint64_t smaps_sum(pid_t pid, pid_t tid, const char *key)
{
	char path[64], line[8192];
	uint64_t sum = 0, kb;
	size_t len = strlen(key);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/smaps", pid, tid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, len) && sscanf(line + len, "%" SCNu64, &kb) == 1)
			sum += kb * 1024;
	}
	if (f)
		fclose(f);
	return sum;
}

static struct asc_error *read_all(struct asc_target *t, uint64_t *ret_bytes, uint64_t *ret_differ)
{
	const struct asc_maps *maps = asc_target_maps(t);
	enum { PIECE = 65536 };
	static char a[PIECE], b[PIECE];

	for (size_t i = 0; i < maps->n; i++) {
		const struct asc_map *m = &maps->v[i];
		uint64_t most = asc_min(m->end - m->start, 16 << 20);

		for (uint64_t at = 0; at < most && (m->flags & ASC_MAP_READ); at += PIECE) {
			size_t len = (size_t)asc_min(PIECE, most - at), got;
			/* between two pieces that are never there */
			struct asc_iov iov[3] = { { .addr = 4096, .buf = b, .len = 8 },
						  { .addr = m->start + at, .buf = a, .len = len },
						  { .addr = 8192, .buf = b, .len = 8 } };

			ASC_TRY(asc_read_bulk(t, iov, 3));
			got = asc_read_some(t, m->start + at, b, len);
			if (iov[0].got || iov[2].got || got != iov[1].got || memcmp(a, b, got))
				++*ret_differ;
			*ret_bytes += got;
		}
	}
	return NULL;
}

static void print_residency(const struct asc_target *t, const struct asc_residency *r)
{
	uint64_t zero = 0, huge = 0, hugetlb = 0, device = 0;
	size_t n;
	const struct asc_thread *threads = asc_target_threads(t, &n);
	pid_t tid = asc_target_pid(t);

	for (size_t i = 0; i < n; i++) {
		if (threads[i].state != 'Z')
			tid = threads[i].tid;
	}
	for (size_t i = 0; i < r->n; i++) {
		uint64_t len = r->v[i].end - asc_page_run_start(&r->v[i]);

		zero += r->v[i].word & ASC_PAGE_ZERO ? len : 0;
		huge += r->v[i].word & ASC_PAGE_HUGE ? len : 0;
		hugetlb += r->v[i].word & ASC_PAGE_HUGETLB ? len : 0;
		device += r->v[i].word & ASC_PAGE_DEVICE ? len : 0;
	}
	printf(", \"source\": %d, \"runs\": %zu, \"resident\": %" PRIu64 ", \"swapped\": %" PRIu64
	       ", \"zero\": %" PRIu64 ", \"huge\": %" PRIu64 ", \"hugetlb\": %" PRIu64
	       ", \"device\": %" PRIu64 ", \"rss\": %" PRIu64 ", \"swap\": %" PRIu64 ", ",
	       (int)r->source, r->n, asc_resident_bytes(r, 0, UINT64_MAX),
	       asc_swapped_bytes(r, 0, UINT64_MAX), zero, huge, hugetlb, device,
	       smaps_sum(asc_target_pid(t), tid, "Rss:"),
	       smaps_sum(asc_target_pid(t), tid, "Swap:"));
	print_text("why", r->why_unknown);
}

static void print_threads(const struct asc_target *t)
{
	size_t n;
	const struct asc_thread *v = asc_target_threads(t, &n);

	printf(", \"list\": [");
	for (size_t i = 0; i < n; i++) {
		asc_addr pc = 0;

		asc_regs_pc(t, &v[i].regs, &pc);
		printf("%s{\"tid\": %d, ", i ? ", " : "", v[i].tid);
		print_text("name", v[i].name);
		printf(", \"state\": \"%c\", \"stopped\": %s, \"pc\": %" PRIu64 ", \"tp\": %" PRIu64
		       ", \"syscall\": %" PRId64 ", \"wchan\": \"%s\", \"sigblk\": %" PRIu64 "}",
		       v[i].state ? v[i].state : '?', v[i].stopped ? "true" : "false", pc,
		       v[i].regs.tp, v[i].syscall_nr, v[i].wchan, v[i].sigblk);
	}
	printf("]");
}

static struct asc_error *once(struct asc_target *t, const struct options *o)
{
	struct asc_stop_opts opts = { .stop_timeout_ms = (unsigned)o->timeout,
				      .max_pause_ms = (unsigned)o->watchdog };
	struct asc_residency *r = NULL;
	struct asc_error *err = asc_target_stop(t, &opts);
	uint64_t bytes = 0, differ = 0;
	struct asc_pause pause;
	size_t n;

	if (err)
		return err;
	asc_target_threads(t, &n);
	printf("{\"maps\": %zu, \"threads\": %zu, \"held\": %s", asc_target_maps(t)->n, n,
	       asc_target_is_stopped(t) ? "true" : "false");
	if (!o->bare)
		err = asc_residency_read(t, &r);
	if (r && o->times < 100)
		print_residency(t, r);
	if (!err && o->threads)
		print_threads(t);
	if (!err && o->read)
		err = read_all(t, &bytes, &differ);
	fflush(stdout);
	if (o->hold)
		pause_ms(o->hold);
	asc_target_release(t, &pause);
	printf(", \"bytes\": %" PRIu64 ", \"differ\": %" PRIu64
	       ", \"pause_ms\": %.3f, \"stop_ms\": %.3f, "
	       "\"stopped\": %u, \"not_stopped\": %u, \"watchdog\": %s, \"alive\": %s}\n",
	       bytes, differ, pause.ms, pause.stop_ms, pause.threads, pause.not_stopped,
	       pause.watchdog ? "true" : "false", asc_target_alive(t) ? "true" : "false");
	fflush(stdout);
	asc_residency_free(r);
	return err;
}

int main(int argc, char **argv)
{
	struct options o = { .times = 1 };
	struct asc_target *t = NULL;
	struct asc_error *err = NULL;
	uint64_t pid;

	if (argc < 2 || !asc_parse_u64(argv[1], &pid) || pid > INT_MAX)
		return 64;
	for (int i = 2; i < argc; i++) {
		if (!option(&o, argv[i]))
			return 64;
	}
	for (uint64_t i = 0; i < o.times && !err; i++) {
		struct asc_live_opts opts = { .no_stop = o.no_stop };

		/* every other time anew: both ways are used */
		if (i % 2 == 0) {
			asc_target_close(t);
			t = NULL;
			err = asc_live_open((pid_t)pid, &opts, &t);
			if (!err && o.no_scan)
				asc_live_set_no_scan(t);
		}
		if (!err)
			err = once(t, &o);
	}
	asc_target_close(t);
	return err ? failed(err) : 0;
}
