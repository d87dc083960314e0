# SPDX-License-Identifier: GPL-3.0-or-later
"""What a careful person would write for gdb: arenas, free lists, a walk of every chunk (glibc 2.32 to 2.42, 64 bit).

gdb -nx -batch -p PID -ex "python job='walk'" -x gdb_heap.py      jobs: arenas, bins, walk, chunks, find=ADDRESS, pick
Memory is read in large pieces, not value by value: as fast as gdb allows. pick tells what find can be asked for.
"""

import struct

import gdb

SIZE_T = gdb.lookup_type("size_t")
HEAP_MAX = 64 << 20
main = gdb.parse_and_eval("main_arena")
main_address = int(main.address)
STATE = main.type
memory = gdb.selected_inferior().read_memory


def arenas():
    a = main
    while True:
        yield a
        a = a["next"].dereference()
        if int(a.address) == main_address:
            return


def regions(a):
    """(first chunk, end) of the main arena or of each heap of another."""
    if int(a.address) == main_address:
        top = int(a["top"])
        end = top + (int(a["top"]["mchunk_size"]) & ~7)
        yield int(gdb.parse_and_eval("mp_.sbrk_base")), end
        return
    heap = int(a["top"]) & ~(HEAP_MAX - 1)
    info = gdb.lookup_type("heap_info")
    while heap:
        h = gdb.Value(heap).cast(info.pointer())
        first = heap + info.sizeof + (STATE.sizeof if int(h["prev"]) == 0 else 0)
        yield (first + 15) & ~15, heap + int(h["size"])
        heap = int(h["prev"])


def free_lists(a):
    count = size = fast = 0
    bins = a["bins"]
    offset = int(bins[0].address)
    for i in range(127):
        head = offset + 16 * i - 16
        chunk = int(bins[2 * i])
        while chunk != head:
            raw = bytes(memory(chunk + 8, 16))
            n, following = struct.unpack("<QQ", raw)
            count, size, chunk = count + 1, size + (n & ~7), following
    for i in range(10):
        chunk = int(a["fastbinsY"][i])
        while chunk:
            n, following = struct.unpack("<QQ", bytes(memory(chunk + 8, 16)))
            fast, size, chunk = fast + 1, size + (n & ~7), following ^ ((chunk + 16) >> 12)
    return count + fast, size, fast


def chunks(first, end):
    """(address, size, used) of each."""
    data = bytes(memory(first, end - first))
    at = 0
    while at + 16 <= len(data):
        step = struct.unpack_from("<Q", data, at + 8)[0] & ~7
        if step < 16:
            return
        behind = at + step + 8
        yield first + at, step, behind + 8 <= len(data) and struct.unpack_from("<Q", data, behind)[0] & 1
        at += step


def walk(a):
    count = used = 0
    for first, end in regions(a):
        for _, step, in_use in chunks(first, end):
            count += 1
            if in_use:
                used += step
    return count, used


def listing(a):
    count = size = 0
    for first, end in regions(a):
        for address, step, in_use in chunks(first, end):
            print(f"{address:#x} {step} {'used' if in_use else 'free'}")
            count, size = count + 1, size + step
    return count, size


def holder(address):
    """The chunk that the address is in."""
    for a in arenas():
        for first, end in regions(a):
            if first <= address < end:
                return next(c for c in chunks(first, end) if c[0] <= address < c[0] + c[1])
    raise SystemExit(f"{address:#x} is in no heap")


def find(address):
    chunk, size, in_use = holder(address)
    print(f"find: {address:#x} is in the {'used' if in_use else 'free'} chunk {chunk:#x} of {size} bytes")


def pick():
    """A used chunk in the midst of the last arena, not one of the caches."""
    first, end = list(regions(list(arenas())[-1]))[-1]
    find(next(c[0] + 24 for c in chunks(first, end) if c[0] > (first + end) // 2 and c[2] and c[1] > 1040))


def header(a):
    return 1, int(a["system_mem"])


def total(name, of):
    rows = [of(arena) for arena in arenas()]
    sums = [sum(column) for column in zip(*rows)]
    fast = f", {sums[2]} fast" if len(sums) > 2 else ""
    print(f"{name}: {len(rows)} arenas, {sums[0]} counted, {sums[1]} bytes{fast}")


PER_ARENA = {"arenas": header, "bins": free_lists, "walk": walk, "chunks": listing}
asked = job  # noqa: F821
if asked == "pick":
    pick()
elif asked.startswith("find="):
    find(int(asked[5:], 0))
else:
    total(asked, PER_ARENA[asked])
