// SPDX-License-Identifier: GPL-3.0-or-later
/* TAB: commands, their options, choices, arena numbers, thread ids and names, files. */
#include <dirent.h>
#include <stdio.h>
#include <readline/readline.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "cli/cli.h"

/* readline's callbacks take no argument of ours. */
static struct asc_cli *the_cli;

struct matches {
	char **v; /* owned; readline's generator takes them one by one */
	size_t n, at;
};
static struct matches found;

static void add(const char *prefix, const char *fmt, const char *a, const char *b)
{
	char *s;

	if (asprintf(&s, fmt, a, b) < 0)
		return;
	if (strncmp(s, prefix, strlen(prefix))) {
		free(s);
		return;
	}
	char **more = reallocarray(found.v, found.n + 1, sizeof(*more));
	if (!more) {
		free(s);
		return;
	}
	found.v = more;
	found.v[found.n++] = s;
}

static char *next(const char *text, int state)
{
	(void)text;
	(void)state;
	if (found.at < found.n)
		return found.v[found.at++];
	return NULL;
}

static void clear(void)
{
	while (found.at < found.n)
		free(found.v[found.at++]);
	free(found.v);
	found = (struct matches){ 0 };
}

static void add_commands(const char *text)
{
	for (size_t i = 0; asc_commands[i]; i++)
		add(text, "%s%s", asc_commands[i]->name, "");
	for (size_t i = 0; asc_repl_words[i]; i++)
		add(text, "%s%s", asc_repl_words[i]->name, "");
}

static void add_choices(const char *text, const char *head, const char *choices)
{
	for (const char *p = choices; *p;) {
		size_t n = strcspn(p, "|");
		char one[64];
		snprintf(one, sizeof(one), "%.*s", (int)asc_min(n, sizeof(one) - 1), p);
		add(text, "%s%s", head, one);
		p += n + (p[n] != 0);
	}
}

static void add_arenas(const char *text, const char *head)
{
	const struct asc_heap *heap = the_cli->s ? asc_session_heap(the_cli->s) : NULL;
	char number[24];

	for (size_t i = 0; heap && i < heap->narenas; i++) {
		snprintf(number, sizeof(number), "%zu", i);
		add(text, "%s%s", head, number);
	}
}

/* @p names: also by name; an option's value is a number */
static void add_threads(const char *text, const char *head, bool names)
{
	size_t n = 0;
	const struct asc_thread *t = the_cli->s ? asc_target_threads(the_cli->s->data, &n) : NULL;
	char number[24];

	for (size_t i = 0; i < n; i++) {
		ASC_AUTO(asc_freep) char *name = asc_escape(t[i].name);
		snprintf(number, sizeof(number), "%d", (int)t[i].tid);
		add(text, "%s%s", head, number);
		if (names && name && *name && !strpbrk(name, " \t\\'\""))
			add(text, "%s%s", head, name);
	}
}

static void add_pids(const char *text)
{
	DIR *dir = opendir("/proc");

	for (struct dirent *e; dir && (e = readdir(dir));) {
		uint64_t pid;
		if (asc_parse_u64(e->d_name, &pid))
			add(text, "%s%s", e->d_name, "");
	}
	if (dir)
		closedir(dir);
}

static void add_settings(const char *text)
{
	char buf[64];

	for (const struct asc_main_opt *m = asc_main_opts; m->name; m++) {
		if (m->in_line && asc_option_show(the_cli, m->key, buf, sizeof(buf)))
			add(text, "%s%s", m->name, "");
	}
}

/* What may stand for a value of @p kind; @p head is what stands before it in the word. */
static void add_values(const char *text, const char *head, enum asc_complete kind,
		       const char *choices, bool of_option)
{
	switch (kind) {
	case ASC_COMPLETE_ARENA:
		add_arenas(text, head);
		break;
	case ASC_COMPLETE_TID:
		add_threads(text, head, !of_option);
		break;
	case ASC_COMPLETE_COMMAND:
		add_commands(text);
		break;
	case ASC_COMPLETE_CHOICE:
		if (choices)
			add_choices(text, head, choices);
		break;
	case ASC_COMPLETE_FILE:
	case ASC_COMPLETE_NONE:
		break;
	}
}

