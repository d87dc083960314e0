/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An error owns its text and its cause. Without memory for a new one the static `no_memory` is
 * returned (or, when wrapping, the cause itself), so that the root is never lost.
 */
#include "arenascope/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char no_memory_text[] = "out of memory";
static struct asc_error no_memory = { .code = ASC_ENOMEM, .msg = no_memory_text };

static struct asc_error *make(enum asc_errc code, int os_errno, struct asc_error *cause,
			      const char *fmt, va_list ap)
{
	struct asc_error *err = calloc(1, sizeof(*err));

	if (!err || vasprintf(&err->msg, fmt, ap) < 0) {
		free(err);
		return cause ? cause : &no_memory;
	}
	err->code = code;
	err->os_errno = os_errno;
	err->cause = cause;
	return err;
}

struct asc_error *asc_err(enum asc_errc code, const char *fmt, ...)
{
	struct asc_error *err;
	va_list ap;

	va_start(ap, fmt);
	err = make(code, 0, NULL, fmt, ap);
	va_end(ap);
	return err;
}

struct asc_error *asc_err_os(int os_errno, const char *fmt, ...)
{
	struct asc_error *err;
	va_list ap;

	va_start(ap, fmt);
	err = make(ASC_EOS, os_errno, NULL, fmt, ap);
	va_end(ap);
	return err;
}

struct asc_error *asc_wrap(struct asc_error *cause, const char *fmt, ...)
{
	struct asc_error *err;
	va_list ap;

	va_start(ap, fmt);
	err = make(cause->code, 0, cause, fmt, ap);
	va_end(ap);
	return err;
}

struct asc_error *asc_err_id(struct asc_error *err, const char *id)
{
	if (err != &no_memory)
		err->id = id;
	return err;
}

struct asc_error *asc_err_why(struct asc_error *err, const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (err != &no_memory && vasprintf(&s, fmt, ap) >= 0) {
		free(err->why);
		err->why = s;
	}
	va_end(ap);
	return err;
}

struct asc_error *asc_err_try(struct asc_error *err, const char *fmt, ...)
{
	va_list ap;
	char *line, *all;

	va_start(ap, fmt);
	if (err != &no_memory && vasprintf(&line, fmt, ap) >= 0) {
		if (!err->hint) {
			err->hint = line;
		} else if (asprintf(&all, "%s\n%s", err->hint, line) >= 0) {
			free(err->hint);
			free(line);
			err->hint = all;
		} else {
			free(line);
		}
	}
	va_end(ap);
	return err;
}

void asc_error_free(struct asc_error *err)
{
	while (err && err != &no_memory) {
		struct asc_error *cause = err->cause;

		free(err->msg);
		free(err->why);
		free(err->hint);
		free(err);
		err = cause;
	}
}

void asc_error_freep(struct asc_error **err)
{
	asc_error_free(*err);
	*err = NULL;
}

char *asc_error_text(const struct asc_error *err)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	for (; err; err = err->cause) {
		fputs(err->msg, f);
		if (err->os_errno)
			fprintf(f, ": %s", strerror(err->os_errno));
		if (err->cause)
			fputs(": ", f);
	}
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

const char *asc_error_id(const struct asc_error *err)
{
	for (; err; err = err->cause) {
		if (err->id)
			return err->id;
	}
	return NULL;
}

const char *asc_error_why(const struct asc_error *err)
{
	for (; err; err = err->cause) {
		if (err->why)
			return err->why;
	}
	return NULL;
}

const char *asc_error_hint(const struct asc_error *err)
{
	for (; err; err = err->cause) {
		if (err->hint)
			return err->hint;
	}
	return NULL;
}

int asc_error_exit(const struct asc_error *err)
{
	if (!err)
		return 0;
	switch (err->code) {
	case ASC_EUSAGE:
		return 64;
	case ASC_EINPUT:
		return 65;
	case ASC_ENOTARGET:
		return 66;
	case ASC_EUNSUPPORTED:
		return 69;
	case ASC_EBUG:
		return 70;
	case ASC_EIO:
		return 74;
	case ASC_EAGAIN:
		return 75;
	case ASC_EPERM:
		return 77;
	case ASC_ENOSYM:
		return 78;
	case ASC_EINTR:
		return 130;
	case ASC_EOTHER:
	case ASC_ENOMEM:
	case ASC_EOS:
	case ASC_EFAULT:
	case ASC_ENOTFOUND:
		break;
	}
	return 2;
}
