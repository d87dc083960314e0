/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every copy of glibc in a target, and what is known of its malloc: addresses from symbols, shapes
 * from DWARF; without a debug file shapes from the table and addresses from a scan (scan.c). What
 * symbols of the right build-id say is a fact; anything guessed has to pass asc_libc_verify().
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "glibc/scan.h"
#include "symbols/allocator.h"
#include "symbols/elffile.h"
#include "symbols/tls.h"
#include "symbols/types.h"

enum { LIBCS_MAX = 16 };

void asc_libc_fact(struct asc_libc *lib, const char *name, const char *from, uint64_t value)
{
	struct asc_fact *f;

	for (size_t i = 0; i < lib->nfacts; i++)
		if (!strcmp(lib->facts[i].name, name)) {
			lib->facts[i].value = value;
			snprintf(lib->facts[i].from, sizeof(lib->facts[i].from), "%s", from);
			return;
		}
	if (lib->nfacts == ASC_ARRAY_SIZE(lib->facts))
		return;
	f = &lib->facts[lib->nfacts++];
	snprintf(f->name, sizeof(f->name), "%.*s", (int)sizeof(f->name) - 1, name);
	snprintf(f->from, sizeof(f->from), "%s", from);
	f->value = value;
}

/* ---- shapes from DWARF ---- */

static struct asc_error *layout_dwarf(struct asc_modules *m, struct asc_module *mod, asc_addr code,
				      struct asc_layout *ret)
{
	static const char *const structs[] = {
#define S(type) #type,
#define M(type, member, need)
#include "glibc/schema.def"
#undef S
#undef M
		NULL,
	};
	enum { REQUIRED, OPTIONAL };
	struct asc_layout l = { .from = ASC_FROM_DWARF };
	struct asc_types *types;
	const char *missing = NULL;
	struct asc_field f;

