# SPDX-License-Identifier: GPL-3.0-or-later
"""The formats against each other: one reading, the same numbers in text, JSON, CSV, HTML and OpenMetrics."""

import csv
import html.parser
import io
import json
import re

import pytest

import helpers
from helpers import arenascope

COMMANDS = ["report", "rss --maps", "arenas --heaps", "arena 1", "bins", "sizes", "chunks", "find 0x10", "map", "threads",
            "stacks", "stuck", "params", "check", "pins", "advise", "trim -n", "reclaim -n", "symbols"]
FORMATS = {"j": "--json", "t": "--bytes", "c": "-f csv", "h": "-f html --bytes", "m": "-f openmetrics"}
NO_METRICS = ("chunks", "malloc-info", "malloc-stats")


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


@pytest.fixture(scope="module")
def one_reading(svc, core, tmp_path_factory):
    """{(kind, command): {format: text}}: every command in every format, all of one stop."""
    d = tmp_path_factory.mktemp("formats")
    found = {}
    for kind, target in (("live", ["-p", svc.pid]), ("core", ["-c", core])):
        script = d / kind
        wanted = [(c, f) for c in COMMANDS for f in FORMATS if not (f == "m" and c.split()[0] in NO_METRICS)]
        # what one stop must hold comes first, so that nothing is read again between two formats
        lines = ["rss > /dev/null", "check > /dev/null"]
        lines += [f"{c} {FORMATS[f]} > {d}/{kind}.{i}" for i, (c, f) in enumerate(wanted)]
        script.write_text("\n".join(lines) + "\n")
        arenascope("-q", *target, "-x", script, rc=(0, 1), timeout=300)
        for i, (c, f) in enumerate(wanted):
            found.setdefault((kind, c), {})[f] = (d / f"{kind}.{i}").read_text()
    return found


EVERY = [(kind, c) for kind in ("live", "core") for c in COMMANDS]


# ---- JSON against CSV ----


def cell(value):
    """A JSON value as a CSV cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def lists(doc):
    """Every list of objects in a document."""
    if isinstance(doc, dict):
        for v in doc.values():
            yield from lists(v)
    elif isinstance(doc, list):
        if doc and isinstance(doc[0], dict):
            yield doc
        if doc and isinstance(doc[0], dict) and "heaps" in doc[0]:
            yield [{"arena": a.get("index"), **heap} for a in doc for heap in a["heaps"]]
        for v in doc:
            yield from lists(v)


def csv_tables(text):
    for part in re.split(r"\n\n", text.strip("\n")):
        rows = list(csv.reader(io.StringIO(part)))
        assert all(len(row) == len(rows[0]) for row in rows), part[:300]
        yield rows[0], rows[1:]


def same_cell(a, b):
    if a == b:
        return True
    try:
        return float(a) == float(b)
    except ValueError:
        return a.replace("\\\\", "\\") == b  # CSV is escaped as the terminal is


@pytest.mark.parametrize("kind, command", EVERY)
def test_csv_is_json(one_reading, kind, command):
    texts = one_reading[kind, command]
    doc = json.loads(texts["j"])
    compared = 0
    for head, rows in csv_tables(texts["c"]):
        if head == ["field", "value"]:
            for path, value in rows:
                at = doc
                for key in path.split("."):
                    at = at[int(key)] if isinstance(at, list) else at.get(key) if isinstance(at, dict) else None
                if isinstance(at, (str, int, float)):
                    assert same_cell(value, cell(at)), (path, value, at)
                    compared += 1
            continue
        match = [items for items in lists(doc) if set(head) <= set(items[0]) and len(items) == len(rows)]
        assert match or not rows, (head, len(rows))
        ok = not rows
        for items in match:
            ok = ok or all(same_cell(value, cell(item[key])) for item, row in zip(items, rows)
                           for key, value in zip(head, row))
        assert ok, (head, rows[:2], match[0][:2])
        compared += len(rows)
    assert compared or command in ("find 0x10", "check", "stacks", "stuck"), texts["c"]


# ---- text and HTML against JSON ----


def numbers_of(doc):
    """Every number of a document, those in strings included."""
    found = set()

    def walk(v):
        if isinstance(v, dict):
            for w in v.values():
                walk(w)
        elif isinstance(v, list):
            found.add(len(v))
            for w in v:
                walk(w)
        elif isinstance(v, str):
            found.update(int(n, 16) for n in re.findall(r"0x([0-9a-f]+)", v))
            found.update(int(n) for n in re.findall(r"\d+", v))
        elif isinstance(v, (int, float)) and not isinstance(v, bool):
            found.update((int(v), abs(int(v))))
    walk(doc)
    return found


def derived(doc):
    """Sums and differences that only people read."""
    found = set()
    ledger = doc.get("ledger")
    if ledger and ledger["rss_bytes"] is not None:
        m = ledger["malloc"]
        found.add(ledger["rss_bytes"] - m["resident_bytes"] - ledger["mmapped_chunks_bytes"])
    for heap in doc.get("heaps", []):
        for kind in ("live_bytes", "free_bytes", "top_bytes", "absent_bytes"):
            found.add(sum(heap.get(kind, [])))
        if "live_bytes" in heap:
            start, end = int(heap["start"], 16), int(heap["end"], 16)
            found.update((end - start, end - start - sum(heap["absent_bytes"])))
    for arena in doc.get("arenas", []):
        found.add(sum(h.get("size_bytes", 0) for h in arena.get("heaps", [])))
    p = doc.get("prediction")
    if p:
        found.update((sum(x["bytes"] for x in p["stays"]), p["rss_before_bytes"], p["bytes"] + (p.get("pad_bytes") or 0)))
        found.update(abs(a["bytes"] - b["bytes"]) for a in p["arenas"] for b in p["arenas"])
    return found


def big_numbers(text):
    """Numbers of at least four digits: what --bytes prints; addresses and dates are others' business."""
    text = re.sub(r"0x[0-9a-f]+|[0-9a-f]{40}|\S*/\S*|\d+\.\d+|\d{4}-\d\d-\d\dT\S+", " ", text)
    return [int(n) for n in re.findall(r"(?<![\w.+-])\d{4,}(?![\w.])", text)]


