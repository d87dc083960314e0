/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ELF images from files and from memory: headers, bytes by address, the dynamic section. */
#include "symbols/elffile.h"

#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/num.h"

enum {
	IMAGE_MAX = 512 << 20,
	PHDRS_MAX = 512,
	NOTE_MAX = 64 << 10,
	DYN_MAX = 4096,
	SYMS_MAX = 8 << 20,
	RELOCS_MAX = 4 << 20,
};

static void hex(const uint8_t *p, size_t n, char ret[static ASC_BUILD_ID_LEN])
{
	static const char digits[] = "0123456789abcdef";

	ret[0] = 0;
	if (n > (ASC_BUILD_ID_LEN - 1) / 2)
		n = (ASC_BUILD_ID_LEN - 1) / 2;
	for (size_t i = 0; i < n; i++) {
		ret[2 * i] = digits[p[i] >> 4];
		ret[2 * i + 1] = digits[p[i] & 15];
		ret[2 * i + 2] = 0;
	}
}

void asc_elf_close(struct asc_elf *e)
{
	if (!e)
		return;
	if (e->elf)
		elf_end(e->elf);
	if (e->fd >= 0)
		close(e->fd);
	free(e->path);
	free(e->image);
	free(e->ph);
	free(e);
}

void asc_elf_closep(struct asc_elf **e)
{
	asc_elf_close(*e);
}

/* Header, program headers, build-id. */
static struct asc_error *load(struct asc_elf *e, const char *what)
{
	const void *id;
	ssize_t n;

	if (elf_kind(e->elf) != ELF_K_ELF || !gelf_getehdr(e->elf, &e->eh))
		return asc_err(ASC_EINPUT, "%s is not an ELF file", what);
	if (elf_getphdrnum(e->elf, &e->nph) || e->nph > PHDRS_MAX)
		e->nph = 0;
	e->ph = calloc(e->nph ? e->nph : 1, sizeof(*e->ph));
	if (!e->ph)
		return asc_err(ASC_ENOMEM, "program headers of %s", what);
	for (size_t i = 0; i < e->nph; i++)
		if (!gelf_getphdr(e->elf, (int)i, &e->ph[i]))
			e->ph[i].p_type = PT_NULL;
	n = dwelf_elf_gnu_build_id(e->elf, &id);
	if (n > 0)
		hex(id, (size_t)n, e->build_id);
	return NULL;
}

static struct asc_elf *blank(void)
{
	struct asc_elf *e = calloc(1, sizeof(*e));

	if (e)
		e->fd = -1;
	elf_version(EV_CURRENT);
	return e;
}

struct asc_error *asc_elf_open(const char *path, struct asc_elf **ret)
{
	ASC_AUTO(asc_elf_closep) struct asc_elf *e = blank();
	struct stat st;

	if (!e)
		return asc_err(ASC_ENOMEM, "opening %s", path);
	e->path = strdup(path);
	if (!e->path)
		return asc_err(ASC_ENOMEM, "opening %s", path);
	/* O_NONBLOCK: a path from a target may name a FIFO */
	e->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (e->fd < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return asc_err(ASC_ENOTARGET, "no such file");
		return asc_err_os(errno, "cannot be opened");
	}
	if (fstat(e->fd, &st) || !S_ISREG(st.st_mode))
		return asc_err(ASC_EINPUT, "not a regular file");
	e->elf = elf_begin(e->fd, ELF_C_READ, NULL);
	if (!e->elf)
		return asc_err(ASC_EINPUT, "not an ELF file");
	ASC_TRY(load(e, path));
	*ret = asc_take(e);
	return NULL;
}

bool asc_ehdr_get(const struct asc_target *t, const uint8_t *p, size_t len, struct asc_ehdr *ret)
{
	const struct asc_arch *arch = asc_target_arch(t);
	bool is64;

	if (len < sizeof(Elf32_Ehdr) || memcmp(p, ELFMAG, SELFMAG))
		return false;
	is64 = p[EI_CLASS] == ELFCLASS64;
	if (is64 != (arch->word_size == 8) || (is64 && len < sizeof(Elf64_Ehdr)))
		return false;
	if ((p[EI_DATA] == ELFDATA2MSB) != arch->big_endian)
		return false;
#define GET(field)                                                                                 \
	asc_uint_at(t, p + (is64 ? offsetof(Elf64_Ehdr, field) : offsetof(Elf32_Ehdr, field)),     \
		    is64 ? sizeof(((Elf64_Ehdr *)0)->field) : sizeof(((Elf32_Ehdr *)0)->field))
	*ret = (struct asc_ehdr){
		.type = (uint16_t)GET(e_type),
		.machine = (uint16_t)GET(e_machine),
		.phoff = GET(e_phoff),
		.phnum = (uint16_t)GET(e_phnum),
		.phentsize = (uint16_t)GET(e_phentsize),
		.is64 = is64,
	};
#undef GET
	return ret->phnum && ret->phnum <= PHDRS_MAX &&
	       ret->phentsize == (is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr));
}

