# SPDX-License-Identifier: GPL-3.0-or-later
"""Heaps far larger than this machine's memory, as cores that bench/sparse-core writes and counts: the numbers are its
own, time goes with size, memory stays within --max-memory, and Ctrl-C is heard at once. ARENASCOPE_LONG=1: 10^8 chunks
and 100 GB."""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

import helpers
from helpers import arenascope_json

LONG = os.environ.get("ARENASCOPE_LONG") == "1"
GENERATOR = pathlib.Path(__file__).resolve().parents[2] / "bench" / "sparse-core"
COMMANDS = ["check", "sizes", "arenas", "report", "rss", "pins", "map", "bins", "chunks --limit=2000 --size=1000..2000",
            "malloc-info"]


@pytest.fixture
def sparse(core_victim, tmp_path):
    """A function (chunks, size) -> (core, what is in it)."""
    v = core_victim("heap", 1, 100, 64)
    v.line("ready")
    before = set(os.listdir(tmp_path))
    v.signal(signal.SIGABRT)
    v.process.wait()
    (seed,) = set(os.listdir(tmp_path)) - before

    def make(chunks, size):
        path = tmp_path / f"{chunks}-{size}.core"
        out = subprocess.run([sys.executable, GENERATOR, "--chunks", str(chunks), "--size", str(size), tmp_path / seed, path],
                             check=True, stdout=subprocess.PIPE)
        return path, json.loads(out.stdout)

    return make


# Whoever executes a program hands its own peak on to it, and this one has read large documents: by a small one.
LAUNCH = """import os, sys
peak = int(sys.argv[1])
os.set_inheritable(peak, False)
_, status, usage = os.wait4(os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ), 0)
os.write(peak, b"%d" % (usage.ru_maxrss << 10))
sys.exit(os.waitstatus_to_exitcode(status) & 255)"""


def measured(*args):
    """(JSON or text, peak bytes)"""
    peak, to = os.pipe()
    with open(peak, "rb") as told:
        p = subprocess.Popen([sys.executable, "-IS", "-c", LAUNCH, str(to), helpers.ARENASCOPE, "-q", *map(str, args)],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[to])
        os.close(to)
        out, err = p.communicate()
        assert p.returncode in (0, 1), err
        return out, int(told.read())


def said(out):
    try:
        doc = json.loads(out)
    except ValueError:
        return out
    return {k: v for k, v in doc.items() if k not in ("taken_at", "pause_ms", "capture", "warnings")}


def holds_the_truth(core, truth, *options):
    out, _ = measured(*options, "-j", "-c", core, "arenas")
    (arena,) = [a for a in json.loads(out)["arenas"] if a["address"] == truth["arena"]]
    assert arena["heap_count"] == truth["heaps"] and arena["mapped_bytes"] == truth["bytes"]
    counts = arena["chunk_counts"]
    assert counts["in_use"] == truth["in_use"] and counts["large"] == truth["free"] and counts["top"] == 1
    out, _ = measured(*options, "-j", "-c", core, "check")
    check = json.loads(out)
    assert check["findings"] == [] and check["unwalked_bytes"] == 0
    assert check["checked_chunks"] >= truth["in_use"] + truth["free"] + 1


@pytest.mark.parametrize("chunks, size", [(100000, 64), (3000000, 64), (400000, 1024)] +
                         ([(100000000, 64), (100000000, 1024)] if LONG else []))
def test_counts_what_is_there(sparse, chunks, size):
    core, truth = sparse(chunks, size)
    assert truth["in_use"] >= chunks
    holds_the_truth(core, truth)
    holds_the_truth(core, truth, "--max-memory=8M")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_in_little_memory(sparse, command):
    core, truth = sparse(100000000 if LONG else 5000000, 64)
    options = ["-c", core, *command.split()] if command == "malloc-info" else ["-j", "-c", core, *command.split()]
    much, _ = measured(*options)
    few, peak = measured("--max-memory=16M", *options)
    assert said(few) == said(much)
    # 16 MiB of tables, and 32 for everything else; what a sanitizer takes beside it is not ours
    assert helpers.SANITIZED or peak < 48 << 20, f"{peak >> 20} MiB"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_live(victim, command):
    v = victim("heap", 3, 40000, 700)
    v.line("ready")
    measured("-p", v.pid, "rss")  # the first look maps a page or two in
    options = ["-p", v.pid, *command.split()] if command == "malloc-info" else ["-j", "-p", v.pid, *command.split()]
    much, _ = measured(*options)
    for bound in ("1M", "64K"):
        few, _ = measured(f"--max-memory={bound}", *options)
        assert said(few) == said(much)
    v.quit()


