// SPDX-License-Identifier: GPL-3.0-or-later
/* What stands at an address. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"

extern const struct asc_cmd asc_cmd_find;

static void put_map(struct asc_session *s, struct asc_out *o, asc_addr addr)
{
	const struct asc_map *m = asc_maps_find(asc_target_maps(s->data), addr);

	asc_out_object(o, "mapping", NULL);
	asc_out_field(o, "start", m ? "mapping" : NULL, m ? ASC_V_ADDR(m->start) : ASC_V_NONE);
	asc_out_field(o, "end", m ? "ends" : NULL, m ? ASC_V_ADDR(m->end) : ASC_V_NONE);
	asc_out_field(o, "path", m && *m->path ? "of" : NULL, m ? ASC_V_STR(m->path) : ASC_V_NONE);
	asc_out_object_end(o);
	if (!s->residency || s->residency->source == ASC_RESIDENCY_UNKNOWN)
		asc_out_field(o, "resident", "resident", ASC_V_UNKNOWN);
	else
		asc_out_field(o, "resident", "resident",
			      ASC_V_BOOL(asc_resident_bytes(s->residency, addr, addr + 1) > 0));
}

static void put_chunk(struct asc_out *o, const char *key, const char *label,
		      const struct asc_chunk *c, unsigned hdr)
{
	char text[96];

	if (!c->size) {
		asc_out_field(o, key, NULL, ASC_V_NONE);
		return;
	}
	snprintf(text, sizeof(text), "0x%" PRIx64 "  %" PRIu64 " bytes  %s", c->addr, c->size,
		 asc_state_name(c->state));
	asc_out_field(o, NULL, label, ASC_V_STR(text));
	asc_out_object(o, key, NULL);
	asc_out_field(o, "address", NULL, ASC_V_ADDR(c->addr));
	asc_out_field(o, "user_address", NULL, ASC_V_ADDR(c->addr + hdr));
	asc_out_field(o, "size_bytes", NULL, ASC_V_BYTES(c->size));
	asc_out_field(o, "state", NULL, ASC_V_STR(asc_state_name(c->state)));
	asc_out_object_end(o);
}

static void put_place(struct asc_session *s, struct asc_out *o, asc_addr addr)
{
	struct asc_place p;

	if (!s->modules || !asc_place_of(s->modules, addr, false, &p)) {
		asc_out_field(o, "module", NULL, ASC_V_NONE);
		asc_out_field(o, "symbol", NULL, ASC_V_NONE);
		return;
	}
	asc_out_field(o, "module", p.module ? "module" : NULL,
		      p.module ? ASC_V_STR(p.module) : ASC_V_NONE);
	ASC_AUTO(asc_freep) char *symbol = NULL;
	if (p.function && asprintf(&symbol, "%s+0x%" PRIx64, p.function, p.offset) < 0)
		symbol = NULL;
	asc_out_field(o, "symbol", symbol ? "symbol" : NULL,
		      symbol ? ASC_V_STR(symbol) : ASC_V_NONE);
}

static const char *what_of(const struct asc_where *w)
{
	if (w->in_mmapped)
		return "mmapped chunk";
	if (w->in_header)
		return "header of an arena or heap";
	if (w->have_chunk)
		return asc_state_name(w->chunk.state);
	return "in an arena, in no chunk (damaged or outside of the walk)";
}

static void put_neighbourhood(struct asc_out *o, const struct asc_heap *heap,
			      const struct asc_where *w, asc_addr addr)
{
	const struct asc_chunk none = { 0 };
	unsigned hdr = heap->libc.hdr;

	put_chunk(o, "chunk", "chunk", w->have_chunk ? &w->chunk : &none, hdr);
	asc_out_field(o, "offset_in_chunk", w->have_chunk ? "offset in it" : NULL,
		      w->have_chunk ? ASC_V_COUNT(addr - w->chunk.addr) : ASC_V_NONE);
	asc_out_field(o, "usable_bytes", w->have_chunk ? "usable" : NULL,
		      w->have_chunk ? ASC_V_BYTES(asc_usable_size(&heap->libc, w->chunk.size))
				    : ASC_V_NONE);
	asc_out_field(o, "bin", w->bin >= 0 ? "bin" : NULL,
		      w->bin >= 0 ? ASC_V_INT(w->bin) : ASC_V_NONE);
	put_chunk(o, "previous", "before it", w->have_chunk ? &w->prev : &none, hdr);
	put_chunk(o, "next", "behind it", w->have_chunk ? &w->next : &none, hdr);
	asc_out_field(o, "tcache_thread", w->tcache_owner ? "in the tcache of thread" : NULL,
		      w->tcache_owner ? ASC_V_INT(w->tcache_owner->tid) : ASC_V_NONE);
}

static void put_malloc(struct asc_out *o, const struct asc_heap *heap, const struct asc_where *w,
		       asc_addr addr)
{
	asc_out_field(o, "arena", w->arena ? "arena" : NULL,
		      w->arena ? ASC_V_COUNT(w->arena->index) : ASC_V_NONE);
	asc_out_field(o, "heap", w->region ? "heap" : NULL,
		      w->region ? ASC_V_ADDR(w->region->start) : ASC_V_NONE);
	if (w->in_mmapped) {
		const struct asc_chunk c = { .addr = w->mmapped.chunk,
					     .size = w->mmapped.size,
					     .state = ASC_INUSE };
		put_chunk(o, "chunk", "chunk", &c, heap->libc.hdr);
		return;
	}
	put_neighbourhood(o, heap, w, addr);
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	const char *text = asc_args_at(a, 0);
	struct asc_where w = { .bin = -1 };
	asc_addr addr;

	if (!asc_parse_addr(text, &addr)) {
		ASC_AUTO(asc_freep) char *shown = asc_escape(text);
		return asc_usage(&asc_cmd_find, "\"%.60s\" is not an address", shown ? shown : "?");
	}
	const struct asc_heap *heap = NULL;
	for (size_t h = 0; h < s->nheaps && !heap; h++) {
		if (s->heaps[h] && asc_heap_where(s->heaps[h], addr, &w))
			heap = s->heaps[h];
	}
	asc_out_field(o, "address", "address", ASC_V_ADDR(addr));
	asc_out_field(o, "what", "is", ASC_V_STR(heap ? what_of(&w) : "not malloc's"));
	if (heap) {
		put_malloc(o, heap, &w, addr);
		asc_partial_tcaches(s, o);
	}
	put_place(s, o, addr);
	put_map(s, o, addr);
	return NULL;
}

const struct asc_cmd asc_cmd_find = {
	.name = "find",
	.args = "ADDR",
	.summary = "what an address is: arena, heap, chunk, state, bin, neighbours",
	.help = "ADDR is hexadecimal, with or without 0x. Any byte of a chunk will do. A chunk of "
		"state "
		"tcache names the thread that holds it.",
	.min_args = 1,
	.max_args = 1,
	.needs = ASC_NEED_WALK | ASC_NEED_RESIDENCY,
	.flags = ASC_CMD_AT,
	.run = run,
};
