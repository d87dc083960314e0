/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by unwind*.c. */
#ifndef ASC_SYMBOLS_UNWIND_PRIV_H
#define ASC_SYMBOLS_UNWIND_PRIV_H

#include "symbols/unwind.h"

struct asc_unwind_page {
	asc_addr addr; /* UINT64_MAX: empty */
	size_t len;
	uint8_t *bytes;
};

enum { ASC_UNWIND_PAGES = 256 };

/* What unwinding needs of a module. */
struct asc_unwind_module {
	struct asc_module *mod;
	bool tried, ok;
	asc_addr hdr;	/* .eh_frame_hdr in the target */
	asc_addr table; /* its search table */
	uint64_t fdes;
	int fd; /* its file, for what the target does not hold; -1 */
	bool file_tried;
	void *cfi; /* of libdw, for the CPUs that libunwind does not know here */
	bool cfi_tried;
};

struct asc_unwinder {
	struct asc_modules *m;
	struct asc_target *t;
	struct asc_unwind_page pages[ASC_UNWIND_PAGES];
	struct asc_unwind_module *mods;
	size_t nmods;
	void *space; /* of libunwind */
	/* of the trace that runs */
	uint64_t regs[17];
	uint32_t known; /* a bit a register */
	bool partial;	/* the thread's own were not all known */
	bool no_info;	/* a frame without unwind information was met */
};

/* Memory of the target, read-only parts also from the module's file. @return bytes from the front */
size_t asc_unwind_read(struct asc_unwinder *u, asc_addr addr, void *buf, size_t len);
/* The module at @p pc with its search table, or NULL. */
const struct asc_unwind_module *asc_unwind_module_at(struct asc_unwinder *u, asc_addr pc);
/* May code run here? Unknown flags count as yes. */
bool asc_unwind_is_code(const struct asc_unwinder *u, asc_addr pc);
/* Is @p pc where a signal handler returns to? libunwind only knows while it steps over it. */
bool asc_unwind_is_sigreturn(struct asc_unwinder *u, asc_addr pc);
/* Frames of an x86-64 thread by libunwind, appended to what is there. */
ASC_MUST struct asc_error *asc_unwind_x86_64(struct asc_unwinder *u, const struct asc_thread *th,
					     size_t max, struct asc_stack *ret);
/* Frames of any other thread by libdw's call frame information. */
ASC_MUST struct asc_error *asc_unwind_cfi(struct asc_unwinder *u, const struct asc_thread *th,
					  size_t max, struct asc_stack *ret);
/*
 * One step of an x86-64 thread where the search table is missing, as in static programs. @p regs in
 * DWARF's order, @p known a bit each. @return > 0: they are the caller's now, 0: the end, < 0: it
 * cannot be told
 */
int asc_unwind_cfi_step(struct asc_unwinder *u, asc_addr lookup, uint64_t regs[17],
			uint32_t *known);
void asc_unwind_cfi_close(struct asc_unwind_module *um);
/* What is kept of the module at @p addr, or NULL. Valid until the next call for another address. */
struct asc_unwind_module *asc_unwind_slot(struct asc_unwinder *u, asc_addr addr);
void asc_unwind_x86_64_close(struct asc_unwinder *u);
/* Add a frame. */
ASC_MUST struct asc_error *asc_unwind_push(struct asc_stack *s, asc_addr pc, asc_addr sp,
					   bool signal_frame);

#endif
