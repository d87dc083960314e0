/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The ways of reading a live process, behind asc_session_need(). session_read.c reads while
 * it is stopped, and chooses; here are the others, and what they share.
 */
#ifndef ASC_COMMANDS_CAPTURE_H
#define ASC_COMMANDS_CAPTURE_H

#include "analysis/reading.h"
#include "commands/session.h"

/* Whatever makes heaps[]. */
enum { ASC_NEED_HEAPS = ASC_NEED_ARENAS | ASC_NEED_LISTS | ASC_NEED_WALK };

/* Read from a copy-on-write child (fork.c of act). Sets s->data, residency, pause. */
ASC_MUST struct asc_error *asc_capture_by_fork(struct asc_session *s, unsigned needs);
struct asc_foresight;
/* Read while it runs, then stop it and read again what matters. Sets s->data, residency, pause and
 * the heaps. @p before: what is known of its pages by now, or NULL; owned from here on. */
ASC_MUST struct asc_error *asc_capture_optimistic_run(struct asc_session *s, unsigned needs,
						      struct asc_foresight *before);

/* ---- capture_hooks.c ---- */
/* ARENASCOPE_FAULT=freeze:1, for tests: SIGSTOP in the stop; afterwards stop ourselves, too. */
void asc_session_freeze(const struct asc_session *s, bool begin);
/* ARENASCOPE_FAULT=stall:MS, for tests: reading is as slow as that, in every stop. */
void asc_session_stall(void);
/*
 * ARENASCOPE_FAULT=sealed:1, for tests: stop ourselves when the target runs again, before what was fetched is
 * looked at. sealed:2, true: say that it does not suffice.
 */
bool asc_session_sealed(void);

/* ---- session.c ---- */
/* Everything that one stop has read. */
void asc_session_forget(struct asc_session *s);

/* ---- session_read.c ---- */
/* Read what is needed, all of one moment; @p needs: what came with it is added. */
ASC_MUST struct asc_error *asc_session_read(struct asc_session *s, unsigned *needs);
ASC_MUST struct asc_error *asc_session_plan(struct asc_session *s, struct asc_target *t,
					    const struct asc_residency *res, unsigned needs,
					    asc_range_vec *v);
ASC_MUST struct asc_error *asc_session_stop_quiet(struct asc_session *s);
ASC_MUST struct asc_error *asc_session_read_heaps(struct asc_session *s, unsigned needs);
/* The target was let go while it was read: what contradicts itself is no damage. */
void asc_session_doubt(struct asc_session *s);
/* Sets residency, and Rss where @p needs has the ledger. @p before: of before the stop, or NULL */
ASC_MUST struct asc_error *asc_session_residency(struct asc_session *s, unsigned needs,
						 struct asc_foresight *before);

#endif
