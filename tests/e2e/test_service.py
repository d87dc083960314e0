# SPDX-License-Identifier: GPL-3.0-or-later
"""The story that the README tells must be true before anything is said about it."""

import re
import xml.etree.ElementTree

import helpers


def rss_change(line):
    before, after = re.search(r"Rss (\d+) -> (\d+) KiB", line).groups()
    return int(before), int(after)


def test_story(victim, tmp_path):
    v = victim("service")
    v.line("idle")
    at_rest = helpers.rss(v.pid)
    assert at_rest > 500 << 20

    info = tmp_path / "info.xml"
    v.ask(f"info {info}", "info")
    tree = xml.etree.ElementTree.parse(info).getroot()
    assert len(tree.findall("heap")) == 149
    free = int(tree.findall("total[@type='rest']")[0].get("size"))
    assert free > at_rest // 2

    before, after = rss_change(v.ask("trim 0", "trim"))
    assert before - after < before // 100, "malloc_trim(0) was expected to return about nothing"
    v.signal(helpers.signal.SIGUSR1)
    assert " 0 errors" in v.line("served")
    assert v.ask("verify", "verified").endswith(" 0 bad, 0 errors")
    v.quit()


def test_untouched_notices(service):
    """The guard of all live tests can fail."""
    guard = helpers.Untouched(service.pid, alive=lambda: service.ask("ping", "pong"))
    guard.check()
    service.signal(helpers.signal.SIGSTOP)
    helpers.wait_for(lambda: helpers.state(service.pid) == "T")
    try:
        guard.check()
    except AssertionError:
        pass
    else:
        raise AssertionError("a stopped target was taken for untouched")
    finally:
        service.signal(helpers.signal.SIGCONT)
    helpers.wait_for(lambda: helpers.state(service.pid) == "S")
    service.quit()


def test_cores(core_victim, tmp_path):
    v = core_victim("service", "--threads", 2, "--requests", 4, "--payload", 100000)
    v.line("idle")
    gcore = helpers.gcore(v.pid, tmp_path / "by-gdb")
    kernel = helpers.kernel_core(v, tmp_path)
    for core in (gcore, kernel):
        assert core.read_bytes()[:4] == b"\x7fELF" and core.stat().st_size > 1 << 16