	ASC_TRY(asc_types_open(m, mod, structs, code, &types));
#define S(type) asc_type_size(types, #type, &l.sizeof_##type);
#define M(type, member, need)                                                                      \
	f = (struct asc_field){ 0 };                                                               \
	f.present = asc_type_member(types, #type, #member, &f.off, &f.size, &f.elem);              \
	if (!f.present && (need) == REQUIRED)                                                      \
		missing = #type "." #member;                                                       \
	l.type##_##member = f;
#include "glibc/schema.def"
#undef S
#undef M
	asc_types_close(types);
	if (missing)
		return asc_err(ASC_ENOSYM, "the DWARF of %s has no %s", mod->path, missing);
	if (!asc_layout_sane(&l))
		return asc_err(ASC_ENOSYM, "the DWARF of %s describes no known malloc", mod->path);
	*ret = l;
	return NULL;
}

/* ---- addresses from symbols ---- */

struct want {
	const char *name;
	size_t off; /* of an asc_addr in struct asc_libc */
};
#define WANT(name, field)                                                                          \
	{                                                                                          \
		name, offsetof(struct asc_libc, field)                                             \
	}
static const struct want wants[] = {
	WANT("main_arena", main_arena),
	WANT("mp_", mp),
	WANT("__curbrk", curbrk),
	WANT("narenas", narenas),
	WANT("free_list", free_list),
	WANT("list_lock", list_lock),
	WANT("free_list_lock", free_list_lock),
	WANT("global_max_fast", global_max_fast),
	WANT("tcache_key", tcache_key),
	WANT("__tcache_dummy", tcache_dummy),
	WANT("__libc_single_threaded", single_threaded),
	WANT("__libc_multiple_threads", multiple_threads),
	WANT("__always_fail_morecore", always_fail_morecore),
	WANT("__malloc_initialized", malloc_initialized),
};
/* thread-locals, and a function of malloc.c */
enum { THREAD_ARENA = ASC_ARRAY_SIZE(wants), TSD_MALLOC, TCACHE, MALLOC, NNAMES };

static void take_addresses(struct asc_libc *lib, const struct asc_sym *syms)
{
	for (size_t i = 0; i < ASC_ARRAY_SIZE(wants); i++) {
		if (!syms[i].name[0] || syms[i].type == STT_TLS)
			continue;
		memcpy((char *)lib + wants[i].off, &syms[i].addr, sizeof(asc_addr));
		asc_libc_fact(lib, wants[i].name,
			      syms[i].from_debug ? ".symtab of the debug file" : "symbol table",
			      syms[i].addr);
		if (!strcmp(wants[i].name, "global_max_fast"))
			lib->global_max_fast_size = (uint8_t)asc_min(syms[i].size, 8);
	}
}

static void take_tls(struct asc_libc *lib, const struct asc_sym *syms)
{
	const struct asc_sym *arena = &syms[THREAD_ARENA];

	if (!arena->name[0])
		arena = &syms[TSD_MALLOC];
	if (arena->name[0] && arena->type == STT_TLS) {
		lib->thread_arena_off = arena->addr;
		asc_libc_fact(lib, arena->name, "TLS symbol", arena->addr);
	}
	if (syms[TCACHE].name[0] && syms[TCACHE].type == STT_TLS) {
		lib->tcache_off = syms[TCACHE].addr;
		asc_libc_fact(lib, "tcache", "TLS symbol", syms[TCACHE].addr);
	}
}

/* A function-local static carries a number: narenas_limit.3 */
static void take_locals(struct asc_modules *m, struct asc_libc *lib)
{
	const char *prefix = "narenas_limit";
	struct asc_sym sym;

	if (asc_symbols_prefix(m, lib->module, &prefix, 1, &sym, 1)) {
		lib->narenas_limit = sym.addr;
		asc_libc_fact(lib, "narenas_limit", ".symtab of the debug file", sym.addr);
	}
}

static void tls_offset(struct asc_modules *m, struct asc_libc *lib)
{
	const char *how;
	struct asc_error *err;

	err = asc_tls_offset(m, lib->module, &lib->tls_offset, &how);
	if (!err)
		asc_libc_fact(lib, "tls_offset", how, lib->tls_offset);
	asc_error_free(err);
	lib->tls_known = !err && lib->thread_arena_off != UINT64_MAX;
}

static void version(struct asc_modules *m, struct asc_libc *lib)
{
	char banner[128];

	if (!asc_libc_banner(m, lib->module, banner, sizeof(banner), &lib->major, &lib->minor))
		return;
	snprintf(lib->version, sizeof(lib->version), "%u.%u", lib->major, lib->minor);
}

/* ABI facts of the arch when only addresses were found. */
static struct asc_error *layout_table(struct asc_target *t, struct asc_libc *lib)
{
	if (!lib->minor)
		return asc_err(ASC_ENOSYM, "the version of %s is not known", lib->module->path);
	return asc_layout_table(asc_target_arch(t), lib->minor, &lib->layout);
}

static bool cached(struct asc_target *t, struct asc_libc *lib)
{
	struct asc_error *err;

	if (!asc_layout_cache_get(asc_target_arch(t), lib->build_id, &lib->layout))
		return false;
	asc_layout_traits(&lib->layout, asc_target_arch(t), lib->minor);
	err = asc_libc_verify(t, lib);
	asc_error_free(err);
	if (!err)
		asc_libc_fact(lib, "layout", "DWARF of the debug file, cached", 0);
	return !err;
}

static struct asc_error *by_symbols(struct asc_modules *m, struct asc_target *t,
				    struct asc_libc *lib)
{
	const char *names[NNAMES] = {
		[THREAD_ARENA] = "thread_arena",
		[TSD_MALLOC] = "__libc_tsd_MALLOC",
		[TCACHE] = "tcache",
		[MALLOC] = "malloc",
	};
	struct asc_sym syms[NNAMES];
	struct asc_error *err;

