/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The routine that runs inside the target. Freestanding, position independent, one section of code
 * and nothing else: the build checks that it has no data and no relocations.
 *
 * The law: a page is released only between lock and unlock of its arena, in a range that was
 * computed from the arena's state after that lock was taken; this thread unlocks. It holds whether
 * the tool lives or not. No list position outlives an unlock: after a slice the bin is begun again
 * from its head, and one bit a page says what this call has released already.
 *
 * Nothing is believed: an address is followed only if it lies in the arena's own memory, and a
 * range is released only if the chunk's size stands at its end as well.
 *
 * System calls: none that would replace the borrowed thread's restart block (nanosleep, a futex
 * with a timeout), or its own interrupted sleep would end with EINTR.
 */
#include "par.h"

#define TEXT __attribute__((__noinline__))

__asm__(".section .text.entry,\"ax\",@progbits\n"
	"	jmp routine_reclaim\n"
	"	.balign 16, 0xcc\n"
	"	jmp routine_unlock\n"
	"	.balign 16, 0xcc\n"
	"	.previous\n");

enum {
	NR_MINCORE = 27,
	NR_MADVISE = 28,
	NR_FUTEX = 202,
	NR_CLOCK_GETTIME = 228,
	NR_PPOLL = 271,
	NR_PROCESS_MADVISE = 440,
	DONTNEED = 4,
	THIS_THREAD = -10000, /* PIDFD_SELF_THREAD */
	FUTEX_WAIT_PRIVATE = 128,
	FUTEX_WAKE_PRIVATE = 129,
	NO_MEMORY = -12,
	NO_SYSTEM_CALL = -38,
	NAP_NS = 500000,
	NAPS = 8,
	UNSORTED = 1,
	FIRST_LARGE = 64,
	LAST_LARGE = 126,
	WORD = 8,
	NONCONTIGUOUS = 2,
};
enum { IN_USE = 1, IS_MMAPPED = 2, FLAGS = 7 };

struct range {
	uint64_t lo, len;
};

/* One hold of one arena's lock. */
struct hold {
	uint64_t arena, mutex, system_mem, top, top_end;
	uint64_t heap, heap_end; /* the heap that was looked at last */
	uint64_t began;		 /* 0: nothing new yet */
	uint64_t bytes;
	uint64_t unmarked; /* a range without a page map: no slices */
	uint64_t n;
	struct range v[ASC_RT_BATCH];
};