@pytest.mark.parametrize("kind, command", EVERY)
def test_every_number_of_the_text_is_in_the_json(one_reading, kind, command):
    texts = one_reading[kind, command]
    doc = json.loads(texts["j"])
    known = numbers_of(doc) | derived(doc)
    wrong = [n for n in big_numbers(texts["t"]) if n not in known]
    assert not wrong, (wrong, texts["t"][:3000])


class Page(html.parser.HTMLParser):
    """Holds a page to being well formed, alone, and harmless."""

    VOID = {"meta", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.title, self.shown, self.scripts = [], [], "", [], 0
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            assert name not in ("src", "href") and not name.startswith("on"), (tag, name, value)
            assert "url(" not in (value or ""), value
        self.scripts += tag == "script"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            assert "http" not in data and "@import" not in data
            return
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if "title" in self.open:
            self.title += data
        self.shown.append(data)


@pytest.mark.parametrize("kind, command", EVERY)
def test_html_is_a_page_of_its_own_with_the_same_numbers(one_reading, kind, command):
    texts = one_reading[kind, command]
    page = Page(texts["h"])
    assert texts["h"].startswith("<!DOCTYPE html>") and texts["h"].endswith("</html>\n") and page.scripts == 1
    assert command.split()[0] in page.title and "service" in page.title
    doc = json.loads(texts["j"])
    known = numbers_of(doc) | derived(doc)
    shown = " ".join(page.shown)
    assert not [n for n in big_numbers(shown) if n not in known], shown[:3000]
    if command.startswith("arenas") or command == "report":
        rows = next(t for t in page.tables if t[0][:1] == ["ARENA"])[1:]
        assert len(rows) == len(doc["arenas"])
        for row, a in zip(rows, doc["arenas"]):
            assert row[:6] == [str(a["index"]), a["kind"], *(str(a[k]) for k in (
                "mapped_bytes", "resident_bytes", "in_use_bytes", "cached_bytes"))]


def test_html_is_safe_from_names_of_the_target(tmp_path):
    code = ("import ctypes\nctypes.CDLL(None).prctl(15, b'<b>\"&\\x1b[31m', 0, 0, 0)\n"
            "print('ready', flush=True)\ninput()\n")
    with helpers.Victim("python3", "-c", code) as v:
        v.line("ready")
        for command in ("threads", "report", "stacks"):
            text = arenascope("-q", "-f", "html", "-p", v.pid, command, rc=(0, 1)).out
            page = Page(text)
            assert "<b>" not in text and "\x1b" not in text
            assert '<b>"&\\x1b[31m' in " ".join(page.shown) or command == "stacks"


# ---- OpenMetrics ----

SAMPLE = re.compile(r'^([a-z_:][a-z0-9_:]*)\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\} (-?[0-9.e+-]+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\.)*)"')


def metrics(text):
    """{name: [(labels, value)]}; holds the text to the format's rules."""
    assert text.endswith("\n# EOF\n"), text[-200:]
    found, closed, current = {}, set(), None
    for line in text.splitlines()[:-1]:
        if line.startswith("# "):
            _, kind, name, rest = line.split(" ", 3)
            assert kind in ("HELP", "TYPE", "UNIT"), line
            assert kind != "TYPE" or rest == "gauge"
            assert kind != "UNIT" or name.endswith("_" + rest), line
            if name != current:
                closed.add(current)
                assert name not in closed, f"{name} twice"
                current = name
            continue
        m = SAMPLE.match(line)
        assert m and m[1] == current, line
        labels = tuple(sorted((k, v) for k, v in LABEL.findall(m[2])))
        family = found.setdefault(m[1], {})
        assert labels not in family, line
        family[labels] = float(m[3])
    return found


@pytest.mark.parametrize("kind, command", [e for e in EVERY if e[1].split()[0] not in NO_METRICS])
def test_openmetrics(one_reading, svc, kind, command):
    texts = one_reading[kind, command]
    doc = json.loads(texts["j"])
    found = metrics(texts["m"])
    for family in found.values():
        for labels in family:
            assert dict(labels)["process"] == doc["target"]["name"]
            assert dict(labels).get("pid") == str(svc.pid)
    info = dict(next(iter(found["arenascope_target_info"])))
    assert info["build_id"] == doc["libc"]["build_id"] and info["libc"] == doc["libc"]["version"]
    assert list(found["arenascope_complete"].values()) == [float(doc["complete"])]
    if "ledger" in doc:
        for key, value in doc["ledger"]["malloc"].items():
            assert list(found[f"arenascope_ledger_malloc_{key}"].values()) == [value], key
    if "arenas" in doc and command != "threads":
        for a in doc["arenas"]:
            for key in ("mapped_bytes", "resident_bytes", "in_use_bytes", "top_bytes"):
                got = [v for labels, v in found[f"arenascope_arena_{key}"].items()
                       if dict(labels)["arena"] == str(a["index"])]
                assert got == [a[key]], (key, a["index"])
            for state, count in a["chunk_counts"].items():
                got = [v for labels, v in found["arenascope_arena_chunks"].items()
                       if dict(labels)["arena"] == str(a["index"]) and dict(labels)["state"] == state]
                assert got == ([] if count is None else [count])
    if command == "bins":
        assert sorted(found["arenascope_bin_bytes"].values()) == sorted(b["bytes"] for b in doc["bins"])


def test_openmetrics_reads_for_others(one_reading):
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    older = pytest.importorskip("prometheus_client.parser")
    for texts in one_reading.values():
        if "m" in texts:
            families = list(parser.text_string_to_metric_families(texts["m"]))
            assert len(families) >= 4
            assert list(older.text_string_to_metric_families(texts["m"]))


@pytest.mark.parametrize("command", NO_METRICS)
def test_lists_have_no_metrics(svc, command):
    run = arenascope("-p", svc.pid, "-f", "openmetrics", command, rc=64)
    assert "has no metrics" in run.err and run.out == ""


def test_unknown_numbers_have_no_sample(svc):
    found = metrics(arenascope("-q", "-f", "openmetrics", "--max-pause=1ms", "-p", svc.pid, "arenas", rc=(0, 1)).out)
    doc = arenascope("-q", "-j", "-p", svc.pid, "report").json
    assert "arenascope_arena_mapped_bytes" in found and len(doc["arenas"]) == 7


# ---- several commands to one place ----

SEVERAL = ["rss", "arenas --heaps", "report", "check", "rss"]


def several(svc, form, *more, rc=(0, 1)):
    argv = [a for c in SEVERAL for a in ("-ex", c)]
    return arenascope("-q", "-p", svc.pid, "-f", form, *argv, *more, rc=rc)


def test_several_commands_give_one_page(svc, tmp_path):
    page = Page(several(svc, "html").out)
    assert page.scripts == 1 and page.title.startswith("rss of service")
    headings = "".join(page.shown)
    assert all(f"{c.split()[0]} of service" in headings for c in SEVERAL)
    several(svc, "html", "-o", tmp_path / "page.html")
    Page((tmp_path / "page.html").read_text())
    # a command that fails half way, or at once, leaves a page
    Page(several(svc, "html", "-ex", "arena 999", rc=2).out)
    assert arenascope("-q", "-p", svc.pid, "-f", "html", "arena", "999", rc=2).out == ""


def test_several_commands_give_one_set_of_metrics(svc):
    alone = metrics(arenascope("-q", "-p", svc.pid, "-f", "openmetrics", "arenas", "--heaps").out)
    found = metrics(several(svc, "openmetrics").out)
    assert set(alone) <= set(found) and "arenascope_ledger_rss_bytes" in found and "arenascope_checked_chunks" in found
    assert all(set(alone[name]) == set(found[name]) for name in alone if name.startswith("arenascope_arena_"))


def test_several_commands_give_tables_that_can_be_told_apart(svc):
    text = several(svc, "csv").out
    assert not text.startswith("\n") and "\n\n\n" not in text
    heads = [head for head, _ in csv_tables(text)]
    assert heads[0] == heads[-1] and ["field", "value"] in heads
    # the ledger of report and the sums of trim are in no table of theirs
    doc = arenascope("-q", "-j", "-p", svc.pid, "trim", "-n").json
    assert f"prediction.bytes,{doc['prediction']['bytes']}\n" in arenascope("-q", "-f", "csv", "-p", svc.pid, "trim", "-n").out
    assert "ledger.malloc.retained_bytes," in arenascope("-q", "-f", "csv", "-p", svc.pid, "report").out
    assert "field,value" not in arenascope("-q", "-f", "csv", "-p", svc.pid, "arenas").out


def test_formats_may_change_between_commands(svc):
    out = arenascope("-q", "-p", svc.pid, "-ex", "rss -f openmetrics", "-ex", "rss -f html", "-ex", "params -j").out
    first, _, rest = out.partition("# EOF\n")
    metrics(first + "# EOF\n")
    page, end, doc = rest.partition("</html>\n")
    Page(page + end)
    assert json.loads(doc)["schema"] == "arenascope/params"
