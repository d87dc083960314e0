/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/live_threads.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/restart.h"

/* Codes that the kernel keeps in the result register of an interrupted system call. */
enum { ERESTARTSYS = 512, ERESTARTNOINTR = 513, ERESTART_RESTARTBLOCK = 516 };
/* More newborn threads than this keep their unread names rather than lengthen the pause. */
enum { NEWBORN_READS = 64 };
enum { LEAF_BYTES = 4096 };

void asc_threads_free(struct asc_thread_list *list)
{
	free(list->v);
	*list = (struct asc_thread_list){ 0 };
}

/* A short file of a thread: one read has it all, and no path is walked but its end. */
static bool read_leaf(int task_fd, pid_t tid, const char *leaf, struct asc_text *text)
{
	ASC_AUTO(asc_closep) int fd = -1;
	char path[32];
	ssize_t n;

	if (text->cap < LEAF_BYTES) {
		char *p = realloc(text->p, LEAF_BYTES);

		if (!p)
			return false;
		text->p = p;
		text->cap = LEAF_BYTES;
	}
	snprintf(path, sizeof(path), "%d/%s", (int)tid, leaf);
	fd = openat(task_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	do {
		n = read(fd, text->p, text->cap - 1);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return false;
	text->len = (size_t)n;
	text->p[n] = 0;
	return true;
}

/* A number at @p s, which moves on behind it. */
static bool next_number(const char **s, uint64_t *ret)
{
	size_t n = strcspn(*s, " \n");
	char word[24];

	if (!n || n >= sizeof(word))
		return false;
	memcpy(word, *s, n);
	word[n] = 0;
	*s += n + ((*s)[n] == ' ');
	return asc_parse_u64(word, ret);
}

static void put_reg(struct asc_regs *r, struct asc_reg_field f, uint64_t v)
{
	if (f.size == 4 && f.off + 4u <= sizeof(r->raw))
		memcpy(r->raw + f.off, &(uint32_t){ (uint32_t)v }, 4);
	else if (f.size == 8 && f.off + 8u <= sizeof(r->raw))
		memcpy(r->raw + f.off, &v, 8);
}

/* Where it sleeps: as good as a stop for a stack whose functions keep no frame pointer. */
static void put_pc_sp(const struct asc_arch *arch, const char *s, struct asc_thread *t)
{
	uint64_t pc, sp;

	if (!next_number(&s, &sp) || !next_number(&s, &pc) || !pc || !sp)
		return;
	t->regs = (struct asc_regs){ .valid = true, .partial = true, .len = arch->gregs_size };
	put_reg(&t->regs, arch->pc, pc);
	put_reg(&t->regs, arch->sp, sp);
}

/* "NR ARG0 .. ARG5 SP PC", "running", or "-1 SP PC" outside of a system call */
static void parse_syscall(const struct asc_arch *arch, const char *s, struct asc_thread *t)
{
	uint64_t nr;

	t->syscall_nr = INT64_MIN;
	if (!strncmp(s, "running", 7) || !strncmp(s, "-1 ", 3)) {
		t->syscall_nr = -1;
		if (*s == '-')
			put_pc_sp(arch, s + 3, t);
		return;
	}
	if (!next_number(&s, &nr))
		return;
	for (size_t i = 0; i < 6; i++) {
		if (!next_number(&s, &t->syscall_args[i]))
			return;
	}
	t->syscall_nr = (int64_t)nr;
	t->syscall_args_valid = true;
	put_pc_sp(arch, s, t);
}

static void read_syscall(int task_fd, const struct asc_arch *arch, struct asc_text *text,
			 struct asc_thread *t)
{
	t->syscall_nr = INT64_MIN;
	if (read_leaf(task_fd, t->tid, "syscall", text))
		parse_syscall(arch, text->p, t);
}

/* @return false if the thread is gone */
static bool read_stat(int task_fd, struct asc_text *text, struct asc_thread *t)
{
	struct asc_proc_stat st;

	if (!read_leaf(task_fd, t->tid, "stat", text) || !asc_proc_parse_stat(text->p, &st) ||
	    st.state == 'X')
		return false;
	memcpy(t->name, st.comm, sizeof(t->name) - 1);
	t->name[sizeof(t->name) - 1] = 0;
	t->state = st.state;
	t->utime_ticks = st.utime;
	t->stime_ticks = st.stime;
	t->times_valid = true;
	t->kernel_flags = st.flags;
	return true;
}

static bool read_one(int task_fd, const struct asc_arch *arch, unsigned what, struct asc_text *text,
		     struct asc_thread *t)
{
	size_t n;

	if (!read_stat(task_fd, text, t))
		return false;
	/* "0": not asleep, or no right to know */
	if (what & ASC_THREADS_WCHAN && t->state != 'R' &&
	    read_leaf(task_fd, t->tid, "wchan", text) && strcmp(text->p, "0")) {
		n = asc_min(text->len, sizeof(t->wchan) - 1);
		memcpy(t->wchan, text->p, n);
		t->wchan[n] = 0;
	}
	t->syscall_nr = INT64_MIN;
	if (what & ASC_THREADS_SYSCALL)
		read_syscall(task_fd, arch, text, t);
	return true;
}

struct asc_error *asc_threads_read(pid_t pid, int task_fd, const struct asc_arch *arch,
				   unsigned what, struct asc_text *text,
				   struct asc_thread_list *ret)
{
	ASC_AUTO(asc_freep) pid_t *tids = NULL;
	struct asc_thread *v;
	size_t n = 0, kept = 0;
	int e = asc_proc_tasks(pid, &tids, &n);

	if (e && e != ENOENT && e != ESRCH)
		return asc_err_os(e, "cannot list the threads of process %d", pid);
	v = calloc(n + 1, sizeof(*v));
	if (!v)
		return asc_err(ASC_ENOMEM, "%zu threads", n);
	for (size_t i = 0; i < n; i++) {
		v[kept] = (struct asc_thread){ .tid = tids[i] };
		kept += read_one(task_fd, arch, what, text, &v[kept]);
	}
	*ret = (struct asc_thread_list){ v, kept };
	return NULL;
}

static int by_tid(const void *a, const void *b)
{
	const struct asc_thread *x = a, *y = b;

	return (x->tid > y->tid) - (x->tid < y->tid);
}

static int64_t signed_reg(const struct asc_arch *arch, const struct asc_regs *r,
			  struct asc_reg_field f)
{
	uint64_t v = asc_arch_reg(arch, r->raw, r->len, f);

	return f.size == 4 ? (int32_t)v : (int64_t)v;
}

/* Was it in a system call when the stop came? The result register tells. */
static void system_call(const struct asc_arch *arch, struct asc_thread *t)
{
	int64_t nr, result;

	t->syscall_nr = INT64_MIN;
	if (!t->regs.valid || arch == &asc_arch_aarch64) /* x8 is stale outside of a system call */
		return;
	nr = signed_reg(arch, &t->regs, arch->syscall_nr);
	result = signed_reg(arch, &t->regs, arch->result);
	t->syscall_nr = -1;
	if (nr < 0 ||
	    (result != -ASC_KERNEL_EINTR && result != -ERESTARTSYS && result != -ERESTARTNOINTR &&
	     result != -ASC_KERNEL_ERESTARTNOHAND && result != -ERESTART_RESTARTBLOCK))
		return;
	t->syscall_nr = nr;
	for (size_t i = 0; i < 6; i++)
		t->syscall_args[i] = asc_arch_reg(arch, t->regs.raw, t->regs.len, arch->args[i]);
	t->syscall_args_valid = true;
}

static void apply_slot(const struct asc_arch *arch, const struct asc_stop_slot *s,
		       struct asc_thread *t)
{
	t->stopped = true;
	t->regs.partial = false;
	t->regs.len = (uint32_t)asc_min(s->len, sizeof(t->regs.raw));
	memcpy(t->regs.raw, s->raw, t->regs.len);
	t->regs.valid = s->len == arch->gregs_size;
	t->regs.tp_valid = t->regs.valid && s->tp_valid;
	t->regs.tp = s->tp;
	system_call(arch, t);
	if (s->found)
		t->state = (char)s->found;
	else if (t->syscall_nr != INT64_MIN)
		t->state = t->syscall_nr >= 0 ? 'S' : 'R';
	if (t->state == 'R')
		t->wchan[0] = 0;
}

struct asc_error *asc_threads_stopped(int task_fd, const struct asc_arch *arch,
				      const struct asc_thread_list *before,
				      const struct asc_stop_slot *slots, size_t n,
				      struct asc_thread_list *ret)
{
	ASC_AUTO(asc_text_free) struct asc_text text = { 0 };
	struct asc_thread *v = calloc(n + 1, sizeof(*v));
	unsigned newborn = 0;
	size_t kept = 0;

	if (!v)
		return asc_err(ASC_ENOMEM, "%zu threads", n);
	for (size_t i = 0; i < n; i++) {
		struct asc_thread key = { .tid = slots[i].tid }, *t = &v[kept];
		const struct asc_thread *known =
			bsearch(&key, before->v, before->n, sizeof(key), by_tid);

		if (slots[i].state != ASC_SLOT_STOPPED && slots[i].state != ASC_SLOT_LATE &&
		    slots[i].state != ASC_SLOT_ZOMBIE)
			continue;
		*t = known ? *known : key;
		if (!known)
			t->state = '?';
		if (!known && newborn++ < NEWBORN_READS)
			read_stat(task_fd, &text, t);
		if (slots[i].state == ASC_SLOT_STOPPED) {
			apply_slot(arch, &slots[i], t);
		} else {
			t->state = slots[i].state == ASC_SLOT_ZOMBIE ? 'Z' : (char)slots[i].found;
			read_syscall(task_fd, arch, &text, t);
		}
		kept++;
	}
	asc_sort(v, kept, sizeof(*v), by_tid);
	*ret = (struct asc_thread_list){ v, kept };
	return NULL;
}
