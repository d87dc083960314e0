// SPDX-License-Identifier: GPL-3.0-or-later
/* The arguments of one command line, by the command's own table. Main options are gone already. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "base/vec.h"
#include "commands/cmd.h"

static const char SIZE[] = "a size (4096, 64K, 1MiB)";

struct given {
	const struct asc_cmd_opt *opt;
	char *value; /* owned; NULL for a flag */
};

struct asc_args {
	const struct asc_cmd *cmd;
	ASC_VEC(struct given) opts;
	ASC_VEC(char *) pos;
};

void asc_args_free(struct asc_args *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->opts.len; i++)
		free(a->opts.data[i].value);
	for (size_t i = 0; i < a->pos.len; i++)
		free(a->pos.data[i]);
	asc_vec_free(&a->opts);
	asc_vec_free(&a->pos);
	free(a);
}

void asc_args_freep(struct asc_args **a)
{
	asc_args_free(*a);
}

struct asc_error *asc_usage(const struct asc_cmd *cmd, const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;

	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return asc_err(ASC_ENOMEM, "usage of %s", cmd->name);
	struct asc_error *err =
		asc_err_id(asc_err(ASC_EUSAGE, "%s: %s", cmd->name, text), "E-USAGE");
	free(text);
	asc_err_try(err, "usage: %s%s%s", cmd->name, cmd->args && *cmd->args ? " " : "",
		    cmd->args ? cmd->args : "");
	return asc_err_try(err, "help %s", cmd->name);
}

const struct asc_cmd_opt *asc_cmd_opt_find(const struct asc_cmd *cmd, const char *name, size_t len)
{
	for (const struct asc_cmd_opt *o = cmd->opts; o && o->name; o++) {
		if (strlen(o->name) == len && !memcmp(o->name, name, len))
			return o;
	}
	return NULL;
}

static bool is_choice(const char *choices, const char *value)
{
	size_t len = strlen(value);

	for (const char *p = choices; len && *p;) {
		size_t n = strcspn(p, "|");
		if (n == len && !memcmp(p, value, n))
			return true;
		p += n + (p[n] != 0);
	}
	return false;
}

/* An option, argv[*i] = "--name[=value]"; its value may be the next word. */
static struct asc_error *take_option(struct asc_args *a, int argc, char *const *argv, int *i)
{
	const char *word = argv[*i] + strspn(argv[*i], "-"), *value = NULL;
	size_t len = strcspn(word, "=");
	const struct asc_cmd_opt *opt = asc_cmd_opt_find(a->cmd, word, len);

	ASC_AUTO(asc_freep) char *shown = asc_escape(argv[*i]);
	if (!shown)
		return asc_err(ASC_ENOMEM, "arguments");
	if (!opt)
		return asc_usage(a->cmd, "unknown option %.100s", shown);
	if (word[len] == '=') {
		if (!opt->arg)
			return asc_usage(a->cmd, "--%s takes no value", opt->name);
		value = word + len + 1;
	} else if (opt->arg) {
		if (*i + 1 >= argc)
			return asc_usage(a->cmd, "--%s needs a value: %s", opt->name, opt->arg);
		value = argv[++*i];
	}
	if (value && opt->choices && !is_choice(opt->choices, value))
		return asc_usage(a->cmd, "--%s is one of %s", opt->name, opt->choices);

	struct given g = { .opt = opt, .value = value ? strdup(value) : NULL };
	if (value && !g.value)
		return asc_err(ASC_ENOMEM, "arguments");
	struct asc_error *err = asc_vec_push(&a->opts, g);
	if (err)
		free(g.value);
	return err;
}

static struct asc_error *take_positional(struct asc_args *a, const char *word)
{
	char *copy = strdup(word);

	if (!copy)
		return asc_err(ASC_ENOMEM, "arguments");
	struct asc_error *err = asc_vec_push(&a->pos, copy);
	if (err)
		free(copy);
	return err;
}

