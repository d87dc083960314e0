/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Residency of a live process: the PAGEMAP_SCAN ioctl (Linux 6.7), or /proc/PID/pagemap page by
 * page. The sum of what counts is the kernel's Rss (smaps), so three kinds of present pages are
 * told apart that Rss leaves out: the zero page, hugetlb pages, and kernel or device memory without
 * a struct page (vvar, mapped devices).
 */
#include "target/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/proc.h"
#include "target/runs.h"
#include "target/target.h"

/* From linux/fs.h of 6.7 and later; older headers do not have them. */
struct page_region {
	uint64_t start, end, categories;
};

struct pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define ASC_PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)

enum {
	IS_FILE = 1 << 2,
	IS_PRESENT = 1 << 3,
	IS_SWAPPED = 1 << 4,
	IS_PFNZERO = 1 << 5,
	IS_HUGE = 1 << 6,
	IS_GUARD = 1 << 8, /* Linux 6.15 */
};

enum { REGIONS = 16384, ENTRIES = 32768, HUGE_DEVICES = 16, HUGE_PAGE = 2 << 20 };

#define PM_PFN	     0x7fffffffffffffull
#define PM_EXCLUSIVE (1ull << 56)
#define PM_GUARD     (1ull << 58)
#define PM_FILE	     (1ull << 61)
#define PM_SWAP	     (1ull << 62)
#define PM_PRESENT   (1ull << 63)

#define KPF_THP	      (1ull << 22)
#define KPF_ZERO_PAGE (1ull << 24)

struct asc_pagemap {
	pid_t pid;
	int fd, kpageflags_fd;
	int open_errno;
	bool no_scan;
	uint64_t page_size;
	dev_t hugetlb[HUGE_DEVICES]; /* devices of hugetlb memory */
	size_t nhugetlb;
	uint64_t zero_pfn;	   /* of the zero page, 0: the kernel does not say */
	uint64_t huge_zero_pfn;	   /* likewise */
	bool scan_hides_huge_zero; /* PAGEMAP_SCAN shows it as an ordinary huge page (before 6.18) */
	struct page_region *regions;
	uint64_t *entries;
};

/* One reading. */
struct scan {
	struct asc_pagemap *p;
	const struct asc_maps *maps;
	size_t at;     /* mapping that holds the last address looked at, or follows it */
	uint64_t done; /* end of the last run */
	struct asc_runs runs;
};

/* ---- what kind of memory a mapping is ---- */

static void add_device(struct asc_pagemap *p, dev_t dev)
{
	if (p->nhugetlb < HUGE_DEVICES)
		p->hugetlb[p->nhugetlb++] = dev;
}

/* The kernel backs anonymous hugetlb memory by a file system of its own, one a page size. */
static void find_hugetlb(struct asc_pagemap *p)
{
	static const unsigned shifts[] = { 16, 21, 25, 30 };

	for (size_t i = 0; i < ASC_ARRAY_SIZE(shifts); i++) {
		unsigned flags = MFD_CLOEXEC | MFD_HUGETLB | shifts[i] << MAP_HUGE_SHIFT;
		ASC_AUTO(asc_closep) int fd = memfd_create("arenascope", flags);
		struct stat st;

		if (fd >= 0 && !fstat(fd, &st))
			add_device(p, st.st_dev);
	}
}

/* Mounted hugetlbfs: "36 35 0:24 / /dev/hugepages rw shared:2 - hugetlbfs hugetlbfs rw" */
static void find_hugetlbfs(struct asc_pagemap *p, pid_t tid)
{
	ASC_AUTO(asc_text_free) struct asc_text text = { 0 };
	char *line, *at;

	if (asc_proc_read(p->pid, tid, "mountinfo", &text))
		return;
	for (at = text.p; (line = asc_text_line(&at));) {
		unsigned major, minor;
		const char *type = strstr(line, " - ");

		if (type && !strncmp(type + 3, "hugetlbfs ", 10) &&
		    sscanf(line, "%*d %*d %u:%u", &major, &minor) == 2)
			add_device(p, makedev(major, minor));
	}
}

static bool is_hugetlb(const struct asc_pagemap *p, const struct asc_map *m)
{
	dev_t dev = makedev(m->dev_major, m->dev_minor);

	for (size_t i = 0; i < p->nhugetlb && m->inode; i++) {
		if (p->hugetlb[i] == dev)
			return true;
	}
	return false;
}