NO_CACHES = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"}
GOAL = 64 << 20  # of a report, whatever the heap
# files may not grow over 1 MiB: the same as a disk that is full, but that a signal would come
NO_FILES = ["sh", "-c", 'ulimit -f 1024; exec "$0" "$@"']


def core_of(v, tmp_path):
    before = set(os.listdir(tmp_path))
    v.signal(signal.SIGABRT)
    v.process.wait()
    (name,) = set(os.listdir(tmp_path)) - before
    return tmp_path / name


def within_the_goal(*args):
    out, peak = measured("-j", *args)
    assert helpers.SANITIZED or peak <= GOAL, f"{peak / 2**20:.1f} MiB"
    return json.loads(out)


def report_without_files(*args):
    p = subprocess.run([*NO_FILES, helpers.ARENASCOPE, "-q", "-j", *map(str, args), "report"], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE)
    assert p.returncode in (0, 1), p.stderr
    return said(p.stdout)


@pytest.mark.parametrize("arenas, chunks", [(0, 7000000)] + ([(0, 40000000), (148, 270000)] if LONG else []))
def test_a_report_of_millions_of_free_chunks(core_victim, tmp_path, arenas, chunks):
    """Free chunks, and what is kept of them while the lists are read, are more than the goal: most are in a file."""
    v = core_victim("lace", arenas, chunks, 24, env=NO_CACHES)
    count, size = map(int, v.line("ready").split()[1:])
    core = core_of(v, tmp_path)
    bins = [b for b in within_the_goal("-c", core, "bins")["bins"] if b["kind"] in ("unsorted", "small")]
    assert sum(b["count"] for b in bins) == count and sum(b["bytes"] for b in bins) == size
    report = within_the_goal("-c", core, "report")
    # where there is no file, as much memory is taken as --max-memory allows
    assert report_without_files("-c", core) == said(json.dumps(report))


@pytest.mark.parametrize("victim_args", [("lace", 0, 8000000, 24), ("heap", 0, 12000000, 64)])
def test_a_walk_of_mostly_free_chunks(victim, victim_args):
    """Half of the chunks, or most of them, are in lists: a walk keeps no more than 16 bytes a chunk all the same."""
    v = victim(*victim_args, env=NO_CACHES if victim_args[0] == "lace" else {})
    v.line("ready")
    out, peak = measured("-j", "--max-pause=20s", "-p", v.pid, "arenas")
    counts = json.loads(out)["arenas"][0]["chunk_counts"]
    assert sum(counts.values()) >= victim_args[2] and sum(counts.values()) > 1.6 * counts["in_use"]
    assert helpers.SANITIZED or peak <= 16 * sum(counts.values()) + (32 << 20), f"{peak / 2**20:.1f} MiB"
    assert json.loads(measured("-j", "--max-pause=20s", "-p", v.pid, "check")[0])["findings"] == []
    v.quit()


