/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Cores written by tests: headers, notes, segments, in memory, little-endian. */
#ifndef COREBUILD_H
#define COREBUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct corebuild {
	bool is64;
	uint16_t machine, type;
	struct {
		uint64_t vaddr, memsz, filesz;
		uint32_t flags;
		const uint8_t *bytes;
	} loads[64];
	size_t nloads;
	uint8_t notes[16384];
	size_t nnotes;
	bool xnum; /* write the number of headers as PN_XNUM does */
};

void corebuild_load(struct corebuild *b, uint64_t vaddr, uint32_t flags, const void *bytes,
		    uint64_t filesz, uint64_t memsz);
void corebuild_note(struct corebuild *b, const char *name, uint32_t type, const void *desc,
		    size_t len);
/* NT_PRSTATUS of the machine with these registers. */
void corebuild_thread(struct corebuild *b, pid_t tid, uint64_t pc, uint64_t sp, int64_t nr,
		      int sig);
void corebuild_psinfo(struct corebuild *b, pid_t pid, const char *name);
/* Type, value pairs; AT_NULL is added. */
void corebuild_auxv(struct corebuild *b, const uint64_t *pairs, size_t n);
struct corebuild_file {
	uint64_t start, end, page_offset;
	const char *path;
};
void corebuild_files(struct corebuild *b, const struct corebuild_file *v, size_t n);
/* The file; free it. */
uint8_t *corebuild_write(const struct corebuild *b, size_t *ret_len);

/* A memory file with these bytes; @p path gets its name under /proc. Close the descriptor. */
int corebuild_memfd(const void *bytes, size_t len, char path[64]);

#endif
