/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The parts of acting that need no process: the frame, the search for gadgets, the evaluation of
 * seccomp filters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "act/inject.h"

#if ASC_CAN_INJECT
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>

#include "base/num.h"

static const struct asc_gadgets some = {
	.syscall = 0x1000,
	.pop_rdi = 0x2000,
	.pop_rsi = 0x3000,
	.pop_rax = 0x4000,
	.sigreturn = 0x5000,
	.store = 0x6000,
	.store_words = 1,
};

static struct asc_saved *saved(uint64_t rsp)
{
	struct asc_saved *s = calloc(1, sizeof(*s));
	uint64_t xcr0 = 7;

	assert_non_null(s);
	s->found.rsp = rsp;
	s->found.rip = 0x401002;
	s->found.rbx = 0xb;
	s->found.orig_rax = SYS_poll;
	s->found.rax = (uint64_t)-516;
	s->found.cs = 0x33;
	s->found.ss = 0x2b;
	s->mask = 0x5555;
	s->xstate_len = 832;
	memcpy(s->xstate + 464, &xcr0, sizeof(xcr0));
	memcpy(s->xstate + 512, &xcr0, sizeof(xcr0));
	asc_frame_convert(&s->found, SYS_poll, &s->converted);
	return s;
}

static uint64_t at(const struct asc_act_frame *f, asc_addr a)
{
	assert_true(a >= f->lo && a + 8 <= f->lo + f->len);
	return asc_load_u64(f->bytes + (a - f->lo));
}

static void check_frame(uint64_t rsp, unsigned store_words, bool store, uint64_t map_len)
{
	struct asc_saved *s = saved(rsp);
	struct asc_gadgets g = some;
	struct asc_frame_in in = { &g, s, 23, 77, map_len, false };
	struct asc_act_frame *f = malloc(sizeof(*f));
	asc_addr last, uc, fp;

	assert_non_null(f);
	g.store = store ? g.store : 0;
	g.store_words = store_words;
	assert_null(asc_frame_build(&in, f));
	/* below the red zone, aligned as at a call, and small enough */
	assert_true(f->lo + f->len <= rsp - 128);
	assert_int_equal(f->entry % 16, 8);
	assert_int_equal(f->lo, f->entry);
	assert_true(rsp - f->lo < asc_frame_need(s) - ASC_STACK_ROOM + 64);
	/* the chain: store, then tkill(77, 23), at its end sigreturn */
	assert_int_equal(at(f, f->entry), store ? g.store : g.syscall + 2);
	assert_int_equal(at(f, f->stop1 - 8), g.syscall);
	assert_int_equal(at(f, f->stop1 - 16), SYS_tkill);
	assert_int_equal(at(f, f->stop1 - 32), 23);
	assert_int_equal(at(f, f->stop1 - 48), 77);
	assert_int_equal(at(f, f->stop1 - 56), g.pop_rdi);
	assert_int_equal(at(f, f->after_store), g.pop_rdi);
	last = map_len ? f->stop2 : f->stop1;
	if (map_len) {
		assert_int_equal(f->munmap, f->stop1 + 8);
		assert_int_equal(at(f, f->map_word), UINT64_MAX);
		assert_int_equal(at(f, f->map_word + 16), map_len);
		assert_int_equal(at(f, f->map_word + 32), SYS_munmap);
	}
	assert_int_equal(at(f, last), g.sigreturn);
	/* what rt_sigreturn reads: the call begun anew, the mask, no alternate stack */
	uc = last + 8;
	assert_int_equal(at(f, uc), 7);
	assert_int_equal((uint32_t)at(f, uc + 24), 0x7fff);
	assert_int_equal(at(f, uc + 40 + 8 * REG_RAX), SYS_poll);
	assert_int_equal(at(f, uc + 40 + 8 * REG_RIP), 0x401000);
	assert_int_equal(at(f, uc + 40 + 8 * REG_RSP), rsp);
	assert_int_equal(at(f, uc + 40 + 8 * REG_RBX), 0xb);
	assert_int_equal(at(f, uc + 296), 0x5555);
	fp = at(f, uc + 40 + 8 * 23);
	assert_int_equal(fp % 64, 0);
	assert_int_equal((uint32_t)at(f, fp + 464), 0x46505853);
	assert_int_equal(at(f, fp + 472), 7);
	assert_int_equal((uint32_t)at(f, fp + 480), 832);
	assert_int_equal(asc_load_u32(f->bytes + (fp + 832 - f->lo)), 0x46505845);
	/* the routine's block does not touch what follows */
	assert_true(f->result >= uc + 304);
	assert_true(f->par >= f->result + 8);
	assert_true(f->par + sizeof(struct asc_rt_par) <= fp);
	free(f);
	free(s);
}

