// SPDX-License-Identifier: GPL-3.0-or-later
/* One command: from a line as typed to its output. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "cli/cli.h"

enum { WORDS_MAX = 10000 };

/* ---- words ---- */

void asc_words_free(char **words)
{
	for (size_t i = 0; words && words[i]; i++)
		free(words[i]);
	free(words);
}

static void words_freep(char ***words)
{
	asc_words_free(*words);
}

static struct asc_error *unfinished(const char *what)
{
	return asc_err_id(asc_err(ASC_EUSAGE, "unfinished %s", what), "E-USAGE");
}

/* One word from *at on, quotes and backslashes taken off; @p word has room for the whole line. */
static struct asc_error *take_word(const char **at, char *word, char **ret)
{
	const char *p = *at;
	size_t n = 0;

	while (*p && !strchr(" \t\r\n|>", *p)) {
		if (*p == '\'' || *p == '"') {
			char quote = *p++;
			while (*p && *p != quote) {
				if (quote == '"' && *p == '\\' && (p[1] == '"' || p[1] == '\\'))
					p++;
				word[n++] = *p++;
			}
			if (!*p)
				return unfinished("quote");
			p++;
			continue;
		}
		if (*p == '\\') {
			if (!p[1])
				return unfinished("line: it ends in a backslash");
			p++;
		}
		word[n++] = *p++;
	}
	*at = p;
	*ret = strndup(word, n);
	return *ret ? NULL : asc_err(ASC_ENOMEM, "reading a line");
}

struct asc_error *asc_words(const char *line, char ***ret, int *ret_n, const char **rest)
{
	size_t n = 0, cap = 8;

	ASC_AUTO(words_freep) char **words = calloc(cap + 1, sizeof(*words));
	ASC_AUTO(asc_freep) char *scratch = malloc(strlen(line) + 1);
	if (!words || !scratch)
		return asc_err(ASC_ENOMEM, "reading a line");
	*rest = NULL;
	for (const char *p = line;;) {
		p += strspn(p, " \t\r\n");
		if (!*p || *p == '#')
			break;
		if (*p == '|' || *p == '>') {
			*rest = p;
			break;
		}
		if (n >= WORDS_MAX)
			return asc_err_id(
				asc_err(ASC_EUSAGE, "a line of more than %d words", WORDS_MAX),
				"E-USAGE");
		if (n == cap) {
			char **more = reallocarray(words, cap * 2 + 1, sizeof(*words));
			if (!more)
				return asc_err(ASC_ENOMEM, "reading a line");
			words = more;
			cap *= 2;
		}
		words[n] = NULL;
		ASC_TRY(take_word(&p, scratch, &words[n]));
		words[++n] = NULL;
	}
	*ret_n = (int)n;
	*ret = asc_take(words);
	return NULL;
}

/* ---- the session ---- */

struct asc_error *asc_cli_session(struct asc_cli *c)
{
	if (c->s)
		return NULL;
	if (!c->so.pid && !c->so.core) {
		struct asc_error *err = asc_err_id(asc_err(ASC_EUSAGE, "no target"), "E-USAGE");
		if (c->prompt || c->where) {
			asc_err_try(err, "attach PID");
			return asc_err_try(err, "core FILE");
		}
		asc_err_try(err, "-p PID for a live process");
		return asc_err_try(err, "-c FILE for a core");
	}
	return asc_session_open(&c->so, &c->s);
}

void asc_cli_drop_session(struct asc_cli *c)
{
	asc_session_close(c->s);
	c->s = NULL;
}

/* What a line may have set for itself. */
static void sync_session(struct asc_cli *c)
{
	struct asc_session_opts *to = &c->s->opts;

	to->yes = c->so.yes;
	to->dry_run = c->so.dry_run;
	to->force = c->so.force;
	to->wait_ms = c->so.wait_ms;
	to->max_pause_ms = c->so.max_pause_ms;
	to->capture = c->so.capture;
	to->quiet = c->so.quiet;
	to->verbose = c->so.verbose;
}

