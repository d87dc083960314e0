/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "commands/ledger_out.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/cover.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "commands/prediction.h"

/* ---- JSON ---- */

void asc_put_pages(struct asc_out *o, const struct asc_pages *p)
{
	const bool k = p->known;

	asc_out_field(o, "resident_bytes", NULL, ASC_V_BYTES_IF(k, p->resident));
	asc_out_field(o, "in_use_bytes", NULL, ASC_V_BYTES_IF(k, p->in_use));
	asc_out_field(o, "cached_bytes", NULL, ASC_V_BYTES_IF(k && p->cached_known, p->cached));
	asc_out_field(o, "trimmable_bytes", NULL, ASC_V_BYTES_IF(k, p->trimmable));
	asc_out_field(o, "retained_bytes", NULL, ASC_V_BYTES_IF(k, p->retained));
	asc_out_field(o, "fragmented_bytes", NULL, ASC_V_BYTES_IF(k, p->fragmented));
	asc_out_field(o, "metadata_bytes", NULL, ASC_V_BYTES_IF(k, p->metadata));
	asc_out_field(o, "nonresident_bytes", NULL, ASC_V_BYTES_IF(k, p->nonresident));
	asc_out_field(o, "swapped_bytes", NULL, ASC_V_BYTES_IF(k, p->swapped));
}

static void put_stacks(struct asc_out *o, const struct asc_ledger *l)
{
	asc_out_list(o, "stacks", NULL);
	for (size_t i = 0; i < l->nstacks; i++) {
		asc_out_object(o, NULL, NULL);
		asc_out_field(o, "tid", NULL, ASC_V_INT(l->stacks[i].tid));
		asc_out_field(o, "start", NULL, ASC_V_ADDR(l->stacks[i].start));
		asc_out_field(o, "end", NULL, ASC_V_ADDR(l->stacks[i].end));
		asc_out_field(o, "resident_bytes", NULL, ASC_V_BYTES(l->stacks[i].resident));
		asc_out_field(o, "swapped_bytes", NULL, ASC_V_BYTES(l->stacks[i].swapped));
		asc_out_object_end(o);
	}
	asc_out_list_end(o);
}

static void put_unknown(struct asc_out *o, const struct asc_session *s)
{
	const struct asc_ledger *l = s->ledger;
	const struct asc_maps *maps = asc_target_maps(s->data);

	asc_out_list(o, "unknown_anonymous", NULL);
	for (size_t i = 0; i < l->nmaps; i++) {
		const struct asc_map_use *u = &l->maps[i];

		if (strcmp(u->owner, "unknown") || !u->resident || u->map >= maps->n)
			continue;
		asc_out_object(o, NULL, NULL);
		asc_out_field(o, "start", NULL, ASC_V_ADDR(maps->v[u->map].start));
		asc_out_field(o, "end", NULL, ASC_V_ADDR(maps->v[u->map].end));
		asc_out_field(o, "bytes", NULL, ASC_V_BYTES(u->resident));
		asc_out_object_end(o);
	}
	asc_out_list_end(o);
}

void asc_put_ledger(struct asc_out *o, const struct asc_session *s)
{
	const struct asc_ledger *l = s->ledger;
	const bool k = l->known;

	if (asc_out_is_text(o))
		return;
	asc_out_object(o, "ledger", NULL);
	asc_out_field(o, "rss_bytes", NULL, ASC_V_BYTES_IF(k, l->rss));
	asc_out_field(o, "kernel_rss_bytes", NULL,
		      ASC_V_BYTES_IF(l->kernel_rss_known, l->kernel_rss));
	asc_out_field(o, "swapped_bytes", NULL, ASC_V_BYTES_IF(k, l->swap));
	asc_out_field(o, "approximate", NULL, ASC_V_BOOL(l->approximate));
	asc_out_object(o, "malloc", NULL);
	asc_put_pages(o, &l->malloc_pages);
	asc_out_object_end(o);
	asc_out_field(o, "mmapped_chunks_bytes", NULL, ASC_V_BYTES_IF(k, l->mmapped_chunks));
	asc_out_field(o, "thread_stacks_bytes", NULL, ASC_V_BYTES_IF(k, l->thread_stacks));
	asc_out_field(o, "files_bytes", NULL, ASC_V_BYTES_IF(k, l->files));
	asc_out_field(o, "shared_bytes", NULL, ASC_V_BYTES_IF(k, l->shared));
	asc_out_list(o, "other_anonymous", NULL);
	for (size_t i = 0; i < l->nother; i++) {
		if (!l->other[i].bytes && !l->other[i].swapped)
			continue;
		asc_out_object(o, NULL, NULL);
		asc_out_field(o, "name", NULL, ASC_V_STR(l->other[i].name));
		asc_out_field(o, "bytes", NULL, ASC_V_BYTES(l->other[i].bytes));
		asc_out_field(o, "swapped_bytes", NULL, ASC_V_BYTES(l->other[i].swapped));
		asc_out_object_end(o);
	}
	asc_out_list_end(o);
	asc_out_field(o, "unknown_anonymous_bytes", NULL, ASC_V_BYTES_IF(k, l->unknown_anonymous));
	put_unknown(o, s);
	put_stacks(o, l);
	asc_out_object_end(o);
}

