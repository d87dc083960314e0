/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"
#include "commands/ledger_out.h"

static const struct asc_col line_cols[] = {
	{ "line", "WHAT", 0 },
	{ "bytes", "RESIDENT", ASC_COL_RIGHT },
	{ "share", "OF RSS", ASC_COL_RIGHT },
	{ "swapped_bytes", "SWAP", ASC_COL_RIGHT },
};

static void line(struct asc_out *o, const struct asc_ledger *l, const char *name, uint64_t bytes,
		 struct asc_value swapped)
{
	const struct asc_value v[] = {
		ASC_V_STR(name),
		ASC_V_BYTES_IF(l->known, bytes),
		!l->known || !l->rss ? ASC_V_UNKNOWN : ASC_V_RATIO((double)bytes / (double)l->rss),
		swapped,
	};

	asc_out_row(o, v);
}

/* What is cached and was not found is "in use"; then this one is not known. */
static void line_cached(struct asc_out *o, const struct asc_ledger *l)
{
	const struct asc_pages *m = &l->malloc_pages;
	const struct asc_value v[] = { ASC_V_STR("malloc: cached (tcache, fastbins)"),
				       ASC_V_UNKNOWN, ASC_V_UNKNOWN, ASC_V_NONE };

	if (m->cached_known)
		line(o, l, "malloc: cached (tcache, fastbins)", m->cached, ASC_V_NONE);
	else
		asc_out_row(o, v);
}

static uint64_t swapped_of(const struct asc_ledger *l, const char *owner)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < l->nmaps; i++)
		if (!strcmp(l->maps[i].owner, owner))
			sum += l->maps[i].swapped;
	return sum;
}

static void put_lines(struct asc_out *o, const struct asc_ledger *l)
{
	const struct asc_pages *m = &l->malloc_pages;
	const struct asc_value none = ASC_V_NONE;
	char stacks[64];

#define SWAPPED(owner) ASC_V_BYTES_IF(l->known, swapped_of(l, owner))
	asc_out_table(o, "lines", NULL, "line", line_cols, ASC_ARRAY_SIZE(line_cols));
	line(o, l, "malloc: in use", m->in_use, none);
	line(o, l, "malloc: free, malloc_trim returns", m->trimmable, none);
	line(o, l, "malloc: free, reclaim returns", m->retained, none);
	line(o, l, "malloc: fragmented", m->fragmented, none);
	line_cached(o, l);
	line(o, l, "malloc: headers", m->metadata, none);
	if (m->swapped)
		line(o, l, "malloc: arenas, in swap", 0, SWAPPED("malloc"));
	line(o, l, "malloc: mmapped chunks", l->mmapped_chunks, SWAPPED("mmapped chunk"));
	snprintf(stacks, sizeof(stacks), "stacks of %zu thread%s", l->nstacks,
		 l->nstacks == 1 ? "" : "s");
	line(o, l, stacks, l->thread_stacks, SWAPPED("stack"));
	line(o, l, "files (code, data, mapped)", l->files, SWAPPED("file"));
	line(o, l, "shared memory", l->shared, SWAPPED("shared"));
	for (size_t i = 0; i < l->nother; i++)
		if (l->other[i].bytes || l->other[i].swapped)
			line(o, l, l->other[i].name, l->other[i].bytes,
			     ASC_V_BYTES(l->other[i].swapped));
	line(o, l, "unknown anonymous memory", l->unknown_anonymous, SWAPPED("unknown"));
	line(o, l, "RSS", l->rss, ASC_V_BYTES_IF(l->known, l->swap));
	asc_out_table_end(o);
#undef SWAPPED
}

/* ---- mappings ---- */

static const struct asc_col map_cols[] = {
	{ "start", "START", 0 },
	{ "end", "END", 0 },
	{ "permissions", "PERM", 0 },
	{ "resident_bytes", "RESIDENT", ASC_COL_RIGHT },
	{ "swapped_bytes", "SWAP", ASC_COL_RIGHT },
	{ "owner", "OWNER", 0 },
	{ "detail", "WHAT", 0 },
	{ "path", "MAPPING", ASC_COL_TRUNC },
};

