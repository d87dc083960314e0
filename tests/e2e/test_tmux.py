# SPDX-License-Identifier: GPL-3.0-or-later
"""The prompt on a real terminal emulator: what a person sees. ARENASCOPE_SCREENS=DIR keeps the screens."""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess

import pytest

import helpers
from helpers import ARENASCOPE

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")


SHELL = r"^\S*[$#]$"


class Terminal:
    def __init__(self, home, width=110, height=30, **env):
        self.socket, self.count = str(home / "tmux"), 0
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DEBUGINFOD_", "ARENASCOPE_", "TMUX"))}
        environment.update({"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "LC_ALL": "C.UTF-8",
                            "INPUTRC": "/dev/null", "PS1": "$ ", "ARENASCOPE_PAGER": "cat", **env})
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "bash", "--norc", env=environment)
        self.wait(SHELL)

    def tmux(self, *argv, **more):
        return subprocess.run(["tmux", "-u", "-S", self.socket, *argv], check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, **more).stdout.decode()

    def screen(self, history=False):
        """Lines as written, also those that the terminal wrapped."""
        text = self.tmux("capture-pane", "-p", "-J", *(["-S", "-"] if history else []))
        return "\n".join(line.rstrip() for line in text.splitlines()).rstrip("\n")

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def wait(self, pattern, timeout=60):
        """Until the screen matches."""
        last = [""]

        def look():
            last[0] = self.screen()
            return re.search(pattern, last[0], re.M)
        try:
            helpers.wait_for(look, timeout)
        except AssertionError:
            raise AssertionError(f"no {pattern!r} on the screen:\n{last[0]}") from None
        return last[0]

    def line(self, text, pattern):
        self.keys("C-l")
        self.tmux("clear-history")
        self.keys("-l", text)
        self.wait(re.escape(text) + "$")  # else the empty prompt of before could be taken for the next one
        self.keys("Enter")
        return self.wait(pattern)

    def keep(self, name):
        self.count += 1
        where = os.environ.get("ARENASCOPE_SCREENS")
        if where:
            (pathlib.Path(where) / f"{self.count:02}-{name}.txt").write_text(self.screen() + "\n")

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def terminal(tmp_path):
    started = []

    def start(**more):
        started.append(Terminal(tmp_path, **more))
        return started[-1]

    yield start
    for t in started:
        t.close()


PROMPT = r"^\(arenascope %d\)$"


def start(t, pid, *more):
    t.line(shlex.join([ARENASCOPE, "-p", str(pid), *more]), PROMPT % pid)
    return PROMPT % pid


def test_a_session(terminal, victim, tmp_path):
    v = victim("service", "--threads", 5, "--at-once", 2, "--requests", 20, "--payload", 300007)
    v.line("idle")
    t = terminal()
    prompt = start(t, v.pid)
    assert "service: report is where to begin, help lists the commands." in t.screen()
    # TAB: what is common is completed, the rest listed; then the command itself
    t.keys("-l", "are")
    t.keys("Tab", "Tab", "Tab")
    t.wait(r"^arena +arenas")
    t.keep("tab")
    t.keys("-l", "s")
    t.keys("Enter")
    assert re.search(r"^ +0 +main ", t.wait(prompt), re.M)
    t.keep("arenas")
    # history: two lines up
    t.line("params | head -n 3", prompt)
    t.keys("Up", "Up")
    t.wait(r"^\(arenascope \d+\) arenas$")
    t.keep("history")
    t.keys("C-c")
    t.wait(prompt)
    out = t.line("arenas | head -n 2", prompt)
    assert len(re.findall(r"^ +\d+ +(main|mmap)", out, re.M)) == 1, out
    t.keep("pipe")
    t.line(f"bins > {tmp_path}/bins", prompt)
    assert "KIND" in (tmp_path / "bins").read_text()
    # an unknown command, a prefix that is not unique, one that is
    assert "try: arenas" in t.line("arenaz", prompt)
    assert "could be: malloc-info malloc-stats" in t.line("mall", prompt)
    assert "trim_threshold" in t.line("par", prompt)
    # refresh, hold, release
    assert re.search(r"^paused [0-9.]+ ms", t.line("refresh", prompt), re.M)
    t.line("hold", r"^\(arenascope \d+ held\)$")
    assert helpers.state(v.pid) == "t"
    t.line("arenas", r"^\(arenascope \d+ held\)$")
    t.keep("hold")
    assert "It runs on after" in t.line("release", prompt)
    assert v.ask("ping", "pong")
    # a narrow terminal
    t.tmux("resize-window", "-x", "80", "-y", "30")
    out = t.line("report", prompt)
    assert max(len(line) for line in out.splitlines() if not line.startswith("service")) <= 80 and re.search(r"fragmented +\S+ KiB", out), out
    t.keep("narrow")
    t.tmux("resize-window", "-x", "110", "-y", "30")
    t.keys("Enter")
    # the target is killed meanwhile
    v.process.send_signal(signal.SIGKILL)
    v.process.wait()
    out = t.line("arenas", prompt)
    assert "main" in out
    out = t.line("refresh", r"E-EXITED")
    assert f"process {v.pid} has ended" in t.screen()
    t.wait(prompt)
    t.keep("killed")
    t.keys("C-l")
    t.keys("C-d")
    t.wait(SHELL)
    assert "status 0." in t.line("echo status $?.", r"status \d+\.$")


def test_ctrl_c_in_the_middle_of_chunks(terminal, victim):
    code = "x = [bytes(700) for i in range(200000)]; print('ready', flush=True)\nwhile input(): print('pong', flush=True)"
    v = victim("python3", "-c", code)
    v.line("ready")
    t = terminal()
    prompt = start(t, v.pid)
    t.keys("-l", "chunks")
    t.keys("Enter")
    t.wait(r"^0x[0-9a-f]+ +\d+  in_use")
    t.keys("C-c")
    out = t.wait(prompt, timeout=120)
    assert "interrupted" in out, out
    t.keep("ctrl-c")
    assert v.ask("ping", "pong"), "the target goes on"
    assert "in_use" in t.line("chunks --limit=5", prompt), "and so does the prompt"


def test_pager(terminal, victim):
    if not shutil.which("less"):
        pytest.skip("needs less")
    v = victim("service", "--threads", 5, "--at-once", 2, "--requests", 20, "--payload", 300007)
    v.line("idle")
    t = terminal(height=20, ARENASCOPE_PAGER="less -FRX")
    prompt = start(t, v.pid)
    t.line("bins", r"^:$")
    t.keep("pager")
    t.keys("-l", "q")
    t.wait(prompt)
    assert "KIND" in t.line("arenas", prompt), "what fits the screen is not paged"


@pytest.mark.parametrize("env, coloured", [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour(terminal, victim, env, coloured):
    v = victim("service", "--threads", 2, "--at-once", 1, "--requests", 8, "--payload", 300007)
    v.line("idle")
    t = terminal()
    head = " ".join(f"{k}={x}" for k, x in env.items())
    t.line(f"{head} {shlex.join([ARENASCOPE, '-p', str(v.pid)])}", PROMPT % v.pid)
    t.line("report", PROMPT % v.pid)
    assert ("\x1b[3" in t.tmux("capture-pane", "-p", "-e")) is coloured
