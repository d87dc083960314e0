/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The notes of a core: threads and their registers, auxv, mapped files. The kernel writes
 * PRSTATUS(first thread) PRPSINFO SIGINFO AUXV FILE FPREGS..., then PRSTATUS ... of each other
 * thread; gdb writes PRPSINFO first and AUXV, FILE last. A note of a thread belongs to the PRSTATUS
 * before it.
 */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/core.h"
#include "target/restart.h"

enum {
	DESC_MAX = 64 << 20, /* the kernel's own limit for NT_FILE is 4 MiB by default */
	COMM = 16,
	TICKS = 100, /* USER_HZ of every CPU we know */
};

#ifndef NT_ARM_SYSTEM_CALL
#define NT_ARM_SYSTEM_CALL 0x404
#endif

struct note {
	uint32_t type;
	char name[8];
	const uint8_t *desc;
	size_t len;
};

static uint64_t uint_at(const struct asc_core *c, const struct note *n, size_t off, size_t size)
{
	return off + size <= n->len ? asc_uint_at(&c->t, n->desc + off, size) : 0;
}

static struct asc_thread *last_thread(struct asc_core *c)
{
	return c->t.nthreads ? &c->t.threads[c->t.nthreads - 1] : NULL;
}

/* ---- one function a note ---- */

/*
 * A core shows threads on their way back from the kernel. A call that was cut short has left one of
 * these codes, or its number, where the result belongs (qemu; ENOSYS: not begun yet); any other
 * value is a result, and the call over.
 */
static bool cut_short(int64_t nr, int64_t result)
{
	enum { ERESTARTSYS = 512, ERESTARTNOINTR = 513, ERESTART_RESTARTBLOCK = 516 };

	return result == nr || result == -ENOSYS || result == -ASC_KERNEL_EINTR ||
	       result == -ERESTARTSYS || result == -ERESTARTNOINTR ||
	       result == -ASC_KERNEL_ERESTARTNOHAND || result == -ERESTART_RESTARTBLOCK;
}

/* Where pr_reg's call frame says that it slept in a system call, and in which. */
static void take_syscall(const struct asc_core *c, struct asc_thread *th)
{
	const struct asc_arch *arch = c->t.arch;
	uint64_t nr = asc_arch_reg(arch, th->regs.raw, th->regs.len, arch->syscall_nr);
	uint64_t r = asc_arch_reg(arch, th->regs.raw, th->regs.len, arch->result);

	th->syscall_nr = INT64_MIN;
	if (arch->e_machine == EM_AARCH64)
		return; /* x8 is stale outside of a call; NT_ARM_SYSTEM_CALL says */
	th->syscall_nr = arch->word_size == 4 ? (int32_t)nr : (int64_t)nr;
	if (th->syscall_nr < 0 ||
	    !cut_short(th->syscall_nr, arch->word_size == 4 ? (int32_t)r : (int64_t)r))
		th->syscall_nr = -1;
}

static void take_syscall_args(const struct asc_core *c, struct asc_thread *th)
{
	const struct asc_arch *arch = c->t.arch;

	if (th->syscall_nr < 0)
		return;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(th->syscall_args); i++)
		th->syscall_args[i] = asc_arch_reg(arch, th->regs.raw, th->regs.len, arch->args[i]);
	th->syscall_args_valid = true;
}

static struct asc_error *take_prstatus(struct asc_core *c, const struct note *n)
{
	const struct asc_arch *arch = c->t.arch;
	size_t word = arch->word_size, times = arch->prstatus_pid + 16;
	struct asc_thread th = { .state = '?', .stopped = true };
	struct asc_thread *v;

