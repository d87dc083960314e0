/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The one way out: commands make semantic calls, a format turns them into bytes. The same calls
 * give text, JSON, JSON lines and CSV, so that they cannot disagree in a number.
 *
 * A document is an object; objects, lists and tables nest in it. A table is a list of objects in
 * JSON, aligned columns in text, rows in CSV. Keys are snake_case as INTERFACE section 5 says;
 * labels are for people. A NULL label means: not in text (JSON and CSV only). A NULL key means: text only.
 * Every foreign string is escaped by the format.
 */
#ifndef ASC_RENDER_RENDER_H
#define ASC_RENDER_RENDER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "arenascope/error.h"

enum asc_format {
	ASC_TEXT,
	ASC_JSON,
	ASC_JSONL,
	ASC_CSV,
	ASC_HTML,
	ASC_OPENMETRICS,
};

/*
 * Where several documents go one after the other (standard output, -o): whatever they are, it stays one
 * page of HTML, one set of metrics, tables of CSV that can be told apart.
 */
struct asc_stream;
ASC_MUST struct asc_error *asc_stream_new(FILE *f, struct asc_stream **ret);
/* Write what closes it, and free. NULL is fine. */
void asc_stream_end(struct asc_stream *s);

struct asc_out_opts {
	enum asc_format format;
	struct asc_stream *stream; /* borrowed; NULL: the document stands alone */
	bool fields_too;	   /* CSV: not only the tables of the document */
	bool exact_bytes;	   /* --bytes */
	bool color, ascii;
	unsigned width; /* columns of the terminal; 0: do not cut */
};

struct asc_out;

/* A typed value. Unknown ones print "?" and null. */
enum asc_type {
	ASC_T_NONE,    /* does not apply: "-" and null */
	ASC_T_UNKNOWN, /* "?" and null */
	ASC_T_BYTES,   /* u: IEC with one decimal, or exact */
	ASC_T_COUNT,   /* u */
	ASC_T_INT,     /* i */
	ASC_T_ADDR,    /* u: hex string in JSON */
	ASC_T_MS,      /* d */
	ASC_T_SECONDS, /* d */
	ASC_T_RATIO,   /* d: 0..1; percent in text */
	ASC_T_BOOL,    /* u */
	ASC_T_STR,     /* s: foreign or own text; escaped */
};
struct asc_value {
	enum asc_type type;
	union {
		uint64_t u;
		int64_t i;
		double d;
		const char *s;
	};
};
#define ASC_V_NONE		 ((struct asc_value){ .type = ASC_T_NONE })
#define ASC_V_UNKNOWN		 ((struct asc_value){ .type = ASC_T_UNKNOWN })
#define ASC_V_BYTES(x)		 ((struct asc_value){ .type = ASC_T_BYTES, .u = (x) })
#define ASC_V_COUNT(x)		 ((struct asc_value){ .type = ASC_T_COUNT, .u = (x) })
#define ASC_V_INT(x)		 ((struct asc_value){ .type = ASC_T_INT, .i = (x) })
#define ASC_V_ADDR(x)		 ((struct asc_value){ .type = ASC_T_ADDR, .u = (x) })
#define ASC_V_MS(x)		 ((struct asc_value){ .type = ASC_T_MS, .d = (x) })
#define ASC_V_SECONDS(x)	 ((struct asc_value){ .type = ASC_T_SECONDS, .d = (x) })
#define ASC_V_RATIO(x)		 ((struct asc_value){ .type = ASC_T_RATIO, .d = (x) })
#define ASC_V_BOOL(x)		 ((struct asc_value){ .type = ASC_T_BOOL, .u = (x) })
#define ASC_V_STR(x)		 ((struct asc_value){ .type = ASC_T_STR, .s = (x) })
/* bytes if known, else unknown */
#define ASC_V_BYTES_IF(known, x) ((known) ? ASC_V_BYTES(x) : ASC_V_UNKNOWN)

/* ---- life ---- */
ASC_MUST struct asc_error *asc_out_new(FILE *f, const struct asc_out_opts *opts,
				       struct asc_out **ret);
void asc_out_free(struct asc_out *o);
const struct asc_out_opts *asc_out_opts(const struct asc_out *o);
/* For people: text or a page of HTML, which shows the same. */
bool asc_out_is_text(const struct asc_out *o);

/*
 * One document a command. begin() is called by the session with everything that INTERFACE section 5
 * puts in front (schema, tool, target, libc, pause); end() writes it. Commands call only what follows.
 */
void asc_out_begin(struct asc_out *o, const char *command);
/*
 * @p head puts the fields in front (no labels). It is called once, before the first thing that a
 * command emits, so that a command can still read the target until then.
 */
