// SPDX-License-Identifier: GPL-3.0-or-later
/* The table of commands, and finding a name in it. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"

/* It would indent such a list further each time. */
/* clang-format off */
/* One word a command; its row is exported by the command's own file. */
#define COMMANDS(X)                                                                                \
	X(report) X(rss) X(arenas) X(arena) X(bins) X(sizes) X(chunks) X(find) X(map) X(threads)   \
	X(stacks) X(stuck) X(params) X(check) X(pins) X(advise) X(malloc_info) X(malloc_stats)     \
	X(trim) X(reclaim) X(tune) X(symbols)

#define X(name) extern const struct asc_cmd asc_cmd_##name;
COMMANDS(X)
#undef X

const struct asc_cmd *const asc_commands[] = {
#define X(name) &asc_cmd_##name,
	COMMANDS(X)
#undef X
	NULL,
};
/* clang-format on */

const struct asc_cmd *asc_cmd_by_name(const char *name)
{
	for (size_t i = 0; asc_commands[i]; i++) {
		if (!strcmp(asc_commands[i]->name, name))
			return asc_commands[i];
	}
	return NULL;
}

/* Edits that turn a into b, a swap of neighbours counting as one; SIZE_MAX when far too long. */
static size_t distance(const char *a, const char *b)
{
	enum { MAX = 24 };
	size_t d[MAX + 1][MAX + 1], la = strlen(a), lb = strlen(b);

	if (la > MAX || lb > MAX)
		return SIZE_MAX;
	for (size_t i = 0; i <= la; i++)
		d[i][0] = i;
	for (size_t j = 0; j <= lb; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		for (size_t j = 1; j <= lb; j++) {
			size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			best = asc_min(best, d[i - 1][j] + 1);
			best = asc_min(best, d[i][j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = asc_min(best, d[i - 2][j - 2] + 1);
			d[i][j] = best;
		}
	}
	return d[la][lb];
}

const char *asc_nearest(const char *name, const char *const *names)
{
	size_t best = SIZE_MAX;
	const char *ret = NULL;

	for (size_t i = 0; names[i]; i++) {
		size_t d = distance(name, names[i]);
		/* "arena" for "arenas", "stat" for "malloc-stats": part of a word also counts */
		if (d > 2 && strlen(name) >= 3 && strstr(names[i], name))
			d = 2;
		if (d < best) {
			best = d;
			ret = names[i];
		}
	}
	size_t most = strlen(name) < 4 ? 1 : 2;
	return best <= most ? ret : NULL;
}

static size_t count(const struct asc_cmd *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

static struct asc_error *ambiguous(const char *name, const char *const *names)
{
	char list[256] = "";
	size_t at = 0;

	for (size_t i = 0; names[i] && at + 32 < sizeof(list); i++) {
		if (!strncmp(names[i], name, strlen(name)))
			at += (size_t)snprintf(list + at, sizeof(list) - at, " %s", names[i]);
	}
	return asc_err_id(asc_err(ASC_EUSAGE, "\"%s\" could be:%s", name, list), "E-COMMAND");
}

struct asc_error *asc_cmd_lookup(const char *name, const struct asc_cmd *const *more, bool prefixes,
				 const struct asc_cmd **ret)
{
	size_t n1 = count(asc_commands), n2 = count(more), hits = 0;
	const struct asc_cmd *hit = NULL;

	ASC_AUTO(asc_freep) const char **names = calloc(n1 + n2 + 1, sizeof(*names));
	if (!names)
		return asc_err(ASC_ENOMEM, "looking up a command");
	for (size_t i = 0; i < n1 + n2; i++) {
		const struct asc_cmd *c = i < n1 ? asc_commands[i] : more[i - n1];
		names[i] = c->name;
		if (!strcmp(c->name, name)) {
			*ret = c;
			return NULL;
		}
		if (prefixes && *name && !strncmp(c->name, name, strlen(name))) {
			hit = c;
			hits++;
		}
	}
	if (hits == 1) {
		*ret = hit;
		return NULL;
	}
	if (hits > 1)
		return ambiguous(name, names);
	ASC_AUTO(asc_freep) char *shown = asc_escape(name);
	struct asc_error *err =
		asc_err_id(asc_err(ASC_EUSAGE, "unknown command \"%.100s\"", shown ? shown : "?"),
			   "E-COMMAND");
	const char *near = asc_nearest(name, names);
	if (near)
		asc_err_try(err, "%s", near);
	return asc_err_try(err, "help   lists the commands");
}
