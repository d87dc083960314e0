/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Core files: what is read, what is cut, what is no core, what lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/arch.h"
#include "arenascope/target.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "corebuild.h"

enum { PAGE = 4096 };
static const uint64_t HEAP = 0x10000, DATA = 0x20000, STACK = 0x7f000000;

/* Bytes that tell where they are from. */
static void fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed + i * 7 + i / 256);
}

struct sample {
	struct corebuild b;
	uint8_t heap[2 * PAGE], stack[PAGE];
};

static void sample(struct sample *s, bool is64, uint16_t machine)
{
	const uint64_t auxv[] = { AT_PAGESZ, PAGE, AT_ENTRY, DATA, AT_RANDOM, STACK + 64 };
	const struct corebuild_file files[] = {
		{ DATA, DATA + 2 * PAGE, 0, "/no/such/program (deleted)" },
	};

	memset(s, 0, sizeof(*s));
	s->b.is64 = is64;
	s->b.machine = machine;
	fill(s->heap, PAGE, 1); /* the second page stays zero */
	fill(s->stack, sizeof(s->stack), 99);
	corebuild_thread(&s->b, 100, 0x1111, STACK + 8, -1, 6);
	corebuild_psinfo(&s->b, 100, "sample");
	corebuild_auxv(&s->b, auxv, 3);
	corebuild_files(&s->b, files, 1);
	corebuild_thread(&s->b, 101, 0x2222, STACK + 16, 202, 6);
	corebuild_load(&s->b, HEAP, PF_R | PF_W, s->heap, sizeof(s->heap), sizeof(s->heap));
	corebuild_load(&s->b, DATA, PF_R | PF_X, NULL, 0, 2 * PAGE);
	corebuild_load(&s->b, STACK, PF_R | PF_W, s->stack, sizeof(s->stack), sizeof(s->stack));
}

static struct asc_target *open_ok(const void *bytes, size_t len)
{
	struct asc_target *t = NULL;
	char path[64];
	int fd = corebuild_memfd(bytes, len, path);
	struct asc_error *err = asc_core_open(path, NULL, &t);

	close(fd);
	if (err) {
		char *text = asc_error_text(err);

		fail_msg("%s", text);
	}
	return t;
}

/* The error, checked for its id. */
static struct asc_error *open_bad(const void *bytes, size_t len, const char *id)
{
	struct asc_target *t = NULL;
	char path[64];
	int fd = corebuild_memfd(bytes, len, path);
	struct asc_error *err = asc_core_open(path, NULL, &t);

	close(fd);
	assert_non_null(err);
	assert_null(t);
	assert_string_equal(asc_error_id(err), id);
	return err;
}

static void check_sample(struct asc_target *t, const struct sample *s)
{
	uint8_t buf[3 * PAGE];
	const struct asc_maps *maps = asc_target_maps(t);
	const struct asc_thread *th;
	struct asc_residency *res;
	size_t n;
	uint64_t v;

	assert_int_equal(asc_target_kind(t), ASC_CORE);
	assert_int_equal(asc_target_pid(t), 100);
	assert_string_equal(asc_target_name(t), "sample");
	assert_true(asc_target_auxv(t, AT_ENTRY, &v) && v == DATA);
	assert_int_equal(asc_read_some(t, HEAP, buf, sizeof(buf)), sizeof(s->heap));
	assert_memory_equal(buf, s->heap, sizeof(s->heap));
	assert_int_equal(asc_read_some(t, STACK + 5, buf, 10), 10);
	assert_memory_equal(buf, s->stack + 5, 10);
	assert_int_equal(asc_read_some(t, DATA, buf, 1), 0);
	assert_int_equal(asc_read_some(t, HEAP - 1, buf, 2), 0);
	assert_int_equal(asc_read_some(t, UINT64_MAX, buf, 1), 0);

	assert_int_equal(maps->n, 3);
	assert_int_equal(maps->v[0].flags, ASC_MAP_READ | ASC_MAP_WRITE);
	assert_int_equal(maps->v[0].inode, 0);
	assert_string_equal(maps->v[1].path, "/no/such/program");
	assert_true(maps->v[1].deleted && maps->v[1].inode);
	assert_string_equal(maps->v[2].path, "[stack]");

	th = asc_target_threads(t, &n);
	assert_int_equal(n, 2);
	assert_int_equal(th[0].tid, 100);
	assert_string_equal(th[0].name, "sample");
	assert_string_equal(th[1].name, "");
	assert_int_equal(th[0].signal, 6);
	assert_int_equal(th[1].signal, 0);
	assert_true(asc_regs_pc(t, &th[1].regs, &v) && v == 0x2222);
	assert_true(asc_regs_sp(t, &th[1].regs, &v) && v == STACK + 16);
	assert_int_equal(th[1].utime_ticks, 300);
	if (asc_target_arch(t)->e_machine == EM_AARCH64) {
		assert_true(th[1].syscall_nr == INT64_MIN);
	} else {
		assert_int_equal(th[0].syscall_nr, -1);
		assert_int_equal(th[1].syscall_nr, 202);
		assert_int_equal(th[1].syscall_args[0], 0x1234);
		assert_int_equal(th[1].state, 'S');
	}
	assert_null(asc_residency_read(t, &res));
	assert_int_equal(res->source, ASC_RESIDENCY_CORE);
	assert_int_equal(asc_resident_bytes(res, 0, UINT64_MAX), 2 * PAGE);
	assert_int_equal(asc_resident_bytes(res, HEAP + PAGE, HEAP + 2 * PAGE), 0);
	asc_residency_free(res);
}

