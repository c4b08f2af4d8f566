"""The guard, subreaping and what becomes of tasks when the programs above them are killed."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jupyter_rm.runtime.process import become_subreaper, descendants, guard_path, kill_descendants

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guard needs Linux")

# A program and three runaways: a plain child, a double-forked daemon in its own session, one that ignores TERM in a
# session of its own. Each writes its name and pid when it is set up.
RUNAWAYS = """
import os, signal, sys, time
def stay(name):
    with open(sys.argv[1], "a") as f: f.write("%s %d\\n" % (name, os.getpid()))
    time.sleep(1000)
if os.fork() == 0:
    stay("plain")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while os.getppid() == os.getsid(0): time.sleep(0.001)
        stay("daemon")
    os._exit(0)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setsid(); stay("stubborn")
stay("main")
"""


def until(check, what: str, deadline: float = 30.0):
    end = time.monotonic() + deadline
    pause = select.poll()
    while not (value := check()):
        assert time.monotonic() < end, f"never happened: {what}"
        pause.poll(5)
    return value


def lines(path: Path, n: int) -> list[str]:
    """Wait until the file has n lines."""
    got = until(lambda: path.exists() and len(x := path.read_text().splitlines()) >= n and x, f"{n} lines in {path}")
    return list(got)


def who(notes: Path) -> dict[str, int]:
    """Wait until all four have written their pids."""
    return {name: int(pid) for name, pid in (line.split() for line in lines(notes, 4))}


def end(pids) -> None:
    """Clear up what a test leaves on purpose."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def wait_gone(pid: int, deadline: float = 30.0) -> None:
    """Wait on a pidfd until the process is dead."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(deadline * 1000), f"process {pid} lives on"
    finally:
        os.close(fd)


def guard(*args: object, **more) -> subprocess.Popen[bytes]:
    path = guard_path()
    assert path is not None, "jrm-guard is not built"
    return subprocess.Popen([path, *map(str, args)], **more)


def runaways(tmp_path: Path, *options: object) -> tuple[subprocess.Popen[bytes], dict[str, int], Path]:
    notes, record = tmp_path / "pids", tmp_path / "record"
    g = guard("-o", record, *options, "--", sys.executable, "-c", RUNAWAYS, notes)
    return g, who(notes), record


def test_killing_the_child_leaves_no_survivor(tmp_path):
    g, pids, record = runaways(tmp_path)
    begin = time.monotonic()
    os.kill(pids["main"], signal.SIGKILL)
    assert g.wait(30) == 128 + 9
    assert 1.5 < time.monotonic() - begin < 10, "TERM first, KILL for the stubborn one after 2 s"
    for pid in pids.values():
        wait_gone(pid, 0)
    (line,) = lines(record, 1)
    said = json.loads(line)
    assert (said["pid"], said["signal"], said["restarts"], said["survivors"]) == (pids["main"], 9, 0, 3)
    assert said["started"] <= said["time"]


def test_killing_the_guard_takes_the_child_along(tmp_path):
    g, pids, _ = runaways(tmp_path)
    g.kill()
    g.wait(30)
    wait_gone(pids["main"])
    end(pids.values())


def test_term_is_passed_on_and_exit_codes_come_back(tmp_path):
    flag = tmp_path / "flag"
    script = "trap 'exit 42' TERM; echo up >$0; while :; do sleep 0.01; done"
    g = guard("-r", 5, "--", "/bin/sh", "-c", script, flag)
    lines(flag, 1)
    g.terminate()
    assert g.wait(30) == 42
    assert guard("--", "/bin/sh", "-c", "exit 3").wait(30) == 3
    assert guard("--", "/no/such/program", stderr=subprocess.DEVNULL).wait(30) == 127
    assert guard(stderr=subprocess.DEVNULL).wait(30) == 2


def test_death_by_signal_restarts_up_to_the_count(tmp_path):
    record, epochs = tmp_path / "record", tmp_path / "epochs"
    g = guard("-r", 2, "-o", record, "--", "/bin/sh", "-c", "echo $JRM_EPOCH >>$0; kill -9 $$", epochs)
    assert g.wait(30) == 128 + 9
    assert lines(epochs, 3) == ["0", "1", "2"]
    said = [json.loads(x) for x in lines(record, 3)]
    assert [(x["signal"], x["restarts"], x["status"]) for x in said] == [(9, 0, -1), (9, 1, -1), (9, 2, -1)]
    assert said[1]["started"] - said[0]["time"] >= 0.09
    assert said[2]["started"] - said[1]["time"] >= 0.49


def test_an_exit_is_not_restarted(tmp_path):
    record = tmp_path / "record"
    assert guard("-r", 3, "-o", record, "--", "/bin/sh", "-c", "exit 5").wait(30) == 5
    assert [json.loads(x)["status"] for x in lines(record, 1)] == [5]


def test_a_guard_told_to_end_does_not_restart(tmp_path):
    epochs = tmp_path / "epochs"
    g = guard("-r", 9, "--", "/bin/sh", "-c", "echo $JRM_EPOCH >>$0; exec sleep 100", epochs)
    lines(epochs, 1)
    g.terminate()
    assert g.wait(30) == 128 + 15
    assert lines(epochs, 1) == ["0"]


AGENT = """
import sys, time
from jupyter_rm.runtime.process import Launch, Spawner
s = Spawner()
env = s.env([])
script = open(sys.argv[2]).read().encode()
python = sys.executable.encode()
s.start(1, [1], [Launch(1, [python, b"-c", script, sys.argv[1].encode()], env, b"", grace=0.2)])
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["agent", "host"])
def test_tasks_do_not_outlive_the_agent(tmp_path, how):
    """kill -9 of the agent ends all; kill -9 of the spawner's host ends the task (its runaways are the guard's)."""
    script, notes = tmp_path / "script", tmp_path / "pids"
    script.write_text(RUNAWAYS)
    agent = subprocess.Popen([sys.executable, "-c", AGENT, notes, script], stdin=subprocess.PIPE)
    pids = who(notes)
    below = descendants(agent.pid)
    assert set(pids.values()) <= set(below), "the host adopts what tasks leave behind"
    (host,) = set(below) - set(pids.values())
    if how == "agent":
        agent.kill()
        for pid in [*pids.values(), host]:
            wait_gone(pid)
    else:
        os.kill(host, signal.SIGKILL)
        wait_gone(pids["main"])
        end(pids.values())
        agent.kill()
    agent.wait(30)
    assert agent.stdin is not None
    agent.stdin.close()


