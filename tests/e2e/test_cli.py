# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: grammar, exit statuses, formats, scripts, output files, completions, manual pages."""

import csv
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

import helpers
from helpers import ARENASCOPE, arenascope, arenascope_json

jsonschema = pytest.importorskip("jsonschema")

TOP = pathlib.Path(__file__).resolve().parents[2]
SCHEMAS = TOP / "doc" / "schema"
COMMANDS = ["report", "rss", "arenas", "arena 1", "bins", "bins 1 --kind=tcache", "sizes", "sizes --used",
            "chunks --limit=40", "chunks --arena=1 --size=32..64", "find 0x10", "map 1", "threads", "stacks", "stuck",
            "params", "check", "pins", "advise", "malloc-info", "malloc-stats", "trim -n", "reclaim -n", "symbols"]


@pytest.fixture(scope="module")
def svc():
    with helpers.Victim("service", "--threads", 6, "--at-once", 3, "--requests", 30, "--payload", 600011) as v:
        v.line("idle")
        yield v


@pytest.fixture(scope="module")
def core(svc, tmp_path_factory):
    return helpers.gcore(svc.pid, tmp_path_factory.mktemp("core") / "core.svc")


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """The victims of this file live as long as the file."""
    yield


# ---- grammar and exit statuses ----


@pytest.mark.parametrize("line, rc, says", [
    ("1234", 64, "did you mean -p 1234"),
    ("core.1234", 64, "did you mean -c core.1234"),
    ("arenaz", 64, "try: arenas"),
    ("rep", 64, "unknown command"),
    ("arenas", 64, "no target"),
    ("-p 0 arenas", 64, "process id"),
    ("-p x arenas", 64, "process id"),
    ("-p 1 -c x arenas", 64, "one target"),
    ("-p 1 arenas extra", 64, "unexpected argument"),
    ("-p 1 arenas --nonsense", 64, "unknown option --nonsense"),
    ("-p 1 arenas --sort=nonsense", 64, "--sort is one of"),
    ("-p 1 arenas --sort", 64, "needs a value"),
    ("-p 1 arenas --heaps=1", 64, "takes no value"),
    ("-p 1 arena", 64, "usage: arena N"),
    ("-p 1 --format=xml arenas", 64, "text|json|jsonl"),
    ("-p 1 --max-pause=never arenas", 64, "a time"),
    ("-p 1 --hold --no-stop arenas", 64, "one of them"),
    ("-p 1 chunks --size=x", 64, "range of sizes"),
    ("-p 1 chunks --arena=x", 64, "--arena=x is not a number"),
    ("-p 1 find zz", 64, "not an address"),
    ("-p 1 map --cell=3", 64, "a power of two"),
    ("-p 1 tune nonsense=1 --yes", 64, "unknown parameter"),
    ("-p 1 trim --yes --every=never", 64, "a time"),
    ("--nonsense", 64, "unknown option --nonsense"),
    ("--formt=json", 64, "try: --format"),
    ("-p 1 -Z", 64, "unknown option -Z"),
    ("-q -bqZ -p 1", 64, "unknown option -bqZ"),
    ("-p 1 bins -qZ", 64, "unknown option -qZ"),
    ("--json=x -p 1 arenas", 64, "--json takes no value"),
    ("-p 1 arenas --json=x", 64, "--json takes no value"),
    ("-p", 64, "--pid needs a value: PID"),
    ("-p 1 --max-pause", 64, "--max-pause needs a value: TIME"),
    ("-p 99999999 arenas", 66, "E-NOPROC"),
    ("-c /nonexistent arenas", 66, "nonexistent"),
    ("-c /etc/passwd arenas", 65, "E-NOTCORE"),
    ("-c /bin/true arenas", 65, "executable"),
    ("-x /nonexistent -p 1", 66, "cannot read the script"),
    ("help nonsense", 64, "unknown command"),
    ("help E-NONSENSE", 64, "there is no code"),
])
def test_refusals(line, rc, says):
    run = arenascope(*line.split(), rc=rc)
    assert says in run.err, run
    assert run.bytes == b"", run
    assert f"exit {rc}]" in run.err, run


def test_errors_have_the_shape_of_the_manual():
    run = arenascope("-p", 99999999, "arenas", rc=66)
    first, *more = run.err.splitlines()
    assert re.fullmatch(r"arenascope: .+   \[E-[A-Z]+, exit 66\]", first), run
    assert more[0].startswith("  why: ") and any(line.startswith("  try: ") for line in more), run


