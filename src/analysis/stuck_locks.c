/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Locks: which are held or waited for, what they are, and who holds them. Mutexes, stdio's and the
 * loader's locks name their owner; malloc's do not: there the stacks tell, with how sure that is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/stuck_priv.h"
#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"

enum {
	CONVOY = 3, /* so many threads on one futex of the program are worth a line */
	OWNER = 8,  /* offset of the owner: pthread_mutex_t's tid, _IO_lock_t's thread pointer */
	MUTEX_KIND = 16, /* offset of pthread_mutex_t's kind */
	PRIO_INHERIT = 32,
	TID_MASK = 0x3fffffff,
	/* pthread_rwlock_t: what readers and writers sleep on, who writes */
	RW_PHASE = 8,
	RW_WRITERS = 12,
	RW_READERS_SHIFT = 3,
	RW_WRITER_64 = 24,
	RW_WRITER_32 = 28,
};

int asc_stuck_index(const struct asc_stuck *s, pid_t tid)
{
	for (size_t i = 0; i < s->nthreads; i++) {
		if (s->threads[i].tid == tid)
			return (int)i;
	}
	return -1;
}

bool asc_look_peek(const struct asc_look *look, asc_addr addr, size_t size, uint64_t *ret)
{
	struct asc_error *err = asc_read_uint(look->t, addr, size, ret);
	bool ok = !err;

	asc_error_free(err);
	if (!ok && look->now) {
		err = asc_read_uint(look->now, addr, size, ret);
		ok = !err;
		asc_error_free(err);
	}
	return ok;
}

/* The lock at @p addr, made if it is not there. NULL without memory. */
static struct asc_stuck_lock *lock_at(struct asc_stuck *s, asc_addr addr, enum asc_lock_kind kind)
{
	struct asc_stuck_lock *v;

	for (size_t i = 0; i < s->nlocks; i++) {
		if (s->locks[i].addr == addr)
			return &s->locks[i];
	}
	v = reallocarray(s->locks, s->nlocks + 1, sizeof(*v));
	if (!v)
		return NULL;
	s->locks = v;
	v[s->nlocks] = (struct asc_stuck_lock){ .addr = addr, .kind = kind, .arena = -1 };
	return &v[s->nlocks++];
}

static bool add_waiter(struct asc_stuck_lock *l, pid_t tid)
{
	pid_t *v = reallocarray(l->waiters, l->nwaiters + 1, sizeof(*v));

	if (!v)
		return false;
	l->waiters = v;
	v[l->nwaiters++] = tid;
	return true;
}

/* ---- what is it ---- */

static bool is_stdio(const struct asc_look *look, const struct asc_stuck_lock *l, pid_t *ret_owner)
{
	uint64_t owner;
	size_t n;
	const struct asc_thread *th = asc_target_threads(look->t, &n);

	if (!asc_look_peek(look, l->addr + OWNER, asc_target_arch(look->t)->word_size, &owner) ||
	    !owner)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (th[i].regs.tp_valid && th[i].regs.tp == owner) {
			*ret_owner = th[i].tid;
			return true;
		}
	}
	return false;
}

static bool is_loaders(const struct asc_look *look, asc_addr addr)
{
	const struct asc_module *mod = asc_modules_at(look->m, addr);

	return mod && !strncmp(mod->soname, "ld-linux", 8);
}

