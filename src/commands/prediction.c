/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "commands/prediction.h"

#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/vmflags.h"

struct asc_error *asc_prediction_get(struct asc_session *s, enum asc_prediction_kind kind,
				     uint64_t pad, int arena, struct asc_prediction **ret)
{
	ASC_TRY(asc_session_need(s, ASC_NEED_LISTS | ASC_NEED_RESIDENCY | ASC_NEED_LEDGER));
	return asc_prediction_make(s, kind, pad, arena, ret);
}

struct asc_error *asc_prediction_make(const struct asc_session *s, enum asc_prediction_kind kind,
				      uint64_t pad, int arena, struct asc_prediction **ret)
{
	ASC_AUTO(asc_vmflags_deinit) struct asc_vmflags vm = { 0 };
	struct asc_trim_in in = { .arena = arena };

	in.heap = asc_session_heap(s);
	if (!in.heap)
		return asc_err(ASC_EUNSUPPORTED, "there is no glibc heap to predict for");
	in.res = s->residency;
	if (s->live)
		ASC_TRY(asc_vmflags_read(s->live, &vm));
	in.mlocked = vm.mlocked;
	in.nmlocked = vm.nmlocked;
	in.hugetlb = vm.hugetlb;
	in.nhugetlb = vm.nhugetlb;
	return kind == ASC_PREDICT_TRIM ? asc_predict_trim(&in, pad, ret)
					: asc_predict_reclaim(&in, ret);
}

struct asc_error *asc_session_locked(const struct asc_session *s, bool *ret)
{
	ASC_AUTO(asc_vmflags_deinit) struct asc_vmflags vm = { 0 };

	if (s->live)
		ASC_TRY(asc_vmflags_read(s->live, &vm));
	*ret = vm.nmlocked != 0;
	return NULL;
}

/* ---- JSON ---- */

static bool rss_of(const struct asc_session *s, uint64_t *ret)
{
	if (!s->ledger || !s->ledger->known)
		return false;
	*ret = s->ledger->rss;
	return true;
}

void asc_prediction_json(struct asc_out *o, const struct asc_session *s,
			 enum asc_prediction_kind kind, const struct asc_prediction *p)
{
	const bool trim = kind == ASC_PREDICT_TRIM;
	uint64_t rss = 0;
	bool known = rss_of(s, &rss) && p->known;

	if (asc_out_is_text(o))
		return;
	asc_out_object(o, "prediction", NULL);
	asc_out_field(o, "bytes", NULL, ASC_V_BYTES_IF(p->known, p->bytes));
	asc_out_field(o, "return_value", NULL, trim ? ASC_V_INT(p->return_value) : ASC_V_NONE);
	asc_out_field(o, "pad_bytes", NULL, trim ? ASC_V_BYTES(p->pad) : ASC_V_NONE);
	asc_out_field(o, "upper_bound_bytes", NULL,
		      p->upper_bound ? ASC_V_BYTES(p->bytes) : ASC_V_NONE);
	asc_out_field(o, "swapped_bytes", NULL, ASC_V_BYTES_IF(p->known, p->swapped));
	asc_out_field(o, "brk_delta_bytes", NULL, trim ? ASC_V_INT(p->brk_delta) : ASC_V_NONE);
	asc_out_field(o, "rss_before_bytes", NULL, ASC_V_BYTES_IF(known, rss));
	asc_out_field(o, "rss_after_bytes", NULL,
		      ASC_V_BYTES_IF(known, rss > p->bytes ? rss - p->bytes : 0));
	asc_out_field(o, "ranges", NULL, ASC_V_COUNT(p->ranges));
	asc_out_field(o, "longest_lock_ms", NULL, ASC_V_MS(p->stall_ms));
	asc_out_field(o, "bound_no_move_bytes", NULL, ASC_V_BYTES_IF(p->known, p->bound_b1));
	asc_out_field(o, "bound_compact_bytes", NULL, ASC_V_BYTES_IF(p->known, p->bound_b2));
	asc_out_list(o, "arenas", NULL);
	for (size_t i = 0; i < p->narenas; i++) {
		asc_out_object(o, NULL, NULL);
		asc_out_field(o, "index", NULL, ASC_V_COUNT(p->arenas[i].index));
		asc_out_field(o, "bytes", NULL, ASC_V_BYTES_IF(p->known, p->arenas[i].bytes));
		asc_out_field(o, "swapped_bytes", NULL,
			      ASC_V_BYTES_IF(p->known, p->arenas[i].swapped));
		asc_out_field(o, "ranges", NULL, ASC_V_COUNT(p->arenas[i].ranges));
		asc_out_object_end(o);
	}
	asc_out_list_end(o);
	asc_out_list(o, "stays", NULL);
	for (unsigned i = 0; i < ASC_NSTAYS; i++) {
		if (!p->stays[i])
			continue;
		asc_out_object(o, NULL, NULL);
		asc_out_field(o, "reason", NULL, ASC_V_STR(asc_stay_key(i)));
		asc_out_field(o, "bytes", NULL, ASC_V_BYTES_IF(p->known, p->stays[i]));
		asc_out_object_end(o);
	}
	asc_out_list_end(o);
	asc_out_object_end(o);
}

