/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "corebuild.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/arch.h"

static void put(uint8_t *p, uint64_t v, size_t size)
{
	for (size_t i = 0; i < size; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static size_t word(const struct corebuild *b)
{
	return b->is64 ? 8 : 4;
}

void corebuild_load(struct corebuild *b, uint64_t vaddr, uint32_t flags, const void *bytes,
		    uint64_t filesz, uint64_t memsz)
{
	if (b->nloads == sizeof(b->loads) / sizeof(b->loads[0]))
		abort();
	b->loads[b->nloads].vaddr = vaddr;
	b->loads[b->nloads].memsz = memsz;
	b->loads[b->nloads].filesz = filesz;
	b->loads[b->nloads].flags = flags;
	b->loads[b->nloads++].bytes = bytes;
}

void corebuild_note(struct corebuild *b, const char *name, uint32_t type, const void *desc,
		    size_t len)
{
	size_t namesz = strlen(name) + 1, at = b->nnotes;

	if (at + 12 + namesz + 3 + len + 3 > sizeof(b->notes))
		abort();
	put(b->notes + at, namesz, 4);
	put(b->notes + at + 4, len, 4);
	put(b->notes + at + 8, type, 4);
	at += 12;
	memcpy(b->notes + at, name, namesz);
	at += (namesz + 3) & ~(size_t)3;
	memcpy(b->notes + at, desc, len);
	b->nnotes = at + ((len + 3) & ~(size_t)3);
}

void corebuild_thread(struct corebuild *b, pid_t tid, uint64_t pc, uint64_t sp, int64_t nr, int sig)
{
	const struct asc_arch *arch = asc_arch_by_elf(b->machine, b->is64, false);
	uint8_t desc[400] = { 0 };
	size_t len = (size_t)arch->prstatus_reg + arch->gregs_size + 8;
	uint8_t *regs = desc + arch->prstatus_reg;

	put(desc, (uint64_t)sig, 4);
	put(desc + arch->prstatus_cursig, (uint64_t)sig, 2);
	put(desc + arch->prstatus_pid, (uint64_t)tid, 4);
	put(desc + arch->prstatus_pid + 16, 3, word(b)); /* utime: 3 s */
	put(regs + arch->pc.off, pc, arch->pc.size);
	put(regs + arch->sp.off, sp, arch->sp.size);
	put(regs + arch->syscall_nr.off, (uint64_t)nr, arch->syscall_nr.size);
	if (nr >= 0 && arch->result.off != arch->args[0].off) /* cut short: -ERESTARTSYS */
		put(regs + arch->result.off, (uint64_t)-512, arch->result.size);
	put(regs + arch->args[0].off, 0x1234, arch->args[0].size);
	if (arch->tp.size)
		put(regs + arch->tp.off, 0x7000 + (uint64_t)tid, arch->tp.size);
	corebuild_note(b, "CORE", NT_PRSTATUS, desc, len);
}

void corebuild_psinfo(struct corebuild *b, pid_t pid, const char *name)
{
	uint8_t desc[136] = { 0 };

	put(desc + (b->is64 ? 24 : 12), (uint64_t)pid, 4);
	snprintf((char *)desc + (b->is64 ? 40 : 28), 16, "%s", name);
	corebuild_note(b, "CORE", NT_PRPSINFO, desc, b->is64 ? 136 : 124);
}

void corebuild_auxv(struct corebuild *b, const uint64_t *pairs, size_t n)
{
	uint8_t desc[512] = { 0 };

	for (size_t i = 0; i < 2 * n; i++)
		put(desc + i * word(b), pairs[i], word(b));
	corebuild_note(b, "CORE", NT_AUXV, desc, (2 * n + 2) * word(b));
}

void corebuild_files(struct corebuild *b, const struct corebuild_file *v, size_t n)
{
	uint8_t desc[4096] = { 0 };
	size_t w = word(b), at = 2 * w;

	put(desc, n, w);
	put(desc + w, 4096, w);
	for (size_t i = 0; i < n; i++, at += 3 * w) {
		put(desc + at, v[i].start, w);
		put(desc + at + w, v[i].end, w);
		put(desc + at + 2 * w, v[i].page_offset, w);
	}
	for (size_t i = 0; i < n; i++) {
		memcpy(desc + at, v[i].path, strlen(v[i].path) + 1);
		at += strlen(v[i].path) + 1;
	}
	corebuild_note(b, "CORE", NT_FILE, desc, at);
}

static void put_phdr(const struct corebuild *b, uint8_t *p, uint32_t type, uint32_t flags,
		     uint64_t off, uint64_t vaddr, uint64_t filesz, uint64_t memsz)
{
	size_t w = word(b), at = b->is64 ? 8 : 4;

	put(p, type, 4);
	put(p + (b->is64 ? 4 : 24), flags, 4);
	put(p + at, off, w);
	put(p + at + w, vaddr, w);
	put(p + at + 3 * w, filesz, w);
	put(p + at + 4 * w, memsz, w);
}

uint8_t *corebuild_write(const struct corebuild *b, size_t *ret_len)
{
	size_t eh = b->is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr);
	size_t ph = b->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	size_t sh = b->is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
	size_t n = b->nloads + 1, w = word(b), at = eh + n * ph, len = at + b->nnotes + sh;
	uint8_t *p;

	for (size_t i = 0; i < b->nloads; i++)
		len += b->loads[i].filesz;
	p = calloc(1, len);
	if (!p)
		abort();
	memcpy(p, ELFMAG, SELFMAG);
	p[EI_CLASS] = b->is64 ? ELFCLASS64 : ELFCLASS32;
	p[EI_DATA] = ELFDATA2LSB;
	p[EI_VERSION] = EV_CURRENT;
	put(p + 16, b->type ? b->type : ET_CORE, 2);
	put(p + 18, b->machine, 2);
	put(p + 20, EV_CURRENT, 4);
	put(p + 24 + w, eh, w); /* e_phoff */
	put(p + 24 + 3 * w + 4, eh, 2);
	put(p + 24 + 3 * w + 6, ph, 2);
	put(p + 24 + 3 * w + 8, b->xnum ? PN_XNUM : n, 2);
	put_phdr(b, p + eh, PT_NOTE, 0, at, 0, b->nnotes, 0);
	if (b->nnotes)
		memcpy(p + at, b->notes, b->nnotes);
	at += b->nnotes;
	for (size_t i = 0; i < b->nloads; i++) {
		put_phdr(b, p + eh + (i + 1) * ph, PT_LOAD, b->loads[i].flags, at,
			 b->loads[i].vaddr, b->loads[i].filesz, b->loads[i].memsz);
		if (b->loads[i].filesz)
			memcpy(p + at, b->loads[i].bytes, b->loads[i].filesz);
		at += b->loads[i].filesz;
	}
	if (b->xnum) {
		put(p + 24 + 2 * w, at, w); /* e_shoff */
		put(p + 24 + 3 * w + 10, sh, 2);
		put(p + 24 + 3 * w + 12, 1, 2);
		put(p + at +
			    (b->is64 ? offsetof(Elf64_Shdr, sh_info)
				     : offsetof(Elf32_Shdr, sh_info)),
		    n, 4);
		at += sh;
	}
	*ret_len = at;
	return p;
}

int corebuild_memfd(const void *bytes, size_t len, char path[64])
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	if (fd < 0 || (len && write(fd, bytes, len) != (ssize_t)len))
		abort();
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}
