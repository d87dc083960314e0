/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The service of the README: 148 threads with an arena each, 48 requests at a time, payloads of
 * 4,001,219 bytes that grow by doubling reallocs among smaller allocations. The first payload is
 * mmapped; freeing it raises mmap_threshold to its size and trim_threshold to twice that, for good.
 * From then on payloads live in the arenas, and every arena keeps what it once needed at its top,
 * where malloc_trim never looks.
 *
 * It knows its own truth: every payload and every survivor is checked against its seed.
 *
 * stdin, a command a line, each answered by one line on stdout:
 *   serve [N]   N more requests (SIGUSR1: as many as at the start)
 *   verify      check all survivors
 *   trim PAD    malloc_trim(PAD) by the service itself, with Rss before and after
 *   info FILE   malloc_info(0, FILE), without a single allocation
 *   ping        pong and a count
 *   quit        (or end of file, unless --stay)
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 1024, SURVIVORS = 6, HEADERS = 24, NODES = 160, PIECE = 16 << 10 };

struct survivor {
	uint64_t seed;
	uint64_t words;
	uint64_t data[];
};

struct worker {
	pthread_t thread;
	sem_t todo;
	unsigned int number;
	uint64_t served;
	struct survivor **kept; /* in the thread's own arena, as nearly everything is */
};

static struct worker workers[MAX_THREADS];
static unsigned int nr_threads = 148, nr_at_once = 48;
static uint64_t nr_requests = 1301, payload_bytes = 4001219;
static sem_t slots, done, born;
static _Atomic uint64_t errors;
static int info_fd = -1;

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15u;
	return x ^ (x >> 29);
}

static void fill(uint64_t *words, uint64_t nr, uint64_t seed, uint64_t first)
{
	for (uint64_t i = 0; i < nr; i++)
		words[i] = seed + (first + i) * 0x9e3779b97f4a7c15u;
}

static bool same(const uint64_t *words, uint64_t nr, uint64_t seed)
{
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < nr; i++)
		wrong |= words[i] ^ (seed + i * 0x9e3779b97f4a7c15u);
	return wrong == 0;
}

static void *must_malloc(size_t bytes)
{
	void *p = malloc(bytes);

	if (!p)
		die("malloc");
	return p;
}

static struct survivor *survivor_new(uint64_t seed)
{
	uint64_t words = 6 + seed % 100;
	struct survivor *s = must_malloc(sizeof(*s) + words * 8);

	s->seed = seed;
	s->words = words;
	fill(s->data, words, seed, 0);
	return s;
}

static bool survivor_good(const struct survivor *s)
{
	return s->words == 6 + s->seed % 100 && same(s->data, s->words, s->seed);
}

/* Small allocations of the kind that a parser makes while the body grows. They are too large for
 * the tcache, so that nothing of a request stays behind but what it means to leave. */
static void add_nodes(void **nodes, unsigned int *nr, uint64_t seed)
{
	for (unsigned int i = 0; i < 4 && *nr < NODES; i++) {
		size_t bytes = 1100 + mix(seed + *nr) % 1900;

		nodes[*nr] = must_malloc(bytes);
		memset(nodes[*nr], 0x5a, bytes);
		(*nr)++;
	}
}

