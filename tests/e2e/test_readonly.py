# SPDX-License-Identifier: GPL-3.0-or-later
"""No command but trim, reclaim and tune (with consent) ever changes the target: every byte of its
memory, its mappings, its signal masks and all registers of all its threads are as before."""

import ctypes
import hashlib
import os

import pytest

import helpers

# What a command is run with; every command of the program's own table has to be here.
RUNS = {"rss": [[], ["--maps"]], "arenas": [[], ["--heaps"]], "arena": [["0"]], "chunks": [["--limit=50"]],
        "find": [["@"]], "trim": [["-n"], ["-n", "--pad=1M"]], "reclaim": [["-n"], ["-n", "--arena=0"]],
        "tune": [["top_pad=0", "-n"]], "threads": [[], ["--no-stop"]], "report": [[], ["--hold"]]}


def commands():
    """From the program's own list: one that is added later is tested without being named here."""
    lines = helpers.arenascope("--help").out.splitlines()
    start = lines.index("Commands") + 1
    return [line.split()[0] for line in lines[start:lines.index("", start)]]


# ---- registers, by ptrace ----

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, GETREGSET, DETACH, WALL = 0x4206, 0x4207, 0x4204, 17, 0x40000000


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


def ptrace(request, tid, addr, data):
    if libc.ptrace(request, tid, addr, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {tid}")


def registers(tid):
    """General and extended (x87, SSE, AVX ...), as the kernel keeps them for a sleeping thread."""
    found = []
    ptrace(SEIZE, tid, None, None)
    try:
        ptrace(INTERRUPT, tid, None, None)
        os.waitpid(tid, WALL)
        for kind in (1, 0x202):
            buffer = ctypes.create_string_buffer(16384)
            io = Iovec(ctypes.addressof(buffer), len(buffer))
            ptrace(GETREGSET, tid, kind, ctypes.byref(io))
            found.append(bytearray(buffer.raw[:io.len]))
    finally:
        ptrace(DETACH, tid, None, None)
    # The number of the call and its state: a restarted sleep (restart_syscall) is the same call as before.
    for at in (10 * 8, 15 * 8):
        found[0][at:at + 8] = bytes(8)
    return [hashlib.sha256(f).hexdigest() for f in found]


def everything(pid):
    found = {}
    with open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for m in helpers.maps(pid):
            found[m["start"], m["end"]] = m["perms"], m["name"]
            # what is not written to is a file's, but for what somebody patched
            if "r" in m["perms"] and m["name"] not in ("[vvar]", "[vvar_vclock]", "[vsyscall]"):
                mem.seek(m["start"])
                found[m["start"], "bytes"] = hashlib.sha256(mem.read(m["end"] - m["start"])).hexdigest()
    for tid in helpers.tids(pid):
        # number, arguments, stack pointer and pc of the call that it sleeps in. A restarted sleep
        # (219) is the same call as before.
        words = open(f"/proc/{pid}/task/{tid}/syscall").read().split()
        s = helpers.status(pid, tid)
        found[tid] = words[1:], s["SigBlk"], s["SigIgn"], s["SigCgt"], s["State"]
    return found


def asleep(v):
    helpers.wait_for(lambda: all(helpers.state(v.pid, t) == "S" for t in helpers.tids(v.pid)), 5, "sleep")


def look(v):
    asleep(v)
    found = everything(v.pid)
    if os.uname().machine == "x86_64":
        for tid in helpers.tids(v.pid):
            found[tid, "registers"] = registers(tid)
        asleep(v)
    return found


def idle(victim):
    # without rseq: there the kernel writes the number of the CPU that a thread woke up on
    v = victim("odd", "idle", env={"GLIBC_TUNABLES": "glibc.pthread.rseq=0"})
    v.line("ready")
    look(v)
    return v


@pytest.mark.parametrize("command", commands())
def test_nothing_is_changed(victim, command):
    v = idle(victim)
    heap = next(m["start"] for m in helpers.maps(v.pid) if m["name"] == "[heap]")
    before = look(v)
    for args in RUNS.get(command, [[]]):
        args = [f"{heap + 64:#x}" if a == "@" else a for a in args]
        helpers.arenascope("-p", v.pid, command, *args, rc=(0, 1))
        after = look(v)
        assert after == before, (args, {k: (before.get(k), after.get(k)) for k in {**before, **after}
                                        if before.get(k) != after.get(k)})
    v.quit()


@pytest.mark.parametrize("command", [["trim"], ["reclaim"]])
def test_what_is_put_back(victim, command):
    """With consent: what a call leaves of the thread's registers, masks and mappings."""
    v = idle(victim)
    before = look(v)
    helpers.arenascope("-p", v.pid, *command, "--yes")
    after = look(v)
    changed = {k for k in {**before, **after} if before.get(k) != after.get(k)}
    assert not [k for k in changed if isinstance(k, int) or k[-1] == "registers"], changed
    v.quit()


def test_it_can_fail(victim):
    v = idle(victim)
    before = look(v)
    helpers.arenascope("-p", v.pid, "tune", "top_pad=0", "--yes")
    assert look(v) != before
    v.quit()
