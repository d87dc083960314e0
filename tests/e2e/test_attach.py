# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping and releasing live processes: the target must never notice but for the pause.

Through the driver tests/drivers/attach.c, which does nothing but stop, look and release.
"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

import helpers

DRIVER = helpers.VICTIMS.parent / "drivers" / "attach"
LONG = os.environ.get("ARENASCOPE_LONG") == "1"


def start_driver(pid, *args, env=None, wrapper=(), **popen):
    return subprocess.Popen([*wrapper, DRIVER, str(pid), *args], stdout=subprocess.PIPE, text=True,
                            env={**os.environ, **(env or {})}, **popen)


def stops(pid, *args, rc=0, timeout=300, **more):
    """Run the driver; its JSON objects."""
    driver = start_driver(pid, *args, **more)
    out, _ = driver.communicate(timeout=timeout)
    assert driver.returncode in (rc if isinstance(rc, tuple) else (rc,)), out[-3000:]
    return [json.loads(line) for line in out.splitlines()]


def untraced(pid):
    for tid in helpers.tids(pid):
        try:
            s = helpers.status(pid, tid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if s["TracerPid"] != "0" or s["State"][0] == "t":
            return False
    return True


def masks(pid):
    found = {}
    for tid in helpers.tids(pid):
        try:
            found[tid] = helpers.status(pid, tid)["SigBlk"]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def unharmed(v):
    """It computes, and its own checks are good."""
    helpers.wait_for(lambda: untraced(v.pid), 5, "the end of tracing")
    answer = v.ask("check")
    assert answer.startswith("ok "), answer
    return answer


def good_stop(s, late=False):
    """@p late: how many stop in time is a question of who has the CPU; those who do not run no instruction either."""
    assert s["held"] and not s["watchdog"] and (late or not s["not_stopped"]), s
    assert late or s["stopped"] >= 1


@pytest.mark.parametrize("mode, n, times", [
    ("busy", 64, 1000 if LONG else 60),
    ("churn", 8, 100),
    ("signals", 8, 100),
    ("idle", 200, 20),
])
def test_again_and_again(victim, mode, n, times):
    v = victim("attach", mode, n)
    v.line("ready")
    v.ask("check", "ok")  # a thread starts with its signals blocked
    before = masks(v.pid)
    found = stops(v.pid, f"times={times}")
    assert len(found) == times
    for s in found:
        good_stop(s, late=True)
    assert any(s["stopped"] and not s["not_stopped"] for s in found)
    unharmed(v)
    after = masks(v.pid)
    if mode in ("busy", "idle"):  # elsewhere pthread_create and handlers block them for a while
        assert {t: after[t] for t in before if t in after} == {t: before[t] for t in before if t in after}
    v.quit()
    assert v.lines[-1].endswith("good"), v.lines[-1]


@pytest.mark.parametrize("point, hold", [("", 0), ("attach:11", 0), ("", 120)])
def test_who_stops_late_notices_nothing(victim, point, hold):
    """Threads that wait for a CPU as long as a stop lasts, or longer, are caught then: no EINTR, whenever they come."""
    # in its session: each session is a scheduling group of its own (sched_autogroup), in which nice says nothing to others
    load = "for i in $(seq 16); do (while :; do :; done) <&- >&- & done; "
    v = victim("stress", "alloc=0", "spin=0", "sleep=48", wrapper=("sh", "-c", load + 'exec nice -n 19 "$@"', "sh"))
    v.line("ready")
    late = 0
    end = time.monotonic() + 60
    while late < 30 and time.monotonic() < end and v.process.poll() is None:
        found = stops(v.pid, "times=20", "timeout=1", "bare", f"hold={hold}", rc=(0, 66, 75), env={"ARENASCOPE_FAULT": point})
        late += sum(s.get("not_stopped", 0) for s in found)
    v.process.stdin.close()
    verdict = v.line("", 120)
    assert verdict.startswith("ok ") and " 0 interrupted" in verdict, verdict
    assert late >= 30


@pytest.mark.parametrize("mode", ["busy", "rows"])
def test_who_stops_late_is_known_all_the_same(victim, mode):
    """Registers of a thread that has no CPU cannot be had, but its descriptor is where it is at every other stop."""
    # all of them on one CPU: not even half of them stop within the millisecond that they are given
    v = victim("attach", mode, 40, wrapper=("taskset", "-c", str(min(os.sched_getaffinity(0)))))
    v.line("ready")
    where, late = {}, []
    end = time.monotonic() + 60
    while len(late) < 12 and time.monotonic() < end:
        for s in stops(v.pid, "times=20", "timeout=1", "threads", "bare"):
            # by one that is known it is told where in a descriptor the number of its thread is
            late += [t for t in s["list"] if s["stopped"] and not t["stopped"] and t["state"] == "R"]
            where.update({t["tid"]: t["tp"] for t in s["list"] if t["stopped"]})
    assert len(late) >= 12 and len(where) > 40
    # the first thread's is not at the end of a stack
    late = [t for t in late if t["tid"] != v.pid and t["tid"] in where]
    assert late and all(t["tp"] == where[t["tid"]] for t in late)
    unharmed(v)
    v.quit()


def test_all_threads_and_registers(victim):
    v = victim("attach", "idle", 50)
    v.line("ready")
    # on a busy machine one or the other has no CPU in time
    s = next(s for s in stops(v.pid, "threads", "times=20") if not s["not_stopped"])
    assert [t["tid"] for t in s["list"]] == helpers.tids(v.pid)
    assert s["stopped"] == s["threads"] == 52
    assert all(t["stopped"] and t["pc"] and t["tp"] for t in s["list"])
    assert len({t["tp"] for t in s["list"]}) == 52
    assert sum(t["syscall"] in (35, 230, 219) and t["state"] == "S" for t in s["list"]) == 50
    assert sum(t["state"] == "R" and t["syscall"] == -1 for t in s["list"]) >= 1  # the clock watcher


@pytest.mark.parametrize("point", ["", "attach:7", "attach:8"])
def test_no_system_call_fails(victim, point):
    """Every kind of blocking call: no EINTR, and none ends early; not even where the stopper dies in the stop."""
    seconds = 3
    v = victim("blocked", seconds)
    v.line("ready")
    end = time.monotonic() + seconds - 0.6
    held = times = 0
    while time.monotonic() < end:
        began = time.monotonic()
        stops(v.pid, "times=3", "hold=15", rc=(0, 75), env={"ARENASCOPE_FAULT": point})
        held += 1000 * (time.monotonic() - began)
        times += 1
    assert times > 4
    v.line("end")
    calls = [line.split() for line in v.lines if line.count(" ") == 3]
    assert len(calls) == 22
    for name, result, code, ms in calls:
        assert int(code) != 4, f"{name}: EINTR"
        assert int(code) in (0, 11, 110), f"{name}: {code}"
        # a relative timeout may begin anew, never end early
        assert seconds * 1000 - 100 <= int(ms) <= 2 * seconds * 1000 + held + 10000, f"{name}: {ms} ms"


def test_sigstopped_stays_stopped(victim):
    v = victim("attach", "busy", 4)
    v.line("ready")
    v.signal(signal.SIGSTOP)
    helpers.wait_for(lambda: all(helpers.state(v.pid, t) == "T" for t in helpers.tids(v.pid)))
    assert os.waitpid(v.pid, os.WUNTRACED | os.WNOHANG)[0] == v.pid  # its parent saw that
    for s in stops(v.pid, "times=20", "threads"):
        good_stop(s)
        assert all(t["state"] == "T" for t in s["list"])
    helpers.wait_for(lambda: all(helpers.state(v.pid, t) == "T" for t in helpers.tids(v.pid)))
    assert os.waitpid(v.pid, os.WUNTRACED | os.WNOHANG)[0] == 0, "its parent saw another stop"
    v.signal(signal.SIGCONT)
    unharmed(v)
    v.quit()


def test_zombie_leader(victim):
    v = victim("attach", "zombie", 4)
    v.line("ready")
    helpers.wait_for(lambda: helpers.state(v.pid, v.pid) == "Z")
    for s in stops(v.pid, "times=20", "read", "threads"):
        good_stop(s)
        assert s["maps"] > 10 and s["bytes"] > 100000 and s["differ"] == 0
        assert s["resident"] == s["rss"] > 0
        leader = [t for t in s["list"] if t["tid"] == v.pid]
        assert leader[0]["state"] == "Z" and not leader[0]["stopped"]
        assert s["stopped"] == s["threads"] - 1
    v.ask("check", "ok")
    v.quit()


def test_vfork_parent_is_not_waited_for(victim):
    v = victim("attach", "vfork", 400)
    v.line("ready")
    found = stops(v.pid, "times=30", "threads")
    late = [s for s in found if s["not_stopped"]]
    assert late, "never met it inside vfork"
    for s in late:
        assert [t["state"] for t in s["list"] if not t["stopped"]] == ["D"]
        assert [t["syscall"] for t in s["list"] if not t["stopped"]] == [58]
    unharmed(v)
    v.quit()


def test_exec_meanwhile(victim):
    v = victim("attach", "exec", 7)
    v.line("ready")
    worked = refused = 0
    for _ in range(150):
        (s, *_) = stops(v.pid, rc=(0, 75, 77))
        if "error" in s:
            assert s["exit"] == 75, s
            refused += 1
        else:
            worked += 1
    assert worked
    helpers.wait_for(lambda: untraced(v.pid), 5, "the end of tracing")
    assert v.process.poll() is None


def test_exit_meanwhile(victim):
    for ms in (1, 3, 6, 10, 20, 40):
        v = victim("attach", "exit", ms)
        v.line("ready")
        found = stops(v.pid, "times=100000", "read", rc=(66, 75))
        assert found[-1]["id"] in ("E-GONE", "E-ZOMBIE", "E-NOPROC"), found[-1]
        assert v.process.wait(10) == 0


# ---- every way the tool can end ----


def helper_of(driver):
    """The stopper: the driver's only child."""
    try:
        text = pathlib.Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
    except FileNotFoundError:
        return None
    return int(text[0]) if text else None


@pytest.mark.parametrize("who", ["tool", "stopper"])
def test_sigkill_at_random_moments(victim, who):
    v = victim("attach", "busy", 16)
    v.line("ready")
    chance = random.Random(7)
    killed = 0
    for _ in range(400 if LONG else 60):
        driver = start_driver(v.pid, "times=1000000", "hold=2", "read")
        driver.stdout.readline()
        time.sleep(chance.random() * 0.02)
        if who == "tool":
            driver.kill()
            killed += 1
        else:
            pid = helper_of(driver)
            if pid:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            time.sleep(0.005)
            driver.kill()
        driver.stdout.close()
        driver.wait()
        helpers.wait_for(lambda: untraced(v.pid), 5, "the release")
    assert killed > 20
    unharmed(v)
    v.quit()


AFTER_RELEASE = ("attach:8", "attach:9", "attach:10")  # the tool had asked for its end


@pytest.mark.parametrize("point", [*(f"attach:{n}" for n in range(1, 11)),
                                   *(f"attach-tool:{n}" for n in range(1, 11)),
                                   *(f"tool:{n}" for n in range(1, 7))])
def test_fault_points(victim, point):
    v = victim("attach", "busy", 8)
    v.line("ready")
    driver = start_driver(v.pid, "times=3", env={"ARENASCOPE_FAULT": point})
    out, _ = driver.communicate(timeout=30)
    if point.startswith("attach:"):  # the stopper died: an error or an early release, never a hang
        assert driver.returncode == 75 or '"watchdog": true' in out or point in AFTER_RELEASE, out
    else:
        assert driver.returncode == -signal.SIGKILL, f"{point} was not reached: {out}"
    helpers.wait_for(lambda: untraced(v.pid), 5, "the release")
    unharmed(v)
    v.quit()


def test_a_killed_stopper_is_noticed(victim):
    v = victim("attach", "busy", 2)
    v.line("ready")
    driver = start_driver(v.pid, "hold=1500", "watchdog=100000")
    helpers.wait_for(lambda: not untraced(v.pid), 10, "the stop")
    pid = helpers.wait_for(lambda: helper_of(driver))
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)
    helpers.wait_for(lambda: untraced(v.pid), 10, "the release")
    out, _ = driver.communicate(timeout=30)
    assert json.loads(out)["watchdog"] is True
    unharmed(v)
    v.quit()


