/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "arenascope/pins.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "commands/cmd.h"

extern const struct asc_cmd asc_cmd_map;

enum { ROWS_ONE = 16, HEAPS_SHOWN = 24, MOST_CELLS = 1 << 22 };

enum glyph { G_ABSENT, G_FREE, G_TOP, G_SOME, G_HALF, G_FULL, NGLYPHS };
static const char *const utf8[NGLYPHS] = { "·", "░", "T", "▒", "▓", "█" };
static const char ascii[NGLYPHS + 1] = " .T-+#";
static const enum asc_color colors[NGLYPHS] = { ASC_C_DIM,  ASC_C_TRIM, ASC_C_RETAINED,
						ASC_C_FRAG, ASC_C_FRAG, ASC_C_LIVE };

static enum glyph glyph_of(const struct asc_cell *c)
{
	uint64_t resident = c->live + c->free + c->top;

	if (!resident)
		return G_ABSENT;
	if (!c->live)
		return c->top >= c->free ? G_TOP : G_FREE;
	if (c->live >= resident - resident / 10)
		return G_FULL;
	return c->live >= resident / 2 ? G_HALF : G_SOME;
}

struct view {
	const struct asc_session *s;
	const struct asc_heap *heap;
	struct asc_out *o;
	uint64_t cell; /* 0: by the width */
	unsigned columns;
	int arena; /* -1: all */
	enum asc_map_after after;
	uint64_t cells; /* so far */
};

/* One heap to be shown. */
struct place {
	const struct asc_arena *a;
	const struct asc_region *r;
	uint64_t resident, size;
};

static uint64_t cell_for(const struct view *v, uint64_t size)
{
	uint64_t rows = v->arena >= 0 ? ROWS_ONE : 1;
	uint64_t cell = v->heap->page_size;

	if (v->cell)
		return v->cell;
	while (size / cell + 2 > rows * v->columns)
		cell *= 2;
	return cell;
}

/* ---- text ---- */

static void row(const struct view *v, asc_addr at, const struct asc_cell *c, size_t n)
{
	const bool plain = asc_out_opts(v->o)->ascii;
	ASC_AUTO(asc_freep) char *line = NULL;
	ASC_AUTO(asc_fclosep) FILE *f = NULL;
	size_t len;
	enum glyph last = NGLYPHS;

	f = open_memstream(&line, &len);
	if (!f)
		return;
	while (n && plain && glyph_of(&c[n - 1]) == G_ABSENT)
		n--; /* no blanks at the end */
	for (size_t i = 0; i < n; i++) {
		enum glyph g = glyph_of(&c[i]);

		if (g != last && *asc_out_color(v->o, colors[g]))
			fprintf(f, "%s%s", asc_out_color(v->o, ASC_C_NONE),
				asc_out_color(v->o, colors[g]));
		last = g;
		if (plain)
			fputc(ascii[g], f);
		else
			fputs(utf8[g], f);
	}
	if (n)
		fputs(asc_out_color(v->o, ASC_C_NONE), f);
	if (!fflush(f))
		asc_out_text(v->o, "  0x%012" PRIx64 "  %s", at, line);
}

static void draw(const struct view *v, const struct place *p, const struct asc_cell *c, size_t n,
		 uint64_t cell)
{
	asc_addr base = asc_align_down(p->r->start, cell);
	char x[32], y[32], z[32];

	asc_out_text(v->o, "arena %u   %s of %s resident   one cell = %s%s", p->a->index,
		     v->s->ledger->known ? asc_fmt_bytes(x, p->resident, false) : "?",
		     asc_fmt_bytes(y, p->size, false), asc_fmt_bytes(z, cell, false),
		     v->after == ASC_AFTER_TRIM	     ? "   after malloc_trim(0)"
		     : v->after == ASC_AFTER_RECLAIM ? "   after reclaim"
						     : "");
	for (size_t i = 0; i < n; i += v->columns)
		row(v, base + i * cell, c + i, (size_t)asc_min(v->columns, n - i));
}

