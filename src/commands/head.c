// SPDX-License-Identifier: GPL-3.0-or-later
/* What stands in front of every document, and the run of one command. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "commands/acting.h"
#include "commands/cmd.h"
#include "target/proc.h"

/* Said once a session in text: bits of session.said. */
enum said {
	SAID_LAYOUT = 1,
	SAID_CORE = 2,
	SAID_INCONSISTENT = 4,
	SAID_PAGEMAP = 8,
	SAID_CORE_PAGES = 16,
	SAID_OTHER_LIBC = 32,
	SAID_BUSY = 64,
	SAID_DSTATE = 128,
	SAID_FROZEN = 256,
	SAID_UNVERIFIED = 1024,
	SAID_LATER = 4096,
	SAID_TCACHES = 2048,
};

/* JSON has every warning in every document; people read it once. */
#define WARN(s, o, bit, ...)                                                                       \
	do {                                                                                       \
		if (asc_out_opts(o)->format != ASC_TEXT || !((s)->said & (bit)))                   \
			asc_out_warn(o, __VA_ARGS__);                                              \
		(s)->said |= (bit);                                                                \
	} while (0)

static const struct asc_heap_libc *libc_of(const struct asc_session *s)
{
	const struct asc_heap *heap = asc_session_heap(s);

	return heap ? &heap->libc : NULL;
}

static void put_libc(const struct asc_session *s, struct asc_out *o)
{
	const struct asc_heap_libc *libc = libc_of(s);
	const char *version = NULL, *build_id = NULL, *layout = NULL;

	if (libc) {
		version = libc->version;
		build_id = libc->build_id;
		layout = libc->layout;
	} else if (s->nlibcs) {
		version = s->libcs[0].version;
		build_id = s->libcs[0].build_id;
		layout = asc_layout_from_name(s->libcs[0].layout.from);
	}
	asc_out_object(o, "libc", NULL);
	asc_out_field(o, "version", NULL, version && *version ? ASC_V_STR(version) : ASC_V_UNKNOWN);
	asc_out_field(o, "build_id", NULL,
		      build_id && *build_id ? ASC_V_STR(build_id) : ASC_V_UNKNOWN);
	asc_out_field(o, "layout", NULL, layout ? ASC_V_STR(layout) : ASC_V_UNKNOWN);
	asc_out_field(o, "copies", NULL,
		      s->have & ASC_NEED_LIBC ? ASC_V_COUNT(s->nlibcs) : ASC_V_UNKNOWN);
	asc_out_field(o, "allocator", NULL, s->allocator ? ASC_V_STR(s->allocator) : ASC_V_UNKNOWN);
	asc_out_object_end(o);
}

static void put_target(const struct asc_session *s, struct asc_out *o)
{
	size_t n;
	const struct asc_arch *arch = asc_target_arch(s->data);
	pid_t pid = asc_target_pid(s->data);

	asc_target_threads(s->data, &n);
	asc_out_object(o, "target", NULL);
	asc_out_field(o, "kind", NULL, ASC_V_STR(s->live ? "live" : "core"));
	asc_out_field(o, "pid", NULL, pid ? ASC_V_INT(pid) : ASC_V_UNKNOWN);
	asc_out_field(o, "name", NULL, ASC_V_STR(asc_target_name(s->data)));
	asc_out_field(o, "core", NULL, s->opts.core ? ASC_V_STR(s->opts.core) : ASC_V_NONE);
	asc_out_field(o, "arch", NULL, arch ? ASC_V_STR(arch->name) : ASC_V_UNKNOWN);
	asc_out_field(o, "threads", NULL, n ? ASC_V_COUNT(n) : ASC_V_UNKNOWN);
	asc_out_field(o, "page_size_bytes", NULL, ASC_V_BYTES(asc_target_page_size(s->data)));
	asc_out_object_end(o);
}

static void put_bytes(struct asc_out *o, const char *key, bool known, uint64_t bytes)
{
	asc_out_field(o, key, NULL, known ? ASC_V_BYTES(bytes) : ASC_V_NONE);
}

/* Which of them may be of another moment than the stop. */
static void put_unverified(const struct asc_heap *heap, struct asc_out *o)
{
	asc_out_list(o, "unverified_arenas", NULL);
	for (size_t i = 0; i < heap->narenas; i++) {
		if (heap->arenas[i].unverified)
			asc_out_item(o, ASC_V_COUNT(i));
	}
	asc_out_list_end(o);
}

/* " in arenas 1, 2, 5 and 12 more", or "" */
static const char *name_unverified(const struct asc_heap *heap, char *buf, size_t size)
{
	enum { NAMED = 6 };
	size_t n = 0, len = 0;

	buf[0] = 0;
	for (size_t i = 0; heap && i < heap->narenas; i++) {
		if (!heap->arenas[i].unverified)
			continue;
		if (n < NAMED)
			len += (size_t)snprintf(buf + len, size - len, "%s%zu",
						n ? ", " : " in arenas ", i);
		n++;
	}
	if (n > NAMED)
		snprintf(buf + len, size - len, " and %zu more", n - NAMED);
	return buf;
}

