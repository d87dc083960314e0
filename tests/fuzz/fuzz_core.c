/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a core file: open, list, read everything that is mapped (bounded), residency. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arenascope/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(struct asc_target *t)
{
	const struct asc_maps *maps = asc_target_maps(t);
	struct asc_residency *res = NULL;
	struct asc_error *err;
	uint8_t buf[8192];
	size_t n;
	asc_addr pc;
	const struct asc_thread *th = asc_target_threads(t, &n);

	for (size_t i = 0; i < n; i++)
		(void)asc_regs_pc(t, &th[i].regs, &pc);
	for (size_t i = 0; i < maps->n && i < 64; i++) {
		const struct asc_map *m = &maps->v[i];
		char *s;

		if (m->start >= m->end || (i && maps->v[i - 1].end > m->start))
			abort();
		(void)asc_read_some(t, m->start, buf, sizeof(buf));
		(void)asc_read_some(t, m->end - 1, buf, sizeof(buf));
		err = asc_read_str(t, m->start, 64, &s);
		if (!err)
			free(s);
		asc_error_free(err);
	}
	err = asc_residency_read(t, &res);
	if (!err && asc_resident_bytes(res, 0, UINT64_MAX) > 1u << 31)
		abort(); /* more than the file can hold */
	asc_error_free(err);
	asc_residency_free(res);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct asc_target *t = NULL;
	struct asc_error *err;
	char path[64];

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	err = asc_core_open(path, NULL, &t);
	if (err) {
		if (!asc_error_exit(err))
			abort();
		asc_error_free(err);
	} else {
		look(t);
		asc_target_close(t);
	}
	close(fd);
	return 0;
}
