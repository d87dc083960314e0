// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Signals only set flags: loops look at them, and the target is released on the ordinary way out.
 * Should the tool hang all the same, the third Ctrl-C ends it, and its stopper lets the target go.
 */
#include "cli/signals.h"

#include <signal.h>
#include <stddef.h>

/* The only mutable globals of the program. */
static volatile sig_atomic_t interrupts, ending;

static void on_signal(int sig)
{
	if (sig != SIGINT)
		ending = sig;
	interrupts = interrupts + 1;
	if (interrupts >= 3) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
}

void asc_signals_init(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	/* no SA_RESTART: a read that waits for input must end */
	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	/* write errors are seen where they happen */
	signal(SIGPIPE, SIG_IGN);
}

void asc_interrupt_clear(void)
{
	interrupts = 0;
}

int asc_signal_pending(void)
{
	return ending;
}

bool asc_interrupted(void)
{
	return interrupts != 0;
}
