/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Findings: the table of what can be wrong, the collection, and the checks of whole structures. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "glibc/model.h"

static const struct asc_finding_code codes[] = {
	{ "C-ARENA", ASC_SEV_CORRUPT, "an arena's header cannot be read" },
	{ "C-RING", ASC_SEV_CORRUPT, "the list of arenas leads to a place where no arena is" },
	{ "C-MUTEX", ASC_SEV_CORRUPT, "an arena's lock has a value that locks never have" },
	{ "C-FLAGS", ASC_SEV_CORRUPT, "an arena's flags have bits that this glibc does not know" },
	{ "C-SYSTEM-MEM", ASC_SEV_CORRUPT,
	  "an arena's own account of its memory contradicts itself" },
	{ "C-HEAP", ASC_SEV_CORRUPT, "the header of a thread arena's heap was overwritten" },
	{ "C-FENCE", ASC_SEV_CORRUPT, "the fencepost at the end of a full heap was overwritten" },
	{ "C-TOP", ASC_SEV_CORRUPT,
	  "top does not end its heap: \"malloc(): corrupted top size\" at the next large request" },
	{ "C-SIZE", ASC_SEV_CORRUPT,
	  "a chunk's size field cannot be: something wrote over the end of the chunk before it; "
	  "\"free(): invalid size\", \"malloc(): invalid size (unsorted)\"" },
	{ "C-UNREADABLE", ASC_SEV_CORRUPT,
	  "memory that an arena counts as its own cannot be read" },
	{ "C-PREV-SIZE", ASC_SEV_CORRUPT,
	  "the size of a free chunk and its copy in the next chunk differ: \"corrupted size vs. "
	  "prev_size\"" },
	{ "C-PREV-INUSE", ASC_SEV_CORRUPT,
	  "a header says that the chunk before it is free, which it is not: a size field was "
	  "overwritten" },
	{ "C-BIN-INUSE", ASC_SEV_CORRUPT,
	  "the header behind a free chunk says that it is in use: \"invalid next->prev_inuse "
	  "(unsorted)\"" },
	{ "C-CACHED-FREE", ASC_SEV_CORRUPT,
	  "a chunk in a tcache or fastbin is marked free, as only chunks in bins are" },
	{ "C-ADJACENT", ASC_SEV_CORRUPT,
	  "two free chunks side by side, which free() would have joined" },
	{ "C-UNLISTED", ASC_SEV_CORRUPT, "a free chunk is in no bin: a list was cut" },
	{ "C-MMAPPED-FLAG", ASC_SEV_CORRUPT,
	  "a chunk inside a heap claims a mapping of its own: \"munmap_chunk(): invalid "
	  "pointer\"" },
	{ "C-ARENA-FLAG", ASC_SEV_CORRUPT,
	  "a chunk's arena flag does not fit the arena it lies in: its header was overwritten" },
	{ "S-ARENA-FLAG", ASC_SEV_SUSPECT,
	  "a free chunk or top carries the arena flag, which glibc never sets there" },
	{ "C-BIN-LINK", ASC_SEV_CORRUPT,
	  "a bin's links do not fit: freed memory was written to; \"corrupted double-linked "
	  "list\"" },
	{ "C-BIN-SIZE", ASC_SEV_CORRUPT,
	  "a chunk is in a bin for other sizes: its size field was overwritten" },
	{ "C-BIN-TWICE", ASC_SEV_CORRUPT, "a chunk is in two bins" },
	{ "C-LARGE-ORDER", ASC_SEV_CORRUPT, "a large bin is not sorted by size" },
	{ "C-NEXTSIZE", ASC_SEV_CORRUPT,
	  "the ring of sizes in a large bin is broken: \"largebin double linked list corrupted "
	  "(nextsize)\"" },
	{ "C-BINMAP", ASC_SEV_CORRUPT, "a bin holds chunks, but is marked empty" },
	{ "C-FAST-LINK", ASC_SEV_CORRUPT,
	  "a fastbin leads astray: \"malloc(): unaligned fastbin chunk detected\", a double free, "
	  "or a write to "
	  "freed memory" },
	{ "C-FAST-SIZE", ASC_SEV_CORRUPT,
	  "a fastbin chunk's size is wrong: \"malloc(): memory corruption (fast)\"" },
	{ "C-TWICE", ASC_SEV_CORRUPT, "a chunk is free twice: a double free" },
	{ "C-OVERLAP", ASC_SEV_CORRUPT, "a free chunk reaches over the next free one" },
	{ "C-TCACHE", ASC_SEV_CORRUPT, "a thread's tcache pointer leads to no chunk" },
	{ "C-TCACHE-LINK", ASC_SEV_CORRUPT,
	  "a tcache list leads astray: \"malloc(): unaligned tcache chunk detected\", a double "
	  "free, or a write "
	  "to freed memory" },
	{ "C-TCACHE-SIZE", ASC_SEV_CORRUPT, "a cached chunk's size does not fit its list" },
	{ "C-TCACHE-KEY", ASC_SEV_CORRUPT,
	  "a cached chunk's key was overwritten: a write to freed memory; its double free would go "
	  "unnoticed" },
	{ "C-TCACHE-COUNT", ASC_SEV_CORRUPT, "a tcache list and its counter differ" },
	{ "S-TCACHE-COUNT", ASC_SEV_SUSPECT, "a tcache list and its counter differ by one" },
	{ "C-TCACHE-TWICE", ASC_SEV_CORRUPT,
	  "a chunk is in two tcaches, or twice in one: freed twice, which glibc does not detect "
	  "across threads" },
	{ "S-MAIN-EXTENT", ASC_SEV_SUSPECT,
	  "the main arena's top does not end where its memory should" },
	{ "S-EXTENT", ASC_SEV_SUSPECT, "an arena counts more memory than was found" },
	{ "S-MMAPPED", ASC_SEV_SUSPECT, "not every chunk with a mapping of its own was found" },
	{ "I-ATTACHED", ASC_SEV_INFO, "an arena counts other threads than those seen using it" },
	{ "I-BUSY", ASC_SEV_INFO,
	  "an arena was in the middle of an operation: what is said of it may be transient" },
};

