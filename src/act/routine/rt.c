/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The routine that runs inside the target. Freestanding, position independent, one section of code
 * and nothing else: the build checks that it has no data and no relocations.
 *
 * The law: a page is released only between lock and unlock of its arena, in a range that was
 * computed from the arena's state after that lock was taken; this thread unlocks. It holds whether
 * the tool lives or not. After a slice the bin is taken up where it was left: at a chunk whose two
 * neighbours in the list still name it, under the new lock. malloc changes both when it takes a
 * chunk out, so nothing but a member of a list passes. If none of the last few chunks is one any
 * more, the bin is begun again from its head; one bit a page says what this call has released.
 *
 * A hold ends after a slice whether it released or walked. On a machine with more runnable threads
 * than CPUs that alone does not bound it: the kernel may take the CPU away meanwhile, and others
 * then wait for a thread that waits. So the tool may have raised this thread's priority; it is
 * lowered again here, at the end, tool or no tool.
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
	NR_SIGPROCMASK = 14,
	NO_SUCH_WAY = 1000,
	INVALID = -22,
	NR_MADVISE = 28,
	NR_FUTEX = 202,
	NR_CLOCK_GETTIME = 228,
	NR_SETPRIORITY = 141,
	MONOTONIC = 1,
	THREAD_CPU = 3,
	DONTFORK = 10,
	NR_PPOLL = 271,
	NR_PROCESS_MADVISE = 440,
	NR_FUTEX_WAITV = 449,
	FUTEX2_U32_PRIVATE = 130,
	TRY_AGAIN = -11,
	INTERRUPTED = -4,
	TIMED_OUT = -110,
	LOCK_NS = 2000000000,
	DONTNEED = 4,
	THIS_THREAD = -10000, /* PIDFD_SELF_THREAD */
	FUTEX_WAKE_PRIVATE = 129,
	NO_SYSTEM_CALL = -38,
	NAP_NS = 500000,
	NAPS = 8,
	LOOK = 64,  /* chunks from one look at the clock to the next */
	PLACES = 8, /* remembered, LOOK chunks apart */
	HEAPS = 16, /* remembered in one hold */
	HEAPS_MAX = 1 << 16,
	FRUITLESS = 32, /* begun anew so often without a new range: then without a limit */
	UNSORTED = 1,
	FIRST_LARGE = 64,
	LAST_LARGE = 126,
	WORD = 8,
	NONCONTIGUOUS = 2,
};
enum { IN_USE = 1, IS_MMAPPED = 2, FLAGS = 7 };
enum { FD = 2 * WORD, BK = 3 * WORD };
enum { PAGE_MASK = (1 << (ASC_RT_REGION_SHIFT - 12)) - 1 };

struct range {
	uint64_t lo, len;
};

/* One hold of one arena's lock. */
struct hold {
	uint64_t arena, mutex, system_mem, top, top_end;
	uint64_t heap[HEAPS], heap_end[HEAPS]; /* that were found good; in no order */
	uint64_t began;
	uint64_t bytes;
	uint64_t unmarked; /* a range without a page map: no slices */
	uint64_t n;
	struct range v[ASC_RT_BATCH];
};

