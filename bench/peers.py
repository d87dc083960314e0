# SPDX-License-Identifier: GPL-3.0-or-later
"""What else can look at a heap, what of arenascope's jobs it can do, and how to tell that it did.

A peer that prints an error ends with 0 all the same, and is fast at that: every run of every tool, arenascope too, must
tell the number that the truth has, or its row is void. The truth is gdb_heap.py's, which shares nothing with
arenascope, held against malloc_info where the target can print it.
"""

import os
import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
GDB = os.environ.get("GDB", "gdb")
# GEF and pwndbg make Python objects of every chunk: of 600 k chunks that is 80 to 180 s and up to 11.5 GB.
MANY_CHUNKS = 200_000
COLOUR = re.compile(r"\x1b\[[0-9;]*m|[\x01\x02]")


class Truth:
    """Arenas, free chunks (those of bins: binned), all chunks, threads; an address and the used chunk it is in."""

    def __init__(self, target, env):
        def ask(job, pattern):
            p = subprocess.run([str(a) for a in scripted(job, target)], capture_output=True, text=True, env=env,
                               stdin=subprocess.DEVNULL, check=False)
            found = re.search(pattern, p.stdout)
            if not found:
                raise SystemExit(f"gdb_heap.py {job}: {p.stdout[-300:]}{p.stderr[-300:]}")
            return [int(x, 0) for x in found.groups()]

        self.arenas, self.free, fast = ask("bins", r"bins: (\d+) arenas, (\d+) counted, \d+ bytes, (\d+) fast")
        self.binned, self.tables = self.free - fast, 1
        self.chunks = ask("walk", r"(\d+) counted")[0]
        self.address, self.chunk = ask("pick", r"find: (0x\w+) is in the used chunk (0x\w+)")
        threads = subprocess.run([GDB, "-q", "-nx", "-batch", *map(str, target), "-ex", "info threads"], text=True,
                                 env=env, capture_output=True, stdin=subprocess.DEVNULL, check=True).stdout
        self.threads = len(re.findall(r"(?m)^[* ] +\d+ ", threads))

    def hold_against(self, xml):
        """malloc_info counts each arena's top among the free chunks, and neither has the tcache's."""
        arenas = len(re.findall(r"<heap nr", xml))
        whole = xml.split("</heap>")[-1]
        free = sum(int(n) for n in re.findall(r'<total type="(?:fast|rest)" count="(\d+)"', whole)) - arenas
        if (arenas, free) != (self.arenas, self.free):
            raise SystemExit(f"gdb_heap.py: {self.arenas} arenas, {self.free} free; malloc_info: {arenas}, {free}")


class Check:
    """Whether an output, line by line, tells what the truth has."""

    def __init__(self, of, tell, slack=0):
        self.of, self.tell, self.slack = of, tell, slack

    def complaint(self, path, truth):
        want = getattr(truth, self.of)
        with open(path, encoding="utf-8", errors="replace") as text:
            got = self.tell(COLOUR.sub("", line) for line in text)
        near = got is not None and abs(got - want) <= self.slack * truth.arenas
        if self.of == "chunk":
            return None if near else f"told no chunk at {want:#x}"
        return None if near else f"told {got} of {want} {self.of}"


def lines(pattern):
    return lambda text: sum(1 for line in text if re.search(pattern, line))


def total(pattern):
    """The sum of all numbers that the pattern finds, of several groups too."""
    def tell(text):
        return sum(int(n.replace(",", "")) for line in text for m in re.finditer(pattern, line) for n in m.groups())
    return tell


def address(pattern, minus=0):
    def tell(text):
        found = next((m for m in (re.search(pattern, line) for line in text) if m), None)
        return int(found[1], 16) - minus if found else None
    return tell


def scripted(job, target):
    return [GDB, "-q", "-nx", "-batch", *target, "-ex", f"python job={job!r}", "-x", HERE / "gdb_heap.py"]


# Tops, mapped chunks, the fenceposts of retired heaps: each peer counts others of them among the chunks.
SLACK = 4

GEF_BINS = "for a in list(gef.heap.arenas): gdb.execute(f'heap set-arena {int(a):#x}'); gdb.execute('heap bins')"
PWNDBG_BINS = "for a in pwndbg.aglib.heap.current.arenas: gdb.execute(f'bins {a.address:#x}')"
PWNDBG_CHUNKS = ("for h in [h for a in pwndbg.aglib.heap.current.arenas for h in a.heaps]:"
                 " gdb.execute(f'heap -s {h.start:#x}')")

