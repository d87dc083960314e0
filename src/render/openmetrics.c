// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * OpenMetrics text: every number of the JSON document as a gauge. Objects become parts of the name,
 * items of a list are told apart by labels, and every sample names the process, so that the files
 * of many processes can stand side by side. What is unknown has no sample.
 */
#include <ctype.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "render/metricset.h"
#include "render/out.h"

enum { NAME_LEN = 160, LABELS_LEN = 1024 };

/* One document on its way there. */
struct metrics {
	struct asc_out *o;
	struct asc_metricset *to;
	char target[LABELS_LEN]; /* labels of every sample */
};

/* ---- names and labels ---- */

/* Keys that tell the items of a list apart. */
static bool is_label(const char *key)
{
	static const char *const keys[] = {
		"arena",  "bin",      "code",  "from_bytes", "index",  "kind",
		"libc",	  "line",     "live",  "member",     "name",   "path",
		"reason", "severity", "state", "struct",     "thread", "tid",
	};

	for (size_t i = 0; i < ASC_ARRAY_SIZE(keys); i++) {
		if (!strcmp(keys[i], key))
			return true;
	}
	return false;
}

/* "arenas" -> "arena" */
static void singular(char *buf, size_t size, const char *list)
{
	size_t n = strlen(list);

	if (!strcmp(list, "histogram")) { /* a word that the metrics' readers keep for themselves */
		snprintf(buf, size, "page_class");
		return;
	}
	if (n > 3 && !strcmp(list + n - 3, "xes"))
		n -= 2;
	else if (n > 3 && list[n - 1] == 's' && strcmp(list + n - 3, "ous") != 0)
		n--;
	snprintf(buf, size, "%.*s", (int)n, list);
}

static bool ends(const char *s, const char *with)
{
	size_t n = strlen(s), k = strlen(with);

	return n >= k && !strcmp(s + n - k, with);
}

/* Label values know three escapes; what else is not text was escaped as in the terminal. */
static void put_label(char *buf, size_t size, const char *name, const char *value)
{
	size_t at = strlen(buf);
	ASC_AUTO(asc_freep) char *e = asc_harmless(value);

	if (!e || at + strlen(name) + 2 * strlen(e) + 8 > size)
		return;
	at += (size_t)snprintf(buf + at, size - at, "%s%s=\"", at ? "," : "", name);
	for (const char *p = e; *p; p++) {
		if (*p == '"' || *p == '\\')
			buf[at++] = '\\';
		buf[at++] = *p;
	}
	buf[at++] = '"';
	buf[at] = 0;
}

static void put_sample(struct metrics *m, const struct asc_metric *metric, const char *labels,
		       const char *value)
{
	if (!asc_metricset_put(m->to, metric, labels, value))
		asc_out_nomem(m->o);
}

/* The place in the document: a name in the making, and labels. */
struct place {
	char name[NAME_LEN], key[NAME_LEN], labels[LABELS_LEN];
};

static void enter(struct place *p, const char *part, const char *key)
{
	size_t n = strlen(p->name), k = strlen(p->key);

	snprintf(p->name + n, sizeof(p->name) - n, "_%s", part);
	for (char *c = p->name + n; *c; c++)
		*c = isalnum((unsigned char)*c) ? *c : '_';
	snprintf(p->key + k, sizeof(p->key) - k, "%s%s", k ? "." : "", key);
}

/* Units as OpenMetrics wants them; names that it keeps for histograms are turned around. */
static const char *unit_of(char *name, size_t size, bool is_double, double *scale)
{
	size_t n = strlen(name);

	if (ends(name, "_ms")) {
		snprintf(name + n - 2, size - n + 2, "seconds");
		*scale = 1e-3;
		return "seconds";
	}
	if (ends(name, "_seconds"))
		return "seconds";
	if (ends(name, "_bytes"))
		return "bytes";
	if (ends(name, "_count")) {
		snprintf(name + n - 6, size - n + 6, "s");
		return NULL;
	}
	if (is_double) {
		snprintf(name + n, size - n, "_ratio");
		return "ratio";
	}
	return NULL;
}

