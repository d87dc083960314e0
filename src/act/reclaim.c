/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reclaim: the routine of routine/rt.c in a mapping of its own inside the target. The mapping is
 * made readable and writable, its first pages are then replaced by readable and executable ones (at
 * no time both), and the code is written through /proc/PID/mem. The chain of the frame unmaps it at
 * the end: mmap's result goes straight into munmap's argument on T's stack, so that a kill at any
 * moment leaves nothing behind.
 */
#include "act/call.h"

#if ASC_CAN_INJECT
#include <errno.h>
#include <linux/ptrace.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/proc.h"

static const uint8_t code[] = {
#include "routine_code.inc"
};

enum {
	STEP_MS = 10000,
	SLICE_DEFAULT_US = 1000, /* and then one batch: 5 ms is what is promised */
	BATCH_FIRST = 16,
	PIECE = 1 << 20,
	SLOTS_MIN = 64,
	SLOTS_MAX = 1 << 16,
	STOP_MS = 4000, /* longer than it waits for a lock that is held for good */
	KERNEL_ERRORS = 4095,
};

/*
 * Ranges in which a release would be noticed by others than malloc: userfaultfd, shared memory,
 * tags. And those of hugetlb: many kernels do not give the reservation back with the page, so that
 * the next touch may find the pool empty, which is a SIGBUS.
 */
static struct asc_error *find_skips(pid_t pid, struct asc_op *op)
{
	static const char *const flags[] = { " um", " uw", " ui", " mt", " sh", " ht" };
	struct asc_text text = { 0 };
	ASC_VEC(struct asc_range) v = { 0 };
	struct asc_range at = { 0 };
	struct asc_error *err = NULL;
	char *line, *next;

	if (asc_proc_read(pid, asc_proc_live_tid(pid), "smaps", &text))
		return asc_err_os(errno, "cannot read the mappings of process %d", pid);
	next = text.p;
	while (!err && (line = asc_text_line(&next))) {
		unsigned long long lo, hi;
		char perms[8];

		if (sscanf(line, "%llx-%llx %7s", &lo, &hi, perms) == 3) {
			/* only what malloc could use: private and writable */
			bool ours = perms[1] == 'w' && perms[3] == 'p';

			at = (struct asc_range){ lo, ours ? hi - lo : 0 };
			continue;
		}
		if (strncmp(line, "VmFlags:", 8) || !at.len)
			continue;
		op->hugetlb |= strstr(line, " ht") != NULL;
		for (size_t i = 0; i < ASC_ARRAY_SIZE(flags); i++) {
			if (strstr(line, flags[i])) {
				err = asc_vec_push(&v, at);
				break;
			}
		}
	}
	asc_text_free(&text);
	op->skips = v.data;
	op->nskips = v.len;
	return err;
}

/* One page map for every 64 MiB of memory that malloc could own, and room for what comes. */
static uint64_t slots(const struct asc_maps *maps)
{
	uint64_t regions = 16, n = SLOTS_MIN;

	for (size_t i = 0; i < maps->n; i++) {
		const struct asc_map *m = &maps->v[i];

		if (m->flags & ASC_MAP_WRITE && !(m->flags & ASC_MAP_SHARED))
			regions += (m->end >> ASC_RT_REGION_SHIFT) -
				   (m->start >> ASC_RT_REGION_SHIFT) + 1;
	}
	while (n < 2 * regions && n < SLOTS_MAX)
		n *= 2;
	return n;
}

static struct asc_error *word(const struct asc_act_ctx *c, struct asc_field f, uint64_t *ret)
{
	return f.present ? asc_read_uint(c->live, c->lib->mp + f.off, f.size, ret) : NULL;
}

static struct asc_error *parameters(const struct asc_act_ctx *c, int arena, struct asc_op *op)
{
	const struct asc_layout *l = &c->lib->layout;
	struct asc_rt_par *p = &op->par;
	uint64_t huge = 0, page = asc_target_page_size(c->live);

