# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets that must not be stopped, or cannot be: --no-stop, frozen cgroups, D state, kernel threads."""

import ctypes
import os
import pathlib
import re
import shutil
import struct
import subprocess
import time

import helpers
import pytest

READ_COMMANDS = ["report", "rss", "rss --maps", "arenas --heaps", "arena 0", "bins", "sizes", "chunks --limit=5",
                 "find 0x1000", "map 0", "threads", "stacks", "stacks --all", "stuck", "params", "check", "pins",
                 "advise", "malloc-info", "malloc-stats", "trim -n", "reclaim -n", "symbols"]
# malloc's lists may be caught half-way: what cannot be told then says so (75), it never claims damage
EXITS = (0, 1, 75)


def no_ptrace_no_signal():
    """A filter on the tool itself: ptrace(2), or a signal to anybody, is its end."""
    PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
    KILL, ALLOW = 0x80000000, 0x7FFF0000
    LD, JEQ, RET = 0x20, 0x15, 0x06
    forbidden = (101, 200, 234, 424)  # ptrace tkill tgkill pidfd_send_signal
    code = [struct.pack("HBBI", LD, 0, 0, 0)]
    for i, nr in enumerate(forbidden):
        code.append(struct.pack("HBBI", JEQ, len(forbidden) - i, 0, nr))
    code += [struct.pack("HBBI", RET, 0, 0, ALLOW), struct.pack("HBBI", RET, 0, 0, KILL)]
    raw = ctypes.create_string_buffer(b"".join(code))
    prog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(raw)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, FILTER, prog, 0, 0):
        os._exit(99)


x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")


@x86_64
def test_the_filter_bites(victim):
    v = victim("attach", "idle", 2)
    v.line("ready")
    run = helpers.arenascope("-p", v.pid, "threads", rc=None, preexec_fn=no_ptrace_no_signal,
                             env=helpers.NO_LEAKS)
    assert run.rc not in (0, 1, 99), run
    v.quit()


@x86_64
def test_no_stop_never_stops(victim):
    """Every read command on a busy process, under a filter that would end the tool at its first ptrace()."""
    v = victim("attach", "busy", 4)
    v.line("ready")
    v.ask("gap", "gap")
    for command in READ_COMMANDS:
        run = helpers.arenascope("-p", v.pid, "--no-stop", *command.split(), rc=EXITS, preexec_fn=no_ptrace_no_signal,
                             env=helpers.NO_LEAKS)
        if run.rc < 75:
            assert "W-NO-STOP" in run.err, run
        assert "damaged" not in run.err and "W-CORRUPT" not in run.err, run
        assert helpers.status(v.pid)["TracerPid"] == "0"
    found = helpers.arenascope_json("-p", v.pid, "--no-stop", "check", rc=EXITS)
    assert not [f for f in found["findings"] if f["severity"] == "corrupt"]
    assert found["pause_ms"] is None
    print("longest gap of a thread that reads the clock:", v.ask("check", "ok").split()[2], "us")
    v.quit()


def test_no_stop_of_a_sleeping_process_is_exact(victim):
    """Nobody runs while it is read: then the answer is that of a stop, and the warning says so."""
    v = victim("hang", "sleeps")
    v.line("ready")
    for command in ("stacks", "threads", "arenas", "bins"):
        stopped = helpers.arenascope_json("-p", v.pid, command, rc=(0, 1))
        running = helpers.arenascope_json("-p", v.pid, "--no-stop", command, rc=(0, 1))
        (said,) = [w["message"] for w in running["warnings"] if w["code"] == "W-NO-STOP"]
        assert "no thread of it ran" in said, said
        for key in set(stopped) - {"taken_at", "pause_ms", "capture", "warnings", "tool"}:
            assert running[key] == stopped[key], (command, key)
    found = helpers.arenascope_json("-p", v.pid, "--no-stop", "stuck", rc=(0, 1))
    assert found["verdict"] == "blocked" and found["looks"] == 2, found["summary"]
    v.close()


def test_no_stop_does_not_guess(victim):
    """The holder runs, and the stack of what runs is not known: then nobody is accused."""
    v = victim("hang", "loop")
    v.line("ready")
    found = helpers.arenascope_json("-p", v.pid, "--no-stop", "stuck", rc=(0, 1))
    assert found["verdict"] == "unclear", found["summary"]
    (lock,) = [k for k in found["locks"] if k["kind"] == "arena"]
    assert len(lock["waiters"]) == 3 and lock["holder"] is None and not lock["holder_is_gone"]
    assert "not known" in lock["how"]
    v.close()


# ---- frozen ----


