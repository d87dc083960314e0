/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Modules: the ELF files mapped into a target, with build-ids from the mapped image, and the files
 * and debug files that were found for them (INTERFACE section 8). One libdwfl session inside.
 * Everything slow happens here, before the target is stopped.
 */
#ifndef ASC_SYMBOLS_MODULES_H
#define ASC_SYMBOLS_MODULES_H

#include "arenascope/target.h"

enum asc_debuginfod { ASC_DEBUGINFOD_OFF, ASC_DEBUGINFOD_ASK, ASC_DEBUGINFOD_ON };

struct asc_symbol_opts {
	const char *root;      /* --root: prefix for the target's files, or NULL */
	const char *debug_dir; /* --debug-dir or NULL */
	const char *libc;      /* --libc: file to use for the target's libc, or NULL */
	const char *exe;       /* --exe or NULL */
	enum asc_debuginfod debuginfod;
	unsigned timeout_ms; /* --symbols-timeout */
	bool no_debug_files; /* tests: pretend that no debug file exists */
	bool no_local_debug; /* tests: debug files come from debuginfod only */
	bool no_files;	     /* tests: nor any other file: memory is all there is */
	/* ask the user; NULL in batch. @return true to go on */
	bool (*ask)(void *arg, const char *question);
	/* progress of a download, may be NULL; @return false to stop it */
	bool (*progress)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};

/* One thing that was tried and what came of it: `symbols` prints these. */
struct asc_tried {
	char *what;   /* path or URL */
	char *result; /* "used", "no such file", "build-id is ..., wanted ..." */
};

struct asc_module {
	const char *path;    /* as the target names it; "" for the vDSO and unnamed */
	const char *soname;  /* DT_SONAME or "" */
	char build_id[65];   /* hex, "" if the image has none */
	asc_addr start, end; /* mapped extent */
	asc_addr bias;	     /* add to an ELF address of the file to get a target address */
	bool is_exe, is_vdso, deleted;
	bool assumed; /* its build-id is that of the file the user named: the image's is not known */
	bool file_ok;  /* an ELF file with the same build-id was opened */
	bool debug_ok; /* a debug file (or .debug_info/.symtab in the file itself) was opened */
	const char *file_path, *debug_path; /* the host paths used, or NULL */
	const char *
		file_from; /* "map_files", "root", "host", "--libc", "memory", "debuginfod" or NULL */
	const char *
		debug_from; /* "embedded", "build-id", "debuglink", "--debug-dir", "debuginfod" or NULL */
	const struct asc_tried *tried;
	size_t ntried;
	void *priv;
};

struct asc_modules;

/* Look at the maps of @p t (borrowed: must outlive the modules, or be replaced by asc_modules_retarget). */
ASC_MUST struct asc_error *asc_modules_open(struct asc_target *t,
					    const struct asc_symbol_opts *opts,
					    struct asc_modules **ret);
void asc_modules_close(struct asc_modules *m);
/* From now on read memory through @p t (a capture of the same process). */
void asc_modules_retarget(struct asc_modules *m, struct asc_target *t);

size_t asc_modules_count(const struct asc_modules *m);
struct asc_module *asc_modules_get(struct asc_modules *m, size_t i);
/* The module mapped at @p addr, or NULL. */
struct asc_module *asc_modules_at(struct asc_modules *m, asc_addr addr);

/* Open the module's file, and with @p debug its debug file, if that was not tried yet. */
void asc_module_load(struct asc_modules *m, struct asc_module *mod, bool debug);
/* Every module, without asking any server. */
void asc_modules_load_all(struct asc_modules *m);
/* The module's ELF image: its file, else what is mapped of it; borrowed, NULL if neither can be had. */
struct asc_elf;
struct asc_elf *asc_module_elf(struct asc_modules *m, struct asc_module *mod);
struct asc_elf *asc_module_debug_elf(struct asc_modules *m, struct asc_module *mod);
/* The module with DT_SONAME @p soname: the @p nth one (dlmopen makes several), or NULL. */
struct asc_module *asc_modules_soname(struct asc_modules *m, const char *soname, size_t nth);
struct asc_module *asc_modules_exe(struct asc_modules *m);
/* Size of the module's PT_TLS. @return false: it has none, or its headers are not known */
bool asc_module_tls_size(const struct asc_module *mod, uint64_t *ret);
/* A dynamic linker has loaded something into this process. */
bool asc_modules_is_dynamic(struct asc_modules *m);
struct asc_target *asc_modules_target(struct asc_modules *m);
const struct asc_symbol_opts *asc_modules_opts(const struct asc_modules *m);
/*
 * How to get the missing debug file: build-id, and the package of the target's distribution.
 * Owned text, lines separated by '\n'; NULL when nothing is missing or without memory.
 */
char *asc_module_advice(struct asc_modules *m, struct asc_module *mod);

struct asc_sym {
	char name[256];
	asc_addr addr; /* target address; for TLS: offset in the module's TLS block */
	uint64_t size;
	uint8_t type;	 /* STT_* */
	bool from_debug; /* .symtab of the debug file (else .dynsym/.symtab of the file) */
};

/* By exact name ("main_arena", also local and TLS symbols). ASC_ENOTFOUND if there is none. */
ASC_MUST struct asc_error *asc_symbol_find(struct asc_modules *m, struct asc_module *mod,
					   const char *name, struct asc_sym *ret);
/* Only what the dynamic linker sees: defined, global or weak, in the dynamic symbol table. */
ASC_MUST struct asc_error *asc_symbol_find_dynamic(struct asc_modules *m, struct asc_module *mod,
						   const char *name, struct asc_sym *ret);
/* Many names in one pass over the tables; ret[i].name is "" where names[i] was not found. */
void asc_symbols_find(struct asc_modules *m, struct asc_module *mod, const char *const *names,
		      size_t n, struct asc_sym *ret);
/* Every symbol of @p mod whose name begins with one of @p prefixes, up to @p max. Returns how many. */
size_t asc_symbols_prefix(struct asc_modules *m, struct asc_module *mod,
			  const char *const *prefixes, size_t nprefixes, struct asc_sym *ret,
			  size_t max);

/* What stands at an address, for stacks and `find`. Every string is owned by the modules. */
struct asc_place {
	const char *function; /* demangled where known, or NULL */
	uint64_t offset;      /* from the function's start (or the module's) */
	const char *module;   /* path or NULL */
	const char *file;     /* source, or NULL */
	int line;	      /* 0: unknown */
};

/* @p want_line: also look in .debug_line (slow at first). @return false: no module there */
bool asc_place_of(struct asc_modules *m, asc_addr addr, bool want_line, struct asc_place *ret);
/* Inlined functions at @p addr, innermost first, before the function itself. Returns how many. */
size_t asc_place_inlined(struct asc_modules *m, asc_addr addr, struct asc_place *ret, size_t max);

/* Which module's definition of `malloc` (any function name) the executable is bound to, by the
 * dynamic linker's rules; NULL if it cannot be told. */
struct asc_module *asc_modules_definer(struct asc_modules *m, const char *function);

#endif
