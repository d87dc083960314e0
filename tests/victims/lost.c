// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * A tcache that only symbols lead to: all its counters are damaged, so nothing tells that it is one.
 *
 *   lost [CHUNKS]    frees CHUNKS chunks of 1008 bytes into its tcache (GLIBC_TUNABLES lets it take
 *                    them), damages its counters, prints "ready CHUNKS", and waits on stdin
 *
 * It knows the tcache of 64-bit Linux (2.30 to 2.41), and does not allocate any more.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BINS = 64, STRUCT = 0x290 };

int main(int argc, char **argv)
{
	long n = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
	char *first = malloc(24); /* behind the tcache, which the first malloc has made */
	void **all = calloc((size_t)n + 1, sizeof(*all)), *keep = NULL;
	uint16_t *counts = (uint16_t *)(void *)(first - STRUCT);
	char c;

	for (long i = 0; i < n; i++)
		all[i] = malloc(1000);
	keep = malloc(100);
	for (long i = 0; i < n; i++)
		free(all[i]);
	printf("ready %ld\n", n);
	fflush(stdout);
	for (int i = 0; i < BINS; i++)
		((volatile uint16_t *)counts)[i] = 60000;
	while (read(0, &c, 1) == 1)
		;
	_exit(!keep);
}
