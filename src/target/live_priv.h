/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A live process, for the files that are it: live.c, and live_pages.c for what is kept of its pages. */
#ifndef ASC_TARGET_LIVE_PRIV_H
#define ASC_TARGET_LIVE_PRIV_H

#include "target/cputime.h"
#include "target/pagemap.h"
#include "target/pagestore.h"
#include "target/proc.h"
#include "target/readcache.h"
#include "target/stopper.h"
#include "target/target.h"

struct live {
	struct asc_target t;
	bool no_stop;
	bool by_mem; /* process_vm_readv is refused here (seccomp), use mem_fd */
	int pidfd, mem_fd, task_fd;
	struct asc_pagemap *pagemap;
	pid_t tid; /* a thread that lived when it was last looked at */
	uint64_t starttime;
	char *auxv_raw;
	size_t auxv_len;
	struct asc_stopper *stopper;
	struct asc_cpu_time *cpu; /* no_stop: of the moment before the threads were read */
	size_t ncpu;
	struct asc_read_cache *cache; /* while a reader of the stopped target wants it */
	struct asc_page_store *store; /* foreseen in a rehearsal, read in the stop */
	bool noting;
	bool sealed, missed;  /* it alone answers; it could not */
	struct asc_text text; /* reused, so that it is warm while the target is stopped */
};

static inline struct live *live_of(struct asc_target *t)
{
	return (struct live *)t;
}

/* Pages that were noted are kept: of the stop, or of the rehearsal. */
static inline bool asc_live_keeps(const struct live *l)
{
	return l->store && (l->stopper || l->noting) && !l->sealed;
}

/* Read what was noted and not read yet; what cannot be read so is read by itself when it is wanted. */
void asc_live_load(struct live *l, const struct asc_residency *res);

#endif
