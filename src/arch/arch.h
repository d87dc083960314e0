/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One const row per CPU. To add one: copy x86_64.c, fill the row from the kernel's
 * asm/ptrace.h (user_regs order) and elfcore (pr_reg offset), add it to the table in arch.c.
 * The le/be rows have no registers: they serve images of any word size and byte order.
 */
#ifndef ASC_ARCH_ARCH_H
#define ASC_ARCH_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum asc_tls_variant {
	ASC_TLS_NONE,
	ASC_TLS_I,  /* block above the thread pointer (aarch64) */
	ASC_TLS_II, /* block below it (x86) */
};

struct asc_reg_field {
	uint16_t off, size; /* in the NT_PRSTATUS register block; size 0: not there */
};

struct asc_arch {
	const char *name;
	uint16_t e_machine; /* EM_*; EM_NONE for the image rows */
	uint8_t word_size;  /* bytes */
	bool big_endian;
	enum asc_tls_variant tls;
	uint16_t gregs_size;	  /* bytes of pr_reg */
	uint16_t prstatus_pid;	  /* offset of pr_pid in NT_PRSTATUS */
	uint16_t prstatus_reg;	  /* offset of pr_reg */
	uint16_t prstatus_cursig; /* offset of pr_cursig (short) */
	struct asc_reg_field pc, sp, tp, syscall_nr, result;
	struct asc_reg_field args[6]; /* of a system call */
	/* Relocation types whose slot holds a static TLS offset (TPOFF). 0: none. */
	uint32_t reloc_tpoff, reloc_relative;
	/* the vDSO or libc word pattern of the signal return, for frames; NULL: none */
	const uint8_t *sigreturn_code;
	const uint8_t *old_sigreturn_code; /* before there were rt signals; NULL: none */
	uint8_t sigreturn_len, old_sigreturn_len;
	int64_t nr_futex, nr_rt_sigreturn, nr_restart;
	int64_t nr_mmap, nr_munmap, nr_mremap; /* as malloc calls them */
};

/* By name ("x86_64", "le32" ...), or by ELF header; NULL if unknown. */
const struct asc_arch *asc_arch_by_name(const char *name);
const struct asc_arch *asc_arch_by_elf(uint16_t e_machine, bool is64, bool big_endian);
/* The CPU this program was built for. */
const struct asc_arch *asc_arch_native(void);

extern const struct asc_arch asc_arch_x86_64, asc_arch_i386, asc_arch_aarch64;

/* Value of a register field, 0 if it is not there. @p raw is the NT_PRSTATUS register block. */
uint64_t asc_arch_reg(const struct asc_arch *arch, const uint8_t *raw, size_t len,
		      struct asc_reg_field f);

#endif
