/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * thread_arena and tcache without symbols: the two words of libc's thread-local block that, in
 * every thread, hold an arena of the ring and a chunk of a tcache's size whose counters agree with
 * its lists. The tcache's size also tells releases apart whose other structs are the same.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "glibc/scan.h"
#include "symbols/tls.h"

enum {
	RING_MAX = 65536,
	BLOCK_MAX = 64 << 10,
	NEAR_TP = 16384, /* libc's block is behind the program's, which may be large */
	PAGE = 4096,
	THREADS_MAX = 256,
	DATA_MAX = 32 << 20, /* .data and .bss of a static program are its own, too */
};

struct block { /* one thread's TLS block of libc, or what is near its thread pointer */
	uint8_t *p;
	size_t len;
};

struct tls_scan {
	struct asc_target *t;
	struct asc_libc *lib;
	const struct asc_arch *arch;
	ASC_VEC(asc_addr) ring;
	ASC_VEC(struct block) blocks;
	size_t len; /* of the block */
	size_t word;
	bool near; /* the blocks are not libc's alone */
};

static int by_value(const void *a, const void *b)
{
	asc_addr x = *(const asc_addr *)a, y = *(const asc_addr *)b;

	return (x > y) - (x < y);
}

static struct asc_error *read_ring(struct tls_scan *s)
{
	asc_addr at = s->lib->main_arena;

	do {
		ASC_TRY(asc_vec_push(&s->ring, at));
		ASC_TRY(asc_read_word(s->t, at + s->lib->layout.malloc_state_next.off, &at));
	} while (at != s->lib->main_arena && s->ring.len < RING_MAX);
	asc_sort(s->ring.data, s->ring.len, sizeof(*s->ring.data), by_value);
	return NULL;
}

static bool in_ring(const struct tls_scan *s, asc_addr v)
{
	return bsearch(&v, s->ring.data, s->ring.len, sizeof(v), by_value) != NULL;
}

/* Of what is only around a thread pointer the readable part next to it will do: zeros are no claim. */
static bool read_block(const struct tls_scan *s, asc_addr at, uint8_t *ret)
{
	const asc_addr end = at + s->len;
	size_t n = asc_read_some(s->t, at, ret, s->len);

	if (n == s->len)
		return true;
	if (!s->near)
		return false;
	memset(ret + n, 0, s->len - n);
	if (s->arch->tls != ASC_TLS_II)
		return n != 0;
	for (asc_addr p = asc_align_down(at, PAGE) + PAGE; p < end; p += PAGE) {
		memset(ret, 0, s->len);
		if (asc_read_some(s->t, p, ret + (p - at), (size_t)(end - p)) == end - p)
			return true;
	}
	return false;
}

static struct asc_error *read_blocks(struct tls_scan *s)
{
	const struct asc_thread *threads;
	size_t n;

	threads = asc_target_threads(s->t, &n);
	for (size_t i = 0; i < n && s->blocks.len < THREADS_MAX; i++) {
		struct block b = { .len = s->len };
		struct asc_error *err;
		asc_addr at;

		if (!threads[i].regs.tp_valid || !threads[i].regs.tp ||
		    !asc_thread_is_libcs(s->t, &threads[i]))
			continue;
		b.p = calloc(1, s->len ? s->len : 1);
		if (!b.p)
			return asc_err(ASC_ENOMEM, "thread-local storage");
		at = asc_tls_addr(s->arch, threads[i].regs.tp, s->lib->tls_offset, 0);
		if (!read_block(s, at, b.p)) {
			free(b.p); /* a thread that is being made or is going */
			continue;
		}
		err = asc_vec_push(&s->blocks, b);
		if (err) {
			free(b.p);
			return err;
		}
	}
	return NULL;
}

static uint64_t value(const struct tls_scan *s, size_t thread, size_t off)
{
	return asc_word_at(s->t, s->blocks.data[thread].p + off);
}

/*
 * The offset at which every thread has an arena of the ring, or none yet. Around a thread pointer
 * the stack may hold copies: thread-local storage is nearer to it.
 */
static bool find_arena(struct tls_scan *s, uint64_t *ret)
{
	const bool last = s->near && s->arch->tls == ASC_TLS_II;
	size_t best = 0, ties = 0;

	for (size_t off = 0; off + s->word <= s->len; off += s->word) {
		size_t hits = 0, i;

		for (i = 0; i < s->blocks.len; i++) {
			uint64_t v = value(s, i, off);

			if (v && !in_ring(s, v))
				break;
			hits += v != 0;
		}
		if (i < s->blocks.len || !hits || hits < best)
			continue;
		ties = hits == best && !last ? ties + 1 : 0;
		best = hits;
		*ret = off;
	}
	return best && !ties;
}

