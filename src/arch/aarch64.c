/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <elf.h>

#include "arch/arch.h"

/* x0..x30, sp, pc, pstate, 8 bytes each. The thread pointer is in NT_ARM_TLS. */
enum { X0 = 0, X8 = 8 * 8, SP = 31 * 8, PC = 32 * 8 };

/* mov x8,#139; svc #0: the vDSO's __kernel_rt_sigreturn */
static const uint8_t sigreturn[] = { 0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4 };

const struct asc_arch asc_arch_aarch64 = {
	.name = "aarch64",
	.e_machine = EM_AARCH64,
	.word_size = 8,
	.tls = ASC_TLS_I,
	.gregs_size = 34 * 8,
	.prstatus_pid = 32,
	.prstatus_reg = 112,
	.prstatus_cursig = 12,
	.pc = { PC, 8 },
	.sp = { SP, 8 },
	.syscall_nr = { X8, 8 },
	.result = { X0, 8 },
	.args = { { X0, 8 }, { 8, 8 }, { 16, 8 }, { 24, 8 }, { 32, 8 }, { 40, 8 } },
	.reloc_tpoff = R_AARCH64_TLS_TPREL,
	.reloc_relative = R_AARCH64_RELATIVE,
	.sigreturn_code = sigreturn,
	.sigreturn_len = sizeof(sigreturn),
	.nr_futex = 98,
	.nr_rt_sigreturn = 139,
	.nr_restart = 128,
	.nr_mmap = 222,
	.nr_munmap = 215,
	.nr_mremap = 216,
};
