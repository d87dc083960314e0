/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Digests of pages, by address: two of each, of a reading before a stop and of one after it. */
#ifndef ASC_TARGET_PAGENOTES_H
#define ASC_TARGET_PAGENOTES_H

#include "arenascope/target.h"

enum {
	ASC_NOTES_BLOCK = 64,
	ASC_NOTE_TORN = 1, /* no digest: it was read twice, and was not the same */
};

/* 0: it was not read. Two readers may write them side by side. */
struct asc_note {
	uint64_t before, after;
};

struct asc_note_block {
	uint64_t nr; /* of its first page, in blocks */
	struct asc_note notes[ASC_NOTES_BLOCK];
};

struct asc_notes {
	uint64_t page_size;
	struct asc_note_block **blocks; /* open addressing, at most half full */
	size_t nblocks, cap;
};

ASC_MUST struct asc_error *asc_notes_init(struct asc_notes *s, uint64_t page_size);
void asc_notes_deinit(struct asc_notes *s);
/* Room for a digest of each page of @p res, so that none is made while two readers are at work. */
ASC_MUST struct asc_error *asc_notes_make(struct asc_notes *s, const struct asc_residency *res);
/* NULL: there is no room for it */
struct asc_note *asc_notes_at(const struct asc_notes *s, uint64_t page);
/* What was read after the last stop was read before the next one. */
void asc_notes_turn(struct asc_notes *s);
/* All blocks by address: @p ret holds s->nblocks. */
void asc_notes_sorted(const struct asc_notes *s, struct asc_note_block **ret);

/* Of a whole page, never 0 or ASC_NOTE_TORN. No change of one word of it is lost. */
uint64_t asc_page_digest(const uint8_t *p, size_t n);
size_t asc_page_hash(uint64_t nr);

#endif
