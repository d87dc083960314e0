/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A file that is no core: say what it is, so that the user sees which argument went wrong. */
#include <ctype.h>
#include <elf.h>
#include <string.h>

#include "base/num.h"
#include "target/core.h"

struct magic {
	const char *bytes;
	uint16_t len, at;
	const char *is;
	const char *hint;
};

#define M(bytes_, is_, hint_)                                                                      \
	{                                                                                          \
		.bytes = bytes_, .len = sizeof(bytes_) - 1, .is = is_, .hint = hint_               \
	}
static const struct magic magics[] = {
	M("!<arch>\n", "a static library or .deb archive (ar)", NULL),
	M("PK\003\004", "a zip archive", "unpack it first"),
	M("BZh", "compressed with bzip2", "bunzip2 it first"),
	M("7z\274\257\047\034", "a 7-Zip archive", "unpack it first"),
	M("\037\235", "compressed with compress(1)", "uncompress it first"),
	M("MDMP", "a minidump", "minidump-2-core turns it into a core"),
	M("KDUMP   ", "a kernel crash dump", NULL),
	M("JAVA PROFILE", "a Java heap dump (hprof)", NULL),
	M("\317\372\355\376", "a Mach-O file", NULL),
	M("MZ", "a Windows or DOS program", NULL),
	M("ProblemType: ", "an apport report", "apport-unpack FILE DIR, then DIR/CoreDump"),
	M("#!", "a script", NULL),
	M("LPKSHHRH", "a systemd journal", "coredumpctl dump -o FILE"),
	{ .bytes = "ustar", .len = 5, .at = 257, .is = "a tar archive", .hint = "unpack it first" },
};
#undef M

static bool is_text(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] < 0x80 && !isprint(p[i]) && !isspace(p[i]))
			return false;
	}
	return n > 0;
}

static size_t get(void *arg, uint64_t off, void *buf, size_t len)
{
	return asc_bytes_read(arg, off, buf, len);
}

static const char *elf_kind(struct asc_bytes *b, const struct asc_elf_head *h)
{
	struct asc_elf_phdr p;

	switch (h->type) {
	case ET_REL:
		return "an object file (.o) or kernel module";
	case ET_EXEC:
		return "an executable";
	case ET_DYN:
		for (uint32_t i = 0; i < h->phnum && asc_elf_phdr_get(get, b, h, i, &p); i++) {
			if (p.type == PT_INTERP)
				return "an executable";
		}
		return "a shared library or debug file";
	default:
		return "an ELF file of an unknown type";
	}
}

struct asc_error *asc_core_refuse(struct asc_bytes *b, const char *what, const char *compression)
{
	struct asc_elf_head h;
	uint8_t head[512];
	size_t n = asc_bytes_read(b, 0, head, sizeof(head));
	const char *is = "not an ELF file", *hint = NULL;
	struct asc_error *err;

	if (!n) {
		is = "empty";
		hint = "check ulimit -c, the room on the file system and kernel.core_pattern";
	} else if (n >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG)) {
		is = "an ELF file whose header is cut or damaged";
		if (asc_elf_head_get(get, b, &h)) {
			is = elf_kind(b, &h);
			if (h.type == ET_EXEC || h.type == ET_DYN)
				hint = "-c CORE -e EXE, or -p PID for a process that runs";
		}
	} else if (is_text(head, n)) {
		is = "text";
	} else if (asc_compression_of(head, n)) {
		is = asc_compression_of(head, n);
		hint = "it is packed twice: unpack it once";
	}
	for (size_t i = 0; i < ASC_ARRAY_SIZE(magics); i++) {
		const struct magic *m = &magics[i];

		if (n >= (size_t)m->at + m->len && !memcmp(head + m->at, m->bytes, m->len)) {
			is = m->is;
			hint = m->hint;
		}
	}
	if (compression)
		err = asc_err_why(asc_err(ASC_EINPUT, "%s is not a core file", what),
				  "it is compressed with %s and holds %s%s", compression,
				  strncmp(is, "not ", 4) ? "" : "what is ",
				  !strcmp(is, "empty") ? "nothing" : is);
	else
		err = asc_err_why(asc_err(ASC_EINPUT, "%s is not a core file", what), "it is %s",
				  is);
	if (hint)
		err = asc_err_try(err, "%s", hint);
	return asc_err_id(err, "E-NOTCORE");
}
