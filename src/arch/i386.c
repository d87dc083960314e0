/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <elf.h>

#include "arch/arch.h"

/* ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss, 4 bytes each */
enum {
	EBX = 0,
	ECX = 4,
	EDX = 8,
	ESI = 12,
	EDI = 16,
	EBP = 20,
	EAX = 24,
	ORIG_EAX = 44,
	EIP = 48,
	ESP = 60
};

/* mov $173,%eax; int $0x80: glibc's __restore_rt and the vDSO's */
static const uint8_t sigreturn[] = { 0xb8, 0xad, 0x00, 0x00, 0x00, 0xcd, 0x80 };
/* pop %eax; mov $119,%eax; int $0x80: __kernel_sigreturn, of a handler without SA_SIGINFO */
static const uint8_t old_sigreturn[] = { 0x58, 0xb8, 0x77, 0x00, 0x00, 0x00, 0xcd, 0x80 };

const struct asc_arch asc_arch_i386 = {
	.name = "i386",
	.e_machine = EM_386,
	.word_size = 4,
	.tls = ASC_TLS_II, /* the thread pointer is gs:0, from NT_386_TLS */
	.gregs_size = 17 * 4,
	.prstatus_pid = 24,
	.prstatus_reg = 72,
	.prstatus_cursig = 12,
	.pc = { EIP, 4 },
	.sp = { ESP, 4 },
	.syscall_nr = { ORIG_EAX, 4 },
	.result = { EAX, 4 },
	.args = { { EBX, 4 }, { ECX, 4 }, { EDX, 4 }, { ESI, 4 }, { EDI, 4 }, { EBP, 4 } },
	.reloc_tpoff = R_386_TLS_TPOFF,
	.reloc_relative = R_386_RELATIVE,
	.sigreturn_code = sigreturn,
	.sigreturn_len = sizeof(sigreturn),
	.old_sigreturn_code = old_sigreturn,
	.old_sigreturn_len = sizeof(old_sigreturn),
	.nr_futex = 240,
	.nr_rt_sigreturn = 173,
	.nr_restart = 0,
	.nr_mmap = 192,
	.nr_munmap = 91,
	.nr_mremap = 163,
};