def freezers():
    v1, v2 = pathlib.Path("/sys/fs/cgroup/freezer"), ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    if (v1 / "cgroup.procs").exists():
        yield "v1", v1, "freezer.state", "FROZEN", "THAWED"
    for at in map(pathlib.Path, v2):
        if (at / "cgroup.controllers").exists():
            yield "v2", at, "cgroup.freeze", "1", "0"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_frozen_cgroup(victim, version):
    found = [f for f in freezers() if f[0] == version]
    if not found or os.geteuid():
        pytest.skip(f"no cgroup {version} freezer here")
    _, root, control, frozen, thawed = found[0]
    group = root / f"arenascope-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as e:
        pytest.skip(f"no cgroup can be made: {e}")
    v = victim("hang", "convoy")
    try:
        v.line("ready")
        (group / "cgroup.procs").write_text(str(v.pid))
        (group / control).write_text(frozen)
        is_frozen = (lambda: (group / control).read_text().strip() == "FROZEN") if version == "v1" else \
            (lambda: "frozen 1" in (group / "cgroup.events").read_text())
        helpers.wait_for(is_frozen, 5, "the freezer")
        for command in ("report", "threads", "stacks"):
            run = helpers.arenascope("-p", v.pid, command, rc=(0, 1))
            assert "W-FROZEN" in run.err and str(group) in run.err, run
        found = helpers.arenascope_json("-p", v.pid, "stuck", rc=(0, 1))
        assert found["verdict"] == "frozen" and str(group) in found["summary"], found["summary"]
        stacks = helpers.arenascope_json("-p", v.pid, "stacks", rc=(0, 1))
        assert all(s["frames"] for s in stacks["stacks"]), stacks
        helpers.wait_for(is_frozen, 5, "the freezer")  # it is as it was
        assert helpers.status(v.pid)["TracerPid"] == "0"
    finally:
        (group / control).write_text(thawed)
        found = helpers.arenascope_json("-p", v.pid, "stuck", rc=(0, 1))
        v.close()
        helpers.wait_for(lambda: not (group / "cgroup.procs").read_text(), 5, "an empty cgroup")
        group.rmdir()
    assert found["verdict"] == "blocked", found["summary"]  # and thawed, it is what it was


# ---- uninterruptible sleep ----


def test_real_disk_wait(victim, tmp_path):
    """A writer on a frozen file system: D until it is thawed."""
    tools = [shutil.which(t, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
             for t in ("mkfs.ext4", "mount", "umount", "fsfreeze")]
    if os.geteuid() or not all(tools):
        pytest.skip("needs root, mkfs.ext4, mount and fsfreeze")
    mkfs, mount, umount, fsfreeze = tools
    image, at = tmp_path / "image", tmp_path / "at"
    with open(image, "wb") as f:
        f.truncate(16 << 20)
    subprocess.run([mkfs, "-q", image], check=True)
    at.mkdir()
    if subprocess.run([mount, "-o", "loop", image, at], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no loop device can be mounted here")
    try:
        (at / "file").touch()
        subprocess.run([fsfreeze, "-f", at], check=True)
        v = victim("stall", "disk", at / "file")
        try:
            pid = int(v.line("pid ").split()[1])
            helpers.wait_for(lambda: any(helpers.state(pid, t) == "D" for t in helpers.tids(pid)), 10, "D state")
            time.sleep(0.5)  # and the others wait for the lock that it holds
            for options in ([], ["--no-stop"]):
                found = helpers.arenascope_json("-p", pid, *options, "stuck", rc=(0, 1))
                assert found["verdict"] == "blocked", found["summary"]
                assert re.search(r"mutex .* is uninterruptible in \w+", found["summary"]), found["summary"]
                stacks = helpers.arenascope_json("-p", pid, *options, "stacks", rc=(0, 1))["stacks"]
                (d,) = [s for s in stacks if any(f["function"] == "write_frozen" for f in s["frames"])]
                assert d["note"] is None, d["note"]
            rows = helpers.arenascope_json("-p", pid, "threads", rc=(0, 1))["threads"]
            (row,) = [t for t in rows if t["state"] == "D"]
            assert row["waits_on"].startswith("write ("), row
            assert row["tcache_bytes"] is not None, row  # its thread pointer was found
            assert helpers.status(pid)["TracerPid"] == "0"
        finally:
            subprocess.run([fsfreeze, "-u", at], check=True)
            v.close()
    finally:
        helpers.wait_for(lambda: not subprocess.run([umount, at], stderr=subprocess.DEVNULL).returncode, 10, "umount")


def test_vfork_parent(victim):
    """A parent in vfork() sleeps uninterruptibly until the child execs: real D state without root."""
    v = victim("stall", "vfork")
    v.line("ready")
    pid = int([line for line in v.lines if line.startswith("pid ")][-1].split()[1])
    helpers.wait_for(lambda: helpers.state(pid) == "D", 10, "D state")
    found = helpers.arenascope_json("-p", pid, "stuck", rc=(0, 1))
    assert found["verdict"] == "disk_wait", found["summary"]
    assert "vfork" in found["summary"], found["summary"]
    v.close()


def test_kernel_thread():
    run = helpers.arenascope("-p", 2, "stuck", rc=66)
    assert "kernel thread" in run.err or "no process" in run.err


@x86_64
def test_target_under_seccomp(victim):
    """A filter on the target is nothing to us: no call of ours runs in it."""
    v = victim("stall", "seccomp")
    v.line("ready")
    guard = helpers.Untouched(v.pid)
    for command in ("threads", "stacks", "stuck", "report"):
        helpers.arenascope("-p", v.pid, command, rc=(0, 1))
    guard.check()
    v.close()
