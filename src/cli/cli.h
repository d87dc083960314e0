/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The state of one run of the program: options, the session, where output goes. */
#ifndef ASC_CLI_CLI_H
#define ASC_CLI_CLI_H

#include "base/vec.h"
#include "commands/cmd.h"

enum asc_color_mode { ASC_COLOR_AUTO, ASC_COLOR_ALWAYS, ASC_COLOR_NEVER };

/* What one line may set for itself. */
struct asc_line_opts {
	enum asc_format format;
	bool exact_bytes, ascii, no_pager;
	enum asc_color_mode color;
};

/* -ex CMD or -x FILE, in the order given. */
struct asc_batch_item {
	bool is_file;
	const char *text;
};

struct asc_cli {
	struct asc_session_opts so;
	struct asc_line_opts lo;
	struct asc_session *s; /* NULL: no target yet */
	const char *output;    /* -o */
	ASC_VEC(struct asc_batch_item) batch_items;
	bool batch, keep_going;
	bool prompt; /* the REPL runs: prefixes, pager, questions */
	bool stdin_used;
	bool quit;
	int word_status;	   /* what a word of the REPL came to: `source` */
	FILE *out;		   /* stdout or the -o file */
	struct asc_stream *stream; /* what goes there; NULL at the prompt, where it never ends */
	bool out_closed;	   /* standard output was closed before we began */
	unsigned depth;		   /* of nested `source` */
	const char *where;	   /* "FILE:LINE" while a script runs, else NULL */
	char *core, *exe;	   /* owned: set by REPL words */
};

/* A word that needs the cli: `quit`, `attach`, `help` ... */
struct asc_repl_cmd {
	struct asc_cmd cmd;
	struct asc_error *(*run)(struct asc_cli *c, const struct asc_args *a, struct asc_out *o);
	bool offline; /* also as a command of the command line, without a target */
};

/* repl_words.c; ended by NULL */
extern const struct asc_cmd *const asc_repl_words[];
const struct asc_repl_cmd *asc_repl_cmd_of(const struct asc_cmd *cmd);

/* ---- options.c ---- */

struct asc_main_opt {
	const char *name; /* long, without dashes */
	int key;	  /* the short letter, or > 255 */
	const char *arg, *doc;
	const char *choices; /* "a|b", or NULL */
	enum asc_complete complete;
	bool alias;   /* another name of the one before */
	bool in_line; /* may stand in a line of the REPL or a script */
	int group;
};
extern const struct asc_main_opt asc_main_opts[]; /* ended by a NULL name */
enum {
	ASC_GROUP_TARGET = 1,
	ASC_GROUP_SYMBOLS,
	ASC_GROUP_SAFETY,
	ASC_GROUP_BATCH,
	ASC_GROUP_OUTPUT,
	ASC_GROUP_INFO
};
const char *asc_group_name(int group);

/*
 * Parse the command line into @p c; the words of the command, its own options included, go to
 * @p ret (borrowed from argv, ended by NULL). Help and usage errors end the program.
 */
ASC_MUST struct asc_error *asc_options_parse(struct asc_cli *c, int argc, char **argv,
					     int *ret_argc, char ***ret);
/*
 * Take main options out of the words of a command. @p words keeps what is the command's.
 * @p in_line: only those that a line may carry.
 */
ASC_MUST struct asc_error *asc_options_split(struct asc_cli *c, const struct asc_cmd *cmd,
					     int *argc, char **words, bool in_line);
ASC_MUST struct asc_error *asc_option_set(struct asc_cli *c, int key, const char *value);
/* Value as text for `show`; buf may be used. NULL: nothing to show. */
const char *asc_option_show(const struct asc_cli *c, int key, char *buf, size_t size);

/* ---- line.c ---- */

/* One command from its words; *status becomes 0 or 1. */
ASC_MUST struct asc_error *asc_run_words(struct asc_cli *c, int argc, char **argv, FILE *f,
					 int *status);
/* One line as typed: quotes, comments, `| sh`, `> file`. */
ASC_MUST struct asc_error *asc_run_line(struct asc_cli *c, const char *line, int *status);
/* Split into words; *@p rest points at an unquoted '|' or '>' or is NULL. Free with asc_words_free. */
ASC_MUST struct asc_error *asc_words(const char *line, char ***ret, int *ret_n, const char **rest);
void asc_words_free(char **words);
/* Open the target if that was not done yet. */
ASC_MUST struct asc_error *asc_cli_session(struct asc_cli *c);
/* Close it and forget the target. */
void asc_cli_drop_session(struct asc_cli *c);
void asc_cli_out_opts(const struct asc_cli *c, FILE *f, struct asc_out_opts *ret);

/* ---- script.c ---- */

/* @return the exit status: of the first failure, with --keep-going of the worst; 1 beats 0 */
int asc_run_file(struct asc_cli *c, const char *path);
int asc_run_batch(struct asc_cli *c);
/* Combine exit statuses: a failure beats partial beats complete; the first failure stays. */
int asc_status_join(int a, int b);

/* ---- errors.c ---- */

/* Print and free. @return the exit status */
int asc_report_error(const struct asc_cli *c, struct asc_error *err);
struct asc_error_help {
	const char *id;
	int exit;
	const char *title, *text, *hint;
};
extern const struct asc_error_help asc_error_helps[]; /* ended by a NULL id */
/* Code for what has none of its own. */
const char *asc_error_default_id(enum asc_errc code);

/* ---- help.c ---- */

/* `arenascope` alone */
void asc_print_intro(FILE *f);
/* --help */
void asc_print_help(FILE *f);
void asc_print_usage(FILE *f);
void asc_print_version(FILE *f);
/* `help [WORD]` */
ASC_MUST struct asc_error *asc_print_topic(FILE *f, const char *topic);
/* Wrap @p text to @p width columns, @p indent spaces in front of each line. */
void asc_print_wrapped(FILE *f, const char *text, unsigned indent, unsigned width);

/* ---- repl.c, completion.c ---- */

int asc_repl(struct asc_cli *c);
void asc_completion_init(struct asc_cli *c);

/* output.c: -o FILE, renamed when it is whole */
struct asc_output;
ASC_MUST struct asc_error *asc_output_open(const char *path, struct asc_output **ret, FILE **ret_f);
/* @p keep: rename it into place, else remove it. Frees. */
ASC_MUST struct asc_error *asc_output_close(struct asc_output *o, bool keep);

#endif