bool asc_phdr_get(const struct asc_target *t, const struct asc_ehdr *h, const uint8_t *p,
		  GElf_Phdr *ret)
{
#define GET(field)                                                                                 \
	asc_uint_at(t, p + (h->is64 ? offsetof(Elf64_Phdr, field) : offsetof(Elf32_Phdr, field)),  \
		    h->is64 ? sizeof(((Elf64_Phdr *)0)->field) : sizeof(((Elf32_Phdr *)0)->field))
	*ret = (GElf_Phdr){
		.p_type = (GElf_Word)GET(p_type),
		.p_flags = (GElf_Word)GET(p_flags),
		.p_offset = GET(p_offset),
		.p_vaddr = GET(p_vaddr),
		.p_paddr = GET(p_paddr),
		.p_filesz = GET(p_filesz),
		.p_memsz = GET(p_memsz),
		.p_align = GET(p_align),
	};
#undef GET
	return ret->p_filesz <= ret->p_memsz || ret->p_type != PT_LOAD;
}

void asc_note_build_id(const struct asc_target *t, const uint8_t *p, size_t len, uint64_t align,
		       char ret[static ASC_BUILD_ID_LEN])
{
	size_t at = 0;

	align = align == 8 ? 8 : 4;
	ret[0] = 0;
	while (len - at >= 12) {
		uint64_t namesz = asc_uint_at(t, p + at, 4), descsz = asc_uint_at(t, p + at + 4, 4);
		uint64_t type = asc_uint_at(t, p + at + 8, 4);
		uint64_t desc = asc_align_up(at + 12 + namesz, align);
		uint64_t next = asc_align_up(desc + descsz, align);

		if (desc > len || descsz > len - desc)
			return;
		if (type == NT_GNU_BUILD_ID && namesz == 4 && !memcmp(p + at + 12, "GNU", 4) &&
		    descsz) {
			hex(p + desc, descsz, ret);
			return;
		}
		if (next <= at || next > len)
			return;
		at = next;
	}
}

/* Where the file's loaded part ends, so far as it is plausible. */
static uint64_t image_size(const GElf_Phdr *ph, size_t n)
{
	uint64_t size = 0, end;

	for (size_t i = 0; i < n; i++) {
		if (ph[i].p_type != PT_LOAD || !asc_add(ph[i].p_offset, ph[i].p_filesz, &end))
			continue;
		if (end <= IMAGE_MAX)
			size = asc_max(size, end);
	}
	return size;
}

static void read_pages(struct asc_target *t, asc_addr addr, uint8_t *buf, size_t len)
{
	size_t page = asc_target_page_size(t), got;

	while (len) {
		got = asc_read_some(t, addr, buf, len);
		if (got < len) { /* a hole: go on behind it */
			uint64_t skip = page - ((addr + got) & (page - 1));

			got += asc_min(skip, len - got);
		}
		addr += got;
		buf += got;
		len -= got;
	}
}

static void forget_sections(struct asc_elf *e)
{
	static const uint8_t zero[8];
	bool is64 = e->image[EI_CLASS] == ELFCLASS64;
	size_t shoff = is64 ? offsetof(Elf64_Ehdr, e_shoff) : offsetof(Elf32_Ehdr, e_shoff);
	size_t shnum = is64 ? offsetof(Elf64_Ehdr, e_shnum) : offsetof(Elf32_Ehdr, e_shnum);
	size_t ndx = is64 ? offsetof(Elf64_Ehdr, e_shstrndx) : offsetof(Elf32_Ehdr, e_shstrndx);

	memcpy(e->image + shoff, zero, is64 ? 8 : 4);
	memcpy(e->image + shnum, zero, 2);
	memcpy(e->image + ndx, zero, 2);
}

