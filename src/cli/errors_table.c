// SPDX-License-Identifier: GPL-3.0-or-later
/* What `help E-YAMA` says offline. arenascope-errors(7) has the same words; a test compares. */
#include "cli/cli.h"

/* Sorted by code within errors and within warnings. */
const struct asc_error_help asc_error_helps[] = {
	{ "E-AGAIN", 75, "try again",
	  "Something was in the way that passes by itself: a lock was held, the process was "
	  "exiting, "
	  "the kernel had no room.",
	  "run it again; in scripts exit status 75 is the one to repeat on" },
	{ "E-ALLOCATOR", 69, "the program's malloc is not glibc's",
	  "jemalloc, tcmalloc, mimalloc or another library answers malloc in this process, so "
	  "glibc's "
	  "arenas do not describe its heap. The message says which library, and how much of RSS "
	  "glibc's own arenas hold all the same.",
	  "rss, threads and stacks work; --force shows glibc's arenas" },
	{ "E-APPARMOR", 77, "AppArmor forbids it",
	  "A profile of the tool or of the target does not allow ptrace between the two.",
	  "run unconfined, or allow ptrace (read, trace) in the profile" },
	{ "E-ARCH", 69, "a CPU that is not known, or not for this command",
	  "Cores and processes of x86-64, i386 and aarch64 are read. trim, reclaim and tune run "
	  "code in "
	  "the target and need the CPU that this build was made for.",
	  "analyse a core on another machine; act with a build for the target's CPU" },
	{ "E-ARENA", 2, "no such arena", "Arenas are numbered from 0 as malloc_info numbers them.",
	  "arenas   lists them" },
	{ "E-BUG", 70, "a bug in arenascope",
	  "Something that cannot happen did. Nothing of the target "
	  "was changed by it.",
	  "report it with the command, the message and the libc's build-id" },
	{ "E-BUILDID", 78, "the file given is not the target's libc",
	  "The file of --libc has another build-id than the libc that was mapped; both are named.",
	  "the libc of the system where the process ran; --root=DIR for a copy of its files" },
	{ "E-BUSY", 75, "malloc is in the middle of something",
	  "An arena's lock is held, or a thread stands inside malloc, at every look. trim, reclaim "
	  "and "
	  "tune do not start then.",
	  "--wait=30s tries longer; stuck says who holds the lock" },
	{ "E-CAP", 77, "CAP_SYS_PTRACE is missing",
	  "In a container root has no CAP_SYS_PTRACE unless it was given. The message names the "
	  "missing "
	  "bit of the capability set.",
	  "docker run --cap-add=SYS_PTRACE; kubectl debug --profile=general; or the pid on the "
	  "host" },
	{ "E-COMMAND", 64, "no such command",
	  "On the command line and in scripts commands are written "
	  "out; the REPL takes unique prefixes.",
	  "help   lists the commands" },
	{ "E-CONSENT", 64, "a change needs --yes",
	  "trim, reclaim and tune run code in the target; they "
	  "do so only when told.",
	  "-n predicts without changing anything" },
	{ "E-CORE", 64, "a core file cannot be changed",
	  "trim, reclaim and tune need a live process. "
	  "With -n trim and reclaim predict on a core too.",
	  0 },
	{ "E-CORRUPT", 2, "the heap is damaged",
	  "malloc's own structures contradict each other. Calling into such an allocator could end "
	  "the "
	  "process, so nothing was done.",
	  "check   names every place; --force goes on" },
	{ "E-CPU", 69, "the process runs on another CPU type",
	  "Its registers have a shape that this "
	  "build does not know.",
	  "use a build for that CPU" },
	{ "E-EMULATED", 69, "an emulated process",
	  "The process is inside qemu-user or the like: its "
	  "memory is the emulator's, not a glibc heap of its own.",
	  0 },
	{ "E-EXEC", 75, "the process started another program",
	  "It called execve while it was being read; "
	  "everything known of it was of the program before.",
	  "run it again" },
	{ "E-EXECMEM", 69, "no executable memory allowed",
	  "SELinux, seccomp or a prctl forbids executable "
	  "mappings in the target, which reclaim's routine needs.",
	  "trim needs none" },
	{ "E-EXITED", 66, "the process has ended", "It ended before or during the command.", 0 },
	{ "E-FAILED", 2, "it failed", "The message says what and why.", 0 },
	{ "E-FAULT", 2, "an address that cannot be read",
	  "The address is not mapped, or its page cannot "
	  "be had (a guard page, a hole in a core).",
	  0 },
	{ "E-FORK", 69, "a copy-on-write child would be unsafe",
	  "--capture=fork makes a child of the target; every page that the target writes while it "
	  "lives is copied. Refused where memory, a control group or a limit of processes leaves "
	  "no "
	  "room for that, with locked, pinned or hugetlb memory, userfaultfd, and where the child "
	  "would be left to the target.",
	  "--capture=copy or --capture=optimistic" },
	{ "E-GADGET", 69, "no place to run a call from",
	  "The code that trim, reclaim and tune need to find "
	  "in the target was not found.",
	  0 },
	{ "E-GONE", 75, "the process went away while it was read",
	  "It ended or was killed. In the REPL "
	  "what was read before stays.",
	  0 },
	{ "E-HIDDEN", 66, "the process may be hidden",
	  "/proc is mounted with hidepid, so other users' "
	  "processes do not show.",
	  "sudo arenascope ..." },
	{ "E-INPUT", 65, "bad input", "The file is damaged past use. The message says where.", 0 },
	{ "E-INTERRUPTED", 130, "Ctrl-C", "The command was ended by the user. The target runs on.",
	  0 },
	{ "E-KTHREAD", 66, "a kernel thread", "Kernel threads have no heap.", 0 },
	{ "E-MEMORY", 2, "not enough memory", "Of this machine, or of --max-memory.",
	  "--max-memory=BYTES; report and arenas need far less than chunks" },
	{ "E-MUSL", 69, "another C library", "The process uses musl, so there are no glibc arenas.",
	  "rss, threads and stacks work" },
	{ "E-NODUMP", 77, "the process does not allow it",
	  "It is not dumpable: set-uid, set-gid, file "
	  "capabilities, or prctl(PR_SET_DUMPABLE, 0).",
	  "sudo arenascope ..." },
	{ "E-NOFUNC", 78, "the function was not found",
	  "malloc_trim or mallopt was not found in the "
	  "target's libc.",
	  "symbols   says what was tried" },
	{ "E-NOGLIBC", 69, "no glibc malloc in this process",
	  "It is static without glibc, or not a C "
	  "program at all.",
	  "rss, threads and stacks work" },
	{ "E-NOPROC", 66, "no such process",
	  "There is no process of this id (in this pid namespace).",
	  "ps -e; in a container use the pid as the host sees it" },
	{ "E-NOSTOP", 75, "it could not be stopped",
	  "With --no-stop nothing that needs a stop can be done; "
	  "else its threads slept uninterruptibly in the kernel.",
	  "try again; --no-stop reads without" },
	{ "E-NOSYM", 78, "libc's malloc was not found",
	  "Neither symbols, nor the built-in layout table, nor a scan of libc's data gave an "
	  "answer that "
	  "passed the checks.",
	  "install libc6-dbg of the TARGET's distribution; symbols says what was tried" },
	{ "E-NOTARGET", 66, "no such process or file", "The message says which.", 0 },
	{ "E-NOTCORE", 65, "not a core file",
	  "The message says what the file is instead: an executable, an "
	  "archive, text.",
	  "-c takes the core, -e the executable" },
	{ "E-NOTFOUND", 2, "not found", "What was asked for is not there.", 0 },
	{ "E-OUTPUT", 74, "the output could not be written",
	  "A full disk, a closed standard output, no "
	  "permission. With -o the old file stays as it was.",
	  0 },
	{ "E-PAUSE", 75, "the pause would exceed --max-pause",
	  "The estimate is 25 us a thread plus the bytes to copy at 5 GB/s. Nothing was stopped, "
	  "or it was "
	  "let go at once.",
	  "--max-pause=2s; report, rss, arenas and bins read the free lists only; --no-stop" },
	{ "E-PERM", 77, "not permitted", "The kernel refused, for a reason that could not be told.",
	  "sudo arenascope ..." },
	{ "E-SCRIPT", 66, "the script could not be run",
	  "It could not be read, or one of its lines failed.",
	  "--keep-going goes on after a failed line" },
	{ "E-SECCOMP", 77, "a seccomp filter forbids it",
	  "The tool's own filter forbids ptrace (containers), "
	  "or the target's filter forbids the calls that trim or reclaim make in it.",
	  "docker run --security-opt seccomp=unconfined for the tool" },
	{ "E-SELF", 66, "arenascope itself", "It cannot stop itself.", 0 },
	{ "E-SELINUX", 77, "SELinux forbids it",
	  "The boolean deny_ptrace, or the domains of the two.",
	  "setsebool deny_ptrace 0, until the next boot" },
	{ "E-STOPPER", 2, "the helper that stops the target ended early",
	  "The target was released by that.", "try again" },
	{ "E-SYMBOLS", 78, "no usable symbols or layout", "See E-NOSYM.", 0 },
	{ "E-THREAD", 69, "no thread can be borrowed",
	  "trim, reclaim and tune need a thread that can be "
	  "borrowed safely, and none was found.",
	  "--wait=30s" },
	{ "E-TID", 66, "a thread's id", "It is the id of a thread; the message names its process.",
	  0 },
	{ "E-TRACED", 77, "already traced",
	  "A process has one tracer at a time: a debugger, strace. The "
	  "message names it.",
	  "end that one, or read a core: gcore PID" },
	{ "E-TRUNCATED", 65, "the core ends too early",
	  "Not even its tables are whole. Cores that are cut "
	  "later are read as far as they go.",
	  "ulimit -c unlimited; ProcessSizeMax and ExternalSizeMax of systemd-coredump" },
	{ "E-UID", 77, "another user's process", "The message names both users.",
	  "sudo arenascope ..." },
	{ "E-UNSUPPORTED", 69, "not supported", "The message says what.", 0 },
	{ "E-USAGE", 64, "wrong arguments",
	  "The message says which; the usage line is the command's.", 0 },
	{ "E-USERNS", 77, "another user namespace",
	  "The process is in a user namespace in which the tool "
	  "has no capability.",
	  "run the tool as root of the host" },
	{ "E-WRONGLIBC", 78, "a file of another libc",
	  "The file found or given has another build-id than the libc that was mapped. The host's "
	  "libc is "
	  "never assumed to be the target's.",
	  "--libc=FILE, --root=DIR with the files of that machine" },
	{ "E-YAMA", 77, "Yama forbids it",
	  "kernel.yama.ptrace_scope is 1 or more: 0 lets a user attach to all own processes, 1 "
	  "only to "
	  "children, 2 only root, 3 nobody.",
	  "sudo arenascope ...; sysctl kernel.yama.ptrace_scope=0 opens it to every process of "
	  "every user" },
	{ "E-ZOMBIE", 66, "a zombie",
	  "The process has exited; its parent has not asked for its status. "
	  "Its memory is gone.",
	  0 },

	{ "W-APPROXIMATE", 0, "resident bytes are of another moment",
	  "Asking which pages are in memory takes 12 ms a GB. With --capture=optimistic that is "
	  "too "
	  "long for a stop: it is asked right after it, while the target runs. The ledger's lines "
	  "add up to the pages of then; kernel_rss_bytes is what the kernel counted in the stop, "
	  "and the two are not held against each other.",
	  "--capture=copy, --capture=fork" },
	{ "W-BUSY", 1, "malloc was busy at every stop",
	  "The arenas concerned were in the middle of an "
	  "operation; their lists may not add up.",
	  "--wait; stuck" },
	{ "W-CORE-PAGES", 0, "resident as a core shows it",
	  "Pages that the core holds and that are not all "
	  "zero count as resident.",
	  0 },
	{ "W-CORRUPT", 1, "the heap is damaged", "Some invariants are violated.", "check" },
	{ "W-DAMAGED", 1, "the compressed core is damaged",
	  "All of it came out, but its checksum says that it is not what was packed, or it ends "
	  "within that: any number may be wrong.",
	  "copy it again from where it was made" },
	{ "W-DSTATE", 0, "threads that did not come to their stop in time",
	  "In uninterruptible sleep, or without a CPU; they cannot "
	  "run user code before they see the stop.",
	  0 },
	{ "W-ENVIRON", 0, "the environment could not be read",
	  "GLIBC_TUNABLES and MALLOC_ variables are unknown.", 0 },
	{ "W-FINDINGS", 1, "more findings than are kept", "The rest was counted only.", 0 },
	{ "W-FROZEN", 0, "the target is in a frozen cgroup",
	  "docker pause and the cgroup freezer keep every thread from running. Its memory is read "
	  "as it is; stuck cannot tell waiting from progress.",
	  "docker unpause; or write to the file that the message names" },
	{ "W-LAYOUT", 0, "libc's layout is not from its debug file",
	  "It is from the built-in table or from a scan, and was checked against invariants.",
	  "install libc6-dbg of the target's distribution" },
	{ "W-LIBC", 1, "a further libc could not be read",
	  "dlmopen gives a process several; this one is not "
	  "shown.",
	  0 },
	{ "W-MEMORY", 1, "not enough memory for a part of the output", "The message says which.",
	  0 },
	{ "W-NO-CHECK", 0, "not checked against the kernel's Rss",
	  "The kernel's number could not be read.", 0 },
	{ "W-NO-HEAP", 0, "no glibc heap", "Everything that needs one is left out.", 0 },
	{ "W-NO-STOP", 0, "read while it ran", "The parts may be of different moments (--no-stop).",
	  0 },
	{ "W-NOWALK", 0, "live chunks were not counted",
	  "The copy would not have fitted --max-pause.", "--max-pause=2s" },
	{ "W-PAGEMAP", 1, "which pages are in memory is unknown",
	  "/proc/PID/pagemap could not be read. Resident columns are unknown; what trim would "
	  "return is an "
	  "upper bound.",
	  "sudo" },
	{ "W-PAUSE", 0, "the target was stopped for longer than --max-pause",
	  "The estimate before the stop was too low, or the machine was busy. After four times "
	  "--max-pause the target is let go in any case.",
	  0 },
	{ "W-RELEASE", 1, "which release of glibc it is is not known",
	  "No file of the target's libc is there, and several releases have what memory shows. "
	  "malloc_info's text is that of one of them: before 2.31 blanks are others, and the "
	  "tops are not counted in \"rest\".",
	  "--root, --libc" },
	{ "W-RSS", 1, "the lines do not add up to the kernel's Rss",
	  "Something moved between two readings.", 0 },
	{ "W-RUNNING", 1, "the call did not return in time",
	  "The borrowed thread is still in it, where the message says. It finishes the call and "
	  "restores itself; nothing was killed, and no other thread is stopped.",
	  "stuck; --call-timeout" },
	{ "W-SMAPS", 0, "the kernel's own Rss is unknown",
	  "/proc/PID/smaps_rollup could not be read: nothing to compare the lines' sum with.",
	  "sudo" },
	{ "W-TCACHE", 1, "tcaches were not found",
	  "Without symbols, or without the threads' registers, a thread's tcache is not always "
	  "found. "
	  "Its chunks look in use and are counted so; cached is unknown.",
	  "install libc6-dbg of the target's distribution" },
	{ "W-TRUNCATED", 1, "the core is cut", "What was cut off is missing from every number.",
	  0 },
	{ "W-UNVERIFIED", 1, "parts were read while it ran",
	  "--capture=optimistic: these bytes were not read in the stop, and were not the same "
	  "before "
	  "and after it. What is on them may be of another moment: it is not proven, and findings "
	  "there are no damage.",
	  "run it again, --capture=copy, --capture=fork" },
	{ "W-WATCHDOG", 1, "the target was let go early",
	  "Reading took four times --max-pause; the rest was "
	  "read while it ran.",
	  "--max-pause=2s" },
	{ 0 },
};
