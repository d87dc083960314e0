/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Ctrl-C ends what runs, never the target. */
#ifndef ASC_CLI_SIGNALS_H
#define ASC_CLI_SIGNALS_H

#include "commands/session.h"

/* SIGINT sets a flag that asc_interrupted() reports; a second one within a command ends the tool. */
void asc_signals_init(void);
void asc_interrupt_clear(void);
/* Signal that asked the tool to end (SIGTERM, SIGHUP), or 0. */
int asc_signal_pending(void);

#endif
