/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The ledger as report and rss show it. */
#ifndef ASC_COMMANDS_LEDGER_OUT_H
#define ASC_COMMANDS_LEDGER_OUT_H

#include "arenascope/advise.h"
#include "commands/session.h"
#include "render/render.h"

/* "ledger": {...} of INTERFACE section 5; nothing in text. */
void asc_put_ledger(struct asc_out *o, const struct asc_session *s);
/* The nine fields of struct asc_pages into the current object; null when unknown. */
void asc_put_pages(struct asc_out *o, const struct asc_pages *p);

/* The lines of the RSS ledger as text: a headline, and bars. */
void asc_put_bars(struct asc_out *o, const struct asc_session *s);
/* What is not complete about it: to "warnings", and exit 1. */
void asc_warn_ledger(struct asc_out *o, const struct asc_session *s);

/* Verdict, predictions and the target's environment, all from the session. */
ASC_MUST struct asc_error *asc_advice_get(const struct asc_session *s, struct asc_advice **ret);
/* Wrapped text: the first line after @p first, others after @p rest. */
void asc_put_wrapped(struct asc_out *o, const char *first, const char *rest, const char *text,
		     const char *command);

/* NAME=value of the target's environment that concern malloc. */
struct asc_environ {
	char **v;
	size_t n;
	bool known;
};
void asc_environ_read(const struct asc_session *s, struct asc_environ *ret);
void asc_environ_deinit(struct asc_environ *e);

#endif
