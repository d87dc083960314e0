/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What was read before a stop says which pages are fetched in it. If they are what they were, the target
 * may run on while they are looked at: then it answers with the bytes of the stop, and with nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "target/readers.h"
#include "target/stackplan.h"

enum { PAGES = 600, PAGE = 4096, READ = 512, SPARE = 4, NOTED = 1024 };

/* All but the last, which nobody touches. */
static void fill(char *area)
{
	for (int i = 0; i < PAGES - 1; i++)
		memset(area + (size_t)i * PAGE, i % 251 + 1, PAGE);
}

/* 'o': a byte of page 8 becomes another one; 'u': page 550, that nobody reads; 'q': nothing */
static void obey(int from, int to, char *area)
{
	char what;

	while (read(from, &what, 1) == 1) {
		if (what == 'o')
			area[8 * PAGE + 99]++;
		else if (what == 'u')
			area[550 * PAGE]++;
		if (write(to, &what, 1) != 1)
			_exit(1);
	}
}

static void tell(struct child *c, char what)
{
	assert_int_equal(write(c->to, &what, 1), 1);
	assert_int_equal(read(c->from, &what, 1), 1);
}

static asc_addr page(const struct child *c, int n)
{
	return (uintptr_t)c->area + (uint64_t)n * PAGE;
}

static int byte(struct child *c, int n, size_t off)
{
	unsigned char b;

	return asc_read_some(c->live, page(c, n) + off, &b, 1) == 1 ? b : -1;
}

/* Every second page of the first 400, all of the next 100, and one read across two. */
static void read_it(struct child *c)
{
	unsigned char b[16];

	for (int i = 0; i < READ; i += i < 400 ? 2 : 1)
		assert_int_equal(byte(c, i, 99), i % 251 + 1);
	assert_int_equal(asc_read_some(c->live, page(c, 520) - 8, b, sizeof(b)), sizeof(b));
}

static void rehearse(struct child *c)
{
	assert_true(asc_target_rehearse(c->live, NOTED));
	read_it(c);
	asc_target_rehearsed(c->live, SPARE);
}

static void stop(struct child *c)
{
	assert_null(asc_target_stop(c->live, NULL));
	asc_target_keep_pages(c->live, true);
}

static void release(struct child *c)
{
	struct asc_pause p;

	asc_target_release(c->live, &p);
}

static void begin(struct child *c)
{
	assert_true(child_begin(c, PAGES * PAGE, fill, obey));
}

static void test_sealed(void **state)
{
	struct child c;

	(void)state;
	begin(&c);
	rehearse(&c);
	tell(&c, 'u'); /* not one of those that were read */
	stop(&c);
	asc_target_fetch(c.live, NULL, NULL, 0);
	assert_true(asc_target_has(c.live, page(&c, 8) + 99));
	assert_false(asc_target_has(c.live, page(&c, 550)));
	assert_true(asc_target_seal(c.live));
	release(&c);

	/* it runs, and changes: what was in the stop is told all the same */
	tell(&c, 'o');
	assert_int_equal(byte(&c, 8, 99), 9);
	read_it(&c);
	assert_true(asc_target_unseal(c.live));
	assert_int_equal(byte(&c, 8, 99), 10);
	child_end(&c);
}

static void test_missed(void **state)
{
	struct child c;
	uint64_t two[2];
	struct asc_iov iov[2];

	(void)state;
	begin(&c);
	rehearse(&c);
	for (int i = 0; i < 3; i++) {
		stop(&c);
		asc_target_fetch(c.live, NULL, NULL, 0);
		assert_true(asc_target_seal(c.live));
		release(&c);
		iov[0] = (struct asc_iov){ .addr = page(&c, 8), .buf = &two[0], .len = 8 };
		iov[1] = (struct asc_iov){ .addr = page(&c, 550), .buf = &two[1], .len = 8 };
		if (i == 0)
			assert_int_equal(byte(&c, 550, 0), -1);
		else if (i == 1)
			assert_int_equal(asc_read_beside(c.live, page(&c, 511) + PAGE - 1, two, 2),
					 0);
		else
			assert_null(asc_read_bulk(c.live, iov, 2));
		if (i == 2)
			assert_true(iov[0].got == 8 && iov[1].got == 0);
		assert_false(asc_target_unseal(c.live));
		assert_int_equal(byte(&c, 550, 0), 550 % 251 + 1);
	}
	child_end(&c);
}

