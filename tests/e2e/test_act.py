# SPDX-License-Identifier: GPL-3.0-or-later
"""trim, reclaim and tune on live processes: what they promise, what they refuse, what they leave."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

import helpers

LONG = os.environ.get("ARENASCOPE_LONG") == "1"
PAGE = helpers.PAGE


def act(pid, *args, **more):
    return helpers.arenascope_json("-p", pid, *args, "--yes", **more)


def odd(victim, mode, *args, **more):
    """A victim in an odd situation; .tid is the thread that it is about."""
    v = victim("odd", mode, *args, **more)
    v.tid = int(v.line("ready").split()[1])
    return v


def close_to(predicted, measured):
    return abs(predicted - measured) <= max(predicted // 100, 64 << 10)


# ---- the story of the service ----


def test_story(victim):
    v = victim("service") if LONG else victim("service", "--threads", 24, "--at-once", 6, "--requests", 200)
    v.line("idle")
    rss = helpers.rss(v.pid)
    guard = helpers.Untouched(v.pid, alive=lambda: v.ask("ping", "pong"))

    before = helpers.arenascope_json("-p", v.pid, "reclaim", "-n")["prediction"]["bytes"]
    assert before > rss // 2
    assert helpers.rss(v.pid) > rss - (1 << 20), "-n must not change anything"

    trim = act(v.pid, "trim")
    assert trim["result"]["outcome"] == "done" and trim["result"]["verified"]
    assert close_to(trim["prediction"]["bytes"], max(trim["result"]["bytes"], 0)), trim["result"]
    guard.check()

    reclaim = act(v.pid, "reclaim")
    result = reclaim["result"]
    assert result["outcome"] == "done" and result["verified"] and reclaim["complete"]
    assert close_to(reclaim["prediction"]["bytes"], result["bytes"]), result
    assert helpers.rss(v.pid) == pytest.approx(result["rss_after_bytes"], abs=1 << 20)
    guard.check()

    again = helpers.arenascope_json("-p", v.pid, "reclaim", "-n")["prediction"]["bytes"]
    assert again <= before // 100, f"{again} of {before} bytes of whole free pages were left"
    v.signal(signal.SIGUSR1)
    assert " 0 errors" in v.line("served", 300)
    assert v.ask("verify", "verified").endswith(" 0 bad, 0 errors")
    v.quit()


def test_one_arena(service):
    plan = helpers.arenascope_json("-p", service.pid, "reclaim", "-n")["prediction"]["arenas"]
    largest = max(plan, key=lambda a: a["bytes"])
    before = helpers.heap_rss(service.pid)
    got = act(service.pid, "reclaim", f"--arena={largest['index']}")
    # To the page, in the heaps. Rss of the whole process also counts the pages of files and of the borrowed thread's
    # stack that are touched for the first time when the thread runs.
    assert before - helpers.heap_rss(service.pid) == largest["bytes"]
    assert got["result"]["arenas"] == 1
    left = {a["index"]: a["bytes"] for a in
            helpers.arenascope_json("-p", service.pid, "reclaim", "-n")["prediction"]["arenas"]}
    for a in plan:
        if a["index"] != largest["index"]:
            assert left[a["index"]] == a["bytes"]
    service.quit()


# ---- prediction against measurement on binned chunks ----


@pytest.mark.parametrize("mb, n", [(40, 400), (40, 2000), (40, 8000)])
@pytest.mark.parametrize("command", ["trim", "reclaim"])
def test_binned(victim, command, mb, n):
    v = odd(victim, "frag", mb, n, 50000)
    got = act(v.pid, command)
    assert got["prediction"]["bytes"] > 0
    # the one thread goes on allocating: a few pages of its own
    assert abs(got["prediction"]["bytes"] - got["result"]["bytes"]) <= max(got["prediction"]["bytes"] // 100, 256 << 10)
    assert v.ask("verify", "verified").endswith(" 0 bad")
    v.quit()


# ---- consent ----


@pytest.mark.parametrize("command", [["trim"], ["reclaim"], ["tune", "top_pad=0"]])
def test_no_consent(victim, command):
    v = odd(victim, "frag", 20, 200, 50000)
    before = helpers.rss(v.pid)
    r = helpers.arenascope("-p", v.pid, *command, rc=64)
    assert "--yes" in r.err
    assert helpers.rss(v.pid) >= before
    v.quit()


def test_log(service):
    r = helpers.arenascope("-p", service.pid, "reclaim", "--yes")
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ pid %d: reclaim in thread \d+: done$" % service.pid, r.err, re.M)
    assert re.search(r"^Done\. RSS .* predicted .* registers restored and verified$", r.out, re.M)
    service.quit()


def test_every(service):
    p = subprocess.Popen([helpers.ARENASCOPE, "-p", str(service.pid), "reclaim", "--yes", "--every=1s"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        for _ in range(2):
            while "Done." not in p.stderr.readline():
                assert p.poll() is None
            service.signal(signal.SIGUSR1)
            service.line("served", 120)
    finally:
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
    assert p.returncode == 0, err
    assert "RETURNED" in out
    assert service.ask("verify", "verified").endswith(" 0 bad, 0 errors")
    service.quit()


# ---- tune ----


def test_tune(victim):
    v = odd(victim, "idle")
    got = act(v.pid, "tune", "trim_threshold=200K")["tune"]
    assert got["before_bytes"] == 131072 and got["after_bytes"] == 204800 and got["accepted"]
    assert got["thresholds_frozen"] is True and got["verified"]
    seen = helpers.arenascope_json("-p", v.pid, "tune", "trim_threshold=1", "-n")["tune"]
    assert seen["before_bytes"] == 204800 and "after_bytes" not in seen
    got = act(v.pid, "tune", "arena_max=3")["tune"]
    assert got["after"] == 3
    for wrong in ("trim_threshold", "nonsense=1", "top_pad=x", "mmap_max=99999999999"):
        helpers.arenascope("-p", v.pid, "tune", wrong, "--yes", rc=64)
    v.quit()


# ---- situations ----

REFUSED = {
    # mode: (exit, text)
    "coroutine": (69, "coroutine"),
    "handler": (75, "signal handler"),
    "alt": (69, "signal stack"),
    "madvise": (69, "seccomp"),
    "tkill": (69, "seccomp"),
}


@pytest.mark.parametrize("mode", list(REFUSED))
@pytest.mark.parametrize("command", ["trim", "reclaim"])
def test_refused(victim, command, mode):
    v = odd(victim, mode)
    guard = helpers.Untouched(v.pid)
    rc, text = REFUSED[mode]
    r = helpers.arenascope("-p", v.pid, command, "--yes", "--wait=300ms", rc=rc)
    assert text in r.err
    guard.check()


@pytest.mark.parametrize("mode", ["idle", "batch", "blocked", "tiny", "deep", "stale"])
@pytest.mark.parametrize("command", [["trim"], ["reclaim"], ["tune", "top_pad=4096"]])
def test_works(victim, command, mode):
    v = odd(victim, mode)
    guard = helpers.Untouched(v.pid, alive=lambda: v.ask("ping", "pong"))
    got = act(v.pid, *command)
    assert (got["tune"] if command[0] == "tune" else got["result"])["verified"]
    guard.check()
    v.quit()


@pytest.mark.parametrize("command", ["trim", "tune"])
def test_restartable_sequence(victim, command):
    """A thread that runs is not borrowed in the middle of one: not a single count is lost."""
    v = odd(victim, "rseq")
    codes = [helpers.arenascope("-p", v.pid, command, *(["top_pad=131072"] if command == "tune" else []), "--yes",
                                f"--tid={v.tid}", "--wait=2s", rc=(0, 75)).rc for _ in range(100 if LONG else 12)]
    print(codes)
    assert 0 in codes
    assert v.ask("sum", "sum", 30) == "sum right"
    v.quit()


@pytest.mark.parametrize("command", ["trim", "reclaim"])
def test_signals_are_taken(victim, command):
    """No signal could mark the end of the call unseen: refused, and no handler runs for us."""
    v = odd(victim, "taken")
    before = int(v.ask("ping", "pong").split()[1])
    r = helpers.arenascope("-p", v.pid, command, "--yes", "--wait=300ms", rc=(0, 69))
    assert r.rc == 0 or "signal" in r.err, r
    assert int(v.ask("ping", "pong").split()[1]) == before + 1, "a handler ran"
    v.quit()


@pytest.mark.parametrize("command", ["trim", "reclaim"])
def test_signalfd(victim, command):
    v = odd(victim, "signalfd")
    act(v.pid, command)
    assert v.ask("signals", "signals") == "signals right"
    v.quit()


@pytest.mark.parametrize("command", [["trim"], ["reclaim"], ["tune", "top_pad=4096"]], ids=lambda c: c[0])
def test_main_thread_has_ended(victim, command):
    v = odd(victim, "leader")
    got = act(v.pid, *command, rc=(0, 1))
    assert (got["tune"] if command[0] == "tune" else got["result"])["verified"]
    assert v.ask("ping", "pong")
    v.quit()


def test_tiny_stack(victim):
    v = odd(victim, "tiny")
    r = helpers.arenascope("-p", v.pid, "trim", "--yes", f"--tid={v.tid}", rc=69)
    assert "too little room" in r.err
    v.quit()


def test_suspend_seccomp(victim):
    v = odd(victim, "madvise")
    got = act(v.pid, "reclaim", "--suspend-seccomp")
    assert got["result"]["outcome"] == "done"
    assert v.ask("ping", "pong")
    v.quit()


@pytest.mark.parametrize("command", ["trim", "reclaim"])
def test_single_threaded_in_malloc(victim, command):
    v = odd(victim, "single")
    for _ in range(100 if LONG else 8):
        r = helpers.arenascope("-p", v.pid, command, "--yes", rc=(0, 75))
    v.send("end")
    assert v.line("ok").startswith("ok")
    assert v.process.wait(30) == 0, "its own check of its blocks"
    assert r.rc == 0


def test_lock_held_for_good(victim):
    v = odd(victim, "lock")
    t = time.monotonic()
    r = helpers.arenascope("-p", v.pid, "trim", "--yes", "--wait=1s", rc=75)
    assert time.monotonic() - t < 10
    # the arena, how often it was tried, the thread and where it is
    who = rf"arena 0 lock is held by thread {v.tid} odd, which sleeps in \w*write\w* \(inferred from stacks"
    assert re.search(r"the lock of arena 0 \(0x[0-9a-f]+\) was held every time \(\d+ tries\)", r.err), r
    assert re.search(who, r.err) and "--wait=" in r.err, r
    r = helpers.arenascope("-p", v.pid, "tune", "top_pad=1", "--yes", "--wait=300ms", rc=75)
    assert re.search(who, r.err), r
    r = helpers.arenascope("-p", v.pid, "reclaim", "--yes", rc=1)
    assert "1 arena was left out" in r.out and re.search(who, r.out), r
    assert v.ask("release", "released")
    assert v.ask("ping", "pong")
    act(v.pid, "trim")
    v.quit()


def thread_is_back(v, tid):
    """The call that was left to itself is over: nothing of it is on the thread's stack, or in the mappings."""
    helpers.wait_for(lambda: helpers.status(v.pid)["TracerPid"] == "0", 10)
    helpers.arenascope("-p", v.pid, "trim", "--yes", f"--tid={tid}", "--wait=20s")
    assert not [m for m in helpers.maps(v.pid) if "x" in m["perms"] and not m["inode"] and not m["name"]]
    assert helpers.nice(v.pid, tid) == 0


