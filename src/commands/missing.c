// SPDX-License-Identifier: GPL-3.0-or-later
/* Weak rows, so that the table links while a command's own file is not there. */
#include "commands/cmd.h"
#include "glibc/heap.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	(void)s;
	(void)a;
	(void)o;
	return asc_err(ASC_EUNSUPPORTED, "this build does not have the command");
}

#define X(id, text)                                                                                \
	__attribute__((weak)) const struct asc_cmd asc_cmd_##id = {                                \
		.name = text, .args = "", .summary = "", .help = "", .max_args = 9, .run = run,    \
	};
X(report, "report")
X(rss, "rss")
X(arenas, "arenas")
X(arena, "arena")
X(bins, "bins")
X(sizes, "sizes")
X(chunks, "chunks")
X(find, "find")
X(map, "map")
X(threads, "threads")
X(stacks, "stacks")
X(stuck, "stuck")
X(params, "params")
X(check, "check")
X(pins, "pins")
X(advise, "advise")
X(malloc_info, "malloc-info")
X(malloc_stats, "malloc-stats")
X(trim, "trim")
X(reclaim, "reclaim")
X(tune, "tune")
X(symbols, "symbols")

/* The model, until it is there. */
#define WEAK __attribute__((weak))
#define NOT_YET                                                                                    \
	{                                                                                          \
		return asc_err(ASC_EUNSUPPORTED, "this build has no heap model");                  \
	}
WEAK struct asc_error *asc_heap_read(struct asc_target *t, const struct asc_libc *lib,
				     const struct asc_residency *res,
				     const struct asc_heap_opts *opts, struct asc_heap **ret)
	NOT_YET
WEAK struct asc_error *asc_heap_plan(struct asc_target *t, const struct asc_libc *lib,
				     const struct asc_residency *res, enum asc_depth depth,
				     struct asc_range **ret, size_t *ret_n)
	NOT_YET
WEAK bool asc_heap_busy(struct asc_target *t, struct asc_modules *m, const struct asc_libc *lib,
			asc_addr *ret_arena, pid_t *ret_tid)
{
	return false;
}
WEAK void asc_heap_free(struct asc_heap *h)
{
}
WEAK struct asc_error *asc_malloc_info(const struct asc_heap *heap, char **ret) NOT_YET
WEAK struct asc_error *asc_malloc_stats(const struct asc_heap *heap, char **ret) NOT_YET
WEAK bool asc_heap_where(const struct asc_heap *heap, asc_addr addr, struct asc_where *ret)
{
	return false;
}
WEAK void asc_chunk_iter_init(struct asc_chunk_iter *it, const struct asc_region *region)
{
}
WEAK bool asc_chunk_next(struct asc_chunk_iter *it, struct asc_chunk *ret)
{
	return false;
}
WEAK unsigned asc_bin_index(const struct asc_heap_libc *l, uint64_t size)
{
	return 0;
}
WEAK unsigned asc_tcache_index(const struct asc_heap_libc *l, uint64_t size)
{
	return 0;
}
WEAK unsigned asc_fastbin_index(const struct asc_heap_libc *l, uint64_t size)
{
	return 0;
}
WEAK uint64_t asc_usable_size(const struct asc_heap_libc *l, uint64_t size)
{
	return 0;
}
WEAK const char *asc_state_name(enum asc_state s)
{
	return "?";
}
WEAK const char *asc_severity_name(enum asc_severity s)
{
	return "?";
}
