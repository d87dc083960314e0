// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Reading the main options. Up to the command's name argp reads the line; from there on the words
 * are divided by the command's own table, and what is not the command's goes through argp once more.
 */
#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "cli/options.h"

struct parse {
	struct asc_cli *c;
	struct asc_error *err;
	bool words_follow; /* the first pass: stop at the command */
	int first_word;	   /* its index, 0: none */
};

static bool is_file_with(const char *path, const char *magic, size_t n)
{
	char head[8] = "";
	struct stat st;

	if (stat(path, &st) || !S_ISREG(st.st_mode))
		return false;
	ASC_AUTO(asc_fclosep) FILE *f = fopen(path, "re");
	return f && fread(head, 1, sizeof(head), f) >= n && !memcmp(head, magic, n);
}

/* -c FILE, --core=FILE and the like somewhere in @p argv? */
static bool names_core(char *const *argv)
{
	for (; *argv; argv++) {
		const char *w = *argv + strspn(*argv, "-");
		if (w == *argv)
			continue;
		if (!strcmp(w, "c") || !strncmp(w, "core", 4) ||
		    (w == *argv + 1 && w[0] == 'c' && w[1] && strncmp(w, "color", 5) &&
		     strncmp(w, "capture", 7)))
			return true;
	}
	return false;
}

/* Neither a command nor an executable: what it may have meant. */
static struct asc_error *not_a_command(const char *word)
{
	ASC_AUTO(asc_freep) char *shown = asc_escape(word);
	const struct asc_cmd *cmd;
	uint64_t n;
	struct asc_error *err;

	if (!shown)
		return asc_err(ASC_ENOMEM, "reading the command line");
	if (asc_parse_u64(word, &n)) {
		err = asc_err(ASC_EUSAGE, "\"%s\" is not a command: did you mean -p %s?", shown,
			      shown);
		return asc_err_try(asc_err_id(err, "E-USAGE"), "arenascope -p %s", shown);
	}
	if (is_file_with(word, "\177ELF", 4) || !access(word, R_OK)) {
		err = asc_err(ASC_EUSAGE, "\"%s\" is not a command: did you mean -c %s?", shown,
			      shown);
		return asc_err_try(asc_err_id(err, "E-USAGE"), "arenascope -c %s", shown);
	}
	if (!strncmp(word, "core.", 5)) {
		err = asc_err(ASC_EUSAGE, "\"%s\" is not a command: did you mean -c %s?", shown,
			      shown);
		return asc_err_try(asc_err_id(err, "E-USAGE"), "arenascope -c %s", shown);
	}
	return asc_cmd_lookup(word, asc_repl_words, false, &cmd);
}

static bool is_command(const char *word)
{
	const struct asc_cmd *cmd;
	struct asc_error *err = asc_cmd_lookup(word, asc_repl_words, false, &cmd);

	asc_error_free(err);
	return !err;
}

static error_t parse_word(struct parse *p, const char *word, struct argp_state *state)
{
	if (!p->words_follow) {
		p->err = asc_err_id(asc_err(ASC_EUSAGE, "unexpected argument \"%s\"", word),
				    "E-USAGE");
		return EINVAL;
	}
	if (is_command(word)) {
		p->first_word = state->next - 1;
		state->next = state->argc;
		return 0;
	}
	/* EXE -c CORE: the form in which coredumpctl starts a debugger */
	if (!p->c->so.exe && (p->c->so.core || names_core(state->argv + state->next))) {
		p->err = asc_option_set(p->c, 'e', word);
		return p->err ? EINVAL : 0;
	}
	p->err = not_a_command(word);
	return EINVAL;
}

/* The row that argv word @p w names, exactly or by its letter; *ret_attached: the value is in it. */
static const struct asc_main_opt *match(const char *w, bool *ret_attached)
{
	const char *name = w + strspn(w, "-");
	size_t len = strcspn(name, "=");
	bool single = name == w + 1;

	*ret_attached = name[len] == '=';
	for (const struct asc_main_opt *o = asc_main_opts; o->name; o++) {
		if (strlen(o->name) == len && !memcmp(o->name, name, len))
			return o;
	}
	if (!single)
		return NULL;
	for (const struct asc_main_opt *o = asc_main_opts; o->name; o++) {
		if (o->key == name[0]) {
			*ret_attached = name[1] != 0;
			return o;
		}
	}
	return NULL;
}

