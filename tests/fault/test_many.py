# SPDX-License-Identifier: GPL-3.0-or-later
"""Thousands of actions on a process of 64 threads that checks itself without a pause.

ARENASCOPE_LONG=1: 10,000 injections, and 2,000 reclaims under 64 verifying threads.
"""

import os
import subprocess

import pytest

import helpers

LONG = os.environ.get("ARENASCOPE_LONG") == "1"
MANY = os.environ.get("FAULT_MANY") or str(helpers.VICTIMS.parent / "fault" / "many")


def run(victim, count, actions, kinds):
    v = victim("stress", *[f"{k}={n}" for k, n in kinds.items()])
    v.line("ready")
    done = subprocess.run([MANY, str(v.pid), str(count), *actions, "wait=60000"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=7200)
    v.process.stdin.close()
    verdict = v.line("", 120)
    print(done.stdout + verdict)
    assert v.process.wait(120) == 0 and verdict.startswith("ok "), f"{verdict}\n{done.stdout}"
    assert " 0 interrupted" in verdict
    assert done.returncode == 0, done.stdout


def test_injections(victim):
    """Every kind of sleep, registers, signals, forks, short threads, and allocation."""
    run(victim, 10000 if LONG else 60, ["trim", "tune"],
        dict(alloc=8, sleep=44, spin=4, churn=2, fork=2, signal=4, max=100000, rest=20000))


def test_reclaims(victim):
    """Every arena, without a pause: every byte of every block is verified when it is freed."""
    run(victim, 2000 if LONG else 20, ["reclaim"], dict(alloc=64, rest=0 if LONG else 20000))
