/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From numbers to a verdict. The largest free share (trimmable, retained, fragmented, cached) is
 * the verdict when it is at least a quarter of Rss; otherwise the largest share of all is.
 */
#include "arenascope/advise.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"

enum { DEFAULT_THRESHOLD = 128 << 10, SMALL = 8 << 20 };

const char *asc_verdict_name(enum asc_verdict v)
{
	static const char *const names[] = {
		[ASC_VERDICT_UNKNOWN] = "UNKNOWN",
		[ASC_VERDICT_LEAK_LIKE] = "LEAK-LIKE",
		[ASC_VERDICT_TRIMMABLE] = "TRIMMABLE",
		[ASC_VERDICT_RETAINED_DYNAMIC] = "RETAINED AT THE TOP BY THE DYNAMIC THRESHOLD",
		[ASC_VERDICT_RETAINED] = "RETAINED AT THE TOP",
		[ASC_VERDICT_FRAGMENTED] = "FRAGMENTED",
		[ASC_VERDICT_ARENAS] = "TOO MANY ARENAS",
		[ASC_VERDICT_CACHED] = "TCACHE",
		[ASC_VERDICT_MMAPPED] = "MMAPPED",
		[ASC_VERDICT_NOT_MALLOC] = "NOT GLIBC'S MALLOC",
		[ASC_VERDICT_NOTHING] = "NOTHING UNUSUAL",
	};

	return names[v];
}

const char *asc_verdict_key(enum asc_verdict v)
{
	static const char *const keys[] = {
		[ASC_VERDICT_UNKNOWN] = "unknown",
		[ASC_VERDICT_LEAK_LIKE] = "leak_like",
		[ASC_VERDICT_TRIMMABLE] = "trimmable",
		[ASC_VERDICT_RETAINED_DYNAMIC] = "retained_dynamic_threshold",
		[ASC_VERDICT_RETAINED] = "retained",
		[ASC_VERDICT_FRAGMENTED] = "fragmented",
		[ASC_VERDICT_ARENAS] = "too_many_arenas",
		[ASC_VERDICT_CACHED] = "tcache",
		[ASC_VERDICT_MMAPPED] = "mmapped",
		[ASC_VERDICT_NOT_MALLOC] = "not_glibc_malloc",
		[ASC_VERDICT_NOTHING] = "nothing_unusual",
	};

	return keys[v];
}

/* What every sentence is made from. */
struct facts {
	const struct asc_advise_in *in;
	const struct asc_pages *m;
	uint64_t rss, other, retained, trim;
	uint64_t uncounted; /* at most so much of what is in use may be cached: tcaches not found */
	uint64_t used_arenas, top_arenas; /* with memory; with a top that could go back */
	uint64_t tops, tops_kept; /* resident tops of non-main arenas; what stays at 128 KiB */
	bool grown;
};

struct builder {
	ASC_VEC(struct asc_advice_item) items;
	ASC_VEC(struct asc_fix) fixes;
	struct facts f;
};

static const char *size_text(char buf[static 32], uint64_t n)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)n;
	size_t u = 0;

	for (; v >= 1024 && u + 1 < ASC_ARRAY_SIZE(units); u++)
		v /= 1024;
	if (u)
		snprintf(buf, 32, "%.1f %s", v, units[u]);
	else
		snprintf(buf, 32, "%" PRIu64 " B", n);
	return buf;
}

static unsigned percent(uint64_t part, uint64_t all)
{
	return all ? (unsigned)((double)part / (double)all * 100 + 0.5) : 0;
}

ASC_PRINTF(5, 6)
static struct asc_error *item(struct builder *b, const char *code, uint64_t bytes,
			      const char *command, const char *fmt, ...)
{
	struct asc_advice_item it = { .code = code, .bytes = bytes, .command = command };
	struct asc_error *err;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&it.text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return asc_err(ASC_ENOMEM, "advice");
	err = asc_vec_push(&b->items, it);
	if (err)
		free(it.text);
	return err;
}

/* Worth a sentence: 1 % of Rss and 1 MiB. */
static bool matters(const struct facts *f, uint64_t bytes)
{
	return bytes >= 1 << 20 && bytes >= f->rss / 100;
}

