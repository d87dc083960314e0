/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "target/restart.h"

#if defined(__x86_64__) || defined(__i386__)
enum { LEN64 = 27 * 8, RAX = 10 * 8, RDI = 14 * 8, ORIG_RAX = 15 * 8 };
enum { LEN32 = 17 * 4, EBX = 0, EAX = 6 * 4, ORIG_EAX = 11 * 4 };

struct row {
	uint16_t nr, kind;
};

static const struct row rows64[] = {
	{ 232, ASC_RESTART_ALWAYS },   /* epoll_wait */
	{ 281, ASC_RESTART_ALWAYS },   /* epoll_pwait */
	{ 441, ASC_RESTART_ALWAYS },   /* epoll_pwait2 */
	{ 208, ASC_RESTART_ALWAYS },   /* io_getevents */
	{ 333, ASC_RESTART_ALWAYS },   /* io_pgetevents */
	{ 426, ASC_RESTART_ALWAYS },   /* io_uring_enter */
	{ 65, ASC_RESTART_ALWAYS },    /* semop */
	{ 220, ASC_RESTART_ALWAYS },   /* semtimedop */
	{ 128, ASC_RESTART_ALWAYS },   /* rt_sigtimedwait */
	{ 43, ASC_RESTART_ALWAYS },    /* accept */
	{ 288, ASC_RESTART_ALWAYS },   /* accept4 */
	{ 45, ASC_RESTART_ALWAYS },    /* recvfrom */
	{ 47, ASC_RESTART_ALWAYS },    /* recvmsg */
	{ 299, ASC_RESTART_ALWAYS },   /* recvmmsg */
	{ 44, ASC_RESTART_ALWAYS },    /* sendto */
	{ 46, ASC_RESTART_ALWAYS },    /* sendmsg */
	{ 307, ASC_RESTART_ALWAYS },   /* sendmmsg */
	{ 0, ASC_RESTART_IF_SOCKET },  /* read */
	{ 19, ASC_RESTART_IF_SOCKET }, /* readv */
	{ 1, ASC_RESTART_IF_SOCKET },  /* write */
	{ 20, ASC_RESTART_IF_SOCKET }, /* writev */
};

static const struct row rows32[] = {
	{ 256, ASC_RESTART_ALWAYS },	/* epoll_wait */
	{ 319, ASC_RESTART_ALWAYS },	/* epoll_pwait */
	{ 441, ASC_RESTART_ALWAYS },	/* epoll_pwait2 */
	{ 247, ASC_RESTART_ALWAYS },	/* io_getevents */
	{ 385, ASC_RESTART_ALWAYS },	/* io_pgetevents */
	{ 416, ASC_RESTART_ALWAYS },	/* io_pgetevents_time64 */
	{ 426, ASC_RESTART_ALWAYS },	/* io_uring_enter */
	{ 420, ASC_RESTART_ALWAYS },	/* semtimedop_time64 */
	{ 177, ASC_RESTART_ALWAYS },	/* rt_sigtimedwait */
	{ 421, ASC_RESTART_ALWAYS },	/* rt_sigtimedwait_time64 */
	{ 364, ASC_RESTART_ALWAYS },	/* accept4 */
	{ 371, ASC_RESTART_ALWAYS },	/* recvfrom */
	{ 372, ASC_RESTART_ALWAYS },	/* recvmsg */
	{ 337, ASC_RESTART_ALWAYS },	/* recvmmsg */
	{ 417, ASC_RESTART_ALWAYS },	/* recvmmsg_time64 */
	{ 369, ASC_RESTART_ALWAYS },	/* sendto */
	{ 370, ASC_RESTART_ALWAYS },	/* sendmsg */
	{ 345, ASC_RESTART_ALWAYS },	/* sendmmsg */
	{ 3, ASC_RESTART_IF_SOCKET },	/* read */
	{ 145, ASC_RESTART_IF_SOCKET }, /* readv */
	{ 4, ASC_RESTART_IF_SOCKET },	/* write */
	{ 146, ASC_RESTART_IF_SOCKET }, /* writev */
};

/* The two calls of i386 that are many in one: by their first argument. Not 3, connect. */
enum { NR32_SOCKETCALL = 102, NR32_IPC = 117 };
enum {
	SOCKETCALLS = 1 << 5 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 16 | 1 << 17 | 1 << 18 |
		      1 << 19 |
		      1 << 20,	/* accept send recv sendto recvfrom sendmsg recvmsg accept4 *mmsg */
	IPCS = 1 << 1 | 1 << 4, /* SEMOP SEMTIMEDOP */
};

ASC_BARE static uint64_t u64(const uint8_t *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

ASC_BARE static uint32_t u32(const uint8_t *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

ASC_BARE static enum asc_restart_kind find(const struct row *rows, size_t n, uint64_t nr)
{
	for (size_t i = 0; i < n; i++) {
		if (rows[i].nr == nr)
			return (enum asc_restart_kind)rows[i].kind;
	}
	return ASC_RESTART_NEVER;
}

ASC_BARE enum asc_restart_kind asc_restart_kind(const uint8_t *raw, size_t len, uint64_t *ret_fd)
{
	if (len == LEN64) {
		if ((int64_t)u64(raw + RAX) != -ASC_KERNEL_EINTR)
			return ASC_RESTART_NEVER;
		*ret_fd = u64(raw + RDI);
		return find(rows64, sizeof(rows64) / sizeof(rows64[0]), u64(raw + ORIG_RAX));
	}
	if (len == LEN32) {
		uint32_t nr = u32(raw + ORIG_EAX), ebx = u32(raw + EBX);

		if ((int32_t)u32(raw + EAX) != -ASC_KERNEL_EINTR)
			return ASC_RESTART_NEVER;
		if (nr == NR32_SOCKETCALL || nr == NR32_IPC) {
			uint32_t set = nr == NR32_IPC ? IPCS : SOCKETCALLS;

			/* the upper half of ipc's first argument is a version */
			ebx &= nr == NR32_IPC ? 0xffffu : UINT32_MAX;
			return ebx < 32 && (set >> ebx & 1) ? ASC_RESTART_ALWAYS
							    : ASC_RESTART_NEVER;
		}
		*ret_fd = ebx;
		return find(rows32, sizeof(rows32) / sizeof(rows32[0]), nr);
	}
	return ASC_RESTART_NEVER;
}

ASC_BARE void asc_restart_set(uint8_t *raw, size_t len, int number)
{
	int64_t v = -number;

	if (len == LEN64)
		__builtin_memcpy(raw + RAX, &v, 8);
	else if (len == LEN32)
		__builtin_memcpy(raw + EAX, &v, 4);
}
#else
enum asc_restart_kind asc_restart_kind(const uint8_t *raw, size_t len, uint64_t *ret_fd)
{
	(void)raw;
	(void)len;
	(void)ret_fd;
	return ASC_RESTART_NEVER;
}

void asc_restart_set(uint8_t *raw, size_t len, int number)
{
	(void)raw;
	(void)len;
	(void)number;
}
#endif
