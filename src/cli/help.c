// SPDX-License-Identifier: GPL-3.0-or-later
/* Every text of help comes from the tables of commands, options and errors. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "cli/cli.h"
#include "target/proc.h"

enum { WIDTH = 90, NAME_WIDTH = 14, OPTION_WIDTH = 26, LARGEST = 5, CODE_WIDTH = 16 };

void asc_print_wrapped(FILE *f, const char *text, unsigned indent, unsigned width)
{
	for (const char *para = text; *para;) {
		size_t len = strcspn(para, "\n");
		const char *p = para, *end = para + len;
		while (p < end) {
			size_t room = width - indent, n = (size_t)(end - p);
			if (n > room) {
				n = room;
				while (n && p[n] != ' ')
					n--;
				if (!n)
					n = room;
			}
			fprintf(f, "%*s%.*s\n", (int)indent, "", (int)n, p);
			p += n;
			while (p < end && *p == ' ')
				p++;
		}
		para = end + (*end == '\n');
	}
}

void asc_print_version(FILE *f)
{
	fprintf(f, "arenascope %s\n", ASC_VERSION);
	fputs("Copyright (C) 2026 The arenascope developers\n"
	      "License GPLv3+: GNU GPL version 3 or later <https://gnu.org/licenses/gpl.html>\n"
	      "This is free software: you are free to change and redistribute it.\n"
	      "There is NO WARRANTY, to the extent permitted by law.\n",
	      f);
}

static void put_option(FILE *f, const struct asc_main_opt *m)
{
	char left[80];
	int n = 0;

	if (m->key < 256)
		n = snprintf(left, sizeof(left), "-%c, ", m->key);
	else
		n = snprintf(left, sizeof(left), "    ");
	/* -ex is what people type */
	snprintf(left + n, sizeof(left) - (size_t)n, "%s%s%s%s", strcmp(m->name, "ex") ? "--" : "-",
		 m->name, m->arg ? (strcmp(m->name, "ex") ? "=" : " ") : "", m->arg ? m->arg : "");
	fprintf(f, "  %-*s  %s\n", OPTION_WIDTH, left, m->doc ? m->doc : "");
}

static void put_options(FILE *f)
{
	int group = 0;

	for (const struct asc_main_opt *m = asc_main_opts; m->name; m++) {
		if (m->group != group)
			fprintf(f, "\n%s\n", asc_group_name(m->group));
		group = m->group;
		put_option(f, m);
	}
}

static void put_commands(FILE *f, const struct asc_cmd *const *v)
{
	for (size_t i = 0; v[i]; i++)
		fprintf(f, "  %-*s  %s\n", NAME_WIDTH, v[i]->name, v[i]->summary);
}

void asc_print_help(FILE *f)
{
	fputs("Usage: arenascope [TARGET] [OPTION...] [COMMAND [ARG...]]\n"
	      "Where did this process's memory go, why does it not come back, how to get it back.\n"
	      "Only reads; trim, reclaim and tune change the target, and only with --yes.\n"
	      "\n"
	      "  arenascope -p PID report          where the memory of a live process is\n"
	      "  arenascope -c core.zst arenas     the same of a core file\n"
	      "  arenascope -p PID                 prompt for commands\n"
	      "  arenascope EXE -c CORE            as coredumpctl debug --debugger=arenascope "
	      "does\n"
	      "\nCommands\n",
	      f);
	put_commands(f, asc_commands);
	put_options(f);
	fputs("\nhelp COMMAND explains a command and its numbers, help CODE an error's code.\n"
	      "Exit status: 0 complete, 1 partial, 2 failed, 64 usage, 65 bad input, 66 no such "
	      "target,\n69 not supported, 70 bug, 74 output, 75 try again, 77 permission, "
	      "78 no symbols, 130 interrupted.\n",
	      f);
}

void asc_print_usage(FILE *f)
{
	size_t at = (size_t)fprintf(f, "Usage: arenascope");

	for (const struct asc_main_opt *m = asc_main_opts; m->name; m++) {
		char word[80];
		int n = snprintf(word, sizeof(word), " [--%s%s%s]", m->name, m->arg ? "=" : "",
				 m->arg ? m->arg : "");
		if (at + (size_t)n > WIDTH)
			at = (size_t)fprintf(f, "\n        ") - 1;
		at += (size_t)fprintf(f, "%s", word);
	}
	fputs("\n         [COMMAND [ARG...]]\n", f);
}