static void sample(struct metrics *m, const struct place *at, struct json_object *j)
{
	bool is_double = json_object_is_type(j, json_type_double);
	double scale = 1;
	char name[NAME_LEN + 16];

	snprintf(name, sizeof(name), "%s", at->name);
	const char *unit = unit_of(name, sizeof(name), is_double, &scale);
	char help[NAME_LEN + 32], labels[2 * LABELS_LEN], number[32];
	snprintf(help, sizeof(help), "%s of arenascope-json(5).", at->key);
	snprintf(labels, sizeof(labels), "%s%s%s", m->target, *at->labels && *m->target ? "," : "",
		 at->labels);
	if (json_object_is_type(j, json_type_boolean))
		snprintf(number, sizeof(number), "%d", json_object_get_boolean(j));
	else if (is_double)
		/* the digits of the other formats, not those behind them */
		snprintf(number, sizeof(number), "%.9g",
			 strtod(json_object_get_string(j), NULL) * scale);
	else if (json_object_get_int64(j) < 0)
		snprintf(number, sizeof(number), "%" PRId64, json_object_get_int64(j));
	else
		snprintf(number, sizeof(number), "%" PRIu64, json_object_get_uint64(j));
	put_sample(m, &(struct asc_metric){ name, help, unit }, labels, number);
}

/* ---- the document ---- */

static void value(struct metrics *m, const struct place *at, struct json_object *j);

/* Labels of one item; what is its own number in the list is named after the list. */
static void item_labels(struct json_object *item, const char *one, char *buf, size_t size)
{
	json_object_object_foreach(item, key, val)
	{
		if (is_label(key) && val && !json_object_is_type(val, json_type_array) &&
		    !json_object_is_type(val, json_type_object))
			put_label(buf, size, strcmp(key, "index") ? key : one,
				  json_object_get_string(val));
	}
}

static void json_putp(struct json_object **j)
{
	json_object_put(*j);
}

static bool told_apart(struct json_object *list, const char *one)
{
	size_t n = json_object_array_length(list);
	ASC_AUTO(json_putp) struct json_object *seen = json_object_new_object();

	for (size_t i = 0; seen && i < n; i++) {
		ASC_AUTO(json_putp)
		struct json_object *item = asc_json_row(json_object_array_get_idx(list, i));
		char labels[LABELS_LEN] = "";
		if (!item)
			return false;
		item_labels(item, one, labels, sizeof(labels));
		if (json_object_object_get_ex(seen, labels, NULL))
			return false;
		json_object_object_add(seen, labels, NULL);
	}
	return seen != NULL;
}

static void list(struct metrics *m, const struct place *at, const char *key, struct json_object *j)
{
	char one[64], number[24];
	size_t n = json_object_array_length(j);

	/* mappings that nobody could name: their sum is a metric, they are not */
	if (!strcmp(key, "unknown_anonymous"))
		return;
	if (!n || !asc_json_is_row(json_object_array_get_idx(j, 0)))
		return;
	singular(one, sizeof(one), key);
	bool apart = told_apart(j, one);
	for (size_t i = 0; i < n; i++) {
		ASC_AUTO(json_putp)
		struct json_object *item = asc_json_row(json_object_array_get_idx(j, i));
		struct place p = *at;
		if (!item) {
			asc_out_nomem(m->o);
			return;
		}
		char list_key[96];
		snprintf(list_key, sizeof(list_key), "%s[]", key);
		enter(&p, one, list_key);
		item_labels(item, one, p.labels, sizeof(p.labels));
		if (!apart) {
			snprintf(number, sizeof(number), "%zu", i);
			put_label(p.labels, sizeof(p.labels), "item", number);
		}
		json_object_object_foreach(item, k, v)
		{
			/* a list in a list would need the labels of both: JSON is for that */
			if (!v || is_label(k) || !strcmp(k, "rank") ||
			    json_object_is_type(v, json_type_array))
				continue;
			struct place q = p;
			enter(&q, k, k);
			value(m, &q, v);
		}
		/* its samples are what is left of it */
		json_object_array_put_idx(j, i, NULL);
	}
}

/* {"in_use": 1, "tcache": 2} of chunks: one metric with a label. */
static void states(struct metrics *m, const struct place *at, const char *name,
		   struct json_object *j)
{
	json_object_object_foreach(j, state, val)
	{
		struct place p = *at;
		size_t n = strlen(p.name);
		if (!val)
			continue;
		while (n && strncmp(p.name + n, "_chunk_", 7))
			n--;
		snprintf(p.name + n, sizeof(p.name) - n, "_%s", name);
		put_label(p.labels, sizeof(p.labels), "state", state);
		value(m, &p, val);
	}
}