void asc_warn_ledger(struct asc_out *o, const struct asc_session *s)
{
	const struct asc_ledger *l = s->ledger;

	/* what is unknown or approximate is in the head's warnings */
	if (!l->known)
		asc_out_partial(o);
	else if (!l->approximate && l->kernel_rss_known && l->kernel_rss != l->rss &&
		 !s->possibly_inconsistent)
		asc_out_warn(o, "W-RSS",
			     "the lines add up to %" PRIu64 " bytes, the kernel says %" PRIu64,
			     l->rss, l->kernel_rss);
	else if (!l->approximate && !l->kernel_rss_known)
		asc_out_warn(
			o, "W-SMAPS",
			"/proc/PID/smaps_rollup could not be read: the lines are not compared with "
			"the kernel's Rss");
}

/* ---- text ---- */

void asc_put_bars(struct asc_out *o, const struct asc_session *s)
{
	const struct asc_ledger *l = s->ledger;
	const struct asc_pages *m = &l->malloc_pages;
	const uint64_t rest = l->rss - m->resident - l->mmapped_chunks;
	const struct {
		const char *label;
		uint64_t bytes;
		enum asc_color color;
	} lines[] = {
		{ "in use by the program", m->in_use, ASC_C_LIVE },
		{ "free, malloc_trim returns", m->trimmable, ASC_C_TRIM },
		{ "free, reclaim returns", m->retained, ASC_C_RETAINED },
		{ "fragmented", m->fragmented, ASC_C_FRAG },
		{ "cached (tcache, fastbins)", m->cached, ASC_C_CACHED },
		{ "malloc's own headers", m->metadata, ASC_C_DIM },
		{ "mmapped chunks", l->mmapped_chunks, ASC_C_LIVE },
		{ "not malloc (code, stacks ..)", rest, ASC_C_DIM },
	};
	const bool exact = asc_out_opts(o)->exact_bytes;
	char buf[32], swap[32];

	if (!asc_out_is_text(o))
		return;
	if (!l->known)
		asc_out_text(o, "RSS ?%s%s", l->kernel_rss_known ? "   the kernel says " : "",
			     l->kernel_rss_known ? asc_fmt_bytes(buf, l->kernel_rss, exact) : "");
	else
		asc_out_text(o, "RSS %s%s%s%s", asc_fmt_bytes(buf, l->rss, exact),
			     !l->approximate ? ""
			     : s->live	     ? " (about: asked after the stop)"
					     : " (about: a core)",
			     l->swap ? "   swap " : "",
			     l->swap ? asc_fmt_bytes(swap, l->swap, exact) : "");
	for (size_t i = 0; i < ASC_ARRAY_SIZE(lines); i++)
		asc_out_bar(o, lines[i].label,
			    ASC_V_BYTES_IF(
				    l->known && (lines[i].color != ASC_C_CACHED || m->cached_known),
				    lines[i].bytes),
			    l->rss ? (double)lines[i].bytes / (double)l->rss : 0, lines[i].color);
}

/* The next line of @p text that fits @p room, cut at a blank. @return its length */
static size_t line_of(const char *text, size_t room)
{
	size_t n = strlen(text), cut;

	if (n <= room)
		return n;
	for (cut = room; cut > 0 && text[cut] != ' '; cut--)
		;
	return cut ? cut : room;
}

void asc_put_wrapped(struct asc_out *o, const char *first, const char *rest, const char *text,
		     const char *command)
{
	const unsigned width = asc_out_opts(o)->width;
	size_t column = command ? strlen(command) + 3 : 0, indent = strlen(first);
	size_t room = width > indent + column + 30 ? width - indent - column : width ? 40 : 1000;
	const char *lead = first;

	if (width && room > 100)
		room = 100;
	while (*text || lead == first) {
		size_t n = line_of(text, room);

		if (lead == first && command)
			asc_out_text(o, "%s%-*.*s   %s%s%s", lead, width ? (int)room : (int)n,
				     (int)n, text, asc_out_color(o, ASC_C_BOLD), command,
				     *asc_out_color(o, ASC_C_BOLD) ? asc_out_color(o, ASC_C_NONE)
								   : "");
		else
			asc_out_text(o, "%s%.*s", lead, (int)n, text);
		text += n;
		text += strspn(text, " ");
		lead = rest;
	}
}

