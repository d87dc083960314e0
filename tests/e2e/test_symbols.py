# SPDX-License-Identifier: GPL-3.0-or-later
"""Where symbols come from, and processes that are not as usual: other allocators, deleted libraries,
containers, a libc that nobody has seen yet."""

import os
import pathlib
import shutil
import subprocess

import pytest

import matrix
from helpers import Victim, arenascope, arenascope_json, gcore

LIBC = "libc.so.6"
NO_DEBUG = {"ARENASCOPE_NO_DEBUG": "1"}
LIBRARIES = pathlib.Path("/usr/lib/x86_64-linux-gnu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def shapes(tmp_path, **more):
    victim = Victim("shapes", tmp_path / "truth.xml", 2, **more)
    victim.line("ready")
    return victim


def facts(document):
    return {f["name"]: f["value"] for f in document["libcs"][0]["facts"]}


def test_sources_and_cache(tmp_path):
    with shapes(tmp_path) as victim:
        target = ["-q", "-p", victim.pid, "symbols"]
        first, second = arenascope_json(*target), arenascope_json(*target)
        if first["libcs"][0]["layout"] != "dwarf":
            pytest.skip("libc6-dbg is not installed")
        assert facts(first) == facts(second)
        assert [f["from"] for f in second["libcs"][0]["facts"] if f["name"] == "layout"] == ["DWARF of the debug file, cached"]
        cached = next((tmp_path / "cache/arenascope").iterdir())
        text = cached.read_text()
        # one digit of an offset: the checksum tells, and DWARF is read again
        cached.write_text(text.replace("malloc_state.top 96", "malloc_state.top 88"))
        third = arenascope_json(*target)
        assert facts(third) == facts(first) and third["libcs"][0]["members"] == first["libcs"][0]["members"]
        assert cached.read_text() == text


@pytest.mark.parametrize("library,name", [
    ("libjemalloc.so.2", "jemalloc"), ("libtcmalloc_minimal.so.4", "tcmalloc"), ("libmimalloc.so.2", "mimalloc"),
    ("libc_malloc_debug.so.0", "malloc_debug")])
def test_preloaded(library, name, tmp_path):
    if not (LIBRARIES / library).exists():
        pytest.skip(f"{library} is not installed")
    with shapes(tmp_path, env={"LD_PRELOAD": library}) as victim:
        assert arenascope("-q", "--json", "-p", victim.pid, "symbols", rc=(0, 1)).json["libc"]["allocator"] == name
        rss = arenascope("-q", "--json", "-p", victim.pid, "rss", rc=(0, 1)).json
        assert rss["ledger"]["rss_bytes"] > 0


def compiled(tmp_path, *argv):
    out = tmp_path / "program"
    source = tmp_path / "program.c"
    source.write_text("#include <stdlib.h>\n#include <unistd.h>\nint main(void){void *p=malloc(100);"
                      "if(!p||write(1,\"ready\\n\",6)!=6)return 1;pause();free(p);return 0;}\n")
    subprocess.run([*argv, str(source), "-o", str(out)], check=True)
    return out


@pytest.mark.parametrize("static", [[], ["-static"]], ids=["dynamic", "static"])
def test_musl(static, tmp_path):
    if not shutil.which("musl-gcc"):
        pytest.skip("musl-tools is not installed")
    with Victim(compiled(tmp_path, "musl-gcc", *static)) as victim:
        victim.line("ready")
        run = arenascope("-p", victim.pid, "arenas", rc=69)
        assert "musl" in run.err if not static else "glibc" in run.err
        assert arenascope("-q", "--json", "-p", victim.pid, "rss", rc=(0, 1)).json["ledger"]["rss_bytes"] > 0


def test_asan(tmp_path):
    with Victim(compiled(tmp_path, "gcc", "-fsanitize=address")) as victim:
        victim.line("ready")
        assert arenascope("-q", "--json", "-p", victim.pid, "symbols", rc=(0, 1)).json["libc"]["allocator"] == "ASan"


def copied_libc(tmp_path, change=None):
    """A program run by a copy of the host's ld.so and libc; change(bytes) edits the libc."""
    folder = tmp_path / "lib"
    folder.mkdir()
    shutil.copy(LIBRARIES / "ld-linux-x86-64.so.2", folder)
    data = bytearray((LIBRARIES / LIBC).read_bytes())
    if change:
        change(data)
    (folder / LIBC).write_bytes(data)
    victim = Victim(matrix.VICTIMS / "shapes", tmp_path / "truth.xml", 2,
                    wrapper=[folder / "ld-linux-x86-64.so.2", "--library-path", folder])
    victim.line("ready")
    return victim, folder


def test_deleted_libc(tmp_path):
    """As after an upgrade: the path holds another file, or none."""
    victim, folder = copied_libc(tmp_path)
    with victim:
        truth = (tmp_path / "truth.xml").read_bytes()
        (folder / LIBC).unlink()
        (folder / LIBC).write_bytes(b"\x7fELF: not that file")
        for env in ({}, NO_DEBUG):
            assert arenascope("-q", "-p", victim.pid, "malloc-info", env=env).bytes == truth
        found = arenascope_json("-q", "-p", victim.pid, "symbols", env=NO_DEBUG)["libcs"][0]
        assert "map_files" in found["file"]


def patch(data, old, new):
    at = data.find(old)
    assert at >= 0 and data.find(old, at + 1) < 0
    data[at:at + len(old)] = new


def test_unseen_release(tmp_path):
    """Same structs under a version that the table does not have: by shape, and right."""
    def change(data):
        at = data.find(b"release version 2.")
        data[at + 18:at + 20] = b"97"
    victim, _ = copied_libc(tmp_path, change)
    with victim:
        run = arenascope("-q", "-p", victim.pid, "malloc-info", env=NO_DEBUG)
        assert run.bytes == (tmp_path / "truth.xml").read_bytes()
        assert arenascope_json("-q", "-p", victim.pid, "symbols", env=NO_DEBUG)["libcs"][0]["layout"] == "scan"


def test_shifted_members(tmp_path):
    """mp_ with members in other places: refused, with exit 78."""
    thresholds = b"".join(v.to_bytes(8, "little") for v in (0x20000, 0x20000, 0x20000, 8, 0))

    def change(data):
        at = data.find(thresholds)
        assert at >= 0
        # n_mmaps_max, the only other non-zero int, four bytes further on
        where = data.find((65536).to_bytes(4, "little"), at + len(thresholds), at + 136)
        assert where >= 0
        data[where:where + 8] = data[where + 4:where + 8] + data[where:where + 4]
    victim, _ = copied_libc(tmp_path, change)
    with victim:
        run = arenascope("-p", victim.pid, "arenas", rc=78, env=NO_DEBUG)
        assert "E-NOSYM" in run.err and "shape of no known release" in run.err, run


def test_libc_of_another_build(tmp_path):
    other = tmp_path / "other.so"
    data = bytearray((LIBRARIES / LIBC).read_bytes())
    found = subprocess.run(["readelf", "-n", str(LIBRARIES / LIBC)], stdout=subprocess.PIPE, text=True).stdout
    build_id = bytes.fromhex(found.split("Build ID: ")[1].split()[0])
    patch(data, build_id, build_id[::-1])
    other.write_bytes(data)
    with shapes(tmp_path) as victim:
        run = arenascope("-p", victim.pid, f"--libc={other}", "arenas", rc=78)
        assert "E-BUILDID" in run.err and build_id.hex() in run.err and build_id[::-1].hex() in run.err


def test_container(tmp_path):
    """Other mount, pid and (where allowed) user namespaces: the path means something else there."""
    root = tmp_path / "root"
    (root / "lib").mkdir(parents=True)
    (root / "proc").mkdir()
    for name in ("ld-linux-x86-64.so.2", LIBC, "libm.so.6"):
        shutil.copy(LIBRARIES / name, root / "lib" / name)
    shutil.copy(matrix.VICTIMS / "shapes", root / "shapes")
    (root / "etc").mkdir()
    (root / "etc/os-release").write_text('ID=fedora\nPRETTY_NAME="Fedora of a test"\n')
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--root", str(root),
            "/lib/ld-linux-x86-64.so.2", "--library-path", "/lib", "/shapes", "/truth.xml", "2"]
    with Victim(argv[0], *argv[1:]) as victim:
        victim.line("ready")
        pid = int(pathlib.Path(f"/proc/{victim.pid}/task/{victim.pid}/children").read_text().split()[0])
        truth = (root / "truth.xml").read_bytes()
        for env in ({}, NO_DEBUG):
            assert arenascope("-q", "-p", pid, "malloc-info", env=env).bytes == truth
        found = arenascope_json("-q", "-p", pid, "symbols", env=NO_DEBUG)["libcs"][0]
        assert "dnf debuginfo-install glibc" in found["advice"] and "Fedora of a test" in found["advice"]


