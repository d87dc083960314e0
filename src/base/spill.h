/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Tables of chunks that are more than memory may be taken for go to a file without a name, in
 * $TMPDIR or /var/tmp: they are written and read in order, a window of them is in memory, and whoever
 * reads them sees an array as ever. Nothing of it stays, however the program ends.
 */
#ifndef ASC_BASE_SPILL_H
#define ASC_BASE_SPILL_H

#include <stddef.h>
#include <stdint.h>

#include "arenascope/error.h"

/* @return a file, -1: there is none */
int asc_spill_open(void);

/* One table that grows. */
struct asc_spill {
	uint64_t *words; /* NULL: none */
	size_t cap;	 /* words that there is room for on the disk */
	size_t max;	 /* words of address space */
	int64_t at;	 /* in the file */
};

/*
 * Room for @p bytes at @p at of such a file, so that a write to what is mapped of it cannot fail. @return 0, or why
 * there is none (errno)
 */
int asc_spill_room(int fd, int64_t at, uint64_t bytes);

/* At most @p max words, behind what is in file @p fd. */
ASC_MUST struct asc_error *asc_spill_begin(int fd, size_t max, struct asc_spill *ret);
/* Room for more; what was written before goes out of memory. ASC_ENOMEM when the disk is full. */
ASC_MUST struct asc_error *asc_spill_grow(struct asc_spill *s, int fd);
/* It has @p n words and grows no more. @return the table, NULL for 0 words; asc_spill_unmap() it */
uint64_t *asc_spill_end(struct asc_spill *s, int fd, size_t n);
void asc_spill_unmap(uint64_t *words, size_t n);
/* A table that is complete goes to the file. @return it there, NULL where there is no room; asc_spill_unmap() it */
uint64_t *asc_spill_put(int fd, const uint64_t *words, size_t n);
/* It is not wanted any more: neither its address space nor its room on the disk. */
void asc_spill_abandon(struct asc_spill *s, int fd);

/* A reader of a table of @p n has come to word @p i, and the step that ends there leaves memory. */
void asc_spill_passed(const uint64_t *words, size_t i, size_t n);
/*
 * Words [from, to) of a table leave memory; what is in them stays, and whoever looks at them next, in whatever
 * thread, finds it again.
 */
void asc_spill_drop(const uint64_t *words, size_t from, size_t to);

enum {
	ASC_SPILL_STEP = 1 << 17,   /* words: a table grows by so many */
	ASC_SPILL_WINDOW = 1 << 15, /* words: whoever reads one in order drops what is behind him */
};

#endif
