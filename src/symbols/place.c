/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What stands at a code address: the function by symbols, which is quick; the source line and the
 * functions inlined there by libdwfl, which unpacks the module's whole DWARF at its first use.
 */
#include <dwarf.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/demangle.h"
#include "symbols/priv.h"

static int by_addr(const void *a, const void *b)
{
	const struct asc_func *x = a, *y = b;

	if (x->addr != y->addr)
		return (x->addr > y->addr) - (x->addr < y->addr);
	return (x->rank < y->rank) - (x->rank > y->rank); /* the better name last */
}

/* A name people know: global before local, sized before unsized, without underscores. */
static uint8_t rank_of(const GElf_Sym *sym, const char *name)
{
	uint8_t rank = 0;

	if (GELF_ST_BIND(sym->st_info) != STB_LOCAL)
		rank += 4;
	if (sym->st_size)
		rank += 8;
	if (name[0] != '_')
		rank += 2;
	if (GELF_ST_BIND(sym->st_info) == STB_GLOBAL)
		rank++;
	return rank;
}

static void collect(struct asc_modules *m, struct asc_module *mod)
{
	struct asc_modpriv *p = mod->priv;
	ASC_VEC(struct asc_func) v = { 0 };

	p->funcs_done = true;
	asc_symtabs_load(m, mod);
	for (size_t i = 0; i < p->ntabs; i++) {
		const struct asc_symtab *t = &p->tabs[i];
		const char *strs = t->strs->d_buf;

		for (size_t s = 1; s < t->n && s < INT32_MAX; s++) {
			struct asc_func f;
			struct asc_error *err;
			GElf_Sym sym;
			int type;

			if (!gelf_getsym(t->syms, (int)s, &sym) || sym.st_shndx == SHN_UNDEF ||
			    sym.st_name >= t->strs->d_size)
				continue;
			type = GELF_ST_TYPE(sym.st_info);
			if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE)
				continue;
			f.name = strs + sym.st_name;
			if (!memchr(f.name, 0, t->strs->d_size - sym.st_name) || !f.name[0] ||
			    f.name[0] == '$') /* $x, $d: mapping symbols of arm */
				continue;
			f.addr = sym.st_value;
			f.size = sym.st_size;
			f.rank = rank_of(&sym, f.name);
			err = asc_vec_push(&v, f);
			if (err) {
				asc_error_free(err);
				break;
			}
		}
	}
	if (v.len)
		asc_sort(v.data, v.len, sizeof(*v.data), by_addr);
	p->funcs = v.data;
	p->nfuncs = v.len;
}

/* The last function that begins at or before @p vaddr, and covers it if its size is known. */
static const struct asc_func *func_at(const struct asc_modpriv *p, uint64_t vaddr)
{
	const struct asc_func *best = NULL;
	size_t lo = ASC_SEEK(p->nfuncs, i, p->funcs[i].addr <= vaddr);

	for (size_t i = lo; i > 0 && lo - i < 32; i--) {
		const struct asc_func *f = &p->funcs[i - 1];

		if (f->size && vaddr - f->addr < f->size)
			return f;
		if (!f->size && !best)
			best = f;
	}
	return best;
}

/* Keep a string until the modules are closed. NULL without memory. */
static const char *keep(struct asc_modules *m, char *s)
{
	struct asc_error *err;

	if (!s)
		return NULL;
	err = asc_vec_push(&m->strings, s);
	if (!err)
		return s;
	asc_error_free(err);
	free(s);
	return NULL;
}

static const char *readable(struct asc_modules *m, const char *name)
{
	char *s = asc_demangle(m, name);

	if (s)
		return keep(m, s);
	if (strchr(name, '@'))
		return keep(m, strndup(name, strcspn(name, "@")));
	return name;
}

/* ---- libdwfl: lines and inlined functions ---- */

static int find_elf(Dwfl_Module *dm, void **userdata, const char *name, Dwarf_Addr base,
		    char **file_name, Elf **elf)
{
	struct asc_module *mod = *userdata;
	struct asc_modpriv *p = mod->priv;

	(void)dm;
	(void)name;
	(void)base;
	(void)elf;
	if (!p->file || p->file->fd < 0)
		return -1;
	*file_name = strdup(p->file->path);
	return *file_name ? dup(p->file->fd) : -1;
}

static int find_debug(Dwfl_Module *dm, void **userdata, const char *name, Dwarf_Addr base,
		      const char *file_name, const char *link, GElf_Word crc, char **debug_name)
{
	struct asc_module *mod = *userdata;
	struct asc_modpriv *p = mod->priv;

	(void)dm;
	(void)name;
	(void)base;
	(void)file_name;
	(void)link;
	(void)crc;
	if (!p->debug)
		return -1;
	*debug_name = strdup(p->debug->path);
	return *debug_name ? dup(p->debug->fd) : -1;
}

static const Dwfl_Callbacks callbacks = { .find_elf = find_elf, .find_debuginfo = find_debug };

