# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading fast must read the same, and must leave nothing behind, however often it is done."""

import json
import os
import pathlib
import re
import signal

import pytest

import helpers
from helpers import arenascope, arenascope_json

TIMES = 2000 if os.environ.get("ARENASCOPE_LONG") == "1" else 40


@pytest.mark.parametrize("shape", [(3, 30000, 1400), (0, 60000, 90), (5, 3000, 100000)])
def test_swept_lists_are_glibc_s_own(core_victim, tmp_path, shape):
    """Long lists over much memory, which are swept and not followed: byte for byte what glibc counts."""
    v = core_victim("heap", *shape)
    v.line("ready")
    path = tmp_path / "info.xml"
    v.ask(f"info {path}", "info")
    theirs = path.read_bytes()
    assert arenascope("-p", v.pid, "malloc-info").bytes == theirs
    walked = arenascope_json("-p", v.pid, "check")
    assert walked["findings"] == [] and walked["unwalked_bytes"] == 0
    # after a walk of every chunk the lists are what they are without one
    both = arenascope("-p", v.pid, "-x", "-", stdin="check\nmalloc-info\n").bytes
    assert both.endswith(theirs)
    before = set(os.listdir(tmp_path))
    v.signal(signal.SIGABRT)
    v.process.wait()
    (core,) = set(os.listdir(tmp_path)) - before
    assert arenascope("-c", tmp_path / core, "malloc-info").bytes == theirs
    same = arenascope_json("-c", tmp_path / core, "check")
    assert same["findings"] == [] and same["checked_chunks"] == walked["checked_chunks"]


def test_find_reads_one_arena(victim):
    """The same answer as after a walk of everything."""
    v = victim("heap", 3, 5000, 1000)
    v.line("ready")
    for kind in ("main", "mmap"):
        arena = next(a for a in arenascope_json("-p", v.pid, "arenas")["arenas"] if a["kind"] == kind)
        chunks = arenascope_json("-p", v.pid, "chunks", f"--arena={arena['index']}", "--limit=40")["chunks"]
        for c in chunks[1:40:13]:
            alone = arenascope_json("-p", v.pid, "find", c["address"])
            both = arenascope("-p", v.pid, "--json", "-x", "-", stdin=f"check\nfind {c['address']}\n").bytes.decode()
            _, end = json.JSONDecoder().raw_decode(both)
            walked, _ = json.JSONDecoder().raw_decode(both[end:].lstrip())
            assert alone["chunk"]["size_bytes"] == c["size_bytes"] and alone["chunk"]["state"] == c["state"]
            for key in ("chunk", "previous", "next", "arena", "heap", "bin", "what"):
                assert alone[key] == walked[key], key


def memory(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return {key: int(re.search(rf"{key}:\s+(\d+)", text)[1]) for key in ("RssAnon", "VmPTE", "VmSize")}


@pytest.mark.parametrize("command", ["report", "sizes", "stacks", "rss"])
def test_again_and_again(victim, command):
    """Signals are neither lost nor doubled (the victim counts them), nothing stays traced or mapped."""
    v = victim("attach", "signals", 8)
    v.line("ready")
    v.ask("check", "ok")
    rc = (0, 1)  # malloc may be busy at the moment of one of them
    for _ in range(TIMES // 20):
        arenascope("-p", v.pid, "--keep-going", "-x", "-", stdin=f"refresh\n{command}\n" * 20, rc=rc, timeout=600)
    assert v.ask("check").startswith("ok ")
    assert helpers.status(v.pid)["TracerPid"] == "0"
    children = [p for t in helpers.tids(v.pid)
                for p in pathlib.Path(f"/proc/{v.pid}/task/{t}/children").read_text().split()]
    assert not children
    v.quit()
    assert v.lines[-1].endswith("good"), v.lines[-1]


@pytest.mark.parametrize("command", ["report", "sizes", "check"])
def test_target_does_not_grow(service, command):
    arenascope("-p", service.pid, command)  # the first look maps the vDSO page in
    before = memory(service.pid)
    arenascope("-p", service.pid, "-x", "-", stdin=f"refresh\n{command}\n" * TIMES, timeout=3000)
    assert memory(service.pid) == before
    service.quit()
