/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/num.h"

static const size_t STEP_BYTES = (size_t)ASC_SPILL_STEP * sizeof(uint64_t);

/* A file system that is in memory itself would be no relief. */
static int open_in(const char *dir)
{
	struct statfs fs;
	int fd;

	if (!dir || !*dir || statfs(dir, &fs) || fs.f_type == TMPFS_MAGIC ||
	    fs.f_type == RAMFS_MAGIC)
		return -1;
	fd = open(dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
	return fd;
}

int asc_spill_open(void)
{
	const char *const dirs[] = { getenv("TMPDIR"), "/var/tmp", "/tmp" };
	int fd = -1;

	for (size_t i = 0; i < ASC_ARRAY_SIZE(dirs) && fd < 0; i++)
		fd = open_in(dirs[i]);
	return fd;
}

static struct asc_error *no_room(int e)
{
	struct asc_error *err =
		asc_err(ASC_ENOMEM, "no room for tables beyond --max-memory: %s", strerror(e));

	asc_err_try(err, "allow more with --max-memory=BYTES");
	return asc_err_try(err, "TMPDIR=DIR with more room");
}

/* Beyond a limit (ulimit -f) the kernel would end the program. */
static bool may_grow_to(uint64_t end)
{
	struct rlimit most;

	return end <= INT64_MAX && (getrlimit(RLIMIT_FSIZE, &most) ||
				    most.rlim_cur == RLIM_INFINITY || end <= most.rlim_cur);
}

int asc_spill_room(int fd, int64_t at, uint64_t bytes)
{
	uint64_t end;

	if (!asc_add((uint64_t)at, bytes, &end) || !may_grow_to(end))
		return EFBIG;
	/* a hole that cannot be filled when it is written to would be a SIGBUS */
	return posix_fallocate(fd, at, (off_t)bytes);
}

struct asc_error *asc_spill_begin(int fd, size_t max, struct asc_spill *ret)
{
	struct asc_spill s = { .max = (max / ASC_SPILL_STEP + 1) * ASC_SPILL_STEP };
	struct stat st;
	uint64_t end;
	void *p;

	if (fstat(fd, &st) || s.max > INT64_MAX / sizeof(uint64_t) ||
	    !asc_add((uint64_t)st.st_size, s.max * sizeof(uint64_t), &end) || !may_grow_to(end))
		return no_room(EFBIG);
	/* only address space, and a hole in the file */
	if (ftruncate(fd, (off_t)end))
		return no_room(errno);
	p = mmap(NULL, s.max * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		 fd, st.st_size);
	if (p == MAP_FAILED)
		return no_room(ENOMEM);
	s.words = p;
	s.at = st.st_size;
	*ret = s;
	return NULL;
}

struct asc_error *asc_spill_grow(struct asc_spill *s, int fd)
{
	int e;

	if (s->cap == s->max)
		return asc_err(ASC_EBUG, "more than %zu chunks", s->max);
	e = asc_spill_room(fd, s->at + (int64_t)(s->cap * sizeof(uint64_t)), STEP_BYTES);
	if (e)
		return no_room(e);
	s->cap += ASC_SPILL_STEP;
	/* the last step stays: its end may be changed yet */
	if (s->cap > 2 * (size_t)ASC_SPILL_STEP)
		asc_spill_passed(s->words, s->cap - ASC_SPILL_STEP, s->max);
	return NULL;
}

uint64_t *asc_spill_end(struct asc_spill *s, int fd, size_t n)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t keep = (size_t)asc_align_up(n * sizeof(uint64_t), page);
	uint64_t *words = s->words;

	if (keep < s->max * sizeof(uint64_t))
		munmap((char *)words + keep, s->max * sizeof(uint64_t) - keep);
	if (keep)
		(void)madvise(words, keep, MADV_DONTNEED);
	if (s->cap * sizeof(uint64_t) > keep)
		(void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, s->at + (off_t)keep,
				(off_t)(s->cap * sizeof(uint64_t) - keep));
	*s = (struct asc_spill){ 0 };
	return keep ? words : NULL;
}

void asc_spill_unmap(uint64_t *words, size_t n)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (words)
		munmap(words, (size_t)asc_align_up(n * sizeof(uint64_t), page));
}

uint64_t *asc_spill_put(int fd, const uint64_t *words, size_t n)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	const size_t bytes = n * sizeof(*words);
	struct stat st;
	uint64_t at;
	void *p;

	if (!n || fstat(fd, &st))
		return NULL;
	at = asc_align_up((uint64_t)st.st_size, page);
	/* in whole pages, as the next table begins with one */
	if (asc_spill_room(fd, (int64_t)at, asc_align_up(bytes, page)))
		return NULL;
	for (size_t done = 0; done < bytes;) {
		ssize_t k =
			pwrite(fd, (const char *)words + done, bytes - done, (off_t)(at + done));

		if (k <= 0)
			return NULL;
		done += (size_t)k;
	}
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)at);
	return p == MAP_FAILED ? NULL : p;
}

void asc_spill_abandon(struct asc_spill *s, int fd)
{
	if (!s->words)
		return;
	munmap(s->words, s->max * sizeof(uint64_t));
	if (s->cap)
		(void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, s->at,
				(off_t)(s->cap * sizeof(uint64_t)));
	*s = (struct asc_spill){ 0 };
}

void asc_spill_drop(const uint64_t *words, size_t from, size_t to)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t lo = (uintptr_t)(words + from) & ~(page - 1);
	uintptr_t hi = ((uintptr_t)(words + to) + page - 1) & ~(page - 1);

	/* never beyond the table, which is mapped in whole pages: somebody else's memory may be there */
	if (from < to)
		(void)madvise((void *)lo, hi - lo, MADV_DONTNEED);
}

void asc_spill_passed(const uint64_t *words, size_t i, size_t n)
{
	size_t from = i ? (i - 1) / ASC_SPILL_STEP * ASC_SPILL_STEP : 0;

	asc_spill_drop(words, from, asc_min(i, n));
}