/* How it was read, so that a number can be judged. */
static void put_capture(const struct asc_session *s, struct asc_out *o)
{
	const struct asc_provenance *p = &s->provenance;
	bool optimistic = p->engine && !strcmp(p->engine, "optimistic");

	asc_out_object(o, "capture", NULL);
	asc_out_field(o, "engine", NULL, p->engine ? ASC_V_STR(p->engine) : ASC_V_NONE);
	asc_out_field(o, "stops", NULL, p->engine ? ASC_V_COUNT(p->rounds) : ASC_V_NONE);
	put_bytes(o, "copied_bytes", s->captured_bytes, s->captured_bytes);
	put_bytes(o, "reread_bytes", optimistic, p->reread_bytes);
	put_bytes(o, "steady_bytes", optimistic, p->steady_bytes);
	put_bytes(o, "unverified_bytes", optimistic, p->unverified_bytes);
	if (optimistic && asc_session_heap(s))
		put_unverified(asc_session_heap(s), o);
	else
		asc_out_field(o, "unverified_arenas", NULL, ASC_V_NONE);
	asc_out_field(o, "residency", NULL, p->residency ? ASC_V_STR(p->residency) : ASC_V_NONE);
	asc_out_object_end(o);
}

static void warn_core(struct asc_session *s, struct asc_out *o)
{
	const struct asc_core_info *c = s->live ? NULL : asc_core_info(s->data);
	char a[32], b[32], m[32];

	if (!c)
		return;
	if (c->truncated) {
		WARN(s, o, SAID_CORE, "W-TRUNCATED",
		     "the core is truncated: %s promised, %s there, %s of memory missing%s%s",
		     asc_fmt_bytes(a, c->promised_bytes, false),
		     asc_fmt_bytes(b, c->file_bytes, false),
		     asc_fmt_bytes(m, c->missing_bytes, false), c->damage ? "; " : "",
		     c->damage ? c->damage : "");
		asc_out_partial(o);
	} else if (c->damage) {
		WARN(s, o, SAID_CORE, "W-DAMAGED",
		     "%s, though all of the core came out: some of it may not be what was packed",
		     c->damage);
		asc_out_partial(o);
	}
	if (s->residency && s->residency->source == ASC_RESIDENCY_CORE)
		WARN(s, o, SAID_CORE_PAGES, "W-CORE-PAGES",
		     "a core does not say which pages were in memory: resident means in the core "
		     "and not all zero");
}

static void warn_libc(struct asc_session *s, struct asc_out *o)
{
	const struct asc_heap_libc *libc = libc_of(s);

	if (libc && libc->layout && strcmp(libc->layout, "dwarf"))
		WARN(s, o, SAID_LAYOUT, "W-LAYOUT",
		     "no debug file for libc (build-id %s): its layout is from %s, "
		     "checked by invariants; `symbols` says what was tried",
		     *libc->build_id ? libc->build_id : "unknown",
		     strcmp(libc->layout, "table") ? "a scan of its memory" : "the built-in table");
	if (s->other_libcs) {
		ASC_AUTO(asc_freep) char *text = asc_error_text(s->other_libcs);
		WARN(s, o, SAID_OTHER_LIBC, "W-LIBC", "a further copy of libc is not shown: %s",
		     text ? text : "?");
		asc_out_partial(o);
	}
}

