/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Scope-bound cleanup: ASC_AUTO(freep) T *p = ...; return asc_take(p) hands it over. */
#ifndef ASC_BASE_CLEANUP_H
#define ASC_BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "arenascope/error.h"

#define ASC_AUTO(fn) __attribute__((__cleanup__(fn)))

/* Hand over a pointer and clear the variable, so that its cleanup does nothing. */
#define asc_take(p)                                                                                \
	({                                                                                         \
		__typeof__(p) asc_take_ = (p);                                                     \
		(p) = NULL;                                                                        \
		asc_take_;                                                                         \
	})

/* Return the error of @p e unwrapped. Stands alone on its line, since it hides a return. */
#define ASC_TRY(e)                                                                                 \
	do {                                                                                       \
		struct asc_error *asc_try_ = (e);                                                  \
		if (asc_try_)                                                                      \
			return asc_try_;                                                           \
	} while (0)

static inline void asc_freep(void *p)
{
	free(*(void **)p);
}

static inline void asc_closep(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void asc_fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

#endif
