/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "heap_image.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "heap_image_priv.h"

enum {
	PAGE = 4096,
	MAX_CHUNKS = 24000,
	MAX_ARENAS = 8,
	MAX_REGIONS = 8,
	MAX_THREADS = 8,
	MAX_MAPS = 16
};
enum { MAIN_OFF = 0x900, MP_OFF = 0x1800, VARS_OFF = 0x1c00, LIBC_BYTES = 0x3000 };
enum { TLS_OFFSET = 0x60, ARENA_OFF = 0x50, TCACHE_OFF = 0x40, TLS_STRIDE = 0x1000 };

struct chunk {
	size_t arena, region;
	asc_addr addr;
	uint64_t size;
	enum asc_state state;
	size_t thread;
	bool no_flag; /* no arena flag, though in use */
};

struct region {
	asc_addr base, start, first, at, end;
	bool mapped_piece;
};

struct arena {
	asc_addr addr, top;
	struct region r[MAX_REGIONS];
	size_t nr;
};

struct thread {
	size_t arena;
	asc_addr tcache, tp;
};

struct mapped {
	asc_addr start;
	uint64_t total, off;
	bool apart;
};

struct heap_image {
	unsigned word, minor;
	bool be;
	struct asc_layout l;
	struct asc_libc lib;
	struct asc_target *t;
	struct arena a[MAX_ARENAS];
	size_t na;
	struct chunk c[MAX_CHUNKS];
	size_t nc;
	struct thread th[MAX_THREADS];
	size_t nth;
	struct mapped m[MAX_MAPS];
	size_t nm;
	asc_addr libc, tls, maps_at;
	uint64_t key;
	const struct chunk *scratch[2 * MAX_CHUNKS];
};

static void must(struct asc_error *err)
{
	if (!err)
		return;
	fprintf(stderr, "heap image: %s\n", asc_error_text(err));
	abort();
}

static uint64_t up(uint64_t v, uint64_t to)
{
	return (v + to - 1) / to * to;
}

static asc_addr first_chunk(const struct heap_image *hi, asc_addr at)
{
	return up(at + hi->l.hdr, hi->l.malloc_alignment) - hi->l.hdr;
}

struct heap_image *hi_new(unsigned word, bool be, unsigned minor)
{
	struct heap_image *hi = calloc(1, sizeof(*hi));

	assert(hi);
	hi->word = word;
	hi->be = be;
	hi->minor = minor;
	hi_layout(&hi->l, word, minor);
	hi->libc = word == 8 ? 0x7e0000000000 : 0xb0000000;
	hi->tls = word == 8 ? 0x7d0000000000 : 0xb8000000;
	hi->maps_at = word == 8 ? 0x7c0000000000 : 0xa0000000;
	hi->key = word == 8 ? 0x1122334455667788 : 0x11223344;
	hi->na = 1;
	hi->a[0].addr = hi->libc + MAIN_OFF;
	hi->a[0].nr = 1;
	hi->a[0].r[0].base = hi->a[0].r[0].start = word == 8 ? 0x555500001000 : 0x08050000;
	hi_sbrk_offset(hi, 0);
	return hi;
}

void hi_sbrk_offset(struct heap_image *hi, uint64_t off)
{
	struct region *r = &hi->a[0].r[0];

	r->start = r->base + off;
	r->first = r->at = first_chunk(hi, r->start);
}

void hi_free(struct heap_image *hi)
{
	asc_target_close(hi->t);
	free(hi);
}

struct asc_layout *hi_shape(struct heap_image *hi)
{
	return &hi->l;
}

static void begin_heap(struct heap_image *hi, size_t arena)
{
	struct arena *a = &hi->a[arena];
	struct region *r = &a->r[a->nr];
	size_t nr = 0;

	for (size_t i = 1; i < hi->na; i++)
		nr += hi->a[i].nr;
	r->base = r->start = (hi->word == 8 ? 0x7f0000000000 : 0xc0000000) + nr * hi->l.heap_max;
	if (!a->nr)
		a->addr = r->base + hi->l.sizeof__heap_info;
	r->first = first_chunk(hi, r->base + hi->l.sizeof__heap_info +
					   (a->nr ? 0 : hi->l.sizeof_malloc_state));
	r->at = r->first;
	a->nr++;
}