static void add_options(const struct asc_cmd *cmd, const char *text)
{
	const char *eq = strchr(text, '=');

	if (eq) {
		char head[80];
		size_t len = (size_t)(eq - text) - asc_min(strspn(text, "-"), (size_t)(eq - text));
		const char *name = eq - len;
		const struct asc_cmd_opt *o = asc_cmd_opt_find(cmd, name, len);
		snprintf(head, sizeof(head), "%.*s", (int)asc_min((size_t)(eq + 1 - text), 79),
			 text);
		if (o)
			add_values(text, head, o->complete, o->choices, true);
		for (const struct asc_main_opt *m = asc_main_opts; m->name; m++) {
			if (m->in_line && strlen(m->name) == len && !memcmp(m->name, name, len) &&
			    m->choices)
				add_choices(text, head, m->choices);
		}
		return;
	}
	for (const struct asc_cmd_opt *o = cmd->opts; o && o->name; o++)
		add(text, "--%s%s", o->name, o->arg ? "=" : "");
	if (cmd->flags & ASC_CMD_REPL)
		return;
	for (const struct asc_main_opt *m = asc_main_opts; m->name; m++) {
		if (m->in_line)
			add(text, "--%s%s", m->name, m->arg ? "=" : "");
	}
}

/* The word before @p start. */
static const struct asc_cmd_opt *option_before(const struct asc_cmd *cmd, int start)
{
	int end = start;

	while (end > 0 && rl_line_buffer[end - 1] == ' ')
		end--;
	int from = end;
	while (from > 0 && rl_line_buffer[from - 1] != ' ')
		from--;
	const char *w = rl_line_buffer + from;
	size_t dashes = strspn(w, "-");
	if (!dashes || (size_t)(end - from) <= dashes)
		return NULL;
	const struct asc_cmd_opt *o =
		asc_cmd_opt_find(cmd, w + dashes, (size_t)(end - from) - dashes);
	return o && o->arg ? o : NULL;
}

static enum asc_complete fill(const char *text, int start)
{
	char name[64];
	const struct asc_cmd *cmd = NULL;
	size_t lead = strspn(rl_line_buffer, " \t");
	size_t len = strcspn(rl_line_buffer + lead, " \t|>");

	if ((size_t)start <= lead) {
		add_commands(text);
		return ASC_COMPLETE_COMMAND;
	}
	snprintf(name, sizeof(name), "%.*s", (int)asc_min(len, sizeof(name) - 1),
		 rl_line_buffer + lead);
	struct asc_error *err = asc_cmd_lookup(name, asc_repl_words, true, &cmd);
	asc_error_free(err);
	if (err)
		return ASC_COMPLETE_NONE;
	if (text[0] == '-') {
		add_options(cmd, text);
		return ASC_COMPLETE_CHOICE;
	}
	const struct asc_cmd_opt *o = option_before(cmd, start);
	if (o) {
		add_values(text, "", o->complete, o->choices, true);
		return o->complete;
	}
	if (!strcmp(cmd->name, "attach"))
		add_pids(text);
	else if (!strcmp(cmd->name, "set") || !strcmp(cmd->name, "show"))
		add_settings(text);
	else
		add_values(text, "", cmd->complete, NULL, false);
	return cmd->complete;
}

static char **attempt(const char *text, int start, int end)
{
	/* After | and > stand files. */
	for (int i = 0; i < start; i++) {
		if (rl_line_buffer[i] == '|' || rl_line_buffer[i] == '>')
			return NULL;
	}
	(void)end;
	clear();
	enum asc_complete kind = fill(text, start);
	rl_attempted_completion_over = kind != ASC_COMPLETE_FILE;
	char **m = found.n ? rl_completion_matches(text, next) : NULL;
	clear();
	/* --arena= waits for its value */
	if (m && m[0] && !m[1] && *m[0] && m[0][strlen(m[0]) - 1] == '=')
		rl_completion_suppress_append = 1;
	return m;
}

void asc_completion_init(struct asc_cli *c)
{
	the_cli = c;
	rl_attempted_completion_function = attempt;
	rl_basic_word_break_characters = " \t\n\"'|>";
	rl_completer_word_break_characters = rl_basic_word_break_characters;
}
