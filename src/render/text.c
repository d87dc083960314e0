// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Text for people. Neighbouring fields are aligned with each other; tables are libsmartcols', in
 * batches, so that a list of ten million chunks starts at once and needs no memory.
 */
#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "render/out.h"

enum { DEPTH_MAX = 16, BATCH = 500, COLS_MAX = 64 };

struct pending {
	char *label, *value;
};

struct text {
	struct pending *fields;
	size_t nfields, fields_cap;
	bool titled[DEPTH_MAX]; /* indents what is in it */
	size_t depth;
	unsigned indent;
	/* the open table */
	struct libscols_table *tb;
	const struct asc_col *cols;
	size_t ncols, batch_rows, batches;
	size_t width[COLS_MAX]; /* widest cell so far */
};

static struct text *priv(const struct asc_out *o)
{
	return o->priv;
}

static struct asc_error *create(struct asc_out *o)
{
	o->priv = calloc(1, sizeof(struct text));
	return o->priv ? NULL : asc_err(ASC_ENOMEM, "out of memory for the output");
}

static void drop(struct asc_out *o)
{
	struct text *p = priv(o);

	for (size_t i = 0; i < p->nfields; i++) {
		free(p->fields[i].label);
		free(p->fields[i].value);
	}
	free(p->fields);
	scols_unref_table(p->tb);
	memset(p, 0, sizeof(*p));
}

static void destroy(struct asc_out *o)
{
	drop(o);
	free(o->priv);
}

static void put_indent(struct asc_out *o)
{
	fprintf(o->f, "%*s", (int)(priv(o)->indent * 2), "");
}

/* ---- fields ---- */

static void flush_fields(struct asc_out *o)
{
	struct text *p = priv(o);
	size_t widest = 0;

	for (size_t i = 0; i < p->nfields; i++)
		widest = asc_max(widest, asc_text_width(p->fields[i].label));
	for (size_t i = 0; i < p->nfields; i++) {
		struct pending *f = &p->fields[i];
		size_t w = asc_text_width(f->label);
		put_indent(o);
		fprintf(o->f, "%s%s%s%*s%s\n", asc_out_color(o, ASC_C_DIM), f->label,
			asc_out_color(o, ASC_C_NONE), (int)(widest - w + (widest ? 2 : 0)), "",
			f->value);
		free(f->label);
		free(f->value);
	}
	p->nfields = 0;
}

static void field(struct asc_out *o, const char *key, const char *label, struct asc_value v)
{
	struct text *p = priv(o);

	(void)key;
	if (!label)
		return;
	if (p->nfields == p->fields_cap) {
		size_t cap = p->fields_cap ? p->fields_cap * 2 : 16;
		void *more = reallocarray(p->fields, cap, sizeof(*p->fields));
		if (!more) {
			asc_out_nomem(o);
			return;
		}
		p->fields = more;
		p->fields_cap = cap;
	}
	struct pending f = { .label = strdup(label), .value = asc_fmt_value(v, &o->opts, false) };
	if (!f.label || !f.value) {
		asc_out_nomem(o);
		free(f.label);
		free(f.value);
		return;
	}
	p->fields[p->nfields++] = f;
}

static void item(struct asc_out *o, struct asc_value v)
{
	char *s = asc_fmt_value(v, &o->opts, false);

	flush_fields(o);
	put_indent(o);
	fprintf(o->f, "%s\n", s ? s : "?");
	free(s);
}

/* ---- groups ---- */

static void title(struct asc_out *o, const char *line)
{
	flush_fields(o);
	put_indent(o);
	fprintf(o->f, "%s%s%s\n", asc_out_color(o, ASC_C_BOLD), line, asc_out_color(o, ASC_C_NONE));
}

static void group(struct asc_out *o, const char *key, const char *heading)
{
	struct text *p = priv(o);

	(void)key;
	if (p->depth >= DEPTH_MAX)
		return;
	p->titled[p->depth++] = heading != NULL;
	/* without a title it is a matter of JSON: fields go on being aligned across it */
	if (!heading)
		return;
	char *e = asc_escape(heading);
	title(o, e ? e : "?");
	free(e);
	p->indent++;
}

static void group_end(struct asc_out *o)
{
	struct text *p = priv(o);

	if (!p->depth || !p->titled[--p->depth])
		return;
	flush_fields(o);
	p->indent--;
}

static void text(struct asc_out *o, const char *line)
{
	flush_fields(o);
	if (*line)
		put_indent(o);
	fprintf(o->f, "%s\n", line);
}

static void bar(struct asc_out *o, const char *label, struct asc_value v, double share,
		enum asc_color c)
{
	/* room for the label, the number and the percentage */
	const unsigned taken = 46, most = o->opts.width ? o->opts.width : 80;
	unsigned cells = most > taken + 8 ? (most - taken < 50 ? most - taken : 50) : 8;
	const char *on = asc_out_color(o, c);
	char blocks[256] = "";
	ASC_AUTO(asc_freep) char *bytes = asc_fmt_value(v, &o->opts, false);

