/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is read of a process before, in and after a stop: what was kept in it stays, what is the same
 * before and after is steady, and every change of anything else is noticed. A child changes its pages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "child.h"
#include "target/overlay.h"
#include "target/pagenotes.h"
#include "target/readers.h"

enum { PAGES = 64, TOUCHED = 32, PAGE = 4096 };
static const uint64_t NEVER = UINT64_MAX;

struct pages {
	struct child child;
	asc_addr area; /* of PAGES pages, the first TOUCHED ones hold their numbers */
	struct asc_target *live, *overlay;
	struct asc_residency *before, *now;
};

struct order {
	char what; /* w: write, d: give the page back */
	unsigned char page, value;
};

static void fill(char *area)
{
	for (int i = 0; i < TOUCHED; i++)
		memset(area + (size_t)i * PAGE, i + 1, PAGE);
}

static void obey(int from, int to, char *area)
{
	struct order o;

	while (read(from, &o, sizeof(o)) == sizeof(o)) {
		unsigned char *page = (unsigned char *)area + (size_t)o.page * PAGE;

		if (o.what == 'd')
			madvise(page, PAGE, MADV_DONTNEED);
		else
			page[PAGE - 1 - o.page] = o.value; /* one byte, elsewhere in each */
		if (write(to, &o.what, 1) != 1)
			_exit(1);
	}
}

static void tell(struct pages *c, char what, unsigned page, unsigned value)
{
	struct order o = { what, (unsigned char)page, (unsigned char)value };

	assert_int_equal(write(c->child.to, &o, sizeof(o)), sizeof(o));
	assert_int_equal(read(c->child.from, &o.what, 1), 1);
}

static void begin(struct pages *c, uint64_t room)
{
	*c = (struct pages){ 0 };
	assert_true(child_begin(&c->child, PAGES * PAGE, fill, obey));
	c->area = (asc_addr)(uintptr_t)c->child.area;
	c->live = c->child.live;
	assert_null(asc_residency_read(c->live, &c->before));
	assert_null(asc_overlay_new(c->live, c->before, room, &c->overlay));
}

static void end(struct pages *c)
{
	asc_target_close(c->overlay);
	asc_residency_free(c->before);
	asc_residency_free(c->now);
	child_end(&c->child);
}

static void stop(struct pages *c)
{
	assert_null(asc_target_stop(c->live, NULL));
	asc_residency_free(c->now);
	assert_null(asc_residency_read(c->live, &c->now));
	assert_null(asc_overlay_begin(c->overlay, c->now, NEVER));
}

static void go(struct pages *c)
{
	struct asc_pause p;

	asc_target_release(c->live, &p);
	assert_null(asc_overlay_end(c->overlay, NULL));
}

static unsigned byte_of(struct pages *c, unsigned page)
{
	unsigned char b = 0;

	assert_null(asc_read(c->overlay, c->area + page * PAGE + PAGE - 1 - page, &b, 1));
	return b;
}

/* All at once; also in pieces that begin and end inside pages. */
static void read_all(struct pages *c)
{
	static unsigned char whole[PAGES * PAGE], parts[PAGES * PAGE];

	assert_null(asc_read(c->overlay, c->area, whole, sizeof(whole)));
	for (size_t at = 0, n; at < sizeof(parts); at += n) {
		n = sizeof(parts) - at < 5000 ? sizeof(parts) - at : 5000;
		assert_null(asc_read(c->overlay, c->area + at, parts + at, n));
	}
	assert_memory_equal(whole, parts, sizeof(whole));
}

/* The pages that are said to have changed, as bits. */
static uint64_t changed(struct pages *c, uint64_t *ret_steady)
{
	struct asc_range *v;
	uint64_t bits = 0;
	size_t n;

	assert_null(asc_overlay_changed(c->overlay, &v, &n, ret_steady));
	for (size_t i = 0; i < n; i++) {
		assert_true(i == 0 || v[i - 1].addr + v[i - 1].len < v[i].addr);
		for (asc_addr at = v[i].addr; at < v[i].addr + v[i].len; at += PAGE)
			bits |= 1ull << ((at - c->area) / PAGE);
	}
	free(v);
	return bits;
}

