/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which package holds the missing debug file: asked of the target's own distribution. */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/priv.h"

struct os {
	char id[64], like[128], pretty[128];
};

static void value_of(const char *line, const char *key, char *ret, size_t len)
{
	size_t n = strlen(key);
	const char *v = line + n + 1;
	size_t k = 0;

	if (strncmp(line, key, n) != 0 || line[n] != '=')
		return;
	if (*v == '"' || *v == '\'')
		v++;
	for (; *v && *v != '"' && *v != '\'' && *v != '\n' && k + 1 < len; v++)
		ret[k++] = *v;
	ret[k] = 0;
}

static bool read_os(const char *root, struct os *ret)
{
	static const char *const files[] = { "/etc/os-release", "/usr/lib/os-release" };
	ASC_AUTO(asc_fclosep) FILE *f = NULL;
	char path[4200], line[256];

	for (size_t i = 0; i < ASC_ARRAY_SIZE(files) && !f; i++) {
		snprintf(path, sizeof(path), "%s%s", root, files[i]);
		f = fopen(path, "re");
	}
	for (int n = 0; f && n < 200 && fgets(line, sizeof(line), f); n++) {
		value_of(line, "ID", ret->id, sizeof(ret->id));
		value_of(line, "ID_LIKE", ret->like, sizeof(ret->like));
		value_of(line, "PRETTY_NAME", ret->pretty, sizeof(ret->pretty));
	}
	return f && ret->id[0];
}

static bool like(const struct os *os, const char *id)
{
	return !strcmp(os->id, id) || strstr(os->like, id);
}

static char *text(const char *fmt, ...) ASC_PRINTF(1, 2);
static char *text(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return s;
}

static char *package_for(struct asc_modules *m, const struct asc_module *mod, const struct os *os)
{
	bool libc = !strcmp(mod->soname, "libc.so.6");
	const char *cpu = asc_target_arch(m->t)->name;

	if (libc && like(os, "debian"))
		return text("apt install libc6-dbg%s", !strcmp(cpu, "i386") ? ":i386" : "");
	if (libc && (like(os, "fedora") || like(os, "rhel") || like(os, "amzn")))
		return text("dnf debuginfo-install glibc");
	if (libc && like(os, "suse"))
		return text("zypper install glibc-debuginfo");
	if (libc && like(os, "arch"))
		return text("DEBUGINFOD_URLS=... arenascope --debuginfod=on (or the package "
			    "glibc-debug)");
	if (like(os, "debian"))
		return text("the package NAME-dbgsym that belongs to %s", mod->path);
	return text("the debug symbols package of %s", mod->path[0] ? mod->path : "the library");
}

char *asc_module_advice(struct asc_modules *m, struct asc_module *mod)
{
	pid_t pid = asc_target_kind(m->t) == ASC_CORE ? 0 : asc_target_pid(m->t);
	ASC_AUTO(asc_freep) char *package = NULL;
	struct os os = { 0 };
	char root[64];
	bool known;

	if (mod->debug_ok)
		return NULL;
	if (m->root)
		known = read_os(m->root, &os);
	else if (pid > 0)
		known = snprintf(root, sizeof(root), "/proc/%d/root", (int)pid) > 0 &&
			read_os(root, &os);
	else
		known = false;
	if (known)
		package = package_for(m, mod, &os);
	if (package)
		return text("in the target's system (%s): %s", os.pretty[0] ? os.pretty : os.id,
			    package);
	return text("the debug file with build-id %s, from the system where the process ran: "
		    "--debug-dir=DIR, or --root=DIR for a copy of its file system",
		    mod->build_id[0] ? mod->build_id : "(unknown)");
}
