/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The helper: a copy of the tool that traces for one action and exits. Its exit detaches whatever
 * it still holds, so no death of tool or helper leaves the target stopped. It outlives the tool if
 * the tool dies first, puts everything back and goes.
 */
#include "act/inject.h"

#if ASC_CAN_INJECT
#include <errno.h>
#include <fcntl.h>
#include <linux/ptrace.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/num.h"

enum { TICK_MS = 20, LOOK_MS = 100, SEIZE_MS = 1000 };

void asc_act_fault(const struct asc_op *op, unsigned n)
{
	if (!op->fault || op->fault != n)
		return;
	kill(op->tool, SIGKILL);
	kill(getpid(), SIGKILL);
}

static void copy(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from ? from : "");
}

/* An error crosses over as text; ids are static, and the helper is a copy of the tool. */
static void put_error(struct asc_shared *sh, struct asc_error *err)
{
	ASC_AUTO(asc_freep) char *text = asc_error_text(err);

	sh->failed = true;
	sh->code = err->code;
	sh->id = asc_error_id(err);
	copy(sh->msg, sizeof(sh->msg), text);
	copy(sh->why, sizeof(sh->why), asc_error_why(err));
	copy(sh->hint, sizeof(sh->hint), asc_error_hint(err));
	asc_error_free(err);
}

static struct asc_error *take_error(const struct asc_shared *sh)
{
	struct asc_error *err;

	if (!sh->failed)
		return NULL;
	/* its errno is in the text already */
	err = asc_err(sh->code == ASC_EOS ? ASC_EOTHER : sh->code, "%s", sh->msg);
	if (sh->id)
		asc_err_id(err, sh->id);
	if (sh->why[0])
		asc_err_why(err, "%s", sh->why);
	if (sh->hint[0])
		asc_err_try(err, "%s", sh->hint);
	return err;
}

static _Noreturn void helper(struct asc_op *op, struct asc_error *(*fn)(struct asc_op *op))
{
	static const int ignored[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE, SIGTSTP, SIGTTOU };
	struct asc_error *err;
	sigset_t chld;

	/* out of reach of the terminal; see settle() of target/stopper_helper.c */
	setpgid(0, 0);
	/* the target waits for us, so nobody else should */
	setpriority(PRIO_PROCESS, 0, -20);
	for (size_t i = 0; i < ASC_ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	/* never delivered, but waited for */
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_SETMASK, &chld, NULL);
	err = fn(op);
	if (err)
		put_error(op->sh, err);
	atomic_store(&op->sh->stage, ASC_STAGE_END);
	_exit(0);
}

static const char *stage_text(int stage)
{
	switch (stage) {
	case ASC_STAGE_WAITING:
		return "waiting until malloc is at rest";
	case ASC_STAGE_RUNNING:
		return "running in the target";
	default:
		return "attaching";
	}
}

/*
 * Does it sleep in PTRACE_SEIZE? Then the target is in an exec, which waits for its other threads to be gone, of which
 * one that is traced already is not until its tracer has seen it: each waits for the other, but for a SIGKILL.
 */
static bool seizes(pid_t helper)
{
	char path[64], text[128];
	long nr = -1, request = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/syscall", helper);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return false;
	text[n] = 0;
	return sscanf(text, "%ld %lx", &nr, &request) == 2 && nr == SYS_ptrace &&
	       request == PTRACE_SEIZE;
}

bool asc_helper_stuck(struct asc_seize_watch *w, pid_t helper)
{
	const double t = asc_act_now();

	if (w->looked > 0 && t - w->looked < LOOK_MS)
		return w->stuck;
	w->looked = t;
	if (w->free_at <= 0 || !seizes(helper))
		w->free_at = t;
	w->stuck = w->stuck || t - w->free_at > SEIZE_MS;
	if (w->stuck)
		kill(helper, SIGKILL);
	return w->stuck;
}

static struct asc_error *watch(struct asc_op *op, pid_t child)
{
	const struct asc_act_ctx *c = op->c;
	struct asc_seize_watch seize = { 0 };
	double began = asc_act_now();
	int status;

	for (;;) {
		struct timespec tick = { 0, TICK_MS * 1000000 / 10 };
		pid_t p = waitpid(child, &status, WNOHANG);

		if (p == child)
			break;
		if (p < 0 && errno != EINTR)
			return asc_err_os(errno, "the helper process");
		nanosleep(&tick, NULL);
		asc_helper_stuck(&seize, child);
		if (c->progress && !atomic_load(&op->sh->cancel) &&
		    !c->progress(c->arg, stage_text(atomic_load(&op->sh->stage)),
				 asc_act_now() - began))
			atomic_store(&op->sh->cancel, 1);
	}
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return take_error(op->sh);
	if (seize.stuck && atomic_load(&op->sh->stage) != ASC_STAGE_RUNNING)
		return asc_err_id(asc_err(ASC_EAGAIN,
					  "process %d could not be stopped: it is replacing its "
					  "program (exec)",
					  op->pid),
				  "E-NOSTOP");
	if (atomic_load(&op->sh->stage) == ASC_STAGE_RUNNING) {
		op->sh->result.outcome = ASC_ACT_RUNNING;
		copy(op->sh->result.note, sizeof(op->sh->result.note),
		     "the helper process was killed; the call finishes and restores its thread by "
		     "itself");
		return NULL;
	}
	return asc_err_why(asc_err(ASC_EAGAIN, "the helper process died before anything was done"),
			   "it ended with %s %d", WIFSIGNALED(status) ? "signal" : "status",
			   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

struct asc_error *asc_helper_start(struct asc_op *op, struct asc_error *(*fn)(struct asc_op *op),
				   pid_t *ret_helper)
{
	struct asc_error *err;
	pid_t child;

	op->sh = mmap(NULL, sizeof(*op->sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (op->sh == MAP_FAILED)
		return asc_err(ASC_ENOMEM, "memory shared with the helper process");
	op->tool = getpid();
	op->fault = asc_fault_number("inject");
	fflush(NULL);
	child = fork();
	if (child == 0)
		helper(op, fn);
	if (child < 0) {
		err = asc_err_os(errno, "cannot start the helper process");
		munmap(op->sh, sizeof(*op->sh));
		op->sh = NULL;
		return err;
	}
	*ret_helper = child;
	return NULL;
}

struct asc_error *asc_helper_end(struct asc_op *op, pid_t helper, struct asc_act_result *ret)
{
	struct asc_error *err = watch(op, helper);

	*ret = op->sh->result;
	munmap(op->sh, sizeof(*op->sh));
	op->sh = NULL;
	return err;
}

struct asc_error *asc_helper_run(struct asc_op *op, struct asc_error *(*fn)(struct asc_op *op),
				 struct asc_act_result *ret)
{
	pid_t child = 0;

	ASC_TRY(asc_helper_start(op, fn, &child));
	return asc_helper_end(op, child, ret);
}
#endif