static void test_three_readings(void **state)
{
	struct pages c;
	struct asc_range two;
	uint64_t steady;

	(void)state;
	begin(&c, 64 * PAGE);
	two = (struct asc_range){ c.area + 4 * PAGE, 2 * PAGE };
	read_all(&c);
	tell(&c, 'w', 4, 200); /* before the stop, and kept in it */
	tell(&c, 'w', 7, 201); /* before the stop, and not kept */
	stop(&c);
	asc_overlay_pull(c.overlay, &two, 1);
	assert_int_equal(byte_of(&c, 9), 10); /* taken as it is read */
	assert_int_equal(byte_of(&c, 50), 0); /* was never touched */
	go(&c);
	tell(&c, 'w', 4, 210);
	tell(&c, 'w', 5, 211);
	tell(&c, 'w', 9, 212);
	tell(&c, 'w', 11, 213); /* after it */
	tell(&c, 'w', 12, 214); /* and as it was */
	tell(&c, 'w', 12, 13);
	tell(&c, 'w', 40, 215); /* came after the stop, where there was nothing */
	read_all(&c);
	assert_int_equal(byte_of(&c, 4), 200);
	assert_int_equal(byte_of(&c, 5), 6);
	assert_int_equal(byte_of(&c, 9), 10);
	assert_int_equal(byte_of(&c, 40), 0);
	assert_int_equal(changed(&c, &steady), 1ull << 7 | 1ull << 11);
	assert_int_equal(steady, (TOUCHED - 5) * PAGE);
	end(&c);
}

/* A page that came between the first reading and the stop is proven by nothing but the stop. */
static void test_new_page(void **state)
{
	struct pages c;
	uint64_t steady;

	(void)state;
	begin(&c, 64 * PAGE);
	read_all(&c);
	tell(&c, 'w', 33, 1);
	tell(&c, 'w', 34, 2);
	tell(&c, 'd', 3, 0); /* one has gone */
	stop(&c);
	assert_int_equal(byte_of(&c, 34), 2);
	go(&c);
	read_all(&c);
	assert_int_equal(byte_of(&c, 33), 1);
	assert_int_equal(byte_of(&c, 3), 0);
	assert_int_equal(changed(&c, &steady), 1ull << 33);
	assert_int_equal(steady, (TOUCHED - 1) * PAGE);
	end(&c);
}

/* The stop does not ask which pages there are: what is not the same before and after it is not proven. */
static void test_asked_later(void **state)
{
	struct pages c;
	struct asc_pause p;
	uint64_t steady;

	(void)state;
	begin(&c, 64 * PAGE);
	read_all(&c);
	tell(&c, 'w', 33, 1);
	assert_null(asc_target_stop(c.live, NULL));
	assert_null(asc_overlay_begin(c.overlay, NULL, NEVER));
	assert_int_equal(byte_of(&c, 33), 1); /* has come */
	assert_int_equal(byte_of(&c, 34), 0); /* has not */
	assert_int_equal(byte_of(&c, 4), 5);
	asc_target_release(c.live, &p);
	tell(&c, 'd', 4, 0);  /* kept, and gone */
	tell(&c, 'd', 6, 0);  /* gone */
	tell(&c, 'w', 35, 2); /* came after it */
	tell(&c, 'w', 34, 3); /* and where there was nothing in it */
	assert_null(asc_residency_read(c.live, &c.now));
	assert_null(asc_overlay_end(c.overlay, c.now));
	read_all(&c);
	assert_int_equal(byte_of(&c, 4), 5);
	assert_int_equal(byte_of(&c, 33), 1);
	assert_int_equal(byte_of(&c, 34), 0);
	assert_int_equal(changed(&c, &steady), 1ull << 6 | 1ull << 35);
	assert_int_equal(steady, (TOUCHED - 2) * PAGE);
	end(&c);
}