	if (n->len < (size_t)arch->prstatus_reg + arch->gregs_size)
		return NULL; /* of another CPU, or damaged */
	th.tid = (pid_t)uint_at(c, n, arch->prstatus_pid, 4);
	th.signal = (int)uint_at(c, n, arch->prstatus_cursig, 2);
	th.sigpnd = uint_at(c, n, 16, word);
	th.sigblk = uint_at(c, n, 16 + word, word);
	th.sig_valid = true;
	th.utime_ticks = uint_at(c, n, times, word) * TICKS +
			 uint_at(c, n, times + word, word) * TICKS / 1000000;
	th.stime_ticks = uint_at(c, n, times + 2 * word, word) * TICKS +
			 uint_at(c, n, times + 3 * word, word) * TICKS / 1000000;
	th.times_valid = true;
	th.regs.len = arch->gregs_size;
	memcpy(th.regs.raw, n->desc + arch->prstatus_reg, arch->gregs_size);
	th.regs.valid = true;
	if (arch->tp.size) {
		th.regs.tp = asc_arch_reg(arch, th.regs.raw, th.regs.len, arch->tp);
		th.regs.tp_valid = th.regs.tp != 0;
	}
	take_syscall(c, &th);
	take_syscall_args(c, &th);
	v = reallocarray(c->t.threads, c->t.nthreads + 1, sizeof(*v));
	if (!v)
		return asc_err(ASC_ENOMEM, "%zu threads", c->t.nthreads + 1);
	v[c->t.nthreads++] = th;
	c->t.threads = v;
	return NULL;
}

/* elf_prpsinfo: 64-bit CPUs agree; 32-bit x86 has 16-bit uids, some others and old writers 32-bit
 * ones. */
static struct asc_error *take_prpsinfo(struct asc_core *c, const struct note *n)
{
	size_t pid = 24, fname = 40, args = 56;
	char buf[81] = { 0 };

	if (c->t.arch->word_size == 4) {
		pid = n->len >= 128 ? 16 : 12;
		fname = pid + 16;
		args = fname + COMM;
	}
	if (n->len < fname + COMM)
		return NULL;
	c->t.pid = (pid_t)uint_at(c, n, pid, 4);
	memcpy(c->t.name, n->desc + fname, COMM);
	c->t.name[COMM] = 0;
	if (n->len > args)
		memcpy(buf, n->desc + args, (size_t)asc_min(sizeof(buf) - 1, n->len - args));
	buf[strcspn(buf, " ")] = 0;
	free(c->exe);
	c->exe = strdup(buf);
	return c->exe ? NULL : asc_err(ASC_ENOMEM, "core");
}

static struct asc_error *take_auxv(struct asc_core *c, const struct note *n)
{
	size_t word = c->t.arch->word_size, pairs = n->len / (2 * word);
	uint64_t *v;

	if (c->t.auxv || !pairs)
		return NULL;
	v = calloc(pairs, 2 * sizeof(*v));
	if (!v)
		return asc_err(ASC_ENOMEM, "auxv");
	for (size_t i = 0; i < 2 * pairs; i++)
		v[i] = uint_at(c, n, i * word, word);
	c->t.auxv = v;
	while (c->t.nauxv < pairs && v[2 * c->t.nauxv] != AT_NULL)
		c->t.nauxv++;
	return NULL;
}

/* 386 TLS: three user_desc {entry, base, limit, flags}; gs selects one of them. */
static void take_386_tls(struct asc_core *c, const struct note *n)
{
	struct asc_thread *th = last_thread(c);
	enum { GS = 10 * 4, DESC = 16 };

	if (!th || th->regs.len < GS + 4)
		return;
	for (size_t at = 0; at + DESC <= n->len; at += DESC) {
		uint64_t selector = asc_uint_at(&c->t, th->regs.raw + GS, 4) & 0xffff;

		if (uint_at(c, n, at, 4) == selector >> 3 && uint_at(c, n, at + 4, 4)) {
			th->regs.tp = uint_at(c, n, at + 4, 4);
			th->regs.tp_valid = true;
		}
	}
}

static void take_arm(struct asc_core *c, const struct note *n)
{
	struct asc_thread *th = last_thread(c);

	if (!th || c->t.arch->e_machine != EM_AARCH64)
		return;
	if (n->type == NT_ARM_TLS && n->len >= 8) {
		th->regs.tp = uint_at(c, n, 0, 8);
		th->regs.tp_valid = true;
	} else if (n->type == NT_ARM_SYSTEM_CALL && n->len >= 4) {
		th->syscall_nr = (int32_t)uint_at(c, n, 0, 4);
		if (th->syscall_nr < 0)
			th->syscall_nr = -1;
		take_syscall_args(c, th);
	}
}

/* ---- NT_FILE ---- */

/* A path as NT_FILE has it; sorted by name to find those of the same file. */
struct named {
	const char *path;
	size_t len;
	bool deleted;
	size_t entry; /* in c->mapped */
};

