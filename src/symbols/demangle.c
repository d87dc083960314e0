/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * C++ names by the run-time library's own demangler, opened when it is there: no name is worth a
 * dependency. Symbol names come from the target: lengths are bounded before it sees them.
 */
#include "symbols/demangle.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "symbols/priv.h"

enum { NAME_LEN_MAX = 4096 };

static bool open_cxx(struct asc_modules *m)
{
	if (!m->cxx_done) {
		m->cxx_done = true;
		m->cxx = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_LOCAL);
		if (m->cxx)
			*(void **)&m->cxa_demangle = dlsym(m->cxx, "__cxa_demangle");
	}
	return m->cxa_demangle != NULL;
}

char *asc_demangle(struct asc_modules *m, const char *name)
{
	char *s;
	int status;

	if (name[0] != '_' || (name[1] != 'Z' && name[1] != 'R') ||
	    strnlen(name, NAME_LEN_MAX) == NAME_LEN_MAX)
		return NULL;
	s = asc_demangle_rust(name);
	if (s || name[1] == 'R' || !open_cxx(m))
		return s;
	s = m->cxa_demangle(name, NULL, NULL, &status);
	return status ? NULL : s;
}

void asc_demangle_close(struct asc_modules *m)
{
	if (m->cxx)
		dlclose(m->cxx);
}
