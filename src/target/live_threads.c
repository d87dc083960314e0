/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/live_threads.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/restart.h"

/* Codes that the kernel keeps in the result register of an interrupted system call. */
enum { ERESTARTSYS = 512, ERESTARTNOINTR = 513, ERESTART_RESTARTBLOCK = 516 };
/* More newborn threads than this keep their unread names rather than lengthen the pause. */
enum { NEWBORN_READS = 64 };

void asc_threads_free(struct asc_thread_list *list)
{
	free(list->v);
	*list = (struct asc_thread_list){ 0 };
}

/* "NR ARG0 .. ARG5 SP PC", "running", or "-1 SP PC" outside of a system call */
static void parse_syscall(const char *s, struct asc_thread *t)
{
	uint64_t nr;
	char word[24];

	t->syscall_nr = INT64_MIN;
	for (int i = -1; i < 6; i++) {
		size_t n = strcspn(s, " \n");

		if (!n || n >= sizeof(word))
			return;
		memcpy(word, s, n);
		word[n] = 0;
		if (i < 0 && (!strcmp(word, "running") || !strcmp(word, "-1"))) {
			t->syscall_nr = -1;
			return;
		}
		if (!asc_parse_u64(word, &nr))
			return;
		if (i < 0)
			t->syscall_nr = (int64_t)nr;
		else
			t->syscall_args[i] = nr;
		s += n + (s[n] == ' ');
	}
	t->syscall_args_valid = true;
}

static void read_syscall(pid_t pid, struct asc_text *text, struct asc_thread *t)
{
	t->syscall_nr = INT64_MIN;
	if (!asc_proc_read(pid, t->tid, "syscall", text))
		parse_syscall(text->p, t);
}

/* @return false if the thread is gone */
static bool read_stat(pid_t pid, struct asc_text *text, struct asc_thread *t)
{
	struct asc_proc_stat st;

	if (asc_proc_read(pid, t->tid, "stat", text) || !asc_proc_parse_stat(text->p, &st) ||
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

static bool read_one(pid_t pid, bool syscalls, struct asc_text *text, struct asc_thread *t)
{
	size_t n;

	if (!read_stat(pid, text, t))
		return false;
	if (!asc_proc_read(pid, t->tid, "status", text))
		t->sig_valid = asc_proc_status_hex(text->p, "SigBlk", &t->sigblk) &&
			       asc_proc_status_hex(text->p, "SigPnd", &t->sigpnd);
	/* "0": not asleep, or no right to know */
	if (!asc_proc_read(pid, t->tid, "wchan", text) && strcmp(text->p, "0")) {
		n = asc_min(text->len, sizeof(t->wchan) - 1);
		memcpy(t->wchan, text->p, n);
		t->wchan[n] = 0;
	}
	t->syscall_nr = INT64_MIN;
	if (syscalls)
		read_syscall(pid, text, t);
	return true;
}

struct asc_error *asc_threads_read(pid_t pid, bool syscalls, struct asc_text *text,
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
		kept += read_one(pid, syscalls, text, &v[kept]);
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

struct asc_error *asc_threads_stopped(pid_t pid, const struct asc_arch *arch,
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
			read_stat(pid, &text, t);
		if (slots[i].state == ASC_SLOT_STOPPED) {
			apply_slot(arch, &slots[i], t);
		} else {
			t->state = slots[i].state == ASC_SLOT_ZOMBIE ? 'Z' : (char)slots[i].found;
			read_syscall(pid, &text, t);
		}
		kept++;
	}
	asc_sort(v, kept, sizeof(*v), by_tid);
	*ret = (struct asc_thread_list){ v, kept };
	return NULL;
}