static void warn_stop(struct asc_session *s, struct asc_out *o)
{
	if (s->possibly_inconsistent)
		WARN(s, o, SAID_INCONSISTENT, "W-NO-STOP",
		     "read while it ran (--no-stop), %zu of its threads meanwhile: possibly "
		     "inconsistent",
		     s->ran);
	else if (s->opts.no_stop && s->live)
		WARN(s, o, SAID_INCONSISTENT, "W-NO-STOP",
		     "not stopped (--no-stop), but no thread of it ran while it was read: "
		     "consistent");
	if (s->busy && !s->any_moment) {
		WARN(s, o, SAID_BUSY, "W-BUSY",
		     "malloc was in the middle of an operation at every one of %u stops: the "
		     "arenas concerned may not add up",
		     s->busy_retries + 1);
		asc_out_partial(o);
	}
	if (s->provenance.unverified_bytes) {
		char a[32], b[32], c[32], arenas[256];

		WARN(s, o, SAID_UNVERIFIED, "W-UNVERIFIED",
		     "%s%s changed while they were read (--capture=optimistic) and may be of "
		     "another "
		     "moment than the stop: what is on them is not proven (%s were read in the "
		     "stop, "
		     "%s were the same before and after it)",
		     asc_fmt_bytes(a, s->provenance.unverified_bytes, false),
		     name_unverified(asc_session_heap(s), arenas, sizeof(arenas)),
		     asc_fmt_bytes(b, s->provenance.reread_bytes, false),
		     asc_fmt_bytes(c, s->provenance.steady_bytes, false));
		asc_out_partial(o);
	}
	if (s->frozen[0])
		WARN(s, o, SAID_FROZEN, "W-FROZEN",
		     "the target is in a frozen cgroup (%s): nothing of it runs until it is thawed",
		     s->frozen);
	else if (s->pause.not_stopped)
		WARN(s, o, SAID_DSTATE, "W-DSTATE",
		     "%u threads did not come to their stop in time (uninterruptible sleep, or no "
		     "CPU)",
		     s->pause.not_stopped);
	if (s->pause.threads && s->opts.max_pause_ms && !s->opts.hold && !s->opts.no_stop &&
	    s->pause.ms > (double)s->opts.max_pause_ms)
		asc_out_warn(o, "W-PAUSE",
			     "the target was stopped for %.0f ms, over --max-pause=%llums",
			     s->pause.ms, (unsigned long long)s->opts.max_pause_ms);
	if (s->pause.watchdog) {
		asc_out_warn(o, "W-WATCHDOG",
			     "the target was let go before everything was read, over the pause "
			     "budget: what does not add up is no damage");
		asc_out_partial(o);
	}
	if (asc_session_pages_later(s) && s->have & (ASC_NEED_RESIDENCY | ASC_NEED_LEDGER)) {
		char rss[32];

		WARN(s, o, SAID_LATER, "W-APPROXIMATE",
		     "which pages were in memory was asked right after the stop, in which it would "
		     "have taken too long: resident bytes are of that moment, and not verified (in "
		     "the stop the kernel counted an Rss of %s)",
		     s->kernel_rss_known ? asc_fmt_bytes(rss, s->kernel_rss, false) : "?");
	}
	if (s->residency && s->residency->source == ASC_RESIDENCY_UNKNOWN) {
		WARN(s, o, SAID_PAGEMAP, "W-PAGEMAP",
		     "which pages are in memory is unknown (%s): resident columns are unknown, "
		     "trim is an upper bound",
		     s->residency->why_unknown ? s->residency->why_unknown : "pagemap unreadable");
		asc_out_partial(o);
	}
}

void asc_partial_tcaches(const struct asc_session *s, struct asc_out *o)
{
	for (size_t i = 0; i < s->nheaps; i++)
		if (s->heaps[i] && !s->heaps[i]->tcaches_known)
			asc_out_partial(o);
}

static void warn_heap(struct asc_session *s, struct asc_out *o)
{
	const struct asc_heap *heap = asc_session_heap(s);
	size_t corrupt = 0;

	for (size_t i = 0; heap && i < heap->nfindings; i++)
		corrupt += heap->findings[i].severity == ASC_SEV_CORRUPT;
	if (heap && !heap->tcaches_known) {
		WARN(s, o, SAID_TCACHES, "W-TCACHE",
		     "the tcaches of some threads could not be found: what they cache is counted "
		     "as in use, and how much that is is not known");
		if (s->ledger)
			asc_out_partial(o);
	}
	if (corrupt)
		asc_out_warn(o, "W-CORRUPT",
			     "the heap is damaged in %zu place%s: `check` names them", corrupt,
			     corrupt == 1 ? "" : "s");
	if (heap && !heap->complete)
		asc_out_partial(o);
}

void asc_session_head(void *session, struct asc_out *o)
{
	struct asc_session *s = session;
	char at[32] = "", schema[64];
	struct tm tm;
	time_t t = (time_t)s->taken_at;
	bool live = s->live && !s->opts.no_stop && s->pause.threads;

	if (s->command) {
		snprintf(schema, sizeof(schema), "arenascope/%s", s->command);
		asc_out_field(o, "schema", NULL, ASC_V_STR(schema));
		asc_out_field(o, "schema_version", NULL, ASC_V_STR("1.0"));
	}
	if (gmtime_r(&t, &tm))
		strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", &tm);
	asc_out_object(o, "tool", NULL);
	asc_out_field(o, "name", NULL, ASC_V_STR("arenascope"));
	asc_out_field(o, "version", NULL, ASC_V_STR(ASC_VERSION));
	asc_out_object_end(o);
	asc_out_field(o, "taken_at", NULL, ASC_V_STR(at));
	/* Replaced at the end; here for their place in the document. */
	asc_out_field(o, "complete", NULL, ASC_V_BOOL(true));
	asc_out_list(o, "warnings", NULL);
	asc_out_list_end(o);
	put_target(s, o);
	put_libc(s, o);
	asc_out_field(o, "pause_ms", NULL, live ? ASC_V_MS(s->pause.ms) : ASC_V_NONE);
	put_capture(s, o);
	warn_stop(s, o);
	warn_core(s, o);
	warn_libc(s, o);
	warn_heap(s, o);
}