static struct asc_error *unknown_option(const char *shown, const char *word)
{
	const char *names[64] = { NULL };
	char name[64];
	size_t n = 0;

	for (const struct asc_main_opt *o = asc_main_opts; o->name && n < 63; o++)
		names[n++] = o->name;
	word += strspn(word, "-");
	snprintf(name, sizeof(name), "%.*s", (int)asc_min(strcspn(word, "="), sizeof(name) - 1),
		 word);
	const char *near = asc_nearest(name, names);
	struct asc_error *err =
		asc_err_id(asc_err(ASC_EUSAGE, "unknown option %.100s", shown), "E-USAGE");
	if (near)
		asc_err_try(err, "--%s", near);
	return asc_err_try(err, "arenascope --help   lists them");
}

/* "-qZ": the letter in it that is no option's, or NULL */
static const char *unknown_letter(const char *cluster)
{
	for (const char *c = cluster; *c; c++) {
		const struct asc_main_opt *o = asc_main_opt_of((unsigned char)*c);
		if (!o)
			return c;
		if (o->arg)
			return NULL; /* the rest is its value */
	}
	return NULL;
}

/* What is wrong with @p word, or NULL; argp would say so in its own words, and end the program. */
static struct asc_error *bad_option(const char *word, bool last)
{
	ASC_AUTO(asc_freep) char *shown = asc_escape(word);
	bool attached;
	const struct asc_main_opt *o = match(word, &attached);
	const bool by_letter = o && attached && !strchr(word, '=');

	if (word[0] != '-' || !word[1])
		return NULL;
	if (!shown)
		return asc_err(ASC_ENOMEM, "reading the options");
	if (!o || (by_letter && unknown_letter(word + 1)))
		return unknown_option(shown, word);
	if (o->arg && !attached && last)
		return asc_err_id(asc_err(ASC_EUSAGE, "--%s needs a value: %s", o->name, o->arg),
				  "E-USAGE");
	if (!o->arg && attached && !by_letter)
		return asc_err_id(asc_err(ASC_EUSAGE, "--%s takes no value", o->name), "E-USAGE");
	return NULL;
}

/* argp has stopped at a word, or within one. */
static void find_culprit(struct parse *p, const struct argp_state *state)
{
	for (int i = state->next - 1; !p->err && i <= state->next && i < state->argc; i++) {
		if (i > 0)
			p->err = bad_option(state->argv[i], i + 1 == state->argc);
	}
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct parse *p = state->input;

	switch (key) {
	case ARGP_KEY_ERROR:
		find_culprit(p, state);
		return 0;
	case 'h':
		asc_print_help(stdout);
		exit(fflush(stdout) ? EX_IOERR : 0);
	case 'V':
		asc_print_version(stdout);
		exit(fflush(stdout) ? EX_IOERR : 0);
	case KEY_USAGE:
		asc_print_usage(stdout);
		exit(fflush(stdout) ? EX_IOERR : 0);
	case ARGP_KEY_ARG:
		return parse_word(p, arg, state);
	default:
		if (!asc_main_opt_of(key))
			return ARGP_ERR_UNKNOWN;
		p->err = asc_option_set(p->c, key, arg);
		return p->err ? EINVAL : 0;
	}
}

static struct asc_error *run_argp(struct parse *p, int argc, char **argv)
{
	struct argp_option opts[64] = { 0 };
	size_t n = 0;

	for (const struct asc_main_opt *o = asc_main_opts; o->name; o++)
		opts[n++] = (struct argp_option){ .name = o->name,
						  .key = o->key,
						  .arg = o->arg,
						  .doc = o->doc,
						  .flags = o->alias ? OPTION_ALIAS : 0 };
	const struct argp argp = { .options = opts, .parser = parse_opt };
	error_t rc = argp_parse(&argp, argc, argv,
				ARGP_IN_ORDER | ARGP_LONG_ONLY | ARGP_NO_HELP | ARGP_NO_ERRS |
					ARGP_NO_EXIT,
				NULL, p);
	if (p->err)
		return asc_take(p->err);
	if (rc)
		return asc_err_id(asc_err(ASC_EUSAGE, "the command line could not be read"),
				  "E-USAGE");
	return NULL;
}

/* ---- the words after the command ---- */

