// SPDX-License-Identifier: GPL-3.0-or-later
/* Scripts: one command a line, the first failure ends them and is the exit status. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/cli.h"

enum { SOURCE_DEPTH_MAX = 16 };

int asc_status_join(int a, int b)
{
	if (a > 1 || b == 0)
		return a;
	return b;
}

/* Run one line of @p name. @return its exit status */
static int run_line(struct asc_cli *c, const char *name, unsigned long number, const char *line)
{
	ASC_AUTO(asc_freep) char *where = NULL;
	const char *outer = c->where;
	int status = 0;

	if (asprintf(&where, "%s:%lu", name, number) < 0)
		where = NULL;
	c->where = where ? where : name;
	struct asc_error *err = asc_run_line(c, line, &status);
	if (err && err->os_errno == EPIPE) {
		asc_error_free(err);
		c->quit = true;
		status = 141;
	} else if (err) {
		status = asc_report_error(c, err);
	}
	c->where = outer;
	return status;
}

static int run_stream(struct asc_cli *c, const char *name, FILE *f)
{
	ASC_AUTO(asc_freep) char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int status = 0;

	for (unsigned long number = 1; !c->quit; number++) {
		/* also when Ctrl-C came too late to end the line before */
		if (asc_interrupted())
			return 130;
		errno = 0;
		n = getline(&line, &cap, f);
		if (asc_interrupted())
			return 130;
		if (n < 0)
			break;
		int one;
		if (memchr(line, 0, (size_t)n)) {
			fprintf(stderr, "%s:%lu: a NUL byte: not a script   [E-USAGE, exit 64]\n",
				name, number);
			one = 64;
		} else {
			one = run_line(c, name, number, line);
		}
		status = asc_status_join(status, one);
		if (one > 1 && !c->keep_going)
			return status;
	}
	if (ferror(f) && !asc_interrupted()) {
		fprintf(stderr, "%s: cannot be read: %s   [E-NOTARGET, exit 66]\n", name,
			strerror(errno));
		status = asc_status_join(status, 66);
	}
	return status;
}

int asc_run_file(struct asc_cli *c, const char *path)
{
	if (!strcmp(path, "-")) {
		c->stdin_used = true;
		return run_stream(c, "<stdin>", stdin);
	}
	ASC_AUTO(asc_freep) char *shown = asc_escape(path);
	if (c->depth >= SOURCE_DEPTH_MAX)
		return asc_report_error(
			c, asc_err_id(asc_err(ASC_EUSAGE,
					      "%s: scripts that source each other too deep",
					      shown ? shown : "?"),
				      "E-USAGE"));
	ASC_AUTO(asc_fclosep) FILE *f = fopen(path, "re");
	if (!f) {
		int e = errno;
		return asc_report_error(
			c, asc_err_id(asc_err(ASC_ENOTARGET, "cannot read the script %s: %s",
					      shown ? shown : "?", strerror(e)),
				      "E-SCRIPT"));
	}
	c->depth++;
	int status = run_stream(c, shown ? shown : path, f);
	c->depth--;
	return status;
}

int asc_run_batch(struct asc_cli *c)
{
	int status = 0;

	for (size_t i = 0; i < c->batch_items.len && !c->quit; i++) {
		const struct asc_batch_item *item = &c->batch_items.data[i];
		int one = item->is_file ? asc_run_file(c, item->text)
					: run_line(c, "-ex", i + 1, item->text);
		status = asc_status_join(status, one);
		if (one > 1 && !c->keep_going)
			break;
	}
	return status;
}