	for (size_t i = 0; i < ASC_ARRAY_SIZE(wants); i++)
		names[i] = wants[i].name;
	asc_symbols_find(m, lib->module, names, NNAMES, syms);
	take_addresses(lib, syms);
	take_tls(lib, syms);
	take_locals(m, lib);
	tls_offset(m, lib);
	if (!lib->main_arena || !lib->mp)
		return asc_err(ASC_ENOSYM, "no symbols main_arena and mp_ for %s",
			       lib->module->path);
	if (cached(t, lib))
		return NULL;
	err = layout_dwarf(m, lib->module, syms[MALLOC].addr, &lib->layout);
	if (!err) {
		asc_layout_cache_put(asc_target_arch(t), lib->build_id, &lib->layout);
		asc_layout_traits(&lib->layout, asc_target_arch(t), lib->minor);
		asc_libc_fact(lib, "layout", "DWARF of the debug file", 0);
		return lib->module->assumed ? asc_libc_verify(t, lib) : NULL;
	}
	asc_error_free(err);
	ASC_TRY(layout_table(t, lib));
	asc_libc_fact(lib, "layout", "built-in table", 0);
	return asc_libc_verify(t, lib);
}

/* ---- what was tried, for people ---- */

static struct asc_error *refuse(struct asc_modules *m, struct asc_module *mod,
				struct asc_error *cause)
{
	ASC_AUTO(asc_freep) char *advice = asc_module_advice(m, mod);
	bool foreign = mod->ntried && !mod->file_ok &&
		       asc_target_kind(asc_modules_target(m)) == ASC_CORE;
	struct asc_error *err;

	err = asc_wrap(cause, "cannot find malloc's structures in %s (build-id %s)",
		       mod->path[0] ? mod->path : "libc",
		       mod->build_id[0] ? mod->build_id : "unknown");
	err->code = ASC_ENOSYM;
	err = asc_err_id(err, foreign ? "E-WRONGLIBC" : "E-NOSYM");
	for (size_t i = 0; i < mod->ntried; i++)
		if (strstr(mod->tried[i].result, "build-id"))
			err = asc_err_why(err, "%s: %s", mod->tried[i].what, mod->tried[i].result);
	if (advice)
		err = asc_err_try(err, "%s", advice);
	return err;
}

static bool may_be_libc(const struct asc_module *mod)
{
	const char *base = strrchr(mod->path, '/');

	if (mod->soname[0])
		return !strcmp(mod->soname, "libc.so.6");
	/* a core without the pages that hold the name */
	base = base ? base + 1 : mod->path;
	return !strcmp(base, "libc.so.6") || !strncmp(base, "libc-2.", 7);
}

/* A file that the user named and that is another build: say so, rather than go on without it. */
static struct asc_error *check_given(struct asc_modules *m, const struct asc_module *mod)
{
	const char *given = asc_modules_opts(m)->libc;

	if (!given || !may_be_libc(mod))
		return NULL;
	for (size_t i = 0; i < mod->ntried; i++)
		if (!strcmp(mod->tried[i].what, given) &&
		    strcmp(mod->tried[i].result, "used") != 0) {
			struct asc_error *err =
				asc_err(ASC_ENOSYM, "--libc=%s is not the target's libc", given);

			err = asc_err_why(asc_err_id(err, "E-BUILDID"), "%s", mod->tried[i].result);
			return asc_err_try(err, "the libc of the system where the process ran; "
						"--root=DIR for a copy of its file system");
		}
	return NULL;
}

/* Keep what symbols said beside what the scan found, if they speak of the same arena. */
static void merge(struct asc_libc *lib, const struct asc_libc *symbols)
{
	if (symbols->main_arena != lib->main_arena || symbols->mp != lib->mp)
		return;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(wants); i++) {
		asc_addr addr;

		memcpy(&addr, (const char *)symbols + wants[i].off, sizeof(addr));
		if (addr)
			memcpy((char *)lib + wants[i].off, &addr, sizeof(addr));
	}
	lib->narenas_limit = symbols->narenas_limit;
	lib->global_max_fast_size = symbols->global_max_fast_size;
	if (symbols->tls_known) {
		lib->tls_known = true;
		lib->tls_offset = symbols->tls_offset;
		lib->thread_arena_off = symbols->thread_arena_off;
		lib->tcache_off = symbols->tcache_off;
	}
	for (size_t i = 0; i < symbols->nfacts; i++)
		asc_libc_fact(lib, symbols->facts[i].name, symbols->facts[i].from,
			      symbols->facts[i].value);
}

