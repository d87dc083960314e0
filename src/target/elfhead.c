/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/elfhead.h"

#include <elf.h>
#include <string.h>

#include "base/num.h"

static uint64_t le(const uint8_t *p, size_t size)
{
	uint64_t v = 0;

	for (size_t i = size; i-- > 0;)
		v = v << 8 | p[i];
	return v;
}

#define FIELD(p, is64, member)                                                                     \
	((is64) ? le((p) + offsetof(Elf64_Ehdr, member), sizeof(((Elf64_Ehdr *)0)->member))        \
		: le((p) + offsetof(Elf32_Ehdr, member), sizeof(((Elf32_Ehdr *)0)->member)))

bool asc_elf_head_get(asc_get_fn *get, void *arg, struct asc_elf_head *ret)
{
	uint8_t p[sizeof(Elf64_Ehdr)] = { 0 };
	size_t got = get(arg, 0, p, sizeof(p));
	bool is64 = p[EI_CLASS] == ELFCLASS64;

	if (got < (is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr)) || memcmp(p, ELFMAG, SELFMAG))
		return false;
	if ((!is64 && p[EI_CLASS] != ELFCLASS32) || p[EI_DATA] != ELFDATA2LSB)
		return false;
	*ret = (struct asc_elf_head){
		.is64 = is64,
		.type = (uint16_t)FIELD(p, is64, e_type),
		.machine = (uint16_t)FIELD(p, is64, e_machine),
		.entry = FIELD(p, is64, e_entry),
		.phoff = FIELD(p, is64, e_phoff),
		.shoff = FIELD(p, is64, e_shoff),
		.phentsize = (uint32_t)FIELD(p, is64, e_phentsize),
		.phnum = (uint32_t)FIELD(p, is64, e_phnum),
		.shnum = (uint32_t)FIELD(p, is64, e_shnum),
	};
	return ret->phentsize == (is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || !ret->phnum;
}
#undef FIELD

bool asc_elf_phdr_get(asc_get_fn *get, void *arg, const struct asc_elf_head *h, uint32_t i,
		      struct asc_elf_phdr *ret)
{
	uint8_t p[sizeof(Elf64_Phdr)];
	uint64_t off;

	if (!asc_mul(i, h->phentsize, &off) || !asc_add(h->phoff, off, &off) ||
	    get(arg, off, p, h->phentsize) < h->phentsize)
		return false;
	if (h->is64)
		*ret = (struct asc_elf_phdr){
			.type = (uint32_t)le(p, 4),
			.flags = (uint32_t)le(p + offsetof(Elf64_Phdr, p_flags), 4),
			.offset = le(p + offsetof(Elf64_Phdr, p_offset), 8),
			.vaddr = le(p + offsetof(Elf64_Phdr, p_vaddr), 8),
			.filesz = le(p + offsetof(Elf64_Phdr, p_filesz), 8),
			.memsz = le(p + offsetof(Elf64_Phdr, p_memsz), 8),
		};
	else
		*ret = (struct asc_elf_phdr){
			.type = (uint32_t)le(p, 4),
			.flags = (uint32_t)le(p + offsetof(Elf32_Phdr, p_flags), 4),
			.offset = le(p + offsetof(Elf32_Phdr, p_offset), 4),
			.vaddr = le(p + offsetof(Elf32_Phdr, p_vaddr), 4),
			.filesz = le(p + offsetof(Elf32_Phdr, p_filesz), 4),
			.memsz = le(p + offsetof(Elf32_Phdr, p_memsz), 4),
		};
	return true;
}
