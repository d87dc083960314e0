/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The parts of attaching that need no process: which calls to restart, who refused, /proc's texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "target/diagnose.h"
#include "target/proc.h"
#include "target/restart.h"

#if defined(__x86_64__)
enum { LEN64 = 216, RAX = 80, RDI = 112, ORIG = 120, LEN32 = 68, EBX = 0, EAX = 24, ORIG32 = 44 };

static enum asc_restart_kind ask64(int64_t nr, int64_t result, uint64_t fd)
{
	uint8_t raw[LEN64] = { 0 };
	uint64_t got = 0;
	enum asc_restart_kind kind;

	memcpy(raw + RAX, &result, 8);
	memcpy(raw + RDI, &fd, 8);
	memcpy(raw + ORIG, &nr, 8);
	kind = asc_restart_kind(raw, sizeof(raw), &got);
	if (kind == ASC_RESTART_IF_SOCKET)
		assert_int_equal(got, fd);
	asc_restart_set(raw, sizeof(raw), ASC_KERNEL_ERESTARTNOHAND);
	memcpy(&result, raw + RAX, 8);
	assert_int_equal(result, -514);
	return kind;
}

static enum asc_restart_kind ask32(int32_t nr, int32_t result, uint32_t ebx)
{
	uint8_t raw[LEN32] = { 0 };
	uint64_t got;
	enum asc_restart_kind kind;

	memcpy(raw + EAX, &result, 4);
	memcpy(raw + EBX, &ebx, 4);
	memcpy(raw + ORIG32, &nr, 4);
	kind = asc_restart_kind(raw, sizeof(raw), &got);
	asc_restart_set(raw, sizeof(raw), ASC_KERNEL_ERESTARTNOHAND);
	memcpy(&result, raw + EAX, 4);
	assert_int_equal(result, -514);
	return kind;
}

static void test_restart(void **state)
{
	(void)state;
	assert_int_equal(ask64(232, -4, 5), ASC_RESTART_ALWAYS); /* epoll_wait */
	assert_int_equal(ask64(128, -4, 5), ASC_RESTART_ALWAYS); /* rt_sigtimedwait */
	assert_int_equal(ask64(0, -4, 9), ASC_RESTART_IF_SOCKET);
	assert_int_equal(ask64(232, -514, 5), ASC_RESTART_NEVER); /* the kernel does it */
	assert_int_equal(ask64(232, 1, 5), ASC_RESTART_NEVER);
	assert_int_equal(ask64(-1, -4, 5), ASC_RESTART_NEVER); /* not in a call: its own value */
	assert_int_equal(ask64(3, -4, 5), ASC_RESTART_NEVER);  /* close */
	assert_int_equal(ask64(42, -4, 5), ASC_RESTART_NEVER); /* connect */
	assert_int_equal(ask64(9999, -4, 5), ASC_RESTART_NEVER);
	assert_int_equal(ask32(256, -4, 0), ASC_RESTART_ALWAYS); /* epoll_wait */
	assert_int_equal(ask32(3, -4, 7), ASC_RESTART_IF_SOCKET);
	assert_int_equal(ask32(102, -4, 10), ASC_RESTART_ALWAYS); /* socketcall: recv */
	assert_int_equal(ask32(102, -4, 3), ASC_RESTART_NEVER);	  /* socketcall: connect */
	assert_int_equal(ask32(102, -4, 0x80000003), ASC_RESTART_NEVER);
	assert_int_equal(ask32(117, -4, 0x10004),
			 ASC_RESTART_ALWAYS);			 /* ipc: semtimedop, version 1 */
	assert_int_equal(ask32(117, -4, 12), ASC_RESTART_NEVER); /* ipc: msgrcv restarts itself */
	assert_int_equal(ask32(6, -4, 1), ASC_RESTART_NEVER);	 /* close */
}

static void test_restart_unknown_registers(void **state)
{
	uint8_t raw[300] = { 0 };
	uint64_t fd;

	(void)state;
	assert_int_equal(asc_restart_kind(raw, 0, &fd), ASC_RESTART_NEVER);
	assert_int_equal(asc_restart_kind(raw, sizeof(raw), &fd), ASC_RESTART_NEVER);
}
#endif

/* Who refuses, given what was found: the first of the kernel's own order. */
static const char *cause(const struct asc_attach_facts *f)
{
	struct asc_error *err = asc_diagnose_facts(f);
	const char *id = asc_error_id(err);

	assert_int_equal(asc_error_exit(err), 77);
	assert_non_null(asc_error_why(err));
	assert_non_null(asc_error_hint(err));
	asc_error_free(err);
	return id;
}