def test_watchdog(victim):
    v = victim("attach", "busy", 2)
    v.line("ready")
    driver = start_driver(v.pid, "hold=3000", "watchdog=50")
    helpers.wait_for(lambda: not untraced(v.pid), 10, "the stop")
    helpers.wait_for(lambda: untraced(v.pid) and driver.poll() is None, 3, "the release by the watchdog")
    v.ask("check", "ok")
    s = json.loads(driver.communicate(timeout=30)[0])
    assert s["watchdog"] is True and 200 <= s["pause_ms"] < 2900
    v.quit()


def test_terminal_signals_do_not_reach_the_stopper(victim):
    v = victim("attach", "busy", 2)
    v.line("ready")
    driver = start_driver(v.pid, "hold=700", "watchdog=100000", start_new_session=True)
    helpers.wait_for(lambda: not untraced(v.pid), 10, "the stop")
    pid = helpers.wait_for(lambda: helper_of(driver))
    for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTSTP, signal.SIGPIPE, signal.SIGQUIT):
        os.kill(pid, sig)
    s = json.loads(driver.communicate(timeout=30)[0])
    assert s["watchdog"] is False and s["pause_ms"] >= 700
    unharmed(v)
    v.quit()


def test_sigterm_to_the_tool_releases(victim):
    v = victim("attach", "busy", 4)
    v.line("ready")
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        driver = start_driver(v.pid, "hold=20000", "watchdog=100000")
        helpers.wait_for(lambda: not untraced(v.pid), 10, "the stop")
        driver.send_signal(sig)
        helpers.wait_for(lambda: untraced(v.pid), 10, "the release")
        driver.communicate(timeout=30)
    unharmed(v)
    v.quit()


