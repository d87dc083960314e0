# SPDX-License-Identifier: GPL-3.0-or-later
"""Predictions against real calls of malloc_trim: tests/oracle/trim-prediction, a choice of its heaps."""

import pathlib
import re
import subprocess

import pytest

ORACLE = pathlib.Path(__file__).resolve().parent.parent / "oracle" / "trim-prediction"
QUICK = ["one", "page", "tail", "small-alternate", "all-freed", "one-arena", "threads-8", "no-tcache-small",
         "mxfast-160-threads", "mlockall", "foreign-sbrk", "foreign-sbrk-late", "noncontiguous", "tiny-top"]


def oracle(*args):
    done = subprocess.run([ORACLE, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1000)
    assert done.returncode == 0, done.stdout
    assert re.search(r"largest error 0 pages .* return value wrong 0 times", done.stdout), done.stdout
    if "reclaim on" in done.stdout:
        assert re.search(r"^reclaim on \d+ heaps: largest error 0 pages", done.stdout, re.M), done.stdout
    return done.stdout


def test_to_the_page():
    oracle("--pads=0", *QUICK)
    oracle("--pads=5000,1048576", *QUICK[:3])


@pytest.mark.long
def test_every_heap_and_pad():
    oracle()
