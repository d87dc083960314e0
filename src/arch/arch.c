/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "arch/arch.h"

#include <elf.h>
#include <string.h>

static const struct asc_arch le64 = { .name = "le64", .word_size = 8 };
static const struct asc_arch be64 = { .name = "be64", .word_size = 8, .big_endian = true };
static const struct asc_arch le32 = { .name = "le32", .word_size = 4 };
static const struct asc_arch be32 = { .name = "be32", .word_size = 4, .big_endian = true };

static const struct asc_arch *const rows[] = {
	&asc_arch_x86_64, &asc_arch_i386, &asc_arch_aarch64, &le64, &be64, &le32, &be32,
};
enum { NROWS = sizeof(rows) / sizeof(rows[0]) };

const struct asc_arch *asc_arch_by_name(const char *name)
{
	for (size_t i = 0; i < NROWS; i++) {
		if (!strcmp(rows[i]->name, name))
			return rows[i];
	}
	return NULL;
}

const struct asc_arch *asc_arch_by_elf(uint16_t e_machine, bool is64, bool big_endian)
{
	for (size_t i = 0; i < NROWS; i++) {
		if (rows[i]->e_machine == e_machine && e_machine != EM_NONE &&
		    rows[i]->big_endian == big_endian && (rows[i]->word_size == 8) == is64)
			return rows[i];
	}
	return NULL;
}

const struct asc_arch *asc_arch_native(void)
{
#if defined(__x86_64__)
	return &asc_arch_x86_64;
#elif defined(__i386__)
	return &asc_arch_i386;
#elif defined(__aarch64__)
	return &asc_arch_aarch64;
#else
#error "add a row for this CPU"
#endif
}

uint64_t asc_arch_reg(const struct asc_arch *arch, const uint8_t *raw, size_t len,
		      struct asc_reg_field f)
{
	uint64_t v = 0;

	if (!f.size || (size_t)f.off + f.size > len)
		return 0;
	for (size_t i = 0; i < f.size; i++) {
		size_t at = arch->big_endian ? i : f.size - 1u - i;

		v = v << 8 | raw[f.off + at];
	}
	return v;
}
