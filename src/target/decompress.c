/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Unpacking a compressed core. What comes out is bounded three ways: it ends where the core's own
 * program headers end, pages of zeros become holes, and what does not fit into a part of the memory
 * goes to an unlinked file, whose file system then sets the limit.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lz4frame.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <elf.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "target/core.h"

enum {
	CHUNK = 1 << 18,
	PAGE = 4096,
	NOT_A_CORE = 1 << 16, /* enough to say what it is */
	BEHIND = 1 << 20,     /* unpacked behind the core's end, for the checksum there */
	MEMORY_SHARE = 8,     /* a memory file takes at most 1/8 of RAM */
	ZSTD_WINDOW_LOG = 30, /* 1 GiB: `zstd --long=30` */
};
static const uint64_t XZ_MEMORY = 1ull << 30;

/* ---- codecs ---- */

/* FRAME: a frame or member is complete, another may follow; END: nothing follows. */
enum step { STEP_MORE, STEP_FRAME, STEP_END, STEP_BAD };

struct codec {
	const char *name;
	uint8_t magic[6];
	size_t magic_len;
	void *(*open)(void);
	/* Consume from *in, fill *out; both lengths are updated to what was used. */
	enum step (*step)(void *state, const uint8_t *in, size_t *in_len, uint8_t *out,
			  size_t *out_len, bool last);
	void (*close)(void *state);
};

static void *zstd_open(void)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();

	if (d)
		(void)ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
	return d;
}

static enum step zstd_step(void *state, const uint8_t *in, size_t *in_len, uint8_t *out,
			   size_t *out_len, bool last)
{
	ZSTD_inBuffer i = { in, *in_len, 0 };
	ZSTD_outBuffer o = { out, *out_len, 0 };
	size_t left = ZSTD_decompressStream(state, &o, &i);

	(void)last;
	*in_len = i.pos;
	*out_len = o.pos;
	if (ZSTD_isError(left))
		return STEP_BAD;
	return left ? STEP_MORE : STEP_FRAME;
}

static void zstd_close(void *state)
{
	ZSTD_freeDCtx(state);
}

static void *xz_open(void)
{
	lzma_stream *s = calloc(1, sizeof(*s));

	if (s && lzma_stream_decoder(s, XZ_MEMORY, LZMA_CONCATENATED) != LZMA_OK)
		free(asc_take(s));
	return s;
}

static enum step xz_step(void *state, const uint8_t *in, size_t *in_len, uint8_t *out,
			 size_t *out_len, bool last)
{
	lzma_stream *s = state;
	lzma_ret r;

	s->next_in = in;
	s->avail_in = *in_len;
	s->next_out = out;
	s->avail_out = *out_len;
	r = lzma_code(s, last ? LZMA_FINISH : LZMA_RUN);
	*in_len -= s->avail_in;
	*out_len -= s->avail_out;
	if (r == LZMA_STREAM_END)
		return STEP_END;
	return r == LZMA_OK ? STEP_MORE : STEP_BAD;
}

static void xz_close(void *state)
{
	lzma_end(state);
	free(state);
}

static void *lz4_open(void)
{
	LZ4F_dctx *d = NULL;

	return LZ4F_isError(LZ4F_createDecompressionContext(&d, LZ4F_VERSION)) ? NULL : d;
}

static enum step lz4_step(void *state, const uint8_t *in, size_t *in_len, uint8_t *out,
			  size_t *out_len, bool last)
{
	size_t left = LZ4F_decompress(state, out, out_len, in, in_len, NULL);

	(void)last;
	if (LZ4F_isError(left)) {
		*out_len = *in_len = 0;
		return STEP_BAD;
	}
	return left ? STEP_MORE : STEP_FRAME;
}

static void lz4_close(void *state)
{
	LZ4F_freeDecompressionContext(state);
}

static void *gzip_open(void)
{
	z_stream *s = calloc(1, sizeof(*s));

	if (s && inflateInit2(s, 16 + MAX_WBITS) != Z_OK)
		free(asc_take(s));
	return s;
}

static enum step gzip_step(void *state, const uint8_t *in, size_t *in_len, uint8_t *out,
			   size_t *out_len, bool last)
{
	z_stream *s = state;
	int r;

	(void)last;
	s->next_in = (uint8_t *)(uintptr_t)in; /* zlib's z_const is off by default */
	s->avail_in = (uInt)*in_len;
	s->next_out = out;
	s->avail_out = (uInt)*out_len;
	r = inflate(s, Z_NO_FLUSH);
	*in_len -= s->avail_in;
	*out_len -= s->avail_out;
	if (r == Z_STREAM_END)
		return inflateReset(s) == Z_OK ? STEP_FRAME : STEP_BAD;
	return r == Z_OK || r == Z_BUF_ERROR ? STEP_MORE : STEP_BAD;
}

