# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can go wrong, provoked: what the message must say, and the exit status.

ARENASCOPE_TABLE=FILE writes what was seen as a table. Where the machine has no such obstacle (Yama),
the kernel's answer is injected by strace and the file that tells why is mounted over.
"""

import csv
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

import helpers
from helpers import ARENASCOPE, VICTIMS, arenascope, arenascope_json

LIBRARIES = pathlib.Path("/usr/lib/x86_64-linux-gnu")
FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "cores"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NO_DEBUG = {"ARENASCOPE_NO_DEBUG": "1"}
root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
strace = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def row(request):
    """row(run, rc, *patterns): the run ended so and said all of that, in the shape of section 7."""
    def check(run, rc, *patterns, on="err"):
        text = getattr(run, on)
        assert run.rc == rc, run
        for p in patterns:
            assert re.search(p, text), (p, run)
        if rc >= 2 and on == "err":
            what = [line for line in text.splitlines() if re.search(rf"   \[E-[A-Z]+, exit {rc}\]$", line)]
            assert len(what) == 1, run
            code = re.search(r"\[(E-[A-Z]+)", what[0])[1]
            assert arenascope("help", code).out.startswith(f"{code}   exit {rc}\n")
            assert run.out == "", run
        path = os.environ.get("ARENASCOPE_TABLE")
        if path:
            name = request.node.name.removeprefix("test_").replace("_", " ")
            said = [line.strip() for line in text.splitlines() if "paused" not in line and line.strip()][:4]
            with open(path, "a") as f:
                f.write(f"{name:34} {rc:3}  " + f"\n{'':40}".join(line[:170] for line in said) + "\n")
        return run
    return check


@pytest.fixture
def public(tmp_path_factory):
    """A folder that every user can read, with the program and victims in it."""
    d = pathlib.Path(subprocess.run(["mktemp", "-d", "/tmp/arenascopeXXXXXX"], stdout=subprocess.PIPE, text=True,
                                    check=True).stdout.strip())
    os.chmod(d, 0o755)
    for source, name in ((ARENASCOPE, "arenascope"), (VICTIMS / "attach", "victim")):
        shutil.copy(source, d / name)
        os.chmod(d / name, 0o755)
    yield d
    shutil.rmtree(d)


def run_as(public, *argv, wrapper=(), env=None, timeout=60):
    """The program in other clothes."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "dumb", "DEBUGINFOD_URLS": "", "HOME": "/nonexistent",
                   **(env or {})}
    done = subprocess.run([*map(str, wrapper), public / "arenascope", *map(str, argv)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment, timeout=timeout)
    return helpers.Run(list(map(str, argv)), done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"), 0)


@pytest.fixture
def idle(victim):
    v = victim("attach", "idle", 2)
    v.line("ready")
    return v


def by_nobody(*argv):
    """A process of another user that has said a line."""
    p = subprocess.Popen([*NOBODY, *map(str, argv)], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert p.stdout.readline().startswith(b"ready")
    return p


def end(p):
    p.kill()
    p.communicate()


# ---- not allowed ----


@root
@strace
@pytest.mark.parametrize("scope, says", [
    (1, ["ptrace_scope is 1", "own children only", r"sudo arenascope -p \d+", "sysctl kernel.yama.ptrace_scope=0.*cost"]),
    (2, ["ptrace_scope is 2", "CAP_SYS_PTRACE", r"sudo arenascope -p \d+"]),
    (3, ["ptrace_scope is 3", "nobody may attach", "-c CORE"]),
])
def test_yama(row, public, scope, says):
    mount = ("mount -t tmpfs none /proc/sys && mkdir -p /proc/sys/kernel/yama && "
             f"echo {scope} >/proc/sys/kernel/yama/ptrace_scope && exec \"$@\"")
    p = by_nobody(public / "victim", "idle", "2")
    try:
        wrapper = ["unshare", "-m", "sh", "-c", mount, "sh", *NOBODY, "strace", "-f", "-qq", "-o", "/dev/null", "-e",
                   "trace=ptrace", "-e", "inject=ptrace:error=EPERM", *helpers.NO_LSAN]
        row(run_as(public, "-p", p.pid, "report", wrapper=wrapper), 77, "E-YAMA", *says)
    finally:
        end(p)


@root
def test_other_uid(row, idle, public):
    row(run_as(public, "-p", idle.pid, "report", wrapper=NOBODY), 77, "E-UID", r"root \(uid 0\)", "65534", "sudo")


@root
def test_set_uid(row, public):
    os.chmod(public / "victim", 0o4755)
    p = by_nobody(public / "victim", "idle", "2")
    try:
        if helpers.status(p.pid)["Uid"].split()[1] != "0":
            pytest.skip("/tmp is mounted nosuid")
        row(run_as(public, "-p", p.pid, "report", wrapper=NOBODY), 77, "E-UID", "set-uid", "65534 0 0", "sudo")
    finally:
        end(p)


@root
def test_not_dumpable(row, public):
    code = "import ctypes,time; ctypes.CDLL(None).prctl(4,0,0,0,0); print('ready',flush=True); time.sleep(60)"
    p = by_nobody("/usr/bin/python3", "-c", code)
    try:
        row(run_as(public, "-p", p.pid, "report", wrapper=NOBODY), 77, "E-NODUMP", "not dumpable", "sudo")
    finally:
        end(p)


@root
def test_no_capability_as_in_a_container(row, idle, public):
    wrapper = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
    row(run_as(public, "-p", idle.pid, "report", wrapper=wrapper), 77, "E-CAP", "CAP_SYS_PTRACE", "bit 19",
        "--cap-add=SYS_PTRACE", "kubectl debug --profile=general", "on the host")


@root
def test_other_user_namespace(row, idle, public):
    if subprocess.run(["unshare", "-U", "-r", "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no user namespaces")
    row(run_as(public, "-p", idle.pid, "report", wrapper=("unshare", "-U", "-r")), 77, "E-USERNS", "user namespace")


@strace
def test_already_traced(row, idle):
    tracer = subprocess.Popen(["strace", "-f", "-q", "-e", "trace=none", "-p", str(idle.pid)], stderr=subprocess.DEVNULL)
    try:
        helpers.wait_for(lambda: helpers.status(idle.pid)["TracerPid"] == str(tracer.pid))
        row(arenascope("-p", idle.pid, "report", rc=None), 77, "E-TRACED", f"process {tracer.pid} .strace", "--no-stop")
        assert arenascope("-q", "-p", idle.pid, "--no-stop", "rss", rc=(0, 1)).out
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()


# ---- not there ----


def test_no_such_process(row):
    row(arenascope("-p", 0x3ffffff, "report", rc=None), 66, "E-NOPROC", "does not exist", "container")


def test_zombie(row):
    child = subprocess.Popen(["true"])
    helpers.wait_for(lambda: helpers.state(child.pid) == "Z")
    row(arenascope("-p", child.pid, "report", rc=None), 66, "E-ZOMBIE", "already exited", f"parent {os.getpid()}")
    child.wait()


def test_a_thread_id(row, idle):
    row(arenascope("-p", helpers.tids(idle.pid)[1], "report", rc=None), 66, "E-TID", "thread, not a process",
        f"-p {idle.pid}")


@root
def test_hidden(row, idle, public):
    mount = "mount -t proc -o hidepid=2 proc /proc && exec \"$@\""
    wrapper = ["unshare", "-m", "sh", "-c", mount, "sh", *NOBODY]
    if subprocess.run([*wrapper, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("cannot mount proc")
    row(run_as(public, "-p", idle.pid, "report", wrapper=wrapper), 66, "E-HIDDEN", "hidepid", "root")


def test_kernel_thread(row):
    kernel = [p for p in map(int, filter(str.isdigit, os.listdir("/proc"))) if helpers.is_kernel_thread(p)]
    if not kernel:
        pytest.skip("no kernel thread can be seen in this pid namespace")
    row(arenascope("-p", kernel[0], "report", rc=None), 66, "E-KTHREAD", "no memory of its own")


# ---- containers ----


def container(tmp_path):
    root_dir = tmp_path / "root"
    for d in ("lib", "proc", "etc"):
        (root_dir / d).mkdir(parents=True)
    for name in ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6"):
        shutil.copy(LIBRARIES / name, root_dir / "lib" / name)
    shutil.copy(VICTIMS / "shapes", root_dir / "shapes")
    (root_dir / "etc/os-release").write_text('ID=fedora\nPRETTY_NAME="Fedora of a test"\n')
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--root", str(root_dir),
            "/lib/ld-linux-x86-64.so.2", "--library-path", "/lib", "/shapes", "/truth.xml", "2"]
    v = helpers.Victim(argv[0], *argv[1:])
    v.line("ready")
    return v, int(pathlib.Path(f"/proc/{v.pid}/task/{v.pid}/children").read_text().split()[0])


@root
def test_container_with_root_and_pid_namespace_of_its_own(row, tmp_path):
    v, pid = container(tmp_path)
    with v:
        row(arenascope("-p", pid, "report", rc=None), 0, "in use by the program", f"pid {pid}", on="out")
        run = row(arenascope("-p", pid, "symbols", env=NO_DEBUG, rc=None), 0, "Fedora of a test", "debuginfo-install",
                  r"[0-9a-f]{40}", on="out")
        assert "/root/lib" in run.out or "map_files" in run.out
        assert arenascope("-q", "-p", pid, "malloc-info").bytes == (tmp_path / "root/truth.xml").read_bytes()
        assert arenascope_json("-q", "-p", pid, "reclaim", "--yes", rc=(0, 1))["result"]["verified"]


@root
def test_container_the_number_from_inside(row, tmp_path):
    v, pid = container(tmp_path)
    with v:
        inside = helpers.status(pid)["NSpid"].split()[-1]
        assert inside == "1" != str(pid)
    row(arenascope("-p", 4194000, "report", rc=None), 66, "in a container it has another number")


# ---- not glibc ----


def compiled(tmp_path, *argv):
    out, source = tmp_path / "program", tmp_path / "program.c"
    source.write_text("#include <stdlib.h>\n#include <unistd.h>\nint main(void){void *p=malloc(100);"
                      "if(!p||write(1,\"ready\\n\",6)!=6)return 1;pause();free(p);return 0;}\n")
    subprocess.run([*argv, str(source), "-o", str(out)], check=True)
    return out


def others_still_work(pid):
    for command in ("rss", "threads", "stacks"):
        run = arenascope("-q", "-p", pid, command, rc=(0, 1))
        assert run.out, run


@pytest.mark.skipif(not shutil.which("musl-gcc"), reason="needs musl-tools")
@pytest.mark.parametrize("static", [[], ["-static"]], ids=["dynamic", "static"])
def test_musl(row, tmp_path, static):
    with helpers.Victim(compiled(tmp_path, "musl-gcc", *static)) as v:
        v.line("ready")
        row(arenascope("-p", v.pid, "arenas", rc=None), 69, "E-MUSL", "musl", "rss, threads and stacks")
        others_still_work(v.pid)
    if static:  # nothing says whose it is any more
        subprocess.run(["strip", v.argv[0]], check=True)
        with helpers.Victim(v.argv[0]) as stripped:
            stripped.line("ready")
            row(arenascope("-p", stripped.pid, "arenas", rc=None), 69, "E-NOGLIBC", "SONAME libc.so.6", "rss, threads and stacks")
            others_still_work(stripped.pid)


@pytest.mark.parametrize("library, name", [("libjemalloc.so.2", "jemalloc"), ("libtcmalloc_minimal.so.4", "tcmalloc"),
                                           ("libmimalloc.so.2", "mimalloc")])
def test_allocator(row, tmp_path, library, name):
    if not (LIBRARIES / library).exists():
        pytest.skip(f"{library} is not installed")
    with helpers.Victim("service", "--threads", 3, "--at-once", 1, "--requests", 4, "--payload", 200003,
                        env={"LD_PRELOAD": library}) as v:
        v.line("idle")
        row(arenascope("-p", v.pid, "arenas", rc=None), 69, "E-ALLOCATOR", f"malloc is {name}", re.escape(library),
            r"arenas hold \d+\.\d% of RSS", "rss, threads and stacks work", "--force")
        others_still_work(v.pid)
        assert "ARENA" in arenascope("-q", "--force", "-p", v.pid, "arenas", rc=(0, 1)).out


def test_32_bit(row, tmp_path):
    if subprocess.run(["gcc", "-m32", "-x", "c", "-", "-o", "/dev/null"], input=b"int main(void){return 0;}",
                      stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no 32-bit compiler")
    program = compiled(tmp_path, "gcc", *helpers.M32)
    try:
        v = helpers.Victim(program)
        v.line("ready")
    except (OSError, AssertionError):
        pytest.skip("this kernel runs no 32-bit programs")
    with v:
        row(arenascope("-p", v.pid, "arenas", rc=None), 0, "main", on="out")


def test_32_bit_core(row):
    row(arenascope("-q", "-c", FIXTURES / "i386-qemu.core.xz", "threads", rc=None), 0, "TID", on="out")


# ---- symbols ----


def build_id(path):
    notes = subprocess.run(["readelf", "-n", str(path)], stdout=subprocess.PIPE, text=True, check=True).stdout
    return notes.split("Build ID: ")[1].split()[0]


def test_no_debug_symbols(row, service):
    wanted = build_id(LIBRARIES / "libc.so.6")
    run = row(arenascope("-p", service.pid, "arenas", env=NO_DEBUG, rc=None), 0, "W-LAYOUT", wanted, "built-in table|scan",
              "symbols")
    assert "main" in run.out
    row(arenascope("-p", service.pid, "symbols", env=NO_DEBUG, rc=None), 0, wanted, "Tried", r"libc6-dbg|debuginfo",
        on="out")
    doc = arenascope_json("-q", "-p", service.pid, "arenas", env=NO_DEBUG)
    assert doc["libc"]["layout"] in ("table", "scan") and [w["code"] for w in doc["warnings"]] == ["W-LAYOUT"]


def test_debug_file_of_another_build(row, service, tmp_path):
    wanted = build_id(LIBRARIES / "libc.so.6")
    other = build_id(ARENASCOPE)
    path = tmp_path / "debug" / ".build-id" / wanted[:2] / f"{wanted[2:]}.debug"
    path.parent.mkdir(parents=True)
    shutil.copy(ARENASCOPE, path)
    run = row(arenascope("-p", service.pid, f"--debug-dir={tmp_path / 'debug'}", "symbols", rc=None), 0,
              f"{other}.*{wanted}|{wanted}.*{other}", on="out")
    assert f"debug file   {path}" not in run.out


def test_libc_of_another_build(row, service, tmp_path):
    wanted = bytes.fromhex(build_id(LIBRARIES / "libc.so.6"))
    data = (LIBRARIES / "libc.so.6").read_bytes()
    assert data.count(wanted) == 1
    (tmp_path / "libc.so").write_bytes(data.replace(wanted, wanted[::-1]))
    row(arenascope("-p", service.pid, f"--libc={tmp_path / 'libc.so'}", "arenas", rc=None), 78, "E-BUILDID",
        wanted.hex(), wanted[::-1].hex(), "--root")


def test_core_of_another_libc(row, tmp_path):
    """The host's libc has the path of the core's, and another build-id."""
    folder = tmp_path / "lib"
    folder.mkdir()
    shutil.copy(LIBRARIES / "ld-linux-x86-64.so.2", folder)
    shutil.copy(LIBRARIES / "libc.so.6", folder)
    with helpers.Victim(VICTIMS / "shapes", tmp_path / "truth.xml", 2,
                        wrapper=[folder / "ld-linux-x86-64.so.2", "--library-path", folder]) as v:
        v.line("ready")
        core = helpers.gcore(v.pid, tmp_path / "core")
        truth = arenascope_json("-q", "-p", v.pid, "arenas", rc=(0, 1))["arenas"]
    wanted = build_id(folder / "libc.so.6")
    data = (folder / "libc.so.6").read_bytes()
    other = bytes.fromhex(wanted)[::-1]
    (folder / "libc.so.6").unlink()
    (folder / "libc.so.6").write_bytes(data.replace(bytes.fromhex(wanted), other))
    run = row(arenascope("-c", core, "symbols", env=NO_DEBUG, rc=None), 0, wanted, other.hex(), "--root|--libc", on="out")
    assert f"file         {folder}/libc.so.6" not in run.out
    doc = arenascope_json("-q", "-c", core, "arenas", env=NO_DEBUG, rc=(0, 1))
    assert doc["libc"]["build_id"] == wanted
    keys = ("index", "address", "mapped_bytes", "top_bytes", "chunk_counts")
    assert [[a[k] for k in keys[:4]] for a in doc["arenas"]] == [[a[k] for k in keys[:4]] for a in truth]


def test_tcaches_of_a_core_not_found(row):
    """Without symbols, in a core whose thread-local storage is not where a scan looks for it."""
    core = FIXTURES / "aarch64-qemu-threads.core.xz"
    run = row(arenascope("-c", core, "arenas", rc=None), 1, "W-TCACHE", "counted as in use", "unknown")
    assert re.search(r"^ +0 +main( +\S+){3} +\? ", run.out, re.M), run
    a = arenascope_json("-q", "-c", core, "arenas", rc=1)["arenas"][0]
    assert a["cached_bytes"] is None and a["chunk_counts"]["tcache"] is None and a["chunk_bytes"]["tcache"] is None
    assert a["chunk_counts"]["in_use"] > 0
    assert arenascope("help", "W-TCACHE").out.startswith("W-TCACHE   a warning, exit 1\n")
    assert "libc6-dbg" in arenascope("help", "w-tcache").out


# ---- cores ----


@pytest.fixture(scope="module")
def whole_core(tmp_path_factory):
    with helpers.Victim("service", "--threads", 3, "--at-once", 1, "--requests", 8, "--payload", 300007) as v:
        v.line("idle")
        return helpers.gcore(v.pid, tmp_path_factory.mktemp("core") / "core.svc")


def test_truncated_core(row, whole_core, tmp_path):
    size = whole_core.stat().st_size
    (tmp_path / "core").write_bytes(whole_core.read_bytes()[:size * 9 // 10])
    run = row(arenascope("-c", tmp_path / "core", "rss", rc=None), 1, "W-TRUNCATED", "promised", "there", "missing")
    assert "files" in run.out
    doc = arenascope_json("-q", "-c", tmp_path / "core", "threads", rc=1)
    assert doc["complete"] is False and "W-TRUNCATED" in [w["code"] for w in doc["warnings"]]


def test_core_cut_in_its_tables(row, whole_core, tmp_path):
    (tmp_path / "core").write_bytes(whole_core.read_bytes()[:300])
    row(arenascope("-c", tmp_path / "core", "report", rc=None), 65, "E-TRUNCATED", "promise|end")


@pytest.mark.parametrize("what", ["executable", "library", "archive", "text", "gzip", "empty", "folder", "nothing"])
def test_not_a_core(row, tmp_path, what):
    path = tmp_path / "file"
    says = {"executable": "executable", "library": "executable|shared library", "archive": "archive", "text": "text",
            "gzip": "text|not a core", "empty": "empty", "folder": "directory", "nothing": "No such file"}[what]
    if what in ("executable", "library"):
        shutil.copy(ARENASCOPE if what == "executable" else LIBRARIES / "libc.so.6", path)
    elif what == "archive":
        subprocess.run(["ar", "rc", path, "/etc/hostname"], check=True)
    elif what == "text":
        path.write_text("hello\n" * 100)
    elif what == "gzip":
        path.write_bytes(subprocess.run(["gzip", "-c"], input=b"hello\n" * 100, stdout=subprocess.PIPE, check=True).stdout)
    elif what == "empty":
        path.touch()
    elif what == "folder":
        path.mkdir()
    row(arenascope("-c", path, "report", rc=None), 66 if what == "nothing" else 65, says)


# ---- pages ----


@strace
def test_pagemap_unreadable(row, service):
    argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", f"/proc/{service.pid}/pagemap", "-e", "inject=openat:error=EACCES",
            *helpers.NO_LSAN]
    done = subprocess.run([*argv, ARENASCOPE, "-p", str(service.pid), "arenas"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60)
    run = helpers.Run(argv, done.returncode, done.stdout, done.stderr.decode(), 0)
    row(run, 1, "W-PAGEMAP", "resident columns are unknown", "upper bound")
    assert "?" in run.out
    done = subprocess.run([*argv, ARENASCOPE, "-q", "-j", "-p", str(service.pid), "arenas"], stdout=subprocess.PIPE,
                          timeout=60)
    doc = helpers.Run(argv, done.returncode, done.stdout, "", 0).json
    assert done.returncode == 1 and all(a["resident_bytes"] is None for a in doc["arenas"])
    assert all(isinstance(a["mapped_bytes"], int) for a in doc["arenas"])


# ---- while it is read ----


def test_target_exits_while_read(row, service, tmp_path):
    script = f"arenas > {tmp_path}/before\n!\narenas > {tmp_path}/after\nchunks --limit=3\nrefresh\n"
    first, rest = script.split("!\n")
    p = subprocess.Popen([ARENASCOPE, "-q", "-p", str(service.pid), "-x", "-"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdin.write(first)
    p.stdin.flush()
    helpers.wait_for(lambda: (tmp_path / "before").exists() and (tmp_path / "before").stat().st_size, 20, "the reading")
    service.process.kill()
    service.process.wait()
    out, err = p.communicate(rest, timeout=60)
    before, after = (re.sub(r" +up \S+( s)?", "", (tmp_path / n).read_text()) for n in ("before", "after"))
    assert before == after, "what was read stays"
    row(helpers.Run(["script"], p.returncode, b"", err, 0), 66, "E-EXITED", "has ended", "what was read before stays")
    assert p.returncode == 66, (out, err)


def test_arena_lock_held_at_trim(row, victim):
    v = victim("odd", "lock")
    v.line("ready")
    row(arenascope("-p", v.pid, "trim", "--yes", "--wait=400ms", rc=None), 75, "E-BUSY", "lock of arena 0", r"\d+ tries",
        r"arena 0 lock is held by thread \d+ odd, which sleeps in \w*write\w* \(inferred from stacks, confidence \w+\)", "--wait=", "stuck")
    assert v.ask("release", "released") and v.ask("ping", "pong")
    v.quit()


def test_call_does_not_return_in_time(row, victim):
    """What state it was left in, and nothing is killed; test_act.py has what comes after."""
    v = victim("odd", "slow", 20, 200, 50000)
    tid = v.line("ready").split()[1]
    run = row(arenascope("-p", v.pid, "trim", "--yes", f"--tid={tid}", "--call-timeout=500ms", rc=None), 1, "W-RUNNING",
              r"thread \d+ has not returned: it is in madvise", "goes on by itself")
    assert "Still running." in run.out
    assert v.ask("release", "released") and v.ask("ping", "pong")
    v.quit()


def test_corrupt_heap(row, victim):
    v = victim("corrupt", "size-zero")
    line = v.line("damaged").split()
    row(arenascope("-p", v.pid, "check", rc=None), 1, line[1], line[2], "ARENA", "bytes from here on were not walked", on="out")
    row(arenascope("-p", v.pid, "check", rc=None), 1, "W-CORRUPT", "check")


# what shows states of chunks cannot tell cached ones then; what does not goes on as ever
SHOWS_CACHED = [["report"], ["rss"], ["arenas"], ["arena", "0"], ["bins"], ["sizes"], ["chunks"], ["threads"], ["pins"], ["map"], ["advise"],
                ["trim", "-n"], ["reclaim", "-n"]]
SHOWS_NONE = [["malloc-info"], ["malloc-stats"], ["check"], ["params"], ["stuck"], ["stacks"]]


def nothing_about_tcaches(document):
    """No number in the document stands for what is not known, 0 least of all."""
    def walk(v, key=""):
        if isinstance(v, dict):
            for k, x in v.items():
                walk(x, k)
        elif isinstance(v, list):
            for x in v:
                walk(x, key)
        elif key in ("cached_bytes", "cached_chunks", "tcache_chunks", "tcache_bytes", "tcache"):
            assert v is None, (key, v)
    walk(document)


@pytest.mark.parametrize("how", ["1", "files"])
def test_tcaches_not_found(row, victim, how):
    """All counters of the only tcache are damaged: without symbols nothing tells where it is."""
    env = {"ARENASCOPE_NO_DEBUG": how}
    v = victim("lost", 3)
    v.line("ready")
    run = row(arenascope("-p", v.pid, "arenas", env=env, rc=None), 1, "W-TCACHE", "tcaches", "counted as in use")
    # ARENA KIND MAPPED RSS IN-USE CACHED
    assert run.out.splitlines()[2].split()[5] == "?", run.out
    assert arenascope("help", "W-TCACHE").out.startswith("W-TCACHE   a warning, exit 1\n")
    for command in SHOWS_CACHED + SHOWS_NONE:
        run = arenascope("-q", "-f", "json", "-p", v.pid, *command, env=env, rc=None)
        assert run.rc == (command in SHOWS_CACHED), run
        if command[0] not in ("malloc-info", "malloc-stats", "stacks"):
            assert "W-TCACHE" in [w["code"] for w in run.json["warnings"]], run
            nothing_about_tcaches(run.json)
    table = list(csv.DictReader(arenascope("-q", "-f", "csv", "-p", v.pid, "arenas", env=env, rc=1).out.splitlines()))
    assert [row["cached_bytes"] for row in table] == [""] and int(table[0]["in_use_bytes"]) > 3000, table
    metrics = arenascope("-q", "-f", "openmetrics", "-p", v.pid, "report", env=env, rc=1).out
    assert "in_use" in metrics and not re.search(r'^[a-z_]*cached[a-z_]*[ {]|"tcache"', metrics, re.M), metrics


def test_verdict_without_tcaches(row, victim):
    """The verdict holds whatever the tcaches hold, or there is none."""
    def verdict(v, env=None):
        return arenascope("-q", "--json", "-p", v.pid, "advise", env=env, rc=None).json
    # 20 MiB are cached, and look in use
    many = victim("lost", 20000, env={"GLIBC_TUNABLES": "glibc.malloc.tcache_count=20000"})
    many.line("ready")
    assert verdict(many)["verdict"]["code"] == "tcache"
    document = verdict(many, NO_DEBUG)
    assert document["verdict"] == {**document["verdict"], "code": "unknown", "bytes": None, "share_of_rss": None}, document
    about = {f["code"]: f for f in document["findings"]}
    assert "cached" not in about and about["tcaches_unknown"]["bytes"] >= 20000 * 1008, about
    assert not [f for f in document["fixes"] if "tcache" in (f["setting"] or "")]
    row(arenascope("-p", many.pid, "advise", env=NO_DEBUG, rc=None), 1, "Verdict: UNKNOWN, since not all tcaches were found", on="out")
    # 7 of a size at most can be in one: the rest is in use for certain
    few = victim("lost", 20000)
    few.line("ready")
    verdict(few)  # the first look at a process maps a page of it or two, which are in Rss from then on
    known, unknown = verdict(few)["verdict"], verdict(few, NO_DEBUG)["verdict"]
    # its share is of an Rss that may have grown by a page since
    assert {**known, "share_of_rss": None} == {**unknown, "share_of_rss": None}
    assert {f["code"]: f for f in verdict(few, NO_DEBUG)["findings"]}["tcaches_unknown"]["bytes"] < 300 << 10


def test_corrupt_free_lists_at_trim(row, victim):
    v = victim("odd", "corrupt")
    v.line("ready")
    row(arenascope("-p", v.pid, "trim", "--yes", rc=None), 2, "E-CORRUPT", "damaged", "0x[0-9a-f]+|check")


def test_pause_over_budget(row, victim):
    v = victim("python3", "-c", "x = [bytes(2000) for i in range(50000)]; print('ready', flush=True); input()")
    v.line("ready")
    row(arenascope("-p", v.pid, "--capture=copy", "--max-pause=1ms", "check", rc=None), 75, "E-PAUSE", r"about \d+ ms", "--max-pause=",
        "--no-stop", "report, rss, arenas or bins")


def test_unknown_command_in_a_script(row, tmp_path):
    script = tmp_path / "script"
    script.write_text("# a comment\n\nhelp\narenaz --json\nhelp\n")
    run = arenascope("-p", 1, "-x", script, rc=None)
    assert run.rc == 64 and f"{script}:4: unknown command \"arenaz\"   [E-COMMAND, exit 64]" in run.err, run
    assert "try: arenas" in run.err
    run.bytes = b""
    row(run, 64, "arenaz", "arenas")


def test_full_disk(row, service, tmp_path):
    where = tmp_path / "small"
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", where], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("cannot mount")
    try:
        (where / "out").write_text("as it was")
        row(arenascope("-q", "-j", "-o", where / "out", "-p", service.pid, "chunks", rc=None), 74, "E-OUTPUT",
            "No space left")
        assert (where / "out").read_text() == "as it was" and os.listdir(where) == ["out"]
        run = arenascope("-q", "-p", service.pid, "-ex", f"chunks > {where}/more", rc=74)
        assert "No space left" in run.err
    finally:
        subprocess.run(["umount", where], check=True)


# ---- the codes ----


def test_every_code_that_the_program_says_is_explained():
    top = pathlib.Path(__file__).resolve().parents[2]
    said = set()
    for path in (top / "src").rglob("*.[ch]"):
        said.update(re.findall(r'"([EW]-[A-Z-]+)"', path.read_text()))
    known = {line.split()[0] for line in arenascope("help", "codes").out.splitlines()}
    assert said <= known, said - known