static void test_whole(void **state)
{
	static const struct {
		bool is64;
		uint16_t machine;
		const char *name;
	} cpus[] = { { true, EM_X86_64, "x86_64" },
		     { false, EM_386, "i386" },
		     { true, EM_AARCH64, "aarch64" } };

	(void)state;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(cpus); i++) {
		struct sample s;
		size_t len;
		uint8_t *bytes;
		struct asc_target *t;

		sample(&s, cpus[i].is64, cpus[i].machine);
		bytes = corebuild_write(&s.b, &len);
		t = open_ok(bytes, len);
		assert_string_equal(asc_target_arch(t)->name, cpus[i].name);
		assert_false(asc_core_info(t)->truncated);
		assert_int_equal(asc_core_info(t)->promised_bytes, len);
		assert_int_equal(asc_core_info(t)->signal, 6);
		check_sample(t, &s);
		asc_target_close(t);
		free(bytes);
	}
}

/* Whatever is left of it: an honest error, or exactly the bytes that are there. */
static void test_cut_everywhere(void **state)
{
	struct sample s;
	size_t len, opened = 0, refused = 0;
	uint8_t *bytes;

	(void)state;
	for (int is64 = 0; is64 < 2; is64++) {
		sample(&s, is64, is64 ? EM_X86_64 : EM_386);
		bytes = corebuild_write(&s.b, &len);
		for (size_t cut = 0; cut < len; cut++) {
			struct asc_target *t = NULL;
			char path[64];
			uint8_t buf[2 * PAGE];
			int fd = corebuild_memfd(bytes, cut, path);
			struct asc_error *err = asc_core_open(path, NULL, &t);
			uint64_t heap_at = len - sizeof(s.stack) - sizeof(s.heap), got;

			close(fd);
			if (err) {
				assert_string_equal(asc_error_id(err),
						    cut < SELFMAG ? "E-NOTCORE" : "E-TRUNCATED");
				assert_int_equal(asc_error_exit(err), 65);
				asc_error_free(err);
				refused++;
				continue;
			}
			opened++;
			assert_true(asc_core_info(t)->truncated);
			got = asc_read_some(t, HEAP, buf, sizeof(buf));
			assert_int_equal(got,
					 cut <= heap_at ? 0 : asc_min(sizeof(buf), cut - heap_at));
			assert_memory_equal(buf, s.heap, got);
			got = asc_read_some(t, STACK, buf, PAGE);
			assert_int_equal(got, cut <= len - PAGE ? 0 : cut - (len - PAGE));
			assert_memory_equal(buf, s.stack, got);
			assert_int_equal(asc_core_info(t)->missing_bytes,
					 cut <= heap_at ? 3 * PAGE : len - cut);
			asc_target_close(t);
		}
		free(bytes);
	}
	assert_true(opened > 20000 && refused > 200);
}

