/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The self-restoring frame. T's registers are pointed at a function whose return address begins a
 * chain of addresses on T's own stack; the chain ends in rt_sigreturn, which takes every register,
 * the extended state and the signal mask from the frame above it. Once T runs, it comes back by
 * itself, whether the tool lives or not:
 *
 *   stack pointer of T, minus the red zone
 *     extended state (xsave image and the kernel's two magic words)
 *     parameters and results of the routine
 *     result of the call
 *     ucontext                  <- rt_sigreturn reads it from here
 *     [sigreturn]
 *     [tkill(self, SIG)]        a stop while traced, nothing when not
 *     [munmap(map, len)]        reclaim only (fork: wait4(child)), and then
 *     [tkill(self, SIG)]        once more
 *     [store rax] words
 *   stack pointer at the entry of the function
 *
 * A system call that the stop interrupted is begun anew by the frame (rt_sigreturn kills the
 * kernel's restart block); a living tool puts back the original registers instead, and the kernel
 * goes on with it, remaining time and all.
 */
#include "act/inject.h"

#if ASC_CAN_INJECT
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "base/num.h"

enum {
	MAGIC_BEGIN = 0x46505853,
	MAGIC_END = 0x46505845,
	SW_RESERVED = 464, /* in the legacy area: the kernel's note about the rest */
	XSTATE_BV = 512,
	UC_FLAGS = 7, /* FP_XSTATE | SIGCONTEXT_SS | STRICT_RESTORE_SS */
	UC_SIGMASK = 296,
	/* not a mode that sigaltstack knows: the alternate stack is left as it is, even while on it
	 */
	BAD_STACK_MODE = 0x7fff,
	RESULT_AT = 320, /* behind the ucontext */
	PAR_AT = 352,
};
static const uint64_t XFEATURE_TILEDATA = 1ull << 18;
enum { ERESTARTSYS = 512, ERESTARTNOINTR = 513, ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516 };

struct chain {
	uint64_t v[ASC_CHAIN_MAX];
	size_t n;
};

static void put(struct chain *c, uint64_t v)
{
	if (c->n < ASC_CHAIN_MAX)
		c->v[c->n] = v;
	c->n++;
}

static void put_call(struct chain *c, const struct asc_gadgets *g, uint64_t nr, uint64_t a,
		     uint64_t b)
{
	put(c, g->pop_rdi);
	put(c, a);
	put(c, g->pop_rsi);
	put(c, b);
	put(c, g->pop_rax);
	put(c, nr);
	put(c, g->syscall);
}

/*
 * With AMX the register set is larger than what the kernel allows in a frame of a task that does
 * not use it, and it would then silently restore no more than SSE. So: up to the end of the last
 * feature that is enabled, the tiles' data only if it is in use. Their configuration is small, and
 * every task may have it.
 */
static size_t frame_xstate(const struct asc_saved *s, uint64_t *ret_features)
{
	uint64_t features = asc_load_u64(s->xstate + SW_RESERVED);
	uint64_t used = asc_load_u64(s->xstate + XSTATE_BV);
	size_t end = 576;

	if (!(features & XFEATURE_TILEDATA) || used & XFEATURE_TILEDATA) {
		*ret_features = features;
		return s->xstate_len;
	}
	features &= ~XFEATURE_TILEDATA;
	for (unsigned i = 2; i < 63; i++) {
		unsigned size, off, c, d;

		if (!(features >> i & 1) || !__get_cpuid_count(0xd, i, &size, &off, &c, &d))
			continue;
		if ((size_t)off + size > end)
			end = (size_t)off + size;
	}
	*ret_features = features;
	return end <= s->xstate_len ? end : s->xstate_len;
}

static void fill_ucontext(uint8_t *at, const struct asc_frame_in *in, asc_addr fp)
{
	const struct user_regs_struct *r = &in->s->converted;
	ucontext_t uc;
	greg_t *g = uc.uc_mcontext.gregs;

	_Static_assert(offsetof(ucontext_t, uc_sigmask) == UC_SIGMASK, "the kernel's ucontext");
	memset(&uc, 0, sizeof(uc));
	uc.uc_flags = UC_FLAGS;
	uc.uc_stack.ss_flags = BAD_STACK_MODE;
	g[REG_R8] = (greg_t)r->r8;
	g[REG_R9] = (greg_t)r->r9;
	g[REG_R10] = (greg_t)r->r10;
	g[REG_R11] = (greg_t)r->r11;
	g[REG_R12] = (greg_t)r->r12;
	g[REG_R13] = (greg_t)r->r13;
	g[REG_R14] = (greg_t)r->r14;
	g[REG_R15] = (greg_t)r->r15;
	g[REG_RDI] = (greg_t)r->rdi;
	g[REG_RSI] = (greg_t)r->rsi;
	g[REG_RBP] = (greg_t)r->rbp;
	g[REG_RBX] = (greg_t)r->rbx;
	g[REG_RDX] = (greg_t)r->rdx;
	g[REG_RAX] = (greg_t)r->rax;
	g[REG_RCX] = (greg_t)r->rcx;
	g[REG_RSP] = (greg_t)r->rsp;
	g[REG_RIP] = (greg_t)r->rip;
	g[REG_EFL] = (greg_t)r->eflags;
	g[REG_CSGSFS] = (greg_t)((r->cs & 0xffff) | (r->ss & 0xffff) << 48);
	memcpy(at, &uc, UC_SIGMASK);
	/* an address of the target, which is not a pointer here */
	memcpy(at + offsetof(ucontext_t, uc_mcontext.fpregs), &fp, sizeof(fp));
	memcpy(at + UC_SIGMASK, &in->s->mask, sizeof(in->s->mask));
}

static void fill_xstate(uint8_t *at, const struct asc_saved *s, size_t len, uint64_t features)
{
	struct {
		uint32_t magic1, extended_size;
		uint64_t xfeatures;
		uint32_t xstate_size, padding[7];
	} sw = { MAGIC_BEGIN, (uint32_t)len + 4, features, (uint32_t)len, { 0 } };
	uint32_t magic2 = MAGIC_END;
	uint64_t used = asc_load_u64(s->xstate + XSTATE_BV) & features;

	_Static_assert(sizeof(sw) == 48, "struct _fpx_sw_bytes");
	memcpy(at, s->xstate, len);
	memcpy(at + SW_RESERVED, &sw, sizeof(sw));
	memcpy(at + XSTATE_BV, &used, sizeof(used));
	memcpy(at + len, &magic2, sizeof(magic2));
}

uint64_t asc_frame_need(const struct asc_saved *s)
{
	uint64_t features;

	return ASC_RED_ZONE + frame_xstate(s, &features) + 4096 + ASC_STACK_ROOM;
}

void asc_frame_convert(const struct user_regs_struct *found, int64_t nr,
		       struct user_regs_struct *ret)
{
	*ret = *found;
	if ((int64_t)found->orig_rax >= 0) {
		switch (-(int64_t)found->rax) {
		case ERESTARTSYS:
		case ERESTARTNOINTR:
		case ERESTARTNOHAND:
			ret->rax = found->orig_rax;
			ret->rip -= 2;
			break;
		case ERESTART_RESTARTBLOCK:
			ret->rax = nr >= 0 ? (uint64_t)nr : found->orig_rax;
			ret->rip -= 2;
			break;
		default:
			break;
		}
	}
	ret->orig_rax = UINT64_MAX;
}

static void build_chain(const struct asc_frame_in *in, struct chain *c, struct asc_act_frame *f)
{
	const struct asc_gadgets *g = in->g;
	size_t store = g->store ? 1 + g->store_words : 0;
	bool middle = in->map_len || in->fork;
	size_t rest = (middle ? 21 : 7) + 1;
	size_t stop1, stop2 = 0, map = 0;

	if (g->store) {
		put(c, g->store);
		for (unsigned i = 0; i < g->store_words; i++)
			put(c, 0);
	}
	/* a plain `ret`, so that the stack is aligned at entry as after a call */
	if ((store + rest) % 2 == 0)
		put(c, g->syscall + 2);
	f->after_store = c->n;
	put_call(c, g, SYS_tkill, (uint64_t)in->ns_tid, (uint64_t)in->sig);
	stop1 = c->n;
	if (middle) {
		map = c->n;
		if (in->fork) /* no child has this number until the kernel writes one there */
			put_call(c, g, SYS_wait4, INT32_MAX, 0);
		else
			put_call(c, g, SYS_munmap, UINT64_MAX, in->map_len);
		put_call(c, g, SYS_tkill, (uint64_t)in->ns_tid, (uint64_t)in->sig);
		stop2 = c->n;
	}
	put(c, g->sigreturn);
	/* indices for now; asc_frame_build() makes them addresses */
	f->stop1 = stop1;
	f->stop2 = stop2;
	f->munmap = map + 1;
	f->map_word = map + 1;
}

struct asc_error *asc_frame_build(const struct asc_frame_in *in, struct asc_act_frame *ret)
{
	struct chain c = { .n = 0 };
	uint64_t features;
	size_t xsize = frame_xstate(in->s, &features);
	asc_addr fp, uc, last;

	if (xsize < 576 || xsize > ASC_XSTATE_MAX || in->s->found.rsp < asc_frame_need(in->s))
		return asc_err(ASC_EBUG, "extended state of %zu bytes, stack pointer 0x%llx", xsize,
			       (unsigned long long)in->s->found.rsp);
	memset(ret, 0, sizeof(*ret));
	fp = asc_align_down(in->s->found.rsp - ASC_RED_ZONE - xsize - 4, 64);
	/* the word of sigreturn stands at 8 modulo 16, as does the stack pointer at a function's
	 * entry */
	last = asc_align_down(fp - 8 - PAR_AT - sizeof(struct asc_rt_par), 16) - 8;
	uc = last + 8;
	build_chain(in, &c, ret);
	if (c.n > ASC_CHAIN_MAX)
		return asc_err(ASC_EBUG, "a chain of %zu words", c.n);
	ret->entry = last - 8 * (c.n - 1);
	ret->lo = ret->entry;
	ret->len = fp + xsize + 4 - ret->lo;
	if (ret->entry % 16 != 8 || ret->len > sizeof(ret->bytes))
		return asc_err(ASC_EBUG, "a frame of %zu bytes at 0x%llx", ret->len,
			       (unsigned long long)ret->entry);
	ret->after_store = ret->entry + 8 * ret->after_store;
	ret->stop1 = ret->entry + 8 * ret->stop1;
	ret->stop2 = ret->stop2 ? ret->entry + 8 * ret->stop2 : 0;
	ret->munmap = ret->stop2 ? ret->entry + 8 * ret->munmap : 0;
	ret->map_word = ret->stop2 ? ret->entry + 8 * ret->map_word : 0;
	ret->result = uc + RESULT_AT;
	ret->par = uc + PAR_AT;
	memcpy(ret->bytes, c.v, 8 * c.n);
	fill_ucontext(ret->bytes + (uc - ret->lo), in, fp);
	fill_xstate(ret->bytes + (fp - ret->lo), in->s, xsize, features);
	return NULL;
}
#endif
