/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Mappings of a core: the segments, cut where NT_FILE says that another file begins; files without a
 * segment (gdb leaves some out) are mappings with unknown flags.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/core.h"

struct maps {
	struct asc_map *data;
	size_t len, cap;
};

static unsigned map_flags(unsigned pf)
{
	return (pf & PF_R ? ASC_MAP_READ : 0u) | (pf & PF_W ? ASC_MAP_WRITE : 0u) |
	       (pf & PF_X ? ASC_MAP_EXEC : 0u);
}

/* Flags of a mapping without a segment: the image's own program headers tell. */
static bool image_flags(struct asc_core *c, const struct asc_core_mapped *m, asc_addr addr,
			unsigned *ret)
{
	struct asc_core_image im = { .c = c, .start = c->files[m->file].start };
	struct asc_elf_head h;
	struct asc_elf_phdr p;
	uint64_t off = m->offset + (addr - m->start);
	uint64_t base = UINT64_MAX;
	bool found = false;

	if (im.start == UINT64_MAX || !asc_elf_head_get(asc_core_image_get, &im, &h) ||
	    h.phnum == PN_XNUM)
		return false;
	for (uint32_t i = 0; i < h.phnum && asc_elf_phdr_get(asc_core_image_get, &im, &h, i, &p);
	     i++) {
		uint64_t lo = asc_align_down(p.offset, c->t.page_size);

		if (p.type != PT_LOAD)
			continue;
		if (base == UINT64_MAX)
			base = p.vaddr - p.offset; /* loads are sorted: where the image begins */
		/* the last that fits: neighbours may share a page of the file */
		if (off >= lo && off - lo < p.filesz + (p.offset - lo) &&
		    addr - im.start - off == p.vaddr - p.offset - base) {
			*ret = map_flags(p.flags);
			found = true;
		}
	}
	return found;
}

static struct asc_error *add(struct asc_core *c, struct maps *v, asc_addr lo, asc_addr hi,
			     const struct asc_core_seg *s, const struct asc_core_mapped *m)
{
	struct asc_map map = { .start = lo, .end = hi, .path = "" };

	if (lo >= hi)
		return NULL;
	if (s) {
		map.flags = map_flags(s->flags);
		map.flags_known = true;
	}
	if (m) {
		map.offset = m->offset + (lo - m->start);
		map.inode = m->file + 1; /* cores have none: one number a file */
		map.path = c->files[m->file].path;
		map.deleted = c->files[m->file].deleted;
		if (!s)
			map.flags_known = image_flags(c, m, lo, &map.flags);
	}
	return asc_vec_push(v, map);
}

/* The two sorted lists side by side: each piece belongs to one segment, one file, or both. */
static struct asc_error *cut(struct asc_core *c, struct maps *v)
{
	asc_addr at = 0;
	size_t i = 0, k = 0;

	for (;;) {
		const struct asc_core_seg *s;
		const struct asc_core_mapped *m;
		asc_addr end = UINT64_MAX;

		while (i < c->nsegs && c->segs[i].end <= at)
			i++;
		while (k < c->nmapped && c->mapped[k].end <= at)
			k++;
		s = i < c->nsegs ? &c->segs[i] : NULL;
		m = k < c->nmapped ? &c->mapped[k] : NULL;
		if (!s && !m)
			return NULL;
		if (s)
			end = asc_min(end, s->start > at ? s->start : s->end);
		if (m)
			end = asc_min(end, m->start > at ? m->start : m->end);
		if (s && s->start > at)
			s = NULL;
		if (m && m->start > at)
			m = NULL;
		if (s || m)
			ASC_TRY(add(c, v, at, end, s, m));
		at = end;
	}
}

/* Names for what NT_FILE does not name: auxv points into the vDSO and into the main stack. */
static void name_special(const struct asc_core *c, struct maps *v)
{
	asc_addr vdso = 0, stack = 0;

	(void)asc_target_auxv(&c->t, AT_SYSINFO_EHDR, &vdso);
	if (!asc_target_auxv(&c->t, AT_EXECFN, &stack))
		(void)asc_target_auxv(&c->t, AT_RANDOM, &stack);
	for (size_t i = 0; i < v->len; i++) {
		struct asc_map *m = &v->data[i];

		if (m->inode)
			continue;
		if (vdso && m->start <= vdso && vdso < m->end)
			m->path = "[vdso]";
		else if (stack && m->start <= stack && stack < m->end)
			m->path = "[stack]";
		else if (m->start == 0xffffffffff600000)
			m->path = "[vsyscall]";
	}
}

/* Maps own one block with every path. */
static struct asc_error *own_strings(struct maps *v, char **ret)
{
	size_t len = 1, at = 1;
	char *s;

	for (size_t i = 0; i < v->len; i++)
		len += strlen(v->data[i].path) + 1;
	s = calloc(1, len);
	if (!s)
		return asc_err(ASC_ENOMEM, "mapping names");
	for (size_t i = 0; i < v->len; i++) {
		size_t n = strlen(v->data[i].path);

		memcpy(s + at, v->data[i].path, n);
		v->data[i].path = n ? s + at : s;
		at += n + 1;
	}
	*ret = s;
	return NULL;
}

struct asc_error *asc_core_maps(struct asc_core *c)
{
	struct maps v = { 0 };
	char *strings = NULL;
	struct asc_error *err;

	for (size_t i = 0; i < c->nsegs && !c->anon_dumped; i++) {
		const struct asc_core_seg *s = &c->segs[i];
		size_t k = asc_core_mapped_seek(c, s->start);
		bool file = k < c->nmapped && c->mapped[k].start < s->end;

		c->anon_dumped = !file && (s->flags & PF_W) && s->filesz;
	}
	err = cut(c, &v);
	if (!err) {
		name_special(c, &v);
		err = own_strings(&v, &strings);
	}
	if (err) {
		asc_vec_free(&v);
		return err;
	}
	return asc_maps_init(v.data, v.len, strings, &c->t.maps);
}
