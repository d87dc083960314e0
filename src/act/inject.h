/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The parts of an action, in the order in which they are used:
 *
 *   helper.c    a short-lived process that traces; its end, however it comes, detaches everything
 *   gadgets.c   instructions that are there already; nothing is ever written to the target's text
 *   stop.c      all threads stopped, and let go again without an EINTR that they would notice
 *   preflight.c is malloc in the middle of something?
 *   choose.c    which thread can lend itself
 *   frame.c     the self-restoring frame
 *   inject.c    arm it, run it, put everything back
 *   repair.c    after a crash: the arena lock that was left
 *
 * x86-64 only: elsewhere asc_act_*() refuse.
 */
#ifndef ASC_ACT_INJECT_H
#define ASC_ACT_INJECT_H

#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "act/act.h"
#include "act/routine/par.h"

#if defined(__x86_64__)
#include <sys/user.h>
#define ASC_CAN_INJECT 1

enum {
	ASC_XSTATE_MAX = 16384,
	ASC_RED_ZONE = 128,
	ASC_STACK_ROOM = 16 * 1024, /* below the frame, for the call itself */
	ASC_SIGRETURNS_MAX = 16,
	ASC_FILLER_MAX = 6,
	ASC_CHAIN_MAX = 40,
	ASC_FRAME_MAX = ASC_XSTATE_MAX + 4096,
};

/* Instructions by address; 0: not found. */
struct asc_gadgets {
	asc_addr syscall; /* syscall; ret */
	asc_addr pop_rdi, pop_rsi, pop_rax;
	asc_addr sigreturn;   /* mov $15,%rax; syscall */
	asc_addr store;	      /* mov %rax,(%rbx); pops and adds; ret */
	unsigned store_words; /* that many words go between store and its return */
	/* every place that a signal handler may return to */
	asc_addr sigreturns[ASC_SIGRETURNS_MAX];
	size_t nsigreturns;
};

/* What T is, as saved. Everything that is not in here is not changed by the call. */
struct asc_saved {
	struct user_regs_struct found; /* -EINTR of an interrupted call already replaced */
	struct user_regs_struct
		converted; /* the same without the kernel's help: the call begins anew */
	uint8_t xstate[ASC_XSTATE_MAX];
	size_t xstate_len;
	uint64_t mask;
	asc_addr errno_addr; /* 0 unknown */
	uint32_t errno_value;
};

/* Addresses within the frame on T's stack. */
struct asc_act_frame {
	asc_addr lo; /* first byte written */
	size_t len;
	asc_addr entry; /* stack pointer at the entry of the function: the return address stands
			   here */
	asc_addr after_store;  /* the same, past the store gadget */
	asc_addr stop1, stop2; /* stack pointers at the self-signals; stop2 0: only one */
	asc_addr munmap;       /* stack pointer at the munmap part, its instruction is pop_rdi */
	asc_addr map_word;     /* munmap's argument: the mapping, or ~0; fork: wait4's, the child */
	asc_addr result, par;
	uint8_t bytes[ASC_FRAME_MAX];
};

struct asc_frame_in {
	const struct asc_gadgets *g;
	const struct asc_saved *s;
	int sig;
	pid_t ns_tid;	  /* T's id in its own pid namespace */
	uint64_t map_len; /* 0: a plain call, no mapping to undo */
	bool fork;	  /* the chain's middle waits for a child instead of undoing a mapping */
};

/* Frames are pure: bytes from what was saved. ASC_EBUG if it does not fit. */
ASC_MUST struct asc_error *asc_frame_build(const struct asc_frame_in *in,
					   struct asc_act_frame *ret);
/* Bytes below the stack pointer that frame and call need: with AMX tiles 8 KiB more. */
uint64_t asc_frame_need(const struct asc_saved *s);
/* Registers without the kernel's help to restart the interrupted system call @p nr. */
void asc_frame_convert(const struct user_regs_struct *found, int64_t nr,
		       struct user_regs_struct *ret);