size_t hi_arena(struct heap_image *hi)
{
	assert(hi->na < MAX_ARENAS);
	hi->na++;
	begin_heap(hi, hi->na - 1);
	return hi->na - 1;
}

static struct region *last_region(struct heap_image *hi, size_t arena)
{
	return &hi->a[arena].r[hi->a[arena].nr - 1];
}

static struct chunk *append(struct heap_image *hi, size_t arena, uint64_t size,
			    enum asc_state state)
{
	struct region *r = last_region(hi, arena);
	struct chunk *c = &hi->c[hi->nc++];

	assert(hi->nc < MAX_CHUNKS);
	*c = (struct chunk){ arena, hi->a[arena].nr - 1, r->at, size, state, 0, false };
	r->at += size;
	return c;
}

asc_addr hi_chunk(struct heap_image *hi, size_t arena, uint64_t size, enum asc_state state)
{
	assert(size >= hi->l.minsize && size % hi->l.malloc_alignment == 0);
	return append(hi, arena, size, state)->addr;
}

static bool is_free(enum asc_state s)
{
	return s == ASC_UNSORTED || s == ASC_SMALL || s == ASC_LARGE;
}

static bool last_is_free(const struct heap_image *hi, size_t arena)
{
	for (size_t i = hi->nc; i--;)
		if (hi->c[i].arena == arena)
			return hi->c[i].region == hi->a[arena].nr - 1 && is_free(hi->c[i].state);
	return false;
}

/* sysmalloc's: what is left of the old top is freed, then fenceposts. */
static void fence_heap(struct heap_image *hi, size_t arena)
{
	struct region *r = last_region(hi, arena);
	uint64_t left, old;

	r->end = up(r->at + 4 * hi->l.minsize, PAGE);
	left = r->end - r->at;
	old = (left - hi->l.minsize) & ~(uint64_t)(hi->l.malloc_alignment - 1);
	append(hi, arena, old, last_is_free(hi, arena) ? ASC_INUSE : ASC_UNSORTED);
	append(hi, arena, hi->l.hdr, ASC_FENCE);
	append(hi, arena, r->end - r->at, ASC_FENCE)->no_flag = true; /* size 0 in its header */
}

static void fence_main(struct heap_image *hi)
{
	struct region *r = last_region(hi, 0);
	asc_addr end = up(r->at + 6 * hi->l.minsize, PAGE);
	uint64_t old = (end - r->at - 2 * hi->l.hdr) & ~(uint64_t)(hi->l.malloc_alignment - 1);

	append(hi, 0, old, last_is_free(hi, 0) ? ASC_INUSE : ASC_UNSORTED);
	append(hi, 0, hi->l.hdr, ASC_FENCE);
	append(hi, 0, hi->l.hdr, ASC_FENCE);
	r->end = end;
}

void hi_new_region(struct heap_image *hi, size_t arena)
{
	struct arena *a = &hi->a[arena];
	struct region *r;

	assert(a->nr < MAX_REGIONS);
	if (arena) {
		fence_heap(hi, arena);
		begin_heap(hi, arena);
		return;
	}
	fence_main(hi);
	r = &a->r[a->nr++];
	r->mapped_piece = true;
	r->base = r->start = (hi->word == 8 ? 0x7b0000000000 : 0x90000000) + a->nr * 0x400000;
	r->first = r->at = first_chunk(hi, r->start);
}

asc_addr hi_foreign(struct heap_image *hi, uint64_t bytes)
{
	struct region *r = last_region(hi, 0);
	asc_addr at;

	fence_main(hi);
	at = r->end;
	r->at = first_chunk(hi, r->end + bytes);
	r->end = 0;
	return at;
}