	ASC_TRY(word(c, l->malloc_par_hp_pagesize, &huge));
	ASC_TRY(word(c, l->malloc_par_sbrk_base, &p->sbrk_base));
	if (!asc_is_pow2(page) || (huge && !asc_is_pow2(huge)) || huge > l->heap_max)
		return asc_err_id(asc_err(ASC_EOTHER, "mp_ of process %d is damaged", op->pid),
				  "E-CORRUPT");
	if (arena >= 0 && (size_t)arena >= op->narenas)
		return asc_err(ASC_ENOTFOUND, "there is no arena %d", arena);
	p->first = op->arenas[arena >= 0 ? arena : 0];
	p->only = arena >= 0;
	p->main_arena = c->lib->main_arena;
	p->page = page;
	ASC_TRY(find_skips(op->pid, op));
	/* whole huge pages or nothing: some kernels round a release of a part up */
	p->granule = op->hugetlb ? asc_max(page, huge) : page;
	p->slice_ns = (c->opts.slice_us ? c->opts.slice_us : SLICE_DEFAULT_US) * 1000ull;
	p->piece = asc_max(PIECE, p->granule);
	p->batch = BATCH_FIRST;
	p->heap_max = huge && l->heap_max_is_4hp ? 4 * huge : l->heap_max;
	p->heap_header = l->sizeof__heap_info;
	p->chunk_struct = l->chunk_struct;
	p->min_size = l->minsize;
	p->o_mutex = l->malloc_state_mutex.off;
	p->o_flags = l->malloc_state_flags.off;
	p->o_top = l->malloc_state_top.off;
	p->o_bins = l->malloc_state_bins.off;
	p->o_next = l->malloc_state_next.off;
	p->o_system_mem = l->malloc_state_system_mem.off;
	p->o_ar_ptr = l->_heap_info_ar_ptr.off;
	p->o_heap_size = l->_heap_info_size.off;
	p->o_prev = l->_heap_info_prev.off;
	op->code = code;
	op->code_len = asc_align_up(sizeof(code), page);
	op->slots = slots(asc_target_maps(c->live));
	return NULL;
}

static uint64_t table_bytes(const struct asc_op *op)
{
	return op->slots * (8 + ASC_RT_MAP_BYTES);
}

static uint64_t map_bytes(const struct asc_op *op)
{
	return asc_align_up(op->code_len + table_bytes(op) +
				    op->nskips * sizeof(struct asc_rt_skip),
			    op->par.page);
}

/* ---- in the helper ---- */

struct run {
	struct asc_borrow *b;
	struct asc_op *op;
	asc_addr map; /* 0: none */
	int sig;
	unsigned step;
};

static struct asc_error *step(struct run *r, const struct asc_go *go, asc_addr stop, double timeout,
			      enum asc_ran *how)
{
	struct asc_go g = *go;

	g.step = 4 + 30 * r->step;
	ASC_TRY(asc_borrow_start(r->b, &g));
	*how = asc_borrow_wait(r->b, stop, timeout, &r->sig);
	asc_act_fault(r->op, 9 + 30 * r->step);
	r->step++;
	return NULL;
}

static enum asc_ran map_call(struct run *r, asc_addr at, uint64_t len, int prot, int flags,
			     asc_addr store_to, uint64_t *ret)
{
	struct asc_go go = {
		.pc = r->op->g.syscall,
		.sp = r->b->f.entry,
		.store_to = store_to,
		.rax = SYS_mmap,
		.args = { at, len, (uint64_t)prot, (uint64_t)(MAP_PRIVATE | MAP_ANONYMOUS | flags),
			  UINT64_MAX, 0 },
	};
	enum asc_ran how;
	struct asc_error *err = step(r, &go, r->b->f.stop1, STEP_MS, &how);

	if (err) {
		asc_error_free(err);
		return ASC_RAN_GONE;
	}
	if (how == ASC_RAN && !asc_peek(r->b, store_to, ret, sizeof(*ret)))
		return ASC_RAN_GONE;
	return how;
}

static bool is_error(uint64_t v)
{
	return v >= UINT64_MAX - KERNEL_ERRORS;
}

/* /proc/PID/mem may be forbidden to override page protection; ptrace is not. */
static bool write_code(struct run *r)
{
	const struct asc_op *op = r->op;

	if (asc_poke(r->b, r->map, op->code, sizeof(code)))
		return true;
	for (size_t i = 0; i < sizeof(code); i += 8) {
		uint64_t w = 0;
		size_t n = sizeof(code) - i < 8 ? sizeof(code) - i : 8;

		memcpy(&w, op->code + i, n);
		if (asc_pt(PTRACE_POKEDATA, r->b->tid, r->map + i, (void *)(uintptr_t)w))
			return false;
	}
	return true;
}

/*
 * On a machine with more to run than CPUs, the one who holds a lock must not be the one who waits.
 * The routine gives the priority back by itself, and must be able to.
 */
static void plan_hurry(const struct run *r)
{
	const struct asc_borrow *b = r->b;
	int policy = sched_getscheduler(b->tid), nice;

	errno = 0;
	nice = getpriority(PRIO_PROCESS, (id_t)b->tid);
	if (errno || b->filtered || (policy != SCHED_OTHER && policy != SCHED_BATCH))
		return;
	r->op->par.raised = 1;
	r->op->par.nice = (uint64_t)(int64_t)nice;
}

