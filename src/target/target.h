/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a kind of target provides. The wrappers in target.c validate (address range, overflow,
 * lengths) before any of these is called; a NULL op means unsupported and the wrapper says so.
 * No file above this layer includes this header but capture's and the tests' users.
 */
#ifndef ASC_TARGET_TARGET_H
#define ASC_TARGET_TARGET_H

#include "arch/arch.h"
#include "arenascope/target.h"

struct asc_target_ops {
	enum asc_target_kind kind;
	/* Read from the front as far as possible; @return bytes read. addr + len does not overflow. */
	size_t (*read)(struct asc_target *t, asc_addr addr, void *buf, size_t len);
	/* Optional. Bulk; NULL: loops over read. */
	struct asc_error *(*read_bulk)(struct asc_target *t, struct asc_iov *iov, size_t n);
	/* read_bulk may run in two threads at once: capture does so for large copies. */
	bool concurrent_bulk;
	/*
	 * Optional. As read, in two threads at once, and none beside it; may stop short of what read
	 * finds. NULL: read can be called by two where concurrent_bulk says so.
	 */
	size_t (*read_beside)(struct asc_target *t, asc_addr addr, void *buf, size_t len);
	struct asc_error *(*stop)(struct asc_target *t, const struct asc_stop_opts *opts);
	void (*release)(struct asc_target *t, struct asc_pause *ret);
	bool (*is_stopped)(const struct asc_target *t);
	bool (*alive)(struct asc_target *t);
	/* Optional. Pages that may be in memory, cheaply told; to be called before what residency sums up. */
	struct asc_error *(*foresee)(struct asc_target *t, struct asc_residency **ret);
	/* Which pages are in memory. NULL: unknown. */
	struct asc_error *(*residency)(struct asc_target *t, struct asc_residency **ret);
	/* Release everything the kind owns (not the common part). Accepts half-built. */
	void (*close)(struct asc_target *t);
};

/* The common head of every kind: `struct live { struct asc_target t; ... }`. */
struct asc_target {
	const struct asc_target_ops *ops;
	const struct asc_arch *arch;
	pid_t pid;
	char name[ASC_COMM_LEN + 1];
	uint64_t page_size;
	struct asc_maps maps;
	unsigned maps_serial; /* live: another one, when they were read and had changed */
	struct asc_thread *threads;
	size_t nthreads;
	bool one_reader; /* for now: what is read is kept, and there is no lock */
	uint64_t *auxv;	 /* pairs type, value; owned */
	size_t nauxv;	 /* pairs */
};

/* maps.c: parse the text of /proc/PID/maps. Never trusts it: bad lines are an error with the line. */
ASC_MUST struct asc_error *asc_maps_parse(const char *text, size_t len, struct asc_maps *ret);
/* Sort, check for overlap, and take over @p v and @p strings. */
ASC_MUST struct asc_error *asc_maps_init(struct asc_map *v, size_t n, char *strings,
					 struct asc_maps *ret);
ASC_MUST struct asc_error *asc_maps_copy(const struct asc_maps *from, struct asc_maps *ret);
bool asc_maps_same(const struct asc_maps *a, const struct asc_maps *b);

/* residency.c: take over runs, sort, merge equal neighbours, sum. @p runs is malloc'ed. */
ASC_MUST struct asc_error *asc_residency_init(enum asc_residency_source source, uint64_t page_size,
					      struct asc_page_run *runs, size_t n,
					      struct asc_residency **ret);

#endif