/* ---- arenascope alone ---- */

struct process {
	pid_t pid;
	uint64_t rss;
	char name[64];
};

static bool maps_glibc(pid_t pid)
{
	struct asc_text text = { 0 };
	bool found = false;

	if (!asc_proc_read(pid, 0, "maps", &text) && text.p)
		found = strstr(text.p, "/libc.so.6") || strstr(text.p, "/libc-2.");
	asc_text_free(&text);
	return found;
}

/* Put @p p into the list of the largest. */
static void keep_largest(struct process *v, size_t *n, const struct process *p)
{
	size_t i = *n;

	while (i && v[i - 1].rss < p->rss)
		i--;
	if (i == LARGEST)
		return;
	if (*n < LARGEST)
		(*n)++;
	memmove(v + i + 1, v + i, (*n - i - 1) * sizeof(*v));
	v[i] = *p;
}

static bool look_at(pid_t pid, uid_t uid, struct process *ret)
{
	struct asc_text text = { 0 };
	uint64_t kb, of_uid;
	bool ok = !asc_proc_read(pid, 0, "status", &text) && text.p &&
		  asc_proc_status_dec(text.p, "Uid", &of_uid) && (uid == 0 || of_uid == uid) &&
		  asc_proc_status_dec(text.p, "VmRSS", &kb);

	if (ok) {
		const char *name = asc_proc_status_value(text.p, "Name");
		*ret = (struct process){ .pid = pid, .rss = kb * 1024 };
		snprintf(ret->name, sizeof(ret->name), "%.*s",
			 (int)strcspn(name ? name : "?", "\n"), name ? name : "?");
	}
	asc_text_free(&text);
	return ok && maps_glibc(pid);
}

static void put_largest(FILE *f)
{
	struct process v[LARGEST + 1];
	size_t n = 0;
	DIR *dir = opendir("/proc");
	char buf[32];

	if (!dir)
		return;
	for (struct dirent *e; (e = readdir(dir));) {
		struct process p;
		uint64_t pid;
		if (asc_parse_u64(e->d_name, &pid) && pid <= INT32_MAX && (pid_t)pid != getpid() &&
		    look_at((pid_t)pid, getuid(), &p))
			keep_largest(v, &n, &p);
	}
	closedir(dir);
	if (!n)
		return;
	fprintf(f, "\n%s largest glibc processes:\n", getuid() ? "Your" : "The");
	for (size_t i = 0; i < n; i++) {
		ASC_AUTO(asc_freep) char *shown = asc_escape(v[i].name);
		fprintf(f, "  %10s  -p %-8d %s\n", asc_fmt_bytes(buf, v[i].rss, false), v[i].pid,
			shown ? shown : "?");
	}
}

void asc_print_intro(FILE *f)
{
	fputs("  arenascope -p PID report      where the memory of a process is, and why\n"
	      "  arenascope -p PID reclaim -n  what could be given back\n"
	      "  arenascope -p PID             prompt: explore it by hand\n"
	      "  arenascope -c CORE arenas     the same commands on a core file\n"
	      "  arenascope --json -p PID rss  for scripts\n"
	      "\n"
	      "arenascope reads glibc malloc's structures from outside. It only reads: trim, "
	      "reclaim\n"
	      "and tune change the process, and only with --yes. The target is stopped for\n"
	      "milliseconds, and every pause is printed.\n"
	      "--help lists commands and options; help COMMAND explains one.\n",
	      f);
	put_largest(f);
}

/* ---- help WORD ---- */

