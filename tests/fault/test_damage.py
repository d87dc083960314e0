# SPDX-License-Identifier: GPL-3.0-or-later
"""Random damage to the heaps of live processes and to core files: it never crashes, hangs or grows, and the rest is told.

Words of malloc's own data (chunk headers and links, arenas, heaps, tcaches, mp_ and its neighbours) are overwritten;
core files are cut off, and bits in their headers, notes and bodies are flipped. ARENASCOPE_DAMAGE=N rounds of each
(200 with ARENASCOPE_LONG=1), from ARENASCOPE_SEED on; a failure names its seed.
"""

import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile
import threading
import time

import pytest

import helpers
import matrix

ROUNDS = int(os.environ.get("ARENASCOPE_DAMAGE") or (200 if os.environ.get("ARENASCOPE_LONG") == "1" else 6))
SEED = int(os.environ.get("ARENASCOPE_SEED") or 1)
SECONDS = 60  # of one run, on a loaded machine and with sanitizers
EXITS = {0, 1, 2, 65, 66, 69, 75, 78}  # whole, in part, refused; never a bug (70) nor a signal
COMMANDS = ["report", "rss", "arena 0", "arena 1", "bins", "sizes", "chunks", "map", "threads", "stuck", "stacks",
            "params", "check", "pins", "advise", "malloc-info", "malloc-stats", "trim -n", "reclaim -n", "symbols"]
FORMATS = ["json", "json", "json", "text", "html", "csv", "openmetrics", "jsonl"]
MASK = (1 << 64) - 1


class Run:
    """arenascope with a script; its output, exit status and the most memory it had."""

    def __init__(self, target, commands, fmt="json"):
        argv = [helpers.ARENASCOPE, *map(str, target), "-f", fmt, "-b", "--keep-going", "-x", "-"]
        env = {**os.environ, "LC_ALL": "C.UTF-8", "DEBUGINFOD_URLS": "", "ASAN_OPTIONS": "quarantine_size_mb=16"}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as script:
            script.write("".join(c + "\n" for c in commands).encode())
            script.seek(0)
            start = time.monotonic()
            process = subprocess.Popen(argv, stdin=script, stdout=out, stderr=err, env=env)
            late = threading.Timer(SECONDS, process.kill)
            late.start()
            _, status, usage = os.wait4(process.pid, 0)
            late.cancel()
            process.returncode = self.rc = os.waitstatus_to_exitcode(status)
            self.seconds, self.bytes = time.monotonic() - start, usage.ru_maxrss * 1024
            out.seek(0)
            err.seek(0)
            self.out, self.err = out.read().decode("utf-8", "replace"), err.read().decode("utf-8", "replace")
        self.argv, self.commands, self.fmt = argv, commands, fmt

    def __repr__(self):
        return (f"{' '.join(self.argv)} <<< {self.commands}: exit {self.rc} after {self.seconds:.1f} s, "
                f"{self.bytes >> 20} MiB\n{self.out[:1000]}\n{self.err[-6000:]}")

    def documents(self):
        found, at, decoder = {}, 0, json.JSONDecoder()
        while at < len(self.out):
            document, at = decoder.raw_decode(self.out, at)
            found[document["schema"].split("/")[1]] = document
            while at < len(self.out) and self.out[at].isspace():
                at += 1
        return found

    def good(self, most_bytes):
        assert self.rc in EXITS, self
        assert "Sanitizer" not in self.err and "runtime error" not in self.err, self
        assert "E-BUG" not in self.out + self.err, self
        assert self.bytes < most_bytes, self
        return self