size_t hi_thread(struct heap_image *hi, size_t arena)
{
	struct thread *th = &hi->th[hi->nth];

	assert(hi->nth < MAX_THREADS);
	th->arena = arena;
	th->tp = hi->tls + hi->nth * TLS_STRIDE + 0x800;
	if (hi->minor >= 26)
		th->tcache =
			hi->l.hdr + hi_chunk(hi, arena,
					     up(hi->l.sizeof_tcache_perthread_struct + hi->word,
						hi->l.malloc_alignment),
					     ASC_INUSE);
	return hi->nth++;
}

asc_addr hi_cached(struct heap_image *hi, size_t arena, uint64_t size, size_t thread)
{
	struct chunk *c = append(hi, arena, size, ASC_TCACHE);

	c->thread = thread;
	return c->addr;
}

asc_addr hi_mmapped(struct heap_image *hi, uint64_t request, uint64_t align, bool apart)
{
	struct mapped *m = &hi->m[hi->nm++];
	uint64_t size = up(request + hi->word, hi->l.malloc_alignment);
	asc_addr first;

	assert(hi->nm < MAX_MAPS);
	m->start = hi->maps_at;
	m->apart = apart;
	m->total = up(size + align + 2 * hi->l.hdr, PAGE);
	first = first_chunk(hi, m->start);
	m->off = first - m->start;
	if (align)
		m->off = up(first + hi->l.hdr, align) - hi->l.hdr - m->start;
	hi->maps_at += m->total + (apart ? PAGE : 0);
	return m->start + m->off;
}

void hi_poke_int(struct heap_image *hi, asc_addr addr, size_t size, uint64_t v)
{
	uint8_t b[8];

	for (size_t i = 0; i < size; i++)
		b[hi->be ? size - 1 - i : i] = (uint8_t)(v >> 8 * i);
	must(asc_image_poke(hi->t, addr, b, size));
}

void hi_poke(struct heap_image *hi, asc_addr addr, uint64_t word)
{
	hi_poke_int(hi, addr, hi->word, word);
}

uint64_t hi_peek(struct heap_image *hi, asc_addr addr)
{
	uint64_t v;

	must(asc_read_word(hi->t, addr, &v));
	return v;
}

static void add_map(struct heap_image *hi, asc_addr start, asc_addr end, const char *path)
{
	struct asc_map map = { .start = start,
			       .end = end,
			       .flags = ASC_MAP_READ | ASC_MAP_WRITE,
			       .flags_known = true,
			       .inode = path[0] == '/' ? 7 : 0,
			       .path = path };

	must(asc_image_add(hi->t, &map, NULL));
}

static void write_headers(struct heap_image *hi, size_t arena, size_t region)
{
	const struct region *r = &hi->a[arena].r[region];
	const struct chunk *prev = NULL;
	bool top = region == hi->a[arena].nr - 1;

	for (size_t i = 0; i < hi->nc; i++) {
		const struct chunk *c = &hi->c[i];
		bool used = !is_free(c->state), behind = prev && prev->addr + prev->size == c->addr;
		uint64_t raw = c->size;

		if (c->arena != arena || c->region != region)
			continue;
		if (behind && is_free(prev->state))
			hi_poke(hi, c->addr, prev->size);
		else
			raw |= 1;
		if (c->state == ASC_FENCE)
			raw = c->no_flag ? 1 : raw;
		else if (used && arena)
			raw |= 4;
		hi_poke(hi, c->addr + hi->word, raw);
		prev = c;
	}
	if (!top)
		return;
	if (prev && is_free(prev->state))
		abort(); /* it would be part of top */
	hi->a[arena].top = r->at;
	hi_poke(hi, r->at + hi->word, (r->end - r->at) | 1);
}

static asc_addr bin_at(const struct heap_image *hi, size_t arena, unsigned i)
{
	return hi->a[arena].addr + hi->l.malloc_state_bins.off + (i - 1) * 2 * hi->word - hi->l.hdr;
}