static void test_next_round(void **state)
{
	struct pages c;
	uint64_t steady;

	(void)state;
	begin(&c, 64 * PAGE);
	read_all(&c);
	stop(&c);
	assert_int_equal(byte_of(&c, 1), 2);
	go(&c);
	tell(&c, 'w', 1, 100);
	tell(&c, 'w', 2, 101);
	read_all(&c);
	assert_int_equal(changed(&c, &steady), 1ull << 2);
	/* what was kept is let go, and what was read last is the reading before */
	stop(&c);
	go(&c);
	read_all(&c);
	assert_int_equal(byte_of(&c, 1), 100);
	assert_int_equal(changed(&c, &steady), 1ull << 1); /* was not read between the stops */
	assert_int_equal(steady, (TOUCHED - 1) * PAGE);
	end(&c);
}

static void test_forget(void **state)
{
	struct pages c;
	struct asc_range all;
	uint64_t steady;

	(void)state;
	begin(&c, 64 * PAGE);
	all = (struct asc_range){ c.area, PAGES * PAGE };
	read_all(&c);
	stop(&c);
	asc_overlay_pull(c.overlay, &all, 1);
	go(&c);
	tell(&c, 'w', 20, 99);
	tell(&c, 'w', 21, 99);
	asc_overlay_forget(c.overlay, (struct asc_range){ c.area + 20 * PAGE + 8, 8 });
	assert_int_equal(byte_of(&c, 20), 99);
	assert_int_equal(byte_of(&c, 21), 22);
	assert_int_equal(changed(&c, &steady), 1ull << 20);
	end(&c);
}

/* Time or room is up: nothing more is taken, nothing is made up, and it is said. */
static void test_cut(void **state)
{
	struct pages c;
	struct asc_range all;
	unsigned char b;
	uint64_t steady;

	(void)state;
	begin(&c, 8 * PAGE);
	all = (struct asc_range){ c.area, PAGES * PAGE };
	read_all(&c);
	stop(&c);
	asc_overlay_pull(c.overlay, &all, 1);
	assert_true(asc_overlay_is_cut(c.overlay));
	assert_int_equal(asc_overlay_fresh_bytes(c.overlay), 8 * PAGE);
	assert_int_equal(asc_read_some(c.overlay, c.area + 20 * PAGE, &b, 1), 0);
	go(&c);
	tell(&c, 'w', 3, 77);
	tell(&c, 'w', 20, 78);
	read_all(&c);
	assert_int_equal(byte_of(&c, 3), 4);
	assert_int_equal(changed(&c, &steady), 1ull << 20);
	end(&c);

	begin(&c, 64 * PAGE);
	all = (struct asc_range){ c.area, PAGES * PAGE };
	assert_null(asc_target_stop(c.live, NULL));
	assert_null(asc_residency_read(c.live, &c.now));
	assert_null(asc_overlay_begin(c.overlay, c.now, 1)); /* long ago */
	asc_overlay_pull(c.overlay, &all, 1);
	assert_true(asc_overlay_is_cut(c.overlay));
	assert_int_equal(asc_overlay_fresh_bytes(c.overlay), 0);
	end(&c);
}

static bool same(struct pages *c, unsigned but)
{
	struct asc_range r = { c->area + but * PAGE, PAGE };
	const asc_range_vec v = { .data = &r, .len = 1, .cap = 1 };

	return asc_overlay_is_same(c->overlay, &v);
}

static bool compares(struct pages *c, unsigned but, uint64_t *ret_steady)
{
	struct asc_range r = { c->area + but * PAGE, PAGE };
	const asc_range_vec v = { .data = &r, .len = 1, .cap = 1 };
	bool ret;

	assert_null(asc_overlay_compare(c->overlay, &v, NULL, &ret, ret_steady));
	return ret;
}

