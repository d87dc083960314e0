/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A live process. Memory is read by process_vm_readv, by the tool itself and also while the stopper
 * holds the target; every path of /proc goes through a thread that lives, since a leader that has
 * exited takes /proc/PID/maps, mem and exe with it though its process lives on.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/cputime.h"
#include "target/diagnose.h"
#include "target/live_priv.h"
#include "target/live_threads.h"
#include "target/pagemap.h"
#include "target/pagestore.h"
#include "target/proc.h"
#include "target/readcache.h"
#include "target/readers.h"
#include "target/snapshot.h"
#include "target/stackplan.h"
#include "target/stopper.h"
#include "target/target.h"
#include "target/threadptr.h"

enum { IOV_BATCH = 1024, BATCH_BYTES = 1 << 30, TEXT_KEPT = 256 << 10 };

static struct asc_error *gone(const struct live *l)
{
	return asc_err_id(asc_err(ASC_EAGAIN, "process %d ended while it was being read", l->t.pid),
			  "E-GONE");
}

/* ---- memory ---- */

/* With FOLL_FORCE /proc/PID/mem would read, and so populate, what the target itself may not read. */
static size_t mem_read(struct live *l, asc_addr addr, char *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		const struct asc_map *m = asc_maps_find(&l->t.maps, addr + done);
		size_t want;
		ssize_t n;

		if (!m || !(m->flags & ASC_MAP_READ) || addr + done > INT64_MAX)
			break;
		want = (size_t)asc_min(len - done, m->end - (addr + done));
		n = pread(l->mem_fd, buf + done, want, (off_t)(addr + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

/* process_vm_readv through any thread that lives. @return bytes, 0 if none, -1 for a dead target */
static ssize_t vm_readv(struct live *l, const struct iovec *local, const struct iovec *remote,
			size_t n)
{
	for (int tries = 0;; tries++) {
		pid_t tid = __atomic_load_n(&l->tid, __ATOMIC_RELAXED);
		ssize_t r = process_vm_readv(tid, local, n, remote, n, 0);

		if (r >= 0)
			return r;
		if (errno == EINTR)
			continue;
		if (errno != ESRCH || tries == 3)
			return errno == ESRCH ? -1 : 0;
		tid = asc_proc_live_tid(l->t.pid);
		if (!tid)
			return -1;
		__atomic_store_n(&l->tid, tid, __ATOMIC_RELAXED);
	}
}

static size_t read_now(void *live, asc_addr addr, void *buf, size_t len)
{
	struct live *l = live;
	size_t done = 0;

	if (l->by_mem)
		return mem_read(l, addr, buf, len);
	while (done < len) {
		struct iovec local = { (char *)buf + done,
				       (size_t)asc_min(len - done, BATCH_BYTES) };
		struct iovec remote = { (void *)(uintptr_t)(addr + done), local.iov_len };
		ssize_t r = vm_readv(l, &local, &remote, 1);

		if (r <= 0)
			break;
		done += (size_t)r;
	}
	return done;
}

/* All or nothing: where it is not known whether there is more, it is not said. */
static size_t sealed_read(struct live *l, asc_addr addr, void *buf, size_t len)
{
	if (asc_page_store_get(l->store, addr, buf, len))
		return len;
	__atomic_store_n(&l->missed, true, __ATOMIC_RELAXED);
	return 0;
}

/* In a rehearsal each page is read once. @return how many pieces there was room for */
static size_t note(struct live *l, const struct asc_iov *iov, size_t n)
{
	size_t i = 0;

	while (i < n && asc_page_store_note(l->store, iov[i].addr, iov[i].len))
		i++;
	asc_live_load(l, NULL);
	return i;
}

static size_t live_read(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	struct live *l = live_of(t);

	if (l->sealed)
		return sealed_read(l, addr, buf, len);
	if (l->noting && !note(l, &(struct asc_iov){ .addr = addr, .len = len }, 1))
		return 0;
	if (asc_live_keeps(l) && asc_page_store_get(l->store, addr, buf, len))
		return len;
	if (l->cache && asc_read_cache_wants(addr, len))
		return asc_read_cache_get(l->cache, addr, buf, len, read_now, l);
	return read_now(l, addr, buf, len);
}

/* What is kept of the target's pages belongs to the main thread. */
static size_t live_read_beside(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	struct live *l = live_of(t);

	return l->sealed ? sealed_read(l, addr, buf, len) : read_now(l, addr, buf, len);
}

/* Hand out @p bytes to iov[0..n). @return how many pieces were filled */
static size_t account(struct asc_iov *iov, size_t n, size_t bytes)
{
	size_t i = 0;

	for (; i < n && bytes >= iov[i].len; i++) {
		iov[i].got = iov[i].len;
		bytes -= iov[i].len;
	}
	if (i < n)
		iov[i].got = bytes;
	return i;
}

/* Two threads may be here at once: what belongs to the main thread is looked at, and not changed. */
static struct asc_error *live_read_bulk(struct asc_target *t, struct asc_iov *iov, size_t n)
{
	struct live *l = live_of(t);
	struct iovec local[IOV_BATCH], remote[IOV_BATCH];

	if (l->noting)
		n = note(l, iov, n);
	for (size_t i = 0; i < n && l->sealed; i++)
		iov[i].got = sealed_read(l, iov[i].addr, iov[i].buf, iov[i].len);
	for (size_t at = 0; at < n && !l->sealed;) {
		size_t k = 0, bytes = 0, filled;
		ssize_t r;

		if (asc_live_keeps(l) &&
		    asc_page_store_get(l->store, iov[at].addr, iov[at].buf, iov[at].len)) {
			iov[at].got = iov[at].len;
			at++;
			continue;
		}
		if (l->by_mem || iov[at].len > BATCH_BYTES) {
			iov[at].got = read_now(l, iov[at].addr, iov[at].buf, iov[at].len);
			at++;
			continue;
		}
		for (; k < IOV_BATCH && at + k < n && iov[at + k].len <= BATCH_BYTES - bytes; k++) {
			local[k] = (struct iovec){ iov[at + k].buf, iov[at + k].len };
			remote[k] = (struct iovec){ (void *)(uintptr_t)iov[at + k].addr,
						    iov[at + k].len };
			bytes += iov[at + k].len;
		}
		r = vm_readv(l, local, remote, k);
		if (r < 0)
			return gone(l);
		filled = account(iov + at, k, (size_t)r);
		at += filled;
		if (filled == k)
			continue;
		/* the kernel gives up a whole request at its first bad page: ask for the rest of
		 * this piece alone, which says exactly how far it goes, and go on behind it */
		iov[at].got += read_now(l, iov[at].addr + iov[at].got,
					(char *)iov[at].buf + iov[at].got,
					iov[at].len - iov[at].got);
		at++;
	}
	return NULL;
}

/* ---- mappings, auxv, CPU ---- */

/*
 * The kernel gives the list page by page: while the target runs, a mapping that changed between two
 * pages can stand there twice, and the list is read again.
 */
static struct asc_error *read_maps(struct live *l)
{
	enum { TRIES = 50 };
	struct asc_error *err = NULL;
	struct asc_maps maps;

	for (int i = 0; i < TRIES; i++) {
		int e = asc_proc_read(l->t.pid, l->tid, "maps", &l->text);

		asc_error_free(err);
		if (e == ENOENT || e == ESRCH || (!e && !l->text.len))
			return gone(l);
		if (e)
			return asc_diagnose(l->t.pid, e, "read the mappings of");
		err = asc_maps_parse(l->text.p, l->text.len, &maps);
		if (!err || err->code != ASC_EINPUT)
			break;
	}
	ASC_TRY(err);
	if (asc_maps_same(&l->t.maps, &maps)) {
		asc_maps_free(&maps);
		return NULL;
	}
	asc_maps_free(&l->t.maps);
	l->t.maps = maps;
	l->t.maps_serial++;
	return NULL;
}

/* An exec keeps pid and start time, but the kernel writes a new auxiliary vector. */
static struct asc_error *check_program(struct live *l)
{
	int e = asc_proc_read(l->t.pid, l->tid, "auxv", &l->text);

	if (e || !l->text.len)
		return gone(l);
	if (l->text.len == l->auxv_len && !memcmp(l->text.p, l->auxv_raw, l->auxv_len))
		return NULL;
	return asc_err_id(asc_err(ASC_EAGAIN, "process %d replaced its program (exec)", l->t.pid),
			  "E-EXEC");
}

static struct asc_error *read_auxv(struct live *l)
{
	size_t word = l->t.arch->word_size;
	int e = asc_proc_read(l->t.pid, l->tid, "auxv", &l->text);

	if (e)
		return asc_diagnose(l->t.pid, e, "read the auxiliary vector of");
	l->auxv_raw = malloc(l->text.len + 1);
	l->t.auxv = calloc(l->text.len / (2 * word) + 1, 2 * sizeof(*l->t.auxv));
	if (!l->auxv_raw || !l->t.auxv)
		return asc_err(ASC_ENOMEM, "auxiliary vector");
	memcpy(l->auxv_raw, l->text.p, l->text.len);
	l->auxv_len = l->text.len;
	for (size_t i = 0; i + 2 * word <= l->auxv_len; i += 2 * word) {
		uint64_t type = asc_word_at(&l->t, l->auxv_raw + i);

		if (type == AT_NULL)
			break;
		l->t.auxv[2 * l->t.nauxv] = type;
		l->t.auxv[2 * l->t.nauxv + 1] = asc_word_at(&l->t, l->auxv_raw + i + word);
		l->t.nauxv++;
	}
	return NULL;
}

static struct asc_error *find_arch(struct live *l)
{
	ASC_AUTO(asc_closep) int fd = -1;
	unsigned char e[20];
	int err = asc_proc_open(l->t.pid, l->tid, "exe", O_RDONLY, &fd);
	bool big;

	if (err)
		return asc_diagnose(l->t.pid, err, "open the executable of");
	if (pread(fd, e, sizeof(e), 0) != sizeof(e) || memcmp(e, ELFMAG, SELFMAG))
		return asc_err(ASC_EUNSUPPORTED, "the executable of process %d is not ELF",
			       l->t.pid);
	big = e[EI_DATA] == ELFDATA2MSB;
	l->t.arch = asc_arch_by_elf((uint16_t)(big ? e[18] << 8 | e[19] : e[19] << 8 | e[18]),
				    e[EI_CLASS] == ELFCLASS64, big);
	if (!l->t.arch)
		return asc_err_id(asc_err(ASC_EUNSUPPORTED,
					  "process %d is for a CPU (ELF machine %u) that "
					  "is not known here",
					  l->t.pid, (unsigned)e[18] | (unsigned)e[19] << 8),
				  "E-CPU");
	if (l->t.arch->word_size > asc_arch_native()->word_size)
		return asc_err_id(asc_err(ASC_EUNSUPPORTED,
					  "process %d is 64-bit, this build of arenascope "
					  "is 32-bit",
					  l->t.pid),
				  "E-CPU");
	return NULL;
}

/* ---- stop and release ---- */

static struct asc_error *take_threads(struct live *l, struct asc_thread_list *before)
{
	size_t n;
	const struct asc_stop_slot *slots = asc_stopper_slots(l->stopper, &n);
	struct asc_thread_list now = { 0 };

	ASC_TRY(asc_threads_stopped(l->task_fd, l->t.arch, before, slots, n, &now));
	free(l->t.threads);
	l->t.threads = now.v;
	l->t.nthreads = now.n;
	return NULL;
}

static struct asc_error *read_threads(struct live *l, unsigned what, struct asc_thread_list *ret)
{
	struct asc_error *err =
		asc_threads_read(l->t.pid, l->task_fd, l->t.arch, what, &l->text, ret);

	return err ? err : ret->n ? NULL : gone(l);
}

static struct asc_error *refresh(struct live *l)
{
	struct asc_thread_list now = { 0 };

	/* the times before the registers: who has not run since has the stack that they belong to */
	l->ncpu = 0;
	free(asc_take(l->cpu));
	l->cpu = calloc(l->t.nthreads + 1, sizeof(*l->cpu));
	if (!l->cpu)
		return asc_err(ASC_ENOMEM, "%zu threads", l->t.nthreads);
	l->ncpu = asc_cpu_times(l->t.pid, l->t.threads, l->t.nthreads, l->cpu);
	ASC_TRY(read_threads(l, ASC_THREADS_WCHAN | ASC_THREADS_SYSCALL, &now));
	free(l->t.threads);
	l->t.threads = now.v;
	l->t.nthreads = now.n;
	ASC_TRY(read_maps(l));
	asc_find_thread_pointers(&l->t, NULL);
	return NULL;
}

static bool exited(const struct live *l)
{
	struct pollfd p = { .fd = l->pidfd, .events = POLLIN };
	struct asc_proc_stat st;

	if (l->pidfd >= 0)
		return poll(&p, 1, 0) > 0;
	return asc_proc_stat(l->t.pid, 0, &st) || st.starttime != l->starttime;
}

static void live_release(struct asc_target *t, struct asc_pause *ret)
{
	struct live *l = live_of(t);

	*ret = (struct asc_pause){ 0 };
	asc_target_keep_pages(t, false);
	asc_stopper_end(asc_take(l->stopper), ret);
}

static struct asc_error *live_stop(struct asc_target *t, const struct asc_stop_opts *opts)
{
	struct live *l = live_of(t);
	ASC_AUTO(asc_threads_free) struct asc_thread_list before = { 0 };
	struct asc_pause pause;
	struct asc_error *err;

	if (l->stopper && asc_stopper_holds(l->stopper))
		return NULL;
	live_release(t, &pause);
	if (exited(l))
		return gone(l);
	l->tid = asc_proc_live_tid(t->pid);
	if (!l->tid)
		return gone(l);
	if (l->no_stop)
		return refresh(l);
	ASC_TRY(read_threads(l, ASC_THREADS_WCHAN, &before));
	ASC_TRY(asc_stopper_start(t->pid, l->task_fd, before.v, before.n, opts, &l->stopper));
	/* the pid may have been given to another process, or the program replaced, before we held
	 * it */
	err = exited(l) ? gone(l) : check_program(l);
	if (!err)
		err = read_maps(l);
	asc_fault("tool", 6);
	if (!err)
		err = take_threads(l, &before);
	if (l->text.cap > TEXT_KEPT)
		asc_text_free(&l->text);
	if (!err)
		asc_find_thread_pointers(t, NULL);
	if (err)
		live_release(t, &pause);
	return err;
}

struct asc_error *asc_live_take(struct asc_target *t, const struct asc_stop_slot *slots, size_t n)
{
	struct live *l = live_of(t);
	ASC_AUTO(asc_threads_free) struct asc_thread_list before = { 0 };
	struct asc_thread_list now = { 0 };

	ASC_TRY(read_maps(l));
	ASC_TRY(read_threads(l, 0, &before));
	ASC_TRY(asc_threads_stopped(l->task_fd, t->arch, &before, slots, n, &now));
	free(t->threads);
	t->threads = now.v;
	t->nthreads = now.n;
	asc_find_thread_pointers(t, NULL);
	return NULL;
}

static bool live_is_stopped(const struct asc_target *t)
{
	const struct live *l = (const struct live *)t;

	return l->stopper && asc_stopper_holds(l->stopper);
}

static bool live_alive(struct asc_target *t)
{
	struct live *l = live_of(t);
	struct asc_error *err;

	if (exited(l))
		return false;
	l->tid = asc_proc_live_tid(t->pid);
	err = l->tid ? check_program(l) : gone(l);
	asc_error_free(err);
	return !err;
}

/*
 * Whose registers and stack are of one moment? Those who did not run since the first were read. The
 * kernel counts a thread's time when it leaves the CPU and at ticks: one that is on a CPU now may
 * have run all the while, so that states come first.
 */
struct asc_error *asc_live_look(struct asc_target *live)
{
	return live->ops->kind == ASC_LIVE ? refresh(live_of(live)) : NULL;
}

struct asc_error *asc_live_look_early(struct asc_target *live, const struct asc_residency *res)
{
	struct live *l = live_of(live);
	struct asc_thread_list now = { 0 };

	ASC_TRY(read_threads(l, ASC_THREADS_SYSCALL, &now));
	free(l->t.threads);
	l->t.threads = now.v;
	l->t.nthreads = now.n;
	asc_find_thread_pointers(live, res);
	return NULL;
}

size_t asc_live_mark_runners(struct asc_target *live, struct asc_target *data)
{
	struct live *l = live_of(live);
	ASC_AUTO(asc_freep) struct asc_cpu_time *now = calloc(data->nthreads + 1, sizeof(*now));
	size_t n, ran = 0;

	for (size_t i = 0; l->no_stop && i < data->nthreads; i++)
		data->threads[i].ran_meanwhile = asc_thread_runs(data->pid, data->threads[i].tid);
	n = now ? asc_cpu_times(data->pid, data->threads, data->nthreads, now) : 0;
	for (size_t i = 0; l->no_stop && i < data->nthreads; i++) {
		struct asc_thread *th = &data->threads[i];
		uint64_t a, b;

		th->ran_meanwhile = th->ran_meanwhile ||
				    !asc_cpu_time_of(l->cpu, l->ncpu, th->tid, &a) ||
				    !asc_cpu_time_of(now, n, th->tid, &b) || a != b;
		ran += th->ran_meanwhile;
	}
	return ran;
}

static struct asc_error *live_residency(struct asc_target *t, struct asc_residency **ret)
{
	struct live *l = live_of(t);

	return asc_pagemap_residency(l->pagemap, &t->maps, ret);
}

struct asc_error *asc_live_residency_part(struct asc_target *live, const struct asc_maps *part,
					  struct asc_residency **ret)
{
	return asc_pagemap_residency_part(live_of(live)->pagemap, part, ret);
}

void asc_live_set_no_scan(struct asc_target *live)
{
	asc_pagemap_set_no_scan(live_of(live)->pagemap);
}

static void live_close(struct asc_target *t)
{
	struct live *l = live_of(t);
	int fds[] = { l->pidfd, l->mem_fd, l->task_fd };

	for (size_t i = 0; i < ASC_ARRAY_SIZE(fds); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	asc_pagemap_close(l->pagemap);
	asc_page_store_free(l->store);
	free(l->auxv_raw);
	free(l->cpu);
	asc_text_free(&l->text);
}

static const struct asc_target_ops ops = {
	.kind = ASC_LIVE,
	.concurrent_bulk = true,
	.read_beside = live_read_beside,
	.read = live_read,
	.read_bulk = live_read_bulk,
	.stop = live_stop,
	.release = live_release,
	.is_stopped = live_is_stopped,
	.alive = live_alive,
	.residency = live_residency,
	.close = live_close,
};

/* ---- open ---- */

static struct asc_error *open_files(struct live *l)
{
	pid_t pid = l->t.pid;
	int e;

	/* The check for mem is the one for attaching, so this also says early that we may not stop
	 * it. */
	e = asc_proc_open(pid, l->tid, "mem", O_RDONLY, &l->mem_fd);
	if (e)
		return asc_diagnose(pid, e, "read the memory of");
	e = asc_proc_open(pid, 0, "task", O_RDONLY | O_DIRECTORY, &l->task_fd);
	if (e)
		return asc_diagnose(pid, e, "list the threads of");
	return asc_pagemap_open(pid, l->tid, &l->pagemap);
}

/* Which way of reading works: seccomp may forbid process_vm_readv to the tool. */
static struct asc_error *probe(struct live *l)
{
	const struct asc_map *m = NULL;
	struct iovec local, remote;
	char byte;

	for (size_t i = 0; i < l->t.maps.n && !m; i++) {
		if (l->t.maps.v[i].flags & ASC_MAP_READ)
			m = &l->t.maps.v[i];
	}
	if (!m)
		return NULL;
	local = (struct iovec){ &byte, 1 };
	remote = (struct iovec){ (void *)(uintptr_t)m->start, 1 };
	if (process_vm_readv(l->tid, &local, 1, &remote, 1, 0) == 1)
		return NULL;
	if (errno != ENOSYS && errno != EPERM)
		return NULL;
	if (pread(l->mem_fd, &byte, 1, (off_t)m->start) != 1)
		return asc_diagnose(l->t.pid, EPERM, "read the memory of");
	l->by_mem = true;
	return NULL;
}

static struct asc_error *open_live(struct live *l)
{
	struct asc_thread_list threads = { 0 };
	struct asc_proc_stat st;
	pid_t pid = l->t.pid;

	ASC_TRY(asc_diagnose_state(pid));
	l->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (asc_proc_stat(pid, 0, &st))
		return gone(l);
	l->starttime = st.starttime;
	memcpy(l->t.name, st.comm, sizeof(l->t.name) - 1);
	l->tid = asc_proc_live_tid(pid);
	if (!l->tid)
		return gone(l);
	ASC_TRY(open_files(l));
	if (!l->no_stop)
		ASC_TRY(asc_diagnose_traced(pid));
	ASC_TRY(find_arch(l));
	ASC_TRY(read_auxv(l));
	ASC_TRY(read_maps(l));
	ASC_TRY(probe(l));
	ASC_TRY(read_threads(l, 0, &threads));
	l->t.threads = threads.v;
	l->t.nthreads = threads.n;
	return NULL;
}

struct asc_error *asc_live_open(pid_t pid, const struct asc_live_opts *opts,
				struct asc_target **ret)
{
	struct live *l = calloc(1, sizeof(*l));
	struct asc_error *err;

	if (!l)
		return asc_err(ASC_ENOMEM, "process %d", pid);
	l->t.ops = &ops;
	l->t.arch = asc_arch_native();
	l->t.pid = pid;
	l->t.page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	l->no_stop = opts && opts->no_stop;
	l->pidfd = l->mem_fd = l->task_fd = -1;
	err = open_live(l);
	if (err) {
		asc_target_close(&l->t);
		return err;
	}
	*ret = &l->t;
	return NULL;
}