/* ---- the facts ---- */

static void arena_facts(struct facts *f)
{
	const struct asc_heap *heap = f->in->heap;
	const struct asc_ledger *l = f->in->ledger;

	for (size_t i = 0; i < heap->narenas && i < l->narenas; i++) {
		const struct asc_arena *a = &heap->arenas[i];

		f->used_arenas += a->initialised && a->system_mem;
		if (!a->index)
			continue;
		f->top_arenas += l->arenas[i].pages.retained >= heap->page_size;
		f->tops += l->arenas[i].pages.retained;
		/* at the default threshold a free leaves at most this at the top */
		f->tops_kept += asc_min(l->arenas[i].pages.retained, DEFAULT_THRESHOLD);
	}
}

/* What all lists of one tcache hold when they are full: each has chunks of its largest size. */
static uint64_t tcache_most(const struct asc_heap *heap)
{
	enum { NSMALL = 64 };
	const struct asc_heap_libc *libc = &heap->libc;
	const struct asc_params *p = &heap->params;
	uint64_t limit = asc_min(p->tcache_max_bytes, UINT32_MAX) + libc->hdr, all, sum = 0;
	uint64_t size = libc->minsize;

	for (unsigned i = 0; i < NSMALL && size <= limit; i++, size += libc->malloc_alignment)
		sum += size;
	/* from 2.42 on: a list for each power of two above, if the limit is raised to there */
	for (uint64_t below = 1024; libc->ntcache > NSMALL && limit > size && below <= limit;
	     below *= 2)
		sum += 2 * below;
	return asc_mul(sum, p->tcache_count, &all) ? all : UINT64_MAX;
}

/* How much of what is in use may be in tcaches that were not found. */
static uint64_t uncounted(const struct asc_heap *heap, const struct asc_pages *m)
{
	uint64_t threads = 0, all;

	for (size_t i = 0; i < heap->nthreads; i++)
		threads += !heap->threads[i].tcache_known;
	/* else another libc's, or no thread is known at all */
	if (!threads || !heap->params.has_tcache || !asc_mul(tcache_most(heap), threads, &all))
		return m->in_use;
	return asc_min(m->in_use, all);
}

static struct facts facts_of(const struct asc_advise_in *in)
{
	const struct asc_ledger *l = in->ledger;
	struct facts f = { .in = in, .m = &l->malloc_pages, .rss = l->rss };

	f.other = l->rss - f.m->resident - l->mmapped_chunks;
	f.trim = f.m->trimmable;
	f.retained = f.m->retained;
	if (in->heap) {
		const struct asc_params *p = &in->heap->params;

		f.grown = !p->no_dyn_threshold && p->mmap_threshold > DEFAULT_THRESHOLD &&
			  p->trim_threshold == 2 * p->mmap_threshold;
		arena_facts(&f);
		f.uncounted = f.m->cached_known ? 0 : uncounted(in->heap, f.m);
	}
	return f;
}

/* If @p cached of what is said to be in use were cached. */
static enum asc_verdict verdict_if(const struct facts *f, uint64_t cached, uint64_t *ret_bytes)
{
	const struct asc_ledger *l = f->in->ledger;
	const struct {
		enum asc_verdict v;
		uint64_t bytes;
		bool free;
	} shares[] = {
		{ f->grown ? ASC_VERDICT_RETAINED_DYNAMIC : ASC_VERDICT_RETAINED, f->retained,
		  true },
		{ ASC_VERDICT_TRIMMABLE, f->trim, true },
		{ f->used_arenas >= 16 ? ASC_VERDICT_ARENAS : ASC_VERDICT_FRAGMENTED,
		  f->m->fragmented, true },
		{ ASC_VERDICT_CACHED, f->m->cached + cached, true },
		{ ASC_VERDICT_LEAK_LIKE, f->m->in_use - cached, false },
		{ ASC_VERDICT_MMAPPED, l->mmapped_chunks, false },
		{ ASC_VERDICT_NOT_MALLOC, f->other, false },
	};
	size_t best = 0, all = 0;

