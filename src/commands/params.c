// SPDX-License-Identifier: GPL-3.0-or-later
/* mp_ as found, what the environment set, and what follows from both. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"
#include "commands/environ.h"

/* DEFAULT_MMAP_THRESHOLD and DEFAULT_TRIM_THRESHOLD */
enum { DEFAULT_THRESHOLD = 128 << 10 };

static const struct asc_col cols[] = {
	{ "name", "PARAMETER", 0 },
	{ "value", NULL, ASC_COL_NOTEXT },
	{ NULL, "VALUE", ASC_COL_RIGHT },
	{ "note", "MEANING", 0 },
};

static void put(struct asc_out *o, const char *name, struct asc_value v, const char *note)
{
	/* Bytes exactly: these numbers are set and compared as they are. */
	struct asc_value shown = v;

	if (v.type == ASC_T_BYTES && v.u < 4096)
		shown.type = ASC_T_COUNT;
	const struct asc_value row[] = {
		ASC_V_STR(name),
		v,
		shown,
		note ? ASC_V_STR(note) : ASC_V_NONE,
	};

	asc_out_row(o, row);
}

static struct asc_value count_if(bool known, uint64_t v)
{
	return known ? ASC_V_COUNT(v) : ASC_V_UNKNOWN;
}

static void put_thresholds(struct asc_out *o, const struct asc_params *p)
{
	bool grown = !p->no_dyn_threshold && p->trim_threshold > DEFAULT_THRESHOLD;
	char note[160];

	snprintf(note, sizeof(note), "%s",
		 p->no_dyn_threshold ? "fixed: it was set"
		 : grown ? "grown: freeing an mmapped chunk of half that size doubled it there"
			 : "may grow: freeing an mmapped chunk of N bytes sets it to 2N");
	put(o, "trim_threshold", ASC_V_BYTES(p->trim_threshold), note);
	put(o, "mmap_threshold", ASC_V_BYTES(p->mmap_threshold),
	    "requests from this size on get a mapping of their own");
	put(o, "top_pad", ASC_V_BYTES(p->top_pad), "asked for in excess when the heap grows");
	put(o, "no_dyn_threshold", ASC_V_BOOL(p->no_dyn_threshold),
	    "the thresholds no longer move by themselves");
}

static void put_arenas(struct asc_out *o, const struct asc_params *p)
{
	put(o, "arena_max", ASC_V_COUNT(p->arena_max), "0: 8 per CPU (2 on 32-bit)");
	put(o, "arena_test", ASC_V_COUNT(p->arena_test), "looked at when arena_max is 0");
	put(o, "narenas", count_if(p->narenas_known, p->narenas), "arenas made so far");
	put(o, "narenas_limit", count_if(p->narenas_limit_known, p->narenas_limit),
	    "0: not computed yet");
}

static void put_caches(struct asc_out *o, const struct asc_params *p)
{
	if (p->has_tcache) {
		put(o, "tcache_count", ASC_V_COUNT(p->tcache_count), "chunks a tcache bin");
		put(o, "tcache_max_bytes", ASC_V_BYTES(p->tcache_max_bytes), NULL);
		put(o, "tcache_bins", ASC_V_COUNT(p->tcache_bins), NULL);
	}
	if (p->has_tcache_unsorted_limit)
		put(o, "tcache_unsorted_limit", ASC_V_COUNT(p->tcache_unsorted_limit), NULL);
	put(o, "global_max_fast",
	    p->global_max_fast_known ? ASC_V_BYTES(p->global_max_fast) : ASC_V_UNKNOWN,
	    "largest fastbin chunk");
	if (p->has_thp)
		put(o, "thp_pagesize", ASC_V_BYTES(p->thp_pagesize), "0: hugetlb tunable is not 1");
	if (p->has_thp_mode)
		put(o, "thp_mode", ASC_V_COUNT(p->thp_mode), NULL);
	if (p->has_hp) {
		put(o, "hp_pagesize", ASC_V_BYTES(p->hp_pagesize), NULL);
		put(o, "hp_flags", ASC_V_COUNT(p->hp_flags), NULL);
	}
}

static void put_state(struct asc_out *o, const struct asc_params *p)
{
	put(o, "n_mmaps", ASC_V_COUNT(p->n_mmaps), "mmapped chunks now");
	put(o, "n_mmaps_max", ASC_V_COUNT(p->n_mmaps_max), NULL);
	put(o, "max_n_mmaps", ASC_V_COUNT(p->max_n_mmaps), "most there were");
	put(o, "mmapped_mem", ASC_V_BYTES(p->mmapped_mem), NULL);
	put(o, "max_mmapped_mem", ASC_V_BYTES(p->max_mmapped_mem), NULL);
	if (p->has_max_total_mem)
		put(o, "max_total_mem", ASC_V_BYTES(p->max_total_mem), NULL);
	put(o, "sbrk_base", ASC_V_ADDR(p->sbrk_base), "where the main arena began");
	put(o, "curbrk", p->curbrk_known ? ASC_V_ADDR(p->curbrk) : ASC_V_UNKNOWN,
	    "end of the data segment now");
	put(o, "single_threaded",
	    p->single_threaded_known ? ASC_V_BOOL(p->single_threaded) : ASC_V_UNKNOWN,
	    "malloc takes no lock");
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	const struct asc_params *p = &asc_session_heap(s)->params;

	(void)a;
	asc_out_table(o, "params", NULL, "param", cols, ASC_ARRAY_SIZE(cols));
	put_thresholds(o, p);
	put_arenas(o, p);
	put_caches(o, p);
	put_state(o, p);
	asc_out_table_end(o);
	asc_put_environ(s, o);
	return NULL;
}

const struct asc_cmd asc_cmd_params = {
	.name = "params",
	.args = "",
	.summary = "malloc's parameters as found, the environment's settings, dynamic thresholds",
	.help = "The members of mp_ in the target's libc, not what the manual says they should "
		"be.\n"
		"Freeing an mmapped chunk of N bytes (up to 32 MiB) sets mmap_threshold to N and "
		"trim_threshold to 2N, for good; every arena may then keep 2N at its top. Setting "
		"any "
		"of trim_threshold, top_pad, mmap_threshold, mmap_max by tunable or mallopt ends "
		"that "
		"rule (no_dyn_threshold).\n"
		"GLIBC_TUNABLES and MALLOC_ variables are read from the environment that the "
		"process "
		"was started with.",
	.needs = ASC_NEED_ARENAS,
	.run = run,
};