ASC_MUST struct asc_error *asc_gadgets_find(const struct asc_act_ctx *c, struct asc_gadgets *ret);
/* Find them in @p bytes, loaded at @p addr; what was found before is kept. */
void asc_gadgets_scan(const uint8_t *bytes, size_t len, asc_addr addr, struct asc_gadgets *g);
bool asc_gadgets_complete(const struct asc_gadgets *g);

/* ---- all threads ---- */

enum asc_halt_state {
	ASC_HALT_SEIZED,
	ASC_HALT_STOPPED,
	ASC_HALT_LATE, /* did not stop in time: cannot run an instruction of its own before it does */
	ASC_HALT_GONE,
};

struct asc_halted {
	pid_t tid;
	enum asc_halt_state state;
	bool known; /* registers were read */
	bool keep;  /* stays when asc_halt_thin() lets the others go */
	struct user_regs_struct regs;
};

struct asc_halt {
	pid_t pid;
	struct asc_halted *v;
	size_t n, cap;
	double since; /* ms: first interrupt */
	double ms;    /* of all stops together */
};

/* Seize and stop. On an error nothing is left stopped. */
ASC_MUST struct asc_error *asc_halt_all(struct asc_halt *h);
/* Only this one. */
ASC_MUST struct asc_error *asc_halt_one(struct asc_halt *h, pid_t tid);
/* Let go all but @p keep (0: none); late ones remain. */
void asc_halt_release(struct asc_halt *h, pid_t keep);
/* Let go all that are not marked. The stop of the process ends here. */
void asc_halt_thin(struct asc_halt *h);
/* A late one stopped meanwhile: let it go. @return true if @p tid was one of them */
bool asc_halt_late(struct asc_halt *h, pid_t tid, int status);
/* The same where the others are to stay stopped: held as they are. */
bool asc_halt_hold(struct asc_halt *h, pid_t tid, int status);
/* Before the end: those that were asked to stop and did not yet. Let go now, they would see EINTR. */
void asc_halt_settle(struct asc_halt *h);
struct asc_halted *asc_halt_find(struct asc_halt *h, pid_t tid);
void asc_halt_free(struct asc_halt *h);
/* -EINTR that the application would see only because of us, made a restart. @return true: changed */
bool asc_halt_hide_eintr(pid_t tid, struct user_regs_struct *regs);

/* ---- one action ---- */

/* Between the tool and the helper; a shared mapping. */
struct asc_shared {
	_Atomic int cancel; /* the user does not want to wait any longer */
	_Atomic int stage;  /* enum asc_stage */
	struct asc_act_result result;
	bool failed;
	enum asc_errc code;
	int os_errno;
	const char *id; /* static text: the helper is a copy of the tool */
	char msg[512], why[512], hint[512];
};

enum asc_stage { ASC_STAGE_START, ASC_STAGE_WAITING, ASC_STAGE_RUNNING, ASC_STAGE_END };

/* Everything that is decided before the target is stopped. */
struct asc_op {
	const struct asc_act_ctx *c;
	struct asc_shared *sh;
	pid_t pid;
	pid_t tool;
	unsigned fault; /* ARENASCOPE_FAULT=inject:N */
	struct asc_gadgets g;
	asc_addr *arenas;
	size_t narenas;
	asc_addr malloc_lo, malloc_hi; /* malloc's functions */
	asc_addr ld_lo, ld_hi, libc_lo, libc_hi;
	uint64_t errno_off;
	bool errno_known;
	bool watched; /* a thread of it may serve a userfaultfd */
	/* a call */
	const char *name;
	asc_addr function;
	uint64_t args[2];
	/* or a child */
	struct asc_fork_shared *fork;
	/* or the routine */
	bool reclaim;
	struct asc_rt_par par;
	size_t code_len;
	const uint8_t *code;
	struct asc_range *skips;
	size_t nskips;
	bool hugetlb; /* some of its private memory is in hugetlb pages */
	uint64_t slots;
};