static void test_frame(void **state)
{
	(void)state;
	for (uint64_t rsp = 0x7ffe00010000; rsp < 0x7ffe00010080; rsp += 8) {
		for (unsigned words = 0; words <= ASC_FILLER_MAX; words++) {
			check_frame(rsp, words, true, 0);
			check_frame(rsp, words, true, 0x20000);
		}
		check_frame(rsp, 0, false, 0);
	}
}

static void test_frame_refuses(void **state)
{
	struct asc_saved *s = saved(0x4000);
	struct asc_frame_in in = { &some, s, 23, 77, 0, false };
	struct asc_act_frame *f = malloc(sizeof(*f));
	struct asc_error *err;

	(void)state;
	err = asc_frame_build(&in, f);
	assert_non_null(err);
	asc_error_free(err);
	s->found.rsp = 0x7ffe00010000;
	s->xstate_len = 100;
	err = asc_frame_build(&in, f);
	assert_non_null(err);
	asc_error_free(err);
	free(f);
	free(s);
}

static void test_convert(void **state)
{
	struct user_regs_struct r = { .rip = 0x1002, .orig_rax = SYS_futex }, c;

	(void)state;
	for (int e = 512; e <= 514; e++) {
		r.rax = (uint64_t) - (int64_t)e;
		asc_frame_convert(&r, SYS_futex, &c);
		assert_int_equal(c.rax, SYS_futex);
		assert_int_equal(c.rip, 0x1000);
		assert_int_equal(c.orig_rax, UINT64_MAX);
	}
	/* a restarted restart: the real number, where it is known */
	r.orig_rax = SYS_restart_syscall;
	r.rax = (uint64_t)-516;
	asc_frame_convert(&r, SYS_nanosleep, &c);
	assert_int_equal(c.rax, SYS_nanosleep);
	asc_frame_convert(&r, -1, &c);
	assert_int_equal(c.rax, SYS_restart_syscall);
	/* a result stays a result, and code that is in no call is left alone */
	r.rax = (uint64_t)-4;
	asc_frame_convert(&r, SYS_nanosleep, &c);
	assert_int_equal(c.rax, (uint64_t)-4);
	assert_int_equal(c.rip, 0x1002);
	r.orig_rax = UINT64_MAX;
	r.rax = (uint64_t)-512;
	asc_frame_convert(&r, -1, &c);
	assert_int_equal(c.rax, (uint64_t)-512);
	assert_int_equal(c.rip, 0x1002);
}