static void serve_one(struct worker *w)
{
	uint64_t seed = mix(((uint64_t)w->number << 32) + ++w->served);
	struct survivor **slot = &w->kept[w->served % SURVIVORS];
	uint64_t piece[PIECE / 8];
	void *headers[HEADERS], *nodes[NODES];
	unsigned int nr_nodes = 0;
	size_t room = 4096, len = 0, size = (size_t)payload_bytes & ~(size_t)7;
	char *body;

	if (*slot && !survivor_good(*slot))
		errors++;
	free(*slot);
	*slot = survivor_new(seed);
	for (unsigned int i = 0; i < HEADERS; i++) {
		size_t bytes = 16 + mix(seed + i) % 400;

		headers[i] = must_malloc(bytes);
		memset(headers[i], 0x3c, bytes);
	}

	body = must_malloc(room);
	while (len < size) {
		size_t n = size - len < PIECE ? size - len : PIECE;

		fill(piece, n / 8, seed, len / 8);
		while (room < len + n) {
			add_nodes(nodes, &nr_nodes, seed);
			room = room * 2 < payload_bytes ? room * 2 : (size_t)payload_bytes;
			body = realloc(body, room);
			if (!body)
				die("realloc");
		}
		memcpy(body + len, piece, n);
		len += n;
	}
	memset(body + len, 0, (size_t)payload_bytes - len);

	if (!same((uint64_t *)(void *)body, size / 8, seed))
		errors++;
	for (unsigned int i = 0; i < HEADERS; i++)
		free(headers[i]);
	for (unsigned int i = 0; i < nr_nodes; i++)
		free(nodes[i]);
	free(body);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	char name[16];

	snprintf(name, sizeof(name), "worker-%u", w->number);
	pthread_setname_np(pthread_self(), name);
	w->kept = calloc(SURVIVORS, sizeof(struct survivor *));
	if (!w->kept)
		die("calloc");
	sem_post(&born);
	for (;;) {
		while (sem_wait(&w->todo))
			;
		serve_one(w);
		sem_post(&slots);
		sem_post(&done);
	}
	return NULL;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Exact, unlike statm's, whose counters are per CPU. */
static uint64_t rss_kib(void)
{
	char text[2048];
	const char *at;
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	at = strstr(text, "\nRss:");
	return at ? strtoull(at + 5, NULL, 10) : 0;
}

static void serve(uint64_t nr)
{
	double t = now();

	for (uint64_t i = 0; i < nr; i++) {
		while (sem_wait(&slots))
			;
		sem_post(&workers[i % nr_threads].todo);
	}
	for (uint64_t i = 0; i < nr; i++)
		while (sem_wait(&done))
			;
	t = now() - t;
	printf("served %" PRIu64 " requests in %.3f s, %.0f a second, %" PRIu64
	       " errors, Rss %" PRIu64 " KiB\n",
	       nr, t, (double)nr / t, errors, rss_kib());
}

static void verify(void)
{
	uint64_t nr = 0, bad = 0;

	for (unsigned int i = 0; i < nr_threads; i++)
		for (unsigned int j = 0; j < SURVIVORS; j++) {
			const struct survivor *s = workers[i].kept[j];

			nr += s != NULL;
			bad += s && !survivor_good(s);
		}
	printf("verified %" PRIu64 " survivors, %" PRIu64 " bad, %" PRIu64 " errors\n", nr, bad,
	       errors);
}

static ssize_t info_write(void *cookie, const char *bytes, size_t n)
{
	size_t at = 0;

	(void)cookie;
	while (at < n) {
		ssize_t k = write(info_fd, bytes + at, n - at);

		if (k <= 0)
			return 0;
		at += (size_t)k;
	}
	return (ssize_t)n;
}

static void info(FILE *out, const char *path)
{
	int failed;

	info_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (info_fd < 0) {
		printf("info %s: %s\n", path, strerror(errno));
		return;
	}
	failed = malloc_info(0, out);
	failed |= fflush(out);
	close(info_fd);
	printf("info %s: %s\n", path, failed ? "failed" : "written");
}

static void trim(size_t pad)
{
	uint64_t before = rss_kib();
	double t = now();
	int ret = malloc_trim(pad);

	t = now() - t;
	printf("trim %zu returned %d in %.3f s, Rss %" PRIu64 " -> %" PRIu64 " KiB\n", pad, ret, t,
	       before, rss_kib());
}

static bool command(char *line, FILE *info_out)
{
	static uint64_t pings;
	char *arg = strchr(line, ' ');

	if (arg)
		*arg++ = 0;
	if (!strcmp(line, "quit"))
		return false;
	if (!strcmp(line, "serve"))
		serve(arg ? strtoull(arg, NULL, 0) : nr_requests);
	else if (!strcmp(line, "verify"))
		verify();
	else if (!strcmp(line, "trim"))
		trim(arg ? strtoull(arg, NULL, 0) : 0);
	else if (!strcmp(line, "info") && arg)
		info(info_out, arg);
	else if (!strcmp(line, "ping"))
		printf("pong %" PRIu64 "\n", ++pings);
	else
		printf("? %s\n", line);
	return true;
}

static void loop(bool stay, FILE *info_out, const sigset_t *signals)
{
	static char line[4096];
	size_t len = 0;
	struct pollfd fds[2] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = signalfd(-1, signals, SFD_CLOEXEC), .events = POLLIN },
	};

	for (;;) {
		struct signalfd_siginfo si;
		ssize_t n;
		char *end;

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents && read(fds[1].fd, &si, sizeof(si)) == sizeof(si))
			serve(nr_requests);
		if (!fds[0].revents)
			continue;
		n = read(STDIN_FILENO, line + len, sizeof(line) - 1 - len);
		if (n <= 0) {
			if (!stay)
				return;
			fds[0].fd = -1;
			continue;
		}
		len += (size_t)n;
		line[len] = 0;
		while ((end = strchr(line, '\n'))) {
			*end = 0;
			if (!command(line, info_out))
				return;
			len -= (size_t)(end + 1 - line);
			memmove(line, end + 1, len + 1);
		}
	}
}

