/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The verdict. Threads that wait point at the lock, the lock at its holder; a circle is a deadlock,
 * a chain ends at whoever is to blame. What moved between two looks is not dead.
 */
#include "analysis/stuck.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/stuck_priv.h"
#include "base/cleanup.h"
#include "base/num.h"

const char *asc_lock_kind_name(enum asc_lock_kind k)
{
	static const char *const names[] = { "arena", "list_lock", "free_list_lock", "loader",
					     "stdio", "mutex",	   "rwlock",	     "once",
					     "libc",  "futex" };

	return names[k];
}

const char *asc_sure_name(enum asc_sure s)
{
	static const char *const names[] = { "none", "low", "medium", "high", "certain" };

	return names[s];
}

const char *asc_stuck_verdict_name(enum asc_stuck_verdict v)
{
	static const char *const names[] = {
		"idle",	  "busy",    "unclear", "disk_wait", "stopped",
		"frozen", "blocked", "loop",	"orphaned",  "deadlock"
	};

	return names[v];
}

/* ---- two looks ---- */

struct memo {
	pid_t tid;
	uint64_t hash; /* of the stack and the system call's arguments */
	uint64_t ticks;
	asc_addr call_sp,
		call_pc; /* the caller of the outermost malloc function, 0: not in malloc */
};

struct asc_look_memo {
	struct memo *v;
	size_t n;
	struct arena_memo {
		asc_addr addr;
		uint64_t hash; /* of its header without the lock: tops, bins, sums */
	} * arenas;
	size_t narenas;
};

static uint64_t mix(uint64_t h, uint64_t v)
{
	return (h ^ v) * 0x100000001b3; /* FNV-1a by words */
}

static void remember(const struct asc_look *look, const struct asc_thread *th, struct memo *ret)
{
	const struct asc_trace *trace = asc_trace_of(look->traces, th->tid);
	bool in_libc = false, in_malloc = false;

	*ret = (struct memo){ .tid = th->tid, .hash = 0xcbf29ce484222325 };
	ret->ticks = th->utime_ticks + th->stime_ticks;
	/* not the call's number: a stop makes some calls go on as restart_syscall */
	for (size_t i = 0; th->syscall_args_valid && i < ASC_ARRAY_SIZE(th->syscall_args); i++)
		ret->hash = mix(ret->hash, th->syscall_args[i]);
	for (size_t i = 0; trace && i < trace->n; i++) {
		ret->hash = mix(mix(ret->hash, trace->v[i].pc), trace->v[i].sp);
		/*
		 * Whoever called malloc: one call, one frame. By names, as a static program is all
		 * libc; without names the first frame out of libc.
		 */
		if (((in_malloc && !asc_frame_is_malloc(&trace->v[i])) ||
		     (in_libc && !trace->v[i].in_libc)) &&
		    !ret->call_sp) {
			ret->call_sp = trace->v[i].sp;
			ret->call_pc = trace->v[i].pc;
		}
		in_malloc = asc_frame_is_malloc(&trace->v[i]);
		in_libc = trace->v[i].in_libc;
	}
}

/* Whoever gets anything done in an arena changes its header. @return false: it cannot be read */
static bool arena_hash(const struct asc_look *look, asc_addr addr, uint64_t *ret)
{
	enum { LOCK_AND_FLAGS = 8, LEN = 8192 };
	uint8_t b[LEN];
	uint64_t size = look->lib ? look->lib->layout.sizeof_malloc_state : 0, h = 0;

	if (size <= LOCK_AND_FLAGS || size > LEN ||
	    asc_read_some(look->t, addr, b, (size_t)size) < size)
		return false;
	for (size_t i = LOCK_AND_FLAGS; i + 8 <= size; i += 8)
		h = mix(h, asc_uint_at(look->t, b + i, 8));
	*ret = h;
	return true;
}

/* Was something done in arena @p i between the looks? */
static bool arena_moved(const struct asc_look *look, const struct asc_look_memo *before, size_t i)
{
	asc_addr addr = look->heap->arenas[i].addr;
	uint64_t now;

	for (size_t k = 0; before && k < before->narenas; k++) {
		if (before->arenas[k].addr == addr)
			return arena_hash(look, addr, &now) && now != before->arenas[k].hash;
	}
	return false;
}

