# SPDX-License-Identifier: GPL-3.0-or-later
"""Rubbish on the command line, in scripts and at the prompt: never a crash, always a status of the list.

ARENASCOPE_SEED chooses another course; ARENASCOPE_LONG=1 takes minutes. A sanitized program tells more.
"""

import os
import random
import re
import subprocess
import time

import pytest

import helpers
from helpers import ARENASCOPE, arenascope

STATUSES = (0, 1, 2, 64, 65, 66, 69, 74, 75, 77, 78, 130)
SECONDS = 240 if os.environ.get("ARENASCOPE_LONG") == "1" else 8
OPTIONS = ("--pid --core --exe --root --libc --debuginfod --max-pause --capture --no-stop --hold -n --wait --force --max-memory "
           "-x -ex -b --keep-going -f --format -j --jsonl -o --bytes --color --ascii --no-pager -q -v -h --usage -V --heaps "
           "--sort --maps --kind --used --free --arena --size --state --limit --cell --after --all --top --pad --min -p -c "
           "-- - --= -= --x").split()
VALUES = ["0", "1", "-1", "9" * 20, "0x10", "5s", "1.5s", "1.", "..", "1K..2K", "tcache", "json", "html", "csv", "openmetrics",
          "auto", "/dev/null", "/etc/passwd", "/nonexistent", "", "'", '"', "\\", "\x1b[31m", "\xff", "a" * 5000, "%s%n",
          "E-YAMA", "| cat", ">", "> /dev/null", "| head -n 1", "#", "worker-1", "=", "arena_max=3", "core", "../..", "*"]


class Course:
    def __init__(self, number):
        self.random = random.Random(int(os.environ.get("ARENASCOPE_SEED", "1")) * 10 + number)
        words = [line.split("\t") for line in arenascope("help", "words").out.splitlines()]
        self.commands = [w[1] for w in words if w[0] in ("command", "word")]

    def word(self):
        r = self.random
        return r.choice([lambda: r.choice(self.commands), lambda: r.choice(OPTIONS), lambda: r.choice(VALUES),
                         lambda: f"{r.choice(OPTIONS)}={r.choice(VALUES)}",
                         lambda: "".join(chr(r.randrange(1, 256)) for _ in range(r.randrange(1, 12)))])()

    def line(self):
        return f"{self.random.choice(self.commands)} " + " ".join(self.word() for _ in range(self.random.randrange(4)))


def harmless(word):
    """Nothing here may change the target."""
    return "--y" not in word and not re.match(r"-\w*y", word)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where files of random names may go."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def judge(what, status, err):
    assert status in STATUSES, (what, status, err[-2000:])
    assert not re.search(rb"Sanitizer|runtime error|\[E-BUG,", err), (what, err[-3000:])


def run(argv, given, place):
    done = subprocess.run([ARENASCOPE.encode(), *argv], input=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          cwd=place, timeout=120)
    judge((argv, given[:500]), done.returncode, done.stderr)


def target(course, v):
    return [b"-p", str(v.pid).encode()] if course.random.random() < 0.8 else []


def test_command_lines(service, place):
    course, end, n = Course(1), time.monotonic() + SECONDS, 0
    guard = helpers.Untouched(service.pid)
    while time.monotonic() < end:
        words = [course.word() for _ in range(course.random.randrange(6))]
        if all(map(harmless, words)):
            run(target(course, service) + [w.encode("latin1") for w in words], b"", place)
            n += 1
    guard.check()
    assert n > 20 and service.ask("ping", "pong")


def test_scripts(service, place):
    course, end, n = Course(2), time.monotonic() + SECONDS, 0
    guard = helpers.Untouched(service.pid)
    while time.monotonic() < end:
        r = course.random
        if r.random() < 0.8:
            lines = [line for line in (course.line() for _ in range(r.randrange(1, 9))) if not re.search(r"--y|-\w*y", line)]
            text = "\n".join(lines).encode("latin1")
        else:
            text = bytes(r.randrange(256) for _ in range(r.randrange(1, 5000)))
        more = r.choice([[], ["--keep-going"], ["-j"], ["-f", "html"], ["-f", "openmetrics"], ["-f", "csv"], ["--no-stop"], ["--hold"]])
        run([b"-q", b"-p", str(service.pid).encode(), *(m.encode() for m in more)], text + b"\n", place)
        n += 1
    guard.check()
    assert n > 10 and service.ask("ping", "pong")


def test_keys(service, place):
    pexpect = pytest.importorskip("pexpect")
    course, end = Course(3), time.monotonic() + SECONDS
    r = course.random
    special = ["\t", "\t\t", "\x03", "\x10", "\x0e", "\x12ar\r", "\x15", "\x1b[A", "\x1b[B", "\x0c", "\x14", "\x0b", "\x19", "--\t\t"]
    while time.monotonic() < end:
        p = pexpect.spawn(ARENASCOPE, ["-p", str(service.pid)], encoding="latin1", timeout=60, cwd=str(place), echo=True,
                          env={**os.environ, "TERM": "xterm", "ARENASCOPE_PAGER": "cat", "INPUTRC": "/dev/null"})
        p.delaybeforesend = None
        for _ in range(r.randrange(3, 20)):
            keys = course.line() + "\r" if r.random() < 0.6 else r.choice(special)
            if not re.search(r"--y|-\w*y|[\x04\x1a\x1c]", keys):
                p.send(keys)
                p.expect([pexpect.TIMEOUT, pexpect.EOF], timeout=0.1)
        for _ in range(40):
            if not p.isalive():
                break
            p.send("\x15\rquit\r")  # after a command, an unfinished search or quote
            p.expect([pexpect.TIMEOUT, pexpect.EOF], timeout=0.5)
        p.close(force=True)
        assert p.exitstatus == 0 or p.signalstatus in (2, 9), (p.exitstatus, p.signalstatus, p.before)
        assert p.signalstatus != 9, "it did not leave"
    assert service.ask("ping", "pong")
