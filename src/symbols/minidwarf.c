/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * DWARF of one compilation unit, quickly. libdw unpacks every compressed debug section of a file as
 * it opens it: 60 ms for a libc of which we want a dozen structs. So we unpack only .debug_abbrev,
 * the string sections, and .debug_info up to the end of the unit that holds a given address (found
 * by .debug_aranges), and hand libdw an ELF file in memory made of these. When anything about this
 * does not work out, libdw gets the whole file.
 */
#include "symbols/minidwarf.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/num.h"

enum { SECTION_MAX = 256 << 20 };

enum { NONE, ABBREV, STR, LINE_STR, STR_OFFSETS, INFO, SHSTR, NSECTIONS };
static const char *const names[NSECTIONS] = {
	"",
	".debug_abbrev",
	".debug_str",
	".debug_line_str",
	".debug_str_offsets",
	".debug_info",
	".shstrtab",
};

/* A section, unpacked from its front as far as it is asked for. */
struct section {
	const uint8_t *raw;
	size_t raw_len;
	uint32_t packed; /* ELFCOMPRESS_*, 0: not */
	uint64_t size;	 /* when unpacked */
	uint8_t *buf;
	uint64_t have;
	z_stream z;
	bool z_open;
	ZSTD_DStream *zstd;
	ZSTD_inBuffer zin;
};

static void section_deinit(struct section *s)
{
	if (s->z_open)
		inflateEnd(&s->z);
	ZSTD_freeDStream(s->zstd);
	free(s->buf);
	*s = (struct section){ 0 };
}

static bool section_init(struct asc_elf *e, const char *name, struct section *ret)
{
	Elf_Scn *scn = NULL;
	struct section s = { 0 };
	Elf_Data *raw;
	GElf_Shdr sh;
	GElf_Chdr ch;
	size_t strndx, head = 0;

	if (elf_getshdrstrndx(e->elf, &strndx))
		return false;
	while ((scn = elf_nextscn(e->elf, scn))) {
		const char *at;

		if (!gelf_getshdr(scn, &sh) || sh.sh_type == SHT_NOBITS)
			continue;
		at = elf_strptr(e->elf, strndx, sh.sh_name);
		if (at && !strcmp(at, name))
			break;
	}
	if (!scn)
		return false;
	raw = elf_rawdata(scn, NULL);
	if (!raw || !raw->d_buf)
		return false;
	s.size = raw->d_size;
	if (sh.sh_flags & SHF_COMPRESSED) {
		if (!gelf_getchdr(scn, &ch))
			return false;
		head = e->eh.e_ident[EI_CLASS] == ELFCLASS64 ? sizeof(Elf64_Chdr)
							     : sizeof(Elf32_Chdr);
		s.packed = ch.ch_type;
		s.size = ch.ch_size;
	}
	/* deflate cannot shrink by more than about 1032; a larger claim is a lie */
	if (raw->d_size < head || s.size > SECTION_MAX || s.size / 4096 > raw->d_size)
		return false;
	s.raw = (const uint8_t *)raw->d_buf + head;
	s.raw_len = raw->d_size - head;
	s.buf = malloc(s.size ? s.size : 1);
	if (!s.buf)
		return false;
	*ret = s;
	return true;
}

static bool inflate_to(struct section *s, uint64_t want)
{
	int rc;

	if (!s->z_open) {
		/* past the two bytes of zlib's own header: without its checksum it is a fifth
		 * faster */
		if (s->raw_len < 2 || (s->raw[0] & 15) != Z_DEFLATED || (s->raw[1] & 0x20))
			return false;
		s->z.next_in = (Bytef *)s->raw + 2;
		s->z.avail_in = (uInt)(s->raw_len - 2);
		if (inflateInit2(&s->z, -MAX_WBITS) != Z_OK)
			return false;
		s->z_open = true;
	}
	s->z.next_out = s->buf + s->have;
	s->z.avail_out = (uInt)(want - s->have);
	rc = inflate(&s->z, Z_SYNC_FLUSH);
	s->have = want - s->z.avail_out;
	return (rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR) && s->have == want;
}

static bool unzstd_to(struct section *s, uint64_t want)
{
	ZSTD_outBuffer out = { .dst = s->buf, .size = want, .pos = s->have };

	if (!s->zstd) {
		s->zstd = ZSTD_createDStream();
		s->zin = (ZSTD_inBuffer){ .src = s->raw, .size = s->raw_len };
	}
	while (s->zstd && out.pos < want) {
		size_t before = out.pos, in = s->zin.pos;

		if (ZSTD_isError(ZSTD_decompressStream(s->zstd, &out, &s->zin)) ||
		    (out.pos == before && s->zin.pos == in))
			return false;
	}
	s->have = out.pos;
	return s->have == want;
}

static bool section_to(struct section *s, uint64_t want)
{
	if (want > s->size)
		return false;
	if (want <= s->have)
		return true;
	switch (s->packed) {
	case 0:
		memcpy(s->buf, s->raw, want);
		s->have = want;
		return true;
	case ELFCOMPRESS_ZLIB:
		return inflate_to(s, want);
	case 2: /* ELFCOMPRESS_ZSTD */
		return unzstd_to(s, want);
	default:
		return false;
	}
}