@pytest.mark.parametrize("both", [0, 2, 6])
def test_many_free_chunks_in_many_arenas(core_victim, tmp_path, both):
    """Where a pass has told of the bins of some arenas, the others are not swept, unless it does not tell of one of them."""
    v = core_victim("lace", 6, 140000, 40, 0, 0, 0, both, env=NO_CACHES)
    count, size = map(int, v.line("ready").split()[1:])

    def look(*target):
        d = within_the_goal(*target, "bins")
        assert d["complete"]
        bins = [b for b in d["bins"] if b["kind"] in ("unsorted", "small")]
        assert sum(b["count"] for b in bins) == count and sum(b["bytes"] for b in bins) == size
        kinds = [{b["kind"] for b in bins if b["arena"] == i} for i in range(1, 7)]
        assert [len(k) for k in kinds] == [1] * (6 - both) + [2] * both
        return bins

    live = look("--max-pause=20s", "-p", v.pid)
    assert look("--max-memory=64K", "--max-pause=20s", "-p", v.pid) == live
    core = core_of(v, tmp_path)
    assert look("-c", core) == live
    truth = json.loads(measured("-j", "-c", core, "arenas")[0])  # a walk, which sweeps and follows all
    assert sum(a["chunk_counts"][k] for a in truth["arenas"] for k in ("unsorted", "small", "large")) == count


def test_a_report_of_a_thousand_arenas(victim):
    """Each of them is small, but all are not: those that are done go to the file one after the other."""
    v = victim("lace", 1000, 12000, 40, env=NO_CACHES)
    count, size = map(int, v.line("ready").split()[1:])
    live = ("--max-pause=20s", "-p", v.pid)
    bins = [b for b in within_the_goal(*live, "bins")["bins"] if b["kind"] in ("unsorted", "small")]
    assert sum(b["count"] for b in bins) == count and sum(b["bytes"] for b in bins) == size
    report = within_the_goal(*live, "report")
    assert report["complete"] and len(report["arenas"]) == 1001
    without = report_without_files(*live)
    assert without["arenas"] == report["arenas"] and without["ledger"]["malloc"] == report["ledger"]["malloc"]
    v.quit()


def a_walk_is_within_the_goal(*target):
    """A word for each chunk and as much beside it, and what the program itself takes."""
    out, peak = measured("-j", *target, "sizes")
    chunks = sum(row["used_count"] + row["free_count"] for row in json.loads(out)["sizes"])
    assert helpers.SANITIZED or peak <= 16 * chunks + (32 << 20), f"{peak / 2**20:.1f} MiB of {chunks} chunks"


@pytest.mark.parametrize("env", [NO_CACHES, {}])
def test_a_report_of_thousands_of_threads(victim, env):
    """Each with an arena of its own that has nearly nothing in it: what is kept of an arena and of a thread is small."""
    v = victim("lace", 3000, 100, 40, env=env)
    count, size = map(int, v.line("ready").split()[1:])
    live = ("--max-pause=20s", "-p", v.pid)
    bins = within_the_goal(*live, "bins")["bins"]
    if env:
        bins = [b for b in bins if b["kind"] in ("unsorted", "small")]
        assert sum(b["count"] for b in bins) == count and sum(b["bytes"] for b in bins) == size
    report = within_the_goal(*live, "report")
    assert report["complete"] and len(report["arenas"]) == 3001
    assert report["ledger"]["rss_bytes"] == helpers.rss(v.pid)
    a_walk_is_within_the_goal(*live)
    v.quit()


@pytest.mark.parametrize("shape", [("mb=300", "threads=2", "rest=1000"), ("mb=200", "threads=8", "size=200", "rest=0")])
def test_an_optimistic_walk_of_a_heap_that_changes(victim, shape):
    """Two models, and what the stop has read: however much it could read."""
    v = victim("load", *shape)
    v.line("ready")
    a_walk_is_within_the_goal("--capture=optimistic", "-p", v.pid)
    v.quit()


def test_metrics_of_thousands_of_arenas(victim):
    """Each sample waits for the end, since those of a name stand together: in no more than the report itself takes."""
    v = victim("lace", 6000, 40, 40)
    v.line("ready")
    live = ("--max-pause=20s", "-p", v.pid)
    out, peak = measured("--format=openmetrics", *live, "report")
    assert helpers.SANITIZED or peak <= GOAL, f"{peak / 2**20:.1f} MiB"
    found = re.findall(r'^arenascope_arena_retained_bytes\{.*arena="(\d+)".*\} (\d+)$', out.decode(), re.M)
    assert [(int(i), int(n)) for i, n in found] == [(a["index"], a["retained_bytes"])
                                                    for a in within_the_goal(*live, "report")["arenas"]]
    a_walk_is_within_the_goal(*live)
    v.quit()


