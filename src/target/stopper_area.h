/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the tool and the stopper share. Private to stopper.c and stopper_*.c. */
#ifndef ASC_TARGET_STOPPER_AREA_H
#define ASC_TARGET_STOPPER_AREA_H

#include "target/stopper.h"

enum { ASC_STOP_DENTS = 32768 };

/* Where the helper failed. */
enum asc_stop_step {
	ASC_STOP_OK,
	ASC_STOP_LIST,	/* /proc/PID/task could not be read: the process is gone */
	ASC_STOP_SEIZE, /* PTRACE_SEIZE was refused */
	ASC_STOP_MANY,	/* more threads than slots */
	ASC_STOP_GONE,	/* nothing left to stop */
};

struct asc_stop_area {
	/* in */
	pid_t pid, tool_pid;
	int task_fd, sock, tool_pidfd;
	uint64_t stop_timeout_ns, watchdog_ns; /* watchdog 0: never */
	uint32_t cap, hash_mask;
	uint32_t fault, fault_tool; /* fault point at which the helper, the tool dies */
	struct asc_stop_slot *slots;
	uint32_t *hash; /* slot index + 1 by tid, open addressing */
	pid_t *running; /* threads that ran a moment before */
	uint32_t nrunning;
	/* out */
	uint32_t nslots;
	uint32_t step; /* enum asc_stop_step */
	int32_t os_errno;
	pid_t err_tid;
	uint64_t t_interrupt, t_stopped, t_let_go; /* CLOCK_MONOTONIC, ns */
	uint32_t stopped, late;
	uint32_t let_go;  /* by itself: the watchdog */
	uint32_t abandon; /* by the tool: it waits no longer; let go of them all */
	char dents[ASC_STOP_DENTS];
};

/* The helper's main function, for clone(2); does not return. */
int asc_stopper_main(void *area);

#endif