/*
 * Can @p size be that of a tcache's chunk? At least what the struct needs. More, if it was cut from
 * a free chunk of which less than a chunk would have been left, and from 2.43 on, where tcache_init
 * rounds up twice when it gets its memory from _int_malloc.
 */
static bool tcache_size(const struct asc_layout *l, uint64_t size)
{
	uint64_t want = asc_max(
		asc_align_up(l->sizeof_tcache_perthread_struct + l->word, l->malloc_alignment),
		l->minsize);
	uint64_t most = want + l->minsize - l->malloc_alignment;

	if (l->tcache_dummy)
		most += l->malloc_alignment;
	return size >= want && size <= most;
}

/* @p v is memory that could hold a tcache of the shape @p l, whatever is in it. */
static bool fits_tcache(const struct tls_scan *s, const struct asc_layout *l, asc_addr v)
{
	struct asc_error *err;
	uint64_t size;

	if (v % (2 * s->word) || v < s->word)
		return false;
	err = asc_read_word(s->t, v - s->word, &size);
	if (!err)
		return tcache_size(l, size & ~(uint64_t)7) && !(size & 2);
	asc_error_free(err);
	return false;
}

/* A tcache of the shape @p l: its chunk has the right size, and counters agree with lists. */
static bool is_tcache(const struct tls_scan *s, const struct asc_layout *l, asc_addr v)
{
	struct asc_field counts = l->tcache_counts_are_slots ? l->tcache_perthread_struct_num_slots
							     : l->tcache_perthread_struct_counts;
	struct asc_field entries = l->tcache_perthread_struct_entries;
	uint8_t buf[2048];
	struct asc_error *err;
	uint64_t limit;

	if (l->sizeof_tcache_perthread_struct > sizeof(buf) || !fits_tcache(s, l, v))
		return false;
	err = asc_read(s->t, v, buf, (size_t)l->sizeof_tcache_perthread_struct);
	if (!err)
		err = asc_read_word(s->t, s->lib->mp + l->malloc_par_tcache_count.off, &limit);
	asc_error_free(err);
	if (err)
		return false;
	for (unsigned i = 0; i < l->ntcache; i++) {
		uint64_t n = asc_uint_at(s->t, buf + counts.off + i * counts.elem, counts.elem);
		uint64_t e = asc_word_at(s->t, buf + entries.off + i * entries.elem);

		if (l->tcache_counts_are_slots) {
			if (n > limit)
				return false;
			n = limit - n;
		}
		if (!n != !e || e % s->word)
			return false;
	}
	return true;
}

/* 2.43: a thread without a tcache points to an object of zeros in libc's read-only data. */
static bool is_dummy(const struct tls_scan *s, asc_addr v)
{
	const struct asc_map *map = asc_maps_find(asc_target_maps(s->t), v);
	const struct asc_module *mod = s->lib->module;

	if (!mod || v < mod->start || v >= mod->end)
		return false;
	return map && map->flags_known && !(map->flags & ASC_MAP_WRITE);
}

/* How many threads have a tcache at this offset; 0 if a thread has what is none. */
static size_t tcaches_at(const struct tls_scan *s, const struct asc_layout *l, size_t off,
			 asc_addr *ret_dummy)
{
	size_t hits = 0;

	for (size_t i = 0; i < s->blocks.len; i++) {
		uint64_t v = value(s, i, off);

		if (!v)
			continue;
		if (is_tcache(s, l, v)) {
			hits++;
			continue;
		}
		/* damaged, or in the middle of a change: others vouch for the place */
		if (fits_tcache(s, l, v))
			continue;
		if (!l->tcache_dummy || !is_dummy(s, v))
			return 0;
		/* the second word of it stands for "disabled" */
		if (!*ret_dummy || v < *ret_dummy)
			*ret_dummy = v;
	}
	return hits;
}

static bool find_tcache(struct tls_scan *s, const struct asc_layout *l, uint64_t *ret,
			asc_addr *ret_dummy)
{
	size_t best = 0;

	for (size_t off = 0; off + s->word <= s->len; off += s->word) {
		asc_addr dummy = 0;
		size_t hits = tcaches_at(s, l, off, &dummy);

		/* of equals the nearest to the thread pointer, as for the arena */
		if (!hits || hits < best ||
		    (hits == best && !(s->near && s->arch->tls == ASC_TLS_II)))
			continue;
		best = hits;
		*ret = off;
		*ret_dummy = dummy & ~(asc_addr)15;
	}
	return best != 0;
}

