/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The dynamic linker's own list of what it loaded, and with it whose `malloc` a name resolves to.
 * Read from the target's memory: bounded, and used only where it agrees with what is mapped.
 */
#include <elf.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/priv.h"

enum { LINKS_MAX = 65536, SPACES_MAX = 64, DYN_BYTES = 64 << 10 };

/* r_debug of an executable: DT_DEBUG in its dynamic section in memory. */
static asc_addr dt_debug(struct asc_modules *m, const struct asc_module *mod)
{
	size_t w = asc_target_arch(m->t)->word_size, got;
	struct asc_modpriv *p = mod->priv;
	size_t len = asc_min(p->dyn_size, DYN_BYTES);
	ASC_AUTO(asc_freep) uint8_t *buf = malloc(len ? len : 1);

	if (!buf)
		return 0;
	got = asc_read_some(m->t, mod->bias + p->dyn_vaddr, buf, len);
	for (size_t i = 0; i + 2 * w <= got; i += 2 * w) {
		uint64_t tag = asc_uint_at(m->t, buf + i, w);

		if (tag == DT_NULL)
			break;
		if (tag == DT_DEBUG)
			return asc_uint_at(m->t, buf + i + w, w);
	}
	return 0;
}

static bool is_ld(const struct asc_module *mod)
{
	return !strncmp(mod->soname, "ld-linux", 8) || !strncmp(mod->soname, "ld64", 4) ||
	       !strncmp(mod->soname, "ld.so", 5);
}

static asc_addr find_r_debug(struct asc_modules *m)
{
	struct asc_sym sym;
	asc_addr addr = 0;
	uint64_t phdr;

	if (asc_target_auxv(m->t, AT_PHDR, &phdr)) {
		struct asc_module *exe = asc_modules_at(m, phdr);

		if (exe && !is_ld(exe))
			addr = dt_debug(m, exe);
	}
	for (size_t i = 0; i < m->n && !addr; i++) {
		struct asc_error *err;

		if (!is_ld(&m->v[i]))
			continue;
		err = asc_symbol_find_dynamic(m, &m->v[i], "_r_debug", &sym);
		if (!err)
			addr = sym.addr;
		asc_error_free(err);
	}
	for (size_t i = 0; i < m->n && !addr; i++)
		addr = dt_debug(m, &m->v[i]);
	return addr ? addr : asc_r_debug_scan(m);
}

static bool word(struct asc_modules *m, asc_addr addr, unsigned n, uint64_t *ret)
{
	struct asc_error *err =
		asc_read_word(m->t, addr + n * asc_target_arch(m->t)->word_size, ret);

	asc_error_free(err);
	return !err;
}

static void read_space(struct asc_modules *m, asc_addr first, int space)
{
	asc_addr at = first;

	while (at && m->links.len < LINKS_MAX) {
		struct asc_linkmap l = { .addr = at, .space = space };
		struct asc_module *mod;
		struct asc_error *err;
		uint64_t name, next;

		if (!word(m, at, 0, &l.l_addr) || !word(m, at, 1, &name) ||
		    !word(m, at, 2, &l.l_ld) || !word(m, at, 3, &next))
			return;
		err = asc_read_str(m->t, name, 4096, &l.name);
		asc_error_free(err);
		mod = asc_modules_at(m, l.l_ld);
		if (mod && asc_modpriv(mod)->order < 0) {
			asc_modpriv(mod)->order = (int)m->links.len;
			asc_modpriv(mod)->space = space;
			if (!mod->path[0] && l.name && l.name[0] == '/') {
				/* a core without names: the loader's */
				free(asc_modpriv(mod)->path);
				asc_modpriv(mod)->path = strdup(l.name);
				mod->path = asc_modpriv(mod)->path ? asc_modpriv(mod)->path : "";
			}
		}
		err = asc_vec_push(&m->links, l);
		if (err) {
			asc_error_free(err);
			free(l.name);
			return;
		}
		at = next;
	}
}

void asc_linkmap_read(struct asc_modules *m)
{
	asc_addr r_debug;

	if (m->links_done)
		return;
	m->links_done = true;
	r_debug = find_r_debug(m);
	for (int space = 0; r_debug && space < SPACES_MAX; space++) {
		uint64_t version, map, next = 0;
		struct asc_error *err = asc_read_uint(m->t, r_debug, 4, &version);

		asc_error_free(err);
		if (err || !version || version > 16 || !word(m, r_debug, 1, &map))
			return;
		read_space(m, map, space);
		/* version 2 (2.35): one r_debug for each dlmopen namespace, chained */
		if (version < 2 || !word(m, r_debug, 5, &next))
			return;
		r_debug = next;
	}
}

static bool defines(struct asc_modules *m, struct asc_module *mod, const char *function)
{
	struct asc_error *err;
	struct asc_sym sym;

	err = asc_symbol_find_dynamic(m, mod, function, &sym);
	asc_error_free(err);
	return !err;
}

static bool is_libc(const struct asc_module *mod)
{
	const char *base = strrchr(mod->path, '/');

	return !strcmp(mod->soname, "libc.so.6") || (base && !strcmp(base + 1, "libc.so.6"));
}

/* In a core without its libraries' pages there is nothing to look in. */
static bool has_symbols(struct asc_modules *m, struct asc_module *mod)
{
	struct asc_modpriv *p = mod->priv;

	return asc_module_elf(m, mod) && p->ntabs;
}

struct asc_module *asc_modules_definer(struct asc_modules *m, const char *function)
{
	struct asc_module *exe = asc_modules_exe(m);
	struct asc_error *err;
	struct asc_sym sym;

	for (size_t i = 0; i < m->links.len; i++) {
		struct asc_module *mod = asc_modules_at(m, m->links.data[i].l_ld);

		/* ld.so has a malloc for itself, behind everybody else's */
		if (m->links.data[i].space || !mod || is_ld(mod))
			continue;
		if (defines(m, mod, function) || (is_libc(mod) && !has_symbols(m, mod)))
			return mod;
	}
	if (exe) {
		/* a static executable, or one whose dynamic symbols are gone */
		if (defines(m, exe, function))
			return exe;
		err = m->links.len ? asc_err(ASC_ENOTFOUND, "%s", function)
				   : asc_symbol_find(m, exe, function, &sym);
		asc_error_free(err);
		if (!err)
			return exe;
	}
	for (size_t i = 0; i < m->n && !m->links.len; i++)
		if (&m->v[i] != exe && !m->v[i].is_vdso && strcmp(m->v[i].soname, "libc.so.6") &&
		    !is_ld(&m->v[i]) && defines(m, &m->v[i], function))
			return &m->v[i];
	return m->links.len ? NULL : asc_modules_soname(m, "libc.so.6", 0);
}
