/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is decided before the target is stopped: is it possible, and with which addresses. */
#include "act/inject.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/heap.h"
#include "symbols/tls.h"
#include "target/proc.h"

static struct asc_error *refuse(const char *id, const char *what, const char *why, const char *hint)
{
	struct asc_error *err = asc_err_id(asc_err(ASC_EUNSUPPORTED, "%s", what), id);

	if (why)
		asc_err_why(err, "%s", why);
	return hint ? asc_err_try(err, "%s", hint) : err;
}

#if ASC_CAN_INJECT
enum { HEADROOM = 0x6000, MALLOC_MAX = 1 << 20, BSS = 0x10000 };

/* Functions of malloc.o, which lie together. */
static const char *const malloc_functions[] = {
	"malloc",
	"free",
	"calloc",
	"realloc",
	"memalign",
	"malloc_trim",
	"mallopt",
	"malloc_info",
	"mallinfo2",
	"malloc_stats",
	"malloc_usable_size",
	"pvalloc",
	"aligned_alloc",
	"valloc",
	NULL,
};
static const char *const malloc_inner[] = {
	"_int_malloc",
	"_int_free",
	"_int_realloc",
	"_int_memalign",
	"sysmalloc",
	"systrim",
	"arena_get2",
	"unlink_chunk",
	"malloc_consolidate",
	"sysmalloc_mmap",
	"new_heap",
	"grow_heap",
	"heap_trim",
	"tcache_init",
	"ptmalloc_init",
	"alloc_new_heap",
	"tcache_thread_shutdown",
	"arena_get_retry",
	"__malloc_fork_lock_parent",
	"_int_free_merge_chunk",
	"_int_free_create_chunk",
	"_int_free_maybe_trim",
	"mem2chunk_check",
	NULL,
};

static bool stretch(const struct asc_act_ctx *c, const char *const *names, asc_addr *lo,
		    asc_addr *hi)
{
	bool any = false;

	for (; *names; names++) {
		struct asc_sym sym;
		struct asc_error *err = asc_symbol_find(c->modules, c->lib->module, *names, &sym);

		if (err) {
			asc_error_free(err);
			continue;
		}
		if (*hi && (sym.addr + MALLOC_MAX < *lo || sym.addr > *hi + MALLOC_MAX))
			continue;
		*lo = *hi ? asc_min(*lo, sym.addr) : sym.addr;
		*hi = asc_max(*hi, sym.addr + sym.size);
		any = true;
	}
	return any;
}

static void malloc_range(const struct asc_act_ctx *c, struct asc_op *op)
{
	stretch(c, malloc_functions, &op->malloc_lo, &op->malloc_hi);
	/* the inner functions come first; without their names a margin has to do */
	if (!stretch(c, malloc_inner, &op->malloc_lo, &op->malloc_hi))
		op->malloc_lo -= asc_min(op->malloc_lo, HEADROOM);
}

static void ranges(const struct asc_act_ctx *c, struct asc_op *op)
{
	op->libc_lo = c->lib->module->start;
	op->libc_hi = c->lib->module->end + BSS;
	for (size_t i = 0; i < asc_modules_count(c->modules); i++) {
		const struct asc_module *m = asc_modules_get(c->modules, i);
		const char *base = strrchr(m->path, '/');

		if (base && !strncmp(base, "/ld-linux", 9)) {
			op->ld_lo = m->start;
			op->ld_hi = m->end;
		}
	}
}

static void find_errno(const struct asc_act_ctx *c, struct asc_op *op)
{
	struct asc_sym sym;
	struct asc_error *err;

	if (!c->lib->tls_known)
		return;
	err = asc_symbol_find(c->modules, c->lib->module, "errno", &sym);
	if (!err) {
		op->errno_off = c->lib->tls_offset - sym.addr;
		op->errno_known = true;
	}
	asc_error_free(err);
}

/* Does one of its threads, nobody knows which, answer for page faults of the others? */
static bool serves_faults(pid_t pid)
{
	char path[64], to[64];
	struct dirent *e;
	bool found = false;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)asc_proc_live_tid(pid));
	d = opendir(path);
	while (d && !found && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, to, sizeof(to) - 1);

		to[n > 0 ? n : 0] = 0;
		found = strstr(to, "[userfaultfd]") != NULL;
	}
	if (d)
		closedir(d);
	return found;
}

static struct asc_error *emulators(pid_t pid)
{
	static const char *const names[] = { "/valgrind/", "/qemu-", "/box64", "/rosetta" };
	char path[64], exe[512];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	n = readlink(path, exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = 0;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(names); i++) {
		if (strstr(exe, names[i]))
			return refuse("E-EMULATED", "the process runs inside an emulator", exe,
				      NULL);
	}
	return NULL;
}