/* The first reading is that of the stop: what was kept is the same, and so is all else once more. */
static void test_first_is_enough(void **state)
{
	struct pages c;
	uint64_t steady;

	(void)state;
	begin(&c, 64 * PAGE);
	read_all(&c);
	tell(&c, 'w', 20, 99); /* does not matter: but */
	stop(&c);
	assert_int_equal(byte_of(&c, 4), 5);
	assert_int_equal(byte_of(&c, 20), 99);
	assert_int_equal(byte_of(&c, 50), 0);
	assert_true(same(&c, 20));
	assert_false(same(&c, 21));
	go(&c);
	tell(&c, 'w', 4, 100); /* kept: what it is now does not matter */
	assert_true(compares(&c, 21, &steady));
	assert_int_equal(steady,
			 (TOUCHED - 3) * PAGE); /* without the two that were kept, and but */
	assert_int_equal(changed(&c, &steady), 0);
	end(&c);
}

/* Every single page that changes, before the stop or after it, is noticed. */
static void test_first_is_not_enough(void **state)
{
	struct pages c;
	uint64_t steady;

	(void)state;
	for (unsigned page = 0; page < TOUCHED; page++) {
		begin(&c, 64 * PAGE);
		read_all(&c);
		if (page % 2)
			tell(&c, 'w', page, 222);
		stop(&c);
		assert_true(same(&c, 63));
		assert_int_equal(byte_of(&c, page), page % 2 ? 222 : page + 1);
		assert_int_equal(same(&c, 63), page % 2 == 0);
		assert_true(same(&c, page));
		go(&c);
		tell(&c, 'w', (page + 1) % TOUCHED, 223);
		assert_false(compares(&c, 63, &steady));
		assert_true(compares(&c, (page + 1) % TOUCHED, &steady));
		/* seen once, it counts, though it is as it was when it is read again */
		tell(&c, 'w', (page + 1) % TOUCHED, (page + 1) % TOUCHED + 1);
		read_all(&c);
		assert_int_equal(changed(&c, &steady), 1ull << (page + 1) % TOUCHED);
		end(&c);
	}
	/* read twice before the stop, and not the same */
	begin(&c, 64 * PAGE);
	read_all(&c);
	tell(&c, 'w', 9, 200);
	read_all(&c);
	tell(&c, 'w', 9, 10);
	stop(&c);
	assert_int_equal(byte_of(&c, 9), 10);
	assert_false(same(&c, 63));
	go(&c);
	end(&c);
	/* a second stop: what was kept in the first left no digest */
	begin(&c, 64 * PAGE);
	read_all(&c);
	stop(&c);
	go(&c);
	read_all(&c);
	stop(&c);
	assert_false(same(&c, 63));
	go(&c);
	end(&c);
}

