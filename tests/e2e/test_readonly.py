# SPDX-License-Identifier: GPL-3.0-or-later
"""No command but trim, reclaim and tune (with consent) ever changes the target: every byte of its
writable memory, its mappings, signal masks and registers are as before."""

import hashlib

import helpers

COMMANDS = [["report"], ["rss"], ["rss", "--maps"], ["arenas"], ["arenas", "--heaps"], ["arena", "0"], ["bins"],
            ["sizes"], ["chunks", "--limit=50"], ["map"], ["threads"], ["stacks"], ["stuck"], ["params"], ["check"],
            ["pins"], ["advise"], ["malloc-info"], ["malloc-stats"], ["symbols"], ["trim", "-n"], ["reclaim", "-n"],
            ["tune", "top_pad=0", "-n"]]


def everything(pid):
    found = {}
    with open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for m in helpers.maps(pid):
            found[m["start"], m["end"]] = m["perms"], m["name"]
            if "w" in m["perms"]:
                mem.seek(m["start"])
                found[m["start"], "bytes"] = hashlib.sha256(mem.read(m["end"] - m["start"])).hexdigest()
    for tid in helpers.tids(pid):
        # number, arguments, stack pointer and pc of the call that it sleeps in. A restarted sleep
        # (219) is the same call as before.
        words = open(f"/proc/{pid}/task/{tid}/syscall").read().split()
        s = helpers.status(pid, tid)
        found[tid] = words[1:], s["SigBlk"], s["SigIgn"], s["SigCgt"], s["State"]
    return found


def test_nothing_is_changed(victim):
    # without rseq: there the kernel writes the number of the CPU that a thread woke up on
    v = victim("odd", "idle", env={"GLIBC_TUNABLES": "glibc.pthread.rseq=0"})
    v.line("ready")
    helpers.wait_for(lambda: all(helpers.state(v.pid, t) == "S" for t in helpers.tids(v.pid)))
    before = everything(v.pid)
    for command in COMMANDS:
        helpers.arenascope("-p", v.pid, *command, rc=(0, 1))
        helpers.wait_for(lambda: all(helpers.state(v.pid, t) == "S" for t in helpers.tids(v.pid)), 5, "sleep")
        after = everything(v.pid)
        assert after == before, (command, {k: (before.get(k), after.get(k)) for k in {**before, **after}
                                           if before.get(k) != after.get(k)})
    # and the test can fail: this one is meant to change something
    helpers.arenascope("-p", v.pid, "tune", "top_pad=0", "--yes")
    assert everything(v.pid) != before
    v.quit()