static void remember_arenas(const struct asc_look *look, struct asc_look_memo *memo)
{
	size_t n = look->heap ? look->heap->narenas : 0;

	memo->arenas = n ? calloc(n, sizeof(*memo->arenas)) : NULL;
	for (size_t i = 0; memo->arenas && i < n; i++) {
		struct arena_memo *a = &memo->arenas[memo->narenas];

		a->addr = look->heap->arenas[i].addr;
		memo->narenas += arena_hash(look, a->addr, &a->hash);
	}
}

struct asc_error *asc_look_remember(const struct asc_look *look, struct asc_look_memo **ret)
{
	size_t n;
	const struct asc_thread *th = asc_target_threads(look->t, &n);
	struct asc_look_memo *memo = calloc(1, sizeof(*memo));

	if (memo)
		memo->v = calloc(n ? n : 1, sizeof(*memo->v));
	if (!memo || !memo->v) {
		free(memo);
		return asc_err(ASC_ENOMEM, "threads");
	}
	for (memo->n = 0; memo->n < n; memo->n++)
		remember(look, &th[memo->n], &memo->v[memo->n]);
	remember_arenas(look, memo);
	*ret = memo;
	return NULL;
}

void asc_look_memo_free(struct asc_look_memo *memo)
{
	if (memo) {
		free(memo->v);
		free(memo->arenas);
	}
	free(memo);
}

void asc_look_memo_freep(struct asc_look_memo **memo)
{
	asc_look_memo_free(*memo);
}

static const struct memo *memo_of(const struct asc_look_memo *memo, pid_t tid)
{
	for (size_t i = 0; memo && i < memo->n; i++) {
		if (memo->v[i].tid == tid)
			return &memo->v[i];
	}
	return NULL;
}

static void compare(const struct asc_look *look, const struct asc_look_memo *before,
		    const struct asc_thread *th, struct asc_stuck_thread *ret)
{
	const struct memo *old = memo_of(before, th->tid);
	struct memo now;
	uint64_t a, b;

	remember(look, th, &now);
	if (!old) {
		ret->moved = before != NULL; /* new since the first look */
		return;
	}
	ret->same_call = now.call_sp && now.call_sp == old->call_sp && now.call_pc == old->call_pc;
	if (asc_cpu_time_of(look->cpu_before, look->ncpu_before, th->tid, &a) &&
	    asc_cpu_time_of(look->cpu_after, look->ncpu_after, th->tid, &b))
		ret->moved = b != a || now.hash != old->hash;
	else
		ret->moved = now.hash != old->hash || now.ticks != old->ticks;
}

/* ---- the graph ---- */

static const struct asc_stuck_lock *lock_of(const struct asc_stuck *s, int thread)
{
	int l = s->threads[thread].lock;

	return l < 0 ? NULL : &s->locks[l];
}

/* Whom thread @p i waits for: its index, -1: nobody known. */
static int next_of(const struct asc_stuck *s, int i)
{
	const struct asc_stuck_lock *l = lock_of(s, i);

	if (s->threads[i].joins)
		return asc_stuck_index(s, s->threads[i].joins);
	return l && l->holder && !l->holder_gone ? asc_stuck_index(s, l->holder) : -1;
}

/* A circle of waits, each of them dead still. Fills s->cycle. */
static struct asc_error *find_cycle(struct asc_stuck *s)
{
	ASC_AUTO(asc_freep) size_t *seen = calloc(s->nthreads ? s->nthreads : 1, sizeof(*seen));

	if (!seen)
		return asc_err(ASC_ENOMEM, "threads");
	for (size_t start = 0; start < s->nthreads; start++) {
		int i = (int)start;
		size_t n = 0;

		while (i >= 0 && !seen[i]) {
			seen[i] = start + 1;
			i = next_of(s, i);
		}
		if (i < 0 || seen[i] != start + 1)
			continue;
		for (int k = i; !n || k != i; k = next_of(s, k))
			n++;
		s->cycle = calloc(n, sizeof(*s->cycle));
		if (!s->cycle)
			return asc_err(ASC_ENOMEM, "threads");
		for (int k = i; s->ncycle < n; k = next_of(s, k))
			s->cycle[s->ncycle++] = s->threads[k].tid;
		return NULL;
	}
	return NULL;
}