static bool pack(const char *tool, const char *from, const char *to)
{
	char cmd[512];

	snprintf(cmd, sizeof(cmd), "%s -c < %s > %s 2>/dev/null", tool, from, to);
	return system(cmd) == 0;
}

static void test_compressed(void **state)
{
	static const char *const tools[][2] = {
		{ "zstd", "zstd" }, { "xz", "xz" }, { "lz4", "lz4" }, { "gzip", "gzip" }
	};
	char dir[] = "/tmp/asc-core-XXXXXX", plain[64], packed[64];
	struct sample s;
	size_t len, n = 0;
	uint8_t *bytes;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(plain, sizeof(plain), "%s/core", dir);
	snprintf(packed, sizeof(packed), "%s/packed", dir);
	sample(&s, true, EM_X86_64);
	bytes = corebuild_write(&s.b, &len);
	f = fopen(plain, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	fclose(f);
	for (size_t i = 0; i < ASC_ARRAY_SIZE(tools); i++) {
		struct asc_target *t = NULL;
		struct asc_error *err;
		uint8_t buf[PAGE];
		size_t size, got;

		if (!pack(tools[i][0], plain, packed))
			continue;
		n++;
		assert_null(asc_core_open(packed, NULL, &t));
		assert_string_equal(asc_core_info(t)->compression, tools[i][1]);
		assert_int_equal(asc_core_info(t)->file_bytes, len);
		assert_false(asc_core_info(t)->truncated);
		check_sample(t, &s);
		asc_target_close(t);

		/* cut: whatever is read must be right */
		f = fopen(packed, "r");
		assert_non_null(f);
		fseek(f, 0, SEEK_END);
		size = (size_t)ftell(f);
		fclose(f);
		for (size_t cut = size - 1; cut > 0; cut = cut * 7 / 8) {
			assert_int_equal(truncate(packed, (off_t)cut), 0);
			err = asc_core_open(packed, NULL, &t);
			if (err) {
				assert_int_equal(asc_error_exit(err), 65);
				asc_error_free(err);
				continue;
			}
			got = asc_read_some(t, STACK, buf, PAGE);
			assert_memory_equal(buf, s.stack, got);
			asc_target_close(t);
		}
	}
	unlink(plain);
	unlink(packed);
	rmdir(dir);
	free(bytes);
	assert_true(n > 0);
}

static void test_kinds(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *says;
	} kinds[] = {
		{ "", 0, "empty" },
		{ "hello\nworld\n", 12, "text" },
		{ "!<arch>\nfoo", 11, "archive" },
		{ "#!/bin/sh\n", 10, "script" },
		{ "PK\3\4....", 8, "zip" },
		{ "MDMP\0\0\0\0", 8, "minidump" },
		{ "\0\1\2\3\4", 5, "not an ELF" },
		{ "ProblemType: Crash\n", 19, "apport" },
		{ "\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\76\0", 20, "cut or damaged" },
	};

	(void)state;
	for (size_t i = 0; i < ASC_ARRAY_SIZE(kinds); i++) {
		struct asc_error *err = open_bad(kinds[i].bytes, kinds[i].len, "E-NOTCORE");

		assert_non_null(strstr(asc_error_why(err), kinds[i].says));
		assert_int_equal(asc_error_exit(err), 65);
		asc_error_free(err);
	}
}

static void expect_open(const char *path, const char *id, int exit_status, const char *why)
{
	struct asc_target *t = NULL;
	struct asc_error *err = asc_core_open(path, NULL, &t);

	assert_non_null(err);
	if (id)
		assert_string_equal(asc_error_id(err), id);
	assert_int_equal(asc_error_exit(err), exit_status);
	if (why)
		assert_non_null(strstr(asc_error_why(err), why));
	asc_error_free(err);
}

static void test_other_files(void **state)
{
	(void)state;
	expect_open("/proc/self/exe", "E-NOTCORE", 65, "an executable");
	expect_open("/lib64/ld-linux-x86-64.so.2", "E-NOTCORE", 65, "a shared library");
	expect_open("/etc/passwd", "E-NOTCORE", 65, "it is text");
	expect_open("/tmp", "E-NOTCORE", 65, "a directory");
	expect_open("/no/such/core", NULL, 66, NULL);
	expect_open("/dev/zero", "E-NOTCORE", 65, "a device");
}