/* glibc's bin_index by its table of steps. */
static unsigned bin_index(const struct heap_image *hi, uint64_t sz)
{
	bool small16 = hi->word == 4 && hi->l.malloc_alignment == 16;
	uint64_t min_large = hi->word == 8 ? 1024 : small16 ? 1008 : 512;

	if (sz < min_large)
		return (unsigned)(hi->word == 8 ? sz >> 4 : small16 ? (sz >> 4) + 1 : sz >> 3);
	if (hi->word == 8 && sz >> 6 <= 48)
		return (unsigned)(48 + (sz >> 6));
	if (hi->word == 4 && sz >> 6 <= (small16 ? 45 : 38))
		return (unsigned)((small16 ? 49 : 56) + (sz >> 6));
	return (unsigned)((sz >> 9) <= 20    ? 91 + (sz >> 9)
			  : (sz >> 12) <= 10 ? 110 + (sz >> 12)
			  : (sz >> 15) <= 4  ? 119 + (sz >> 15)
			  : (sz >> 18) <= 2  ? 124 + (sz >> 18)
					     : 126);
}

static void write_nextsize(struct heap_image *hi, const struct chunk **v, size_t n)
{
	const struct chunk **lead = hi->scratch + MAX_CHUNKS;
	size_t nl = 0;

	for (size_t i = 0; i < n; i++) {
		hi_poke(hi, v[i]->addr + 4 * hi->word, 0);
		hi_poke(hi, v[i]->addr + 5 * hi->word, 0);
		if (!i || v[i]->size != v[i - 1]->size)
			lead[nl++] = v[i];
	}
	for (size_t i = 0; i < nl; i++) {
		hi_poke(hi, lead[i]->addr + 4 * hi->word, lead[(i + 1) % nl]->addr);
		hi_poke(hi, lead[i]->addr + 5 * hi->word, lead[(i + nl - 1) % nl]->addr);
	}
}

static void write_bin(struct heap_image *hi, size_t arena, unsigned bin)
{
	const struct chunk **v = hi->scratch;
	size_t n = 0;
	asc_addr head = bin_at(hi, arena, bin), prev = head;

	for (size_t i = 0; i < hi->nc; i++) {
		const struct chunk *c = &hi->c[i];
		bool here = c->state == ASC_UNSORTED
				    ? bin == 1
				    : is_free(c->state) && bin_index(hi, c->size) == bin;
		size_t at = n;

		if (c->arena != arena || !here)
			continue;
		if (bin >= 64) /* largest first */
			while (at && v[at - 1]->size < c->size)
				at--;
		memmove(&v[at + 1], &v[at], (n - at) * sizeof(v[0]));
		v[at] = c;
		n++;
	}
	for (size_t i = 0; i < n; i++) {
		hi_poke(hi, prev + 2 * hi->word, v[i]->addr);
		hi_poke(hi, v[i]->addr + 3 * hi->word, prev);
		prev = v[i]->addr;
	}
	hi_poke(hi, prev + 2 * hi->word, head);
	hi_poke(hi, head + 3 * hi->word, prev);
	if (n && bin >= 64)
		write_nextsize(hi, v, n);
	if (n && bin >= 2) {
		asc_addr at = hi->a[arena].addr + hi->l.malloc_state_binmap.off + 4 * (bin / 32);
		uint64_t bits;

		must(asc_read_uint(hi->t, at, 4, &bits));
		hi_poke_int(hi, at, 4, bits | (uint64_t)1 << bin % 32);
	}
}

static uint64_t mangle(const struct heap_image *hi, asc_addr at, asc_addr to)
{
	return hi->minor >= 32 ? (at >> 12) ^ to : to;
}

static void write_fast(struct heap_image *hi, size_t arena)
{
	for (size_t i = 0; i < hi->nc; i++) {
		const struct chunk *c = &hi->c[i];
		unsigned idx = (unsigned)(c->size >> (hi->word == 8 ? 4 : 3)) - 2;
		asc_addr head =
			hi->a[arena].addr + hi->l.malloc_state_fastbinsY.off + idx * hi->word;

		if (c->arena != arena || c->state != ASC_FASTBIN)
			continue;
		assert(hi->minor <= 42 && idx < hi->l.nfastbins);
		hi_poke(hi, c->addr + 2 * hi->word,
			mangle(hi, c->addr + 2 * hi->word, hi_peek(hi, head)));
		hi_poke(hi, head, c->addr);
	}
}

