/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One mapping of every kind whose pages the kernel counts in its own way: the zero page, huge pages,
 * the huge zero page, hugetlb, shared memory, files read and written, forked, never touched. Prints
 * "NAME ADDRESS BYTES" (what Rss should count there, "-" if this machine decides) and "ready PID".
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 64, HUGE_BYTES = 2 << 20 };

static long page;

static void say(const char *name, const void *p, long bytes)
{
	if (bytes < 0)
		printf("%s %lx -\n", name, (unsigned long)(uintptr_t)p);
	else
		printf("%s %lx %ld\n", name, (unsigned long)(uintptr_t)p, bytes);
}

static char *anon(size_t len, int flags)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Touch every second page, so that runs are short; each thing between two inaccessible pages. */
static char *guarded(int prot)
{
	char *p = mmap(NULL, (size_t)((PAGES + 2) * page), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (mprotect(p + page, (size_t)(PAGES * page), prot) ||
	    madvise(p, (size_t)(PAGES * page), MADV_NOHUGEPAGE))
		exit(1);
	return p + page;
}

static void touch(char *p, long step, int write)
{
	for (long i = 0; i < PAGES; i += step) {
		if (write)
			p[i * page] = 1;
		else
			(void)*(volatile char *)&p[i * page];
	}
}

static char *aligned_huge(void)
{
	char *p = anon(4 * HUGE_BYTES, MAP_PRIVATE);

	p += HUGE_BYTES - (uintptr_t)p % HUGE_BYTES;
	madvise(p, 2 * HUGE_BYTES, MADV_HUGEPAGE);
	return p;
}

/* Some kernels give a page of its own to a reader; userfaultfd maps the zero page everywhere. */
static void zero_by_uffd(void)
{
	size_t len = (size_t)(PAGES * page);
	char *p = guarded(PROT_READ | PROT_WRITE);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)p, len },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage zero = { .range = { (uintptr_t)p, len / 2 } };
	int fd = (int)syscall(SYS_userfaultfd, 0);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg) ||
	    ioctl(fd, UFFDIO_ZEROPAGE, &zero))
		return;
	say("zero_page", p, 0);
}

static void files(void)
{
	char path[] = "/tmp/pagesXXXXXX";
	int fd = mkstemp(path), mem = memfd_create("pages", 0);
	size_t len = (size_t)(PAGES * page);
	char *p;

	unlink(path);
	if (ftruncate(fd, PAGES * page) || ftruncate(mem, PAGES * page))
		exit(1);
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	touch(p, 2, 1);
	say("file_written", p, -1); /* reading around a fault maps more */
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	touch(p, 1, 1);
	say("file_shared", p, PAGES * page);
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, mem, 0);
	touch(p, 1, 1);
	say("memfd", p, PAGES * page);
	p = shmat(shmget(IPC_PRIVATE, len, IPC_CREAT | 0600), NULL, 0);
	touch(p, 4, 1);
	say("shm", p, PAGES / 4 * page);
}

int main(void)
{
	char *p;
	pid_t child;

	page = sysconf(_SC_PAGESIZE);
	p = guarded(PROT_READ | PROT_WRITE);
	say("untouched", p, 0);
	zero_by_uffd();
	p = guarded(PROT_READ | PROT_WRITE);
	touch(p, 1, 0);
	touch(p, 2, 1);
	say("read_and_written", p, -1); /* the zero page on most kernels, not on all */
	p = guarded(PROT_READ | PROT_WRITE);
	touch(p, 2, 1);
	mprotect(p, (size_t)(PAGES * page), PROT_NONE);
	say("written_then_none", p, PAGES / 2 * page);
	p = guarded(PROT_READ | PROT_WRITE);
	touch(p, 1, 1);
	madvise(p, (size_t)(PAGES / 2 * page), MADV_DONTNEED);
	say("given_back", p, PAGES / 2 * page);
	p = guarded(PROT_READ | PROT_WRITE);
	touch(p, 1, 1);
	madvise(p, (size_t)(PAGES * page), MADV_FREE);
	say("madv_free", p, PAGES * page);
	p = guarded(PROT_READ | PROT_WRITE);
	touch(p, 1, 1);
	if (!mlock(p, (size_t)(PAGES * page)))
		say("mlocked", p, PAGES * page);
	p = aligned_huge();
	(void)*(volatile char *)p;
	say("huge_read", p, -1); /* the huge zero page, where the kernel uses one */
	p[HUGE_BYTES] = 1;
	say("huge_written", p + HUGE_BYTES, -1);
	p = anon(2 * HUGE_BYTES, MAP_PRIVATE | MAP_HUGETLB);
	if (p) {
		p[0] = 1;
		say("hugetlb", p, 0);
	}
	p = anon(1ull << 36, MAP_PRIVATE | MAP_NORESERVE);
	if (p) {
		p[1ull << 35] = 1;
		say("reserved", p, -1);
	}
	p = guarded(PROT_READ | PROT_WRITE);
	touch(p, 1, 1);
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	touch(p, 2, 1);
	say("forked", p, PAGES * page);
	files();
	printf("ready %d\n", getpid());
	fflush(stdout);
	while (getchar() != EOF)
		;
	kill(child, 9);
	waitpid(child, NULL, 0);
	return 0;
}
