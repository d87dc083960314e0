// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * One stop serves all: whatever is slow and needs no stop (modules, DWARF, the estimate) comes
 * first; then the target is stopped, read or copied, released; the model is built from the copy
 * while it runs on. What was read before is read again in the same stop, so that everything a
 * session holds is of one moment.
 */
#include "commands/session.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/capture.h"
#include "render/render.h"
#include "symbols/allocator.h"
#include "target/proc.h"

/* What one stop reads; SYMBOLS and LIBC do not need it. */
static const unsigned STOPPED_NEEDS = ASC_NEED_LISTS | ASC_NEED_WALK | ASC_NEED_RESIDENCY |
				      ASC_NEED_LEDGER | ASC_NEED_REGS | ASC_NEED_STACKS |
				      ASC_NEED_COUNTS | ASC_NEED_ARENAS;

const struct asc_heap *asc_session_heap(const struct asc_session *s)
{
	return s->nheaps ? s->heaps[0] : NULL;
}

struct asc_error *asc_session_open(const struct asc_session_opts *opts, struct asc_session **ret)
{
	struct asc_session *s = calloc(1, sizeof(*s));
	struct asc_error *err;

	if (!s)
		return asc_err(ASC_ENOMEM, "opening a session");
	s->opts = *opts;
	if (opts->core) {
		struct asc_core_opts co = { .exe = opts->exe,
					    .root = opts->symbols.root,
					    .progress = asc_session_progress,
					    .progress_arg = s };
		err = asc_core_open(opts->core, &co, &s->data);
	} else {
		struct asc_live_opts lo = { .no_stop = opts->no_stop };
		err = asc_live_open(opts->pid, &lo, &s->live);
		s->data = s->live;
	}
	if (err) {
		free(s);
		return err;
	}
	s->opts.symbols.arg = s;
	s->taken_at = time(NULL);
	s->have = ASC_NEED_TARGET;
	*ret = s;
	return NULL;
}

/* Everything that one stop has read. */
void asc_session_forget(struct asc_session *s)
{
	for (size_t i = 0; i < s->nheaps; i++)
		asc_heap_free(s->heaps[i]);
	free(s->heaps);
	s->heaps = NULL;
	s->nheaps = 0;
	asc_ledger_free(s->ledger);
	s->ledger = NULL;
	asc_residency_free(s->residency);
	s->residency = NULL;
	s->kernel_rss_known = false;
	if (s->live && s->data != s->live) {
		if (s->modules)
			asc_modules_retarget(s->modules, s->live);
		asc_target_close(s->data);
		s->data = s->live;
	}
	s->busy = s->in_malloc = false;
	s->busy_retries = 0;
	s->captured_bytes = 0;
	if (s->spill_fd > 0 && ftruncate(s->spill_fd, 0))
		s->spill_fd = (close(s->spill_fd), 0); /* what was in it goes with it */
	s->provenance = (struct asc_provenance){ 0 };
	asc_error_free(s->other_libcs);
	s->other_libcs = NULL;
	s->have &= ~STOPPED_NEEDS;
}

static void forget_symbols(struct asc_session *s)
{
	free(s->libcs);
	s->libcs = NULL;
	s->nlibcs = 0;
	asc_modules_close(s->modules);
	s->modules = NULL;
	asc_error_free(s->no_heap);
	s->no_heap = NULL;
	s->allocator = s->allocator_module = NULL;
	s->have &= ~(unsigned)(ASC_NEED_SYMBOLS | ASC_NEED_LIBC);
}

void asc_session_release(struct asc_session *s)
{
	if (s->live)
		asc_target_release(s->live, &s->pause);
}

void asc_session_refresh(struct asc_session *s)
{
	asc_session_release(s);
	asc_session_forget(s);
	if (s->live)
		forget_symbols(s); /* libraries may have come and gone */
	s->taken_at = time(NULL);
}

void asc_session_close(struct asc_session *s)
{
	if (!s)
		return;
	asc_session_release(s);
	asc_session_forget(s);
	forget_symbols(s);
	if (s->data != s->live)
		asc_target_close(s->data);
	asc_target_close(s->live);
	if (s->spill_fd > 0)
		close(s->spill_fd);
	free(s);
}

