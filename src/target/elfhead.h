/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ELF and program headers of either word size, little-endian, from any source of bytes. */
#ifndef ASC_TARGET_ELFHEAD_H
#define ASC_TARGET_ELFHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct asc_elf_phdr {
	uint32_t type, flags;
	uint64_t offset, vaddr, filesz, memsz;
};

struct asc_elf_head {
	bool is64;
	uint16_t type, machine;
	uint64_t entry, phoff, shoff;
	uint32_t phentsize, phnum, shnum;
};

/* Decode the ELF header / the @p i-th program header (little-endian only). @p get reads from the
 * front. */
typedef size_t asc_get_fn(void *arg, uint64_t off, void *buf, size_t len);
bool asc_elf_head_get(asc_get_fn *get, void *arg, struct asc_elf_head *ret);
bool asc_elf_phdr_get(asc_get_fn *get, void *arg, const struct asc_elf_head *h, uint32_t i,
		      struct asc_elf_phdr *ret);

/* GNU build-id in an ELF image; @return its length, 0: none. @p at_vaddr: @p get is memory from the
 * header on */
size_t asc_elf_build_id(asc_get_fn *get, void *arg, bool in_memory, uint8_t *ret, size_t max);

#endif
