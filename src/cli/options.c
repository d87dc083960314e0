// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The main options: one table for argp, for lines of the REPL, for help, completions and the man
 * page. Up to the command's name argp reads the line; from there on the words are divided by the
 * command's own table, and what is not the command's goes through argp once more.
 */
#include <argp.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "cli/cli.h"

enum {
	KEY_ROOT = 256,
	KEY_DEBUG_DIR,
	KEY_LIBC,
	KEY_DEBUGINFOD,
	KEY_SYMBOLS_TIMEOUT,
	KEY_MAX_PAUSE,
	KEY_CAPTURE,
	KEY_NO_STOP,
	KEY_HOLD,
	KEY_WAIT,
	KEY_FORCE,
	KEY_MAX_MEMORY,
	KEY_EX,
	KEY_KEEP_GOING,
	KEY_BYTES,
	KEY_COLOR,
	KEY_ASCII,
	KEY_NO_PAGER,
	KEY_PROGRESS,
	KEY_USAGE,
};

const struct asc_main_opt asc_main_opts[] = {
	{ .name = "pid", .key = 'p', .arg = "PID", .doc = "live process", .group = ASC_GROUP_TARGET },
	{ .name = "core",
	  .key = 'c',
	  .arg = "FILE",
	  .doc = "core file; .zst .xz .lz4 .gz are opened directly",
	  .complete = ASC_COMPLETE_FILE,
	  .group = ASC_GROUP_TARGET },
	{ .name = "exe",
	  .key = 'e',
	  .arg = "FILE",
	  .doc = "executable of the core",
	  .complete = ASC_COMPLETE_FILE,
	  .group = ASC_GROUP_TARGET },
	{ .name = "root",
	  .key = KEY_ROOT,
	  .arg = "DIR",
	  .doc = "where the target's files are (a container's root, an unpacked image)",
	  .complete = ASC_COMPLETE_FILE,
	  .group = ASC_GROUP_SYMBOLS },
	{ .name = "debug-dir",
	  .key = KEY_DEBUG_DIR,
	  .arg = "DIR",
	  .doc = "look for debug files here first",
	  .complete = ASC_COMPLETE_FILE,
	  .group = ASC_GROUP_SYMBOLS },
	{ .name = "libc",
	  .key = KEY_LIBC,
	  .arg = "FILE",
	  .doc = "the target's libc, or its debug file; checked by build-id",
	  .complete = ASC_COMPLETE_FILE,
	  .group = ASC_GROUP_SYMBOLS },
	{ .name = "debuginfod",
	  .key = KEY_DEBUGINFOD,
	  .arg = "WHEN",
	  .doc = "ask servers for debug files: ask, on or off (default: ask on a terminal)",
	  .complete = ASC_COMPLETE_CHOICE,
	  .choices = "ask|on|off",
	  .group = ASC_GROUP_SYMBOLS },
	{ .name = "symbols-timeout",
	  .key = KEY_SYMBOLS_TIMEOUT,
	  .arg = "TIME",
	  .doc = "give up on a debuginfod server after this long (5s)",
	  .group = ASC_GROUP_SYMBOLS },
	{ .name = "max-pause",
	  .key = KEY_MAX_PAUSE,
	  .arg = "TIME",
	  .doc = "refuse what would stop the target longer (500ms)",
	  .in_line = true,
	  .group = ASC_GROUP_SAFETY },
	{ .name = "capture",
	  .key = KEY_CAPTURE,
	  .arg = "HOW",
	  .doc = "how the heap is copied: auto, copy, optimistic or fork",
	  .complete = ASC_COMPLETE_CHOICE,
	  .choices = "auto|copy|optimistic|fork",
	  .in_line = true,
	  .group = ASC_GROUP_SAFETY },
	{ .name = "no-stop",
	  .key = KEY_NO_STOP,
	  .doc = "never stop the target; the result may be inconsistent",
	  .group = ASC_GROUP_SAFETY },
	{ .name = "hold",
	  .key = KEY_HOLD,
	  .doc = "keep the target stopped until the end",
	  .group = ASC_GROUP_SAFETY },
	{ .name = "yes",
	  .key = 'y',
	  .doc = "consent to a change of the target (trim, reclaim, tune)",
	  .in_line = true,
	  .group = ASC_GROUP_SAFETY },
	{ .name = "dry-run",
	  .key = 'n',
	  .doc = "only predict (trim, reclaim)",
	  .in_line = true,
	  .group = ASC_GROUP_SAFETY },
	{ .name = "wait",
	  .key = KEY_WAIT,
	  .arg = "TIME",
	  .doc = "how long to try again while malloc is busy (5s)",
	  .in_line = true,
	  .group = ASC_GROUP_SAFETY },
	{ .name = "force",
	  .key = KEY_FORCE,
	  .doc = "go on where a check says no",
	  .in_line = true,
	  .group = ASC_GROUP_SAFETY },
	{ .name = "max-memory",
	  .key = KEY_MAX_MEMORY,
	  .arg = "BYTES",
	  .doc = "memory that arenascope may take (1/8 of the machine's)",
	  .group = ASC_GROUP_SAFETY },
	{ .name = "script",
	  .key = 'x',
	  .arg = "FILE",
	  .doc = "run commands from FILE, - for standard input",
	  .complete = ASC_COMPLETE_FILE,
	  .group = ASC_GROUP_BATCH },
	{ .name = "eval-command",
	  .key = KEY_EX,
	  .arg = "CMD",
	  .doc = "run this command (repeatable)",
	  .group = ASC_GROUP_BATCH },
	{ .name = "ex", .key = KEY_EX, .arg = "CMD", .alias = true, .group = ASC_GROUP_BATCH },
	{ .name = "batch",
	  .key = 'b',
	  .doc = "never ask, never prompt",
	  .group = ASC_GROUP_BATCH },
	{ .name = "keep-going",
	  .key = KEY_KEEP_GOING,
	  .doc = "go on after a failed line of a script",
	  .group = ASC_GROUP_BATCH },
	{ .name = "format",
	  .key = 'f',
	  .arg = "FORMAT",
	  .doc = "text, json, jsonl, csv, html or openmetrics",
	  .complete = ASC_COMPLETE_CHOICE,
	  .choices = "text|json|jsonl|csv|html|openmetrics",
	  .in_line = true,
	  .group = ASC_GROUP_OUTPUT },
	{ .name = "json",
	  .key = 'j',
	  .doc = "the same as --format=json",
	  .in_line = true,
	  .group = ASC_GROUP_OUTPUT },
	{ .name = "output",
	  .key = 'o',
	  .arg = "FILE",
	  .doc = "write to FILE, which is replaced when the output is whole",
	  .complete = ASC_COMPLETE_FILE,
	  .group = ASC_GROUP_OUTPUT },
	{ .name = "bytes",
	  .key = KEY_BYTES,
	  .doc = "exact bytes instead of KiB and MiB",
	  .in_line = true,
	  .group = ASC_GROUP_OUTPUT },
	{ .name = "color",
	  .key = KEY_COLOR,
	  .arg = "WHEN",
	  .doc = "auto, always or never",
	  .complete = ASC_COMPLETE_CHOICE,
	  .choices = "auto|always|never",
	  .in_line = true,
	  .group = ASC_GROUP_OUTPUT },
	{ .name = "ascii",
	  .key = KEY_ASCII,
	  .doc = "no characters beyond ASCII",
	  .in_line = true,
	  .group = ASC_GROUP_OUTPUT },
	{ .name = "no-pager",
	  .key = KEY_NO_PAGER,
	  .doc = "never page the REPL's output",
	  .in_line = true,
	  .group = ASC_GROUP_OUTPUT },
	{ .name = "quiet",
	  .key = 'q',
	  .doc = "no notes on stderr, only errors and warnings",
	  .group = ASC_GROUP_OUTPUT },
	{ .name = "verbose",
	  .key = 'v',
	  .doc = "more notes on stderr",
	  .group = ASC_GROUP_OUTPUT },
	{ .name = "progress",
	  .key = KEY_PROGRESS,
	  .arg = "WHEN",
	  .doc = "show progress on a terminal: auto or never",
	  .complete = ASC_COMPLETE_CHOICE,
	  .choices = "auto|never",
	  .group = ASC_GROUP_OUTPUT },
	{ .name = "help", .key = 'h', .doc = "this text", .group = ASC_GROUP_INFO },
	{ .name = "usage", .key = KEY_USAGE, .doc = "all options, in short", .group = ASC_GROUP_INFO },
	{ .name = "version", .key = 'V', .doc = "version and licence", .group = ASC_GROUP_INFO },
	{ 0 },
};

