/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Text and other file pages that a core does not hold come from the mapped file, but only if
 * the file is the one that was mapped: its build-id must equal the one in the core's memory. A page
 * that was promised and cut off, or that may have been written, is absent instead.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/core.h"

enum { BUILD_ID_MAX = 64, NOTES_MAX = 1 << 16 };

/* ---- build-id ---- */

static size_t id_in_notes(const uint8_t *p, size_t len, uint8_t *ret, size_t max)
{
	size_t at = 0;

	while (len - at >= sizeof(Elf64_Nhdr)) {
		uint64_t namesz = asc_load_u32(p + at), descsz = asc_load_u32(p + at + 4);
		uint32_t type = asc_load_u32(p + at + 8);
		uint64_t name = at + sizeof(Elf64_Nhdr), desc = name + asc_align_up(namesz, 4);
		uint64_t next = desc + asc_align_up(descsz, 4);

		if (desc + descsz > len)
			break;
		if (type == NT_GNU_BUILD_ID && namesz == 4 && !memcmp(p + name, "GNU", 4) &&
		    descsz && descsz <= max) {
			memcpy(ret, p + desc, (size_t)descsz);
			return (size_t)descsz;
		}
		if (next > len)
			break;
		at = (size_t)next;
	}
	return 0;
}

size_t asc_elf_build_id(asc_get_fn *get, void *arg, bool in_memory, uint8_t *ret, size_t max)
{
	struct asc_elf_head h;
	struct asc_elf_phdr p;
	uint64_t base = UINT64_MAX;

	if (!asc_elf_head_get(get, arg, &h) || h.phnum == PN_XNUM)
		return 0;
	for (uint32_t i = 0; in_memory && i < h.phnum && asc_elf_phdr_get(get, arg, &h, i, &p);
	     i++) {
		/* the mapping with offset 0 is the lowest segment: its address is the image's
		 * origin */
		if (p.type == PT_LOAD)
			base = asc_min(base, p.vaddr - p.offset);
	}
	for (uint32_t i = 0; i < h.phnum && asc_elf_phdr_get(get, arg, &h, i, &p); i++) {
		ASC_AUTO(asc_freep) uint8_t *notes = NULL;
		size_t n = (size_t)asc_min(p.filesz, NOTES_MAX);

		if (p.type != PT_NOTE)
			continue;
		notes = malloc(n + 1);
		if (!notes)
			return 0;
		n = get(arg, in_memory ? p.vaddr - base : p.offset, notes, n);
		n = id_in_notes(notes, n, ret, max);
		if (n)
			return n;
	}
	return 0;
}

/* ---- finding the file ---- */

size_t asc_core_image_get(void *arg, uint64_t off, void *buf, size_t len)
{
	struct asc_core_image *im = arg;
	asc_addr at;

	return asc_add(im->start, off, &at) ? asc_core_read_own(im->c, at, buf, len) : 0;
}

static size_t get_file(void *arg, uint64_t off, void *buf, size_t len)
{
	return asc_bytes_read(arg, off, buf, len);
}

static struct asc_error *open_bytes(const char *path, struct asc_bytes *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	struct asc_error *err;

	if (fd < 0)
		return asc_err_os(errno, "%s", path);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		err = asc_err(ASC_ENOTFOUND, "%s is no file", path);
	else
		err = asc_bytes_init(ret, fd, (uint64_t)st.st_size);
	if (err)
		close(fd);
	return err;
}

static bool is_exe(const struct asc_core *c, const struct asc_core_file *f)
{
	return c->info.exe && !strcmp(c->info.exe, f->path);
}

/*
 * Is this file the one that was mapped? Without a build-id in memory only the user's word for the
 * executable counts, and then its entry point has to agree.
 */
static bool is_same(struct asc_core *c, const struct asc_core_file *f, struct asc_bytes *b,
		    bool users_word)
{
	uint8_t in_core[BUILD_ID_MAX], in_file[BUILD_ID_MAX];
	struct asc_core_image im = { .c = c, .start = f->start };
	struct asc_elf_head h;
	size_t n = 0, m;
	uint64_t entry;

	if (f->start != UINT64_MAX)
		n = asc_elf_build_id(asc_core_image_get, &im, true, in_core, sizeof(in_core));
	m = asc_elf_build_id(get_file, b, false, in_file, sizeof(in_file));
	if (n)
		return n == m && !memcmp(in_core, in_file, n);
	return users_word && asc_elf_head_get(get_file, b, &h) &&
	       h.machine == c->t.arch->e_machine && asc_target_auxv(&c->t, AT_ENTRY, &entry) &&
	       (entry - h.entry) % c->t.page_size == 0;
}

static bool try_path(struct asc_core *c, struct asc_core_file *f, const char *path, bool users_word)
{
	struct asc_bytes b;
	struct asc_error *err = open_bytes(path, &b);

	if (err) {
		asc_error_free(err);
		return false;
	}
	if (!is_same(c, f, &b, users_word)) {
		asc_bytes_deinit(&b);
		return false;
	}
	f->bytes = b;
	return true;
}

static void find_file(struct asc_core *c, struct asc_core_file *f)
{
	ASC_AUTO(asc_freep) char *path = NULL;

	f->state = ASC_FILE_NONE;
	if (c->exe_opt && is_exe(c, f) && try_path(c, f, c->exe_opt, true)) {
		f->state = ASC_FILE_OPEN;
		return;
	}
	if (f->path[0] != '/')
		return; /* a memfd, a socket, SysV shared memory */
	if (asprintf(&path, "%s%s", c->root ? c->root : "", f->path) < 0) {
		path = NULL;
		return;
	}
	if (try_path(c, f, path, false))
		f->state = ASC_FILE_OPEN;
}

