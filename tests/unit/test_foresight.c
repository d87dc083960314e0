/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Residency that was read before a stop is used in it only if nothing came or went in between. A child
 * changes its pages in every way between the two moments: none of them may go unnoticed, and what is
 * read then must be what it says itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "child.h"
#include "target/foresight.h"

enum { PAGES = 64, PAGE = 4096 };

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static void touch(char *area, int page)
{
	((volatile char *)area)[(size_t)page * PAGE] = 1;
}

/* What a child does when it is told to. */
static void obey(char what, char *area)
{
	switch (what) {
	case 't': /* a page comes */
		touch(area, 40);
		break;
	case 'd': /* a page goes */
		madvise(area + 3 * PAGE, PAGE, MADV_DONTNEED);
		break;
	case 'x': /* one goes and another comes: as many as before */
		madvise(area + 5 * PAGE, PAGE, MADV_DONTNEED);
		touch(area, 50);
		break;
	case 'p': /* the same, without touching it */
		madvise(area + 6 * PAGE, PAGE, MADV_DONTNEED);
		madvise(area + 51 * PAGE, PAGE, MADV_POPULATE_WRITE);
		break;
	case 'm': /* its last page lies elsewhere now */
		mmap(area + 63 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		     0);
		break;
	case 'r': /* one is moved to another's place; no fault, no change of Rss */
		mremap(area + 7 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		       area + 60 * PAGE);
		break;
	case 'k': { /* a child of its own comes and goes, and copies a page */
		pid_t pid = fork();

		if (!pid) {
			touch(area, 8);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		touch(area, 9);
		break;
	}
	default: /* nothing at all */
		break;
	}
}

static void fill(char *area)
{
	for (int i = 0; i < PAGES / 2; i++)
		touch(area, i);
}

static void obey_all(int from, int to, char *area)
{
	char what;

	while (read(from, &what, 1) == 1) {
		unsigned char there[PAGES] = { 0 };

		obey(what, area);
		/* mincore() of private anonymous memory is the page table's own word */
		if (mincore(area, PAGES * PAGE, there) && what != 'r')
			_exit(2);
		if (write(to, there, sizeof(there)) != sizeof(there))
			_exit(1);
	}
}

static void begin(struct child *c)
{
	assert_true(child_begin(c, PAGES * PAGE, fill, obey_all));
}

static void tell(struct child *c, char what, unsigned char there[PAGES])
{
	assert_int_equal(write(c->to, &what, 1), 1);
	assert_int_equal(read(c->from, there, PAGES), PAGES);
}

static void stop(struct child *c)
{
	assert_null(asc_target_stop(c->live, NULL));
}

static void release(struct child *c)
{
	struct asc_pause p;

	asc_target_release(c->live, &p);
}

static void assert_pages(const struct child *c, const struct asc_residency *res,
			 const unsigned char there[PAGES])
{
	for (size_t i = 0; i < PAGES; i++) {
		asc_addr at = (asc_addr)(uintptr_t)c->area + i * PAGE;

		assert_int_equal(asc_resident_bytes(res, at, at + PAGE), there[i] & 1 ? PAGE : 0);
	}
}

/* A pipe wakes it, so that it may fault in pages of its own code: until it has settled. */
static struct asc_foresight *settled(struct child *c)
{
	struct asc_foresight *f = NULL;
	unsigned char there[PAGES];

	for (int i = 0; i < 20; i++) {
		bool holds;

		tell(c, ' ', there);
		asc_foresight_free(f);
		f = NULL;
		assert_null(asc_foresight_new(c->live, &f));
		stop(c);
		holds = asc_foresight_holds(f, c->live);
		release(c);
		if (holds)
			break;
	}
	return f;
}

static void test_holds(void **state)
{
	struct child c;
	unsigned char there[PAGES];
	struct asc_residency *now = NULL;
	struct asc_foresight *f;
	uint64_t rss, smaps;
	bool known, foreseen;

	(void)state;
	begin(&c);
	f = settled(&c);
	tell(&c, ' ', there);
	stop(&c);
	assert_true(asc_foresight_holds(f, c.live));
	assert_pages(&c, f->residency, there);
	assert_true(asc_kernel_rss(c.pid, &smaps));
	assert_null(asc_foresight_use(f, c.live, true, &now, &rss, &known, &foreseen));
	assert_true(foreseen && known && rss == smaps);
	assert_int_equal(rss, asc_resident_bytes(now, 0, UINT64_MAX));
	asc_residency_free(now);
	release(&c);
	asc_foresight_free(f);
	child_end(&c);
}

static void test_stale(void **state)
{
	static const char ways[] = "tdxpmk";

	(void)state;
	for (const char *way = ways; *way; way++) {
		struct child c;
		unsigned char there[PAGES];
		struct asc_residency *now = NULL;
		struct asc_foresight *f;
		uint64_t rss, sum;
		bool known;

		begin(&c);
		f = settled(&c);
		tell(&c, *way, there);
		stop(&c);
		print_message("%c\n", *way);
		assert_false(asc_foresight_holds(f, c.live));
		assert_null(asc_residency_and_rss(c.live, true, &now, &rss, &known));
		assert_pages(&c, now, there);
		sum = asc_resident_bytes(now, 0, UINT64_MAX);
		assert_true(known && rss == sum);
		asc_residency_free(now);
		release(&c);
		asc_foresight_free(f);
		child_end(&c);
	}
}

/* Moving a page changes no counter: the mappings tell. */
static void test_moved(void **state)
{
	struct child c;
	unsigned char there[PAGES];
	struct asc_foresight *f;

	(void)state;
	begin(&c);
	f = settled(&c);
	tell(&c, 'r', there);
	stop(&c);
	assert_false(asc_foresight_holds(f, c.live));
	release(&c);
	asc_foresight_free(f);
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_holds),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_moved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
