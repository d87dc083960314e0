// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Several documents in one place. JSON documents simply follow each other; a page of HTML has one head and
 * one foot, metrics have one end mark and every name once, tables of CSV are kept apart by an empty line.
 */
#include <stdlib.h>

#include "base/num.h"
#include "render/metricset.h"
#include "render/out.h"

struct asc_error *asc_stream_new(FILE *f, struct asc_stream **ret)
{
	struct asc_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return asc_err(ASC_ENOMEM, "out of memory for the output");
	s->f = f;
	*ret = s;
	return NULL;
}

static void finish(struct asc_stream *s)
{
	if (s->page)
		asc_html_foot(s->f, s->tool);
	s->page = false;
	free(s->tool);
	s->tool = NULL;
	if (s->metrics)
		asc_metricset_write(s->metrics, s->f);
	asc_metricset_free(s->metrics);
	s->metrics = NULL;
}

void asc_stream_turn(struct asc_stream *s, enum asc_format to)
{
	if (s->format != to)
		finish(s);
	s->format = to;
}

void asc_stream_end(struct asc_stream *s)
{
	if (!s)
		return;
	finish(s);
	free(s);
}