static void gzip_close(void *state)
{
	inflateEnd(state);
	free(state);
}

static const struct codec codecs[] = {
	{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4, zstd_open, zstd_step, zstd_close },
	{ "xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, xz_open, xz_step, xz_close },
	{ "lz4", { 0x04, 0x22, 0x4d, 0x18 }, 4, lz4_open, lz4_step, lz4_close },
	{ "gzip", { 0x1f, 0x8b, 0x08 }, 3, gzip_open, gzip_step, gzip_close },
};

static const struct codec *codec_of(const void *head, size_t len)
{
	for (size_t i = 0; i < ASC_ARRAY_SIZE(codecs); i++) {
		if (len >= codecs[i].magic_len &&
		    !memcmp(head, codecs[i].magic, codecs[i].magic_len))
			return &codecs[i];
	}
	return NULL;
}

const char *asc_compression_of(const void *head, size_t len)
{
	const struct codec *c = codec_of(head, len);

	return c ? c->name : NULL;
}

/* ---- where it goes ---- */

struct sink {
	int fd;
	bool in_memory;
	uint64_t len;	  /* unpacked */
	uint64_t written; /* of it, not holes */
	uint64_t stop_at;
	bool probed, is_core;
	uint64_t behind; /* unpacked behind stop_at, and thrown away */
	uint64_t memory_max;
	bool (*progress)(void *arg, uint64_t done, uint64_t total);
	void *progress_arg;
};

static int open_unlinked(const char *dir)
{
	return dir && *dir ? open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
}

static struct asc_error *write_at(struct sink *s, const uint8_t *p, size_t len, uint64_t off)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(s->fd, p + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return asc_err_try(asc_err_os(n ? errno : ENOSPC, "unpacking the core"),
					   "TMPDIR=DIR with more room");
		done += (size_t)n;
	}
	s->written += len;
	return NULL;
}

static size_t sink_get(void *arg, uint64_t off, void *buf, size_t len)
{
	struct sink *s = arg;
	ssize_t n;

	if (off >= s->len)
		return 0;
	n = pread(s->fd, buf, (size_t)asc_min(len, s->len - off), (off_t)off);
	return n > 0 ? (size_t)n : 0;
}

/* From memory to a file: copies the data between the holes. */
static struct asc_error *spill(struct sink *s)
{
	ASC_AUTO(asc_freep) uint8_t *buf = malloc(CHUNK);
	struct sink to = *s;
	off_t at = 0;

	if (!buf)
		return asc_err(ASC_ENOMEM, "copy buffer");
	to.written = 0;
	to.in_memory = false;
	to.fd = open_unlinked(getenv("TMPDIR"));
	if (to.fd < 0)
		to.fd = open_unlinked("/var/tmp");
	if (to.fd < 0)
		to.fd = open_unlinked("/tmp");
	if (to.fd < 0)
		return asc_err_os(errno, "no temporary file for the unpacked core");
	while ((at = lseek(s->fd, at, SEEK_DATA)) >= 0) {
		ssize_t n = pread(s->fd, buf, CHUNK, at);
		struct asc_error *err;

		if (n <= 0)
			break;
		err = write_at(&to, buf, (size_t)n, (uint64_t)at);
		if (err) {
			close(to.fd);
			return err;
		}
		at += n;
	}
	close(s->fd);
	*s = to;
	return NULL;
}

