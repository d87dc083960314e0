/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * malloc's structures without a debug file: from the stripped file, else from memory; then the
 * threads' TLS. Every result passes the invariants before it is used.
 */
#include "glibc/scan.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"

/* libc-2.31.so: up to 2.33 the file's name tells; good where the banner's page is not in a core. */
static void version_by_name(struct asc_libc *lib)
{
	const char *base = strrchr(lib->module->path, '/');
	unsigned minor = 0, digits = 0;

	base = base ? base + 1 : lib->module->path;
	if (lib->minor || strncmp(base, "libc-2.", 7) != 0)
		return;
	for (base += 7; *base >= '0' && *base <= '9' && digits < 3; base++, digits++)
		minor = minor * 10 + (unsigned)(*base - '0');
	if (!digits || strcmp(base, ".so") != 0)
		return;
	lib->major = 2;
	lib->minor = minor;
	snprintf(lib->version, sizeof(lib->version), "2.%u", minor);
}

/* Taken if the shape that was found is that of this release. */
static void version_by_string(struct asc_modules *m, struct asc_target *t, struct asc_libc *lib)
{
	struct asc_layout l, was = lib->layout;
	struct asc_error *err;
	unsigned minor;

	if (lib->minor || !asc_libc_version_string(m, lib->module, &minor))
		return;
	err = asc_layout_table(asc_target_arch(t), minor, &l);
	if (!err && l.sizeof_malloc_state == was.sizeof_malloc_state &&
	    l.malloc_state_bins.off == was.malloc_state_bins.off &&
	    l.sizeof_malloc_par == was.sizeof_malloc_par &&
	    l.sizeof__heap_info == was.sizeof__heap_info) {
		lib->major = 2;
		lib->minor = minor;
		snprintf(lib->version, sizeof(lib->version), "2.%u", minor);
		lib->layout = l;
		lib->layout.from = ASC_FROM_SCAN;
	}
	asc_error_free(err);
}

/* What the dynamic linker sees is there in a stripped libc too. */
static void exported(struct asc_modules *m, struct asc_libc *lib)
{
	static const struct {
		const char *name;
		size_t off;
	} wants[] = {
		{ "__curbrk", offsetof(struct asc_libc, curbrk) },
		{ "__libc_single_threaded", offsetof(struct asc_libc, single_threaded) },
	};
	struct asc_error *err;
	struct asc_sym sym;

	for (size_t i = 0; i < ASC_ARRAY_SIZE(wants); i++) {
		err = asc_symbol_find_dynamic(m, lib->module, wants[i].name, &sym);
		if (!err) {
			memcpy((char *)lib + wants[i].off, &sym.addr, sizeof(sym.addr));
			asc_libc_fact(lib, wants[i].name, ".dynsym", sym.addr);
		}
		asc_error_free(err);
	}
}

/* Registers, for the thread pointers: a running process is stopped for the moment it takes. */
static struct asc_error *tls(struct asc_modules *m, struct asc_target *t, struct asc_libc *lib)
{
	bool stop = asc_target_kind(t) == ASC_LIVE && !asc_target_is_stopped(t);
	struct asc_pause pause = { 0 };
	struct asc_error *err;

	if (stop)
		ASC_TRY(asc_target_stop(t, NULL));
	err = asc_scan_tls(m, t, lib);
	if (stop) {
		asc_target_release(t, &pause);
		lib->scan_pause_ms = pause.ms;
	}
	return err;
}

static struct asc_error *verified(struct asc_target *t, const struct asc_libc *lib)
{
	struct asc_error *err = asc_libc_verify(t, lib);

	return err ? asc_wrap(err, "what the scan found does not look like malloc's state") : NULL;
}

struct asc_error *asc_libc_scan(struct asc_modules *m, struct asc_target *t, struct asc_module *mod,
				struct asc_libc *lib)
{
	struct asc_elf *e = mod ? asc_module_elf(m, mod) : NULL;
	struct asc_error *err = NULL, *err2;

	lib->module = mod;
	lib->main_arena = lib->mp = 0;
	lib->nfacts = 0;
	if (mod) {
		version_by_name(lib);
		exported(m, lib);
	}
	if (e)
		err = asc_scan_file(m, t, e, lib);
	if (!err && e)
		err = verified(t, lib);
	/* no file but its image: memory has the last word. A shape that a file refuses is refused */
	if (!e || (err && e->relocated)) {
		asc_error_free(err);
		err = asc_scan_memory(t, lib);
		if (!err)
			err = verified(t, lib);
	}
	if (err)
		return err;
	if (mod && mod->is_exe)
		version_by_string(m, t, lib);
	asc_libc_fact(lib, "layout",
		      lib->layout.from == ASC_FROM_TABLE ? "built-in table, by version"
							 : "built-in table, by shape",
		      0);
	err2 = tls(m, t, lib);
	if (err2 && err2->code == ASC_ENOMEM)
		return err2;
	asc_error_free(err2); /* without thread-locals everything but tcaches is known */
	if (!lib->tls_known)
		asc_layout_traits(&lib->layout, asc_target_arch(t), asc_layout_known(lib->minor));
	return NULL;
}