/* After a crash, which did not come to its end. */
static void end_hurry(const struct run *r)
{
	if (r->op->par.raised)
		setpriority(PRIO_PROCESS, (id_t)r->b->tid, (int)(int64_t)r->op->par.nice);
}

static bool write_all(struct run *r)
{
	struct asc_op *op = r->op;
	asc_addr skips = r->map + op->code_len + table_bytes(op);

	if (!write_code(r))
		return false;
	asc_act_fault(op, 21);
	for (size_t i = 0; i < op->nskips; i++) {
		struct asc_rt_skip s = { op->skips[i].addr, op->skips[i].addr + op->skips[i].len };

		if (!asc_poke(r->b, skips + i * sizeof(s), &s, sizeof(s)))
			return false;
	}
	op->par.map = r->map;
	op->par.map_len = map_bytes(op);
	op->par.table = r->map + op->code_len;
	op->par.slots = op->slots;
	op->par.skips = skips;
	op->par.nskips = op->nskips;
	plan_hurry(r);
	if (!asc_poke(r->b, r->b->f.par, &op->par, sizeof(op->par)))
		return false;
	asc_act_fault(op, 22);
	return true;
}

/* Ctrl-C: the routine ends after its slice; if it does not, it goes on by itself. */
static enum asc_ran run_routine(struct run *r, asc_addr entry)
{
	struct asc_go go = {
		.pc = r->map + entry,
		.sp = r->b->f.entry,
		.store_to = r->b->f.result,
		.args = { r->b->f.par },
		.hurry = entry == ASC_RT_RECLAIM && r->op->par.raised,
	};
	uint64_t one = 1;
	enum asc_ran how;
	struct asc_error *err = step(r, &go, r->b->f.stop1, asc_act_timeout(r->op), &how);

	if (err) {
		asc_error_free(err);
		return ASC_RAN_GONE;
	}
	if (how == ASC_RAN_TIMEOUT && atomic_load(&r->op->sh->cancel)) {
		asc_poke(r->b, r->b->f.par + offsetof(struct asc_rt_par, stop), &one, sizeof(one));
		r->b->stopping = true;
		how = asc_borrow_wait(r->b, r->b->f.stop1, STOP_MS, &r->sig);
	}
	return how;
}

static void results(struct run *r, struct asc_act_result *res)
{
	struct asc_rt_par p;

	if (!asc_peek(r->b, r->b->f.par, &p, sizeof(p)))
		return;
	res->asked_bytes = p.bytes;
	res->ranges = p.ranges;
	res->arenas = p.arenas;
	res->errors = p.errors;
	res->first_errno = p.first_errno;
	res->max_hold_ms = (double)p.max_hold_ns / 1e6;
	res->max_hold_cpu_ms = (double)p.max_hold_cpu_ns / 1e6;
	res->max_wait_ms = (double)p.max_wait_ns / 1e6;
	res->return_value = (int64_t)p.ranges;
	res->return_value_known = true;
	res->complete = p.done && !p.skipped && !p.damaged;
	if (p.damaged) {
		asc_act_note(
			res,
			"a list of free chunks is damaged at 0x%llx: it was not followed further",
			(unsigned long long)p.damaged_at);
	} else if (p.skipped) {
		res->busy_arena = p.skipped_at;
		asc_act_note(res, "%llu arena%s left out: %s held for seconds",
			     (unsigned long long)p.skipped, p.skipped == 1 ? " was" : "s were",
			     p.skipped == 1 ? "its lock was" : "their locks were");
	} else if (p.errors) {
		asc_act_note(res, "%llu ranges could not be released: %s",
			     (unsigned long long)p.errors, strerror((int)p.first_errno));
	}
}

static void crash(struct run *r, struct asc_act_result *res)
{
	struct asc_rt_par p = { 0 };
	int sig = r->sig;

	end_hurry(r);
	res->outcome = ASC_ACT_CRASHED;
	res->crash_signal = sig;
	res->complete = false;
	asc_peek(r->b, r->b->f.par, &p, sizeof(p));
	if (!p.held) {
		asc_act_note(res,
			     "the routine crashed (%s); the thread was restored; no lock was held",
			     strsignal(sig));
		return;
	}
	/* the holder unlocks by itself, as always */
	res->lock_repaired = run_routine(r, ASC_RT_UNLOCK) == ASC_RAN;
	asc_act_note(res,
		     "the routine crashed (%s); the thread was restored, and the arena lock %s",
		     strsignal(sig), res->lock_repaired ? "was freed" : "may be left behind");
}

