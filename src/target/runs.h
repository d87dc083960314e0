/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Runs of pages as they are found, in order. Where pages in memory alternate with others there are millions of
 * them: beyond some MiB they go to a file without a name, mapped, of which little is in memory at a time.
 */
#ifndef ASC_TARGET_RUNS_H
#define ASC_TARGET_RUNS_H

#include "arenascope/target.h"

struct asc_run_file;

struct asc_runs {
	struct asc_page_run *v;
	size_t n, cap;
	struct asc_run_file *file; /* NULL: v is malloc'ed */
	size_t in_memory;	   /* so many stay there; 0: as usual */
	bool no_file;		   /* there is none, or no room in it */
};

ASC_MUST struct asc_error *asc_runs_grow(struct asc_runs *r);
void asc_runs_free(struct asc_runs *r);

static inline ASC_MUST struct asc_error *asc_runs_push(struct asc_runs *r, struct asc_page_run run)
{
	if (r->n == r->cap) {
		struct asc_error *err = asc_runs_grow(r);

		if (err)
			return err;
	}
	r->v[r->n++] = run;
	return NULL;
}

/* Takes over the runs, sorts them where they are not, merges equal neighbours, sums up. */
ASC_MUST struct asc_error *asc_residency_of(enum asc_residency_source source, uint64_t page_size,
					    struct asc_runs *runs, struct asc_residency **ret);

/* Of a table in a file: run @p i is looked at. Those that were before leave memory now and then. */
void asc_run_file_touch(struct asc_run_file *f, size_t i);

/* Whoever goes through the runs says how far he is. */
static inline void asc_residency_passed(const struct asc_residency *r, size_t i)
{
	if (r->file)
		asc_run_file_touch(r->file, i);
}

/* ---- runs.c and residency.c ---- */

void asc_run_file_free(struct asc_run_file *f);
/* Ends of every @p every runs of @p n, so that a search looks at few pages of the file. */
ASC_MUST struct asc_error *asc_run_file_index(struct asc_run_file *f, size_t n, size_t every);
/* The run that ends after @p addr is one of [*ret_lo, *ret_hi), if any is. */
void asc_run_file_near(const struct asc_run_file *f, asc_addr addr, size_t *ret_lo, size_t *ret_hi);

#endif