/*
 * Present, yet without a page that Rss could count? Such memory is neither of a file nor anonymous.
 * A shared mapping has no anonymous pages; the kernel's own special mappings go by name.
 */
static bool is_device(const struct asc_map *m, unsigned flags)
{
	if (flags & (ASC_PAGE_FILE | ASC_PAGE_ZERO | ASC_PAGE_SWAPPED))
		return false;
	return (m->flags & ASC_MAP_SHARED) || !strncmp(m->path, "[vvar", 5);
}

/*
 * Add a run of one kind; it may span several mappings. Addresses ascend from call to call, but for
 * the last region that PAGEMAP_SCAN puts into its own buffer of 512: it comes again as the next one.
 */
static struct asc_error *add(struct scan *s, uint64_t start, uint64_t end, unsigned flags)
{
	start = asc_max(start, s->done);
	s->done = asc_max(s->done, end);
	while (start < end) {
		asc_addr upto = end;
		unsigned more = flags;
		const struct asc_map *m;

		while (s->at < s->maps->n && s->maps->v[s->at].end <= start)
			s->at++;
		m = s->at < s->maps->n ? &s->maps->v[s->at] : NULL;
		if (m && m->start <= start) {
			upto = asc_min(end, m->end);
			if (is_hugetlb(s->p, m))
				more |= ASC_PAGE_HUGETLB;
			else if (is_device(m, flags))
				more |= ASC_PAGE_DEVICE;
		} else if (m) {
			upto = asc_min(end, m->start);
		}
		ASC_TRY(asc_runs_push(&s->runs, asc_page_run_make(start, upto, more)));
		start = upto;
	}
	return NULL;
}

/* ---- PAGEMAP_SCAN ---- */

static unsigned flags_of(uint64_t categories)
{
	unsigned flags = 0;

	flags |= categories & IS_PRESENT ? ASC_PAGE_PRESENT : 0u;
	flags |= categories & IS_SWAPPED ? ASC_PAGE_SWAPPED : 0u;
	flags |= categories & IS_FILE ? ASC_PAGE_FILE : 0u;
	flags |= categories & IS_PFNZERO ? ASC_PAGE_ZERO : 0u;
	flags |= categories & IS_HUGE ? ASC_PAGE_HUGE : 0u;
	return flags;
}

static uint64_t entry_at(int fd, uint64_t addr, uint64_t page_size)
{
	uint64_t entry = 0;

	return pread(fd, &entry, 8, (off_t)(addr / page_size * 8)) == 8 ? entry : 0;
}

/* Before 6.18 PAGEMAP_SCAN shows the huge zero page as an ordinary huge page. */
static struct asc_error *add_huge(struct scan *s, const struct page_region *r, unsigned flags)
{
	for (uint64_t at = r->start; at < r->end;) {
		uint64_t next = asc_min(asc_align_down(at, HUGE_PAGE) + HUGE_PAGE, r->end);
		uint64_t first = asc_align_down(at, HUGE_PAGE);
		uint64_t pfn = entry_at(s->p->fd, at, s->p->page_size) & PM_PFN;
		bool zero = pfn == s->p->huge_zero_pfn + (at - first) / s->p->page_size;

		ASC_TRY(add(s, at, next, flags | (zero ? ASC_PAGE_ZERO : 0u)));
		at = next;
	}
	return NULL;
}

/* One call. @return regions found, or a negative errno; @p ret_end: where it stopped */
static int scan_some(int fd, uint64_t start, uint64_t end, uint64_t categories,
		     struct page_region *v, size_t n, uint64_t *ret_end)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.vec = (uintptr_t)v,
		.vec_len = n,
		.category_anyof_mask = IS_PRESENT | IS_SWAPPED,
		.return_mask = categories,
	};
	int r = ioctl(fd, ASC_PAGEMAP_SCAN, &arg);

	if (r < 0)
		return -errno;
	*ret_end = arg.walk_end;
	return r;
}