/*
 * Could it be a tcache of a shape that no release has had? A chunk in use, with a place for the
 * lists of 64 sizes at least.
 */
static bool like_tcache(const struct tls_scan *s, asc_addr v)
{
	enum { LISTS = 64, MOST = 8192 };
	uint64_t raw, next = 0, size;
	struct asc_error *err;

	if (v % (2 * s->word) || v < s->word)
		return false;
	err = asc_read_word(s->t, v - s->word, &raw);
	size = err ? 0 : raw & ~(uint64_t)7;
	if (!err && !(raw & 2) && size >= LISTS * s->word && size <= MOST)
		err = asc_read_word(s->t, v - s->word + size, &next);
	asc_error_free(err);
	return next & 1;
}

/* No word that is libc's points to what could be a tcache: none was made yet. */
static bool no_tcache(const struct tls_scan *s, const struct asc_layout *l)
{
	if (s->lib->thread_arena_off == UINT64_MAX)
		return false; /* is libc's block among what was looked at? */
	for (size_t i = 0; i < s->blocks.len; i++)
		for (size_t off = 0; off + s->word <= s->len; off += s->word)
			if (fits_tcache(s, l, value(s, i, off)) || like_tcache(s, value(s, i, off)))
				return false;
	return true;
}

static bool same_but_tcache(const struct asc_layout *a, const struct asc_layout *b)
{
	return a->sizeof_malloc_state == b->sizeof_malloc_state &&
	       a->malloc_state_bins.off == b->malloc_state_bins.off &&
	       a->sizeof_malloc_par == b->sizeof_malloc_par &&
	       a->malloc_par_sbrk_base.off == b->malloc_par_sbrk_base.off &&
	       a->sizeof__heap_info == b->sizeof__heap_info;
}

/* First cached chunk of any thread: where it is, its link and its key, and whose tcache holds it. */
struct entry {
	asc_addr mem, tcache;
	uint64_t next, key;
};

static bool first_entry(const struct tls_scan *s, struct entry *ret)
{
	const struct asc_layout *l = &s->lib->layout;

	if (s->len < s->word || s->lib->tcache_off > s->len - s->word)
		return false; /* not known, among others */
	for (size_t i = 0; i < s->blocks.len; i++) {
		struct entry e = { .tcache = value(s, i, s->lib->tcache_off) };

		if (!e.tcache || !is_tcache(s, l, e.tcache))
			continue;
		for (unsigned k = 0; k < l->ntcache; k++) {
			struct asc_error *err;

			err = asc_read_word(s->t,
					    e.tcache + l->tcache_perthread_struct_entries.off +
						    k * s->word,
					    &e.mem);
			if (!err && !e.mem)
				continue;
			if (!err)
				err = asc_read_word(s->t, e.mem, &e.next);
			if (!err)
				err = asc_read_word(s->t, e.mem + s->word, &e.key);
			asc_error_free(err);
			if (err)
				continue;
			*ret = e;
			return true;
		}
	}
	return false;
}

static bool plausible_link(const struct tls_scan *s, uint64_t v)
{
	return !v || (!(v % (2 * s->word)) && asc_maps_find(asc_target_maps(s->t), v));
}

/* Which release of several with one shape: by how links and keys look. 0: cannot be told. */
static unsigned refine(const struct tls_scan *s, unsigned first, unsigned last)
{
	struct entry e;
	bool mangled;

	if (first == last)
		return first;
	if (first >= 35)
		return 36; /* no difference that matters */
	if (first < 27 || s->lib->tcache_off == UINT64_MAX || !first_entry(s, &e))
		return first < 27 ? asc_layout_minor(&s->lib->layout) : 0;
	if (last < 30)
		return e.key == e.tcache ? 29 : 28;
	mangled = !plausible_link(s, e.next) && plausible_link(s, e.next ^ (e.mem >> 12));
	if (!mangled)
		return 31;
	return e.key == e.tcache ? 33 : 34;
}

