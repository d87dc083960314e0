/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What everybody who reads a live process has to do: stop it at a moment when malloc is in the middle
 * of nothing, name what a copy of its heaps needs, and make the ledger of what was read. The
 * library's view and the program's session stand on it.
 */
#ifndef ASC_ANALYSIS_READING_H
#define ASC_ANALYSIS_READING_H

#include "arenascope/ledger.h"
#include "glibc/heap.h"
#include "target/ranges.h"

/* Borrowed, all of it. */
struct asc_source {
	struct asc_target *live; /* NULL: a core */
	struct asc_target *data; /* what the heaps were read from */
	struct asc_modules *modules;
	const struct asc_libc *libcs;
	size_t nlibcs;
};

struct asc_quiet_opts {
	unsigned max_pause_ms; /* as asc_stop_opts */
	bool no_stop;
	bool any_moment;	   /* malloc in mid-operation is what is looked for */
	bool (*interrupted)(void); /* or NULL */
};

struct asc_quiet {
	bool busy;	/* malloc was in the middle of something at every stop */
	bool in_malloc; /* a thread that takes no lock was inside it: every arena is */
	unsigned tries; /* how often it was let go again */
};

/* Stop @p s->live; malloc's locks are looked at, and it is let go for a moment if one is held. */
ASC_MUST struct asc_error *asc_stop_quiet(const struct asc_source *s,
					  const struct asc_quiet_opts *opts, struct asc_quiet *ret);

/* Append what a copy of the heaps of @p s needs of @p from (asc_heap_plan() of each libc). */
ASC_MUST struct asc_error *asc_plan_heaps(const struct asc_source *s, struct asc_target *from,
					  const struct asc_residency *res, enum asc_depth depth,
					  asc_range_vec *v);
/* Bytes in memory of @p v; all of it where that is unknown. */
uint64_t asc_planned_bytes(const struct asc_residency *res, const asc_range_vec *v);

/*
 * The model of each libc into @p heaps[0 .. s->nlibcs), which begin as NULL and are the caller's in any
 * case. A further libc than the first may fail: @p ret_other says why, its heap stays NULL.
 */
ASC_MUST struct asc_error *asc_read_heaps(const struct asc_source *s,
					  const struct asc_residency *res,
					  const struct asc_heap_opts *opts, struct asc_heap **heaps,
					  struct asc_error **ret_other);

/*
 * The same of a core, and with @p exact which of its pages were in memory. Each of its bytes is read
 * once: for the chunks, or for the residency. @p ret_res is the caller's in any case.
 */
ASC_MUST struct asc_error *asc_read_core(const struct asc_source *s,
					 const struct asc_heap_opts *opts, bool exact,
					 struct asc_heap **heaps, struct asc_residency **ret_res,
					 struct asc_error **ret_other);

struct asc_ledger_of {
	struct asc_heap *const *heaps;
	size_t nheaps;
	const struct asc_residency *residency;
	const char *allocator;
	uint64_t kernel_rss;
	bool kernel_rss_known;
	bool later; /* the residency is of a moment after that of the heaps */
};
ASC_MUST struct asc_error *asc_ledger_of(const struct asc_source *s, const struct asc_ledger_of *of,
					 struct asc_ledger **ret);

#endif