static struct asc_error *libc_of(struct asc_modules *m, struct asc_target *t,
				 struct asc_module *mod, struct asc_libc *ret)
{
	struct asc_libc *lib = ret, symbols;
	struct asc_error *err;

	*lib = (struct asc_libc){
		.module = mod,
		.thread_arena_off = UINT64_MAX,
		.tcache_off = UINT64_MAX,
	};
	asc_module_load(m, mod, true);
	ASC_TRY(check_given(m, mod));
	snprintf(lib->build_id, sizeof(lib->build_id), "%s", mod->build_id);
	version(m, lib);
	err = by_symbols(m, t, lib);
	if (!err)
		return NULL;
	asc_error_free(err);
	symbols = *lib;
	ASC_TRY(asc_libc_scan(m, t, mod, lib));
	merge(lib, &symbols);
	return NULL;
}

/* ---- finding them ---- */

typedef ASC_VEC(struct asc_libc) libc_vec;

/* One candidate: found goes to @p v, the first refusal to @p ret_first. */
static struct asc_error *try_module(struct asc_modules *m, struct asc_target *t,
				    struct asc_module *mod, libc_vec *v,
				    struct asc_error **ret_first)
{
	struct asc_error *err;
	struct asc_libc lib;

	err = libc_of(m, t, mod, &lib);
	if (!err)
		return asc_vec_push(v, lib);
	if (err->code == ASC_ENOMEM)
		return err;
	if (*ret_first)
		asc_error_free(err);
	else
		*ret_first = asc_error_id(err) ? err : refuse(m, mod, err);
	return NULL;
}

/*
 * A program that is its own libc. Stripped of its symbols it does not say that it is glibc; finding
 * main_arena and mp_ says it.
 */
static struct asc_error *try_static(struct asc_modules *m, struct asc_target *t, libc_vec *v,
				    struct asc_error **ret_first)
{
	struct asc_module *exe = asc_modules_exe(m);
	struct asc_error *first = NULL, *err;
	struct asc_sym sym;

	if (!exe || asc_modules_is_dynamic(m))
		return NULL;
	ASC_TRY(try_module(m, t, exe, v, &first));
	if (!first)
		return NULL;
	err = asc_symbol_find(m, exe, "main_arena", &sym);
	if (err || *ret_first)
		asc_error_free(first);
	else
		*ret_first = first;
	asc_error_free(err);
	return NULL;
}

bool asc_libc_unused(struct asc_target *t, const struct asc_libc *lib)
{
	struct asc_error *err;
	uint64_t bytes;

	err = asc_read_word(t, lib->main_arena + lib->layout.malloc_state_system_mem.off, &bytes);
	asc_error_free(err);
	return !err && !bytes;
}

/*
 * MALLOC_CHECK_ and its kin: from 2.34 on a library of their own with a main_arena of its own, which
 * counts only once it is used.
 */
static struct asc_error *try_checking(struct asc_modules *m, struct asc_target *t, libc_vec *v)
{
	struct asc_module *mod = asc_modules_soname(m, "libc_malloc_debug.so.0", 0);
	struct asc_libc lib = { .module = mod,
				.thread_arena_off = UINT64_MAX,
				.tcache_off = UINT64_MAX };
	struct asc_error *err;

	if (!mod || !v->len || v->len == LIBCS_MAX)
		return NULL;
	asc_module_load(m, mod, true);
	snprintf(lib.build_id, sizeof(lib.build_id), "%s", mod->build_id);
	memcpy(lib.version, v->data[0].version, sizeof(lib.version));
	lib.major = v->data[0].major;
	lib.minor = v->data[0].minor;
	err = by_symbols(m, t, &lib);
	if (!err && !asc_libc_unused(t, &lib))
		return asc_vec_push(v, lib);
	asc_error_free(err);
	return NULL;
}

