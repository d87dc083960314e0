// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Signals only set flags: loops look at them, and the target is released on the ordinary way out.
 * Should the tool hang all the same, the third Ctrl-C ends it, and its stopper lets the target go; not
 * three in a moment, though: that is a key held down at the prompt.
 */
#include "cli/signals.h"

#include <signal.h>
#include <stddef.h>
#include <time.h>

enum { PATIENCE_MS = 1000 };

/* The only mutable globals of the program. */
static volatile sig_atomic_t interrupts, ending, first_ms;

/* Wraps around after some days, which a difference does not mind. */
static int now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int)((ts.tv_sec % 1000000) * 1000 + ts.tv_nsec / 1000000);
}

static void on_signal(int sig)
{
	if (sig != SIGINT)
		ending = sig;
	if (!interrupts)
		first_ms = now_ms();
	interrupts = interrupts + 1;
	if (interrupts >= 3 && now_ms() - first_ms >= PATIENCE_MS) {
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
