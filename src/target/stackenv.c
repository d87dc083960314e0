// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * From low to high addresses: argc, argv[], NULL, envp[], NULL, auxv pairs, ... argv strings, env
 * strings, the file name that AT_EXECFN points to. The program may have changed both arrays, so
 * that of the pointers only those into the strings' area count.
 */
#include "target/stackenv.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/target.h"

/* The kernel allows a quarter of the stack's limit, at most 6 MiB, for strings and pointers together. */
enum { WINDOW_MAX = 8 << 20, PAIRS_MIN = 4 };

struct window {
	const struct asc_target *t;
	const uint8_t *bytes;
	asc_addr start, end; /* end: the address in AT_EXECFN */
	size_t word;
};

static uint64_t word_at(const struct window *w, asc_addr at)
{
	return asc_uint_at(w->t, w->bytes + (at - w->start), w->word);
}

static bool is_auxv(const struct window *w, asc_addr at)
{
	const struct asc_target *t = w->t;

	if ((w->end - at) / (2 * w->word) < t->nauxv)
		return false;
	for (size_t i = 0; i < 2 * t->nauxv; i++) {
		if (word_at(w, at + i * w->word) != t->auxv[i])
			return false;
	}
	return true;
}

/* The address of the auxiliary vector, 0 if it is not in the window. */
static asc_addr find_auxv(const struct window *w)
{
	asc_addr at = asc_align_down(w->end, w->word);

	for (; at > w->start; at -= w->word) {
		if (is_auxv(w, at))
			return at;
	}
	return 0;
}

/* The end of the last argument: where the environment's strings begin. 0: not known. */
static asc_addr strings_start(const struct window *w, asc_addr argv, asc_addr argv_end,
			      asc_addr auxv)
{
	asc_addr last = 0;

	for (asc_addr at = argv; at < argv_end; at += w->word) {
		uint64_t p = word_at(w, at);
		if (p > auxv && p < w->end)
			last = asc_max(last, p);
	}
	if (!last)
		return 0;
	const uint8_t *s = w->bytes + (last - w->start);
	const uint8_t *nul = memchr(s, 0, w->end - last);

	return nul ? last + (asc_addr)(nul - s) + 1 : 0;
}

/* The array that ends below @p end and has its own length before it, as argv has. 0: there is none. */
static asc_addr counted_array(const struct window *w, asc_addr end)
{
	for (asc_addr at = end - w->word; at >= w->start + w->word; at -= w->word) {
		if (!word_at(w, at))
			break;
		if (word_at(w, at - w->word) == (end - at) / w->word)
			return at;
	}
	return 0;
}

static asc_addr find_strings(const struct window *w)
{
	asc_addr auxv = find_auxv(w);

	if (!auxv)
		return 0;
	/* envp may hold several NULLs by now: unsetenv moves what follows down */
	for (asc_addr at = auxv - w->word; at >= w->start + 2 * w->word; at -= w->word) {
		asc_addr argv = word_at(w, at) ? 0 : counted_array(w, at);
		if (argv)
			return strings_start(w, argv, at, auxv);
	}
	return 0;
}

bool asc_stackenv_read(struct asc_target *t, struct asc_text *ret)
{
	uint64_t end;
	const struct asc_map *m;

	if (t->nauxv < PAIRS_MIN || !asc_target_auxv(t, AT_EXECFN, &end))
		return false;
	m = asc_maps_find(&t->maps, end);
	if (!m)
		return false;
	struct window w = { .t = t, .end = end, .word = t->arch->word_size };
	w.start = asc_align_up(asc_max(m->start, end > WINDOW_MAX ? end - WINDOW_MAX : 0), w.word);
	if (w.start >= end)
		return false;
	ASC_AUTO(asc_freep) uint8_t *bytes = malloc(end - w.start);

	if (!bytes)
		return false;
	/* a core may lack the deep end of the stack: from the top down, as far as it goes */
	asc_addr have = end;
	while (have > w.start) {
		asc_addr from = asc_max(w.start, asc_align_down(have - 1, t->page_size));
		if (asc_read_some(t, from, bytes + (from - w.start), have - from) != have - from)
			break;
		have = from;
	}
	w.bytes = bytes + (have - w.start);
	w.start = have;
	asc_addr start = find_strings(&w);
	if (!start || start > end)
		return false;
	size_t len = end - start;
	char *p = malloc(len + 1);
	if (!p)
		return false;
	memcpy(p, w.bytes + (start - w.start), len);
	p[len] = 0;
	*ret = (struct asc_text){ .p = p, .len = len, .cap = len + 1 };
	return true;
}
