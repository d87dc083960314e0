/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the commands share that change a target: consent, measurement, the log, the result. */
#ifndef ASC_COMMANDS_ACTING_H
#define ASC_COMMANDS_ACTING_H

#include "act/act.h"
#include "arenascope/ledger.h"
#include "commands/cmd.h"

/* Of the whole process, from smaps_rollup: exact where statm and status lag. */
struct asc_usage_now {
	bool known;
	uint64_t rss, swap;
};
struct asc_usage_now asc_usage_read(pid_t pid);

/* Is --yes given, or a terminal there to ask, and a process to change? Reads nothing. */
ASC_MUST struct asc_error *asc_may_act(const struct asc_session *s, const char *command);
/*
 * May it be done? --yes, or a terminal that says yes to @p question. ASC_EUSAGE for a script
 * without --yes; *ret false: the user said no.
 */
ASC_MUST struct asc_error *asc_consent(const struct asc_session *s, const char *command,
				       const char *question, bool *ret);
/* A line with the time on stderr: what was done to which process. */
void asc_acting_log(const struct asc_session *s, const char *fmt, ...) ASC_PRINTF(2, 3);
/* Refuses cores, --no-stop and missing parts; fills what act wants. */
ASC_MUST struct asc_error *asc_acting_ctx(struct asc_session *s, const struct asc_args *a,
					  struct asc_act_ctx *ret);

/* One round of trim or reclaim, as measured. */
struct asc_round {
	int64_t at; /* seconds since the epoch */
	struct asc_usage_now before, after;
	bool predicted_known;
	uint64_t predicted;
	struct asc_act_result result;
};
/*
 * Who holds the lock of this arena, as one look at all threads tells: "arena 0 lock is held by
 * thread 12 worker, which sleeps in write (inferred from stacks, confidence high)". "" if it cannot
 * look. One more stop; the session's data are read anew.
 */
void asc_acting_holder(struct asc_session *s, struct asc_out *o, asc_addr arena, char *buf,
		       size_t size);
/* The same, added to the reason of an error that says "try again". Returns err. */
struct asc_error *asc_acting_blame(struct asc_session *s, struct asc_out *o, asc_addr arena,
				   struct asc_error *err);
/* "result": {...} and its line of text; partial if not everything was done. */
void asc_round_put(struct asc_out *o, const struct asc_round *r);
/* "done", "crashed", "running", "gone" */
const char *asc_acting_outcome(const struct asc_act_result *r);
/* Why the rest stays: the largest reasons. Text only. */
void asc_stays_text(struct asc_out *o, const struct asc_prediction *p);
/* "Done. RSS 951.8 -> 133.5 MiB (...)", one line. Returns buf. */
const char *asc_round_text(char *buf, size_t size, const struct asc_round *r, bool exact);

/* --every: rounds until Ctrl-C. @p once does one and says so. */
typedef struct asc_error *(*asc_round_fn)(struct asc_session *s, const struct asc_args *a,
					  struct asc_out *o, struct asc_round *ret);
struct asc_error *asc_rounds(struct asc_session *s, const struct asc_args *a, struct asc_out *o,
			     asc_round_fn once);

#endif
