# SPDX-License-Identifier: GPL-3.0-or-later
"""What the end-to-end tests share: victims, runs of arenascope, what the kernel says, cores.

The kernel's files are read here and nowhere else, so that the tests' truth never comes from
arenascope's own code.
"""

import contextlib
import json
import os
import pathlib
import queue
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import threading
import time

ARENASCOPE = os.environ["ARENASCOPE"]
VICTIMS = pathlib.Path(os.environ["VICTIMS"])
# the same objects, but it obeys ARENASCOPE_FAULT, ARENASCOPE_NO_DEBUG, ARENASCOPE_RUNS (runs of pages in memory) and
# ARENASCOPE_NOTES (blocks of digests of pages in memory)
HOOKED = str(VICTIMS.parent / "arenascope-hooked")
# below strace, or where ptrace(2) ends it: LeakSanitizer, if it was built with that, is a tracer itself
NO_LEAKS = {"ASAN_OPTIONS": "detect_leaks=0"}
NO_LSAN = ["env", *(f"{k}={v}" for k, v in NO_LEAKS.items())]
# not __asan_init, which arenascope itself looks for in its targets
SANITIZED = b"__asan_version_mismatch_check" in pathlib.Path(ARENASCOPE).read_bytes()
HOOKS = ("ARENASCOPE_FAULT", "ARENASCOPE_NO_DEBUG", "ARENASCOPE_RUNS", "ARENASCOPE_NOTES")
PAGE = resource.getpagesize()
# gcc's flags for a 32-bit program: Debian keeps <asm/...> beside the 64-bit headers alone, unless gcc-multilib is
# installed, which cannot be together with a cross compiler
M32 = ("-m32", "-idirafter", "/usr/include/x86_64-linux-gnu")


def wait_for(test, timeout=20.0, what="the condition"):
    """Poll until test() is true; its value. No sleeps of guessed length in tests."""
    end = time.monotonic() + timeout
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come within {timeout} s")
        time.sleep(0.005)


# ---- runs of arenascope ----


class Run:
    """A finished run: .rc .out .err as text, .bytes as it was, .json parsed on demand."""

    def __init__(self, argv, rc, out, err, seconds):
        self.argv, self.rc, self.bytes, self.err, self.seconds = argv, rc, out, err, seconds

    @property
    def out(self):
        return self.bytes.decode("utf-8", "surrogateescape")

    @property
    def json(self):
        return json.loads(self.bytes)

    @property
    def jsonl(self):
        return [json.loads(line) for line in self.bytes.splitlines()]

    def __repr__(self):
        return f"{' '.join(self.argv)}: exit {self.rc}\n--- stdout\n{self.out[:2000]}\n--- stderr\n{self.err[:4000]}"