static struct named named_of(const char *path, size_t entry)
{
	static const char deleted[] = " (deleted)";
	size_t len = strlen(path), cut = sizeof(deleted) - 1;
	bool gone = len > cut && !strcmp(path + len - cut, deleted);

	return (struct named){ path, gone ? len - cut : len, gone, entry };
}

static int by_name(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int r = memcmp(x->path, y->path, (size_t)asc_min(x->len, y->len));

	if (!r)
		r = x->len < y->len ? -1 : x->len > y->len;
	return r ? r : (int)x->deleted - (int)y->deleted;
}

/* One file a path, and which entry belongs to which. */
static struct asc_error *add_files(struct asc_core *c, struct named *v, size_t n)
{
	asc_sort(v, n, sizeof(*v), by_name);
	c->files = calloc(n + 1, sizeof(*c->files));
	if (!c->files)
		return asc_err(ASC_ENOMEM, "mapped files");
	for (size_t i = 0; i < n; i++) {
		struct asc_core_mapped *m = &c->mapped[v[i].entry];
		struct asc_core_file *f;

		if (!i || by_name(&v[i - 1], &v[i]) != 0) {
			f = &c->files[c->nfiles];
			*f = (struct asc_core_file){ .start = UINT64_MAX, .bytes = { .fd = -1 } };
			f->deleted = v[i].deleted;
			f->path = strndup(v[i].path, v[i].len);
			if (!f->path)
				return asc_err(ASC_ENOMEM, "mapped files");
			c->nfiles++;
		}
		m->file = c->nfiles - 1;
		f = &c->files[m->file];
		if (!m->offset)
			f->start = asc_min(f->start, m->start);
	}
	return NULL;
}