/* Corruption where the call would walk: malloc would abort, and take the program with it. */
static struct asc_error *damage(const struct asc_heap *heap, int arena)
{
	const struct asc_finding *worst = NULL;
	struct asc_error *err;
	size_t n = 0;

	for (size_t i = 0; heap && i < heap->nfindings; i++) {
		const struct asc_finding *f = &heap->findings[i];

		if (f->severity != ASC_SEV_CORRUPT ||
		    (arena >= 0 && f->arena >= 0 && f->arena != arena))
			continue;
		if (f->arena >= 0 && (size_t)f->arena < heap->narenas &&
		    heap->arenas[f->arena].busy)
			continue;
		worst = worst ? worst : f;
		n++;
	}
	if (!worst && !(heap && heap->ring_broken))
		return NULL;
	err = asc_err_id(asc_err(ASC_EOTHER, "the heap is damaged: nothing was done"), "E-CORRUPT");
	if (worst)
		asc_err_why(err, "%s at 0x%llx (arena %d): %s%s", worst->code,
			    (unsigned long long)worst->addr, worst->arena, worst->message,
			    n > 1 ? ", and more" : "");
	else
		asc_err_why(err, "the list of arenas is broken");
	return asc_err_try(err, "`check` shows everything; --force does it all the same");
}

static struct asc_error *ring(const struct asc_act_ctx *c, struct asc_op *op)
{
	bool broken = false;

	ASC_TRY(asc_arena_ring(c->live, c->lib, &op->arenas, &op->narenas, &broken));
	if (broken || !op->narenas)
		return asc_err_id(
			asc_err(ASC_EOTHER, "the list of arenas is broken: nothing was done"),
			"E-CORRUPT");
	return NULL;
}

struct asc_error *asc_op_prepare(const struct asc_act_ctx *c, int arena, struct asc_op *ret)
{
	struct asc_op op = { .c = c, .pid = asc_target_pid(c->live) };
	struct asc_error *err;

	if (asc_target_kind(c->live) != ASC_LIVE)
		return refuse("E-CORE", "a core file cannot be changed", NULL, NULL);
	if (!asc_target_alive(c->live))
		return asc_err_id(asc_err(ASC_ENOTARGET, "process %d has exited", op.pid),
				  "E-EXITED");
	if (asc_target_arch(c->live) != asc_arch_native())
		return refuse("E-ARCH", "this build calls into x86-64 processes only",
			      "the target runs another instruction set",
			      "trim -n and reclaim -n work");
	ASC_TRY(emulators(op.pid));
	op.watched = serves_faults(op.pid);
	/* what the call touches or releases may wait for that very thread */
	if (op.watched && !c->opts.tid)
		return refuse(
			"E-THREAD", "a thread of the process serves a userfaultfd",
			"which one is not known: if it were borrowed, it would wait for itself",
			"--tid=TID, of a thread that does not");
	if (!c->lib->module)
		return refuse("E-NOFUNC", "the target's libc is known from memory only", NULL,
			      NULL);
	if (!c->opts.force)
		ASC_TRY(damage(c->heap, arena));
	/* A target that is held by the session would answer nobody. */
	asc_target_release(c->live, NULL);
	err = asc_gadgets_find(c, &op.g);
	if (!err)
		err = ring(c, &op);
	if (err) {
		asc_op_deinit(&op);
		if (asc_target_alive(c->live))
			return err;
		return asc_err_id(asc_wrap(err, "process %d exited or changed its program", op.pid),
				  "E-EXITED");
	}
	malloc_range(c, &op);
	ranges(c, &op);
	find_errno(c, &op);
	*ret = op;
	return NULL;
}

void asc_op_deinit(struct asc_op *op)
{
	free(op->arenas);
	free(op->skips);
	op->arenas = NULL;
	op->skips = NULL;
}
#endif

#if !ASC_CAN_INJECT
static struct asc_error *nowhere(struct asc_act_result *ret)
{
	*ret = (struct asc_act_result){ 0 };
	return refuse("E-ARCH", "this build of arenascope cannot call into a process",
		      "calls are made on x86-64 only", "trim -n and reclaim -n work");
}

struct asc_error *asc_act_trim(const struct asc_act_ctx *c, uint64_t pad,
			       struct asc_act_result *ret)
{
	(void)c;
	(void)pad;
	return nowhere(ret);
}

struct asc_error *asc_act_reclaim(const struct asc_act_ctx *c, int arena,
				  struct asc_act_result *ret)
{
	(void)c;
	(void)arena;
	return nowhere(ret);
}

struct asc_error *asc_act_mallopt(const struct asc_act_ctx *c, int param, int value,
				  struct asc_act_result *ret)
{
	(void)c;
	(void)param;
	(void)value;
	return nowhere(ret);
}
#endif
