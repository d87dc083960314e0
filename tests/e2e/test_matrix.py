# SPDX-License-Identifier: GPL-3.0-or-later
"""Every glibc of the matrix, with symbols, without, static, live and as cores: the same numbers.

The truth is each libc's own malloc_info, the kernel's smaps, and a real malloc_trim. The table of
results goes to BUILD/matrix.txt.
"""

import shutil
import signal

import pytest

import matrix
from helpers import Victim, arenascope, arenascope_json, kernel_core, kernel_core_works, rss, smaps, wait_for

STRIPPED = {"ARENASCOPE_NO_DEBUG": "1"}
MEMORY = {"ARENASCOPE_NO_DEBUG": "files"}
QEMU = {"i386": "qemu-i386", "arm64": "qemu-aarch64"}
TABLE = []


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    if not TABLE:
        return
    head = ("glibc", "how", "layout", "malloc_info", "ledger difference", "trim error", "code it faulted in", "findings")
    widths = [max(len(str(row[i])) for row in [head, *TABLE]) for i in range(len(head))]
    text = "\n".join("  ".join(str(c).ljust(w) for c, w in zip(row, widths)).rstrip() for row in [head, *TABLE])
    (matrix.BUILD / "matrix.txt").write_text(text + "\n")
    print("\n" + text)


def without(value, *keys):
    """A document without what may differ: provenance, times, residency."""
    if isinstance(value, dict):
        return {k: without(v, *keys) for k, v in value.items() if k not in keys}
    if isinstance(value, list):
        return [without(v, *keys) for v in value]
    return value


def look(libc, how, target, truth, layouts, env=None, live=None):
    """One cell of the table; asserts what must hold."""
    # without a version 2.30 and 2.31 look alike, but do not write alike: that is said then
    info = arenascope("-q", *target, "malloc-info", env=env, rc=(0, 1))
    assert info.bytes == truth, f"{libc} {how}: malloc_info differs"
    assert info.rc == 0 or (libc.minor == 31 and layouts[0] == "scan" and "W-RELEASE" in info.err), info
    check = arenascope("-q", "--json", *target, "check", env=env).json
    assert check["findings"] == [], f"{libc} {how}: {check['findings']}"
    assert check["libc"]["layout"] in layouts, f"{libc} {how}: {check['libc']}"
    difference = "-"
    if live:
        ledger = arenascope("-q", "--json", *target, "rss", env=env).json["ledger"]
        difference = ledger["rss_bytes"] - rss(live)
        assert difference == 0
    TABLE.append((libc, how, check["libc"]["layout"], "identical", difference, "-", "-", len(check["findings"])))
    return check


def private(pid):
    """Rss of private memory without a file or a stack: all that malloc_trim can give back.

    The files' share grows by the call itself: the first malloc_trim of a process faults in that
    page of libc's code, and the kernel maps up to 16 neighbours with it (fault_around_bytes).
    """
    return sum(m["Rss"] for m in smaps(pid) if not m["inode"] and m["name"] in ("", "[heap]"))


def trim_error(victim, target):
    """Predicted against what malloc_trim(0) in the target itself gives back."""
    predicted = arenascope("-q", "--json", *target, "trim", "-n").json["prediction"]["bytes"]
    before, files = private(victim.pid), rss(victim.pid) - private(victim.pid)
    victim.ask("trim", "trimmed")
    now = private(victim.pid)
    return predicted - (before - now), rss(victim.pid) - now - files


def stacks_of(target, env=None):
    """The functions of every thread's stack, outermost last."""
    document = arenascope("-q", "--json", *target, "stacks", "--all", env=env, rc=(0, 1)).json
    return [[f["function"] for f in s["frames"]] for s in document["stacks"] for _ in s["threads"]]


def start(libc, tmp_path, static, **more):
    xml = tmp_path / "truth.xml"
    victim = Victim(libc.build("shapes", static), xml, 6, wrapper=libc.wrapper(static), cwd=tmp_path, **more)
    victim.line("ready")
    return victim, xml


