/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An ELF core file as a target: header, segments, reads. Every number of the file is checked
 * against what is really there; what is not there is absent, never zero.
 */
#include "target/core.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"

static struct asc_core *core_of(struct asc_target *t)
{
	return (struct asc_core *)t;
}

static size_t get_core(void *arg, uint64_t off, void *buf, size_t len)
{
	return asc_bytes_read(arg, off, buf, len);
}

/* ---- reads ---- */

/* First segment that ends after @p addr; the one of the last read is likely. */
static size_t seek(struct asc_core *c, asc_addr addr)
{
	size_t at = __atomic_load_n(&c->last_seg, __ATOMIC_RELAXED);

	if (at < c->nsegs && c->segs[at].start <= addr && addr < c->segs[at].end)
		return at;
	at = ASC_SEEK(c->nsegs, i, c->segs[i].end <= addr);
	__atomic_store_n(&c->last_seg, at, __ATOMIC_RELAXED);
	return at;
}

/*
 * Bytes at @p addr in the core; if none, @p ret_gap says how far that lack reaches. @p direct: past
 * the cache.
 */
static size_t read_piece(struct asc_core *c, asc_addr addr, void *buf, size_t len, bool direct,
			 uint64_t *ret_gap)
{
	size_t i = seek(c, addr);
	const struct asc_core_seg *s = i < c->nsegs ? &c->segs[i] : NULL;
	uint64_t at;
	size_t n;

	*ret_gap = 0;
	if (!s || s->start > addr) {
		*ret_gap = s ? s->start - addr : UINT64_MAX - addr;
		return 0;
	}
	at = addr - s->start;
	if (at >= s->have) {
		*ret_gap = s->end - addr;
		return 0;
	}
	len = (size_t)asc_min(len, s->have - at);
	n = direct ? asc_bytes_direct(&c->bytes, s->off + at, buf, len)
		   : asc_bytes_read(&c->bytes, s->off + at, buf, len);
	if (n >= c->t.page_size)
		asc_core_note(c, s, at, buf, n);
	return n;
}

size_t asc_core_read_own(struct asc_core *c, asc_addr addr, void *buf, size_t len)
{
	size_t done = 0, n;
	uint64_t gap;

	while (done < len &&
	       (n = read_piece(c, addr + done, (uint8_t *)buf + done, len - done, false, &gap)))
		done += n;
	return done;
}

static size_t core_read(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	struct asc_core *c = core_of(t);
	size_t done = 0;

	while (done < len) {
		uint64_t gap;
		uint8_t *to = (uint8_t *)buf + done;
		size_t n = read_piece(c, addr + done, to, len - done, false, &gap);

		if (!n && gap)
			n = asc_core_read_file(c, addr + done, to,
					       (size_t)asc_min(len - done, gap));
		if (!n)
			break;
		done += n;
	}
	return done;
}

/* What the core itself holds from the front on. */
static size_t core_read_beside(struct asc_target *t, asc_addr addr, void *buf, size_t len)
{
	size_t done = 0, n;
	uint64_t gap;

	while (done < len && (n = read_piece(core_of(t), addr + done, (uint8_t *)buf + done,
					     len - done, true, &gap)))
		done += n;
	return done;
}

/* ---- segments ---- */