/* ---- output ---- */

static bool env_set(const char *name)
{
	const char *v = getenv(name);

	return v && *v;
}

static bool want_color(const struct asc_cli *c, FILE *f)
{
	const char *term = getenv("TERM"), *force = getenv("FORCE_COLOR");

	if (c->lo.color != ASC_COLOR_AUTO)
		return c->lo.color == ASC_COLOR_ALWAYS;
	if (env_set("NO_COLOR"))
		return false;
	if (!force || !*force)
		force = getenv("CLICOLOR_FORCE");
	if (force && *force && strcmp(force, "0"))
		return true;
	if (!term || !*term || !strcmp(term, "dumb"))
		return false;
	return isatty(fileno(f));
}

void asc_cli_out_opts(const struct asc_cli *c, FILE *f, struct asc_out_opts *ret)
{
	struct winsize ws;

	*ret = (struct asc_out_opts){
		.format = c->lo.format,
		.exact_bytes = c->lo.exact_bytes,
		.color = want_color(c, f),
		.ascii = c->lo.ascii || !asc_utf8_locale(),
	};
	if (isatty(fileno(f)) && !ioctl(fileno(f), TIOCGWINSZ, &ws))
		ret->width = ws.ws_col;
}

static struct asc_error *run_parsed(struct asc_cli *c, const struct asc_cmd *cmd,
				    const struct asc_args *args, FILE *f, int *status)
{
	const struct asc_repl_cmd *word = asc_repl_cmd_of(cmd);
	struct asc_out_opts oo;
	struct asc_out *o = NULL;
	bool complete = true;

	if (!word)
		ASC_TRY(asc_cli_session(c));
	asc_cli_out_opts(c, f, &oo);
	oo.fields_too = cmd->flags & ASC_CMD_FIELDS;
	if (word)
		oo.format = ASC_TEXT;
	else if (f == c->out && !c->prompt)
		oo.stream = c->stream;
	ASC_TRY(asc_out_new(f, &oo, &o));
	struct asc_error *err;
	if (word) {
		c->word_status = 0;
		asc_out_begin(o, cmd->name);
		err = word->run(c, args, o);
		if (err)
			asc_out_cancel(o);
		else
			err = asc_out_end(o, true);
	} else {
		sync_session(c);
		err = asc_session_run(c->s, cmd, args, o, &complete);
	}
	asc_out_free(o);
	if (!err)
		*status = word ? c->word_status : complete ? 0 : 1;
	return err;
}

struct asc_error *asc_run_words(struct asc_cli *c, int argc, char **argv, FILE *f, int *status)
{
	const struct asc_cmd *cmd;
	const struct asc_line_opts lo = c->lo;
	const struct asc_session_opts so = c->so;
	ASC_AUTO(asc_args_freep) struct asc_args *args = NULL;

	ASC_TRY(asc_cmd_lookup(argv[0], asc_repl_words, c->prompt, &cmd));
	struct asc_error *err = asc_options_split(c, cmd, &argc, argv, true);
	if (!err) /* --help makes it another command */
		err = asc_cmd_lookup(argv[0], asc_repl_words, c->prompt, &cmd);
	if (!err)
		err = asc_args_parse(cmd, argc, argv, &args);
	if (!err)
		err = run_parsed(c, cmd, args, f, status);
	/* REPL words change the settings themselves; a line's own options end with it. */
	if (!asc_repl_cmd_of(cmd)) {
		c->lo = lo;
		c->so = so;
	}
	return err;
}

/* ---- | and > ---- */

struct sink {
	FILE *f;
	pid_t pid; /* of the shell or the pager, 0: a file */
};