@pytest.mark.parametrize("argv", [
    ["-p", "PID", "arenas", "--json"],
    ["--json", "-p", "PID", "arenas"],
    ["arenas", "-p", "PID", "-j"],
    ["arenas", "--pid=PID", "--format=json"],
    ["-pid", "PID", "-batch", "-f", "json", "arenas"],
    ["arenas", "-f", "json", "--sort=rss", "-pPID", "--heaps"],
])
def test_options_stand_anywhere(svc, argv):
    doc = arenascope(*[a.replace("PID", str(svc.pid)) for a in argv]).json
    assert doc["schema"] == "arenascope/arenas" and doc["target"]["pid"] == svc.pid


def test_coredumpctl_form(core):
    exe = helpers.VICTIMS / "service"
    assert "arena" in arenascope(exe, "-c", core, stdin="arenas\n").out.lower()
    assert arenascope(exe, "-c", core, "-ex", "check --json").json["complete"] is True
    assert arenascope(exe, "--core", core, "malloc-info").out.startswith("<malloc version=")


def test_alone_and_help():
    run = arenascope()
    assert len(run.out.splitlines()) <= 17 and "arenascope -p PID report" in run.out
    assert "largest glibc processes" in run.out
    text = arenascope("--help").out
    for kind, name, *_ in words():
        if kind in ("option", "command") and name != "--ex":
            assert name in text, name
    assert arenascope("--version").out.startswith("arenascope ")
    assert "--max-pause=TIME" in arenascope("--usage").out
    assert arenascope("arenas", "--help").out == arenascope("help", "arenas").out
    assert "ptrace_scope" in arenascope("help", "E-YAMA").out
    assert "double free" in arenascope("help", "C-TWICE").out


# ---- JSON ----


def unknown_keys(doc, schema, path=""):
    """Keys that the schema does not know: the documentation lags behind the program."""
    if isinstance(doc, dict) and "properties" in schema:
        for key, value in doc.items():
            if key not in schema["properties"]:
                yield f"{path}.{key}"
            else:
                yield from unknown_keys(value, schema["properties"][key], f"{path}.{key}")
    if isinstance(doc, list) and "items" in schema:
        for value in doc:
            yield from unknown_keys(value, schema["items"], f"{path}[]")


