/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "target/vmflags.h"

static void test_parse(void **state)
{
	static const char text[] =
		"55d0e6a00000-55d0e6a21000 rw-p 00000000 00:00 0 [heap]\n"
		"Rss: 132 kB\n"
		"VmFlags: rd wr mr mw me ac lo sd \n"
		"7f0000000000-7f0000200000 rw-p 00000000 00:0f 5 /anon_hugepage (deleted)\n"
		"VmFlags: rd wr mr mw me de ht sd \n"
		"7f0000300000-7f0000301000 rw-p 00000000 00:00 0 x lo y\n"
		"VmFlags: rd wr alo lox\n";
	FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	struct asc_vmflags v;

	(void)state;
	assert_non_null(f);
	assert_null(asc_vmflags_parse(f, &v));
	fclose(f);
	assert_true(v.known);
	assert_int_equal(v.nmlocked, 1);
	assert_int_equal(v.mlocked[0].addr, 0x55d0e6a00000);
	assert_int_equal(v.mlocked[0].len, 0x21000);
	assert_int_equal(v.nhugetlb, 1);
	assert_int_equal(v.hugetlb[0].len, 0x200000);
	asc_vmflags_deinit(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_parse) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