static struct asc_error *mark_progress(const struct asc_look *look,
				       const struct asc_look_memo *before, struct asc_stuck *s)
{
	s->narenas = look->heap ? look->heap->narenas : 0;
	s->arena_moved = calloc(s->narenas + 1, sizeof(*s->arena_moved));
	if (!s->arena_moved)
		return asc_err(ASC_ENOMEM, "arenas");
	for (size_t i = 0; i < s->narenas; i++)
		s->arena_moved[i] = arena_moved(look, before, i);
	for (size_t i = 0; i < s->nlocks; i++) {
		struct asc_stuck_lock *l = &s->locks[i];

		if (l->arena >= 0 && (size_t)l->arena < s->narenas)
			l->moved |= s->arena_moved[l->arena];
		for (size_t k = 0; k < l->nwaiters; k++) {
			int w = asc_stuck_index(s, l->waiters[k]);

			l->moved |= w >= 0 && s->threads[w].moved;
		}
	}
	return NULL;
}

/* ---- sentences ---- */

__attribute__((__format__(__printf__, 2, 3))) static void add(struct asc_stuck *s, const char *fmt,
							      ...)
{
	size_t len = strlen(s->summary);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->summary + len, sizeof(s->summary) - len, fmt, ap);
	va_end(ap);
}

/* "thread 12 worker-1" */
static void add_thread(const struct asc_look *look, struct asc_stuck *s, pid_t tid)
{
	const struct asc_thread *th = asc_target_thread(look->t, tid);
	const char *name = th ? th->name : "";

	add(s, "thread %d%s%s", (int)tid, *name ? " " : "", name);
}

static void add_waiting(struct asc_stuck *s, size_t n, const char *more)
{
	if (n)
		add(s, "; %zu %sthread%s wait%s", n, more, n == 1 ? "" : "s", n == 1 ? "s" : "");
}

static void add_waiters(struct asc_stuck *s, const struct asc_stuck_lock *l)
{
	add_waiting(s, l->nwaiters, "");
}

static void say_cycle(const struct asc_look *look, struct asc_stuck *s)
{
	enum { SHOWN = 4 };
	int first = asc_stuck_index(s, s->cycle[0]);

	s->verdict = ASC_STUCK_DEADLOCK;
	if (s->ncycle == 1) {
		add_thread(look, s, s->cycle[0]);
		add(s, " waits for %s, which it holds itself", s->threads[first].what);
		if (s->threads[first].handler_over_malloc)
			add(s, ": malloc in a signal handler that interrupted malloc");
		add_waiting(s, lock_of(s, first)->nwaiters - 1, "more ");
		return;
	}
	for (size_t i = 0; i < s->ncycle && i < SHOWN; i++) {
		int k = asc_stuck_index(s, s->cycle[i]);

		if (i)
			add(s, i + 1 == s->ncycle ? "; " : ", ");
		add_thread(look, s, s->cycle[i]);
		add(s, " waits for %s", s->threads[k].what);
		if (!s->threads[k].joins)
			add(s, ", held by thread %d", (int)s->cycle[(i + 1) % s->ncycle]);
	}
	if (s->ncycle > SHOWN)
		add(s, ", and so on through %zu threads", s->ncycle);
}

static void say_orphan(const struct asc_stuck_lock *l, struct asc_stuck *s)
{
	s->verdict = ASC_STUCK_ORPHANED;
	add(s, "%s (0x%" PRIx64 ") is held by ", l->name, l->addr);
	if (l->holder)
		add(s, "thread %d, which is no thread of this process", (int)l->holder);
	else
		add(s, "nobody who is in this process");
	add(s, s->fork_child ? ": left behind by a fork"
			     : ": it has ended, or a fork left the lock behind");
	add_waiters(s, l);
}

/*
 * Damage that makes a list lead back into itself. In an arena that is locked no finding counts as
 * corrupt, since half-done operations look like that: there only what such a moment hardly ever
 * shows.
 */