static void legend(const struct view *v)
{
	const bool plain = asc_out_opts(v->o)->ascii;

	asc_out_text(v->o, "  %s >=90%% live  %s 50-90%%  %s <50%%, live data pins it",
		     plain ? "#" : "█", plain ? "+" : "▓", plain ? "-" : "▒");
	asc_out_text(v->o, "  %s free, resident  T top, resident  %s not resident",
		     plain ? "." : "░", plain ? "blank:" : "·");
}

/* ---- JSON ---- */

static struct json_object *numbers(const struct asc_cell *c, size_t n, size_t member)
{
	struct json_object *list = json_object_new_array_ext((int)asc_min(n + 1, 1 << 22));

	for (size_t i = 0; list && i < n; i++)
		json_object_array_add(
			list,
			json_object_new_uint64(*(const uint64_t *)((const char *)&c[i] + member)));
	return list;
}

static void put_cells(const struct view *v, const struct place *p, const struct asc_cell *c,
		      size_t n, uint64_t cell)
{
	struct asc_out *o = v->o;
	ASC_AUTO(asc_freep) char *picture = calloc(n + 1, 1);

	for (size_t i = 0; picture && i < n; i++)
		picture[i] = ascii[glyph_of(&c[i])];
	asc_out_object(o, NULL, NULL);
	asc_out_field(o, "arena", NULL, ASC_V_COUNT(p->a->index));
	asc_out_field(o, "start", NULL, ASC_V_ADDR(p->r->start));
	asc_out_field(o, "end", NULL, ASC_V_ADDR(p->r->end));
	asc_out_field(o, "first_cell", NULL, ASC_V_ADDR(asc_align_down(p->r->start, cell)));
	asc_out_field(o, "cell_bytes", NULL, ASC_V_BYTES(cell));
	asc_out_field(o, "picture", NULL, ASC_V_STR(picture ? picture : ""));
	asc_out_json(o, "live_bytes", numbers(c, n, offsetof(struct asc_cell, live)));
	asc_out_json(o, "free_bytes", numbers(c, n, offsetof(struct asc_cell, free)));
	asc_out_json(o, "top_bytes", numbers(c, n, offsetof(struct asc_cell, top)));
	asc_out_json(o, "absent_bytes", numbers(c, n, offsetof(struct asc_cell, absent)));
	asc_out_object_end(o);
}

/* ---- heaps ---- */

static struct asc_error *show(struct view *v, const struct place *p)
{
	ASC_AUTO(asc_freep) struct asc_cell *c = NULL;
	uint64_t cell = cell_for(v, p->size);
	size_t n = 0;

	v->cells += p->size / cell + 2;
	if (v->cells > MOST_CELLS)
		return asc_err_try(asc_err(ASC_EUSAGE,
					   "a cell of %" PRIu64 " bytes makes more than %d cells",
					   cell, MOST_CELLS),
				   "a larger --cell, or one arena");
	ASC_TRY(asc_region_cells(v->heap, p->a, p->r, v->s->residency, cell, v->after, &c, &n));
	if (asc_out_is_text(v->o))
		draw(v, p, c, n, cell);
	else
		put_cells(v, p, c, n, cell);
	return NULL;
}

static int by_resident(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return (x->resident < y->resident) - (x->resident > y->resident);
}

static int by_place(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->a->index != y->a->index)
		return x->a->index < y->a->index ? -1 : 1;
	return (x->r->start > y->r->start) - (x->r->start < y->r->start);
}

static struct asc_error *places(const struct view *v, struct place **ret, size_t *ret_n)
{
	const struct asc_ledger *l = v->s->ledger;
	struct place *list;
	size_t n = 0;

	for (size_t i = 0; i < v->heap->narenas; i++)
		n += v->heap->arenas[i].nregions;
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return asc_err(ASC_ENOMEM, "%zu heaps", n);
	n = 0;
	for (size_t i = 0; i < v->heap->narenas; i++) {
		const struct asc_arena *a = &v->heap->arenas[i];

		if (v->arena >= 0 && (unsigned)v->arena != a->index)
			continue;
		for (size_t k = 0; k < a->nregions; k++)
			list[n++] = (struct place){ a, &a->regions[k],
						    l->arenas[i].regions[k].pages.resident,
						    a->regions[k].end - a->regions[k].start };
	}
	*ret = list;
	*ret_n = n;
	return NULL;
}

