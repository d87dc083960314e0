/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What one thread does: from its system call, its state and the names of its innermost functions. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "analysis/stuck_priv.h"
#include "arch/arch.h"
#include "base/num.h"
#include "symbols/elffile.h"

/* Functions that wait, innermost first in any stack that has them: libc's, then Rust's (std, parking_lot). */
struct waits {
	const char *function; /* a substring where exact is false */
	bool exact;
	enum asc_doing doing;
	enum asc_lock_kind kind;
	const char *what;
};

static const struct waits waits[] = {
	{ "__lll_lock_wait_private", true, ASC_DOING_LOCK, ASC_LOCK_LOWLEVEL,
	  "a lock inside libc" },
	{ "pthread_cond_", false, ASC_DOING_IDLE, ASC_LOCK_FUTEX, "condition variable" },
	{ "__pthread_clockjoin_ex", true, ASC_DOING_IDLE, ASC_LOCK_FUTEX, "the end of a thread" },
	{ "__pthread_timedjoin_ex", true, ASC_DOING_IDLE, ASC_LOCK_FUTEX, "the end of a thread" },
	{ "pthread_join", true, ASC_DOING_IDLE, ASC_LOCK_FUTEX, "the end of a thread" },
	{ "sem_wait", false, ASC_DOING_IDLE, ASC_LOCK_FUTEX, "semaphore" },
	{ "sem_timedwait", false, ASC_DOING_IDLE, ASC_LOCK_FUTEX, "semaphore" },
	{ "sem_clockwait", false, ASC_DOING_IDLE, ASC_LOCK_FUTEX, "semaphore" },
	{ "pthread_barrier_wait", false, ASC_DOING_IDLE, ASC_LOCK_FUTEX, "barrier" },
	{ "pthread_rwlock_", false, ASC_DOING_LOCK, ASC_LOCK_RWLOCK, "read-write lock" },
	{ "pthread_once", false, ASC_DOING_LOCK, ASC_LOCK_ONCE, "pthread_once" },
	{ "__cxa_guard_acquire", true, ASC_DOING_LOCK, ASC_LOCK_ONCE, "a C++ static's guard" },
	{ "pthread_mutex_lock", false, ASC_DOING_LOCK, ASC_LOCK_MUTEX, "mutex" },
	{ "pthread_mutex_timedlock", false, ASC_DOING_LOCK, ASC_LOCK_MUTEX, "mutex" },
	{ "pthread_mutex_clocklock", false, ASC_DOING_LOCK, ASC_LOCK_MUTEX, "mutex" },
	{ "__lll_lock_wait", true, ASC_DOING_LOCK, ASC_LOCK_MUTEX, "mutex" },
	/* the older mangling demangles to the first form, the newer one to the second */
	{ "Mutex::lock_contended", false, ASC_DOING_LOCK, ASC_LOCK_FUTEX, "Rust mutex" },
	{ "Mutex>::lock_contended", false, ASC_DOING_LOCK, ASC_LOCK_FUTEX, "Rust mutex" },
	{ "RwLock::read_contended", false, ASC_DOING_LOCK, ASC_LOCK_FUTEX, "Rust rwlock" },
	{ "RwLock>::read_contended", false, ASC_DOING_LOCK, ASC_LOCK_FUTEX, "Rust rwlock" },
	{ "RwLock::write_contended", false, ASC_DOING_LOCK, ASC_LOCK_FUTEX, "Rust rwlock" },
	{ "RwLock>::write_contended", false, ASC_DOING_LOCK, ASC_LOCK_FUTEX, "Rust rwlock" },
	{ "Condvar::wait", false, ASC_DOING_IDLE, ASC_LOCK_FUTEX, "condition variable" },
	{ "Condvar>::wait", false, ASC_DOING_IDLE, ASC_LOCK_FUTEX, "condition variable" },
};

