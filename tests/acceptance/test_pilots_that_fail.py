"""A pilot that cannot start, or dies: who waits is told why, and nobody waits in silence (RP-40, RP-42)."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import psutil
import pytest
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client.session import Session


def test_a_site_nobody_knows(bare: Session) -> None:
    with pytest.raises(jrm.RequestError, match="site: 'atlantis' is not known here") as caught:
        bare.pilot("atlantis", name="lost")
    assert "local" in caught.value.hint
    with pytest.raises(jrm.RequestError, match="did you mean 'local'"):
        bare.pilot("locl")
    with pytest.raises(jrm.RequestError, match="cores: 9999"):
        bare.pilot("local", cores=9999)
    assert not bare.pilots()


def test_who_waits_for_a_task_is_told(bare: Session, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The task may wait for a better pilot of that name, but its waiter hears at once that there is none."""
    (tmp_path / "file").write_text("in the way")
    pilot = bare.pilot("local", cores=1, name="q", sandbox=str(tmp_path / "file"))
    assert pilot.wait(timeout=15) == "FAILED"
    with pytest.raises(jrm.RequestError, match=f"pilot: p.0 has ended .*{tmp_path}"):
        bare.submit(jrm.Task("/bin/true", pilot=pilot.uid))
    task = bare.submit(jrm.Task("/bin/true", pilot="q"))
    assert len(bare.pilots()) == 1, "another one cannot help"
    with pytest.raises((TimeoutError, jrm.TaskError)) as caught:
        task.result(4)
    said = capfd.readouterr().err + str(caught.value) + task.reason
    assert "t.0 of session" in said, said
    assert "asks for pilot q, which has ended; start another of that name" in said
    assert "pilot" in task.reason
    assert str(task.explain())


def test_who_waits_for_what_nobody_offers_is_told(session: Session, capfd: pytest.CaptureFixture[str]) -> None:
    task = session.submit(jrm.Task("/bin/true", requires="dataset:x"))
    assert task.wait(4) == "WAITING"
    assert "t.0 of session" in (said := capfd.readouterr().err), said
    assert "requires dataset:x, which no pilot offers" in said
    session.pilots()[0].add_capability("dataset:x")
    assert task.wait(20) == "DONE"


def test_memory_that_is_not_there_is_said(bare: Session) -> None:
    pilot = bare.pilot("local", cores=1, mem="999TiB")
    assert pilot.wait(timeout=20) == "ACTIVE"
    assert "mem: 999.0 TiB asked for, " in pilot.reason
    assert pilot.facts["shortage"] in pilot.reason


