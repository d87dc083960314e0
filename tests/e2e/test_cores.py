# SPDX-License-Identifier: GPL-3.0-or-later
"""Cores from elsewhere: other filters, cut off, without names, compressed, with their libc gone."""

import os
import pathlib
import shutil
import struct
import subprocess

import pytest

import matrix
from helpers import Victim, arenascope, arenascope_json, gcore, kernel_core, kernel_core_works

NO_DEBUG = {"ARENASCOPE_NO_DEBUG": "1"}
MEMORY = {"ARENASCOPE_NO_DEBUG": "files"}
NT_FILE = 0x46494C45
LONG = bool(os.environ.get("ARENASCOPE_LONG"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def shapes(tmp_path, threads=2, **more):
    victim = Victim("shapes", tmp_path / "truth.xml", threads, **more)
    victim.line("ready")
    return victim, (tmp_path / "truth.xml").read_bytes()


@pytest.fixture
def made(tmp_path):
    """A core of the kernel, and what malloc_info said just before."""
    if not kernel_core_works():
        pytest.skip("core_pattern does not write files")
    folder = tmp_path / "cwd"
    folder.mkdir()
    victim, truth = shapes(tmp_path, core_limit=True, cwd=folder)
    with victim:
        return kernel_core(victim, folder), truth


def says(core, *options, env=None, rc=(0, 1)):
    return arenascope("-q", "-c", core, *options, "malloc-info", env=env, rc=rc)


def says_right(core, truth):
    """No file says whether it is 2.30 or 2.31, which write otherwise: then that is said, and the status is 1."""
    run = says(core)
    assert run.bytes == truth and (run.rc == 0 or "W-RELEASE" in run.err), run


def test_libraries(made):
    """However it was found out, it is the same."""
    core, truth = made
    for env in ({}, NO_DEBUG, MEMORY):
        assert says(core, env=env, rc=0).bytes == truth


@pytest.mark.parametrize("bits", [0x00, 0x01, 0x03, 0x11, 0x13, 0x1f, 0x33, 0x7f, 0x22])
def test_filters(bits, tmp_path):
    """coredump_filter: anonymous private 1, shared 2, mapped private 4, shared 8, ELF headers 16 ..."""
    if not kernel_core_works():
        pytest.skip("core_pattern does not write files")
    folder = tmp_path / "cwd"
    folder.mkdir()
    victim, truth = shapes(tmp_path, core_limit=True, cwd=folder)
    with victim:
        pathlib.Path(f"/proc/{victim.pid}/coredump_filter").write_text(hex(bits))
        core = kernel_core(victim, folder)
    if bits & 1:
        libc = "--libc=/usr/lib/x86_64-linux-gnu/libc.so.6"
        # without a header page nothing says which libc it was: then memory or the user does
        for options, env in (((), {}), ((), NO_DEBUG), ((), MEMORY), ((libc,), {}), (("--root=/",), {})):
            assert says(core, *options, env=env, rc=0).bytes == truth, (bits, options, env)
        found = arenascope_json("-q", "-c", core, "symbols", rc=(0, 1))["libcs"][0]
        if not bits & 16:
            assert found["layout"] == "scan" and not found["file"], found
        assert arenascope_json("-q", "-c", core, libc, "symbols")["libcs"][0]["version"] == os.confstr("CS_GNU_LIBC_VERSION").split()[1]
    else:
        # no heap in it: what is known is shown, what is not is said
        run = arenascope("-c", core, "malloc-info", rc=(1, 65, 69, 78))
        assert run.err.strip() and truth not in run.bytes
    threads = arenascope_json("-q", "-c", core, "threads", rc=(0, 1))["threads"]
    assert len(threads) == 3


def test_truncated(made, tmp_path):
    """Cut off anywhere: never a crash, never a whole answer that is wrong."""
    core, truth = made
    size = core.stat().st_size
    whole = core.read_bytes()
    points = [size * i // 16 for i in range(16)] + [0, 1, 63, 64, 65, 4096, size - 1]
    if LONG:
        points += [size * i // 200 for i in range(200)]
    complete = []
    for at in points:
        short = tmp_path / "short"
        short.write_bytes(whole[:at])
        run = says(short, rc=None)
        assert run.rc in (0, 1, 65, 69, 78), run
        assert run.rc != 0 or run.bytes == truth, run
        complete.append(run.rc == 0)
        report = arenascope("-q", "--json", "-c", short, "report", rc=None)
        assert report.rc in (0, 1, 65, 69, 78), report
        if report.rc <= 1:
            document = report.json
            codes = [w["code"] for w in document["warnings"]]
            assert "W-TRUNCATED" in codes and not document["complete"], (at, codes)
        else:
            assert report.err
    assert not all(complete)


def rename_note(core, out, note):
    """The same core whose notes of this type nobody knows."""
    data = bytearray(core.read_bytes())
    phoff, = struct.unpack_from("<Q", data, 32)
    phnum, = struct.unpack_from("<H", data, 56)
    done = 0
    for i in range(phnum):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", data, phoff + 56 * i)
        at = offset
        while kind == 4 and at < offset + size:
            namesz, descsz, which = struct.unpack_from("<III", data, at)
            if which == note:
                struct.pack_into("<I", data, at + 8, 0x7777)
                done += 1
            at += 12 + (namesz + 3 & ~3) + (descsz + 3 & ~3)
    assert done
    out.write_bytes(data)
    return out


def test_without_names(made, tmp_path):
    """No NT_FILE, as before Linux 3.7; no NT_AUXV besides."""
    core, truth = made
    nameless = rename_note(core, tmp_path / "nameless", NT_FILE)
    for env in ({}, NO_DEBUG, MEMORY):
        assert says(nameless, env=env, rc=0).bytes == truth
    named = arenascope_json("-q", "-c", nameless, "symbols", rc=(0, 1))["modules"]
    assert any(m["path"].endswith("libc.so.6") for m in named if m["path"]), named
    less = rename_note(nameless, tmp_path / "less", 6)
    for env in ({}, NO_DEBUG, MEMORY):
        assert says(less, env=env, rc=0).bytes == truth


@pytest.mark.parametrize("tool,end", [("zstd", "zst"), ("xz", "xz"), ("lz4", "lz4"), ("gzip", "gz")])
def test_compressed(tool, end, made, tmp_path):
    core, truth = made
    packed = tmp_path / f"core.{end}"
    argv = [tool, "-1", "-c", str(core)] if tool != "xz" else ["xz", "-0", "-c", str(core)]
    with open(packed, "wb") as out:
        subprocess.run(argv, stdout=out, stderr=subprocess.DEVNULL, check=True)
    whole = packed.read_bytes()
    assert says(packed, rc=0).bytes == truth
    # the checksum behind the core says that something is wrong, or is missing; zstd keeps its last block back then
    for spoilt, what in ((whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:], "is damaged"), (whole[:-3], "ends too early")):
        packed.write_bytes(spoilt)
        document = arenascope_json("-q", "-c", packed, "check", rc=1)
        (said,) = [w["message"] for w in document["warnings"] if w["code"] in ("W-DAMAGED", "W-TRUNCATED")]
        assert f"the compressed data {what}" in said and not document["complete"] and not document["findings"]
    packed.write_bytes(whole)
    # cut off inside of a block: partial, or refused, and said
    packed.write_bytes(packed.read_bytes()[:packed.stat().st_size * 2 // 3])
    run = says(packed, rc=None)
    assert run.rc in (1, 65, 69, 78) and truth != run.bytes


def foreign(tmp_path, suite="bullseye"):
    """A process of another distribution: its libc has the host's path, but only under its own root."""
    libc = next((l for l in matrix.libcs("amd64") if l.suite == suite), None)
    if not libc or os.geteuid():
        pytest.skip("needs the matrix, and root for chroot")
    root = tmp_path / "root"
    lib = root / "usr/lib/x86_64-linux-gnu"
    lib.mkdir(parents=True)
    for name in ("libc.so.6", "libpthread.so.0", libc.ld.name):
        if (libc.lib / name).exists():
            shutil.copy((libc.lib / name).resolve(), lib / name)
    shutil.copy(libc.build("shapes"), root / "shapes")
    return libc, root


def foreign_core(libc, root, tmp_path, gdb=False):
    argv = ["chroot", str(root), f"/usr/lib/x86_64-linux-gnu/{libc.ld.name}", "--library-path",
            "/usr/lib/x86_64-linux-gnu", "/shapes", "/truth.xml", "3"]
    with Victim(argv[0], *argv[1:], core_limit=True) as victim:
        victim.line("ready")
        if gdb:
            core = gcore(victim.pid, tmp_path / "foreign.core")
        else:
            core = kernel_core(victim, root).rename(tmp_path / "foreign.core")
    return core, (root / "truth.xml").read_bytes()


def test_foreign_libc(tmp_path):
    """The host's own libc has the same path, and is never taken for it."""
    libc, root = foreign(tmp_path)
    core, truth = foreign_core(libc, root, tmp_path)
    found = arenascope_json("-q", "-c", core, "symbols", rc=(0, 1))
    tried = [t["result"] for t in found["tried"] if t["module"] == "libc.so.6"]
    assert any("build-id" in t and "not used" in t for t in tried), tried
    assert found["libcs"][0]["file"] is None
    says_right(core, truth)
    path = root / "usr/lib/x86_64-linux-gnu/libc.so.6"
    for option in (f"--root={root}", f"--libc={path}"):
        document = arenascope_json("-q", "-c", core, option, f"--debug-dir={libc.folder}", "symbols")
        assert document["libcs"][0]["layout"] == "dwarf" and document["libcs"][0]["version"] == libc.version
        assert says(core, option, f"--debug-dir={libc.folder}", rc=0).bytes == truth
        assert says(core, option, env=NO_DEBUG, rc=0).bytes == truth
    # the wrong one, named by the user, is an error and not a guess
    run = arenascope("-c", core, "--libc=/usr/lib/x86_64-linux-gnu/libc.so.6", "arenas", rc=78)
    assert "E-BUILDID" in run.err


@pytest.mark.parametrize("suite", ["bullseye", *(s for s in matrix.SUITES if s[0].isdigit())])
@pytest.mark.parametrize("gdb", [False, True], ids=["kernel", "gcore"])
def test_everything_gone(gdb, suite, tmp_path):
    """Neither libc, nor executable, nor debug file is on this machine."""
    libc, root = foreign(tmp_path, suite)
    core, truth = foreign_core(libc, root, tmp_path, gdb)
    kept = tmp_path / "kept"
    root.rename(kept)
    says_right(core, truth)
    document = arenascope("-q", "--json", "-c", core, "report", rc=(0, 1)).json
    assert all(a["cached_bytes"] for a in arenascope("-q", "--json", "-c", core, "arenas", rc=(0, 1)).json["arenas"])
    # memory holds the banner's page or it does not; a version is never guessed
    assert document["libc"]["version"] in (None, libc.version)
    codes = {w["code"] for w in document["warnings"]}
    assert "W-LAYOUT" in codes, codes
    stacks = arenascope("-q", "--json", "-c", core, "stacks", rc=(0, 1)).json["stacks"]
    assert sum(s["count"] for s in stacks) == 4
    # and with the executable alone
    run = arenascope("-q", "--json", "-c", core, f"--exe={kept / 'shapes'}", "symbols", rc=(0, 1)).json
    assert [m for m in run["modules"] if m["file_from"] == "--exe"], run["modules"]
    advice = run["libcs"][0]["advice"]
    assert "--root=DIR" in advice and "--debug-dir=DIR" in advice
