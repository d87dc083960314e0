/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "render/metricset.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/vec.h"

enum { NONE = 0, FIRST_SLOTS = 64 };

/* Numbers from 1, found by a hash: slots of an open table. */
struct index {
	uint32_t *slots;
	size_t nslots, used; /* nslots: a power of two, or 0 */
};

/* A text is known by where it begins in the pool. */
struct sample {
	uint32_t family, labels, value;
	uint32_t next; /* of the family, NONE: the last one */
};

struct family {
	uint32_t name, help, unit; /* unit: the empty text if there is none */
	uint32_t first, last;	   /* samples, by number */
};

struct asc_metricset {
	ASC_VEC(char) pool; /* texts, each with its 0; the empty one is the first */
	ASC_VEC(struct family) families;
	ASC_VEC(struct sample) samples;
	struct index texts, places, names; /* by content; by family and labels; by name */
};

static uint32_t hash_text(const char *s)
{
	uint32_t h = 2166136261u;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 16777619u;
	return h;
}

static uint32_t hash_two(uint32_t a, uint32_t b)
{
	uint32_t h = a * 2654435761u ^ b;

	return (h ^ h >> 15) * 2246822519u;
}

/* Put a number where nothing is. There is room. */
static void insert(struct index *x, uint32_t hash, uint32_t number)
{
	size_t at = hash & (x->nslots - 1);

	while (x->slots[at] != NONE)
		at = (at + 1) & (x->nslots - 1);
	x->slots[at] = number;
	x->used++;
}

/* Room for one more. @p hash_of: of a number that is in. @return false: no memory */
static bool make_room(const struct asc_metricset *m, struct index *x,
		      uint32_t (*hash_of)(const struct asc_metricset *m, uint32_t number))
{
	struct index more = { .nslots = x->nslots ? 2 * x->nslots : FIRST_SLOTS };

	if (x->used < x->nslots / 4 * 3)
		return true;
	more.slots = calloc(more.nslots, sizeof(*more.slots));
	if (!more.slots)
		return false;
	for (size_t i = 0; i < x->nslots; i++) {
		if (x->slots[i] != NONE)
			insert(&more, hash_of(m, x->slots[i]), x->slots[i]);
	}
	free(x->slots);
	*x = more;
	return true;
}

/* ---- texts: their number is their place in the pool ---- */

static const char *text(const struct asc_metricset *m, uint32_t at)
{
	return m->pool.data + at;
}

static uint32_t hash_of_text(const struct asc_metricset *m, uint32_t number)
{
	return hash_text(text(m, number));
}

static uint32_t find_text(const struct asc_metricset *m, const char *s, uint32_t hash)
{
	const struct index *x = &m->texts;

	for (size_t at = hash; x->nslots; at++) {
		uint32_t number = x->slots[at & (x->nslots - 1)];

		if (number == NONE || !strcmp(text(m, number), s))
			return number;
	}
	return NONE;
}

static bool append(struct asc_metricset *m, const char *s, size_t size)
{
	while (m->pool.cap - m->pool.len < size) {
		void *p = m->pool.data;
		struct asc_error *err = asc_vec_grow_(&p, &m->pool.cap, m->pool.len, 1);

		m->pool.data = p;
		if (err) {
			asc_error_free(err);
			return false;
		}
	}
	memcpy(m->pool.data + m->pool.len, s, size);
	m->pool.len += size;
	return true;
}

/* @return where @p s is in the pool, NONE: no memory */
static uint32_t keep_text(struct asc_metricset *m, const char *s)
{
	uint32_t hash = hash_text(s), at = find_text(m, s, hash);
	size_t begin = m->pool.len, size = strlen(s) + 1;

	if (at != NONE)
		return at;
	if (size > UINT32_MAX - begin || !make_room(m, &m->texts, hash_of_text) ||
	    !append(m, s, size))
		return NONE;
	insert(&m->texts, hash, (uint32_t)begin);
	return (uint32_t)begin;
}

/* ---- families and samples: their number is their place in the vector, and one ---- */

static uint32_t hash_of_name(const struct asc_metricset *m, uint32_t number)
{
	return hash_two(m->families.data[number - 1].name, 0);
}

static uint32_t hash_of_sample(const struct asc_metricset *m, uint32_t number)
{
	const struct sample *s = &m->samples.data[number - 1];

	return hash_two(s->family, s->labels);
}

