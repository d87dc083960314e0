/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who waits for what, who holds it, and whether anything moves. Works on one look (a core) or two
 * looks some 100 ms apart, which tell waiting from progress. Nothing is called or locked in the
 * target.
 */
#ifndef ASC_ANALYSIS_STUCK_H
#define ASC_ANALYSIS_STUCK_H

#include "analysis/traces.h"
#include "arenascope/heap.h"
#include "target/cputime.h"

enum asc_lock_kind {
	ASC_LOCK_ARENA,
	ASC_LOCK_LIST,	    /* list_lock: the ring of arenas changes */
	ASC_LOCK_FREE_LIST, /* free_list_lock */
	ASC_LOCK_LOADER,
	ASC_LOCK_STDIO,
	ASC_LOCK_MUTEX,
	ASC_LOCK_RWLOCK,
	ASC_LOCK_ONCE,	   /* pthread_once or the guard of a C++ static */
	ASC_LOCK_LOWLEVEL, /* some other lock inside libc */
	ASC_LOCK_FUTEX,	   /* a futex of the program's own */
};
const char *asc_lock_kind_name(enum asc_lock_kind k); /* "arena", "list_lock", "loader" ... */

enum asc_doing {
	ASC_DOING_UNKNOWN,
	ASC_DOING_RUN,	/* in user mode */
	ASC_DOING_IDLE, /* waits for work: poll, sleep, condition variable, join ... */
	ASC_DOING_LOCK, /* waits for a lock */
	ASC_DOING_DISK, /* uninterruptible sleep */
	ASC_DOING_STOP, /* stopped by a signal */
	ASC_DOING_CALL, /* in some other system call */
};

enum asc_sure { ASC_SURE_NOT, ASC_SURE_LOW, ASC_SURE_MEDIUM, ASC_SURE_HIGH, ASC_SURE_CERTAIN };
const char *asc_sure_name(enum asc_sure s); /* "low" ... "certain" */

struct asc_stuck_thread {
	pid_t tid;
	enum asc_doing doing;
	char what[96];		   /* "arena 1 lock", "poll", "condition variable 0x..", "" */
	asc_addr futex;		   /* 0: none */
	int lock;		   /* index into locks, -1 */
	pid_t joins;		   /* waits for the end of this thread; 0: does not */
	bool unseen;		   /* what it does further out is not known: no or half a stack */
	bool in_malloc;		   /* inside malloc's functions */
	bool holds_lock_functions; /* inside those that run under an arena's lock */
	bool handler_malloc;	   /* malloc in a signal handler */
	bool handler_over_malloc;  /* ... that interrupted malloc */
	bool moved;		   /* between the looks */
	bool same_call;		   /* in malloc, called from the same frame in both looks */
};

struct asc_stuck_lock {
	enum asc_lock_kind kind;
	asc_addr addr;
	int arena; /* index, -1 */
	char name[64];
	bool value_known;
	uint32_t value;
	pid_t holder; /* 0: unknown; may be no thread of the process (holder_gone) */
	bool holder_gone;
	enum asc_sure sure;
	char how[96]; /* where the holder is known from */
	pid_t *waiters;
	size_t nwaiters;
	bool moved; /* waiters or holder changed between the looks */
};

enum asc_stuck_verdict {
	ASC_STUCK_IDLE,	    /* nothing is stuck */
	ASC_STUCK_BUSY,	    /* contended, but it moves */
	ASC_STUCK_UNCLEAR,  /* one look cannot tell */
	ASC_STUCK_DISK,	    /* threads in uninterruptible sleep */
	ASC_STUCK_STOPPED,  /* the process is stopped by a signal */
	ASC_STUCK_FROZEN,   /* the process is in a frozen cgroup */
	ASC_STUCK_BLOCKED,  /* behind a holder that sleeps */
	ASC_STUCK_LOOP,	    /* behind a holder that runs on the spot */
	ASC_STUCK_ORPHANED, /* the holder is no thread of this process */
	ASC_STUCK_DEADLOCK,
};
const char *asc_stuck_verdict_name(enum asc_stuck_verdict v); /* "idle", "busy" ... */

struct asc_stuck {
	enum asc_stuck_verdict verdict;
	char summary[512]; /* one line */
	unsigned looks;
	struct asc_stuck_thread *threads; /* in the order of the last look */
	size_t nthreads;
	struct asc_stuck_lock *locks; /* the worst first */
	size_t nlocks;
	bool *arena_moved; /* something was done in it between the looks */
	size_t narenas;
	pid_t *cycle; /* of a deadlock: each waits for the next, the last for the first */
	size_t ncycle;
	bool fork_child; /* looks like the child of a threaded process that forked without exec */
};

/* What one look saw. Borrowed by asc_stuck_make. */
struct asc_look {
	struct asc_target *t;
	const struct asc_traces *traces;
	const struct asc_heap *heap; /* or NULL */
	const struct asc_libc *lib;  /* or NULL */
	struct asc_modules *m;
	struct asc_target
		*now; /* the process as it runs on, for words that were not captured; or NULL */
	const char *frozen; /* the file that thaws the process, or NULL */
	/* nanoseconds on a CPU at the beginning and the end of the time between the looks; may be
	 * empty */
	const struct asc_cpu_time *cpu_before, *cpu_after;
	size_t ncpu_before, ncpu_after;
};

/* What of a look is kept for the comparison with the next one. */
struct asc_look_memo;
ASC_MUST struct asc_error *asc_look_remember(const struct asc_look *look,
					     struct asc_look_memo **ret);
void asc_look_memo_free(struct asc_look_memo *memo);
void asc_look_memo_freep(struct asc_look_memo **memo);

/* @p before: the first of two looks, or NULL if there is only this one. */
ASC_MUST struct asc_error *asc_stuck_make(const struct asc_look *look,
					  const struct asc_look_memo *before,
					  struct asc_stuck **ret);
/* A thread may be looping over corrupt lists: a walk of the heap (look->heap->walked) would tell. */
bool asc_stuck_suspects_loop(const struct asc_stuck *s);
/* Does anybody seem to run on the spot inside malloc? Then look->heap needs its lists. */
bool asc_stuck_may_loop(const struct asc_stuck *s);
void asc_stuck_free(struct asc_stuck *s);
void asc_stuck_freep(struct asc_stuck **s);

/* What one thread does, no locks resolved: `threads` shows it. @p trace may be NULL. */
void asc_stuck_classify(const struct asc_look *look, const struct asc_thread *th,
			const struct asc_trace *trace, struct asc_stuck_thread *ret,
			enum asc_lock_kind *ret_kind);

#endif
