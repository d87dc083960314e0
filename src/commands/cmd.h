/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One file a command, one exported const struct asc_cmd each, one table (commands.c). From that
 * table come: the command line, the REPL, scripts, help, usage errors, completions, the man page's list.
 */
#ifndef ASC_COMMANDS_CMD_H
#define ASC_COMMANDS_CMD_H

#include "commands/session.h"
#include "render/render.h"

enum asc_complete {
	ASC_COMPLETE_NONE,
	ASC_COMPLETE_ARENA,
	ASC_COMPLETE_TID,
	ASC_COMPLETE_FILE,
	ASC_COMPLETE_COMMAND,
	ASC_COMPLETE_CHOICE, /* choices: "a|b|c" */
};

struct asc_cmd_opt {
	const char *name; /* without dashes: "heaps" */
	const char *arg;  /* "N", "COL"; NULL: a flag */
	const char *summary;
	enum asc_complete complete;
	const char *choices; /* "tcache|fast|unsorted|small|large" or NULL */
};

/* Parsed arguments of one command line. */
struct asc_args;
bool asc_args_has(const struct asc_args *a, const char *opt);
/* Value of the option, or NULL if it was not given. */
const char *asc_args_get(const struct asc_args *a, const char *opt);
size_t asc_args_count(const struct asc_args *a); /* positional */
const char *asc_args_at(const struct asc_args *a, size_t i);
/* Checked numbers: ASC_EUSAGE with the command's usage line. Untouched if the option is absent. */
ASC_MUST struct asc_error *asc_args_u64(const struct asc_args *a, const char *opt, uint64_t *ret);
ASC_MUST struct asc_error *asc_args_bytes(const struct asc_args *a, const char *opt, uint64_t *ret);
/* "A..B", "A..", "..B", "A" in bytes. */
ASC_MUST struct asc_error *asc_args_byte_range(const struct asc_args *a, const char *opt,
					       uint64_t *ret_lo, uint64_t *ret_hi);
/* --arena=N, checked against the heap: -1 if absent. */
ASC_MUST struct asc_error *asc_args_arena(const struct asc_args *a, const struct asc_session *s,
					  int *ret);

enum asc_cmd_flags {
	ASC_CMD_REPL = 1,   /* only in the REPL and scripts */
	ASC_CMD_WRITES = 2, /* changes the target: consent, never under --core */
	ASC_CMD_STREAM = 4, /* rows stream (chunks) */
	ASC_CMD_HEADLINE =
		16, /* text begins with a line about the target, in the REPL too if ALWAYS */
	ASC_CMD_HEADLINE_ALWAYS = 32,
	ASC_CMD_AT = 64,      /* the first argument is an address; only its arena need be walked */
	ASC_CMD_FIELDS = 128, /* its tables do not say it all: CSV has the rest, too */
	ASC_CMD_RAW = 8,      /* prints text of its own (malloc-info): no text header */
};

struct asc_cmd {
	const char *name;
	const char *args;    /* "[--heaps] [--sort=COL]" */
	const char *summary; /* one line for lists */
	const char *help; /* paragraphs for `help CMD` and the man page; formulas of its numbers */
	const struct asc_cmd_opt *opts; /* ends with a NULL name; may be NULL */
	unsigned min_args, max_args;	/* positional */
	enum asc_complete complete;	/* of positional arguments */
	unsigned needs;			/* enum asc_needs */
	unsigned flags;			/* enum asc_cmd_flags */
	/* What the table cannot say of its arguments, before anything is read; or NULL. */
	struct asc_error *(*check)(const struct asc_args *a);
	struct asc_error *(*run)(struct asc_session *s, const struct asc_args *a,
				 struct asc_out *o);
};

/* In help's order, ended by NULL. */
extern const struct asc_cmd *const asc_commands[];
const struct asc_cmd *asc_cmd_by_name(const char *name);
/*
 * @p more holds further words, or is NULL. With @p prefixes a unique prefix will do (the REPL).
 * ASC_EUSAGE lists the candidates or the nearest name.
 */
ASC_MUST struct asc_error *asc_cmd_lookup(const char *name, const struct asc_cmd *const *more,
					  bool prefixes, const struct asc_cmd **ret);
/* The name in @p names (NULL-terminated) that @p name most likely means, or NULL. */
const char *asc_nearest(const char *name, const char *const *names);
/* ASC_EUSAGE with the command's usage line in its try: lines. */
ASC_MUST struct asc_error *asc_usage(const struct asc_cmd *cmd, const char *fmt, ...)
	ASC_PRINTF(2, 3);
/* Split @p argv (argv[0] is the command) into options and positionals by @p cmd's table. */
ASC_MUST struct asc_error *asc_args_parse(const struct asc_cmd *cmd, int argc, char *const *argv,
					  struct asc_args **ret);
void asc_args_free(struct asc_args *a);
void asc_args_freep(struct asc_args **a);
/* Row of @p cmd's option @p name (@p len bytes, no dashes), or NULL. */
const struct asc_cmd_opt *asc_cmd_opt_find(const struct asc_cmd *cmd, const char *name, size_t len);
/* Positional @p i as a number. */
ASC_MUST struct asc_error *asc_args_at_u64(const struct asc_args *a, size_t i, uint64_t *ret);
/* Positional @p i as an arena's index, checked against the heap. */
ASC_MUST struct asc_error *asc_args_at_arena(const struct asc_args *a, size_t i,
					     const struct asc_session *s, unsigned *ret);

#endif
