/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The shape of one libc's malloc: a plain value, no pointers. From DWARF, else the generated
 * table, else a scan of the file or the memory image; verified by invariants before use.
 * Never test version numbers where presence of a member tells; what presence cannot tell is a trait.
 */
#ifndef ASC_GLIBC_LAYOUT_H
#define ASC_GLIBC_LAYOUT_H

#include "symbols/modules.h"

struct asc_field {
	bool present;
	uint32_t off, size, elem; /* bytes; elem: of one array element */
};

enum asc_layout_from { ASC_FROM_DWARF, ASC_FROM_TABLE, ASC_FROM_SCAN };

/* By systrim's quirk system_mem may exceed its maximum: by pad rounded up, so bounded by what is plausible. */
enum { ASC_SYSTRIM_GROWTH_MAX = 64 << 20 };

struct asc_layout {
#define S(type)		      uint64_t sizeof_##type;
#define M(type, member, need) struct asc_field type##_##member;
#include "glibc/schema.def"
#undef S
#undef M
	enum asc_layout_from from;

	/* constants that follow from the ABI */
	uint8_t word;		   /* SIZE_SZ: 4 or 8 */
	uint8_t hdr;		   /* CHUNK_HDR_SZ = 2 * word */
	uint16_t malloc_alignment; /* 16; i386 up to 2.25: 8 */
	uint16_t minsize;	   /* MINSIZE: smallest chunk */
	uint16_t chunk_struct;	   /* sizeof(struct malloc_chunk) = 6 * word */
	uint64_t heap_max;	   /* HEAP_MAX_SIZE without huge pages: 64 MiB, 1 MiB on 32-bit */
	unsigned nbins;		   /* 128 */
	unsigned nfastbins;	   /* 0 when there are none */
	unsigned ntcache;	   /* bins of a tcache: 0, 64 or 76 */
	unsigned ntcache_small;	   /* 64 */

	/* traits: what presence of a member cannot tell */
	bool safe_linking;	/* 2.32: fastbin and tcache links are mangled */
	bool tcache_key_random; /* 2.34: e->key == tcache_key; 2.29..2.33: == the tcache's address */
	bool tcache_key_owner;	/* 2.29..2.33 */
	bool tcache_counts_are_slots; /* 2.42: cached = tcache_count - num_slots */
	bool tcache_dummy;	      /* 2.43: the tcache pointer is never NULL */
	bool mmap_hdr_excluded; /* 2.43: an mmapped chunk's size excludes its header; prev_size bit 0 = MMAP_HP */
	bool heap_max_is_4hp;	       /* 2.35..2.41: with hp_pagesize, heaps are 4 x hp_pagesize */
	bool lazy_init;		       /* up to 2.41: arena is zero until first use */
	bool trim_consolidates;	       /* up to 2.42: mtrim begins with malloc_consolidate */
	bool trim_corrupt_flag;	       /* 2.22..2.26: ARENA_CORRUPTION_BIT */
	bool systrim_minsize_quirk;    /* 2.19..: top == MINSIZE makes malloc_trim grow brk */
	bool systrim_thp;	       /* 2.35..: systrim rounds to thp_pagesize */
	bool fastchunks_flag_inverted; /* up to 2.26: flags bit 0 */
	bool small_to_smallbin;	       /* 2.41..: freed small chunks go to their bin directly */
	bool single_thread_unlocked;   /* 2.27..: SINGLE_THREAD_P takes no lock */
	bool largebin_32_big; /* 32-bit, alignment 16: largebin_index_32_big, SMALLBIN_CORRECTION 1 */
	/* malloc_info's text */
	bool info_rest_has_top; /* 2.31..: "rest" counts top */
	bool info_subheaps;	/* 2.27..: aspace sums all heaps, prints subheaps */
	bool info_has_mmap;	/* 2.20.. */
	bool info_has_fast;	/* up to 2.42 */
	uint8_t info_size_tabs, info_size_spaces, info_unsorted_spaces;
};