def test_debuginfod(tmp_path):
    """A server on loopback; the host's debug files are out of reach in an empty root."""
    if not shutil.which("debuginfod"):
        pytest.skip("debuginfod is not installed")
    with shapes(tmp_path) as victim:
        core = gcore(victim.pid, tmp_path / "core")
    # a server that never answers must not hold us up
    import socket
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(1)
    env = {"DEBUGINFOD_URLS": f"http://127.0.0.1:{silent.getsockname()[1]}", "DEBUGINFOD_CACHE_PATH": str(tmp_path / "fod"),
           "ARENASCOPE_NO_DEBUG": "local"}
    run = arenascope("-q", "--json", "-c", core, "--debuginfod=on", "--symbols-timeout=1s", "symbols", env=env)
    assert run.seconds < 20
    tried = [t for t in run.json["tried"] if t["what"].startswith("http")]
    assert tried and "no answer in 1000 ms" in tried[0]["result"], run.json["tried"]
    silent.close()


# ---- debuginfod ----


def debug_file(build_id):
    return pathlib.Path(f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug")


def libc_build_id():
    found = subprocess.run(["readelf", "-n", str(LIBRARIES / LIBC)], stdout=subprocess.PIPE, text=True).stdout
    return found.split("Build ID: ")[1].split()[0]


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def server(tmp_path):
    """Debian's debuginfod, serving libc's debug file from a folder of its own; its URL."""
    file = debug_file(libc_build_id())
    if not shutil.which("debuginfod") or not file.exists():
        pytest.skip("debuginfod or libc6-dbg is not installed")
    import time
    import urllib.error
    import urllib.request
    folder = tmp_path / "served"
    folder.mkdir()
    shutil.copy(file, folder / "libc.debug")
    url = f"http://127.0.0.1:{(port := free_port())}"
    env = {k: v for k, v in os.environ.items() if k != "DEBUGINFOD_URLS"}
    process = subprocess.Popen(["debuginfod", "-p", str(port), "-d", ":memory:", "-F", str(folder), "-t", "5"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/buildid/{libc_build_id()}/debuginfo", timeout=20).close()
                break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < end and process.poll() is None, "debuginfod did not come up"
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def test_debuginfod_serves(server, tmp_path):
    """What a server has is used, checked, and kept; without permission nobody is asked."""
    env = {"DEBUGINFOD_URLS": server, "DEBUGINFOD_CACHE_PATH": str(tmp_path / "fod"), "ARENASCOPE_NO_DEBUG": "local"}
    with shapes(tmp_path) as victim:
        target = ["--json", "-p", victim.pid]
        off = arenascope("-q", *target, "symbols", env=env).json
        assert off["libcs"][0]["layout"] == "table" and not (tmp_path / "fod").exists()
        on = arenascope(*target, "--debuginfod=on", "symbols", env=env)
        found = on.json["libcs"][0]
        assert found["layout"] == "dwarf" and str(tmp_path / "fod") in found["debug_file"], on
        # from now on the cache has it, and needs no permission and no server
        env["DEBUGINFOD_URLS"] = "http://127.0.0.1:1"
        cached = arenascope("-q", *target, "symbols", env=env).json["libcs"][0]
        assert cached["layout"] == "dwarf" and cached["debug_file"] == found["debug_file"]
        truth = (tmp_path / "truth.xml").read_bytes()
        assert arenascope("-q", "-p", victim.pid, "malloc-info", env=env).bytes == truth


def test_debuginfod_progress(server, tmp_path):
    """On a terminal people see that something is on its way; a slow server is left at the time limit."""
    import http.server
    import threading
    file = debug_file(libc_build_id()).read_bytes()
    stop = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(file)))
            self.end_headers()
            for at in range(0, len(file), 1000):
                if stop.wait(0.05):
                    return
                try:
                    self.wfile.write(file[at:at + 1000])
                except OSError:
                    return

        def log_message(self, *_):
            pass

    slow = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=slow.serve_forever, daemon=True).start()
    try:
        env = {"DEBUGINFOD_URLS": f"http://127.0.0.1:{slow.server_port}", "ARENASCOPE_NO_DEBUG": "local",
               "DEBUGINFOD_CACHE_PATH": str(tmp_path / "fod")}
        with shapes(tmp_path) as victim:
            run = arenascope("--json", "--progress=auto", "-p", victim.pid, "--debuginfod=on", "--symbols-timeout=2s",
                             "symbols", env=env)
            assert run.json["libcs"][0]["layout"] == "table", run
            tried = [t["result"] for t in run.json["tried"] if t["what"].startswith("http")]
            assert tried and "2000 ms" in tried[0], run.json["tried"]
            assert run.seconds < 60
    finally:
        stop.set()
        slow.shutdown()