static void identify(const struct asc_look *look, struct asc_stuck_lock *l)
{
	const struct asc_heap *heap = look->heap;
	uint64_t mutex = look->lib && look->lib->layout.malloc_state_mutex.present
				 ? look->lib->layout.malloc_state_mutex.off
				 : 0;
	pid_t owner;

	for (size_t i = 0; heap && i < heap->narenas; i++) {
		if (heap->arenas[i].addr + mutex == l->addr) {
			l->kind = ASC_LOCK_ARENA;
			l->arena = (int)i;
			snprintf(l->name, sizeof(l->name), "arena %zu lock", i);
			return;
		}
	}
	if (look->lib && l->addr == look->lib->list_lock)
		l->kind = ASC_LOCK_LIST;
	else if (look->lib && l->addr == look->lib->free_list_lock)
		l->kind = ASC_LOCK_FREE_LIST;
	else if (is_loaders(look, l->addr))
		l->kind = ASC_LOCK_LOADER;
	else if (l->kind == ASC_LOCK_LOWLEVEL && is_stdio(look, l, &owner))
		l->kind = ASC_LOCK_STDIO;
	switch (l->kind) {
	case ASC_LOCK_LIST:
		snprintf(l->name, sizeof(l->name), "malloc's list_lock");
		break;
	case ASC_LOCK_FREE_LIST:
		snprintf(l->name, sizeof(l->name), "malloc's free_list_lock");
		break;
	case ASC_LOCK_LOADER:
		snprintf(l->name, sizeof(l->name), "loader lock");
		break;
	case ASC_LOCK_STDIO:
		snprintf(l->name, sizeof(l->name), "stdio stream lock");
		break;
	case ASC_LOCK_MUTEX:
		snprintf(l->name, sizeof(l->name), "mutex");
		break;
	case ASC_LOCK_RWLOCK:
		snprintf(l->name, sizeof(l->name), "read-write lock");
		break;
	case ASC_LOCK_ONCE:
		snprintf(l->name, sizeof(l->name), "one-time initialisation");
		break;
	case ASC_LOCK_LOWLEVEL:
		snprintf(l->name, sizeof(l->name), "lock inside libc");
		break;
	default:
		if (!l->name[0])
			snprintf(l->name, sizeof(l->name), "futex");
	}
}

/* ---- who holds it ---- */

static void name_owner(struct asc_stuck *s, struct asc_stuck_lock *l, pid_t owner, const char *how)
{
	l->holder = owner;
	l->sure = ASC_SURE_CERTAIN;
	l->holder_gone = asc_stuck_index(s, owner) < 0;
	snprintf(l->how, sizeof(l->how), "%s", how);
}

static void mutex_holder(const struct asc_look *look, struct asc_stuck *s, struct asc_stuck_lock *l)
{
	uint64_t owner, kind;

	if (!l->value_known || !l->value)
		return;
	if (asc_look_peek(look, l->addr + MUTEX_KIND, 4, &kind) && (kind & PRIO_INHERIT)) {
		name_owner(s, l, (pid_t)(l->value & TID_MASK), "priority-inheriting lock word");
		return;
	}
	if (asc_look_peek(look, l->addr + OWNER, 4, &owner) && owner && owner <= TID_MASK)
		name_owner(s, l, (pid_t)owner, "owner field of the mutex");
}

static int heap_arena_of(const struct asc_heap *heap, pid_t tid)
{
	for (size_t i = 0; heap && i < heap->nthreads; i++) {
		if (heap->threads[i].tid == tid)
			return heap->threads[i].arena;
	}
	return -1;
}

/* 4: under an arena's lock, and it is its own arena; 1: somewhere in malloc; 0: no */
static unsigned score(const struct asc_look *look, const struct asc_stuck_lock *l,
		      const struct asc_stuck_thread *th)
{
	bool own = l->arena >= 0 && heap_arena_of(look->heap, th->tid) == l->arena;

	if (th->holds_lock_functions)
		return own ? 4 : 3;
	if (th->in_malloc && th->doing == ASC_DOING_RUN)
		return own ? 2 : 1;
	return 0;
}

static void malloc_holder(const struct asc_look *look, struct asc_stuck *s,
			  struct asc_stuck_lock *l)
{
	static const enum asc_sure sure[] = { ASC_SURE_NOT, ASC_SURE_LOW, ASC_SURE_LOW,
					      ASC_SURE_MEDIUM, ASC_SURE_HIGH };
	unsigned best = 0, ties = 0;
	bool names = false;
	unsigned unseen = 0;

