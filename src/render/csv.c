// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * CSV as RFC 4180 says, lines ended by a newline: a heading and the rows of every table, tables
 * divided by an empty line. A document without a table, or whose tables do not say it all, has a last
 * one of field,value; items of lists are numbered in a field's path. Bytes exact, unknown and absent
 * values empty.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "render/out.h"

enum { DEPTH_MAX = 16, PATH_MAX_LEN = 200 };

struct csv {
	FILE *fields; /* field,value lines */
	char *fields_text;
	size_t fields_len;
	struct {
		const char *key; /* NULL: number @item of the list above */
		size_t items, item;
	} path[DEPTH_MAX];
	size_t depth;
	const struct asc_col *cols;
	size_t ncols, ntables;
	bool in_head;
};

static struct csv *priv(const struct asc_out *o)
{
	return o->priv;
}

static void put_cell(FILE *f, const char *s)
{
	if (!s[strcspn(s, ",\"\r\n")]) {
		fputs(s, f);
		return;
	}
	putc('"', f);
	for (; *s; s++) {
		if (*s == '"')
			putc('"', f);
		putc(*s, f);
	}
	putc('"', f);
}

static void put_value(struct asc_out *o, FILE *f, struct asc_value v)
{
	char buf[64];

	switch (v.type) {
	case ASC_T_NONE:
	case ASC_T_UNKNOWN:
		return;
	case ASC_T_BYTES:
	case ASC_T_COUNT:
		fprintf(f, "%" PRIu64, v.u);
		return;
	case ASC_T_INT:
		fprintf(f, "%" PRId64, v.i);
		return;
	case ASC_T_ADDR:
		fprintf(f, "0x%" PRIx64, v.u);
		return;
	case ASC_T_BOOL:
		fputs(v.u ? "true" : "false", f);
		return;
	case ASC_T_MS:
	case ASC_T_SECONDS:
	case ASC_T_RATIO:
		snprintf(buf, sizeof(buf), v.type == ASC_T_RATIO ? "%.6f" : "%.3f", v.d);
		for (char *p = buf; *p; p++)
			*p = *p == ',' ? '.' : *p;
		fputs(buf, f);
		return;
	case ASC_T_STR: {
		char *s = v.s ? asc_escape(v.s) : NULL;
		if (s)
			put_cell(f, s);
		else if (v.s)
			asc_out_nomem(o);
		free(s);
	}
	}
}

static struct asc_error *create(struct asc_out *o)
{
	o->priv = calloc(1, sizeof(struct csv));
	return o->priv ? NULL : asc_err(ASC_ENOMEM, "out of memory for the output");
}

static void drop(struct asc_out *o)
{
	struct csv *p = priv(o);

	if (p->fields)
		fclose(p->fields);
	free(p->fields_text);
	memset(p, 0, sizeof(*p));
}

static void destroy(struct asc_out *o)
{
	drop(o);
	free(o->priv);
}

static void begin(struct asc_out *o)
{
	struct csv *p = priv(o);

	drop(o);
	p->in_head = true;
	p->fields = open_memstream(&p->fields_text, &p->fields_len);
	if (!p->fields)
		asc_out_nomem(o);
}

static void head_end(struct asc_out *o)
{
	priv(o)->in_head = false;
}

/* An empty line before a table that is not the first. */
static void part(struct asc_out *o)
{
	struct csv *p = priv(o);
	struct asc_stream *stream = o->opts.stream;

	if (p->ntables++ || (stream && stream->csv))
		putc('\n', o->f);
	if (stream)
		stream->csv = true;
}

static void end(struct asc_out *o, bool complete)
{
	struct csv *p = priv(o);

	(void)complete;
	if (p->fields && !fclose(p->fields) && (!p->ntables || o->opts.fields_too) &&
	    p->fields_len && !o->err) {
		part(o);
		fputs("field,value\n", o->f);
		fwrite(p->fields_text, 1, p->fields_len, o->f);
	}
	p->fields = NULL;
	drop(o);
}

static void group(struct asc_out *o, const char *key, const char *title)
{
	struct csv *p = priv(o);

	(void)title;
	if (p->depth == DEPTH_MAX)
		return;
	p->path[p->depth].key = key;
	p->path[p->depth].items = 0;
	p->path[p->depth].item = !key && p->depth ? p->path[p->depth - 1].items++ : 0;
	p->depth++;
}

static void group_end(struct asc_out *o)
{
	struct csv *p = priv(o);

	if (p->depth)
		p->depth--;
}

static void field(struct asc_out *o, const char *key, const char *label, struct asc_value v)
{
	struct csv *p = priv(o);

	(void)label;
	if (!key || !p->fields || p->in_head)
		return;
	for (size_t i = 0; i < p->depth; i++) {
		if (p->path[i].key)
			fprintf(p->fields, "%s.", p->path[i].key);
		else
			fprintf(p->fields, "%zu.", p->path[i].item);
	}
	fprintf(p->fields, "%s,", key);
	put_value(o, p->fields, v);
	putc('\n', p->fields);
}

static void item(struct asc_out *o, struct asc_value v)
{
	struct csv *p = priv(o);
	char number[24];

	snprintf(number, sizeof(number), "%zu", p->depth ? p->path[p->depth - 1].items++ : 0);
	field(o, number, NULL, v);
}

static void table(struct asc_out *o, const char *key, const char *title, const char *record,
		  const struct asc_col *cols, size_t ncols)
{
	struct csv *p = priv(o);
	bool first = true;

	(void)title;
	(void)record;
	p->cols = cols;
	p->ncols = key ? ncols : 0;
	if (!key)
		return;
	part(o);
	for (size_t i = 0; i < ncols; i++) {
		if (!cols[i].key)
			continue;
		fprintf(o->f, "%s%s", first ? "" : ",", cols[i].key);
		first = false;
	}
	putc('\n', o->f);
}

static void row(struct asc_out *o, const struct asc_value *v)
{
	struct csv *p = priv(o);
	bool first = true;

	if (!p->ncols)
		return;
	for (size_t i = 0; i < p->ncols; i++) {
		if (!p->cols[i].key)
			continue;
		if (!first)
			putc(',', o->f);
		first = false;
		put_value(o, o->f, v[i]);
	}
	putc('\n', o->f);
}

static void table_end(struct asc_out *o)
{
	priv(o)->ncols = 0;
}

const struct asc_format_ops asc_csv_ops = {
	.create = create,
	.destroy = destroy,
	.begin = begin,
	.head_end = head_end,
	.end = end,
	.cancel = drop,
	.object = group,
	.object_end = group_end,
	.list = group,
	.list_end = group_end,
	.item = item,
	.field = field,
	.table = table,
	.row = row,
	.table_end = table_end,
};