static int by_start(const void *a, const void *b)
{
	const struct asc_core_seg *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Overlapping segments: the one that begins first wins, the other keeps its tail. */
static void untangle(struct asc_core *c)
{
	size_t n = 0;

	asc_sort(c->segs, c->nsegs, sizeof(*c->segs), by_start);
	for (size_t i = 0; i < c->nsegs; i++) {
		struct asc_core_seg s = c->segs[i];

		if (n && s.start < c->segs[n - 1].end) {
			uint64_t cut = c->segs[n - 1].end - s.start;

			if (s.end <= c->segs[n - 1].end)
				continue;
			s.start += cut;
			s.off += cut;
			s.filesz -= asc_min(s.filesz, cut);
			s.have -= asc_min(s.have, cut);
		}
		c->segs[n++] = s;
	}
	c->nsegs = n;
}

/* Check one PT_LOAD against the address space and the file. @return false: nothing of it is usable */
static bool take_load(struct asc_core *c, const struct asc_elf_phdr *p, struct asc_core_seg *ret)
{
	uint64_t limit = c->t.arch->word_size == 4 ? (uint64_t)UINT32_MAX + 1 : UINT64_MAX;
	uint64_t memsz = p->memsz;

	if (p->vaddr >= limit)
		return false;
	memsz = asc_min(memsz, limit - p->vaddr);
	if (!memsz)
		return false;
	*ret = (struct asc_core_seg){
		.start = p->vaddr,
		.end = p->vaddr + memsz,
		.off = p->offset,
		.filesz = asc_min(p->filesz, memsz),
		.flags = p->flags,
	};
	if (p->offset < c->bytes.len)
		ret->have = asc_min(ret->filesz, c->bytes.len - p->offset);
	return true;
}

/* True number of program headers: with 65535 and more it stands in section header 0. */
static uint64_t count_phdrs(struct asc_core *c, const struct asc_elf_head *h)
{
	uint8_t info[4];
	uint64_t at = h->is64 ? offsetof(Elf64_Shdr, sh_info) : offsetof(Elf32_Shdr, sh_info);
	uint64_t room = h->phoff < c->bytes.len ? (c->bytes.len - h->phoff) / h->phentsize : 0;
	uint64_t n = h->phnum;

	if (n == PN_XNUM) {
		if (h->shoff && asc_add(h->shoff, at, &at) &&
		    asc_bytes_read(&c->bytes, at, info, sizeof(info)) == sizeof(info))
			n = asc_load_u32(info);
		else
			n = room; /* cut before its end: every header up to the first that is none */
	}
	return n;
}

static struct asc_error *read_segments(struct asc_core *c, const struct asc_elf_head *h)
{
	uint64_t n = h->phnum ? count_phdrs(c, h) : 0, end;
	ASC_VEC(struct asc_core_seg) segs = { 0 };
	struct asc_error *err = NULL;

	c->info.promised_bytes = sizeof(Elf32_Ehdr);
	if (asc_mul(n, h->phentsize, &end) && asc_add(h->phoff, end, &end))
		c->info.promised_bytes = end;
	for (uint64_t i = 0; i < n && !err; i++) {
		struct asc_elf_phdr p;
		struct asc_core_seg s;

		if (!asc_elf_phdr_get(get_core, &c->bytes, h, (uint32_t)i, &p))
			break;
		if (p.type != PT_LOAD && p.type != PT_NOTE) {
			if (h->phnum == PN_XNUM && p.type > PT_TLS && p.type < PT_LOOS)
				break;
			continue;
		}
		if (asc_add(p.offset, p.filesz, &end))
			c->info.promised_bytes = asc_max(c->info.promised_bytes, end);
		if (p.type == PT_LOAD && take_load(c, &p, &s)) {
			c->info.missing_bytes += s.filesz - s.have;
			err = asc_vec_push(&segs, s);
		}
	}
	c->segs = segs.data;
	c->nsegs = segs.len;
	if (!err)
		untangle(c);
	return err;
}

static struct asc_error *read_notes(struct asc_core *c, const struct asc_elf_head *h)
{
	uint64_t n = h->phnum ? count_phdrs(c, h) : 0;

	for (uint64_t i = 0; i < n; i++) {
		struct asc_elf_phdr p;

		if (!asc_elf_phdr_get(get_core, &c->bytes, h, (uint32_t)i, &p))
			break;
		if (p.type == PT_NOTE)
			ASC_TRY(asc_core_notes(c, p.offset, p.filesz));
	}
	asc_core_notes_done(c);
	return NULL;
}

/* ---- open ---- */

static const char *machine_name(unsigned machine)
{
	static const struct {
		unsigned machine;
		const char *name;
	} names[] = {
		{ EM_386, "i386" },
		{ EM_X86_64, "x86-64" },
		{ EM_AARCH64, "aarch64" },
		{ EM_ARM, "32-bit ARM" },
		{ EM_PPC64, "64-bit PowerPC" },
		{ EM_PPC, "PowerPC" },
		{ EM_S390, "s390" },
		{ EM_MIPS, "MIPS" },
		{ EM_RISCV, "RISC-V" },
		{ EM_SPARCV9, "SPARC" },
		{ EM_IA_64, "Itanium" },
		{ EM_PARISC, "PA-RISC" },
		{ EM_68K, "m68k" },
		{ EM_SH, "SuperH" },
		{ 0x9026, "Alpha" },
		{ 258, "LoongArch" },
	};

	for (size_t i = 0; i < ASC_ARRAY_SIZE(names); i++) {
		if (names[i].machine == machine)
			return names[i].name;
	}
	return NULL;
}

/* The CPU of the core, or E-ARCH. Only called for ELF files. */
static struct asc_error *check_arch(struct asc_core *c, const char *path)
{
	uint8_t p[20];
	bool big, is64;
	unsigned machine;
	const char *name;
	struct asc_error *err;

	if (asc_bytes_read(&c->bytes, 0, p, sizeof(p)) < sizeof(p) || memcmp(p, ELFMAG, SELFMAG))
		return NULL; /* too short, or no ELF file: refused later */
	big = p[EI_DATA] == ELFDATA2MSB;
	is64 = p[EI_CLASS] == ELFCLASS64;
	machine = big ? (unsigned)(p[18] << 8 | p[19]) : (unsigned)(p[19] << 8 | p[18]);
	c->t.arch = asc_arch_by_elf((uint16_t)machine, is64, big);
	if (c->t.arch)
		return NULL;
	name = machine_name(machine);
	err = asc_err(ASC_EUNSUPPORTED, "%s is from another CPU", path);
	if (name)
		err = asc_err_why(err, "it is %s, %d-bit, %s-endian", name, is64 ? 64 : 32,
				  big ? "big" : "little");
	else
		err = asc_err_why(err, "it is ELF machine number %u, %d-bit, %s-endian", machine,
				  is64 ? 64 : 32, big ? "big" : "little");
	return asc_err_id(asc_err_try(err, "x86-64, i386 and aarch64 cores are known"), "E-ARCH");
}

static struct asc_error *open_file(const char *path, int *ret_fd, uint64_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), e = errno;
	struct stat st;
	const char *is = NULL;

	if (fd < 0) {
		struct asc_error *err = asc_err_os(e, "opening %s", path);

		if (e == ENOENT || e == ENOTDIR)
			err->code = ASC_ENOTARGET;
		else if (e == EACCES || e == EPERM)
			err->code = ASC_EPERM;
		return err;
	}
	if (fstat(fd, &st)) {
		e = errno;
		close(fd);
		return asc_err_os(e, "opening %s", path);
	}
	if (S_ISDIR(st.st_mode))
		is = "a directory";
	else if (!S_ISREG(st.st_mode))
		is = S_ISFIFO(st.st_mode) ? "a pipe; a core must be a file" : "a device or socket";
	if (is) {
		close(fd);
		return asc_err_id(asc_err_why(asc_err(ASC_EINPUT, "%s is not a core file", path),
					      "it is %s", is),
				  "E-NOTCORE");
	}
	*ret_fd = fd;
	*ret_len = (uint64_t)st.st_size;
	return NULL;
}

