/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * main_arena and mp_ in a stripped libc, from the file alone.
 *
 * main_arena is statically `.next = &main_arena`: the only object of libc with a relocation that
 * points back into its own object. The distance is the offset of `next`, which tells the shape. mp_
 * begins with three equal thresholds; its other defaults check the shape member by member, so a
 * release with shifted members is refused.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "glibc/scan.h"

enum { SEGMENT_MAX = 64 << 20, HITS_MAX = 64 };

struct hit {
	uint64_t arena, distance; /* ELF address; offset of next */
};

struct search {
	const struct asc_arch *arch;
	struct asc_elf *e;
	uint64_t distances[32];
	size_t ndistances;
	ASC_VEC(struct hit) hits;
};

static uint64_t word_of(const struct asc_arch *arch, const uint8_t *p)
{
	return arch->word_size == 8 ? asc_load_u64(p) : asc_load_u32(p);
}

static void collect_distances(struct search *s)
{
	unsigned first, last;
	struct asc_layout l;

	for (size_t i = 0; asc_layout_row(s->arch, i, &l, &first, &last); i++) {
		uint64_t d = l.malloc_state_next.off;
		bool have = false;

		for (size_t k = 0; k < s->ndistances; k++)
			have |= s->distances[k] == d;
		if (!have && s->ndistances < ASC_ARRAY_SIZE(s->distances))
			s->distances[s->ndistances++] = d;
	}
}

/* From the start of the object to `next` all is zero in a file. */
static bool blank(struct search *s, uint64_t addr, uint64_t len)
{
	ASC_AUTO(asc_freep) uint8_t *buf = malloc(len);

	if (!buf || asc_elf_read(s->e, addr, buf, len) != len)
		return false;
	for (uint64_t i = 0; i < len; i++)
		if (buf[i])
			return false;
	return true;
}

static void consider(struct search *s, uint64_t at, uint64_t to)
{
	uint64_t next_free, attached, w = s->arch->word_size;
	struct asc_error *err;

	for (size_t i = 0; i < s->ndistances; i++) {
		struct hit h = { .arena = to, .distance = s->distances[i] };

		if (at - to != h.distance || to % w || s->hits.len >= HITS_MAX)
			continue;
		if (!s->e->relocated &&
		    (!blank(s, to, h.distance) || !asc_elf_word(s->e, at + w, &next_free) ||
		     !asc_elf_word(s->e, at + 2 * w, &attached) || next_free || attached > 1))
			continue;
		err = asc_vec_push(&s->hits, h);
		asc_error_free(err);
	}
}

static bool on_reloc(void *arg, const struct asc_reloc *r)
{
	struct search *s = arg;
	uint64_t to = r->addend;

	if (r->type != s->arch->reloc_relative)
		return true;
	if (!r->has_addend && (s->e->relocated || !asc_elf_word(s->e, r->offset, &to)))
		return true;
	if (to < r->offset)
		consider(s, r->offset, to);
	return true;
}

/* One writable segment of the file. @p fn sees all of it. */
static bool each_data(struct asc_elf *e,
		      bool (*fn)(void *arg, uint64_t vaddr, const uint8_t *p, size_t len),
		      void *arg)
{
	for (size_t i = 0; i < e->nph; i++) {
		const GElf_Phdr *p = &e->ph[i];
		ASC_AUTO(asc_freep) uint8_t *buf = NULL;
		size_t got;

		if (p->p_type != PT_LOAD || !(p->p_flags & PF_W) || p->p_filesz > SEGMENT_MAX)
			continue;
		buf = malloc(p->p_filesz ? p->p_filesz : 1);
		if (!buf)
			return false;
		got = asc_elf_read(e, p->p_vaddr, buf, p->p_filesz);
		if (!fn(arg, p->p_vaddr, buf, got))
			return false;
	}
	return true;
}

/* An executable at a fixed address needs no relocations: the words are there. */
static bool raw_words(void *arg, uint64_t vaddr, const uint8_t *p, size_t len)
{
	struct search *s = arg;
	size_t w = s->arch->word_size;

	for (size_t i = 0; i + w <= len; i += w) {
		uint64_t to = word_of(s->arch, p + i);

		if (to && to < vaddr + i && vaddr + i - to < 65536)
			consider(s, vaddr + i, to);
	}
	return true;
}

struct par_search {
	const struct asc_arch *arch;
	ASC_VEC(uint64_t) hits;
};

/* Thresholds and top_pad of 128 KiB, arena_test 8 (2 with 32 bits), arena_max 0. */
static bool par_words(void *arg, uint64_t vaddr, const uint8_t *p, size_t len)
{
	struct par_search *s = arg;
	size_t w = s->arch->word_size;
	uint64_t test = w == 8 ? 8 : 2;
	struct asc_error *err;

	for (size_t i = 0; i + 5 * w <= len; i += w) {
		if (word_of(s->arch, p + i) != 0x20000 || word_of(s->arch, p + i + w) != 0x20000 ||
		    word_of(s->arch, p + i + 2 * w) != 0x20000 ||
		    word_of(s->arch, p + i + 3 * w) != test || word_of(s->arch, p + i + 4 * w))
			continue;
		err = asc_vec_push(&s->hits, vaddr + i);
		asc_error_free(err);
	}
	return true;
}

