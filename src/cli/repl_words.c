// SPDX-License-Identifier: GPL-3.0-or-later
/* Words of the REPL and of scripts that steer the session itself. */
#include <readline/history.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "cli/options.h"

static struct asc_error *run_refresh(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	(void)a;
	(void)o;
	ASC_TRY(asc_cli_session(c));
	ASC_TRY(asc_session_alive(c->s));
	unsigned have = c->s->have;
	asc_session_refresh(c->s);
	return asc_session_need(c->s, have);
}

static struct asc_error *run_hold(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	(void)a;
	(void)o;
	ASC_TRY(asc_cli_session(c));
	if (!c->s->live)
		return asc_err_id(asc_err(ASC_EUSAGE, "a core cannot be held"), "E-USAGE");
	if (c->so.no_stop)
		return asc_err_id(asc_err(ASC_EUSAGE, "--no-stop forbids to hold the process"),
				  "E-USAGE");
	ASC_TRY(asc_session_alive(c->s));
	unsigned have = c->s->have;
	asc_session_refresh(c->s);
	c->so.hold = c->s->opts.hold = true;
	struct asc_error *err = asc_session_need(c->s, have | ASC_NEED_REGS);
	if (err) {
		c->so.hold = c->s->opts.hold = false;
		asc_session_release(c->s);
	}
	return err;
}

static struct asc_error *run_release(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	(void)a;
	c->so.hold = false;
	if (!c->s || !c->s->live || !c->s->opts.hold) {
		asc_out_text(o, "It was not held.");
		return NULL;
	}
	c->s->opts.hold = false;
	asc_session_release(c->s);
	asc_out_text(o, "It runs on after %.1f s.", c->s->pause.ms / 1000);
	return NULL;
}

static struct asc_error *run_attach(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	uint64_t pid = 0;
	const pid_t was_pid = c->so.pid;
	const char *was_core = c->so.core;
	struct asc_session *was = c->s;

	(void)o;
	ASC_TRY(asc_args_at_u64(a, 0, &pid));
	if (pid == 0 || pid > INT32_MAX)
		return asc_err_id(asc_err(ASC_EUSAGE, "attach: not a process id"), "E-USAGE");
	c->so.pid = (pid_t)pid;
	c->so.core = NULL;
	c->s = NULL;
	struct asc_error *err = asc_cli_session(c);
	if (err) {
		c->so.pid = was_pid;
		c->so.core = was_core;
		c->s = was;
		return err;
	}
	asc_session_close(was);
	return NULL;
}

static struct asc_error *run_core(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	const pid_t was_pid = c->so.pid;
	const char *was_core = c->so.core;
	struct asc_session *was = c->s;

	(void)o;
	char *path = strdup(asc_args_at(a, 0));
	if (!path)
		return asc_err(ASC_ENOMEM, "core");
	c->so.pid = 0;
	c->so.core = path;
	c->s = NULL;
	struct asc_error *err = asc_cli_session(c);
	if (err) {
		c->so.pid = was_pid;
		c->so.core = was_core;
		c->s = was;
		free(path);
		return err;
	}
	asc_session_close(was);
	free(c->core);
	c->core = path;
	return NULL;
}

static struct asc_error *run_detach(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	(void)a;
	(void)o;
	asc_cli_drop_session(c);
	c->so.pid = 0;
	c->so.core = NULL;
	c->so.hold = false;
	return NULL;
}

static const struct asc_main_opt *setting(const char *name)
{
	for (const struct asc_main_opt *m = asc_main_opts; m->name; m++) {
		if (m->in_line && !m->alias && m->key != 'j' && m->key != KEY_JSONL &&
		    m->key != 'y' && m->key != 'n' && !strcmp(m->name, name))
			return m;
	}
	return NULL;
}

static struct asc_error *unknown_setting(const char *name)
{
	ASC_AUTO(asc_freep) char *shown = asc_escape(name);

	return asc_err_try(asc_err_id(asc_err(ASC_EUSAGE, "there is no setting \"%.60s\"",
					      shown ? shown : "?"),
				      "E-USAGE"),
			   "show   lists them");
}

/* Flags are switched by on and off; asc_option_set() only knows on. */
static struct asc_error *set_flag(struct asc_cli *c, const struct asc_main_opt *m,
				  const char *value)
{
	if (!strcmp(value, "on"))
		return asc_option_set(c, m->key, NULL);
	if (strcmp(value, "off"))
		return asc_err_id(asc_err(ASC_EUSAGE, "set %s: on or off", m->name), "E-USAGE");
	if (!strcmp(m->name, "bytes"))
		c->lo.exact_bytes = false;
	else if (!strcmp(m->name, "ascii"))
		c->lo.ascii = false;
	else if (!strcmp(m->name, "no-pager"))
		c->lo.no_pager = false;
	else if (!strcmp(m->name, "force"))
		c->so.force = false;
	return NULL;
}