/* ---- progress ---- */

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void wipe_progress(struct asc_session *s)
{
	if (s->progress_drawn)
		fputs("\r\033[K", stderr);
	s->progress_start = s->progress_drawn = 0;
}

bool asc_session_progress(void *session, uint64_t done, uint64_t total)
{
	struct asc_session *s = session;
	char a[32], b[32];
	uint64_t now = now_ms();

	if (asc_interrupted())
		return false;
	if (!s->opts.progress || s->opts.quiet)
		return true;
	if (!s->progress_start)
		s->progress_start = now;
	if (now - s->progress_start < 500 || now - s->progress_drawn < 100)
		return true;
	s->progress_drawn = now;
	if (total)
		fprintf(stderr, "\r\033[K%3.0f%%  %s of %s", 100.0 * (double)done / (double)total,
			asc_fmt_bytes(a, done, false), asc_fmt_bytes(b, total, false));
	else
		fprintf(stderr, "\r\033[K%s", asc_fmt_bytes(a, done, false));
	return true;
}

void asc_session_note(struct asc_session *s, const char *fmt, ...)
{
	va_list ap;

	wipe_progress(s);
	if (s->opts.quiet)
		return;
	fflush(stdout);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	putc('\n', stderr);
}

/* ---- before the stop ---- */

static struct asc_error *open_symbols(struct asc_session *s)
{
	struct asc_module *mod = NULL;

	ASC_TRY(asc_modules_open(s->data, &s->opts.symbols, &s->modules));
	s->have |= ASC_NEED_SYMBOLS;
	s->allocator = asc_allocator_detect(s->modules, s->data, &mod);
	s->allocator_module = mod ? mod->path : NULL;
	return NULL;
}

static bool is_glibc(const struct asc_session *s)
{
	if (!s->allocator || !strcmp(s->allocator, "glibc"))
		return true;
	/* it may pass everything on, or its own arena could be read */
	return !strcmp(s->allocator, "malloc_debug") && s->nlibcs &&
	       !asc_libc_unused(s->data, &s->libcs[0]);
}

static void find_libc(struct asc_session *s)
{
	if (s->have & ASC_NEED_LIBC || s->no_heap)
		return;
	s->no_heap = asc_libc_find(s->modules, s->data, &s->libcs, &s->nlibcs);
	if (!s->no_heap)
		s->have |= ASC_NEED_LIBC;
}

static struct asc_error *copy_error(const struct asc_error *e)
{
	ASC_AUTO(asc_freep) char *text = asc_error_text(e);
	const char *id = asc_error_id(e), *why = asc_error_why(e), *hint = asc_error_hint(e);
	struct asc_error *err =
		asc_err_id(asc_err(e->code, "%s", text ? text : "no glibc heap"), id);

	if (why)
		asc_err_why(err, "%s", why);
	return hint ? asc_err_try(err, "%s", hint) : err;
}

/* ---- after it ---- */

/* The program's malloc is not glibc's: what that means, measured. */
static struct asc_error *foreign_allocator(struct asc_session *s)
{
	const struct asc_ledger *l = s->ledger;
	ASC_AUTO(asc_freep)
	char *path = s->allocator_module ? asc_escape(s->allocator_module) : NULL;

	struct asc_error *err = asc_err_id(
		strcmp(s->allocator, "another")
			? asc_err(ASC_EUNSUPPORTED, "this program's malloc is %s, not glibc's",
				  s->allocator)
			: asc_err(ASC_EUNSUPPORTED, "this program's malloc is not glibc's"),
		"E-ALLOCATOR");
	if (l && l->known && l->rss && asc_session_heap(s))
		asc_err_why(err, "%s provides malloc; glibc's arenas hold %.1f%% of RSS",
			    path ? path : s->allocator,
			    100.0 * (double)(l->malloc_pages.resident + l->mmapped_chunks) /
				    (double)l->rss);
	else if (path)
		asc_err_why(err, "%s provides malloc", path);
	asc_err_try(err, "rss, threads and stacks work");
	return asc_err_try(err, "--force shows glibc's arenas all the same");
}

