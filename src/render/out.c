// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The public calls. They are void, so that commands read as what they say; the first failure
 * (no memory, disk full) is kept and comes out of asc_out_end().
 */
#include "render/out.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"

static const struct asc_format_ops *const formats[] = {
	[ASC_TEXT] = &asc_text_ops,   [ASC_JSON] = &asc_json_ops,
	[ASC_JSONL] = &asc_jsonl_ops, [ASC_CSV] = &asc_csv_ops,
	[ASC_HTML] = &asc_html_ops,   [ASC_OPENMETRICS] = &asc_openmetrics_ops,
};

void asc_out_fail(struct asc_out *o, struct asc_error *err)
{
	if (o->err)
		asc_error_free(err);
	else
		o->err = err;
}

void asc_out_nomem(struct asc_out *o)
{
	asc_out_fail(o, asc_err(ASC_ENOMEM, "out of memory for the output"));
}

struct asc_error *asc_out_new(FILE *f, const struct asc_out_opts *opts, struct asc_out **ret)
{
	if (opts->format >= ASC_ARRAY_SIZE(formats))
		return asc_err(ASC_EBUG, "output format %d", (int)opts->format);
	struct asc_out *o = calloc(1, sizeof(*o));
	if (!o)
		return asc_err(ASC_ENOMEM, "out of memory for the output");
	o->f = f;
	o->opts = *opts;
	o->ops = formats[opts->format];
	struct asc_error *err = o->ops->create(o);
	if (err) {
		free(o);
		return err;
	}
	*ret = o;
	return NULL;
}

void asc_out_free(struct asc_out *o)
{
	if (!o)
		return;
	o->ops->destroy(o);
	for (size_t i = 0; i < o->nwarnings; i++) {
		free(o->warnings[i].code);
		free(o->warnings[i].message);
	}
	free(o->warnings);
	free(o->command);
	asc_error_free(o->err);
	free(o);
}

const struct asc_out_opts *asc_out_opts(const struct asc_out *o)
{
	return &o->opts;
}

bool asc_out_is_text(const struct asc_out *o)
{
	return o->opts.format == ASC_TEXT || o->opts.format == ASC_HTML;
}

void asc_out_begin(struct asc_out *o, const char *command)
{
	free(o->command);
	o->command = strdup(command);
	if (!o->command)
		asc_out_nomem(o);
	if (o->opts.stream)
		asc_stream_turn(o->opts.stream, o->opts.format);
	o->ops->begin(o);
}

void asc_out_set_head(struct asc_out *o, void (*head)(void *arg, struct asc_out *o), void *arg)
{
	o->head = head;
	o->head_arg = arg;
}

static void need_head(struct asc_out *o)
{
	void (*head)(void *arg, struct asc_out *o) = o->head;

	if (!head)
		return;
	o->head = NULL;
	head(o->head_arg, o);
	o->ops->head_end(o);
}

struct asc_error *asc_out_end(struct asc_out *o, bool complete)
{
	need_head(o);
	if (!complete)
		o->partial = true;
	o->ops->end(o, !o->partial);
	errno = 0;
	if (fflush(o->f) || ferror(o->f)) {
		int e = errno;
		struct asc_error *err =
			asc_err(ASC_EIO, e ? "writing the output" : "writing the output failed");
		err->os_errno = e; /* EPIPE is nothing to talk about */
		asc_out_fail(o, asc_err_id(err, "E-OUTPUT"));
	}
	return asc_take(o->err);
}

void asc_out_cancel(struct asc_out *o)
{
	o->head = NULL;
	o->ops->cancel(o);
	fflush(o->f);
}

void asc_out_object(struct asc_out *o, const char *key, const char *title)
{
	need_head(o);
	o->ops->object(o, key, title);
}

void asc_out_object_end(struct asc_out *o)
{
	o->ops->object_end(o);
}

void asc_out_list(struct asc_out *o, const char *key, const char *title)
{
	need_head(o);
	o->ops->list(o, key, title);
}

void asc_out_list_end(struct asc_out *o)
{
	o->ops->list_end(o);
}

void asc_out_item(struct asc_out *o, struct asc_value v)
{
	o->ops->item(o, v);
}