def test_a_sandbox_that_cannot_be_made(bare: Session, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for bad in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        pilot = bare.pilot("local", cores=1, sandbox=str(bad))
        assert pilot.wait(timeout=15) == "FAILED", pilot.reason
        assert str(bad) in pilot.reason
        assert pilot.cause is not None
    good = bare.pilot("local", cores=1)
    assert good.wait(timeout=20) == "ACTIVE"
    assert bare.submit(jrm.Task("/bin/true")).wait(20) == "DONE"


def test_a_waiter_of_a_pilot_is_told_when_its_agent_dies(session: Session, capfd: pytest.CaptureFixture[str]) -> None:
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    assert session._replica.wait(lambda: task.state == "RUNNING", 20)
    pilot = session.pilots()[0]
    for process in (psutil.Process(int(pilot.job_id)), *psutil.Process(int(pilot.job_id)).children(recursive=True)):
        process.kill()
    assert session._replica.wait(lambda: pilot.state.final, 20), pilot.state
    assert pilot.cause == "AGENT_LOST"
    assert pilot.reason
    assert not task.wait(3).final
    assert "no pilot" in capfd.readouterr().err
    # A new pilot takes the task up as a new attempt: its end was the machinery's, not its own.
    assert session.pilot("local", cores=1).wait(timeout=20) == "ACTIVE"
    assert session._replica.wait(lambda: task.state == "RUNNING", 20)
    assert task.attempt == 2
    task.cancel()
    assert task.wait(10) == "CANCELED"


def test_a_killed_agent_comes_back_and_the_story_says_so(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    never = session.submit(jrm.Task("/bin/sleep", ["600"], restart="never"))
    assert session._replica.wait(lambda: task.state == "RUNNING" and never.state == "RUNNING", 20)
    guard = psutil.Process(int(session.pilots()[0].job_id))
    agent = next(child for child in guard.children() if "jupyter_rm.agent" in child.cmdline())
    agent.send_signal(signal.SIGKILL)
    assert session._replica.wait(lambda: task.attempt == 2 and task.state == "RUNNING", 20), task.story()
    assert never.wait(20) == "FAILED"
    assert never.cause == "AGENT_LOST"
    assert "agent" in str(task.story())
    task.cancel()
    assert task.wait(10) == "CANCELED"


def test_a_frozen_agent_is_silent_not_dead(session: Session) -> None:
    """Silence is never an end: a stopped agent is flagged, and goes on where it was."""
    task = session.submit(jrm.Shell("mkfifo gate; echo one; read x < gate; echo two $x"))
    assert session._replica.wait(lambda: task.state == "RUNNING", 20)
    pilot = session.pilots()[0]
    guard = psutil.Process(int(pilot.job_id))
    agent = next(child for child in guard.children() if "jupyter_rm.agent" in child.cmdline())
    agent.send_signal(signal.SIGSTOP)
    try:
        assert not pilot.state.final
        assert not task.wait(1).final
    finally:
        agent.send_signal(signal.SIGCONT)
    assert task.sandbox is not None
    (task.sandbox / "gate").write_text("three\n")
    assert task.result(20) == "one\ntwo three\n"
    assert task.attempt == 1
    assert pilot.state == "ACTIVE"


@pytest.mark.parametrize("how", ["guard", "agent and guard"])
def test_nothing_outlives_the_root_of_a_pilot(session: Session, tmp_path: Path, how: str) -> None:
    """G16: children that forked twice and made a session of their own end with the pilot, too."""
    pids = tmp_path / "pids"
    line = f"setsid sh -c 'echo $$ >> {pids}; (sleep 600 & echo $! >> {pids}; exec setsid sleep 601)' & sleep 602"
    tasks = session.submit([jrm.Shell(line), jrm.Shell(f"nohup sleep 603 & echo $! >> {pids}; sleep 604")])
    eventually(lambda: pids.exists() and len(pids.read_text().split()) >= 3, "the daemons run", 20)
    assert session._replica.wait(lambda: all(task.state == "RUNNING" for task in tasks), 20)
    guard = psutil.Process(int(session.pilots()[0].job_id))
    below = guard.children(recursive=True)
    daemons = [int(pid) for pid in pids.read_text().split()]
    assert len(below) >= 5
    if how != "guard":
        for child in guard.children():
            child.send_signal(signal.SIGKILL)
    guard.send_signal(signal.SIGKILL)

    def left() -> list[int]:
        found = [process.pid for process in below if process.is_running() and process.status() != "zombie"]
        found += [pid for pid in daemons if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
        return found

    eventually(lambda: not left(), f"no descendant of the pilot is left: {left()}", 10)


def test_a_pilot_that_ruins_what_it_gets_is_set_aside(bare: Session, tmp_path: Path) -> None:
    """Its sandbox is lost under it, so everything fails at once there; the other pilot does the work (G22)."""
    room = tmp_path / "room"
    bad = bare.pilot("local", cores=2, sandbox=str(room), name="bad")
    assert bad.wait(timeout=30) == "ACTIVE"
    shutil.rmtree(room)
    room.write_text("in the way")
    good = bare.pilot("local", cores=2, name="good")
    assert good.wait(timeout=30) == "ACTIVE"
    bulk = bare.array(jrm.Task("/bin/true", ["{n}"]), n=range(2000))
    assert bulk.wait(60), bulk.counts()
    counts = bulk.counts()
    assert 0 < counts["FAILED"] <= 20, counts
    assert counts["DONE"] == 2000 - counts["FAILED"]
    assert "set aside" in bad.reason