/* Move word i (and its value) to @p to. */
static struct asc_error *take_main(const struct asc_cmd *cmd, char **words, int argc, int *i,
				   bool in_line, char **to, int *nto)
{
	bool attached;
	const struct asc_main_opt *o = match(words[*i], &attached);
	ASC_AUTO(asc_freep) char *shown = asc_escape(words[*i]);

	if (!o)
		return asc_usage(cmd, "unknown option %.100s", shown ? shown : "?");
	if (in_line && !o->in_line)
		return asc_usage(cmd, "--%s cannot stand in a line of the REPL or a script",
				 o->name);
	to[(*nto)++] = words[*i];
	if (o->arg && !attached) {
		if (*i + 1 >= argc)
			return asc_usage(cmd, "--%s needs a value: %s", o->name, o->arg);
		to[(*nto)++] = words[++*i];
	}
	return NULL;
}

static struct asc_error *split(const struct asc_cmd *cmd, int argc, char **words, bool in_line,
			       char **own, int *nown, char **main, int *nmain)
{
	for (int i = 1; i < argc; i++) {
		char *w = words[i];
		if (!strcmp(w, "--")) {
			while (i < argc)
				own[(*nown)++] = words[i++];
			break;
		}
		if (w[0] != '-' || !w[1]) {
			own[(*nown)++] = w;
			continue;
		}
		const char *name = w + strspn(w, "-");
		size_t len = strcspn(name, "=");
		const struct asc_cmd_opt *co = asc_cmd_opt_find(cmd, name, len);
		if (!co) {
			ASC_TRY(take_main(cmd, words, argc, &i, in_line, main, nmain));
			continue;
		}
		own[(*nown)++] = w;
		if (co->arg && name[len] != '=' && i + 1 < argc)
			own[(*nown)++] = words[++i];
	}
	return NULL;
}

struct asc_error *asc_options_split(struct asc_cli *c, const struct asc_cmd *cmd, int *argc,
				    char **words, bool in_line)
{
	size_t room = (size_t)*argc + 2;
	static char program[] = "arenascope", help[] = "help";

	ASC_AUTO(asc_freep) char **own = calloc(room, sizeof(*own));
	ASC_AUTO(asc_freep) char **main = calloc(room, sizeof(*main));
	if (!own || !main)
		return asc_err(ASC_ENOMEM, "reading a command");
	for (int i = 1; i < *argc && strcmp(words[i], "--"); i++) {
		if (strcmp(words[i], "--help") && strcmp(words[i], "-h"))
			continue;
		words[0] = help;
		words[1] = (char *)(uintptr_t)cmd->name; /* never written to */
		words[2] = NULL;
		*argc = 2;
		return NULL;
	}
	int nown = 1, nmain = 1;
	own[0] = words[0];
	main[0] = program;
	ASC_TRY(split(cmd, *argc, words, in_line, own, &nown, main, &nmain));
	for (int i = 0; i < nown; i++)
		words[i] = own[i];
	words[nown] = NULL;
	*argc = nown;
	if (nmain == 1)
		return NULL;
	struct parse p = { .c = c };
	return run_argp(&p, nmain, main);
}

/* What cannot go together. */
static struct asc_error *contradiction(const struct asc_cli *c)
{
	if (c->so.pid && c->so.core)
		return asc_err_id(asc_err(ASC_EUSAGE, "-p and -c: one target, please"), "E-USAGE");
	if (c->so.hold && c->so.no_stop)
		return asc_err_id(asc_err(ASC_EUSAGE,
					  "--hold keeps the target stopped, --no-stop never stops "
					  "it: one of them, please"),
				  "E-USAGE");
	return NULL;
}

struct asc_error *asc_options_parse(struct asc_cli *c, int argc, char **argv, int *ret_argc,
				    char ***ret)
{
	struct parse p = { .c = c, .words_follow = true };
	const struct asc_cmd *cmd;

	ASC_TRY(run_argp(&p, argc, argv));
	ASC_TRY(contradiction(c));
	*ret_argc = 0;
	*ret = NULL;
	if (!p.first_word)
		return NULL;
	*ret = argv + p.first_word;
	*ret_argc = argc - p.first_word;
	ASC_TRY(asc_cmd_lookup((*ret)[0], asc_repl_words, false, &cmd));
	ASC_TRY(asc_options_split(c, cmd, ret_argc, *ret, false));
	return contradiction(c);
}
