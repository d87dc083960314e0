/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The version of a libc: the sentence that it prints when it is run as a program. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/layout.h"
#include "symbols/elffile.h"

enum { CHUNK = 256 << 10, OVERLAP = 256, SEGMENT_MAX = 64 << 20 };

static bool number(const char **s, unsigned *ret)
{
	unsigned v = 0, digits = 0;

	for (; isdigit((unsigned char)**s) && digits < 4; (*s)++, digits++)
		v = v * 10 + (unsigned)(**s - '0');
	*ret = v;
	return digits && digits < 4;
}

/* "GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36." */
static bool parse(const char *s, char *text, size_t len, unsigned *ret_major, unsigned *ret_minor)
{
	const char *v = strstr(s, "release version "), *end;
	unsigned major, minor;

	if (!v)
		return false;
	v += strlen("release version ");
	if (!number(&v, &major) || *v++ != '.' || !number(&v, &minor) || major != 2)
		return false;
	end = strchr(s, ')');
	if (len) {
		size_t n = end && end < v ? asc_min((size_t)(end + 1 - s), len - 1) : 0;

		memcpy(text, s, n);
		text[n] = 0;
	}
	*ret_major = major;
	*ret_minor = minor;
	return true;
}

static bool in_segment(struct asc_elf *e, const GElf_Phdr *p, char *text, size_t len,
		       unsigned *ret_major, unsigned *ret_minor)
{
	static const char want[] = "GNU C Library (";
	ASC_AUTO(asc_freep) char *buf = malloc(CHUNK + 1);

	if (!buf || p->p_filesz > SEGMENT_MAX)
		return false;
	for (uint64_t at = 0; at < p->p_filesz;) {
		size_t n = asc_elf_read(e, p->p_vaddr + at, buf,
					(size_t)asc_min(CHUNK, p->p_filesz - at));
		char *hit = n ? memmem(buf, n, want, sizeof(want) - 1) : NULL;

		if (!n)
			return false;
		buf[n] = 0;
		if (hit && parse(hit, text, len, ret_major, ret_minor))
			return true;
		if (n <= OVERLAP)
			return false;
		at += n == CHUNK ? n - OVERLAP : n;
	}
	return false;
}

bool asc_libc_banner(struct asc_modules *m, struct asc_module *mod, char *text, size_t len,
		     unsigned *ret_major, unsigned *ret_minor)
{
	struct asc_elf *e = asc_module_elf(m, mod);

	/* rodata first: not writable, not executable */
	for (int pass = 0; e && pass < 2; pass++)
		for (size_t i = 0; i < e->nph; i++) {
			const GElf_Phdr *p = &e->ph[i];
			bool text_segment = p->p_flags & PF_X;

			if (p->p_type != PT_LOAD || (p->p_flags & PF_W) ||
			    text_segment != (pass == 1))
				continue;
			if (in_segment(e, p, text, len, ret_major, ret_minor))
				return true;
		}
	return false;
}

/*
 * A static program has no banner, but the version as a string of its own. Another part of the
 * program may have such a string too: with two different ones nothing is known.
 */
bool asc_libc_version_string(struct asc_modules *m, struct asc_module *mod, unsigned *ret_minor)
{
	struct asc_elf *e = asc_module_elf(m, mod);
	unsigned found = 0;

	for (size_t i = 0; e && i < e->nph; i++) {
		const GElf_Phdr *p = &e->ph[i];
		ASC_AUTO(asc_freep) char *buf = NULL;
		size_t n;

		if (p->p_type != PT_LOAD || p->p_flags & (PF_W | PF_X) || p->p_filesz > SEGMENT_MAX)
			continue;
		buf = malloc(p->p_filesz + 1);
		n = buf ? asc_elf_read(e, p->p_vaddr, buf, p->p_filesz) : 0;
		for (size_t k = 0; k + 6 <= n; k++) {
			unsigned minor;

			if (memcmp(buf + k,
				   "\0"
				   "2.",
				   3) ||
			    buf[k + 5] || buf[k + 3] < '1' || buf[k + 3] > '9' ||
			    !isdigit((unsigned char)buf[k + 4]))
				continue;
			minor = (unsigned)(buf[k + 3] - '0') * 10 + (unsigned)(buf[k + 4] - '0');
			if (found && minor != found)
				return false;
			found = minor;
		}
	}
	*ret_minor = found;
	return found != 0;
}
