# SPDX-License-Identifier: GPL-3.0-or-later
"""Every victim, live and as a core of the same moment: the same tables, and no byte lost."""

import itertools
import json

import pytest

import helpers
from helpers import arenascope

# Which process, and the line after which nothing of its heap changes.
VICTIMS = {
    "attach idle": (["attach", "idle", 20], "ready"),
    "blocked": (["blocked", 600], "ready"),
    "corrupt nothing": (["corrupt", "nothing"], "damaged"),
    "corrupt overflow": (["corrupt", "overflow"], "damaged"),
    "corrupt fd": (["corrupt", "fd"], "damaged"),
    "hang idle": (["hang", "idle"], "ready"),
    "mix small": (["mix", "--threads=3", "--arenas=3", "--size=small", "--ops=20000"], "ready"),
    "mix mixed": (["mix", "--threads=6", "--arenas=4", "--free=random"], "ready"),
    "mix large": (["mix", "--threads=2", "--size=large", "--free=alternate"], "ready"),
    "mix page": (["mix", "--size=page", "--free=tail"], "ready"),
    "mix mxfast": (["mix", "--threads=2", "--mxfast=160", "--size=small"], "ready"),
    "mix sbrk": (["mix", "--sbrk", "--late-sbrk"], "ready"),
    "mix noncontiguous": (["mix", "--noncontiguous"], "ready"),
    "odd idle": (["odd", "idle"], "ready"),
    "odd coroutine": (["odd", "coroutine"], "ready"),
    "service": (["service", "--threads", 12, "--at-once", 4, "--requests", 60, "--payload", 1000003], "idle"),
    "shapes": (["shapes", "info.xml", 5], "ready"),
}
TABLES = ["arenas --heaps", "bins", "sizes", "chunks --limit=2000000", "params", "check", "malloc-info", "malloc-stats"]

# A core knows of a page whether it holds it and whether it is zero, not whether it was in memory: sums over such pages.
RESIDENCY = {"resident_bytes", "swapped_bytes", "nonresident_bytes", "in_use_bytes", "cached_bytes", "trimmable_bytes",
             "retained_bytes", "fragmented_bytes", "metadata_bytes"}
# When and of what the reading was taken.
TIME = {"taken_at", "pause_ms", "capture", "target", "warnings"}


def differences(live, core, path=""):
    """Where the two documents differ, apart from residency and time."""
    if isinstance(live, dict) and isinstance(core, dict):
        assert live.keys() == core.keys(), path
        found = []
        for key in live.keys() - (TIME if not path else set()):
            if key in RESIDENCY and path.startswith((".arenas", ".mmapped")):
                continue
            found += differences(live[key], core[key], f"{path}.{key}")
        return found
    if isinstance(live, list) and isinstance(core, list):
        if len(live) != len(core):
            return [f"{path}: {len(live)} and {len(core)} entries"]
        return [d for i, (a, b) in enumerate(zip(live, core)) for d in differences(a, b, f"{path}[{i}]")]
    return [] if live == core and type(live) is type(core) else [f"{path}: {live} and {core}"]


def conserved(arenas, chunks, name):
    """In every heap chunk follows chunk without a gap up to its end, and the heaps are their arena's system_mem."""
    by_heap = {}
    for c in chunks:
        by_heap.setdefault(c["heap"], []).append((int(c["address"], 16), c["size_bytes"]))
    for a in arenas:
        assert a["unwalked_bytes"] == 0, (name, a)
        assert sum(h["size_bytes"] for h in a["heaps"]) == a["mapped_bytes"], (name, a)
        if a["foreign_sbrk_bytes"]:
            continue  # somebody else's bytes lie between
        headers = 0
        for h in a["heaps"]:
            start, spans = int(h["address"], 16), sorted(by_heap[h["address"]])
            for (at, size), (after, _) in itertools.pairwise(spans):
                assert at + size == after, f"{name}: after the chunk at {at:#x} comes {after:#x}"
            headers += spans[0][0] - start
            end = sum(spans[-1])
            assert 0 <= start + h["size_bytes"] - end <= 32, f"{name}: heap {start:#x} is walked to {end:#x}"
        assert 0 <= a["mapped_bytes"] - headers - sum(a["chunk_bytes"].values()) <= 32 * len(a["heaps"]), (name, a)


def documents(*target):
    """All tables of one reading; without malloc-info and malloc-stats where a list is damaged."""
    run = arenascope("-q", "-f", "json", "--keep-going", *target, *(word for t in TABLES for word in ("-ex", t)),
                     rc=(0, 1, 2), timeout=120)
    decoder, text, found = json.JSONDecoder(), run.out, []
    while text.strip():
        doc, end = decoder.raw_decode(text.lstrip())
        found.append(doc)
        text = text.lstrip()[end:]
    assert len(found) == len(TABLES) - 2 * (run.rc == 2), run
    return found


@pytest.mark.parametrize("name", VICTIMS)
def test_live_is_core(core_victim, tmp_path, name):
    args, when = VICTIMS[name]
    v = core_victim(*args, env={"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7", "MALLOC_ODD_": "", "Z": "z" * 9000})
    v.line(when)
    (tmp_path / "cores").mkdir()
    live = documents("-p", v.pid)
    core = documents("-c", helpers.gcore(v.pid, tmp_path / "cores" / "gcore"))
    for table, a, b in zip(TABLES, live, core):
        assert not differences(a, b), f"{name}, {table}, gcore"
    assert len(live) == len(core)
    if not name.startswith("corrupt "):
        assert len(live) == len(TABLES)
        conserved(live[0]["arenas"], live[3]["chunks"], name)
    core = documents("-c", helpers.kernel_core(v, tmp_path))
    for table, a, b in zip(TABLES, live, core):
        assert not differences(a, b), f"{name}, {table}, kernel core"