def test_a_report_of_millions_of_runs_of_pages(victim):
    v = victim("lace", 0, 1000, 24, 4000000)
    v.line("ready")
    report = within_the_goal("-p", v.pid, "report")
    assert report["ledger"]["rss_bytes"] == helpers.rss(v.pid)
    without = report_without_files("-p", v.pid)
    assert without["ledger"]["malloc"] == report["ledger"]["malloc"]
    assert without["arenas"] == report["arenas"]
    v.quit()


def test_a_report_of_many_mmapped_chunks(victim):
    """A word each: whatever there are of them, they do not count against the goal."""
    v = victim("lace", 0, 1000, 24)
    v.line("ready")
    _, without = measured("-j", "-p", v.pid, "report")
    v.quit(None)
    v = victim("lace", 0, 1000, 24, 0, 200000)
    count, size = map(int, v.line("mmapped").split()[1:])
    v.line("ready")
    assert count > 199000
    live = ("--max-pause=20s", "-p", v.pid)
    for options in live, ("--max-memory=1M", *live):
        out, peak = measured("-j", *options, "report")
        report = json.loads(out)
        assert report["mmapped"]["count"] == count and report["mmapped"]["bytes"] == size
        assert report["complete"] and report["ledger"]["rss_bytes"] == helpers.rss(v.pid)
        assert helpers.SANITIZED or peak - without < 16 * count, f"{(peak - without) / count} bytes a chunk"
        out, peak = measured("-j", *options, "check")
        check = json.loads(out)
        assert check["complete"] and check["findings"] == []
        assert helpers.SANITIZED or peak - without < 16 * count, f"{(peak - without) / count} bytes a chunk"
    v.quit(None)


def test_mmapped_chunks_in_a_file(victim):
    v = victim("lace", 0, 1000, 24, 0, 70000)
    count, size = map(int, v.line("mmapped").split()[1:])
    v.line("ready")
    chunks = []
    for memory in ("64K", "1G"):
        out, _ = measured("-j", f"--max-memory={memory}", "--max-pause=20s", "-p", v.pid, "chunks", "--state=mmapped")
        chunks.append(json.loads(out)["chunks"])
    assert chunks[0] == chunks[1] and len(chunks[0]) == count
    addresses = [int(c["address"], 0) for c in chunks[0]]  # those where no mapping begins are found later, and stand among the others
    assert addresses == sorted(set(addresses))
    assert sum(c["size_bytes"] + int(c["address"], 0) % 4096 for c in chunks[0]) == size
    assert sum(c["size_bytes"] % 4096 == 4096 - 496 for c in chunks[0]) > count / 200  # those of memalign
    assert sum(c["size_bytes"] > 80 << 20 for c in chunks[0]) == 2
    for command in ("check", "report"):
        before, _ = measured("-j", "--max-pause=20s", "-p", v.pid, command)
        out, peak = measured("-j", "--capture=optimistic", "-p", v.pid, command)
        assert json.loads(out)["capture"]["unverified_bytes"] == 0 and said(out) == said(before)
        assert helpers.SANITIZED or peak < 32 << 20, f"{peak / 2**20:.1f} MiB"
    for c in chunks[0][::30000]:
        out, _ = measured("-j", "--max-memory=64K", "-p", v.pid, "find", hex(int(c["address"], 0) + 20))
        assert json.loads(out)["chunk"]["address"] == c["address"]
    v.quit(None)


def test_digests_of_many_pages(victim):
    """An optimistic capture of 14 GB keeps no more of the pages that it has read than any other walk of its chunks."""
    v = victim("lace", 0, 1000, 24, 0, 0, 60000)
    v.line("ready")
    docs = {}
    for engine in ("copy", "optimistic"):
        out, peak = measured("-j", f"--capture={engine}", "--max-pause=20s", "-p", v.pid, "check")
        docs[engine] = json.loads(out)
    check, capture = docs["optimistic"], docs["optimistic"]["capture"]
    assert capture["engine"] == "optimistic" and capture["unverified_bytes"] == 0
    assert said(json.dumps(check)) == said(json.dumps(docs["copy"])) and check["checked_chunks"] >= 61000
    most = (32 << 20) + 16 * check["checked_chunks"] + capture["reread_bytes"]
    assert helpers.SANITIZED or peak < most, f"{peak / 2**20:.1f} of {most / 2**20:.1f} MiB"
    v.quit(None)