static bool list_damage(const struct asc_look *look, int arena)
{
	static const char *const circles[] = { "C-FAST-LINK", "C-TWICE", "C-BIN-TWICE",
					       "C-TCACHE-LINK" };

	for (size_t i = 0; look->heap && i < look->heap->nfindings; i++) {
		const struct asc_finding *f = &look->heap->findings[i];

		if (arena >= 0 && f->arena != arena)
			continue;
		if (f->severity == ASC_SEV_CORRUPT && !strcmp(f->code, "C-BIN-LINK"))
			return true;
		if (!strcmp(f->code, "C-NEXTSIZE") && asc_ring_turns(look, f->arena, f->addr))
			return true;
		for (size_t k = 0; k < ASC_ARRAY_SIZE(circles); k++) {
			if (!strcmp(f->code, circles[k]))
				return true;
		}
	}
	return false;
}

static void say_loop(const struct asc_look *look, struct asc_stuck *s,
		     const struct asc_stuck_lock *l, const struct asc_stuck_thread *th,
		     bool damaged)
{
	const struct asc_trace *trace = asc_trace_of(look->traces, th->tid);

	s->verdict = ASC_STUCK_LOOP;
	add_thread(look, s, th->tid);
	add(s, " runs on the spot in %s%s%s%s",
	    trace && trace->n && trace->v[0].function ? trace->v[0].function : "malloc",
	    l ? " with " : "", l ? l->name : "", l ? " held" : "");
	add(s,
	    damaged ? ": the arena's lists are corrupt (check)" : ": the same call in both looks");
	if (l)
		add_waiters(s, l);
}

static void say_blocked(const struct asc_look *look, struct asc_stuck *s,
			const struct asc_stuck_lock *l, const struct asc_stuck_thread *th)
{
	s->verdict = ASC_STUCK_BLOCKED;
	add(s, "%s (0x%" PRIx64 ") is held by ", l->name, l->addr);
	add_thread(look, s, th->tid);
	if (th->doing == ASC_DOING_STOP)
		add(s, ", which is stopped by a signal");
	else
		add(s, ", which %s in %s",
		    th->doing == ASC_DOING_DISK ? "is uninterruptible" : "sleeps", th->what);
	if (l->sure != ASC_SURE_CERTAIN)
		add(s, " (%s, confidence %s)", l->how, asc_sure_name(l->sure));
	add_waiters(s, l);
}

static void say_contended(struct asc_stuck *s, const struct asc_stuck_lock *l)
{
	bool moves = l->moved && s->looks > 1;

	s->verdict = moves ? ASC_STUCK_BUSY : ASC_STUCK_UNCLEAR;
	add(s, "%s (0x%" PRIx64 ") is contended", l->name, l->addr);
	add_waiters(s, l);
	if (moves)
		add(s, ", and they get it: busy, not dead");
	else if (s->looks > 1 && l->holder)
		add(s, ", and none moved; thread %d has it (%s, confidence %s)", (int)l->holder,
		    l->how, asc_sure_name(l->sure));
	else if (s->looks > 1)
		add(s, ", and none moved; who holds it cannot be told");
	else
		add(s, "; one look cannot tell waiting from progress");
}

/* ---- the verdict ---- */

/* Running under an arena's lock, in the functions that follow lists. */
static bool walks_lists(const struct asc_look *look, const struct asc_stuck_thread *th)
{
	static const char *const walkers[] = {
		"_int_malloc",	"malloc_consolidate", "_int_free",
		"unlink_chunk", "_int_memalign",      "_int_realloc"
	};
	const struct asc_trace *trace = asc_trace_of(look->traces, th->tid);

	if (th->doing != ASC_DOING_RUN || !th->in_malloc || !trace || !trace->n)
		return false;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(walkers); i++) {
		if (asc_function_is(trace->v[0].function, walkers[i]))
			return true;
	}
	/* no symbols: somewhere in malloc must do */
	return !trace->v[0].function;
}

/* Of a thread whose arena is not known, any. */
static bool its_arena_moved(const struct asc_look *look, const struct asc_stuck *s, pid_t tid)
{
	bool any = false;

	for (size_t i = 0; look->heap && i < look->heap->nthreads; i++) {
		const struct asc_heap_thread *t = &look->heap->threads[i];

		if (t->tid == tid && t->known && t->arena >= 0 && (size_t)t->arena < s->narenas)
			return s->arena_moved[t->arena];
	}
	for (size_t i = 0; i < s->narenas; i++)
		any |= s->arena_moved[i];
	return any;
}

