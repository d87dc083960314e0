/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who owns the pages of a mapping that malloc does not own: by the mapping's name and shape. */
#ifndef ASC_ANALYSIS_OWNERS_H
#define ASC_ANALYSIS_OWNERS_H

#include "arenascope/ledger.h"

enum asc_owner {
	ASC_OWNER_FILE,
	ASC_OWNER_SHARED,
	ASC_OWNER_OTHER, /* anonymous, and what it is can be told */
	ASC_OWNER_UNKNOWN,
	ASC_OWNER_NONE, /* the kernel does not count it in Rss */
};

/* What the process is made of, as its mappings tell. */
struct asc_owner_facts {
	bool jvm, v8, go, jemalloc, tcmalloc, mimalloc;
	uint64_t pymalloc_arena; /* 0: not Python */
	uint64_t stack_size;	 /* guard and stack of a live thread; 0 unknown */
	asc_addr main_tp;	 /* 0 unknown */
};

struct asc_owner_facts asc_owner_facts(const struct asc_ledger_in *in);
/*
 * Of a piece of mapping @p i. @p ret_name is static or the mapping's own; only for ASC_OWNER_OTHER.
 */
enum asc_owner asc_owner_of(const struct asc_maps *maps, size_t i, struct asc_range piece,
			    const struct asc_owner_facts *f, const char **ret_name);

#endif
