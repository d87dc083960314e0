# SPDX-License-Identifier: GPL-3.0-or-later
"""With libc's debug file, without it, and from memory alone: the same document from every command.

A core is read, so that nothing moves in between. What may differ is provenance: how it was found
out, and what only symbols can name (functions, source lines). amd64, i386, and a libc with the
.gnu_debugdata that Fedora's has; the debug file in its place, or from a debuginfod alone.
"""

import http.server
import pathlib
import shutil
import signal
import subprocess
import threading

import matrix
import pytest

from helpers import Victim, arenascope, kernel_core, kernel_core_works

COMMANDS = [["report"], ["rss"], ["rss", "--maps"], ["arenas"], ["arenas", "--heaps"], ["arena", "0"], ["arena", "2"], ["bins"],
            ["bins", "1"], ["sizes"], ["sizes", "--used"], ["sizes", "--free"], ["chunks"], ["chunks", "--arena=1"],
            ["chunks", "--state=tcache"], ["find", "CHUNK"], ["map"], ["threads"], ["stuck"], ["params"], ["check"], ["pins"],
            ["advise"], ["trim", "-n"], ["reclaim", "-n"]]
# how it was found out, when, and names that only debug files have
PROVENANCE = {"libc", "warnings", "taken_at", "complete", "function", "frames", "innermost", "holder", "symbol"}
# static variables of libc.so.6 that memory alone does not show: null there, never another value
ONLY_SYMBOLS = {"global_max_fast", "narenas", "narenas_limit", "curbrk_address", "curbrk", "single_threaded", "list_lock", "free_list_lock"}


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in PROVENANCE}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


def differences(a, b, at=""):
    """Paths at which b says something else than a; null in b is what it may not know."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        if "name" in a and a["name"] == b["name"] and a["name"] in ONLY_SYMBOLS and b.get("value") is None:
            return []
        return [d for k in a for d in differences(a[k], b[k], f"{at}/{k}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{at}/{i}")]
    return [] if a == b else [(at, a, b)]


def build_id(file):
    notes = subprocess.run(["readelf", "-n", str(file)], stdout=subprocess.PIPE, text=True, check=True).stdout
    return notes.split("Build ID: ")[1].split()[0]


def debug_file(file, folder="/"):
    found = build_id(file)
    return pathlib.Path(folder) / f"usr/lib/debug/.build-id/{found[:2]}/{found[2:]}.debug"


class Core:
    """A core, what malloc_info said, and how to look at it with the debug file and without."""

    def __init__(self, folder, program, wrapper=(), options=(), always=(), hows=(), write=kernel_core):
        self.hows, self.options, self.always = hows, list(options), list(always)
        (folder / "cwd").mkdir()
        with Victim(program, folder / "truth.xml", 3, core_limit=True, cwd=folder / "cwd", wrapper=wrapper) as victim:
            victim.line("ready")
            self.file, self.truth = write(victim, folder / "cwd"), (folder / "truth.xml").read_bytes()
        self.documents = {}

    def run(self, command, how=None, env=None):
        # a debug folder is where the file is: without it there is nothing to find
        options = self.always + (self.options if how is None else [])
        extra = ["--debuginfod=on"] if how == "debuginfod" else []
        return arenascope("-q", "-c", self.file, *options, *extra, *command, env={**(env or {}), **variables(how)}, rc=(0, 1))

    def json(self, command, how=None, env=None):
        key = (*command, how)
        if key not in self.documents:
            self.documents[key] = self.run(["--json", *command], how, env).json
        return self.documents[key]


def variables(how):
    return {None: {}, "debuginfod": {"ARENASCOPE_NO_DEBUG": "local"}}.get(how, {"ARENASCOPE_NO_DEBUG": how})


def mini(folder):
    """The host's ld.so and its libc, with .gnu_debugdata: the names of functions, and no variable."""
    host = pathlib.Path("/usr/lib/x86_64-linux-gnu")
    lib = folder / "lib"
    lib.mkdir()
    shutil.copy(host / "ld-linux-x86-64.so.2", lib)
    debug = debug_file(host / "libc.so.6")
    names = subprocess.run(["nm", debug, "--format=posix", "--defined-only"], stdout=subprocess.PIPE, text=True, check=True).stdout
    keep = [line.split()[0] for line in names.splitlines() if line.split()[1] in "Tt"]
    (folder / "keep").write_text("\n".join(keep) + "\n")
    quiet = {"check": True, "stderr": subprocess.DEVNULL}
    subprocess.run(["objcopy", "-S", f"--keep-symbols={folder / 'keep'}", debug, folder / "mini"], **quiet)
    subprocess.run(["xz", "-f", folder / "mini"], **quiet)
    subprocess.run(["objcopy", "--add-section", f".gnu_debugdata={folder / 'mini.xz'}", host / "libc.so.6", lib / "libc.so.6"], **quiet)
    return [lib / "ld-linux-x86-64.so.2", "--library-path", lib]


def emulators_core(victim, folder):
    """qemu's user emulation writes a core of its guest: without code, names, or a note of the system call."""
    victim.signal(signal.SIGABRT)
    victim.process.wait(120)
    return next(folder.glob("qemu_*.core"))