class Subject:
    """A heap, all of whose words are known while it is whole: where malloc's own data is, and what should be told."""

    def __init__(self, target):
        self.target = target
        whole = Run(target, ["arenas --heaps", "chunks", "check", "symbols"]).good(1 << 40)
        documents = whole.documents()
        assert not documents["check"]["findings"], whole
        self.arenas = documents["arenas"]["arenas"]
        self.chunks = documents["chunks"]["chunks"]
        firsts = {}
        for c in self.chunks:
            firsts.setdefault(c["arena"], c)
        self.tcaches = [c for c in firsts.values() if c["state"] == "in_use"]  # what a thread allocates first
        facts = {f["name"]: f["value"] for f in documents["symbols"]["libcs"][0]["facts"]}
        self.globals = [int(facts[n], 16) for n in ("mp_", "narenas", "free_list", "list_lock", "free_list_lock",
                                                    "global_max_fast", "tcache_key", "__libc_single_threaded")
                        if (facts.get(n) or "").startswith("0x")]
        self.mp = int(facts["mp_"], 16)
        self.most_bytes = 2 * Run(target, COMMANDS).good(1 << 40).bytes + (128 << 20)

    def place(self, r):
        """(kind, arena, address) of a word of malloc's own."""
        kind = r.choices(["chunk", "free", "tcache", "arena", "heap", "global"], [8, 8, 3, 4, 2, 1])[0]
        if kind == "global":
            base = r.choice(self.globals)
            return kind, None, base + (r.randrange(18) * 8 if base == self.mp else 0)
        if kind == "arena":
            a = r.choice(self.arenas)
            return kind, a["index"], int(a["address"], 16) // 8 * 8 + 8 * r.randrange(275)
        if kind == "heap":
            a = r.choice(self.arenas)
            return kind, a["index"], int(r.choice(a["heaps"])["address"], 16) + 8 * r.randrange(6)
        if kind == "tcache":
            c = r.choice(self.tcaches)
            return kind, c["arena"], int(c["address"], 16) + 16 + 8 * r.randrange((c["size_bytes"] - 16) // 8)
        wanted = [c for c in self.chunks if c["arena"] is not None and (c["state"] != "in_use") == (kind == "free")]
        c = r.choice(wanted)
        return kind, c["arena"], int(c["address"], 16) + 8 * r.randrange(2 if kind == "chunk" else 6)

    def value(self, r, old):
        def somewhere():
            return int(r.choice(self.chunks)["address"], 16) + r.choice([0, 0, 0, 8, 16, r.randrange(4096)])

        return r.choice([
            lambda: old ^ 1 << r.randrange(64),
            lambda: old ^ 1 << r.randrange(8),
            lambda: old + r.randrange(-64, 65) & MASK,
            lambda: r.getrandbits(64),
            lambda: r.getrandbits(r.randrange(1, 64)),
            lambda: 0,
            lambda: MASK - r.randrange(64),
            somewhere,
            lambda: somewhere() ^ somewhere() >> 12,  # as tcache and fastbins link
            lambda: int(r.choice(self.arenas)["address"], 16),
            lambda: r.randrange(1 << 20) * 16 + r.randrange(8),
        ])()

    def rest_is_told(self, run, damage):
        """Other arenas are as they were, and of those with a wrong word no byte is lost."""
        if {kind for kind, _, _, _ in damage} - {"chunk", "free"}:
            return
        told = {a["index"]: a for a in run.documents()["arenas"]["arenas"]}
        for a in self.arenas:
            now = told.get(a["index"])
            assert now and now["address"] == a["address"], f"arena {a['index']} is not told: {run}"
            if a["index"] not in {arena for _, arena, _, _ in damage}:
                for key in ("mapped_bytes", "resident_bytes", "top_bytes", "heap_count", "unwalked_bytes"):
                    assert now[key] == a[key], f"arena {a['index']} {key}: {run}"
            assert (sum(now["chunk_bytes"].values()) + now["unwalked_bytes"]
                    == sum(a["chunk_bytes"].values()) + a["unwalked_bytes"]), f"arena {a['index']}: {run}"

    def look(self, r, damage):
        commands = ["arenas --heaps", *r.sample(COMMANDS, 6), f"find {r.choice(self.chunks)['address']}"]
        fmt = r.choice(FORMATS)
        if fmt == "openmetrics":
            commands = [c for c in commands if c.split()[0] in ("arenas", "report", "rss", "bins")]
        run = Run(self.target, commands, fmt)
        try:
            run.good(self.most_bytes)
            if fmt == "json":
                self.rest_is_told(run, damage)
        except Exception as e:
            raise AssertionError(f"{[(k, a, hex(at), hex(v)) for k, a, at, v in damage]}") from e
        return run


def damages(subject, r, peek):
    found = []
    for _ in range(r.choice([1, 1, 1, 2, 3, 8, 64])):
        kind, arena, at = subject.place(r)
        old = peek(at)
        if old is not None:
            found.append((kind, arena, at, subject.value(r, old)))
    return found


def told(tally, rounds, longest, most):
    print(f"\n{rounds} rounds from seed {SEED}: exit codes {dict(sorted(tally.items()))}, longest {longest:.1f} s, "
          f"most memory {most >> 20} MiB")


SHAPES = {"shapes": ["shapes", "XML", 6], "mix": ["mix", "--threads=4", "--ops=3000"],
          "mix, two heaps": ["mix", "--threads=2", "--ops=4000", "--size=large"],
          "mix, one arena": ["mix", "--threads=3", "--arenas=1", "--free=alternate", "--sbrk"]}


def start(victim, argv, tmp_path, **more):
    v = victim(*[tmp_path / "xml" if a == "XML" else a for a in argv], **more)
    v.line("ready")
    helpers.wait_for(lambda: all(helpers.state(v.pid, t) == "S" for t in helpers.tids(v.pid)))
    return v


@pytest.mark.parametrize("name", SHAPES)
def test_live(victim, tmp_path, name):
    damage_again_and_again(start(victim, SHAPES[name], tmp_path), name)


@pytest.mark.long
@pytest.mark.parametrize("suite", [s for s in matrix.SUITES if s != "bookworm"])
def test_other_glibc(victim, tmp_path, suite):
    libc = next((l for l in matrix.libcs("amd64") if l.suite == suite), None)
    if not libc:
        pytest.skip(f"no libc of {suite}")
    v = start(victim, [libc.build("shapes"), "XML", 6], tmp_path, wrapper=libc.wrapper())
    damage_again_and_again(v, suite)


def damage_again_and_again(v, name):
    subject = Subject(["-p", v.pid])
    tally, longest, most = {}, 0, 0
    with open(f"/proc/{v.pid}/mem", "r+b", 0) as mem:
        def peek(at):
            try:
                mem.seek(at)
                return struct.unpack("<Q", mem.read(8))[0]
            except (OSError, struct.error):
                return None

        def poke(at, value):
            mem.seek(at)
            mem.write(struct.pack("<Q", value))

        for i in range(ROUNDS):
            r = random.Random(f"{name} {SEED + i}")
            damage = damages(subject, r, peek)
            saved = [(at, peek(at)) for _, _, at, _ in damage]
            try:
                for _, _, at, value in damage:
                    poke(at, value)
                run = subject.look(r, damage)
            except AssertionError as e:
                raise AssertionError(f"seed {SEED + i}") from e
            finally:
                for at, value in reversed(saved):
                    poke(at, value)
            tally[run.rc] = tally.get(run.rc, 0) + 1
            longest, most = max(longest, run.seconds), max(most, run.bytes)
    told(tally, ROUNDS, longest, most)
    assert not Run(["-p", v.pid], ["check"]).documents()["check"]["findings"]


# ---- cores ----


class File:
    """A copy of a file to be spoilt, in place: were it in our memory, it would count as the tool's (ru_maxrss)."""

    def __init__(self, whole, path):
        shutil.copyfile(whole, path)
        self.fd, self.size = os.open(path, os.O_RDWR), os.stat(path).st_size

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def unpack(self, form, at):
        return struct.unpack(form, os.pread(self.fd, struct.calcsize(form), at))

    def flip(self, r, lo, hi, most):
        for _ in range(r.randrange(1, most)):
            at = r.randrange(lo, hi)
            os.pwrite(self.fd, bytes([os.pread(self.fd, 1, at)[0] ^ 1 << r.randrange(8)]), at)

    def cut(self, r):
        os.ftruncate(self.fd, r.choice([r.randrange(self.size), r.randrange(min(self.size, 65536))]))


def segments(f):
    """(type, offset, address, bytes) of a 64-bit core's segments, and where their table ends."""
    offset, size, count = f.unpack("<Q14xHH", 32)
    return ([tuple(f.unpack("<IIQQQQ", offset + i * size)[j] for j in (0, 2, 3, 5)) for i in range(count)],
            offset + size * count)


def spoil(subject, r, f):
    """One kind of damage to a core; the words of the heap that were changed."""
    parts, headers = segments(f)
    loads = [p for p in parts if p[0] == 1 and p[3]]
    notes = [p for p in parts if p[0] == 4]

    def offset_of(at):
        return next((o + at - a for _, o, a, n in loads if a <= at and at + 8 <= a + n), None)

    def peek(at):
        o = offset_of(at)
        return None if o is None else f.unpack("<Q", o)[0]

    how = r.choices(["cut", "headers", "notes", "body", "words", "hole", "swap"], [3, 3, 3, 1, 6, 2, 1])[0]
    damage = []
    if how == "cut":
        f.cut(r)
    elif how == "headers":
        f.flip(r, 0, headers, 6)
    elif how == "notes":
        f.flip(r, notes[0][1], notes[0][1] + notes[0][3], 12)
    elif how == "body":
        f.flip(r, headers, f.size, 5000)
    elif how == "words":
        damage = damages(subject, r, peek)
        for _, _, at, value in damage:
            os.pwrite(f.fd, struct.pack("<Q", value), offset_of(at))
    elif how == "hole":
        lo = r.randrange(f.size)
        os.pwrite(f.fd, bytes(min(f.size - lo, r.randrange(1 << 20))), lo)
    else:
        (_, a, _, n), (_, b, _, m) = r.choice(loads), r.choice(loads)
        one, other = (os.pread(f.fd, min(n, m, 1 << 20), at) for at in (a, b))
        os.pwrite(f.fd, other, a)
        os.pwrite(f.fd, one, b)
    return how, damage


def look_again_and_again(subject, rounds, name, whole, spoilt, spoil_one):
    """A fresh copy of @p whole each time, spoilt by @p spoil_one."""
    subject.target = ["-c", spoilt]
    tally, longest, most = {}, 0, 0
    for i in range(rounds):
        r = random.Random(f"{name} {SEED + i}")
        with File(whole, spoilt) as f:
            how, damage = spoil_one(r, f)
        try:
            run = subject.look(r, damage or [("file", None, 0, 0)])
        except AssertionError as e:
            raise AssertionError(f"seed {SEED + i}: {how}") from e
        tally[run.rc] = tally.get(run.rc, 0) + 1
        longest, most = max(longest, run.seconds), max(most, run.bytes)
    told(tally, rounds, longest, most)


@pytest.mark.parametrize("name", SHAPES)
def test_core(core_victim, tmp_path, name):
    v = start(core_victim, SHAPES[name], tmp_path)
    core = helpers.kernel_core(v, tmp_path)
    subject = Subject(["-c", core])
    look_again_and_again(subject, ROUNDS, f"core {name}", core, tmp_path / "spoilt",
                         lambda r, f: spoil(subject, r, f))


@pytest.mark.parametrize("tool, ending", [("zstd", "zst"), ("xz", "xz"), ("lz4", "lz4"), ("gzip", "gz")])
def test_compressed_core(core_victim, tmp_path, tool, ending):
    if not shutil.which(tool):
        pytest.skip(f"no {tool}")
    v = start(core_victim, ["mix", "--threads=2", "--ops=300"], tmp_path)
    core = helpers.kernel_core(v, tmp_path)
    subject = Subject(["-c", core])
    packed = pathlib.Path(f"{core}.{ending}")
    with packed.open("wb") as out:
        subprocess.run([tool, "-c", core], stdout=out, stderr=subprocess.DEVNULL, check=True)

    def spoil_packed(r, f):
        if r.random() < 0.4:
            f.cut(r)
        else:
            f.flip(r, 0, r.choice([64, f.size]), 5)
        return "packed", []

    look_again_and_again(subject, max(ROUNDS // 2, 3), f"packed {ending}", packed, tmp_path / f"spoilt.{ending}",
                         spoil_packed)