/* ---- text ---- */

/* "6.0 MiB in X; 2.0 MiB in Y", largest first. */
static void stays_line(struct asc_out *o, enum asc_prediction_kind kind,
		       const struct asc_prediction *p)
{
	const bool exact = asc_out_opts(o)->exact_bytes;
	char buf[32], line[1024] = "";
	bool done[ASC_NSTAYS] = { 0 };
	FILE *f = fmemopen(line, sizeof(line), "w");
	unsigned n = 0;

	if (!f)
		return;
	for (;;) {
		unsigned best = ASC_NSTAYS;

		for (unsigned i = 0; i < ASC_NSTAYS; i++)
			if (!done[i] && p->stays[i] &&
			    (best == ASC_NSTAYS || p->stays[i] > p->stays[best]))
				best = i;
		if (best == ASC_NSTAYS)
			break;
		done[best] = true;
		fprintf(f, "%s%s %s%s", n++ ? "; " : "", asc_fmt_bytes(buf, p->stays[best], exact),
			asc_stay_name(best),
			kind == ASC_PREDICT_TRIM && best == ASC_STAY_TOP ? " (reclaim returns them)"
									 : "");
	}
	fclose(f);
	if (n)
		asc_out_text(o, "  not returned: %s", line);
}

static void headline(struct asc_out *o, const struct asc_session *s, enum asc_prediction_kind kind,
		     const struct asc_prediction *p)
{
	const bool exact = asc_out_opts(o)->exact_bytes;
	char call[64], bytes[32], before[32], after[32];
	uint64_t rss = 0;

	if (kind == ASC_PREDICT_TRIM)
		snprintf(call, sizeof(call), "malloc_trim(%" PRIu64 ")", p->pad);
	else
		snprintf(call, sizeof(call), "reclaim");
	asc_fmt_bytes(bytes, p->bytes, exact);
	if (!p->known || !rss_of(s, &rss)) {
		asc_out_text(o,
			     "%s would return at most %s (which pages are in memory is unknown).",
			     call, bytes);
		return;
	}
	asc_out_text(o, "%s would return %s%s (%.0f%% of RSS): %s -> %s.   nothing was changed",
		     call, p->upper_bound ? "about " : "", bytes,
		     rss ? (double)p->bytes / (double)rss * 100 : 0.0,
		     asc_fmt_bytes(before, rss, exact),
		     asc_fmt_bytes(after, rss > p->bytes ? rss - p->bytes : 0, exact));
}

void asc_prediction_text(struct asc_out *o, const struct asc_session *s,
			 enum asc_prediction_kind kind, const struct asc_prediction *p)
{
	const bool exact = asc_out_opts(o)->exact_bytes;
	char x[32], y[32];
	size_t touched = 0;

	if (!asc_out_is_text(o))
		return;
	headline(o, s, kind, p);
	stays_line(o, kind, p);
	if (p->swapped)
		asc_out_text(o, "  and %s of swap", asc_fmt_bytes(x, p->swapped, exact));
	if (p->brk_delta > 0)
		asc_out_text(o, "  top is as small as it gets: glibc will move brk up by %s",
			     asc_fmt_bytes(x, (uint64_t)p->brk_delta, exact));
	if (p->known)
		asc_out_text(
			o,
			"  bounds: %s would stay if every page without a live byte went back, %s "
			"if live data could be moved",
			asc_fmt_bytes(x, p->bound_b1, exact), asc_fmt_bytes(y, p->bound_b2, exact));
	for (size_t i = 0; i < p->narenas; i++)
		touched += p->arenas[i].bytes != 0;
	if (kind == ASC_PREDICT_TRIM)
		asc_out_text(
			o,
			"  cost: one call in one thread, %" PRIu64
			" range%s; each arena is locked in turn, the longest for about %.1f ms; "
			"it returns %d",
			p->ranges, p->ranges == 1 ? "" : "s", p->stall_ms, p->return_value);
	else
		asc_out_text(
			o,
			"  cost: one borrowed thread, %" PRIu64
			" range%s in %zu arena%s; each arena is locked in turn, in slices of at "
			"most about %.1f ms",
			p->ranges, p->ranges == 1 ? "" : "s", touched, touched == 1 ? "" : "s",
			p->stall_ms);
}

void asc_prediction_put(struct asc_out *o, const struct asc_session *s,
			enum asc_prediction_kind kind, const struct asc_prediction *p)
{
	asc_prediction_text(o, s, kind, p);
	asc_prediction_json(o, s, kind, p);
	/* why it is a bound only is in the head's warnings */
	if (!p->known)
		asc_out_partial(o);
}
