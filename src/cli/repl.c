// SPDX-License-Identifier: GPL-3.0-or-later
/* The prompt. Ctrl-C ends a command or a line, never the target; Ctrl-D leaves. */
#include <errno.h>
#include <stdio.h>
#include <readline/history.h>
#include <readline/readline.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/signals.h"

enum { HISTORY_MAX = 2000 };

/* ---- history ---- */

/* Make the folders above @p path, private. */
static void make_folders(char *path)
{
	for (char *p = path + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		mkdir(path, 0700);
		*p = '/';
	}
}

static char *history_file(void)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char *path = NULL;
	int n = -1;

	if (state && *state == '/')
		n = asprintf(&path, "%s/arenascope/history", state);
	else if (home && *home == '/')
		n = asprintf(&path, "%s/.local/state/arenascope/history", home);
	return n < 0 ? NULL : path;
}

static void load_history(const char *path)
{
	using_history();
	stifle_history(HISTORY_MAX);
	if (path)
		read_history(path);
}

static void save_history(char *path)
{
	if (!path)
		return;
	mode_t mask = umask(077);
	make_folders(path);
	if (!write_history(path))
		chmod(path, 0600);
	umask(mask);
}

/* ---- the loop ---- */

static void make_prompt(const struct asc_cli *c, char *buf, size_t size)
{
	pid_t pid = c->s ? asc_target_pid(c->s->data) : 0;

	if (c->s && !c->s->live)
		snprintf(buf, size, "(arenascope core%s%.*d) ", pid ? " " : "", pid ? 1 : 0,
			 (int)pid);
	else if (pid)
		snprintf(buf, size, "(arenascope %d%s) ", (int)pid, c->so.hold ? " held" : "");
	else
		snprintf(buf, size, "(arenascope) ");
}

static int on_event(void)
{
	if (asc_signal_pending())
		rl_done = 1;
	if (asc_interrupted()) {
		/* as a shell: a fresh line */
		asc_interrupt_clear();
		rl_replace_line("", 0);
		rl_crlf();
		rl_on_new_line();
		rl_redisplay();
	}
	return 0;
}

/* Said once, when it happens. */
static void watch_target(struct asc_cli *c, bool *said)
{
	if (!c->s || !c->s->live) {
		*said = false;
		return;
	}
	if (asc_target_alive(c->s->live)) {
		*said = false;
		return;
	}
	if (!*said)
		fprintf(stderr, "arenascope: process %d has ended; what was read from it stays\n",
			(int)asc_target_pid(c->s->live));
	*said = true;
}

static void one_line(struct asc_cli *c, const char *line)
{
	int status = 0;

	asc_interrupt_clear();
	struct asc_error *err = asc_run_line(c, line, &status);
	if (err && err->code == ASC_EINTR) {
		asc_error_free(err);
		fputs("interrupted\n", stderr);
	} else if (err && err->os_errno == EPIPE) {
		asc_error_free(err);
	} else if (err) {
		asc_report_error(c, err);
	}
	asc_interrupt_clear();
	/* an error of stdout must not stick */
	clearerr(stdout);
}

/* What is looked at, and where to begin. */
static void greet(const struct asc_cli *c)
{
	ASC_AUTO(asc_freep) char *name = asc_escape(asc_target_name(c->s->data));

	if (c->so.quiet)
		return;
	fprintf(stderr, "%s%s: report is where to begin, help lists the commands.\n",
		name && *name ? name : "?", c->s->live ? "" : " (core)");
}

int asc_repl(struct asc_cli *c)
{
	bool said = false;
	char prompt[64];
	ASC_AUTO(asc_freep) char *path = history_file();

	rl_readline_name = "arenascope";
	rl_catch_signals = 0;
	rl_catch_sigwinch = 1;
	rl_event_hook = on_event;
	asc_completion_init(c);
	load_history(path);
	c->prompt = true;
	c->so.interactive = true;

	struct asc_error *err = asc_cli_session(c);
	if (err)
		return asc_report_error(c, err);
	greet(c);
	while (!c->quit && !asc_signal_pending()) {
		watch_target(c, &said);
		make_prompt(c, prompt, sizeof(prompt));
		ASC_AUTO(asc_freep) char *line = readline(prompt);
		if (asc_signal_pending())
			break;
		if (!line) {
			putchar('\n');
			break;
		}
		if (!line[strspn(line, " \t")])
			continue;
		HIST_ENTRY *last = history_length ? history_get(history_base + history_length - 1)
						  : NULL;
		if (!last || strcmp(last->line, line))
			add_history(line);
		one_line(c, line);
	}
	save_history(path);
	return 0;
}