static struct asc_error *start_shell(const char *command, struct sink *ret)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC))
		return asc_err_os(errno, "pipe");
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0) {
		int e = errno;
		close(fd[0]);
		close(fd[1]);
		return asc_err_os(e, "starting a shell");
	}
	if (pid == 0) {
		dup2(fd[0], STDIN_FILENO);
		signal(SIGPIPE, SIG_DFL);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	close(fd[0]);
	FILE *f = fdopen(fd[1], "w");
	if (!f) {
		close(fd[1]);
		return asc_err(ASC_ENOMEM, "pipe");
	}
	*ret = (struct sink){ .f = f, .pid = pid };
	return NULL;
}

static struct asc_error *start_file(const char *rest, struct sink *ret)
{
	bool append = rest[1] == '>';
	ASC_AUTO(words_freep) char **words = NULL;
	const char *more;
	int n;

	ASC_TRY(asc_words(rest + 1 + append, &words, &n, &more));
	if (n != 1 || more)
		return asc_err_id(asc_err(ASC_EUSAGE, "after > stands one file"), "E-USAGE");
	FILE *f = fopen(words[0], append ? "ae" : "we");
	if (!f) {
		ASC_AUTO(asc_freep) char *shown = asc_escape(words[0]);
		return asc_err_id(asc_err(ASC_EIO, "cannot write %s: %s", shown ? shown : "?",
					  strerror(errno)),
				  "E-OUTPUT");
	}
	*ret = (struct sink){ .f = f };
	return NULL;
}

static const char *pager(const struct asc_cli *c, char *const *words)
{
	const char *term = getenv("TERM"), *p = getenv("ARENASCOPE_PAGER");

	/* The line's own options are read later, by the command that is to be paged. */
	for (; *words; words++) {
		if (!strcmp(*words, "--no-pager"))
			return NULL;
	}

	if (!c->prompt || c->lo.no_pager || c->where || !isatty(STDOUT_FILENO))
		return NULL;
	if (!term || !strcmp(term, "dumb"))
		return NULL;
	if (!p)
		p = getenv("PAGER");
	if (!p)
		p = "less -FRX";
	return *p && strcmp(p, "cat") ? p : NULL;
}

static struct asc_error *finish(struct sink *k, struct asc_error *err)
{
	int st = 0;

	if (!k->f)
		return err;
	bool bad = fclose(k->f) != 0;
	int e = errno;
	while (k->pid && waitpid(k->pid, &st, 0) < 0 && errno == EINTR)
		;
	if (k->pid && err && err->os_errno == EPIPE) {
		/* head, a pager that was left: no failure */
		asc_error_free(err);
		return NULL;
	}
	if (!k->pid && bad && !err)
		err = asc_err_id(asc_err(ASC_EIO, "writing the file: %s", strerror(e)), "E-OUTPUT");
	return err;
}

struct asc_error *asc_run_line(struct asc_cli *c, const char *line, int *status)
{
	ASC_AUTO(words_freep) char **words = NULL;
	struct sink k = { 0 };
	const char *rest;
	int n;

	*status = 0;
	ASC_TRY(asc_words(line, &words, &n, &rest));
	if (!n && rest)
		return asc_err_id(asc_err(ASC_EUSAGE, "a command must stand before %c", *rest),
				  "E-USAGE");
	if (!n)
		return NULL;
	const struct asc_cmd *cmd = NULL;
	ASC_TRY(asc_cmd_lookup(words[0], asc_repl_words, c->prompt, &cmd));
	if (rest && *rest == '|')
		ASC_TRY(start_shell(rest + 1, &k));
	else if (rest)
		ASC_TRY(start_file(rest, &k));
	else if (!asc_repl_cmd_of(cmd) && pager(c, words))
		ASC_TRY(start_shell(pager(c, words), &k));
	/* asc_options_split() shortens the vector: what it drops is freed by its own list */
	ASC_AUTO(asc_freep) char **copy = calloc((size_t)n + 3, sizeof(*copy));
	struct asc_error *err = copy ? NULL : asc_err(ASC_ENOMEM, "reading a line");
	for (int i = 0; copy && i < n; i++)
		copy[i] = words[i];
	if (!err)
		err = asc_run_words(c, n, copy, k.f ? k.f : c->out, status);
	return finish(&k, err);
}