@pytest.mark.parametrize("kind", ["live", "core"])
@pytest.mark.parametrize("command", COMMANDS)
def test_json_follows_its_schema(svc, core, kind, command):
    target = ["-p", svc.pid] if kind == "live" else ["-c", core]
    run = arenascope("-q", "-j", *target, *command.split(), rc=(0, 1))
    doc = run.json
    schema = json.loads((SCHEMAS / f"{command.split()[0]}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(doc, schema, cls=jsonschema.Draft202012Validator)
    assert not set(unknown_keys(doc, schema)), run
    assert doc["complete"] is (run.rc == 0), run
    assert list(doc)[:8] == ["schema", "schema_version", "tool", "taken_at", "complete", "warnings", "target", "libc"]
    assert doc["target"]["kind"] == kind
    assert (doc["pause_ms"] is None) == (kind == "core") or command == "symbols"
    for warning in doc["warnings"]:
        assert warning["code"] in arenascope("help", "codes").out, warning


def validate(doc):
    schema = json.loads((SCHEMAS / (doc["schema"].split("/")[1] + ".json")).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(doc, schema, cls=jsonschema.Draft202012Validator)
    assert not set(unknown_keys(doc, schema)), set(unknown_keys(doc, schema))


@pytest.mark.parametrize("command", ["trim", "reclaim", "tune trim_threshold=131072", "tune arena_max=4",
                                     "tune mmap_max=100"])
def test_json_of_what_was_done_follows_its_schema(victim, command):
    v = victim("service", "--threads", 4, "--at-once", 2, "--requests", 20, "--payload", 500009)
    v.line("idle")
    before = arenascope_json("-q", "-n", "-p", v.pid, *command.split())
    validate(before)
    doc = arenascope_json("-q", "--yes", "-p", v.pid, *command.split(), rc=(0, 1))
    validate(doc)
    assert doc["complete"] is True, doc
    if command.startswith("tune"):
        assert doc["tune"]["accepted"] is True and "accepted" not in before["tune"]
    else:
        assert doc["result"]["bytes"] is not None and "result" not in before
    assert v.ask("ping", "pong")


def test_json_of_rounds_follows_its_schema(svc):
    p = subprocess.Popen([ARENASCOPE, "-j", "-p", str(svc.pid), "reclaim", "--yes", "--every=100ms"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    helpers.wait_for(lambda: "Done" in p.stderr.readline(), 20, "a round")
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=30)
    doc = json.loads(out)
    validate(doc)
    assert doc["rounds"] and doc["rounds"][0]["rss_after_bytes"], out


def test_a_schema_with_an_error_in_it_is_noticed(svc):
    doc = arenascope_json("-p", svc.pid, "arenas")
    schema = json.loads((SCHEMAS / "arenas.json").read_text())
    doc["arenas"][0]["address"] = 4096
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(doc, schema, cls=jsonschema.Draft202012Validator)
    doc["arenas"][0]["nonsense"] = 1
    assert ".arenas[].nonsense" in set(unknown_keys(doc, schema))


def test_addresses_are_strings_and_bytes_are_numbers(svc):
    def walk(value, key=""):
        if isinstance(value, dict):
            for k, v in value.items():
                assert re.fullmatch(r"[a-z0-9_.\-]+", k), k
                walk(v, k)
        elif isinstance(value, list):
            for v in value:
                walk(v, key)
        elif key.endswith("_bytes") and value is not None:
            assert isinstance(value, int) and not isinstance(value, bool), key
        elif key.endswith("address") and value is not None:
            assert re.fullmatch("0x[0-9a-f]+", value), (key, value)
    for command in ("arenas", "bins", "chunks --limit=5", "check", "report"):
        walk(arenascope_json("-q", "-p", svc.pid, *command.split()))


def test_the_ledger_of_every_arena_adds_up(svc):
    for a in arenascope_json("-p", svc.pid, "arenas")["arenas"]:
        parts = ("in_use", "cached", "trimmable", "retained", "fragmented", "metadata")
        assert a["resident_bytes"] == sum(a[p + "_bytes"] for p in parts), a
        assert sum(a["chunk_bytes"].values()) <= a["mapped_bytes"], a
        assert a["heap_count"] == len(a["heaps"])


def test_live_and_core_agree(svc, core):
    live, dead = (arenascope_json("-q", *t, "arenas", rc=(0, 1))["arenas"] for t in (["-p", svc.pid], ["-c", core]))
    keys = ("index", "kind", "address", "mapped_bytes", "max_mapped_bytes", "top_bytes", "chunk_counts", "chunk_bytes",
            "attached_threads", "threads")
    assert [{k: a[k] for k in keys} for a in live] == [{k: a[k] for k in keys} for a in dead]
    for command in ("bins", "sizes", "chunks", "malloc-info", "malloc-stats", "check"):
        a, b = (arenascope_json("-q", *t, command, rc=(0, 1)) for t in (["-p", svc.pid], ["-c", core]))
        assert {k: v for k, v in a.items() if k in ("bins", "sizes", "largest", "chunks", "text", "findings")} == \
               {k: v for k, v in b.items() if k in ("bins", "sizes", "largest", "chunks", "text", "findings")}, command


# what no image can know: which pages were in memory, and what hangs on it
RESIDENCY = re.compile(r"(resident|in_use|cached|trimmable|retained|fragmented|metadata|swapped|nonresident)_bytes$")


def without_residency(value):
    if isinstance(value, dict):
        return {k: without_residency(v) for k, v in value.items() if not RESIDENCY.search(k)}
    return [without_residency(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("command, keys", [
    ("arenas --heaps", ["arenas", "mmapped"]), ("bins", ["bins"]), ("sizes", ["sizes", "largest"]),
    ("chunks", ["chunks", "listed"]), ("malloc-info", ["text"]), ("malloc-stats", ["text"]), ("params", ["params"]),
    ("check", ["findings", "checked_chunks", "checked_bytes", "unwalked_bytes"]), ("stacks", ["stacks"])])
def test_pid_core_and_image_agree(svc, core, command, keys):
    """The same bytes as a process, as a core and as an image that a program put together by the library."""
    image = subprocess.run([str(helpers.VICTIMS.parent / "drivers" / "image"), str(core), *command.split()],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert image.returncode in (0, 1), image.stderr.decode()
    docs = [arenascope_json("-q", "-p", svc.pid, *command.split()),
            arenascope_json("-q", "-c", core, *command.split(), rc=(0, 1)), json.loads(image.stdout)]
    live, dead, made = (without_residency({k: d[k] for k in keys}) for d in docs)
    assert live == dead and dead == made
    assert any(live[k] for k in keys), "there is something to compare"


def rows_of_text(text):
    return [line.split() for line in text.splitlines()]


def test_text_json_and_csv_of_one_reading_agree(svc):
    def one(command):
        run = arenascope("-q", "-p", svc.pid, "-ex", f"{command} --json > {{d}}/j".format(d=one.dir),
                         "-ex", f"{command} --bytes > {one.dir}/t", "-ex", f"{command} -f csv > {one.dir}/c",
                         "-ex", f"{command} -f jsonl > {one.dir}/l")
        assert run.rc == 0
        read = lambda n: (pathlib.Path(one.dir) / n).read_text()
        return (json.loads(read("j")), read("t"), list(csv.DictReader(io.StringIO(read("c")))),
                [json.loads(line) for line in read("l").splitlines()])
    import tempfile
    with tempfile.TemporaryDirectory() as one.dir:
        doc, text, table, lines = one("arenas")
        rows = rows_of_text(text)[2:]
        for j, t, c, l in zip(doc["arenas"], rows, table, lines[1:], strict=False):
            numbers = [j[k] for k in ("index", "kind", "mapped_bytes", "resident_bytes", "in_use_bytes", "cached_bytes",
                                      "trimmable_bytes", "retained_bytes", "fragmented_bytes", "top_bytes",
                                      "heap_count", "attached_threads")]
            assert [str(n) for n in numbers] == t[:12]
            assert l == {"record": "arena", **j}
            for key, value in c.items():
                want = j[key]
                assert value == ("" if want is None else str(want).lower() if isinstance(want, bool) else str(want)), key
        assert len(doc["arenas"]) == len(rows) == len(table) == len(lines) - 2
        doc, text, table, lines = one("bins")
        assert len(doc["bins"]) == len(table) == len(rows_of_text(text)) - 1 == len(lines) - 2
        for j, t, c in zip(doc["bins"], rows_of_text(text)[1:], table):
            assert [str(j[k]) for k in ("count", "bytes", "smallest_bytes", "largest_bytes")] == t[-4:]
            assert [str(j[k]) for k in ("count", "bytes", "smallest_bytes", "largest_bytes")] == \
                   [c[k] for k in ("count", "bytes", "smallest_bytes", "largest_bytes")]
        doc, text, table, lines = one("chunks")
        assert len(doc["chunks"]) == len(table) == len(lines) - 2 == len(rows_of_text(text)) - 1 == doc["listed"]
        for j, t, c in zip(doc["chunks"], rows_of_text(text)[1:], table):
            assert [j["address"], str(j["size_bytes"]), j["state"]] == t[:3] == \
                   [c["address"], c["size_bytes"], c["state"]]


def test_jsonl_shows_a_cut(svc):
    lines = arenascope("-q", "--jsonl", "-p", svc.pid, "chunks", "--limit=9").jsonl
    assert lines[0]["record"] == "header" and lines[0]["schema"] == "arenascope/chunks"
    assert [line["record"] for line in lines[1:-1]] == ["chunk"] * 9
    assert lines[-1]["record"] == "end" and lines[-1]["complete"] is True and "warnings" in lines[-1]


def test_nothing_depends_on_locale_width_or_colour(svc):
    plain = arenascope("-q", "-j", "-p", svc.pid, "params").json
    other = arenascope("-q", "-j", "--color=always", "-p", svc.pid, "params",
                       env={"LC_ALL": "C", "COLUMNS": "20", "TERM": "xterm"}).json
    for doc in (plain, other):
        del doc["taken_at"], doc["pause_ms"]
    assert plain == other


# ---- text ----


def test_colour_order(svc):
    def coloured(*args, **env):
        return b"\033[" in arenascope("-q", "-p", svc.pid, *args, "arenas", env=env).bytes
    assert not coloured(TERM="xterm")
    assert coloured(TERM="xterm", FORCE_COLOR="1")
    assert coloured(TERM="dumb", CLICOLOR_FORCE="1")
    assert not coloured(TERM="xterm", FORCE_COLOR="0")
    assert not coloured(TERM="xterm", FORCE_COLOR="1", NO_COLOR="1")
    assert coloured("--color=always", TERM="dumb", NO_COLOR="1")
    assert not coloured("--color=never", FORCE_COLOR="1")


def test_ascii_in_the_c_locale(svc):
    for args, env in ((["--ascii"], {}), ([], {"LC_ALL": "C"})):
        for command in ("report", "map", "sizes"):
            out = arenascope("-q", *args, "-p", svc.pid, command, env=env).bytes
            assert max(out) < 0x80, command


def test_strings_of_the_target_are_escaped(tmp_path):
    name = "a\x1b[31m\n\xff\t"
    code = ("import ctypes,time,sys\n"
            "ctypes.CDLL(None).prctl(15, b'a\\x1b[31m\\n\\xff\\t', 0, 0, 0)\n"
            "print('ready', flush=True)\n"
            "time.sleep(100)\n")
    with helpers.Victim("python3", "-c", code) as v:
        v.line("ready")
        for command in ("threads", "report", "arenas"):
            run = arenascope("-p", v.pid, command, rc=(0, 1))
            assert b"\x1b" not in run.bytes and b"\xff" not in run.bytes and "\x1b" not in run.err, run
        assert "\\x1b[31m\\x0a\\xff\\x09" in arenascope("-p", v.pid, "threads").out
        found = arenascope_json("-p", v.pid, "threads")
        assert name.encode("latin1").decode("latin1").replace("\xff", "\\xff") in [t["name"] for t in found["threads"]]
        raw = arenascope("-j", "-p", v.pid, "threads").bytes
        raw.decode("utf-8")
        assert b"\x1b" not in raw


def test_the_pause_is_said(svc):
    assert re.search(r"^paused [0-9.]+ ms$", arenascope("-p", svc.pid, "arenas").err, re.M)
    assert arenascope("-q", "-p", svc.pid, "arenas").err == ""
    run = arenascope("-p", svc.pid, "-ex", "arenas", "-ex", "arenas", "-ex", "bins")
    assert run.err.count("paused") == 1, "one stop serves all"
    assert arenascope("-p", svc.pid, "-ex", "bins", "-ex", "refresh", "-ex", "bins").err.count("paused") == 2


@pytest.mark.parametrize("line", ["trim", "reclaim", "tune arena_max=3", "chunks --size=x", "find zz", "map --cell=3"])
def test_a_refusal_costs_no_pause(svc, line):
    run = arenascope("-p", svc.pid, *line.split(), rc=64)
    assert "paused" not in run.err and run.out == "", run


def test_an_empty_list_says_so(svc):
    assert arenascope("-q", "-p", svc.pid, "chunks", "--size=1T..").out == "No such chunk.\n"
    assert arenascope("-q", "-p", svc.pid, "bins", "0", "--kind=large").out.endswith("in such a list.\n")
    assert arenascope_json("-q", "-p", svc.pid, "bins", "0", "--kind=large")["bins"] == []


def test_stacks_by_name(svc):
    out = arenascope("-q", "-p", svc.pid, "stacks", "worker-2").out
    assert "worker-2" in out and "worker-1" not in out and "#0" in out
    assert "E-NOTFOUND" in arenascope("-q", "-p", svc.pid, "stacks", "nobody", rc=2).err


def test_pause_budget(svc):
    run = arenascope("-p", svc.pid, "--max-pause=1ms", "check", rc=(0, 1, 75))
    if run.rc == 75:
        assert "E-PAUSE" in run.err and "--max-pause=" in run.err and run.out == "" and "paused" not in run.err
    doc = arenascope_json("-q", "-p", svc.pid, "--no-stop", "arenas", rc=(0, 1))
    assert "W-NO-STOP" in [w["code"] for w in doc["warnings"]] and doc["pause_ms"] is None


def test_the_target_is_untouched(svc):
    guard = helpers.Untouched(svc.pid)
    for command in ("report", "check", "stacks", "arenas"):
        arenascope("-q", "-p", svc.pid, command)
    arenascope("-q", "-p", svc.pid, "--hold", "-ex", "arenas", "-ex", "check")
    guard.check()
    assert svc.ask("ping", "pong")


def test_hold(svc, tmp_path):
    seen = tmp_path / "state"
    run = arenascope("-p", svc.pid, "-ex", "hold", "-ex", f"bins | grep State: /proc/{svc.pid}/status > {seen}",
                     "-ex", "release", "-ex", f"bins | cat > /dev/null")
    assert "t (tracing stop)" in seen.read_text(), run
    helpers.wait_for(lambda: helpers.state(svc.pid) not in "tT", 5, "the target to run on")


# ---- scripts ----


def test_scripts_fail_fast(svc, tmp_path):
    script = tmp_path / "s"
    script.write_text("# comment\n\nparams\nnonsense\nbins\n")
    run = arenascope("-q", "-p", svc.pid, "-x", script, rc=64)
    assert f"{script}:4: unknown command" in run.err and "trim_threshold" in run.out and "KIND" not in run.out
    run = arenascope("-q", "-p", svc.pid, "-x", script, "--keep-going", rc=64)
    assert "KIND" in run.out
    run = arenascope("-q", "-p", svc.pid, "-x", "-", rc=64, stdin=script.read_text())
    assert "<stdin>:4:" in run.err
    run = arenascope("-q", "-p", svc.pid, rc=64, stdin="bins\nfoo\n")
    assert "KIND" in run.out and "<stdin>:2:" in run.err
    script.write_text("source nowhere\n")
    assert "E-SCRIPT, exit 66" in arenascope("-q", "-p", svc.pid, "-x", script, rc=66).err
    inner = tmp_path / "inner"
    inner.write_text("params\narena 999\n")
    script.write_text(f"source '{inner}'\nbins\n")
    run = arenascope("-q", "-p", svc.pid, "-x", script, rc=2)
    assert run.err.count("exit") == 1 and f"{inner}:2: " in run.err and "KIND" not in run.out, run
    script.write_text(f"source {script}\n")
    run = arenascope("-q", "-p", svc.pid, "-x", script, rc=64)
    assert "too deep" in run.err


def test_a_wrong_option_ends_its_line_only(svc):
    run = arenascope("-q", "-p", svc.pid, "-x", "-", "--keep-going", rc=64, stdin="bins --json=x\nbins --color\nparams\n")
    assert "<stdin>:1: --json takes no value   [E-USAGE, exit 64]" in run.err and "<stdin>:2: " in run.err, run
    assert "trim_threshold" in run.out


def test_no_prefixes_in_scripts(svc):
    assert "unknown command" in arenascope("-q", "-p", svc.pid, rc=64, stdin="bin\n").err


def test_first_failure_is_the_status(svc):
    arenascope("-q", "-p", svc.pid, "--keep-going", "-ex", "arena 999", "-ex", "nonsense", "-ex", "bins", rc=2)
    arenascope("-q", "-p", svc.pid, "--keep-going", "-ex", "nonsense", "-ex", "arena 999", rc=64)


def test_pipes_and_files_in_lines(svc, tmp_path):
    f = tmp_path / "with blank"
    run = arenascope("-q", "-p", svc.pid, stdin=f"arenas | wc -l\nbins > '{f}'\nbins >> '{f}'\nset bytes\nshow bytes\n")
    assert run.out.splitlines()[0] == "9" and "bytes" in run.out and "on" in run.out
    assert f.read_text().count("KIND") == 2
    arenascope("-q", "-p", svc.pid, rc=74, stdin="bins > /nonexistent/x\n")
    arenascope("-q", "-p", svc.pid, rc=74, stdin="bins > /dev/full\n")
    arenascope("-q", "-p", svc.pid, rc=64, stdin="bins 'unfinished\n")
    arenascope("-q", "-p", svc.pid, rc=64, stdin="| wc\n")


def test_a_line_of_ten_megabytes(svc):
    run = arenascope("-q", "-p", svc.pid, rc=64, stdin="x" * 10_000_000 + "\n")
    assert len(run.err) < 1000
    run = arenascope("-q", "-p", svc.pid, rc=64, stdin="bins " + "y " * 2_000_000 + "\n")
    assert len(run.err) < 1000
    arenascope("-q", "-p", svc.pid, rc=64, stdin=b"bins\0\n")


def test_standard_input_is_empty(svc):
    assert arenascope("-p", svc.pid, stdin=b"").out == ""
    assert arenascope("-q", "-p", svc.pid, "arenas", stdin=None, close_fds=True).rc == 0


# ---- output ----


def test_output_file_is_replaced_when_whole(svc, tmp_path):
    out = tmp_path / "o.json"
    out.write_text("old")
    os.chmod(out, 0o600)
    arenascope("-q", "-p", svc.pid, "-o", out, "-j", "arena", "999", rc=2)
    assert out.read_text() == "old"
    assert arenascope("-q", "-p", svc.pid, "-o", out, "-j", "bins").bytes == b""
    assert json.loads(out.read_text())["schema"] == "arenascope/bins"
    assert os.listdir(tmp_path) == ["o.json"]
    link = tmp_path / "link"
    link.symlink_to(out)
    arenascope("-q", "-p", svc.pid, "-o", link, "malloc-info")
    assert link.is_symlink() and out.read_text().startswith("<malloc")
    arenascope("-q", "-p", svc.pid, "-o", tmp_path / "no" / "where", "bins", rc=74)


def test_full_disk(svc, tmp_path):
    assert "No space" in arenascope("-q", "-p", svc.pid, "-o", "/dev/full", "bins", rc=74).err
    run = subprocess.run([ARENASCOPE, "-q", "-p", str(svc.pid), "chunks"], stdout=open("/dev/full", "w"),
                         stderr=subprocess.PIPE)
    assert run.returncode == 74 and b"No space" in run.stderr
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", disk], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no mount here")
    try:
        (disk / "o").write_text("old")
        arenascope("-q", "-p", svc.pid, "-o", disk / "o", "-j", "chunks", rc=74)
        assert (disk / "o").read_text() == "old" and os.listdir(disk) == ["o"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_reader_that_leaves_is_no_error(svc):
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"'{ARENASCOPE}' -q -p {svc.pid} -f jsonl chunks | head -n 1"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stderr == b"" and done.returncode in (0, 141)
    done = subprocess.run([ARENASCOPE, "-q", "-p", str(svc.pid), "-ex", "chunks | head -n 1", "-ex", "bins | head -n 1"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stderr == b"" and done.returncode == 0 and done.stdout.count(b"\n") == 2


def test_closed_standard_streams(svc):
    run = lambda redirect: subprocess.run(["sh", "-c", f"'{ARENASCOPE}' -q -p {svc.pid} bins {redirect}"],
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    done = run(">&-")
    assert done.returncode == 74 and b"standard output is closed" in done.stderr
    assert run("2>&-").returncode == 0
    assert run("<&-").returncode == 0
    assert run("<&- >&- 2>&-").returncode == 74


def test_interrupt_ends_the_tool_never_the_target(svc):
    p = subprocess.Popen([ARENASCOPE, "-p", str(svc.pid), "--hold", "-x", "-"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdin.write(b"bins\n")
    p.stdin.flush()
    helpers.wait_for(lambda: helpers.state(svc.pid) == "t", 20, "the stop")
    p.send_signal(signal.SIGINT)
    assert p.wait(20) == 130
    helpers.wait_for(lambda: helpers.state(svc.pid) not in "tT", 5, "the target to run on")
    for stream in (p.stdin, p.stdout, p.stderr):
        stream.close()


# ---- errors for real ----


def test_zombie_and_traced_and_other_user(svc):
    child = subprocess.Popen(["true"])
    helpers.wait_for(lambda: helpers.state(child.pid) == "Z")
    assert "E-ZOMBIE" in arenascope("-p", child.pid, "bins", rc=66).err
    child.wait()
    held = subprocess.Popen([ARENASCOPE, "-q", "-p", str(svc.pid), "--hold", "-x", "-"], stdin=subprocess.PIPE,
                            stdout=subprocess.DEVNULL)
    held.stdin.write(b"bins\n")
    held.stdin.flush()
    helpers.wait_for(lambda: helpers.state(svc.pid) == "t", 20, "the stop")
    run = arenascope("-p", svc.pid, "bins", rc=77)
    assert "E-TRACED" in run.err, run
    held.stdin.close()
    assert held.wait(20) == 0
    if os.getuid() == 0 and shutil.which("setpriv"):
        done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", ARENASCOPE, "-p", str(svc.pid), "bins"],
                              stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        assert done.returncode == 77 and re.search(rb"E-(UID|YAMA|NODUMP|HIDDEN)", done.stderr), done.stderr


# ---- the table, and what must agree with it ----


def words():
    return [line.split("\t") for line in arenascope("help", "words").out.splitlines()]


def unroff(text):
    text = re.sub(r'^\.BR (\S+)(?: "(.*)")?$', r"\1\2", text, flags=re.M)
    return re.sub(r"\\f[A-Z]", "", text).replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\")


def test_manual_pages_know_every_word():
    page = unroff((TOP / "doc/man/arenascope.1").read_text())
    for kind, name, args, rest in words():
        if kind == "command-option":
            assert re.search(rf"^{re.escape(name)}\b", page, re.M), name
            continue
        pattern = rf"^-ex\b" if name == "--ex" else rf"^(-\w, )?{re.escape(name)}\b"
        assert re.search(pattern, page, re.M), name
        if kind in ("command", "word"):
            assert f"{name} {args}".strip() in page, (name, args)
            summary = " ".join(page.split())
            assert rest in summary, (name, rest)
    errors = unroff((TOP / "doc/man/arenascope-errors.7").read_text())
    for line in arenascope("help", "codes").out.splitlines():
        code, meaning = line.split(None, 1)
        assert f".B {code}\n" in errors, code
        assert meaning[1:] in " ".join(errors.split()), code


def test_manual_page_knows_settings_variables_and_statuses():
    page = unroff((TOP / "doc/man/arenascope.1").read_text())
    settings = page[page.index("Settings of the prompt"):page.index(".SH EXIT")]
    for line in arenascope("show").out.splitlines():
        assert re.search(rf"\b{line.split()[0]}\b", settings), line
    variables = page[page.index(".SH ENVIRONMENT"):page.index(".SH FILES")]
    sources = "".join(p.read_text() for p in (TOP / "src").rglob("*.c"))
    for name in set(re.findall(r'(?:getenv|env_set)\("([A-Z_]+)"\)', sources)):
        assert name in variables, name
    statuses = page[page.index(".SH EXIT"):page.index(".SH ENVIRONMENT")]
    for n in (0, 1, 2, 64, 65, 66, 69, 70, 74, 75, 77, 78, 130):
        assert f"\n.B {n}\n" in statuses, n


@pytest.mark.skipif(not shutil.which("mandoc"), reason="no mandoc")
def test_manual_pages_are_clean():
    pages = sorted((TOP / "doc/man").glob("*.[1-8]"))
    assert len(pages) == 3
    done = subprocess.run(["mandoc", "-Tlint", *pages], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0 and done.stdout == b"", done.stdout.decode()


def test_every_command_has_a_schema():
    have = {p.stem for p in SCHEMAS.glob("*.json")}
    assert {name for kind, name, *_ in words() if kind == "command"} == have


COMPLETIONS = [
    ("arenascope are", {"arena", "arenas"}),
    ("arenascope -p 1 bins --ki", {"--kind="}),
    ("arenascope -p 1 bins --kind s", {"small"}),
    ("arenascope --format js", {"json", "jsonl"}),
    ("arenascope help E-YA", {"E-YAMA"}),
    ("arenascope chunks --state f", {"fastbin", "fencepost"}),
]


@pytest.mark.parametrize("line, want", COMPLETIONS)
def test_bash_completion(line, want):
    code = """source "$1"; shift
    COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$1; COMP_POINT=${#1}
    _arenascope 2>/dev/null; printf '%s\\n' "${COMPREPLY[@]}" """
    out = subprocess.run(["bash", "-c", code, "bash", TOP / "completions/arenascope.bash", line], check=True,
                         stdout=subprocess.PIPE, env={**os.environ, "PATH": f"{pathlib.Path(ARENASCOPE).parent}:{os.environ['PATH']}"}).stdout
    assert set(out.decode().split()) == want


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish")
@pytest.mark.parametrize("line, want", COMPLETIONS)
def test_fish_completion(line, want, tmp_path):
    out = subprocess.run(["fish", "--no-config", "-c", f'source {TOP}/completions/arenascope.fish; complete -C "{line}"'],
                         check=True, stdout=subprocess.PIPE,
                         env={**os.environ, "HOME": str(tmp_path),
                              "PATH": f"{pathlib.Path(ARENASCOPE).parent}:{os.environ['PATH']}"}).stdout
    assert {w.split("\t")[0].rstrip("=") for w in out.decode().splitlines()} == {w.rstrip("=") for w in want}


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
def test_zsh_completion(tmp_path):
    pexpect = pytest.importorskip("pexpect")
    env = {**os.environ, "TERM": "dumb", "HOME": str(tmp_path), "PS1": "Z> ",
           "PATH": f"{pathlib.Path(ARENASCOPE).parent}:{os.environ['PATH']}"}
    z = pexpect.spawn("zsh", ["-f", "-i"], encoding="utf8", timeout=60, dimensions=(40, 150), env=env)
    try:
        z.expect("Z> ")
        z.sendline(f"fpath=({TOP}/completions $fpath); autoload -U compinit; compinit -u -D; setopt no_beep; echo REA''DY")
        z.expect("READY\r")
        z.expect("Z> ")
        for typed, want in [("arenascope -p 1 bins --ki\t", "--kind="), ("arenascope help E-YA\t", "E-YAMA"),
                            ("arenascope -p 1 malloc-i\t", "malloc-info"), ("arenascope --debuginfod=a\t", "=ask")]:
            z.send(typed)
            z.expect_exact(want)
            z.sendcontrol("u")
    finally:
        z.close(force=True)