struct asc_error *asc_elf_from_memory(struct asc_target *t, asc_addr start, asc_addr bias,
				      struct asc_elf **ret)
{
	ASC_AUTO(asc_elf_closep) struct asc_elf *e = blank();
	ASC_AUTO(asc_freep) uint8_t *phs = NULL;
	ASC_AUTO(asc_freep) GElf_Phdr *ph = NULL;
	uint8_t head[sizeof(Elf64_Ehdr)];
	struct asc_ehdr h;

	if (!e)
		return asc_err(ASC_ENOMEM, "ELF image at 0x%" PRIx64, start);
	if (!asc_ehdr_get(t, head, asc_read_some(t, start, head, sizeof(head)), &h))
		return asc_err(ASC_EINPUT, "no ELF header at 0x%" PRIx64, start);
	phs = malloc((size_t)h.phnum * h.phentsize);
	ph = calloc(h.phnum, sizeof(*ph));
	if (!phs || !ph)
		return asc_err(ASC_ENOMEM, "ELF image at 0x%" PRIx64, start);
	ASC_TRY(asc_read(t, start + h.phoff, phs, (size_t)h.phnum * h.phentsize));
	for (size_t i = 0; i < h.phnum; i++)
		if (!asc_phdr_get(t, &h, phs + i * h.phentsize, &ph[i]))
			ph[i].p_type = PT_NULL;
	e->image_len = asc_max(image_size(ph, h.phnum), sizeof(Elf64_Ehdr));
	e->image = calloc(1, e->image_len);
	if (!e->image)
		return asc_err(ASC_ENOMEM, "ELF image at 0x%" PRIx64, start);
	for (size_t i = 0; i < h.phnum; i++) {
		uint64_t end;

		if (ph[i].p_type == PT_LOAD && asc_add(ph[i].p_offset, ph[i].p_filesz, &end) &&
		    end <= e->image_len)
			read_pages(t, bias + ph[i].p_vaddr, e->image + ph[i].p_offset,
				   ph[i].p_filesz);
	}
	memcpy(e->image, head, h.is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr));
	forget_sections(e);
	e->relocated = true;
	e->bias = bias;
	e->elf = elf_memory((char *)e->image, e->image_len);
	if (!e->elf)
		return asc_err(ASC_EINPUT, "no usable ELF image at 0x%" PRIx64, start);
	ASC_TRY(load(e, "the mapped image"));
	*ret = asc_take(e);
	return NULL;
}

struct asc_error *asc_elf_from_bytes(uint8_t *bytes, size_t len, const char *what,
				     struct asc_elf **ret)
{
	ASC_AUTO(asc_elf_closep) struct asc_elf *e = blank();

	if (!e) {
		free(bytes);
		return asc_err(ASC_ENOMEM, "%s", what);
	}
	e->image = bytes;
	e->image_len = len;
	e->elf = elf_memory((char *)bytes, len);
	if (!e->elf)
		return asc_err(ASC_EINPUT, "%s is not an ELF file", what);
	ASC_TRY(load(e, what));
	*ret = asc_take(e);
	return NULL;
}

static size_t read_at(struct asc_elf *e, uint64_t off, void *buf, size_t len)
{
	ssize_t got;

	if (e->fd < 0) {
		if (off >= e->image_len)
			return 0;
		len = asc_min(len, e->image_len - off);
		memcpy(buf, e->image + off, len);
		return len;
	}
	if (off > INT64_MAX)
		return 0;
	do
		got = pread(e->fd, buf, len, (off_t)off);
	while (got < 0 && errno == EINTR);
	return got < 0 ? 0 : (size_t)got;
}

size_t asc_elf_read(struct asc_elf *e, uint64_t vaddr, void *buf, size_t len)
{
	size_t done = 0;

	for (size_t i = 0; i < e->nph && done < len;) {
		const GElf_Phdr *p = &e->ph[i++];
		uint64_t in = vaddr + done - p->p_vaddr, n;

		if (p->p_type != PT_LOAD || vaddr + done < p->p_vaddr || in >= p->p_memsz)
			continue;
		if (in < p->p_filesz) {
			n = asc_min(len - done, p->p_filesz - in);
			if (read_at(e, p->p_offset + in, (uint8_t *)buf + done, n) != n)
				return done;
		} else {
			n = asc_min(len - done, p->p_memsz - in);
			memset((uint8_t *)buf + done, 0, n);
		}
		done += n;
		i = 0;
	}
	return done;
}

