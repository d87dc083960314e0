/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Arenas as `arenas`, `arena` and `report` show them. */
#ifndef ASC_COMMANDS_ARENAS_OUT_H
#define ASC_COMMANDS_ARENAS_OUT_H

#include "commands/session.h"
#include "render/render.h"

enum { ASC_ARENAS_ALL = -1 };

struct asc_arenas_opts {
	const char *sort; /* column's key or heading, NULL: as in memory */
	int only;	  /* one arena of the primary libc, or ASC_ARENAS_ALL */
	size_t text_rows; /* rows in text, 0: none, SIZE_MAX: all; other formats have all of them */
};

/* "arenas": [...] and "mmapped": {...} of INTERFACE section 5; needs LISTS and LEDGER. */
void asc_put_arenas(const struct asc_session *s, struct asc_out *o,
		    const struct asc_arenas_opts *opts);
/* Columns that --sort takes: "index|mapped|..." */
extern const char asc_arenas_sort_keys[];
/* The nine page fields of one region or arena into @p to; null where unknown. */
struct json_object;
void asc_json_pages(struct json_object *to, const struct asc_pages *p);
/* Were chunks of this state told from others? Else those numbers are unknown. */
bool asc_state_known(const struct asc_heap *heap, const struct asc_arena *a, enum asc_state s);
/* "-", "held", "held, waited for" */
const char *asc_lock_text(uint32_t mutex);

#endif
