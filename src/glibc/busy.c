/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Is malloc in the middle of something? With threads every transient state is covered by an arena's
 * lock. A single-threaded process takes no lock: there the PC and the frames of the stack tell,
 * since nothing that malloc calls while its lists are open runs user code.
 */
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "glibc/heap.h"
#include "symbols/unwind.h"

enum { STACK_BYTES = 16384 };

struct code {
	asc_addr start, end;
};
typedef ASC_VEC(struct code) code_vec;

/* Where the lists are changed; the inlined parts are in these, too. */
static const char *const names[] = {
	"_int_malloc",	 "_int_free",	  "_int_realloc",   "_int_memalign", "malloc_consolidate",
	"sysmalloc",	 "systrim",	  "unlink_chunk",   "heap_trim",     "new_heap",
	"shrink_heap",	 "grow_heap",	  "sysmalloc_mmap", "tcache_init",   "ptmalloc_init",
	"__libc_malloc", "__libc_free",	  "__libc_realloc", "__libc_calloc", "__libc_memalign",
	"malloc",	 "free",	  "realloc",	    "calloc",	     "memalign",
	"cfree",	 "aligned_alloc", "posix_memalign", "malloc_trim",   "__malloc_trim",
};

/* Parts that the compiler splits off: _int_free.part.0, _int_free_merge_chunk ... */
static const char *const prefixes[] = {
	"_int_free_", "_int_malloc.",  "_int_free.",	      "sysmalloc.",
	"sysmalloc_", "unlink_chunk.", "malloc_consolidate.", "_int_realloc.",
	"tcache_",    "systrim.",      "heap_trim."
};

static struct asc_error *push(code_vec *v, const struct asc_sym *s)
{
	struct code c = { s->addr, s->addr + s->size };

	return s->size ? asc_vec_push(v, c) : NULL;
}

/* Two passes over the symbols, for this is done with the target stopped. */
static struct asc_error *find_code(struct asc_modules *m, struct asc_module *mod, code_vec *v,
				   bool *ret_inner)
{
	enum { NNAMES = ASC_ARRAY_SIZE(names), PARTS_MAX = 16 * ASC_ARRAY_SIZE(prefixes) };
	ASC_AUTO(asc_freep) struct asc_sym *s = calloc(asc_max(NNAMES, PARTS_MAX), sizeof(*s));
	size_t n;

	if (!s)
		return asc_err(ASC_ENOMEM, "symbols");
	asc_symbols_find(m, mod, names, NNAMES, s);
	*ret_inner |= s[0].name[0];
	for (size_t i = 0; i < NNAMES; i++)
		if (s[i].name[0])
			ASC_TRY(push(v, &s[i]));
	n = asc_symbols_prefix(m, mod, prefixes, ASC_ARRAY_SIZE(prefixes), s, PARTS_MAX);
	for (size_t i = 0; i < n; i++)
		ASC_TRY(push(v, &s[i]));
	return NULL;
}

/*
 * Without a debug file only the exported functions are known. The static ones of malloc.c are
 * compiled beside them: everything between the first and the last, and a little around.
 */
static struct asc_error *widen(code_vec *v)
{
	enum { AROUND = 0x3000 };
	struct code all;

	if (!v->len)
		return NULL;
	all = v->data[0];
	for (size_t i = 0; i < v->len; i++) {
		all.start = asc_min(all.start, v->data[i].start);
		all.end = asc_max(all.end, v->data[i].end);
	}
	/* ld may sort functions apart: then there is no neighbourhood */
	if (all.end - all.start > 16 * AROUND)
		return NULL;
	all.start -= asc_min(all.start, AROUND);
	all.end += AROUND / 2;
	return asc_vec_push(v, all);
}

static bool inside(const code_vec *v, asc_addr pc)
{
	for (size_t i = 0; i < v->len; i++)
		if (pc >= v->data[i].start && pc < v->data[i].end)
			return true;
	return false;
}