static void value(struct metrics *m, const struct place *at, struct json_object *j)
{
	switch (json_object_get_type(j)) {
	case json_type_object:
		if (ends(at->name, "_chunk_counts")) {
			states(m, at, "chunks", j);
			break;
		}
		if (ends(at->name, "_chunk_bytes")) {
			states(m, at, "chunk_bytes", j);
			break;
		}
		json_object_object_foreach(j, key, val)
		{
			struct place p = *at;
			if (json_object_is_type(val, json_type_array)) {
				list(m, &p, key, val);
			} else if (val && strcmp(key, "pid") != 0) {
				enter(&p, key, key);
				value(m, &p, val);
			}
		}
		break;
	case json_type_int:
	case json_type_double:
	case json_type_boolean:
		sample(m, at, j);
		break;
	default:
		break; /* strings are labels, or for JSON */
	}
}

/* ---- the target ---- */

static const char *text_at(struct json_object *root, const char *object, const char *key)
{
	struct json_object *j = NULL;

	if (!json_object_object_get_ex(root, object, &j) ||
	    !json_object_object_get_ex(j, key, &j) || !j)
		return NULL;
	return json_object_get_string(j);
}

static void put_target(struct metrics *m, struct json_object *root)
{
	static const struct {
		const char *label, *object, *key;
	} more[] = {
		{ "arch", "target", "arch" },	     { "core", "target", "core" },
		{ "libc", "libc", "version" },	     { "build_id", "libc", "build_id" },
		{ "layout", "libc", "layout" },	     { "allocator", "libc", "allocator" },
		{ "arenascope", "tool", "version" },
	};
	char labels[LABELS_LEN];
	const char *pid = text_at(root, "target", "pid"), *name = text_at(root, "target", "name");

	if (pid)
		put_label(m->target, sizeof(m->target), "pid", pid);
	put_label(m->target, sizeof(m->target), "process", name ? name : "?");
	snprintf(labels, sizeof(labels), "%s", m->target);
	for (size_t i = 0; i < ASC_ARRAY_SIZE(more); i++) {
		const char *v = text_at(root, more[i].object, more[i].key);
		if (v)
			put_label(labels, sizeof(labels), more[i].label, v);
	}
	/* a gauge: parsers of the older text format know no type "info" */
	put_sample(m, &(struct asc_metric){ "arenascope_target_info", "What was read.", NULL },
		   labels, "1");
}

/* Of several documents each must be complete. */
static void put_complete(struct metrics *m, bool complete)
{
	static const struct asc_metric metric = { "arenascope_complete",
						  "0 when a part could not be read or is damaged.",
						  NULL };
	const char *before = asc_metricset_get(m->to, metric.name, m->target);

	put_sample(m, &metric, m->target,
		   complete && (!before || !strcmp(before, "1")) ? "1" : "0");
}

static void put_warnings(struct metrics *m)
{
	static const struct asc_metric metric = {
		"arenascope_warnings", "Warnings by code; arenascope help CODE explains one.", NULL
	};
	const struct asc_out *o = m->o;
	char labels[LABELS_LEN + 64], number[24];

	for (size_t i = 0; i < o->nwarnings; i++) {
		size_t same = 0;
		for (size_t k = 0; k < o->nwarnings; k++)
			same += !strcmp(o->warnings[i].code, o->warnings[k].code);
		snprintf(labels, sizeof(labels), "%s,code=\"%s\"", m->target, o->warnings[i].code);
		snprintf(number, sizeof(number), "%zu", same);
		put_sample(m, &metric, labels, number);
	}
}

static bool about_the_document(const char *key)
{
	static const char *const keys[] = { "schema",	"schema_version", "tool", "taken_at",
					    "complete", "warnings",	  "libc" };

	for (size_t i = 0; i < ASC_ARRAY_SIZE(keys); i++) {
		if (!strcmp(keys[i], key))
			return true;
	}
	return false;
}

static void put_document(struct metrics *m, struct json_object *root, bool complete)
{
	put_target(m, root);
	put_complete(m, complete);
	put_warnings(m);
	json_object_object_foreach(root, key, val)
	{
		struct place p = { .name = "arenascope" };
		if (!val || about_the_document(key))
			continue;
		if (json_object_is_type(val, json_type_array)) {
			list(m, &p, key, val);
			continue;
		}
		enter(&p, key, key);
		value(m, &p, val);
	}
}

void asc_openmetrics_put(struct asc_out *o, struct json_object *root, bool complete)
{
	struct asc_stream *stream = o->opts.stream;
	struct asc_metricset *to = stream ? stream->metrics : NULL;

	if (!to)
		to = asc_metricset_new();
	if (!to) {
		asc_out_nomem(o);
		return;
	}
	struct metrics m = { .o = o, .to = to };
	put_document(&m, root, complete);
	if (stream) {
		stream->metrics = to;
		return;
	}
	if (!o->err)
		asc_metricset_write(to, o->f);
	asc_metricset_free(to);
}
