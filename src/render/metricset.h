/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What OpenMetrics calls a metric set: families of samples. All samples of a name stand together,
 * whichever document they came from, so they wait here until the end; 16 bytes each and what is new
 * of their texts, since thousands of arenas have millions of them.
 */
#ifndef ASC_RENDER_METRICSET_H
#define ASC_RENDER_METRICSET_H

#include <stdbool.h>
#include <stdio.h>

struct asc_metricset;

/* @return NULL: no memory. Free with asc_metricset_free(). */
struct asc_metricset *asc_metricset_new(void);
void asc_metricset_free(struct asc_metricset *m);

/* What a name means: the same every time that it is given. */
struct asc_metric {
	const char *name, *help;
	const char *unit; /* or NULL */
};

/*
 * Add a sample; what was said before of the same labels is replaced. All text is copied.
 * @param labels  of the sample, as they stand between the braces
 * @return false: no memory
 */
bool asc_metricset_put(struct asc_metricset *m, const struct asc_metric *metric, const char *labels,
		       const char *value);

/* @return the value of a sample, NULL: there is none. Good until the next one is put. */
const char *asc_metricset_get(const struct asc_metricset *m, const char *name, const char *labels);

/* All of it, up to the end mark. */
void asc_metricset_write(const struct asc_metricset *m, FILE *f);

#endif