def native(suite, arch):
    """A libc whose programs this kernel runs itself."""
    libc = next((l for l in matrix.libcs(arch) if l.suite == suite), None)
    if not libc:
        pytest.skip(f"no {suite} in the matrix")
    if not libc.can_build():
        pytest.skip(f"no compiler for {arch}")
    if not libc.runs_here():
        TABLE.append((libc, "live", "-", "skipped: this kernel runs no 32-bit program", "-", "-", "-", "-"))
        pytest.skip("this kernel runs no 32-bit program")
    return libc


@pytest.mark.parametrize("arch", ["amd64", "i386"])
@pytest.mark.parametrize("suite", matrix.SUITES)
def test_lists_by_one_pass(suite, arch, tmp_path):
    """Links that are mangled and others, words of 64 bits and of 32; some chunks in use have links in them, too."""
    libc = native(suite, arch)
    xml = tmp_path / "truth.xml"
    victim = Victim(libc.build("heap", False), 1, 60000, 100, wrapper=libc.wrapper(False), cwd=tmp_path)
    with victim:
        victim.line("ready")
        for take in (0, 3000):
            victim.ask(f"take {take} 40", "took")
            victim.ask(f"info {xml}", "info")
            for memory in ("32K", "1G"):
                info = arenascope("-q", f"--max-memory={memory}", "--max-pause=20s", f"--debug-dir={libc.folder}", "-p", victim.pid, "malloc-info")
                assert info.bytes == xml.read_bytes(), f"{libc} {memory} {take}"


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("arch", ["amd64", "i386"])
@pytest.mark.parametrize("suite", matrix.SUITES)
def test_native(suite, arch, static, tmp_path):
    libc = native(suite, arch)
    if not kernel_core_works():
        pytest.skip("core_pattern does not write files")
    victim, xml = start(libc, tmp_path, static, core_limit=True)
    kind = "static, " if static else ""
    debug = f"--debug-dir={libc.folder}"
    with victim:
        truth = xml.read_bytes()
        live = ["-p", victim.pid, debug]
        first = look(libc, kind + "symbols", live, truth, ("scan",) if static else ("dwarf",), live=victim.pid)
        second = look(libc, kind + "stripped", live, truth, ("scan",) if static else ("table",), STRIPPED, victim.pid)
        look(libc, kind + "memory only", live, truth, ("scan", "table"), MEMORY, victim.pid)
        assert first["target"]["arch"] == {"amd64": "x86_64", "i386": "i386"}[arch]
        same = ("libc", "warnings", "taken_at", "pause_ms", "pause")
        assert without(first, *same) == without(second, *same)
        arenas = [without(arenascope("-q", "--json", *live, "arenas", env=e).json, *same) for e in ({}, STRIPPED, MEMORY)]
        assert arenas[0] == arenas[1] == arenas[2]
        stacks = stacks_of(live)
        assert len(stacks) == 7 and sum("main" in s for s in stacks) == 1, stacks
        assert sum("thread" in s for s in stacks) == 6, stacks
        # the kernel's: gdb's leaves out stacks with guard pages, as threads have from 2.42 on
        core = kernel_core(victim, tmp_path)
    cores = ["-c", core, debug]
    look(libc, kind + "core", cores, truth, ("scan",) if static else ("dwarf",))
    look(libc, kind + "stripped core", cores, truth, ("scan",) if static else ("table",), STRIPPED)
    look(libc, kind + "core, memory only", cores, truth, ("scan", "table"), MEMORY)
    assert stacks_of(cores) == stacks
    core.unlink()
    victim, xml = start(libc, tmp_path, static)
    with victim:
        error, files = trim_error(victim, ["-p", victim.pid, debug])
    assert error == 0
    TABLE[-6] = (*TABLE[-6][:5], error, files, TABLE[-6][7])