/* Functions of malloc; those with `locked` run under the lock of an arena, or mostly so. */
static const struct {
	const char *name;
	bool locked;
} malloc_functions[] = {
	{ "malloc", false },
	{ "free", false },
	{ "calloc", false },
	{ "realloc", false },
	{ "__libc_malloc", false },
	{ "__libc_malloc2", false },
	{ "__libc_free", false },
	{ "__libc_calloc", false },
	{ "__libc_calloc2", false },
	{ "__libc_realloc", false },
	{ "cfree", false },
	{ "memalign", false },
	{ "__libc_memalign", false },
	{ "_mid_memalign", false },
	{ "aligned_alloc", false },
	{ "posix_memalign", false },
	{ "__posix_memalign", false },
	{ "valloc", false },
	{ "pvalloc", false },
	{ "_int_malloc", true },
	{ "_int_free", true },
	{ "_int_free_chunk", true },
	{ "_int_free_merge_chunk", true },
	{ "_int_free_create_chunk", true },
	{ "_int_free_maybe_trim", true },
	{ "_int_realloc", true },
	{ "_int_memalign", true },
	{ "malloc_consolidate", true },
	{ "sysmalloc", true },
	{ "sysmalloc_mmap", true },
	{ "sysmalloc_mmap_fallback", true },
	{ "systrim", true },
	{ "heap_trim", true },
	{ "shrink_heap", true },
	{ "grow_heap", true },
	{ "unlink_chunk", true },
	{ "mtrim", true },
	{ "malloc_trim", true },
	{ "__malloc_trim", true },
	{ "malloc_info", true },
	{ "__malloc_info", true },
	{ "malloc_stats", true },
	{ "__malloc_stats", true },
	{ "int_mallinfo", true },
	{ "__libc_mallinfo2", true },
	{ "mallinfo2", true },
	{ "mallinfo", true },
	{ "arena_get2", false },
	{ "reused_arena", false },
	{ "_int_new_arena", false },
	{ "tcache_init", false },
	{ "munmap_chunk", false },
	{ "mremap_chunk", false },
	{ "tcache_thread_shutdown", false },
	{ "__malloc_arena_thread_freeres", false },
	{ "madvise_thp", true },
};

/* "poll" for "__GI___poll" and "__libc_poll": the call as the program knows it. */
static const char *plain_name(const char *f)
{
	static const char *const prefixes[] = { "__GI_", "__libc_", "__" };

	for (size_t i = 0; i < ASC_ARRAY_SIZE(prefixes); i++) {
		if (!strncmp(f, prefixes[i], strlen(prefixes[i])))
			f += strlen(prefixes[i]);
	}
	while (*f == '_')
		f++;
	return f;
}

static bool is_malloc(const struct asc_trace_frame *f, bool *ret_locked)
{
	if (!f->in_libc || !f->function)
		return false;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(malloc_functions); i++) {
		if (asc_function_is(plain_name(f->function),
				    plain_name(malloc_functions[i].name))) {
			*ret_locked = malloc_functions[i].locked;
			return true;
		}
	}
	return false;
}

bool asc_frame_is_malloc(const struct asc_trace_frame *f)
{
	bool locked;

	return is_malloc(f, &locked);
}

/* Where malloc stands in the stack, and a signal handler with respect to it. */
static void look_for_malloc(const struct asc_trace *trace, struct asc_stuck_thread *ret,
			    bool waits_in_libc)
{
	bool signal = false, inner = false, locked = false;
	/* frames down to here belong to the call that waits for a lock: they do not hold it yet */
	bool waiting = waits_in_libc;

	for (size_t i = 0; i < trace->n; i++) {
		const struct asc_trace_frame *f = &trace->v[i];

		if (f->signal_frame) {
			signal = true;
			waiting = false;
			continue;
		}
		if (!f->in_libc) {
			waiting = false;
			continue;
		}
		if (!is_malloc(f, &locked))
			continue;
		ret->in_malloc = true;
		if (!signal)
			inner = true;
		ret->handler_over_malloc |= signal && inner;
		ret->holds_lock_functions |= locked && !waiting;
		/* plain malloc or free below a signal frame was interrupted: perhaps under the lock
		 */
		ret->holds_lock_functions |= signal && inner;
	}
	if (!inner)
		return;
	for (size_t i = 0; i < trace->n; i++)
		ret->handler_malloc |= trace->v[i].signal_frame;
}