static unsigned tcache_index(const struct heap_image *hi, uint64_t sz)
{
	unsigned small = (unsigned)((sz - hi->l.minsize) / hi->l.malloc_alignment), log = 64;

	if (small < 64)
		return small;
	for (uint64_t v = sz >> 11; v; v >>= 1)
		log++;
	return log;
}

static void write_tcache(struct heap_image *hi, size_t thread)
{
	struct thread *th = &hi->th[thread];
	struct asc_field cf = hi->minor >= 42 ? hi->l.tcache_perthread_struct_num_slots
					      : hi->l.tcache_perthread_struct_counts;
	unsigned slots = hi->minor >= 43 ? 16 : 7;

	if (!th->tcache)
		return;
	for (unsigned i = 0; hi->minor >= 42 && i < hi->l.ntcache; i++)
		hi_poke_int(hi, th->tcache + cf.off + i * cf.elem, cf.elem, slots);
	for (size_t i = 0; i < hi->nc; i++) {
		const struct chunk *c = &hi->c[i];
		unsigned idx = tcache_index(hi, c->size);
		asc_addr head =
			th->tcache + hi->l.tcache_perthread_struct_entries.off + idx * hi->word;
		asc_addr e = c->addr + hi->l.hdr, at = th->tcache + cf.off + idx * cf.elem;
		uint64_t n;

		if (c->state != ASC_TCACHE || c->thread != thread)
			continue;
		hi_poke(hi, e, mangle(hi, e, hi_peek(hi, head)));
		if (hi->minor >= 29)
			hi_poke(hi, e + hi->word, hi->minor >= 34 ? hi->key : th->tcache);
		hi_poke(hi, head, e);
		must(asc_read_uint(hi->t, at, cf.elem, &n));
		hi_poke_int(hi, at, cf.elem, hi->minor >= 42 ? n - 1 : n + 1);
	}
}

static void poke_field(struct heap_image *hi, asc_addr base, struct asc_field f, uint64_t v)
{
	if (f.present)
		hi_poke_int(hi, base + f.off, f.size, v);
}

uint64_t hi_system_mem(const struct heap_image *hi, size_t arena)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < hi->a[arena].nr; i++)
		sum += hi->a[arena].r[i].end - hi->a[arena].r[i].start;
	return sum;
}

static void write_arena(struct heap_image *hi, size_t arena)
{
	const struct asc_layout *l = &hi->l;
	struct arena *a = &hi->a[arena];
	bool pieces = false;
	uint64_t users = 0;

	for (size_t i = 0; i < a->nr; i++) {
		write_headers(hi, arena, i);
		pieces |= a->r[i].mapped_piece;
	}
	for (unsigned bin = 1; bin < 128; bin++)
		write_bin(hi, arena, bin);
	write_fast(hi, arena);
	for (size_t i = 0; i < hi->nth; i++)
		users += hi->th[i].arena == arena;
	poke_field(hi, a->addr, l->malloc_state_top, a->top);
	poke_field(hi, a->addr, l->malloc_state_flags,
		   (pieces ? 2 : 0) | (hi->minor <= 26 ? 1 : 0));
	poke_field(hi, a->addr, l->malloc_state_next, hi->a[(arena + 1) % hi->na].addr);
	poke_field(hi, a->addr, l->malloc_state_attached_threads, users);
	poke_field(hi, a->addr, l->malloc_state_system_mem, hi_system_mem(hi, arena));
	poke_field(hi, a->addr, l->malloc_state_max_system_mem, hi_system_mem(hi, arena) + PAGE);
	for (size_t i = 0; arena && i < a->nr; i++) {
		asc_addr h = a->r[i].base;

		poke_field(hi, h, l->_heap_info_ar_ptr, a->addr);
		poke_field(hi, h, l->_heap_info_prev, i ? a->r[i - 1].base : 0);
		poke_field(hi, h, l->_heap_info_size, a->r[i].end - a->r[i].start);
		poke_field(hi, h, l->_heap_info_mprotect_size, a->r[i].end - a->r[i].start + PAGE);
		poke_field(hi, h, l->_heap_info_pagesize, PAGE);
	}
}

