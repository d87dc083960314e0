/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which allocator a process uses: by what `malloc` resolves to, and by names that only one
 * allocator has. A library that is merely loaded does not count.
 */
#include "symbols/allocator.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
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

/* What an allocator says of itself: all that is left of one that was linked in and stripped. */
static const struct {
	const char *text, *name;
} texts[] = {
	{ "<jemalloc>: ", "jemalloc" },
	{ "tcmalloc.max_total_thread_cache_bytes", "tcmalloc" },
	{ "mimalloc: error: ", "mimalloc" },
	{ "\xff Go buildinf:", "Go" },
};

static const char *in_text(const char *buf, size_t n)
{
	for (size_t i = 0; i < ASC_ARRAY_SIZE(texts); i++)
		if (memmem(buf, n, texts[i].text, strlen(texts[i].text)))
			return texts[i].name;
	return NULL;
}

static const char *by_text(struct asc_modules *m, struct asc_module *mod)
{
	enum { PIECE = 256 << 10, OVERLAP = 64, SEGMENT_MAX = 64 << 20 };
	ASC_AUTO(asc_freep) char *buf = malloc(PIECE);
	struct asc_elf *e = asc_module_elf(m, mod);
	const char *name = NULL;

	for (size_t i = 0; buf && e && i < e->nph && !name; i++) {
		const GElf_Phdr *p = &e->ph[i];
		size_t n = 0;

		if (p->p_type != PT_LOAD || p->p_filesz > SEGMENT_MAX)
			continue;
		for (uint64_t at = 0; at < p->p_filesz && !name; at += n - OVERLAP) {
			n = asc_elf_read(e, p->p_vaddr + at, buf,
					 (size_t)asc_min(PIECE, p->p_filesz - at));
			name = in_text(buf, n);
			if (n <= OVERLAP)
				break;
		}
	}
	return name;
}

static bool has_symbol(struct asc_modules *m, struct asc_module *mod, const char *name)
{
	struct asc_sym sym;

	asc_symbols_find(m, mod, &name, 1, &sym);
	return sym.name[0];
}

/* malloc is the program's own: linked in, with glibc or instead of it. */
static const char *linked_in(struct asc_modules *m, struct asc_module *exe)
{
	const char *name;

	/* others define __libc_malloc too */
	if (!asc_modules_is_dynamic(m) && has_symbol(m, exe, "main_arena"))
		return "glibc";
	name = by_text(m, exe);
	if (name)
		return name;
	/* mallocng, and the one before it */
	if (has_symbol(m, exe, "__malloc_donate") || has_symbol(m, exe, "__libc_malloc_impl"))
		return "musl";
	return asc_modules_is_dynamic(m) ? "another" : NULL;
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
	if (!mod) {
		/* a static program without symbols */
		mod = asc_modules_exe(m);
		name = mod ? by_text(m, mod) : NULL;
		*ret = name ? mod : NULL;
		return name;
	}
	*ret = mod;
	name = by_name(mod);
	if (name)
		return name;
	name = by_marker(m, mod);
	if (name)
		return name;
	return mod->is_exe ? linked_in(m, mod) : "another";
}