/* [at, end). @return NULL; *ret_errno != 0 if this kernel cannot */
static struct asc_error *scan_range(struct scan *s, uint64_t at, uint64_t end, bool files,
				    int *ret_errno)
{
	uint64_t categories = IS_PRESENT | IS_SWAPPED | IS_PFNZERO | IS_HUGE | IS_GUARD;
	int n;

	if (files)
		categories |= IS_FILE;

	while (at < end) {
		uint64_t next = at;

		n = scan_some(s->p->fd, at, end, categories, s->p->regions, REGIONS, &next);
		if (n == -EINVAL && (categories & IS_GUARD)) {
			categories &= ~(uint64_t)IS_GUARD;
			continue;
		}
		if (n == -EINTR)
			continue;
		if (n < 0 || next <= at) {
			*ret_errno = n < 0 ? -n : EIO;
			return NULL;
		}
		for (int i = 0; i < n; i++) {
			const struct page_region *r = &s->p->regions[i];
			unsigned flags = flags_of(r->categories);

			if (r->categories & IS_GUARD) /* a marker, not memory */
				continue;
			if (s->p->scan_hides_huge_zero &&
			    (flags & (ASC_PAGE_HUGE | ASC_PAGE_FILE)) == ASC_PAGE_HUGE)
				ASC_TRY(add_huge(s, r, flags));
			else
				ASC_TRY(add(s, r->start, r->end, flags));
		}
		at = next;
	}
	return NULL;
}

/*
 * Can a page of this mapping be a file's? To tell, the kernel has to look at each page's descriptor, which takes
 * ten times as long as to see that it is there.
 */
static bool has_files(const struct asc_map *m)
{
	static const char *const plain[] = { "[heap]", "[stack", "[anon" };

	if (m->inode || !m->flags_known || (m->flags & ASC_MAP_SHARED))
		return true;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(plain) && m->path[0]; i++) {
		if (!strncmp(m->path, plain[i], strlen(plain[i])))
			return false;
	}
	return m->path[0];
}

/*
 * All of one kind at once, gaps between mappings cost nothing; or, where other mappings are not to be looked
 * at, those that border on each other.
 */
static struct asc_error *by_scan(struct scan *s, bool part, int *ret_errno)
{
	const struct asc_maps *maps = s->maps;
	uint64_t end = 0;

	*ret_errno = 0;
	/* the kernel's half (vsyscall) is not in the page tables of the process */
	for (size_t i = 0; i < maps->n && maps->v[i].end <= INT64_MAX && !*ret_errno;) {
		uint64_t start = part ? maps->v[i].start : end;
		bool files = has_files(&maps->v[i]);

		end = maps->v[i].end;
		for (i++; i < maps->n && maps->v[i].end <= INT64_MAX; i++) {
			if ((part && maps->v[i].start != end) || has_files(&maps->v[i]) != files)
				break;
			end = maps->v[i].end;
		}
		ASC_TRY(scan_range(s, start, end, files, ret_errno));
	}
	return NULL;
}

/* ---- /proc/PID/pagemap ---- */

/* KPF_ZERO_PAGE if it is a zero page, with KPF_THP if it is the huge one; 0: no, or not known. */
static uint64_t zero_flags(const struct asc_pagemap *p, uint64_t pfn)
{
	uint64_t flags = 0;

	if (!pfn || p->kpageflags_fd < 0 ||
	    pread(p->kpageflags_fd, &flags, 8, (off_t)(pfn * 8)) != 8 || !(flags & KPF_ZERO_PAGE))
		return 0;
	return flags & (KPF_ZERO_PAGE | KPF_THP);
}

/*
 * The zero pages have no users counted, hence no "exclusive" bit; few other pages lack it. The huge
 * one passes for a file's (6.18) or not. One that we could not get ourselves is known from here on.
 */
static bool entry_is_zero(struct asc_pagemap *p, uint64_t entry, uint64_t addr)
{
	const uint64_t pfn = entry & PM_PFN, nth = addr % HUGE_PAGE / p->page_size;
	uint64_t flags;

	if (!pfn || (entry & PM_EXCLUSIVE))
		return false;
	if (pfn == p->zero_pfn || (p->huge_zero_pfn && pfn == p->huge_zero_pfn + nth))
		return true;
	if ((p->zero_pfn || (entry & PM_FILE)) && (p->huge_zero_pfn || nth))
		return false;
	flags = zero_flags(p, pfn);
	if (flags & KPF_THP)
		p->huge_zero_pfn = pfn - nth;
	else if (flags)
		p->zero_pfn = pfn;
	return flags != 0;
}

