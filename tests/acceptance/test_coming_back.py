"""Leaving and coming back: other processes, second clients, many openings (RP-21, RP-33, RP-34, SM-17, SM-22)."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import connection
from jupyter_rm.client.session import Session


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_process_submits_another_collects(session: Session, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    run(
        f"""
import jupyter_rm as jrm
s = jrm.open({session.name!r})
s.submit(jrm.Shell("read x < {gate}; echo $x"))
s.array(jrm.Task("/bin/echo", ["{{n}}"]), n=range(50))
s.map(lambda n: n * 2, range(50))
s.detach()
"""
    )
    gate.write_text("late\n")
    out = run(
        f"""
import jupyter_rm as jrm
assert {session.name!r} in [line.name for line in jrm.sessions()]
s = jrm.open({session.name!r}, create=False)
assert s.wait(40)
print(s["t.0"].result())
print(s["t.1"].results() == [f"{{n}}\\n" for n in range(50)])
print(s["t.2"].results() == [n * 2 for n in range(50)])
print(len(s.tasks()), s["t.1.7"].parameters, [p.uid for p in s.pilots()], s.counts())
print(s.submit(jrm.Task("/bin/echo", ["and on"])).result(20))
"""
    )
    assert out.split("\n")[:1] == ["late"]
    assert out.split("\n")[2:4] == ["True", "True"]
    assert "101 {'n': 7} ['p.0'] {'DONE': 101}" in out
    assert "and on" in out


def test_work_goes_on_without_broker_and_client(session: Session, home: Path, tmp_path: Path) -> None:
    """RP-33: what a pilot holds ends while neither broker nor client is there, and is reported once one is."""
    starts = tmp_path / "starts"
    go = tmp_path / "go"
    run(
        f"""
import jupyter_rm as jrm
s = jrm.open({session.name!r})
b = s.array(jrm.Shell("while ! test -e {go}; do sleep 0.05; done; echo {{n}} | tee -a {starts}"), n=range(100))
s._replica.wait(lambda: b.counts().get("RUNNING", 0) == 2, 20)
"""
    )
    bulk = session["t.0"]
    held = 100 - bulk.counts().get("WAITING", 0)
    assert held >= 50, bulk.counts()
    name = session.name
    session.detach()
    connection.close_all()
    from jupyter_rm.client import admin

    holder = admin._home().holder()
    assert holder is not None
    os.kill(holder.pid, 9)
    go.touch()
    eventually(lambda: starts.exists() and starts.read_text().count("\n") >= held, "all end without a broker", 40)
    again = jrm.open(name, create=False)
    assert again is not session
    bulk = again["t.0"]
    assert bulk.wait(20), bulk.counts()
    assert bulk.counts() == {"DONE": 100}
    assert bulk.results() == [f"{n}\n" for n in range(100)]
    assert sorted(int(line) for line in starts.read_text().split()) == list(range(100))
    again.close()


def test_a_second_client_sees_and_acts(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    out = run(
        f"""
import jupyter_rm as jrm
s = jrm.open({session.name!r}, create=False)
t = s["t.0"]
s._replica.wait(lambda: t.state == "RUNNING", 20)
print(t.cancel(), t.wait(10))
"""
    )
    assert out.split() == ["True", "CANCELED"]
    eventually(lambda: task.state == "CANCELED", "the first client is told")


def test_a_second_client_learns_that_the_session_was_closed(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    run(f"import jupyter_rm as jrm; jrm.open({session.name!r}, create=False).close()")
    assert task.wait(10) == "CANCELED"
    assert session.closed


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_twenty_openings_leave_nothing(home: Path) -> None:
    def cycle(name: str) -> None:
        with jrm.open(name) as s:
            assert s.pilot("local", cores=1).wait(timeout=20) == "ACTIVE"
            assert s.submit(jrm.Task("/bin/echo", ["x"])).result(20) == "x\n"
            assert s.call(pow, 2, 3).result(20) == 8
            s.close()

    from jupyter_rm.client import admin

    cycle("cycle")
    holder = admin._home().holder()
    assert holder is not None
    broker = psutil.Process(holder.pid)

    def agents() -> list[str]:
        """Return what runs below the broker or beside it on behalf of the sessions of this test."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if str(home) in line and "-cycle/" in line:
                found.append(line)
        return found

    eventually(lambda: not agents(), f"agents end: {agents()}", 15)
    gc.collect()
    threads, files, theirs, runs = threading.active_count(), descriptors(), broker.num_fds(), broker.num_threads()
    for _ in range(20):
        cycle("cycle")
    eventually(lambda: not agents(), f"agents end: {agents()}", 15)
    gc.collect()
    assert threading.active_count() <= threads
    assert descriptors() <= files
    eventually(lambda: broker.num_fds() <= theirs, f"the broker gives descriptors back: {broker.num_fds()} > {theirs}")
    assert broker.num_threads() <= runs
    connection.close_all()
    assert not [thread for thread in threading.enumerate() if thread.name == "jupyter_rm"]


def test_dropping_a_session_changes_nothing(session: Session) -> None:
    """RP-21: ends are asked for, never a side effect of garbage collection."""
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    assert session._replica.wait(lambda: task.state == "RUNNING", 20)
    run(f"import jupyter_rm as jrm, gc; s = jrm.open({session.name!r}, create=False); del s; gc.collect()")
    assert task.state == "RUNNING"
    assert session.pilots()[0].state == "ACTIVE"
    task.cancel()
