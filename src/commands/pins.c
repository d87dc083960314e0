/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "arenascope/pins.h"

#include <inttypes.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"

enum { DEFAULT_TOP = 20, MOST_TOP = 100000, GROUPS_SHOWN = 10 };

static const struct asc_col pin_cols[] = {
	{ "address", "CHUNK", 0 },
	{ "size_bytes", "SIZE", ASC_COL_RIGHT },
	{ "arena", "ARENA", ASC_COL_RIGHT },
	{ "heap", "HEAP", 0 },
	{ "chunks", "LIVE", ASC_COL_RIGHT },
	{ "cached_chunks", "CACHED", ASC_COL_RIGHT },
	{ "island_bytes", "ISLAND", ASC_COL_RIGHT },
	{ "strands_bytes", "STRANDS", ASC_COL_RIGHT },
	{ "frees_bytes", "COMES BACK", ASC_COL_RIGHT },
	{ "last_in_heap", "LAST", 0 },
};

static const struct asc_col group_cols[] = {
	{ "size_bytes", "SIZE", ASC_COL_RIGHT },
	{ "count", "PINS", ASC_COL_RIGHT },
	{ "bytes", "BYTES", ASC_COL_RIGHT },
	{ "strands_bytes", "STRANDS", ASC_COL_RIGHT },
};

static void put_pins(struct asc_out *o, const struct asc_pins *p, bool known, bool cached_known)
{
	asc_out_table(o, "pins", NULL, "pin", pin_cols, ASC_ARRAY_SIZE(pin_cols));
	for (size_t i = 0; i < p->n; i++) {
		const struct asc_pin *pin = &p->v[i];
		const struct asc_value v[] = {
			ASC_V_ADDR(pin->addr),
			ASC_V_BYTES(pin->size),
			ASC_V_COUNT(pin->arena),
			ASC_V_ADDR(pin->region),
			ASC_V_COUNT(pin->chunks),
			cached_known ? ASC_V_COUNT(pin->cached) : ASC_V_UNKNOWN,
			ASC_V_BYTES(pin->bytes),
			ASC_V_BYTES_IF(known, pin->strands),
			ASC_V_BYTES_IF(known, pin->frees),
			ASC_V_BOOL(pin->last_in_heap),
		};

		asc_out_row(o, v);
	}
	asc_out_table_end(o);
}

static void put_groups(struct asc_out *o, const struct asc_pins *p, bool known)
{
	asc_out_table(o, "groups", "By size of the chunk (\"-\": several side by side)", "group",
		      group_cols, ASC_ARRAY_SIZE(group_cols));
	for (size_t i = 0; i < p->ngroups; i++) {
		const struct asc_pin_group *g = &p->groups[i];
		const struct asc_value v[] = {
			g->size ? ASC_V_COUNT(g->size) : ASC_V_NONE,
			ASC_V_COUNT(g->count),
			ASC_V_BYTES(g->bytes),
			ASC_V_BYTES_IF(known, g->strands),
		};

		if (asc_out_is_text(o) && i == GROUPS_SHOWN)
			break;
		asc_out_row(o, v);
	}
	asc_out_table_end(o);
}

static void pins_freep(struct asc_pins **p)
{
	asc_pins_free(*p);
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	ASC_AUTO(pins_freep) struct asc_pins *p = NULL;
	uint64_t top = DEFAULT_TOP;
	int arena = -1;
	bool known;
	char x[32], y[32];

	ASC_TRY(asc_session_need(s, ASC_NEED_WALK | ASC_NEED_RESIDENCY));
	ASC_TRY(asc_args_u64(a, "top", &top));
	ASC_TRY(asc_args_arena(a, s, &arena));
	if (!asc_session_heap(s))
		return asc_err(ASC_EUNSUPPORTED, "there is no glibc heap");
	known = s->residency && s->residency->source != ASC_RESIDENCY_UNKNOWN;
	ASC_TRY(asc_pins_make(asc_session_heap(s), s->residency, arena,
			      (size_t)asc_min(top, MOST_TOP), &p));
	asc_out_begin(o, "pins");
	asc_out_field(o, "islands", NULL, ASC_V_COUNT(p->islands));
	asc_out_field(o, "bytes", NULL, ASC_V_BYTES(p->bytes));
	asc_out_field(o, "strands_bytes", NULL, ASC_V_BYTES_IF(known, p->strands));
	asc_out_text(o,
		     "%" PRIu64
		     " islands of live chunks, %s; without the one or the other, %s of free "
		     "memory would come back.",
		     p->islands, asc_fmt_bytes(x, p->bytes, asc_out_opts(o)->exact_bytes),
		     known ? asc_fmt_bytes(y, p->strands, asc_out_opts(o)->exact_bytes) : "?");
	put_pins(o, p, known, asc_session_heap(s)->tcaches_known);
	put_groups(o, p, known);
	if (!known)
		asc_out_partial(o);
	if (!asc_session_heap(s)->complete)
		asc_out_partial(o);
	asc_partial_tcaches(s, o);
	return NULL;
}

static const struct asc_cmd_opt opts[] = {
	{ .name = "arena",
	  .arg = "N",
	  .summary = "only this arena",
	  .complete = ASC_COMPLETE_ARENA },
	{ .name = "top", .arg = "K", .summary = "show K pins (20)" },
	{ .name = NULL },
};

const struct asc_cmd asc_cmd_pins = {
	.name = "pins",
	.args = "[--arena=N] [--top=K]",
	.summary = "the live chunks that strand the most resident free bytes",
	.help = "An island is one live chunk, or several side by side, between two free chunks. "
		"STRANDS:\n"
		"resident free bytes that would come back if it were freed, because the free "
		"chunks\n"
		"around it would become one: pages(before + island + behind) - pages(before) -\n"
		"pages(behind) - the island's own bytes on them. COMES BACK adds those. LAST marks "
		"the\n"
		"only live chunk of a heap. Islands of one chunk are also grouped by its size.",
	.opts = opts,
	.needs = ASC_NEED_TARGET | ASC_NEED_LIBC | ASC_NEED_WALK | ASC_NEED_RESIDENCY,
	.flags = ASC_CMD_FIELDS,
	.run = run,
};
