# SPDX-License-Identifier: GPL-3.0-or-later
"""With libc's debug file, without it, and from memory alone: the same document from every command.

A core is read, so that nothing moves in between. What may differ is provenance: how it was found
out, and what only symbols can name (functions, source lines).
"""

import pytest

from helpers import Victim, arenascope, kernel_core, kernel_core_works

COMMANDS = [["report"], ["rss"], ["rss", "--maps"], ["arenas"], ["arenas", "--heaps"], ["arena", "0"], ["arena", "2"], ["bins"],
            ["bins", "1"], ["sizes"], ["sizes", "--used"], ["sizes", "--free"], ["chunks"], ["chunks", "--arena=1"], ["map"],
            ["threads"], ["stuck"], ["params"], ["check"], ["pins"], ["advise"], ["trim", "-n"], ["reclaim", "-n"]]
# how it was found out, when, and names that only debug files have
PROVENANCE = {"libc", "warnings", "taken_at", "complete", "function", "frames", "innermost", "holder"}
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


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    if not kernel_core_works():
        pytest.skip("core_pattern does not write files")
    folder = tmp_path_factory.mktemp("same")
    cwd = folder / "cwd"
    cwd.mkdir()
    with Victim("shapes", folder / "truth.xml", 3, core_limit=True, cwd=cwd) as victim:
        victim.line("ready")
        return kernel_core(victim, cwd), (folder / "truth.xml").read_bytes()


@pytest.mark.parametrize("how", ["1", "files"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_same(command, how, core):
    runs = [arenascope("-q", "--json", "-c", core[0], *command, env=env, rc=(0, 1))
            for env in ({}, {"ARENASCOPE_NO_DEBUG": how})]
    if runs[0].json["libc"]["layout"] != "dwarf":
        pytest.skip("libc6-dbg is not installed")
    assert runs[1].json["libc"]["layout"] in ("table", "scan")
    found = differences(plain(runs[0].json), plain(runs[1].json))
    assert found == [], found


@pytest.mark.parametrize("command", ["malloc-info", "malloc-stats"])
def test_same_text(command, core):
    texts = {arenascope("-q", "-c", core[0], command, env=env).bytes
             for env in ({}, {"ARENASCOPE_NO_DEBUG": "1"}, {"ARENASCOPE_NO_DEBUG": "files"})}
    assert len(texts) == 1
    if command == "malloc-info":
        assert texts == {core[1]}
