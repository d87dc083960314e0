/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lists of free chunks as an arena keeps them: those with something in them. Most arenas of a process
 * with thousands of threads have a handful of them, and all of them would be seven kilobytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

/* Those of the @p n lists at @p v that are not empty, by number. */
static struct asc_error *keep(const struct asc_bin *v, unsigned n, struct asc_bin **ret,
			      unsigned *ret_n)
{
	struct asc_bin *kept;
	unsigned len = 0;

	for (unsigned i = 0; i < n; i++)
		len += v[i].count || v[i].truncated;
	if (!len)
		return NULL;
	kept = calloc(len, sizeof(*kept));
	if (!kept)
		return asc_err(ASC_ENOMEM, "lists of an arena");
	*ret = kept;
	*ret_n = len;
	for (unsigned i = 0; i < n; i++) {
		if (!v[i].count && !v[i].truncated)
			continue;
		*kept = v[i];
		kept++->nr = (uint8_t)i;
	}
	return NULL;
}

struct asc_error *asc_lists_keep(struct asc_model *m, struct asc_arena *a)
{
	ASC_TRY(keep(m->lists.fast, ASC_ARRAY_SIZE(m->lists.fast), &a->fast, &a->nfast));
	ASC_TRY(keep(m->lists.bins, ASC_ARRAY_SIZE(m->lists.bins), &a->bins, &a->nbins));
	memset(&m->lists, 0, sizeof(m->lists));
	return NULL;
}

static const struct asc_bin *find(const struct asc_bin *v, unsigned n, unsigned nr)
{
	static const struct asc_bin none;
	const size_t i = ASC_SEEK(n, k, v[k].nr < nr);

	return i < n && v[i].nr == nr ? &v[i] : &none;
}

const struct asc_bin *asc_arena_bin(const struct asc_arena *a, unsigned nr)
{
	return find(a->bins, a->nbins, nr);
}

const struct asc_bin *asc_arena_fastbin(const struct asc_arena *a, unsigned nr)
{
	return find(a->fast, a->nfast, nr);
}
