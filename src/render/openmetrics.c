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
#include "base/vec.h"
#include "render/out.h"

enum { NAME_LEN = 160, LABELS_LEN = 1024 };

/* All samples of a name stand together, so each family is written apart first. */
struct family {
	char *name, *key; /* key: as in the JSON document */
	const char *unit; /* or NULL */
	FILE *f;
	char *text;
	size_t len;
};

struct metrics {
	struct asc_out *o;
	ASC_VEC(struct family *) families; /* not in place: their streams know where they are */
	char target[LABELS_LEN];	   /* labels of every sample */
	bool failed;
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

/* ---- families ---- */

static void fail(struct metrics *m)
{
	asc_out_nomem(m->o);
	m->failed = true;
}

static void family_free(struct family *f)
{
	if (!f)
		return;
	if (f->f)
		fclose(f->f);
	free(f->name);
	free(f->key);
	free(f->text);
	free(f);
}

static struct family *family(struct metrics *m, const char *name, const char *key, const char *unit)
{
	for (size_t i = 0; i < m->families.len; i++) {
		if (!strcmp(m->families.data[i]->name, name))
			return m->families.data[i];
	}
	struct family *f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->name = strdup(name);
	f->key = strdup(key);
	f->unit = unit;
	f->f = open_memstream(&f->text, &f->len);
	struct asc_error *err = f->name && f->key && f->f ? asc_vec_push(&m->families, f)
							  : asc_err(ASC_ENOMEM, "metrics");
	if (err) {
		asc_error_free(err);
		family_free(f);
		return NULL;
	}
	return f;
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
	struct family *f = family(m, name, at->key, unit);
	if (!f) {
		fail(m);
		return;
	}
	fprintf(f->f, "%s{%s%s%s} ", name, m->target, *at->labels && *m->target ? "," : "",
		at->labels);
	if (json_object_is_type(j, json_type_boolean))
		fprintf(f->f, "%d\n", json_object_get_boolean(j));
	else if (is_double)
		/* the digits of the other formats, not those behind them */
		fprintf(f->f, "%.9g\n", strtod(json_object_get_string(j), NULL) * scale);
	else if (json_object_get_int64(j) < 0)
		fprintf(f->f, "%" PRId64 "\n", json_object_get_int64(j));
	else
		fprintf(f->f, "%" PRIu64 "\n", json_object_get_uint64(j));
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
		char labels[LABELS_LEN] = "";
		item_labels(json_object_array_get_idx(list, i), one, labels, sizeof(labels));
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
	if (!n || !json_object_is_type(json_object_array_get_idx(j, 0), json_type_object))
		return;
	singular(one, sizeof(one), key);
	bool apart = told_apart(j, one);
	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(j, i);
		struct place p = *at;
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

static void put_target(struct metrics *m, FILE *f, struct json_object *root)
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
	fprintf(f,
		"# HELP arenascope_target_info What was read.\n"
		"# TYPE arenascope_target_info gauge\narenascope_target_info{%s} 1\n",
		labels);
}

static void put_state(const struct metrics *m, FILE *f, bool complete)
{
	const struct asc_out *o = m->o;

	fprintf(f,
		"# HELP arenascope_complete 0 when a part could not be read or is damaged.\n"
		"# TYPE arenascope_complete gauge\narenascope_complete{%s} %d\n",
		m->target, complete);
	if (!o->nwarnings)
		return;
	fputs("# HELP arenascope_warnings Warnings by code; arenascope help CODE explains one.\n"
	      "# TYPE arenascope_warnings gauge\n",
	      f);
	for (size_t i = 0; i < o->nwarnings; i++) {
		size_t same = 0;
		bool first = true;
		for (size_t k = 0; k < o->nwarnings; k++) {
			bool equal = !strcmp(o->warnings[i].code, o->warnings[k].code);
			same += equal;
			first = first && !(equal && k < i);
		}
		if (first)
			fprintf(f, "arenascope_warnings{%s,code=\"%s\"} %zu\n", m->target,
				o->warnings[i].code, same);
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

void asc_openmetrics_write(struct asc_out *o, struct json_object *root, bool complete)
{
	struct metrics m = { .o = o };

	put_target(&m, o->f, root);
	put_state(&m, o->f, complete);
	json_object_object_foreach(root, key, val)
	{
		struct place p = { .name = "arenascope" };
		if (!val || about_the_document(key))
			continue;
		if (json_object_is_type(val, json_type_array)) {
			list(&m, &p, key, val);
			continue;
		}
		enter(&p, key, key);
		value(&m, &p, val);
	}
	for (size_t i = 0; i < m.families.len; i++) {
		struct family *f = m.families.data[i];
		if (fclose(asc_take(f->f)))
			fail(&m);
		fprintf(o->f, "# HELP %s %s of arenascope-json(5).\n# TYPE %s gauge\n", f->name,
			f->key, f->name);
		if (f->unit)
			fprintf(o->f, "# UNIT %s %s\n", f->name, f->unit);
		if (f->text)
			fwrite(f->text, 1, f->len, o->f);
		family_free(f);
	}
	asc_vec_free(&m.families);
	if (!m.failed)
		fputs("# EOF\n", o->f);
}
