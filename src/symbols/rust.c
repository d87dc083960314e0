/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rust symbols. Legacy names look like C++ nested names with a hash as last part; v0 names are read
 * here only as far as paths go: crate, module, function. Generic arguments, types and constants of
 * a v0 name are left out, as in `core::ptr::drop_in_place`.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "symbols/demangle.h"

enum { OUT_MAX = 4096, DEPTH_MAX = 64 };

struct out {
	char *buf;
	size_t len;
	bool bad;
};

static void put(struct out *o, const char *s, size_t n)
{
	if (o->len + n >= OUT_MAX) {
		o->bad = true;
		return;
	}
	memcpy(o->buf + o->len, s, n);
	o->len += n;
	o->buf[o->len] = 0;
}

static void put_str(struct out *o, const char *s)
{
	put(o, s, strlen(s));
}

static bool length(const char **s, size_t *ret)
{
	size_t v = 0;

	if (!isdigit((unsigned char)**s))
		return false;
	while (isdigit((unsigned char)**s) && v < OUT_MAX)
		v = v * 10 + (size_t)(*(*s)++ - '0');
	*ret = v;
	return v < OUT_MAX;
}

/* ---- legacy: $LT$ and friends ---- */

static const struct {
	const char *code, *text;
} escapes[] = {
	{ "$SP$", "@" },   { "$BP$", "*" },  { "$RF$", "&" },  { "$LT$", "<" },	 { "$GT$", ">" },
	{ "$LP$", "(" },   { "$RP$", ")" },  { "$C$", "," },   { "$u20$", " " }, { "$u27$", "'" },
	{ "$u5b$", "[" },  { "$u5d$", "]" }, { "$u7b$", "{" }, { "$u7d$", "}" }, { "$u7e$", "~" },
	{ "$u22$", "\"" }, { "$u3b$", ";" }, { "$u2b$", "+" }, { "$u3d$", "=" },
};

static void put_legacy(struct out *o, const char *s, size_t n)
{
	const char *end = s + n;

	if (n > 1 && s[0] == '_' && s[1] == '$')
		s++;
	while (s < end) {
		size_t i, k = 0;

		if (end - s >= 2 && s[0] == '.' && s[1] == '.') {
			put(o, "::", 2);
			s += 2;
			continue;
		}
		for (i = 0; *s == '$' && i < sizeof(escapes) / sizeof(*escapes); i++) {
			k = strlen(escapes[i].code);
			if ((size_t)(end - s) >= k && !strncmp(s, escapes[i].code, k))
				break;
			k = 0;
		}
		if (k) {
			put_str(o, escapes[i].text);
			s += k;
		} else {
			put(o, s++, 1);
		}
	}
}

static bool is_hash(const char *s, size_t n)
{
	if (n != 17 || s[0] != 'h')
		return false;
	for (size_t i = 1; i < n; i++)
		if (!isxdigit((unsigned char)s[i]) || isupper((unsigned char)s[i]))
			return false;
	return true;
}

static bool legacy(const char *s, struct out *o)
{
	bool hash = false;
	size_t n;

	for (s += 3; *s && *s != 'E'; s += n) {
		if (hash || !length(&s, &n) || strnlen(s, n) < n)
			return false;
		hash = is_hash(s, n);
		if (hash)
			continue;
		if (o->len)
			put(o, "::", 2);
		put_legacy(o, s, n);
	}
	return hash && *s == 'E' && (!s[1] || s[1] == '.');
}

/* ---- v0: paths ---- */

struct v0 {
	const char *start, *s;
	struct out *o;
	int depth;
	bool mute;
};

static bool base62(struct v0 *v, uint64_t *ret)
{
	uint64_t n = 0;

	if (*v->s == '_') {
		v->s++;
		*ret = 0;
		return true;
	}
	for (; *v->s && *v->s != '_'; v->s++) {
		unsigned d;

		if (isdigit((unsigned char)*v->s))
			d = (unsigned)(*v->s - '0');
		else if (islower((unsigned char)*v->s))
			d = 10 + (unsigned)(*v->s - 'a');
		else if (isupper((unsigned char)*v->s))
			d = 36 + (unsigned)(*v->s - 'A');
		else
			return false;
		if (n > UINT64_MAX / 64)
			return false;
		n = n * 62 + d;
	}
	if (*v->s++ != '_')
		return false;
	*ret = n + 1;
	return true;
}

static bool ident(struct v0 *v)
{
	uint64_t skip;
	size_t n;

	if (*v->s == 's') {
		v->s++;
		if (!base62(v, &skip))
			return false;
	}
	if (*v->s == 'u') /* punycode: shown as it is */
		v->s++;
	if (!length(&v->s, &n))
		return false;
	if (*v->s == '_')
		v->s++;
	if (strnlen(v->s, n) < n)
		return false;
	if (!v->mute)
		put(v->o, v->s, n);
	v->s += n;
	return true;
}

static bool type_of(struct v0 *v);