/* Where does the core end, by its own headers? Needs the program headers unpacked. */
static void probe(struct sink *s)
{
	struct asc_elf_head h;
	struct asc_elf_phdr p;
	uint64_t end;

	if (s->probed || s->len < sizeof(Elf64_Ehdr))
		return;
	if (!asc_elf_head_get(sink_get, s, &h) || h.type != ET_CORE) {
		s->probed = true;
		s->stop_at = NOT_A_CORE;
		return;
	}
	s->is_core = true;
	if (!asc_mul(h.phnum, h.phentsize, &end) || !asc_add(h.phoff, end, &end) || s->len < end)
		return;
	s->probed = true;
	if (h.shnum && (!asc_mul(h.shnum, sizeof(Elf64_Shdr), &s->stop_at) ||
			!asc_add(h.shoff, s->stop_at, &s->stop_at)))
		s->stop_at = UINT64_MAX;
	if (!h.shnum)
		s->stop_at = end;
	if (h.phnum == PN_XNUM)
		return; /* the true number stands in section header 0, behind everything */
	for (uint32_t i = 0; i < h.phnum && asc_elf_phdr_get(sink_get, s, &h, i, &p); i++) {
		if (asc_add(p.offset, p.filesz, &end))
			s->stop_at = asc_max(s->stop_at, end);
	}
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

static struct asc_error *put(struct sink *s, const uint8_t *p, size_t len)
{
	const uint64_t room = s->stop_at - asc_min(s->len, s->stop_at);

	if (len > room) {
		s->behind += len - room;
		len = (size_t)room;
	}
	for (size_t done = 0, n; done < len; done += n) {
		uint64_t at = s->len + done;

		n = (size_t)asc_min(len - done, PAGE - at % PAGE);
		if (all_zero(p + done, n))
			continue;
		/* one write for as many pages as are not zero */
		while (done + n < len) {
			size_t more = (size_t)asc_min(len - done - n, PAGE);

			if (all_zero(p + done + n, more))
				break;
			n += more;
		}
		ASC_TRY(write_at(s, p + done, n, at));
	}
	s->len += len;
	if (s->in_memory && s->written > s->memory_max)
		ASC_TRY(spill(s));
	probe(s);
	return NULL;
}

/* ---- the loop ---- */

/* Behind the core its packing goes on: a checksum, which says whether all of it is right. */
static bool unpacked(const struct sink *s)
{
	return s->len >= s->stop_at && (!s->is_core || s->behind > BEHIND);
}

static struct asc_error *pump(int fd, const struct codec *c, void *state, struct sink *s,
			      const char **ret_damage)
{
	ASC_AUTO(asc_freep) uint8_t *in = malloc(CHUNK);
	ASC_AUTO(asc_freep) uint8_t *out = malloc(CHUNK);
	size_t have = 0, at = 0;
	bool last = false, between = false;

	if (!in || !out)
		return asc_err(ASC_ENOMEM, "unpack buffers");
	while (!unpacked(s)) {
		size_t used, made = CHUNK;
		enum step step;

		if (s->progress && !s->progress(s->progress_arg, s->len, 0))
			return asc_err(ASC_EINTR, "interrupted");
		if (at == have && !last) {
			ssize_t n = read(fd, in, CHUNK);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return asc_err_os(errno, "reading the compressed core");
			at = 0;
			have = (size_t)n;
			last = !n;
		}
		if (last && at == have && between)
			return NULL;
		used = have - at;
		step = c->step(state, in + at, &used, out, &made, last);
		at += used;
		if (step == STEP_FRAME && s->len >= s->stop_at)
			return NULL;
		if (step == STEP_FRAME)
			between = true;
		else if (used || made)
			between = false;
		ASC_TRY(put(s, out, made));
		if (step == STEP_END)
			return NULL;
		if (step == STEP_BAD) {
			*ret_damage = "the compressed data is damaged";
			return NULL;
		}
		if (last && !made && at == have) {
			*ret_damage = "the compressed data ends too early";
			return NULL;
		}
	}
	return NULL;
}

static uint64_t memory_max(void)
{
	struct sysinfo si;

	return sysinfo(&si) ? 256 << 20 : (uint64_t)si.totalram * si.mem_unit / MEMORY_SHARE;
}

struct asc_error *asc_decompress(int fd, const char *compression,
				 bool (*progress)(void *arg, uint64_t done, uint64_t total),
				 void *progress_arg, int *ret_fd, uint64_t *ret_len,
				 const char **ret_damage)
{
	struct sink s = { .in_memory = true,
			  .stop_at = UINT64_MAX,
			  .memory_max = memory_max(),
			  .progress = progress,
			  .progress_arg = progress_arg };
	const struct codec *c = NULL;
	const char *damage = NULL;
	struct asc_error *err;
	void *state;

	for (size_t i = 0; i < ASC_ARRAY_SIZE(codecs); i++) {
		if (!strcmp(codecs[i].name, compression))
			c = &codecs[i];
	}
	if (!c)
		return asc_err(ASC_EBUG, "no codec \"%s\"", compression);
	s.fd = memfd_create("arenascope-core", MFD_CLOEXEC);
	if (s.fd < 0)
		return asc_err_os(errno, "memory file for the unpacked core");
	state = c->open();
	if (!state) {
		close(s.fd);
		return asc_err(ASC_ENOMEM, "%s decoder", c->name);
	}
	err = pump(fd, c, state, &s, &damage);
	c->close(state);
	if (!err && ftruncate(s.fd, (off_t)s.len))
		err = asc_err_os(errno, "unpacking the core");
	if (err) {
		close(s.fd);
		return err;
	}
	*ret_fd = s.fd;
	*ret_len = s.len;
	*ret_damage = damage;
	return NULL;
}
