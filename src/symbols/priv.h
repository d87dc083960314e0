/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of this layer share about modules. */
#ifndef ASC_SYMBOLS_PRIV_H
#define ASC_SYMBOLS_PRIV_H

#include <elfutils/libdwfl.h>

#include "base/vec.h"
#include "symbols/elffile.h"
#include "symbols/modules.h"

/* One symbol table of a module, decoded on demand. */
struct asc_symtab {
	Elf_Data *syms, *strs;
	size_t n;
	bool debug; /* of the debug file */
	bool dynamic;
	bool wide; /* an array of Elf64_Sym */
};

struct asc_func { /* for places: sorted by address */
	uint64_t addr, size;
	const char *name;
	uint8_t rank;
};

struct asc_modpriv {
	struct asc_elf *file, *debug; /* file: the verified file, or the image from memory */
	bool tried_file, tried_debug, tried_mini;
	struct asc_elf *mini; /* .gnu_debugdata of the file */
	bool have_header;     /* an ELF header is readable at start */
	bool bias_known;      /* without one: the dynamic linker said it */
	asc_addr phdr_end;    /* highest mapped address by the program headers */
	uint64_t dyn_vaddr;   /* PT_DYNAMIC, without bias */
	uint64_t dyn_size;
	uint64_t tls_memsz, tls_align, tls_vaddr, tls_filesz;
	uint64_t map_start, map_end; /* of the first mapping, for map_files */
	struct asc_symtab tabs[4];
	size_t ntabs;
	bool tabs_done;
	struct asc_func *funcs;
	size_t nfuncs;
	bool funcs_done;
	ASC_VEC(struct asc_tried) tried;
	char *path, *soname; /* owned */
	Dwfl_Module *dwfl;
	int order; /* in the link map; -1: not in it */
	int space; /* link-map namespace; 0: the first */
};

struct asc_linkmap {
	asc_addr addr, l_addr, l_ld;
	char *name;
	int space;
};

struct asc_modules {
	struct asc_target *t;
	struct asc_symbol_opts opts;
	char *root, *debug_dir, *libc, *exe; /* owned copies of opts */
	struct asc_module *v;
	size_t n;
	ASC_VEC(struct asc_linkmap) links;
	bool links_done;
	Dwfl *dwfl;
	bool dwfl_done;
	/* demangled names and the like, freed at the end */
	ASC_VEC(char *) strings;
	void *cxx; /* libstdc++, if it could be opened */
	bool cxx_done;
	char *(*cxa_demangle)(const char *, char *, size_t *, int *);
	void *fod; /* libdebuginfod */
	struct asc_fod_api *fod_api;
	bool fod_refused;
};

static inline struct asc_modpriv *asc_modpriv(const struct asc_module *mod)
{
	return mod->priv;
}

/* Remember what was tried; memory shortage loses the line. */
void asc_tried_add(struct asc_module *mod, const char *what, const char *fmt, ...) ASC_PRINTF(3, 4);

/* debugfile.c: open the module's file / debug file once. */
void asc_module_find_file(struct asc_modules *m, struct asc_module *mod);
void asc_module_find_debug(struct asc_modules *m, struct asc_module *mod);

/* debuginfod.c: @return path of a downloaded or cached file, owned; NULL: none, see tried */
char *asc_fod_cached(struct asc_module *mod);
char *asc_fod_fetch(struct asc_modules *m, struct asc_module *mod);
void asc_fod_close(struct asc_modules *m);

/* linkmap.c */
void asc_linkmap_read(struct asc_modules *m);
/* linkscan.c: r_debug in a core's writable memory; 0: not found */
asc_addr asc_r_debug_scan(struct asc_modules *m);
/* Modules that only the dynamic linker's list knows. */
ASC_MUST struct asc_error *asc_linkmap_modules(struct asc_modules *m);
/* What the headers in memory could not say: from the file that the user named. */
void asc_module_shape_from(struct asc_modules *m, struct asc_module *mod, const struct asc_elf *e);

/* minidebug.c: what .gnu_debugdata of the module's file holds, or NULL */
struct asc_elf *asc_module_minidebug(struct asc_modules *m, struct asc_module *mod);

/* modules.c: @p map is where it begins; the array may move */
ASC_MUST struct asc_error *asc_module_add(struct asc_modules *m, size_t *cap,
					  const struct asc_map *map, asc_addr end,
					  struct asc_module **ret);

/* symtab.c */
void asc_symtabs_load(struct asc_modules *m, struct asc_module *mod);
/* place.c */
void asc_place_close(struct asc_modules *m);

#endif
