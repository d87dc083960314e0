// SPDX-License-Identifier: GPL-3.0-or-later
/* Pieces of text: bytes, values, bars, and foreign strings made harmless. */
#include <inttypes.h>
#include <langinfo.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/num.h"
#include "render/out.h"

bool asc_utf8_locale(void)
{
	return !strcmp(nl_langinfo(CODESET), "UTF-8");
}

static const char *fmt_bytes(char buf[static 32], uint64_t bytes, bool exact, bool brief)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };

	if (exact) {
		snprintf(buf, 32, "%" PRIu64, bytes);
		return buf;
	}
	size_t u = 0;
	double v = (double)bytes;
	/* 1023.95 would print as 1024.0 */
	while (v >= 1023.95 && u + 1 < ASC_ARRAY_SIZE(units)) {
		v /= 1024;
		u++;
	}
	if (u == 0)
		snprintf(buf, 32, brief ? "%" PRIu64 : "%" PRIu64 " B", bytes);
	else if (brief)
		snprintf(buf, 32, "%.1f%c", v, units[u][0]);
	else
		snprintf(buf, 32, "%.1f %s", v, units[u]);
	return buf;
}

const char *asc_fmt_bytes(char buf[static 32], uint64_t bytes, bool exact)
{
	return fmt_bytes(buf, bytes, exact, false);
}

const char *asc_fmt_bytes_short(char buf[static 32], uint64_t bytes, bool exact)
{
	return fmt_bytes(buf, bytes, exact, true);
}

