/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Stacks of the CPUs that libunwind was not built for (i386, aarch64 cores): libdw reads the call
 * frame information, the rules are applied here. Without such information the chain of frame
 * pointers.
 */
#include <dwarf.h>
#include <elf.h>
#include <elfutils/libdw.h>
#include <string.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/elffile.h"
#include "symbols/unwind_priv.h"

enum { NREGS = 34, STACK_MAX = 32 };

/* DWARF's numbers of the registers that matter, and where the kernel's block has each. */
struct cpu {
	uint16_t machine;
	uint8_t nregs, sp, fp, word;
	uint16_t off[NREGS];
};

static const struct cpu i386 = {
	.machine = EM_386,
	.nregs = 9, /* eax ecx edx ebx esp ebp esi edi eip */
	.sp = 4,
	.fp = 5,
	.word = 4,
	.off = { 24, 4, 8, 0, 60, 20, 12, 16, 48 },
};

/* x0..x30, sp: DWARF's order is the kernel's */
static const struct cpu aarch64 = {
	.machine = EM_AARCH64, .nregs = 32, .sp = 31, .fp = 29, .word = 8
};

/* rax .. r15, the return address */
static const struct cpu x86_64 = { .machine = EM_X86_64, .nregs = 17, .sp = 7, .fp = 6, .word = 8 };

struct regs {
	uint64_t v[NREGS];
	bool known[NREGS];
	uint64_t pc;
};

struct eval {
	struct asc_unwinder *u;
	const struct cpu *cpu;
	const struct regs *regs;
	uint64_t cfa;
	bool have_cfa;
	uint64_t stack[STACK_MAX];
	size_t n;
	bool is_value; /* the result is the value itself, not its address */
	bool failed;
};

static bool read_word(struct asc_unwinder *u, const struct cpu *cpu, asc_addr addr, uint64_t *ret)
{
	uint8_t b[8];

	if (asc_unwind_read(u, addr, b, cpu->word) < cpu->word)
		return false;
	*ret = asc_uint_at(u->t, b, cpu->word);
	return true;
}

/* ---- expressions ---- */

static void push(struct eval *e, uint64_t v)
{
	if (e->n == STACK_MAX)
		e->failed = true;
	else
		e->stack[e->n++] = v;
}

static uint64_t pop(struct eval *e)
{
	if (!e->n) {
		e->failed = true;
		return 0;
	}
	return e->stack[--e->n];
}

static void push_reg(struct eval *e, uint64_t reg, uint64_t offset)
{
	if (reg >= e->cpu->nregs || !e->regs->known[reg])
		e->failed = true;
	else
		push(e, e->regs->v[reg] + offset);
}

static void binary(struct eval *e, uint8_t op)
{
	uint64_t b = pop(e), a = pop(e);

	switch (op) {
	case DW_OP_plus:
		push(e, a + b);
		break;
	case DW_OP_minus:
		push(e, a - b);
		break;
	case DW_OP_and:
		push(e, a & b);
		break;
	case DW_OP_or:
		push(e, a | b);
		break;
	case DW_OP_shl:
		push(e, b < 64 ? a << b : 0);
		break;
	case DW_OP_shr:
		push(e, b < 64 ? a >> b : 0);
		break;
	case DW_OP_mul:
		push(e, a * b);
		break;
	case DW_OP_ge:
		push(e, (int64_t)a >= (int64_t)b);
		break;
	case DW_OP_eq:
		push(e, a == b);
		break;
	default:
		e->failed = true;
	}
}

static void operation(struct eval *e, const Dwarf_Op *op)
{
	uint64_t v;

	if (op->atom >= DW_OP_lit0 && op->atom <= DW_OP_lit31) {
		push(e, op->atom - DW_OP_lit0);
	} else if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31) {
		push_reg(e, op->atom - DW_OP_breg0, op->number);
	} else if (op->atom >= DW_OP_reg0 && op->atom <= DW_OP_reg31) {
		push_reg(e, op->atom - DW_OP_reg0, 0);
		e->is_value = true;
	} else {
		switch (op->atom) {
		case DW_OP_bregx:
			push_reg(e, op->number, op->number2);
			break;
		case DW_OP_regx:
			push_reg(e, op->number, 0);
			e->is_value = true;
			break;
		case DW_OP_call_frame_cfa:
			push(e, e->cfa);
			e->failed |= !e->have_cfa;
			break;
		case DW_OP_plus_uconst:
			push(e, pop(e) + op->number);
			break;
		case DW_OP_addr:
		case DW_OP_const1u:
		case DW_OP_const1s:
		case DW_OP_const2u:
		case DW_OP_const2s:
		case DW_OP_const4u:
		case DW_OP_const4s:
		case DW_OP_const8u:
		case DW_OP_const8s:
		case DW_OP_constu:
		case DW_OP_consts:
			push(e, op->number);
			break;
		case DW_OP_deref:
			if (read_word(e->u, e->cpu, pop(e), &v))
				push(e, v);
			else
				e->failed = true;
			break;
		case DW_OP_dup:
			v = pop(e);
			push(e, v);
			push(e, v);
			break;
		case DW_OP_drop:
			(void)pop(e);
			break;
		case DW_OP_stack_value:
			e->is_value = true;
			break;
		case DW_OP_nop:
			break;
		default:
			binary(e, op->atom);
		}
	}
}