	for (size_t i = 1; i < ASC_ARRAY_SIZE(shares); i++) {
		if (shares[i].free && shares[i].bytes > shares[best].bytes)
			best = i;
		if (shares[i].bytes > shares[all].bytes)
			all = i;
	}
	if (shares[best].bytes < f->rss / 4 || !shares[best].bytes)
		best = all;
	*ret_bytes = shares[best].bytes;
	/* what is not files is small: no cause for any other word */
	if (f->rss - l->files - l->shared < SMALL)
		return ASC_VERDICT_NOTHING;
	return shares[best].v;
}

/* Said only if it holds whatever is in the tcaches that were not found. */
static enum asc_verdict verdict_of(const struct facts *f, uint64_t *ret_bytes)
{
	uint64_t bytes = 0;
	enum asc_verdict v = verdict_if(f, 0, ret_bytes);

	if (verdict_if(f, f->uncounted, &bytes) == v)
		return v;
	*ret_bytes = 0;
	return ASC_VERDICT_UNKNOWN;
}

/* ---- sentences ---- */

static struct asc_error *about_fragments(struct builder *b)
{
	const struct facts *f = &b->f;
	const struct asc_utilisation *u = f->in->pages;
	char x[32], y[32], z[32];

	if (!u)
		return NULL;
	return item(b, "fragmented", f->m->fragmented, "pins",
		    "%s (%u%% of RSS) is free in parts of pages: %s on %" PRIu64
		    " pages that %s of live data pin, the rest beside list headers and cached "
		    "chunks. Nothing can move it.",
		    size_text(x, f->m->fragmented), percent(f->m->fragmented, f->rss),
		    size_text(y, u->mixed_free), u->mixed_pages, size_text(z, u->mixed_live));
}

static struct asc_error *about_free(struct builder *b)
{
	const struct facts *f = &b->f;
	const struct asc_params *p = &f->in->heap->params;
	char x[32], y[32], z[32];

	if (matters(f, f->tops))
		ASC_TRY(item(b, "retained", f->retained, "reclaim -n",
			     "%u%% of RSS (%s) is free memory at the top of %" PRIu64
			     " thread arenas. malloc_trim never returns it.",
			     percent(f->tops, f->rss), size_text(x, f->tops), f->top_arenas));
	else if (matters(f, f->retained))
		ASC_TRY(item(b, "retained", f->retained, "reclaim -n",
			     "%s (%u%% of RSS) is free in whole pages that malloc_trim does not "
			     "touch.",
			     size_text(x, f->retained), percent(f->retained, f->rss)));
	if (f->grown && (matters(f, f->tops) || f->in->heap->narenas > 1)) {
		ASC_TRY(item(
			b, "threshold", matters(f, f->tops) ? f->tops - 1 : 0, "params",
			"trim_threshold has grown to %s: freeing a %s mmapped chunk doubled it "
			"there, so every arena may keep %s for good.",
			size_text(x, p->trim_threshold), size_text(y, p->mmap_threshold),
			size_text(z, p->trim_threshold)));
		struct asc_advice_item *last = &b->items.data[b->items.len - 1];

		if (asprintf(&last->fix, "GLIBC_TUNABLES=glibc.malloc.trim_threshold=%d",
			     DEFAULT_THRESHOLD) < 0) {
			last->fix = NULL;
			return asc_err(ASC_ENOMEM, "advice");
		}
	}
	if (matters(f, f->trim))
		ASC_TRY(item(
			b, "trimmable", f->trim, "trim -n",
			"malloc_trim(0) would return %s (%u%% of RSS): free pages between live "
			"chunks, which free() never gives back by itself.",
			size_text(x, f->trim), percent(f->trim, f->rss)));
	if (matters(f, f->m->fragmented))
		ASC_TRY(about_fragments(b));
	if (matters(f, f->m->cached) && f->m->cached_known) {
		uint64_t threads = 0;

		for (size_t i = 0; i < f->in->heap->nthreads; i++)
			threads += f->in->heap->threads[i].cached_chunks != 0;
		ASC_TRY(item(b, "cached", f->m->cached, "bins --kind=tcache",
			     "%s (%u%% of RSS) is cached: the tcaches of %" PRIu64
			     " threads, and fastbins. Only the threads themselves can free it.",
			     size_text(x, f->m->cached), percent(f->m->cached, f->rss), threads));
	}
	return NULL;
}

