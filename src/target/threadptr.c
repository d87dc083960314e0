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

static bool is_lost(const struct asc_thread *th)
{
	return !th->stopped && !th->regs.valid && !th->regs.tp_valid && th->state != 'Z';
}

/* The descriptor at the end of a stack: is it of one that is lost? */
static bool take_descriptor(struct asc_target *t, asc_addr at, uint64_t tid)
{
	for (size_t i = 0; i < t->nthreads; i++) {
		struct asc_thread *th = &t->threads[i];

		if ((uint64_t)th->tid != tid || !is_lost(th))
			continue;
		th->regs.tp = at;
		return th->regs.tp_valid = true;
	}
	return false;
}

static bool at_end(const struct place *p, const struct asc_map *m, size_t id)
{
	struct asc_target *t = p->t;
	const unsigned word = t->arch->word_size;
	asc_addr from = m->start;
	uint8_t b[STACK_END];
	size_t got = look(p, from, b, (size_t)(m->end - from));

	if (!got && m->end - from > t->page_size) {
		from = m->end - t->page_size;
		got = look(p, from, b, (size_t)t->page_size);
	}
	for (size_t i = 0; i + id + 4 <= got; i += 16) {
		if (asc_word_at(t, b + i) == from + i &&
		    asc_word_at(t, b + i + 2 * word) == from + i &&
		    take_descriptor(t, from + i, asc_uint_at(t, b + i + id, 4)))
			return true;
	}
	return false;
}

/* The ends of what may be stacks. @p ret: its `v` is to be freed */
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
		v[ret->n++].start = m->end - asc_min(STACK_END, m->end - m->start);
	}
	return v && t->page_size <= STACK_END;
}

/*
 * Threads that had no CPU to come to their stop. Where they are is not known, but libc puts the
 * descriptor at the end of the stack that it maps, and that does not move.
 */
static void find_lost(struct asc_target *t)
{
	struct place p = { .t = t };
	struct asc_residency *res = NULL;
	struct asc_maps ends = { 0 };
	size_t lost = 0, id = 0;

	for (size_t i = 0; i < t->nthreads; i++)
		lost += is_lost(&t->threads[i]);
	if (lost)
		id = id_offset(t);
	if (id && list_ends(t, &ends))
		asc_error_free(asc_live_residency_part(t, &ends, &res));
	p.res = res;
	for (size_t i = ends.n; res && res->source != ASC_RESIDENCY_UNKNOWN && lost && i-- > 0;)
		lost -= at_end(&p, &ends.v[i], id);
	asc_residency_free(res);
	free(ends.v);
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
