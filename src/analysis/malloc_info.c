/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The text of glibc's malloc_info() and malloc_stats(), to the byte and with their quirks: sizes
 * are summed with their flag bits, "rest" counts top from 2.31 on, malloc_stats wraps at 4 GiB.
 * Sizes wrap at the target's word.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "arenascope/heap.h"
#include "base/cleanup.h"
#include "base/num.h"

struct sums {
	uint64_t nfast, fast, nrest, rest, system, max, total, mprotect;
};

/* A size_t of the target. */
static uint64_t word(const struct asc_heap *h, uint64_t v)
{
	return h->libc.word == 4 ? (uint32_t)v : v;
}

static struct asc_error *truncated(const struct asc_arena *a, const char *what)
{
	struct asc_error *err;

	if (a->busy || a->unverified)
		return asc_err_try(asc_err(ASC_EAGAIN, "arena %u: %s changed while it was read",
					   a->index, what),
				   "again; --capture=copy without --no-stop: it stands still "
				   "while it is read");
	err = asc_err(ASC_ENOTFOUND,
		      "arena %u: a list of free chunks (%s) is damaged, so that glibc's own "
		      "text cannot be told",
		      a->index, what);

	return asc_err_try(err, "the command check says where; arenas and bins show what is left");
}

static void indent(FILE *f, const struct asc_heap *h)
{
	for (unsigned i = 0; i < h->libc.info_size_tabs; i++)
		fputc('\t', f);
	for (unsigned i = 0; i < h->libc.info_size_spaces; i++)
		fputc(' ', f);
}

static void size_line(FILE *f, const struct asc_heap *h, uint64_t from, uint64_t to, uint64_t total,
		      uint64_t count)
{
	indent(f, h);
	fprintf(f,
		"<size from=\"%" PRIu64 "\" to=\"%" PRIu64 "\" total=\"%" PRIu64
		"\" count=\"%" PRIu64 "\"/>\n",
		from, to, word(h, total), count);
}

static void fast_sizes(FILE *f, const struct asc_heap *h, const struct asc_arena *a, struct sums *s)
{
	for (unsigned i = 0; i < a->nfast; i++) {
		const struct asc_bin *b = &a->fast[i];

		if (!b->count)
			continue;
		size_line(f, h, b->raw_max - (h->libc.malloc_alignment - 1u), b->raw_max, b->bytes,
			  b->count);
		s->nfast += b->count;
		s->fast += b->bytes;
	}
}

static void bin_sizes(FILE *f, const struct asc_heap *h, const struct asc_arena *a, struct sums *s)
{
	const struct asc_bin *unsorted = asc_arena_bin(a, 1);

	for (unsigned i = 0; i < a->nbins; i++) {
		const struct asc_bin *b = &a->bins[i];

		s->nrest += b->count;
		s->rest += b->raw_bytes;
		if (b->count && b->nr > 1)
			size_line(f, h, b->raw_min, b->raw_max, b->raw_bytes, b->count);
	}
	if (!unsorted->count)
		return;
	for (unsigned i = 0; i < h->libc.info_unsorted_spaces; i++)
		fputc(' ', f);
	fprintf(f,
		"<unsorted from=\"%" PRIu64 "\" to=\"%" PRIu64 "\" total=\"%" PRIu64
		"\" count=\"%" PRIu64 "\"/>\n",
		unsorted->raw_min, unsorted->raw_max, word(h, unsorted->raw_bytes),
		unsorted->count);
}

/* Heaps of a thread's arena as malloc_info adds them. */
static unsigned heaps(const struct asc_heap *h, const struct asc_arena *a, uint64_t *total,
		      uint64_t *mprotect)
{
	unsigned n = 0;

	*total = *mprotect = 0;
	for (size_t i = 0; i < a->nregions; i++) {
		const struct asc_region *r = &a->regions[i];

		/* up to 2.26 only the last heap */
		if (!h->libc.info_subheaps && !r->has_top)
			continue;
		*total += r->end - r->start;
		*mprotect += r->mprotect_size;
		n++;
	}
	return n;
}

static void totals(FILE *f, const struct asc_heap *h, const struct sums *s)
{
	if (h->libc.info_has_fast)
		fprintf(f, "<total type=\"fast\" count=\"%" PRIu64 "\" size=\"%" PRIu64 "\"/>\n",
			s->nfast, word(h, s->fast));
	fprintf(f, "<total type=\"rest\" count=\"%" PRIu64 "\" size=\"%" PRIu64 "\"/>\n", s->nrest,
		word(h, s->rest));
}

static void extents(FILE *f, const struct asc_heap *h, const struct sums *s)
{
	fprintf(f,
		"<system type=\"current\" size=\"%" PRIu64 "\"/>\n"
		"<system type=\"max\" size=\"%" PRIu64 "\"/>\n",
		word(h, s->system), word(h, s->max));
	fprintf(f,
		"<aspace type=\"total\" size=\"%" PRIu64 "\"/>\n"
		"<aspace type=\"mprotect\" size=\"%" PRIu64 "\"/>\n",
		word(h, s->total), word(h, s->mprotect));
}

