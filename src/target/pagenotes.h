/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Digests of pages, by address: two of each, of a reading before a stop and of one after it. */
#ifndef ASC_TARGET_PAGENOTES_H
#define ASC_TARGET_PAGENOTES_H

#include "arenascope/target.h"
#include "base/vec.h"

enum {
	ASC_NOTES_BLOCK = 64,
	ASC_NOTES_SECRET = 192,
	ASC_NOTE_TORN = 1, /* no digest: it was read twice, and was not the same */
};

/* Two readers may write them side by side. */
struct asc_note_block {
	uint64_t nr;			  /* of its first page, in blocks */
	uint64_t kept;			  /* for whoever passes over all of them: a bit a page */
	uint64_t later;			  /* a bit a page: it was read after the stop */
	uint64_t changed;		  /* ... and was another one then than before it */
	uint64_t digest[ASC_NOTES_BLOCK]; /* 0: it was not read */
};

/* Blocks that were made together, by address. */
struct asc_note_slab {
	struct asc_note_block *v;
	size_t n, used;
	bool on_disk;
};

struct asc_notes {
	uint64_t page_size;
	uint8_t secret[ASC_NOTES_SECRET]; /* of the digests: no process can be prepared for it */
	struct asc_note_block **blocks;	  /* open addressing, at most half full */
	size_t nblocks, cap;
	ASC_VEC(struct asc_note_slab) slabs;
	/* What is more than some 8 MiB is in a file, of which a window is in memory. */
	size_t in_memory_max; /* blocks */
	size_t in_memory;
	int fd;		 /* -1: none */
	int64_t on_disk; /* bytes */
	size_t looks;	 /* atomic */
};

ASC_MUST struct asc_error *asc_notes_init(struct asc_notes *s, uint64_t page_size);
void asc_notes_deinit(struct asc_notes *s);
/* Room for a digest of each page of @p res, so that none is made while two readers are at work. */
ASC_MUST struct asc_error *asc_notes_make(struct asc_notes *s, const struct asc_residency *res);
/* That of the pages that @p page is among, NULL: there is no room for them */
struct asc_note_block *asc_notes_block(struct asc_notes *s, uint64_t page);
/* Somebody has looked at one more block: those that are in a file leave memory now and then. */
void asc_notes_passed(struct asc_notes *s);
/* Which of its block @p page is. */
size_t asc_note_index(const struct asc_notes *s, uint64_t page);
/* In the block of @p page: it was read after the stop, and was not what it had been. @p digest: what it was */
void asc_note_changed(struct asc_note_block *b, size_t i, uint64_t digest);
/* What was read after the last stop was read before the next one. */
void asc_notes_turn(struct asc_notes *s);
/* All blocks by address: @p ret holds s->nblocks. */
void asc_notes_sorted(struct asc_notes *s, struct asc_note_block **ret);

/* Of a whole page, never 0 or ASC_NOTE_TORN: XXH3, two different pages have the same one in 2^64. */
uint64_t asc_page_digest(const struct asc_notes *s, const uint8_t *page);
size_t asc_page_hash(uint64_t nr);

#endif