static void write_mmapped(struct heap_image *hi, uint64_t *sum)
{
	for (size_t i = 0; i < hi->nm; i++) {
		const struct mapped *m = &hi->m[i];
		asc_addr first = first_chunk(hi, m->start);
		uint64_t cut = hi->minor >= 43 ? hi->l.hdr : 0;

		hi_poke(hi, first, first - m->start);
		hi_poke(hi, first + hi->word, (m->total - (first - m->start) - cut) | 2);
		hi_poke(hi, m->start + m->off, m->off);
		hi_poke(hi, m->start + m->off + hi->word, (m->total - m->off - cut) | 2);
		*sum += m->total;
	}
}

static void write_mp(struct heap_image *hi)
{
	const struct asc_layout *l = &hi->l;
	asc_addr mp = hi->libc + MP_OFF;
	uint64_t sum = 0;

	write_mmapped(hi, &sum);
	poke_field(hi, mp, l->malloc_par_trim_threshold, 128 << 10);
	poke_field(hi, mp, l->malloc_par_top_pad, 128 << 10);
	poke_field(hi, mp, l->malloc_par_mmap_threshold, 128 << 10);
	poke_field(hi, mp, l->malloc_par_arena_test, hi->word == 8 ? 8 : 2);
	poke_field(hi, mp, l->malloc_par_n_mmaps, hi->nm);
	poke_field(hi, mp, l->malloc_par_max_n_mmaps, hi->nm + 1);
	poke_field(hi, mp, l->malloc_par_n_mmaps_max, 65536);
	poke_field(hi, mp, l->malloc_par_mmapped_mem, sum);
	poke_field(hi, mp, l->malloc_par_max_mmapped_mem, sum + PAGE);
	poke_field(hi, mp, l->malloc_par_sbrk_base, hi->a[0].r[0].start);
	poke_field(hi, mp, l->malloc_par_tcache_max_bytes, hi->word == 8 ? 1032 : 1020);
	poke_field(hi, mp, l->malloc_par_tcache_count, hi->minor >= 43 ? 16 : 7);
	poke_field(hi, mp, l->malloc_par_tcache_bins, 64);
	poke_field(hi, mp, l->malloc_par_tcache_small_bins, 64);
}

static void make_maps(struct heap_image *hi)
{
	add_map(hi, hi->libc, hi->libc + LIBC_BYTES, "/lib/libc.so.6");
	add_map(hi, hi->tls, hi->tls + (hi->nth + 1) * TLS_STRIDE, "");
	for (size_t i = 0; i < hi->na; i++) {
		for (size_t j = 0; j < hi->a[i].nr; j++) {
			struct region *r = &hi->a[i].r[j];

			if (!r->end)
				r->end = up(r->at + 2 * hi->l.minsize, PAGE);
			add_map(hi, r->base, r->end + (i ? PAGE : 0),
				i || r->mapped_piece ? "" : "[heap]");
		}
	}
	for (size_t i = 0, j; i < hi->nm; i = j) {
		asc_addr end = hi->m[i].start;

		for (j = i; j < hi->nm && (j == i || !hi->m[j - 1].apart); j++)
			end = hi->m[j].start + hi->m[j].total;
		add_map(hi, hi->m[i].start, end, "");
	}
}

static void make_threads(struct heap_image *hi)
{
	const struct asc_arch *arch = asc_target_arch(hi->t);

	for (size_t i = 0; i < hi->nth; i++) {
		const struct thread *th = &hi->th[i];
		asc_addr block = arch->tls == ASC_TLS_II ? th->tp - TLS_OFFSET
							 : th->tp + TLS_OFFSET;
		struct asc_thread thread = { .tid = (pid_t)(100 + i),
					     .state = 'S',
					     .syscall_nr = -1 };

		thread.regs.tp_valid = true;
		thread.regs.tp = th->tp;
		must(asc_image_add_thread(hi->t, &thread));
		if (arch->tls == ASC_TLS_II) {
			hi_poke(hi, th->tp, th->tp);
			hi_poke(hi, th->tp + 2 * hi->word, th->tp);
		}
		hi_poke(hi, block + ARENA_OFF, hi->a[th->arena].addr);
		hi_poke(hi, block + TCACHE_OFF, th->tcache);
		write_tcache(hi, i);
	}
}

