# SPDX-License-Identifier: GPL-3.0-or-later
"""`check` of a process that never rests, again and again: it never cries wolf, and the target runs on unharmed.

ARENASCOPE_LONG=1: 1,000 runs against 64 threads that allocate without a pause, 100 against threads that come and go all
the time, and under a load of 100. ARENASCOPE_CHECKS=N: N runs of each instead, to do them in pieces.
"""

import collections
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

import helpers
from helpers import arenascope

LONG = os.environ.get("ARENASCOPE_LONG") == "1"
TRANSIENT = {"I-BUSY", "I-ATTACHED"}  # what a lock that is held, and a thread that starts or ends, look like


def runs(many):
    return int(os.environ.get("ARENASCOPE_CHECKS") or (many if LONG else 20))


def running(pid):
    """Not traced and not stopped, none of its threads. Those that end meanwhile do not count."""
    for tid in helpers.tids(pid):
        try:
            s = helpers.status(pid, tid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if s["TracerPid"] != "0" or s["State"][0] in "tT":
            return False
    return True


def checked(pid, timeout=60):
    """One run of check: what it found, which must be no damage; whether malloc was busy at every stop; seconds."""
    run = arenascope("--json", "-p", pid, "check", rc=(0, 1), timeout=timeout)
    document = run.json
    wolf = [f for f in document["findings"] if f["severity"] != "info"]
    assert not wolf, f"{wolf}\n{run}"
    codes = {w["code"] for w in document["warnings"]}
    if "W-WATCHDOG" in codes:  # on a machine so loaded that it was let go in the midst of reading
        assert run.rc == 1 and not document["complete"] and "W-CORRUPT" not in codes, run
        return document["findings"], True, run.seconds
    busy = "W-BUSY" in codes
    assert busy or {f["code"] for f in document["findings"]} <= TRANSIENT, run
    # the arenas are marked whose lock was held, no others
    locked = {f["arena"] for f in document["findings"] if f["code"] == "I-BUSY" and "lock is held" in f["message"]}
    assert not busy or locked and {f["arena"] for f in document["findings"] if f["code"] not in TRANSIENT} <= locked, run
    assert run.rc == (0 if document["complete"] else 1) and document["complete"] != busy, run
    assert document["checked_chunks"] > 10 and document["findings_lost"] == 0, run
    helpers.wait_for(lambda: running(pid), 5, "the target to run on")
    return document["findings"], busy, run.seconds


def again_and_again(pid, times, alive):
    found, busy, seconds, start = collections.Counter(), 0, [], time.monotonic()
    last = alive()
    for i in range(times):
        findings, was_busy, took = checked(pid)
        found.update(f["code"] for f in findings)
        busy += was_busy
        seconds.append(took)
        if i % 20 == 19:
            now = alive()
            assert now != last, "it does not go on"
            last = now
    seconds.sort()
    print(f"\n{times} runs in {time.monotonic() - start:.0f} s, median {seconds[times // 2] * 1000:.0f} ms, longest "
          f"{seconds[-1] * 1000:.0f} ms; malloc busy at every stop: {busy}; findings: {dict(found) or 'none'}")
    return found


@pytest.mark.parametrize("mode, n, times", [("busy", 64, 1000), ("churn", 8, 100), ("zombie", 8, 100)])
def test_never_cries_wolf(victim, mode, n, times):
    v = victim("attach", mode, n)
    v.line("ready")

    def work():
        answer = v.ask("check", "")
        assert answer.startswith("ok "), answer
        return answer.split()[1]

    again_and_again(v.pid, runs(times), work)
    v.quit()
    assert v.lines[-1].endswith("good"), v.lines[-1]


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
def test_let_go_too_early(victim):
    """The reading takes longer than the target may be stopped: what was read of the running target is no damage."""
    v = victim("attach", "busy", 64)
    v.line("ready")
    slow = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=process_vm_readv:delay_enter=4000", *helpers.NO_LSAN]  # us
    done = subprocess.run([*slow, helpers.ARENASCOPE, "--json", "--max-pause=10ms", "-p", str(v.pid), "check"],
                          capture_output=True, text=True, env={**os.environ, "DEBUGINFOD_URLS": ""}, timeout=120)
    document = json.loads(done.stdout)
    codes = {w["code"] for w in document["warnings"]}
    assert done.returncode == 1 and "W-WATCHDOG" in codes and "W-CORRUPT" not in codes, done
    assert document["findings"] and {f["severity"] for f in document["findings"]} == {"info"}, done
    helpers.wait_for(lambda: running(v.pid), 5, "the target to run on")
    v.quit()


@pytest.mark.parametrize("kinds", [("alloc=64",), ("alloc=8", "churn=8", "fork=2", "signal=4")], ids=["alloc", "churn"])
def test_every_byte_is_verified(victim, kinds):
    """Blocks of 16 bytes to 8 MiB in all arenas, every byte verified by the process itself; mmapped chunks as well."""
    v = victim("stress", *kinds)
    v.line("ready")
    helpers.wait_for(lambda: helpers.cpu_ticks(v.pid) > 50, 60, "its threads to be under way")
    again_and_again(v.pid, runs(100), lambda: helpers.cpu_ticks(v.pid))
    v.process.stdin.close()
    verdict = v.line("", 120)
    assert verdict.startswith("ok ") and " 0 interrupted" in verdict, verdict
    assert v.process.wait(120) == 0


def test_is_bounded_in_time_on_a_loaded_machine(victim):
    """A stop of many threads takes its time when the run queue is long: then malloc's locks are not waited for 20 times."""
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(100 if LONG else 20)]
    try:
        idle, busy = victim("attach", "idle", 64), victim("attach", "busy", 64)
        for v in (idle, busy):
            v.line("ready")
        for _ in range(5):
            usual, seconds = (checked(v.pid, timeout=240)[2] for v in (idle, busy))
            print(f"{usual:.1f} s idle, {seconds:.1f} s busy;", end=" ")
            assert seconds < 3 + 8 * usual  # 21 stops in a row were 20 times as much
        busy.quit()
    finally:
        for process in load:
            process.kill()
            process.wait()