static void test_other_cpu(void **state)
{
	struct sample s;
	size_t len;
	uint8_t *bytes;
	struct asc_error *err;

	(void)state;
	sample(&s, true, EM_X86_64);
	bytes = corebuild_write(&s.b, &len);
	bytes[18] = EM_PPC64;
	err = open_bad(bytes, len, "E-ARCH");
	assert_non_null(strstr(asc_error_why(err), "64-bit PowerPC, 64-bit, little-endian"));
	assert_int_equal(asc_error_exit(err), 69);
	asc_error_free(err);
	bytes[18] = 0;
	bytes[19] = EM_S390;
	bytes[EI_DATA] = ELFDATA2MSB;
	err = open_bad(bytes, len, "E-ARCH");
	assert_non_null(strstr(asc_error_why(err), "s390"));
	asc_error_free(err);
	free(bytes);
}

static void put64(uint8_t *p, uint64_t v)
{
	memcpy(p, &v, 8);
}

/* Headers that lie: never a crash, never a byte that is not in the file, no more memory than the
 * file. */
static void test_hostile(void **state)
{
	struct sample s;
	size_t len;
	uint8_t *bytes, *load;
	uint8_t buf[16];
	struct asc_target *t;
	struct asc_residency *res;

	(void)state;
	sample(&s, true, EM_X86_64);
	bytes = corebuild_write(&s.b, &len);
	load = bytes + sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr); /* the heap's header */

	put64(load + offsetof(Elf64_Phdr, p_filesz), UINT64_MAX); /* wraps with its offset */
	put64(load + offsetof(Elf64_Phdr, p_memsz), UINT64_MAX);
	t = open_ok(bytes, len);
	assert_null(asc_residency_read(t, &res));
	asc_residency_free(res);
	assert_int_equal(asc_read_some(t, UINT64_MAX - 8, buf, 8), 0);
	asc_target_close(t);

	put64(load + offsetof(Elf64_Phdr, p_filesz), PAGE); /* over the whole of DATA and into it */
	put64(load + offsetof(Elf64_Phdr, p_memsz), DATA - HEAP + PAGE);
	t = open_ok(bytes, len);
	assert_int_equal(asc_target_maps(t)->v[1].end - asc_target_maps(t)->v[1].start, PAGE);
	asc_target_close(t);

	put64(load + offsetof(Elf64_Phdr, p_offset), UINT64_MAX - 100);
	t = open_ok(bytes, len);
	assert_int_equal(asc_read_some(t, HEAP, buf, 1), 0);
	asc_target_close(t);

	bytes[56] = bytes[57] = 0xff; /* PN_XNUM without a section header */
	t = open_ok(bytes, len);
	asc_target_close(t);
	bytes[56] = 0xfe; /* 65534 headers in a small file */
	t = open_ok(bytes, len);
	asc_target_close(t);
	bytes[54] = 1; /* phentsize */
	asc_error_free(open_bad(bytes, len, "E-NOTCORE"));
	free(bytes);
}

