// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * JSON and JSON lines. The document is built as a tree of json-c objects and written by our own
 * writer: strings never hold a control byte, long tables go through a temporary file, so that
 * memory stays bounded, and the layout is one row a line.
 */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "render/out.h"

enum { DEPTH_MAX = 16, ROWS_IN_MEMORY = 4096 };

struct json {
	struct json_object *root;
	struct json_object *at[DEPTH_MAX]; /* open objects and lists, borrowed */
	size_t depth;
	/* the open table */
	const struct asc_col *cols;
	size_t ncols;
	struct json_object *rows, *row; /* borrowed; row: owned while it streams */
	const char *record;
	bool streams;
	struct spill *spill;
	/* where a row becomes text */
	FILE *text;
	char *text_buf;
	size_t text_len;
};

/* Rows that left memory: serialised, separated by ",\n". */
struct spill {
	FILE *f;
	size_t n;
};

static void spill_free(struct json_object *j, void *p)
{
	struct spill *s = p;

	(void)j;
	if (!s)
		return;
	if (s->f)
		fclose(s->f);
	free(s);
}

/* ---- writer ---- */

static void put_string(FILE *f, const char *s, size_t len)
{
	putc('"', f);
	for (size_t i = 0; i < len;) {
		uint32_t c;
		size_t n = asc_utf8_next(s + i, len - i, &c);
		if (!n) {
			/* cannot happen in strings of asc_json_value(); never write what is not UTF-8 */
			fputs("\\ufffd", f);
			i++;
			continue;
		}
		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", (char)c);
		else if (c == '\n')
			fputs("\\n", f);
		else if (c == '\t')
			fputs("\\t", f);
		else if (c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) ||
			 (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) ||
			 c == 0xfeff)
			fprintf(f, "\\u%04x", c);
		else
			fwrite(s + i, 1, n, f);
		i += n;
	}
	putc('"', f);
}

static void put_indent(FILE *f, unsigned indent)
{
	putc('\n', f);
	for (unsigned i = 0; i < indent; i++)
		fputs("  ", f);
}

static void copy_spill(FILE *f, struct spill *s)
{
	char buf[65536];
	size_t n;

	rewind(s->f);
	while ((n = fread(buf, 1, sizeof(buf), s->f)))
		fwrite(buf, 1, n, f);
}

/* The mark (userdata) of a string that is a row's text already: a tenth of what the row takes as a tree. */
static char packed[] = "row";

bool asc_json_is_row(struct json_object *j)
{
	return json_object_is_type(j, json_type_object) ||
	       (j && json_object_get_userdata(j) == packed);
}

struct json_object *asc_json_row(struct json_object *j)
{
	if (!json_object_is_type(j, json_type_string))
		return json_object_get(j);
	return json_tokener_parse(json_object_get_string(j));
}

static void put(FILE *f, struct json_object *j, bool pretty, unsigned indent);

static void put_array(FILE *f, struct json_object *j, bool pretty, unsigned indent)
{
	struct spill *s = json_object_get_userdata(j);
	size_t n = json_object_array_length(j);

	putc('[', f);
	if (s)
		copy_spill(f, s);
	for (size_t i = 0; i < n; i++) {
		if (i || s)
			putc(',', f);
		if (pretty)
			put_indent(f, indent + 1);
		put(f, json_object_array_get_idx(j, i), pretty && indent < 1, indent + 1);
	}
	if (pretty && (n || s))
		put_indent(f, indent);
	putc(']', f);
}

static void put(FILE *f, struct json_object *j, bool pretty, unsigned indent)
{
	switch (json_object_get_type(j)) {
	case json_type_string:
		if (json_object_get_userdata(j) == packed)
			fputs(json_object_get_string(j), f);
		else
			put_string(f, json_object_get_string(j),
				   (size_t)json_object_get_string_len(j));
		break;
	case json_type_array:
		put_array(f, j, pretty, indent);
		break;
	case json_type_object: {
		bool first = true;
		putc('{', f);
		json_object_object_foreach(j, key, val)
		{
			if (!first)
				putc(',', f);
			first = false;
			if (pretty)
				put_indent(f, indent + 1);
			put_string(f, key, strlen(key));
			putc(':', f);
			put(f, val, pretty && indent < 2, indent + 1);
		}
		if (pretty && !first)
			put_indent(f, indent);
		putc('}', f);
		break;
	}
	default:
		fputs(json_object_to_json_string_ext(j, JSON_C_TO_STRING_PLAIN), f);
	}
}