const struct asc_finding_code *asc_finding_codes(size_t *ret_n)
{
	*ret_n = ASC_ARRAY_SIZE(codes);
	return codes;
}

const char *asc_severity_name(enum asc_severity s)
{
	static const char *const names[] = { "corrupt", "suspect", "info" };

	return (unsigned)s < ASC_ARRAY_SIZE(names) ? names[s] : "?";
}

static const struct asc_finding_code *lookup(const char *code)
{
	for (size_t i = 0; i < ASC_ARRAY_SIZE(codes); i++)
		if (!strcmp(codes[i].code, code))
			return &codes[i];
	return NULL;
}

/*
 * An operation under way explains nearly everything in a live target. A core is different: the
 * usual reason to have one is that malloc found the damage and aborted with the lock held.
 */
static enum asc_severity severity(const struct asc_model *m, const struct asc_finding_code *c,
				  const struct asc_at *at)
{
	bool busy = at->arena >= 0 && m->h->arenas[at->arena].busy;

	if (at->transient || (m->opts->unproven && c->severity == ASC_SEV_CORRUPT))
		return ASC_SEV_INFO;
	if (!busy || at->hard || c->severity == ASC_SEV_INFO)
		return c->severity;
	if (asc_target_kind(m->t) == ASC_CORE && c->severity == ASC_SEV_CORRUPT)
		return ASC_SEV_SUSPECT;
	return ASC_SEV_INFO;
}

