/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/runs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/num.h"
#include "base/spill.h"

enum {
	IN_MEMORY = 256 << 10, /* runs: 4 MiB */
	STEP = 64 << 10,       /* a file grows by so many */
	PIECE = 4096,	       /* as many are mapped at once where one is looked at (64 KiB) */
	PIECES = 32,	       /* that may be in memory */
};

struct asc_run_file {
	int fd;
	struct asc_page_run *v;
	size_t cap;
	size_t piece,
		pieces; /* atomic: that was looked at last, and how many were since all left */
	asc_addr *ends; /* of run every - 1, 2 * every - 1 ... and of the last one */
	size_t n, every;
};

static size_t bytes(size_t n)
{
	return n * sizeof(struct asc_page_run);
}

static void forget(struct asc_run_file *f)
{
	if (f->v)
		(void)madvise(f->v, bytes(f->cap), MADV_DONTNEED);
	__atomic_store_n(&f->pieces, 0, __ATOMIC_RELAXED);
}

void asc_run_file_touch(struct asc_run_file *f, size_t i)
{
	const size_t piece = i / PIECE;

	if (__atomic_load_n(&f->piece, __ATOMIC_RELAXED) == piece)
		return;
	__atomic_store_n(&f->piece, piece, __ATOMIC_RELAXED);
	/* right at any moment, whoever else is looking: it comes back from the file */
	if (__atomic_add_fetch(&f->pieces, 1, __ATOMIC_RELAXED) >= PIECES)
		forget(f);
}

void asc_run_file_free(struct asc_run_file *f)
{
	if (!f)
		return;
	if (f->v)
		munmap(f->v, bytes(f->cap));
	if (f->fd >= 0)
		close(f->fd);
	free(f->ends);
	free(f);
}

void asc_runs_free(struct asc_runs *r)
{
	if (r->file)
		asc_run_file_free(r->file);
	else
		free(r->v);
	*r = (struct asc_runs){ 0 };
}

/* ---- growing ---- */

/* More room in the file, and all of it mapped. @return false: there is none */
static bool extend(struct asc_run_file *f, size_t cap)
{
	void *p;

	if (asc_spill_room(f->fd, (int64_t)bytes(f->cap), bytes(cap - f->cap)))
		return false;
	p = f->v ? mremap(f->v, bytes(f->cap), bytes(cap), MREMAP_MAYMOVE)
		 : mmap(NULL, bytes(cap), PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	if (p == MAP_FAILED)
		return false;
	f->v = p;
	f->cap = cap;
	forget(f);
	return true;
}

static bool copy(int fd, void *runs, size_t n, bool write)
{
	for (size_t at = 0; at < bytes(n);) {
		ssize_t done = write ? pwrite(fd, (char *)runs + at, bytes(n) - at, (off_t)at)
				     : pread(fd, (char *)runs + at, bytes(n) - at, (off_t)at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		at += (size_t)done;
	}
	return true;
}

/* Out of memory into a file. @return false: it stays there */
static bool move_out(struct asc_runs *r)
{
	struct asc_run_file *f = calloc(1, sizeof(*f));

	if (!f)
		return false;
	f->fd = asc_spill_open();
	if (f->fd < 0 || !extend(f, r->n + STEP) || !copy(f->fd, r->v, r->n, true)) {
		asc_run_file_free(f);
		return false;
	}
	free(r->v);
	r->v = f->v;
	r->cap = f->cap;
	r->file = f;
	return true;
}

/* The disk is full. */
static struct asc_error *move_in(struct asc_runs *r)
{
	const size_t cap = r->n + r->n / 2 + 1;
	struct asc_page_run *v = calloc(cap, sizeof(*v));

	if (!v || !copy(r->file->fd, v, r->n, false)) {
		free(v);
		return asc_err(ASC_ENOMEM, "residency of %zu runs", r->n);
	}
	asc_run_file_free(r->file);
	r->file = NULL;
	r->v = v;
	r->cap = cap;
	return NULL;
}

static size_t most_in_memory(const struct asc_runs *r)
{
	const char *hook = asc_test_hook("ARENASCOPE_RUNS");
	uint64_t n;

	if (r->in_memory)
		return r->in_memory;
	return hook && asc_parse_u64(hook, &n) && n < IN_MEMORY ? (size_t)n : IN_MEMORY;
}

struct asc_error *asc_runs_grow(struct asc_runs *r)
{
	const size_t cap = r->cap + r->cap / 2 + 16;
	struct asc_page_run *v;

	if (r->file) {
		if (extend(r->file, r->cap + STEP)) {
			r->v = r->file->v;
			r->cap = r->file->cap;
			return NULL;
		}
		r->no_file = true;
		return move_in(r);
	}
	if (!r->no_file && r->n >= most_in_memory(r)) {
		if (move_out(r))
			return NULL;
		r->no_file = true;
	}
	v = reallocarray(r->v, cap, sizeof(*v));
	if (!v)
		return asc_err(ASC_ENOMEM, "residency of %zu runs", r->n);
	r->v = v;
	r->cap = cap;
	return NULL;
}

/* ---- looking ---- */

struct asc_error *asc_run_file_index(struct asc_run_file *f, size_t n, size_t every)
{
	f->ends = calloc(n / every + 1, sizeof(*f->ends));
	if (!f->ends)
		return asc_err(ASC_ENOMEM, "residency of %zu runs", n);
	f->n = n;
	f->every = every;
	for (size_t k = 0; k * every < n; k++) {
		size_t last = (size_t)asc_min((k + 1) * every, n) - 1;

		asc_run_file_touch(f, last);
		f->ends[k] = f->v[last].end;
	}
	return NULL;
}

void asc_run_file_near(const struct asc_run_file *f, asc_addr addr, size_t *ret_lo, size_t *ret_hi)
{
	const size_t groups = f->n / f->every + (f->n % f->every != 0);
	size_t lo = 0, hi = groups;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (f->ends[mid] <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_lo = (size_t)asc_min(lo * f->every, f->n);
	*ret_hi = (size_t)asc_min((lo + 1) * f->every, f->n);
}