static void test_xnum(void **state)
{
	enum { N = 70000 };
	size_t eh = sizeof(Elf64_Ehdr), at = eh + N * sizeof(Elf64_Phdr), len;
	uint8_t *p = calloc(1, at + 16 + sizeof(Elf64_Shdr));
	Elf64_Ehdr h = { .e_type = ET_CORE,
			 .e_machine = EM_X86_64,
			 .e_version = 1,
			 .e_phoff = eh,
			 .e_ehsize = sizeof(h),
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = PN_XNUM,
			 .e_shentsize = sizeof(Elf64_Shdr),
			 .e_shnum = 1 };
	Elf64_Shdr sh = { .sh_info = N };
	struct asc_target *t;
	uint8_t buf[8];

	(void)state;
	assert_non_null(p);
	memcpy(h.e_ident, ELFMAG, SELFMAG);
	h.e_ident[EI_CLASS] = ELFCLASS64;
	h.e_ident[EI_DATA] = ELFDATA2LSB;
	h.e_shoff = at + 16;
	memcpy(p, &h, sizeof(h));
	for (size_t i = 0; i < N; i++) {
		Elf64_Phdr ph = { .p_type = PT_LOAD,
				  .p_flags = PF_R,
				  .p_offset = at,
				  .p_vaddr = (i + 1) * 2 * PAGE,
				  .p_filesz = 16,
				  .p_memsz = PAGE };

		memcpy(p + eh + i * sizeof(ph), &ph, sizeof(ph));
	}
	memcpy(p + at, "0123456789abcdef", 16);
	memcpy(p + at + 16, &sh, sizeof(sh));
	len = at + 16 + sizeof(sh);
	t = open_ok(p, len);
	assert_int_equal(asc_target_maps(t)->n, N);
	assert_null(asc_read(t, (uint64_t)N * 2 * PAGE + 8, buf, 8));
	assert_memory_equal(buf, "89abcdef", 8);
	asc_target_close(t);
	free(p);
}

/* A core that shrinks while it is open: reads end early, no SIGBUS. */
static void test_shrinks(void **state)
{
	struct sample s;
	size_t len;
	uint8_t *bytes, buf[2 * PAGE];
	char path[64];
	struct asc_target *t = NULL;
	struct asc_residency *res;
	int fd;

	(void)state;
	sample(&s, true, EM_X86_64);
	bytes = corebuild_write(&s.b, &len);
	fd = corebuild_memfd(bytes, len, path);
	assert_null(asc_core_open(path, NULL, &t));
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_true(asc_read_some(t, HEAP, buf, sizeof(buf)) < sizeof(buf));
	assert_null(asc_residency_read(t, &res));
	asc_residency_free(res);
	asc_target_close(t);
	close(fd);
	free(bytes);
}

/* A little shared object: header, program headers, build-id, and text in its second page. */
static void make_elf(uint8_t p[2 * PAGE], uint8_t id)
{
	Elf64_Ehdr h = { .e_type = ET_DYN,
			 .e_machine = EM_X86_64,
			 .e_version = 1,
			 .e_phoff = sizeof(h),
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 3 };
	Elf64_Phdr ph[3] = {
		{ .p_type = PT_LOAD, .p_flags = PF_R, .p_filesz = PAGE, .p_memsz = PAGE },
		{ .p_type = PT_LOAD,
		  .p_flags = PF_R | PF_X,
		  .p_offset = PAGE,
		  .p_vaddr = PAGE,
		  .p_filesz = PAGE,
		  .p_memsz = PAGE },
		{ .p_type = PT_NOTE,
		  .p_offset = 0x200,
		  .p_vaddr = 0x200,
		  .p_filesz = 24,
		  .p_memsz = 24 },
	};
	Elf64_Nhdr n = { .n_namesz = 4, .n_descsz = 8, .n_type = NT_GNU_BUILD_ID };

	memset(p, 0, 2 * PAGE);
	memcpy(h.e_ident, ELFMAG, SELFMAG);
	h.e_ident[EI_CLASS] = ELFCLASS64;
	h.e_ident[EI_DATA] = ELFDATA2LSB;
	memcpy(p, &h, sizeof(h));
	memcpy(p + sizeof(h), ph, sizeof(ph));
	memcpy(p + 0x200, &n, sizeof(n));
	memcpy(p + 0x20c, "GNU", 4);
	memset(p + 0x210, id, 8);
	fill(p + PAGE, PAGE, 55);
}

