/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "child.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void child_main(int from, int to, size_t len, void (*fill)(char *area),
		       void (*obey)(int from, int to, char *area))
{
	char *area = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		_exit(1);
	fill(area);
	if (write(to, &area, sizeof(area)) != sizeof(area))
		_exit(1);
	obey(from, to, area);
	_exit(0);
}

bool child_begin(struct child *c, size_t len, void (*fill)(char *area),
		 void (*obey)(int from, int to, char *area))
{
	int down[2], up[2];
	struct asc_error *err;

	*c = (struct child){ 0 };
	if (pipe(down) || pipe(up))
		return false;
	c->pid = fork();
	if (c->pid < 0)
		return false;
	if (!c->pid) {
		close(down[1]); /* its end is the parent's */
		close(up[0]);
		child_main(down[0], up[1], len, fill, obey);
	}
	close(down[0]);
	close(up[1]);
	c->to = down[1];
	c->from = up[0];
	if (read(c->from, &c->area, sizeof(c->area)) != sizeof(c->area))
		return false;
	err = asc_live_open(c->pid, NULL, &c->live);
	if (!err)
		return true;
	asc_error_free(err);
	return false;
}

void child_end(struct child *c)
{
	asc_target_close(c->live);
	close(c->to);
	close(c->from);
	waitpid(c->pid, NULL, 0);
}