static int by_start(const void *a, const void *b)
{
	const struct asc_core_mapped *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static struct asc_error *take_files(struct asc_core *c, const struct note *n)
{
	size_t word = c->t.arch->word_size, at = 2 * word, names, len = 0;
	uint64_t count = uint_at(c, n, 0, word), page = uint_at(c, n, word, word);
	ASC_AUTO(asc_freep) struct named *named = NULL;

	if (c->mapped || n->len < at || count > (n->len - at) / (3 * word + 1) ||
	    !asc_is_pow2(page))
		return NULL;
	c->info.has_nt_file = true;
	names = at + (size_t)count * 3 * word;
	c->mapped = calloc((size_t)count + 1, sizeof(*c->mapped));
	named = calloc((size_t)count + 1, sizeof(*named));
	if (!c->mapped || !named)
		return asc_err(ASC_ENOMEM, "mapped files");
	for (uint64_t i = 0; i < count; i++, at += 3 * word, names += len + 1) {
		struct asc_core_mapped m = { .start = uint_at(c, n, at, word),
					     .end = uint_at(c, n, at + word, word) };

		const char *path = (const char *)n->desc + names;

		len = strnlen(path, n->len - names);
		if (len == n->len - names)
			break; /* cut */
		if (m.end <= m.start ||
		    !asc_mul(uint_at(c, n, at + 2 * word, word), page, &m.offset))
			continue;
		named[c->nmapped] = named_of(path, c->nmapped);
		c->mapped[c->nmapped++] = m;
	}
	ASC_TRY(add_files(c, named, c->nmapped));
	asc_sort(c->mapped, c->nmapped, sizeof(*c->mapped), by_start);
	len = 0;
	for (size_t i = 0; i < c->nmapped; i++) {
		if (!len || c->mapped[i].start >= c->mapped[len - 1].end)
			c->mapped[len++] = c->mapped[i];
	}
	c->nmapped = len;
	return NULL;
}

/* ---- the walk ---- */

static struct asc_error *take(struct asc_core *c, const struct note *n)
{
	if (!strcmp(n->name, "VMCOREI"))
		return asc_err_id(asc_err_why(asc_err(ASC_EINPUT, "not the core of a process"),
					      "it is the memory of a kernel"),
				  "E-NOTCORE");
	if (n->name[0] == 'L') {
		if (n->type == NT_386_TLS)
			take_386_tls(c, n);
		else if (n->type == NT_ARM_TLS || n->type == NT_ARM_SYSTEM_CALL)
			take_arm(c, n);
		return NULL;
	}
	if (strcmp(n->name, "CORE") != 0)
		return NULL;
	switch (n->type) {
	case NT_PRSTATUS:
		return take_prstatus(c, n);
	case NT_PRPSINFO:
		return take_prpsinfo(c, n);
	case NT_AUXV:
		return take_auxv(c, n);
	case NT_FILE:
		return take_files(c, n);
	case NT_SIGINFO:
		if (!c->info.signal)
			c->info.signal = (int)uint_at(c, n, 0, 4);
		return NULL;
	default:
		return NULL;
	}
}

static bool is_wanted(uint32_t type)
{
	return type == NT_PRSTATUS || type == NT_PRPSINFO || type == NT_AUXV || type == NT_FILE ||
	       type == NT_SIGINFO || type == NT_386_TLS || type == NT_ARM_TLS ||
	       type == NT_ARM_SYSTEM_CALL || type == 0;
}

static struct asc_error *take_at(struct asc_core *c, struct note *n, uint64_t off, uint64_t len)
{
	ASC_AUTO(asc_freep) uint8_t *desc = NULL;

	if (!is_wanted(n->type) || len > DESC_MAX || off >= c->bytes.len)
		return NULL;
	n->len = (size_t)asc_min(len, c->bytes.len - off);
	desc = malloc(n->len + 1);
	if (!desc)
		return asc_err(ASC_ENOMEM, "note of %zu bytes", n->len);
	n->len = asc_bytes_read(&c->bytes, off, desc, n->len);
	n->desc = desc;
	return take(c, n);
}

static int by_tid(const void *a, const void *b)
{
	const struct asc_thread *x = a, *y = b;

	return (x->tid > y->tid) - (x->tid < y->tid);
}

/*
 * What the notes say together, once all are read. The thread that the signal hit comes first in
 * them; afterwards threads stand in the order in which a live process has them.
 */
void asc_core_notes_done(struct asc_core *c)
{
	struct asc_thread *first = c->t.nthreads ? &c->t.threads[0] : NULL;

	if (!first)
		return;
	if (!c->t.pid)
		c->t.pid = first->tid;
	if (!c->info.signal)
		c->info.signal = first->signal;
	if (c->info.is_gcore && (c->info.signal == SIGSTOP || c->info.signal == SIGTRAP))
		c->info.signal = first->signal = 0; /* gdb's own stop */
	for (size_t i = 0; i < c->t.nthreads; i++) {
		struct asc_thread *th = &c->t.threads[i];

		if (i)
			th->signal =
				0; /* the kernel writes the one signal into every thread's note */
		if (th->tid == c->t.pid)
			memcpy(th->name, c->t.name, sizeof(th->name));
		/* a core has no task states: only this much can be told from the registers */
		if (th->syscall_nr >= 0 && !th->signal)
			th->state = 'S';
		else if (th->syscall_nr == -1)
			th->state = 'R';
	}
	asc_sort(c->t.threads, c->t.nthreads, sizeof(*c->t.threads), by_tid);
}

struct asc_error *asc_core_notes(struct asc_core *c, uint64_t off, uint64_t len)
{
	uint64_t end, at = off;

	/* all notes together are no longer than the file, whatever the headers say */
	if (!asc_add(off, asc_min(len, c->bytes.len - c->notes_read), &end))
		return NULL;
	end = asc_min(end, c->bytes.len);
	while (at < end && end - at >= sizeof(Elf64_Nhdr)) {
		uint8_t h[sizeof(Elf64_Nhdr)];
		struct note n = { 0 };
		uint64_t namesz, descsz, desc;

		if (asc_bytes_read(&c->bytes, at, h, sizeof(h)) < sizeof(h))
			break;
		namesz = asc_load_u32(h);
		descsz = asc_load_u32(h + 4);
		n.type = asc_load_u32(h + 8);
		if (!namesz && !descsz && !n.type)
			break; /* zeros: a hole, not notes */
		desc = at + sizeof(h) + asc_align_up(namesz, 4);
		if (desc > end)
			break;
		(void)asc_bytes_read(&c->bytes, at + sizeof(h), n.name,
				     (size_t)asc_min(namesz, sizeof(n.name) - 1));
		ASC_TRY(take_at(c, &n, desc, descsz));
		at = desc + asc_align_up(descsz, 4);
	}
	c->notes_read += asc_min(at - off, c->bytes.len - c->notes_read);
	return NULL;
}