/* The file, unpacked if it is compressed. */
static struct asc_error *open_bytes(struct asc_core *c, const char *path, const char **ret_damage)
{
	uint8_t head[8];
	uint64_t len;
	ssize_t n;
	int fd = -1, unpacked = -1;
	struct asc_error *err;

	ASC_TRY(open_file(path, &fd, &len));
	n = pread(fd, head, sizeof(head), 0);
	c->info.compression = n > 0 ? asc_compression_of(head, (size_t)n) : NULL;
	if (c->info.compression) {
		err = asc_decompress(fd, c->info.compression, c->progress, c->progress_arg,
				     &unpacked, &len, ret_damage);
		close(fd);
		if (err)
			return asc_wrap(err, "%s", path);
		fd = unpacked;
	}
	err = asc_bytes_init(&c->bytes, fd, len);
	if (err)
		close(fd);
	c->info.file_bytes = len;
	return err;
}

static struct asc_error *truncated(const struct asc_core *c, const char *path, const char *damage)
{
	struct asc_error *err = asc_err(ASC_EINPUT, "%s is cut off before anything of use", path);

	err = asc_err_why(err,
			  "%" PRIu64 " bytes are there of %" PRIu64 " that its headers promise%s%s",
			  c->info.file_bytes, c->info.promised_bytes, damage ? "; " : "",
			  damage ? damage : "");
	return asc_err_id(asc_err_try(err, "check ulimit -c, the room on the file system, and for "
					   "systemd ProcessSizeMax= and ExternalSizeMax="),
			  "E-TRUNCATED");
}