@pytest.mark.parametrize("load", [False, True])
def test_the_same_with_digests_in_a_file(victim, load):
    v = victim("heap", 3, 40000, 700)
    v.line("ready")
    before, _ = measured("-j", "-p", v.pid, "check")
    if load:
        v.send("load on")
    p = subprocess.run([helpers.HOOKED, "-q", "-j", "--capture=optimistic", "-p", str(v.pid), "check"], check=False,
                       stdout=subprocess.PIPE, env={**os.environ, "ARENASCOPE_NOTES": "2"})
    check = json.loads(p.stdout)
    assert check["capture"]["engine"] == "optimistic" and not [f for f in check["findings"] if f["severity"] == "corrupt"]
    assert p.returncode == (0 if check["complete"] else 1)
    assert load or (said(p.stdout) == said(before) and check["capture"]["unverified_bytes"] == 0)
    v.quit()


def test_an_optimistic_report_of_a_busy_heap(victim):
    """Memory for what its stops may read is taken when they read it."""
    v = victim("heap", 2, 300000, 800)
    v.line("ready")
    v.send("load on")
    report = within_the_goal("--capture=optimistic", "-p", v.pid, "report")
    assert report["capture"]["engine"] == "optimistic" and len(report["arenas"]) == 3
    v.quit()


def test_a_prediction_of_many_ranges(victim):
    """More than are told at a time: what malloc_trim really returns is what was said."""
    v = victim("lace", 0, 40000, 12000, env=NO_CACHES)
    v.line("ready")
    out, _ = measured("-j", "-p", v.pid, "report")
    told = json.loads(out)["ledger"]["malloc"]["trimmable_bytes"]
    out, _ = measured("-j", "-p", v.pid, "trim", "-n")
    prediction = json.loads(out)["prediction"]
    assert prediction["ranges"] > 2 * 4096 and prediction["bytes"] == told
    before = helpers.heap_rss(v.pid)
    measured("-j", "-p", v.pid, "trim", "-y")
    assert before - helpers.heap_rss(v.pid) == prediction["bytes"]
    v.quit()


