// SPDX-License-Identifier: GPL-3.0-or-later
/* -o FILE: written beside it, then renamed, so that nobody ever reads half of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/cli.h"

struct asc_output {
	char *path, *temp; /* temp NULL: written directly (a device, a pipe) */
	FILE *f;
};

static void output_free(struct asc_output *o)
{
	free(o->path);
	free(o->temp);
	free(o);
}

static struct asc_error *fail(const char *path, int e)
{
	ASC_AUTO(asc_freep) char *shown = asc_escape(path);

	return asc_err_id(asc_err(ASC_EIO, "cannot write %s: %s", shown ? shown : "?", strerror(e)),
			  "E-OUTPUT");
}

struct asc_error *asc_output_open(const char *path, struct asc_output **ret, FILE **ret_f)
{
	struct asc_output *o = calloc(1, sizeof(*o));
	struct stat st;
	int fd;

	if (!o || !(o->path = realpath(path, NULL)))
		if (o)
			o->path = strdup(path);
	if (!o || !o->path) {
		free(o);
		return asc_err(ASC_ENOMEM, "output file");
	}
	if (!stat(path, &st) && !S_ISREG(st.st_mode)) {
		fd = open(path, O_WRONLY | O_CLOEXEC);
	} else {
		if (asprintf(&o->temp, "%s.XXXXXX", o->path) < 0)
			o->temp = NULL;
		fd = o->temp ? mkostemp(o->temp, O_CLOEXEC) : -1;
		if (fd >= 0) {
			mode_t mask = umask(0);
			umask(mask);
			if (fchmod(fd, 0666 & ~mask))
				errno = 0; /* a file system without modes */
		}
	}
	o->f = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (!o->f) {
		struct asc_error *err = fail(path, errno);
		if (fd >= 0)
			close(fd);
		if (fd >= 0 && o->temp)
			unlink(o->temp);
		output_free(o);
		return err;
	}
	*ret = o;
	*ret_f = o->f;
	return NULL;
}

struct asc_error *asc_output_close(struct asc_output *o, bool keep)
{
	struct asc_error *err = NULL;
	bool bad = ferror(o->f) || fflush(o->f);
	int e = errno;

	if (keep && !bad && o->temp && fsync(fileno(o->f)) && errno != EINVAL && errno != EROFS) {
		bad = true;
		e = errno;
	}
	if (fclose(o->f) && !bad) {
		bad = true;
		e = errno;
	}
	if (keep && bad)
		err = fail(o->path, e);
	if (o->temp && keep && !bad && rename(o->temp, o->path)) {
		err = fail(o->path, errno);
		bad = true;
	}
	if (o->temp && (!keep || bad))
		unlink(o->temp);
	output_free(o);
	return err;
}
