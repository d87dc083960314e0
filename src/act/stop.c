/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * All threads stopped, in two phases: seize every one while the target runs, then interrupt all at
 * once and collect. New threads are looked for until a pass finds none: with every known thread
 * stopped only an unknown one can make more.
 *
 * A stop is looked at without being consumed (WNOWAIT): the kernel drops a signal whose stop its
 * tracer has consumed if the tracer then dies.
 */
#include "act/inject.h"

#if ASC_CAN_INJECT
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ptrace.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/diagnose.h"
#include "target/proc.h"
#include "target/restart.h"

enum {
	PASSES = 1000,
	PASSES_MS = 5000,
	PATIENCE_MS = 200,
	PATIENCE_D_MS = 10,
	LOOK_NS = 20000,
	SETTLE_MS = 10000,
	SETTLE_D_MS = 100,
};

double asc_act_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

long asc_pt(int request, pid_t tid, uint64_t addr, void *data)
{
	return syscall(SYS_ptrace, (long)request, (long)tid, addr, data);
}

static void nap(void)
{
	struct timespec ts = { 0, LOOK_NS };

	nanosleep(&ts, NULL);
}

struct asc_halted *asc_halt_find(struct asc_halt *h, pid_t tid)
{
	for (size_t i = 0; i < h->n; i++) {
		if (h->v[i].tid == tid)
			return &h->v[i];
	}
	return NULL;
}

void asc_halt_free(struct asc_halt *h)
{
	free(h->v);
	h->v = NULL;
	h->n = h->cap = 0;
}

/* By the thread itself: the first one may have ended, and has no descriptors then. */
static bool is_socket(pid_t tid, uint64_t fd)
{
	char path[64], to[16];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%llu", tid, (unsigned long long)fd);
	n = readlink(path, to, sizeof(to));
	return n >= 7 && !memcmp(to, "socket:", 7);
}

bool asc_halt_hide_eintr(pid_t tid, struct user_regs_struct *regs)
{
	uint8_t raw[sizeof(*regs)];
	uint64_t fd = 0;

	if ((int64_t)regs->orig_rax < 0)
		return false;
	memcpy(raw, regs, sizeof(raw));
	switch (asc_restart_kind(raw, sizeof(raw), &fd)) {
	case ASC_RESTART_NEVER:
		return false;
	case ASC_RESTART_IF_SOCKET:
		if (!is_socket(tid, fd))
			return false;
		break;
	case ASC_RESTART_ALWAYS:
		break;
	}
	asc_restart_set(raw, sizeof(raw), ASC_KERNEL_ERESTARTNOHAND);
	memcpy(regs, raw, sizeof(raw));
	return true;
}

static void let_go(struct asc_halted *t)
{
	asc_pt(PTRACE_DETACH, t->tid, 0, NULL);
	t->state = ASC_HALT_GONE;
}

/* Has it stopped? A signal that came first is passed on. */
static void look(struct asc_halted *t)
{
	siginfo_t si = { 0 };
	struct iovec io = { &t->regs, sizeof(t->regs) };

	if (waitid(P_PID, (id_t)t->tid, &si, WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL)) {
		t->state = ASC_HALT_GONE;
		return;
	}
	if (!si.si_pid)
		return;
	if (si.si_code != CLD_TRAPPED && si.si_code != CLD_STOPPED) {
		waitpid(t->tid, NULL, __WALL | WNOHANG);
		t->state = ASC_HALT_GONE;
		return;
	}
	if (si.si_status >> 8 != PTRACE_EVENT_STOP) {
		int sig = si.si_status & 0x7f;

		/* any stop takes back the wish for one */
		asc_pt(PTRACE_INTERRUPT, t->tid, 0, NULL);
		/* SIGTRAP of an exec: an event of ours, not a signal */
		asc_pt(PTRACE_CONT, t->tid, 0, si.si_status >> 8 ? NULL : (void *)(long)sig);
		return;
	}
	t->known = !asc_pt(PTRACE_GETREGSET, t->tid, NT_PRSTATUS, &io) &&
		   io.iov_len == sizeof(t->regs);
	/* at once, so that even our death does not show */
	if (t->known && asc_halt_hide_eintr(t->tid, &t->regs))
		asc_pt(PTRACE_SETREGSET, t->tid, NT_PRSTATUS, &io);
	t->state = ASC_HALT_STOPPED;
}

