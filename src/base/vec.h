/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One growable array. ASC_VEC(struct foo) v = {0}; asc_vec_push(&v, item) returns an error or NULL.
 * Elements live in v.data[0..v.len); free with asc_vec_free(&v).
 */
#ifndef ASC_BASE_VEC_H
#define ASC_BASE_VEC_H

#include <stdlib.h>

#include "arenascope/error.h"

#define ASC_VEC(type)                                                                              \
	struct {                                                                                   \
		type *data;                                                                        \
		size_t len, cap;                                                                   \
	}

/* Make room for one more element of @p size bytes. */
ASC_MUST struct asc_error *asc_vec_grow_(void **data, size_t *cap, size_t len, size_t size);

#define asc_vec_push(v, item)                                                                      \
	({                                                                                         \
		struct asc_error *asc_vec_err_ = NULL;                                             \
		void *asc_vec_p_ = (v)->data;                                                      \
		if ((v)->len == (v)->cap)                                                          \
			asc_vec_err_ = asc_vec_grow_(&asc_vec_p_, &(v)->cap, (v)->len,             \
						     sizeof(*(v)->data));                          \
		(v)->data = asc_vec_p_;                                                            \
		if (!asc_vec_err_)                                                                 \
			(v)->data[(v)->len++] = (item);                                            \
		asc_vec_err_;                                                                      \
	})

#define asc_vec_free(v)                                                                            \
	do {                                                                                       \
		free((v)->data);                                                                   \
		(v)->data = NULL;                                                                  \
		(v)->len = (v)->cap = 0;                                                           \
	} while (0)

/* qsort() that an empty array, whose data is NULL, may be given to. */
static inline void asc_sort(void *data, size_t len, size_t size,
			    int (*compare)(const void *, const void *))
{
	if (len > 1)
		qsort(data, len, size, compare);
}

#endif
