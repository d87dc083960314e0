/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <elf.h>
#include <stddef.h>
#include <sys/user.h>

#include "arch/arch.h"

/* Offsets are the kernel's user_regs_struct; written as numbers so that any host can read such a core. */
enum {
	R10 = 7 * 8,
	R9 = 8 * 8,
	R8 = 9 * 8,
	RAX = 10 * 8,
	RDX = 12 * 8,
	RSI = 13 * 8,
	RDI = 14 * 8
};
enum { ORIG_RAX = 15 * 8, RIP = 16 * 8, RSP = 19 * 8, FS_BASE = 21 * 8 };

/* mov $15,%rax; syscall: glibc's __restore_rt */
static const uint8_t sigreturn[] = { 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05 };

const struct asc_arch asc_arch_x86_64 = {
	.name = "x86_64",
	.e_machine = EM_X86_64,
	.word_size = 8,
	.tls = ASC_TLS_II,
	.gregs_size = 27 * 8,
	.prstatus_pid = 32,
	.prstatus_reg = 112,
	.prstatus_cursig = 12,
	.pc = { RIP, 8 },
	.sp = { RSP, 8 },
	.tp = { FS_BASE, 8 },
	.syscall_nr = { ORIG_RAX, 8 },
	.result = { RAX, 8 },
	.args = { { RDI, 8 }, { RSI, 8 }, { RDX, 8 }, { R10, 8 }, { R8, 8 }, { R9, 8 } },
	.reloc_tpoff = R_X86_64_TPOFF64,
	.reloc_relative = R_X86_64_RELATIVE,
	.sigreturn_code = sigreturn,
	.sigreturn_len = sizeof(sigreturn),
	.nr_futex = 202,
	.nr_rt_sigreturn = 15,
	.nr_restart = 219,
	.nr_mmap = 9,
	.nr_munmap = 11,
	.nr_mremap = 25,
};

#ifdef __x86_64__
_Static_assert(offsetof(struct user_regs_struct, orig_rax) == ORIG_RAX, "orig_rax");
_Static_assert(offsetof(struct user_regs_struct, rip) == RIP, "rip");
_Static_assert(offsetof(struct user_regs_struct, rsp) == RSP, "rsp");
_Static_assert(offsetof(struct user_regs_struct, fs_base) == FS_BASE, "fs_base");
_Static_assert(offsetof(struct user_regs_struct, r10) == R10, "r10");
_Static_assert(offsetof(struct user_regs_struct, rdi) == RDI, "rdi");
#endif