static struct asc_error *add(struct asc_halt *h, pid_t tid)
{
	if (h->n == h->cap) {
		size_t cap = h->cap ? h->cap * 2 : 64;
		struct asc_halted *v = reallocarray(h->v, cap, sizeof(*v));

		if (!v)
			return asc_err(ASC_ENOMEM, "%zu threads", cap);
		h->v = v;
		h->cap = cap;
	}
	h->v[h->n++] = (struct asc_halted){ .tid = tid, .state = ASC_HALT_SEIZED };
	return NULL;
}

/* @p ret_new: it is ours now and was not before */
static struct asc_error *seize(struct asc_halt *h, pid_t tid, struct asc_halted *t, bool *ret_new)
{
	struct asc_proc_stat st;
	int e;

	*ret_new = false;
	if (t && t->state != ASC_HALT_GONE)
		return NULL;
	if (asc_pt(PTRACE_SEIZE, tid, 0, (void *)(long)PTRACE_O_TRACESYSGOOD)) {
		e = errno;
		if (e == ESRCH || asc_proc_stat(h->pid, tid, &st) || st.state == 'Z' ||
		    st.state == 'X')
			return NULL;
		return asc_wrap(asc_diagnose(h->pid, e, "attach to"), "thread %d", tid);
	}
	*ret_new = true;
	if (t) {
		t->state = ASC_HALT_SEIZED;
		t->known = t->keep = false;
		return NULL;
	}
	return add(h, tid);
}

/* One pass over the list of threads. @p ret_new: how many were new */
static struct asc_error *pass(struct asc_halt *h, bool interrupt, size_t *ret_new)
{
	ASC_AUTO(asc_freep) pid_t *tids = NULL;
	size_t n = 0, found = 0, at = 0;
	int e = asc_proc_tasks(h->pid, &tids, &n);

	if (e)
		return asc_err_id(asc_err(ASC_ENOTARGET, "no process %d", h->pid), "E-NOPROC");
	for (size_t i = 0; i < n; i++) {
		struct asc_halted *t;
		bool fresh;

		/* both lists are in the same order nearly always */
		t = at < h->n && h->v[at].tid == tids[i] ? &h->v[at] : asc_halt_find(h, tids[i]);
		at = t ? (size_t)(t - h->v) + 1 : at;
		ASC_TRY(seize(h, tids[i], t, &fresh));
		if (fresh && interrupt)
			asc_pt(PTRACE_INTERRUPT, tids[i], 0, NULL);
		found += fresh;
	}
	*ret_new = found;
	return NULL;
}

static void collect(struct asc_halt *h)
{
	double began = asc_act_now();
	struct asc_proc_stat st;

	for (;;) {
		size_t waiting = 0;
		double waited = asc_act_now() - began;

		for (size_t i = 0; i < h->n; i++) {
			struct asc_halted *t = &h->v[i];

			if (t->state == ASC_HALT_SEIZED || t->state == ASC_HALT_LATE)
				look(t);
			if (t->state == ASC_HALT_SEIZED && waited > PATIENCE_D_MS &&
			    (waited > PATIENCE_MS ||
			     (!asc_proc_stat(h->pid, t->tid, &st) && st.state == 'D')))
				t->state = ASC_HALT_LATE;
			waiting += t->state == ASC_HALT_SEIZED;
		}
		if (!waiting)
			return;
		nap();
	}
}

struct asc_error *asc_halt_all(struct asc_halt *h)
{
	struct asc_error *err = NULL;
	size_t fresh = 1;

	for (size_t i = 0; i < 8 && fresh && !err; i++)
		err = pass(h, false, &fresh);
	if (!err)
		h->since = asc_act_now();
	for (size_t i = 0; i < h->n && !err; i++) {
		if (h->v[i].state == ASC_HALT_SEIZED)
			asc_pt(PTRACE_INTERRUPT, h->v[i].tid, 0, NULL);
	}
	for (size_t i = 0; i < PASSES && !err; i++) {
		collect(h);
		err = pass(h, true, &fresh);
		if (!fresh)
			break;
		if (!err && asc_act_now() - h->since > PASSES_MS)
			err = asc_err(ASC_EAGAIN, "threads are born faster than they are stopped");
	}
	for (size_t i = 0; i < h->n && err && h->since > 0; i++) {
		if (h->v[i].state ==
		    ASC_HALT_SEIZED) /* asked to stop: asc_halt_settle() waits for it */
			h->v[i].state = ASC_HALT_LATE;
	}
	if (err)
		asc_halt_release(h, 0);
	return err;
}