/* Every member of mp_ has its default in the file, and every byte belongs to a member. */
static bool par_fits(struct asc_elf *e, uint64_t mp, const struct asc_layout *l)
{
	uint8_t want[512] = { 0 }, got[512];
	size_t size = (size_t)l->sizeof_malloc_par;
	uint64_t count;

	if (size > sizeof(got) || asc_elf_read(e, mp, got, size) != size)
		return false;
#define PUT(member, value)                                                                         \
	do {                                                                                       \
		uint64_t v_ = (value);                                                             \
		if (l->malloc_par_##member.present)                                                \
			memcpy(want + l->malloc_par_##member.off, &v_,                             \
			       l->malloc_par_##member.size);                                       \
	} while (0)
	PUT(trim_threshold, 0x20000);
	PUT(top_pad, 0x20000);
	PUT(mmap_threshold, 0x20000);
	PUT(arena_test, l->word == 8 ? 8 : 2);
	PUT(n_mmaps_max, 65536);
	PUT(tcache_bins, 64);
	PUT(tcache_small_bins, 64);
#undef PUT
	/* what releases and builds may set otherwise */
#define SKIP(member)                                                                               \
	if (l->malloc_par_##member.present)                                                        \
	memcpy(want + l->malloc_par_##member.off, got + l->malloc_par_##member.off,                \
	       l->malloc_par_##member.size)
	SKIP(tcache_max_bytes);
	SKIP(tcache_count);
	SKIP(thp_mode);
	SKIP(thp_pagesize);
#undef SKIP
	if (l->malloc_par_tcache_count.present) {
		count = l->word == 8 ? asc_load_u64(got + l->malloc_par_tcache_count.off)
				     : asc_load_u32(got + l->malloc_par_tcache_count.off);
		if (count != 7 && count != 16)
			return false;
		count = l->word == 8 ? asc_load_u64(got + l->malloc_par_tcache_max_bytes.off)
				     : asc_load_u32(got + l->malloc_par_tcache_max_bytes.off);
		if (count < 256 || count > 4096)
			return false;
	}
	return !memcmp(want, got, size);
}

/* The layouts that agree with both places; with a known version only that version's. */
static bool choose(struct asc_target *t, struct asc_elf *e, struct asc_libc *lib,
		   const struct hit *h, uint64_t mp)
{
	unsigned first, last;
	bool found = false, known;
	struct asc_layout l;

	known = asc_layout_known(lib->minor) != 0;
	for (size_t i = 0; asc_layout_row(asc_target_arch(t), i, &l, &first, &last); i++) {
		if (l.malloc_state_next.off != h->distance)
			continue;
		if (known && (lib->minor < first || lib->minor > last))
			continue;
		if (!e->relocated && !par_fits(e, mp, &l))
			continue;
		/* several fit where only the tcache differs: the newest, refined by the TLS scan */
		lib->layout = l;
		lib->layout.from = known ? ASC_FROM_TABLE : ASC_FROM_SCAN;
		asc_layout_traits(&lib->layout, asc_target_arch(t), known ? lib->minor : last);
		found = true;
	}
	return found;
}

static struct asc_error *too_many(const char *what, size_t n)
{
	if (!n)
		return asc_err(ASC_ENOSYM, "%s was not found in the file", what);
	return asc_err(ASC_ENOSYM, "%zu places in the file could be %s", n, what);
}

struct asc_error *asc_scan_file(struct asc_modules *m, struct asc_target *t, struct asc_elf *e,
				struct asc_libc *lib)
{
	struct search s = { .arch = asc_target_arch(t), .e = e };
	struct par_search p = { .arch = asc_target_arch(t) };
	struct asc_error *err = NULL;
	struct asc_dyn d;

	(void)m;
	if (s.arch->big_endian)
		return asc_err(ASC_ENOSYM, "big-endian files are not scanned");
	collect_distances(&s);
	if (asc_elf_dyn(e, &d))
		asc_elf_relocs(e, &d, false, s.arch->reloc_relative, on_reloc, &s);
	if (!s.hits.len && e->eh.e_type == ET_EXEC)
		each_data(e, raw_words, &s);
	each_data(e, par_words, &p);
	if (s.hits.len != 1) {
		err = too_many("main_arena", s.hits.len);
	} else if (p.hits.len != 1) {
		err = too_many("mp_", p.hits.len);
	} else if (!choose(t, e, lib, &s.hits.data[0], p.hits.data[0])) {
		err = asc_err(ASC_ENOSYM,
			      "main_arena at 0x%" PRIx64 " (next at %" PRIu64
			      ") and mp_ at 0x%" PRIx64 " have the shape of no known release%s%s",
			      s.hits.data[0].arena, s.hits.data[0].distance, p.hits.data[0],
			      lib->version[0] ? ": this is " : "", lib->version);
	} else {
		lib->main_arena = s.hits.data[0].arena + lib->module->bias;
		lib->mp = p.hits.data[0] + lib->module->bias;
		lib->shape_in_file = !e->relocated;
		asc_libc_fact(lib, "main_arena", "self-pointer in the file", lib->main_arena);
		asc_libc_fact(lib, "mp_", "its defaults in the file", lib->mp);
	}
	asc_vec_free(&s.hits);
	asc_vec_free(&p.hits);
	return err;
}