/* The region that pins the most free bytes. */
static struct asc_error *about_worst(struct builder *b)
{
	const struct asc_ledger *l = b->f.in->ledger;
	const struct asc_region_ledger *worst = NULL;
	size_t arena = 0;
	char x[32], y[32], z[32];

	for (size_t i = 0; i < l->narenas; i++)
		for (size_t k = 0; k < l->arenas[i].nregions; k++) {
			const struct asc_region_ledger *r = &l->arenas[i].regions[k];

			if (!worst || r->pages.fragmented > worst->pages.fragmented) {
				worst = r;
				arena = i;
			}
		}
	if (!worst || !matters(&b->f, worst->pages.fragmented) ||
	    worst->pages.fragmented < worst->pages.in_use)
		return NULL;
	return item(b, "worst_heap", worst->pages.fragmented - 1, "map",
		    "Worst: in the heap at 0x%" PRIx64 " of arena %zu, %s of live data pin %s "
		    "resident, of which %s are free.",
		    worst->start, arena, size_text(x, worst->pages.in_use),
		    size_text(y, worst->pages.resident), size_text(z, worst->pages.fragmented));
}

static struct asc_error *about_arenas(struct builder *b)
{
	const struct facts *f = &b->f;
	uint64_t idle = 0;
	char x[32];

	for (size_t i = 1; i < f->in->heap->narenas; i++)
		idle += f->in->heap->arenas[i].attached_known &&
			!f->in->heap->arenas[i].attached_threads;
	if (f->used_arenas < 16 || f->m->in_use > f->m->resident / 2)
		return NULL;
	/* they are why the tops add up: behind what the tops are about */
	return item(b, "arenas", matters(f, f->tops) ? f->tops - 2 : f->m->resident - f->m->in_use,
		    "arenas",
		    "%" PRIu64 " arenas (%" PRIu64
		    " without a thread) hold %s resident, of which the "
		    "program uses %u%%: each keeps its own free memory.",
		    f->used_arenas, idle, size_text(x, f->m->resident),
		    percent(f->m->in_use, f->m->resident));
}

static struct asc_error *about_used(struct builder *b)
{
	const struct facts *f = &b->f;
	const struct asc_ledger *l = f->in->ledger;
	const struct asc_ledger_item *most = NULL;
	char x[32], y[32];

	if (f->in->heap && !f->m->cached_known)
		ASC_TRY(item(b, "tcaches_unknown", f->uncounted, "threads",
			     "Not all tcaches were found: up to %s (%u%% of RSS) of what is called "
			     "in use may be cached.",
			     size_text(x, f->uncounted), percent(f->uncounted, f->rss)));
	if (f->in->heap && f->m->in_use >= f->rss / 4 && matters(f, f->m->in_use))
		ASC_TRY(item(b, "in_use", f->m->in_use, "sizes --used",
			     "%s (%u%% of RSS) is in use by the program: allocated and not freed.",
			     size_text(x, f->m->in_use), percent(f->m->in_use, f->rss)));
	if (matters(f, l->mmapped_chunks))
		ASC_TRY(item(
			b, "mmapped", l->mmapped_chunks, "chunks --state=in_use",
			"%s (%u%% of RSS) is in %zu chunks with a mapping of their own: they go "
			"back at once when they are freed.",
			size_text(x, l->mmapped_chunks), percent(l->mmapped_chunks, f->rss),
			f->in->heap ? f->in->heap->mmapped.n : 0));
	for (size_t i = 0; i < l->nother; i++)
		if (!most || l->other[i].bytes > most->bytes)
			most = &l->other[i];
	if (f->other >= f->rss / 4 && matters(f, f->other))
		ASC_TRY(item(b, "not_malloc", f->other, "rss",
			     "%s (%u%% of RSS) is not glibc malloc's: files %s, %s.",
			     size_text(x, f->other), percent(f->other, f->rss),
			     size_text(y, l->files),
			     most && most->bytes > l->unknown_anonymous ? "and named regions"
									: "and anonymous memory"));
	if (l->swap && matters(f, l->malloc_pages.swapped + l->mmapped_swapped))
		ASC_TRY(item(b, "swap", l->malloc_pages.swapped + l->mmapped_swapped, "rss",
			     "%s of malloc's memory is in swap besides.",
			     size_text(x, l->malloc_pages.swapped + l->mmapped_swapped)));
	return NULL;
}

