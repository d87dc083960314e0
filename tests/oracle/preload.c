/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Preloaded into real programs by tests/oracle/real-programs: what malloc_info() says of the process,
 * into a static buffer, without allocating anything at that time. call.c calls asc_oracle_info() while
 * every thread is held.
 */
#include <malloc.h>
#include <stdio.h>
#include <string.h>

char asc_oracle_text[8 << 20];
unsigned long asc_oracle_len;

static FILE *out;

static ssize_t keep(void *cookie, const char *bytes, size_t n)
{
	(void)cookie;
	if (n > sizeof(asc_oracle_text) - asc_oracle_len)
		return 0;
	memcpy(asc_oracle_text + asc_oracle_len, bytes, n);
	asc_oracle_len += n;
	return (ssize_t)n;
}

__attribute__((constructor)) static void open_early(void)
{
	static char buffer[1 << 16];

	out = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = keep });
	if (out)
		setvbuf(out, buffer, _IOFBF, sizeof(buffer));
}

int asc_oracle_info(void)
{
	int failed;

	asc_oracle_len = 0;
	if (!out)
		return -1;
	failed = malloc_info(0, out);
	failed |= fflush(out);
	return failed;
}

int asc_oracle_nothing(void)
{
	return 0;
}
