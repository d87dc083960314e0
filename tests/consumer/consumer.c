/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A stranger's program on the installed library, as C11 and (consumer.cc) as C++: it finds its own
 * constant in a child of its own through the library's eyes, and that child's chunks.
 */
#include <arenascope/act.h>
#include <arenascope/error.h>
#include <arenascope/heap.h>
#include <arenascope/ledger.h>
#include <arenascope/target.h>
#include <arenascope/view.h>

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

enum { CHUNKS = 300, CHUNK = 20000 };

static uint64_t in_use_of(const struct asc_heap *h)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < h->narenas; i++)
		sum += h->arenas[i].bytes[ASC_INUSE];
	return sum;
}

/* The heap of the child, twice: what it holds must be there, and of one opinion with the ledger. */
static int read_heap(pid_t child)
{
	struct asc_view_opts opts;
	struct asc_view *view = NULL;
	const struct asc_ledger *l;
	struct asc_pause pause;
	struct asc_error *err;
	int i;

	memset(&opts, 0, sizeof(opts));
	err = asc_view_open(&opts, &view);
	if (!err)
		return 10; /* neither a process nor a core */
	asc_error_free(err);
	opts.pid = child;
	err = asc_view_open(&opts, &view);
	if (err)
		return failed(err);
	if (asc_view_heap(view) || asc_view_ledger(view))
		return 11;
	for (i = 0; i < 2; i++) {
		err = asc_view_read(view, i ? ASC_VIEW_WALK : ASC_VIEW_LISTS);
		if (err)
			return failed(err);
		l = asc_view_ledger(view);
		if (!asc_view_heap(view) || asc_view_heap(view)->nfindings || asc_view_busy(view))
			return 12;
		if (l->malloc_pages.in_use < (uint64_t)CHUNKS * CHUNK ||
		    l->rss <= l->malloc_pages.in_use)
			return 13;
		asc_view_pause(view, &pause);
		if (pause.threads != 1)
			return 14;
	}
	if (in_use_of(asc_view_heap(view)) < (uint64_t)CHUNKS * CHUNK)
		return 15;
	printf("%zu arena, %llu bytes in use, glibc %s\n", asc_view_heap(view)->narenas,
	       (unsigned long long)in_use_of(asc_view_heap(view)),
	       asc_view_heap(view)->libc.version);
	asc_view_close(view);
	asc_view_close(NULL);
	return 0;
}

static void wait_here(int ready)
{
	int i;

	for (i = 0; i < CHUNKS; i++)
		memset(malloc(CHUNK), i, CHUNK);
	if (write(ready, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

int main(void)
{
	int ready[2];
	char byte;
	pid_t child;
	int result;

	if (pipe(ready))
		return 1;
	child = fork();
	if (child < 0)
		return 1;
	if (child == 0)
		wait_here(ready[1]);
	result = read(ready[0], &byte, 1) == 1 ? look(child) : 1;
	if (!result)
		result = read_heap(child);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return result;
}