static struct asc_error *run_set(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	const struct asc_main_opt *m = setting(asc_args_at(a, 0));
	const char *value = asc_args_at(a, 1);

	(void)o;
	if (!m)
		return unknown_setting(asc_args_at(a, 0));
	if (!m->arg)
		return set_flag(c, m, value ? value : "on");
	if (!value)
		return asc_err_id(asc_err(ASC_EUSAGE, "set %s: a value is missing (%s)", m->name,
					  m->choices ? m->choices : m->arg),
				  "E-USAGE");
	return asc_option_set(c, m->key, value);
}

static struct asc_error *run_show(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	const char *only = asc_args_at(a, 0);
	char buf[64];

	if (only && !setting(only))
		return unknown_setting(only);
	for (const struct asc_main_opt *m = asc_main_opts; m->name; m++) {
		if (!setting(m->name) || (only && strcmp(only, m->name)))
			continue;
		const char *v = asc_option_show(c, m->key, buf, sizeof(buf));
		if (v)
			asc_out_field(o, m->name, m->name, ASC_V_STR(v));
	}
	return NULL;
}

static struct asc_error *run_source(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	bool prompt = c->prompt;

	(void)o;
	c->prompt = false;
	int status = asc_run_file(c, asc_args_at(a, 0));
	c->prompt = prompt;
	c->word_status = status; /* its failure has been said, with its line */
	return NULL;
}

static struct asc_error *run_history(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	HIST_ENTRY **list = history_list();

	(void)c;
	(void)a;
	for (int i = 0; list && list[i]; i++) {
		ASC_AUTO(asc_freep) char *shown = asc_escape(list[i]->line);
		asc_out_text(o, "%5d  %s", i + history_base, shown ? shown : "?");
	}
	return NULL;
}

static struct asc_error *run_help(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	ASC_AUTO(asc_freep) char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	(void)c;
	if (!f)
		return asc_err(ASC_ENOMEM, "help");
	struct asc_error *err = asc_print_topic(f, asc_args_at(a, 0));
	if (fclose(f) && !err)
		err = asc_err(ASC_ENOMEM, "help");
	if (err)
		return err;
	if (len && text[len - 1] == '\n')
		text[len - 1] = 0;
	asc_out_text(o, "%s", text);
	return NULL;
}

static struct asc_error *run_quit(struct asc_cli *c, const struct asc_args *a, struct asc_out *o)
{
	(void)a;
	(void)o;
	c->quit = true;
	return NULL;
}

#define WORD(id, name_, args_, summary_, min_, max_, complete_, offline_)                          \
	static const struct asc_repl_cmd word_##id = {                                             \
		.cmd = { .name = name_,                                                            \
			 .args = args_,                                                            \
			 .summary = summary_,                                                      \
			 .min_args = min_,                                                         \
			 .max_args = max_,                                                         \
			 .complete = complete_,                                                    \
			 .flags = ASC_CMD_REPL },                                                  \
		.run = run_##id,                                                                   \
		.offline = offline_,                                                               \
	}

WORD(refresh, "refresh", "", "read the target again", 0, 0, ASC_COMPLETE_NONE, false);
WORD(hold, "hold", "", "stop the target and keep it stopped", 0, 0, ASC_COMPLETE_NONE, false);
WORD(release, "release", "", "let a held target run on", 0, 0, ASC_COMPLETE_NONE, false);
WORD(attach, "attach", "PID", "turn to another live process", 1, 1, ASC_COMPLETE_NONE, false);
WORD(core, "core", "FILE", "turn to a core file", 1, 1, ASC_COMPLETE_FILE, false);
WORD(detach, "detach", "", "leave the target", 0, 0, ASC_COMPLETE_NONE, false);
WORD(set, "set", "NAME [VALUE]", "change a setting", 1, 2, ASC_COMPLETE_NONE, true);
WORD(show, "show", "[NAME]", "the settings", 0, 1, ASC_COMPLETE_NONE, true);
WORD(source, "source", "FILE", "run the commands of a file", 1, 1, ASC_COMPLETE_FILE, true);
WORD(history, "history", "", "lines typed so far", 0, 0, ASC_COMPLETE_NONE, true);
WORD(help, "help", "[COMMAND|CODE]", "what there is, a command, an error's code", 0, 1,
     ASC_COMPLETE_COMMAND, true);
WORD(quit, "quit", "", "leave; so does Ctrl-D", 0, 0, ASC_COMPLETE_NONE, true);

const struct asc_cmd *const asc_repl_words[] = {
	&word_refresh.cmd,
	&word_hold.cmd,
	&word_release.cmd,
	&word_attach.cmd,
	&word_core.cmd,
	&word_detach.cmd,
	&word_set.cmd,
	&word_show.cmd,
	&word_source.cmd,
	&word_history.cmd,
	&word_help.cmd,
	&word_quit.cmd,
	NULL,
};

const struct asc_repl_cmd *asc_repl_cmd_of(const struct asc_cmd *cmd)
{
	/* cmd is the first member of its word */
	return cmd->flags & ASC_CMD_REPL ? (const struct asc_repl_cmd *)(const void *)cmd : NULL;
}
