# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures, and the promise that no test leaves a process behind."""

import os
import pathlib

import pytest

import helpers


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs only with ARENASCOPE_LONG=1")


def pytest_collection_modifyitems(items):
    if os.environ.get("ARENASCOPE_LONG") == "1":
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="long: ARENASCOPE_LONG=1 runs it"))


def _children():
    found = {}
    for task in os.listdir("/proc/self/task"):
        try:
            children = pathlib.Path(f"/proc/self/task/{task}/children").read_text().split()
        except OSError:  # a thread that has just ended
            continue
        for pid in children:
            try:
                found[int(pid)] = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                pass
    return found


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = _children()
    yield
    helpers.wait_for(lambda: not set(_children()) - set(before), 5,
                     f"the end of {[c for p, c in _children().items() if p not in before]}")


@pytest.fixture
def victim():
    """victim("name", args...) starts one and ends it with the test."""
    started = []

    def start(*args, **more):
        started.append(helpers.Victim(*args, **more))
        return started[-1]

    yield start
    for v in started:
        v.close()
        print(f"{v.argv}: ended with {v.process.poll()}, last words {v.lines[-5:]}")  # shown where a test fails


@pytest.fixture
def core_victim(victim, tmp_path):
    """Like victim, but in a directory of its own where the kernel may leave a core."""
    if not helpers.kernel_core_works():
        pytest.skip("kernel.core_pattern gives cores to another program")

    def start(*args, **more):
        return victim(*args, core_limit=True, cwd=tmp_path, **more)

    return start


@pytest.fixture
def service(victim):
    """A small service: 12 arenas, payloads of 1 MB, idle."""
    v = victim("service", "--threads", 12, "--at-once", 4, "--requests", 60, "--payload", 1000003)
    v.line("idle")
    return v