@pytest.mark.parametrize("suite", matrix.SUITES)
def test_table_is_dwarf(suite):
    """The built-in table, member by member, against the DWARF of the release."""
    for libc in matrix.libcs("amd64"):
        if libc.suite != suite:
            continue
        with Victim(libc.build("shapes"), "/dev/null", 1, wrapper=libc.wrapper()) as victim:
            victim.line("ready")
            target = ["-q", "-p", victim.pid, f"--debug-dir={libc.folder}", "symbols"]
            dwarf = arenascope_json(*target)["libcs"][0]
            table = arenascope_json(*target, env=STRIPPED)["libcs"][0]
        assert (dwarf["layout"], table["layout"]) == ("dwarf", "table")
        assert {(m["struct"], m["member"]): (m["offset"], m["size_bytes"]) for m in dwarf["members"]} == \
            {(m["struct"], m["member"]): (m["offset"], m["size_bytes"]) for m in table["members"]}
        found = [{f["name"]: f["value"] for f in d["facts"]} for d in (dwarf, table)]
        for name in ("main_arena", "mp_", "tls_offset", "thread_arena", "tcache", "__curbrk"):
            assert found[0][name] == found[1][name], name


def other(suite, arch):
    """The libc of another CPU, if its programs can be built and run, be it in an emulator."""
    libc = next((l for l in matrix.libcs(arch) if l.suite == suite), None)
    if not libc:
        pytest.skip(f"no {suite} in the matrix")
    if not libc.can_build():
        pytest.skip(f"no compiler for {arch}")
    if not shutil.which(QEMU[arch]):
        pytest.skip("qemu-user is not installed")
    return libc


def emulated(libc, tmp_path, static):
    """A core of a program of another CPU: qemu's user emulation writes one when its guest dies."""
    xml = tmp_path / "truth.xml"
    wrapper = [shutil.which(QEMU[libc.arch]), *libc.wrapper(static)]
    with Victim(libc.build("shapes", static), xml, 6, wrapper=wrapper, cwd=tmp_path, core_limit=True) as victim:
        try:
            victim.line("ready")
        except AssertionError:
            TABLE.append((libc, "static" if static else "dynamic", "-", "skipped: qemu cannot run it", "-", "-", "-", "-"))
            pytest.skip("qemu cannot run it")
        victim.signal(signal.SIGABRT)
        wait_for(lambda: victim.process.poll() is not None, 60, "the end of the guest")
    return next(iter(sorted(tmp_path.glob("qemu_*.core")))), xml.read_bytes()


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("arch", ["i386", "arm64"])
@pytest.mark.parametrize("suite", matrix.SUITES)
def test_emulated_core(suite, arch, static, tmp_path):
    libc = other(suite, arch)
    kind = "static, " if static else ""
    core, truth = emulated(libc, tmp_path, static)
    # qemu leaves out all code and all names: the loader's list in memory says which files it were
    target = ["-c", core, f"--exe={libc.build('shapes', static)}", "--root=/", f"--debug-dir={libc.folder}"]
    first = look(libc, kind + "core", target, truth, ("scan",) if static else ("dwarf",))
    second = look(libc, kind + "stripped core", target, truth, ("scan",) if static else ("table",), STRIPPED)
    look(libc, kind + "core, memory only", target, truth, ("scan", "table"), MEMORY)
    assert first["target"]["arch"] == second["target"]["arch"] == {"i386": "i386", "arm64": "aarch64"}[arch]
    same = ("libc", "warnings", "taken_at")
    # qemu's cores of i386 do not say where a thread's TLS is: then what is cached is unknown, and exit 1 says so
    arenas = [without(arenascope("-q", "--json", *target, "arenas", env=e, rc=(0, 1)).json, *same)
              for e in ({}, STRIPPED, MEMORY)]
    assert all(a["complete"] == (a["arenas"][0]["cached_bytes"] is not None) for a in arenas)
    assert arenas[0] == arenas[1] == arenas[2]
    members = [arenascope_json("-q", *target, "symbols", env=e)["libcs"][0]["members"] for e in ({}, STRIPPED)]
    assert members[0] == members[1]
    stacks = stacks_of(target)
    assert len(stacks) == 7 and sum("main" in s for s in stacks) == 1, stacks
    assert sum("thread" in s for s in stacks) == 6, stacks