void asc_json_write(FILE *f, struct json_object *j, bool pretty)
{
	put(f, j, pretty, 0);
	putc('\n', f);
}

/* ---- values ---- */

static struct json_object *number(double d, const char *fmt)
{
	char buf[64];

	if (!isfinite(d))
		return NULL;
	/* Trailing zeros say nothing; the digits must not depend on the locale. */
	snprintf(buf, sizeof(buf), fmt, d);
	for (char *p = buf; *p; p++) {
		if (*p == ',')
			*p = '.';
	}
	char *dot = strchr(buf, '.');
	if (dot) {
		char *end = buf + strlen(buf) - 1;
		while (end > dot + 1 && *end == '0')
			*end-- = 0;
	}
	return json_object_new_double_s(d, buf);
}

/* Bytes that are not UTF-8 as \xHH, everything else as it is. */
static struct json_object *string(struct asc_out *o, const char *s)
{
	size_t len = strlen(s), at = 0;
	char *buf = malloc(len * 4 + 1);

	if (!buf) {
		asc_out_nomem(o);
		return NULL;
	}
	for (size_t i = 0; i < len;) {
		uint32_t c;
		size_t n = asc_utf8_next(s + i, len - i, &c);
		if (n) {
			memcpy(buf + at, s + i, n);
			at += n;
			i += n;
		} else {
			at += (size_t)snprintf(buf + at, 5, "\\x%02x", (unsigned char)s[i]);
			i++;
		}
	}
	struct json_object *j = len > INT32_MAX / 4 ? NULL
						    : json_object_new_string_len(buf, (int)at);
	free(buf);
	return j;
}

struct json_object *asc_json_value(struct asc_out *o, struct asc_value v)
{
	char buf[32];

	switch (v.type) {
	case ASC_T_NONE:
	case ASC_T_UNKNOWN:
		return NULL;
	case ASC_T_BYTES:
	case ASC_T_COUNT:
		return json_object_new_uint64(v.u);
	case ASC_T_INT:
		return json_object_new_int64(v.i);
	case ASC_T_ADDR:
		snprintf(buf, sizeof(buf), "0x%" PRIx64, v.u);
		return json_object_new_string(buf);
	case ASC_T_MS:
	case ASC_T_SECONDS:
		return number(v.d, "%.3f");
	case ASC_T_RATIO:
		return number(v.d, "%.6f");
	case ASC_T_BOOL:
		return json_object_new_boolean(v.u != 0);
	case ASC_T_STR:
		return v.s ? string(o, v.s) : NULL;
	}
	return NULL;
}

/* ---- the tree ---- */

static struct json *priv(const struct asc_out *o)
{
	return o->priv;
}

/* Put @p j (taken over) into what is open. */
static void add(struct asc_out *o, const char *key, struct json_object *j)
{
	struct json *p = priv(o);
	struct json_object *to = p->at[p->depth];
	int rc = -1;

	if (json_object_is_type(to, json_type_array))
		rc = json_object_array_add(to, j);
	else if (key && json_object_is_type(to, json_type_object))
		rc = json_object_object_add(to, key, j);
	else
		json_object_put(j); /* text only */
	if (rc && key) {
		json_object_put(j);
		asc_out_nomem(o);
	}
}

static void push(struct asc_out *o, const char *key, struct json_object *j)
{
	struct json *p = priv(o);
	struct json_object *to = p->at[p->depth];
	bool skip = !key && json_object_is_type(to, json_type_object);

	if (!j || p->depth + 1 >= DEPTH_MAX) {
		asc_out_fail(o, asc_err(j ? ASC_EBUG : ASC_ENOMEM, "document too deep"));
		json_object_put(j);
		return;
	}
	/* A group without a key is for people: its fields belong to what is around it. */
	if (skip) {
		json_object_put(j);
		j = to;
	} else {
		add(o, key, j);
	}
	p->at[++p->depth] = j;
}

static void pop(struct asc_out *o)
{
	struct json *p = priv(o);

	if (p->depth)
		p->depth--;
}

static struct asc_error *create(struct asc_out *o)
{
	struct json *p = calloc(1, sizeof(*p));

	if (!p)
		return asc_err(ASC_ENOMEM, "out of memory for the output");
	o->priv = p;
	return NULL;
}

static void drop(struct asc_out *o)
{
	struct json *p = priv(o);

	if (p->streams)
		json_object_put(p->row);
	json_object_put(p->root);
	spill_free(NULL, p->spill);
	if (p->text)
		fclose(p->text);
	free(p->text_buf);
	memset(p, 0, sizeof(*p));
}