const char *asc_group_name(int group)
{
	static const char *const names[] = {
		[ASC_GROUP_TARGET] = "Target",	 [ASC_GROUP_SYMBOLS] = "Symbols",
		[ASC_GROUP_SAFETY] = "Safety",	 [ASC_GROUP_BATCH] = "Batch",
		[ASC_GROUP_OUTPUT] = "Output",	 [ASC_GROUP_INFO] = "Information",
	};

	return names[group];
}

static const struct asc_main_opt *opt_of(int key)
{
	for (const struct asc_main_opt *o = asc_main_opts; o->name; o++) {
		if (o->key == key)
			return o;
	}
	return NULL;
}

static struct asc_error *bad_value(int key, const char *value, const char *want)
{
	ASC_AUTO(asc_freep) char *shown = asc_escape(value);

	return asc_err_id(asc_err(ASC_EUSAGE, "--%s=%.100s: wanted %s", opt_of(key)->name,
				  shown ? shown : "?", want),
			  "E-USAGE");
}

/* Index of @p value in "a|b|c". */
static struct asc_error *choice(int key, const char *value, int *ret)
{
	const struct asc_main_opt *o = opt_of(key);
	int i = 0;

	for (const char *p = o->choices; *p; i++) {
		size_t n = strcspn(p, "|");
		if (n == strlen(value) && !memcmp(p, value, n)) {
			*ret = i;
			return NULL;
		}
		p += n + (p[n] != 0);
	}
	return bad_value(key, value, o->choices);
}

