/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which interrupted system calls the application would notice. Most are restarted by the kernel
 * when no handler ran (-ERESTART*). Some return plain -EINTR after any stop, ours too (signal(7),
 * "Interruption of system calls and library functions by stop signals"): for these, and only when
 * the thread is stopped with -EINTR as the result, -ERESTARTNOHAND is put in place of it. The
 * kernel then restarts the call if no handler is to run, and still returns EINTR if one is. Only a
 * relative timeout starts anew. Never for close(2) or connect(2), which must not be called twice,
 * nor for numbers that are not listed.
 *
 * aarch64: the kernel keeps the original x0 to itself, so that nothing can be done there.
 */
#ifndef ASC_TARGET_RESTART_H
#define ASC_TARGET_RESTART_H

#include <stddef.h>
#include <stdint.h>

#include "target/rawsys.h"

enum asc_restart_kind {
	ASC_RESTART_NEVER,
	ASC_RESTART_ALWAYS,
	ASC_RESTART_IF_SOCKET, /* a socket with SO_RCVTIMEO or SO_SNDTIMEO */
};

enum { ASC_KERNEL_EINTR = 4, ASC_KERNEL_ERESTARTNOHAND = 514 };

/* Of a thread stopped with these registers (NT_PRSTATUS); @p ret_fd for IF_SOCKET. */
enum asc_restart_kind asc_restart_kind(const uint8_t *raw, size_t len, uint64_t *ret_fd);
/* Put -@p number (ASC_KERNEL_...) in the result register. */
void asc_restart_set(uint8_t *raw, size_t len, int number);

#endif
