/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Modules: what is mapped, told by the ELF headers in the target's own memory. A path is only a
 * name: which file it stands for is decided by build-id (debugfile.c).
 */
#include "symbols/modules.h"

#include <elf.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/num.h"
#include "symbols/priv.h"

enum { MODULES_MAX = 65536, NOTE_MAX = 64 << 10, PHDRS_BYTES = 4096, DYN_BYTES = 64 << 10 };

static void module_deinit(struct asc_module *mod)
{
	struct asc_modpriv *p = mod->priv;

	if (!p)
		return;
	asc_elf_close(p->file);
	asc_elf_close(p->debug);
	asc_elf_close(p->mini);
	for (size_t i = 0; i < p->tried.len; i++) {
		free(p->tried.data[i].what);
		free(p->tried.data[i].result);
	}
	asc_vec_free(&p->tried);
	free(p->funcs);
	free(p->path);
	free(p->soname);
	free(p);
}

void asc_modules_close(struct asc_modules *m)
{
	if (!m)
		return;
	asc_place_close(m);
	asc_fod_close(m);
	for (size_t i = 0; i < m->n; i++)
		module_deinit(&m->v[i]);
	for (size_t i = 0; i < m->links.len; i++)
		free(m->links.data[i].name);
	asc_vec_free(&m->links);
	free(m->v);
	free(m->root);
	free(m->debug_dir);
	free(m->libc);
	free(m->exe);
	free(m);
}

static void modules_closep(struct asc_modules **m)
{
	asc_modules_close(*m);
}

void asc_tried_add(struct asc_module *mod, const char *what, const char *fmt, ...)
{
	struct asc_modpriv *p = mod->priv;
	struct asc_tried t = { .what = strdup(what) };
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&t.result, fmt, ap) < 0)
		t.result = NULL;
	va_end(ap);
	if (t.what && t.result) {
		struct asc_error *err = asc_vec_push(&p->tried, t);

		if (!err) {
			mod->tried = p->tried.data;
			mod->ntried = p->tried.len;
			return;
		}
		asc_error_free(err);
	}
	free(t.what);
	free(t.result);
}

/* What the program headers of a mapped image say. */
struct shape {
	asc_addr bias, end;
	bool ok;
	GElf_Phdr note[4], dyn, tls;
	size_t nnotes;
	bool have_dyn, have_tls;
	GElf_Phdr text;
	bool have_text;
};

static void shape_of(const struct asc_target *t, const struct asc_ehdr *h, const uint8_t *phs,
		     asc_addr start, struct shape *ret)
{
	uint64_t page = asc_target_page_size(t), end;
	bool first = true;
	GElf_Phdr p;

	*ret = (struct shape){ 0 };
	for (size_t i = 0; i < h->phnum; i++) {
		if (!asc_phdr_get(t, h, phs + i * h->phentsize, &p))
			continue;
		switch (p.p_type) {
		case PT_LOAD:
			if (!asc_add(p.p_vaddr, p.p_memsz, &end))
				return;
			if (first) {
				/* the header is at the start of the first segment */
				if (asc_align_down(p.p_offset, page))
					return;
				ret->bias = start - asc_align_down(p.p_vaddr, page);
				first = false;
			}
			if ((p.p_flags & PF_X) && !ret->have_text) {
				ret->text = p;
				ret->have_text = true;
			}
			ret->end = asc_max(ret->end, asc_align_up(end, page) + ret->bias);
			break;
		case PT_NOTE:
			if (ret->nnotes < ASC_ARRAY_SIZE(ret->note))
				ret->note[ret->nnotes++] = p;
			break;
		case PT_DYNAMIC:
			ret->dyn = p;
			ret->have_dyn = true;
			break;
		case PT_TLS:
			ret->tls = p;
			ret->have_tls = true;
			break;
		default:
			break;
		}
	}
	if (asc_target_arch(t)->word_size == 4)
		ret->bias &= UINT32_MAX, ret->end &= UINT32_MAX;
	ret->ok = !first && ret->end > start;
}

