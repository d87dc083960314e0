/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Call stacks. Memory comes through a small page cache; unwind tables (.eh_frame_hdr, .eh_frame)
 * are read where the target has them mapped, or from the module's file for pages that a capture or
 * core lacks.
 */
#include "symbols/unwind.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/unwind_priv.h"
#include "target/elfhead.h"

enum { PAGE = 4096 };

/* ---- memory ---- */

static size_t get_file(void *arg, uint64_t off, void *buf, size_t len)
{
	const struct asc_unwind_module *um = arg;
	ssize_t n = off > INT64_MAX ? 0 : pread(um->fd, buf, len, (off_t)off);

	return n > 0 ? (size_t)n : 0;
}

struct asc_unwind_module *asc_unwind_slot(struct asc_unwinder *u, asc_addr addr)
{
	struct asc_module *mod = asc_modules_at(u->m, addr);
	struct asc_unwind_module *v;

	if (!mod)
		return NULL;
	for (size_t i = 0; i < u->nmods; i++) {
		if (u->mods[i].mod == mod)
			return &u->mods[i];
	}
	v = reallocarray(u->mods, u->nmods + 1, sizeof(*v));
	if (!v)
		return NULL;
	u->mods = v;
	v[u->nmods] = (struct asc_unwind_module){ .mod = mod, .fd = -1 };
	return &v[u->nmods++];
}

/*
 * A page of the module as its file has it. Written pages too: unwind information points to words in
 * .data (the personality routine's address), whose value nobody here uses, but libunwind must read.
 */
static size_t read_from_file(struct asc_unwinder *u, asc_addr addr, void *buf, size_t len)
{
	struct asc_unwind_module *um = asc_unwind_slot(u, addr);
	struct asc_elf_head h;
	struct asc_elf_phdr p;

	if (!um)
		return 0;
	if (!um->file_tried) {
		um->file_tried = true;
		asc_module_load(u->m, um->mod, false);
		if (!um->mod->file_ok || !um->mod->file_path)
			return 0;
		um->fd = open(um->mod->file_path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	}
	if (um->fd < 0 || !asc_elf_head_get(get_file, um, &h))
		return 0;
	for (uint32_t i = 0; i < h.phnum && asc_elf_phdr_get(get_file, um, &h, i, &p); i++) {
		uint64_t at = addr - um->mod->bias - p.vaddr;

		if (p.type == PT_LOAD && at < p.filesz)
			return get_file(um, p.offset + at, buf,
					(size_t)asc_min(len, p.filesz - at));
	}
	return 0;
}

static const struct asc_unwind_page *load(struct asc_unwinder *u, asc_addr addr)
{
	struct asc_unwind_page *p = &u->pages[addr / PAGE % ASC_UNWIND_PAGES];

	if (p->addr == addr)
		return p;
	if (!p->bytes)
		p->bytes = malloc(PAGE);
	if (!p->bytes)
		return NULL;
	p->addr = addr;
	p->len = asc_read_some(u->t, addr, p->bytes, PAGE);
	if (!p->len)
		p->len = read_from_file(u, addr, p->bytes, PAGE);
	return p;
}

size_t asc_unwind_read(struct asc_unwinder *u, asc_addr addr, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		asc_addr at = addr + done, base = asc_align_down(at, PAGE);
		const struct asc_unwind_page *p = at >= addr ? load(u, base) : NULL;
		size_t skip = (size_t)(at - base), n;

		if (!p || p->len <= skip)
			break;
		n = (size_t)asc_min(len - done, p->len - skip);
		memcpy((uint8_t *)buf + done, p->bytes + skip, n);
		done += n;
	}
	return done;
}

bool asc_unwind_is_code(const struct asc_unwinder *u, asc_addr pc)
{
	const struct asc_map *m = asc_maps_find(asc_target_maps(u->t), pc);

	return m && (!m->flags_known || (m->flags & ASC_MAP_EXEC));
}

static bool is_code(struct asc_unwinder *u, asc_addr pc, const uint8_t *want, size_t len)
{
	uint8_t code[16];

	return len && len <= sizeof(code) && asc_unwind_read(u, pc, code, len) == len &&
	       !memcmp(code, want, len);
}

bool asc_unwind_is_sigreturn(struct asc_unwinder *u, asc_addr pc)
{
	const struct asc_arch *arch = asc_target_arch(u->t);

	return is_code(u, pc, arch->sigreturn_code, arch->sigreturn_len) ||
	       is_code(u, pc, arch->old_sigreturn_code, arch->old_sigreturn_len);
}

/* ---- modules ---- */

struct image {
	struct asc_unwinder *u;
	asc_addr start;
};

static size_t get_image(void *arg, uint64_t off, void *buf, size_t len)
{
	struct image *im = arg;

	return asc_unwind_read(im->u, im->start + off, buf, len);
}

/* Size of an encoded pointer of .eh_frame_hdr, 0: not one we expect there. */
static unsigned encoded_size(uint8_t enc, unsigned word)
{
	switch (enc & 0x0f) {
	case 0x00:
		return word; /* absptr */
	case 0x02:
	case 0x0a:
		return 2;
	case 0x03:
	case 0x0b:
		return 4;
	case 0x04:
	case 0x0c:
		return 8;
	default:
		return 0;
	}
}

/* .eh_frame_hdr: version, three encodings, eh_frame pointer, count, table of (pc, FDE) relative to
 * it. */
