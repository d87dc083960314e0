/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The target's environment, as far as it concerns malloc. */
#ifndef ASC_COMMANDS_ENVIRON_H
#define ASC_COMMANDS_ENVIRON_H

#include "commands/session.h"
#include "render/render.h"

/* "environment": [{"name","value"}] and lines of text; null when it cannot be read. */
void asc_put_environ(struct asc_session *s, struct asc_out *o);

#endif
