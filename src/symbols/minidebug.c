/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * .gnu_debugdata: the names of functions that Fedora and its kin leave in stripped files, as an ELF
 * file of its own, packed with xz. It names no variables, so malloc's are still to be found
 * otherwise; stacks become readable.
 */
#include <lzma.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/priv.h"

enum { PACKED_MAX = 64 << 20, UNPACKED_MAX = 256 << 20, MEMORY_MAX = 128 << 20 };

static Elf_Data *packed(struct asc_elf *e)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;
	size_t strndx;

	if (e->fd < 0 || elf_getshdrstrndx(e->elf, &strndx))
		return NULL;
	while ((scn = elf_nextscn(e->elf, scn))) {
		const char *name;

		if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_PROGBITS)
			continue;
		name = elf_strptr(e->elf, strndx, sh.sh_name);
		if (name && !strcmp(name, ".gnu_debugdata"))
			return sh.sh_size && sh.sh_size <= PACKED_MAX ? elf_rawdata(scn, NULL)
								      : NULL;
	}
	return NULL;
}

/* Grow until it fits: what is packed does not say how large it becomes. */
static uint8_t *unpack(const Elf_Data *d, size_t *ret_len)
{
	for (size_t cap = asc_max(d->d_size * 8, 65536); cap <= UNPACKED_MAX; cap *= 2) {
		ASC_AUTO(asc_freep) uint8_t *out = malloc(cap);
		uint64_t memory = MEMORY_MAX;
		size_t in_pos = 0, out_pos = 0;
		lzma_ret r;

		if (!out)
			return NULL;
		r = lzma_stream_buffer_decode(&memory, 0, NULL, d->d_buf, &in_pos, d->d_size, out,
					      &out_pos, cap);
		if (r == LZMA_OK) {
			*ret_len = out_pos;
			return asc_take(out);
		}
		if (r != LZMA_BUF_ERROR)
			return NULL;
	}
	return NULL;
}

struct asc_elf *asc_module_minidebug(struct asc_modules *m, struct asc_module *mod)
{
	struct asc_modpriv *p = mod->priv;
	Elf_Data *d = NULL;
	struct asc_error *err;
	uint8_t *bytes;
	size_t len;

	if (p->mini || p->tried_mini || m->opts.no_debug_files || !p->file)
		return p->mini;
	p->tried_mini = true;
	d = packed(p->file);
	bytes = d && d->d_buf ? unpack(d, &len) : NULL;
	if (!bytes)
		return NULL;
	err = asc_elf_from_bytes(bytes, len, ".gnu_debugdata", &p->mini);
	asc_error_free(err);
	if (p->mini && p->mini->eh.e_machine != p->file->eh.e_machine) {
		asc_elf_close(p->mini);
		p->mini = NULL;
	}
	asc_tried_add(mod, ".gnu_debugdata", p->mini ? "used" : "not an ELF file");
	return p->mini;
}
