/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A copy-on-write child of a live process, made between two instructions of it: everything is
 * stopped for as long as a bare fork takes, and the child, which never runs an instruction of the
 * program, is read at leisure.
 */
#ifndef ASC_ACT_FORK_H
#define ASC_ACT_FORK_H

#include "act/act.h"
#include "target/stopper.h"

struct asc_fork;

struct asc_fork_opts {
	unsigned max_pause_ms; /* the target is let go after four times that; 0: 500 */
	/* Called while everything is stopped and the child is there: whatever is to be of this
	 * moment but is not memory. @p slots: the threads. An error ends it all. */
	struct asc_error *(*at_stop)(void *arg, const struct asc_stop_slot *slots, size_t n);
	void *arg;
};

/*
 * @p ret: the child lives, stopped, until asc_act_fork_end(), and no longer than this process.
 *
 * @return NULL, ASC_EUNSUPPORTED (E-FORK: it would endanger the target, says why; or this CPU),
 *         ASC_EAGAIN (malloc was busy to the end, the target went away)
 */
ASC_MUST struct asc_error *asc_act_fork(const struct asc_act_ctx *c,
					const struct asc_fork_opts *opts, struct asc_fork **ret);
pid_t asc_act_fork_child(const struct asc_fork *f);
/* How long the target was stopped. */
const struct asc_pause *asc_act_fork_pause(const struct asc_fork *f);
unsigned asc_act_fork_retries(const struct asc_fork *f);
/* Kill the child and wait for its end. NULL is fine. */
void asc_act_fork_end(struct asc_fork *f);

/* Would copying every page that it writes endanger the target, or is forking it unsafe? */
ASC_MUST struct asc_error *asc_fork_safe(const struct asc_act_ctx *c);

#endif
