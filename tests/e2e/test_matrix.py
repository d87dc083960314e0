# SPDX-License-Identifier: GPL-3.0-or-later
"""Every glibc of the matrix, with symbols, without, static, live and as cores: the same numbers.

The truth is each libc's own malloc_info, the kernel's smaps, and a real malloc_trim. The table of
results goes to BUILD/matrix.txt.
"""

import shutil
import signal

import pytest

import matrix
from helpers import Victim, arenascope, arenascope_json, kernel_core, kernel_core_works, rss, wait_for

STRIPPED = {"ARENASCOPE_NO_DEBUG": "1"}
MEMORY = {"ARENASCOPE_NO_DEBUG": "files"}
TABLE = []


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    if not TABLE:
        return
    head = ("glibc", "how", "layout", "malloc_info", "ledger difference", "trim error", "findings")
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


def look(libc, how, target, truth, layouts, env=None, live=None, trim="-"):
    """One cell of the table; asserts what must hold."""
    info = arenascope("-q", *target, "malloc-info", env=env)
    assert info.bytes == truth, f"{libc} {how}: malloc_info differs"
    check = arenascope("-q", "--json", *target, "check", env=env).json
    assert check["findings"] == [], f"{libc} {how}: {check['findings']}"
    assert check["libc"]["layout"] in layouts, f"{libc} {how}: {check['libc']}"
    difference = "-"
    if live:
        ledger = arenascope("-q", "--json", *target, "rss", env=env).json["ledger"]
        difference = ledger["rss_bytes"] - rss(live)
        assert difference == 0
    TABLE.append((libc, how, check["libc"]["layout"], "identical", difference, trim, len(check["findings"])))
    return check


def trim_error(victim, target):
    """Predicted against what malloc_trim(0) in the target itself gives back."""
    predicted = arenascope("-q", "--json", *target, "trim", "-n").json["prediction"]["bytes"]
    before = rss(victim.pid)
    victim.ask("trim", "trimmed")
    return predicted - (before - rss(victim.pid))


def start(libc, tmp_path, static, **more):
    xml = tmp_path / "truth.xml"
    victim = Victim(libc.build("shapes", static), xml, 6, wrapper=libc.wrapper(static), cwd=tmp_path, **more)
    victim.line("ready")
    return victim, xml


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("suite", matrix.SUITES)
def test_amd64(suite, static, tmp_path):
    libc = next((l for l in matrix.libcs("amd64") if l.suite == suite), None)
    if not libc:
        pytest.skip(f"no {suite} in the matrix")
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
        same = ("libc", "warnings", "taken_at", "pause_ms", "pause")
        assert without(first, *same) == without(second, *same)
        arenas = [without(arenascope("-q", "--json", *live, "arenas", env=e).json, *same) for e in ({}, STRIPPED, MEMORY)]
        assert arenas[0] == arenas[1] == arenas[2]
        # the kernel's: gdb's leaves out stacks with guard pages, as threads have from 2.42 on
        core = kernel_core(victim, tmp_path)
    cores = ["-c", core, debug]
    look(libc, kind + "core", cores, truth, ("scan",) if static else ("dwarf",))
    look(libc, kind + "stripped core", cores, truth, ("scan",) if static else ("table",), STRIPPED)
    look(libc, kind + "core, memory only", cores, truth, ("scan", "table"), MEMORY)
    core.unlink()
    victim, xml = start(libc, tmp_path, static)
    with victim:
        error = trim_error(victim, ["-p", victim.pid, debug])
    assert abs(error) <= 65536
    TABLE[-6] = (*TABLE[-6][:5], error, TABLE[-6][6])


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


def emulated(libc, tmp_path):
    """A core of a program of another CPU: qemu's user emulation writes one when its guest dies."""
    qemu = shutil.which({"i386": "qemu-i386", "arm64": "qemu-aarch64"}[libc.arch])
    if not qemu:
        pytest.skip("qemu-user is not installed")
    victim, xml = start(libc, tmp_path, False, core_limit=True) if libc.runs_here() else (None, None)
    if not victim:
        xml = tmp_path / "truth.xml"
        victim = Victim(libc.build("shapes"), xml, 6, wrapper=[qemu, *libc.wrapper()], cwd=tmp_path, core_limit=True)
        victim.line("ready")
    with victim:
        victim.signal(signal.SIGABRT)
        wait_for(lambda: victim.process.poll() is not None, 60, "the end of the guest")
    core = next(iter(sorted(tmp_path.glob("qemu_*.core"))), None) or next(iter(tmp_path.glob("core*")))
    return core, xml.read_bytes()


@pytest.mark.parametrize("suite", matrix.SUITES)
def test_i386_core(suite, tmp_path):
    libc = next((l for l in matrix.libcs("i386") if l.suite == suite), None)
    if not libc:
        pytest.skip(f"no {suite} in the matrix")
    core, truth = emulated(libc, tmp_path)
    target = ["-c", core, f"--debug-dir={libc.folder}"]
    first = look(libc, "core", target, truth, ("dwarf",))
    second = look(libc, "stripped core", target, truth, ("table",), STRIPPED)
    look(libc, "core, memory only", target, truth, ("scan", "table"), MEMORY)
    assert first["target"]["arch"] == second["target"]["arch"] == "i386"
    members = [arenascope_json("-q", *target, "symbols", env=e)["libcs"][0]["members"] for e in ({}, STRIPPED)]
    assert members[0] == members[1]