static void destroy(struct asc_out *o)
{
	drop(o);
	free(o->priv);
}

static void begin(struct asc_out *o)
{
	struct json *p = priv(o);

	drop(o);
	p->root = json_object_new_object();
	p->at[0] = p->root;
	if (!p->root)
		asc_out_nomem(o);
}

static void head_end(struct asc_out *o)
{
	(void)o;
}

static void put_state(struct asc_out *o, struct json_object *to, bool complete)
{
	struct json_object *list = json_object_new_array();

	json_object_object_add(to, "complete", json_object_new_boolean(complete));
	for (size_t i = 0; i < o->nwarnings; i++) {
		struct json_object *w = json_object_new_object();
		json_object_object_add(w, "code", string(o, o->warnings[i].code));
		json_object_object_add(w, "message", string(o, o->warnings[i].message));
		json_object_array_add(list, w);
	}
	json_object_object_add(to, "warnings", list);
}

static void end(struct asc_out *o, bool complete)
{
	struct json *p = priv(o);

	if (p->root && !o->err) {
		put_state(o, p->root, complete);
		asc_json_write(o->f, p->root, true);
	}
	drop(o);
}

static void object(struct asc_out *o, const char *key, const char *title)
{
	(void)title;
	push(o, key, json_object_new_object());
}

static void list(struct asc_out *o, const char *key, const char *title)
{
	(void)title;
	push(o, key, json_object_new_array());
}

static void item(struct asc_out *o, struct asc_value v)
{
	add(o, "", asc_json_value(o, v));
}

static void field(struct asc_out *o, const char *key, const char *label, struct asc_value v)
{
	(void)label;
	if (key)
		add(o, key, asc_json_value(o, v));
}

static void json(struct asc_out *o, const char *key, struct json_object *j)
{
	add(o, key, j);
}

/* ---- tables ---- */

static void table(struct asc_out *o, const char *key, const char *title, const char *record,
		  const struct asc_col *cols, size_t ncols)
{
	struct json *p = priv(o);

	(void)title;
	(void)record;
	p->cols = cols;
	p->ncols = ncols;
	p->row = NULL;
	p->rows = key ? json_object_new_array() : NULL;
	if (p->rows)
		add(o, key, p->rows);
}

/* Long tables leave memory. */
static void spill_rows(struct asc_out *o)
{
	struct json *p = priv(o);
	size_t n = json_object_array_length(p->rows);

	if (!p->spill) {
		p->spill = calloc(1, sizeof(*p->spill));
		if (p->spill)
			p->spill->f = tmpfile();
		if (!p->spill || !p->spill->f) {
			asc_out_fail(o, asc_err_os(errno, "temporary file for a long table"));
			spill_free(NULL, p->spill);
			p->spill = NULL;
			return;
		}
	}
	for (size_t i = 0; i < n; i++) {
		fputs(p->spill->n++ ? ",\n    " : "\n    ", p->spill->f);
		put(p->spill->f, json_object_array_get_idx(p->rows, i), false, 0);
	}
	if (ferror(p->spill->f))
		asc_out_fail(o, asc_err_id(asc_err(ASC_EIO, "writing a temporary file: %s",
						   strerror(errno)),
					   "E-OUTPUT"));
	json_object_array_del_idx(p->rows, 0, n);
}

static struct json_object *make_row(struct asc_out *o, const struct asc_value *v,
				    const char *record)
{
	struct json *p = priv(o);
	struct json_object *row = json_object_new_object();

	if (!row) {
		asc_out_nomem(o);
		return NULL;
	}
	if (record)
		json_object_object_add(row, "record", json_object_new_string(record));
	for (size_t i = 0; i < p->ncols; i++) {
		if (p->cols[i].key)
			json_object_object_add(row, p->cols[i].key, asc_json_value(o, v[i]));
	}
	return row;
}

/* The last row has all that belongs to it: its text takes its place. Without memory it stays what it is. */
static void pack_row(struct json *p)
{
	size_t n = json_object_array_length(p->rows);
	struct json_object *text;

	if (!p->row)
		return;
	if (!p->text)
		p->text = open_memstream(&p->text_buf, &p->text_len);
	if (!p->text || fseeko(p->text, 0, SEEK_SET))
		return;
	put(p->text, p->row, false, 0);
	if (fflush(p->text) || p->text_len > INT32_MAX)
		return;
	text = json_object_new_string_len(p->text_buf, (int)p->text_len);
	if (!text)
		return;
	json_object_set_userdata(text, packed, NULL);
	if (json_object_array_put_idx(p->rows, n - 1, text))
		json_object_put(text);
	p->row = NULL;
}

