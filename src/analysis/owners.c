/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Naming memory that is not glibc malloc's. A name is only given where the mapping's own name, its
 * neighbours or the run-time's documented layout tell: a guess by size says so in its name.
 */
#include "analysis/owners.h"

#include "arch/arch.h"
#include "base/num.h"

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool begins(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static bool is_file(const struct asc_map *m)
{
	return m->inode || m->path[0] == '/';
}

/* python3.9 and older: arenas of 256 KiB; from 3.10 on 1 MiB. "libpython3.11.so.1.0" -> 11 */
static void python_version(const char *name, struct asc_owner_facts *f)
{
	const char *p = strstr(name, "python3.");
	uint64_t minor = 0;

	if (!p)
		return;
	for (p += strlen("python3."); *p >= '0' && *p <= '9' && minor < 1000; p++)
		minor = minor * 10 + (uint64_t)(*p - '0');
	f->pymalloc_arena = minor >= 10 ? 1 << 20 : 256 << 10;
}

struct asc_owner_facts asc_owner_facts(const struct asc_ledger_in *in)
{
	struct asc_owner_facts f = { 0 };
	const char *alloc = in->allocator ? in->allocator : "";

	for (size_t i = 0; in->maps && i < in->maps->n; i++) {
		const struct asc_map *m = &in->maps->v[i];
		const char *name = base_name(m->path);

		if (m->start == 0xc000000000 && !is_file(m))
			f.go = true;
		if (!is_file(m) || !(m->flags & ASC_MAP_EXEC))
			continue;
		if (begins(name, "python3.") || begins(name, "libpython3."))
			python_version(name, &f);
		f.jvm |= begins(name, "libjvm.so");
		f.v8 |= !strcmp(name, "node") || begins(name, "libnode.so") ||
			begins(name, "libv8");
		f.jemalloc |= begins(name, "libjemalloc");
		f.tcmalloc |= begins(name, "libtcmalloc");
		f.mimalloc |= begins(name, "libmimalloc");
	}
	f.jemalloc |= !strcmp(alloc, "jemalloc");
	f.tcmalloc |= !strcmp(alloc, "tcmalloc");
	f.mimalloc |= !strcmp(alloc, "mimalloc");
	if (in->nthreads && in->threads[0].regs.valid && in->threads[0].regs.tp_valid)
		f.main_tp = in->threads[0].regs.tp;
	return f;
}

/* The .bss of a module: anonymous memory that continues its data segment. */
static bool is_bss(const struct asc_maps *maps, size_t i)
{
	const struct asc_map *m = &maps->v[i], *before;

	if (!i || m->path[0] || (m->flags_known && !(m->flags & ASC_MAP_WRITE)))
		return false;
	before = &maps->v[i - 1];
	return before->end == m->start && is_file(before) && !(before->flags & ASC_MAP_SHARED) &&
	       (before->flags & ASC_MAP_WRITE);
}

/* NPTL keeps the stacks of ended threads: same size as a live one, behind its own guard. */
static bool is_idle_stack(const struct asc_maps *maps, size_t i, const struct asc_owner_facts *f)
{
	const struct asc_map *m = &maps->v[i], *guard;

	if (!i || !f->stack_size)
		return false;
	guard = &maps->v[i - 1];
	return guard->end == m->start && !is_file(guard) && guard->flags_known &&
	       !(guard->flags & (ASC_MAP_READ | ASC_MAP_WRITE | ASC_MAP_EXEC)) &&
	       m->end - guard->start == f->stack_size;
}

static const char *java_name(const struct asc_map *m)
{
	const asc_addr gib = 1ull << 30;

	if (m->flags & ASC_MAP_EXEC)
		return "JVM code cache";
	/* with compressed pointers the heap lies below 32 GiB and the class space right behind */
	if (m->start < 32 * gib)
		return "Java heap (by address)";
	if (m->start < 36 * gib)
		return "JVM class space (by address)";
	return NULL;
}

static const char *anon_name(const struct asc_maps *maps, size_t i, struct asc_range piece,
			     const struct asc_owner_facts *f)
{
	const struct asc_map *m = &maps->v[i];
	/* neighbours that look alike share a mapping: the size is that of what malloc left of it */
	const uint64_t size = piece.len;

	if (begins(m->path, "[heap]"))
		return "brk memory that is not malloc's";
	if (begins(m->path, "[stack"))
		return "stack of no known thread";
	if (m->path[0])
		return m->path;
	if (is_bss(maps, i))
		return ".bss of programs and libraries";
	if (f->main_tp >= m->start && f->main_tp < m->end)
		return "thread-local storage of the main thread";
	if (is_idle_stack(maps, i, f))
		return "stacks of ended threads, kept for new ones";
	if (f->jvm && java_name(m))
		return java_name(m);
	if (f->go && m->start >= 0xc000000000 && m->start < 0x10000000000)
		return "Go heap (by address)";
	if (f->v8 && !(piece.addr % (256 << 10)) && !(size % (256 << 10)))
		return "V8 heap pages (by alignment)";
	if (f->pymalloc_arena && !(size % f->pymalloc_arena) && (m->flags & ASC_MAP_WRITE))
		return "Python object arenas (by size)";
	if (f->jemalloc && (m->flags & ASC_MAP_WRITE) && size >= 2 << 20)
		return "jemalloc (by size)";
	if (f->tcmalloc && (m->flags & ASC_MAP_WRITE) && size >= 1 << 20)
		return "tcmalloc (by size)";
	if (f->mimalloc && (m->flags & ASC_MAP_WRITE) && !(piece.addr % (4 << 20)))
		return "mimalloc (by alignment)";
	return NULL;
}

enum asc_owner asc_owner_of(const struct asc_maps *maps, size_t i, struct asc_range piece,
			    const struct asc_owner_facts *f, const char **ret_name)
{
	static const char *const memory[] = { "/dev/zero",	"/memfd:",     "/SYSV", "/dev/shm/",
					      "/anon_hugepage", "anon_inode:", "/[aio]" };
	const struct asc_map *m = &maps->v[i];

	/* pages without a struct page: present in the page table, but in nobody's Rss */
	if (begins(m->path, "[vvar") || begins(m->path, "[vsyscall]"))
		return ASC_OWNER_NONE;
	for (size_t k = 0; k < ASC_ARRAY_SIZE(memory); k++)
		if (begins(m->path, memory[k]))
			return ASC_OWNER_SHARED;
	if (begins(m->path, "[anon_shmem"))
		return ASC_OWNER_SHARED;
	if (is_file(m))
		return ASC_OWNER_FILE;
	if (m->flags & ASC_MAP_SHARED)
		return ASC_OWNER_SHARED;
	*ret_name = anon_name(maps, i, piece, f);
	return *ret_name ? ASC_OWNER_OTHER : ASC_OWNER_UNKNOWN;
}