static unsigned flags_of_entry(struct asc_pagemap *p, uint64_t entry, uint64_t addr)
{
	if (entry & PM_GUARD)
		return 0;
	if (entry & PM_SWAP)
		return ASC_PAGE_SWAPPED;
	if (!(entry & PM_PRESENT))
		return 0;
	if (entry_is_zero(p, entry, addr))
		return ASC_PAGE_PRESENT | ASC_PAGE_ZERO;
	return ASC_PAGE_PRESENT | (entry & PM_FILE ? ASC_PAGE_FILE : 0u);
}

static struct asc_error *map_by_entries(struct scan *s, const struct asc_map *m, int *ret_errno)
{
	uint64_t page = s->p->page_size, run_start = m->start;
	unsigned run_flags = 0;

	*ret_errno = 0;
	for (uint64_t at = m->start; at < m->end;) {
		size_t want = (size_t)asc_min((m->end - at) / page, ENTRIES);
		ssize_t n = pread(s->p->fd, s->p->entries, want * 8, (off_t)(at / page * 8));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 8) {
			/* only the vsyscall page, in the kernel's half, has no entry */
			*ret_errno = n < 0 ? errno : m->start >> 63 ? 0 : ENODATA;
			break;
		}
		for (ssize_t i = 0; i < n / 8; i++, at += page) {
			unsigned flags = flags_of_entry(s->p, s->p->entries[i], at);

			if (flags == run_flags)
				continue;
			if (run_flags)
				ASC_TRY(add(s, run_start, at, run_flags));
			run_start = at;
			run_flags = flags;
		}
	}
	return run_flags ? add(s, run_start, m->end, run_flags) : NULL;
}

/*
 * Which mappings have no page at all, by smaps, which walks page tables instead of addresses: a
 * reservation of terabytes would take minutes entry by entry. NULL: not known.
 */
static bool *empty_maps(const struct asc_pagemap *p, pid_t tid, const struct asc_maps *maps)
{
	static const char *const keys[] = { "Rss:", "Swap:", "Private_Hugetlb:", "Shared_Hugetlb:" };
	ASC_AUTO(asc_text_free) struct asc_text text = { 0 };
	bool *empty = calloc(maps->n + 1, 1);
	size_t now = SIZE_MAX;
	char *line, *at;

	if (!empty || asc_proc_read(p->pid, tid, "smaps", &text)) {
		free(empty);
		return NULL;
	}
	for (at = text.p; (line = asc_text_line(&at));) {
		unsigned long long start, end, kb;

		if (sscanf(line, "%llx-%llx ", &start, &end) == 2) {
			const struct asc_map *m = asc_maps_find(maps, start);

			now = m && m->start == start && m->end == end ? (size_t)(m - maps->v)
								      : SIZE_MAX;
			if (now != SIZE_MAX)
				empty[now] = true;
			continue;
		}
		for (size_t i = 0; i < ASC_ARRAY_SIZE(keys) && now != SIZE_MAX; i++) {
			size_t len = strlen(keys[i]);

			if (!strncmp(line, keys[i], len) && sscanf(line + len, "%llu", &kb) == 1 &&
			    kb)
				empty[now] = false;
		}
	}
	return empty;
}

static struct asc_error *by_entries(struct scan *s, int *ret_errno)
{
	const uint64_t much = 4ull << 30;
	ASC_AUTO(asc_freep) bool *empty = NULL;
	uint64_t mapped = 0;

	for (size_t i = 0; i < s->maps->n; i++)
		mapped += s->maps->v[i].end - s->maps->v[i].start;
	if (mapped > much)
		empty = empty_maps(s->p, asc_proc_live_tid(s->p->pid), s->maps);
	*ret_errno = 0;
	for (size_t i = 0; i < s->maps->n && !*ret_errno; i++) {
		if (s->maps->v[i].end > INT64_MAX || (empty && empty[i]))
			continue;
		ASC_TRY(map_by_entries(s, &s->maps->v[i], ret_errno));
	}
	return NULL;
}

/* ---- the zero pages ---- */

/*
 * Read untouched memory of ours: the kernel maps the zero page and the huge zero page there, and
 * these are the same for every process. Without CAP_SYS_ADMIN it hides page numbers; then
 * PAGEMAP_SCAN alone knows.
 */
