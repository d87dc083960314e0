# SPDX-License-Identifier: GPL-3.0-or-later
"""Hangs made on purpose (victims/hang.c): the verdict, live and from a core; stacks from every kind of target."""

import re
import shutil
import signal
import time

import helpers
import matrix
import pytest

# mode: verdict live, verdict in a core, what the sentence must name
HANGS = {
    "sleeps": ("blocked", "blocked", r"arena 0 lock .* sleeps in madvise .* confidence high\); 7 threads wait"),
    "handler": ("deadlock", "deadlock", r"arena 0 lock, which it holds itself: malloc in a signal handler"),
    "fork": ("orphaned", "orphaned", r"arena 0 lock .* left behind by a fork; 1 thread waits"),
    "fork-mutex": ("orphaned", "orphaned", r"mutex .* no thread of this process.*; 1 thread waits"),
    "abba": ("deadlock", "deadlock", r"waits for arena 0 lock, held by thread (\d+).*\1.* waits for mutex, held by"),
    "loop": ("loop", "loop", r"_int_malloc with arena 0 lock held: the arena's lists .* corrupt .*; 3 threads wait"),
    "loop-alone": ("loop", "loop", r"_int_malloc with arena 0 lock held: the arena's lists .* corrupt"),
    "contend": ("busy", "unclear", r"arena 0 lock .* is contended; \d+ threads? wait"),
    "loader": ("blocked", "blocked", r"loader lock .* sleeps in pause; 3 threads wait"),
    "stdio": ("blocked", "blocked", r"stdio stream lock .* sleeps in pause; 3 threads wait"),
    "convoy": ("blocked", "blocked", r"mutex .* sleeps in pause; 5 threads wait"),
    "raw-futex": ("unclear", "unclear", r"futex .* 5 threads wait"),
    "rust-condvar": ("idle", "idle", r"nothing is stuck: .* 6 wait for work, 0 run"),
    "rust-mutex": ("unclear", "unclear", r"Rust mutex .* 5 threads wait"),
    "event": ("idle", "idle", r"nothing is stuck: .* 6 wait for work, 0 run"),
    "idle": ("idle", "idle", r"nothing is stuck: .* 7 wait for work, 0 run"),
}
# the same without help from malloc: victims/stall.c; how the holder is known
STALLS = {
    "pipe-arena": ("blocked", "blocked", r"arena 0 lock .* sleeps in read .* confidence high\); 3 threads wait"),
    "dead-arena": ("orphaned", "orphaned", r"arena 0 lock .* nobody who is in this process: it has ended"),
    "dead-mutex": ("orphaned", "orphaned", r"mutex .* held by thread \d+, which is no thread of this process"),
    "rwlock-writer": ("blocked", "blocked", r"read-write lock .* sleeps in read; 4 threads wait"),
    "rwlock-reader": ("unclear", "unclear", r"read-write lock .* contended; 2 threads wait"),
    "lost-wakeup": ("idle", "idle", r"no thread waits for a lock"),
    "once": ("blocked", "blocked", r"one-time initialisation .* sleeps in read .* confidence high\); 3 threads wait"),
    "atfork": ("blocked", "blocked", r"mutex .* sleeps in read; 1 thread waits"),
    "loader-join": ("deadlock", "deadlock", r"thread (\d+).* waits for the end of thread (\d+); thread \2.* loader lock, held by thread \1"),
}
EXITS = (0, 1)  # 1: malloc was in mid-operation, so its lists may not add up: the very point


def at_rest(pid):
    """Every thread sleeps, but one that runs on the spot: on a busy machine "ready" may come before that."""
    def rests(tid):
        stat = open(f"/proc/{pid}/task/{tid}/stat").read().rpartition(")")[2].split()
        return stat[0] == "S" or int(stat[11]) + int(stat[12]) >= 20  # ticks

    def all_rest():
        switches = [helpers.status(pid, t)["voluntary_ctxt_switches"] for t in helpers.tids(pid)]
        time.sleep(0.05)
        again = [helpers.status(pid, t)["voluntary_ctxt_switches"] for t in helpers.tids(pid)]
        return switches == again and all(rests(t) for t in helpers.tids(pid))

    helpers.wait_for(all_rest, 30, "rest")


def start(victim, mode, name="hang"):
    v = victim(name, mode)
    v.line("ready")
    if mode in ("loop", "loop-alone"):
        at_rest(v.pid)
    pid = int([line for line in v.lines if line.startswith("pid ")][-1].split()[1])
    return v, pid