def test_call_does_not_return(victim):
    """The kernel holds madvise in the borrowed thread until the victim says otherwise."""
    v = odd(victim, "slow", 20, 200, 50000)
    guard = helpers.Untouched(v.pid)
    t = time.monotonic()
    r = helpers.arenascope("--json", "-p", v.pid, "trim", "--yes", f"--tid={v.tid}", "--call-timeout=700ms", rc=1)
    assert time.monotonic() - t < 10
    result = r.json["result"]
    assert result["outcome"] == "running" and not result["verified"] and r.json["complete"] is False
    said = {w["code"]: w["message"] for w in r.json["warnings"]}["W-RUNNING"]
    assert f"thread {result['tid']} has not returned: it is in madvise. It goes on by itself" in said, r
    # nothing is traced or stopped, and another call is not stacked upon it
    assert helpers.status(v.pid)["TracerPid"] == "0"
    assert all(helpers.state(v.pid, tid) not in "tT" for tid in helpers.tids(v.pid))
    for command in ("trim", "tune"):
        again = helpers.arenascope("-p", v.pid, command, *(["top_pad=1"] if command == "tune" else []), "--yes",
                                   f"--tid={v.tid}", "--wait=300ms", rc=75)
        assert f"lock is held by thread {result['tid']} odd, which is uninterruptible in" in again.err, again
    assert v.ask("release", "released")
    assert v.ask("ping", "pong", 20)
    assert v.ask("verify", "verified").endswith(" 0 bad")
    thread_is_back(v, result["tid"])
    guard.check()
    v.quit()


