/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * libunwind's remote interface over our own memory. libunwind asks for words, registers and the
 * unwind table that covers an address; it does not know whether the target lives.
 */
#include "symbols/unwind_priv.h"

#ifdef __x86_64__
#define UNW_REMOTE_ONLY /* only _Ux86_64_*: nothing here unwinds ourselves */
#include <libunwind.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"

/* Also part of libunwind's binary interface, but in none of its headers: its ptrace and coredump
 * libraries call it across the same boundary. */
extern int UNW_OBJ(dwarf_search_unwind_table)(unw_addr_space_t as, unw_word_t ip,
					      unw_dyn_info_t *di, unw_proc_info_t *pi,
					      int need_unwind_info, void *arg);

/* Offsets in the kernel's user_regs_struct, in DWARF's order of x86-64 registers. */
static const uint8_t reg_slots[17] = {
	10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16,
};
enum { RBP = 6, RSP = 7, RIP = 16 };

static int find_proc_info(unw_addr_space_t as, unw_word_t ip, unw_proc_info_t *pi,
			  int need_unwind_info, void *arg)
{
	struct asc_unwinder *u = arg;
	const struct asc_unwind_module *um = asc_unwind_module_at(u, ip);
	unw_dyn_info_t di = { .format = UNW_INFO_FORMAT_REMOTE_TABLE };
	int r;

	if (!um) {
		u->no_info = true;
		return -UNW_ENOINFO;
	}
	di.start_ip = um->mod->start;
	di.end_ip = um->mod->end;
	di.u.rti.segbase = um->hdr;
	di.u.rti.table_data = um->table;
	di.u.rti.table_len = um->fdes * 8 / sizeof(unw_word_t);
	r = UNW_OBJ(dwarf_search_unwind_table)(as, ip, &di, pi, need_unwind_info, arg);
	if (r < 0)
		u->no_info = true;
	return r;
}

static void put_unwind_info(unw_addr_space_t as, unw_proc_info_t *pi, void *arg)
{
	(void)as;
	(void)pi;
	(void)arg; /* nothing of it is ours */
}

static int get_dyn_info_list_addr(unw_addr_space_t as, unw_word_t *ret, void *arg)
{
	(void)as;
	(void)ret;
	(void)arg;
	return -UNW_ENOINFO;
}

static int access_mem(unw_addr_space_t as, unw_word_t addr, unw_word_t *val, int write, void *arg)
{
	(void)as;
	if (write || asc_unwind_read(arg, addr, val, sizeof(*val)) < sizeof(*val))
		return -UNW_EINVAL;
	return 0;
}

static int access_reg(unw_addr_space_t as, unw_regnum_t reg, unw_word_t *val, int write, void *arg)
{
	const struct asc_unwinder *u = arg;

	(void)as;
	if (write)
		return -UNW_EREADONLYREG;
	if (reg < 0 || (size_t)reg >= ASC_ARRAY_SIZE(u->regs) || !(u->known >> reg & 1))
		return -UNW_EBADREG;
	*val = u->regs[reg];
	return 0;
}

static int access_fpreg(unw_addr_space_t as, unw_regnum_t reg, unw_fpreg_t *val, int write,
			void *arg)
{
	(void)as;
	(void)reg;
	(void)val;
	(void)write;
	(void)arg;
	return -UNW_EBADREG;
}

static int resume(unw_addr_space_t as, unw_cursor_t *c, void *arg)
{
	(void)as;
	(void)c;
	(void)arg;
	return -UNW_EINVAL;
}

static unw_accessors_t accessors = {
	.find_proc_info = find_proc_info,
	.put_unwind_info = put_unwind_info,
	.get_dyn_info_list_addr = get_dyn_info_list_addr,
	.access_mem = access_mem,
	.access_reg = access_reg,
	.access_fpreg = access_fpreg,
	.resume = resume,
};

static const char *why_not_code(const struct asc_unwinder *u, asc_addr pc)
{
	return asc_maps_find(asc_target_maps(u->t), pc)
		       ? "the stack leads to memory that is not code"
		       : "the stack leads to an address that is not mapped";
}

/*
 * A function without unwind information, or generated code: the frame pointer's chain, if it leads
 * to code further up. The other registers that a callee keeps stay as they are. libunwind's own
 * guess gives up on frames larger than a few pages.
 */
static bool step_by_frame_pointer(struct asc_unwinder *u, unw_cursor_t *c, asc_addr sp)
{
	static const uint8_t kept[] = { 3 /* rbx */, 12, 13, 14, 15 };
	uint32_t known = 1u << RBP | 1u << RSP | 1u << RIP;
	unw_word_t rbp = 0;
	uint64_t frame[2]; /* the caller's rbp, the return address */

	if (unw_get_reg(c, RBP, &rbp) || rbp < sp || rbp > UINT64_MAX - sizeof(frame) ||
	    asc_unwind_read(u, rbp, frame, sizeof(frame)) < sizeof(frame) ||
	    !asc_unwind_is_code(u, frame[1]))
		return false;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(kept); i++) {
		unw_word_t v = 0;

		known |= (uint32_t)!unw_get_reg(c, kept[i], &v) << kept[i];
		u->regs[kept[i]] = v;
	}
	u->known = known;
	u->regs[RBP] = frame[0];
	u->regs[RSP] = rbp + sizeof(frame);
	u->regs[RIP] = frame[1];
	return !unw_init_remote(c, u->space, u);
}

