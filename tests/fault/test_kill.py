# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL of arenascope while it acts: after every step, and at random moments.

The target must live on untraced, compute right, and keep no mapping. ARENASCOPE_LONG=1 makes the
numbers those of the promise: every step with every action on a busy target, 200 random moments, and
1000 kills of reclaim under 64 verifying threads.
"""

import os
import random
import signal
import subprocess
import time

import pytest

import helpers

LONG = os.environ.get("ARENASCOPE_LONG") == "1"
MANY = os.environ.get("FAULT_MANY") or str(helpers.VICTIMS.parent / "fault" / "many")
ACTIONS = {"trim": ["trim", "--yes"], "reclaim": ["reclaim", "--yes"],
           "tune": ["tune", "trim_threshold=200000", "--yes"]}
# every number that asc_act_fault() is given in src/act
CALL_POINTS = [1, 2, 3, 4, 5, 6, 7, 8, 34, 37, 9, 80, 81, 82, 83, 84]
RECLAIM_POINTS = [1, 2, 3, 4, 5, 6, 7, 9, 34, 37, 39, 21, 22, 64, 8, 67, 69, 94, 97, 99, 80, 81, 82, 83, 84]


def test_what_is_installed_has_no_fault_points(victim):
    v = victim("odd", "idle")
    v.line("ready")
    done = subprocess.run([helpers.ARENASCOPE, "-p", str(v.pid), "tune", "top_pad=0", "--yes"],
                          env={**os.environ, "ARENASCOPE_FAULT": "inject:1"}, stdout=subprocess.DEVNULL)
    assert done.returncode == 0
    v.quit()


def settled(pid, before):
    """The target after a kill: untraced, running, and (in a moment) without our mapping."""
    helpers.wait_for(lambda: helpers.status(pid)["TracerPid"] == "0", 10, "TracerPid 0")

    def gone():
        return [m for m in helpers.maps(pid) if "x" in m["perms"] and not m["inode"] and m["name"] == ""] == before

    helpers.wait_for(gone, 20, "the end of the routine's mapping")

    def running():
        for tid in helpers.tids(pid):
            try:
                if helpers.state(pid, tid) in "tT" or helpers.status(pid, tid)["TracerPid"] != "0":
                    return False
                # the routine lowers the priority again that the tool had raised
                if helpers.nice(pid, tid) != 0:
                    return False
            except (FileNotFoundError, ProcessLookupError):
                pass
        return True

    helpers.wait_for(running, 10, "every thread to run on")


def code_maps(pid):
    return [m for m in helpers.maps(pid) if "x" in m["perms"] and not m["inode"] and m["name"] == ""]


def stress(victim, **kinds):
    # A thread that is killed out of its stop may see EINTR: what no living tool could hide, the
    # kernel does by itself whenever a tracer dies. It is counted, and must stay rare.
    v = victim("stress", "interrupted=1", *[f"{k}={n}" for k, n in kinds.items()])
    v.line("ready")
    return v


def end(v):
    v.process.stdin.close()
    verdict = v.line("", timeout=60)
    assert v.process.wait(60) == 0 and verdict.startswith("ok "), verdict
    print(verdict)


@pytest.mark.parametrize("action", list(ACTIONS))
def test_every_step(victim, action):
    v = stress(victim, alloc=3, sleep=8, spin=1, signal=1, churn=1, max=200000, rest=3000)
    before = code_maps(v.pid)
    points = RECLAIM_POINTS if action == "reclaim" else CALL_POINTS
    died = 0
    for point in points:
        for _ in range(5 if LONG else 1):
            r = helpers.arenascope("-p", v.pid, "--wait=20s", *ACTIONS[action], rc=None,
                                   env={"ARENASCOPE_FAULT": f"inject:{point}"})
            assert r.rc in (-signal.SIGKILL, 75), r
            died += r.rc == -signal.SIGKILL
            settled(v.pid, before)
    assert died >= len(points) * (5 if LONG else 1) * 0.8, "hardly any run came to its fault point"
    helpers.arenascope("-p", v.pid, "--wait=20s", *ACTIONS[action])
    settled(v.pid, before)
    end(v)


def children(pid):
    try:
        return [int(c) for c in open(f"/proc/{pid}/task/{pid}/children").read().split()]
    except OSError:
        return []


def kill_at(argv, after):
    """Start, and SIGKILL the tool and its helper after so many seconds. True: it still ran"""
    p = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        p.wait(after)
        return False
    except subprocess.TimeoutExpired:
        helper = children(p.pid)
        # the tool first, or the helper first, or only one of them
        for pid in random.sample([p.pid, *helper], random.randint(1, 1 + len(helper))):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            p.wait(60)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
        return True


def random_kills(v, action, n, longest):
    before = code_maps(v.pid)
    killed = 0
    for _ in range(n):
        killed += kill_at([helpers.ARENASCOPE, "-p", str(v.pid), "--wait=2s", *ACTIONS[action]],
                          random.random() * longest)
        # left over only while the call of a killed tool runs on
        helpers.wait_for(lambda: helpers.status(v.pid)["TracerPid"] == "0", 60, "TracerPid 0")
    settled(v.pid, before)
    return killed


def typical_seconds(v, action):
    t = time.monotonic()
    helpers.arenascope("-p", v.pid, "--wait=20s", *ACTIONS[action], rc=(0, 75))
    return time.monotonic() - t


@pytest.mark.parametrize("action", list(ACTIONS))
def test_random_moments(victim, action):
    v = stress(victim, alloc=3, sleep=8, spin=1, signal=1, churn=1, fork=1, max=200000, rest=3000)
    n = 250 if LONG else 12
    killed = random_kills(v, action, n, typical_seconds(v, action) * 1.1)
    print(f"{action}: {killed} of {n} killed")
    end(v)


def test_reclaim_under_64_threads_killed(victim):
    """Every byte of every block is verified at its free; the victim's check of itself is the verdict."""
    v = stress(victim, alloc=64, rest=2000 if LONG else 100000)
    done = subprocess.run([MANY, str(v.pid), str(1000 if LONG else 10), "reclaim", "kill", "wait=20000"],
                          stdout=subprocess.PIPE, text=True, timeout=7200)
    print(done.stdout)
    assert done.returncode == 0 and "mappings left: 0" in done.stdout
    settled(v.pid, code_maps(v.pid))
    end(v)