def test_target_killed_while_held(victim):
    """Its parent must learn of it at once, though a stopper holds the threads."""
    v = victim("attach", "idle", 8)
    v.line("ready")
    driver = start_driver(v.pid, "hold=60000", "watchdog=100000")
    helpers.wait_for(lambda: not untraced(v.pid), 10, "the stop")
    v.process.kill()
    assert v.process.wait(20) == -signal.SIGKILL  # the stopper would hold for a minute
    driver.kill()
    driver.communicate()


def test_no_stop(victim):
    v = victim("attach", "busy", 4)
    v.line("ready")
    (s,) = stops(v.pid, "no_stop", "threads", "read")
    assert not s["held"] and s["stopped"] == 0 and s["pause_ms"] == 0
    assert s["threads"] == 5 and not any(t["stopped"] for t in s["list"])
    assert s["bytes"] > 100000
    unharmed(v)
    v.quit()


def test_the_stopper_uses_no_libc():
    """It shares memory and thread pointer with the tool: any call into libc could ruin both."""
    objects = helpers.VICTIMS.parent.parent / "CMakeFiles/asc_core.dir/src/target"
    if not (objects / "stopper_helper.c.o").exists() or not shutil.which("nm"):
        pytest.skip("no object files here")
    wanted = set()
    for name in ("stopper_helper.c.o", "stopper_thread.c.o", "restart.c.o"):
        out = subprocess.run(["nm", "-u", objects / name], capture_output=True, text=True, check=True).stdout
        wanted |= {line.split()[-1] for line in out.splitlines()}
    allowed = ("asc_restart_", "asc_stopper_", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail", "__asan_", "__ubsan_", "__sanitizer_")
    assert not [w for w in wanted if not w.startswith(allowed)]


# ---- why not ----


def refused(pid, rc, wrapper=()):
    (s,) = stops(pid, rc=rc, wrapper=wrapper)
    assert s["exit"] == rc
    return s


def test_no_such_process():
    assert refused(0x3ffffff, 66)["id"] == "E-NOPROC"


def test_kernel_thread():
    kernel = [p for p in map(int, filter(str.isdigit, os.listdir("/proc"))) if helpers.is_kernel_thread(p)]
    if not kernel:
        pytest.skip("no kernel thread can be seen in this pid namespace")
    assert refused(kernel[0], 66)["id"] == "E-KTHREAD"


def test_zombie():
    child = subprocess.Popen(["true"])
    helpers.wait_for(lambda: helpers.state(child.pid) == "Z")
    s = refused(child.pid, 66)
    assert s["id"] == "E-ZOMBIE" and str(os.getpid()) in s["why"]
    child.wait()


def test_thread_id(victim):
    v = victim("attach", "idle", 2)
    v.line("ready")
    s = refused(helpers.tids(v.pid)[1], 66)
    assert s["id"] == "E-TID" and f"-p {v.pid}" in s["try"]


def test_traced(victim):
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("no strace")
    v = victim("attach", "busy", 2)
    v.line("ready")
    tracer = subprocess.Popen([strace, "-f", "-q", "-e", "trace=none", "-p", str(v.pid)], stderr=subprocess.DEVNULL)
    helpers.wait_for(lambda: helpers.status(v.pid)["TracerPid"] == str(tracer.pid))
    s = refused(v.pid, 77)
    assert s["id"] == "E-TRACED" and "strace" in s["why"] and str(tracer.pid) in s["why"]
    assert stops(v.pid, "no_stop", "read")[0]["bytes"] > 100000
    assert helpers.status(v.pid)["TracerPid"] == str(tracer.pid)
    tracer.send_signal(signal.SIGINT)
    tracer.wait()
    unharmed(v)
    v.quit()


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def needs_root():
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv")


@pytest.fixture
def for_everybody(tmp_path_factory):
    """Copies of the driver and the victim where any user can start them."""
    needs_root()
    d = pathlib.Path(subprocess.run(["mktemp", "-d", "/tmp/attachXXXXXX"], capture_output=True, text=True,
                                    check=True).stdout.strip())
    os.chmod(d, 0o755)
    for source, name in ((DRIVER, "driver"), (helpers.VICTIMS / "attach", "victim")):
        shutil.copy(source, d / name)
        os.chmod(d / name, 0o755)
    yield d
    shutil.rmtree(d)


def refused_by(d, pid, *wrapper):
    done = subprocess.run([*wrapper, d / "driver", str(pid)], capture_output=True, text=True)
    s = json.loads(done.stdout)
    assert done.returncode == s["exit"], s
    return s


def test_other_user(victim, for_everybody):
    v = victim("attach", "idle", 2)
    v.line("ready")
    s = refused_by(for_everybody, v.pid, *NOBODY)
    assert s["id"] == "E-UID" and s["exit"] == 77
    assert "root (uid 0)" in s["why"] and "65534" in s["why"] and "sudo" in s["try"]


def test_without_the_capability(victim, for_everybody):
    v = victim("attach", "idle", 2)
    v.line("ready")
    s = refused_by(for_everybody, v.pid, "setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
    assert s["id"] == "E-CAP" and s["exit"] == 77
    assert "CAP_SYS_PTRACE" in s["why"] and "--cap-add" in s["try"]


def test_other_user_namespace(victim, for_everybody):
    if subprocess.run(["unshare", "-U", "-r", "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces")
    v = victim("attach", "idle", 2)
    v.line("ready")
    s = refused_by(for_everybody, v.pid, "unshare", "-U", "-r")
    assert s["id"] == "E-USERNS" and s["exit"] == 77


def test_not_dumpable(for_everybody):
    code = "import ctypes,time,sys; ctypes.CDLL(None).prctl(4,0,0,0,0); print('ready',flush=True); time.sleep(60)"
    child = subprocess.Popen([*NOBODY, "/usr/bin/python3", "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "ready\n"
        s = refused_by(for_everybody, child.pid, *NOBODY)
        assert s["id"] == "E-NODUMP" and "dumpable" in s["why"]
        assert json.loads(subprocess.run([for_everybody / "driver", str(child.pid)], capture_output=True,
                                         text=True).stdout)["held"]  # root may
    finally:
        child.kill()
        child.communicate()


def test_as_an_ordinary_user(for_everybody):
    """Without any privilege, on a process of one's own."""
    child = subprocess.Popen([*NOBODY, for_everybody / "victim", "busy", "4"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline().startswith("ready")
        s = json.loads(subprocess.run([*NOBODY, for_everybody / "driver", str(child.pid), "read"],
                                      capture_output=True, text=True).stdout)
        assert s.get("held"), s
        assert s["resident"] == s["rss"] and s["bytes"] > 100000
    finally:
        child.kill()
        child.communicate()


def test_frozen(victim):
    group = pathlib.Path("/sys/fs/cgroup/freezer/arenascope-test")
    if os.geteuid() or not group.parent.exists():
        pytest.skip("no cgroup v1 freezer")
    v = victim("attach", "busy", 4)
    v.line("ready")
    group.mkdir(exist_ok=True)
    try:
        (group / "cgroup.procs").write_text(str(v.pid))
        (group / "freezer.state").write_text("FROZEN")
        helpers.wait_for(lambda: "FROZEN" in (group / "freezer.state").read_text())
        (s,) = stops(v.pid, "read", "threads")
        assert s["not_stopped"] == 5 and s["stopped"] == 0 and s["resident"] == s["rss"]
        assert (group / "freezer.state").read_text().strip() == "FROZEN"
    finally:
        (group / "freezer.state").write_text("THAWED")
        (group.parent / "cgroup.procs").write_text(str(v.pid))
        group.rmdir()
    unharmed(v)
    v.quit()


# ---- residency against the kernel's Rss ----


def rows(v):
    return {n: (int(a, 16), None if b == "-" else int(b))
            for n, a, b in (line.split() for line in v.lines if line.count(" ") == 2)}


HUGE = 2 << 20


def huge_zero_page_used():
    """Does this kernel map it where huge pages are advised and memory is only read?"""
    thp = pathlib.Path("/sys/kernel/mm/transparent_hugepage")
    return (thp.exists() and (thp / "use_zero_page").read_text().strip() == "1"
            and "[never]" not in (thp / "enabled").read_text()
            and int(re.search(r"thp_zero_page_alloc (\d+)", pathlib.Path("/proc/vmstat").read_text())[1]) > 0)


@pytest.mark.parametrize("way", ["scan", "no_scan"])
def test_residency_is_rss(victim, way):
    v = victim("pages")
    v.line("ready")
    (s,) = stops(v.pid, *(["no_scan"] if way == "no_scan" else []))
    if way == "scan" and s["source"] != 1:
        pytest.skip("this kernel has no PAGEMAP_SCAN")
    assert s["source"] == (1 if way == "scan" else 2), s["why"]
    assert s["resident"] == s["rss"] and s["swapped"] == s["swap"]
    small = 32 * helpers.PAGE if "zero_page" in rows(v) and way == "scan" else 0  # the other skips maps without Rss
    assert s["zero"] >= small + (HUGE if huge_zero_page_used() else 0), s


def test_residency_of_many_threads(victim):
    """More regions than the kernel's internal buffer has room for."""
    v = victim("attach", "idle", 1000)
    v.line("ready")
    (s,) = stops(v.pid)
    assert s["runs"] > 600 and s["resident"] == s["rss"]
    assert stops(v.pid, "no_scan")[0]["resident"] == s["resident"]


@pytest.mark.parametrize("program", ["python3", "java"])
def test_residency_of_real_programs(program, tmp_path):
    if program == "java":
        if not shutil.which("java") or not shutil.which("javac"):
            pytest.skip("no java")
        (tmp_path / "Spin.java").write_text(
            "public class Spin { public static void main(String[] a) throws Exception { long[][] keep = new long[100][];"
            " for (int i = 0; i < 100; i++) keep[i] = new long[10000]; System.out.println(\"ready\");"
            " System.in.read(); } }")
        subprocess.run(["javac", "Spin.java"], cwd=tmp_path, check=True)
        argv = ["java", "-cp", str(tmp_path), "Spin"]
    else:
        code = ("import threading,json,sys\n"
                "keep=[json.loads(json.dumps({str(i):[i]*9 for i in range(20000)})) for _ in range(3)]\n"
                "[threading.Thread(target=threading.Event().wait,daemon=True).start() for _ in range(8)]\n"
                "print('ready',flush=True)\nsys.stdin.read()")
        argv = ["/usr/bin/python3", "-c", code]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "ready\n"
        for way in ([], ["no_scan"]):
            for s in stops(child.pid, "times=10", *way):
                assert s["resident"] == s["rss"], (way, s)
    finally:
        child.kill()
        child.communicate()


# ---- how long ----


@pytest.mark.skipif(not LONG, reason="a measurement: ARENASCOPE_LONG=1 runs it")
@pytest.mark.parametrize("n", [1, 64, 1000])
def test_pause_as_the_target_sees_it(victim, n):
    v = victim("attach", "idle", n)
    v.line("ready")
    gaps = []
    for _ in range(21):
        v.ask("gap", "gap")
        stops(v.pid, "times=101")  # beyond 100 the driver does not ask smaps
        gaps.append(int(v.ask("check", "ok").split()[2]))
    gaps.sort()
    print(f"{n} threads: gap min {gaps[0]} median {gaps[10]} us")
    v.quit()