static void one_arena(FILE *f, const struct asc_heap *h, const struct asc_arena *a,
		      struct sums *all)
{
	struct sums s = { .system = a->system_mem, .max = a->max_system_mem };
	unsigned nheaps = 0;

	if (h->libc.info_rest_has_top) {
		s.nrest = 1;
		s.rest = a->top_size;
	}
	fprintf(f, "<heap nr=\"%u\">\n<sizes>\n", a->index);
	fast_sizes(f, h, a, &s);
	bin_sizes(f, h, a, &s);
	fputs("</sizes>\n", f);
	if (a->index == 0)
		s.total = s.mprotect = a->system_mem;
	else
		nheaps = heaps(h, a, &s.total, &s.mprotect);
	totals(f, h, &s);
	extents(f, h, &s);
	if (a->index && h->libc.info_subheaps)
		fprintf(f, "<aspace type=\"subheaps\" size=\"%u\"/>\n", nheaps);
	fputs("</heap>\n", f);
	all->nfast += s.nfast;
	all->fast += s.fast;
	all->nrest += s.nrest;
	all->rest += s.rest;
	all->system += s.system;
	all->max += s.max;
	all->total += s.total;
	all->mprotect += s.mprotect;
}

static struct asc_error *check_whole(const struct asc_heap *h)
{
	if (h->ring_broken)
		return asc_err(
			ASC_ENOTFOUND,
			"the list of arenas is damaged, so that glibc's own text cannot be told");
	for (size_t i = 0; i < h->narenas; i++) {
		const struct asc_arena *a = &h->arenas[i];

		for (unsigned j = 0; j < a->nfast; j++)
			if (a->fast[j].truncated)
				return truncated(a, "a fastbin");
		for (unsigned j = 0; j < a->nbins; j++)
			if (a->bins[j].truncated)
				return truncated(a, "a bin");
	}
	return NULL;
}

static struct asc_error *finish(FILE *f, char **text, char **ret)
{
	bool bad = ferror(f);

	if (fclose(f) || bad) {
		free(*text);
		return asc_err(ASC_ENOMEM, "text of the heap's figures");
	}
	*ret = *text;
	return NULL;
}

struct asc_error *asc_malloc_info(const struct asc_heap *h, char **ret)
{
	struct sums all = { 0 };
	char *text = NULL;
	size_t len;
	FILE *f;

	ASC_TRY(check_whole(h));
	f = open_memstream(&text, &len);
	if (!f)
		return asc_err(ASC_ENOMEM, "text of the heap's figures");
	fputs("<malloc version=\"1\">\n", f);
	for (size_t i = 0; i < h->narenas; i++)
		one_arena(f, h, &h->arenas[i], &all);
	totals(f, h, &all);
	if (h->libc.info_has_mmap)
		fprintf(f, "<total type=\"mmap\" count=\"%d\" size=\"%" PRIu64 "\"/>\n",
			(int)h->params.n_mmaps, h->params.mmapped_mem);
	extents(f, h, &all);
	fputs("</malloc>\n", f);
	return finish(f, &text, ret);
}

/* What mallinfo calls fordblks: free bytes, without flag bits, without tcaches. */
static uint64_t free_bytes(const struct asc_arena *a)
{
	uint64_t bytes = a->top_size;

	for (unsigned i = 0; i < a->nfast; i++)
		bytes += a->fast[i].bytes;
	for (unsigned i = 0; i < a->nbins; i++)
		bytes += a->bins[i].bytes;
	return bytes;
}

struct asc_error *asc_malloc_stats(const struct asc_heap *h, char **ret)
{
	unsigned in_use = (unsigned)h->params.mmapped_mem, system = in_use;
	char *text = NULL;
	size_t len;
	FILE *f;

	ASC_TRY(check_whole(h));
	f = open_memstream(&text, &len);
	if (!f)
		return asc_err(ASC_ENOMEM, "text of the heap's figures");
	for (size_t i = 0; i < h->narenas; i++) {
		const struct asc_arena *a = &h->arenas[i];
		unsigned used = (unsigned)(a->system_mem - free_bytes(a));

		fprintf(f, "Arena %u:\nsystem bytes     = %10u\nin use bytes     = %10u\n",
			a->index, (unsigned)a->system_mem, used);
		system += (unsigned)a->system_mem;
		in_use += used;
	}
	fprintf(f,
		"Total (incl. mmap):\nsystem bytes     = %10u\nin use bytes     = %10u\n"
		"max mmap regions = %10u\nmax mmap bytes   = %10" PRIu64 "\n",
		system, in_use, (unsigned)h->params.max_n_mmaps, h->params.max_mmapped_mem);
	return finish(f, &text, ret);
}
