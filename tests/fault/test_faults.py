# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of tests/fault/faults: no situation harms a target. ARENASCOPE_LONG=1 runs all of them."""

import os
import pathlib
import subprocess

FAULTS = pathlib.Path(__file__).resolve().parent / "faults"
# test_act.py has most of the others one by one
SHORT = ["held", "Ctrl-C", "fork storm", "musl", "frozen", "memory left", "huge pages"]


def test_no_target_is_harmed():
    names = [] if os.environ.get("ARENASCOPE_LONG") == "1" else SHORT
    done = subprocess.run([FAULTS, *names], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1100)
    print(done.stdout)
    assert done.returncode == 0 and done.stdout.endswith("0 targets harmed\n"), done.stdout