void asc_out_field(struct asc_out *o, const char *key, const char *label, struct asc_value v)
{
	need_head(o);
	o->ops->field(o, key, label, v);
}

void asc_out_json(struct asc_out *o, const char *key, struct json_object *j)
{
	need_head(o);
	if (o->ops->json)
		o->ops->json(o, key, j);
	else
		json_object_put(j);
}

void asc_out_table(struct asc_out *o, const char *key, const char *title, const char *record,
		   const struct asc_col *cols, size_t ncols)
{
	need_head(o);
	o->ops->table(o, key, title, record, cols, ncols);
}

void asc_out_row(struct asc_out *o, const struct asc_value *v)
{
	o->ops->row(o, v);
}

void asc_out_row_extra(struct asc_out *o, const char *key, struct json_object *j)
{
	if (o->ops->row_extra)
		o->ops->row_extra(o, key, j);
	else
		json_object_put(j);
}

void asc_out_table_end(struct asc_out *o)
{
	o->ops->table_end(o);
}

void asc_out_text(struct asc_out *o, const char *fmt, ...)
{
	va_list ap;

	need_head(o);
	if (!o->ops->text)
		return;
	char *line = NULL;
	va_start(ap, fmt);
	int n = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (n < 0) {
		asc_out_nomem(o);
		return;
	}
	o->ops->text(o, line);
	free(line);
}

void asc_out_title(struct asc_out *o, const char *title)
{
	need_head(o);
	if (o->ops->title)
		o->ops->title(o, title);
}

void asc_out_bar(struct asc_out *o, const char *label, struct asc_value v, double share,
		 enum asc_color c)
{
	need_head(o);
	if (o->ops->bar)
		o->ops->bar(o, label, v, share, c);
}

void asc_out_warn(struct asc_out *o, const char *code, const char *fmt, ...)
{
	struct asc_warning w = { 0 };
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&w.message, fmt, ap);
	va_end(ap);
	if (n < 0) {
		asc_out_nomem(o);
		return;
	}
	for (size_t i = 0; i < o->nwarnings; i++) {
		if (!strcmp(o->warnings[i].code, code) &&
		    !strcmp(o->warnings[i].message, w.message)) {
			free(w.message);
			return;
		}
	}
	w.code = strdup(code);
	void *p = o->warnings;
	struct asc_error *err = w.code ? NULL : asc_err(ASC_ENOMEM, "out of memory for a warning");
	if (!err && o->nwarnings == o->warnings_cap)
		err = asc_vec_grow_(&p, &o->warnings_cap, o->nwarnings, sizeof(*o->warnings));
	o->warnings = p;
	if (err) {
		asc_out_fail(o, err);
		free(w.code);
		free(w.message);
		return;
	}
	o->warnings[o->nwarnings++] = w;
	if (o->opts.format == ASC_TEXT) {
		char *e = asc_harmless(w.message);
		fflush(o->f);
		fprintf(stderr, "arenascope: warning: %s   [%s]\n", e ? e : "?", code);
		free(e);
	}
}

bool asc_out_broken(const struct asc_out *o)
{
	return o->err || ferror(o->f);
}

void asc_out_partial(struct asc_out *o)
{
	o->partial = true;
}

bool asc_out_is_partial(const struct asc_out *o)
{
	return o->partial;
}

const char *asc_out_color(const struct asc_out *o, enum asc_color c)
{
	static const char *const codes[] = {
		[ASC_C_NONE] = "\033[0m",   [ASC_C_BOLD] = "\033[1m",
		[ASC_C_DIM] = "\033[2m",    [ASC_C_LIVE] = "\033[34m",
		[ASC_C_TRIM] = "\033[32m",  [ASC_C_RETAINED] = "\033[36m",
		[ASC_C_FRAG] = "\033[35m",  [ASC_C_CACHED] = "\033[33m",
		[ASC_C_BAD] = "\033[1;31m",
	};

	/* a page has colours always: its text passes through them as classes */
	if (o->opts.format != ASC_HTML && (!o->opts.color || o->opts.format != ASC_TEXT))
		return "";
	return codes[c];
}
