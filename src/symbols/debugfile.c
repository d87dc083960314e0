/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From a mapped image to the file it was mapped from, and to its debug file. A file counts only if
 * its build-id is the one in the target's memory (or, for debug links, its CRC is right); what was
 * tried and why it was not used is kept for the user.
 */
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/priv.h"

/* @p dwarf: types are wanted too, not only a symbol table. */
static bool has_debug(struct asc_elf *e, bool dwarf)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;
	size_t strndx;

	if (elf_getshdrstrndx(e->elf, &strndx))
		return false;
	while ((scn = elf_nextscn(e->elf, scn))) {
		const char *name;

		if (!gelf_getshdr(scn, &sh) || sh.sh_type == SHT_NOBITS)
			continue;
		if (sh.sh_type == SHT_SYMTAB && !dwarf)
			return true;
		name = elf_strptr(e->elf, strndx, sh.sh_name);
		if (name && !strcmp(name, ".debug_info"))
			return true;
	}
	return false;
}

/* Only a GNU debug link of a build without build-ids needs this. */
static bool crc_ok(struct asc_elf *e, uint32_t want)
{
	uint8_t buf[65536];
	uLong crc = crc32(0, NULL, 0);
	off_t at = 0;
	ssize_t n;

	while ((n = pread(e->fd, buf, sizeof(buf), at)) > 0) {
		crc = crc32(crc, buf, (uInt)n);
		at += n;
	}
	return n == 0 && (uint32_t)crc == want;
}

static bool open_tried(struct asc_module *mod, const char *path, struct asc_elf **ret)
{
	struct asc_error *err = asc_elf_open(path, ret);
	ASC_AUTO(asc_freep) char *text = NULL;

	if (!err)
		return true;
	text = asc_error_text(err);
	asc_tried_add(mod, path, "%s", text ? text : "no memory");
	asc_error_free(err);
	return false;
}

static bool is_libc(const struct asc_module *mod)
{
	const char *base = strrchr(mod->path, '/');

	if (!strcmp(mod->soname, "libc.so.6"))
		return true;
	base = base ? base + 1 : mod->path;
	return !mod->soname[0] && (!strcmp(base, "libc.so.6") || !strncmp(base, "libc-2.", 7));
}

static void use_embedded(struct asc_module *mod)
{
	mod->debug_ok = true;
	mod->debug_from = "embedded";
	mod->debug_path = asc_modpriv(mod)->file->path;
}

/* @p sure: the user named this file, so a target without a build-id takes it. */
static bool use_file(struct asc_modules *m, struct asc_module *mod, const char *path,
		     const char *from, bool sure)
{
	ASC_AUTO(asc_elf_closep) struct asc_elf *e = NULL;
	struct asc_modpriv *p = mod->priv;

	if (!open_tried(mod, path, &e))
		return false;
	if (e->eh.e_machine != asc_target_arch(m->t)->e_machine) {
		asc_tried_add(mod, path, "of another CPU");
		return false;
	}
	if (mod->build_id[0] && strcmp(mod->build_id, e->build_id) != 0) {
		asc_tried_add(mod, path, "build-id %s, mapped is %s: not used",
			      e->build_id[0] ? e->build_id : "missing", mod->build_id);
		return false;
	}
	if (!mod->build_id[0] && !sure && !p->have_header) {
		asc_tried_add(mod, path, "the target's build-id is not known: not used");
		return false;
	}
	if (!p->have_header)
		asc_module_shape_from(m, mod, e);
	asc_tried_add(mod, path, "used");
	mod->file_ok = true;
	mod->file_from = from;
	mod->file_path = e->path;
	if (!mod->build_id[0] && sure) {
		memcpy(mod->build_id, e->build_id, sizeof(mod->build_id));
		mod->assumed = true;
	}
	p->file = asc_take(e);
	if (has_debug(p->file, true))
		use_embedded(mod);
	return true;
}

static char *join(const char *fmt, ...) ASC_PRINTF(1, 2);
static char *join(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return s;
}

static bool try_file(struct asc_modules *m, struct asc_module *mod, char *path, const char *from,
		     bool sure)
{
	ASC_AUTO(asc_freep) char *owned = path;

	return owned && use_file(m, mod, owned, from, sure);
}