/* By libdw, which finds .eh_frame by the file's section headers. @return false: it does not know */
static bool step_by_cfi(struct asc_unwinder *u, unw_cursor_t *c, asc_addr lookup, int *ret)
{
	uint64_t regs[ASC_ARRAY_SIZE(u->regs)];
	uint32_t known = 0;

	for (size_t i = 0; i < ASC_ARRAY_SIZE(regs); i++) {
		unw_word_t v = 0;

		known |= (uint32_t)!unw_get_reg(c, (unw_regnum_t)i, &v) << i;
		regs[i] = v;
	}
	*ret = asc_unwind_cfi_step(u, lookup, regs, &known);
	if (*ret < 0)
		return false;
	if (!*ret)
		return true;
	memcpy(u->regs, regs, sizeof(regs));
	u->known = known;
	return !unw_init_remote(c, u->space, u);
}

/* One frame outwards. @return > 0 there is one, 0 the end, < 0 it cannot be told */
static int step(struct asc_unwinder *u, unw_cursor_t *c, asc_addr lookup, asc_addr sp,
		const char **note)
{
	unw_cursor_t before = *c;
	int r;

	u->no_info = false;
	r = unw_step(c);
	if (!u->no_info)
		return r;
	*c = before;
	if (step_by_cfi(u, c, lookup, &r))
		return r;
	if (!*note)
		*note = asc_modules_at(u->m, lookup)
				? "a function without unwind information: by frame pointers from "
				  "there"
				: "generated code (JIT): by frame pointers from there";
	return step_by_frame_pointer(u, c, sp) ? 1 : -1;
}

/* Step outwards until the end, the limit, or something that cannot be. */
static struct asc_error *walk(struct asc_unwinder *u, unw_cursor_t *c, size_t max,
			      struct asc_stack *ret)
{
	for (;;) {
		unw_word_t pc = 0, sp = 0;
		const struct asc_frame *last = ret->n ? &ret->v[ret->n - 1] : NULL;
		int r;

		unw_get_reg(c, UNW_REG_IP, &pc);
		unw_get_reg(c, UNW_REG_SP, &sp);
		if (!pc && last)
			return NULL;
		if (last && !asc_unwind_is_code(u, pc)) {
			ret->note = why_not_code(u, pc);
			return NULL;
		}
		/* signal stacks may lie anywhere, every other caller's frame is further up */
		if (last && sp <= last->sp && !last->signal_frame &&
		    !(sp == last->sp && ret->n == 1)) {
			ret->note = "the stack does not go on upwards: corrupt";
			return NULL;
		}
		ASC_TRY(asc_unwind_push(ret, pc, sp, asc_unwind_is_sigreturn(u, pc)));
		if (ret->n >= max) {
			ret->note = "deeper than the limit";
			return NULL;
		}
		r = step(u, c, asc_frame_lookup_pc(ret, ret->n - 1), sp, &ret->note);
		if (!r)
			return NULL;
		if (r < 0) {
			if (u->partial)
				ret->note = "it could not be stopped, and from here on the stack "
					    "needs a register";
			else if (u->no_info)
				ret->note = "no unwind information, and no frame pointer that "
					    "helps";
			else
				ret->note = "the unwind information does not fit the stack";
			return NULL;
		}
	}
}

struct asc_error *asc_unwind_x86_64(struct asc_unwinder *u, const struct asc_thread *th, size_t max,
				    struct asc_stack *ret)
{
	unw_cursor_t c;
	uint64_t back;

	u->partial = th->regs.partial;
	u->known = u->partial ? 1u << RSP | 1u << RIP : UINT32_MAX;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(u->regs); i++)
		u->regs[i] = asc_load_u64(th->regs.raw + reg_slots[i] * sizeof(uint64_t));
	/* A call through a bad pointer: the caller is on top of the stack. */
	if (!asc_unwind_is_code(u, u->regs[RIP])) {
		ASC_TRY(asc_unwind_push(ret, u->regs[RIP], u->regs[RSP], false));
		if (asc_unwind_read(u, u->regs[RSP], &back, sizeof(back)) < sizeof(back) ||
		    !asc_unwind_is_code(u, back)) {
			ret->note = why_not_code(u, u->regs[RIP]);
			return NULL;
		}
		u->regs[RIP] = back;
		u->regs[RSP] += sizeof(back);
	}
	if (!u->space) {
		u->space = unw_create_addr_space(&accessors, 0);
		if (!u->space)
			return asc_err(ASC_ENOMEM, "unwinder");
		unw_set_caching_policy(u->space, UNW_CACHE_GLOBAL);
	}
	if (unw_init_remote(&c, u->space, u)) {
		ret->note = "the unwinder could not begin";
		return asc_unwind_push(ret, u->regs[RIP], u->regs[RSP], false);
	}
	return walk(u, &c, max, ret);
}

void asc_unwind_x86_64_close(struct asc_unwinder *u)
{
	if (u->space)
		unw_destroy_addr_space(u->space);
}

#else /* libunwind unwinds the CPU that it was built for */

struct asc_error *asc_unwind_x86_64(struct asc_unwinder *u, const struct asc_thread *th, size_t max,
				    struct asc_stack *ret)
{
	asc_addr pc = 0, sp = 0;

	(void)max;
	(void)asc_regs_pc(u->t, &th->regs, &pc);
	(void)asc_regs_sp(u->t, &th->regs, &sp);
	ret->note = "stacks of this CPU are not unwound here";
	return asc_unwind_push(ret, pc, sp, false);
}

void asc_unwind_x86_64_close(struct asc_unwinder *u)
{
	(void)u;
}

#endif