/* The futex that it sleeps on, 0: none. */
static asc_addr futex_of(const struct asc_arch *arch, const struct asc_thread *th)
{
	enum { WAIT = 0, LOCK_PI = 6, WAIT_BITSET = 9, WAIT_REQUEUE_PI = 11, LOCK_PI2 = 13 };
	enum { I386_FUTEX_TIME64 = 422, OP = 0x7f };
	unsigned op;

	if (!th->syscall_args_valid || th->syscall_nr < 0 || th->signal)
		return 0;
	if (th->syscall_nr != arch->nr_futex && th->syscall_nr != arch->nr_restart &&
	    !(arch->word_size == 4 && th->syscall_nr == I386_FUTEX_TIME64))
		return 0;
	op = (unsigned)th->syscall_args[1] & OP;
	if (op != WAIT && op != WAIT_BITSET && op != LOCK_PI && op != LOCK_PI2 &&
	    op != WAIT_REQUEUE_PI)
		return 0;
	return th->syscall_args[0];
}

/*
 * Without names: does it wait for an event, not for a lock? Such a wait ends by itself some time, and the word
 * counts: it is neither small (free, taken, waited for) nor a thread, nor does it have bits at the top.
 */
static bool waits_for_event(const struct asc_look *look, const struct asc_thread *th)
{
	enum { EXPECTED = 2, TIMEOUT = 3, SMALL = 4, TOP = 28 };
	uint32_t value = (uint32_t)th->syscall_args[EXPECTED];

	if (!th->syscall_args[TIMEOUT] || value < SMALL || value >> TOP)
		return false;
	return !asc_target_thread(look->t, (pid_t)value);
}

static const struct waits *wait_of(const struct asc_trace *trace)
{
	enum { NEAR = 8 };

	for (size_t i = 0; i < trace->n && i < NEAR; i++) {
		const char *f = trace->v[i].function;

		if (trace->v[i].signal_frame)
			break;
		for (size_t k = 0; f && k < ASC_ARRAY_SIZE(waits); k++) {
			if (waits[k].exact ? asc_function_is(f, waits[k].function)
					   : strstr(f, waits[k].function) != NULL)
				return &waits[k];
		}
	}
	return NULL;
}

static void name_call(const struct asc_thread *th, const struct asc_trace *trace,
		      struct asc_stuck_thread *ret)
{
	const char *f = NULL;

	/*
	 * 2.41 and later: cancellable calls go through functions of that name; i386 enters the
	 * kernel by the vDSO.
	 */
	for (size_t i = 0; i < trace->n && trace->v[i].in_libc && trace->v[i].function; i++) {
		f = trace->v[i].function;
		if (!strstr(f, "syscall_cancel") && strcmp(f, "__kernel_vsyscall"))
			break;
	}

	if (f)
		snprintf(ret->what, sizeof(ret->what), "%s", plain_name(f));
	else if (th->wchan[0])
		snprintf(ret->what, sizeof(ret->what), "%s", th->wchan);
	else
		snprintf(ret->what, sizeof(ret->what), "system call %" PRId64, th->syscall_nr);
}

/* A joiner sleeps on a word of the other's descriptor: until 2.42 its thread id, then a state. */
static pid_t joined_thread(const struct asc_look *look, asc_addr futex)
{
	enum { DESCRIPTOR = 2304 };
	size_t n;
	const struct asc_thread *th = asc_target_threads(look->t, &n);

	for (size_t i = 0; futex && i < n; i++) {
		if (th[i].regs.tp_valid && futex >= th[i].regs.tp &&
		    futex - th[i].regs.tp < DESCRIPTOR)
			return th[i].tid;
	}
	return 0;
}

/* Without names: only a word that holds the thread's id. */
static bool joined_by_address(const struct asc_look *look, asc_addr futex, pid_t *ret)
{
	pid_t tid = joined_thread(look, futex);
	uint64_t v;

	if (!tid || !asc_look_peek(look, futex, 4, &v) || v != (uint64_t)tid)
		return false;
	*ret = tid;
	return true;
}

static void name_wait(const struct asc_look *look, const struct waits *w, asc_addr futex,
		      struct asc_stuck_thread *ret)
{
	if (!strcmp(w->what, "the end of a thread"))
		ret->joins = joined_thread(look, futex);
	if (ret->joins)
		snprintf(ret->what, sizeof(ret->what), "the end of thread %d", (int)ret->joins);
	else
		snprintf(ret->what, sizeof(ret->what), "%s", w->what);
}

