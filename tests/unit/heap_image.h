/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Heaps as a given glibc would write them, for any word size and byte order: say what chunks there
 * are, in address order, and hi_finish() writes headers, lists, tcaches, arenas and mp_. It knows
 * glibc by itself: nothing of src/glibc is used to write, so that reading is really tested.
 */
#ifndef ASC_HEAP_IMAGE_H
#define ASC_HEAP_IMAGE_H

#include "glibc/heap.h"

struct heap_image;

/* @p word 4 or 8, glibc 2.@p minor */
struct heap_image *hi_new(unsigned word, bool big_endian, unsigned minor);
void hi_free(struct heap_image *hi);
/* What it will write, to be changed before the first chunk: a glibc that nobody has seen. */
struct asc_layout *hi_shape(struct heap_image *hi);

/* A further arena, in list order. @return its index */
size_t hi_arena(struct heap_image *hi);
/* End the arena's last heap with a fencepost and begin another; main arena: a mapped piece. */
void hi_new_region(struct heap_image *hi, size_t arena);
/* Main arena: fenceposts, then @p bytes of somebody else's sbrk. @return where they begin */
asc_addr hi_foreign(struct heap_image *hi, uint64_t bytes);
/* Begin the main heap @p off bytes behind a page start (static executables). */
void hi_sbrk_offset(struct heap_image *hi, uint64_t off);

/* Append a chunk. @p size is a chunk size; free chunks must not be neighbours. @return its address */
asc_addr hi_chunk(struct heap_image *hi, size_t arena, uint64_t size, enum asc_state state);
/* A thread that uses @p arena, with a tcache where this glibc has one. @return its index */
size_t hi_thread(struct heap_image *hi, size_t arena);
/* A chunk of @p arena in the tcache of @p thread. */
asc_addr hi_cached(struct heap_image *hi, size_t arena, uint64_t size, size_t thread);
/* A chunk with its own mapping; @p align: of memalign, 0: malloc. @p apart: a mapping of its own. */
asc_addr hi_mmapped(struct heap_image *hi, uint64_t request, uint64_t align, bool apart);

/* Write it all. @return the target; owned by the image */
struct asc_target *hi_finish(struct heap_image *hi);
const struct asc_libc *hi_libc(const struct heap_image *hi);
struct asc_libc *hi_libc_mutable(struct heap_image *hi);

/* The same image with nothing but zeros in memory. */
struct heap_image *hi_blank(const struct heap_image *hi);
struct asc_target *hi_target(const struct heap_image *hi);

/* After hi_finish(). */
uint64_t hi_peek(struct heap_image *hi, asc_addr addr);
void hi_poke(struct heap_image *hi, asc_addr addr, uint64_t word);
void hi_poke_int(struct heap_image *hi, asc_addr addr, size_t size, uint64_t v);
asc_addr hi_arena_addr(const struct heap_image *hi, size_t arena);
asc_addr hi_heap_addr(const struct heap_image *hi, size_t arena, size_t region);
asc_addr hi_top(const struct heap_image *hi, size_t arena);
asc_addr hi_region_end(const struct heap_image *hi, size_t arena, size_t region);
asc_addr hi_tcache(const struct heap_image *hi, size_t thread);
uint64_t hi_system_mem(const struct heap_image *hi, size_t arena);
unsigned hi_word(const struct heap_image *hi);

/* Smallest chunk and alignment of this image. */
uint64_t hi_minsize(const struct heap_image *hi);
uint64_t hi_align(const struct heap_image *hi);
/* A chunk size of about @p n units that is possible here. */
uint64_t hi_size(const struct heap_image *hi, uint64_t n);

/* Every shape that is tested. */
struct hi_shape {
	unsigned word;
	bool big_endian;
	unsigned minor;
};
extern const struct hi_shape hi_shapes[];
extern const size_t hi_nshapes;

#endif
