# SPDX-License-Identifier: GPL-3.0-or-later
"""The heap model on real processes: glibc's own numbers, conservation, damage named with its address."""

import json
import subprocess

import pytest

import helpers
from helpers import arenascope, arenascope_json

NAMES = subprocess.run([helpers.VICTIMS / "corrupt"], stdout=subprocess.PIPE, check=True, text=True).stdout.split()


def test_enough():
    assert len(NAMES) - 1 >= 25


@pytest.mark.parametrize("name", NAMES)
def test_damage(victim, name, tmp_path):
    v = victim("corrupt", name)
    _, code, address = v.line("damaged").split()
    # on its way from printf to read, a thread might be in malloc, and then nothing of its tcache is called damage
    helpers.wait_for(lambda: helpers.state(v.pid) == "S", 10, "sleep")
    found = arenascope_json("-p", v.pid, "check", rc=(0, 1))
    check(found, code, address, name)
    if name in ("overflow", "fd", "tcache-key", "nothing"):
        core = helpers.gcore(v.pid, tmp_path / "core")
        check(arenascope_json("-c", core, "check", rc=(0, 1)), code, address, name)
    v.quit()


def check(found, code, address, name):
    findings = [f for f in found["findings"] if f["severity"] != "info"]
    if name == "nothing":
        assert not findings and found["complete"], findings
        return
    hits = [f for f in findings if f["code"] == code and (address == "(nil)" or f["address"] == address)]
    assert hits, f"{name}: want {code} at {address}, found {json.dumps(findings, indent=1)}"
    assert code[0] != "C" or not found["complete"]


def test_conservation(service):
    doc = arenascope_json("-p", service.pid, "check")
    assert doc["findings"] == [] and doc["unwalked_bytes"] == 0


def test_malloc_info(service, tmp_path):
    path = tmp_path / "info.xml"
    service.ask(f"info {path}", "info")
    theirs = path.read_bytes()
    assert arenascope("-p", service.pid, "malloc-info").bytes == theirs
    core = helpers.gcore(service.pid, tmp_path / "core")
    assert arenascope("-c", core, "malloc-info").bytes == theirs
    service.quit()


LOOKS_LIKE_CHUNKS = """
import ctypes, mmap, struct, sys
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
chunks = [libc.malloc(int(n)) for n in sys.argv[1:]]
for p in chunks:
    ctypes.memset(p, 1, 4096)
# below the chunks, and one mapping with them
data = mmap.mmap(-1, 3 << 19, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in (5, 100, 300):
    data[page * 4096:page * 4096 + 24] = struct.pack("<QQQ", 0, 0x30002, 4)
print(*(p - 16 for p in chunks), flush=True)
sys.stdin.read()
"""


def looks_like_chunks(*sizes):
    return subprocess.Popen(["/usr/bin/python3", "-c", LOOKS_LIKE_CHUNKS, *map(str, sizes)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("sizes", [(3 << 20, 3 << 20, 5 << 20), (3 << 20, 0x2ff00)])
def test_data_that_looks_like_mmapped_chunks(sizes):
    """Java has such words at the starts of pages: what mp_ counts, and what stands beside what, tells them from chunks."""
    with looks_like_chunks(*sizes) as p:
        chunks = set(map(int, p.stdout.readline().split()))
        check = helpers.arenascope_json("-p", p.pid, "check")
        assert check["complete"] and check["findings"] == []
        found = helpers.arenascope_json("-p", p.pid, "chunks", "--state=mmapped")["chunks"]
        assert chunks <= {int(c["address"], 16) for c in found}
        assert len([c for c in found if c["size_bytes"] == 0x30000]) == sizes.count(0x2ff00)


def test_data_that_looks_just_like_a_mmapped_chunk():
    """Which of them is the chunk nobody can tell, and that is said; it is no damage."""
    with looks_like_chunks(0x2ff00) as p:
        p.stdout.readline()
        check = helpers.arenascope_json("-p", p.pid, "check", rc=1)
        assert not check["complete"]
        assert [(f["code"], f["severity"]) for f in check["findings"]] == [("S-MMAPPED", "info")]
        assert "cannot be told" in check["findings"][0]["message"]