@pytest.mark.parametrize("shape", ["3 40000 700", "1 80000 64"])
def test_damaged_alike(core_victim, tmp_path, shape):
    """In little memory every step of the way is another one, and none may be where what was read leads astray."""
    v = core_victim("heap", *shape.split())
    v.line("ready")
    core = core_of(v, tmp_path)
    r = random.Random(8)
    whole = core.read_bytes()
    told = 0
    for _ in range(6):
        b = bytearray(whole)
        for _ in range(400):
            at = r.randrange(len(b) // 8) * 8
            if at < 1 << 16:  # the core's own headers
                continue
            to = r.choice([r.randrange(len(b) // 8) * 8, at])
            b[at:at + 8] = r.choice([b[to:to + 8], bytes([b[at] ^ 1 << r.randrange(8)]) + b[at + 1:at + 8], b"\0" * 8])
        core.write_bytes(b)
        for command in ("report", "check", "bins", "trim -n", "reclaim -n"):
            few, much = (subprocess.run([helpers.HOOKED, "-q", "-j", "-c", core, *options, *command.split()],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **env})
                         for options, env in ((["--max-memory=64K"], {"ARENASCOPE_RUNS": "2"}), ([], {})))
            assert few.returncode == much.returncode and few.stderr == much.stderr, (few.stderr, much.stderr)
            assert said(few.stdout) == said(much.stdout)
            told += len(json.loads(much.stdout).get("findings", [])) if command == "check" else 0
    assert told > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_with_runs_in_a_file(victim, command):
    v = victim("heap", 3, 4000, 70000)
    v.line("ready")
    measured("-p", v.pid, "rss")
    options = ["-q", "-p", str(v.pid), *command.split()] if command == "malloc-info" else ["-q", "-j", "-p", str(v.pid),
                                                                                         *command.split()]
    few, much = (subprocess.run([helpers.HOOKED, *options], stdout=subprocess.PIPE, env={**os.environ, **env}, check=False)
                 for env in ({"ARENASCOPE_RUNS": "2"}, {}))
    assert few.returncode == much.returncode and said(few.stdout) == said(much.stdout)
    v.quit()


@pytest.mark.parametrize("shape", ["2 400000 64", "2 100000 1400", "8 20000 780", "3 20000 9000"])
@pytest.mark.parametrize("memory", ["64K", "2M"])
def test_bins_by_one_pass(victim, tmp_path, shape, memory):
    """More free chunks than may be kept for the lists: the bins are read in the order of addresses, and are glibc's."""
    v = victim("heap", *shape.split())
    v.line("ready")

    def at_rest():
        for name in ("info", "again"):
            v.ask(f"info {tmp_path}/{name}", "info")
        return (tmp_path / "info").read_bytes() == (tmp_path / "again").read_bytes()

    for load in (False, True):  # the unsorted bin is long, then the others
        if load:
            until = helpers.cpu_ticks(v.pid) + 50
            v.send("load on")
            helpers.wait_for(lambda: helpers.cpu_ticks(v.pid) > until, 60, "some work")
            v.send("load off")
        helpers.wait_for(at_rest)
        ours = helpers.arenascope("-q", f"--max-memory={memory}", "--max-pause=20s", "-p", v.pid, "malloc-info")
        assert ours.bytes == (tmp_path / "info").read_bytes()
    v.quit()


@pytest.mark.parametrize("take", [0, 10000, 60000])
def test_fastbins_by_one_pass(victim, tmp_path, take):
    """Chunks that were in a fastbin, and are in use again with its links in them: a few, and more than can be told apart."""
    v = victim("heap", 1, 400000, 64)
    v.line("ready")
    v.ask(f"take {take} 40", "took")
    v.ask(f"info {tmp_path}/info", "info")
    for memory in ("64K", "1M", "1G"):
        ours = helpers.arenascope("-q", f"--max-memory={memory}", "--max-pause=20s", "-p", v.pid, "malloc-info")
        assert ours.bytes == (tmp_path / "info").read_bytes()
    v.quit()


def test_a_report_of_millions_in_fastbins(victim):
    """They look in use, and can be told only by their links: neither memory nor the pause goes with them."""
    v = victim("heap", 1, 10000000, 64)
    v.line("ready")
    report = within_the_goal("--max-pause=20s", "-p", v.pid, "report")
    assert report["complete"]
    fast = [b for b in within_the_goal("--max-pause=20s", "-p", v.pid, "bins")["bins"] if b["kind"] == "fast"]
    assert sum(b["count"] for b in fast) > 6000000
    v.quit()


def test_nowhere_to_put_it(sparse, tmp_path):
    """A disk that is full, or none: said, with what helps, and no SIGBUS."""
    core, _ = sparse(1000000, 64)
    small = ["--max-memory=1M", "-c", core, "check"]
    # files may not grow over 1 MiB: the same error as a full disk gives
    p = subprocess.run(["sh", "-c", 'ulimit -f 1024; trap "" XFSZ; exec "$0" "$@"', helpers.ARENASCOPE, *map(str, small)],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 2 and "--max-memory" in p.stderr, p.stderr


@pytest.mark.parametrize("command", ["check", "report", "sizes"])
def test_ctrl_c(sparse, command):
    core, _ = sparse(20000000 if not LONG else 100000000, 1024)
    p = subprocess.Popen([helpers.ARENASCOPE, "-c", str(core), command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                         text=True)
    time.sleep(0.5)
    p.send_signal(signal.SIGINT)
    err = p.communicate(timeout=30)[1]
    assert p.returncode == 130 and "interrupted" in err, (p.returncode, err)
