/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A glibc that nobody has seen: members of its structs inserted, dropped, swapped at random. Found
 * in memory alone, or by symbols with the table's layout of the release that it claims to be, it
 * has to be refused or read as what it is. Read wrong, and called right, is the one thing that must
 * not happen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "heap_std.h"

enum { ROUNDS = 300, ROUNDS_LONG = 40000, MEMBERS = 40 };

struct rng {
	uint64_t s;
};

static unsigned roll(struct rng *r, unsigned n)
{
	r->s = r->s * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(r->s >> 33) % n;
}

struct part {
	const char *name;
	struct asc_field *f;
};

struct shape {
	const char *name;
	uint64_t *size;
	struct part m[MEMBERS];
	size_t n;
};

static void types_of(struct asc_layout *l, struct shape v[4])
{
	size_t k = 0;

#define S(type) v[k++] = (struct shape){ .name = #type, .size = &l->sizeof_##type };
#define M(type, member, need)                                                                      \
	if (l->type##_##member.present)                                                            \
		v[k - 1].m[v[k - 1].n++] = (struct part){ #member, &l->type##_##member };
#include "glibc/schema.def"
#undef S
#undef M
}

/* Everything from @p off on moves by @p by. */
static void move_from(struct shape *t, uint32_t off, int by)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->m[i].f->present && t->m[i].f->off >= off)
			t->m[i].f->off = (uint32_t)((int64_t)t->m[i].f->off + by);
	*t->size = (uint64_t)((int64_t)*t->size + by);
}

static void insert(struct shape *t, struct rng *r, unsigned word, char *what, size_t len)
{
	size_t i = roll(r, (unsigned)t->n);
	struct asc_field *f = t->m[i].f;
	int by = (int)(word * (1 + roll(r, 3)));

	/* two ints share a word: in front of the first of them */
	uint32_t off = f->elem < word ? f->off / word * word : f->off;

	snprintf(what, len, "%s: %d bytes before %s", t->name, by, t->m[i].name);
	move_from(t, off, by);
}

static bool drop(struct shape *t, struct rng *r, unsigned word, char *what, size_t len)
{
	static const char *const optional[] = { "last_remainder", "attached_threads",
						"max_total_mem",  "tcache_unsorted_limit",
						"thp_pagesize",	  "hp_pagesize",
						"binmap" };
	size_t i = roll(r, (unsigned)t->n);
	struct asc_field *f = t->m[i].f;
	bool ok = false;

	for (size_t k = 0; k < ASC_ARRAY_SIZE(optional); k++)
		ok |= !strcmp(optional[k], t->m[i].name);
	if (!ok || f->size % word)
		return false;
	snprintf(what, len, "%s: no %s", t->name, t->m[i].name);
	f->present = false;
	move_from(t, f->off, -(int)f->size);
	return true;
}

static bool swap(struct shape *t, struct rng *r, char *what, size_t len)
{
	size_t i = roll(r, (unsigned)t->n), k = roll(r, (unsigned)t->n);
	struct asc_field *a = t->m[i].f, *b = t->m[k].f;
	uint32_t off = a->off;

	if (i == k || a->size != b->size)
		return false;
	snprintf(what, len, "%s: %s and %s swapped", t->name, t->m[i].name, t->m[k].name);
	a->off = b->off;
	b->off = off;
	return true;
}

/* Behind the struct a heap goes on aligned: what the compiler and malloc.c's asserts see to. */
static void settle(struct asc_layout *l)
{
	while ((l->sizeof__heap_info + l->hdr) % l->malloc_alignment)
		l->sizeof__heap_info += l->word;
}

static void shift(struct asc_layout *l, struct rng *r, char *what, size_t len)
{
	struct shape v[4];
	bool done = false;

	types_of(l, v);
	while (!done) {
		/* malloc_state and malloc_par most of the time */
		static const unsigned which[] = { 0, 0, 0, 0, 1, 1, 1, 2 };
		struct shape *t = &v[which[roll(r, ASC_ARRAY_SIZE(which))]];

		switch (roll(r, 3)) {
		case 0:
			insert(t, r, l->word, what, len);
			done = true;
			break;
		case 1:
			done = drop(t, r, l->word, what, len);
			break;
		default:
			done = swap(t, r, what, len);
		}
	}
	settle(l);
}

/*
 * What the release decides and the shape does not: blanks, a line that came with 2.20, and which
 * heaps are counted as address space.
 */
static void without_style(char *s)
{
	static const char *const lines[] = { "<total type=\"mmap\"", "<aspace" };
	char *to = s, *line;

	for (size_t i = 0; i < ASC_ARRAY_SIZE(lines); i++)
		while ((line = strstr(s, lines[i])))
			memmove(line, strchr(line, '\n') + 1, strlen(strchr(line, '\n')));
	for (char *p = s; *p; p++)
		if (*p != ' ' && *p != '\t')
			*to++ = *p;
	*to = 0;
}