/* Loaded as a program or library, not merely mapped as data by a tool that reads it. */
static bool is_loaded(const struct asc_target *t, const struct shape *s)
{
	const struct asc_map *map;

	if (!s->have_text)
		return true;
	map = asc_maps_find(asc_target_maps(t), s->bias + s->text.p_vaddr);
	return map && (!map->flags_known || (map->flags & ASC_MAP_EXEC));
}

static void find_build_id(struct asc_target *t, const struct shape *s,
			  char ret[static ASC_BUILD_ID_LEN])
{
	for (size_t i = 0; i < s->nnotes && !ret[0]; i++) {
		size_t len = asc_min(s->note[i].p_memsz, NOTE_MAX), got;
		ASC_AUTO(asc_freep) uint8_t *buf = malloc(len ? len : 1);

		if (!buf)
			return;
		got = asc_read_some(t, s->bias + s->note[i].p_vaddr, buf, len);
		asc_note_build_id(t, buf, got, s->note[i].p_align, ret);
	}
}

/* DT_SONAME from memory; the strings may not be in a core. */
static char *find_soname(struct asc_target *t, const struct shape *s)
{
	size_t w = asc_target_arch(t)->word_size, len = asc_min(s->dyn.p_memsz, DYN_BYTES), got;
	ASC_AUTO(asc_freep) uint8_t *buf = malloc(len ? len : 1);
	uint64_t strtab = 0, soname = 0, addr;
	struct asc_error *err;
	bool have = false;
	char *name = NULL;

	if (!buf || !s->have_dyn)
		return NULL;
	got = asc_read_some(t, s->bias + s->dyn.p_vaddr, buf, len);
	for (size_t i = 0; i + 2 * w <= got; i += 2 * w) {
		uint64_t tag = asc_uint_at(t, buf + i, w), v = asc_uint_at(t, buf + i + w, w);

		if (tag == DT_NULL)
			break;
		if (tag == DT_STRTAB)
			strtab = v;
		if (tag == DT_SONAME) {
			soname = v;
			have = true;
		}
	}
	if (!have || !strtab)
		return NULL;
	addr = (strtab < s->bias ? s->bias + strtab : strtab) + soname;
	err = asc_read_str(t, addr, 255, &name);
	if (err) {
		asc_error_free(err);
		return NULL;
	}
	return name;
}

struct asc_error *asc_module_add(struct asc_modules *m, size_t *cap, const struct asc_map *map,
				 asc_addr end, struct asc_module **ret)
{
	struct asc_modpriv *p;
	void *v = m->v;

	if (m->n == *cap)
		ASC_TRY(asc_vec_grow_(&v, cap, m->n, sizeof(*m->v)));
	m->v = v;
	p = calloc(1, sizeof(*p));
	if (!p)
		return asc_err(ASC_ENOMEM, "module at 0x%" PRIx64, map->start);
	p->order = -1;
	p->map_start = map->start;
	p->map_end = map->end;
	p->path = strdup(map->path[0] == '/' ? map->path : "");
	if (!p->path) {
		free(p);
		return asc_err(ASC_ENOMEM, "module at 0x%" PRIx64, map->start);
	}
	m->v[m->n] = (struct asc_module){
		.path = p->path,
		.soname = "",
		.start = map->start,
		.end = end,
		.is_vdso = !strcmp(map->path, "[vdso]"),
		.deleted = map->deleted,
		.priv = p,
	};
	*ret = &m->v[m->n++];
	return NULL;
}

/* A library's header page that a core left out: all that is known is the extent of its mappings. */
static struct asc_error *add_headless(struct asc_modules *m, size_t *cap, size_t i)
{
	const struct asc_maps *maps = asc_target_maps(m->t);
	const struct asc_map *map = &maps->v[i];
	struct asc_module *mod;
	asc_addr end = map->end;
	bool exec = false;

