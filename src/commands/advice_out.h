/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The verdict's parts as report and advise show them. */
#ifndef ASC_COMMANDS_ADVICE_OUT_H
#define ASC_COMMANDS_ADVICE_OUT_H

#include "arenascope/advise.h"
#include "render/render.h"

/* "findings": [...], and numbered lines as text. @p most: lines of text, 0 all. */
void asc_put_findings(struct asc_out *o, const struct asc_advice *a, size_t most);
/* "verdict" {...}. */
void asc_put_verdict(struct asc_out *o, const struct asc_advice *a, uint64_t rss);
/* "fixes": [...], and as text. */
void asc_put_fixes(struct asc_out *o, const struct asc_advice *a);

#endif
