/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/capture.h"
#include "target/target.h"

enum { REQUEST_BYTES = 1 << 30 };

struct snapshot {
	struct asc_target t;
	pid_t child;
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

static struct asc_error *snapshot_read_bulk(struct asc_target *t, struct asc_iov *iov, size_t n)
{
	for (size_t i = 0; i < n; i++)
		iov[i].got = snapshot_read(t, iov[i].addr, iov[i].buf, iov[i].len);
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

static void snapshot_close(struct asc_target *t)
{
	(void)t;
}

static const struct asc_target_ops ops = {
	.kind = ASC_CAPTURE,
	.concurrent_bulk = true,
	.read = snapshot_read,
	.read_bulk = snapshot_read_bulk,
	.alive = snapshot_alive,
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
	*ret = asc_take(t);
	return NULL;
}
