/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Images of every word size and byte order, and what a capture copies of one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arenascope/target.h"
#include "base/num.h"
#include "target/capture.h"
#include "target/target.h"

enum { PAGE = 4096 };

static struct asc_target *image(const char *arch)
{
	struct asc_target *t = NULL;

	assert_null(asc_image_new(arch, &t));
	return t;
}

static void map(struct asc_target *t, asc_addr start, uint64_t len, unsigned flags, uint64_t inode,
		const void *bytes)
{
	struct asc_map m = { .start = start,
			     .end = start + len,
			     .flags = flags,
			     .flags_known = true,
			     .inode = inode,
			     .path = inode ? "/bin/x" : "" };

	assert_null(asc_image_add(t, &m, bytes));
}

static void fails(struct asc_error *err, enum asc_errc code)
{
	assert_non_null(err);
	assert_int_equal(err->code, code);
	asc_error_free(err);
}

static void test_words(void **state)
{
	static const struct {
		const char *arch;
		uint64_t word;
	} rows[] = { { "le64", 0x0807060504030201 },
		     { "be64", 0x0102030405060708 },
		     { "le32", 0x04030201 },
		     { "be32", 0x01020304 } };
	static const uint8_t bytes[PAGE] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	(void)state;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(rows); i++) {
		struct asc_target *t = image(rows[i].arch);
		uint64_t v;

		map(t, 0x1000, PAGE, ASC_MAP_READ, 0, bytes);
		assert_null(asc_read_word(t, 0x1000, &v));
		assert_true(v == rows[i].word);
		assert_null(asc_read_uint(t, 0x1000, 2, &v));
		assert_true(v == (rows[i].arch[0] == 'b' ? 0x0102u : 0x0201u));
		asc_target_close(t);
	}
}

static void test_maps(void **state)
{
	struct asc_target *t = image("le32");
	struct asc_map high = { .start = 0x100000000, .end = 0x100001000, .path = "" };
	struct asc_map over = { .start = 0x2800, .end = 0x3800, .path = "" };
	uint8_t buf[2 * PAGE];

	(void)state;
	map(t, 0x3000, PAGE, ASC_MAP_READ, 0, NULL);
	map(t, 0x2000, PAGE, ASC_MAP_READ, 7, NULL);
	map(t, 0xfffff000, PAGE, ASC_MAP_READ, 0, NULL);
	fails(asc_image_add(t, &over, NULL), ASC_EUSAGE);
	fails(asc_image_add(t, &high, NULL), ASC_EUSAGE);
	assert_int_equal(asc_target_maps(t)->n, 3);
	assert_string_equal(asc_maps_find(asc_target_maps(t), 0x2fff)->path, "/bin/x");
	/* across the border of two mappings, and no further */
	assert_null(asc_image_poke(t, 0x2ffe, "abcd", 4));
	assert_int_equal(asc_read_some(t, 0x2ffe, buf, sizeof(buf)), 0x1002);
	assert_memory_equal(buf, "abcd", 4);
	fails(asc_image_poke(t, 0x3ffe, "abcd", 4), ASC_EFAULT);
	assert_int_equal(asc_read_some(t, 0x3ffe, buf, 2), 2);
	assert_true(!buf[0] && !buf[1]); /* all or nothing */
	assert_int_equal(asc_read_some(t, 0xfffffff0, buf, 100), 16);
	assert_int_equal(asc_read_some(t, 0x100000000, buf, 1), 0);
	fails(asc_read(t, 0x4000, buf, 1), ASC_EFAULT);
	asc_target_close(t);
}

