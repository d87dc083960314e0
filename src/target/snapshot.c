/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/capture.h"
#include "target/pagemap.h"
#include "target/runs.h"
#include "target/target.h"

enum { REQUEST_BYTES = 1 << 30, PIECES = 1024, SMALL_BYTES = 64 << 10 };

struct snapshot {
	struct asc_target t;
	pid_t child;
	struct asc_pagemap *pagemap;
};

static size_t snapshot_read(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	const struct snapshot *s = (const struct snapshot *)t;
	size_t done = 0;

	while (done < len) {
		struct iovec local = { (char *)buf + done,
				       (size_t)asc_min(len - done, REQUEST_BYTES) };
		struct iovec remote = { (void *)(uintptr_t)(addr + done), local.iov_len };
		ssize_t n = process_vm_readv(s->child, &local, 1, &remote, 1, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

/* Many small pieces in one request; what it leaves out is asked for alone. */
static struct asc_error *snapshot_read_bulk(struct asc_target *t, struct asc_iov *iov, size_t n)
{
	const struct snapshot *s = (const struct snapshot *)t;
	struct iovec local[PIECES], remote[PIECES];

	for (size_t at = 0; at < n;) {
		size_t k = 0, filled = 0, bytes;
		ssize_t got;

		for (; k < PIECES && at + k < n && iov[at + k].len <= SMALL_BYTES; k++) {
			local[k] = (struct iovec){ iov[at + k].buf, iov[at + k].len };
			remote[k] = (struct iovec){ (void *)(uintptr_t)iov[at + k].addr,
						    iov[at + k].len };
		}
		got = k ? process_vm_readv(s->child, local, k, remote, k, 0) : 0;
		bytes = got > 0 ? (size_t)got : 0;
		for (; filled < k && bytes >= iov[at + filled].len; filled++) {
			iov[at + filled].got = iov[at + filled].len;
			bytes -= iov[at + filled].len;
		}
		at += filled;
		if (k && filled == k)
			continue;
		iov[at].got = snapshot_read(t, iov[at].addr, iov[at].buf, iov[at].len);
		at++;
	}
	return NULL;
}

static bool snapshot_alive(struct asc_target *t)
{
	char byte;

	/* a mapping that can be read is all that is asked of it */
	for (size_t i = 0; i < t->maps.n; i++) {
		if (t->maps.v[i].flags & ASC_MAP_READ)
			return snapshot_read(t, t->maps.v[i].start, &byte, 1) == 1;
	}
	return false;
}

static struct asc_error *snapshot_residency(struct asc_target *t, struct asc_residency **ret)
{
	return asc_pagemap_residency(((struct snapshot *)t)->pagemap, &t->maps, ret);
}

/* ---- which pages ---- */

static bool overlaps(const struct asc_map *m, const struct asc_range *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (v[i].addr < m->end && m->start < v[i].addr + v[i].len)
			return true;
	}
	return false;
}

/* Those that a fork copies the page tables of, or the others. @p ret: its paths are those of @p maps */
static struct asc_error *choose(const struct asc_maps *maps, const struct asc_range *unforked,
				size_t n, bool copied, struct asc_maps *ret)
{
	ret->v = calloc(maps->n + 1, sizeof(*ret->v));
	if (!ret->v)
		return asc_err(ASC_ENOMEM, "%zu mappings", maps->n);
	for (size_t i = 0; i < maps->n; i++) {
		const struct asc_map *m = &maps->v[i];
		bool is = !m->inode && !(m->flags & ASC_MAP_SHARED) &&
			  strncmp(m->path, "[v", 2) != 0 && !overlaps(m, unforked, n);

		if (is == copied)
			ret->v[ret->n++] = *m;
	}
	return NULL;
}

struct asc_error *asc_snapshot_own_pages(struct asc_target *live, const struct asc_range *unforked,
					 size_t n, struct asc_residency **ret)
{
	struct asc_maps part = { 0 };
	struct asc_error *err = choose(&live->maps, unforked, n, false, &part);

	if (!err)
		err = asc_live_residency_part(live, &part, ret);
	free(part.v);
	return err;
}

static struct asc_error *join(const struct asc_residency *a, const struct asc_residency *b,
			      struct asc_residency **ret)
{
	struct asc_runs runs = { 0 };
	size_t i = 0, k = 0;
	struct asc_error *err = NULL;

	if (a->source == ASC_RESIDENCY_UNKNOWN || b->source == ASC_RESIDENCY_UNKNOWN)
		return asc_residency_init(ASC_RESIDENCY_UNKNOWN, a->page_size, NULL, 0, ret);
	while (!err && (i < a->n || k < b->n)) {
		const bool first = k == b->n || (i < a->n && a->v[i].word <= b->v[k].word);

		asc_residency_passed(a, i);
		asc_residency_passed(b, k);
		err = asc_runs_push(&runs, first ? a->v[i++] : b->v[k++]);
	}
	if (!err)
		return asc_residency_of(a->source, a->page_size, &runs, ret);
	asc_runs_free(&runs);
	return err;
}

struct asc_error *asc_snapshot_residency(struct asc_target *t, const struct asc_range *unforked,
					 size_t n, const struct asc_residency *own,
					 struct asc_residency **ret)
{
	struct asc_residency *copied = NULL;
	struct asc_maps part = { 0 };
	struct asc_error *err = choose(&t->maps, unforked, n, true, &part);

	if (!err)
		err = asc_pagemap_residency_part(((struct snapshot *)t)->pagemap, &part, &copied);
	free(part.v);
	if (!err)
		err = join(own, copied, ret);
	asc_residency_free(copied);
	return err;
}

static void snapshot_close(struct asc_target *t)
{
	asc_pagemap_close(((struct snapshot *)t)->pagemap);
}

static const struct asc_target_ops ops = {
	.kind = ASC_CAPTURE,
	.concurrent_bulk = true,
	.read = snapshot_read,
	.read_bulk = snapshot_read_bulk,
	.alive = snapshot_alive,
	.residency = snapshot_residency,
	.close = snapshot_close,
};

struct asc_error *asc_snapshot_open(const struct asc_target *live, pid_t child,
				    struct asc_target **ret)
{
	ASC_AUTO(asc_target_closep) struct asc_target *t = calloc(1, sizeof(struct snapshot));

	if (!t)
		return asc_err(ASC_ENOMEM, "the child of process %d", (int)live->pid);
	t->ops = &ops;
	((struct snapshot *)t)->child = child;
	ASC_TRY(asc_capture_head(live, t));
	ASC_TRY(asc_pagemap_open(child, child, &((struct snapshot *)t)->pagemap));
	*ret = asc_take(t);
	return NULL;
}
