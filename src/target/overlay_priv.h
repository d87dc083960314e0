/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What an overlay is made of, for overlay.c and overlay_compare.c. */
#ifndef ASC_TARGET_OVERLAY_PRIV_H
#define ASC_TARGET_OVERLAY_PRIV_H

#include "target/pagenotes.h"
#include "target/overlay.h"
#include "target/target.h"

enum phase { RUNNING, STOPPED, AFTER };

/* A page that was kept. */
struct slot {
	uint64_t page; /* address; UINT64_MAX: free */
	uint64_t at;   /* page number in the buffer, UINT64_MAX: forgotten */
};

struct overlay {
	struct asc_target t;
	struct asc_target *live;
	const struct asc_residency *res; /* before, from the stop on that of the stop */
	enum phase phase;
	bool stale; /* there is none of the stop: res is of another moment */
	bool again; /* not the first stop: what another one had kept was read and left no digest */
	uint64_t deadline;
	bool cut;
	struct slot *slots; /* open addressing */
	size_t mask;
	uint8_t *pages;
	size_t bytes, used, cap; /* used, cap: pages */
	struct asc_notes notes;
};

/* The bytes that were kept of @p page, or NULL. */
const uint8_t *asc_overlay_fresh(const struct overlay *o, uint64_t page);

#endif
