/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which mappings are locked (mlock, mlockall) or from the hugetlb pool: madvise(MADV_DONTNEED)
 * fails or does nothing on them, and malloc_trim does not notice. And which of them a fork does not
 * copy.
 */
#include "target/vmflags.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "target/target.h"

/* "7f00-7f10 rw-p ..." @return false: another line of smaps */
static bool header(const char *line, struct asc_range *ret)
{
	char start[20], end[20];
	asc_addr lo, hi;
	size_t n = strspn(line, "0123456789abcdef"), m;

	if (!n || n >= sizeof(start) || line[n] != '-')
		return false;
	m = strspn(line + n + 1, "0123456789abcdef");
	if (!m || m >= sizeof(end) || line[n + 1 + m] != ' ')
		return false;
	memcpy(start, line, n);
	memcpy(end, line + n + 1, m);
	start[n] = end[m] = '\0';
	if (!asc_parse_addr(start, &lo) || !asc_parse_addr(end, &hi) || hi <= lo)
		return false;
	*ret = (struct asc_range){ lo, hi - lo };
	return true;
}

/* Is the two-letter flag in "VmFlags: rd wr mr ..."? */
static bool has_flag(const char *line, const char flag[static 3])
{
	for (const char *p = line; (p = strstr(p, flag)) != NULL; p += 2)
		if (p[-1] == ' ' && (p[2] == ' ' || p[2] == '\n' || p[2] == '\0'))
			return true;
	return false;
}

struct asc_error *asc_vmflags_parse(FILE *smaps, struct asc_vmflags *ret)
{
	struct asc_error *err = NULL;
	ASC_AUTO(asc_freep) char *line = NULL;
	size_t cap = 0;
	struct asc_range at = { 0 };
	ASC_VEC(struct asc_range) locked = { 0 }, huge = { 0 }, unforked = { 0 };

	while (!err && getline(&line, &cap, smaps) > 0) {
		if (header(line, &at) || strncmp(line, "VmFlags:", 8) || !at.len)
			continue;
		if (has_flag(line + 8, "lo"))
			err = asc_vec_push(&locked, at);
		if (!err && has_flag(line + 8, "ht"))
			err = asc_vec_push(&huge, at);
		if (!err && (has_flag(line + 8, "dc") || has_flag(line + 8, "wf")))
			err = asc_vec_push(&unforked, at);
	}
	if (err) {
		asc_vec_free(&locked);
		asc_vec_free(&huge);
		asc_vec_free(&unforked);
		return err;
	}
	*ret = (struct asc_vmflags){ .mlocked = locked.data,
				     .nmlocked = locked.len,
				     .hugetlb = huge.data,
				     .nhugetlb = huge.len,
				     .unforked = unforked.data,
				     .nunforked = unforked.len,
				     .known = true };
	return NULL;
}

/* Value of a line of /proc/PID/status such as "VmLck:     12 kB" is 0. */
static bool status_is_zero(const char *line, const char *key)
{
	size_t n = strlen(key);
	uint64_t kb;
	char digits[24];
	size_t len;

	if (strncmp(line, key, n))
		return false;
	line += n + strspn(line + n, " \t");
	len = strspn(line, "0123456789");
	if (!len || len >= sizeof(digits))
		return false;
	memcpy(digits, line, len);
	digits[len] = '\0';
	return asc_parse_u64(digits, &kb) && !kb;
}

static bool nothing_special(pid_t pid)
{
	ASC_AUTO(asc_freep) char *path = NULL, *line = NULL;
	ASC_AUTO(asc_fclosep) FILE *f = NULL;
	size_t cap = 0;
	unsigned zero = 0;

	if (asprintf(&path, "/proc/%d/status", (int)pid) < 0) {
		path = NULL;
		return false;
	}
	f = fopen(path, "re");
	while (f && getline(&line, &cap, f) > 0) {
		zero |= status_is_zero(line, "VmLck:") ? 1 : 0;
		zero |= status_is_zero(line, "HugetlbPages:") ? 2 : 0;
	}
	return zero == 3;
}

struct asc_error *asc_vmflags_read(const struct asc_target *t, struct asc_vmflags *ret)
{
	*ret = (struct asc_vmflags){ 0 };
	if (asc_target_kind(t) == ASC_LIVE && nothing_special(t->pid)) {
		ret->known = true;
		return NULL;
	}
	return asc_vmflags_read_all(t, ret);
}

struct asc_error *asc_vmflags_read_all(const struct asc_target *t, struct asc_vmflags *ret)
{
	ASC_AUTO(asc_freep) char *path = NULL;
	ASC_AUTO(asc_fclosep) FILE *f = NULL;

	*ret = (struct asc_vmflags){ 0 };
	if (asc_target_kind(t) != ASC_LIVE)
		return NULL;
	if (asprintf(&path, "/proc/%d/smaps", (int)t->pid) < 0) {
		path = NULL;
		return asc_err(ASC_ENOMEM, "VmFlags");
	}
	f = fopen(path, "re");
	return f ? asc_vmflags_parse(f, ret) : NULL;
}

void asc_vmflags_deinit(struct asc_vmflags *v)
{
	free(v->mlocked);
	free(v->hugetlb);
	free(v->unforked);
	*v = (struct asc_vmflags){ 0 };
}
