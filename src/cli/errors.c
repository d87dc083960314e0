// SPDX-License-Identifier: GPL-3.0-or-later
/* How an error reads: what failed, why, what to try. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/cli.h"

const char *asc_error_default_id(enum asc_errc code)
{
	switch (code) {
	case ASC_ENOMEM:
		return "E-MEMORY";
	case ASC_EUSAGE:
		return "E-USAGE";
	case ASC_EINPUT:
		return "E-INPUT";
	case ASC_ENOTARGET:
		return "E-NOTARGET";
	case ASC_EUNSUPPORTED:
		return "E-UNSUPPORTED";
	case ASC_EBUG:
		return "E-BUG";
	case ASC_EIO:
		return "E-OUTPUT";
	case ASC_EAGAIN:
		return "E-AGAIN";
	case ASC_EPERM:
		return "E-PERM";
	case ASC_ENOSYM:
		return "E-SYMBOLS";
	case ASC_EINTR:
		return "E-INTERRUPTED";
	case ASC_EFAULT:
		return "E-FAULT";
	case ASC_ENOTFOUND:
		return "E-NOTFOUND";
	case ASC_EOS:
	case ASC_EOTHER:
		break;
	}
	return "E-FAILED";
}

/* "why: ..." and "try: ..."; further lines are aligned with the first. */
static void put_lines(const char *head, const char *text)
{
	ASC_AUTO(asc_freep) char *copy = strdup(text);

	for (char *at = copy, *line; (line = strsep(&at, "\n"));) {
		ASC_AUTO(asc_freep) char *e = asc_harmless(line);
		fprintf(stderr, "  %-4s %s\n", line == copy ? head : "", e ? e : line);
	}
}

int asc_report_error(const struct asc_cli *c, struct asc_error *err)
{
	ASC_AUTO(asc_freep) char *text = asc_error_text(err);
	ASC_AUTO(asc_freep) char *shown = text ? asc_harmless(text) : NULL;
	const char *id = asc_error_id(err), *why = asc_error_why(err), *hint = asc_error_hint(err);
	int status = asc_error_exit(err);

	fflush(stdout);
	/* A script's line first, as compilers say it, so that editors can jump there. */
	fprintf(stderr, "%s: %s   [%s, exit %d]\n", c->where ? c->where : "arenascope",
		shown ? shown : "out of memory", id ? id : asc_error_default_id(err->code), status);
	if (why)
		put_lines("why:", why);
	if (hint)
		put_lines("try:", hint);
	asc_error_free(err);
	return status;
}
