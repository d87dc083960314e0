/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Symbols of a module: .symtab of the debug file, .symtab of the file, the dynamic table. A name
 * that stands in several is taken from the first of these.
 */
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/priv.h"

enum { SYMS_MAX = 8 << 20 };

/* Are they an array of Elf64_Sym, in the host's byte order as libelf has made it? */
static bool is_wide(const struct asc_elf *e, uint64_t entry)
{
	return e->eh.e_ident[EI_CLASS] == ELFCLASS64 && entry == sizeof(Elf64_Sym);
}

static bool add_table(struct asc_modpriv *p, struct asc_elf *e, GElf_Word type, bool debug)
{
	Elf_Scn *scn = NULL, *str;
	GElf_Shdr sh, strsh;

	if (p->ntabs == ASC_ARRAY_SIZE(p->tabs))
		return false;
	while ((scn = elf_nextscn(e->elf, scn))) {
		struct asc_symtab *t = &p->tabs[p->ntabs];

		if (!gelf_getshdr(scn, &sh) || sh.sh_type != type || !sh.sh_entsize)
			continue;
		str = elf_getscn(e->elf, sh.sh_link);
		if (!str || !gelf_getshdr(str, &strsh) || strsh.sh_type != SHT_STRTAB)
			continue;
		*t = (struct asc_symtab){
			.syms = elf_getdata(scn, NULL),
			.strs = elf_getdata(str, NULL),
			.debug = debug,
			.dynamic = type == SHT_DYNSYM,
		};
		if (!t->syms || !t->strs || !t->strs->d_size || t->syms->d_type != ELF_T_SYM)
			continue;
		t->n = asc_min(t->syms->d_size / sh.sh_entsize, SYMS_MAX);
		t->wide = is_wide(e, sh.sh_entsize);
		p->ntabs++;
		return true;
	}
	return false;
}

static bool offset_of(const struct asc_elf *e, uint64_t vaddr, uint64_t len, int64_t *ret)
{
	for (size_t i = 0; i < e->nph; i++) {
		const GElf_Phdr *p = &e->ph[i];

		if (p->p_type == PT_LOAD && vaddr >= p->p_vaddr &&
		    vaddr - p->p_vaddr <= p->p_filesz &&
		    len <= p->p_filesz - (vaddr - p->p_vaddr) && p->p_offset <= INT64_MAX / 2) {
			*ret = (int64_t)(p->p_offset + (vaddr - p->p_vaddr));
			return true;
		}
	}
	return false;
}

/* Without section headers (a memory image, sstrip) the dynamic section leads to the table. */
static void add_dynamic(struct asc_modpriv *p, struct asc_elf *e)
{
	size_t entry = e->eh.e_ident[EI_CLASS] == ELFCLASS64 ? sizeof(Elf64_Sym)
							     : sizeof(Elf32_Sym);
	struct asc_symtab *t = &p->tabs[p->ntabs];
	int64_t syms, strs;
	struct asc_dyn d;
	uint64_t n;

	if (p->ntabs == ASC_ARRAY_SIZE(p->tabs) || !asc_elf_dyn(e, &d) || !d.symtab || !d.strtab)
		return;
	n = asc_elf_ndynsym(e, &d);
	if (!n || !d.strsz || !offset_of(e, d.symtab, n * entry, &syms) ||
	    !offset_of(e, d.strtab, d.strsz, &strs))
		return;
	*t = (struct asc_symtab){
		.syms = elf_getdata_rawchunk(e->elf, syms, n * entry, ELF_T_SYM),
		.strs = elf_getdata_rawchunk(e->elf, strs, d.strsz, ELF_T_BYTE),
		.n = n,
		.dynamic = true,
		.wide = is_wide(e, entry),
	};
	if (t->syms && t->strs)
		p->ntabs++;
}

static void load_dynamic(struct asc_modules *m, struct asc_module *mod)
{
	struct asc_modpriv *p = mod->priv;
	struct asc_elf *e;

	for (size_t i = 0; i < p->ntabs; i++)
		if (p->tabs[i].dynamic)
			return;
	e = asc_module_elf(m, mod);
	if (e && !add_table(p, e, SHT_DYNSYM, false))
		add_dynamic(p, e);
}

void asc_symtabs_load(struct asc_modules *m, struct asc_module *mod)
{
	struct asc_modpriv *p = mod->priv;

	if (p->tabs_done)
		return;
	p->tabs_done = true;
	load_dynamic(m, mod);
	asc_module_find_debug(m, mod);
	bool any = p->debug && add_table(p, p->debug, SHT_SYMTAB, true);
	if (p->file && !m->opts.no_debug_files)
		any |= add_table(p, p->file, SHT_SYMTAB, false);
	if (!any && asc_module_minidebug(m, mod))
		add_table(p, p->mini, SHT_SYMTAB, false);
}

/*
 * Does the name of symbol @p i begin with a byte that @p begins wants? Then the symbol, and its name
 * if that has an end. There are some ten thousand of them, and nearly all of no interest.
 */