/* The one that the program's own malloc calls reach comes first. */
static void primary_first(struct asc_modules *m, libc_vec *v)
{
	struct asc_module *mod = asc_modules_definer(m, "malloc");
	size_t k = 0;

	for (size_t i = 0; i < v->len; i++)
		if (mod && v->data[i].module == mod)
			k = i;
	if (v->len) {
		struct asc_libc lib = v->data[k];

		memmove(v->data + 1, v->data, k * sizeof(*v->data));
		v->data[0] = lib;
		/* with another allocator in front, libc is still the one that matters */
		v->data[0].primary = true;
	}
}

/* A core in which not even a libc's name is left, or nothing but its name. */
static struct asc_error *try_anywhere(struct asc_modules *m, struct asc_target *t, libc_vec *v)
{
	struct asc_libc lib = { .thread_arena_off = UINT64_MAX, .tcache_off = UINT64_MAX };
	struct asc_error *err;

	if (asc_target_kind(t) != ASC_CORE)
		return NULL;
	err = asc_libc_scan(m, t, NULL, &lib);
	if (!err)
		return asc_vec_push(v, lib);
	if (err->code == ASC_ENOMEM)
		return err;
	asc_error_free(err);
	return NULL;
}

/* No file says what shape libc has: only then a shape that memory shows contradicts nothing. */
static bool nameless(struct asc_modules *m)
{
	for (size_t i = 0; i < asc_modules_count(m); i++)
		if (may_be_libc(asc_modules_get(m, i)) && asc_module_elf(m, asc_modules_get(m, i)))
			return false;
	return true;
}

static struct asc_error *none(struct asc_modules *m, struct asc_target *t)
{
	struct asc_module *mod = NULL;
	const char *name = asc_allocator_detect(m, t, &mod);
	struct asc_error *err;

	if (name && !strcmp(name, "musl")) {
		err = asc_err(ASC_EUNSUPPORTED, "the process uses musl, not glibc");
		err = asc_err_why(asc_err_id(err, "E-MUSL"),
				  mod && mod->is_exe ? "it is linked into %s"
						     : "its C library is %s",
				  mod && mod->path[0] ? mod->path : "musl");
	} else if (name && strcmp(name, "glibc")) {
		err = asc_err(ASC_EUNSUPPORTED, "this program's malloc is %s, not glibc's", name);
		err = asc_err_why(asc_err_id(err, "E-ALLOCATOR"),
				  "it is linked into %s; there are no arenas of glibc's, 0.0%% of "
				  "RSS",
				  mod && mod->path[0] ? mod->path : "the program");
	} else {
		err = asc_err(ASC_EUNSUPPORTED, "no malloc of glibc's in this process");
		err = asc_err_why(
			asc_err_id(err, "E-NOGLIBC"),
			"none of %zu mapped modules has the SONAME libc.so.6, and in the program "
			"itself there is no arena of a static glibc",
			asc_modules_count(m));
	}
	return asc_err_try(err, "rss, threads and stacks work for it");
}

struct asc_error *asc_libc_find(struct asc_modules *m, struct asc_target *t, struct asc_libc **ret,
				size_t *ret_n)
{
	ASC_AUTO(asc_error_freep) struct asc_error *first = NULL;
	struct asc_error *err = NULL;
	libc_vec v = { 0 };

	for (size_t i = 0; !err && i < asc_modules_count(m) && v.len < LIBCS_MAX; i++)
		if (may_be_libc(asc_modules_get(m, i)))
			err = try_module(m, t, asc_modules_get(m, i), &v, &first);
	if (!err)
		err = try_static(m, t, &v, &first);
	if (!err)
		err = try_checking(m, t, &v);
	if (!err && !v.len && (!first || nameless(m)))
		err = try_anywhere(m, t, &v);
	if (!err && !v.len && !first)
		first = none(m, t);
	if (!err && !v.len)
		err = asc_take(first);
	if (err) {
		asc_vec_free(&v);
		return err;
	}
	primary_first(m, &v);
	*ret = v.data;
	*ret_n = v.len;
	return NULL;
}