/* One byte is another one: that is read, and the target has to wait. */
static void test_changed(void **state)
{
	struct child c;

	(void)state;
	begin(&c);
	rehearse(&c);
	tell(&c, 'o');
	stop(&c);
	asc_target_fetch(c.live, NULL, NULL, 0);
	assert_false(asc_target_seal(c.live));
	assert_int_equal(byte(&c, 8, 99), 10);
	release(&c);
	child_end(&c);
}

/* Of too many pages, or of reads that are not noted: never. */
static void test_partial(void **state)
{
	static unsigned char much[65 * 1024];
	struct child c;

	(void)state;
	begin(&c);
	assert_true(asc_target_rehearse(c.live, 16));
	for (int i = 0; i < 16; i++)
		assert_int_equal(byte(&c, i, 99), i % 251 + 1);
	assert_int_equal(byte(&c, 20, 99), -1);
	asc_target_rehearsed(c.live, SPARE);
	stop(&c);
	asc_target_fetch(c.live, NULL, NULL, 0);
	assert_false(asc_target_seal(c.live));
	release(&c);

	assert_true(asc_target_rehearse(c.live, NOTED));
	assert_int_equal(asc_read_some(c.live, page(&c, 0), much, sizeof(much)), sizeof(much));
	assert_int_equal(byte(&c, 20, 99), 21);
	asc_target_rehearsed(c.live, SPARE);
	stop(&c);
	asc_target_fetch(c.live, NULL, NULL, 0);
	assert_false(asc_target_seal(c.live));
	release(&c);
	child_end(&c);
}

static bool has_page(const struct child *c, int n)
{
	struct asc_residency *res = NULL;
	bool yes;

	assert_null(asc_residency_read(c->live, &res));
	yes = asc_resident_bytes(res, page(c, n), page(c, n) + PAGE) != 0;
	asc_residency_free(res);
	return yes;
}

/* What is not in memory is not fetched, and so does not come into it; and then nothing is sealed. */
static void test_absent(void **state)
{
	struct asc_residency *res = NULL;
	struct child c;

	(void)state;
	begin(&c);
	assert_null(asc_residency_read(c.live, &res));
	assert_false(has_page(&c, PAGES - 1));
	assert_null(asc_live_look_early(c.live, res));
	assert_true(asc_target_rehearse(c.live, NOTED));
	assert_int_equal(byte(&c, 3, 99), 4);
	asc_target_rehearsed(c.live, SPARE);
	stop(&c);
	asc_target_fetch(c.live, res, &(asc_addr){ page(&c, PAGES - 1) }, 1);
	assert_false(asc_target_has(c.live, page(&c, PAGES - 1)));
	assert_true(asc_target_has(c.live, page(&c, 3)));
	assert_false(has_page(&c, PAGES - 1));
	release(&c);
	asc_residency_free(res);
	child_end(&c);
}

static void test_early(void **state)
{
	struct child c;

	(void)state;
	begin(&c);
	assert_true(asc_target_rehearse(c.live, NOTED));
	assert_int_equal(byte(&c, 3, 99), 4);
	asc_target_mark_early(c.live);
	assert_int_equal(byte(&c, 2, 99), 3);
	assert_int_equal(byte(&c, 4, 99), 5);
	asc_target_rehearsed(c.live, SPARE);
	stop(&c);
	asc_target_fetch_early(c.live);
	assert_true(asc_target_has(c.live, page(&c, 3)));
	assert_false(asc_target_has(c.live, page(&c, 2)) || asc_target_has(c.live, page(&c, 4)));
	assert_false(asc_target_seal(c.live));
	asc_target_fetch(c.live, NULL, NULL, 0);
	assert_true(asc_target_has(c.live, page(&c, 2)) && asc_target_has(c.live, page(&c, 4)));
	assert_true(asc_target_seal(c.live));
	release(&c);
	assert_true(asc_target_unseal(c.live));
	/* what was fetched is of the past now */
	assert_false(asc_target_has(c.live, page(&c, 3)));
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sealed),	cmocka_unit_test(test_missed),
		cmocka_unit_test(test_changed), cmocka_unit_test(test_partial),
		cmocka_unit_test(test_absent),	cmocka_unit_test(test_early),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