static struct asc_error *about_trouble(struct builder *b)
{
	const struct asc_advise_in *in = b->f.in;
	uint64_t corrupt = 0;
	char x[32];

	for (size_t i = 0; i < in->heap->nfindings; i++)
		corrupt += in->heap->findings[i].severity == ASC_SEV_CORRUPT;
	if (corrupt)
		ASC_TRY(item(b, "corrupt", b->f.rss, "check",
			     "The heap is damaged: %" PRIu64 " violated invariants.", corrupt));
	if (in->reclaim && in->reclaim->stays[ASC_STAY_MLOCKED])
		ASC_TRY(item(
			b, "mlocked", in->reclaim->stays[ASC_STAY_MLOCKED], "rss --maps",
			"%s of free memory is locked (mlock): malloc_trim says 1 and returns none "
			"of it.",
			size_text(x, in->reclaim->stays[ASC_STAY_MLOCKED])));
	if (in->trim && in->trim->stays[ASC_STAY_FOREIGN_SBRK] >= 1 << 20)
		ASC_TRY(item(b, "foreign_sbrk", in->trim->stays[ASC_STAY_FOREIGN_SBRK],
			     "reclaim -n",
			     "%s at the top of the main arena cannot be trimmed: someone else "
			     "moved brk.",
			     size_text(x, in->trim->stays[ASC_STAY_FOREIGN_SBRK])));
	return NULL;
}

/* ---- settings ---- */

/* Value of "name=value" in GLIBC_TUNABLES ("a=1:b=2"), or of the variable. Owned, or NULL. */
static char *set_to(const struct asc_advise_in *in, const char *tunable, const char *variable)
{
	size_t nt = strlen(tunable), nv = variable ? strlen(variable) : 0;

	for (size_t i = 0; i < in->nenv; i++) {
		const char *e = in->env[i];

		if (nv && !strncmp(e, variable, nv) && e[nv] == '=')
			return strndup(e + nv + 1, 64);
		if (strncmp(e, "GLIBC_TUNABLES=", 15))
			continue;
		for (const char *p = e + 15; *p; p += strcspn(p, ":"), p += *p == ':')
			if (!strncmp(p, tunable, nt) && p[nt] == '=')
				return strndup(p + nt + 1, asc_min(strcspn(p + nt + 1, ":"), 64));
	}
	return NULL;
}

static struct asc_error *fix(struct builder *b, struct asc_fix f)
{
	struct asc_error *err;

	f.set_known = b->f.in->env_known;
	f.set_to = set_to(b->f.in, f.tunable, f.variable);
	err = asc_vec_push(&b->fixes, f);
	if (err)
		free(f.set_to);
	return err;
}

static struct asc_error *fixes(struct builder *b)
{
	static const char *const mmap_cost =
		"blocks of 128 KiB and more get a mapping of their own: an mmap, page faults and a "
		"munmap for each";
	const struct facts *f = &b->f;
	unsigned minor = f->in->heap->libc.minor;
	bool tunables = !minor || minor >= 26;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t few = cpus > 0 ? (uint64_t)asc_max((uint64_t)cpus, 2) : 2;

