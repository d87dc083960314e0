/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Giving memory back: one injected call (malloc_trim, mallopt) or the reclaim routine, in one borrowed thread of a
 * live process that restores itself whatever happens to the caller. Nothing else in the library
 * writes to a target.
 */
#ifndef ARENASCOPE_ACT_H
#define ARENASCOPE_ACT_H

#include "arenascope/target.h"

#ifdef __cplusplus
extern "C" {
#endif

struct asc_act_opts {
	unsigned wait_ms;	  /**< retry this long while malloc is busy (0: 5000) */
	unsigned call_timeout_ms; /**< then leave it running and say so (0: 60000) */
	unsigned slice_us;	  /**< reclaim: longest hold of an arena lock (0: 5000) */
	bool force;		  /**< go on in spite of findings */
	bool suspend_seccomp;
	pid_t tid; /**< borrow this thread; 0: choose */
};

enum asc_act_outcome {
	ASC_ACT_DONE,
	ASC_ACT_CRASHED, /**< the call crashed; registers restored, lock repaired where possible */
	ASC_ACT_RUNNING, /**< timed out: the thread finishes and restores itself */
	ASC_ACT_GONE,	 /**< the target exited or exec'ed meanwhile */
};

struct asc_act_result {
	enum asc_act_outcome outcome;
	int crash_signal;
	pid_t tid; /**< borrowed thread */
	int64_t return_value;
	bool return_value_known;
	double stopped_ms;  /**< time that all threads were stopped */
	double borrowed_ms; /**< time that the one thread was away */
	double call_ms;
	bool verified;	    /**< registers, mask and extended state read back equal */
	bool lock_repaired; /**< an arena lock left by a crash was cleared */
	unsigned retries;
	/* reclaim */
	uint64_t asked_bytes; /**< released ranges, resident or not */
	uint64_t ranges, arenas, errors, first_errno;
	double max_hold_ms, max_wait_ms;
	double max_hold_cpu_ms; /**< without what it was kept waiting for a CPU or the kernel's locks */
	bool complete;		/**< every arena was done */
	uint64_t busy_arena; /**< its lock was held for good: an error, or left out; 0: none */
	char note[384];	     /**< what the user should know, or "" */
};

#ifdef __cplusplus
}
#endif
#endif