/* Where in an arena the next hold goes on. */
struct place {
	uint64_t bin;		/* 0: top */
	uint64_t chunk[PLACES]; /* of that bin, the latest at last % PLACES; 0: none */
	uint64_t last;
	uint64_t steps;	    /* since the bin was begun at its head */
	uint64_t fruitless; /* begun at the head since the last new range */
	uint64_t ranges;    /* p->ranges at the end of the last hold */
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

static TEXT uint64_t clock(uint64_t id)
{
	uint64_t t[2] = { 0, 0 };

	call(NR_CLOCK_GETTIME, id, (uint64_t)t, 0, 0, 0);
	return t[0] * 1000000000u + t[1];
}

static uint64_t now(void)
{
	return clock(MONOTONIC);
}

static TEXT void nap(void)
{
	uint64_t t[2];

	t[0] = 0;
	t[1] = NAP_NS;
	call(NR_PPOLL, 0, 0, (uint64_t)t, 0, 0);
}

static uint64_t up(uint64_t v, uint64_t granule)
{
	return (v + granule - 1) & ~(granule - 1);
}

/* ---- the lock, exactly as lll_lock and lll_unlock do it ---- */

/*
 * Sleep while *mutex is 2, until @p end at most. futex_waitv, since its time is absolute: it needs no
 * restart block, unlike futex. Where it is missing or forbidden, a nap.
 */
static TEXT void wait_for(uint64_t mutex, uint64_t end)
{
	struct {
		uint64_t val, addr;
		uint32_t flags, reserved;
	} w;
	uint64_t at[2];
	long r;

	w.val = 2;
	w.addr = mutex;
	w.flags = FUTEX2_U32_PRIVATE;
	w.reserved = 0;
	at[0] = end / 1000000000u;
	at[1] = end % 1000000000u;
	r = call(NR_FUTEX_WAITV, (uint64_t)&w, 1, 0, (uint64_t)at, MONOTONIC);
	if (r < 0 && r != TRY_AGAIN && r != TIMED_OUT && r != INTERRUPTED)
		nap();
}

/*
 * @return 0: held by somebody for too long. This thread has better to do than to stand in a line for
 * good, and with the tool dead nobody could take it out.
 */
static TEXT int lock(volatile struct asc_rt_par *p, uint64_t mutex)
{
	int *m = (int *)mutex, zero = 0;
	uint64_t t, end;

	if (__atomic_compare_exchange_n(m, &zero, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		p->held = mutex;
		return 1;
	}
	t = now();
	end = t + LOCK_NS;
	p->waits_for = mutex;
	while (__atomic_exchange_n(m, 2, __ATOMIC_ACQUIRE) != 0) {
		if (now() >= end) {
			p->waits_for = 0;
			return 0;
		}
		wait_for(mutex, end);
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
	h->v[h->n].lo = lo;
	h->v[h->n++].len = hi - lo;
	h->bytes += hi - lo;
	return h->n >= p->batch || h->bytes >= p->piece ? flush(p, h) : 0;
}

/* Bytes from @p lo on that were released before: 64 pages at once where it can. */
static uint64_t skip_released(volatile struct asc_rt_par *p, const uint64_t *map, uint64_t lo)
{
	uint64_t bit = lo >> 12 & PAGE_MASK;

	if (p->granule == 1 << 12 && !(bit & 63) && map[bit >> 6] == ~(uint64_t)0)
		return 64 << 12;
	return p->granule;
}

/* Whole pages of [lo, hi) within one 64 MiB region that were not released yet. */
static TEXT int marked(volatile struct asc_rt_par *p, struct hold *h, uint64_t *map, uint64_t lo,
		       uint64_t hi)
{
	while (lo < hi) {
		uint64_t from = lo;

		while (lo < hi && lo - from < p->piece) {
			uint64_t bit = lo >> 12 & PAGE_MASK;

			if (map[bit >> 6] >> (bit & 63) & 1)
				break;
			map[bit >> 6] |= (uint64_t)1 << (bit & 63);
			lo += p->granule;
		}
		if (lo == from)
			lo += skip_released(p, map, lo);
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

/*
 * Can it be read? The kernel copies the set from there, and then refuses what is to be done with it.
 * mincore would ask for the lock of the address space, and whoever has that may wait for a CPU:
 * under an arena's lock nothing here does.
 */
static int mapped(volatile struct asc_rt_par *p, uint64_t addr)
{
	long r = call(NR_SIGPROCMASK, NO_SUCH_WAY, addr & ~(p->page - 1), 0, 8, 0);

	/* Where a filter forbids the question, the other checks have to do. */
	return r == INVALID || r == NO_SYSTEM_CALL || r == -1 || r == -13;
}

/* [addr, addr + len) lies in one heap of this arena. */
static TEXT int in_heap(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr, uint64_t len)
{
	uint64_t heap = addr & ~(p->heap_max - 1), size, end;
	/* as long as the lock is held, none of this arena's heaps can change or go */
	uint64_t i = heap / p->heap_max & (HEAPS - 1);

	if (heap != h->heap[i]) {
		if (!heap || !mapped(p, heap) || word(heap + p->o_ar_ptr) != h->arena)
			return 0;
		size = word(heap + p->o_heap_size);
		if (size < p->heap_header || size > p->heap_max)
			return 0;
		h->heap[i] = heap;
		h->heap_end[i] = heap + size;
	}
	end = h->heap_end[i];
	return addr >= heap + p->heap_header && addr < end && len <= end - addr;
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

/* @return its size, 0: not a free chunk of this arena that stands behind @p prev in a list */
static TEXT uint64_t free_chunk(volatile struct asc_rt_par *p, struct hold *h, uint64_t chunk,
				uint64_t prev)
{
	uint64_t field, size;

	if (!inside(p, h, chunk, p->min_size) || word(chunk + FD) != prev)
		return 0;
	field = word(chunk + WORD);
	size = field & ~(uint64_t)FLAGS;
	/* the next chunk's header is read as well */
	if (size < p->min_size || size & (2 * WORD - 1) || field & IS_MMAPPED ||
	    !inside(p, h, chunk, size + 2 * WORD))
		return 0;
	if (word(chunk + size) != size || word(chunk + size + WORD) & IN_USE)
		return 0;
	return size;
}

static void damage(volatile struct asc_rt_par *p, uint64_t at)
{
	p->damaged++;
	if (!p->damaged_at)
		p->damaged_at = at;
}

/* ---- one arena ---- */

/* A bin's header is placed as if it were a chunk: its links are bins[2 * (bin - 1)] and the next. */
static uint64_t header(volatile struct asc_rt_par *p, struct hold *h, uint64_t bin)
{
	return h->arena + p->o_bins + (bin - 1) * 2 * WORD - 2 * WORD;
}

static int is_header(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr)
{
	return addr >= header(p, h, UNSORTED) && addr <= header(p, h, LAST_LARGE);
}

/*
 * In a heap of this arena, by the list of its heaps: what is not from a list of free chunks may
 * point into a mapping that another thread just removes, and must not be looked at.
 */
static TEXT int own_heap(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr)
{
	uint64_t want = addr & ~(p->heap_max - 1), heap = h->top & ~(p->heap_max - 1);

	for (uint64_t i = 0; heap && i < HEAPS_MAX; i++) {
		if (heap & (p->heap_max - 1) || !in_heap(p, h, heap + p->heap_header, 2 * WORD))
			return 0;
		if (heap == want)
			return 1;
		heap = word(heap + p->o_prev);
	}
	return 0;
}

static int is_ours(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr)
{
	if (h->arena == p->main_arena) {
		if (word(h->arena + p->o_flags) & NONCONTIGUOUS || !p->sbrk_base)
			return 0;
	} else if (!own_heap(p, h, addr)) {
		return 0;
	}
	return inside(p, h, addr, p->min_size);
}

static int is_link(volatile struct asc_rt_par *p, struct hold *h, uint64_t addr)
{
	return is_header(p, h, addr) || is_ours(p, h, addr);
}

/* The latest remembered chunk that is a member of a list still. @return 0: none is */
static TEXT uint64_t resume(volatile struct asc_rt_par *p, struct hold *h, struct place *at)
{
	for (uint64_t i = 0; i < PLACES && i < at->last; i++) {
		uint64_t c = at->chunk[(at->last - 1 - i) % PLACES], prev, next;

		if (!is_ours(p, h, c))
			continue;
		prev = word(c + FD);
		next = word(c + BK);
		if (!is_link(p, h, prev) || !is_link(p, h, next) || word(prev + BK) != c ||
		    word(next + FD) != c || !free_chunk(p, h, c, prev))
			continue;
		at->last -= i;
		return c;
	}
	return 0;
}

static void remember(struct place *at, uint64_t chunk)
{
	at->chunk[at->last++ % PLACES] = chunk;
}

static int over(volatile struct asc_rt_par *p, struct hold *h)
{
	return p->table && !h->unmarked && now() - h->began > p->slice_ns;
}

/* @return 1: the slice is over */
static TEXT int walk_bin(volatile struct asc_rt_par *p, struct hold *h, struct place *at)
{
	uint64_t head = header(p, h, at->bin), prev, chunk = resume(p, h, at);
	int resumed = chunk != 0, limited = 1;

	if (resumed) {
		prev = word(chunk + FD);
	} else {
		limited = at->fruitless++ < FRUITLESS;
		at->last = at->steps = 0;
		prev = head;
		chunk = word(head + BK);
	}
	if (!chunk) /* an arena that was never used */
		return 0;
	/* backwards (bk), the order in which the links behind are known */
	for (uint64_t n = 1; chunk != head; n++) {
		uint64_t size;

		/* Begun at a chunk that is in another bin by now, or in a circle that was made and that
		 * nothing but such a chunk leads to: the next hold begins at the head. */
		if (resumed &&
		    (is_header(p, h, chunk) || at->steps++ > h->system_mem / p->min_size)) {
			at->last = 0;
			flush(p, h);
			return 1;
		}
		size = free_chunk(p, h, chunk, prev);
		if (!size) {
			damage(p, chunk);
			return 0;
		}
		p->walked++;
		if (up(chunk + p->chunk_struct, p->granule) <
			    ((chunk + size) & ~(p->granule - 1)) &&
		    release(p, h, chunk + p->chunk_struct, chunk + size)) {
			remember(at, chunk);
			return 1;
		}
		if (n % LOOK == 0) {
			remember(at, chunk);
			if (limited && over(p, h)) {
				flush(p, h);
				return 1;
			}
		}
		prev = chunk;
		chunk = word(chunk + BK);
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
	    (h->arena != p->main_arena && !in_heap(p, h, h->top, size)))
		goto bad;
	h->top_end = h->top + size;
	return 1;
bad:
	damage(p, h->top);
	return 0;
}

static void begin_bin(struct place *at, uint64_t bin)
{
	at->bin = bin;
	at->last = at->steps = at->fruitless = 0;
}

/* One hold, going on where the last one ended. @return 1: there is more to do */
static TEXT int one_hold(volatile struct asc_rt_par *p, struct hold *h, struct place *at)
{
	if (!look_at_top(p, h))
		return 0;
	if (at->bin == 0) {
		if (release(p, h, h->top + p->chunk_struct, h->top_end))
			return 1;
		begin_bin(at, UNSORTED);
	}
	while (at->bin <= LAST_LARGE) {
		if (walk_bin(p, h, at))
			return 1;
		begin_bin(at, at->bin == UNSORTED ? FIRST_LARGE : at->bin + 1);
	}
	flush(p, h);
	return 0;
}

/* Let the woken one have it: on a busy machine it takes a while to come. */
static TEXT void let_others(uint64_t mutex)
{
	for (int i = 0; i < NAPS; i++) {
		nap();
		if (__atomic_load_n((int *)mutex, __ATOMIC_RELAXED))
			return;
	}
}

static TEXT void one_arena(volatile struct asc_rt_par *p, uint64_t arena)
{
	uint64_t mutex = arena + p->o_mutex;
	struct place at;
	int more = 1;

	begin_bin(&at, 0);
	at.ranges = p->ranges;
	while (more && !p->stop) {
		struct hold h;
		uint64_t t, cpu;

		h.arena = arena;
		h.bytes = h.unmarked = h.n = 0;
		for (int i = 0; i < HEAPS; i++)
			h.heap[i] = 0;
		if (!lock(p, mutex)) {
			p->skipped++;
			if (!p->skipped_at)
				p->skipped_at = arena;
			return;
		}
		h.began = now();
		cpu = clock(THREAD_CPU);
		more = one_hold(p, &h, &at);
		cpu = clock(THREAD_CPU) - cpu;
		t = now() - h.began;
		p->holds++;
		if (t > p->max_hold_ns)
			p->max_hold_ns = t;
		if (cpu > p->max_hold_cpu_ns)
			p->max_hold_cpu_ns = cpu;
		if (p->ranges != at.ranges)
			at.fruitless = 0;
		at.ranges = p->ranges;
		if (unlock(p) && more)
			let_others(mutex);
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

static TEXT void all_arenas(volatile struct asc_rt_par *p)
{
	uint64_t arena = p->first;

	for (uint64_t i = 0; i < ASC_RT_RING_MAX; i++) {
		if (!is_arena(p, arena)) {
			damage(p, arena);
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

__attribute__((__used__)) void routine_reclaim(volatile struct asc_rt_par *p);
__attribute__((__used__)) void routine_unlock(volatile struct asc_rt_par *p);

void routine_reclaim(volatile struct asc_rt_par *p)
{
	/* nothing runs in it in a child */
	call(NR_MADVISE, p->map, p->map_len, DONTFORK, 0, 0);
	all_arenas(p);
	if (p->raised)
		call(NR_SETPRIORITY, 0, 0, p->nice, 0, 0);
}

/* After a crash of the other: leave no lock behind. */
void routine_unlock(volatile struct asc_rt_par *p)
{
	unlock(p);
}