# job -> (commands, check); {a} is the address to find
GEF = {
    "arenas": (["heap arenas"], Check("arenas", lines(r"^Arena\(base="))),
    "bins": (["python " + GEF_BINS], Check("binned", total(r"Found (\d+) chunks in"))),
    "sizes": (["heap chunks --all --summary"], Check("chunks", total(r"^\d+\s+\t(\d+)\s+\t\d+"), SLACK)),
    "chunks": (["heap chunks --all"], Check("chunks", lines(r"^Chunk\(addr="), SLACK)),
}
PWNDBG = {
    "arenas": (["arenas"], Check("arenas", lines(r"^ *(?:main_arena|non-main arena)"))),
    # of each bin it shows the first eight chunks
    "bins": (["python " + PWNDBG_BINS], Check("arenas", lines(r"^unsortedbin"))),
    "chunks": (["python " + PWNDBG_CHUNKS], Check("chunks", lines(r"^size: "), SLACK)),
    "find": (["hi {a:#x}"], Check("chunk", address(r"^Addr: (0x\w+)"))),
    "params": (["mp"], Check("tables", lines("trim_threshold"))),
}
CORE_ANALYZER = {
    "arenas": (["heap"], Check("arenas", total(r"There are (\d+) arenas"))),
    "sizes": (["heap /v"], Check("chunks", total(r"Total (\d+) blocks (?:in-use|free)"), SLACK)),
    "check": (["heap"], Check("chunks", total(r"Total (\d+) blocks (?:in-use|free)"), SLACK)),
    "find": (["heap /b {a:#x}"], Check("chunk", address(r"\[Address\] +(0x\w+)", 16))),
}
CHAP = {
    "arenas": (["describe arenas"], Check("arenas", lines(r"^Arena at"))),
    "sizes": (["summarize allocations"], Check("chunks", total(r"^(\d+) allocations use"), SLACK)),
    "chunks": (["list allocations"], Check("chunks", lines(r"(?:Used|Free) allocation at"), SLACK)),
    "find": (["describe {a:x}"], Check("chunk", address(r"allocation at ([0-9a-f]+)", 16))),
}
SCRIPTED = {
    "arenas": ("arenas", Check("arenas", total(r"(\d+) arenas"))),
    "bins": ("bins", Check("free", total(r"(\d+) counted"))),
    "sizes": ("walk", Check("chunks", total(r"(\d+) counted"))),
    "chunks": ("chunks", Check("chunks", lines(r"^0x\w+ \d+ (?:used|free)$"))),
    "find": ("find={a:#x}", Check("chunk", address(r"used chunk (0x\w+)"))),
}
CALL = {
    "malloc-info": (['call (int)malloc_info(0, (void*)fopen("/dev/null", "w"))'], Check("tables", lines(r"^\$1 = 0"))),
}
PLAIN = {
    "params": (["print mp_"], Check("tables", lines(r"trim_threshold"))),
    "stacks": (["thread apply all bt"], Check("threads", lines(r"^Thread \d+"))),
}


def of_stacks(text):
    """"8 threads: 1 2 ..." and "thread 9 name"."""
    grouped = (re.match(r"(\d+) threads:|thread \d", line) for line in text)
    return sum(int(m[1] or 1) for m in grouped if m)


OURS = {
    "arenas": (["arenas", "--json"], Check("arenas", lines(r'"kind":"(?:main|mmap)","address"'))),
    "bins": (["bins", "--json"], Check("free", total(r'"kind":"(?!tcache)\w+".*?"count":(\d+)'))),
    "sizes": (["sizes", "--json"], Check("chunks", total(r'"below_bytes":.*"used_count":(\d+).*"free_count":(\d+)'),
                                         SLACK)),
    "check": (["check"], Check("chunks", total(r"^chunks checked +(\d+)"), SLACK)),
    "chunks": (["chunks"], Check("chunks", lines(r"^0x\w+ +\d+ "), SLACK)),
    "find": (["find", "{a:#x}"], Check("chunk", address(r"^chunk +(0x\w+)"))),
    "params": (["params"], Check("tables", lines(r"^trim_threshold "))),
    "stacks": (["stacks"], Check("threads", of_stacks)),
    "malloc-info": (["malloc-info"], Check("arenas", lines(r"^<heap nr="))),
}
JOBS = tuple(OURS)


def argv_of(start, of, truth):
    argv = list(start)
    for command in of:
        argv += ["-ex", command.replace("{a:#x}", f"{truth.address:#x}")]
    return argv


def piped(chap, core, command, truth):
    return ["sh", "-c", f"echo '{command.format(a=truth.address)}' | {chap} {core}"]


def here(core, truth, target, libc):
    """name -> {job: (argv, check)} of the peers at hand."""
    gdb = [GDB, "-q", "-nx", "-batch"]
    own = [*gdb[1:], "-iex", "set debug-file-directory /usr/lib/debug"]  # one that was built by hand looks elsewhere
    env = os.environ.get
    tables = [("gdb", [*gdb, *target], PLAIN)]
    if env("GDB_CALL") and not core:
        tables.append(("gdb, call", [env("GDB_CALL"), *own, *target], CALL))
    if env("GEF"):
        # after the target: loaded before, it walks one chunk of each arena of a core, whose libc it must be told
        tables.append(("GEF", [*gdb, *target, "-x", env("GEF"), "-ex", f"gef config gef.libc_version {libc}"], GEF))
    if env("PWNDBG"):
        # before the target: loaded after it, it never learns that there is a process
        tables.append(("pwndbg", [*gdb, "-ix", env("PWNDBG"), *target], PWNDBG))
    if env("CORE_ANALYZER"):
        tables.append(("core_analyzer", [env("CORE_ANALYZER"), *own, *target], CORE_ANALYZER))
    found = {"gdb, scripted": {job: (scripted(of.format(a=truth.address), target), check)
                               for job, (of, check) in SCRIPTED.items()}}
    for name, start, jobs in tables:
        found[name] = {job: (argv_of(start, of, truth), check) for job, (of, check) in jobs.items()}
    if env("CHAP") and core:
        found["chap"] = {job: (piped(env("CHAP"), core, of[0], truth), check) for job, (of, check) in CHAP.items()}
    return found


def too_many(name, job, truth):
    slow = {"GEF": ("bins", "sizes", "chunks"), "pwndbg": ("chunks",)}
    return truth.chunks > MANY_CHUNKS and job in slow.get(name, ())