static struct asc_error *show_all(struct view *v)
{
	ASC_AUTO(asc_freep) struct place *list = NULL;
	size_t n = 0, shown;

	ASC_TRY(places(v, &list, &n));
	shown = n;
	if (asc_out_is_text(v->o) && v->arena < 0 && n > HEAPS_SHOWN) {
		asc_sort(list, n, sizeof(*list), by_resident);
		shown = HEAPS_SHOWN;
	}
	asc_sort(list, shown, sizeof(*list), by_place);
	asc_out_list(v->o, "heaps", NULL);
	for (size_t i = 0; i < shown; i++)
		ASC_TRY(show(v, &list[i]));
	asc_out_list_end(v->o);
	if (n > shown)
		asc_out_text(v->o, "and %zu smaller heaps: map N", n - shown);
	if (n)
		legend(v);
	return NULL;
}

/* ---- page utilisation ---- */

static struct asc_error *utilisation(const struct view *v)
{
	static const char *const ranges[ASC_UTIL_BUCKETS] = { "0 %",	 "1-10 %",  "11-20 %",
							      "21-30 %", "31-40 %", "41-50 %",
							      "51-60 %", "61-70 %", "71-80 %",
							      "81-90 %", "91-99 %", "100 %" };
	static const struct asc_col cols[] = {
		{ "live", "LIVE", ASC_COL_RIGHT },
		{ "pages", "PAGES", ASC_COL_RIGHT },
		{ "bytes", "RESIDENT", ASC_COL_RIGHT },
	};
	struct asc_utilisation u;
	double index, use, blowup;
	char x[32], y[32];
	const bool exact = asc_out_opts(v->o)->exact_bytes;

	ASC_TRY(asc_utilisation(v->heap, v->s->residency, v->arena, &u));
	use = u.resident ? (double)u.live / (double)u.resident : 0;
	index = u.free_bytes ? (double)(u.free_bytes - u.whole_page_bytes) / (double)u.free_bytes
			     : 0;
	blowup = u.in_use_bytes ? (double)u.peak_bytes / (double)u.in_use_bytes : 0;
	asc_out_object(v->o, "utilisation", NULL);
	asc_out_field(v->o, "resident_bytes", NULL,
		      ASC_V_BYTES_IF(v->s->ledger->known, u.resident));
	asc_out_field(v->o, "live_bytes", NULL, ASC_V_BYTES_IF(v->s->ledger->known, u.live));
	asc_out_field(v->o, "free_bytes", NULL, ASC_V_BYTES(u.free_bytes));
	asc_out_field(v->o, "whole_page_bytes", NULL, ASC_V_BYTES(u.whole_page_bytes));
	asc_out_field(v->o, "unusable_free_index", NULL, ASC_V_RATIO(index));
	asc_out_field(v->o, "peak_bytes", NULL, ASC_V_BYTES(u.peak_bytes));
	asc_out_field(v->o, "in_use_bytes", NULL, ASC_V_BYTES(u.in_use_bytes));
	asc_out_field(v->o, "mixed_pages", NULL, ASC_V_COUNT(u.mixed_pages));
	asc_out_field(v->o, "mixed_live_bytes", NULL, ASC_V_BYTES(u.mixed_live));
	asc_out_field(v->o, "mixed_free_bytes", NULL, ASC_V_BYTES(u.mixed_free));
	asc_out_object_end(v->o);
	if (v->s->ledger->known) {
		asc_out_table(v->o, "histogram", "Resident pages by their share of live bytes",
			      "bucket", cols, ASC_ARRAY_SIZE(cols));
		for (size_t i = 0; i < ASC_UTIL_BUCKETS; i++) {
			const struct asc_value row_v[] = {
				ASC_V_STR(ranges[i]),
				ASC_V_COUNT(u.pages[i]),
				ASC_V_BYTES(u.pages[i] * v->heap->page_size),
			};

			asc_out_row(v->o, row_v);
		}
		asc_out_table_end(v->o);
		asc_out_text(v->o, "page utilisation %.0f%%: %s live on %s resident", use * 100,
			     asc_fmt_bytes(x, u.live, exact), asc_fmt_bytes(y, u.resident, exact));
	}
	asc_out_text(v->o, "unusable free space %.0f%%: of %s free, %s are in whole pages",
		     index * 100, asc_fmt_bytes(x, u.free_bytes, exact),
		     asc_fmt_bytes(y, u.whole_page_bytes, exact));
	asc_out_text(v->o, "blow-up %.1f: the arenas' peaks add up to %s, in use are %s", blowup,
		     asc_fmt_bytes(x, u.peak_bytes, exact),
		     asc_fmt_bytes(y, u.in_use_bytes, exact));
	return NULL;
}