	if (l->value_known && !l->value)
		return;
	for (size_t i = 0; i < s->nthreads; i++) {
		unsigned n = score(look, l, &s->threads[i]);

		names |= s->threads[i].in_malloc;
		unseen += s->threads[i].unseen;
		if (n > best) {
			best = n;
			ties = 0;
			l->holder = s->threads[i].tid;
		} else if (n == best && n) {
			ties++;
		}
	}
	if (!best) {
		/* only where stacks show malloc's functions does their absence say something */
		l->holder_gone = names && l->nwaiters && !unseen;
		if (unseen && l->nwaiters)
			snprintf(l->how, sizeof(l->how),
				 "perhaps one of the %u threads whose stacks are not known",
				 unseen);
		if (l->holder_gone) {
			l->sure = ASC_SURE_MEDIUM;
			snprintf(l->how, sizeof(l->how),
				 "no thread is inside malloc without waiting");
		}
		return;
	}
	l->sure = sure[best];
	if (ties && l->sure > ASC_SURE_LOW)
		l->sure--;
	snprintf(l->how, sizeof(l->how),
		 ties ? "inferred from stacks, one of %u" : "inferred from stacks", ties + 1);
}

static void rwlock_holder(const struct asc_look *look, struct asc_stuck *s,
			  struct asc_stuck_lock *l)
{
	unsigned off = asc_target_arch(look->t)->word_size == 8 ? RW_WRITER_64 : RW_WRITER_32;
	uint64_t writer;

	if (asc_look_peek(look, l->addr + off, 4, &writer) && writer && writer <= TID_MASK)
		name_owner(s, l, (pid_t)writer, "writer field of the lock");
	else if (l->value_known && l->value >> RW_READERS_SHIFT)
		snprintf(l->how, sizeof(l->how),
			 "readers that have it or want it: %u; it does not say who",
			 l->value >> RW_READERS_SHIFT);
}

/* Whoever runs the function is inside pthread_once and waits for nobody else's run of it. */
static void once_holder(const struct asc_look *look, struct asc_stuck *s, struct asc_stuck_lock *l)
{
	unsigned found = 0;

	for (size_t i = 0; i < s->nthreads; i++) {
		const struct asc_trace *trace = asc_trace_of(look->traces, s->threads[i].tid);
		bool inside = false;

		for (size_t k = 1; trace && k < trace->n && !inside; k++)
			inside = trace->v[k].function &&
				 strstr(trace->v[k].function, "pthread_once");
		if (!inside || s->threads[i].futex == l->addr)
			continue;
		found++;
		l->holder = s->threads[i].tid;
	}
	if (!found)
		return;
	l->sure = found == 1 ? ASC_SURE_HIGH : ASC_SURE_LOW;
	snprintf(l->how, sizeof(l->how),
		 found == 1 ? "inferred from stacks" : "inferred from stacks, one of %u", found);
}

static void find_holder(const struct asc_look *look, struct asc_stuck *s, struct asc_stuck_lock *l)
{
	pid_t owner;

	switch (l->kind) {
	case ASC_LOCK_ARENA:
	case ASC_LOCK_LIST:
	case ASC_LOCK_FREE_LIST:
		malloc_holder(look, s, l);
		break;
	case ASC_LOCK_STDIO:
		if (is_stdio(look, l, &owner))
			name_owner(s, l, owner, "owner field of the stream");
		break;
	case ASC_LOCK_MUTEX:
	case ASC_LOCK_LOADER:
		mutex_holder(look, s, l);
		break;
	case ASC_LOCK_RWLOCK:
		rwlock_holder(look, s, l);
		break;
	case ASC_LOCK_ONCE:
		once_holder(look, s, l);
		break;
	default:
		break;
	}
}

/* ---- all of them ---- */

/* Readers and writers of one read-write lock sleep on different words of it. */
static asc_addr lock_address(asc_addr futex, enum asc_lock_kind kind)
{
	if (kind != ASC_LOCK_RWLOCK)
		return futex;
	return futex - (futex % 8 ? RW_WRITERS : RW_PHASE);
}

