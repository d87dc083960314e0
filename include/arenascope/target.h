/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A target: bytes at addresses, threads, mappings. A live process, a core file, a capture of a live
 * process and a hand-built image are the same thing to everything above this header.
 *
 * One thread at a time per target; no locks. Addresses of the target are numbers, never pointers.
 */
#ifndef ARENASCOPE_TARGET_H
#define ARENASCOPE_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "arenascope/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t asc_addr; /**< address in the target; never cast to a pointer */

struct asc_target;
struct asc_arch;

enum asc_target_kind {
	ASC_LIVE,    /**< a running process */
	ASC_CORE,    /**< an ELF core file */
	ASC_IMAGE,   /**< bytes at chosen addresses (tests) */
	ASC_CAPTURE, /**< copied out of a live process while it was stopped */
};

enum asc_map_flags {
	ASC_MAP_READ = 1,
	ASC_MAP_WRITE = 2,
	ASC_MAP_EXEC = 4,
	ASC_MAP_SHARED = 8,
};

/** One mapping, as in /proc/PID/maps. */
struct asc_map {
	asc_addr start, end;
	uint64_t offset; /**< file offset of start */
	uint64_t inode;	 /**< 0: anonymous */
	uint32_t dev_major, dev_minor;
	unsigned flags;	  /**< enum asc_map_flags */
	bool flags_known; /**< false in a core without PT_LOAD flags for it */
	bool deleted;	  /**< the path ended in " (deleted)", which was cut off */
	const char *path; /**< owned by the maps; file path, "[heap]", "[anon:NAME]", or "" */
};

/** Immutable, sorted by address, not overlapping. */
struct asc_maps {
	struct asc_map *v;
	size_t n;
	char *strings; /* owns every path */
};

/** The mapping that holds @p addr, or NULL. */
ASC_API const struct asc_map *asc_maps_find(const struct asc_maps *maps, asc_addr addr);
ASC_API void asc_maps_free(struct asc_maps *maps);

enum { ASC_GREGS_MAX = 288, ASC_COMM_LEN = 16 };

/** General registers of one thread, in the kernel's NT_PRSTATUS order of the target's CPU. */
struct asc_regs {
	bool valid;
	bool partial; /**< pc, sp, perhaps tp, no others: from /proc, of a thread that was not stopped */
	uint32_t len; /**< bytes used in raw */
	uint8_t raw[ASC_GREGS_MAX];
	bool tp_valid;
	asc_addr tp; /**< thread pointer (fs base, TPIDR_EL0, gs base) */
};

struct asc_thread {
	pid_t tid;
	char name[ASC_COMM_LEN + 1]; /**< as found: may hold any byte, escape before printing */
	char state;		     /**< R S D T t Z X I as in /proc, '?' unknown */
	bool stopped;		     /**< really seen stopped (a D-state thread may not be) */
	struct asc_regs regs;
	int64_t syscall_nr; /**< system call it was in when stopped, -1: none, INT64_MIN: unknown */
	uint64_t syscall_args[6];
	bool syscall_args_valid;
	uint64_t utime_ticks, stime_ticks; /**< CLK_TCK; valid if times_valid */
	bool times_valid;
	char wchan[32];		 /**< kernel function it sleeps in; "" unknown */
	int signal;		 /**< core: signal that ended it (first thread), else 0 */
	uint64_t sigblk, sigpnd; /**< valid if sig_valid */
	bool sig_valid;
	uint32_t kernel_flags; /**< PF_* of /proc/PID/stat field 9; 0 unknown */
	bool ran_meanwhile;    /**< no_stop: it ran while it was read; its stack may be torn */
};

struct asc_range {
	asc_addr addr;
	uint64_t len;
};

/** One piece of a bulk read. */
struct asc_iov {
	asc_addr addr;
	void *buf;
	size_t len;
	size_t got; /**< out: bytes really read from the front */
};

ASC_API enum asc_target_kind asc_target_kind(const struct asc_target *t);
ASC_API const struct asc_arch *asc_target_arch(const struct asc_target *t);
/** Process id, or 0 where there is none. */
ASC_API pid_t asc_target_pid(const struct asc_target *t);
/** Process name; may hold any byte. Never NULL. */
ASC_API const char *asc_target_name(const struct asc_target *t);
ASC_API uint64_t asc_target_page_size(const struct asc_target *t);
/** Mappings as of the last open, refresh or stop. Valid until the next of these. */
ASC_API const struct asc_maps *asc_target_maps(const struct asc_target *t);
/** Threads as of the last open, refresh or stop; registers only where `regs.valid`. */
ASC_API const struct asc_thread *asc_target_threads(const struct asc_target *t, size_t *ret_n);
/** One of them by its id. Valid as long as they are. @return NULL: there is none */
ASC_API const struct asc_thread *asc_target_thread(const struct asc_target *t, pid_t tid);
/** Value of auxv entry @p type. @return false if it is not known */
ASC_API bool asc_target_auxv(const struct asc_target *t, uint64_t type, uint64_t *ret);