static bool path(struct v0 *v)
{
	uint64_t at;
	bool ok = false;
	char ns;

	if (++v->depth > DEPTH_MAX)
		return false;
	switch (*v->s++) {
	case 'C':
		ok = ident(v);
		break;
	case 'N':
		ns = *v->s++;
		ok = isalpha((unsigned char)ns) && path(v);
		if (ok && !v->mute)
			put(v->o, "::", 2);
		if (ok && !v->mute && ns == 'C')
			put_str(v->o, "{closure}");
		ok = ok && ident(v);
		break;
	case 'M':
	case 'X':
	case 'Y': {
		bool mute = v->mute, trait = v->s[-1] != 'M';

		if (v->s[-1] != 'Y') { /* the impl's own path is not shown */
			if (*v->s == 's') {
				v->s++;
				if (!base62(v, &at))
					break;
			}
			v->mute = true;
			ok = path(v);
			v->mute = mute;
			if (!ok)
				break;
		}
		if (!mute)
			put(v->o, "<", 1);
		ok = type_of(v);
		if (ok && trait) {
			if (!mute)
				put_str(v->o, " as ");
			ok = path(v);
		}
		if (!mute)
			put(v->o, ">", 1);
		break;
	}
	case 'I': { /* generic arguments are left out */
		bool mute = v->mute;

		ok = path(v);
		v->mute = true;
		while (ok && *v->s && *v->s != 'E') {
			if (*v->s == 'L') {
				v->s++;
				ok = base62(v, &at);
			} else if (*v->s == 'K') {
				ok = false;
			} else {
				ok = type_of(v);
			}
		}
		v->mute = mute;
		ok = ok && *v->s++ == 'E';
		break;
	}
	case 'B': {
		const char *back;

		ok = base62(v, &at) && at < (uint64_t)(v->s - v->start);
		if (!ok)
			break;
		back = v->s;
		v->s = v->start + at;
		ok = path(v);
		v->s = back;
		break;
	}
	default:
		break;
	}
	v->depth--;
	return ok && !v->o->bad;
}

static const char *basic(char c)
{
	static const char *const names[26] = {
		['a' - 'a'] = "i8",   ['b' - 'a'] = "bool",  ['c' - 'a'] = "char",
		['d' - 'a'] = "f64",  ['e' - 'a'] = "str",   ['f' - 'a'] = "f32",
		['h' - 'a'] = "u8",   ['i' - 'a'] = "isize", ['j' - 'a'] = "usize",
		['l' - 'a'] = "i32",  ['m' - 'a'] = "u32",   ['n' - 'a'] = "i128",
		['o' - 'a'] = "u128", ['p' - 'a'] = "_",     ['s' - 'a'] = "i16",
		['t' - 'a'] = "u16",  ['u' - 'a'] = "()",    ['v' - 'a'] = "...",
		['x' - 'a'] = "i64",  ['y' - 'a'] = "u64",   ['z' - 'a'] = "!",
	};

	return islower((unsigned char)c) ? names[c - 'a'] : NULL;
}

static bool type_of(struct v0 *v)
{
	const char *name = basic(*v->s), *back;
	uint64_t at;
	bool ok;

	if (name) {
		v->s++;
		if (!v->mute)
			put_str(v->o, name);
		return true;
	}
	if (++v->depth > DEPTH_MAX)
		return false;
	switch (*v->s) {
	case 'R':
	case 'Q':
	case 'P':
	case 'O':
	case 'S':
		if (!v->mute)
			put_str(v->o, *v->s == 'R'   ? "&"
				      : *v->s == 'Q' ? "&mut "
				      : *v->s == 'P' ? "*const "
				      : *v->s == 'O' ? "*mut "
						     : "");
		v->s++;
		ok = (*v->s != 'L' || (v->s++, base62(v, &at))) && type_of(v);
		break;
	case 'T':
		v->s++;
		for (ok = true; ok && *v->s && *v->s != 'E';)
			ok = type_of(v);
		ok = ok && *v->s++ == 'E';
		break;
	case 'B':
		v->s++;
		ok = base62(v, &at) && at < (uint64_t)(v->s - v->start);
		if (!ok)
			break;
		back = v->s;
		v->s = v->start + at;
		ok = type_of(v);
		v->s = back;
		break;
	case 'C':
	case 'N':
	case 'M':
	case 'X':
	case 'Y':
	case 'I':
		ok = path(v);
		break;
	default:
		ok = false;
	}
	v->depth--;
	return ok && !v->o->bad;
}

char *asc_demangle_rust(const char *name)
{
	struct out o = { .buf = malloc(OUT_MAX) };
	bool ok = false;

	if (!o.buf)
		return NULL;
	o.buf[0] = 0;
	if (!strncmp(name, "_ZN", 3)) {
		ok = legacy(name, &o);
	} else if (!strncmp(name, "_R", 2)) {
		struct v0 v = { .start = name + 2, .s = name + 2, .o = &o };

		ok = path(&v);
	}
	if (!ok || o.bad || !o.len) {
		free(o.buf);
		return NULL;
	}
	return o.buf;
}
