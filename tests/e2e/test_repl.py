# SPDX-License-Identifier: GPL-3.0-or-later
"""The prompt, on a pseudo-terminal: completion, history, pipes, Ctrl-C, a target that ends."""

import os
import re
import signal
import stat

import pytest

import helpers
from helpers import ARENASCOPE

pexpect = pytest.importorskip("pexpect")

WAIT = 120


@pytest.fixture
def svc(victim):
    v = victim("service", "--threads", 5, "--at-once", 2, "--requests", 20, "--payload", 300007)
    v.line("idle")
    return v


class Repl:
    def __init__(self, home, *args, env=None, term="dumb"):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DEBUGINFOD_", "ARENASCOPE_"))}
        environment.update({"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "TERM": term,
                            "LC_ALL": "C.UTF-8", "INPUTRC": "/dev/null", **(env or {})})
        self.p = pexpect.spawn(ARENASCOPE, list(map(str, args)), env=environment, encoding="utf-8", timeout=WAIT,
                               dimensions=(40, 200), echo=True)

    def prompt(self, what=r"\(arenascope[^)]*\) "):
        self.p.expect(what)
        return self.p.before

    def run(self, line):
        self.p.sendline(line)
        return self.prompt()

    def end(self):
        self.p.close(force=True)


@pytest.fixture
def repl(tmp_path):
    started = []

    def start(*args, **more):
        started.append(Repl(tmp_path, *args, **more))
        started[-1].prompt()
        return started[-1]

    yield start
    for r in started:
        r.end()


def test_commands_prefixes_and_settings(repl, svc):
    r = repl("-p", svc.pid)
    assert "KIND" in r.run("arenas")
    assert "trim_threshold" in r.run("param")
    assert "could be:" in r.run("mal")
    assert "did you" not in r.run("nonsense") and "E-COMMAND" in r.p.before
    assert '"schema":"arenascope/bins"' in r.run("bins --json")
    assert "KIND" in r.run("bins"), "a line's options end with it"
    r.run("set format json")
    assert '"schema"' in r.run("bins")
    r.run("set format text")
    assert re.search(r"max-pause\s+500ms", r.run("show"))
    assert "there is no setting" in r.run("set nonsense 1")
    assert "--json takes no value" in r.run("bins --json=x"), "and the prompt goes on"
    assert "Commands" in r.run("help") and "--heaps" in r.run("help arenas")
    r.p.sendline("quit")
    r.p.expect(pexpect.EOF)
    r.p.wait()
    assert r.p.exitstatus == 0


def test_completion(repl, svc):
    r = repl("-p", svc.pid)
    r.run("bins")
    for typed, want in [("are\t", "are\x07?na"), ("arenas --so\t", "--sort="), ("arenas --sort=tr\t", "=trimmable"),
                        ("bins --kind=t\t", "=tcache"), ("arena \t\t", r"0\s+1\s+2\s+3\s+4\s+5"),
                        ("help mem\x15hel\t", "help "), ("stacks worker-5\t", "worker-5 "), ("source /etc/pass\t", "/etc/pass\x07?wd"),
                        ("set max-p\t", "max-pause"), ("bins > /etc/hostn\t", "/etc/hostn\x07?ame")]:
        r.p.send(typed)
        r.p.expect(want)
        r.p.send("\x15")
    r.run("")


def test_history_is_kept_and_private(repl, svc, tmp_path):
    r = repl("-p", svc.pid)
    r.run("params | head -n 1")
    assert "params" in r.run("history")
    r.p.send("\x10\x10\r")  # up, up
    assert "PARAMETER" in r.prompt()
    r.p.sendeof()
    r.p.expect(pexpect.EOF)
    path = tmp_path / "state" / "arenascope" / "history"
    assert "params | head -n 1" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    before = path.read_text()
    helpers.arenascope("-q", "-p", svc.pid, "-ex", "params", env={"XDG_STATE_HOME": str(tmp_path / "state")})
    assert path.read_text() == before
    r = repl("-p", svc.pid)
    assert "params | head -n 1" in r.run("history")


def test_pipes_and_files(repl, svc, tmp_path):
    r = repl("-p", svc.pid)
    out = r.run("arenas | head -n 2 | tail -n 1")
    assert "main" in out and "KIND" not in out
    r.run(f"bins > {tmp_path}/b")
    assert "KIND" in (tmp_path / "b").read_text()
    assert r.run("chunks | head -n 1").count("0x") == 0
    assert "E-OUTPUT" in r.run("bins > /nonexistent/x")