	if (matters(f, f->tops) || (f->grown && f->used_arenas > 1))
		ASC_TRY(fix(b, (struct asc_fix){ .tunable = "glibc.malloc.trim_threshold",
						 .variable = "MALLOC_TRIM_THRESHOLD_",
						 .value = DEFAULT_THRESHOLD,
						 .usable = tunables,
						 .saves = f->tops - f->tops_kept,
						 .cost = mmap_cost,
						 .freezes = true }));
	if (f->grown && (matters(f, f->trim) || matters(f, f->m->fragmented)))
		ASC_TRY(fix(b, (struct asc_fix){ .tunable = "glibc.malloc.mmap_threshold",
						 .variable = "MALLOC_MMAP_THRESHOLD_",
						 .value = DEFAULT_THRESHOLD,
						 .usable = tunables,
						 .saves = f->trim,
						 .cost = mmap_cost,
						 .freezes = true }));
	if (f->used_arenas > 2 * few && f->m->in_use <= f->m->resident / 2)
		ASC_TRY(fix(b,
			    (struct asc_fix){
				    .tunable = "glibc.malloc.arena_max",
				    .variable = "MALLOC_ARENA_MAX",
				    .value = few,
				    .usable = tunables,
				    .saves = (f->tops + f->m->fragmented) / f->used_arenas *
					     (f->used_arenas - few),
				    .cost = "threads wait for each other's arena locks when they "
					    "allocate much" }));
	if (matters(f, f->m->cached) && f->m->cached_known && f->in->heap->libc.has_tcache)
		ASC_TRY(fix(b, (struct asc_fix){ .tunable = "glibc.malloc.tcache_count",
						 .value = 0,
						 .usable = tunables,
						 .saves = f->m->cached,
						 .cost = "every small malloc and free takes the "
							 "arena's lock" }));
	return NULL;
}

/* ---- all ---- */

/* Where the tops are the matter, their threshold comes first. */
static void cause_first(struct asc_fix *v, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		struct asc_fix f = v[i];

		if (strcmp(f.tunable, "glibc.malloc.trim_threshold"))
			continue;
		memmove(v + 1, v, i * sizeof(*v));
		v[0] = f;
	}
}

static int by_bytes(const void *a, const void *b)
{
	const struct asc_advice_item *x = a, *y = b;

	return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static int by_saving(const void *a, const void *b)
{
	const struct asc_fix *x = a, *y = b;

	return (x->saves < y->saves) - (x->saves > y->saves);
}

static struct asc_error *fill(struct builder *b)
{
	if (b->f.in->heap) {
		ASC_TRY(about_trouble(b));
		ASC_TRY(about_free(b));
		ASC_TRY(about_worst(b));
		ASC_TRY(about_arenas(b));
		ASC_TRY(fixes(b));
	}
	return about_used(b);
}

struct asc_error *asc_advise(const struct asc_advise_in *in, struct asc_advice **ret)
{
	struct asc_error *err = NULL;
	struct asc_advice *a = calloc(1, sizeof(*a));
	struct builder b = { 0 };

	if (!a)
		return asc_err(ASC_ENOMEM, "advice");
	a->why_unknown = in->ledger->known ? NULL : "nothing is known of pages in memory";
	if (in->ledger->known) {
		b.f = facts_of(in);
		a->verdict = verdict_of(&b.f, &a->verdict_bytes);
		if (a->verdict == ASC_VERDICT_UNKNOWN)
			a->why_unknown = "not all tcaches were found";
		a->dynamic_grown = b.f.grown;
		err = fill(&b);
	}
	asc_sort(b.items.data, b.items.len, sizeof(*b.items.data), by_bytes);
	asc_sort(b.fixes.data, b.fixes.len, sizeof(*b.fixes.data), by_saving);
	if (a->verdict == ASC_VERDICT_RETAINED || a->verdict == ASC_VERDICT_RETAINED_DYNAMIC)
		cause_first(b.fixes.data, b.fixes.len);
	a->items = b.items.data;
	a->nitems = b.items.len;
	a->fixes = b.fixes.data;
	a->nfixes = b.fixes.len;
	if (err) {
		asc_advice_free(a);
		return err;
	}
	*ret = a;
	return NULL;
}

void asc_advice_free(struct asc_advice *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->nitems; i++) {
		free(a->items[i].text);
		free(a->items[i].fix);
	}
	for (size_t i = 0; i < a->nfixes; i++)
		free(a->fixes[i].set_to);
	free(a->items);
	free(a->fixes);
	free(a);
}