/* "up 9d 04:12", or "" */
static void uptime(const struct asc_session *s, char *buf, size_t size)
{
	struct asc_proc_stat st;
	struct timespec ts;
	long tick = sysconf(_SC_CLK_TCK);

	buf[0] = 0;
	if (!s->live || tick <= 0 || asc_proc_stat(asc_target_pid(s->live), 0, &st) ||
	    clock_gettime(CLOCK_BOOTTIME, &ts))
		return;
	double up = (double)ts.tv_sec - (double)st.starttime / (double)tick;
	const struct asc_out_opts plain = { 0 };
	ASC_AUTO(asc_freep)
	char *text = up >= 0 ? asc_fmt_value(ASC_V_SECONDS(up), &plain, false) : NULL;
	if (text)
		snprintf(buf, size, "   up %s", text);
}

/* "frontend  pid 48213   148 threads   up 9d 04:12   glibc 2.36 (symbols: dwarf)   ..." */
static void headline(const struct asc_session *s, struct asc_out *o)
{
	const struct asc_heap *heap = asc_session_heap(s);
	ASC_AUTO(asc_freep) char *name = asc_escape(asc_target_name(s->data));
	char up[64], libc[128] = "", pause[64] = "", arenas[64] = "", pid[32] = "";
	size_t threads, heaps = 0;

	asc_target_threads(s->data, &threads);
	uptime(s, up, sizeof(up));
	if (asc_target_pid(s->data))
		snprintf(pid, sizeof(pid), "  pid %d", (int)asc_target_pid(s->data));
	if (heap)
		snprintf(libc, sizeof(libc), "   glibc %s (symbols: %s)",
			 *heap->libc.version ? heap->libc.version : "?", heap->libc.layout);
	else if (s->allocator)
		snprintf(libc, sizeof(libc), "   malloc: %s", s->allocator);
	if (s->live && s->pause.threads && !s->opts.no_stop)
		snprintf(pause, sizeof(pause), "   paused %.*f ms", s->pause.ms < 10 ? 1 : 0,
			 s->pause.ms);
	for (size_t i = 0; heap && i < heap->narenas; i++)
		heaps += heap->arenas[i].nregions;
	if (heap)
		snprintf(arenas, sizeof(arenas), "   %zu arena%s, %zu heap%s", heap->narenas,
			 heap->narenas == 1 ? "" : "s", heaps, heaps == 1 ? "" : "s");
	asc_out_text(o, "%s%s%s%s   %zu thread%s%s%s%s%s%s", asc_out_color(o, ASC_C_BOLD),
		     name ? name : "?", asc_out_color(o, ASC_C_NONE), pid, threads,
		     threads == 1 ? "" : "s", up, libc, s->live ? "" : "   core", pause, arenas);
}

static void head(void *arg, struct asc_out *o)
{
	const struct asc_session *s = arg;

	asc_session_head(arg, o);
	if (!asc_out_is_text(o) || !s->headline)
		return;
	headline(s, o);
}

struct asc_error *asc_session_run(struct asc_session *s, const struct asc_cmd *cmd,
				  const struct asc_args *args, struct asc_out *o,
				  bool *ret_complete)
{
	if (asc_out_opts(o)->format == ASC_OPENMETRICS &&
	    cmd->flags & (ASC_CMD_STREAM | ASC_CMD_RAW))
		return asc_usage(cmd, "has no metrics: --format=json, jsonl or csv");
	if (cmd->flags & ASC_CMD_WRITES && !s->opts.dry_run)
		ASC_TRY(asc_may_act(s, cmd->name));
	s->any_moment = false; /* as a command before may have wanted it */
	asc_addr at;
	if (cmd->flags & ASC_CMD_AT && asc_parse_addr(asc_args_at(args, 0), &at) && at)
		ASC_TRY(asc_session_need_at(s, at));
	else
		ASC_TRY(asc_session_need(s, cmd->needs));
	s->command = cmd->name;
	s->headline = cmd->flags & ASC_CMD_HEADLINE_ALWAYS ||
		      (cmd->flags & ASC_CMD_HEADLINE && !s->opts.interactive);
	asc_out_begin(o, cmd->name);
	asc_out_set_head(o, head, s);
	struct asc_error *err = cmd->run(s, args, o);
	if (err) {
		asc_out_cancel(o);
		return err;
	}
	*ret_complete = !asc_out_is_partial(o);
	return asc_out_end(o, *ret_complete);
}
