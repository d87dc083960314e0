/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A stranger's program on the installed library, as C11 and (consumer.cc) as C++: it finds its own
 * constant in a child of its own through the library's eyes.
 */
#include <arenascope/act.h>
#include <arenascope/error.h>
#include <arenascope/heap.h>
#include <arenascope/ledger.h>
#include <arenascope/target.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int failed(struct asc_error *err)
{
	char *text = asc_error_text(err);

	fprintf(stderr, "consumer: %s\n", text ? text : "no memory");
	free(text);
	asc_error_free(err);
	return 1;
}

static int look(pid_t child)
{
	static const char secret[] = "forty-two";
	char seen[sizeof(secret)] = "";
	struct asc_live_opts opts;
	struct asc_target *t = NULL;
	struct asc_residency *res = NULL;
	const struct asc_map *map;
	struct asc_error *err;
	uint64_t resident;
	uint64_t word;

	memset(&opts, 0, sizeof(opts));
	opts.no_stop = true;
	err = asc_live_open(child, &opts, &t);
	if (err)
		return failed(err);
	err = asc_read(t, (asc_addr)(uintptr_t)secret, seen, sizeof(seen));
	if (err)
		return failed(err);
	if (memcmp(seen, secret, sizeof(seen)) != 0 || asc_target_pid(t) != child)
		return 2;
	map = asc_maps_find(asc_target_maps(t), (asc_addr)(uintptr_t)secret);
	if (!map || !(map->flags & ASC_MAP_READ))
		return 3;

	err = asc_residency_read(t, &res);
	if (err)
		return failed(err);
	resident = asc_resident_bytes(res, map->start, map->end);
	if (res->source != ASC_RESIDENCY_UNKNOWN && resident == 0)
		return 4;

	err = asc_read_word(t, 8, &word); /* the first page is never mapped */
	if (!err)
		return 5;
	if (err->code != ASC_EFAULT)
		return failed(err);
	asc_error_free(err);

	printf("%s: %zu mappings, %llu bytes resident around a constant, state 0 is called %s\n",
	       asc_target_name(t), asc_target_maps(t)->n, (unsigned long long)resident,
	       asc_state_name(ASC_INUSE));
	asc_residency_free(res);
	asc_target_close(t);
	return 0;
}

int main(void)
{
	pid_t child = fork();
	int result;

	if (child < 0)
		return 1;
	if (child == 0) {
		for (;;)
			pause();
	}
	result = look(child);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return result;
}