/* ---- the executable of a core without NT_FILE ---- */

static struct asc_error *add_segments(struct asc_core *c, struct asc_bytes *b, uint64_t bias)
{
	struct asc_elf_head h;
	struct asc_elf_phdr p;
	uint64_t page = c->t.page_size;

	if (!asc_elf_head_get(get_file, b, &h) || h.phnum == PN_XNUM)
		return NULL;
	c->mapped = calloc(h.phnum + 1u, sizeof(*c->mapped));
	if (!c->mapped)
		return asc_err(ASC_ENOMEM, "mapped files");
	for (uint32_t i = 0; i < h.phnum && asc_elf_phdr_get(get_file, b, &h, i, &p); i++) {
		struct asc_core_mapped m = { .offset = asc_align_down(p.offset, page) };
		uint64_t end;

		if (p.type != PT_LOAD || !p.filesz || !asc_add(p.vaddr, p.filesz, &end))
			continue;
		m.start = asc_align_down(p.vaddr, page) + bias;
		m.end = asc_align_up(end, page) + bias;
		if (m.end <= m.start || (c->nmapped && m.start < c->mapped[c->nmapped - 1].end))
			continue;
		if (!m.offset)
			c->files[0].start = asc_min(c->files[0].start, m.start);
		c->mapped[c->nmapped++] = m;
	}
	return NULL;
}

/*
 * Old kernels and emulators write no NT_FILE. What the user says is the executable is mapped where
 * its program headers and the entry point in auxv put it.
 */
struct asc_error *asc_core_map_exe(struct asc_core *c)
{
	struct asc_elf_head h;
	struct asc_bytes b;
	uint64_t entry;
	struct asc_error *err;

	if (c->nmapped || !c->exe_opt || !asc_target_auxv(&c->t, AT_ENTRY, &entry))
		return NULL;
	err = open_bytes(c->exe_opt, &b);
	if (err) {
		asc_error_free(err); /* the symbols' side says so */
		return NULL;
	}
	if (asc_elf_head_get(get_file, &b, &h) && h.machine == c->t.arch->e_machine &&
	    (h.type == ET_EXEC ? entry == h.entry
			       : h.type == ET_DYN && (entry - h.entry) % c->t.page_size == 0)) {
		c->files = calloc(1, sizeof(*c->files));
		if (c->files)
			c->files[0].path = realpath(c->exe_opt, NULL);
		if (!c->files || !c->files[0].path) {
			asc_bytes_deinit(&b);
			return asc_err(ASC_ENOMEM, "mapped files");
		}
		c->nfiles = 1;
		c->files[0].start = UINT64_MAX;
		c->files[0].bytes.fd = -1;
		c->info.exe = c->files[0].path;
		free(c->mapped);
		c->mapped = NULL;
		err = add_segments(c, &b, h.type == ET_EXEC ? 0 : entry - h.entry);
	}
	asc_bytes_deinit(&b);
	return err;
}

/* ---- reads ---- */

size_t asc_core_mapped_seek(const struct asc_core *c, asc_addr addr)
{
	return ASC_SEEK(c->nmapped, i, c->mapped[i].end <= addr);
}

static const struct asc_core_mapped *mapped_at(const struct asc_core *c, asc_addr addr)
{
	size_t i = asc_core_mapped_seek(c, addr);

	return i < c->nmapped && c->mapped[i].start <= addr ? &c->mapped[i] : NULL;
}

static const struct asc_core_seg *seg_at(const struct asc_core *c, asc_addr addr)
{
	size_t lo = ASC_SEEK(c->nsegs, i, c->segs[i].end <= addr);

	return lo < c->nsegs && c->segs[lo].start <= addr ? &c->segs[lo] : NULL;
}

/* Does a page of the file still say what the memory said? */
static bool is_clean(const struct asc_core *c, const struct asc_core_mapped *m, asc_addr addr)
{
	const struct asc_core_seg *s = seg_at(c, addr);
	bool text;

	if (!s)
		return c->anon_dumped; /* gdb leaves out what was not modified */
	text = (s->flags & PF_X) && !(s->flags & PF_W);
	if (addr - s->start < s->filesz)
		return text; /* promised, so perhaps written, and cut off */
	if (text || c->anon_dumped)
		return true;
	/* anonymous pages were left out: relro may be among them, but not in the first mapping */
	return !(s->flags & PF_W) && !m->offset;
}

size_t asc_core_read_file(struct asc_core *c, asc_addr addr, void *buf, size_t len)
{
	const struct asc_core_mapped *m = mapped_at(c, addr);
	struct asc_core_file *f;
	uint64_t off;
	size_t n;

	if (!m || !is_clean(c, m, addr))
		return 0;
	f = &c->files[m->file];
	if (f->state == ASC_FILE_UNTRIED)
		find_file(c, f);
	if (f->state != ASC_FILE_OPEN)
		return 0;
	len = (size_t)asc_min(len, m->end - addr);
	off = m->offset + (addr - m->start);
	n = asc_bytes_read(&f->bytes, off, buf, len);
	/* the rest of the page that the file ends in reads as zeros */
	if (n < len && off + n >= f->bytes.len && f->bytes.len) {
		uint64_t end = asc_align_up(f->bytes.len, c->t.page_size);
		size_t more = (size_t)asc_min(len - n, end > off + n ? end - off - n : 0);

		memset((uint8_t *)buf + n, 0, more);
		n += more;
	}
	return n;
}

void asc_core_files_free(struct asc_core *c)
{
	for (size_t i = 0; i < c->nfiles; i++) {
		asc_bytes_deinit(&c->files[i].bytes);
		free(c->files[i].path);
	}
	free(c->files);
	c->files = NULL;
	c->nfiles = 0;
}
