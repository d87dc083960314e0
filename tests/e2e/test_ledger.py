# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger against the kernel: its lines add up to Rss of the same stop, to the byte."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from helpers import PAGE, Victim, arenascope, arenascope_json, gcore, maps, resident, smaps, state, wait_for

PAGES = ("in_use", "cached", "trimmable", "retained", "fragmented", "metadata")


@contextlib.contextmanager
def stopped(pid):
    """Stopped by job control, so that arenascope and this test look at the same moment."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: state(pid) == "T", what="the stop")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def kernel_rss(pid):
    return sum(m["Rss"] for m in smaps(pid))


def lines(ledger):
    return (ledger["malloc"]["resident_bytes"] + ledger["mmapped_chunks_bytes"] + ledger["thread_stacks_bytes"] +
            ledger["files_bytes"] + ledger["shared_bytes"] + ledger["unknown_anonymous_bytes"] +
            sum(i["bytes"] for i in ledger["other_anonymous"]))


def identity(pages):
    assert pages["resident_bytes"] == sum(pages[f"{p}_bytes"] for p in PAGES), pages


def check(pid):
    """Read in one stop; the ledger."""
    with stopped(pid):
        for _ in range(3):
            # the first look maps pages of files and of the vDSO into the target
            truth = kernel_rss(pid)
            swap = sum(m["Swap"] for m in smaps(pid))
            # a program of its own will may rest in the middle of an operation: partial, but it adds up
            doc = arenascope_json("-p", pid, "rss", "--maps", rc=(0, 1), timeout=300)
            if kernel_rss(pid) == truth:
                break
    ledger = doc["ledger"]
    assert lines(ledger) == truth
    assert ledger["rss_bytes"] == truth
    assert ledger["kernel_rss_bytes"] in (truth, None)
    assert ledger["swapped_bytes"] == swap
    identity(ledger["malloc"])
    assert sum(m["resident_bytes"] for m in doc["maps"]) == truth
    unknown = sum(m["resident_bytes"] for m in doc["maps"] if m["owner"] == "unknown")
    assert unknown == ledger["unknown_anonymous_bytes"] == sum(m["bytes"] for m in ledger["unknown_anonymous"])
    return doc


MIXES = {
    "one": [],
    "threads": ["--threads=8", "--payload=4000000"],
    "many": ["--threads=100", "--arenas=120", "--ops=100", "--payload=4000000"],
    "noncontiguous": ["--noncontiguous", "--ops=4000"],
    "foreign-sbrk": ["--sbrk", "--ops=4000"],
    "mlock": ["--mlock", "--ops=2000"],
    "alternate": ["--size=page", "--free=alternate", "--ops=4000", "--threads=3"],
    "fastbins": ["--size=small", "--mxfast=160", "--ops=20000"],
}


@pytest.mark.parametrize("name", MIXES)
def test_mixes(victim, name):
    v = victim("mix", *MIXES[name])
    v.line("ready")
    doc = check(v.pid)
    report = arenascope_json("-p", v.pid, "report")
    assert report["ledger"]["malloc"] == doc["ledger"]["malloc"]
    arenas = arenascope_json("-p", v.pid, "arenas")["arenas"]
    for a in arenas:
        identity(a)
    for key in ("resident", *PAGES):
        assert sum(a[f"{key}_bytes"] for a in arenas) == doc["ledger"]["malloc"][f"{key}_bytes"], key
    v.quit()


def test_trimmable_and_retained_are_the_predictions(victim):
    v = victim("mix", "--threads=8", "--payload=4000000", "--ops=3000")
    v.line("ready")
    with stopped(v.pid):
        pages = arenascope_json("-p", v.pid, "rss")["ledger"]["malloc"]
        trim = arenascope_json("-p", v.pid, "trim", "-n")["prediction"]
        reclaim = arenascope_json("-p", v.pid, "reclaim", "-n")["prediction"]
    assert trim["bytes"] == pages["trimmable_bytes"] == sum(a["bytes"] for a in trim["arenas"])
    # reclaim returns both, but for pages that malloc_trim makes whole by consolidating fastbins
    assert pages["retained_bytes"] <= reclaim["bytes"] <= pages["retained_bytes"] + pages["trimmable_bytes"]
    assert sum(s["bytes"] for s in trim["stays"]) + trim["bytes"] == sum(
        pages[f"{k}_bytes"] for k in ("cached", "trimmable", "retained", "fragmented"))
    v.quit()


def test_stacks_and_files(victim):
    v = victim("mix", "--threads=12")
    v.line("ready")
    ledger = check(v.pid)["ledger"]
    assert len(ledger["stacks"]) == 13
    assert sum(s["resident_bytes"] for s in ledger["stacks"]) == ledger["thread_stacks_bytes"]
    for s in ledger["stacks"]:
        assert resident(v.pid, int(s["start"], 16), int(s["end"], 16)) == s["resident_bytes"]
    main = next(m for m in maps(v.pid) if m["name"] == "[stack]")
    assert any(int(s["start"], 16) == main["start"] for s in ledger["stacks"])
    files = sum(m["Rss"] for m in smaps(v.pid) if m["inode"])
    assert ledger["files_bytes"] == files
    v.quit()


PYTHON = """
import mmap, sys, threading
objects = [object() for _ in range(200000)]
big = [bytearray(500_000) for _ in range(20)]
shared = mmap.mmap(-1, 3 << 20)
shared[:] = b"x" * len(shared)
threads = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(3)]
[t.start() for t in threads]
print("ready", flush=True)
sys.stdin.readline()
"""


def test_python(victim):
    v = victim(sys.executable, "-c", PYTHON)
    v.line("ready")
    ledger = check(v.pid)["ledger"]
    named = {i["name"]: i["bytes"] for i in ledger["other_anonymous"]}
    # those that the kernel merged with other mappings cannot be told by size: they stay unknown
    assert named["Python object arenas (by size)"] > 1 << 19
    assert named["Python object arenas (by size)"] + ledger["unknown_anonymous_bytes"] > 2 << 20
    assert ledger["shared_bytes"] >= 3 << 20
    assert ledger["mmapped_chunks_bytes"] + ledger["malloc"]["in_use_bytes"] >= 10_000_000


PROGRAMS = {
    "perl": ["perl", "-e", '$|=1; push @a, "x" x 5000 for 1..2000; print "ready\n"; <STDIN>'],
    "gdb": ["gdb", "-q", "-nx", "-ex", "echo ready\\n"],
    "node": ["node", "-e", 'let a=[]; for(let i=0;i<1e5;i++)a.push({i}); console.log("ready"); process.stdin.resume()'],
    "sqlite3": ["sqlite3", "-cmd", "create table t(x); insert into t values('ready'); select x from t;"],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(victim, name):
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    v = victim(*PROGRAMS[name])
    wait_for(lambda: any("ready" in text for text in v.lines), what="ready")
    check(v.pid)


def test_no_residency_in_a_core_is_said(victim, tmp_path):
    v = victim("mix", "--threads=3")
    v.line("ready")
    core = gcore(v.pid, tmp_path / "core")
    doc = arenascope_json("-c", core, "rss")
    assert doc["ledger"]["approximate"] is True
    assert any(w["code"] == "W-CORE-PAGES" for w in doc["warnings"])
    identity(doc["ledger"]["malloc"])
    v.quit()


def test_another_user_may_not_see_pages(victim):
    """No residency: unknown is null, never 0, and the exit status says partial."""
    v = victim("mix")
    v.line("ready")
    run = arenascope("--json", "-p", v.pid, "--no-stop", "rss", rc=(0, 1))
    assert run.json["ledger"]["rss_bytes"] is None or run.json["ledger"]["rss_bytes"] > 0
    v.quit()


def test_map_cells_add_up(victim):
    v = victim("mix", "--threads=4", "--payload=4000000")
    v.line("ready")
    with stopped(v.pid):
        doc = arenascope_json("-p", v.pid, "map")
        pages = arenascope_json("-p", v.pid, "rss")["ledger"]["malloc"]
        trimmed = arenascope_json("-p", v.pid, "map", "--after=trim")
    def resident_of(d):
        return sum(sum(h["live_bytes"]) + sum(h["free_bytes"]) + sum(h["top_bytes"]) for h in d["heaps"])
    assert resident_of(doc) == pages["resident_bytes"]
    assert resident_of(trimmed) == pages["resident_bytes"] - pages["trimmable_bytes"]
    assert sum(row["pages"] for row in doc["histogram"]) * PAGE == pages["resident_bytes"]
    v.quit()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts over the target's pagemap in a namespace of its own")
def test_unreadable_pagemap_is_unknown_not_zero(tmp_path):
    """Behind an empty /proc/PID/pagemap nothing is known of residency: null, "?" and an upper bound."""
    (tmp_path / "empty").touch()
    with Victim("mix", "--threads=3") as v:
        def hidden(*args):
            inner = f'mount --make-rprivate / && mount --bind {tmp_path}/empty /proc/{v.pid}/pagemap && exec "$@"'
            return subprocess.run(["unshare", "-m", "sh", "-c", inner, "sh", os.environ["ARENASCOPE"], "-q", "-p",
                                   str(v.pid), *args], capture_output=True, text=True, timeout=60)

        done = hidden("-j", "rss")
        assert done.returncode == 1, done.stderr
        doc = json.loads(done.stdout)
        assert doc["ledger"]["rss_bytes"] is None and doc["ledger"]["malloc"]["in_use_bytes"] is None
        assert "W-PAGEMAP" in [w["code"] for w in doc["warnings"]] and doc["complete"] is False
        for arena in json.loads(hidden("-j", "arenas").stdout)["arenas"]:
            assert arena["resident_bytes"] is None and arena["trimmable_bytes"] is None
        assert "RSS ?" in hidden("report").stdout
        assert "at most" in hidden("trim", "-n").stdout