static struct asc_error *take_ms(int key, const char *value, uint64_t *ret)
{
	if (!asc_parse_ms(value, ret))
		return bad_value(key, value, "a time (500ms, 5s, 2m)");
	return NULL;
}

static struct asc_error *take_pid(const char *value, pid_t *ret)
{
	uint64_t v;

	if (!asc_parse_u64(value, &v) || v == 0 || v > INT_MAX)
		return bad_value('p', value, "a process id");
	*ret = (pid_t)v;
	return NULL;
}

static struct asc_error *push_item(struct asc_cli *c, bool is_file, const char *text)
{
	struct asc_batch_item item = { .is_file = is_file, .text = text };

	return asc_vec_push(&c->batch_items, item);
}

struct asc_error *asc_option_set(struct asc_cli *c, int key, const char *value)
{
	struct asc_session_opts *so = &c->so;
	uint64_t ms = 0;
	int n = 0;

	switch (key) {
	case 'p':
		return take_pid(value, &so->pid);
	case 'c':
		so->core = value;
		return NULL;
	case 'e':
		so->exe = so->symbols.exe = value;
		return NULL;
	case KEY_ROOT:
		so->symbols.root = value;
		return NULL;
	case KEY_DEBUG_DIR:
		so->symbols.debug_dir = value;
		return NULL;
	case KEY_LIBC:
		so->symbols.libc = value;
		return NULL;
	case KEY_DEBUGINFOD:
		ASC_TRY(choice(key, value, &n));
		so->symbols.debuginfod = (const enum asc_debuginfod[]){
			ASC_DEBUGINFOD_ASK, ASC_DEBUGINFOD_ON, ASC_DEBUGINFOD_OFF
		}[n];
		return NULL;
	case KEY_SYMBOLS_TIMEOUT:
		ASC_TRY(take_ms(key, value, &ms));
		so->symbols.timeout_ms = (unsigned)asc_min(ms, UINT_MAX);
		return NULL;
	case KEY_MAX_PAUSE:
		return take_ms(key, value, &so->max_pause_ms);
	case KEY_CAPTURE:
		ASC_TRY(choice(key, value, &n));
		so->capture = (enum asc_capture_mode)n;
		return NULL;
	case KEY_NO_STOP:
		so->no_stop = true;
		return NULL;
	case KEY_HOLD:
		so->hold = true;
		return NULL;
	case 'y':
		so->yes = true;
		return NULL;
	case 'n':
		so->dry_run = true;
		return NULL;
	case KEY_WAIT:
		return take_ms(key, value, &so->wait_ms);
	case KEY_FORCE:
		so->force = true;
		return NULL;
	case KEY_MAX_MEMORY:
		if (!asc_parse_bytes(value, &so->max_memory))
			return bad_value(key, value, "a size (500M, 2GiB)");
		return NULL;
	case 'x':
		return push_item(c, true, value);
	case KEY_EX:
		return push_item(c, false, value);
	case 'b':
		c->batch = true;
		return NULL;
	case KEY_KEEP_GOING:
		c->keep_going = true;
		return NULL;
	case 'f':
		ASC_TRY(choice(key, value, &n));
		c->lo.format = (enum asc_format)n;
		return NULL;
	case 'j':
		c->lo.format = ASC_JSON;
		return NULL;
	case 'o':
		c->output = value;
		return NULL;
	case KEY_BYTES:
		c->lo.exact_bytes = true;
		return NULL;
	case KEY_COLOR:
		ASC_TRY(choice(key, value, &n));
		c->lo.color = (enum asc_color_mode)n;
		return NULL;
	case KEY_ASCII:
		c->lo.ascii = true;
		return NULL;
	case KEY_NO_PAGER:
		c->lo.no_pager = true;
		return NULL;
	case 'q':
		so->quiet = true;
		return NULL;
	case 'v':
		so->verbose = true;
		return NULL;
	case KEY_PROGRESS:
		ASC_TRY(choice(key, value, &n));
		so->progress = n == 0 && isatty(STDERR_FILENO);
		return NULL;
	default:
		return asc_err(ASC_EBUG, "option %d", key);
	}
}