def test_who_serves_faults_is_not_borrowed(victim):
    """A userfaultfd's reader would wait for itself, and nobody can tell which thread that is."""
    v = odd(victim, "slow", 20, 200, 50000)
    for command in (["trim"], ["reclaim"], ["tune", "top_pad=1"]):
        r = helpers.arenascope("-p", v.pid, *command, "--yes", "--wait=300ms", rc=69)
        assert "userfaultfd" in r.err and "--tid=" in r.err, r
    # one that reads may be it, whoever names it
    helpers.wait_for(lambda: helpers.state(v.pid) == "S", 5, "its sleep")
    r = helpers.arenascope("-p", v.pid, "trim", "--yes", f"--tid={v.pid}", "--wait=300ms", rc=69)
    assert "serves the process's userfaultfd" in r.err, r
    assert v.ask("release", "released")
    assert v.ask("verify", "verified").endswith(" 0 bad")
    v.quit()


def test_reclaim_does_not_return(victim):
    v = odd(victim, "lock")
    # the thread that holds the lock ends when it is released
    guard = helpers.Untouched(v.pid, threads=False)
    r = helpers.arenascope("-p", v.pid, "reclaim", "--yes", "--call-timeout=500ms", rc=1)
    assert "Still running." in r.out, r
    tid = int(re.search(r"thread (\d+) has not returned: it is waiting for an arena's lock", r.err).group(1))
    assert "[W-RUNNING" in r.err or "W-RUNNING" in r.err, r
    assert v.ask("release", "released")
    assert v.ask("ping", "pong", 20)
    helpers.wait_for(lambda: helpers.nice(v.pid, tid) == 0, 10, "the thread's own priority")
    thread_is_back(v, tid)
    guard.check()
    v.quit()