def make(kind, folder):
    if kind == "arm64":
        libc = next((l for l in matrix.libcs("arm64") if l.suite == "bookworm"), None)
        if not libc or not libc.can_build() or not shutil.which("qemu-aarch64"):
            pytest.skip("no program for arm64 can be built or run here")
        program = libc.build("shapes")
        return Core(folder, program, [shutil.which("qemu-aarch64"), *libc.wrapper()], [f"--debug-dir={libc.folder}"],
                    [f"--exe={program}", "--root=/"], ["1", "files"], emulators_core)
    if kind == "i386":
        libc = next((l for l in matrix.libcs("i386") if l.suite == "bookworm"), None)
        if not libc or not libc.can_build() or not libc.runs_here():
            pytest.skip("no 32-bit program can be built or run here")
        return Core(folder, libc.build("shapes"), libc.wrapper(), [f"--debug-dir={libc.folder}"], hows=["1", "files"])
    if not debug_file("/usr/lib/x86_64-linux-gnu/libc.so.6").exists():
        pytest.skip("libc6-dbg is not installed")
    if kind == "mini":
        return Core(folder, "shapes", mini(folder), hows=["local"])
    return Core(folder, "shapes", hows=["1", "files", "debuginfod"])


CORES = {}


@pytest.fixture(scope="session")
def core_of(tmp_path_factory):
    if not kernel_core_works():
        pytest.skip("core_pattern does not write files")

    def get(kind):
        if kind not in CORES:
            CORES[kind] = make(kind, tmp_path_factory.mktemp(kind))
        return CORES[kind]
    return get


@pytest.fixture(scope="session")
def debuginfod(tmp_path_factory):
    """A server that has libc's debug file and nothing else."""
    libc = "/usr/lib/x86_64-linux-gnu/libc.so.6"

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != f"/buildid/{build_id(libc)}/debuginfo":
                return self.send_error(404)
            data = debug_file(libc).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            return self.wfile.write(data)

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"DEBUGINFOD_URLS": f"http://127.0.0.1:{server.server_port}",
           "DEBUGINFOD_CACHE_PATH": str(tmp_path_factory.mktemp("fod"))}
    server.shutdown()


def filled(command, core):
    """CHUNK is the first live chunk of the main arena."""
    if "CHUNK" not in command:
        return command
    chunks = core.json(["chunks", "--arena=0", "--state=in_use", "--limit=1"])["chunks"]
    return [chunks[0]["address"] if word == "CHUNK" else word for word in command]


KINDS = [("amd64", "1"), ("amd64", "files"), ("amd64", "debuginfod"), ("i386", "1"), ("i386", "files"), ("arm64", "1"), ("arm64", "files"),
         ("mini", "local")]


# Without a file there is no instruction in these cores that would say which call a thread is in.
NO_CALLS = [("arm64", "files", "threads"), ("arm64", "files", "stuck")]
CASES = [(c, *k) for c in COMMANDS for k in KINDS if (*k, c[0]) not in NO_CALLS]


@pytest.mark.parametrize("command,kind,how", CASES, ids=[f"{' '.join(c)}-{k}-{h}" for c, k, h in CASES])
def test_same(command, kind, how, core_of, debuginfod):
    core = core_of(kind)
    command = filled(command, core)
    with_it, without = core.json(command), core.json(command, how, debuginfod if how == "debuginfod" else None)
    assert with_it["libc"]["layout"] == "dwarf"
    assert without["libc"]["layout"] in (("dwarf",) if how == "debuginfod" else ("table", "scan"))
    found = differences(plain(with_it), plain(without))
    assert found == [], found


def frames(document):
    """tid: addresses of its frames; inlined functions have none of their own, and only debug files know them."""
    return {tid: [f["pc"] for f in s["frames"] if not f["inlined"]] for s in document["stacks"] for tid in s["threads"]}


@pytest.mark.parametrize("kind,how", KINDS, ids=["-".join(k) for k in KINDS])
def test_same_stacks(kind, how, core_of, debuginfod):
    """The unwinder needs what every library has; where files are gone it may see less, and nothing else."""
    core = core_of(kind)
    with_it = frames(core.json(["stacks"]))
    without = frames(core.json(["stacks"], how, debuginfod if how == "debuginfod" else None))
    assert len(with_it) == 4 and all(len(v) > 2 for v in with_it.values()), with_it
    if how == "files":
        with_it = {tid: v[:len(without[tid])] for tid, v in with_it.items()}
    assert without == with_it and all(without.values())


@pytest.mark.parametrize("command", ["malloc-info", "malloc-stats"])
@pytest.mark.parametrize("kind", ["amd64", "i386", "arm64", "mini"])
def test_same_text(command, kind, core_of, debuginfod):
    core = core_of(kind)
    texts = {core.run([command]).bytes} | {core.run([command], how, debuginfod if how == "debuginfod" else None).bytes for how in core.hows}
    assert len(texts) == 1
    if command == "malloc-info":
        assert texts == {core.truth}
