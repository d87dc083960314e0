/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The stopper: a helper process that holds every thread of the target in a ptrace stop. It lives
 * for one stop. However it ends, the kernel detaches what it held and the target runs on, so no
 * death of the tool or of the helper can leave the target stopped.
 */
#ifndef ASC_TARGET_STOPPER_H
#define ASC_TARGET_STOPPER_H

#include "arenascope/target.h"

enum asc_slot_state {
	ASC_SLOT_NEW,	  /* listed, not yet ours */
	ASC_SLOT_SEIZED,  /* ours, running */
	ASC_SLOT_STOPPED, /* in a stop, registers read */
	ASC_SLOT_LATE, /* ours, interrupt pending: cannot run user code, but was not seen stopped */
	ASC_SLOT_ZOMBIE, /* exited leader of a process that lives on */
	ASC_SLOT_GONE,
};

/* One thread as the stopper saw it; in memory shared with the helper. */
struct asc_stop_slot {
	pid_t tid;
	uint8_t state; /* enum asc_slot_state */
	uint8_t found; /* 'T' if it was in a group stop, 'D' if it did not stop in time, else 0 */
	uint8_t asked; /* PTRACE_INTERRUPT was sent */
	uint8_t runs;  /* it ran a moment before: last to be stopped, first to go on */
	uint8_t tp_valid;
	uint32_t len; /* register bytes */
	uint64_t tp;
	uint8_t raw[ASC_GREGS_MAX];
};

struct asc_stopper;

/*
 * Stop every thread of @p pid. @p task_fd is an open /proc/PID/task; @p threads those of a moment
 * before: how many there may be, and which of them run. Returns when they are stopped.
 *
 * @return NULL, ASC_EPERM, ASC_EAGAIN (exited, exec'ed, or the helper died), ASC_ENOMEM, ASC_EOS
 */
ASC_MUST struct asc_error *asc_stopper_start(pid_t pid, int task_fd,
					     const struct asc_thread *threads, size_t nthreads,
					     const struct asc_stop_opts *opts,
					     struct asc_stopper **ret);
/* Does it (still) hold the target? */
bool asc_stopper_holds(const struct asc_stopper *s);
const struct asc_stop_slot *asc_stopper_slots(const struct asc_stopper *s, size_t *ret_n);
/* Let go, wait for the helper's end, free. NULL is fine. */
void asc_stopper_end(struct asc_stopper *s, struct asc_pause *ret);
/* Process id of the helper (tests). */
pid_t asc_stopper_pid(const struct asc_stopper *s);

#endif