static struct asc_error *bad(const struct asc_args *a, const char *opt, const char *value,
			     const char *what)
{
	ASC_AUTO(asc_freep) char *shown = asc_escape(value);

	return asc_usage(a->cmd, "--%s=%.100s is not %s", opt, shown ? shown : "?", what);
}

/* By what help calls the value; the target need not be stopped to say that one is nonsense. */
static struct asc_error *check_value(const struct asc_args *a, const struct given *g)
{
	static const struct {
		const char *arg;
		bool (*parse)(const char *s, uint64_t *ret);
		const char *what;
	} kinds[] = {
		{ "N", asc_parse_u64, "a number" },
		{ "K", asc_parse_u64, "a number" },
		{ "TID", asc_parse_u64, "a thread id" },
		{ "BYTES", asc_parse_bytes, SIZE },
		{ "SIZE", asc_parse_bytes, SIZE },
		{ "TIME", asc_parse_ms, "a time (100ms, 5s, 2m)" },
	};
	uint64_t lo, hi;

	if (!g->value || g->opt->choices)
		return NULL;
	if (!strcmp(g->opt->arg, "A..B"))
		return asc_args_byte_range(a, g->opt->name, &lo, &hi);
	for (size_t i = 0; i < ASC_ARRAY_SIZE(kinds); i++) {
		if (!strcmp(g->opt->arg, kinds[i].arg) && !kinds[i].parse(g->value, &lo))
			return bad(a, g->opt->name, g->value, kinds[i].what);
	}
	return NULL;
}

static struct asc_error *check_positional(const struct asc_args *a)
{
	uint64_t v;

	for (size_t i = 0; i < a->pos.len; i++) {
		ASC_AUTO(asc_freep) char *shown = asc_escape(a->pos.data[i]);

		if (a->cmd->complete == ASC_COMPLETE_ARENA && !asc_parse_u64(a->pos.data[i], &v))
			return asc_usage(a->cmd, "\"%.100s\" is not an arena's number",
					 shown ? shown : "?");
		if (a->cmd->flags & ASC_CMD_AT && !asc_parse_addr(a->pos.data[i], &v))
			return asc_usage(a->cmd, "\"%.60s\" is not an address",
					 shown ? shown : "?");
	}
	return NULL;
}

static struct asc_error *check(const struct asc_args *a)
{
	for (size_t i = 0; i < a->opts.len; i++)
		ASC_TRY(check_value(a, &a->opts.data[i]));
	ASC_TRY(check_positional(a));
	return a->cmd->check ? a->cmd->check(a) : NULL;
}

struct asc_error *asc_args_parse(const struct asc_cmd *cmd, int argc, char *const *argv,
				 struct asc_args **ret)
{
	bool options = true;

	ASC_AUTO(asc_args_freep) struct asc_args *a = calloc(1, sizeof(*a));
	if (!a)
		return asc_err(ASC_ENOMEM, "arguments");
	a->cmd = cmd;
	for (int i = 1; i < argc; i++) {
		if (options && !strcmp(argv[i], "--"))
			options = false;
		else if (options && argv[i][0] == '-' && argv[i][1])
			ASC_TRY(take_option(a, argc, argv, &i));
		else
			ASC_TRY(take_positional(a, argv[i]));
	}
	if (a->pos.len < cmd->min_args)
		return asc_usage(cmd, "an argument is missing");
	if (a->pos.len > cmd->max_args) {
		ASC_AUTO(asc_freep) char *shown = asc_escape(a->pos.data[cmd->max_args]);
		return asc_usage(cmd, "unexpected argument \"%.100s\"", shown ? shown : "?");
	}
	ASC_TRY(check(a));
	*ret = asc_take(a);
	return NULL;
}

/* The last one counts. */
static const struct given *given(const struct asc_args *a, const char *opt)
{
	for (size_t i = a->opts.len; i--;) {
		if (!strcmp(a->opts.data[i].opt->name, opt))
			return &a->opts.data[i];
	}
	return NULL;
}