def arenascope(*args, rc=0, timeout=60, stdin=b"", env=None, cwd=None, **popen):
    """Run the program; rc is the exit status that must come (a number, a tuple, or None for any)."""
    argv = [HOOKED if any(hook in (env or {}) for hook in HOOKS) else ARENASCOPE, *map(str, args)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DEBUGINFOD_", "ARENASCOPE_"))}
    environment.update({"LC_ALL": "C.UTF-8", "TERM": "dumb", "DEBUGINFOD_URLS": ""})
    environment.update(env or {})
    t = time.monotonic()
    kind = {} if stdin is None else {"input": stdin.encode() if isinstance(stdin, str) else stdin}
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                          env=environment, cwd=cwd, **kind, **popen)
    run = Run(argv, done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"), time.monotonic() - t)
    if rc is not None:
        assert run.rc in (rc if isinstance(rc, tuple) else (rc,)), run
    return run


def arenascope_json(*args, **more):
    """The same with --json, parsed: arenascope_json("-p", pid, "report")."""
    return arenascope("--json", *args, **more).json


# ---- victims ----


class Victim:
    """A program under test, in a process group of its own, spoken to by lines.

    with Victim("service", "--threads", 8) as v:
        v.line("idle")
        v.ask("ping", "pong")
    """

    def __init__(self, name, *args, env=None, cwd=None, core_limit=False, wrapper=(), **popen):
        path = VICTIMS / str(name)
        argv = [*map(str, wrapper), str(path if path.exists() else shutil.which(str(name)) or name), *map(str, args)]
        self.argv = argv
        self.lines = []
        self._new = queue.Queue()
        environment = dict(os.environ)
        environment.update(env or {})

        def before_exec():
            if core_limit:
                resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
                                        cwd=cwd, start_new_session=True, preexec_fn=before_exec, **popen)
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            text = line.decode("utf-8", "replace").rstrip("\n")
            self.lines.append(text)
            self._new.put(text)
        self._new.put(None)

    def line(self, start="", timeout=120.0):
        """The next line that begins with start."""
        end = time.monotonic() + timeout
        while True:
            try:
                text = self._new.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{self.argv}: no line {start!r} in {timeout} s, only {self.lines[-5:]}") from None
            if text is None:
                raise AssertionError(f"{self.argv}: ended with {self.process.wait()} before {start!r}: {self.lines[-5:]}")
            if text.startswith(start):
                return text

    def send(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, command, start="", timeout=120.0):
        self.send(command)
        return self.line(start, timeout)

    def signal(self, number):
        os.kill(self.pid, number)

    def quit(self, command="quit", rc=0, timeout=60.0):
        """Ask it to end by itself; its own exit status is its verdict about itself."""
        if command:
            self.send(command)
        self.process.stdin.close()
        assert self.process.wait(timeout) == rc, self.lines[-5:]
        self._reader.join(timeout)  # its last words may come after its end

    def close(self):
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        try:
            os.killpg(self.pid, signal.SIGKILL)  # children that it made, and that hold its pipes
        except ProcessLookupError:
            pass
        if self.process.stdin and not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        self._reader.join(5)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- what the kernel says ----


def status(pid, tid=None):
    """/proc/PID/status (or one thread's) as a dict of strings."""
    path = f"/proc/{pid}/task/{tid}/status" if tid else f"/proc/{pid}/status"
    return dict(line.split(":\t", 1) for line in open(path, errors="replace").read().splitlines() if ":\t" in line)


def tids(pid):
    return sorted(int(t) for t in os.listdir(f"/proc/{pid}/task"))


def cpu_ticks(pid):
    """CPU time so far, user and system."""
    return sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def nice(pid, tid=None):
    return os.getpriority(os.PRIO_PROCESS, tid or pid)


def is_kernel_thread(pid):
    """By PF_KTHREAD in /proc/PID/stat's flags; False for a process that is gone."""
    try:
        return bool(int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6]) & 0x200000)
    except OSError:
        return False


def state(pid, tid=None):
    return status(pid, tid)["State"][0]


_MAP = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) (\S+) (\d+)\s*(.*)$")


def maps(pid, name="maps"):
    """/proc/PID/maps, or smaps with its numbers in bytes under their names ("Rss": 4096)."""
    found = []
    for line in open(f"/proc/{pid}/{name}", errors="surrogateescape"):
        m = _MAP.match(line)
        if m:
            found.append({"start": int(m[1], 16), "end": int(m[2], 16), "perms": m[3], "offset": int(m[4], 16),
                          "inode": int(m[6]), "name": m[7]})
            continue
        key, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB":
            found[-1][key] = int(words[0]) * 1024
        elif key == "VmFlags":
            found[-1][key] = words
    return found


def smaps(pid):
    return maps(pid, "smaps")


def rss(pid):
    """Exact, in bytes: the sum over smaps (statm and status are counted per CPU and lag)."""
    return sum(m["Rss"] for m in smaps(pid))


def heap_rss(pid):
    """Of private memory without a file, but not of the stacks: what malloc could own, to the page."""
    def stack_pointers():
        calls = [open(f"/proc/{pid}/task/{t}/syscall").read().split() for t in tids(pid)]
        return all(len(c) > 2 for c in calls) and [int(c[-2], 16) for c in calls]

    stacks = wait_for(stack_pointers, 20, "every thread to sleep")
    return sum(m["Rss"] for m in smaps(pid)
               if not m["inode"] and (m["name"] in ("", "[heap]") or m["name"].startswith("[anon:"))
               and not any(m["start"] <= sp < m["end"] for sp in stacks))


