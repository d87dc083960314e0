/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Mappings and residency of a core. Mappings: the segments, cut where NT_FILE says that another
 * file begins; files without a segment (gdb leaves some out) are mappings with unknown flags.
 * Residency: pages with contents that are not all zero; a kernel core has a hole for an untouched
 * page.
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

enum { WINDOW = 1 << 20 };

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

/* ---- residency ---- */

struct scan {
	struct asc_core *c;
	uint8_t *buf;
	uint64_t page;
	struct asc_page_run *runs;
	size_t n, cap;
	uint64_t done, total; /* bytes of the segments */
};

static bool all_zero(const uint8_t *p, size_t len)
{
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

static struct asc_error *add_page(struct scan *s, asc_addr start, asc_addr end, unsigned flags)
{
	if (end < start || (s->n && s->runs[s->n - 1].end > start))
		return NULL; /* only where segments do not begin on pages */
	if (s->n && s->runs[s->n - 1].end == start && s->runs[s->n - 1].flags == flags) {
		s->runs[s->n - 1].end = end;
		return NULL;
	}
	if (s->n == s->cap) {
		void *p = s->runs;
		struct asc_error *err = asc_vec_grow_(&p, &s->cap, s->n, sizeof(*s->runs));

		s->runs = p;
		ASC_TRY(err);
	}
	s->runs[s->n++] = (struct asc_page_run){ .start = start, .end = end, .flags = flags };
	return NULL;
}

/* Next offset with data at or after @p off: holes need not be read. */
static uint64_t next_data(const struct asc_core *c, uint64_t off)
{
	off_t at = lseek(c->bytes.fd, (off_t)off, SEEK_DATA);

	if (at < 0 && errno == ENXIO)
		return UINT64_MAX; /* nothing but a hole up to the end */
	return at < 0 ? off : (uint64_t)at;
}

static struct asc_error *scan_seg(struct scan *s, const struct asc_core_seg *seg, unsigned flags)
{
	uint64_t at = 0;

	while (at < seg->have) {
		uint64_t data = next_data(s->c, seg->off + at), n;

		if (data - seg->off >= seg->have)
			break;
		data -= seg->off;
		if (data > at)
			at = asc_align_down(seg->start + data, s->page) - seg->start;
		if (at > seg->have)
			at = data; /* a segment that does not begin on a page */
		n = asc_bytes_read(&s->c->bytes, seg->off + at, s->buf,
				   (size_t)asc_min(WINDOW, seg->have - at));
		if (!n)
			break;
		for (uint64_t k = 0, len; k < n; k += len) {
			asc_addr addr = seg->start + at + k;

			len = asc_min(n - k, s->page - addr % s->page);
			if (!all_zero(s->buf + k, (size_t)len))
				ASC_TRY(add_page(s, asc_align_down(addr, s->page),
						 asc_align_down(addr, s->page) + s->page, flags));
		}
		at += n;
		if (s->c->progress && !s->c->progress(s->c->progress_arg, s->done + at, s->total))
			return asc_err(ASC_EINTR, "interrupted");
	}
	s->done += seg->have;
	return NULL;
}

struct asc_error *asc_core_residency(struct asc_target *t, struct asc_residency **ret)
{
	struct asc_core *c = (struct asc_core *)t;
	ASC_AUTO(asc_freep) uint8_t *buf = malloc(WINDOW);
	struct scan s = { .c = c, .buf = buf, .page = t->page_size };
	struct asc_error *err = NULL;

	if (!buf)
		return asc_err(ASC_ENOMEM, "residency of the core");
	for (size_t i = 0; i < c->nsegs; i++)
		s.total += c->segs[i].have;
	for (size_t i = 0; i < c->nsegs && !err; i++) {
		const struct asc_map *m = asc_maps_find(&t->maps, c->segs[i].start);
		bool file = m && m->inode && !(m->flags & ASC_MAP_WRITE);

		err = scan_seg(&s, &c->segs[i], ASC_PAGE_PRESENT | (file ? ASC_PAGE_FILE : 0u));
	}
	if (err) {
		free(s.runs);
		return err;
	}
	return asc_residency_init(ASC_RESIDENCY_CORE, s.page, s.runs, s.n, ret);
}