@pytest.mark.parametrize("mode", [*HANGS, *STALLS])
def test_verdict(victim, tmp_path, mode):
    live, dead, words = HANGS.get(mode) or STALLS[mode]
    v, pid = start(victim, mode, "hang" if mode in HANGS else "stall")
    guard = helpers.Untouched(pid)

    found = helpers.arenascope_json("-p", pid, "stuck", rc=EXITS)
    assert (found["verdict"], found["looks"]) == (live, 2), found["summary"]
    assert re.search(words, found["summary"]), found["summary"]
    text = helpers.arenascope("-p", pid, "stuck", rc=EXITS).out
    assert text.startswith(live.upper() + ":"), text  # the verdict comes first
    guard.check()

    core = helpers.gcore(pid, tmp_path / "core")
    found = helpers.arenascope_json("-c", core, "stuck", rc=EXITS)
    assert (found["verdict"], found["looks"]) == (dead, 1), found["summary"]
    assert re.search(words, found["summary"]), found["summary"]
    guard.check()
    v.close()


@pytest.mark.parametrize("mode", [*HANGS, *STALLS])
def test_verdict_of_32_bit(victim, tmp_path, mode):
    """i386 enters the kernel by the vDSO, and a handler's frame is another there. The kernel's core: gdb's has no call."""
    libc = next((l for l in matrix.libcs("i386") if l.suite == "bookworm"), None)
    if not libc or not libc.can_build() or not libc.runs_here() or not helpers.kernel_core_works():
        pytest.skip("no 32-bit program can be built or run here")
    live, dead, words = HANGS.get(mode) or STALLS[mode]
    debug = f"--debug-dir={libc.folder}"
    v = victim(libc.build("hang" if mode in HANGS else "stall"), mode, wrapper=libc.wrapper(), core_limit=True, cwd=tmp_path)
    v.line("ready")
    if mode in ("loop", "loop-alone"):
        at_rest(v.pid)
    pid = int([line for line in v.lines if line.startswith("pid ")][-1].split()[1])
    guard = helpers.Untouched(pid)
    found = helpers.arenascope_json("-p", pid, debug, "stuck", rc=EXITS)
    assert (found["target"]["arch"], found["verdict"]) == ("i386", live), found["summary"]
    assert re.search(words, found["summary"]), found["summary"]
    guard.check()
    # of a child there is none: it would end with its parent
    core = helpers.kernel_core(v, tmp_path) if pid == v.pid else helpers.gcore(pid, tmp_path / "core")
    found = helpers.arenascope_json("-c", core, debug, "stuck", rc=EXITS)
    assert (found["target"]["arch"], found["verdict"]) == ("i386", dead), found["summary"]
    assert re.search(words, found["summary"]), found["summary"]
    core.unlink()


# No note says where a thread's TLS is either: what needs it, to know a lock or its owner, is not claimed.
OTHERWISE = {
    "loader": ("blocked", r"mutex .* sleeps in pause; 3 threads wait"),
    "stdio": ("unclear", r"lock inside libc .* is contended; 3 threads wait"),
}


@pytest.mark.parametrize("mode", ["loader", "stdio", "convoy", "raw-futex", "idle", "dead-mutex", "rwlock-writer", "once", "atfork"])
def test_verdict_of_aarch64(victim, tmp_path, mode):
    """Cores of qemu do not say which call a thread was in: the instruction behind it does."""
    libc = next((l for l in matrix.libcs("arm64") if l.suite == "bookworm"), None)
    qemu = shutil.which("qemu-aarch64")
    if not libc or not libc.can_build() or not qemu:
        pytest.skip("no program for arm64 can be built or run here")
    dead, words = OTHERWISE.get(mode) or (HANGS.get(mode) or STALLS[mode])[1:]
    program = libc.build("hang" if mode in HANGS else "stall")
    v = victim(program, mode, wrapper=[qemu, *libc.wrapper()], core_limit=True, cwd=tmp_path)
    v.line("ready")
    helpers.wait_for(lambda: all(helpers.state(v.pid, t) == "S" for t in helpers.tids(v.pid)), 30, "sleep")
    v.signal(signal.SIGABRT)
    v.process.wait(60)
    target = ["-c", next(tmp_path.glob("qemu_*.core")), f"--exe={program}", "--root=/", f"--debug-dir={libc.folder}"]
    found = helpers.arenascope_json(*target, "stuck", rc=EXITS)
    assert (found["target"]["arch"], found["verdict"]) == ("aarch64", dead), found["summary"]
    assert re.search(words, found["summary"]), found["summary"]
    # without a file there is no instruction to be seen: then nothing is claimed
    found = helpers.arenascope_json("-c", target[1], "stuck", rc=EXITS, env={"ARENASCOPE_NO_DEBUG": "files"})
    assert found["verdict"] in ("unclear", dead), found["summary"]


def test_malloc_of_the_programs_own(victim):
    """A lock in front of malloc that is taken again while it is held."""
    v, pid = start(victim, None, "interposed")
    for options in ([], ["--no-stop"]):
        found = helpers.arenascope_json("-p", pid, *options, "stuck", rc=EXITS)
        assert found["verdict"] == "deadlock", found["summary"]
        assert re.search(r"waits for mutex, which it holds itself; 3 more threads wait", found["summary"]), found["summary"]
    v.close()


