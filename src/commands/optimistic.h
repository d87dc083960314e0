/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One round of an optimistic capture, for the files that make it: before, stop, after. */
#ifndef ASC_COMMANDS_OPTIMISTIC_H
#define ASC_COMMANDS_OPTIMISTIC_H

#include "commands/session.h"
#include "target/ranges.h"

enum { ASC_ROUND_STOP_MS = 30 /* of reading in one stop */ };

struct asc_foresight;

struct asc_round {
	struct asc_session *s;
	unsigned needs;
	struct asc_foresight *before;
	struct asc_target *overlay;
	struct asc_heap *first;	    /* as it was read before the stop */
	struct asc_heap *listed;    /* headers and lists of the stop */
	ASC_VEC(asc_addr) hopeless; /* arenas whose lists were not followed in it */
	bool blind;		    /* that is all of them */
	bool let_go;		    /* by the watchdog: nothing is of the stop for certain */
	bool calm;		    /* all that the stop has read is as it was before it */
	asc_range_vec lists;   /* pages that the others' were on before it: most are there still */
	asc_range_vec but;     /* stacks' ends, with the thread pointers: looked at word by word */
	asc_range_vec hot;     /* changed in an earlier round */
	asc_range_vec changed; /* not of the stop for certain */
	uint64_t steady;
};

/* ---- optimistic_stop.c ---- */
bool asc_round_is_hopeless(const struct asc_round *r, asc_addr arena);
/* Whose lists can be read in a stop, and where they were just now; and chunks with a mapping of their own. */
ASC_MUST struct asc_error *asc_round_plan(struct asc_round *r);
/* Stop it, read what the time allows, let it go. */
ASC_MUST struct asc_error *asc_round_stop(struct asc_round *r);
/* Without it nobody knows what to compare, and reading would make the kernel map pages. */
ASC_MUST struct asc_error *asc_round_need_residency(const struct asc_residency *res);

/* ---- optimistic_settle.c ---- */
/* Which of the changed pages matter: the others are taken out of r->changed. */
ASC_MUST struct asc_error *asc_round_settle(struct asc_round *r);
/* Say which arenas are meant. Pages of different moments contradict each other: that is no damage. */
void asc_round_mark(struct asc_round *r);

/* ---- optimistic_doubt.c ---- */
/* Findings that rest on what was read after the stop: their pages go to r->changed. */
ASC_MUST struct asc_error *asc_round_doubt(struct asc_round *r);

#endif