/* tcache_key is the word of libc's data that every cached chunk has a copy of. */
static void find_key(const struct tls_scan *s)
{
	const struct asc_maps *maps = asc_target_maps(s->t);
	const struct asc_map *home = asc_maps_find(maps, s->lib->main_arena);
	size_t i = home ? (size_t)(home - maps->v) : maps->n;
	struct entry e;

	if (!s->lib->layout.tcache_key_random || !first_entry(s, &e) || !e.key)
		return;
	for (; i < maps->n && maps->v[i].start - home->start < DATA_MAX; i++) {
		size_t len = (size_t)asc_min(maps->v[i].end - maps->v[i].start, DATA_MAX), got;
		ASC_AUTO(asc_freep) uint8_t *buf = malloc(len);

		if (i > (size_t)(home - maps->v) && maps->v[i].start != maps->v[i - 1].end)
			return;
		got = buf ? asc_read_some(s->t, maps->v[i].start, buf, len) : 0;
		for (size_t off = 0; off + s->word <= got; off += s->word)
			if (asc_word_at(s->t, buf + off) == e.key) {
				s->lib->tcache_key = maps->v[i].start + off;
				asc_libc_fact(s->lib, "tcache_key", "the key of cached chunks",
					      s->lib->tcache_key);
				return;
			}
	}
}

static void choose(struct tls_scan *s)
{
	struct asc_libc *lib = s->lib;
	unsigned first = 0, last = 0, minor = asc_layout_known(lib->minor), row_first, row_last;
	struct asc_layout l, was = lib->layout;
	asc_addr dummy = 0;
	uint64_t off;

	lib->tcache_none = true;
	for (size_t i = 0; asc_layout_row(s->arch, i, &l, &row_first, &row_last); i++) {
		if (!same_but_tcache(&l, &was) ||
		    (minor && (minor < row_first || minor > row_last)))
			continue;
		first = first ? first : row_first;
		last = row_last;
		if (!l.ntcache)
			continue;
		if (!find_tcache(s, &l, &off, &dummy)) {
			lib->tcache_none = lib->tcache_none && no_tcache(s, &l);
			continue;
		}
		l.from = was.from;
		lib->layout = l;
		lib->tcache_none = false;
		lib->tcache_off = off;
		lib->tcache_dummy = dummy;
		asc_libc_fact(lib, "tcache", "scan of the threads' TLS", off);
		first = row_first;
		break;
	}
	if (!minor && first) {
		minor = refine(s, first, last);
		/* 2.30 and 2.31 are told apart by nothing that memory has */
		lib->info_known = minor && !(minor == 31 && first == 30) && minor > 22;
	}
	asc_layout_traits(&lib->layout, s->arch, minor);
	find_key(s);
}

static struct asc_error *scan(struct tls_scan *s)
{
	struct asc_libc *lib = s->lib;

	ASC_TRY(read_ring(s));
	ASC_TRY(read_blocks(s));
	if (!s->blocks.len)
		return asc_err(ASC_ENOSYM, "no thread's registers are known");
	if (!find_arena(s, &lib->thread_arena_off))
		lib->thread_arena_off = UINT64_MAX;
	else
		asc_libc_fact(lib, "thread_arena", "scan of the threads' TLS",
			      lib->thread_arena_off);
	choose(s);
	lib->tls_known = lib->thread_arena_off != UINT64_MAX || lib->tcache_off != UINT64_MAX;
	return NULL;
}

/* libc's block if its place is known, else the surroundings of the thread pointer. */
static void place(struct asc_modules *m, struct tls_scan *s)
{
	struct asc_libc *lib = s->lib;
	struct asc_error *err = NULL;
	const char *how;
	uint64_t size;

	if (lib->module && asc_module_tls_size(lib->module, &size)) {
		err = asc_tls_offset(m, lib->module, &lib->tls_offset, &how);
		if (!err) {
			asc_libc_fact(lib, "tls_offset", how, lib->tls_offset);
			s->len = (size_t)asc_min(size, BLOCK_MAX);
			return;
		}
		asc_error_free(err);
	}
	s->len = NEAR_TP;
	s->near = true;
	lib->tls_offset = s->arch->tls == ASC_TLS_II ? NEAR_TP : 2 * (uint64_t)s->word;
	asc_libc_fact(lib, "tls_offset", "around the thread pointers", lib->tls_offset);
}

struct asc_error *asc_scan_tls(struct asc_modules *m, struct asc_target *t, struct asc_libc *lib)
{
	struct tls_scan s = { .t = t, .lib = lib, .arch = asc_target_arch(t) };
	struct asc_error *err;

	s.word = s.arch->word_size;
	lib->thread_arena_off = lib->tcache_off = UINT64_MAX;
	lib->tls_known = lib->tcache_none = false;
	if (s.arch->tls == ASC_TLS_NONE)
		return asc_err(ASC_ENOSYM, "no thread-local storage on %s", s.arch->name);
	place(m, &s);
	err = scan(&s);
	for (size_t i = 0; i < s.blocks.len; i++)
		free(s.blocks.data[i].p);
	asc_vec_free(&s.blocks);
	asc_vec_free(&s.ring);
	return err;
}