@pytest.mark.parametrize("hidden", ["1", "files"])
def test_verdict_without_symbols(victim, hidden):
    """Stripped libraries, or no files at all: the same verdict, or one that claims less."""
    for mode in ("sleeps", "handler", "abba", "loop", "stdio", "dead-arena", "rwlock-writer", "once", "loader-join"):
        live, _, words = HANGS.get(mode) or STALLS[mode]
        v, pid = start(victim, mode, "hang" if mode in HANGS else "stall")
        found = helpers.arenascope_json("-p", pid, "stuck", rc=EXITS, env={"ARENASCOPE_NO_DEBUG": hidden})
        v.close()
        if mode == "once":  # only names tell that somebody runs the function
            assert found["verdict"] == "unclear", found["summary"]
            continue
        assert found["verdict"] == live, found["summary"]
        assert re.search(words.replace("_int_malloc", r"\w+"), found["summary"]), found["summary"]


def frames(doc):
    """tid -> [(pc, function)], without the stacks of threads that run."""
    return {tid: [(f["pc"], f["function"]) for f in s["frames"] if not f["inlined"]]
            for s in doc["stacks"] for tid in s["threads"]}


def test_stacks_are_the_same_everywhere(victim, tmp_path):
    """Captured, held and from a core: one unwinder, the same frames."""
    v, pid = start(victim, "handler")
    captured = frames(helpers.arenascope_json("-p", pid, "stacks"))
    held = frames(helpers.arenascope_json("-p", pid, "--hold", "stacks"))
    core = frames(helpers.arenascope_json("-c", helpers.gcore(pid, tmp_path / "core"), "stacks"))
    assert captured == held == core
    assert sorted(captured) == sorted(helpers.tids(pid))
    handler = next(s for s in captured.values() if any(f == "handler_allocates" for _, f in s))
    names = [f for _, f in handler]
    assert names.index("handler_allocates") < names.index("__restore_rt") < names.index("trim_trapped")
    v.close()


def test_stacks_against_gdb(victim):
    """Every frame that gdb sees on the stopped process, at the same address."""
    v, pid = start(victim, "sleeps")
    ours = {tid: [int(pc, 16) for pc, _ in s] for tid, s in frames(helpers.arenascope_json("-p", pid, "stacks")).items()}
    out = helpers.subprocess.run(
        ["gdb", "-q", "-nx", "-batch", "-p", str(pid), "-ex", "set print address on", "-ex",
         "python\nfor t in gdb.selected_inferior().threads():\n  t.switch()\n  f = gdb.newest_frame()\n  pcs = []\n"
         "  while f:\n    if f.type() == gdb.NORMAL_FRAME or f.type() == gdb.SIGTRAMP_FRAME: pcs.append(hex(f.pc()))\n"
         "    f = f.older()\n  print('STACK', t.ptid[1], *pcs)\nend"],
        stdout=helpers.subprocess.PIPE, stderr=helpers.subprocess.DEVNULL, stdin=helpers.subprocess.DEVNULL,
        timeout=120).stdout.decode()
    theirs = {int(line.split()[1]): [int(pc, 16) for pc in line.split()[2:]]
              for line in out.splitlines() if line.startswith("STACK")}
    if not theirs:
        pytest.skip("gdb without python")
    for tid, pcs in theirs.items():
        # gdb stops at main and at the thread's start; ours go on to _start
        assert ours[tid][:len(pcs)] == pcs, (tid, pcs, ours[tid])
    v.close()


def test_threads(victim):
    v, pid = start(victim, "sleeps")
    doc = helpers.arenascope_json("-p", pid, "threads", rc=EXITS)
    rows = {t["tid"]: t for t in doc["threads"]}
    assert sorted(rows) == sorted(helpers.tids(pid))
    waiting = [t for t in rows.values() if t["waits_on"] == "arena 0 lock"]
    assert len(waiting) == 7 and all(t["state"] == "S" for t in waiting)
    assert [t["waits_on"] for t in rows.values() if t["function"] and "madvise" in t["function"]] == ["madvise"]
    assert all(t["stack_resident_bytes"] > 0 for t in rows.values())
    v.close()


def test_stopped_stays_stopped(victim):
    v, pid = start(victim, "idle")
    v.signal(helpers.signal.SIGSTOP)
    helpers.wait_for(lambda: helpers.state(pid) == "T", 5, "SIGSTOP")
    found = helpers.arenascope_json("-p", pid, "stuck", rc=EXITS)
    assert found["verdict"] == "stopped", found["summary"]
    assert helpers.state(pid) == "T"
    v.signal(helpers.signal.SIGCONT)
    v.close()


def test_one_thread_and_unknown_thread(victim):
    v, pid = start(victim, "idle")
    tid = helpers.tids(pid)[-1]
    doc = helpers.arenascope_json("-p", pid, "stacks", tid)
    assert [s["threads"] for s in doc["stacks"]] == [[tid]]
    run = helpers.arenascope("-p", pid, "stacks", 4194304 * 2, rc=2)
    assert "no thread" in run.err
    assert "no thread x" in helpers.arenascope("-p", pid, "stacks", "x", rc=2).err  # it may be a name
    v.close()