static void put_command_help(FILE *f, const struct asc_cmd *c)
{
	fprintf(f, "%s%s%s\n    %s\n", c->name, c->args && *c->args ? " " : "",
		c->args ? c->args : "", c->summary);
	if (c->opts && c->opts->name)
		fputs("\n", f);
	for (const struct asc_cmd_opt *o = c->opts; o && o->name; o++) {
		char left[64];
		snprintf(left, sizeof(left), "--%s%s%s", o->name, o->arg ? "=" : "",
			 o->arg ? o->arg : "");
		fprintf(f, "  %-22s %s%s%s%s\n", left, o->summary ? o->summary : "",
			o->choices ? " (" : "", o->choices ? o->choices : "",
			o->choices ? ")" : "");
	}
	if (c->help && *c->help) {
		fputs("\n", f);
		asc_print_wrapped(f, c->help, 0, WIDTH);
	}
}

static void put_error_help(FILE *f, const struct asc_error_help *h)
{
	if (h->id[0] == 'E')
		fprintf(f, "%s   exit %d\n    %s\n\n", h->id, h->exit, h->title);
	else
		fprintf(f, "%s   a warning%s\n    %s\n\n", h->id, h->exit ? ", exit 1" : "",
			h->title);
	asc_print_wrapped(f, h->text, 0, WIDTH);
	if (h->hint)
		asc_print_wrapped(f, h->hint, 2, WIDTH);
}

static void put_codes(FILE *f)
{
	size_t n;
	const struct asc_finding_code *code = asc_finding_codes(&n);

	for (const struct asc_error_help *h = asc_error_helps; h->id; h++)
		fprintf(f, "%-*s  %s\n", CODE_WIDTH, h->id, h->title);
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%-*s  %s\n", CODE_WIDTH, code[i].code, code[i].meaning);
}

/* The tables for programs, tab-separated: completions and manual pages are checked against it. */
static void put_words(FILE *f)
{
	const struct asc_cmd *const *lists[] = { asc_commands, asc_repl_words };

	for (const struct asc_main_opt *m = asc_main_opts; m->name; m++)
		fprintf(f, "option\t--%s\t%s\t%s\n", m->name, m->arg ? m->arg : "",
			m->choices ? m->choices : "");
	for (size_t l = 0; l < ASC_ARRAY_SIZE(lists); l++) {
		for (const struct asc_cmd *const *c = lists[l]; *c; c++) {
			fprintf(f, "%s\t%s\t%s\t%s\n", l ? "word" : "command", (*c)->name,
				(*c)->args, (*c)->summary);
			for (const struct asc_cmd_opt *o = (*c)->opts; o && o->name; o++)
				fprintf(f, "command-option\t%s --%s\t%s\t%s\n", (*c)->name, o->name,
					o->arg ? o->arg : "", o->choices ? o->choices : "");
		}
	}
}

struct asc_error *asc_print_topic(FILE *f, const char *topic)
{
	const struct asc_cmd *c;

	if (!topic) {
		fputs("Commands\n", f);
		put_commands(f, asc_commands);
		fputs("\nSession\n", f);
		put_commands(f, asc_repl_words);
		fputs("\nCMD | sh-command and CMD > file work; --json, --bytes, --format=csv ... "
		      "may "
		      "stand in any line.\nhelp COMMAND, help E-CODE.\n",
		      f);
		return NULL;
	}
	for (const struct asc_error_help *h = asc_error_helps; h->id; h++) {
		if (!strcasecmp(h->id, topic)) {
			put_error_help(f, h);
			return NULL;
		}
	}
	size_t n;
	const struct asc_finding_code *code = asc_finding_codes(&n);
	for (size_t i = 0; i < n; i++) {
		if (strcasecmp(code[i].code, topic))
			continue;
		fprintf(f, "%s   a finding of check: %s\n    %s\n", code[i].code,
			asc_severity_name(code[i].severity), code[i].meaning);
		return NULL;
	}
	if (!strcmp(topic, "codes")) {
		put_codes(f);
		return NULL;
	}
	if (!strcmp(topic, "words")) {
		put_words(f);
		return NULL;
	}
	if (topic[0] && topic[1] == '-' && strchr("EWCSI", topic[0]))
		return asc_err_try(
			asc_err_id(asc_err(ASC_EUSAGE, "there is no code \"%.40s\"", topic),
				   "E-USAGE"),
			"help codes   lists them");
	ASC_TRY(asc_cmd_lookup(topic, asc_repl_words, true, &c));
	put_command_help(f, c);
	return NULL;
}