void asc_out_set_head(struct asc_out *o, void (*head)(void *arg, struct asc_out *o), void *arg);
/* Throw the document away: the command failed. Text, CSV and JSONL that was written stays written. */
void asc_out_cancel(struct asc_out *o);
/* Write the document; write errors (disk full, closed stdout) come out here as ASC_EIO. */
ASC_MUST struct asc_error *asc_out_end(struct asc_out *o, bool complete);

/* ---- structure ---- */
void asc_out_object(struct asc_out *o, const char *key, const char *title);
void asc_out_object_end(struct asc_out *o);
void asc_out_list(struct asc_out *o, const char *key, const char *title);
void asc_out_list_end(
	struct asc_out *o); /* its items: asc_out_object(o, NULL, ...) or asc_out_item */
void asc_out_item(struct asc_out *o, struct asc_value v);
void asc_out_field(struct asc_out *o, const char *key, const char *label, struct asc_value v);
/* Ready JSON, taken over (json_object *); nothing in text. */
struct json_object;
void asc_out_json(struct asc_out *o, const char *key, struct json_object *j);

/* ---- tables ---- */
enum asc_col_flags {
	ASC_COL_RIGHT = 1,
	ASC_COL_TRUNC = 2,  /* may be cut to the width */
	ASC_COL_NOTEXT = 4, /* JSON and CSV only */
	ASC_COL_TREE = 8,
};
struct asc_col {
	const char *key, *head;
	unsigned flags;
};
/* Rows stream out at once in JSONL and CSV; @p record names them there ("chunk"). */
void asc_out_table(struct asc_out *o, const char *key, const char *title, const char *record,
		   const struct asc_col *cols, size_t ncols);
/* @p v has ncols values. */
void asc_out_row(struct asc_out *o, const struct asc_value *v);
/* Between row() and the next: fields and lists that belong to the last row's object (JSON only). */
void asc_out_row_extra(struct asc_out *o, const char *key, struct json_object *j);
void asc_out_table_end(struct asc_out *o);

/* ---- people ---- */
/* A line of text; nothing in other formats. Foreign strings in it must be escaped by asc_escape(). */
void asc_out_text(struct asc_out *o, const char *fmt, ...) ASC_PRINTF(2, 3);
enum asc_color {
	ASC_C_NONE,
	ASC_C_BOLD,
	ASC_C_DIM,
	ASC_C_LIVE,
	ASC_C_TRIM,
	ASC_C_RETAINED,
	ASC_C_FRAG,
	ASC_C_CACHED,
	ASC_C_BAD
};
/* Heads what follows; nothing for machines. */
void asc_out_title(struct asc_out *o, const char *title);
/* A line with its bytes, their share of a whole (0..1) and a bar of it; nothing for machines. */
void asc_out_bar(struct asc_out *o, const char *label, struct asc_value v, double share,
		 enum asc_color c);
/* Goes to JSON "warnings" and, in text, to stderr. Code: "W-PAGEMAP" ... */
void asc_out_warn(struct asc_out *o, const char *code, const char *fmt, ...) ASC_PRINTF(3, 4);
/* The command's data is not all there: exit 1 and "complete": false. */
void asc_out_partial(struct asc_out *o);
bool asc_out_is_partial(const struct asc_out *o);

/* Nothing more will arrive (closed pipe, full disk): long loops may stop. */
bool asc_out_broken(const struct asc_out *o);
/* Escape sequences, or "" without colour. */
const char *asc_out_color(const struct asc_out *o, enum asc_color c);

/* ---- pieces of text ---- */
/* Table cells: "951.8M", exact: the same digits as above. Returns buf. */
const char *asc_fmt_bytes_short(char buf[static 32], uint64_t bytes, bool exact);
/* Any value as people read it; foreign strings escaped. Owned string, or NULL without memory. */
char *asc_fmt_value(struct asc_value v, const struct asc_out_opts *opts, bool short_bytes);
/* Columns that @p s takes on a terminal; every byte counts as one if it is not valid text. */
size_t asc_text_width(const char *s);
/* Does the locale speak UTF-8? */
bool asc_utf8_locale(void);
/* "951.8 MiB" or, exact, "998047744". Returns buf. */
const char *asc_fmt_bytes(char buf[static 32], uint64_t bytes, bool exact);
/* Control bytes, invalid UTF-8 and (in C locale) non-ASCII as \xHH. Owned string, or NULL. */
char *asc_escape(const char *s);
/* The same, but backslashes stay single: for messages, whose foreign parts may be escaped already. */
char *asc_harmless(const char *s);
/* A bar of at most @p cells for @p share (0..1): eighth blocks, or '#' in ASCII. */
void asc_fmt_bar(char *buf, size_t size, double share, unsigned cells, bool ascii);

#endif
