/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Layouts read from DWARF, kept by build-id in the user's cache: unpacking libc's DWARF is most of
 * the start-up time of a small report. The files are safe to delete; one that is damaged, of
 * another version of this program, or writable by others is not used, and what is used is verified.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/scan.h"

enum { VERSION = 1, FILE_MAX = 32768 };

/* $XDG_CACHE_HOME/arenascope; false: there is no home, or it is somebody else's (sudo). */
static bool folder(char *buf, size_t len)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	struct stat st;
	int n;

	if (xdg && xdg[0] == '/')
		n = snprintf(buf, len, "%s", xdg);
	else if (home && home[0] == '/')
		n = snprintf(buf, len, "%s/.cache", home);
	else
		return false;
	if (n < 0 || (size_t)n + sizeof("/arenascope") > len)
		return false;
	if (mkdir(buf, 0700) && errno != EEXIST)
		return false;
	if (stat(buf, &st) || st.st_uid != geteuid())
		return false;
	memcpy(buf + n, "/arenascope", sizeof("/arenascope"));
	return true;
}

static bool path_of(const char *build_id, const char *arch, char *buf, size_t len)
{
	size_t n;

	if (strlen(build_id) < 8 || strspn(build_id, "0123456789abcdef") != strlen(build_id) ||
	    !folder(buf, len))
		return false;
	n = strlen(buf);
	return (size_t)snprintf(buf + n, len - n, "/%s.%s.layout", build_id, arch) < len - n;
}

static void write_fields(FILE *f, const struct asc_layout *l)
{
#define S(type) fprintf(f, #type " %" PRIu64 "\n", l->sizeof_##type);
#define M(type, member, need)                                                                      \
	if (l->type##_##member.present)                                                            \
		fprintf(f, #type "." #member " %u %u %u\n", l->type##_##member.off,                \
			l->type##_##member.size, l->type##_##member.elem);
#include "glibc/schema.def"
#undef S
#undef M
}

void asc_layout_cache_put(const struct asc_arch *arch, const char *build_id,
			  const struct asc_layout *l)
{
	ASC_AUTO(asc_freep) char *text = NULL;
	char path[4096], tmp[4128], *slash;
	size_t len = 0;
	FILE *f;
	int fd;

	if (!path_of(build_id, arch->name, path, sizeof(path)))
		return;
	f = open_memstream(&text, &len);
	if (!f)
		return;
	fprintf(f, "arenascope layout %d\n", VERSION);
	write_fields(f, l);
	if (fclose(f) || !text)
		return;
	slash = strrchr(path, '/');
	*slash = 0;
	mkdir(path, 0700);
	*slash = '/';
	snprintf(tmp, sizeof(tmp), "%s.%d", path, (int)getpid());
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	f = fdopen(fd, "w");
	if (!f) {
		close(fd);
		return;
	}
	fwrite(text, 1, len, f);
	fprintf(f, "end %08lx\n", crc32(0, (const Bytef *)text, (uInt)len));
	if (fclose(f) || rename(tmp, path))
		unlink(tmp);
}

/* The whole file, if its checksum is right. */
static bool load(const char *path, char buf[static FILE_MAX])
{
	struct stat st;
	unsigned long crc;
	char *end;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return false;
	n = fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022)
		    ? -1
		    : read(fd, buf, FILE_MAX - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = 0;
	end = strstr(buf, "\nend ");
	if (!end || sscanf(end, "\nend %8lx", &crc) != 1)
		return false;
	end[1] = 0;
	return crc32(0, (const Bytef *)buf, (uInt)(end + 1 - buf)) == crc;
}

static bool size_of(const char *text, const char *name, uint64_t *ret)
{
	const char *at = strstr(text, name);

	return at && sscanf(at + strlen(name), "%" SCNu64, ret) == 1;
}

static struct asc_field field_of(const char *text, const char *name)
{
	struct asc_field f = { 0 };
	const char *at = strstr(text, name);

	f.present = at && sscanf(at + strlen(name), "%u %u %u", &f.off, &f.size, &f.elem) == 3 &&
		    f.elem;
	return f.present ? f : (struct asc_field){ 0 };
}

bool asc_layout_cache_get(const struct asc_arch *arch, const char *build_id, struct asc_layout *ret)
{
	ASC_AUTO(asc_freep) char *text = malloc(FILE_MAX);
	struct asc_layout l = { .from = ASC_FROM_DWARF };
	enum { REQUIRED, OPTIONAL };
	char path[4096];
	bool ok = true;

	if (!text || !path_of(build_id, arch->name, path, sizeof(path)) || !load(path, text) ||
	    strncmp(text, "arenascope layout 1\n", 20) != 0)
		return false;
#define S(type) ok &= size_of(text, "\n" #type " ", &l.sizeof_##type);
#define M(type, member, need)                                                                      \
	l.type##_##member = field_of(text, "\n" #type "." #member " ");                            \
	ok &= l.type##_##member.present || (need) == OPTIONAL;
#include "glibc/schema.def"
#undef S
#undef M
	if (!ok || !asc_layout_sane(&l))
		return false;
	*ret = l;
	return true;
}