def pagemap(pid, start, end):
    """(present, swapped) for every page of [start, end)."""
    with open(f"/proc/{pid}/pagemap", "rb") as f:
        f.seek(start // PAGE * 8)
        raw = f.read((end - start) // PAGE * 8)
    return [(bool(v >> 63), bool(v >> 62 & 1)) for (v,) in struct.iter_unpack("<Q", raw)]


def resident(pid, start, end):
    return PAGE * sum(present for present, _ in pagemap(pid, start, end))


class Untouched:
    """The target is as it was: take it before, check() after.

    Pass alive=... to see that it still works: a function whose value must change with time or by
    asking (a counter in shared memory, a "ping").
    """

    KEEP = ("SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "Seccomp")

    def __init__(self, pid, alive=None, threads=True):
        self.pid, self.alive, self.threads = pid, alive, threads
        self.before = self._look()

    def _look(self):
        look = {"text": self._text(), "tids": tids(self.pid) if self.threads else None}
        for tid in tids(self.pid) if self.threads else [self.pid]:
            s = status(self.pid, tid)
            look[tid] = {k: s[k] for k in self.KEEP if k in s}
            look[tid]["nice"] = nice(self.pid, tid)
        look["stopped"] = state(self.pid) == "T"
        return look

    def _text(self):
        """Every byte of executable memory: no breakpoint, no patch, no mapping left behind."""
        found = {}
        with open(f"/proc/{self.pid}/mem", "rb", 0) as mem:
            for m in maps(self.pid):
                if "x" in m["perms"] and m["name"] not in ("[vsyscall]",):
                    mem.seek(m["start"])
                    found[m["start"], m["end"]] = hash(mem.read(m["end"] - m["start"]))
        return found

    def check(self):
        wait_for(lambda: status(self.pid)["TracerPid"] == "0", 5, "TracerPid 0")
        if not self.before["stopped"]:
            wait_for(lambda: all(state(self.pid, t) not in "tT" for t in tids(self.pid)), 5, "every thread to run on")
        now = self._look()
        for key, was in self.before.items():
            assert now.get(key) == was, f"pid {self.pid} was touched: {key} was {was}, is {now.get(key)}"
        if self.alive:
            first = self.alive()
            wait_for(lambda: self.alive() != first, 5, "the target to go on")


# ---- huge pages ----


@contextlib.contextmanager
def huge_pages(n, path="/proc/sys/vm/nr_hugepages"):
    """So many more in the kernel's pool; afterwards so many less: others may change it meanwhile."""
    def add(by):
        now = int(open(path).read())
        open(path, "w").write(str(max(0, now + by)))
        return int(open(path).read()) - now

    got = add(n) if n else 0
    try:
        yield
    finally:
        if got:
            add(-got)


# ---- cores ----


def gcore(pid, path):
    """gdb's core of a live process; the file."""
    path = pathlib.Path(path)
    done = subprocess.run(["gdb", "-q", "-nx", "-batch", "-p", str(pid), "-ex", f"generate-core-file {path}"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          env={**os.environ, "DEBUGINFOD_URLS": ""}, timeout=300)
    assert path.exists(), done.stdout.decode("utf-8", "replace")
    return path


def kernel_core_works():
    pattern = open("/proc/sys/kernel/core_pattern").read().strip()
    return not pattern.startswith("|") and "/" not in pattern


def kernel_core(victim, directory):
    """The kernel's own core of a victim started with core_limit=True and cwd=directory; ends it."""
    before = set(os.listdir(directory))
    victim.signal(signal.SIGABRT)
    victim.process.wait(120)
    new = sorted(set(os.listdir(directory)) - before)
    assert len(new) == 1, f"no core in {directory}: core_pattern or the limit forbids it ({new})"
    return pathlib.Path(directory) / new[0]


# ---- terminals ----


def readable(fd, timeout):
    return bool(select.select([fd], [], [], timeout)[0])