static void make_libc(struct heap_image *hi)
{
	asc_addr vars = hi->libc + VARS_OFF;

	hi->lib = (struct asc_libc){ .layout = hi->l,
				     .major = 2,
				     .minor = hi->minor,
				     .main_arena = hi->a[0].addr,
				     .mp = hi->libc + MP_OFF,
				     .tls_known = true,
				     .tls_offset = TLS_OFFSET,
				     .thread_arena_off = ARENA_OFF,
				     .tcache_off = hi->minor >= 26 ? TCACHE_OFF : UINT64_MAX,
				     .free_list = vars,
				     .narenas = vars + 8,
				     .primary = true };
	snprintf(hi->lib.version, sizeof(hi->lib.version), "2.%u", hi->minor);
	hi_poke(hi, vars + 8, hi->na);
	if (hi->minor >= 34) {
		hi->lib.tcache_key = vars + 16;
		hi_poke(hi, vars + 16, hi->key);
	}
}

struct asc_target *hi_finish(struct heap_image *hi)
{
	const char *arch = hi->word == 8 ? (hi->be ? "be64" : "x86_64") : hi->be ? "be32" : "i386";

	must(asc_image_new(arch, &hi->t));
	make_maps(hi);
	for (size_t i = 0; i < hi->na; i++)
		write_arena(hi, i);
	write_mp(hi);
	make_threads(hi);
	make_libc(hi);
	return hi->t;
}

struct heap_image *hi_blank(const struct heap_image *hi)
{
	struct heap_image *copy = malloc(sizeof(*copy));
	const struct asc_maps *maps = asc_target_maps(hi->t);
	const struct asc_thread *th;
	size_t n;

	assert(copy);
	*copy = *hi;
	must(asc_image_new(asc_target_arch(hi->t)->name, &copy->t));
	for (size_t i = 0; i < maps->n; i++)
		must(asc_image_add(copy->t, &maps->v[i], NULL));
	th = asc_target_threads(hi->t, &n);
	for (size_t i = 0; i < n; i++)
		must(asc_image_add_thread(copy->t, &th[i]));
	return copy;
}

struct asc_target *hi_target(const struct heap_image *hi)
{
	return hi->t;
}

const struct asc_libc *hi_libc(const struct heap_image *hi)
{
	return &hi->lib;
}

struct asc_libc *hi_libc_mutable(struct heap_image *hi)
{
	return &hi->lib;
}

asc_addr hi_arena_addr(const struct heap_image *hi, size_t arena)
{
	return hi->a[arena].addr;
}

asc_addr hi_heap_addr(const struct heap_image *hi, size_t arena, size_t region)
{
	return hi->a[arena].r[region].base;
}

asc_addr hi_top(const struct heap_image *hi, size_t arena)
{
	return hi->a[arena].top;
}

asc_addr hi_region_end(const struct heap_image *hi, size_t arena, size_t region)
{
	return hi->a[arena].r[region].end;
}

asc_addr hi_tcache(const struct heap_image *hi, size_t thread)
{
	return hi->th[thread].tcache;
}

unsigned hi_word(const struct heap_image *hi)
{
	return hi->word;
}

uint64_t hi_minsize(const struct heap_image *hi)
{
	return hi->l.minsize;
}

uint64_t hi_align(const struct heap_image *hi)
{
	return hi->l.malloc_alignment;
}

uint64_t hi_size(const struct heap_image *hi, uint64_t n)
{
	uint64_t size = up(n, hi->l.malloc_alignment);

	return size < hi->l.minsize ? hi->l.minsize : size;
}