/* One copy of libc in the target: where its malloc is and what shape it has. */
struct asc_libc {
	struct asc_module *module; /* borrowed; NULL when only the memory image showed it */
	struct asc_layout layout;
	char version[16];      /* "2.36" or "" */
	unsigned major, minor; /* 2, 36; 0 unknown */
	char build_id[65];
	asc_addr main_arena, mp; /* never 0 */
	asc_addr curbrk;	 /* __curbrk's address; 0 unknown */
	asc_addr narenas, narenas_limit, free_list, list_lock, free_list_lock; /* 0 unknown */
	asc_addr global_max_fast;					       /* 0 unknown */
	uint8_t global_max_fast_size;
	asc_addr tcache_key;	   /* 0 unknown */
	asc_addr tcache_dummy;	   /* 0 unknown */
	asc_addr single_threaded;  /* byte: != 0 means malloc takes no lock; 0 unknown */
	asc_addr multiple_threads; /* int: == 0 means single-threaded (2.27..2.31); 0 unknown */
	asc_addr always_fail_morecore, malloc_initialized;
	bool shape_in_file; /* the file's own data has mp_'s defaults where the layout says */
	bool info_known;    /* no version, but memory tells how its malloc_info writes */
	bool tls_known;	    /* thread_arena's and tcache's places are known */
	bool tcache_none;   /* tcache's place is not known, but no thread has one */
	uint64_t tls_offset;
	uint64_t thread_arena_off, tcache_off; /* in the TLS block; UINT64_MAX: unknown */
	double scan_pause_ms; /* the scan had to stop the process for this long; 0: it had not */
	bool primary;	      /* the libc that the executable's malloc resolves to */
	/* where each fact came from: `symbols` prints these; text owned by the struct */
	struct asc_fact {
		char name[40], from[40];
		uint64_t value;
	} facts[96];
	size_t nfacts;
};

/*
 * Every copy of libc in the target (dlmopen, static executables). ASC_EUNSUPPORTED when there is
 * none (musl, static musl), ASC_ENOSYM when there is one that cannot be read (says what was tried).
 *
 * @param ret  array, owned by the caller, free() it; the modules are borrowed
 */
ASC_MUST struct asc_error *asc_libc_find(struct asc_modules *m, struct asc_target *t,
					 struct asc_libc **ret, size_t *ret_n);

/* Nobody has allocated from it: another allocator does the work. */
bool asc_libc_unused(struct asc_target *t, const struct asc_libc *lib);

/* Fill constants and traits for a release; @p l has its members already. Used by all three sources. */
void asc_layout_traits(struct asc_layout *l, const struct asc_arch *arch, unsigned minor);
/* The oldest release that has these members: for when no version is known. */
unsigned asc_layout_minor(const struct asc_layout *l);
/* @p minor if the built-in table has that release, else 0: then only the shape tells. */
unsigned asc_layout_known(unsigned minor);
/* The built-in table: layout of release 2.@p minor on @p arch. ASC_ENOTFOUND if it is not in it. */
ASC_MUST struct asc_error *asc_layout_table(const struct asc_arch *arch, unsigned minor,
					    struct asc_layout *ret);
/* Without symbols: fill @p lib from the stripped file or the memory image (scan.c). */
ASC_MUST struct asc_error *asc_libc_scan(struct asc_modules *m, struct asc_target *t,
					 struct asc_module *mod, struct asc_libc *lib);
/* Invariants that any answer must fulfil in @p t before it is used. */
ASC_MUST struct asc_error *asc_libc_verify(struct asc_target *t, const struct asc_libc *lib);

/* Remember where a fact came from; text is copied and cut to fit. */
void asc_libc_fact(struct asc_libc *lib, const char *name, const char *from, uint64_t value);
/* "GNU C Library (...) release version 2.36" in the module's read-only data. @return false: none */
bool asc_libc_banner(struct asc_modules *m, struct asc_module *mod, char *text, size_t len,
		     unsigned *ret_major, unsigned *ret_minor);

/* A static program has no banner: "2.36" as a string of its own. A hint, to be checked by shape. */
bool asc_libc_version_string(struct asc_modules *m, struct asc_module *mod, unsigned *ret_minor);

const char *asc_layout_from_name(enum asc_layout_from from); /* "dwarf", "table", "scan" */

#endif