struct asc_error *asc_model_find(struct asc_model *m, const char *code, struct asc_at at,
				 const char *fmt, ...)
{
	const struct asc_finding_code *c = lookup(code);
	struct asc_finding f = {
		.arena = at.arena, .addr = at.addr, .prev = at.prev, .unwalked = at.unwalked
	};
	struct asc_error *err;
	va_list ap;
	int n;

	if (!c)
		return asc_err(ASC_EBUG, "finding %s is not in the table", code);
	f.code = c->code;
	f.severity = severity(m, c, &at);
	if (f.severity == ASC_SEV_CORRUPT)
		m->h->complete = false;
	if (m->findings.len >= m->findings_max) {
		m->h->nfindings_lost++;
		return NULL;
	}
	va_start(ap, fmt);
	n = vasprintf(&f.message, fmt, ap);
	va_end(ap);
	if (n < 0)
		return asc_err(ASC_ENOMEM, "finding");
	err = asc_vec_push(&m->findings, f);
	if (err)
		free(f.message);
	return err;
}

static int by_place(const void *a, const void *b)
{
	const struct asc_finding *x = a, *y = b;

	if (x->arena != y->arena)
		return (x->arena > y->arena) - (x->arena < y->arena);
	return (x->addr > y->addr) - (x->addr < y->addr);
}

void asc_findings_finish(struct asc_model *m)
{
	struct asc_heap *h = m->h;

	if (m->findings.len)
		qsort(m->findings.data, m->findings.len, sizeof(*m->findings.data), by_place);
	h->findings = asc_take(m->findings.data);
	h->nfindings = m->findings.len;
	m->findings.len = m->findings.cap = 0;
}

void asc_heap_doubt(struct asc_heap *heap)
{
	for (size_t i = 0; heap && i < heap->nfindings; i++)
		heap->findings[i].severity = ASC_SEV_INFO;
	if (heap)
		heap->complete = false;
}

static struct asc_error *check_attached(struct asc_model *m, const struct asc_arena *a)
{
	if (!m->h->nthreads || !a->attached_known || a->attached_threads == a->nthreads)
		return NULL;
	for (size_t i = 0; i < m->h->nthreads; i++)
		if (!m->h->threads[i].known)
			return NULL;
	return asc_model_find(
		m, "I-ATTACHED", (struct asc_at){ .arena = (int)a->index, .addr = a->addr },
		"attached_threads is %" PRIu64
		", %zu threads use the arena: one is starting or exiting, or was leaked",
		a->attached_threads, a->nthreads);
}

struct asc_error *asc_check_arena(struct asc_model *m, size_t arena)
{
	const struct asc_arena *a = &m->h->arenas[arena];
	struct asc_at at = { .arena = (int)arena, .addr = a->addr, .hard = true };
	uint32_t known = m->l->trim_corrupt_flag ? 6 : 2;
	uint64_t sum = 0;

	/* up to 2.26 bit 0 says that there are no fastbin chunks */
	if (m->l->fastchunks_flag_inverted)
		known |= 1;
	if (a->mutex > 2)
		ASC_TRY(asc_model_find(m, "C-MUTEX", at, "the lock's value is 0x%x", a->mutex));
	if (a->flags & ~known)
		ASC_TRY(asc_model_find(m, "C-FLAGS", at, "flags are 0x%x", a->flags));
	at.hard = false;
	/* malloc_trim with the least possible top grows brk by pad, rounded up, past the maximum */
	if (a->system_mem > a->max_system_mem &&
	    (arena || !m->l->systrim_minsize_quirk ||
	     a->system_mem - a->max_system_mem > ASC_SYSTRIM_GROWTH_MAX))
		ASC_TRY(asc_model_find(m, "C-SYSTEM-MEM", at,
				       "system_mem %" PRIu64 " exceeds max_system_mem %" PRIu64,
				       a->system_mem, a->max_system_mem));
	for (size_t i = 0; i < a->nregions; i++)
		sum += a->regions[i].end - a->regions[i].start;
	if (arena && sum > a->system_mem)
		ASC_TRY(asc_model_find(m, "C-SYSTEM-MEM", at,
				       "system_mem is %" PRIu64 ", but the heaps are %" PRIu64
				       " bytes",
				       a->system_mem, sum));
	if (a->busy)
		ASC_TRY(asc_model_find(
			m, "I-BUSY", at,
			a->mutex ? "the lock is held (%u): findings may be transient"
				 : "a thread is inside malloc (lock %u): findings may be transient",
			a->mutex));
	return check_attached(m, a);
}