def test_corrupt(victim):
    v = odd(victim, "corrupt")
    for command in ("trim", "reclaim"):
        r = helpers.arenascope("-p", v.pid, command, "--yes", rc=2)
        assert "damaged" in r.err
    helpers.wait_for(lambda: helpers.state(v.pid) == "S", 5, "its sleep")
    # by force: glibc aborts in the borrowed thread, which is put back
    got = helpers.arenascope("--json", "-p", v.pid, "trim", "--yes", "--force", rc=1).json["result"]
    assert got["outcome"] == "crashed" and got["crash_signal"] in (signal.SIGABRT, signal.SIGSEGV) and got["verified"]
    assert got["lock_repaired"]
    # the lock was freed: a thread of the target gets it
    assert v.ask("ping", "pong", 10)
    v.quit()


def test_torn(victim):
    """malloc_trim would release whatever lies behind such a chunk; the routine looks before it follows."""
    v = odd(victim, "torn")
    for command in ("trim", "reclaim"):
        r = helpers.arenascope("-p", v.pid, command, "--yes", rc=2)
        assert "damaged" in r.err
    got = helpers.arenascope("--json", "-p", v.pid, "reclaim", "--yes", "--force", rc=1).json["result"]
    assert got["outcome"] == "done" and "damaged" in got["note"] and got["verified"]
    helpers.wait_for(lambda: helpers.state(v.pid) == "S", 5, "its sleep")


def test_mlocked(victim):
    v = odd(victim, "locked")
    before = helpers.rss(v.pid)
    got = act(v.pid, "trim")
    assert close_to(got["prediction"]["bytes"], max(0, got["result"]["bytes"]))
    assert helpers.rss(v.pid) >= before - (64 << 10) - got["prediction"]["bytes"]
    act(v.pid, "reclaim", rc=(0, 1))
    assert v.ask("ping", "pong")
    v.quit()