static const char *choice_name(int key, unsigned i, char *buf, size_t size)
{
	const char *p = opt_of(key)->choices;

	while (i--)
		p += strcspn(p, "|") + 1;
	snprintf(buf, size, "%.*s", (int)strcspn(p, "|"), p);
	return buf;
}

static const char *yes_no(bool v)
{
	return v ? "on" : "off";
}

const char *asc_option_show(const struct asc_cli *c, int key, char *buf, size_t size)
{
	switch (key) {
	case 'f':
		return choice_name('f', (unsigned)c->lo.format, buf, size);
	case KEY_COLOR:
		return choice_name(key, (unsigned)c->lo.color, buf, size);
	case KEY_CAPTURE:
		return choice_name(key, (unsigned)c->so.capture, buf, size);
	case KEY_MAX_PAUSE:
		snprintf(buf, size, "%llums", (unsigned long long)c->so.max_pause_ms);
		return buf;
	case KEY_WAIT:
		snprintf(buf, size, "%llums", (unsigned long long)c->so.wait_ms);
		return buf;
	case KEY_BYTES:
		return yes_no(c->lo.exact_bytes);
	case KEY_ASCII:
		return yes_no(c->lo.ascii);
	case KEY_NO_PAGER:
		return yes_no(c->lo.no_pager);
	case KEY_FORCE:
		return yes_no(c->so.force);
	default:
		return NULL;
	}
}

/* ---- argp ---- */

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

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct parse *p = state->input;

	switch (key) {
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
		if (!opt_of(key))
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
	argp_err_exit_status = EX_USAGE;
	error_t rc = argp_parse(&argp, argc, argv, ARGP_IN_ORDER | ARGP_LONG_ONLY | ARGP_NO_HELP,
				NULL, p);
	if (p->err)
		return asc_take(p->err);
	if (rc)
		return asc_err_id(asc_err(ASC_EUSAGE, "the command line could not be read"),
				  "E-USAGE");
	return NULL;
}

/* ---- the words after the command ---- */

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

struct asc_error *asc_options_parse(struct asc_cli *c, int argc, char **argv, int *ret_argc,
				    char ***ret)
{
	struct parse p = { .c = c, .words_follow = true };
	const struct asc_cmd *cmd;

	ASC_TRY(run_argp(&p, argc, argv));
	if (c->so.pid && c->so.core)
		return asc_err_id(asc_err(ASC_EUSAGE, "-p and -c: one target, please"), "E-USAGE");
	*ret_argc = 0;
	*ret = NULL;
	if (!p.first_word)
		return NULL;
	*ret = argv + p.first_word;
	*ret_argc = argc - p.first_word;
	ASC_TRY(asc_cmd_lookup((*ret)[0], asc_repl_words, false, &cmd));
	ASC_TRY(asc_options_split(c, cmd, ret_argc, *ret, false));
	if (c->so.pid && c->so.core)
		return asc_err_id(asc_err(ASC_EUSAGE, "-p and -c: one target, please"), "E-USAGE");
	return NULL;
}
