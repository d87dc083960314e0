/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Cores in which no ELF header is left: a narrow coredump filter, an emulator, an old kernel. The
 * dynamic linker's own list is in writable memory, which every core has. It says where each library
 * was loaded and what it was called; which file that is, the user has to say (--root, --libc,
 * --exe), because without its first page nothing can be checked by build-id.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/priv.h"

enum {
	WINDOW_MAX = 1 << 20, /* ld.so's data is a few pages */
	TOTAL_MAX = 64 << 20,
	LINK_WORDS = 5, /* l_addr, l_name, l_ld, l_next, l_prev */
};

static bool link_at(struct asc_modules *m, asc_addr at, uint64_t v[static LINK_WORDS])
{
	size_t w = asc_target_arch(m->t)->word_size;
	uint8_t buf[LINK_WORDS * 8];

	if (!at || at % w || asc_read_some(m->t, at, buf, LINK_WORDS * w) != LINK_WORDS * w)
		return false;
	for (size_t i = 0; i < LINK_WORDS; i++)
		v[i] = asc_word_at(m->t, buf + i * w);
	return true;
}

static bool mapped(const struct asc_modules *m, asc_addr addr)
{
	return asc_maps_find(asc_target_maps(m->t), addr) != NULL;
}

/* Two entries that point at each other, the first one without a predecessor. */
static bool is_list(struct asc_modules *m, asc_addr first)
{
	uint64_t a[LINK_WORDS], b[LINK_WORDS];

	return link_at(m, first, a) && !a[4] && a[3] && a[2] && mapped(m, a[2]) &&
	       link_at(m, a[3], b) && b[4] == first && b[2] && mapped(m, b[2]);
}

/* struct r_debug: version, list, where ld.so stops for debuggers, state 0, ld.so's address. */
static asc_addr find_in(struct asc_modules *m, asc_addr start, const uint8_t *p, size_t len)
{
	size_t w = asc_target_arch(m->t)->word_size;

	for (size_t i = 0; i + 5 * w <= len; i += w) {
		uint64_t version = asc_uint_at(m->t, p + i, 4);
		asc_addr list = asc_word_at(m->t, p + i + w),
			 brk = asc_word_at(m->t, p + i + 2 * w);

		if (!version || version > 2 || (w == 8 && asc_uint_at(m->t, p + i + 4, 4)) ||
		    asc_uint_at(m->t, p + i + 3 * w, 4) || !list || !brk)
			continue;
		if (mapped(m, brk) && mapped(m, asc_word_at(m->t, p + i + 4 * w)) &&
		    is_list(m, list))
			return start + i;
	}
	return 0;
}

asc_addr asc_r_debug_scan(struct asc_modules *m)
{
	const struct asc_maps *maps = asc_target_maps(m->t);
	size_t budget = TOTAL_MAX;
	asc_addr found = 0;

	if (asc_target_kind(m->t) != ASC_CORE)
		return 0;
	for (size_t i = 0; i < maps->n && !found; i++) {
		const struct asc_map *map = &maps->v[i];
		size_t len = (size_t)asc_min(map->end - map->start, WINDOW_MAX), got;

		if ((map->flags_known && !(map->flags & ASC_MAP_WRITE)) ||
		    map->end - map->start > WINDOW_MAX || len > budget)
			continue;
		ASC_AUTO(asc_freep) uint8_t *buf = malloc(len);

		if (!buf)
			return 0;
		got = asc_read_some(m->t, map->start, buf, len);
		budget -= len;
		found = find_in(m, map->start, buf, got);
	}
	return found;
}

static int by_start(const void *a, const void *b)
{
	const struct asc_module *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

/* From where it was loaded to the end of its data, so far as the mappings say. */
static void extent(const struct asc_modules *m, const struct asc_linkmap *l, asc_addr *ret_start,
		   asc_addr *ret_end)
{
	const struct asc_maps *maps = asc_target_maps(m->t);
	const struct asc_map *data = asc_maps_find(maps, l->l_ld);
	const struct asc_map *first = asc_maps_find(maps, l->l_addr);
	asc_addr end = data->end;

	/* behind what became read-only come .data and .bss */
	for (const struct asc_map *map = data + 1; map < maps->v + maps->n; map++) {
		if (map->start != end || (map->flags_known && !(map->flags & ASC_MAP_WRITE)))
			break;
		end = map->end;
	}
	*ret_start = first && first->start == l->l_addr && l->l_addr ? l->l_addr : data->start;
	*ret_end = end;
}

/* Not while its neighbours are in the way: lookups by address rely on order. */
static bool is_free(const struct asc_modules *m, asc_addr start, asc_addr end)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].start < end && m->v[i].end > start)
			return false;
	return start < end;
}

struct asc_error *asc_linkmap_modules(struct asc_modules *m)
{
	size_t cap = m->n;

	if (asc_target_kind(m->t) != ASC_CORE)
		return NULL;
	for (size_t i = 0; i < m->links.len; i++) {
		const struct asc_linkmap *l = &m->links.data[i];
		struct asc_map map = { .path = l->name ? l->name : "" };
		struct asc_module *mod;
		asc_addr end;

		if (!l->l_ld || asc_modules_at(m, l->l_ld) || !mapped(m, l->l_ld))
			continue;
		extent(m, l, &map.start, &end);
		map.end = end;
		if (!is_free(m, map.start, end))
			continue;
		ASC_TRY(asc_module_add(m, &cap, &map, end, &mod));
		mod->bias = l->l_addr;
		asc_modpriv(mod)->bias_known = true;
		asc_modpriv(mod)->order = (int)i;
		asc_modpriv(mod)->space = l->space;
		asc_sort(m->v, m->n, sizeof(*m->v), by_start);
	}
	return NULL;
}

void asc_module_shape_from(struct asc_modules *m, struct asc_module *mod, const struct asc_elf *e)
{
	struct asc_modpriv *p = mod->priv;
	uint64_t low = UINT64_MAX, high = 0, end;
	asc_addr limit = UINT64_MAX;

	for (size_t i = 0; i < e->nph; i++) {
		const GElf_Phdr *ph = &e->ph[i];

		switch (ph->p_type) {
		case PT_LOAD:
			if (!asc_add(ph->p_vaddr, ph->p_memsz, &end))
				return;
			low = asc_min(low, asc_align_down(ph->p_vaddr, asc_target_page_size(m->t)));
			high = asc_max(high, end);
			break;
		case PT_DYNAMIC:
			p->dyn_vaddr = ph->p_vaddr;
			p->dyn_size = ph->p_memsz;
			break;
		case PT_TLS:
			p->tls_memsz = ph->p_memsz;
			p->tls_filesz = ph->p_filesz;
			p->tls_align = ph->p_align;
			p->tls_vaddr = ph->p_vaddr;
			break;
		default:
			break;
		}
	}
	if (low >= high)
		return;
	if (!p->bias_known)
		mod->bias = mod->start - low;
	else if (low + mod->bias < mod->start && is_free(m, low + mod->bias, mod->start))
		mod->start = low + mod->bias;
	/* the order of the modules stays as it is */
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].start > mod->start)
			limit = asc_min(limit, m->v[i].start);
	end = asc_align_up(high, asc_target_page_size(m->t)) + mod->bias;
	if (end > mod->start)
		mod->end = asc_min(end, limit);
}