def test_stopped_process_stays_stopped(victim):
    v = odd(victim, "frag", 20, 200, 50000)
    v.signal(signal.SIGSTOP)
    helpers.wait_for(lambda: helpers.state(v.pid) == "T")
    before = helpers.rss(v.pid)
    act(v.pid, "reclaim")
    assert helpers.rss(v.pid) < before - (15 << 20)
    helpers.wait_for(lambda: helpers.state(v.pid) == "T", 5, "the stop again")
    act(v.pid, "trim")
    helpers.wait_for(lambda: helpers.state(v.pid) == "T", 5, "the stop again")
    v.signal(signal.SIGCONT)
    assert v.ask("verify", "verified").endswith(" 0 bad")
    v.quit()


@pytest.mark.parametrize("tracer", ["strace", "gdb"])
def test_traced(victim, tracer):
    if not shutil.which(tracer):
        pytest.skip(f"no {tracer}")
    v = odd(victim, "idle")
    argv = {"strace": ["strace", "-f", "-q", "-o", "/dev/null", "-p", str(v.pid)],
            "gdb": ["gdb", "-q", "-nx", "-p", str(v.pid)]}[tracer]
    t = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        helpers.wait_for(lambda: helpers.status(v.pid)["TracerPid"] != "0", 20, "the tracer")
        r = helpers.arenascope("-p", v.pid, "trim", "--yes", rc=77)
        assert str(t.pid) in r.err and tracer in r.err
    finally:
        t.terminate() if tracer == "strace" else t.communicate(b"detach\nquit\n", 20)
        t.wait(20)
    assert v.ask("ping", "pong")
    act(v.pid, "trim")
    v.quit()


@pytest.mark.parametrize("mode", ["exit", "exec"])
@pytest.mark.parametrize("command", ["trim", "reclaim"])
def test_ends_meanwhile(victim, command, mode):
    for ms in (range(20, 400, 10) if LONG else (60, 120, 200, 300)):
        v = odd(victim, mode, ms)
        r = helpers.arenascope("-p", v.pid, command, "--yes", "--wait=100ms", rc=None)
        assert r.rc in (0, 1, 2, 66, 69, 75, 78) and "bug" not in r.err, r
        if mode == "exit":
            assert v.process.wait(10) == 0
        else:
            helpers.wait_for(lambda: helpers.status(v.pid)["TracerPid"] == "0", 5, "TracerPid 0")
        v.close()


def test_vfork(victim):
    v = odd(victim, "vfork", 1500)
    helpers.wait_for(lambda: helpers.state(v.pid) == "D", 5, "the vfork")
    helpers.arenascope("-p", v.pid, "trim", "--yes", "--wait=200ms", rc=75)
    v.line("vforked", 20)
    act(v.pid, "trim")
    assert v.ask("ping", "pong")
    v.quit()