static void test_gadgets(void **state)
{
	static const uint8_t code[] = {
		0x90, 0x0f, 0x05, 0xc3, 0x5f, 0xc3, 0x5e, 0xc3, 0x58, 0xc3, /* 1 4 6 8 */
		0x48, 0xc7, 0xc0, 0x0f, 0,    0,    0,	  0x0f, 0x05,	    /* 10 */
		0x48, 0x89, 0x03, 0xe8, 0x48, 0x89, 0x03, 0x48, 0x83, 0xc4,
		0x10, 0x5b, 0xc3,	      /* 19 23 */
		0x48, 0x89, 0x03, 0x5b, 0xc3, /* 32 */
		0x48, 0x89, 0x03, 0x5c, 0xc3, /* would take rsp away */
	};
	struct asc_gadgets g = { 0 };

	(void)state;
	asc_gadgets_scan(code, sizeof(code), 0x1000, &g);
	assert_true(asc_gadgets_complete(&g));
	assert_int_equal(g.syscall, 0x1001);
	assert_int_equal(g.pop_rdi, 0x1004);
	assert_int_equal(g.pop_rsi, 0x1006);
	assert_int_equal(g.pop_rax, 0x1008);
	assert_int_equal(g.sigreturn, 0x100a);
	/* of several the one with the fewest words */
	assert_int_equal(g.store, 0x1020);
	assert_int_equal(g.store_words, 1);
	/* cut off anywhere: nothing is read beyond the end */
	for (size_t n = 0; n < sizeof(code); n++) {
		uint8_t *copy = malloc(n ? n : 1);
		struct asc_gadgets part = { 0 };

		memcpy(copy, code, n);
		asc_gadgets_scan(copy, n, 0, &part);
		free(copy);
	}
	g = (struct asc_gadgets){ 0 };
	asc_gadgets_scan(code + 37, sizeof(code) - 37, 0, &g);
	assert_int_equal(g.store, 0);
}

static void test_seccomp(void **state)
{
	struct sock_filter deny_madvise[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_filter arithmetic[] = {
		BPF_STMT(BPF_LD | BPF_IMM, 40),		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 4), BPF_STMT(BPF_ST, 3),
		BPF_STMT(BPF_ALU | BPF_SUB | BPF_X, 0), BPF_STMT(BPF_LDX | BPF_MEM, 3),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_X, 0), BPF_STMT(BPF_RET | BPF_A, 0),
	};
	struct sock_filter bad[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 61) };
	struct sock_filter divide[] = { BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0),
					BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct seccomp_data d = { .nr = SYS_madvise };

	(void)state;
	assert_int_equal(asc_seccomp_eval(deny_madvise, 4, &d, sizeof(d)),
			 SECCOMP_RET_KILL_PROCESS);
	d.nr = SYS_futex;
	assert_int_equal(asc_seccomp_eval(deny_madvise, 4, &d, sizeof(d)), SECCOMP_RET_ALLOW);
	assert_int_equal(asc_seccomp_eval(arithmetic, 8, &d, sizeof(d)), (44 - 40) * 44);
	/* whatever is not understood is taken for the worst */
	assert_int_equal(asc_seccomp_eval(bad, 1, &d, sizeof(d)), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(asc_seccomp_eval(divide, 2, &d, sizeof(d)), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(asc_seccomp_eval(arithmetic, 7, &d, sizeof(d)), SECCOMP_RET_KILL_PROCESS);
}

/* No kernel here has one: the refusal is shown on what such a kernel writes. */
static void test_shadow_stack(void **state)
{
	static const char with[] = "Name:\tx\nx86_Thread_features:\tshstk wrss \n"
				   "x86_Thread_features_locked:\tshstk\n";
	static const char only_locked[] = "Name:\tshstk\nx86_Thread_features:\t\n"
					  "x86_Thread_features_locked:\tshstk wrss\n";

	(void)state;
	assert_true(asc_thread_feature(with, "shstk"));
	assert_true(asc_thread_feature(with, "wrss"));
	assert_false(asc_thread_feature(only_locked, "shstk"));
	assert_false(asc_thread_feature("Name:\tx\nSeccomp:\t0\n", "shstk"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frame),	cmocka_unit_test(test_frame_refuses),
		cmocka_unit_test(test_convert), cmocka_unit_test(test_gadgets),
		cmocka_unit_test(test_seccomp), cmocka_unit_test(test_shadow_stack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
	return 77;
}
#endif