static const char *sym_name(const struct asc_symtab *t, size_t i, const bool *begins, GElf_Sym *sym)
{
	const char *strs = t->strs->d_buf, *name;

	if (t->wide) {
		const uint8_t *wide = (const uint8_t *)t->syms->d_buf + i * sizeof(Elf64_Sym);
		uint32_t at = asc_load_u32(wide + offsetof(Elf64_Sym, st_name));

		if (at >= t->strs->d_size || !begins[(uint8_t)strs[at]])
			return NULL;
	}
	if (i > INT32_MAX || !gelf_getsym(t->syms, (int)i, sym) || sym->st_name >= t->strs->d_size)
		return NULL;
	name = strs + sym->st_name;
	if (!begins[(uint8_t)*name] || !memchr(name, 0, t->strs->d_size - sym->st_name))
		return NULL;
	return name;
}

/* "malloc@@GLIBC_2.2.5" in a .symtab is malloc. */
static bool same(const char *sym, const char *name, size_t len)
{
	return !strncmp(sym, name, len) && (!sym[len] || sym[len] == '@');
}

static bool fill(const struct asc_module *mod, const struct asc_symtab *t, const GElf_Sym *sym,
		 const char *name, struct asc_sym *ret)
{
	size_t len = strlen(name);

	if (sym->st_shndx == SHN_UNDEF || len >= sizeof(ret->name))
		return false;
	memcpy(ret->name, name, len + 1);
	ret->type = GELF_ST_TYPE(sym->st_info);
	ret->addr = sym->st_value;
	if (ret->type != STT_TLS && sym->st_shndx != SHN_ABS)
		ret->addr += mod->bias;
	ret->size = sym->st_size;
	ret->from_debug = t->debug;
	return true;
}

/* In order of trust: the debug file's table, the file's, the dynamic one. */
static const struct asc_symtab *tab_at(const struct asc_modpriv *p, size_t i)
{
	size_t k = 0;

	for (int pass = 0; pass < 3; pass++)
		for (size_t j = 0; j < p->ntabs; j++) {
			int rank = p->tabs[j].dynamic ? 2 : p->tabs[j].debug ? 0 : 1;

			if (rank == pass && k++ == i)
				return &p->tabs[j];
		}
	return NULL;
}

void asc_symbols_find(struct asc_modules *m, struct asc_module *mod, const char *const *names,
		      size_t n, struct asc_sym *ret)
{
	struct asc_modpriv *p = mod->priv;
	const struct asc_symtab *t;
	bool begins[256] = { false };
	size_t left = n;

	for (size_t k = 0; k < n; k++) {
		ret[k] = (struct asc_sym){ 0 };
		begins[(uint8_t)names[k][0]] = names[k][0];
	}
	asc_symtabs_load(m, mod);
	for (size_t i = 0; left && (t = tab_at(p, i)); i++)
		for (size_t s = 1; left && s < t->n; s++) {
			GElf_Sym sym;
			const char *name = sym_name(t, s, begins, &sym);

			if (!name)
				continue;
			for (size_t k = 0; k < n; k++)
				if (names[k][0] == name[0] && !ret[k].name[0] &&
				    same(name, names[k], strlen(names[k])) &&
				    fill(mod, t, &sym, names[k], &ret[k]))
					left--;
		}
}

struct asc_error *asc_symbol_find(struct asc_modules *m, struct asc_module *mod, const char *name,
				  struct asc_sym *ret)
{
	struct asc_sym sym;

	asc_symbols_find(m, mod, &name, 1, &sym);
	if (!sym.name[0])
		return asc_err(ASC_ENOTFOUND, "no symbol \"%s\" in %s", name, mod->path);
	*ret = sym;
	return NULL;
}

struct asc_error *asc_symbol_find_dynamic(struct asc_modules *m, struct asc_module *mod,
					  const char *name, struct asc_sym *ret)
{
	struct asc_modpriv *p = mod->priv;
	bool begins[256] = { false };
	size_t len = strlen(name);
	struct asc_sym found;

	begins[(uint8_t)*name] = true;
	load_dynamic(m, mod);
	for (size_t i = 0; i < p->ntabs; i++) {
		const struct asc_symtab *t = &p->tabs[i];

		for (size_t s = 1; t->dynamic && s < t->n; s++) {
			GElf_Sym sym;
			const char *at = sym_name(t, s, begins, &sym);

			if (!at || !same(at, name, len) || GELF_ST_BIND(sym.st_info) == STB_LOCAL)
				continue;
			/* an undefined function with a value is a PLT entry, not a definition */
			if (fill(mod, t, &sym, name, &found)) {
				*ret = found;
				return NULL;
			}
		}
	}
	return asc_err(ASC_ENOTFOUND, "no dynamic symbol \"%s\" in %s", name, mod->path);
}

size_t asc_symbols_prefix(struct asc_modules *m, struct asc_module *mod,
			  const char *const *prefixes, size_t nprefixes, struct asc_sym *ret,
			  size_t max)
{
	struct asc_modpriv *p = mod->priv;
	bool begins[256] = { false };
	const struct asc_symtab *t;
	size_t n = 0;

	for (size_t k = 0; k < nprefixes; k++)
		begins[(uint8_t)prefixes[k][0]] = true;
	asc_symtabs_load(m, mod);
	for (size_t i = 0; (t = tab_at(p, i)); i++)
		for (size_t s = 1; n < max && s < t->n; s++) {
			GElf_Sym sym;
			const char *name = sym_name(t, s, begins, &sym);

			for (size_t k = 0; name && k < nprefixes; k++) {
				if (strncmp(name, prefixes[k], strlen(prefixes[k])) != 0)
					continue;
				n += fill(mod, t, &sym, name, &ret[n]);
				break;
			}
		}
	return n;
}