static void find_zero_pages(struct asc_pagemap *p)
{
	enum { LEN = 3 * HUGE_PAGE };
	ASC_AUTO(asc_closep) int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	char *m = mmap(NULL, LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uintptr_t huge = asc_align_up((uintptr_t)m, HUGE_PAGE);
	struct page_region r;
	uint64_t pfn, end;

	if (fd < 0 || m == MAP_FAILED)
		return;
	madvise(m, LEN, MADV_NOHUGEPAGE);
	(void)*(const volatile char *)m;
	pfn = entry_at(fd, (uintptr_t)m, p->page_size) & PM_PFN;
	if (zero_flags(p, pfn) == KPF_ZERO_PAGE)
		p->zero_pfn = pfn;
	if (!madvise((void *)huge, HUGE_PAGE, MADV_HUGEPAGE)) {
		(void)*((const volatile char *)huge + p->page_size);
		pfn = entry_at(fd, huge, p->page_size) & PM_PFN;
		if (zero_flags(p, pfn) & KPF_THP)
			p->huge_zero_pfn = pfn;
		p->scan_hides_huge_zero =
			p->huge_zero_pfn &&
			(scan_some(fd, huge, huge + HUGE_PAGE, IS_PFNZERO, &r, 1, &end) != 1 ||
			 !(r.categories & IS_PFNZERO));
	}
	munmap(m, LEN);
}

/* ---- together ---- */

struct asc_error *asc_pagemap_open(pid_t pid, pid_t tid, struct asc_pagemap **ret)
{
	struct asc_pagemap *p = calloc(1, sizeof(*p));

	if (!p)
		return asc_err(ASC_ENOMEM, "residency of process %d", pid);
	p->pid = pid;
	p->fd = p->kpageflags_fd = -1;
	p->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	p->open_errno = asc_proc_open(pid, tid, "pagemap", O_RDONLY, &p->fd);
	p->regions = calloc(REGIONS, sizeof(*p->regions));
	p->entries = calloc(ENTRIES, sizeof(*p->entries));
	if (!p->regions || !p->entries) {
		asc_pagemap_close(p);
		return asc_err(ASC_ENOMEM, "residency of process %d", pid);
	}
	p->kpageflags_fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	find_hugetlb(p);
	find_hugetlbfs(p, tid);
	find_zero_pages(p);
	*ret = p;
	return NULL;
}

void asc_pagemap_close(struct asc_pagemap *p)
{
	if (!p)
		return;
	if (p->fd >= 0)
		close(p->fd);
	if (p->kpageflags_fd >= 0)
		close(p->kpageflags_fd);
	free(p->regions);
	free(p->entries);
	free(p);
}

void asc_pagemap_set_no_scan(struct asc_pagemap *p)
{
	p->no_scan = true;
}

static const char *why_unknown(int e)
{
	switch (e) {
	case EACCES:
	case EPERM:
		return "/proc/PID/pagemap is not readable: not permitted";
	case ENOENT:
		return "/proc/PID/pagemap does not exist: the kernel was built without it";
	default:
		return "/proc/PID/pagemap could not be read";
	}
}

static struct asc_error *unknown(struct asc_pagemap *p, int e, struct asc_residency **ret)
{
	ASC_TRY(asc_residency_init(ASC_RESIDENCY_UNKNOWN, p->page_size, NULL, 0, ret));
	(*ret)->why_unknown = why_unknown(e);
	return NULL;
}

static struct asc_error *residency(struct asc_pagemap *p, const struct asc_maps *maps, bool part,
				   struct asc_residency **ret)
{
	struct scan s = { .p = p, .maps = maps };
	enum asc_residency_source source = ASC_RESIDENCY_SCAN;
	struct asc_error *err = NULL;
	int e = ENOTTY;

	if (p->fd < 0)
		return unknown(p, p->open_errno, ret);
	if (!p->no_scan)
		err = by_scan(&s, part, &e);
	if (!err && e) {
		source = ASC_RESIDENCY_PAGEMAP;
		s.runs.n = s.at = 0;
		s.done = 0;
		err = by_entries(&s, &e);
	}
	if (err || e) {
		asc_runs_free(&s.runs);
		return err ? err : unknown(p, e, ret);
	}
	return asc_residency_of(source, p->page_size, &s.runs, ret);
}

struct asc_error *asc_pagemap_residency(struct asc_pagemap *p, const struct asc_maps *maps,
					struct asc_residency **ret)
{
	return residency(p, maps, false, ret);
}

struct asc_error *asc_pagemap_residency_part(struct asc_pagemap *p, const struct asc_maps *maps,
					     struct asc_residency **ret)
{
	return residency(p, maps, true, ret);
}