def build(tmp_path, name, *flags):
    exe = tmp_path / name
    source = os.path.join(os.path.dirname(__file__), "..", "victims", "odd.c")
    done = subprocess.run(["gcc", "-O1", "-D_GNU_SOURCE", "-fno-builtin-malloc", *flags, "-o", str(exe), source,
                           "-lpthread"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot build with {flags}: {done.stderr[:200]}")
    return exe


@pytest.mark.parametrize("flags", [["-static"], ["-static-pie"], ["-static", "-s"], ["-s"]], ids=" ".join)
def test_static(victim, tmp_path, flags):
    v = victim(build(tmp_path, "odd", *flags), "frag", 40, 200, 50000)
    v.line("ready")
    for command in ("trim", "reclaim"):
        r = helpers.arenascope("-p", v.pid, command, "--yes", rc=(0, 69, 78))
        if r.rc:
            print(r.err)
    assert v.ask("verify", "verified").endswith(" 0 bad")
    v.quit()


def test_32_bit(victim, tmp_path):
    """It is refused, before anything is stopped for it or written; what it would bring is told all the same."""
    exe = build(tmp_path, "odd32", *helpers.M32)
    try:
        v = victim(exe, "frag", 40, 200, 50000)
    except OSError:
        pytest.skip("this kernel runs no 32-bit programs")
    v.line("ready")
    guard = helpers.Untouched(v.pid)
    rss = helpers.rss(v.pid)
    for command in (["trim"], ["reclaim"], ["tune", "top_pad=1"]):
        r = helpers.arenascope("-p", v.pid, *command, "--yes", rc=69)
        assert "E-ARCH" in r.err and "x86-64 processes only" in r.err, r
    assert helpers.rss(v.pid) >= rss
    guard.check()
    for command in ("trim", "reclaim"):
        assert helpers.arenascope_json("-p", v.pid, command, "-n")["prediction"]["bytes"] is not None
    assert helpers.arenascope_json("-p", v.pid, "tune", "top_pad=1", "-n")["tune"]["before_bytes"] == 131072
    assert v.ask("verify", "verified").endswith(" 0 bad")
    v.quit()


# ---- extended state ----


@pytest.mark.parametrize("command", [["trim"], ["reclaim"], ["tune", "top_pad=131072"]], ids=lambda c: c[0])
def test_tiles(victim, command):
    """AMX tiles, AVX-512 registers and masks of a borrowed thread, byte for byte, also if the tool dies."""
    v = victim("tiles", 6)
    tid, what = v.line("ready").split()[1:]
    if what == "none":
        pytest.skip("no AVX-512 here")
    for _ in range(50 if LONG else 8):
        got = act(v.pid, *command, f"--tid={tid}", "--wait=20s", rc=(0, 1))
        assert (got["tune"] if command[0] == "tune" else got["result"])["verified"]
    assert v.ask("check", "checked").endswith(" 0 interrupted")
    died = 0
    for point in [1, 3, 4, 5, 6, 7, 8, 9, 37, 67, 80, 81, 82, 83, 84] * (10 if LONG else 2):
        r = helpers.arenascope("-p", v.pid, *command, "--yes", f"--tid={tid}", "--wait=20s", rc=None,
                               env={"ARENASCOPE_FAULT": f"inject:{point}"})
        died += r.rc == -signal.SIGKILL
    assert died
    v.process.stdin.close()
    verdict = v.line("", 30)
    print(what, verdict)
    assert verdict.startswith("ok ") and v.process.wait(10) == 0, verdict


@pytest.mark.parametrize("tunable", ["glibc.malloc.hugetlb=1", "glibc.malloc.hugetlb=2", "glibc.malloc.tcache_count=0"])
def test_tunables(victim, tunable):
    v = odd(victim, "frag", 40, 500, 50000, env={"GLIBC_TUNABLES": tunable})
    for command in ("trim", "reclaim"):
        helpers.arenascope("-p", v.pid, command, "--yes", rc=(0, 1))
    assert v.ask("verify", "verified").endswith(" 0 bad")
    v.quit()


def test_two_at_once(victim):
    v = odd(victim, "frag", 200, 20000, 5000)
    runs = [subprocess.Popen([helpers.ARENASCOPE, "-p", str(v.pid), c, "--yes", "--wait=10s"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) for c in ("trim", "reclaim")]
    codes = [(r.communicate(timeout=60), r.returncode)[1] for r in runs]
    assert all(c in (0, 75, 77) for c in codes) and 0 in codes, codes
    assert v.ask("verify", "verified").endswith(" 0 bad")
    v.quit()


# ---- a busy process that checks itself ----


def test_stress(victim):
    v = victim("stress", "alloc=4", "sleep=40", "spin=4", "churn=2", "fork=2", "signal=4", "max=300000", "rest=4000")
    v.line("ready")
    counts = {"trim": 0, "reclaim": 0, "tune": 0}
    done = {}
    for i in range(3000 if LONG else 9):
        command = list(counts)[i % 3]
        extra = ["trim_threshold=300000"] if command == "tune" else []
        r = helpers.arenascope("-p", v.pid, command, *extra, "--yes", "--wait=20s", rc=(0, 75))
        counts[command] += r.rc == 0
    print(counts, done)
    v.process.stdin.close()
    verdict = v.line("", 60)
    assert v.process.wait(60) == 0 and verdict.startswith("ok "), verdict
    assert all(counts.values())
