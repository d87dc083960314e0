# SPDX-License-Identifier: GPL-3.0-or-later
"""What a careful person would write for gdb: arenas, free lists, a walk of every chunk (glibc 2.32 to 2.42, 64 bit).

gdb -nx -batch -p PID -ex "python job='walk'" -x gdb_heap.py      jobs: arenas, bins, walk
Memory is read in large pieces, not value by value: as fast as gdb allows.
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
    count = size = 0
    bins = a["bins"]
    fd, fd_nextsize = 16, 0
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
            count, size, chunk = count + 1, size + (n & ~7), following ^ ((chunk + 16) >> 12)
    return count, size


def walk(a):
    count = used = 0
    for first, end in regions(a):
        data = bytes(memory(first, end - first))
        at = 0
        while at + 16 <= len(data):
            n = struct.unpack_from("<Q", data, at + 8)[0]
            step = n & ~7
            if step < 16:
                break
            count += 1
            if at + step + 16 <= len(data) and struct.unpack_from("<Q", data, at + step + 8)[0] & 1:
                used += step
            at += step
    return count, used


total = [0, 0, 0]
for arena in arenas():
    row = (1, int(arena["system_mem"])) if job == "arenas" else free_lists(arena) if job == "bins" else walk(arena)  # noqa: F821
    total = [total[0] + 1, total[1] + row[0], total[2] + row[1]]
print(f"{job}: {total[0]} arenas, {total[1]} counted, {total[2]} bytes")  # noqa: F821