struct asc_error *asc_session_alive(struct asc_session *s)
{
	struct asc_proc_stat st;
	pid_t pid = s->live ? asc_target_pid(s->live) : 0;

	if (!s->live || asc_target_alive(s->live))
		return NULL;
	bool there = !asc_proc_stat(pid, 0, &st) && st.state != 'Z' && st.state != 'X';
	struct asc_error *err =
		there ? asc_err_id(asc_err(ASC_EAGAIN, "process %d has started another program",
					   (int)pid),
				   "E-EXEC")
		      : asc_err_id(asc_err(ASC_ENOTARGET, "process %d has ended", (int)pid),
				   "E-EXITED");
	if (s->have & STOPPED_NEEDS)
		asc_err_why(err, "it cannot be read again; what was read before stays");
	return there ? asc_err_try(err, "attach %d, or arenascope -p %d", (int)pid, (int)pid) : err;
}

static unsigned imply(unsigned needs)
{
	if (needs & ASC_NEED_LEDGER)
		needs |= ASC_NEED_RESIDENCY | ASC_NEED_SYMBOLS | ASC_NEED_REGS;
	if (needs & (ASC_NEED_WALK | ASC_NEED_COUNTS))
		needs |= ASC_NEED_LISTS;
	if (needs & ASC_NEED_LISTS)
		needs |= ASC_NEED_ARENAS;
	if (needs & ASC_NEED_ARENAS)
		needs |= ASC_NEED_LIBC;
	if (needs & (ASC_NEED_LIBC | ASC_NEED_STACKS))
		needs |= ASC_NEED_SYMBOLS | ASC_NEED_REGS;
	return needs | ASC_NEED_TARGET;
}

struct asc_error *asc_session_need(struct asc_session *s, unsigned asked)
{
	unsigned needs = imply(asked);
	bool heap = needs & (ASC_NEED_LIBC | ASC_NEED_HEAPS);

	if (s->have & ASC_NEED_WALK) /* what a walk has given need not be read again */
		needs &= ~(unsigned)ASC_NEED_COUNTS;
	if (s->have & ASC_NEED_WALK)
		needs |= ASC_NEED_WALK; /* a walk is also the lists */
	if ((needs & ASC_NEED_SYMBOLS || heap) && !s->modules) {
		ASC_TRY(asc_session_alive(s));
		ASC_TRY(open_symbols(s));
	}
	if (heap || needs & ASC_NEED_LEDGER)
		find_libc(s);
	if (s->no_heap && heap)
		return copy_error(s->no_heap);
	if (s->have & ASC_NEED_LIBC && needs & ASC_NEED_LEDGER)
		needs |= ASC_NEED_LISTS;
	bool foreign = heap && !is_glibc(s) && !s->opts.force;
	if (foreign)
		needs = imply(ASC_NEED_LEDGER) | ASC_NEED_LISTS;

	unsigned missing = needs & STOPPED_NEEDS & ~s->have;
	if (missing) {
		ASC_TRY(asc_session_alive(s));
		/* again what was there: one moment for all of it */
		needs |= s->have & STOPPED_NEEDS;
		asc_session_forget(s);
		struct asc_error *err = asc_session_read(s, &needs);
		wipe_progress(s);
		if (err) {
			asc_session_forget(s);
			return err;
		}
		s->have |= needs & STOPPED_NEEDS;
	}
	return foreign ? foreign_allocator(s) : NULL;
}

struct asc_error *asc_session_need_at(struct asc_session *s, asc_addr addr)
{
	struct asc_error *err;

	if (!(s->have & ASC_NEED_WALK))
		s->focus = addr;
	err = asc_session_need(s, ASC_NEED_TARGET | ASC_NEED_WALK | ASC_NEED_RESIDENCY);
	if (s->focus)
		s->have &= ~STOPPED_NEEDS;
	s->focus = 0;
	return err;
}
