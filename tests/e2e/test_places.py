# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a process lives and how its libc was built: namespaces, overlays, upgrades, odd ELF files,
other allocators. The truth is what the process's own libc said."""

import os
import pathlib
import shutil
import struct
import subprocess

import pytest

import matrix
from helpers import Victim, arenascope, arenascope_json

NO_DEBUG = {"ARENASCOPE_NO_DEBUG": "1"}
MEMORY = {"ARENASCOPE_NO_DEBUG": "files"}
LIBRARIES = pathlib.Path("/usr/lib/x86_64-linux-gnu")
IN_ROOT = "/usr/lib/x86_64-linux-gnu"
SHAPES = matrix.TOP / "tests/victims/shapes.c"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def same(pid, truth, *options, envs=({}, NO_DEBUG, MEMORY)):
    for env in envs:
        run = arenascope("-q", "-p", pid, *options, "malloc-info", env=env)
        assert run.bytes == truth, (options, env, run)


def symbols(pid, *options, env=None):
    return arenascope("-q", "--json", "-p", pid, *options, "symbols", env=env, rc=(0, 1)).json


# ---- containers ----


def root_of(suite, tmp_path):
    """The file system of another distribution, as far as a program needs it."""
    libc = next((l for l in matrix.libcs("amd64") if l.suite == suite), None)
    if not libc or os.geteuid():
        pytest.skip("needs the matrix, and root")
    root = tmp_path / "root"
    lib = root / IN_ROOT[1:]
    lib.mkdir(parents=True)
    (root / "proc").mkdir()
    for name in ("libc.so.6", "libpthread.so.0", libc.ld.name):
        if (libc.lib / name).exists():
            shutil.copy((libc.lib / name).resolve(), lib / name)
    shutil.copy(libc.build("shapes"), root / "shapes")
    (root / "etc").mkdir()
    (root / "etc/os-release").write_text('ID=debian\nPRETTY_NAME="Debian of a test"\n')
    return libc, root


def inside(libc):
    return [f"{IN_ROOT}/{libc.ld.name}", "--library-path", IN_ROOT, "/shapes", "/truth.xml", "2"]


def child_of(victim):
    return int(pathlib.Path(f"/proc/{victim.pid}/task/{victim.pid}/children").read_text().split()[0])


@pytest.mark.parametrize("suite", ["bullseye", "trixie"])
@pytest.mark.parametrize("spaces", [["--mount", "--pid"], ["--mount", "--pid", "--user", "--map-root-user", "--net", "--ipc"]],
                         ids=["mount-pid", "user"])
