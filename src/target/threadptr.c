/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/threadptr.h"

#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "base/num.h"
#include "target/snapshot.h"

enum {
	STEP = 4096,
	DESCRIPTOR = 2048,     /* looked for the thread id this far behind its beginning */
	UP = 256 << 10,	       /* the descriptor lies above the stack, the TLS block between */
	SMALL = 1 << 20,       /* a mapping in which ld.so keeps the main thread's TLS */
	SMALL_READ = 64 << 10, /* of one such mapping, from either end */
	SMALL_TRIES = 64,
	STACK_END = 8192,
	LOST_BYTES = 64 << 20, /* looked at in a stop: some 20 ms */
};

static bool has_tid(const struct asc_target *t, const uint8_t *b, size_t len, pid_t tid)
{
	for (size_t i = 16; i + 4 <= len; i += 4) {
		if (asc_uint_at(t, b + i, 4) == (uint64_t)tid)
			return true;
	}
	return false;
}

/* Where the pages are known, only what is in memory is read: a page that nobody touched stays so. */
struct place {
	struct asc_target *t;
	const struct asc_residency *res;
};

static size_t look(const struct place *p, asc_addr at, uint8_t *b, size_t len)
{
	const uint64_t page = p->t->page_size;
	asc_addr end = at;

	if (!p->res || p->res->source == ASC_RESIDENCY_UNKNOWN)
		return asc_read_some(p->t, at, b, len);
	while (end < at + len && asc_resident_bytes(p->res, asc_align_down(end, page),
						    asc_align_down(end, page) + page))
		end = asc_align_down(end, page) + page;
	return asc_read_some(p->t, at, b, (size_t)asc_min(end - at, len));
}

/* A descriptor of @p tid that begins in [from, to). */
static bool search(const struct place *p, asc_addr from, asc_addr to, pid_t tid, asc_addr *ret)
{
	const struct asc_target *t = p->t;
	uint8_t b[STEP + DESCRIPTOR];
	unsigned word = t->arch->word_size;

	for (asc_addr at = asc_align_down(from, 16); at < to; at += STEP) {
		size_t got = look(p, at, b, sizeof(b));

		for (size_t i = 0; i < STEP && i + 3 * word <= got; i += 16) {
			if (asc_word_at(t, b + i) != at + i ||
			    asc_word_at(t, b + i + 2 * word) != at + i ||
			    !has_tid(t, b + i, asc_min(got - i, DESCRIPTOR), tid))
				continue;
			*ret = at + i;
			return true;
		}
		if (got < STEP && !p->res)
			return false;
	}
	return false;
}

static bool above_stack(const struct place *p, const struct asc_thread *th, asc_addr *ret)
{
	struct asc_target *t = p->t;
	const struct asc_map *m;
	asc_addr sp;

	if (!asc_regs_sp(t, &th->regs, &sp))
		return false;
	m = asc_maps_find(&t->maps, sp);
	return m && m->path[0] != '[' && search(p, sp, asc_min(m->end, sp + UP), th->tid, ret);
}

/* ld.so maps the first thread's TLS before anything else; a static program has it in its heap. */
static bool of_main_thread(const struct place *p, pid_t tid, asc_addr *ret)
{
	const struct asc_target *t = p->t;
	unsigned tries = 0;

	for (size_t i = t->maps.n; i-- > 0 && tries < SMALL_TRIES;) {
		const struct asc_map *m = &t->maps.v[i];
		bool heap = !strcmp(m->path, "[heap]");

		if (m->inode || !(m->flags & ASC_MAP_WRITE) || !(m->flags & ASC_MAP_READ) ||
		    (m->path[0] && !heap) || (m->end - m->start > SMALL && !heap))
			continue;
		tries++;
		if (search(p, m->start, asc_min(m->end, m->start + SMALL_READ), tid, ret))
			return true;
		if (!heap && m->end - m->start > SMALL_READ &&
		    search(p, asc_max(m->start + SMALL_READ, m->end - SMALL_READ), m->end, tid,
			   ret))
			return true;
	}
	return false;
}

/* How far into its descriptor a thread's id is, by one that is known. 0: none is */
static size_t id_offset(struct asc_target *t)
{
	uint8_t b[DESCRIPTOR];

	for (size_t i = 0; i < t->nthreads; i++) {
		const struct asc_thread *th = &t->threads[i];
		size_t got = th->regs.tp_valid ? asc_read_some(t, th->regs.tp, b, sizeof(b)) : 0;

		for (size_t at = 16; at + 4 <= got; at += 4) {
			if (asc_uint_at(t, b + at, 4) == (uint64_t)th->tid)
				return at;
		}
	}
	return 0;
}

/* Not the first thread: its stack is the kernel's, and its descriptor elsewhere. */
static bool is_lost(const struct asc_target *t, const struct asc_thread *th)
{
	return th->tid != t->pid && !th->stopped && !th->regs.valid && !th->regs.tp_valid &&
	       th->state != 'Z';
}

