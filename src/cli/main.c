// SPDX-License-Identifier: GPL-3.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/signals.h"

/* A closed 0, 1 or 2 would be taken by the next file that is opened, and written into. */
static bool fill_standard_fds(void)
{
	bool out_closed = fcntl(STDOUT_FILENO, F_GETFD) < 0;
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	return out_closed;
}

static bool ask_user(void *arg, const char *question)
{
	char answer[16] = "";

	(void)arg;
	ASC_AUTO(asc_fclosep) FILE *tty = fopen("/dev/tty", "r+e");
	if (!tty)
		return false;
	fprintf(tty, "%s (y or n) ", question);
	fflush(tty);
	return fgets(answer, sizeof(answer), tty) && (answer[0] == 'y' || answer[0] == 'Y');
}

static void defaults(struct asc_cli *c)
{
	bool terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

	c->out = stdout;
	c->so.max_pause_ms = 500;
	c->so.wait_ms = 5000;
	c->so.max_memory = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / 8 : 0;
	c->so.progress = isatty(STDERR_FILENO);
	c->so.symbols.timeout_ms = 5000;
	c->so.symbols.debuginfod = terminal ? ASC_DEBUGINFOD_ASK : ASC_DEBUGINFOD_OFF;
	c->so.symbols.progress = asc_session_progress;
}

/* What follows from the options together. */
static void settle(struct asc_cli *c)
{
	if (c->batch && c->so.symbols.debuginfod == ASC_DEBUGINFOD_ASK)
		c->so.symbols.debuginfod = ASC_DEBUGINFOD_OFF;
	if (c->so.symbols.debuginfod == ASC_DEBUGINFOD_ASK)
		c->so.symbols.ask = ask_user;
}

static int run_command(struct asc_cli *c, int argc, char **words)
{
	int status = 0;
	struct asc_error *err = asc_run_words(c, argc, words, c->out, &status);

	if (err && err->os_errno == EPIPE) {
		asc_error_free(err);
		return 141;
	}
	return err ? asc_report_error(c, err) : status;
}

static int run(struct asc_cli *c, int argc, char **words)
{
	int status = asc_run_batch(c);

	if (argc && (status <= 1 || c->keep_going) && !c->quit)
		status = asc_status_join(status, run_command(c, argc, words));
	if (argc || c->batch_items.len)
		return status;
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !c->batch && !c->output)
		return asc_repl(c);
	return asc_run_file(c, "-");
}

/* Everything that was promised has been written? */
static int finish_output(struct asc_cli *c, struct asc_output *file, int status)
{
	struct asc_error *err = NULL;

	if (file)
		err = asc_output_close(file, status <= 1);
	else if (fclose(stdout) && errno != EPIPE && errno != EBADF)
		err = asc_err_id(asc_err(ASC_EIO, "writing standard output: %s", strerror(errno)),
				 "E-OUTPUT");
	return err ? asc_status_join(status > 1 ? status : 0, asc_report_error(c, err)) : status;
}

static int run_with_output(struct asc_cli *c, int argc, char **words)
{
	struct asc_output *file = NULL;

	if (c->output) {
		struct asc_error *err = asc_output_open(c->output, &file, &c->out);
		if (err)
			return asc_report_error(c, err);
	} else if (c->out_closed) {
		return asc_report_error(
			c, asc_err_id(asc_err(ASC_EIO, "standard output is closed"), "E-OUTPUT"));
	}
	struct asc_error *err = asc_stream_new(c->out, &c->stream);
	if (err)
		return asc_report_error(c, err);
	int status = run(c, argc, words);
	asc_stream_end(c->stream);
	c->stream = NULL;
	asc_cli_drop_session(c);
	if (asc_signal_pending())
		status = 128 + asc_signal_pending();
	return finish_output(c, file, status);
}

int main(int argc, char **argv)
{
	struct asc_cli c = { .out_closed = fill_standard_fds() };
	char **words = NULL;
	int nwords = 0, status;

	setlocale(LC_ALL, "");
	setlocale(LC_NUMERIC, "C"); /* nothing depends on the locale's decimal point */
	asc_signals_init();
	defaults(&c);
	struct asc_error *err = asc_options_parse(&c, argc, argv, &nwords, &words);
	settle(&c);
	if (err) {
		status = asc_report_error(&c, err);
	} else if (!nwords && !c.batch_items.len && !c.so.pid && !c.so.core) {
		asc_print_intro(stdout);
		status = fflush(stdout) && errno != EPIPE ? 74 : 0;
	} else {
		status = run_with_output(&c, nwords, words);
	}
	asc_vec_free(&c.batch_items);
	free(c.core);
	if (status == 141) {
		/* as every filter ends whose reader is gone */
		signal(SIGPIPE, SIG_DFL);
		raise(SIGPIPE);
	}
	return status;
}