static long call(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

static uint64_t word(uint64_t addr)
{
	return *(volatile uint64_t *)addr;
}

static uint64_t now(void)
{
	uint64_t t[2] = { 0, 0 };

	call(NR_CLOCK_GETTIME, 1, (uint64_t)t, 0, 0, 0);
	return t[0] * 1000000000u + t[1];
}

static uint64_t up(uint64_t v, uint64_t granule)
{
	return (v + granule - 1) & ~(granule - 1);
}

/* ---- the lock, exactly as lll_lock and lll_unlock do it ---- */

static TEXT int lock(volatile struct asc_rt_par *p, uint64_t mutex)
{
	int *m = (int *)mutex, zero = 0;
	uint64_t t;

	if (__atomic_compare_exchange_n(m, &zero, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		p->held = mutex;
		return 1;
	}
	t = now();
	p->waits_for = mutex;
	while (__atomic_exchange_n(m, 2, __ATOMIC_ACQUIRE) != 0) {
		if (p->give_up) {
			p->give_up = p->waits_for = 0;
			return 0;
		}
		call(NR_FUTEX, mutex, FUTEX_WAIT_PRIVATE, 2, 0, 0);
	}
	p->held = mutex;
	p->waits_for = 0;
	t = now() - t;
	if (t > p->max_wait_ns)
		p->max_wait_ns = t;
	return 1;
}

/* @return 1: somebody waited */
static TEXT int unlock(volatile struct asc_rt_par *p)
{
	int *m = (int *)p->held;

	p->held = 0;
	if (!m || __atomic_exchange_n(m, 0, __ATOMIC_RELEASE) <= 1)
		return 0;
	call(NR_FUTEX, (uint64_t)m, FUTEX_WAKE_PRIVATE, 1, 0, 0);
	return 1;
}

/* ---- releasing ---- */

static uint64_t one_by_one(volatile struct asc_rt_par *p, struct hold *h, uint64_t i)
{
	uint64_t errors = 0;

	for (; i < h->n; i++) {
		long r = call(NR_MADVISE, h->v[i].lo, h->v[i].len, DONTNEED, 0, 0);

		if (r == 0) {
			p->bytes += h->v[i].len;
			continue;
		}
		errors++;
		if (!p->first_errno)
			p->first_errno = (uint64_t)-r;
	}
	p->errors += errors;
	return errors;
}

/* Where others hold the address space's lock, or every CPU is busy, each range may take long. */
static void adapt(volatile struct asc_rt_par *p, uint64_t took)
{
	if (took > p->slice_ns && p->batch > ASC_RT_BATCH_MIN)
		p->batch >>= 1;
	else if (took < p->slice_ns >> 3 && p->batch < ASC_RT_BATCH)
		p->batch <<= 1;
}

/* Release what was gathered, under the lock. @return 1: the slice is over */
static TEXT int flush(volatile struct asc_rt_par *p, struct hold *h)
{
	uint64_t i = 0, began, ended;

	if (!h->n)
		return 0;
	began = now();
	if (p->no_batch || h->n == 1) {
		one_by_one(p, h, 0);
	} else {
		long r = call(NR_PROCESS_MADVISE, (uint64_t)(long)THIS_THREAD, (uint64_t)h->v, h->n,
			      DONTNEED, 0);
		uint64_t did = r > 0 ? (uint64_t)r : 0;

		for (; i < h->n && did >= h->v[i].len; i++) {
			did -= h->v[i].len;
			p->bytes += h->v[i].len;
		}
		/* Each of them works alone: so it is the batch that does not work here. */
		if (i < h->n && !one_by_one(p, h, i) && r < 0)
			p->no_batch = 1;
	}
	p->ranges += h->n;
	h->n = h->bytes = 0;
	ended = now();
	adapt(p, ended - began);
	return p->table && !h->unmarked && ended - h->began > p->slice_ns;
}

/* The page map of the 64 MiB around @p addr; 0: no room for one. */
static TEXT uint64_t *page_map(volatile struct asc_rt_par *p, uint64_t addr)
{
	uint64_t key = (addr >> ASC_RT_REGION_SHIFT) + 1, hash = key * 0x9e3779b97f4a7c15u >> 32;
	uint64_t *keys = (uint64_t *)p->table;

	for (uint64_t i = 0; keys && i < p->slots; i++) {
		uint64_t s = (hash + i) & (p->slots - 1);

		if (!keys[s])
			keys[s] = key;
		if (keys[s] == key)
			return (uint64_t *)(p->table + p->slots * WORD + s * ASC_RT_MAP_BYTES);
	}
	return 0;
}

static int add(volatile struct asc_rt_par *p, struct hold *h, uint64_t lo, uint64_t hi)
{
	/* The slice begins with the first new range: every hold gets on. */
	if (!h->began)
		h->began = now();
	h->v[h->n].lo = lo;
	h->v[h->n++].len = hi - lo;
	h->bytes += hi - lo;
	return h->n >= p->batch || h->bytes >= p->piece ? flush(p, h) : 0;
}

/* Whole pages of [lo, hi) within one 64 MiB region that were not released yet. */
static TEXT int marked(volatile struct asc_rt_par *p, struct hold *h, uint64_t *map, uint64_t lo,
		       uint64_t hi)
{
	const uint64_t page_mask = ((uint64_t)1 << (ASC_RT_REGION_SHIFT - 12)) - 1;

	while (lo < hi) {
		uint64_t from = lo;

		while (lo < hi && lo - from < p->piece) {
			uint64_t bit = lo >> 12 & page_mask;

			if (map[bit >> 6] >> (bit & 63) & 1)
				break;
			map[bit >> 6] |= (uint64_t)1 << (bit & 63);
			lo += p->granule;
		}
		if (lo == from)
			lo += p->granule;
		else if (add(p, h, from, lo))
			return 1;
	}
	return 0;
}

static TEXT int plain(volatile struct asc_rt_par *p, struct hold *h, uint64_t lo, uint64_t hi)
{
	while (lo < hi) {
		uint64_t end = ((lo >> ASC_RT_REGION_SHIFT) + 1) << ASC_RT_REGION_SHIFT;
		uint64_t *map = page_map(p, lo);

		if (end > hi)
			end = hi;
		if (map) {
			if (marked(p, h, map, lo, end))
				return 1;
		} else {
			h->unmarked = 1;
			if (end - lo > p->piece)
				end = lo + p->piece;
			if (add(p, h, lo, end))
				return 1;
		}
		lo = end;
	}
	return 0;
}

/* Whole pages of [lo, hi) but those of the ranges to skip. @return 1: the slice is over */
static TEXT int release(volatile struct asc_rt_par *p, struct hold *h, uint64_t lo, uint64_t hi)
{
	const struct asc_rt_skip *skip = (const struct asc_rt_skip *)p->skips;

	lo = up(lo, p->granule);
	hi &= ~(p->granule - 1);
	for (uint64_t i = 0; i < p->nskips && lo < hi; i++) {
		if (skip[i].hi <= lo || skip[i].lo >= hi)
			continue;
		if (skip[i].lo > lo && plain(p, h, lo, skip[i].lo & ~(p->granule - 1)))
			return 1;
		lo = up(skip[i].hi, p->granule);
	}
	return lo < hi ? plain(p, h, lo, hi) : 0;
}

/* ---- what may be followed ---- */

static int mapped(volatile struct asc_rt_par *p, uint64_t addr)
{
	unsigned char vec[8];
	long r = call(NR_MINCORE, addr & ~(p->page - 1), p->page, (uint64_t)vec, 0, 0);

	/* Where a filter forbids the question, the other checks have to do. */
	return r != NO_MEMORY && (r == 0 || r == NO_SYSTEM_CALL || r == -1 || r == -13);
}

/* [addr, addr + len) lies in one heap of this arena. */
static TEXT int in_heap(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr, uint64_t len)
{
	uint64_t heap = addr & ~(p->heap_max - 1), size;

	if (heap != h->heap) {
		if (!heap || !mapped(p, heap) || word(heap + p->o_ar_ptr) != h->arena)
			return 0;
		size = word(heap + p->o_heap_size);
		if (size < p->heap_header || size > p->heap_max)
			return 0;
		h->heap = heap;
		h->heap_end = heap + size;
	}
	return addr >= heap + p->heap_header && addr < h->heap_end && len <= h->heap_end - addr;
}

static TEXT int in_main(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr, uint64_t len)
{
	if (!(word(h->arena + p->o_flags) & NONCONTIGUOUS) && p->sbrk_base)
		return addr >= p->sbrk_base && addr < h->top_end && len <= h->top_end - addr;
	return len < ((uint64_t)1 << 47) && mapped(p, addr) && mapped(p, addr + len - 1);
}

static int inside(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr, uint64_t len)
{
	if (addr & (2 * WORD - 1) || len > h->system_mem)
		return 0;
	return h->arena == p->main_arena ? in_main(p, h, addr, len) : in_heap(p, h, addr, len);
}

/* @return its size, 0: not a free chunk of this arena */
static TEXT uint64_t free_chunk(volatile struct asc_rt_par *p, struct hold *h, uint64_t chunk,
				uint64_t prev)
{
	uint64_t field, size;

	if (!inside(p, h, chunk, p->min_size) || word(chunk + 3 * WORD - WORD) != prev)
		goto bad;
	field = word(chunk + WORD);
	size = field & ~(uint64_t)FLAGS;
	/* the next chunk's header is read as well */
	if (size < p->min_size || size & (2 * WORD - 1) || field & IS_MMAPPED ||
	    !inside(p, h, chunk, size + 2 * WORD))
		goto bad;
	if (word(chunk + size) != size || word(chunk + size + WORD) & IN_USE)
		goto bad;
	return size;
bad:
	p->damaged++;
	if (!p->damaged_at)
		p->damaged_at = chunk;
	return 0;
}

/* ---- one arena ---- */

/* @return 1: the slice is over */
static TEXT int walk_bin(volatile struct asc_rt_par *p, struct hold *h, uint64_t bin)
{
	/* a bin's header is placed as if it were a chunk: its links are bins[2 * (i - 1)] and the
	 * next */
	uint64_t head = h->arena + p->o_bins + (bin - 1) * 2 * WORD - 2 * WORD;
	uint64_t prev = head, chunk = word(head + 3 * WORD);

	if (!chunk) /* an arena that was never used */
		return 0;
	/* backwards (bk), the order in which the links behind are known */
	while (chunk != head) {
		uint64_t size = free_chunk(p, h, chunk, prev);

		if (!size)
			return 0;
		p->walked++;
		if (up(chunk + p->chunk_struct, p->granule) <
			    ((chunk + size) & ~(p->granule - 1)) &&
		    release(p, h, chunk + p->chunk_struct, chunk + size))
			return 1;
		prev = chunk;
		chunk = word(chunk + 3 * WORD);
	}
	return 0;
}

/* Look at top, which bounds everything else. @return 0: this arena has none */
static TEXT int look_at_top(volatile struct asc_rt_par *p, struct hold *h)
{
	uint64_t size;

	h->system_mem = word(h->arena + p->o_system_mem);
	h->top = word(h->arena + p->o_top);
	h->top_end = 0;
	/* not yet used, or the initial top inside the arena itself */
	if (!h->top || (h->top >= h->arena && h->top < h->arena + p->o_bins))
		return 0;
	if (h->top & (2 * WORD - 1) ||
	    (h->arena == p->main_arena ? !mapped(p, h->top) : !in_heap(p, h, h->top, 2 * WORD)))
		goto bad;
	size = word(h->top + WORD) & ~(uint64_t)FLAGS;
	if (size > h->system_mem || h->top + size < h->top ||
	    (h->arena != p->main_arena && h->top + size > h->heap_end))
		goto bad;
	h->top_end = h->top + size;
	return 1;
bad:
	p->damaged++;
	if (!p->damaged_at)
		p->damaged_at = h->top;
	return 0;
}

/* One hold, going on with bin *bin from its head (0: top). @return 1: there is more to do */
static TEXT int one_hold(volatile struct asc_rt_par *p, struct hold *h, uint64_t *bin)
{
	if (!look_at_top(p, h))
		return 0;
	if (*bin == 0) {
		if (release(p, h, h->top + p->chunk_struct, h->top_end))
			return 1;
		*bin = UNSORTED;
	}
	for (; *bin <= LAST_LARGE; *bin = *bin == UNSORTED ? FIRST_LARGE : *bin + 1) {
		if (walk_bin(p, h, *bin))
			return 1;
	}
	flush(p, h);
	return 0;
}

static TEXT void one_arena(volatile struct asc_rt_par *p, uint64_t arena)
{
	uint64_t bin = 0, mutex = arena + p->o_mutex;
	int more = 1;

	while (more && !p->stop) {
		struct hold h;
		uint64_t t;

		h.arena = arena;
		h.heap = h.heap_end = h.began = h.bytes = h.unmarked = h.n = 0;
		if (!lock(p, mutex)) {
			p->skipped++;
			return;
		}
		t = now();
		more = one_hold(p, &h, &bin);
		t = now() - t;
		p->holds++;
		if (t > p->max_hold_ns)
			p->max_hold_ns = t;
		if (unlock(p) && more) {
			/* let the woken one have it: on a busy machine it takes a while to come */
			uint64_t nap[2] = { 0, NAP_NS };

			for (int i = 0; i < NAPS; i++) {
				call(NR_PPOLL, 0, 0, (uint64_t)nap, 0, 0);
				if (__atomic_load_n((int *)mutex, __ATOMIC_RELAXED))
					break;
				nap[0] = 0;
				nap[1] = NAP_NS;
			}
		}
	}
	p->arenas++;
}

/* An arena that is not main lies behind the heap_info of its first heap. */
static int is_arena(volatile struct asc_rt_par *p, uint64_t arena)
{
	uint64_t heap = arena & ~(p->heap_max - 1);

	if (arena == p->main_arena)
		return 1;
	return !(arena & (2 * WORD - 1)) && arena == heap + p->heap_header && mapped(p, heap) &&
	       word(heap + p->o_ar_ptr) == arena;
}

__attribute__((__used__)) void routine_reclaim(volatile struct asc_rt_par *p);
__attribute__((__used__)) void routine_unlock(volatile struct asc_rt_par *p);

void routine_reclaim(volatile struct asc_rt_par *p)
{
	uint64_t arena = p->first;

	for (uint64_t i = 0; i < ASC_RT_RING_MAX; i++) {
		if (!is_arena(p, arena)) {
			p->damaged++;
			p->damaged_at = arena;
			return;
		}
		one_arena(p, arena);
		if (p->stop)
			return;
		arena = word(arena + p->o_next);
		if (p->only || arena == p->first) {
			p->done = 1;
			return;
		}
	}
}

/* After a crash of the other: leave no lock behind. */
void routine_unlock(volatile struct asc_rt_par *p)
{
	unlock(p);
}