static void row(struct asc_out *o, const struct asc_value *v)
{
	struct json *p = priv(o);

	if (!p->rows)
		return;
	pack_row(p);
	/* metrics need all of them, and are never asked for long lists */
	if (o->opts.format == ASC_JSON && json_object_array_length(p->rows) >= ROWS_IN_MEMORY)
		spill_rows(o);
	p->row = make_row(o, v, NULL);
	if (p->row)
		json_object_array_add(p->rows, p->row);
}

static void row_extra(struct asc_out *o, const char *key, struct json_object *j)
{
	struct json *p = priv(o);

	/* a list in a list is no metric */
	if (p->row && key &&
	    (o->opts.format != ASC_OPENMETRICS || !json_object_is_type(j, json_type_array)))
		json_object_object_add(p->row, key, j);
	else
		json_object_put(j);
}

static void table_end(struct asc_out *o)
{
	struct json *p = priv(o);

	if (p->rows)
		pack_row(p);
	if (p->spill) {
		if (p->rows && json_object_array_length(p->rows))
			spill_rows(o);
		fflush(p->spill->f);
		json_object_set_userdata(p->rows, p->spill, spill_free);
		p->spill = NULL;
	}
	p->rows = p->row = NULL;
}

/* The tree once more, written as metrics. */
static void m_end(struct asc_out *o, bool complete)
{
	struct json *p = priv(o);

	if (p->root && !o->err)
		asc_openmetrics_put(o, p->root, complete);
	drop(o);
}

/* clang-format off */
#define TREE                                                                                       \
	.create = create, .destroy = destroy, .begin = begin, .cancel = drop, .object = object,    \
	.object_end = pop, .list = list, .list_end = pop, .item = item, .field = field,            \
	.json = json, .row_extra = row_extra
/* clang-format on */

const struct asc_format_ops asc_json_ops = {
	TREE, .head_end = head_end, .end = end, .table = table, .row = row, .table_end = table_end,
};

const struct asc_format_ops asc_openmetrics_ops = {
	TREE,		.head_end = head_end, .end = m_end,
	.table = table, .row = row,	      .table_end = table_end,
};

/* ---- JSON lines: a header, the rows of tables that have a record name, the rest in the end ---- */

static void put_line(struct asc_out *o, const char *record, struct json_object *from)
{
	struct json_object *line = json_object_new_object();

	json_object_object_add(line, "record", json_object_new_string(record));
	json_object_object_foreach(from, key, val)
	{
		/* what is only known at the end is said there */
		if (!strcmp(record, "header") &&
		    (!strcmp(key, "complete") || !strcmp(key, "warnings")))
			continue;
		json_object_object_add(line, key, json_object_get(val));
	}
	asc_json_write(o->f, line, false);
	json_object_put(line);
}

static void l_head_end(struct asc_out *o)
{
	struct json *p = priv(o);

	put_line(o, "header", p->root);
	json_object_put(p->root);
	p->root = p->at[0] = json_object_new_object();
	p->depth = 0;
}

static void l_flush_row(struct asc_out *o)
{
	struct json *p = priv(o);

	if (p->streams && p->row) {
		asc_json_write(o->f, p->row, false);
		json_object_put(p->row);
		p->row = NULL;
	}
}

static void l_end(struct asc_out *o, bool complete)
{
	struct json *p = priv(o);

	if (p->root && !o->err) {
		put_state(o, p->root, complete);
		put_line(o, "end", p->root);
	}
	drop(o);
}

static void l_table(struct asc_out *o, const char *key, const char *title, const char *record,
		    const struct asc_col *cols, size_t ncols)
{
	struct json *p = priv(o);

	p->streams = record && p->depth == 0;
	p->record = record;
	if (!p->streams) {
		table(o, key, title, record, cols, ncols);
		return;
	}
	p->cols = cols;
	p->ncols = ncols;
	p->row = p->rows = NULL;
}

static void l_row(struct asc_out *o, const struct asc_value *v)
{
	struct json *p = priv(o);

	if (!p->streams) {
		row(o, v);
		return;
	}
	l_flush_row(o);
	p->row = make_row(o, v, p->record);
}

static void l_table_end(struct asc_out *o)
{
	struct json *p = priv(o);

	l_flush_row(o);
	if (!p->streams)
		table_end(o);
	p->streams = false;
}

const struct asc_format_ops asc_jsonl_ops = {
	TREE,	      .head_end = l_head_end,	.end = l_end, .table = l_table,
	.row = l_row, .table_end = l_table_end,
};