def test_container(spaces, suite, tmp_path):
    """The path is the host's, the libc is not: what is behind /proc/PID/root counts."""
    libc, root = root_of(suite, tmp_path)
    argv = ["unshare", *spaces, "--fork", "--kill-child", "--root", str(root), *inside(libc)]
    if subprocess.run(["unshare", *spaces, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("these namespaces are not allowed here")
    with Victim(argv[0], *argv[1:]) as victim:
        victim.line("ready")
        pid = child_of(victim)
        truth = (root / "truth.xml").read_bytes()
        same(pid, truth)
        same(pid, truth, f"--debug-dir={libc.folder}", envs=({},))
        found = symbols(pid)["libcs"][0]
        assert found["version"] == libc.version and "libc6-dbg" in found["advice"] and "Debian of a test" in found["advice"]
        # a debug file inside of the container is found where the container has it
        debug = root / f"usr/lib/debug/.build-id/{found['build_id'][:2]}"
        debug.mkdir(parents=True)
        name = f"{found['build_id'][2:]}.debug"
        shutil.copy(libc.folder / f"usr/lib/debug/.build-id/{found['build_id'][:2]}" / name, debug)
        assert symbols(pid)["libcs"][0]["layout"] == "dwarf"
        for command in ("rss", "threads", "stacks", "report"):
            arenascope("-q", "--json", "-p", pid, command)


def test_overlay(tmp_path):
    """An overlay's files have another device and inode than their layers."""
    libc, root = root_of("bullseye", tmp_path)
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    mount = (f"mount -t tmpfs none {tmp_path}/work && mkdir {tmp_path}/work/u {tmp_path}/work/w && mount -t overlay none -o "
             f"lowerdir={root},upperdir={tmp_path}/work/u,workdir={tmp_path}/work/w {tmp_path}/merged")
    if subprocess.run(["unshare", "--mount", "sh", "-c", mount], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no overlay file system here")
    argv = ["unshare", "--mount", "sh", "-c", f"{mount} && exec chroot {tmp_path}/merged {' '.join(inside(libc))}"]
    with Victim(argv[0], *argv[1:]) as victim:
        victim.line("ready")
        truth = pathlib.Path(f"/proc/{victim.pid}/root/truth.xml").read_bytes()
        same(victim.pid, truth)
        same(victim.pid, truth, f"--debug-dir={libc.folder}", envs=({},))
        assert symbols(victim.pid)["libcs"][0]["version"] == libc.version


def test_upgraded(tmp_path):
    """An upgrade renames another libc over the one that runs: the mapped one counts."""
    libc, root = root_of("bullseye", tmp_path)
    other = next(l for l in matrix.libcs("amd64") if l.suite == "sid")
    argv = ["chroot", str(root), *inside(libc)]
    with Victim(argv[0], *argv[1:]) as victim:
        victim.line("ready")
        truth = (root / "truth.xml").read_bytes()
        lib = root / IN_ROOT[1:]
        shutil.copy(other.path.resolve(), lib / "libc.so.6.dpkg-new")
        os.rename(lib / "libc.so.6.dpkg-new", lib / "libc.so.6")
        same(victim.pid, truth)
        document = symbols(victim.pid, f"--debug-dir={libc.folder}")
        found = document["libcs"][0]
        assert found["version"] == libc.version and found["layout"] == "dwarf" and "map_files" in found["file"], found
        assert [m for m in document["modules"] if m["deleted"] and m["path"].endswith("libc.so.6")]


# ---- how libc and the program were built ----


def copied(tmp_path, change=None, tool=None):
    """A program run by copies of the host's ld.so and libc; the libc changed in place, or by a tool."""
    folder = tmp_path / "lib"
    folder.mkdir()
    shutil.copy(LIBRARIES / "ld-linux-x86-64.so.2", folder)
    data = bytearray((LIBRARIES / "libc.so.6").read_bytes())
    if change:
        change(data)
    (folder / "libc.so.6").write_bytes(data)
    if tool:
        tool(folder / "libc.so.6")
    return [folder / "ld-linux-x86-64.so.2", "--library-path", folder]


def checked(tmp_path, wrapper=(), program=None, envs=({}, NO_DEBUG, MEMORY)):
    with Victim(program or matrix.VICTIMS / "shapes", tmp_path / "truth.xml", 3, wrapper=wrapper) as victim:
        victim.line("ready")
        same(victim.pid, (tmp_path / "truth.xml").read_bytes(), envs=envs)
        check = arenascope("-q", "--json", "-p", victim.pid, "check", env=envs[-1]).json
        assert check["findings"] == [], check["findings"]
        return symbols(victim.pid, env=envs[-1]), arenascope("-q", "--json", "-p", victim.pid, "threads", env=envs[-1]).json


def test_no_section_headers(tmp_path):
    """strip --strip-section-headers: nothing is left but program headers."""
    def change(data):
        struct.pack_into("<Q", data, 40, 0)
        struct.pack_into("<HH", data, 60, 0, 0)
    checked(tmp_path, copied(tmp_path, change))


def test_minidebuginfo(tmp_path):
    """.gnu_debugdata, as Fedora has it: functions get their names, malloc's variables are still found by themselves."""
    found = subprocess.run(["readelf", "-n", str(LIBRARIES / "libc.so.6")], stdout=subprocess.PIPE, text=True).stdout
    build_id = found.split("Build ID: ")[1].split()[0]
    debug = f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
    if not os.path.exists(debug):
        pytest.skip("libc6-dbg is not installed")
    names = subprocess.run(["nm", debug, "--format=posix", "--defined-only"], stdout=subprocess.PIPE, text=True).stdout
    keep = tmp_path / "keep"
    keep.write_text("\n".join(line.split()[0] for line in names.splitlines() if line.split()[1] in "Tt") + "\n")
    mini = tmp_path / "mini"
    subprocess.run(["objcopy", "-S", f"--keep-symbols={keep}", debug, str(mini)], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["xz", "-f", str(mini)], check=True)

    def change(libc):
        subprocess.run(["objcopy", "--add-section", f".gnu_debugdata={mini}.xz", str(libc)], check=True, stderr=subprocess.DEVNULL)
    with Victim("shapes", tmp_path / "truth.xml", 3, wrapper=copied(tmp_path, tool=change)) as victim:
        victim.line("ready")
        same(victim.pid, (tmp_path / "truth.xml").read_bytes(), envs=({}, NO_DEBUG, {"ARENASCOPE_NO_DEBUG": "local"}))
        document = symbols(victim.pid, env={"ARENASCOPE_NO_DEBUG": "local"})
        assert document["libcs"][0]["layout"] == "table"
        assert [t for t in document["tried"] if t["what"] == ".gnu_debugdata" and t["result"] == "used"]
        stacks = arenascope("-q", "--json", "-p", victim.pid, "stacks", env={"ARENASCOPE_NO_DEBUG": "local"}, rc=(0, 1)).json["stacks"]
        # a local function: no dynamic symbol names it
        assert any(f["function"] == "start_thread" for s in stacks for f in s["frames"]), stacks


def test_no_build_id(tmp_path):
    """Without a build-id there is no proof, only the file that is mapped."""
    def change(data):
        at = data.find(b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0")
        assert at >= 0
        data[at + 8] = 0x77
    checked(tmp_path, copied(tmp_path, change))


def test_relocations_of_another_linker(tmp_path):
    """RELR and RELA: the table that says where main_arena points at itself, in either form."""
    seen = set()
    for libc in matrix.libcs("amd64"):
        out = subprocess.run(["readelf", "-dW", str(libc.path)], stdout=subprocess.PIPE, text=True).stdout
        seen.add("RELR" in out)
    if seen != {True, False}:
        pytest.skip("the matrix has only one kind")
    # the matrix test itself reads both kinds, stripped


def build(tmp_path, *options, before="", main="", name="program"):
    """shapes with something in front of its main."""
    source = tmp_path / f"{name}.c"
    source.write_text(f"#define _GNU_SOURCE\n#define main shapes_main\n#include \"{SHAPES}\"\n#undef main\n{before}\n"
                      f"int main(int argc, char **argv)\n{{\n{main}\nreturn shapes_main(argc, argv);\n}}\n")
    program = tmp_path / name
    done = subprocess.run(["gcc", "-O1", "-g", "-o", str(program), str(source), *options], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        pytest.skip(f"cannot be built: {done.stderr[-300:]}")
    return program


@pytest.mark.parametrize("kind", ["-static", "-static-pie"])
def test_static_stripped(kind, tmp_path):
    program = build(tmp_path, kind, "-pthread")
    subprocess.run(["strip", str(program)], check=True)
    document, _ = checked(tmp_path, program=program)
    assert document["libcs"][0]["layout"] == "scan"


def test_own_interpreter(tmp_path):
    """A PT_INTERP that was patched, as Nix and its like do."""
    wrapper = copied(tmp_path)
    program = build(tmp_path, "-pthread", f"-Wl,--dynamic-linker={wrapper[0]}", f"-Wl,-rpath,{wrapper[2]}")
    checked(tmp_path, program=program)


CLONES = """
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
static char stacks[3][65536] __attribute__((aligned(64)));
static char blocks[3][8192] __attribute__((aligned(64)));
static int sleeper(void *arg)
{
	for (;;)
		__asm__ volatile("syscall" : : "a"(SYS_pause) : "rcx", "r11", "memory");
	return arg != 0;
}
static void clones(int own)
{
	int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | (own ? CLONE_SETTLS : 0);

	for (int i = 0; i < 3; i++) {
		memset(blocks[i], i == 2 ? 0x5a : 0, sizeof(blocks[i]));
		if (clone(sleeper, stacks[i] + sizeof(stacks[i]), flags, 0, 0, blocks[i] + 4096) < 0)
			abort();
	}
}
"""


@pytest.mark.parametrize("own", [0, 1], ids=["shared-tls", "own-tls"])
def test_threads_of_others(own, tmp_path):
    """Threads that libc did not make: with its creator's thread pointer, or with one of a foreign runtime."""
    program = build(tmp_path, "-pthread", before=CLONES, main=f"clones({own});")
    _, threads = checked(tmp_path, program=program)
    assert len(threads["threads"]) == 7


def test_second_libc(tmp_path):
    """dlmopen: a libc of its own, with an arena of its own; the program's comes first."""
    program = build(tmp_path, "-pthread", "-ldl", before="#include <dlfcn.h>\n", main="""
	void *h = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
	void *(*other)(size_t) = h ? (void *(*)(size_t))dlsym(h, "malloc") : 0;
	if (!other)
		return 3;
	for (int i = 0; i < 100; i++)
		memset(other(5000), 1, 5000);
""")
    document, _ = checked(tmp_path, program=program, envs=({}, NO_DEBUG))
    assert len(document["libcs"]) == 2 and document["libcs"][0]["primary"]


# Settings that make mp_ look unlike everybody's.
SETTINGS = ["tcache_count=0", "tcache_count=100", "arena_max=2:glibc.malloc.tcache_count=20", "arena_test=3", "mmap_max=0",
            "top_pad=1048576", "trim_threshold=1000000000", "mxfast=0", "hugetlb=1", "tcache_max=512", "tcache_max=20",
            "tcache_max=100000", "tcache_unsorted_limit=50", "mmap_threshold=0", "mmap_threshold=4000000", "perturb=7", "arena_max=1"]


@pytest.mark.parametrize("suite", matrix.SUITES if os.environ.get("ARENASCOPE_LONG") else ["bookworm", "experimental"])
def test_settings(suite, tmp_path):
    """A stripped libc is read under every setting; from memory alone it may be refused, never read wrong."""
    libc = next((l for l in matrix.libcs("amd64") if l.suite == suite), None)
    if not libc:
        pytest.skip(f"no {suite} in the matrix")
    refused = []
    for setting in SETTINGS:
        with Victim(libc.build("shapes"), tmp_path / "truth.xml", 3, wrapper=libc.wrapper(),
                    env={"GLIBC_TUNABLES": f"glibc.malloc.{setting}"}) as victim:
            victim.line("ready")
            truth = (tmp_path / "truth.xml").read_bytes()
            same(victim.pid, truth, envs=(NO_DEBUG,))
            run = arenascope("-q", "-p", victim.pid, "malloc-info", env=MEMORY, rc=(0, 78))
            assert run.rc or run.bytes == truth, (setting, run)
            if run.rc:
                refused.append(setting)
    assert len(refused) <= 3, refused


# ---- other allocators ----


def others(pid, name, arenas=True):
    """What is said of a process whose malloc is another, and what goes on working."""
    run = arenascope("-p", pid, "arenas", rc=69)
    assert "E-ALLOCATOR" in run.err and f"malloc is {name}" in run.err and "% of RSS" in run.err, run
    document = symbols(pid)
    assert document["libc"]["allocator"] == name
    assert bool(document["libcs"]) == arenas
    for command in ("rss", "threads", "stacks"):
        arenascope("-q", "--json", "-p", pid, command, rc=(0, 1))
    ledger = arenascope("-q", "--json", "-p", pid, "rss", rc=(0, 1)).json["ledger"]
    assert ledger["malloc"]["resident_bytes"] < ledger["rss_bytes"]
    if arenas:
        forced = arenascope("-q", "--json", "-p", pid, "--force", "arenas", rc=(0, 1)).json
        assert forced["arenas"]


@pytest.mark.parametrize("how", ["preloaded", "linked"])
@pytest.mark.parametrize("library,name", [("libjemalloc.so.2", "jemalloc"), ("libtcmalloc_minimal.so.4", "tcmalloc"),
                                          ("libmimalloc.so.2", "mimalloc")])
def test_other_allocator(library, name, how, tmp_path):
    if not (LIBRARIES / library).exists():
        pytest.skip(f"{library} is not installed")
    program, env = matrix.VICTIMS / "shapes", {"LD_PRELOAD": library}
    if how == "linked":
        program, env = build(tmp_path, "-pthread", "-Wl,--no-as-needed", f"-l:{library}"), {}
    with Victim(program, tmp_path / "truth.xml", 2, env=env) as victim:
        victim.line("ready")
        others(victim.pid, name)


# Linked in, they are part of the program: then their symbols tell, and without symbols their messages.
ARCHIVES = [("libjemalloc.a", "jemalloc"), ("libtcmalloc_minimal.a", "tcmalloc")]


ALLOCATES = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *keep[4][200];
static void *work(void *arg)
{
	void **all = arg;

	for (size_t i = 0; i < 200; i++)
		all[i] = memset(malloc(100 + i * 97), 1, 100 + i * 97);
	for (size_t i = 0; i < 200; i += 3)
		free(all[i]);
	while (all != keep[0])
		pause();
	return 0;
}
int main(void)
{
	pthread_t t;

	for (int i = 1; i < 4; i++)
		pthread_create(&t, 0, work, keep[i]);
	work(keep[0]);
	puts("ready");
	fflush(stdout);
	return getchar() != EOF;
}
"""


@pytest.mark.parametrize("stripped", [False, True], ids=["symbols", "stripped"])
@pytest.mark.parametrize("static", [[], ["-static"]], ids=["dynamic", "static"])
@pytest.mark.parametrize("archive,name", ARCHIVES)
def test_allocator_linked_in(archive, name, static, stripped, tmp_path):
    if not (LIBRARIES / archive).exists():
        pytest.skip(f"{archive} is not installed")
    # the name of the program shall not tell; nor may it ask for what only glibc's malloc has
    program = tmp_path / "prog"
    (tmp_path / "prog.c").write_text(ALLOCATES)
    subprocess.run(["gcc", "-O1", "-g", *static, "-o", str(program), str(tmp_path / "prog.c"), "-pthread", "-Wl,--whole-archive",
                    str(LIBRARIES / archive), "-Wl,--no-whole-archive", "-lstdc++", "-lm"], check=True, stderr=subprocess.DEVNULL)
    if stripped:
        subprocess.run(["strip", str(program)], check=True)
    with Victim(program) as victim:
        victim.line("ready")
        others(victim.pid, name, arenas=not static)


GO = """package main

import (
	"fmt"
	"os"
)

var keep [][]byte

func main() {
	for i := 0; i < 1000; i++ {
		keep = append(keep, make([]byte, 1000+i))
	}
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1))
}
"""


def test_go(tmp_path):
    """Go's runtime asks the kernel itself; there is no malloc at all."""
    if not shutil.which("go"):
        pytest.skip("golang-go is not installed")
    (tmp_path / "main.go").write_text(GO)
    subprocess.run(["go", "build", "-o", "program", "main.go"], cwd=tmp_path, check=True,
                   env={**os.environ, "GOCACHE": str(tmp_path / "gocache"), "CGO_ENABLED": "0", "HOME": str(tmp_path)})
    subprocess.run(["strip", str(tmp_path / "program")], check=True)
    with Victim(tmp_path / "program") as victim:
        victim.line("ready")
        others(victim.pid, "Go", arenas=False)


def test_pass_through(tmp_path):
    """A malloc that passes everything on: it is not glibc's, what glibc holds is said, and --force shows it."""
    (tmp_path / "wrap.c").write_text("""#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
void *malloc(size_t n)
{
	static void *(*next)(size_t);
	if (!next)
		next = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
	return next(n);
}
""")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", str(tmp_path / "wrap.so"), str(tmp_path / "wrap.c")], check=True)
    with Victim("shapes", tmp_path / "truth.xml", 2, env={"LD_PRELOAD": str(tmp_path / "wrap.so")}) as victim:
        victim.line("ready")
        run = arenascope("-p", victim.pid, "arenas", rc=69)
        share = float(run.err.split("arenas hold ")[1].split("%")[0])
        assert "malloc is not glibc's" in run.err and "wrap.so provides malloc" in run.err and share > 50, run
        forced = arenascope("-q", "-p", victim.pid, "--force", "malloc-info")
        assert forced.bytes == (tmp_path / "truth.xml").read_bytes()


def test_checking(tmp_path):
    """MALLOC_CHECK_: from 2.34 on its heap is libc_malloc_debug.so's own, and that is what is shown."""
    if not (LIBRARIES / "libc_malloc_debug.so.0").exists():
        pytest.skip("libc_malloc_debug.so.0 is not installed")
    env = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}
    with Victim("shapes", tmp_path / "truth.xml", 2, env=env) as victim:
        victim.line("ready")
        found = symbols(victim.pid)
        assert found["libc"]["allocator"] == "malloc_debug"
        if found["libcs"][0]["layout"] == "dwarf":
            assert arenascope("-q", "-p", victim.pid, "malloc-info").bytes == (tmp_path / "truth.xml").read_bytes()
        # without symbols its arena cannot be told from libc's: then nothing is shown as if it were all
        run = arenascope("-p", victim.pid, "arenas", env=NO_DEBUG, rc=69)
        assert "malloc_debug" in run.err and "% of RSS" in run.err
    # loaded, but without work of its own: everything goes on to libc
    with Victim("shapes", tmp_path / "truth.xml", 2, env={"LD_PRELOAD": "libc_malloc_debug.so.0"}) as victim:
        victim.line("ready")
        assert arenascope("-q", "-p", victim.pid, "malloc-info").bytes == (tmp_path / "truth.xml").read_bytes()


def test_valgrind(tmp_path):
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")
    with Victim("shapes", tmp_path / "truth.xml", 1, wrapper=["valgrind", "-q"]) as victim:
        victim.line("ready")
        others(victim.pid, "valgrind")


def test_asan(tmp_path):
    program = build(tmp_path, "-pthread", "-fsanitize=address")
    with Victim(program, tmp_path / "truth.xml", 1, env={"ASAN_OPTIONS": "detect_leaks=0"}) as victim:
        victim.line("ready")
        others(victim.pid, "ASan")
