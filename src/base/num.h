/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checked arithmetic, rounding, unaligned word loads, text to number. */
#ifndef ASC_BASE_NUM_H
#define ASC_BASE_NUM_H

#include <byteswap.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "arenascope/error.h"

#define ASC_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline uint64_t asc_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t asc_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* @p align is a power of two. align_up saturates to the last aligned value. */
static inline uint64_t asc_align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

static inline uint64_t asc_align_up(uint64_t v, uint64_t align)
{
	uint64_t r;

	if (__builtin_add_overflow(v, align - 1, &r))
		r = UINT64_MAX;
	return r & ~(align - 1);
}

static inline bool asc_is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* true: *ret = a + b without overflow */
static inline bool asc_add(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_add_overflow(a, b, ret);
}

static inline bool asc_mul(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_mul_overflow(a, b, ret);
}

/*
 * The first index @p i below @p n for which @p before is false, or @p n: a binary search in what is sorted so
 * that it holds for the first ones and for no other. @p i is a name to be used in @p before.
 */
#define ASC_SEEK(n, i, before)                                                                     \
	({                                                                                         \
		size_t asc_lo_ = 0, asc_hi_ = (n);                                                 \
		while (asc_lo_ < asc_hi_) {                                                        \
			size_t i = asc_lo_ + (asc_hi_ - asc_lo_) / 2;                              \
			if (before)                                                                \
				asc_lo_ = i + 1;                                                   \
			else                                                                       \
				asc_hi_ = i;                                                       \
		}                                                                                  \
		asc_lo_;                                                                           \
	})

static inline uint64_t asc_load_u64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t asc_load_u32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint16_t asc_load_u16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* The word at @p b of a target of @p word bytes a word and this byte order. */
static inline __attribute__((__always_inline__)) uint64_t asc_load_word(const uint8_t *b,
									unsigned word, bool be)
{
	if (word == 8)
		return be ? bswap_64(asc_load_u64(b)) : asc_load_u64(b);
	return be ? bswap_32(asc_load_u32(b)) : asc_load_u32(b);
}

/**
 * Whole string to number. Accepts decimal and 0x hex; no sign, no blanks.
 * @return false when @p s is not such a number or does not fit
 */
bool asc_parse_u64(const char *s, uint64_t *ret);
/** Like asc_parse_u64, hex digits without 0x are accepted too (addresses). */
bool asc_parse_addr(const char *s, uint64_t *ret);
/** Bytes: a number with an optional suffix K M G T (1024) or KiB MiB GiB TiB, or KB/MB (1000). */
bool asc_parse_bytes(const char *s, uint64_t *ret);
/** Duration in milliseconds: 5s, 500ms, 2m, 1h; a bare number is seconds. */
bool asc_parse_ms(const char *s, uint64_t *ret);

#endif