bool asc_args_has(const struct asc_args *a, const char *opt)
{
	return given(a, opt) != NULL;
}

const char *asc_args_get(const struct asc_args *a, const char *opt)
{
	const struct given *g = given(a, opt);

	return g ? g->value : NULL;
}

size_t asc_args_count(const struct asc_args *a)
{
	return a->pos.len;
}

const char *asc_args_at(const struct asc_args *a, size_t i)
{
	return i < a->pos.len ? a->pos.data[i] : NULL;
}

struct asc_error *asc_args_u64(const struct asc_args *a, const char *opt, uint64_t *ret)
{
	const char *v = asc_args_get(a, opt);

	if (v && !asc_parse_u64(v, ret))
		return bad(a, opt, v, "a number");
	return NULL;
}

struct asc_error *asc_args_bytes(const struct asc_args *a, const char *opt, uint64_t *ret)
{
	const char *v = asc_args_get(a, opt);

	if (v && !asc_parse_bytes(v, ret))
		return bad(a, opt, v, SIZE);
	return NULL;
}

struct asc_error *asc_args_byte_range(const struct asc_args *a, const char *opt, uint64_t *ret_lo,
				      uint64_t *ret_hi)
{
	const char *v = asc_args_get(a, opt);
	uint64_t lo = 0, hi = UINT64_MAX;

	if (!v)
		return NULL;
	ASC_AUTO(asc_freep) char *copy = strdup(v);
	if (!copy)
		return asc_err(ASC_ENOMEM, "arguments");
	char *dots = strstr(copy, ".."), *second = copy;
	if (dots) {
		*dots = 0;
		second = dots + 2;
	}
	bool ok = !*copy ? dots != NULL : asc_parse_bytes(copy, &lo);
	if (!dots)
		hi = lo;
	else if (*second)
		ok = ok && asc_parse_bytes(second, &hi);
	else
		ok = ok && *copy;
	if (!ok || lo > hi)
		return bad(a, opt, v, "a range of sizes (A..B, A.., ..B or A)");
	*ret_lo = lo;
	*ret_hi = hi;
	return NULL;
}

static struct asc_error *check_arena(const struct asc_args *a, const struct asc_session *s,
				     const char *text, unsigned *ret)
{
	const struct asc_heap *heap = asc_session_heap(s);
	uint64_t n;

	if (!asc_parse_u64(text, &n)) {
		ASC_AUTO(asc_freep) char *shown = asc_escape(text);
		return asc_usage(a->cmd, "\"%.100s\" is not an arena's number",
				 shown ? shown : "?");
	}
	size_t narenas = heap ? heap->narenas : 0;
	if (n >= narenas)
		return asc_err_id(asc_err(ASC_ENOTFOUND,
					  "there is no arena %llu: they are numbered 0 to %zu",
					  (unsigned long long)n, narenas ? narenas - 1 : 0),
				  "E-ARENA");
	*ret = (unsigned)n;
	return NULL;
}

struct asc_error *asc_args_arena(const struct asc_args *a, const struct asc_session *s, int *ret)
{
	const char *v = asc_args_get(a, "arena");
	unsigned n = 0;

	*ret = -1;
	if (!v)
		return NULL;
	ASC_TRY(check_arena(a, s, v, &n));
	*ret = (int)n;
	return NULL;
}

struct asc_error *asc_args_at_u64(const struct asc_args *a, size_t i, uint64_t *ret)
{
	const char *v = asc_args_at(a, i);

	if (v && !asc_parse_u64(v, ret)) {
		ASC_AUTO(asc_freep) char *shown = asc_escape(v);
		return asc_usage(a->cmd, "\"%.100s\" is not a number", shown ? shown : "?");
	}
	return NULL;
}

struct asc_error *asc_args_at_arena(const struct asc_args *a, size_t i, const struct asc_session *s,
				    unsigned *ret)
{
	const char *v = asc_args_at(a, i);

	return v ? check_arena(a, s, v, ret) : NULL;
}