/** Read exactly @p len bytes. ASC_EFAULT names the first address that is not readable. */
ASC_API ASC_MUST struct asc_error *asc_read(struct asc_target *t, asc_addr addr, void *buf,
					    size_t len);
/** Read as far as possible from the front. @return bytes read, 0 if none */
ASC_API size_t asc_read_some(struct asc_target *t, asc_addr addr, void *buf, size_t len);
/** Many reads at once; each says how much it got. Errors only for a target that is gone. */
ASC_API ASC_MUST struct asc_error *asc_read_bulk(struct asc_target *t, struct asc_iov *iov,
						 size_t n);
/** One pointer-sized word of the target. */
ASC_API ASC_MUST struct asc_error *asc_read_word(struct asc_target *t, asc_addr addr,
						 uint64_t *ret);
/** An unsigned integer of 1, 2, 4 or 8 bytes in the target's byte order. */
ASC_API ASC_MUST struct asc_error *asc_read_uint(struct asc_target *t, asc_addr addr, size_t size,
						 uint64_t *ret);
/** A NUL-terminated string of at most @p max bytes. @p ret is owned by the caller. */
ASC_API ASC_MUST struct asc_error *asc_read_str(struct asc_target *t, asc_addr addr, size_t max,
						char **ret);
/** Decode a word / an integer from bytes that were read from @p t. */
ASC_API uint64_t asc_word_at(const struct asc_target *t, const void *bytes);
ASC_API uint64_t asc_uint_at(const struct asc_target *t, const void *bytes, size_t size);

/** Register values by meaning. @return false if the registers are not known */
ASC_API bool asc_regs_pc(const struct asc_target *t, const struct asc_regs *r, asc_addr *ret);
ASC_API bool asc_regs_sp(const struct asc_target *t, const struct asc_regs *r, asc_addr *ret);

/**
 * Close. NULL is fine, half-built is fine. A live target is always released, as it was found.
 */
ASC_API void asc_target_close(struct asc_target *t);
ASC_API void asc_target_closep(struct asc_target **t);

/* ---- live ---- */

struct asc_live_opts {
	bool no_stop; /**< never stop it: read while it runs */
};

/**
 * Open a live process for reading. Nothing is stopped yet.
 *
 * @return NULL, or ASC_ENOTARGET (no such process, zombie, kernel thread), ASC_EPERM (with the
 *         cause as measured: Yama, uid, dumpable, capability, traced by another), ASC_ENOMEM
 */
ASC_API ASC_MUST struct asc_error *asc_live_open(pid_t pid, const struct asc_live_opts *opts,
						 struct asc_target **ret);

struct asc_stop_opts {
	unsigned stop_timeout_ms; /**< wait this long for threads to stop (0: 200) */
	unsigned max_pause_ms; /**< the helper lets go by itself after 4 x this (0: 500); UINT_MAX: never */
};

struct asc_pause {
	double ms;	      /**< from the first interrupt to the release */
	double stop_ms;	      /**< until every thread was stopped */
	unsigned threads;     /**< stopped */
	unsigned not_stopped; /**< D state: could not be stopped in time */
	bool watchdog; /**< it was let go before release() was called: too long, or the helper was killed */
};

/**
 * Stop every thread and read registers, threads and mappings again. The stop is held by a helper
 * process whose end, however it comes, releases the target. No-op for anything but a live target
 * and for one opened with no_stop.
 */
ASC_API ASC_MUST struct asc_error *asc_target_stop(struct asc_target *t,
						   const struct asc_stop_opts *opts);
/** Let it run on as it was found. Safe to call at any time. */
ASC_API void asc_target_release(struct asc_target *t, struct asc_pause *ret);
ASC_API bool asc_target_is_stopped(const struct asc_target *t);
/** false once the process has exited or exec'ed since it was opened. */
ASC_API bool asc_target_alive(struct asc_target *t);

/* ---- core ---- */

struct asc_core_opts {
	const char *exe;  /**< executable, or NULL: found by NT_FILE */
	const char *root; /**< prefix for mapped files, or NULL */
	/**
	 * Called now and then while it is unpacked and while its pages are looked at; false ends that
	 * with ASC_EINTR. @p total 0: not known. Or NULL.
	 */
	bool (*progress)(void *arg, uint64_t done, uint64_t total);
	void *progress_arg;
};

/** What was promised and what is there. */
struct asc_core_info {
	uint64_t file_bytes;	 /**< bytes of the (decompressed) core */
	uint64_t promised_bytes; /**< end of the last segment as the headers say */
	bool truncated;
	uint64_t missing_bytes;	 /**< of PT_LOAD contents, because of truncation */
	const char *compression; /**< "zstd", "xz", "lz4", "gzip" or NULL */
	const char *damage;	 /**< what is wrong with the compressed data, or NULL */
	int signal;
	const char *exe; /**< from NT_FILE/NT_PRPSINFO, or NULL */
	bool has_nt_file;
	bool is_gcore; /**< made by gdb, not by the kernel */
};