/* Known by its address, whatever the stack says or does not say. */
static bool is_mallocs(const struct asc_look *look, asc_addr futex)
{
	const struct asc_libc *lib = look->lib;

	if (!lib || !futex)
		return false;
	for (size_t i = 0; look->heap && i < look->heap->narenas; i++) {
		if (look->heap->arenas[i].addr + lib->layout.malloc_state_mutex.off == futex)
			return true;
	}
	return futex == lib->list_lock || futex == lib->free_list_lock;
}

static struct asc_error *add_waited(const struct asc_look *look, const enum asc_lock_kind *kinds,
				    struct asc_stuck *s)
{
	for (size_t i = 0; i < s->nthreads; i++) {
		struct asc_stuck_thread *th = &s->threads[i];
		struct asc_stuck_lock *l;
		size_t same = 0;

		if (is_mallocs(look, th->futex))
			th->doing = ASC_DOING_LOCK;
		if (!th->futex || (th->doing != ASC_DOING_LOCK && kinds[i] != ASC_LOCK_FUTEX))
			continue;
		if (th->doing != ASC_DOING_LOCK) {
			/* condition variables and the like are waits for work, not convoys */
			if (strncmp(th->what, "futex ", 6) != 0)
				continue;
			for (size_t k = 0; k < s->nthreads; k++)
				same += s->threads[k].futex == th->futex;
			if (same < CONVOY)
				continue;
			th->doing = ASC_DOING_LOCK;
		}
		l = lock_at(s, lock_address(th->futex, kinds[i]), kinds[i]);
		if (!l || !add_waiter(l, th->tid))
			return asc_err(ASC_ENOMEM, "locks");
		/* a kind of lock that only its function's name tells of */
		if (kinds[i] == ASC_LOCK_FUTEX && strncmp(th->what, "futex ", 6) != 0)
			snprintf(l->name, sizeof(l->name), "%.32s", th->what);
	}
	return NULL;
}

static struct asc_error *add_held(const struct asc_look *look, struct asc_stuck *s)
{
	uint64_t v;
	const struct asc_libc *lib = look->lib;

	for (size_t i = 0; look->heap && lib && i < look->heap->narenas; i++) {
		const struct asc_arena *a = &look->heap->arenas[i];

		if (a->mutex &&
		    !lock_at(s, a->addr + lib->layout.malloc_state_mutex.off, ASC_LOCK_ARENA))
			return asc_err(ASC_ENOMEM, "locks");
	}
	if (lib && lib->list_lock && asc_look_peek(look, lib->list_lock, 4, &v) && v &&
	    !lock_at(s, lib->list_lock, ASC_LOCK_LIST))
		return asc_err(ASC_ENOMEM, "locks");
	if (lib && lib->free_list_lock && asc_look_peek(look, lib->free_list_lock, 4, &v) && v &&
	    !lock_at(s, lib->free_list_lock, ASC_LOCK_FREE_LIST))
		return asc_err(ASC_ENOMEM, "locks");
	return NULL;
}

static int worst_first(const void *a, const void *b)
{
	const struct asc_stuck_lock *x = a, *y = b;

	if (x->nwaiters != y->nwaiters)
		return x->nwaiters > y->nwaiters ? -1 : 1;
	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

struct asc_error *asc_stuck_locks(const struct asc_look *look, const enum asc_lock_kind *kinds,
				  struct asc_stuck *s)
{
	ASC_TRY(add_waited(look, kinds, s));
	ASC_TRY(add_held(look, s));
	asc_sort(s->locks, s->nlocks, sizeof(*s->locks), worst_first);
	for (size_t i = 0; i < s->nlocks; i++) {
		struct asc_stuck_lock *l = &s->locks[i];
		uint64_t v;

		l->value_known = asc_look_peek(look, l->addr, 4, &v);
		l->value = l->value_known ? (uint32_t)v : 0;
		identify(look, l);
		find_holder(look, s, l);
		for (size_t k = 0; k < l->nwaiters; k++) {
			int w = asc_stuck_index(s, l->waiters[k]);

			if (w < 0)
				continue;
			s->threads[w].lock = (int)i;
			snprintf(s->threads[w].what, sizeof(s->threads[w].what), "%s", l->name);
		}
	}
	return NULL;
}