static bool evaluate(struct eval *e, const Dwarf_Op *ops, size_t n, uint64_t *ret)
{
	e->n = 0;
	e->is_value = e->failed = false;
	for (size_t i = 0; i < n && !e->failed; i++)
		operation(e, &ops[i]);
	*ret = pop(e);
	if (e->cpu->word == 4)
		*ret = (uint32_t)*ret;
	return !e->failed;
}

/* ---- one step ---- */

enum step { STEP_OK, STEP_END, STEP_NO_INFO, STEP_BAD };

static Dwarf_CFI *cfi_at(struct asc_unwinder *u, asc_addr pc, asc_addr *ret_bias)
{
	struct asc_unwind_module *um = asc_unwind_slot(u, pc);

	if (!um)
		return NULL;
	if (!um->cfi_tried) {
		struct asc_elf *elf = asc_module_elf(u->m, um->mod);

		um->cfi_tried = true;
		um->cfi = elf && elf->elf ? dwarf_getcfi_elf(elf->elf) : NULL;
	}
	*ret_bias = um->mod->bias;
	return um->cfi;
}

/* A return address with a pointer authentication code in its upper bits: the code cut off. */
static asc_addr unsigned_pc(struct asc_unwinder *u, const struct cpu *cpu, asc_addr pc)
{
	asc_addr plain = pc & ((UINT64_C(1) << 48) - 1);

	return cpu == &aarch64 && plain != pc && !asc_unwind_is_code(u, pc) &&
			       asc_unwind_is_code(u, plain)
		       ? plain
		       : pc;
}

/* The caller's registers by the rules for @p lookup. */
static enum step apply(struct asc_unwinder *u, const struct cpu *cpu, Dwarf_Frame *frame,
		       const struct regs *r, struct regs *ret)
{
	struct eval e = { .u = u, .cpu = cpu, .regs = r };
	Dwarf_Op *ops, mem[3];
	size_t n;
	int ra = dwarf_frame_info(frame, NULL, NULL, NULL);

	if (ra < 0 || ra >= NREGS || dwarf_frame_cfa(frame, &ops, &n) || !n)
		return STEP_BAD;
	if (!evaluate(&e, ops, n, &e.cfa))
		return STEP_BAD;
	e.have_cfa = true;
	*ret = *r;
	for (int i = 0; i < cpu->nregs; i++) {
		uint64_t v;

		if (dwarf_frame_register(frame, i, mem, &ops, &n))
			return STEP_BAD;
		if (!n && !ops)
			continue; /* same value */
		if (!n) {
			ret->known[i] = false;
			continue;
		}
		if (!evaluate(&e, ops, n, &v) || (!e.is_value && !read_word(u, cpu, v, &v))) {
			ret->known[i] = false;
			continue;
		}
		ret->v[i] = v;
		ret->known[i] = true;
	}
	/*
	 * No rule for the stack pointer means that the CFA is its value in the caller. On aarch64
	 * it always is: libdw takes "this return address is signed" for SPARC's register windows.
	 */
	if (cpu == &aarch64 || (!dwarf_frame_register(frame, cpu->sp, mem, &ops, &n) && !n)) {
		ret->v[cpu->sp] = e.cfa;
		ret->known[cpu->sp] = true;
	}
	if (!ret->known[ra])
		return STEP_END;
	ret->pc = unsigned_pc(u, cpu, ret->v[ra]);
	return STEP_OK;
}