static bool text_of(struct std_heap *s, const struct asc_libc *lib, char **ret)
{
	struct asc_heap_opts opts = { .depth = ASC_DEPTH_WALK };
	ASC_AUTO(asc_heap_freep) struct asc_heap *h = NULL;
	ASC_AUTO(asc_freep) char *info = NULL;
	const struct asc_params *p;

	struct asc_error *err = asc_heap_read(s->t, lib, NULL, &opts, &h);

	if (!err)
		err = asc_malloc_info(h, &info);
	if (err) {
		asc_error_free(err);
		return false;
	}
	without_style(info);
	p = &h->params;
	/* numbers that people would see and act on */
	uint64_t tops = 0, locks = 0, flags = 0;

	for (size_t i = 0; i < h->narenas; i++) {
		tops ^= h->arenas[i].top;
		locks += h->arenas[i].mutex;
		flags += h->arenas[i].flags & 2;
	}
	assert_true(asprintf(ret,
			     "%strim %lu pad %lu mmap %lu test %lu max %lu n %lu/%lu/%lu dyn %lu "
			     "mem %lu/%lu sbrk %lx tops %lx locks %lu flags %lu",
			     info, p->trim_threshold, p->top_pad, p->mmap_threshold, p->arena_test,
			     p->arena_max, p->n_mmaps, p->n_mmaps_max, p->max_n_mmaps,
			     p->no_dyn_threshold, p->mmapped_mem, p->max_mmapped_mem, p->sbrk_base,
			     tops, locks, flags) > 0);
	return true;
}

struct tally {
	unsigned refused, right, wrong;
};

static void judge(struct std_heap *s, const struct asc_libc *found, const char *how,
		  const char *what, struct tally *t)
{
	ASC_AUTO(asc_freep) char *got = NULL;
	ASC_AUTO(asc_freep) char *want = NULL;

	assert_true(text_of(s, hi_libc(s->hi), &want));
	if (!text_of(s, found, &got)) {
		t->refused++;
		return;
	}
	if (!strcmp(got, want)) {
		t->right++;
		return;
	}
	t->wrong++;
	fprintf(stderr, "%s: WRONG: %s (word %u, 2.%u)\n", how, what, hi_word(s->hi),
		hi_libc(s->hi)->minor);
	if (getenv("SHIFT_SHOW"))
		fprintf(stderr, "--- got\n%s\n--- want\n%s\n", got, want);
}

static void by_memory(struct std_heap *s, unsigned claimed, const char *what, struct tally *t)
{
	struct asc_libc lib = { .major = 2,
				.minor = claimed,
				.thread_arena_off = UINT64_MAX,
				.tcache_off = UINT64_MAX };
	struct asc_error *err = asc_libc_scan(NULL, s->t, NULL, &lib);

	if (err) {
		asc_error_free(err);
		t->refused++;
		return;
	}
	judge(s, &lib, claimed ? "memory, by version" : "memory", what, t);
}

/* Addresses are known by symbols, the shape by the release that it says it is. */
static void by_table(struct std_heap *s, const char *what, struct tally *t)
{
	struct asc_libc lib = *hi_libc(s->hi);
	struct asc_error *err;

	assert_null(asc_layout_table(asc_target_arch(s->t), lib.minor, &lib.layout));
	err = asc_libc_verify(s->t, &lib);
	if (err) {
		asc_error_free(err);
		t->refused++;
		return;
	}
	judge(s, &lib, "table", what, t);
}

static void shifted(void **state)
{
	const char *wanted = getenv("ARENASCOPE_LONG");
	unsigned rounds = wanted && !strcmp(wanted, "1") ? ROUNDS_LONG : ROUNDS;
	struct tally memory = { 0 }, version = { 0 }, table = { 0 };
	const char *seed = getenv("ARENASCOPE_SEED");
	struct rng r = { seed ? strtoull(seed, NULL, 10) : 1 };

	(void)state;
	for (unsigned i = 0; i < rounds; i++) {
		struct hi_shape shape = hi_shapes[roll(&r, (unsigned)hi_nshapes)];
		struct heap_image *hi;
		struct std_heap s;
		char what[256] = "";

		shape.big_endian = false;
		hi = hi_new(shape.word, false, shape.minor);
		for (unsigned k = 0, n = 1 + (roll(&r, 4) == 0); k < n; k++) {
			size_t len = strlen(what);

			if (len)
				len += (size_t)snprintf(what + len, sizeof(what) - len, "; ");
			shift(hi_shape(hi), &r, what + len, sizeof(what) - len);
		}
		s = std_heap_in(hi, shape);
		by_memory(&s, 0, what, &memory);
		by_memory(&s, shape.minor, what, &version);
		by_table(&s, what, &table);
		std_free(&s);
	}
	fprintf(stderr,
		"%u shifted layouts: refused/right/wrong: memory %u/%u/%u, memory and version "
		"%u/%u/%u, table %u/%u/%u\n",
		rounds, memory.refused, memory.right, memory.wrong, version.refused, version.right,
		version.wrong, table.refused, table.right, table.wrong);
	assert_int_equal(memory.wrong + version.wrong + table.wrong, 0);
	/* it is not by refusing everything */
	assert_true(memory.right && version.right && table.right);
	assert_true(memory.refused && version.refused && table.refused);
}

/* What is not shifted is found. */
static void unshifted(void **state)
{
	(void)state;
	for (size_t i = 0; i < hi_nshapes; i++) {
		struct tally t = { 0 };
		struct std_heap s;

		if (hi_shapes[i].big_endian)
			continue;
		s = std_heap(hi_shapes[i]);
		by_memory(&s, 0, "nothing", &t);
		by_memory(&s, hi_shapes[i].minor, "nothing", &t);
		by_table(&s, "nothing", &t);
		if (t.right != 3)
			fprintf(stderr, "word %u, 2.%u: refused %u, right %u, wrong %u\n",
				hi_shapes[i].word, hi_shapes[i].minor, t.refused, t.right, t.wrong);
		std_free(&s);
		assert_int_equal(t.right, 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unshifted),
		cmocka_unit_test(shifted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
