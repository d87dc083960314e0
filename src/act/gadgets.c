/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Instructions that the target has already, in libc, the executable and the loader (which are never
 * unloaded). They are looked for in the mapped files, since reading all code of the target would
 * make it resident there; what was found is then compared with the live bytes. Every place that a
 * signal handler may return to is collected from all code: such an address on a stack means that
 * something below it was interrupted.
 */
#include "act/inject.h"

#if ASC_CAN_INJECT
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"

enum { WINDOW = 4 << 20, OVERLAP = 32 };
static const uint64_t TEXT_MAX = 2ull << 30;

static const uint8_t syscall_ret[] = { 0x0f, 0x05, 0xc3 };
static const uint8_t pop_rdi_ret[] = { 0x5f, 0xc3 };
static const uint8_t pop_rsi_ret[] = { 0x5e, 0xc3 };
static const uint8_t pop_rax_ret[] = { 0x58, 0xc3 };
static const uint8_t sigreturn_rax[] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 };
static const uint8_t sigreturn_eax[] = { 0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05 };
static const uint8_t store_rax[] = { 0x48, 0x89, 0x03 };

bool asc_gadgets_complete(const struct asc_gadgets *g)
{
	return g->syscall && g->pop_rdi && g->pop_rsi && g->pop_rax && g->sigreturn && g->store;
}

static void first(const uint8_t *bytes, size_t len, asc_addr addr, const uint8_t *what, size_t n,
		  asc_addr *ret)
{
	const uint8_t *p = *ret ? NULL : memmem(bytes, len, what, n);

	if (p)
		*ret = addr + (uint64_t)(p - bytes);
}

/* Pops and small additions to the stack pointer up to a return. @return words, -1: something else */
static int filler_words(const uint8_t *p, size_t len)
{
	unsigned words = 0;
	size_t i = 0;

	while (i < len && words <= ASC_FILLER_MAX) {
		if (p[i] == 0xc3)
			return (int)words;
		if (p[i] >= 0x58 && p[i] <= 0x5f && p[i] != 0x5c) {
			words++;
			i++;
		} else if (i + 1 < len && p[i] == 0x41 && p[i + 1] >= 0x58 && p[i + 1] <= 0x5f) {
			words++;
			i += 2;
		} else if (i + 3 < len && p[i] == 0x48 && p[i + 1] == 0x83 && p[i + 2] == 0xc4 &&
			   p[i + 3] < 0x80 && p[i + 3] % 8 == 0) {
			words += p[i + 3] / 8u;
			i += 4;
		} else {
			return -1;
		}
	}
	return -1;
}

static void find_store(const uint8_t *bytes, size_t len, asc_addr addr, struct asc_gadgets *g)
{
	const uint8_t *p = bytes, *end = bytes + len;

	while ((p = memmem(p, (size_t)(end - p), store_rax, sizeof(store_rax)))) {
		const uint8_t *after = p + sizeof(store_rax);
		int words = filler_words(after, (size_t)asc_min((uint64_t)(end - after), 24));

		if (words >= 0 && words <= ASC_FILLER_MAX &&
		    (!g->store || (unsigned)words < g->store_words)) {
			g->store = addr + (uint64_t)(p - bytes);
			g->store_words = (unsigned)words;
		}
		p = after;
	}
}

void asc_gadgets_scan(const uint8_t *bytes, size_t len, asc_addr addr, struct asc_gadgets *g)
{
	first(bytes, len, addr, syscall_ret, sizeof(syscall_ret), &g->syscall);
	first(bytes, len, addr, pop_rdi_ret, sizeof(pop_rdi_ret), &g->pop_rdi);
	first(bytes, len, addr, pop_rsi_ret, sizeof(pop_rsi_ret), &g->pop_rsi);
	first(bytes, len, addr, pop_rax_ret, sizeof(pop_rax_ret), &g->pop_rax);
	first(bytes, len, addr, sigreturn_rax, sizeof(sigreturn_rax), &g->sigreturn);
	first(bytes, len, addr, sigreturn_eax, sizeof(sigreturn_eax), &g->sigreturn);
	if (!g->store)
		find_store(bytes, len, addr, g);
}

static void collect(const uint8_t *bytes, size_t len, asc_addr addr, const uint8_t *what, size_t n,
		    struct asc_gadgets *g)
{
	const uint8_t *p = bytes, *end = bytes + len;

	while ((p = memmem(p, (size_t)(end - p), what, n))) {
		asc_addr at = addr + (uint64_t)(p - bytes);
		bool have = false;

		for (size_t i = 0; i < g->nsigreturns; i++)
			have |= g->sigreturns[i] == at;
		if (!have && g->nsigreturns < ASC_SIGRETURNS_MAX)
			g->sigreturns[g->nsigreturns++] = at;
		p += n;
	}
}

typedef void (*scan_fn)(const uint8_t *bytes, size_t len, asc_addr addr, struct asc_gadgets *g);