void asc_module_find_file(struct asc_modules *m, struct asc_module *mod)
{
	pid_t pid = asc_target_kind(m->t) == ASC_CORE ? 0 : asc_target_pid(m->t);
	struct asc_modpriv *p = mod->priv;
	bool libc = is_libc(mod);

	if (p->tried_file)
		return;
	p->tried_file = true;
	if (mod->is_vdso || m->opts.no_files)
		return;
	if (m->libc && libc && use_file(m, mod, m->libc, "--libc", true))
		return;
	if (m->exe && mod->is_exe && use_file(m, mod, m->exe, "--exe", true))
		return;
	if (!mod->path[0])
		return;
	if (pid > 0) {
		if (try_file(m, mod,
			     join("/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)pid, p->map_start,
				  p->map_end),
			     "map_files", false))
			return;
		if (try_file(m, mod, join("/proc/%d/root%s", (int)pid, mod->path), "root", false))
			return;
	}
	if (m->root && try_file(m, mod, join("%s%s", m->root, mod->path), "root", true))
		return;
	use_file(m, mod, mod->path, "host", false);
}

struct asc_elf *asc_module_elf(struct asc_modules *m, struct asc_module *mod)
{
	struct asc_modpriv *p = mod->priv;
	struct asc_error *err;

	asc_module_find_file(m, mod);
	if (!p->file && p->have_header) {
		p->have_header = true;
		err = asc_elf_from_memory(m->t, mod->start, mod->bias, &p->file);
		if (!err)
			mod->file_from = "memory";
		asc_error_free(err);
	}
	return p->file;
}

/* ---- debug files ---- */

static bool use_debug(struct asc_modules *m, struct asc_module *mod, const char *path,
		      const char *from, const uint32_t *crc)
{
	ASC_AUTO(asc_elf_closep) struct asc_elf *e = NULL;
	struct asc_modpriv *p = mod->priv;

	if (!open_tried(mod, path, &e))
		return false;
	if (e->eh.e_machine != asc_target_arch(m->t)->e_machine) {
		asc_tried_add(mod, path, "of another CPU");
		return false;
	}
	if (mod->build_id[0] ? strcmp(mod->build_id, e->build_id) != 0 : !crc || !crc_ok(e, *crc)) {
		if (mod->build_id[0])
			asc_tried_add(mod, path, "build-id %s, wanted %s: not used",
				      e->build_id[0] ? e->build_id : "missing", mod->build_id);
		else
			asc_tried_add(mod, path, "no build-id, and its CRC is another: not used");
		return false;
	}
	if (!has_debug(e, false)) {
		asc_tried_add(mod, path, "holds no symbols");
		return false;
	}
	asc_tried_add(mod, path, "used");
	mod->debug_ok = true;
	mod->debug_from = from;
	mod->debug_path = e->path;
	p->debug = asc_take(e);
	return true;
}

static bool try_debug(struct asc_modules *m, struct asc_module *mod, char *path, const char *from,
		      const uint32_t *crc)
{
	ASC_AUTO(asc_freep) char *owned = path;

	return owned && use_debug(m, mod, owned, from, crc);
}

static bool by_build_id(struct asc_modules *m, struct asc_module *mod, const char *prefix,
			const char *dir, const char *from)
{
	const char *id = mod->build_id;

	if (strlen(id) < 4)
		return false;
	return try_debug(m, mod, join("%s%s/.build-id/%.2s/%s.debug", prefix, dir, id, id + 2),
			 from, NULL);
}

/* .gnu_debuglink: a file name and the CRC of its contents. */
static bool debuglink(struct asc_elf *e, char name[static NAME_MAX + 1], uint32_t *ret_crc)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;
	size_t strndx;

	if (elf_getshdrstrndx(e->elf, &strndx))
		return false;
	while ((scn = elf_nextscn(e->elf, scn))) {
		const char *sec;
		size_t len, at;
		Elf_Data *d;

		if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_PROGBITS)
			continue;
		sec = elf_strptr(e->elf, strndx, sh.sh_name);
		if (!sec || strcmp(sec, ".gnu_debuglink"))
			continue;
		d = elf_rawdata(scn, NULL);
		if (!d || !d->d_buf || d->d_size < 8)
			return false;
		len = strnlen(d->d_buf, d->d_size);
		at = (len + 4) & ~(size_t)3;
		if (!len || len > NAME_MAX || at + 4 > d->d_size || memchr(d->d_buf, '/', len))
			return false;
		memcpy(name, d->d_buf, len + 1);
		*ret_crc = asc_load_u32((const uint8_t *)d->d_buf + at);
		return true;
	}
	return false;
}

