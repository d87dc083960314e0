/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What `trim` and `reclaim` would return: made from the session, and shown. */
#ifndef ASC_COMMANDS_PREDICTION_H
#define ASC_COMMANDS_PREDICTION_H

#include "commands/session.h"
#include "render/render.h"

enum asc_prediction_kind { ASC_PREDICT_TRIM, ASC_PREDICT_RECLAIM };

/*
 * Fulfils what it needs (free lists, residency, the ledger). @p pad is malloc_trim's; @p arena
 * (reclaim only) is an index or -1. ASC_ENOSYM/ASC_EUNSUPPORTED without a glibc heap.
 */
ASC_MUST struct asc_error *asc_prediction_get(struct asc_session *s, enum asc_prediction_kind kind,
					      uint64_t pad, int arena, struct asc_prediction **ret);
/* From what the session has already. */
ASC_MUST struct asc_error *asc_prediction_make(const struct asc_session *s,
					       enum asc_prediction_kind kind, uint64_t pad,
					       int arena, struct asc_prediction **ret);
/* Is any of its memory locked, so that a prediction may have ASC_STAY_MLOCKED? */
ASC_MUST struct asc_error *asc_session_locked(const struct asc_session *s, bool *ret);
/* "prediction": {...} of INTERFACE section 5; nothing in text. */
void asc_prediction_json(struct asc_out *o, const struct asc_session *s,
			 enum asc_prediction_kind kind, const struct asc_prediction *p);
/* The lines of `trim -n` and `reclaim -n`; nothing in other formats. */
void asc_prediction_text(struct asc_out *o, const struct asc_session *s,
			 enum asc_prediction_kind kind, const struct asc_prediction *p);
/* Both, and a warning where the prediction is a bound only. All that -n needs. */
void asc_prediction_put(struct asc_out *o, const struct asc_session *s,
			enum asc_prediction_kind kind, const struct asc_prediction *p);

#endif