static uint32_t find_family(const struct asc_metricset *m, uint32_t name)
{
	const struct index *x = &m->names;

	for (size_t at = hash_two(name, 0); x->nslots; at++) {
		uint32_t number = x->slots[at & (x->nslots - 1)];

		if (number == NONE || m->families.data[number - 1].name == name)
			return number;
	}
	return NONE;
}

static uint32_t find_sample(const struct asc_metricset *m, uint32_t family, uint32_t labels)
{
	const struct index *x = &m->places;

	for (size_t at = hash_two(family, labels); x->nslots; at++) {
		uint32_t number = x->slots[at & (x->nslots - 1)];
		const struct sample *s = number == NONE ? NULL : &m->samples.data[number - 1];

		if (!s || (s->family == family && s->labels == labels))
			return number;
	}
	return NONE;
}

static uint32_t keep_family(struct asc_metricset *m, const struct asc_metric *metric)
{
	struct family f = { .name = keep_text(m, metric->name) };
	uint32_t number = f.name ? find_family(m, f.name) : NONE;
	struct asc_error *err;

	if (number != NONE || !f.name)
		return number;
	f.help = keep_text(m, metric->help);
	f.unit = metric->unit ? keep_text(m, metric->unit) : 0;
	if (!f.help || (metric->unit && !f.unit) || !make_room(m, &m->names, hash_of_name))
		return NONE;
	err = asc_vec_push(&m->families, f);
	if (err) {
		asc_error_free(err);
		return NONE;
	}
	number = (uint32_t)m->families.len;
	insert(&m->names, hash_two(f.name, 0), number);
	return number;
}

static bool add_sample(struct asc_metricset *m, uint32_t family, uint32_t labels, uint32_t value)
{
	struct family *f = &m->families.data[family - 1];
	struct sample s = { .family = family, .labels = labels, .value = value };
	struct asc_error *err;
	uint32_t number;

	if (m->samples.len == UINT32_MAX || !make_room(m, &m->places, hash_of_sample))
		return false;
	err = asc_vec_push(&m->samples, s);
	if (err) {
		asc_error_free(err);
		return false;
	}
	number = (uint32_t)m->samples.len;
	insert(&m->places, hash_two(family, labels), number);
	if (f->last != NONE)
		m->samples.data[f->last - 1].next = number;
	else
		f->first = number;
	f->last = number;
	return true;
}

/* ---- the set ---- */

struct asc_metricset *asc_metricset_new(void)
{
	struct asc_metricset *m = calloc(1, sizeof(*m));

	/* so that no text has number 0 but the one that nobody asks for */
	if (m && !append(m, "", 1)) {
		free(m);
		return NULL;
	}
	return m;
}

void asc_metricset_free(struct asc_metricset *m)
{
	if (!m)
		return;
	asc_vec_free(&m->pool);
	asc_vec_free(&m->families);
	asc_vec_free(&m->samples);
	free(m->texts.slots);
	free(m->places.slots);
	free(m->names.slots);
	free(m);
}

bool asc_metricset_put(struct asc_metricset *m, const struct asc_metric *metric, const char *labels,
		       const char *value)
{
	uint32_t family = keep_family(m, metric), l = keep_text(m, labels), v = keep_text(m, value),
		 number;

	if (!family || !l || !v)
		return false;
	number = find_sample(m, family, l);
	if (number == NONE)
		return add_sample(m, family, l, v);
	m->samples.data[number - 1].value = v;
	return true;
}

const char *asc_metricset_get(const struct asc_metricset *m, const char *name, const char *labels)
{
	uint32_t n = find_text(m, name, hash_text(name)),
		 l = find_text(m, labels, hash_text(labels)), family = n ? find_family(m, n) : NONE,
		 number = family && l ? find_sample(m, family, l) : NONE;

	return number == NONE ? NULL : text(m, m->samples.data[number - 1].value);
}

void asc_metricset_write(const struct asc_metricset *m, FILE *f)
{
	for (size_t i = 0; i < m->families.len; i++) {
		const struct family *fam = &m->families.data[i];
		const char *name = text(m, fam->name);

		fprintf(f, "# HELP %s %s\n# TYPE %s gauge\n", name, text(m, fam->help), name);
		if (fam->unit)
			fprintf(f, "# UNIT %s %s\n", name, text(m, fam->unit));
		for (uint32_t n = fam->first; n != NONE; n = m->samples.data[n - 1].next)
			fprintf(f, "%s{%s} %s\n", name, text(m, m->samples.data[n - 1].labels),
				text(m, m->samples.data[n - 1].value));
	}
	fputs("# EOF\n", f);
}