/* Text that the core lacks comes from the mapped file, if and only if it is that file. */
static void test_mapped_file(void **state)
{
	uint8_t elf[2 * PAGE], other[2 * PAGE], stack[PAGE], buf[PAGE];
	char path[64];
	int fd;

	(void)state;
	make_elf(elf, 1);
	make_elf(other, 2);
	fill(stack, PAGE, 3);
	fd = corebuild_memfd(elf, sizeof(elf), path);
	for (int k = 0; k < 3; k++) {
		/* 0: the same file; 1: another build-id; 2: no anonymous page in the core */
		struct corebuild b = { .is64 = true, .machine = EM_X86_64 };
		struct corebuild_file f[] = { { DATA, DATA + PAGE, 0, path },
					      { DATA + PAGE, DATA + 2 * PAGE, 1, path },
					      { DATA + 2 * PAGE, DATA + 3 * PAGE, 1, path } };
		size_t len;
		uint8_t *bytes;
		struct asc_target *t;

		corebuild_thread(&b, 1, DATA, STACK, -1, 6);
		corebuild_files(&b, f, 3);
		corebuild_load(&b, DATA, PF_R, k == 1 ? other : elf, PAGE, PAGE);
		corebuild_load(&b, DATA + PAGE, PF_R | PF_X, NULL, 0, PAGE);
		corebuild_load(&b, DATA + 2 * PAGE, PF_R | PF_W, NULL, 0, PAGE);
		corebuild_load(&b, STACK, PF_R | PF_W, stack, k == 2 ? 0 : PAGE, PAGE);
		bytes = corebuild_write(&b, &len);
		t = open_ok(bytes, len);
		assert_int_equal(asc_read_some(t, DATA + PAGE, buf, PAGE), k == 1 ? 0 : PAGE);
		if (k != 1)
			assert_memory_equal(buf, elf + PAGE, PAGE);
		assert_int_equal(asc_read_some(t, DATA + 2 * PAGE, buf, PAGE), k == 0 ? PAGE : 0);
		asc_target_close(t);
		free(bytes);
	}
	close(fd);
}

static struct asc_target *fixture(const char *name)
{
	struct asc_target *t = NULL;
	char path[512];

	snprintf(path, sizeof(path), "%s/cores/%s", FIXTURES, name);
	assert_null(asc_core_open(path, NULL, &t));
	assert_non_null(asc_core_info(t)->compression);
	assert_false(asc_core_info(t)->truncated);
	assert_int_equal(asc_core_info(t)->signal, 6);
	return t;
}

/* Cores that others wrote; what is expected was read with readelf and gdb. */
static void test_fixtures(void **state)
{
	struct asc_target *t;
	const struct asc_thread *th;
	char *text;
	size_t n;
	uint64_t v;

	(void)state;
	t = fixture("aarch64-qemu-threads.core.xz");
	assert_string_equal(asc_target_arch(t)->name, "aarch64");
	th = asc_target_threads(t, &n);
	assert_int_equal(n, 4);
	assert_int_equal(asc_target_pid(t), 25673);
	assert_true(asc_regs_pc(t, &th[1].regs, &v) && v == 0x422110);
	assert_true(asc_regs_sp(t, &th[0].regs, &v) && v == 0x55008003d0);
	assert_false(asc_core_info(t)->has_nt_file);
	asc_target_close(t);

	t = fixture("i386-qemu.core.xz");
	assert_string_equal(asc_target_arch(t)->name, "i386");
	assert_string_equal(asc_target_name(t), "tiny");
	th = asc_target_threads(t, &n);
	assert_int_equal(n, 1);
	assert_true(asc_regs_pc(t, &th[0].regs, &v) && v == 0x8049015);
	assert_null(asc_read_str(t, 0x804a000, 19, &text));
	assert_string_equal(text, "the quick brown fox");
	free(text);
	asc_target_close(t);

	t = fixture("x86_64-kernel.core.zst");
	assert_string_equal(asc_target_arch(t)->name, "x86_64");
	assert_string_equal(asc_target_name(t), "s64");
	assert_true(asc_core_info(t)->has_nt_file);
	assert_false(asc_core_info(t)->is_gcore);
	th = asc_target_threads(t, &n);
	assert_int_equal(n, 1);
	assert_true(th[0].regs.tp_valid);
	assert_null(asc_read_word(t, th[0].regs.tp, &v)); /* the thread block points to itself */
	assert_true(v == th[0].regs.tp);
	asc_target_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),	    cmocka_unit_test(test_cut_everywhere),
		cmocka_unit_test(test_compressed),  cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_other_files), cmocka_unit_test(test_other_cpu),
		cmocka_unit_test(test_hostile),	    cmocka_unit_test(test_xnum),
		cmocka_unit_test(test_shrinks),	    cmocka_unit_test(test_mapped_file),
		cmocka_unit_test(test_fixtures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