/* A capture takes what is present, knows what is zero, and does not invent the rest. */
static void test_capture(void **state)
{
	struct asc_target *t = image("x86_64"), *c = NULL;
	uint8_t bytes[4 * PAGE], buf[4 * PAGE];
	struct asc_page_run *runs = calloc(1, sizeof(*runs));
	struct asc_residency *res = NULL;
	const struct asc_range ranges[] = { { 0x11800, 0x1000 },
					    { 0x10000, 0x2000 },
					    { 0x20000, PAGE },
					    { 0x30000, PAGE },
					    { 0x50000, PAGE } };
	const struct asc_thread th = { .tid = 42 };
	size_t n;

	(void)state;
	memset(bytes, 0xaa, sizeof(bytes));
	map(t, 0x10000, 4 * PAGE, ASC_MAP_READ | ASC_MAP_WRITE, 0, bytes);
	map(t, 0x20000, PAGE, ASC_MAP_READ, 9, bytes);
	map(t, 0x30000, PAGE, 0, 0, bytes); /* a guard page */
	map(t, 0x40000, PAGE, ASC_MAP_READ, 9, bytes);
	assert_null(asc_image_add_thread(t, &th));
	assert_null(asc_image_set_auxv(t, 9, 77));
	assert_non_null(runs);
	runs[0] = asc_page_run_make(0x11000, 0x12000, ASC_PAGE_PRESENT);
	assert_null(asc_residency_init(ASC_RESIDENCY_PAGEMAP, PAGE, runs, 1, &res));

	fails(asc_capture(t, res, ranges, ASC_ARRAY_SIZE(ranges), PAGE, &c), ASC_ENOMEM);
	assert_null(asc_capture(t, res, ranges, ASC_ARRAY_SIZE(ranges), 0, &c));
	assert_int_equal(asc_capture_bytes(c), 2 * PAGE); /* the present page and the file's */
	assert_int_equal(asc_read_some(c, 0x10000, buf, sizeof(buf)), 3 * PAGE);
	for (size_t i = 0; i < 3 * PAGE; i++)
		assert_int_equal(buf[i], i / PAGE == 1 ? 0xaa : 0);
	assert_int_equal(asc_read_some(c, 0x13000, buf, 1), 0); /* not asked for */
	assert_int_equal(asc_read_some(c, 0x20000, buf, PAGE), PAGE);
	assert_int_equal(buf[5], 0xaa); /* a file's page is never taken for zeros */
	assert_int_equal(asc_read_some(c, 0x30000, buf, 1), 0);
	assert_int_equal(asc_read_some(c, 0x50000, buf, 1), 0);
	/* read-only file pages come from the process while it is there */
	assert_int_equal(asc_read_some(c, 0x40000, buf, PAGE), 0);
	asc_capture_set_backing(c, t);
	assert_int_equal(asc_read_some(c, 0x40000, buf, PAGE), PAGE);
	assert_int_equal(asc_read_some(c, 0x13000, buf, 1), 0); /* but nothing that changes */
	assert_int_equal(asc_target_threads(c, &n)->tid, 42);
	assert_int_equal(asc_target_maps(c)->n, 4);
	assert_int_equal(asc_target_kind(c), ASC_CAPTURE);
	asc_residency_free(res);
	asc_target_close(c);
	asc_target_close(t);
}

/* Large enough for two readers, against a real process. */
static void test_capture_live(void **state)
{
	const size_t len = 48 << 20;
	uint8_t *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct asc_target *t = NULL, *c = NULL;
	struct asc_residency *res = NULL;
	struct asc_capture_buf *buf = NULL;
	struct asc_range r = { (uintptr_t)mem, len };
	pid_t pid;
	int ready[2];
	char c1;

	(void)state;
	assert_true(mem != MAP_FAILED && !pipe(ready));
	for (size_t i = 0; i < len; i += PAGE) {
		if (i / PAGE % 3)
			memset(mem + i, (int)(i / PAGE), PAGE);
	}
	pid = fork();
	if (!pid) {
		munmap(mem + (1 << 20), 16 * PAGE); /* a hole in the middle of the range */
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c1, 1), 1);
	close(ready[0]);
	close(ready[1]);
	assert_null(asc_live_open(pid, NULL, &t));
	assert_null(asc_target_stop(t, NULL));
	assert_null(asc_residency_read(t, &res));
	assert_null(asc_capture_buf_new(len, &buf));
	assert_null(asc_capture_into(t, res, &r, 1, 0, &buf, &c));
	assert_null(buf); /* taken over */
	asc_target_release(t, NULL);
	assert_int_equal(asc_capture_bytes(c), asc_resident_bytes(res, r.addr, r.addr + r.len));
	for (size_t i = 0; i < len; i += PAGE) {
		uint8_t page[PAGE];
		bool gone = i >= 1 << 20 && i < (1 << 20) + 16 * PAGE;

		assert_int_equal(asc_read_some(c, r.addr + i, page, PAGE), gone ? 0 : PAGE);
		assert_true(gone || !memcmp(page, mem + i, PAGE));
	}
	asc_residency_free(res);
	asc_target_close(c);
	asc_target_close(t);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	munmap(mem, len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_capture),
		cmocka_unit_test(test_capture_live),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