/* In malloc, running, in the same call in both looks: a loop if that can be proven. */
static const struct asc_stuck_thread *find_loop(const struct asc_look *look,
						const struct asc_stuck *s,
						const struct asc_stuck_lock *l, bool *ret_damaged)
{
	/* whoever loops never lets go: then nobody else gets the lock, or anything done */
	if (l && s->looks > 1 && l->moved)
		return NULL;
	for (size_t i = 0; i < s->nthreads; i++) {
		const struct asc_stuck_thread *th = &s->threads[i];

		if (!walks_lists(look, th) || (l && l->holder != th->tid) ||
		    (s->looks > 1 && !th->same_call) || (!l && its_arena_moved(look, s, th->tid)))
			continue;
		*ret_damaged = list_damage(look, l ? l->arena : -1);
		/* corrupt lists under a running malloc, or others that waited all the time in vain */
		if (*ret_damaged || (l && l->nwaiters && s->looks > 1))
			return th;
	}
	return NULL;
}

/* Follow the chain of holders from @p l to the one who waits for no lock. */
static const struct asc_stuck_lock *root_of(const struct asc_stuck *s,
					    const struct asc_stuck_lock *l)
{
	for (size_t i = 0; i <= s->nlocks; i++) {
		int h = l->holder && !l->holder_gone ? asc_stuck_index(s, l->holder) : -1;
		const struct asc_stuck_lock *next = h < 0 ? NULL : lock_of(s, h);

		if (!next || next == l)
			break;
		l = next;
	}
	return l;
}

static bool is_at_rest(enum asc_doing d)
{
	return d == ASC_DOING_IDLE || d == ASC_DOING_DISK || d == ASC_DOING_STOP ||
	       d == ASC_DOING_CALL;
}

/* One lock with waiters, or an arena's lock that is held. @return true if it gives the verdict */
static bool judge_lock(const struct asc_look *look, struct asc_stuck *s,
		       const struct asc_stuck_lock *l)
{
	const struct asc_stuck_thread *th = NULL;
	bool damaged = false;
	int h;

	l = root_of(s, l);
	h = l->holder ? asc_stuck_index(s, l->holder) : -1;
	if (l->holder_gone && l->nwaiters && !l->moved) {
		say_orphan(l, s);
		return true;
	}
	th = find_loop(look, s, l, &damaged);
	if (th) {
		say_loop(look, s, l, th, damaged);
		return true;
	}
	if (h >= 0 && is_at_rest(s->threads[h].doing) && !(s->looks > 1 && s->threads[h].moved) &&
	    !(s->looks > 1 && l->moved)) {
		say_blocked(look, s, l, &s->threads[h]);
		return true;
	}
	return false;
}

static void count_doing(const struct asc_stuck *s, size_t ret[ASC_DOING_CALL + 1])
{
	for (size_t i = 0; i < s->nthreads; i++)
		ret[s->threads[i].doing]++;
}

static void say_rest(const struct asc_look *look, struct asc_stuck *s)
{
	size_t n[ASC_DOING_CALL + 1] = { 0 };

	count_doing(s, n);
	if (n[ASC_DOING_STOP] && n[ASC_DOING_STOP] == s->nthreads) {
		s->verdict = ASC_STUCK_STOPPED;
		add(s, "the whole process is stopped by a signal: SIGCONT lets it run on");
		return;
	}
	if (n[ASC_DOING_DISK]) {
		s->verdict = ASC_STUCK_DISK;
		add(s, "%zu thread%s in uninterruptible sleep", n[ASC_DOING_DISK],
		    n[ASC_DOING_DISK] == 1 ? "" : "s");
		for (size_t i = 0; i < s->nthreads; i++) {
			if (s->threads[i].doing == ASC_DOING_DISK) {
				add(s, ", ");
				add_thread(look, s, s->threads[i].tid);
				add(s, " in %s", s->threads[i].what);
				break;
			}
		}
		return;
	}
	if (n[ASC_DOING_UNKNOWN]) {
		s->verdict = ASC_STUCK_UNCLEAR;
		add(s,
		    "no thread is seen to wait for a lock, but what %zu of %zu threads do is "
		    "not known",
		    n[ASC_DOING_UNKNOWN], s->nthreads);
		return;
	}
	s->verdict = ASC_STUCK_IDLE;
	add(s, "nothing is stuck: no thread waits for a lock; %zu wait for work, %zu run",
	    n[ASC_DOING_IDLE] + n[ASC_DOING_CALL], n[ASC_DOING_RUN]);
}

