/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The floor that no reader gets below. floor PID [PASSES]: one process_vm_readv pass over every resident
 * page of private writable memory; floor FILE [PASSES]: one pass over a core's bytes. With a warm buffer:
 * "MS BYTES MEDIAN", the CPU time of the best of five passes or so many, the bytes of one, and the median of
 * what they took by the clock.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 4 << 20, PIECES_MAX = 1 << 16, PASSES_MAX = 99 };

static char buf[PIECE];
static struct iovec pieces[PIECES_MAX];
static size_t nr_pieces;

static double now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void add(uint64_t start, uint64_t end)
{
	while (start < end) {
		uint64_t n = end - start < PIECE ? end - start : PIECE;

		if (nr_pieces < PIECES_MAX)
			pieces[nr_pieces++] = (struct iovec){ (void *)(uintptr_t)start, n };
		start += n;
	}
}

static void add_resident(int pagemap, uint64_t start, uint64_t end)
{
	static uint64_t entries[1 << 16];
	uint64_t run = 0;

	for (uint64_t at = start; at < end;) {
		uint64_t n = (end - at) / 4096;
		ssize_t got;

		n = n < 1 << 16 ? n : 1 << 16;
		got = pread(pagemap, entries, n * 8, (off_t)(at / 4096 * 8));
		if (got <= 0)
			break;
		for (ssize_t i = 0; i < got / 8; i++, at += 4096) {
			if (entries[i] >> 63 && !run)
				run = at;
			if (!(entries[i] >> 63) && run) {
				add(run, at);
				run = 0;
			}
		}
	}
	if (run)
		add(run, end);
}

static void find_pieces(const char *pid)
{
	char path[64], line[512], perms[8];
	FILE *maps;
	int pagemap;
	uint64_t lo, hi;

	snprintf(path, sizeof(path), "/proc/%s/pagemap", pid);
	pagemap = open(path, O_RDONLY);
	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	maps = fopen(path, "r");
	if (!maps || pagemap < 0)
		exit(2);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &lo, &hi, perms) == 3 &&
		    !strcmp(perms, "rw-p"))
			add_resident(pagemap, lo, hi);
	fclose(maps);
	close(pagemap);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* One pass over what @p file, or the pieces of @p pid, have. @return bytes */
static uint64_t pass(int file, pid_t pid)
{
	uint64_t bytes = 0;
	ssize_t n;

	for (size_t i = 0; file < 0 && i < nr_pieces; i++) {
		struct iovec local = { buf, pieces[i].iov_len };

		n = process_vm_readv(pid, &local, 1, &pieces[i], 1, 0);
		bytes += n > 0 ? (uint64_t)n : 0;
	}
	for (off_t at = 0; file >= 0 && (n = pread(file, buf, PIECE, at)) > 0; at += n)
		bytes += (uint64_t)n;
	return bytes;
}

int main(int argc, char **argv)
{
	struct stat st;
	double best = 1e18, took[PASSES_MAX];
	long passes = argc > 2 ? strtol(argv[2], NULL, 10) : 5;
	uint64_t bytes = 0;
	int file = -1;
	pid_t pid = 0;

	if (argc < 2 || argc > 3 || passes < 1 || passes > PASSES_MAX)
		return 64;
	memset(buf, 1, sizeof(buf));
	if (stat(argv[1], &st) == 0) {
		file = open(argv[1], O_RDONLY);
	} else {
		pid = (pid_t)strtol(argv[1], NULL, 10);
		find_pieces(argv[1]);
	}
	for (long i = 0; i < passes; i++) {
		double cpu = now(CLOCK_PROCESS_CPUTIME_ID), t = now(CLOCK_MONOTONIC);

		bytes = pass(file, pid);
		took[i] = now(CLOCK_MONOTONIC) - t;
		cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
		best = cpu < best ? cpu : best;
	}
	qsort(took, (size_t)passes, sizeof(took[0]), by_size);
	printf("%.3f %" PRIu64 " %.3f\n", best, bytes, took[passes / 2]);
	return bytes ? 0 : 1;
}