/* The descriptor at the end of a stack: is it of one that is lost? */
static bool take_descriptor(struct asc_target *t, asc_addr at, uint64_t tid)
{
	for (size_t i = 0; i < t->nthreads; i++) {
		struct asc_thread *th = &t->threads[i];

		if ((uint64_t)th->tid != tid || !is_lost(t, th))
			continue;
		th->regs.tp = at;
		return th->regs.tp_valid = true;
	}
	return false;
}

/* Descriptors of those that are lost among bytes that are in memory. */
static size_t scan(struct asc_target *t, asc_addr from, asc_addr to, size_t id)
{
	const unsigned word = t->arch->word_size;
	uint8_t b[STEP + DESCRIPTOR];
	size_t found = 0;

	for (asc_addr at = from; at < to; at += STEP) {
		size_t got = asc_read_some(t, at, b, (size_t)asc_min(sizeof(b), to - at));

		for (size_t i = 0; i < STEP && i + id + 4 <= got; i += 16) {
			if (asc_word_at(t, b + i) == at + i &&
			    asc_word_at(t, b + i + 2 * word) == at + i)
				found += take_descriptor(t, at + i, asc_uint_at(t, b + i + id, 4));
		}
	}
	return found;
}

/* What may have descriptors: the ends of what may be stacks. @p ret: its `v` is to be freed */
static bool list_ends(const struct asc_target *t, struct asc_maps *ret)
{
	struct asc_map *v = calloc(t->maps.n + 1, sizeof(*v));

	*ret = (struct asc_maps){ .v = v };
	for (size_t i = 0; v && i < t->maps.n; i++) {
		const struct asc_map *m = &t->maps.v[i];

		if (m->inode || m->path[0] == '[' || !(m->flags & ASC_MAP_WRITE) ||
		    !(m->flags & ASC_MAP_READ))
			continue;
		v[ret->n] = *m;
		if (m->end - m->start > STACK_END)
			v[ret->n].start = m->end - STACK_END;
		ret->n++;
	}
	return v != NULL;
}

/*
 * Where guards are no mappings (glibc 2.42), stacks that lie side by side are one: it has descriptors of
 * others before its end, and is looked at as a whole. @p margin: one that is nearer to the end tells nothing
 */
static void widen_rows(const struct asc_target *t, struct asc_maps *ends, uint64_t margin)
{
	for (size_t i = 0; i < t->nthreads; i++) {
		const struct asc_regs *r = &t->threads[i].regs;
		const struct asc_map *m = r->tp_valid ? asc_maps_find(&t->maps, r->tp) : NULL;
		size_t lo = 0, hi = ends->n;

		while (m && lo < hi) {
			size_t mid = lo + (hi - lo) / 2;

			if (ends->v[mid].end < m->end)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (m && lo < ends->n && ends->v[lo].end == m->end && m->end - r->tp > margin)
			ends->v[lo].start = m->start;
	}
}

/* @return how many were found in @p places */
static size_t look_at(struct asc_target *t, const struct asc_maps *places, size_t id, size_t lost)
{
	struct asc_residency *res = NULL;
	uint64_t left = LOST_BYTES;
	size_t found = 0;

	asc_error_free(asc_live_residency_part(t, places, &res));
	for (size_t i = res && res->source != ASC_RESIDENCY_UNKNOWN ? res->n : 0;
	     found < lost && i-- > 0;) {
		const struct asc_page_run *run = &res->v[i];
		const asc_addr start = asc_page_run_start(run);

		if (asc_page_run_flags(run) & (ASC_PAGE_SWAPPED | ASC_PAGE_ZERO) ||
		    run->end - start > left)
			continue;
		left -= run->end - start;
		found += scan(t, start, run->end, id);
	}
	asc_residency_free(res);
	return found;
}

/*
 * Threads that had no CPU to come to their stop. Where they are is not known, but libc puts the
 * descriptor at the end of the stack that it maps, and that does not move. In a row of stacks it is the
 * last one's: that it is a row is told by who is known in the middle of it, or found at its end.
 */
static void find_lost(struct asc_target *t)
{
	struct asc_maps places = { 0 };
	size_t lost = 0, id = 0;

	for (size_t i = 0; i < t->nthreads; i++)
		lost += is_lost(t, &t->threads[i]);
	if (lost)
		id = id_offset(t);
	if (id && list_ends(t, &places)) {
		widen_rows(t, &places, STACK_END);
		lost -= look_at(t, &places, id, lost);
		if (lost) {
			widen_rows(t, &places, 0);
			look_at(t, &places, id, lost);
		}
	}
	free(places.v);
}

void asc_find_thread_pointers(struct asc_target *t, const struct asc_residency *res)
{
	const struct place p = { t, res };

	if (t->arch->tls != ASC_TLS_II)
		return;
	for (size_t i = 0; i < t->nthreads; i++) {
		struct asc_thread *th = &t->threads[i];

		if (!th->regs.valid || !th->regs.partial || th->regs.tp_valid)
			continue;
		th->regs.tp_valid = th->tid == t->pid ? of_main_thread(&p, th->tid, &th->regs.tp)
						      : above_stack(&p, th, &th->regs.tp);
	}
	if (!res)
		find_lost(t);
}