static struct asc_error *judge(const struct asc_look *look, struct asc_stuck *s)
{
	const struct asc_stuck_thread *th;
	bool damaged;

	ASC_TRY(find_cycle(s));
	if (s->ncycle && s->looks > 1) {
		for (size_t i = 0; i < s->ncycle; i++) {
			int k = asc_stuck_index(s, s->cycle[i]);

			if (s->threads[k].moved)
				s->ncycle = 0; /* it looked like one, but it goes on */
		}
	}
	if (s->ncycle) {
		say_cycle(look, s);
		return NULL;
	}
	if (look->frozen) {
		s->verdict = ASC_STUCK_FROZEN;
		add(s, "the process is in a frozen cgroup: %s thaws it", look->frozen);
		return NULL;
	}
	for (size_t i = 0; i < s->nlocks; i++) {
		if ((s->locks[i].nwaiters || s->locks[i].kind == ASC_LOCK_ARENA) &&
		    judge_lock(look, s, &s->locks[i]))
			return NULL;
	}
	th = find_loop(look, s, NULL, &damaged);
	if (th) {
		say_loop(look, s, NULL, th, damaged);
		return NULL;
	}
	for (size_t i = 0; i < s->nlocks; i++) {
		if (s->locks[i].nwaiters) {
			say_contended(s, &s->locks[i]);
			return NULL;
		}
	}
	say_rest(look, s);
	return NULL;
}

bool asc_stuck_may_loop(const struct asc_stuck *s)
{
	for (size_t i = 0; i < s->nthreads; i++) {
		const struct asc_stuck_thread *th = &s->threads[i];

		if (th->doing == ASC_DOING_RUN && th->in_malloc && (s->looks < 2 || th->same_call))
			return true;
	}
	return false;
}

bool asc_stuck_suspects_loop(const struct asc_stuck *s)
{
	return (s->verdict == ASC_STUCK_IDLE || s->verdict == ASC_STUCK_UNCLEAR) &&
	       asc_stuck_may_loop(s);
}

/* One thread, but the arenas count more: the others stayed behind at a fork. */
static bool is_fork_child(const struct asc_look *look, size_t nthreads)
{
	uint64_t attached = 0;

	for (size_t i = 0; look->heap && i < look->heap->narenas; i++) {
		if (look->heap->arenas[i].attached_known)
			attached += look->heap->arenas[i].attached_threads;
	}
	return nthreads == 1 && attached > 1;
}

struct asc_error *asc_stuck_make(const struct asc_look *look, const struct asc_look_memo *before,
				 struct asc_stuck **ret)
{
	ASC_AUTO(asc_stuck_freep) struct asc_stuck *s = calloc(1, sizeof(*s));
	ASC_AUTO(asc_freep) enum asc_lock_kind *kinds = NULL;
	size_t n;
	const struct asc_thread *th = asc_target_threads(look->t, &n);

	if (!s)
		return asc_err(ASC_ENOMEM, "threads");
	s->looks = before ? 2 : 1;
	s->threads = calloc(n ? n : 1, sizeof(*s->threads));
	kinds = calloc(n ? n : 1, sizeof(*kinds));
	if (!s->threads || !kinds)
		return asc_err(ASC_ENOMEM, "%zu threads", n);
	for (size_t i = 0; i < n; i++) {
		asc_stuck_classify(look, &th[i], asc_trace_of(look->traces, th[i].tid),
				   &s->threads[i], &kinds[i]);
		compare(look, before, &th[i], &s->threads[i]);
	}
	s->nthreads = n;
	s->fork_child = is_fork_child(look, n);
	ASC_TRY(asc_stuck_locks(look, kinds, s));
	ASC_TRY(mark_progress(look, before, s));
	ASC_TRY(judge(look, s));
	*ret = asc_take(s);
	return NULL;
}

void asc_stuck_free(struct asc_stuck *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->nlocks; i++)
		free(s->locks[i].waiters);
	free(s->locks);
	free(s->arena_moved);
	free(s->threads);
	free(s->cycle);
	free(s);
}

void asc_stuck_freep(struct asc_stuck **s)
{
	asc_stuck_free(*s);
}