/* Which file was run: the one mapped at the program's entry, else as the kernel noted it. */
static struct asc_error *find_exe(struct asc_core *c)
{
	asc_addr entry, name;

	if (asc_target_auxv(&c->t, AT_ENTRY, &entry)) {
		for (size_t i = 0; i < c->nmapped; i++) {
			if (c->mapped[i].start <= entry && entry < c->mapped[i].end) {
				c->info.exe = c->files[c->mapped[i].file].path;
				return NULL;
			}
		}
	}
	if (asc_target_auxv(&c->t, AT_EXECFN, &name)) {
		char *s;
		struct asc_error *err = asc_read_str(&c->t, name, 4096, &s);

		if (!err) {
			free(c->exe);
			c->exe = s;
		}
		asc_error_free(err);
	}
	c->info.exe = c->exe && *c->exe ? c->exe : NULL;
	return NULL;
}

static struct asc_error *parse(struct asc_core *c, const char *path, const char *damage)
{
	struct asc_elf_head h;
	uint64_t present = 0, page;

	ASC_TRY(check_arch(c, path));
	if (!asc_elf_head_get(get_core, &c->bytes, &h) || h.type != ET_CORE) {
		uint8_t ident[18] = { 0 };

		/* a core by its first bytes, but not even the header is whole */
		if (asc_bytes_read(&c->bytes, 0, ident, sizeof(ident)) >= SELFMAG &&
		    !memcmp(ident, ELFMAG, SELFMAG) && c->bytes.len < sizeof(Elf64_Ehdr) &&
		    (!ident[16] || ident[16] == ET_CORE))
			return truncated(c, path, damage);
		return asc_core_refuse(&c->bytes, path, c->info.compression);
	}
	c->info.damage = damage;
	c->info.is_gcore = h.shnum > 1;
	ASC_TRY(read_segments(c, &h));
	ASC_TRY(read_notes(c, &h));
	for (size_t i = 0; i < c->nsegs; i++)
		present += c->segs[i].have;
	c->info.truncated = c->info.file_bytes < c->info.promised_bytes;
	if (!present && !c->t.nthreads)
		return truncated(c, path, damage);
	if (asc_target_auxv(&c->t, AT_PAGESZ, &page) && asc_is_pow2(page) && page >= 4096 &&
	    page <= 1 << 16)
		c->t.page_size = page;
	ASC_TRY(asc_core_map_exe(c));
	ASC_TRY(asc_core_maps(c));
	return find_exe(c);
}

static void core_close(struct asc_target *t)
{
	struct asc_core *c = core_of(t);

	asc_core_files_free(c);
	asc_core_pages_free(c);
	asc_bytes_deinit(&c->bytes);
	free(c->segs);
	free(c->mapped);
	free(c->exe_opt);
	free(c->root);
	free(c->exe);
}

static const struct asc_target_ops core_ops = {
	.kind = ASC_CORE,
	.read = core_read,
	.read_beside = core_read_beside,
	.foresee = asc_core_foresee,
	.residency = asc_core_residency,
	.close = core_close,
};

struct asc_error *asc_core_open(const char *path, const struct asc_core_opts *opts,
				struct asc_target **ret)
{
	ASC_AUTO(asc_target_closep) struct asc_target *t = calloc(1, sizeof(struct asc_core));
	struct asc_core *c = (struct asc_core *)t;
	const char *damage = NULL;

	if (!t)
		return asc_err(ASC_ENOMEM, "core");
	t->ops = &core_ops;
	t->arch = asc_arch_native(); /* until the header says */
	t->page_size = 4096;
	if (opts) {
		c->progress = opts->progress;
		c->progress_arg = opts->progress_arg;
	}
	if (opts && opts->exe && !(c->exe_opt = strdup(opts->exe)))
		return asc_err(ASC_ENOMEM, "core");
	if (opts && opts->root && !(c->root = strdup(opts->root)))
		return asc_err(ASC_ENOMEM, "core");
	ASC_TRY(open_bytes(c, path, &damage));
	ASC_TRY(parse(c, path, damage));
	*ret = asc_take(t);
	return NULL;
}

const struct asc_core_info *asc_core_info(const struct asc_target *t)
{
	return t->ops == &core_ops ? &((const struct asc_core *)t)->info : NULL;
}