size_t asc_utf8_next(const char *s, size_t len, uint32_t *ret)
{
	static const struct {
		uint8_t mask, lead, n;
		uint32_t min;
	} forms[] = {
		{ 0x80, 0x00, 1, 0 },
		{ 0xe0, 0xc0, 2, 0x80 },
		{ 0xf0, 0xe0, 3, 0x800 },
		{ 0xf8, 0xf0, 4, 0x10000 },
	};
	const uint8_t *b = (const uint8_t *)s;

	for (size_t i = 0; i < ASC_ARRAY_SIZE(forms); i++) {
		if ((b[0] & forms[i].mask) != forms[i].lead)
			continue;
		if (forms[i].n > len)
			return 0;
		uint32_t c = b[0] & (uint8_t)~forms[i].mask;
		for (unsigned k = 1; k < forms[i].n; k++) {
			if ((b[k] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (b[k] & 0x3f);
		}
		if (c < forms[i].min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return 0;
		*ret = c;
		return forms[i].n;
	}
	return 0;
}

/* What moves the cursor, changes the direction of text, or shows nothing. */
static bool harmless(uint32_t c)
{
	if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c)
		return false;
	if ((c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
	    (c >= 0x2060 && c <= 0x206f))
		return false;
	if (c == 0xfeff || (c >= 0xfff0 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe0fff))
		return false;
	return (c & 0xfffe) != 0xfffe;
}

static char *escape(const char *s, bool backslash)
{
	bool utf8 = asc_utf8_locale();
	size_t len = strlen(s), cap;

	if (__builtin_mul_overflow(len, 4, &cap) || __builtin_add_overflow(cap, 1, &cap))
		return NULL;
	char *out = malloc(cap), *p = out;
	if (!out)
		return NULL;
	for (size_t i = 0; i < len;) {
		uint32_t c;
		size_t n = asc_utf8_next(s + i, len - i, &c);
		if (n && harmless(c) && (utf8 || c < 0x80)) {
			if (c == '\\' && backslash)
				*p++ = '\\';
			memcpy(p, s + i, n);
			p += n;
			i += n;
			continue;
		}
		for (n = n ? n : 1; n; n--)
			p += snprintf(p, (size_t)(out + cap - p), "\\x%02x", (unsigned char)s[i++]);
	}
	*p = 0;
	return out;
}

char *asc_escape(const char *s)
{
	return escape(s, true);
}

char *asc_harmless(const char *s)
{
	return escape(s, false);
}

size_t asc_text_width(const char *s)
{
	size_t width = 0, len = strlen(s);
	mbstate_t st = { 0 };

	for (size_t i = 0; i < len;) {
		wchar_t w;
		size_t n = mbrtowc(&w, s + i, len - i, &st);
		if (n == (size_t)-1 || n == (size_t)-2 || n == 0) {
			st = (mbstate_t){ 0 };
			width++;
			i++;
			continue;
		}
		int c = wcwidth(w);
		width += c > 0 ? (size_t)c : 0;
		i += n;
	}
	return width;
}

/* Milliseconds as people read them: 0.42 ms, 8.1 ms, 1240 ms. */
static int fmt_ms(char *buf, size_t size, double ms)
{
	if (!isfinite(ms))
		return snprintf(buf, size, "?");
	return snprintf(buf, size, "%.*f ms", ms < 1 ? 2 : ms < 100 ? 1 : 0, ms);
}

static void fmt_seconds(char *buf, size_t size, double s)
{
	if (!isfinite(s) || s < 0 || s > 1e12) {
		snprintf(buf, size, "?");
		return;
	}
	uint64_t u = (uint64_t)s;
	if (u >= 86400)
		snprintf(buf, size, "%" PRIu64 "d %02u:%02u", u / 86400, (unsigned)(u / 3600 % 24),
			 (unsigned)(u / 60 % 60));
	else if (u >= 60)
		snprintf(buf, size, "%u:%02u:%02u", (unsigned)(u / 3600), (unsigned)(u / 60 % 60),
			 (unsigned)(u % 60));
	else
		snprintf(buf, size, "%.1f s", s);
}

char *asc_fmt_value(struct asc_value v, const struct asc_out_opts *opts, bool short_bytes)
{
	char buf[64];

	switch (v.type) {
	case ASC_T_NONE:
		return strdup("-");
	case ASC_T_UNKNOWN:
		return strdup("?");
	case ASC_T_BYTES:
		fmt_bytes(buf, v.u, opts->exact_bytes, short_bytes);
		break;
	case ASC_T_COUNT:
		snprintf(buf, sizeof(buf), "%" PRIu64, v.u);
		break;
	case ASC_T_INT:
		snprintf(buf, sizeof(buf), "%" PRId64, v.i);
		break;
	case ASC_T_ADDR:
		snprintf(buf, sizeof(buf), "0x%" PRIx64, v.u);
		break;
	case ASC_T_MS:
		fmt_ms(buf, sizeof(buf), v.d);
		break;
	case ASC_T_SECONDS:
		fmt_seconds(buf, sizeof(buf), v.d);
		break;
	case ASC_T_RATIO:
		if (isfinite(v.d))
			snprintf(buf, sizeof(buf), "%.0f%%", v.d * 100);
		else
			snprintf(buf, sizeof(buf), "?");
		break;
	case ASC_T_BOOL:
		return strdup(v.u ? "yes" : "no");
	case ASC_T_STR:
		return v.s ? asc_escape(v.s) : strdup("?");
	}
	return strdup(buf);
}

void asc_fmt_bar(char *buf, size_t size, double share, unsigned cells, bool ascii)
{
	static const char *const eighths[] = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" };
	size_t at = 0;

	if (!size)
		return;
	buf[0] = 0;
	if (!(share > 0) || !cells)
		return;
	if (share > 1)
		share = 1;
	unsigned n = (unsigned)(share * cells * 8 + 0.5);
	if (!n)
		n = 1;
	unsigned full = ascii ? (n + 4) / 8 : n / 8;
	const char *block = ascii ? "#" : "█", *rest = ascii ? "" : eighths[n % 8];
	size_t one = strlen(block);
	for (unsigned i = 0; i < full && at + one < size; i++) {
		memcpy(buf + at, block, one);
		at += one;
	}
	size_t last = strlen(rest);
	if (at + last < size) {
		memcpy(buf + at, rest, last);
		at += last;
	}
	buf[at] = 0;
}