static uint64_t decode(const struct asc_elf *e, const uint8_t *p, size_t size)
{
	bool big = e->eh.e_ident[EI_DATA] == ELFDATA2MSB;
	uint64_t v = 0;

	for (size_t i = 0; i < size; i++)
		v |= (uint64_t)p[big ? size - 1 - i : i] << (8 * i);
	return v;
}

bool asc_elf_word(struct asc_elf *e, uint64_t vaddr, uint64_t *ret)
{
	size_t size = e->eh.e_ident[EI_CLASS] == ELFCLASS64 ? 8 : 4;
	uint8_t buf[8];

	if (asc_elf_read(e, vaddr, buf, size) != size)
		return false;
	*ret = decode(e, buf, size);
	return true;
}

/* In memory the loader has made these absolute, but not in the vDSO. */
static uint64_t unbias(const struct asc_elf *e, uint64_t v)
{
	return e->relocated && e->bias && v >= e->bias ? v - e->bias : v;
}

bool asc_elf_dyn(struct asc_elf *e, struct asc_dyn *ret)
{
	size_t w = e->eh.e_ident[EI_CLASS] == ELFCLASS64 ? 8 : 4;
	struct asc_dyn d = { 0 };
	const GElf_Phdr *p = NULL;
	uint8_t buf[16];

	for (size_t i = 0; i < e->nph && !p; i++)
		if (e->ph[i].p_type == PT_DYNAMIC)
			p = &e->ph[i];
	if (!p)
		return false;
	for (size_t i = 0; i < DYN_MAX && (i + 1) * 2 * w <= p->p_memsz; i++) {
		uint64_t tag, v;

		if (asc_elf_read(e, p->p_vaddr + i * 2 * w, buf, 2 * w) != 2 * w)
			break;
		tag = decode(e, buf, w);
		v = decode(e, buf + w, w);
		if (tag == DT_NULL)
			break;
		switch (tag) {
		case DT_SYMTAB:
			d.symtab = unbias(e, v);
			break;
		case DT_STRTAB:
			d.strtab = unbias(e, v);
			break;
		case DT_STRSZ:
			d.strsz = v;
			break;
		case DT_HASH:
			d.hash = unbias(e, v);
			break;
		case DT_GNU_HASH:
			d.gnu_hash = unbias(e, v);
			break;
		case DT_RELA:
			d.rela = unbias(e, v);
			break;
		case DT_RELASZ:
			d.relasz = v;
			break;
		case DT_REL:
			d.rel = unbias(e, v);
			break;
		case DT_RELSZ:
			d.relsz = v;
			break;
		case 36: /* DT_RELR */
			d.relr = unbias(e, v);
			break;
		case 35: /* DT_RELRSZ */
			d.relrsz = v;
			break;
		case DT_JMPREL:
			d.jmprel = unbias(e, v);
			break;
		case DT_PLTRELSZ:
			d.pltrelsz = v;
			break;
		case DT_PLTREL:
			d.pltrel = v;
			break;
		case DT_SONAME:
			d.soname = v;
			d.has_soname = true;
			break;
		case DT_DEBUG:
			d.debug = e->relocated ? v : 0;
			break;
		default:
			break;
		}
	}
	*ret = d;
	return true;
}

bool asc_elf_dynstr(struct asc_elf *e, const struct asc_dyn *d, uint64_t off, char *buf, size_t len)
{
	size_t got;

	if (!d->strtab || off >= d->strsz || !len)
		return false;
	got = asc_elf_read(e, d->strtab + off, buf, (size_t)asc_min(len, d->strsz - off));
	return memchr(buf, 0, got) != NULL;
}

