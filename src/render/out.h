/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a format implements. Private to src/render. */
#ifndef ASC_RENDER_OUT_H
#define ASC_RENDER_OUT_H

#include "render/render.h"

struct asc_format_ops {
	struct asc_error *(*create)(struct asc_out *o); /* fills o->priv */
	void (*destroy)(struct asc_out *o);
	void (*begin)(struct asc_out *o);
	void (*head_end)(struct asc_out *o); /* every field of the head is in */
	void (*end)(struct asc_out *o, bool complete);
	void (*cancel)(struct asc_out *o);
	void (*object)(struct asc_out *o, const char *key, const char *title);
	void (*object_end)(struct asc_out *o);
	void (*list)(struct asc_out *o, const char *key, const char *title);
	void (*list_end)(struct asc_out *o);
	void (*item)(struct asc_out *o, struct asc_value v);
	void (*field)(struct asc_out *o, const char *key, const char *label, struct asc_value v);
	void (*json)(struct asc_out *o, const char *key, struct json_object *j); /* takes j over */
	void (*table)(struct asc_out *o, const char *key, const char *title, const char *record,
		      const struct asc_col *cols, size_t ncols);
	void (*row)(struct asc_out *o, const struct asc_value *v);
	void (*row_extra)(struct asc_out *o, const char *key, struct json_object *j); /* ditto */
	void (*table_end)(struct asc_out *o);
	/* NULL ops: not in this format */
	void (*text)(struct asc_out *o, const char *line);
	void (*title)(struct asc_out *o, const char *line);
	void (*bar)(struct asc_out *o, const char *label, struct asc_value v, double share,
		    enum asc_color c);
};

struct asc_warning {
	char *code, *message;
};

struct asc_out {
	FILE *f;
	struct asc_out_opts opts;
	const struct asc_format_ops *ops;
	char *command;
	void (*head)(void *arg, struct asc_out *o);
	void *head_arg;
	struct asc_warning *warnings;
	size_t nwarnings, warnings_cap;
	bool partial;
	struct asc_error *err; /* the first thing that went wrong; said by asc_out_end() */
	void *priv;
};

struct asc_stream {
	FILE *f;
	enum asc_format format; /* of the last document */
	bool page;		/* HTML: the head is written, the foot is not */
	char *tool;		/* version for the foot */
	struct asc_metricset *metrics;
	bool csv; /* a table was written */
};
/* A document of that format begins: what another one left open is closed. */
void asc_stream_turn(struct asc_stream *s, enum asc_format to);

extern const struct asc_format_ops asc_text_ops, asc_json_ops, asc_jsonl_ops, asc_csv_ops,
	asc_html_ops, asc_openmetrics_ops;

/* Keep @p err (consumed; NULL is fine) if it is the first one. */
void asc_out_fail(struct asc_out *o, struct asc_error *err);
void asc_out_nomem(struct asc_out *o);

/* json.c: a value as JSON; foreign bytes that are not UTF-8 as \xHH. */
struct json_object *asc_json_value(struct asc_out *o, struct asc_value v);
/* An item of a list that is an object, or a table's row, which waits as its text. */
bool asc_json_is_row(struct json_object *j);
/* @return the object, for the caller to put; NULL: no memory */
struct json_object *asc_json_row(struct json_object *j);
/* Write a tree; deep ones on one line. */
void asc_json_write(FILE *f, struct json_object *j, bool pretty);
/* The document as metrics, up to their end mark, or into those of the stream. */
void asc_openmetrics_put(struct asc_out *o, struct json_object *root, bool complete);
/* @p tool: version, or NULL */
void asc_html_foot(FILE *f, const char *tool);
/* Next code point of UTF-8 text. @return bytes, 0: not valid */
size_t asc_utf8_next(const char *s, size_t len, uint32_t *ret);

#endif