def test_debuginfod_missing(tmp_path):
    """A server that is not there, and one that does not have it."""
    import http.server
    import threading

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    empty = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=empty.serve_forever, daemon=True).start()
    try:
        with shapes(tmp_path) as victim:
            for i, url in enumerate((f"http://127.0.0.1:{empty.server_port}", f"http://127.0.0.1:{free_port()}")):
                env = {"DEBUGINFOD_URLS": url, "DEBUGINFOD_CACHE_PATH": str(tmp_path / f"fod{i}"), "ARENASCOPE_NO_DEBUG": "local"}
                run = arenascope("-q", "--json", "-p", victim.pid, "--debuginfod=on", "symbols", env=env)
                assert run.json["libcs"][0]["layout"] == "table"
                assert [t for t in run.json["tried"] if t["what"].startswith("http")], run.json["tried"]
    finally:
        empty.shutdown()


@pytest.mark.parametrize("what,says", [("another build", "not used"), ("no ELF file", "is not an ELF file"),
                                       ("half of it", "holds no symbols")])
def test_debuginfod_answers_wrongly(what, says, tmp_path):
    """A server's answer is a claim: it is used if its build-id is the one that was asked for and it is whole."""
    import http.server
    import threading
    file = debug_file(libc_build_id())
    if not file.exists():
        pytest.skip("libc6-dbg is not installed")
    data = bytearray(file.read_bytes())
    if what == "another build":
        build_id = bytes.fromhex(libc_build_id())
        at = data.find(build_id)
        assert at >= 0
        data[at:at + len(build_id)] = build_id[::-1]
    elif what == "no ELF file":
        data = b"<html>404 not found</html>" * 100
    else:
        data = data[:len(data) // 2]

    class Wrong(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    wrong = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wrong)
    threading.Thread(target=wrong.serve_forever, daemon=True).start()
    try:
        env = {"DEBUGINFOD_URLS": f"http://127.0.0.1:{wrong.server_port}", "DEBUGINFOD_CACHE_PATH": str(tmp_path / "fod"),
               "ARENASCOPE_NO_DEBUG": "local"}
        with shapes(tmp_path) as victim:
            truth = (tmp_path / "truth.xml").read_bytes()
            document = arenascope("-q", "--json", "-p", victim.pid, "--debuginfod=on", "symbols", env=env).json
            assert document["libcs"][0]["layout"] == "table", document["libcs"][0]
            results = " ".join(t["result"] for t in document["tried"] if str(tmp_path / "fod") in t["what"])
            assert says in results, document["tried"]
            # what the cache holds from now on is no better
            assert arenascope("-q", "-p", victim.pid, "--debuginfod=on", "malloc-info", env=env).bytes == truth
    finally:
        wrong.shutdown()