/* The GNU hash table does not say how many symbols there are: follow its last chain. */
static uint64_t gnu_hash_count(struct asc_elf *e, uint64_t table)
{
	size_t w = e->eh.e_ident[EI_CLASS] == ELFCLASS64 ? 8 : 4;
	uint64_t nbuckets, first, bloom, buckets, chains, last = 0;
	uint8_t b[16];

	if (asc_elf_read(e, table, b, 16) != 16)
		return 0;
	nbuckets = decode(e, b, 4);
	first = decode(e, b + 4, 4);
	bloom = decode(e, b + 8, 4);
	if (nbuckets > SYMS_MAX || bloom > SYMS_MAX)
		return 0;
	buckets = table + 16 + bloom * w;
	chains = buckets + nbuckets * 4;
	for (uint64_t i = 0; i < nbuckets; i++) {
		if (asc_elf_read(e, buckets + 4 * i, b, 4) != 4)
			return 0;
		last = asc_max(last, decode(e, b, 4));
	}
	if (last < first)
		return first;
	for (; last < SYMS_MAX; last++) {
		if (asc_elf_read(e, chains + 4 * (last - first), b, 4) != 4)
			return 0;
		if (b[e->eh.e_ident[EI_DATA] == ELFDATA2MSB ? 3 : 0] & 1)
			return last + 1;
	}
	return 0;
}

uint64_t asc_elf_ndynsym(struct asc_elf *e, const struct asc_dyn *d)
{
	size_t entry = e->eh.e_ident[EI_CLASS] == ELFCLASS64 ? sizeof(Elf64_Sym)
							     : sizeof(Elf32_Sym);
	uint8_t b[8];

	if (d->hash && asc_elf_read(e, d->hash, b, 8) == 8)
		return asc_min(decode(e, b + 4, 4), SYMS_MAX);
	if (d->gnu_hash)
		return gnu_hash_count(e, d->gnu_hash);
	if (d->strtab > d->symtab)
		return asc_min((d->strtab - d->symtab) / entry, SYMS_MAX);
	return 0;
}

static bool relocs_table(struct asc_elf *e, uint64_t addr, uint64_t size, bool rela,
			 asc_reloc_fn *fn, void *arg)
{
	bool is64 = e->eh.e_ident[EI_CLASS] == ELFCLASS64;
	size_t w = is64 ? 8 : 4, entry = (rela ? 3 : 2) * w;
	uint64_t n = asc_min(size / entry, RELOCS_MAX);
	ASC_AUTO(asc_freep) uint8_t *buf = malloc((size_t)asc_max(n * entry, 1));

	if (!buf)
		return true;
	n = asc_elf_read(e, addr, buf, n * entry) / entry;
	for (uint64_t i = 0; i < n; i++) {
		const uint8_t *p = buf + i * entry;
		uint64_t info = decode(e, p + w, w);
		struct asc_reloc r = {
			.offset = decode(e, p, w),
			.type = is64 ? (uint32_t)info : (uint32_t)(info & 0xff),
			.sym = is64 ? (uint32_t)(info >> 32) : (uint32_t)(info >> 8),
			.addend = rela ? decode(e, p + 2 * w, w) : 0,
			.has_addend = rela,
		};

		if (!fn(arg, &r))
			return false;
	}
	return true;
}

static void relocs_relr(struct asc_elf *e, const struct asc_dyn *d, uint32_t type, asc_reloc_fn *fn,
			void *arg)
{
	size_t w = e->eh.e_ident[EI_CLASS] == ELFCLASS64 ? 8 : 4;
	uint64_t n = asc_min(d->relrsz / w, RELOCS_MAX), base = 0;
	ASC_AUTO(asc_freep) uint8_t *buf = malloc((size_t)asc_max(n * w, 1));

	if (!buf)
		return;
	n = asc_elf_read(e, d->relr, buf, n * w) / w;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t v = decode(e, buf + i * w, w);
		struct asc_reloc r = { .type = type };

		if (!(v & 1)) {
			r.offset = v;
			if (!fn(arg, &r))
				return;
			base = v + w;
			continue;
		}
		for (unsigned bit = 1; bit < 8 * w; bit++) {
			r.offset = base + (bit - 1) * w;
			if ((v >> bit & 1) && !fn(arg, &r))
				return;
		}
		base += (8 * w - 1) * w;
	}
}

void asc_elf_relocs(struct asc_elf *e, const struct asc_dyn *d, bool plt, uint32_t relative_type,
		    asc_reloc_fn *fn, void *arg)
{
	if (d->rela && !relocs_table(e, d->rela, d->relasz, true, fn, arg))
		return;
	if (d->rel && !relocs_table(e, d->rel, d->relsz, false, fn, arg))
		return;
	if (plt && d->jmprel &&
	    !relocs_table(e, d->jmprel, d->pltrelsz, d->pltrel == DT_RELA, fn, arg))
		return;
	if (d->relr)
		relocs_relr(e, d, relative_type, fn, arg);
}