struct asc_error *asc_halt_one(struct asc_halt *h, pid_t tid)
{
	struct asc_halted *t;
	bool fresh;

	ASC_TRY(seize(h, tid, asc_halt_find(h, tid), &fresh));
	t = asc_halt_find(h, tid);
	if (!t || !fresh)
		return asc_err(ASC_EAGAIN, "thread %d exited", tid);
	h->since = asc_act_now();
	asc_pt(PTRACE_INTERRUPT, tid, 0, NULL);
	collect(h);
	if (t->state != ASC_HALT_STOPPED || !t->known) {
		asc_halt_release(h, 0);
		return asc_err(ASC_EAGAIN, "thread %d did not stop", tid);
	}
	return NULL;
}

void asc_halt_thin(struct asc_halt *h)
{
	for (size_t i = 0; i < h->n; i++) {
		struct asc_halted *t = &h->v[i];

		if (t->state == ASC_HALT_LATE)
			look(t);
		if (!t->keep && t->state == ASC_HALT_STOPPED)
			let_go(t);
	}
	if (h->since > 0)
		h->ms += asc_act_now() - h->since;
	h->since = 0;
}

void asc_halt_release(struct asc_halt *h, pid_t keep)
{
	for (size_t i = 0; i < h->n; i++)
		h->v[i].keep = h->v[i].tid == keep;
	asc_halt_thin(h);
}

bool asc_halt_late(struct asc_halt *h, pid_t tid, int status)
{
	struct asc_halted *t = asc_halt_find(h, tid);
	struct iovec io;

	if (!t)
		return false;
	if (WIFSTOPPED(status) && t->state == ASC_HALT_STOPPED)
		return true; /* the stop that is known, kept until it is released */
	if (WIFSTOPPED(status)) {
		bool event = status >> 16 == PTRACE_EVENT_STOP;

		io = (struct iovec){ &t->regs, sizeof(t->regs) };
		if (event && !asc_pt(PTRACE_GETREGSET, tid, NT_PRSTATUS, &io) &&
		    asc_halt_hide_eintr(t->tid, &t->regs))
			asc_pt(PTRACE_SETREGSET, tid, NT_PRSTATUS, &io);
		/* a signal goes on to where it was meant to go */
		asc_pt(PTRACE_DETACH, tid, 0, status >> 16 ? NULL : (void *)(long)WSTOPSIG(status));
	}
	t->state = ASC_HALT_GONE;
	return true;
}

bool asc_halt_hold(struct asc_halt *h, pid_t tid, int status)
{
	struct asc_halted *t = asc_halt_find(h, tid);
	struct iovec io;

	if (!t)
		return false;
	if (!WIFSTOPPED(status)) {
		t->state = ASC_HALT_GONE;
		return true;
	}
	if (t->state == ASC_HALT_STOPPED)
		return true;
	if (status >> 16 != PTRACE_EVENT_STOP) {
		/* any stop takes back the wish for one */
		asc_pt(PTRACE_INTERRUPT, tid, 0, NULL);
		asc_pt(PTRACE_CONT, tid, 0, status >> 16 ? NULL : (void *)(long)WSTOPSIG(status));
		return true;
	}
	io = (struct iovec){ &t->regs, sizeof(t->regs) };
	t->known = !asc_pt(PTRACE_GETREGSET, tid, NT_PRSTATUS, &io) &&
		   io.iov_len == sizeof(t->regs);
	if (t->known && asc_halt_hide_eintr(tid, &t->regs))
		asc_pt(PTRACE_SETREGSET, tid, NT_PRSTATUS, &io);
	t->state = ASC_HALT_STOPPED;
	return true;
}

void asc_halt_settle(struct asc_halt *h)
{
	double began = asc_act_now();
	struct asc_proc_stat st;
	bool waiting = true;

	while (waiting && asc_act_now() - began < SETTLE_MS) {
		waiting = false;
		for (size_t i = 0; i < h->n; i++) {
			struct asc_halted *t = &h->v[i];

			if (t->state != ASC_HALT_LATE)
				continue;
			look(t);
			if (t->state == ASC_HALT_STOPPED)
				let_go(t);
			/* in state D nothing is interrupted, but soon after it may be */
			waiting |= t->state == ASC_HALT_LATE &&
				   !asc_proc_stat(h->pid, t->tid, &st) &&
				   (st.state != 'D' || asc_act_now() - began < SETTLE_D_MS);
		}
		if (waiting)
			nap();
	}
}
#endif