/* ---- environment ---- */

static bool concerns_malloc(const char *e)
{
	return !strncmp(e, "GLIBC_TUNABLES=", 15) || !strncmp(e, "MALLOC_", 7) ||
	       !strncmp(e, "LD_PRELOAD=", 11);
}

/* NUL-separated strings; the last one may be cut. */
static void collect(const char *text, size_t len, struct asc_environ *ret)
{
	ASC_VEC(char *) v = { 0 };

	for (size_t i = 0; i < len;) {
		size_t n = strnlen(text + i, len - i);
		char *copy;

		if (n < len - i && concerns_malloc(text + i) && (copy = strdup(text + i)) != NULL) {
			struct asc_error *err = asc_vec_push(&v, copy);

			if (err) {
				asc_error_free(err);
				free(copy);
			}
		}
		i += n + 1;
	}
	ret->v = v.data;
	ret->n = v.len;
	ret->known = true;
}

static char *slurp(const char *path, size_t max, size_t *ret_len)
{
	ASC_AUTO(asc_fclosep) FILE *f = fopen(path, "re");
	char *text = f ? malloc(max) : NULL;

	if (!text)
		return NULL;
	*ret_len = fread(text, 1, max, f);
	return text;
}

void asc_environ_read(const struct asc_session *s, struct asc_environ *ret)
{
	enum { MOST = 1 << 20 };
	const struct asc_maps *maps = asc_target_maps(s->data);
	ASC_AUTO(asc_freep) char *text = NULL, *path = NULL;
	size_t len = 0;

	*ret = (struct asc_environ){ 0 };
	if (s->live && asprintf(&path, "/proc/%d/environ", (int)asc_target_pid(s->live)) < 0)
		path = NULL;
	if (path && (text = slurp(path, MOST, &len)) != NULL) {
		collect(text, len, ret);
		return;
	}
	/* the kernel put the strings at the end of the main stack, and a core has that */
	for (size_t i = 0; maps && i < maps->n; i++) {
		const struct asc_map *m = &maps->v[i];

		if (strcmp(m->path, "[stack]"))
			continue;
		len = (size_t)asc_min(m->end - m->start, MOST);
		free(text);
		text = malloc(len);
		if (text && asc_read_some(s->data, m->end - len, text, len) == len)
			collect(text, len, ret);
	}
}

void asc_environ_deinit(struct asc_environ *e)
{
	for (size_t i = 0; i < e->n; i++)
		free(e->v[i]);
	free(e->v);
	*e = (struct asc_environ){ 0 };
}

/* ---- the verdict ---- */

static void prediction_freep(struct asc_prediction **p)
{
	asc_prediction_free(*p);
}

/* What advice says of a prediction concerns few targets: it is made where there is anything to say. */
static struct asc_error *predict(const struct asc_session *s, struct asc_prediction **ret_trim,
				 struct asc_prediction **ret_reclaim)
{
	bool locked;

	if (asc_trim_foreign(asc_session_heap(s)))
		ASC_TRY(asc_prediction_make(s, ASC_PREDICT_TRIM, 0, -1, ret_trim));
	ASC_TRY(asc_session_locked(s, &locked));
	return locked ? asc_prediction_make(s, ASC_PREDICT_RECLAIM, 0, -1, ret_reclaim) : NULL;
}

struct asc_error *asc_advice_get(const struct asc_session *s, struct asc_advice **ret)
{
	ASC_AUTO(prediction_freep) struct asc_prediction *trim = NULL;
	ASC_AUTO(prediction_freep) struct asc_prediction *reclaim = NULL;
	ASC_AUTO(asc_environ_deinit) struct asc_environ env = { 0 };
	struct asc_utilisation pages;
	struct asc_advise_in in = { 0 };

	in.heap = asc_session_heap(s);
	in.ledger = s->ledger;
	in.allocator = s->allocator;
	if (in.heap) {
		ASC_TRY(predict(s, &trim, &reclaim));
		ASC_TRY(asc_utilisation(in.heap, s->residency, -1, &pages));
		in.pages = &pages;
		in.trim = trim;
		in.reclaim = reclaim;
	}
	asc_environ_read(s, &env);
	in.env = (const char *const *)env.v;
	in.nenv = env.n;
	in.env_known = env.known;
	return asc_advise(&in, ret);
}