/* Code, from memory or from the file behind it: many cores leave it out. */
static bool code_at(const struct asc_look *look, asc_addr pc, uint8_t *ret, size_t len)
{
	struct asc_module *mod;
	struct asc_elf *e;

	if (asc_read_some(look->t, pc, ret, len) == len)
		return true;
	mod = look->m ? asc_modules_at(look->m, pc) : NULL;
	e = mod ? asc_module_elf(look->m, mod) : NULL;
	return e && asc_elf_read(e, pc - mod->bias, ret, len) == len;
}

/*
 * A core of aarch64 says in a note of its own which call a thread was in. Without it, as in those
 * of qemu, the instruction does: behind `svc #0` the registers are still the call's.
 */
static bool infer_call(const struct asc_look *look, const struct asc_thread *th,
		       struct asc_thread *ret)
{
	static const uint8_t svc[] = { 0x01, 0x00, 0x00, 0xd4 };
	const struct asc_arch *arch = asc_target_arch(look->t);
	uint8_t code[sizeof(svc)];
	asc_addr pc;

	if (arch->e_machine != EM_AARCH64 || th->syscall_nr != INT64_MIN ||
	    !asc_regs_pc(look->t, &th->regs, &pc) || pc < sizeof(svc) ||
	    !code_at(look, pc - sizeof(svc), code, sizeof(code)) ||
	    memcmp(code, svc, sizeof(svc)) != 0)
		return false;
	*ret = *th;
	ret->syscall_nr = (int64_t)asc_arch_reg(arch, th->regs.raw, th->regs.len, arch->syscall_nr);
	for (size_t i = 0; i < ASC_ARRAY_SIZE(ret->syscall_args); i++)
		ret->syscall_args[i] =
			asc_arch_reg(arch, th->regs.raw, th->regs.len, arch->args[i]);
	ret->syscall_args_valid = true;
	return true;
}

void asc_stuck_classify(const struct asc_look *look, const struct asc_thread *th,
			const struct asc_trace *trace, struct asc_stuck_thread *ret,
			enum asc_lock_kind *ret_kind)
{
	static const struct asc_trace none;
	const struct waits *w;
	struct asc_thread inferred;

	if (!trace)
		trace = &none;
	if (infer_call(look, th, &inferred))
		th = &inferred;
	w = wait_of(trace);
	*ret = (struct asc_stuck_thread){ .tid = th->tid, .lock = -1 };
	*ret_kind = ASC_LOCK_FUTEX;
	ret->futex = futex_of(asc_target_arch(look->t), th);
	if (th->state == 'D') {
		ret->doing = ASC_DOING_DISK;
		name_call(th, trace, ret);
		/* the program's word for it, and the kernel's */
		if (th->wchan[0] && strcmp(ret->what, th->wchan) != 0)
			snprintf(ret->what + strlen(ret->what),
				 sizeof(ret->what) - strlen(ret->what), " (%s)", th->wchan);
	} else if (th->state == 'T') {
		ret->doing = ASC_DOING_STOP;
		snprintf(ret->what, sizeof(ret->what), "stopped by a signal");
	} else if (w && (ret->futex || asc_function_is(w->function, "__lll_lock_wait_private"))) {
		/* the slow path without its system call: just woken, or about to sleep */
		ret->doing = w->doing;
		*ret_kind = w->kind;
		name_wait(look, w, ret->futex, ret);
	} else if (ret->futex && joined_by_address(look, ret->futex, &ret->joins)) {
		ret->doing = ASC_DOING_IDLE;
		snprintf(ret->what, sizeof(ret->what), "the end of thread %d", (int)ret->joins);
	} else if (ret->futex) {
		ret->doing = ASC_DOING_IDLE;
		snprintf(ret->what, sizeof(ret->what), "%s 0x%" PRIx64,
			 waits_for_event(look, th) ? "event" : "futex", ret->futex);
	} else if (th->syscall_nr >= 0) {
		ret->doing = ASC_DOING_IDLE;
		name_call(th, trace, ret);
	} else if (th->syscall_nr == -1) {
		ret->doing = ASC_DOING_RUN;
	}
	ret->unseen = !trace->n || th->ran_meanwhile || (th->regs.partial && trace->note);
	look_for_malloc(trace, ret, w && w->kind == ASC_LOCK_LOWLEVEL);
}