static Dwfl_Module *dwfl_of(struct asc_modules *m, struct asc_module *mod)
{
	struct asc_modpriv *p = mod->priv;

	if (!m->dwfl_done) {
		m->dwfl_done = true;
		m->dwfl = dwfl_begin(&callbacks);
		if (!m->dwfl)
			return NULL;
		dwfl_report_begin(m->dwfl);
		for (size_t i = 0; i < m->n; i++) {
			void **userdata;
			struct asc_modpriv *q = m->v[i].priv;

			q->dwfl = dwfl_report_module(m->dwfl, m->v[i].path, m->v[i].start,
						     m->v[i].end);
			if (!q->dwfl)
				continue;
			dwfl_module_info(q->dwfl, &userdata, NULL, NULL, NULL, NULL, NULL, NULL);
			*userdata = &m->v[i];
		}
		dwfl_report_end(m->dwfl, NULL, NULL);
	}
	if (!m->dwfl || !p->dwfl || !mod->debug_ok || !mod->file_ok)
		return NULL;
	return p->dwfl;
}

void asc_place_close(struct asc_modules *m)
{
	if (m->dwfl)
		dwfl_end(m->dwfl);
	for (size_t i = 0; i < m->strings.len; i++)
		free(m->strings.data[i]);
	asc_vec_free(&m->strings);
	asc_demangle_close(m);
}

static void add_line(struct asc_modules *m, struct asc_module *mod, asc_addr addr,
		     struct asc_place *ret)
{
	Dwfl_Module *dm = dwfl_of(m, mod);
	Dwfl_Line *line = dm ? dwfl_module_getsrc(dm, addr) : NULL;
	const char *file;
	int n;

	file = line ? dwfl_lineinfo(line, NULL, &n, NULL, NULL, NULL) : NULL;
	if (!file)
		return;
	ret->file = file;
	ret->line = n;
}

bool asc_place_of(struct asc_modules *m, asc_addr addr, bool want_line, struct asc_place *ret)
{
	struct asc_module *mod = asc_modules_at(m, addr);
	const struct asc_func *f;
	struct asc_modpriv *p;

	if (!mod)
		return false;
	p = mod->priv;
	*ret = (struct asc_place){ .module = mod->path, .offset = addr - mod->start };
	if (mod->is_vdso)
		ret->module = "[vdso]";
	if (!p->funcs_done)
		collect(m, mod);
	f = func_at(p, addr - mod->bias);
	if (f) {
		ret->function = readable(m, f->name);
		ret->offset = addr - mod->bias - f->addr;
	}
	if (want_line)
		add_line(m, mod, addr, ret);
	return true;
}

/* Where the body of an inlined function was called from: line of the enclosing function. */
static void call_site(Dwarf_Die *inlined, Dwarf_Die *cu, struct asc_place *ret)
{
	Dwarf_Attribute a;
	Dwarf_Word file, line;
	Dwarf_Files *files;

	if (!dwarf_attr(inlined, DW_AT_call_line, &a) || dwarf_formudata(&a, &line))
		return;
	if (!dwarf_attr(inlined, DW_AT_call_file, &a) || dwarf_formudata(&a, &file))
		return;
	if (dwarf_getsrcfiles(cu, &files, NULL))
		return;
	ret->file = dwarf_filesrc(files, file, NULL, NULL);
	ret->line = line <= INT32_MAX ? (int)line : 0;
}

static const char *die_name(struct asc_modules *m, Dwarf_Die *die)
{
	Dwarf_Attribute a;
	const char *s = NULL;

	if (dwarf_attr_integrate(die, DW_AT_linkage_name, &a))
		s = dwarf_formstring(&a);
	if (!s)
		s = dwarf_diename(die);
	return s ? readable(m, s) : NULL;
}

size_t asc_place_inlined(struct asc_modules *m, asc_addr addr, struct asc_place *ret, size_t max)
{
	struct asc_module *mod = asc_modules_at(m, addr);
	Dwfl_Module *dm = mod ? dwfl_of(m, mod) : NULL;
	Dwarf_Addr bias = 0;
	Dwarf_Die *cu = dm ? dwfl_module_addrdie(dm, addr, &bias) : NULL;
	Dwarf_Die *scopes = NULL;
	struct asc_place line = { 0 };
	size_t n = 0;
	int nscopes;

	nscopes = cu ? dwarf_getscopes(cu, addr - bias, &scopes) : 0;
	if (nscopes <= 0)
		return 0;
	add_line(m, mod, addr, &line);
	for (int i = 0; i < nscopes && n < max; i++) {
		if (dwarf_tag(&scopes[i]) == DW_TAG_subprogram)
			break;
		if (dwarf_tag(&scopes[i]) != DW_TAG_inlined_subroutine)
			continue;
		ret[n] = (struct asc_place){
			.function = die_name(m, &scopes[i]),
			.module = mod->path,
			.file = line.file,
			.line = line.line,
		};
		line = (struct asc_place){ 0 };
		call_site(&scopes[i], cu, &line);
		n++;
	}
	free(scopes);
	return n;
}
