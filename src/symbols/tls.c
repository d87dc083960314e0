/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where libc's thread-locals are. libc uses initial-exec TLS, so the loader has written the offset
 * of its block from the thread pointer into some GOT slot: any TPOFF relocation gives it without
 * knowledge of private structures. The file says which slot and what was added, memory has the
 * result.
 */
#include "symbols/tls.h"

#include <elf.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/priv.h"

struct tpoff {
	struct asc_modules *m;
	struct asc_module *mod;
	struct asc_elf *e;
	struct asc_dyn dyn;
	uint64_t offset;
	size_t agree, differ;
};

static uint64_t wrap(const struct asc_arch *arch, uint64_t v)
{
	return arch->word_size == 4 ? v & UINT32_MAX : v;
}

/* st_value of dynamic symbol @p i; only symbols that the module itself defines. */
static bool sym_value(struct tpoff *f, uint32_t i, uint64_t *ret)
{
	const struct asc_modpriv *p = f->mod->priv;
	GElf_Sym sym;

	*ret = 0;
	if (!i)
		return true;
	for (size_t k = 0; k < p->ntabs; k++) {
		if (!p->tabs[k].dynamic)
			continue;
		if (i >= p->tabs[k].n || !gelf_getsym(p->tabs[k].syms, (int)i, &sym))
			return false;
		*ret = sym.st_value;
		return sym.st_shndx != SHN_UNDEF;
	}
	return false;
}

static bool on_reloc(void *arg, const struct asc_reloc *r)
{
	const struct asc_arch *arch = asc_target_arch(((struct tpoff *)arg)->m->t);
	struct tpoff *f = arg;
	uint64_t slot, value, addend = r->addend, offset;
	struct asc_error *err;

	if (r->type != arch->reloc_tpoff || !sym_value(f, r->sym, &value))
		return true;
	if (!r->has_addend && (f->e->relocated || !asc_elf_word(f->e, r->offset, &addend)))
		return true; /* REL: the addend was in the slot, and is gone from memory */
	err = asc_read_word(f->m->t, f->mod->bias + r->offset, &slot);
	asc_error_free(err);
	if (err)
		return true;
	if (arch->tls == ASC_TLS_II)
		offset = wrap(arch, value + addend - slot);
	else
		offset = wrap(arch, slot - value - addend);
	if (!f->agree) {
		f->offset = offset;
		f->agree = 1;
	} else if (offset == f->offset) {
		f->agree++;
	} else {
		f->differ++;
	}
	return true;
}

/* The only module of a static program: csu/libc-tls.c. */
static bool static_offset(struct asc_modules *m, struct asc_module *mod, uint64_t *ret)
{
	const struct asc_arch *arch = asc_target_arch(m->t);
	const struct asc_modpriv *p = mod->priv;
	uint64_t align = p->tls_align ? p->tls_align : 1;

	if (!p->tls_memsz || !asc_is_pow2(align))
		return false;
	if (arch->tls == ASC_TLS_II)
		*ret = asc_align_up(p->tls_memsz, align);
	else
		*ret = asc_align_up(2 * (uint64_t)arch->word_size, align);
	return true;
}

struct asc_error *asc_tls_offset(struct asc_modules *m, struct asc_module *mod, uint64_t *ret,
				 const char **ret_how)
{
	struct tpoff f = { .m = m, .mod = mod, .e = asc_module_elf(m, mod) };
	const struct asc_arch *arch = asc_target_arch(m->t);

	if (!f.e)
		return asc_err(ASC_ENOTFOUND, "no ELF image of %s", mod->path);
	asc_symtabs_load(m, mod);
	/* a static-pie has a dynamic section, but nobody else's TLS */
	if (arch->reloc_tpoff && asc_elf_dyn(f.e, &f.dyn))
		asc_elf_relocs(f.e, &f.dyn, true, arch->reloc_relative, on_reloc, &f);
	if (f.agree > f.differ && f.offset && f.offset < (1U << 30)) {
		*ret = f.offset;
		*ret_how = "relocation";
		return NULL;
	}
	if (mod->is_exe && static_offset(m, mod, ret)) {
		*ret_how = "static";
		return NULL;
	}
	return asc_err(ASC_ENOTFOUND, "no relocation of %s tells where its thread-locals are",
		       mod->path);
}

asc_addr asc_tls_addr(const struct asc_arch *arch, asc_addr tp, uint64_t tls_offset,
		      uint64_t sym_off)
{
	if (arch->tls == ASC_TLS_II)
		return wrap(arch, tp - tls_offset + sym_off);
	return wrap(arch, tp + tls_offset + sym_off);
}