	for (size_t k = i; k < maps->n && !strcmp(maps->v[k].path, map->path); k++) {
		if (k > i && !maps->v[k].offset)
			break;
		end = maps->v[k].end;
		exec |= maps->v[k].flags_known && (maps->v[k].flags & ASC_MAP_EXEC);
	}
	if (!exec)
		return NULL;
	ASC_TRY(asc_module_add(m, cap, map, end, &mod));
	mod->bias =
		map->start; /* true of everything but a fixed-address executable; see debugfile.c */
	return NULL;
}

static struct asc_error *try_map(struct asc_modules *m, size_t *cap, size_t i)
{
	const struct asc_map *map = &asc_target_maps(m->t)->v[i];
	uint8_t buf[PHDRS_BYTES];
	struct asc_modpriv *p;
	struct asc_module *mod;
	struct asc_ehdr h;
	struct shape s;
	size_t got;

	got = asc_read_some(m->t, map->start, buf, asc_min(sizeof(buf), map->end - map->start));
	if (!got && map->path[0] == '/' && asc_target_kind(m->t) == ASC_CORE)
		return add_headless(m, cap, i);
	if (!asc_ehdr_get(m->t, buf, got, &h) || h.phoff > got ||
	    (size_t)h.phnum * h.phentsize > got - h.phoff)
		return NULL;
	if (h.type != ET_DYN && h.type != ET_EXEC)
		return NULL;
	if (asc_target_arch(m->t)->e_machine && h.machine != asc_target_arch(m->t)->e_machine)
		return NULL;
	shape_of(m->t, &h, buf + h.phoff, map->start, &s);
	if (!s.ok || !is_loaded(m->t, &s))
		return NULL;
	ASC_TRY(asc_module_add(m, cap, map, s.end, &mod));
	p = mod->priv;
	p->have_header = true;
	mod->bias = s.bias;
	if (s.have_dyn) {
		p->dyn_vaddr = s.dyn.p_vaddr;
		p->dyn_size = s.dyn.p_memsz;
	}
	if (s.have_tls) {
		p->tls_memsz = s.tls.p_memsz;
		p->tls_filesz = s.tls.p_filesz;
		p->tls_align = s.tls.p_align;
		p->tls_vaddr = s.tls.p_vaddr;
	}
	find_build_id(m->t, &s, mod->build_id);
	p->soname = find_soname(m->t, &s);
	if (p->soname)
		mod->soname = p->soname;
	return NULL;
}

static struct asc_error *scan_maps(struct asc_modules *m)
{
	const struct asc_maps *maps = asc_target_maps(m->t);
	bool unnamed = asc_target_kind(m->t) != ASC_LIVE;
	size_t cap = 0;

	for (size_t i = 0; i < maps->n && m->n < MODULES_MAX; i++) {
		const struct asc_map *map = &maps->v[i];

		if (map->flags_known && !(map->flags & ASC_MAP_READ))
			continue;
		if (m->n && map->start < m->v[m->n - 1].end)
			continue;
		/* without NT_FILE a core's mappings have no names and no offsets */
		if (!(map->path[0] == '/' && !map->offset) && strcmp(map->path, "[vdso]") &&
		    !(unnamed && !map->path[0]))
			continue;
		ASC_TRY(try_map(m, &cap, i));
	}
	return NULL;
}

static struct asc_error *find_exe(struct asc_modules *m)
{
	struct asc_module *mod = NULL;
	uint64_t v;

	/* the kernel's auxv names ld.so when that was started as the program: the link map knows
	 * better */
	asc_linkmap_read(m);
	ASC_TRY(asc_linkmap_modules(m));
	for (size_t i = 0; i < m->links.len && !mod; i++)
		if (!m->links.data[i].space)
			mod = asc_modules_at(m, m->links.data[i].l_ld);
	if (!mod && asc_target_auxv(m->t, AT_PHDR, &v))
		mod = asc_modules_at(m, v);
	if (!mod && asc_target_auxv(m->t, AT_ENTRY, &v))
		mod = asc_modules_at(m, v);
	if (mod)
		mod->is_exe = true;
	/* the file says what the headers would: lookups by address need it now */
	if (mod && m->exe && !asc_modpriv(mod)->have_header) {
		asc_module_find_file(m, mod);
		if (!mod->path[0])
			mod->path = m->exe;
	}
	return NULL;
}

