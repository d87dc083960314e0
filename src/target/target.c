/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Thin validating wrappers over the ops table. Every read of a target goes through here. */
#include "target/target.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/readers.h"

enum asc_target_kind asc_target_kind(const struct asc_target *t)
{
	return t->ops->kind;
}

const struct asc_arch *asc_target_arch(const struct asc_target *t)
{
	return t->arch;
}

pid_t asc_target_pid(const struct asc_target *t)
{
	return t->pid;
}

const char *asc_target_name(const struct asc_target *t)
{
	return t->name;
}

uint64_t asc_target_page_size(const struct asc_target *t)
{
	return t->page_size;
}

const struct asc_maps *asc_target_maps(const struct asc_target *t)
{
	return &t->maps;
}

const struct asc_thread *asc_target_threads(const struct asc_target *t, size_t *ret_n)
{
	*ret_n = t->nthreads;
	return t->threads;
}

const struct asc_thread *asc_target_thread(const struct asc_target *t, pid_t tid)
{
	for (size_t i = 0; i < t->nthreads; i++) {
		if (t->threads[i].tid == tid)
			return &t->threads[i];
	}
	return NULL;
}

bool asc_target_auxv(const struct asc_target *t, uint64_t type, uint64_t *ret)
{
	for (size_t i = 0; i < t->nauxv; i++) {
		if (t->auxv[2 * i] == type) {
			*ret = t->auxv[2 * i + 1];
			return true;
		}
	}
	return false;
}

/* @p len, or what there is of it before the end of the address space. */
static size_t within(const struct asc_target *t, asc_addr addr, size_t len)
{
	uint64_t room = UINT64_MAX - addr;

	if (t->arch->word_size == 4)
		room = addr > UINT32_MAX ? 0 : UINT32_MAX - addr + 1;
	return (size_t)asc_min(len, room);
}

size_t asc_read_some(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	len = within(t, addr, len);
	return len ? t->ops->read(t, addr, buf, len) : 0;
}

size_t asc_read_beside(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	len = within(t, addr, len);
	if (!len)
		return 0;
	return t->ops->read_beside ? t->ops->read_beside(t, addr, buf, len)
				   : t->ops->read(t, addr, buf, len);
}

struct asc_error *asc_read(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	size_t got = asc_read_some(t, addr, buf, len);

	if (got == len)
		return NULL;
	return asc_err(ASC_EFAULT, "0x%" PRIx64 "+%zu is not mapped or not readable", addr, got);
}

struct asc_error *asc_read_bulk(struct asc_target *t, struct asc_iov *iov, size_t n)
{
	if (t->ops->read_bulk)
		return t->ops->read_bulk(t, iov, n);
	for (size_t i = 0; i < n; i++)
		iov[i].got = asc_read_some(t, iov[i].addr, iov[i].buf, iov[i].len);
	return NULL;
}

bool asc_target_concurrent(const struct asc_target *t)
{
	return !t->one_reader && (t->ops->concurrent_bulk || t->ops->read_beside);
}

uint64_t asc_uint_at(const struct asc_target *t, const void *bytes, size_t size)
{
	const uint8_t *p = bytes;
	uint64_t v = 0;

	for (size_t i = 0; i < size; i++)
		v = v << 8 | p[t->arch->big_endian ? i : size - 1 - i];
	return v;
}

uint64_t asc_word_at(const struct asc_target *t, const void *bytes)
{
	if (!t->arch->big_endian)
		return t->arch->word_size == 8 ? asc_load_u64(bytes) : asc_load_u32(bytes);
	return asc_uint_at(t, bytes, t->arch->word_size);
}

struct asc_error *asc_read_uint(struct asc_target *t, asc_addr addr, size_t size, uint64_t *ret)
{
	uint8_t b[8];

	if (size != 1 && size != 2 && size != 4 && size != 8)
		return asc_err(ASC_EBUG, "integer of %zu bytes", size);
	ASC_TRY(asc_read(t, addr, b, size));
	*ret = asc_uint_at(t, b, size);
	return NULL;
}

struct asc_error *asc_read_word(struct asc_target *t, asc_addr addr, uint64_t *ret)
{
	return asc_read_uint(t, addr, t->arch->word_size, ret);
}

struct asc_error *asc_read_str(struct asc_target *t, asc_addr addr, size_t max, char **ret)
{
	ASC_AUTO(asc_freep) char *s = malloc(max + 1);
	size_t len = 0;

	if (!s)
		return asc_err(ASC_ENOMEM, "string of %zu bytes", max);
	while (len < max) {
		size_t page_end = (size_t)(t->page_size - (addr + len) % t->page_size);
		size_t want = max - len < page_end ? max - len : page_end;
		size_t got = asc_read_some(t, addr + len, s + len, want);
		const char *nul = memchr(s + len, 0, got);

		if (nul) {
			*ret = asc_take(s);
			return NULL;
		}
		len += got;
		if (got < want)
			break;
	}
	if (len < max)
		return asc_err(ASC_EFAULT, "string at 0x%" PRIx64 " is not terminated", addr);
	s[max] = 0;
	*ret = asc_take(s);
	return NULL;
}

bool asc_regs_pc(const struct asc_target *t, const struct asc_regs *r, asc_addr *ret)
{
	if (!r->valid || !t->arch->pc.size)
		return false;
	*ret = asc_arch_reg(t->arch, r->raw, r->len, t->arch->pc);
	return true;
}

bool asc_regs_sp(const struct asc_target *t, const struct asc_regs *r, asc_addr *ret)
{
	if (!r->valid || !t->arch->sp.size)
		return false;
	*ret = asc_arch_reg(t->arch, r->raw, r->len, t->arch->sp);
	return true;
}

struct asc_error *asc_target_stop(struct asc_target *t, const struct asc_stop_opts *opts)
{
	return t->ops->stop ? t->ops->stop(t, opts) : NULL;
}

void asc_target_release(struct asc_target *t, struct asc_pause *ret)
{
	struct asc_pause none = { 0 };

	if (t->ops->release)
		t->ops->release(t, ret ? ret : &none);
	else if (ret)
		*ret = none;
}

bool asc_target_is_stopped(const struct asc_target *t)
{
	return t->ops->is_stopped ? t->ops->is_stopped(t) : true;
}

bool asc_target_alive(struct asc_target *t)
{
	return t->ops->alive ? t->ops->alive(t) : true;
}

struct asc_error *asc_residency_read(struct asc_target *t, struct asc_residency **ret)
{
	if (t->ops->residency)
		return t->ops->residency(t, ret);
	return asc_residency_init(ASC_RESIDENCY_UNKNOWN, t->page_size, NULL, 0, ret);
}

struct asc_error *asc_residency_foresee(struct asc_target *t, struct asc_residency **ret)
{
	return t->ops->foresee ? t->ops->foresee(t, ret) : NULL;
}

void asc_target_close(struct asc_target *t)
{
	if (!t)
		return;
	if (t->ops->release)
		asc_target_release(t, NULL);
	if (t->ops->close)
		t->ops->close(t);
	asc_maps_free(&t->maps);
	free(t->threads);
	free(t->auxv);
	free(t);
}

void asc_target_closep(struct asc_target **t)
{
	asc_target_close(*t);
	*t = NULL;
}