static void test_causes(void **state)
{
	const struct asc_attach_facts same = { .pid = 5,
					       .what = "stop",
					       .our_uid = 1000,
					       .our_gid = 1000,
					       .uid = { 1000, 1000, 1000 },
					       .gid = { 1000, 1000, 1000 },
					       .ids_known = true,
					       .yama = -1 };
	struct asc_attach_facts f = same;

	(void)state;
	f.yama = 1;
	assert_string_equal(cause(&f), "E-YAMA");
	f.yama = 2;
	assert_string_equal(cause(&f), "E-YAMA");
	f.uid[0] = f.uid[1] = f.uid[2] = 33; /* Yama does not matter then */
	assert_string_equal(cause(&f), "E-UID");
	f = same;
	f.uid[1] = f.uid[2] = 0;
	assert_string_equal(cause(&f), "E-UID");
	f = same;
	f.protected_files = true;
	assert_string_equal(cause(&f), "E-NODUMP");
	f = same;
	f.more_caps = true;
	assert_string_equal(cause(&f), "E-NODUMP");
	f = same;
	f.our_uid = 0;
	assert_string_equal(cause(&f), "E-CAP");
	f.have_cap = true;
	f.yama = 3;
	assert_string_equal(cause(&f), "E-YAMA");
	f.yama = 2; /* the capability is enough */
	f.other_userns = true;
	assert_string_equal(cause(&f), "E-USERNS");
	f.other_userns = false;
	f.seccomp = true;
	assert_string_equal(cause(&f), "E-SECCOMP");
	memcpy(f.apparmor, "profile", 8);
	assert_string_equal(cause(&f), "E-APPARMOR");
	f.selinux_denies = true;
	assert_string_equal(cause(&f), "E-SELINUX");
	f = same;
	memcpy(f.apparmor, "unconfined", 11);
	assert_string_equal(cause(&f), "E-PERM");
}

/* The number that the user must see is in the text. */
static void test_yama_words(void **state)
{
	struct asc_attach_facts f = { .pid = 42, .what = "stop", .our_uid = 1, .yama = 1 };
	struct asc_error *err = asc_diagnose_facts(&f);

	(void)state;
	assert_non_null(strstr(asc_error_why(err), "kernel.yama.ptrace_scope is 1"));
	assert_non_null(strstr(asc_error_hint(err), "sudo arenascope -p 42"));
	assert_non_null(strstr(asc_error_hint(err), "sysctl kernel.yama.ptrace_scope=0"));
	asc_error_free(err);
}

static void test_stat(void **state)
{
	struct asc_proc_stat s;
	static const char *const bad[] = {
		"",
		"1",
		"1 (x",
		"1 x) S",
		"1 (x)",
		"1 (x) ",
		"1 (x) S",
		"1 (x) S 1 2 3",
		"1 (x) S a b c d e f g h i j k l m n o p q r s",
	};

	(void)state;
	assert_true(asc_proc_parse_stat(
		"7 (a) b (c) R) S 3 7 7 0 -1 4194560 1 2 3 4 55 66 0 0 20 0 9 0 12345 1 2", &s));
	assert_string_equal(s.comm, "a) b (c) R");
	assert_int_equal(s.state, 'S');
	assert_int_equal(s.ppid, 3);
	assert_int_equal(s.flags, 4194560);
	assert_int_equal(s.utime, 55);
	assert_int_equal(s.stime, 66);
	assert_int_equal(s.nthreads, 9);
	assert_int_equal(s.starttime, 12345);
	for (size_t i = 0; i < ASC_ARRAY_SIZE(bad); i++)
		assert_false(asc_proc_parse_stat(bad[i], &s));
}

static void test_status(void **state)
{
	static const char text[] = "Name:\tTgid:\t9\nTgid:\t7\nSigBlk:\t0000000000010000\nUid:"
				   "\t1\t2\t3\t4\nBad:\nLast:\t5";
	uint64_t v;

	(void)state;
	assert_true(asc_proc_status_dec(text, "Tgid", &v) && v == 7);
	assert_true(asc_proc_status_hex(text, "SigBlk", &v) && v == 0x10000);
	assert_true(asc_proc_status_dec(text, "Last", &v) && v == 5);
	assert_false(asc_proc_status_dec(text, "Bad", &v) && v == 0);
	assert_false(asc_proc_status_dec(text, "None", &v));
	assert_false(asc_proc_status_hex(text, "Name", &v));
}

static void test_lines(void **state)
{
	char text[] = "one\n\ntwo", *at = text;

	(void)state;
	assert_string_equal(asc_text_line(&at), "one");
	assert_string_equal(asc_text_line(&at), "");
	assert_string_equal(asc_text_line(&at), "two");
	assert_null(asc_text_line(&at));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#if defined(__x86_64__)
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_restart_unknown_registers),
#endif
		cmocka_unit_test(test_causes),
		cmocka_unit_test(test_yama_words),
		cmocka_unit_test(test_stat),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
