/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One ELF image: a file, or what is mapped of one that cannot be had. Private to this layer and to
 * glibc/scan.c. Nothing in it is trusted: every offset goes through a checked lookup.
 */
#ifndef ASC_SYMBOLS_ELFFILE_H
#define ASC_SYMBOLS_ELFFILE_H

#include <gelf.h>

#include "arch/arch.h"
#include "arenascope/target.h"

enum { ASC_BUILD_ID_LEN = 65 }; /* 32 bytes in hex and NUL */

struct asc_elf {
	Elf *elf;
	int fd; /* -1: a memory image */
	char *path;
	uint8_t *image; /* a memory image's bytes at their file offsets; owned */
	size_t image_len;
	bool relocated; /* from memory: data words are as at run time */
	asc_addr bias;	/* of a memory image: its dynamic section may hold target addresses */
	GElf_Ehdr eh;
	GElf_Phdr *ph;
	size_t nph;
	char build_id[ASC_BUILD_ID_LEN];
};

/* ASC_ENOTARGET: cannot be opened; ASC_EINPUT: not ELF. */
ASC_MUST struct asc_error *asc_elf_open(const char *path, struct asc_elf **ret);
/* Rebuild the file's loaded part from the memory of @p t; @p start is where its header is mapped. */
ASC_MUST struct asc_error *asc_elf_from_memory(struct asc_target *t, asc_addr start, asc_addr bias,
					       struct asc_elf **ret);
/* An ELF file in memory. @p bytes are taken, on failure too. */
ASC_MUST struct asc_error *asc_elf_from_bytes(uint8_t *bytes, size_t len, const char *what,
					      struct asc_elf **ret);
void asc_elf_close(struct asc_elf *e);
void asc_elf_closep(struct asc_elf **e);

/* Bytes of the image at ELF address @p vaddr, from the front; what no file backs is zero. */
size_t asc_elf_read(struct asc_elf *e, uint64_t vaddr, void *buf, size_t len);
/* A pointer-sized word. */
bool asc_elf_word(struct asc_elf *e, uint64_t vaddr, uint64_t *ret);

/* The dynamic section, addresses without bias; 0: absent. */
struct asc_dyn {
	uint64_t symtab, strtab, strsz, hash, gnu_hash;
	uint64_t rela, relasz, rel, relsz, relr, relrsz, jmprel, pltrelsz, pltrel;
	uint64_t soname; /* offset in strtab */
	bool has_soname;
	uint64_t debug; /* target address of r_debug; only from memory */
};
bool asc_elf_dyn(struct asc_elf *e, struct asc_dyn *ret);
/* A string of the dynamic string table. @return false: none */
bool asc_elf_dynstr(struct asc_elf *e, const struct asc_dyn *d, uint64_t off, char *buf,
		    size_t len);
uint64_t asc_elf_ndynsym(struct asc_elf *e, const struct asc_dyn *d);

/* One relocation; REL has no addend (has_addend false). */
struct asc_reloc {
	uint64_t offset, addend;
	uint32_t type, sym;
	bool has_addend;
};
typedef bool asc_reloc_fn(void *arg, const struct asc_reloc *r); /* false: enough */
/* DT_RELA or DT_REL, then DT_JMPREL when @p plt; RELR comes as @p relative_type without addend. */
void asc_elf_relocs(struct asc_elf *e, const struct asc_dyn *d, bool plt, uint32_t relative_type,
		    asc_reloc_fn *fn, void *arg);

/* Decode from the bytes of memory. */
struct asc_ehdr {
	uint16_t type, machine;
	uint64_t phoff;
	uint16_t phnum, phentsize;
	bool is64;
};
bool asc_ehdr_get(const struct asc_target *t, const uint8_t *p, size_t len, struct asc_ehdr *ret);
bool asc_phdr_get(const struct asc_target *t, const struct asc_ehdr *h, const uint8_t *p,
		  GElf_Phdr *ret);
/* Build-id in the bytes of a note segment; "" if there is none. */
void asc_note_build_id(const struct asc_target *t, const uint8_t *p, size_t len, uint64_t align,
		       char ret[static ASC_BUILD_ID_LEN]);

#endif
