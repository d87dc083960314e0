/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which allocator a process uses: by what `malloc` resolves to, and by names that only one
 * allocator has. A library that is merely loaded does not count.
 */
#include "symbols/allocator.h"

#include <string.h>

#include "base/num.h"
#include "symbols/priv.h"

static const struct {
	const char *symbol, *name;
} markers[] = {
	/* in this order: ASan brings interceptors of many names */
	{ "__asan_init", "ASan" },
	{ "__hwasan_init", "ASan" },
	{ "__msan_init", "MSan" },
	{ "__tsan_init", "TSan" },
	{ "__lsan_init", "LSan" },
	{ "malloc_stats_print", "jemalloc" },
	{ "je_malloc_stats_print", "jemalloc" },
	{ "tc_malloc", "tcmalloc" },
	{ "tc_version", "tcmalloc" },
	{ "MallocExtension_Internal_GetNumericProperty", "tcmalloc" },
	{ "TCMallocInternalMalloc", "tcmalloc" },
	{ "mi_malloc", "mimalloc" },
	{ "mi_version", "mimalloc" },
	{ "rpmalloc", "rpmalloc" },
	{ "sn_rust_alloc", "snmalloc" },
	{ "scalable_malloc", "tbbmalloc" },
};

static const char *by_marker(struct asc_modules *m, struct asc_module *mod)
{
	const char *names[ASC_ARRAY_SIZE(markers)];
	struct asc_sym syms[ASC_ARRAY_SIZE(markers)];

	for (size_t i = 0; i < ASC_ARRAY_SIZE(markers); i++)
		names[i] = markers[i].symbol;
	asc_symbols_find(m, mod, names, ASC_ARRAY_SIZE(markers), syms);
	for (size_t i = 0; i < ASC_ARRAY_SIZE(markers); i++)
		if (syms[i].name[0])
			return markers[i].name;
	return NULL;
}

static bool has(const char *s, const char *part)
{
	return strstr(s, part) != NULL;
}

static const char *by_name(const struct asc_module *mod)
{
	const char *base = strrchr(mod->path, '/');

	base = base ? base + 1 : mod->path;
	if (!strcmp(mod->soname, "libc.so.6") || !strcmp(base, "libc.so.6"))
		return "glibc";
	if (!strncmp(mod->soname, "libc.musl-", 10) || !strncmp(base, "ld-musl-", 8) ||
	    (!strcmp(base, "libc.so") && has(mod->path, "musl")))
		return "musl";
	if (has(base, "libc_malloc_debug"))
		return "malloc_debug";
	if (has(base, "vgpreload_"))
		return "valgrind";
	if (has(base, "libasan") || has(base, "clang_rt.asan"))
		return "ASan";
	if (has(base, "jemalloc"))
		return "jemalloc";
	if (has(base, "tcmalloc"))
		return "tcmalloc";
	if (has(base, "mimalloc"))
		return "mimalloc";
	return NULL;
}

static struct asc_module *find_named(struct asc_modules *m, const char *name)
{
	for (size_t i = 0; i < m->n; i++) {
		const char *n = by_name(&m->v[i]);

		if (n && !strcmp(n, name))
			return &m->v[i];
	}
	return NULL;
}

const char *asc_allocator_detect(struct asc_modules *m, struct asc_target *t,
				 struct asc_module **ret)
{
	struct asc_module *mod, *unused;
	const char *name;
	struct asc_sym sym;
	struct asc_error *err;

	(void)t;
	if (!ret)
		ret = &unused;
	*ret = NULL;
	/* valgrind runs the program on a CPU of its own: its tool is the real process */
	mod = find_named(m, "valgrind");
	if (mod) {
		*ret = mod;
		return "valgrind";
	}
	mod = asc_modules_definer(m, "malloc");
	if (!mod)
		return NULL;
	*ret = mod;
	name = by_name(mod);
	if (name)
		return name;
	name = by_marker(m, mod);
	if (name)
		return name;
	if (mod->is_exe) {
		/* linked in: glibc's own leaves main_arena or its functions */
		err = asc_symbol_find(m, mod, "__libc_malloc", &sym);
		asc_error_free(err);
		if (!err)
			return "glibc";
		err = asc_symbol_find(m, mod, "__malloc_donate", &sym);
		asc_error_free(err);
		if (!err)
			return "musl";
		return asc_modules_is_dynamic(m) ? "another" : NULL;
	}
	return "another";
}