/**
 * Open a core file (also .zst .xz .lz4 .gz, recognised by content). Mapped, not read.
 *
 * @return NULL, or ASC_ENOTARGET (no such file), ASC_EINPUT (not a core: says what it is),
 *         ASC_EUNSUPPORTED (another CPU), ASC_EPERM, ASC_ENOMEM
 */
ASC_API ASC_MUST struct asc_error *asc_core_open(const char *path, const struct asc_core_opts *opts,
						 struct asc_target **ret);
/** NULL unless @p t is a core. */
ASC_API const struct asc_core_info *asc_core_info(const struct asc_target *t);

/* ---- image ---- */

/** An empty image of the CPU named @p arch ("x86_64", "i386", "aarch64", "le64", "be64", "le32", "be32"). */
ASC_API ASC_MUST struct asc_error *asc_image_new(const char *arch, struct asc_target **ret);
/** Add a mapping with its bytes (copied; NULL: zeros). It must not overlap another one. */
ASC_API ASC_MUST struct asc_error *asc_image_add(struct asc_target *image,
						 const struct asc_map *map, const void *bytes);
/** Overwrite bytes of the image. */
ASC_API ASC_MUST struct asc_error *asc_image_poke(struct asc_target *image, asc_addr addr,
						  const void *bytes, size_t len);
ASC_API ASC_MUST struct asc_error *asc_image_add_thread(struct asc_target *image,
							const struct asc_thread *thread);
/** Set an auxv entry. */
ASC_API ASC_MUST struct asc_error *asc_image_set_auxv(struct asc_target *image, uint64_t type,
						      uint64_t value);

/* ---- residency ---- */

enum asc_page_flags {
	ASC_PAGE_PRESENT = 1,
	ASC_PAGE_SWAPPED = 2,
	ASC_PAGE_FILE = 4,     /**< file page or shared memory */
	ASC_PAGE_ZERO = 8,     /**< the shared zero page: present, but not in Rss */
	ASC_PAGE_HUGE = 16,    /**< part of a transparent huge page mapping */
	ASC_PAGE_HUGETLB = 32, /**< from the hugetlb pool: present, but not in Rss */
	ASC_PAGE_DEVICE = 64,  /**< device or kernel memory (vvar ...): present, but not in Rss */
	ASC_PAGE_FLAGS = 127,  /**< all of them */
};

/** A run of pages with the same flags. Runs without PRESENT or SWAPPED are not kept. */
struct asc_page_run {
	uint64_t word; /**< start | flags, which are below the size of any page */
	asc_addr end;
};

static inline struct asc_page_run asc_page_run_make(asc_addr start, asc_addr end, unsigned flags)
{
	struct asc_page_run r;

	r.word = (start & ~(uint64_t)ASC_PAGE_FLAGS) | flags;
	r.end = end;
	return r;
}

static inline asc_addr asc_page_run_start(const struct asc_page_run *r)
{
	return r->word & ~(uint64_t)ASC_PAGE_FLAGS;
}

static inline unsigned asc_page_run_flags(const struct asc_page_run *r)
{
	return (unsigned)(r->word & ASC_PAGE_FLAGS);
}

enum asc_residency_source {
	ASC_RESIDENCY_UNKNOWN, /**< nothing is known: every count is unknown, not 0 */
	ASC_RESIDENCY_SCAN,    /**< PAGEMAP_SCAN */
	ASC_RESIDENCY_PAGEMAP, /**< /proc/PID/pagemap */
	ASC_RESIDENCY_CORE, /**< approximation: pages that the core holds and that are not all zero */
};

struct asc_run_file;

/** Immutable: which pages were in memory. */
struct asc_residency {
	enum asc_residency_source source;
	struct asc_page_run *v; /**< sorted, not overlapping */
	size_t n;
	/** Present bytes that count in Rss (no zero page, hugetlb, device) before each `every`th run. */
	uint64_t *present_before;
	uint64_t *swapped_before;  /**< likewise, swapped bytes; NULL where no page is swapped */
	size_t every;		   /**< 16, or more where there are very many */
	struct asc_run_file *file; /**< that v is mapped from; NULL: it is in memory */
	uint64_t page_size;
	const char *why_unknown; /**< static text when source == UNKNOWN */
};

/**
 * Which pages are in memory, of the whole address space.
 *
 * @param t  a stopped live target, or a core; borrowed for the call
 */
ASC_API ASC_MUST struct asc_error *asc_residency_read(struct asc_target *t,
						      struct asc_residency **ret);
ASC_API void asc_residency_free(struct asc_residency *r);
/** Present bytes in [lo, hi) as Rss counts them (no zero page, hugetlb, device). Any alignment: partial pages count in part. */
ASC_API uint64_t asc_resident_bytes(const struct asc_residency *r, asc_addr lo, asc_addr hi);
ASC_API uint64_t asc_swapped_bytes(const struct asc_residency *r, asc_addr lo, asc_addr hi);
/** First run that ends after @p addr; r->n if none. For linear merges. */
ASC_API size_t asc_residency_seek(const struct asc_residency *r, asc_addr addr);

#ifdef __cplusplus
}
#endif
#endif
