/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which pages a process has in memory is slow to ask for: it takes a walk over its page tables. So
 * that is done before it is stopped; once it is, a few counters tell whether it still holds. Every page
 * that comes is a fault that the kernel counts, and every page that goes is one less in Rss. The kernel's own
 * sum is that of these counters, where they agree with the pages; smaps would walk once more, and who
 * maps memory waits for such walks.
 */
#ifndef ASC_TARGET_FORESIGHT_H
#define ASC_TARGET_FORESIGHT_H

#include "arenascope/target.h"

struct asc_foresight {
	struct asc_residency *residency;
	bool steady;	  /* nothing changed while it was read */
	bool exact;	  /* the kernel's counters agree with its page tables */
	uint64_t scan_ns; /* what asking for them took */
	/* of the moment */
	unsigned maps_serial;
	uint64_t faults[4], status[5];
};

/* Read of the running @p live. */
ASC_MUST struct asc_error *asc_foresight_new(struct asc_target *live, struct asc_foresight **ret);
/* With the target stopped: is it as it was? */
bool asc_foresight_holds(const struct asc_foresight *f, struct asc_target *live);
void asc_foresight_free(struct asc_foresight *f);
void asc_foresight_freep(struct asc_foresight **f);

/*
 * With the target stopped: as @p before (or NULL) foresaw it if that still holds (its residency is
 * taken then), else read now. Rss is that of the kernel's counters where these have proven exact and
 * agree with the pages, else that of smaps, which is as slow again. @p ret_foreseen: which it was.
 */
ASC_MUST struct asc_error *asc_foresight_use(struct asc_foresight *before, struct asc_target *live,
					     bool want_rss, struct asc_residency **ret,
					     uint64_t *ret_rss, bool *ret_rss_known,
					     bool *ret_foreseen);
/* Rss as the kernel's counters have it, which not every kernel keeps exact. @return false: unknown */
bool asc_counted_rss(pid_t pid, uint64_t *ret);
/* The kernel's sum of Rss (smaps). @return false: it could not be read */
bool asc_kernel_rss(pid_t pid, uint64_t *ret);
/* Read now; the two side by side. */
ASC_MUST struct asc_error *asc_residency_and_rss(struct asc_target *live, bool want_rss,
						 struct asc_residency **ret, uint64_t *ret_rss,
						 bool *ret_rss_known);

#endif