static struct asc_error *copy(const char *s, char **ret)
{
	if (!s)
		return NULL;
	*ret = strdup(s);
	return *ret ? NULL : asc_err(ASC_ENOMEM, "copy of \"%s\"", s);
}

/* A test can have it see nothing but stripped files, or no files. */
static void for_tests(struct asc_symbol_opts *o)
{
	const char *s = asc_test_hook("ARENASCOPE_NO_DEBUG");

	if (!s)
		return;
	o->no_local_debug = !strcmp(s, "local");
	o->no_debug_files = !o->no_local_debug;
	o->no_files = !strcmp(s, "files");
}

struct asc_error *asc_modules_open(struct asc_target *t, const struct asc_symbol_opts *opts,
				   struct asc_modules **ret)
{
	ASC_AUTO(modules_closep) struct asc_modules *m = calloc(1, sizeof(*m));

	if (!m)
		return asc_err(ASC_ENOMEM, "modules");
	elf_version(EV_CURRENT);
	m->t = t;
	if (opts)
		m->opts = *opts;
	ASC_TRY(copy(m->opts.root, &m->root));
	ASC_TRY(copy(m->opts.debug_dir, &m->debug_dir));
	ASC_TRY(copy(m->opts.libc, &m->libc));
	ASC_TRY(copy(m->opts.exe, &m->exe));
	m->opts.root = m->root;
	m->opts.debug_dir = m->debug_dir;
	m->opts.libc = m->libc;
	m->opts.exe = m->exe;
	for_tests(&m->opts);
	ASC_TRY(scan_maps(m));
	ASC_TRY(find_exe(m));
	*ret = asc_take(m);
	return NULL;
}

void asc_modules_retarget(struct asc_modules *m, struct asc_target *t)
{
	m->t = t;
}

size_t asc_modules_count(const struct asc_modules *m)
{
	return m->n;
}

struct asc_module *asc_modules_get(struct asc_modules *m, size_t i)
{
	return i < m->n ? &m->v[i] : NULL;
}

/* Sorted by start, and not overlapping by construction. */
struct asc_module *asc_modules_at(struct asc_modules *m, asc_addr addr)
{
	size_t lo = 0, hi = m->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (addr < m->v[mid].start)
			hi = mid;
		else if (addr >= m->v[mid].end)
			lo = mid + 1;
		else
			return &m->v[mid];
	}
	return NULL;
}

struct asc_module *asc_modules_soname(struct asc_modules *m, const char *soname, size_t nth)
{
	for (size_t i = 0; i < m->n; i++)
		if (!strcmp(m->v[i].soname, soname) && !nth--)
			return &m->v[i];
	return NULL;
}

struct asc_module *asc_modules_exe(struct asc_modules *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].is_exe)
			return &m->v[i];
	return NULL;
}

bool asc_modules_is_dynamic(struct asc_modules *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (!strncmp(m->v[i].soname, "ld-linux", 8) || !strncmp(m->v[i].soname, "ld64", 4))
			return true;
	/* a static-pie has a list, too, of itself and the vDSO */
	for (size_t i = 0; i < m->links.len; i++) {
		const struct asc_module *mod = asc_modules_at(m, m->links.data[i].l_ld);

		if (mod && !mod->is_exe && !mod->is_vdso)
			return true;
	}
	return false;
}

struct asc_target *asc_modules_target(struct asc_modules *m)
{
	return m->t;
}

bool asc_module_tls_size(const struct asc_module *mod, uint64_t *ret)
{
	const struct asc_modpriv *p = mod->priv;

	*ret = p->tls_memsz;
	return p->tls_memsz != 0;
}

const struct asc_symbol_opts *asc_modules_opts(const struct asc_modules *m)
{
	return &m->opts;
}
