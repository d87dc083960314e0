/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Runs a fuzz target without libFuzzer: every file of the folder as it is, cut, and with bytes
 * changed by a fixed generator, so that each run does the same. Usage: fuzz_x FOLDER [ROUNDS]
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t seed = 88172645463325252u;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void mutate(uint8_t *p, size_t len)
{
	static const uint64_t odd[] = { 0,	   1,	       0x7f,	   0xff,
					0xffff,	   0x7fffffff, 0xffffffff, UINT64_MAX,
					INT64_MAX, 0x1000,     0xfff };
	/* headers matter most */
	size_t near = len < 512 ? len : 512;

	for (unsigned n = 1 + (unsigned)(rnd() % 6); n--;) {
		size_t at = (size_t)(rnd() % (rnd() % 4 ? near : len));
		size_t w = (size_t)1 << (rnd() % 4);
		uint64_t v = rnd() % 3 ? odd[rnd() % (sizeof(odd) / sizeof(odd[0]))] : rnd();

		if (at + w <= len)
			memcpy(p + at, &v, w);
	}
}

static int replay(const char *path, unsigned long rounds)
{
	FILE *f = fopen(path, "rb");
	uint8_t *p = malloc(1 << 20), *q = malloc(1 << 20);
	size_t len;

	if (!f || !p || !q)
		return 1;
	len = fread(p, 1, 1 << 20, f);
	fclose(f);
	LLVMFuzzerTestOneInput(p, len);
	for (unsigned long i = 0; i < rounds && len; i++) {
		size_t n = rnd() % 4 ? len : 1 + (size_t)(rnd() % len);

		memcpy(q, p, n);
		mutate(q, n);
		LLVMFuzzerTestOneInput(q, n);
	}
	free(p);
	free(q);
	return 0;
}

int main(int argc, char **argv)
{
	DIR *dir = argc > 1 ? opendir(argv[1]) : NULL;
	unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 1000;
	struct dirent *e;
	unsigned n = 0;

	if (!dir) {
		fprintf(stderr, "usage: %s FOLDER [ROUNDS]\n", argv[0]);
		return 64;
	}
	while ((e = readdir(dir))) {
		char path[4096];

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], e->d_name);
		if (replay(path, rounds))
			return 2;
		n++;
	}
	closedir(dir);
	printf("%u seeds, %lu rounds each\n", n, rounds);
	return n ? 0 : 2;
}