static bool by_link(struct asc_modules *m, struct asc_module *mod, const char *prefix)
{
	char name[NAME_MAX + 1];
	ASC_AUTO(asc_freep) char *path = strdup(mod->path);
	struct asc_modpriv *p = mod->priv;
	char *slash;
	uint32_t crc;

	if (!path || !p->file || p->file->fd < 0 || !debuglink(p->file, name, &crc))
		return false;
	slash = strrchr(path, '/');
	if (!slash)
		return false;
	*slash = 0;
	return try_debug(m, mod, join("%s%s/%s", prefix, path, name), "debuglink", &crc) ||
	       try_debug(m, mod, join("%s%s/.debug/%s", prefix, path, name), "debuglink", &crc) ||
	       try_debug(m, mod, join("%s/usr/lib/debug%s/%s", prefix, path, name), "debuglink",
			 &crc) ||
	       (m->debug_dir &&
		try_debug(m, mod, join("%s%s/%s", m->debug_dir, path, name), "debuglink", &crc));
}

/* Where the target's own file system is seen from here: "" when it is the host's. */
static char *target_root(struct asc_modules *m)
{
	pid_t pid = asc_target_kind(m->t) == ASC_CORE ? 0 : asc_target_pid(m->t);

	if (m->root)
		return strdup(m->root);
	if (pid > 0)
		return join("/proc/%d/root", (int)pid);
	return NULL;
}

static bool find_debug_local(struct asc_modules *m, struct asc_module *mod)
{
	static const char dir[] = "/usr/lib/debug";
	ASC_AUTO(asc_freep) char *root = target_root(m);

	if (m->debug_dir && (by_build_id(m, mod, m->debug_dir, "", "--debug-dir") ||
			     by_build_id(m, mod, m->debug_dir, dir, "--debug-dir")))
		return true;
	if (root && by_build_id(m, mod, root, dir, "build-id"))
		return true;
	if (by_build_id(m, mod, "", dir, "build-id"))
		return true;
	return (root && by_link(m, mod, root)) || by_link(m, mod, "");
}

void asc_module_find_debug(struct asc_modules *m, struct asc_module *mod)
{
	struct asc_modpriv *p = mod->priv;
	char *path;

	if (p->tried_debug)
		return;
	p->tried_debug = true;
	asc_module_find_file(m, mod);
	if (m->opts.no_debug_files) {
		/* pretend that everything is stripped, the file itself too */
		mod->debug_ok = false;
		mod->debug_from = mod->debug_path = NULL;
		return;
	}
	if (mod->is_vdso || mod->debug_ok)
		return;
	if (!m->opts.no_local_debug && find_debug_local(m, mod))
		return;
	if (p->file && p->file->fd >= 0 && has_debug(p->file, false)) {
		use_embedded(mod); /* not stripped: names, but no types */
		return;
	}
	if (!mod->build_id[0])
		return;
	path = asc_fod_cached(mod);
	if (path && try_debug(m, mod, path, "debuginfod", NULL))
		return;
	path = asc_fod_fetch(m, mod);
	if (path)
		try_debug(m, mod, path, "debuginfod", NULL);
}

struct asc_elf *asc_module_debug_elf(struct asc_modules *m, struct asc_module *mod)
{
	struct asc_modpriv *p = mod->priv;

	asc_module_find_debug(m, mod);
	if (!mod->debug_ok)
		return NULL;
	return p->debug ? p->debug : p->file;
}

void asc_module_load(struct asc_modules *m, struct asc_module *mod, bool debug)
{
	asc_module_find_file(m, mod);
	if (debug)
		asc_module_find_debug(m, mod);
}

void asc_modules_load_all(struct asc_modules *m)
{
	bool refused = m->fod_refused;

	m->fod_refused = true;
	for (size_t i = 0; i < m->n; i++)
		asc_module_load(m, &m->v[i], true);
	m->fod_refused = refused;
}
