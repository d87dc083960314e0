/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The DWARF of one compilation unit without unpacking the whole file. */
#ifndef ASC_SYMBOLS_MINIDWARF_H
#define ASC_SYMBOLS_MINIDWARF_H

#include <elfutils/libdw.h>

#include "symbols/elffile.h"

struct asc_minidwarf {
	Dwarf *dw;
	Elf *elf;
	uint8_t *bytes;
	Dwarf_Off unit; /* offset of the unit's DIE; 0: the whole file, look at every unit */
};

/* The unit that holds code address @p vaddr (0: unknown). @return false: no DWARF at all */
bool asc_minidwarf_open(struct asc_elf *debug, uint64_t vaddr, struct asc_minidwarf *ret);
void asc_minidwarf_close(struct asc_minidwarf *d);

#endif