/* ---- the command ---- */

static struct asc_error *arguments(struct asc_session *s, const struct asc_args *a, struct view *v)
{
	const char *after = asc_args_get(a, "after");
	unsigned n = 0;

	v->heap = asc_session_heap(s);
	if (!v->heap)
		return asc_err(ASC_EUNSUPPORTED, "there is no glibc heap");
	ASC_TRY(asc_args_bytes(a, "cell", &v->cell));
	if (after && !strcmp(after, "trim"))
		v->after = ASC_AFTER_TRIM;
	else if (after && !strcmp(after, "reclaim"))
		v->after = ASC_AFTER_RECLAIM;
	if (asc_args_count(a)) {
		ASC_TRY(asc_args_at_arena(a, 0, s, &n));
		v->arena = (int)n;
	}
	return NULL;
}

static struct asc_error *check(const struct asc_args *a)
{
	uint64_t cell = 0;

	ASC_TRY(asc_args_bytes(a, "cell", &cell));
	if (asc_args_has(a, "cell") && (!asc_is_pow2(cell) || cell < 16))
		return asc_usage(&asc_cmd_map, "--cell is a power of two from 16 on");
	return NULL;
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	struct view v = { .s = s, .o = o, .arena = -1 };
	unsigned width = asc_out_opts(o)->width ? asc_out_opts(o)->width : 80;

	ASC_TRY(asc_session_need(s, ASC_NEED_LISTS | ASC_NEED_RESIDENCY | ASC_NEED_LEDGER));
	ASC_TRY(arguments(s, a, &v));
	v.columns = width > 18 + 16 ? (width - 18) / 16 * 16 : 16;
	asc_out_begin(o, "map");
	asc_out_field(o, "after", NULL,
		      v.after == ASC_AFTER_NOTHING ? ASC_V_NONE
						   : ASC_V_STR(asc_args_get(a, "after")));
	ASC_TRY(show_all(&v));
	ASC_TRY(utilisation(&v));
	if (!s->ledger->known || !v.heap->complete)
		asc_out_partial(o);
	return NULL;
}

static const struct asc_cmd_opt opts[] = {
	{ .name = "cell", .arg = "SIZE", .summary = "bytes a cell, a power of two" },
	{ .name = "after",
	  .arg = "CALL",
	  .summary = "as it would be after trim or reclaim",
	  .complete = ASC_COMPLETE_CHOICE,
	  .choices = "trim|reclaim" },
	{ .name = NULL },
};

const struct asc_cmd asc_cmd_map = {
	.name = "map",
	.args = "[N] [--cell=SIZE] [--after=trim|reclaim]",
	.summary = "heap map in block characters, and how full pages are",
	.help = "Each cell shows its resident bytes: live (live and cached chunks, headers) "
		"against free.\n"
		"Below: resident pages by their share of live bytes; page utilisation = live / "
		"resident;\n"
		"unusable free space = (free - free in whole pages) / free; blow-up = sum of the "
		"arenas'\n"
		"highest sizes / bytes in use now.",
	.opts = opts,
	.max_args = 1,
	.complete = ASC_COMPLETE_ARENA,
	.needs = ASC_NEED_TARGET | ASC_NEED_LIBC | ASC_NEED_LISTS | ASC_NEED_LEDGER,
	.check = check,
	.flags = ASC_CMD_FIELDS,
	.run = run,
};
