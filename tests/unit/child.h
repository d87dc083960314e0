/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A child that does what it is told over a pipe, and a live target that reads it. */
#ifndef TESTS_CHILD_H
#define TESTS_CHILD_H

#include <stdbool.h>

#include "arenascope/target.h"

struct child {
	pid_t pid;
	int to, from; /* orders, answers */
	char *area;   /* in the child: private anonymous memory */
	struct asc_target *live;
};

/*
 * @p fill and @p obey run in the child: on its area of @p len bytes, before begin returns; then until
 * there are no more orders to read from @p from. @return false: it could not be started or opened
 */
bool child_begin(struct child *c, size_t len, void (*fill)(char *area),
		 void (*obey)(int from, int to, char *area));
void child_end(struct child *c);

#endif