/* T, borrowed. Only in the helper. */
struct asc_borrow {
	const struct asc_op *op;
	struct asc_halt halt; /* T and the others */
	pid_t tid, ns_tid;
	int mem;
	int sig;
	bool armed, masked, seccomp_suspended, back;
	bool filtered; /* T has a seccomp filter */
	bool single;   /* the target has no other thread */
	bool all;      /* everything was stopped, not only T */
	bool stopping; /* the user's wish to end it is known */
	bool thorough; /* look at every thread while all are stopped: the first few were no good */
	bool resend;   /* a real one of the marker's kind came: it is sent again at the end */
	bool keep;     /* the others stay stopped when T starts; asc_fork_*() lets them go */
	unsigned tries;
	size_t sleepers; /* that were looked at, if no other could be borrowed */
	double since;	 /* ms: T was stopped */
	struct asc_saved s;
	struct asc_act_frame f;
};

double asc_act_now(void);					/* ms */
long asc_pt(int request, pid_t tid, uint64_t addr, void *data); /* ptrace(2) */
/* Fault point @p n: tool and helper die. */
void asc_act_fault(const struct asc_op *op, unsigned n);
/* What was seen of a helper that may wait for an exec of the target, and it for the helper, for good. */
struct asc_seize_watch {
	double looked, free_at;
	bool stuck;
};
/* Look now and then. @return true: it was stuck for a second, and has been killed, which ends that */
bool asc_helper_stuck(struct asc_seize_watch *w, pid_t helper);
/* Start @p fn(op) in the helper: it and the tool share op->sh. End with asc_helper_end(). */
ASC_MUST struct asc_error *asc_helper_start(struct asc_op *op,
					    struct asc_error *(*fn)(struct asc_op *op),
					    pid_t *ret_helper);
/* Wait for its end. @p ret is written even on errors: what was found. */
ASC_MUST struct asc_error *asc_helper_end(struct asc_op *op, pid_t helper,
					  struct asc_act_result *ret);
/* Run @p fn(op) in the helper and wait for it. @p ret is written even on errors: what was found. */
ASC_MUST struct asc_error *asc_helper_run(struct asc_op *op,
					  struct asc_error *(*fn)(struct asc_op *op),
					  struct asc_act_result *ret);

/* Is malloc busy? All threads stopped. @p ret_arena, @p ret_tid: 0 if it is not that. */
bool asc_preflight_busy(const struct asc_op *op, struct asc_halt *h, asc_addr *ret_arena,
			pid_t *ret_tid);
/* The lock of some arena is held right now, in the running target. */
bool asc_preflight_locked(const struct asc_op *op, asc_addr *ret_arena);
/* Mark the arenas whose lock is free in the running target. @return all are marked, now or before */
bool asc_preflight_seen_free(const struct asc_op *op, bool *seen, asc_addr *ret_held);
/* Does malloc of this process take no locks? */
bool asc_preflight_lockless(const struct asc_op *op, size_t threads);
/* Is this thread, stopped in these registers, provably not inside malloc? */
bool asc_preflight_outside(const struct asc_op *op, const struct asc_halted *t, asc_addr stack_hi);
ASC_MUST struct asc_error *asc_preflight_error(const struct asc_op *op, asc_addr arena, pid_t tid,
					       unsigned tries);
/* Does it wait for something to read? Whoever serves a userfaultfd sleeps so. */
bool asc_waits_for_input(int64_t nr);
/* The kernel's id of a blocking system call that malloc never makes under a lock? */
bool asc_safe_call(const struct asc_op *op, int64_t nr, uint64_t first_arg);
/* The call that T is in, seen through restart_syscall; -1: none or unknown */
int64_t asc_real_call(pid_t tid, const struct user_regs_struct *regs);

/*
 * Choose T among the stopped threads. ASC_EUNSUPPORTED: none can; ASC_EAGAIN: none just now. The
 * others run on as soon as the few that look best are known: what is asked about those takes long.
 */
ASC_MUST struct asc_error *asc_choose(struct asc_borrow *b);
/* Candidates without stopping anything, best first. @p ret owned by the caller. @p ret_blocked:
 * every signal that some thread blocks. */