static void scan_sigreturns(const uint8_t *bytes, size_t len, asc_addr addr, struct asc_gadgets *g)
{
	collect(bytes, len, addr, sigreturn_rax, sizeof(sigreturn_rax), g);
	collect(bytes, len, addr, sigreturn_eax, sizeof(sigreturn_eax), g);
}

/* The file behind a mapping, as the target has it. @return -1: only the live bytes are left */
static int open_mapped(pid_t pid, const struct asc_map *m)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, m->start,
		 m->end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 || m->deleted)
		return fd;
	if (snprintf(path, sizeof(path), "/proc/%d/root%s", pid, m->path) >= (int)sizeof(path))
		return -1;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_ino != m->inode)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* What cannot be read is not there. */
static void over(struct asc_target *t, const struct asc_map *m, uint8_t *window, scan_fn scan,
		 struct asc_gadgets *g)
{
	int fd = open_mapped(asc_target_pid(t), m);
	uint64_t at = 0, len = m->end - m->start;

	while (at < len) {
		size_t want = (size_t)asc_min(len - at, WINDOW), got;

		if (fd >= 0) {
			ssize_t n = pread(fd, window, want, (off_t)(m->offset + at));

			got = n > 0 ? (size_t)n : 0;
		} else {
			got = asc_read_some(t, m->start + at, window, want);
		}
		scan(window, got, m->start + at, g);
		if (got < want || at + got >= len)
			break;
		at += got - OVERLAP;
	}
	if (fd >= 0)
		close(fd);
}

static bool is_there(struct asc_target *t, asc_addr addr, const uint8_t *what, size_t n)
{
	uint8_t live[16];

	return n <= sizeof(live) && asc_read_some(t, addr, live, n) == n && !memcmp(live, what, n);
}

/* The live bytes decide. */
static void verify(struct asc_target *t, struct asc_gadgets *g)
{
	uint8_t live[24];
	size_t n = g->store ? asc_read_some(t, g->store, live, sizeof(live)) : 0;

	if (!is_there(t, g->syscall, syscall_ret, sizeof(syscall_ret)))
		g->syscall = 0;
	if (!is_there(t, g->pop_rdi, pop_rdi_ret, sizeof(pop_rdi_ret)))
		g->pop_rdi = 0;
	if (!is_there(t, g->pop_rsi, pop_rsi_ret, sizeof(pop_rsi_ret)))
		g->pop_rsi = 0;
	if (!is_there(t, g->pop_rax, pop_rax_ret, sizeof(pop_rax_ret)))
		g->pop_rax = 0;
	if (!is_there(t, g->sigreturn, sigreturn_rax, sizeof(sigreturn_rax)) &&
	    !is_there(t, g->sigreturn, sigreturn_eax, sizeof(sigreturn_eax)))
		g->sigreturn = 0;
	if (n < sizeof(store_rax) || memcmp(live, store_rax, sizeof(store_rax)) ||
	    filler_words(live + sizeof(store_rax), n - sizeof(store_rax)) != (int)g->store_words)
		g->store = 0;
}

static bool is_text(const struct asc_map *m)
{
	return m->flags & ASC_MAP_EXEC && m->flags & ASC_MAP_READ && !(m->flags & ASC_MAP_WRITE) &&
	       m->inode;
}

struct asc_error *asc_gadgets_find(const struct asc_act_ctx *c, struct asc_gadgets *ret)
{
	const struct asc_maps *maps = asc_target_maps(c->live);
	ASC_AUTO(asc_freep) uint8_t *window = malloc(WINDOW);
	struct asc_gadgets g = { 0 };
	uint64_t total = 0;

	if (!window)
		return asc_err(ASC_ENOMEM, "searching the target's code");
	/* libc first, then the executable and the loader */
	for (int pass = 0; pass < 2 && !asc_gadgets_complete(&g); pass++) {
		for (size_t i = 0; i < maps->n; i++) {
			struct asc_module *m = asc_modules_at(c->modules, maps->v[i].start);
			const char *base = strrchr(maps->v[i].path, '/');
			bool libc = m && m == c->lib->module;
			bool other = (m && m->is_exe) || (base && !strncmp(base, "/ld-linux", 9));

			if (is_text(&maps->v[i]) && (pass ? other : libc))
				over(c->live, &maps->v[i], window, asc_gadgets_scan, &g);
		}
	}
	for (size_t i = 0; i < maps->n && total < TEXT_MAX; i++) {
		if (!is_text(&maps->v[i]))
			continue;
		over(c->live, &maps->v[i], window, scan_sigreturns, &g);
		total += maps->v[i].end - maps->v[i].start;
	}
	verify(c->live, &g);
	if (!g.syscall || !g.pop_rdi || !g.pop_rsi || !g.pop_rax || !g.sigreturn)
		return asc_err_id(
			asc_err_why(
				asc_err(ASC_EUNSUPPORTED,
					"process %d has no code that a call could return through",
					asc_target_pid(c->live)),
				"its libc and executable lack one of: system call, pop rdi, pop "
				"rsi, "
				"pop rax, signal return"),
			"E-GADGET");
	*ret = g;
	return NULL;
}
#endif