/* One bit is enough, wherever it is; and no two overlays have the same digests. */
static void test_digest(void **state)
{
	static uint8_t page[PAGE];
	struct asc_notes a = { 0 }, b = { 0 };
	uint64_t was;

	(void)state;
	assert_null(asc_notes_init(&a, PAGE));
	assert_null(asc_notes_init(&b, PAGE));
	for (size_t i = 0; i < PAGE; i++)
		page[i] = (uint8_t)(i * 7 + i / 256);
	was = asc_page_digest(&a, page);
	assert_true(was > ASC_NOTE_TORN);
	assert_true(was != asc_page_digest(&b, page));
	for (size_t bit = 0; bit < PAGE * 8; bit++) {
		page[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_true(asc_page_digest(&a, page) != was);
		page[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_true(asc_page_digest(&a, page) == was);
	asc_notes_deinit(&a);
	asc_notes_deinit(&b);
}

/* Blocks are found again, those that came later, too, and each begins empty. */
static void test_notes(void **state)
{
	enum { FAR = 5000 };
	struct asc_page_run runs[] = {
		asc_page_run_make(3 * PAGE, 5 * PAGE, ASC_PAGE_PRESENT),
		asc_page_run_make(60 * PAGE, 70 * PAGE, ASC_PAGE_PRESENT),
		asc_page_run_make(FAR * PAGE, (FAR + 200000ull) * PAGE, ASC_PAGE_PRESENT),
	};
	struct asc_residency res = { .source = ASC_RESIDENCY_SCAN, .page_size = PAGE, .v = runs };
	struct asc_note_block **blocks;
	struct asc_notes s = { 0 };

	assert_null(asc_notes_init(&s, PAGE));
	if (*state) /* most of them are in the file */
		s.in_memory_max = 7;
	for (res.n = 0; res.n <= 3; res.n++)
		assert_null(asc_notes_make(&s, &res));
	res.n = 3;
	assert_null(asc_notes_make(&s, &res));
	assert_int_equal(s.nblocks, 2 + (FAR + 199999) / 64 - FAR / 64 + 1);
	assert_null(asc_notes_block(&s, 128 * PAGE));
	for (uint64_t page = FAR; page < FAR + 200000; page++) {
		struct asc_note_block *b = asc_notes_block(&s, page * PAGE);

		assert_non_null(b);
		assert_true(!b->digest[asc_note_index(&s, page * PAGE)]);
		b->digest[asc_note_index(&s, page * PAGE)] = page;
	}
	for (uint64_t page = FAR; page < FAR + 200000; page++)
		assert_true(asc_notes_block(&s, page * PAGE)->digest[page % 64] == page);
	assert_int_equal(asc_note_index(&s, 3 * PAGE), 3);
	assert_ptr_equal(asc_notes_block(&s, 69 * PAGE), asc_notes_block(&s, 64 * PAGE));
	blocks = calloc(s.nblocks, sizeof(struct asc_note_block *));
	assert_non_null(blocks);
	asc_notes_sorted(&s, blocks);
	for (size_t i = 1; i < s.nblocks; i++)
		assert_true(blocks[i - 1]->nr < blocks[i]->nr);
	free(blocks);
	assert_true(s.in_memory <= s.in_memory_max && (s.fd >= 0) == (*state != NULL));
	asc_notes_deinit(&s);
}

/* Many pieces are read by two threads, but not while what is read is kept. */
static void test_pieces_of_the_stop(void **state)
{
	enum { PIECES = 4096 };
	static struct asc_iov iov[PIECES];
	static unsigned char bytes[PIECES][32];
	struct pages c;

	(void)state;
	for (int round = 0; round < 20; round++) {
		begin(&c, PAGES * PAGE);
		assert_true(asc_target_concurrent(c.overlay));
		stop(&c);
		assert_false(asc_target_concurrent(c.overlay));
		for (size_t i = 0; i < PIECES; i++)
			iov[i] = (struct asc_iov){
				.addr = c.area + i % TOUCHED * PAGE +
					i / TOUCHED * sizeof(bytes[i]),
				.buf = bytes[i],
				.len = sizeof(bytes[i]),
			};
		assert_null(asc_read_pieces(c.overlay, iov, PIECES));
		for (size_t i = 0; i < PIECES; i++) {
			assert_int_equal(iov[i].got, sizeof(bytes[i]));
			assert_int_equal(bytes[i][0], i % TOUCHED + 1);
			assert_int_equal(bytes[i][31], i % TOUCHED + 1);
		}
		assert_int_equal(asc_overlay_fresh_bytes(c.overlay), TOUCHED * PAGE);
		go(&c);
		assert_true(asc_target_concurrent(c.overlay));
		end(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_three_readings),
		cmocka_unit_test(test_pieces_of_the_stop),
		cmocka_unit_test(test_new_page),
		cmocka_unit_test(test_asked_later),
		cmocka_unit_test(test_next_round),
		cmocka_unit_test(test_forget),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_first_is_enough),
		cmocka_unit_test(test_first_is_not_enough),
		cmocka_unit_test(test_digest),
		cmocka_unit_test(test_notes),
		cmocka_unit_test_prestate(test_notes, "file"),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