ASC_MUST struct asc_error *asc_choose_sleepers(const struct asc_op *op, pid_t **ret, size_t *ret_n);
/* Is it among x86_Thread_features of this /proc/PID/status? "shstk": a shadow stack. */
bool asc_thread_feature(const char *status, const char *name);
/* Can this stopped thread lend itself? NULL: yes, and b->tid, ns_tid, sig are set. */
ASC_MUST struct asc_error *asc_choose_check(struct asc_borrow *b, const struct asc_halted *t);

/* Would the target's filters let these system calls pass? */
struct asc_seccomp_call {
	int nr;
	uint64_t args[6];
	bool must; /* false: an error return is fine, only a kill is not */
};
ASC_MUST struct asc_error *asc_seccomp_check(pid_t tid, const struct asc_seccomp_call *calls,
					     size_t n);
struct sock_filter;
/* One classic BPF program over one seccomp_data. @return SECCOMP_RET_*, or KILL_PROCESS for a bad
 * program */
uint32_t asc_seccomp_eval(const struct sock_filter *prog, size_t len, const void *data,
			  size_t data_len);

/* ---- T's run, in steps (inject.c) ---- */
enum asc_ran { ASC_RAN, ASC_RAN_CRASH, ASC_RAN_TIMEOUT, ASC_RAN_GONE, ASC_RAN_BACK, ASC_RAN_ABORT };

/* First the extended state: how much room T needs depends on it. */
ASC_MUST struct asc_error *asc_borrow_save_xstate(struct asc_borrow *b, pid_t tid);
ASC_MUST struct asc_error *asc_borrow_save(struct asc_borrow *b, struct asc_halted *t);
/* Build and write the frame: nothing has happened yet when this fails. */
ASC_MUST struct asc_error *asc_borrow_write(struct asc_borrow *b, uint64_t map_len);
/* Where T is to go on. Anything not said is as T had it. */
struct asc_go {
	asc_addr pc, sp, store_to;
	uint64_t rax, args[6];
	bool hurry;    /* with the highest priority; the code lowers it again by itself */
	unsigned step; /* fault points step, step + 1 ... */
};
ASC_MUST struct asc_error *asc_borrow_start(struct asc_borrow *b, const struct asc_go *go);
/* Until the self-signal at @p stop. @p ret_signal: of a crash. */
enum asc_ran asc_borrow_wait(struct asc_borrow *b, asc_addr stop, double timeout_ms,
			     int *ret_signal);
/* "in madvise", "running": where T is, which was left alone. */
void asc_borrow_where(const struct asc_borrow *b, char *buf, size_t size);
/* Put everything back and let T go. @return verified */
bool asc_borrow_restore(struct asc_borrow *b);
void asc_borrow_end(struct asc_borrow *b);
/* A report of waitpid() for a thread other than T: it is held or let go, as the others are. */
void asc_borrow_other(struct asc_borrow *b, pid_t tid, int status);
bool asc_peek(const struct asc_borrow *b, asc_addr addr, void *buf, size_t len);
bool asc_poke(const struct asc_borrow *b, asc_addr addr, const void *buf, size_t len);

/* After a crash in a call: the lock of the arena that the call was in. @return true: freed */
bool asc_repair(struct asc_borrow *b, asc_addr *ret_arena);

/* A sleeper if there is one, or everything. */
ASC_MUST struct asc_error *asc_begin_any(struct asc_borrow *b);
/* The same, once every arena's lock was seen free. */
ASC_MUST struct asc_error *asc_begin_call(struct asc_borrow *b);
/* Stop everything, wait until malloc is at rest, choose, save. */
ASC_MUST struct asc_error *asc_begin_all(struct asc_borrow *b);
/* Stop only a thread that sleeps where malloc never sleeps. ASC_EAGAIN: there is none. */
ASC_MUST struct asc_error *asc_begin_sleeper(struct asc_borrow *b);

#else
#define ASC_CAN_INJECT 0
#endif

/* What every action asks first: CPU, emulators, findings. */
struct asc_op;
ASC_MUST struct asc_error *asc_op_prepare(const struct asc_act_ctx *c, int arena,
					  struct asc_op *ret);
void asc_op_deinit(struct asc_op *op);

#endif