static bool read_hdr(struct asc_unwinder *u, struct asc_unwind_module *um, asc_addr hdr)
{
	uint8_t b[4], count[8];
	unsigned word = asc_target_arch(u->t)->word_size, ptr, num;
	enum { OMIT = 0xff, DATAREL_SDATA4 = 0x3b };

	if (asc_unwind_read(u, hdr, b, sizeof(b)) < sizeof(b) || b[0] != 1 || b[1] == OMIT ||
	    b[2] == OMIT || b[3] != DATAREL_SDATA4)
		return false;
	ptr = encoded_size(b[1], word);
	num = encoded_size(b[2], word);
	if (!ptr || !num || asc_unwind_read(u, hdr + 4 + ptr, count, num) < num)
		return false;
	um->hdr = hdr;
	um->table = hdr + 4 + ptr + num;
	um->fdes = asc_uint_at(u->t, count, num);
	return um->fdes && um->fdes < 1u << 27;
}

static bool find_tables(struct asc_unwinder *u, struct asc_unwind_module *um)
{
	struct image im = { .u = u, .start = um->mod->start };
	struct asc_elf_head h;
	struct asc_elf_phdr p;

	if (!asc_elf_head_get(get_image, &im, &h))
		return false;
	for (uint32_t i = 0; i < h.phnum && asc_elf_phdr_get(get_image, &im, &h, i, &p); i++) {
		if (p.type == PT_GNU_EH_FRAME)
			return read_hdr(u, um, p.vaddr + um->mod->bias);
	}
	return false;
}

const struct asc_unwind_module *asc_unwind_module_at(struct asc_unwinder *u, asc_addr pc)
{
	struct asc_unwind_module *um = asc_unwind_slot(u, pc);

	if (!um)
		return NULL;
	if (!um->tried) {
		struct asc_unwind_module found = *um;

		found.tried = true;
		found.ok = find_tables(u, &found);
		um = asc_unwind_slot(u, pc); /* the array may have moved */
		if (!um)
			return NULL;
		um->tried = found.tried;
		um->ok = found.ok;
		um->hdr = found.hdr;
		um->table = found.table;
		um->fdes = found.fdes;
	}
	return um->ok ? um : NULL;
}

/* ---- the interface ---- */

struct asc_error *asc_unwinder_open(struct asc_modules *m, struct asc_target *t,
				    struct asc_unwinder **ret)
{
	struct asc_unwinder *u = calloc(1, sizeof(*u));

	if (!u)
		return asc_err(ASC_ENOMEM, "unwinder");
	u->m = m;
	u->t = t;
	for (size_t i = 0; i < ASC_UNWIND_PAGES; i++)
		u->pages[i].addr = UINT64_MAX;
	*ret = u;
	return NULL;
}

void asc_unwinder_close(struct asc_unwinder *u)
{
	if (!u)
		return;
	asc_unwind_x86_64_close(u);
	for (size_t i = 0; i < ASC_UNWIND_PAGES; i++)
		free(u->pages[i].bytes);
	for (size_t i = 0; i < u->nmods; i++) {
		asc_unwind_cfi_close(&u->mods[i]);
		if (u->mods[i].fd >= 0)
			close(u->mods[i].fd);
	}
	free(u->mods);
	free(u);
}

void asc_unwinder_closep(struct asc_unwinder **u)
{
	asc_unwinder_close(*u);
}

struct asc_error *asc_unwind_push(struct asc_stack *s, asc_addr pc, asc_addr sp, bool signal_frame)
{
	struct asc_frame *v;

	if (!(s->n & (s->n - 1))) { /* grow at powers of two */
		v = reallocarray(s->v, s->n ? s->n * 2 : 1, sizeof(*v));
		if (!v)
			return asc_err(ASC_ENOMEM, "stack of %zu frames", s->n);
		s->v = v;
	}
	s->v[s->n++] = (struct asc_frame){ .pc = pc, .sp = sp, .signal_frame = signal_frame };
	return NULL;
}

struct asc_error *asc_unwinder_run(struct asc_unwinder *u, const struct asc_thread *thread,
				   size_t max_depth, struct asc_stack *ret)
{
	struct asc_stack s = { 0 };
	struct asc_error *err;
	asc_addr pc, sp;

	if (!asc_regs_pc(u->t, &thread->regs, &pc) || !asc_regs_sp(u->t, &thread->regs, &sp))
		return asc_err(ASC_ENOTFOUND, "no registers of thread %d", (int)thread->tid);
	if (!max_depth || max_depth > ASC_STACK_DEPTH_MAX)
		max_depth = ASC_STACK_DEPTH_MAX;
	u->no_info = false;
	switch (asc_target_arch(u->t)->e_machine) {
	case EM_X86_64:
		err = asc_unwind_x86_64(u, thread, max_depth, &s);
		break;
	case EM_386:
	case EM_AARCH64:
		err = asc_unwind_cfi(u, thread, max_depth, &s);
		break;
	default:
		err = asc_unwind_push(&s, pc, sp, false);
		s.note = "stacks of this CPU are not unwound here";
	}
	if (err) {
		asc_stack_free(&s);
		return err;
	}
	*ret = s;
	return NULL;
}

struct asc_error *asc_unwind(struct asc_modules *m, struct asc_target *t,
			     const struct asc_thread *thread, size_t max_depth,
			     struct asc_stack *ret)
{
	ASC_AUTO(asc_unwinder_closep) struct asc_unwinder *u = NULL;

	ASC_TRY(asc_unwinder_open(m, t, &u));
	return asc_unwinder_run(u, thread, max_depth, ret);
}

void asc_stack_free(struct asc_stack *s)
{
	free(s->v);
	*s = (struct asc_stack){ 0 };
}

asc_addr asc_frame_lookup_pc(const struct asc_stack *s, size_t i)
{
	asc_addr pc = s->v[i].pc;

	if (!i || s->v[i].signal_frame || s->v[i - 1].signal_frame || !pc)
		return pc;
	return pc - 1;
}