TREE = """
import subprocess, sys
from jupyter_rm.runtime.process import become_subreaper, descendants, kill_descendants
assert become_subreaper()
p = subprocess.Popen([sys.executable, "-c", open(sys.argv[2]).read(), sys.argv[1]])
print("up", flush=True)
sys.stdin.readline()
p.kill(); p.wait()
n = kill_descendants(grace=0.2)
print(n, descendants(), flush=True)
"""


def test_kill_descendants_finds_what_was_orphaned(tmp_path):
    script, notes = tmp_path / "script", tmp_path / "pids"
    script.write_text(RUNAWAYS)
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    p = subprocess.Popen([sys.executable, "-c", TREE, notes, script], **pipe, text=True)
    pids = who(notes)
    out, _ = p.communicate("go\n", timeout=30)
    assert out == "up\n3 []\n"
    for pid in pids.values():
        wait_gone(pid, 0)


def test_kill_descendants_of_another_process_and_of_recorded_groups(tmp_path):
    script, notes = tmp_path / "script", tmp_path / "pids"
    script.write_text(RUNAWAYS)
    p = subprocess.Popen([sys.executable, script, notes], start_new_session=True)
    lone = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    pids = who(notes)
    assert set(descendants(p.pid)) == {pids["plain"], pids["stubborn"]}, "the daemon has left the tree"
    assert kill_descendants(p.pid, grace=0.2, patience=5) == 2
    p.kill()
    p.wait(30)
    assert lone.poll() is None
    groups = [os.getpgid(pids["daemon"]), lone.pid]
    assert kill_descendants(p.pid, grace=0.2, groups=groups, patience=0.5) == 2
    assert lone.wait(30) == -signal.SIGTERM
    for pid in pids.values():
        wait_gone(pid, 5)


def test_subreaping_is_said_to_work_here():
    code = "from jupyter_rm.runtime.process import become_subreaper as b; assert b() and b()"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
    assert callable(become_subreaper)
