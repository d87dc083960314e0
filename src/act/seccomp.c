/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Containers run nearly everything under seccomp filters, most of which would let our few calls
 * pass. So they are asked: the filters are read from the kernel and evaluated here, for exactly the
 * calls that will be made. A filter that cannot be read is a refusal.
 */
#include "act/inject.h"

#if ASC_CAN_INJECT
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"

enum { FILTERS_MAX = 64 };

static uint32_t alu(uint16_t op, uint32_t a, uint32_t b, bool *bad)
{
	switch (op) {
	case BPF_ADD:
		return a + b;
	case BPF_SUB:
		return a - b;
	case BPF_MUL:
		return a * b;
	case BPF_DIV:
		*bad |= !b;
		return b ? a / b : 0;
	case BPF_OR:
		return a | b;
	case BPF_AND:
		return a & b;
	case BPF_XOR:
		return a ^ b;
	case BPF_LSH:
		return b < 32 ? a << b : 0;
	case BPF_RSH:
		return b < 32 ? a >> b : 0;
	case BPF_NEG:
		return -a;
	default:
		*bad = true;
		return 0;
	}
}

static bool jumps(uint16_t op, uint32_t a, uint32_t b, bool *bad)
{
	switch (op) {
	case BPF_JEQ:
		return a == b;
	case BPF_JGT:
		return a > b;
	case BPF_JGE:
		return a >= b;
	case BPF_JSET:
		return (a & b) != 0;
	default:
		*bad = true;
		return false;
	}
}

uint32_t asc_seccomp_eval(const struct sock_filter *prog, size_t len, const void *data,
			  size_t data_len)
{
	uint32_t a = 0, x = 0, mem[BPF_MEMWORDS] = { 0 };
	bool bad = false;

	/* jumps only go forward */
	for (size_t pc = 0; pc < len && !bad; pc++) {
		const struct sock_filter *f = &prog[pc];
		uint32_t k = f->k, operand = BPF_SRC(f->code) == BPF_X ? x : k;

		switch (BPF_CLASS(f->code)) {
		case BPF_LD:
		case BPF_LDX: {
			uint32_t v = k;

			if (BPF_MODE(f->code) == BPF_ABS && k % 4 == 0 && k + 4ull <= data_len)
				v = asc_load_u32((const uint8_t *)data + k);
			else if (BPF_MODE(f->code) == BPF_MEM && k < BPF_MEMWORDS)
				v = mem[k];
			else if (BPF_MODE(f->code) == BPF_LEN)
				v = (uint32_t)data_len;
			else
				bad |= BPF_MODE(f->code) != BPF_IMM;
			*(BPF_CLASS(f->code) == BPF_LD ? &a : &x) = v;
			break;
		}
		case BPF_ST:
		case BPF_STX:
			bad |= k >= BPF_MEMWORDS;
			if (!bad)
				mem[k] = BPF_CLASS(f->code) == BPF_ST ? a : x;
			break;
		case BPF_ALU:
			a = alu(BPF_OP(f->code), a, operand, &bad);
			break;
		case BPF_JMP:
			if (BPF_OP(f->code) == BPF_JA)
				pc += k;
			else
				pc += jumps(BPF_OP(f->code), a, operand, &bad) ? f->jt : f->jf;
			break;
		case BPF_RET:
			return BPF_RVAL(f->code) == BPF_A ? a : k;
		case BPF_MISC:
			if (BPF_MISCOP(f->code) == BPF_TAX)
				x = a;
			else
				a = x;
			break;
		default:
			bad = true;
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}

static struct asc_error *refuse(pid_t tid, const struct asc_seccomp_call *call, uint32_t answer)
{
	struct asc_error *err = asc_err_id(
		asc_err(ASC_EUNSUPPORTED,
			"a seccomp filter of thread %d forbids what the call needs", tid),
		"E-SECCOMP");

	asc_err_why(err, "system call %d would get seccomp action 0x%x", call->nr, answer);
	return asc_err_try(
		err, "--suspend-seccomp (needs CAP_SYS_ADMIN): the filter sleeps for the call");
}

static struct asc_error *ask(pid_t tid, const struct sock_filter *prog, size_t len,
			     const struct asc_seccomp_call *c)
{
	struct seccomp_data d = { .nr = c->nr, .arch = AUDIT_ARCH_X86_64 };
	uint32_t answer;

	for (size_t i = 0; i < ASC_ARRAY_SIZE(c->args); i++)
		d.args[i] = c->args[i];
	answer = asc_seccomp_eval(prog, len, &d, sizeof(d));
	switch (answer & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
	case SECCOMP_RET_LOG:
		return NULL;
	case SECCOMP_RET_ERRNO:
		return c->must ? refuse(tid, c, answer) : NULL;
	default:
		return refuse(tid, c, answer);
	}
}

struct asc_error *asc_seccomp_check(pid_t tid, const struct asc_seccomp_call *calls, size_t n)
{
	ASC_AUTO(asc_freep) struct sock_filter *prog = calloc(BPF_MAXINSNS, sizeof(*prog));

	if (!prog)
		return asc_err(ASC_ENOMEM, "a seccomp filter");
	for (unsigned i = 0; i < FILTERS_MAX; i++) {
		long len = asc_pt(PTRACE_SECCOMP_GET_FILTER, tid, i, NULL);

		if (len < 0 && errno == ENOENT)
			return NULL;
		if (len > 0 && len <= BPF_MAXINSNS)
			len = asc_pt(PTRACE_SECCOMP_GET_FILTER, tid, i, prog);
		if (len <= 0 || len > BPF_MAXINSNS)
			return asc_err_try(
				asc_err_why(
					asc_err_id(asc_err(ASC_EUNSUPPORTED,
							   "thread %d runs under a seccomp filter",
							   tid),
						   "E-SECCOMP"),
					"the filter cannot be read: %s", strerror(errno)),
				"as root on the host; or --suspend-seccomp");
		for (size_t k = 0; k < n; k++)
			ASC_TRY(ask(tid, prog, (size_t)len, &calls[k]));
	}
	return NULL;
}
#endif
