/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A session: one target, and what has been read from it so far. Commands ask for what they need;
 * it is opened on first need, in the order that keeps the target stopped for the shortest time.
 */
#ifndef ASC_COMMANDS_SESSION_H
#define ASC_COMMANDS_SESSION_H

#include <signal.h>

#include "arenascope/act.h"
#include "arenascope/heap.h"
#include "arenascope/ledger.h"
#include "arenascope/target.h"
#include "glibc/layout.h"
#include "symbols/modules.h"

enum asc_needs {
	ASC_NEED_TARGET = 1,  /* maps, threads */
	ASC_NEED_SYMBOLS = 2, /* modules */
	ASC_NEED_LIBC = 4,    /* layouts; fails with 69/78 when there is no glibc malloc */
	ASC_NEED_LISTS = 8,   /* heaps[] with free lists */
	ASC_NEED_WALK = 16,   /* heaps[] with chunk tables */
	ASC_NEED_RESIDENCY = 32,
	ASC_NEED_LEDGER =
		64, /* ledger (implies LISTS and RESIDENCY; works without a glibc heap too) */
	ASC_NEED_REGS = 128,   /* thread registers */
	ASC_NEED_STACKS = 256, /* stack memory of every thread is captured */
	ASC_NEED_ARENAS =
		1024,	       /* heaps[] with arenas and tcaches; no list of free chunks is read */
	ASC_NEED_COUNTS = 512, /* LISTS, and WALK where that fits into the pause budget */
};

enum asc_capture_mode { ASC_CAP_AUTO, ASC_CAP_COPY, ASC_CAP_OPTIMISTIC, ASC_CAP_FORK };

/* From the command line and `set`. Strings are borrowed from argv or owned by the session. */
struct asc_session_opts {
	pid_t pid;
	const char *core, *exe;
	struct asc_symbol_opts symbols;
	uint64_t max_pause_ms; /* default 500 */
	enum asc_capture_mode capture;
	bool no_stop, hold, yes, dry_run, force;
	uint64_t wait_ms;    /* default 5000 */
	uint64_t max_memory; /* bytes; default 1/8 of RAM */
	bool quiet, verbose;
	bool progress;
	bool interactive; /* REPL: may ask */
};

/* How what a session holds was read. */
struct asc_provenance {
	const char *
		engine; /* "copy", "direct", "optimistic", "fork"; static; NULL: nothing was read */
	unsigned rounds; /* stops that it took; 0: none */
	/* which pages were in memory: "stop", "before" (and the kernel's counters say that nothing has
	 * changed), "after" (of the stop: in it, asking would have taken too long), "child" (of a fork,
	 * which has a copy of the page tables); static; NULL: not read */
	const char *residency;
	uint64_t reread_bytes;	   /* optimistic: read in the stop */
	uint64_t steady_bytes;	   /* read before it, and the same after it */
	uint64_t unverified_bytes; /* changed meanwhile: chunk boundaries in them are not proven */
	uint64_t estimate_ms;	   /* of the pause, before it; 0: none was made */
};

struct asc_session {
	struct asc_session_opts opts;
	struct asc_target *live; /* the process itself, or NULL for a core */
	struct asc_target *data; /* what analyses read: a capture, a core, or == live when held */
	struct asc_modules *modules;
	struct asc_libc *libcs; /* [0] is the primary */
	size_t nlibcs;
	struct asc_heap **heaps; /* as libcs */
	size_t nheaps;
	struct asc_residency *residency;
	struct asc_ledger *ledger;
	uint64_t kernel_rss;
	bool kernel_rss_known;
	struct asc_pause pause; /* of the last stop */
	struct asc_provenance provenance;
	unsigned busy_retries; /* how often malloc was in the middle of something */
	bool busy;	       /* and still was at last */
	bool in_malloc;	       /* a thread that takes no lock was inside: every arena is busy */
	bool any_moment;       /* stuck, stacks: malloc in mid-operation is what they look for */
	unsigned have;	       /* enum asc_needs that are fulfilled */
	bool heap_is_kept;     /* another reading of the same, by an optimistic capture */
	bool possibly_inconsistent; /* --no-stop, and threads ran while it was read */
	size_t ran;		    /* how many of them */
	int64_t taken_at;	    /* seconds since the epoch, of the last read */
	const char *
		allocator; /* "glibc", "jemalloc", "tcmalloc", "mimalloc", "musl" ...; static; NULL unknown */
	const char *allocator_module;  /* path, or NULL */
	const char *command;	       /* whose document is being written */
	bool headline;		       /* its text begins with a line about the target */
	struct asc_error *no_heap;     /* why there is no glibc heap, or NULL */
	struct asc_error *other_libcs; /* why a further libc could not be read, or NULL */
	uint64_t captured_bytes;
	int spill_fd;	  /* for tables beyond --max-memory, opened before a stop; 0: none */
	asc_addr focus;	  /* of asc_session_need_at() while it reads */
	char frozen[512]; /* the file that thaws the live target, or "" */
	unsigned said;	  /* warnings that text shows once a session (head.c) */
	uint64_t progress_start, progress_drawn; /* ms; 0: nothing drawn */
};

/* Set by the SIGINT handler in main.c; long loops look at it through asc_interrupted(). */
bool asc_interrupted(void);
/* Progress callback for heap and capture: draws on stderr, false after Ctrl-C. */
bool asc_session_progress(void *session, uint64_t done, uint64_t total);

/* Fields that stand in front of every document, warnings that concern all of it. @p session */
struct asc_out;
void asc_session_head(void *session, struct asc_out *o);
/* For commands that show states of chunks: partial if tcaches were not found (W-TCACHE). */
void asc_partial_tcaches(const struct asc_session *s, struct asc_out *o);
/* Run @p command's document: needs, head, run, end. @p ret_complete: exit status 0 or 1. */
struct asc_cmd;
struct asc_args;
ASC_MUST struct asc_error *asc_session_run(struct asc_session *s, const struct asc_cmd *cmd,
					   const struct asc_args *args, struct asc_out *o,
					   bool *ret_complete);
/* Put a warning line on stderr; the progress line is wiped first. */
void asc_session_note(struct asc_session *s, const char *fmt, ...) ASC_PRINTF(2, 3);
/* Stop and keep stopped (--hold, REPL `hold`), and let go again. */
void asc_session_release(struct asc_session *s);

/* Open the target named by @p opts (copied; its strings are borrowed). */
ASC_MUST struct asc_error *asc_session_open(const struct asc_session_opts *opts,
					    struct asc_session **ret);
/* Fulfil @p needs; what is there already is kept, so one stop serves all. */
ASC_MUST struct asc_error *asc_session_need(struct asc_session *s, unsigned needs);
/* E-EXITED or E-EXEC once a live target has gone; what was read stays. */
ASC_MUST struct asc_error *asc_session_alive(struct asc_session *s);
/*
 * ASC_NEED_WALK | ASC_NEED_RESIDENCY of the arena that holds @p addr alone; of the others there are
 * headers. Nothing but this call's caller relies on it: the next need reads again.
 */
ASC_MUST struct asc_error *asc_session_need_at(struct asc_session *s, asc_addr addr);
/* Forget what was read; the next need reads again. */
void asc_session_refresh(struct asc_session *s);
/* Always releases the target. NULL is fine. */
void asc_session_close(struct asc_session *s);

/* Are the pages of a moment after that of the heaps? The ledger is approximate then, and says so. */
bool asc_session_pages_later(const struct asc_session *s);

/* The primary heap, or NULL. */
const struct asc_heap *asc_session_heap(const struct asc_session *s);

#endif