/* Unmap by the chain's own end, and put everything back. */
static enum asc_ran unmap(struct run *r)
{
	struct asc_go go = { .pc = r->op->g.pop_rdi,
			     .sp = r->b->f.munmap,
			     .store_to = r->b->f.result };
	enum asc_ran how;
	struct asc_error *err = step(r, &go, r->b->f.stop2, STEP_MS, &how);

	if (err) {
		asc_error_free(err);
		return ASC_RAN_GONE;
	}
	return how;
}

static struct asc_error *no_mapping(uint64_t v, const char *what)
{
	struct asc_error *err = asc_err_id(
		asc_err(ASC_EUNSUPPORTED, "the target may not have %s", what), "E-EXECMEM");

	asc_err_why(err, "mmap inside it: %s", strerror((int)-(int64_t)v));
	return asc_err_try(err, "`trim` needs no mapping");
}

/* The four steps. @p ret_how: how the last one ended */
static struct asc_error *steps(struct run *r, struct asc_act_result *res, enum asc_ran *ret_how)
{
	struct asc_op *op = r->op;
	struct asc_error *err = NULL;
	uint64_t v = 0;
	double began;

	*ret_how = map_call(r, 0, map_bytes(op), PROT_READ | PROT_WRITE, 0, r->b->f.map_word, &v);
	if (*ret_how != ASC_RAN)
		return NULL;
	if (is_error(v))
		return no_mapping(v, "a new mapping");
	r->map = v;
	*ret_how = map_call(r, r->map, op->code_len, PROT_READ | PROT_EXEC, MAP_FIXED,
			    r->b->f.result, &v);
	if (*ret_how != ASC_RAN)
		return NULL;
	if (is_error(v)) {
		err = no_mapping(v, "an executable mapping");
	} else if (!write_all(r)) {
		err = asc_err_os(errno, "cannot write the routine into the target");
	} else {
		began = asc_act_now();
		*ret_how = run_routine(r, ASC_RT_RECLAIM);
		res->call_ms = asc_act_now() - began;
		if (*ret_how != ASC_RAN && *ret_how != ASC_RAN_CRASH)
			return NULL;
		results(r, res);
		if (*ret_how == ASC_RAN_CRASH)
			crash(r, res);
	}
	*ret_how = unmap(r);
	return err;
}

static void finish(struct run *r, enum asc_ran how, struct asc_act_result *res)
{
	struct asc_borrow *b = r->b;

	switch (how) {
	case ASC_RAN:
	case ASC_RAN_CRASH:
	case ASC_RAN_ABORT:
		res->verified = asc_borrow_restore(b);
		return;
	case ASC_RAN_BACK:
		asc_act_back(b);
		res->complete = false;
		asc_act_note(res, "the thread came back by itself: what was done is not known");
		return;
	case ASC_RAN_TIMEOUT:
		asc_act_left(b, asc_act_now() - b->since, res);
		return;
	case ASC_RAN_GONE:
		res->outcome = ASC_ACT_GONE;
		asc_act_note(res, "the process or its thread %d ended meanwhile", b->tid);
		return;
	}
}

static struct asc_error *run(struct asc_borrow *b, struct asc_op *op)
{
	struct run r = { .b = b, .op = op };
	struct asc_error *err;
	enum asc_ran how = ASC_RAN;

	ASC_TRY(asc_begin_any(b));
	err = asc_borrow_write(b, map_bytes(op));
	if (err) {
		asc_halt_release(&b->halt, 0);
		return err;
	}
	err = steps(&r, &op->sh->result, &how);
	finish(&r, how, &op->sh->result);
	asc_act_times(b, &op->sh->result);
	return err;
}

static struct asc_error *reclaim(struct asc_op *op)
{
	ASC_AUTO(asc_freep) struct asc_borrow *b = calloc(1, sizeof(*b));
	struct asc_error *err;

	if (!b)
		return asc_err(ASC_ENOMEM, "the helper process");
	b->op = op;
	b->mem = -1;
	b->halt.pid = op->pid;
	err = run(b, op);
	asc_borrow_end(b);
	return err;
}

struct asc_error *asc_act_reclaim(const struct asc_act_ctx *c, int arena,
				  struct asc_act_result *ret)
{
	struct asc_op op = { 0 };
	struct asc_error *err;

	*ret = (struct asc_act_result){ 0 };
	ASC_TRY(asc_op_prepare(c, arena, &op));
	op.reclaim = true;
	if (!op.g.store)
		err = asc_err_id(asc_err_why(asc_err(ASC_EUNSUPPORTED,
						     "the target's code lacks what reclaim needs"),
					     "no instruction that stores a result"),
				 "E-GADGET");
	else
		err = parameters(c, arena, &op);
	if (!err)
		err = asc_helper_run(&op, reclaim, ret);
	asc_op_deinit(&op);
	return err;
}
#endif