	flush_fields(o);
	put_indent(o);
	fprintf(o->f, "  %-28s %10s", label, bytes ? bytes : "?");
	if (v.type == ASC_T_BYTES) {
		asc_fmt_bar(blocks, sizeof(blocks), share, cells, o->opts.ascii);
		fprintf(o->f, " %3.0f%%%s%s%s%s", share * 100, *blocks ? "  " : "", on, blocks,
			*on ? asc_out_color(o, ASC_C_NONE) : "");
	}
	putc('\n', o->f);
}

/* ---- tables ---- */

static bool shown(const struct asc_col *c)
{
	return c->head && !(c->flags & ASC_COL_NOTEXT);
}

/* A new batch; its columns are at least as wide as those of the ones before. */
static bool start_batch(struct asc_out *o)
{
	struct text *p = priv(o);
	bool ok = true;

	p->tb = scols_new_table();
	if (!p->tb) {
		asc_out_nomem(o);
		return false;
	}
	scols_table_set_stream(p->tb, o->f);
	scols_table_enable_noencoding(p->tb, 1);
	scols_table_set_column_separator(p->tb, "  ");
	scols_table_enable_ascii(p->tb, o->opts.ascii);
	scols_table_enable_colors(p->tb, o->opts.color);
	scols_table_enable_noheadings(p->tb, p->batches > 0);
	scols_table_set_termforce(p->tb,
				  o->opts.width ? SCOLS_TERMFORCE_ALWAYS : SCOLS_TERMFORCE_NEVER);
	if (o->opts.width)
		scols_table_set_termwidth(p->tb, o->opts.width);
	for (size_t i = 0; i < p->ncols; i++) {
		const struct asc_col *c = &p->cols[i];
		if (!shown(c))
			continue;
		int flags = (c->flags & ASC_COL_RIGHT ? SCOLS_FL_RIGHT : 0) |
			    (c->flags & ASC_COL_TRUNC ? SCOLS_FL_TRUNC : 0);
		double hint = p->batches ? (double)p->width[i] : 0;
		struct libscols_column *col = scols_table_new_column(
			p->tb, c->head, hint, flags | (hint > 1 ? SCOLS_FL_STRICTWIDTH : 0));
		ok = ok && col;
		if (col && o->opts.color)
			scols_cell_set_color(scols_column_get_header(col), "\033[1m");
		p->width[i] = asc_max(p->width[i], strlen(c->head));
	}
	if (!ok)
		asc_out_nomem(o);
	return ok;
}

static void end_batch(struct asc_out *o)
{
	struct text *p = priv(o);

	if (p->tb && p->batch_rows && scols_print_table(p->tb))
		asc_out_fail(o,
			     asc_err_id(asc_err(ASC_EIO, "writing the output: %s", strerror(errno)),
					"E-OUTPUT"));
	scols_unref_table(p->tb);
	p->tb = NULL;
	p->batch_rows = 0;
	p->batches++;
}

static void table(struct asc_out *o, const char *key, const char *heading, const char *record,
		  const struct asc_col *cols, size_t ncols)
{
	struct text *p = priv(o);

	(void)key;
	(void)record;
	flush_fields(o);
	if (heading)
		title(o, heading);
	memset(p->width, 0, sizeof(p->width));
	p->cols = cols;
	p->ncols = asc_min(ncols, COLS_MAX);
	p->batch_rows = p->batches = 0;
	start_batch(o);
}

static void row(struct asc_out *o, const struct asc_value *v)
{
	struct text *p = priv(o);

	if (p->batch_rows >= BATCH) {
		end_batch(o);
		start_batch(o);
	}
	struct libscols_line *line = p->tb ? scols_table_new_line(p->tb, NULL) : NULL;
	if (!line) {
		asc_out_nomem(o);
		return;
	}
	size_t at = 0;
	for (size_t i = 0; i < p->ncols; i++) {
		if (!shown(&p->cols[i]))
			continue;
		char *s = asc_fmt_value(v[i], &o->opts, true);
		if (!s) {
			asc_out_nomem(o);
			return;
		}
		p->width[i] = asc_max(p->width[i], asc_text_width(s));
		if (scols_line_refer_data(line, at++, s)) {
			free(s);
			asc_out_nomem(o);
			return;
		}
	}
	p->batch_rows++;
}

static void table_end(struct asc_out *o)
{
	end_batch(o);
}

/* ---- life ---- */

static void begin(struct asc_out *o)
{
	drop(o);
}

static void head_end(struct asc_out *o)
{
	(void)o;
}

static void end(struct asc_out *o, bool complete)
{
	(void)complete;
	flush_fields(o);
	drop(o);
}

static void cancel(struct asc_out *o)
{
	flush_fields(o);
	drop(o);
}

const struct asc_format_ops asc_text_ops = {
	.create = create,
	.destroy = destroy,
	.begin = begin,
	.head_end = head_end,
	.end = end,
	.cancel = cancel,
	.object = group,
	.object_end = group_end,
	.list = group,
	.list_end = group_end,
	.item = item,
	.field = field,
	.table = table,
	.row = row,
	.table_end = table_end,
	.text = text,
	.title = title,
	.bar = bar,
};
