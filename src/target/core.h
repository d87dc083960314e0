/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An ELF core as a target. Private to core*.c and decompress.c.
 *
 * The file is read with pread through a small block cache, not through a mapping: only what is
 * needed is touched either way, and a core that shrinks under us then ends a read short instead of
 * raising SIGBUS.
 */
#ifndef ASC_TARGET_CORE_H
#define ASC_TARGET_CORE_H

#include "target/elfhead.h"
#include "target/target.h"

/* ---- corebytes.c: the file ---- */

struct asc_blocks; /* block cache */

struct asc_bytes {
	int fd;
	uint64_t len; /* as of the open */
	struct asc_blocks *cache;
};

ASC_MUST struct asc_error *asc_bytes_init(struct asc_bytes *b, int fd, uint64_t len);
void asc_bytes_deinit(struct asc_bytes *b); /* closes fd */
/* As far as possible from the front. @return bytes read */
size_t asc_bytes_read(struct asc_bytes *b, uint64_t off, void *buf, size_t len);
/* Ditto past the cache; two threads may do so at once. */
size_t asc_bytes_direct(const struct asc_bytes *b, uint64_t off, void *buf, size_t len);

/* ---- decompress.c ---- */

/* "zstd", "xz", "lz4", "gzip" by the first bytes, or NULL. */
const char *asc_compression_of(const void *head, size_t len);

/*
 * Write what @p fd (position 0) unpacks to into a memory file, or an unlinked one if it is large.
 * Zero pages become holes. Unpacking ends at the end of the last segment of an ELF core, whatever
 * else follows, and after a few pages if it is none; a damaged or cut stream keeps what came before.
 *
 * @param ret_len     bytes unpacked
 * @param ret_damage  static text if the stream ended badly, else NULL
 */
ASC_MUST struct asc_error *asc_decompress(
	int fd, const char *compression, bool (*progress)(void *arg, uint64_t done, uint64_t total),
	void *progress_arg, int *ret_fd, uint64_t *ret_len, const char **ret_damage);

/* ---- corekind.c ---- */

/* Why this file is no core: E-NOTCORE with what it is instead. @p what: "x.core" */
ASC_MUST struct asc_error *asc_core_refuse(struct asc_bytes *b, const char *what,
					   const char *compression);

/* A PT_LOAD: [start, end) in memory; the core holds [start, start + have). */
struct asc_core_seg {
	asc_addr start, end;
	uint64_t off;
	uint64_t filesz; /* promised, at most end - start */
	uint64_t have;	 /* really in the file */
	unsigned flags;	 /* PF_* */
	size_t page0;	 /* number of its first page among all segments' (corepages.c) */
};

/* A mapped file (NT_FILE), or the executable. */
enum asc_core_file_state { ASC_FILE_UNTRIED, ASC_FILE_OPEN, ASC_FILE_NONE };
struct asc_core_file {
	char *path; /* as the target names it, " (deleted)" cut off */
	bool deleted;
	asc_addr start; /* of its lowest mapping with offset 0, or UINT64_MAX */
	enum asc_core_file_state state;
	struct asc_bytes bytes;
};

/* One line of NT_FILE. */
struct asc_core_mapped {
	asc_addr start, end;
	uint64_t offset; /* bytes */
	size_t file;
};

struct asc_core {
	struct asc_target t;
	struct asc_core_info info;
	struct asc_bytes bytes;
	char *exe_opt, *root; /* options, owned */
	bool (*progress)(void *arg, uint64_t done, uint64_t total);
	void *progress_arg;
	char *exe;		   /* owned: info.exe */
	struct asc_core_seg *segs; /* sorted, not overlapping */
	size_t nsegs, last_seg;
	struct asc_core_file *files;
	size_t nfiles;
	struct asc_core_mapped *mapped; /* sorted, not overlapping */
	size_t nmapped;
	bool anon_dumped;    /* anonymous private memory is in the core: what is not there was not
				dirty */
	uint64_t notes_read; /* bytes */
	struct asc_core_pages *pages; /* what has been seen of each, or NULL */
};

/* Bytes that the core itself holds; no files. */
size_t asc_core_read_own(struct asc_core *c, asc_addr addr, void *buf, size_t len);

/* ---- corenotes.c ---- */

/* Threads, auxv, NT_FILE and the rest from the PT_NOTE at @p off. Damage ends it early, silently. */
ASC_MUST struct asc_error *asc_core_notes(struct asc_core *c, uint64_t off, uint64_t len);
/* What they say together. */
void asc_core_notes_done(struct asc_core *c);

/* ---- corefiles.c ---- */

/* First entry of NT_FILE that ends after @p addr. */
size_t asc_core_mapped_seek(const struct asc_core *c, asc_addr addr);
/* An ELF image in the core's own memory, read from its header on: an asc_get_fn and its arg. */
struct asc_core_image {
	struct asc_core *c;
	asc_addr start;
};
size_t asc_core_image_get(void *arg, uint64_t off, void *buf, size_t len);
/* Bytes of the mapped file behind @p addr, if the file is the one that was mapped. */
size_t asc_core_read_file(struct asc_core *c, asc_addr addr, void *buf, size_t len);
/* Without NT_FILE: map the executable that the user named. */
ASC_MUST struct asc_error *asc_core_map_exe(struct asc_core *c);
void asc_core_files_free(struct asc_core *c);

/* ---- coremaps.c ---- */

/* Maps from segments and NT_FILE. */
ASC_MUST struct asc_error *asc_core_maps(struct asc_core *c);

/* ---- corepages.c ---- */

/* Pages that the core may hold, as far as the file's holes tell; what is read from here on is noted. */
ASC_MUST struct asc_error *asc_core_foresee(struct asc_target *t, struct asc_residency **ret);
/* Bytes [at, at + n) of a segment have been read to @p buf; two threads may do so at once. */
void asc_core_note(const struct asc_core *c, const struct asc_core_seg *seg, uint64_t at,
		   const uint8_t *buf, size_t n);
void asc_core_pages_free(struct asc_core *c);
/* Pages the core holds that are not all zero. */
ASC_MUST struct asc_error *asc_core_residency(struct asc_target *t, struct asc_residency **ret);

#endif