static void put_map(struct asc_out *o, const struct asc_session *s, const struct asc_map_use *u)
{
	const struct asc_map *m = &asc_target_maps(s->data)->v[u->map];
	const struct asc_ledger *l = s->ledger;
	char perm[5], detail[64] = "";
	const char *what = detail;

	snprintf(perm, sizeof(perm), "%c%c%c%c", m->flags & ASC_MAP_READ ? 'r' : '-',
		 m->flags & ASC_MAP_WRITE ? 'w' : '-', m->flags & ASC_MAP_EXEC ? 'x' : '-',
		 m->flags & ASC_MAP_SHARED ? 's' : 'p');
	if (!strcmp(u->owner, "malloc") && u->detail >= 0)
		snprintf(detail, sizeof(detail), "arena %d", u->detail);
	else if (!strcmp(u->owner, "stack") && u->detail >= 0 && (size_t)u->detail < l->nstacks)
		snprintf(detail, sizeof(detail), "thread %d", (int)l->stacks[u->detail].tid);
	else if (!strcmp(u->owner, "other") && u->detail >= 0 && (size_t)u->detail < l->nother)
		what = l->other[u->detail].name;
	const struct asc_value v[] = {
		ASC_V_ADDR(m->start),
		ASC_V_ADDR(m->end),
		m->flags_known ? ASC_V_STR(perm) : ASC_V_UNKNOWN,
		ASC_V_BYTES(u->resident),
		ASC_V_BYTES(u->swapped),
		ASC_V_STR(u->owner),
		*what ? ASC_V_STR(what) : ASC_V_NONE,
		*m->path ? ASC_V_STR(m->path) : ASC_V_NONE,
	};

	asc_out_row(o, v);
}

static void put_maps(struct asc_out *o, const struct asc_session *s)
{
	const struct asc_ledger *l = s->ledger;
	const struct asc_maps *maps = asc_target_maps(s->data);

	asc_out_table(o, "maps", "Mappings", "map", map_cols, ASC_ARRAY_SIZE(map_cols));
	for (size_t i = 0; i < l->nmaps; i++) {
		/* people read what costs memory; machines get every mapping */
		if (l->maps[i].map < maps->n &&
		    (!asc_out_is_text(o) || l->maps[i].resident || l->maps[i].swapped))
			put_map(o, s, &l->maps[i]);
	}
	asc_out_table_end(o);
}

/* The largest mappings that nobody could name. */
static void put_unknown(struct asc_out *o, const struct asc_session *s)
{
	enum { MOST = 5 };
	const struct asc_ledger *l = s->ledger;
	const struct asc_maps *maps = asc_target_maps(s->data);
	const bool exact = asc_out_opts(o)->exact_bytes;
	uint64_t last = UINT64_MAX;
	size_t last_i = 0;
	char buf[32];

	if (!asc_out_is_text(o) || l->unknown_anonymous < 1 << 20)
		return;
	asc_out_title(o, "Largest unknown anonymous mappings (all: rss --maps)");
	for (unsigned k = 0; k < MOST; k++) {
		const struct asc_map_use *best = NULL;

		for (size_t i = 0; i < l->nmaps; i++) {
			const struct asc_map_use *u = &l->maps[i];
			bool after = u->resident < last || (u->resident == last && i > last_i);

			if (!strcmp(u->owner, "unknown") && u->resident && after &&
			    u->map < maps->n && (!best || u->resident > best->resident))
				best = u;
		}
		if (!best)
			break;
		last = best->resident;
		last_i = (size_t)(best - l->maps);
		asc_out_text(o, "  0x%" PRIx64 "-0x%" PRIx64 "  %s", maps->v[best->map].start,
			     maps->v[best->map].end, asc_fmt_bytes(buf, best->resident, exact));
	}
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	ASC_TRY(asc_session_need(s, ASC_NEED_LEDGER));
	asc_out_begin(o, "rss");
	asc_put_ledger(o, s);
	put_lines(o, s->ledger);
	put_unknown(o, s);
	if (asc_args_has(a, "maps"))
		put_maps(o, s);
	asc_warn_ledger(o, s);
	return NULL;
}

static const struct asc_cmd_opt opts[] = {
	{ .name = "maps", .summary = "every mapping with its owner" },
	{ .name = NULL },
};

const struct asc_cmd asc_cmd_rss = {
	.name = "rss",
	.args = "[--maps]",
	.summary = "every resident page by cause; the lines add up to the kernel's Rss",
	.help = "Every resident byte of the process has exactly one owner:\n"
		"  malloc   in use + free that malloc_trim(0) returns + free that only reclaim "
		"returns +\n"
		"           fragmented (free bytes on pages with live data) + cached + headers\n"
		"  mmapped chunks, stacks (by the threads' stack pointers), files, shared memory,\n"
		"  other anonymous memory where its name, place or size tells what it is, and the "
		"rest.\n"
		"The sum is the kernel's Rss (smaps) of the same stop. Swap is a column of its "
		"own.",
	.opts = opts,
	.flags = ASC_CMD_HEADLINE,
	.needs = ASC_NEED_TARGET | ASC_NEED_LEDGER,
	.run = run,
};
