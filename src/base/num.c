/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/num.h"

#include <errno.h>
#include <stdlib.h>

static bool parse(const char *s, int base, const char **end, uint64_t *ret)
{
	unsigned long long v;
	char *e;

	if (!((*s >= '0' && *s <= '9') || (base == 16 && ((*s | 32) >= 'a' && (*s | 32) <= 'f'))))
		return false;
	errno = 0;
	v = strtoull(s, &e, base);
	if (errno || e == s)
		return false;
	*end = e;
	*ret = v;
	return true;
}

static int base_of(const char *s)
{
	return s[0] == '0' && (s[1] == 'x' || s[1] == 'X') ? 16 : 10;
}

bool asc_parse_u64(const char *s, uint64_t *ret)
{
	const char *end;
	uint64_t v;

	if (!parse(s, base_of(s), &end, &v) || *end)
		return false;
	*ret = v;
	return true;
}

bool asc_parse_addr(const char *s, uint64_t *ret)
{
	const char *end;
	uint64_t v;

	if (!parse(s, 16, &end, &v) || *end)
		return false;
	*ret = v;
	return true;
}

bool asc_parse_bytes(const char *s, uint64_t *ret)
{
	static const char units[] = "kmgt";
	const char *end, *u;
	uint64_t v, mul = 1;

	if (!parse(s, base_of(s), &end, &v))
		return false;
	if (*end && (u = strchr(units, *end | 32)) != NULL && *u) {
		uint64_t step = (end[1] | 32) == 'b' ? 1000 : 1024;

		for (; u >= units; u--)
			mul *= step;
		end++;
		if ((end[0] | 32) == 'i' && (end[1] | 32) == 'b')
			end += 2;
		else if ((end[0] | 32) == 'b')
			end++;
	} else if ((*end | 32) == 'b') {
		end++;
	}
	if (*end || !asc_mul(v, mul, &v))
		return false;
	*ret = v;
	return true;
}

bool asc_parse_ms(const char *s, uint64_t *ret)
{
	static const struct {
		const char *suffix;
		uint64_t ms;
	} units[] = { { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };
	const char *end;
	uint64_t v, thousandths = 0;

	if (!parse(s, 10, &end, &v))
		return false;
	if (*end == '.') { /* 1.5s */
		unsigned digits = 0;
		for (end++; *end >= '0' && *end <= '9' && digits < 3; end++, digits++)
			thousandths = thousandths * 10 + (uint64_t)(*end - '0');
		if (!digits)
			return false;
		for (; digits < 3; digits++)
			thousandths *= 10;
	}
	for (size_t i = 0; i < ASC_ARRAY_SIZE(units); i++) {
		if (!strcmp(end, units[i].suffix))
			return asc_mul(v, units[i].ms, &v) &&
			       asc_add(v, thousandths * units[i].ms / 1000, ret);
	}
	return false;
}