def test_pager(repl, svc, tmp_path):
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\necho PAGED; cat\n")
    pager.chmod(0o755)
    r = repl("-p", svc.pid, term="xterm", env={"ARENASCOPE_PAGER": str(pager)})
    assert "PAGED" in r.run("bins")
    assert "PAGED" not in r.run("bins --no-pager")
    assert "PAGED" not in r.run("bins | cat")
    r = repl("-p", svc.pid, term="dumb", env={"ARENASCOPE_PAGER": str(pager)})
    assert "PAGED" not in r.run("bins")


def test_hold_release_refresh(repl, svc):
    r = repl("-p", svc.pid)
    r.run("bins")
    assert "paused" in r.run("refresh")
    r.run("hold")
    assert helpers.state(svc.pid) == "t"
    assert "held" in r.p.after
    assert "KIND" in r.run("arenas")
    assert helpers.state(svc.pid) == "t"
    r.run("release")
    helpers.wait_for(lambda: helpers.state(svc.pid) not in "tT", 5, "the target to run on")
    assert svc.ask("ping", "pong")
    r.run("hold")
    assert helpers.state(svc.pid) == "t"
    r.p.sendeof()
    r.p.expect(pexpect.EOF)
    helpers.wait_for(lambda: helpers.state(svc.pid) not in "tT", 5, "the target to run on")


def test_ctrl_c_ends_the_command(repl, svc, tmp_path):
    r = repl("-p", svc.pid)
    r.run("check")
    r.p.send("half a line")
    r.p.send("\x03")
    r.prompt()
    mark = tmp_path / "mark"
    r.p.sendline(f"chunks | (touch {mark}; sleep 100)")
    helpers.wait_for(mark.exists, 60, "the pipe")
    r.p.send("\x03")
    r.prompt()
    assert svc.ask("ping", "pong"), "the target is not interrupted"
    assert "KIND" in r.run("bins")


def test_ctrl_c_held_down(repl, svc, tmp_path):
    """A key that repeats is no third, impatient Ctrl-C."""
    r = repl("-p", svc.pid)
    mark = tmp_path / "mark"
    r.p.sendline(f"bins | (trap '' INT; touch {mark}; sleep 2)")
    helpers.wait_for(mark.exists, 60, "the pipe")
    r.p.delaybeforesend = 0.03
    for _ in range(6):
        r.p.send("\x03")
    r.prompt()
    r.p.sendline("bins")
    r.p.expect("KIND")
    r.prompt()
    r.p.sendline("quit")
    r.p.expect(pexpect.EOF)
    r.p.wait()
    assert r.p.exitstatus == 0


def test_the_target_ends(repl, svc):
    r = repl("-p", svc.pid)
    assert "KIND" in r.run("bins")
    svc.process.send_signal(signal.SIGKILL)
    svc.process.wait()
    out = r.run("bins") + r.run("bins")
    assert "KIND" in out and "has ended" in out, out
    assert re.search(r"E-[A-Z]+", r.run("refresh"))
    assert "E-NOPROC" in r.run(f"attach {svc.pid}")


def test_attach_core_detach(repl, svc, tmp_path):
    core = helpers.gcore(svc.pid, tmp_path / "core.x")
    r = repl("-p", svc.pid)
    live = r.run("malloc-info | tail -n +1")
    r.run(f"core {core}")
    assert "core" in r.p.after
    assert "E-USAGE" in r.run("hold")
    r.run(f"core /etc/passwd")
    assert "core" in r.p.after, "a failed switch keeps the target"
    r.run("detach")
    assert "no target" in r.run("bins")
    r.run(f"attach {svc.pid}")
    assert str(svc.pid) in r.p.after
    assert re.findall("<.*>", r.run("malloc-info | tail -n +1")) == re.findall("<.*>", live)


def test_resize(repl, svc):
    r = repl("-p", svc.pid)
    r.p.setwinsize(24, 60)
    r.p.sendline("symbols")
    r.p.expect("Tried")
    r.p.setwinsize(60, 220)
    r.p.sendline("arenas")
    r.p.expect("KIND")  # the prompt is drawn again after a resize, so it is not counted here


def test_no_configuration_from_the_current_directory(repl, svc, tmp_path):
    for name in (".arenascoperc", ".arenascope", "arenascope.conf", ".gdbinit"):
        (tmp_path / name).write_text("set format json\nnonsense\n")
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        assert "KIND" in repl("-p", svc.pid).run("bins")
    finally:
        os.chdir(here)