/* As on a host with many cores; tunables are read before main, so once more from the start. */
static void with_tunables(char **argv)
{
	const char *have = getenv("GLIBC_TUNABLES");
	char text[4096];

	if (have && strstr(have, "glibc.malloc.arena_max"))
		return;
	snprintf(text, sizeof(text), "%s%sglibc.malloc.arena_max=256", have ? have : "",
		 have ? ":" : "");
	setenv("GLIBC_TUNABLES", text, 1);
	execv("/proc/self/exe", argv);
	die("execv");
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	if (!*text || *end || n < least || n > most) {
		fprintf(stderr, "service: %s is not between %" PRIu64 " and %" PRIu64 "\n", text,
			least, most);
		exit(64);
	}
	return n;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "threads", required_argument, NULL, 't' },
		{ "at-once", required_argument, NULL, 'a' },
		{ "requests", required_argument, NULL, 'r' },
		{ "payload", required_argument, NULL, 'p' },
		{ "stay", no_argument, NULL, 's' },
		{ "plain", no_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 },
	};
	static char out_buffer[4096], info_buffer[8192];
	bool stay = false, plain = false;
	FILE *info_out;
	sigset_t signals;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 't':
			nr_threads = (unsigned int)number(optarg, 1, MAX_THREADS);
			break;
		case 'a':
			nr_at_once = (unsigned int)number(optarg, 1, MAX_THREADS);
			break;
		case 'r':
			nr_requests = number(optarg, 1, 1u << 30);
			break;
		case 'p':
			payload_bytes = number(optarg, 4096, 1u << 30);
			break;
		case 's':
			stay = true;
			break;
		case 'n':
			plain = true;
			break;
		default:
			return 64;
		}
	}
	if (!plain)
		with_tunables(argv);
	prctl(PR_SET_NAME, "service"); /* executed again, it would be called "exe" */

	setvbuf(stdout, out_buffer, _IOLBF, sizeof(out_buffer));
	info_out = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = info_write });
	if (!info_out || setvbuf(info_out, info_buffer, _IOFBF, sizeof(info_buffer)))
		die("fopencookie");

	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	sem_init(&slots, 0, nr_at_once);
	sem_init(&done, 0, 0);
	sem_init(&born, 0, 0);
	for (unsigned int i = 0; i < nr_threads; i++) {
		workers[i].number = i + 1;
		sem_init(&workers[i].todo, 0, 0);
		errno = pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
		if (errno)
			die("pthread_create");
	}
	for (unsigned int i = 0; i < nr_threads; i++)
		while (sem_wait(&born))
			;

	printf("started pid %d, %u threads, Rss %" PRIu64 " KiB\n", getpid(), nr_threads,
	       rss_kib());
	serve(nr_requests);
	printf("idle\n");
	loop(stay, info_out, &signals);
	verify();
	return errors ? 1 : 0;
}