/* A return address of malloc's among the words above the stack pointer? Old ones count as well. */
static bool on_stack(struct asc_target *t, asc_addr sp, const code_vec *v)
{
	const unsigned word = asc_target_arch(t)->word_size;
	ASC_AUTO(asc_freep) uint8_t *b = malloc(STACK_BYTES);
	size_t got;

	if (!b)
		return true;
	got = asc_read_some(t, sp, b, STACK_BYTES);
	for (size_t i = 0; i + word <= got; i += word) {
		asc_addr ret = asc_word_at(t, b + i);

		/* a return address is behind a call, not at a function's first byte */
		if (inside(v, ret) && inside(v, ret - 1))
			return true;
	}
	return false;
}

/* By the frames; where they cannot be had, by whatever is on the stack. */
static bool in_malloc(struct asc_target *t, struct asc_modules *m, const struct asc_thread *th,
		      const code_vec *v)
{
	enum { DEPTH = 128 };
	struct asc_stack stack = { 0 };
	struct asc_error *err;
	bool found = false, whole;
	asc_addr pc, sp;

	if (!asc_regs_pc(t, &th->regs, &pc) || !asc_regs_sp(t, &th->regs, &sp))
		return false;
	if (inside(v, pc))
		return true;
	err = asc_unwind(m, t, th, DEPTH, &stack);
	whole = !err && stack.n > 1;
	for (size_t i = 1; i < stack.n && !found; i++)
		found = inside(v, stack.v[i].pc - 1);
	if (!err)
		asc_stack_free(&stack);
	asc_error_free(err);
	/* asleep in a system call that is none of malloc's: old frames' words would mislead */
	if (found || whole || th->syscall_nr > 0)
		return found;
	/* a core is not asked again a moment later: it is not called busy for what old words may mean */
	if (asc_target_kind(t) == ASC_CORE)
		return false;
	return on_stack(t, sp, v);
}

static bool thread_inside(struct asc_target *t, struct asc_modules *m, const struct asc_libc *lib,
			  pid_t *ret_tid)
{
	const struct asc_thread *threads;
	struct asc_error *err;
	code_vec v = { 0 };
	bool inner = false, found = false;
	size_t n;

	threads = asc_target_threads(t, &n);
	if (!m || !lib->module)
		return false;
	err = find_code(m, lib->module, &v, &inner);
	if (!err && !inner)
		err = widen(&v);
	for (size_t i = 0; i < n && !err && !found; i++) {
		found = in_malloc(t, m, &threads[i], &v);
		if (found)
			*ret_tid = threads[i].tid;
	}
	asc_vec_free(&v);
	asc_error_free(err);
	return found;
}

static bool single(struct asc_target *t, const struct asc_libc *lib)
{
	uint64_t v = 1;
	struct asc_error *err = NULL;
	size_t n;

	if (!lib->layout.single_thread_unlocked)
		return false;
	if (lib->single_threaded)
		err = asc_read_uint(t, lib->single_threaded, 1, &v);
	else if (lib->multiple_threads) {
		err = asc_read_uint(t, lib->multiple_threads, 4, &v);
		v = v == 0;
	}
	if (err || (!lib->single_threaded && !lib->multiple_threads)) {
		asc_error_free(err);
		asc_target_threads(t, &n);
		return n <= 1;
	}
	return v != 0;
}

bool asc_heap_busy(struct asc_target *t, struct asc_modules *m, const struct asc_libc *lib,
		   asc_addr *ret_arena, pid_t *ret_tid)
{
	ASC_AUTO(asc_freep) asc_addr *ring = NULL;
	struct asc_error *err;
	bool broken;
	size_t n = 0;

	*ret_arena = 0;
	*ret_tid = 0;
	if (single(t, lib))
		return thread_inside(t, m, lib, ret_tid);
	err = asc_arena_ring(t, lib, &ring, &n, &broken);
	for (size_t i = 0; i < n && !err; i++) {
		uint64_t mutex;

		err = asc_field_u64(t, ring[i], lib->layout.malloc_state_mutex, &mutex);
		if (!err && mutex) {
			*ret_arena = ring[i];
			return true;
		}
	}
	asc_error_free(err);
	return false;
}