static uint64_t le(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

/* One set of .debug_aranges: does it cover @p vaddr? */
static bool set_covers(const uint8_t *p, size_t len, uint64_t vaddr)
{
	size_t word, at;

	word = p[6];
	if ((word != 4 && word != 8) || p[7])
		return false;
	/* tuples are aligned to their own size, from the set's start: 4 bytes of length came before
	 */
	at = asc_align_up(4 + 8, 2 * word) - 4;
	for (; at + 2 * word <= len; at += 2 * word) {
		uint64_t start = le(p + at, word), size = le(p + at + word, word);

		if (!start && !size)
			break;
		if (vaddr >= start && vaddr - start < size)
			return true;
	}
	return false;
}

static bool unit_of(struct asc_elf *e, uint64_t vaddr, uint64_t *ret)
{
	struct section s;
	bool found = false;

	if (!vaddr || !section_init(e, ".debug_aranges", &s))
		return false;
	if (section_to(&s, s.size))
		for (uint64_t at = 0; !found && s.size - at >= 12;) {
			uint64_t len = le(s.buf + at, 4);

			if (len >= 0xfffffff0 || len < 8 || len > s.size - at - 4)
				break;
			if (set_covers(s.buf + at + 4, len, vaddr)) {
				*ret = le(s.buf + at + 6, 4);
				found = true;
			}
			at += 4 + len;
		}
	section_deinit(&s);
	return found;
}

/* An ELF file of these sections; x86-64 little-endian headers serve every class. */
static uint8_t *build(struct section *s, uint16_t machine, size_t *ret_len)
{
	Elf64_Ehdr eh = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = ET_DYN,
		.e_machine = machine,
		.e_version = EV_CURRENT,
		.e_shoff = sizeof(eh),
		.e_ehsize = sizeof(eh),
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = NSECTIONS,
		.e_shstrndx = SHSTR,
	};
	Elf64_Shdr sh[NSECTIONS] = { 0 };
	uint64_t at = sizeof(eh) + sizeof(sh);
	char strings[128];
	size_t nstrings = 0;
	uint8_t *bytes;

	for (size_t i = 0; i < NSECTIONS; i++) {
		size_t n = strlen(names[i]) + 1;

		memcpy(strings + nstrings, names[i], n);
		sh[i].sh_name = (Elf64_Word)nstrings;
		nstrings += n;
	}
	for (size_t i = 1; i < NSECTIONS; i++) {
		sh[i].sh_type = i == SHSTR ? SHT_STRTAB : SHT_PROGBITS;
		sh[i].sh_offset = at;
		sh[i].sh_size = i == SHSTR ? nstrings : s[i].have;
		sh[i].sh_addralign = 1;
		at += sh[i].sh_size;
	}
	bytes = malloc(at);
	if (!bytes)
		return NULL;
	memcpy(bytes, &eh, sizeof(eh));
	memcpy(bytes + sizeof(eh), sh, sizeof(sh));
	for (size_t i = 1; i < NSECTIONS; i++)
		if (sh[i].sh_size)
			memcpy(bytes + sh[i].sh_offset, i == SHSTR ? (void *)strings : s[i].buf,
			       sh[i].sh_size);
	*ret_len = at;
	return bytes;
}

static bool unpack_unit(struct section *info, uint64_t unit, uint64_t *ret_die)
{
	uint64_t len;

	if (unit > SECTION_MAX || !section_to(info, unit + 12))
		return false;
	len = le(info->buf + unit, 4);
	if (len >= 0xfffffff0 || len < 8 || !section_to(info, unit + 4 + len))
		return false;
	switch (le(info->buf + unit + 4, 2)) {
	case 2:
	case 3:
	case 4:
		*ret_die = unit + 11;
		return true;
	case 5:
		*ret_die = unit + 12;
		return info->buf[unit + 6] == 1; /* DW_UT_compile */
	default:
		return false;
	}
}

static bool open_part(struct asc_elf *e, uint64_t vaddr, struct asc_minidwarf *ret)
{
	struct section s[NSECTIONS] = { 0 };
	struct asc_minidwarf d = { 0 };
	uint64_t unit, die;
	size_t len;

	if (e->eh.e_ident[EI_DATA] != ELFDATA2LSB || !unit_of(e, vaddr, &unit))
		return false;
	if (section_init(e, names[INFO], &s[INFO]) && unpack_unit(&s[INFO], unit, &die) &&
	    section_init(e, names[ABBREV], &s[ABBREV]) && section_to(&s[ABBREV], s[ABBREV].size)) {
		bool ok = true;

		for (int i = STR; i <= STR_OFFSETS; i++)
			if (section_init(e, names[i], &s[i]) && !section_to(&s[i], s[i].size))
				ok = false;
		d.bytes = ok ? build(s, e->eh.e_machine, &len) : NULL;
	}
	for (size_t i = 0; i < NSECTIONS; i++)
		section_deinit(&s[i]);
	if (!d.bytes)
		return false;
	d.elf = elf_memory((char *)d.bytes, len);
	d.dw = d.elf ? dwarf_begin_elf(d.elf, DWARF_C_READ, NULL) : NULL;
	d.unit = die;
	if (!d.dw) {
		asc_minidwarf_close(&d);
		return false;
	}
	*ret = d;
	return true;
}

bool asc_minidwarf_open(struct asc_elf *debug, uint64_t vaddr, struct asc_minidwarf *ret)
{
	struct asc_minidwarf d = { 0 };

	if (open_part(debug, vaddr, ret))
		return true;
	d.dw = dwarf_begin_elf(debug->elf, DWARF_C_READ, NULL);
	if (!d.dw)
		return false;
	*ret = d;
	return true;
}

void asc_minidwarf_close(struct asc_minidwarf *d)
{
	if (d->dw)
		dwarf_end(d->dw);
	if (d->elf)
		elf_end(d->elf);
	free(d->bytes);
	*d = (struct asc_minidwarf){ 0 };
}
