/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/vec.h"

#include <stdint.h>

struct asc_error *asc_vec_grow_(void **data, size_t *cap, size_t len, size_t size)
{
	size_t want = *cap ? *cap + *cap / 2 + 1 : 16, bytes;
	void *p;

	(void)len;
	if (__builtin_mul_overflow(want, size, &bytes))
		return asc_err(ASC_ENOMEM, "array of %zu elements of %zu bytes", want, size);
	p = realloc(*data, bytes);
	if (!p)
		return asc_err(ASC_ENOMEM, "array of %zu bytes", bytes);
	*data = p;
	*cap = want;
	return NULL;
}