static enum step by_cfi(struct asc_unwinder *u, const struct cpu *cpu, const struct regs *r,
			asc_addr lookup, struct regs *ret)
{
	asc_addr bias;
	Dwarf_CFI *cfi = cfi_at(u, lookup, &bias);
	Dwarf_Frame *frame = NULL;
	enum step s;

	if (!cfi || dwarf_cfi_addrframe(cfi, lookup - bias, &frame))
		return STEP_NO_INFO;
	s = apply(u, cpu, frame, r, ret);
	free(frame);
	return s;
}

int asc_unwind_cfi_step(struct asc_unwinder *u, asc_addr lookup, uint64_t regs[17], uint32_t *known)
{
	struct regs r = { 0 }, next;

	for (size_t i = 0; i < x86_64.nregs; i++) {
		r.v[i] = regs[i];
		r.known[i] = *known >> i & 1;
	}
	switch (by_cfi(u, &x86_64, &r, lookup, &next)) {
	case STEP_OK:
		break;
	case STEP_END:
		return 0;
	default:
		return -1;
	}
	*known = 0;
	for (size_t i = 0; i < x86_64.nregs; i++) {
		regs[i] = next.v[i];
		*known |= (uint32_t)next.known[i] << i;
	}
	return 1;
}

static enum step by_frame_pointer(struct asc_unwinder *u, const struct cpu *cpu,
				  const struct regs *r, struct regs *ret)
{
	uint64_t fp = r->v[cpu->fp], next, pc;

	if (!r->known[cpu->fp] || fp < r->v[cpu->sp] || !read_word(u, cpu, fp, &next) ||
	    !read_word(u, cpu, fp + cpu->word, &pc))
		return STEP_BAD;
	pc = unsigned_pc(u, cpu, pc);
	if (!asc_unwind_is_code(u, pc))
		return STEP_BAD;
	*ret = *r;
	ret->v[cpu->fp] = next;
	ret->v[cpu->sp] = fp + 2u * cpu->word;
	ret->pc = pc;
	return STEP_OK;
}

static enum step one_step(struct asc_unwinder *u, const struct cpu *cpu, struct asc_stack *s,
			  struct regs *r)
{
	struct regs next;
	enum step step = by_cfi(u, cpu, r, asc_frame_lookup_pc(s, s->n - 1), &next);

	if (step == STEP_NO_INFO) {
		if (!s->note)
			s->note = "a function without unwind information: by frame pointers from "
				  "there";
		step = by_frame_pointer(u, cpu, r, &next);
	}
	if (step == STEP_OK)
		*r = next;
	return step;
}

struct asc_error *asc_unwind_cfi(struct asc_unwinder *u, const struct asc_thread *th, size_t max,
				 struct asc_stack *ret)
{
	const struct asc_arch *arch = asc_target_arch(u->t);
	const struct cpu *cpu = arch->e_machine == EM_386 ? &i386 : &aarch64;
	struct regs r = { 0 };

	for (size_t i = 0; i < cpu->nregs; i++) {
		uint16_t off = cpu == &i386 ? cpu->off[i] : (uint16_t)(8 * i);

		r.v[i] = asc_arch_reg(arch, th->regs.raw, th->regs.len,
				      (struct asc_reg_field){ off, cpu->word });
		r.known[i] = !th->regs.partial || i == cpu->sp;
	}
	(void)asc_regs_pc(u->t, &th->regs, &r.pc);
	for (;;) {
		const struct asc_frame *last = ret->n ? &ret->v[ret->n - 1] : NULL;
		enum step step;

		if (last && !asc_unwind_is_code(u, r.pc)) {
			if (r.pc)
				ret->note = "the stack leads to memory that is not code";
			return NULL;
		}
		if (last && !last->signal_frame && r.v[cpu->sp] <= last->sp &&
		    !(r.v[cpu->sp] == last->sp && ret->n == 1)) {
			ret->note = "the stack does not go on upwards: corrupt";
			return NULL;
		}
		ASC_TRY(asc_unwind_push(ret, r.pc, r.v[cpu->sp], asc_unwind_is_sigreturn(u, r.pc)));
		if (ret->n >= max) {
			ret->note = "deeper than the limit";
			return NULL;
		}
		step = one_step(u, cpu, ret, &r);
		if (step == STEP_END)
			return NULL;
		if (step != STEP_OK) {
			ret->note = "no unwind information that fits the stack";
			return NULL;
		}
	}
}

void asc_unwind_cfi_close(struct asc_unwind_module *um)
{
	if (um->cfi)
		dwarf_cfi_end(um->cfi);
}
