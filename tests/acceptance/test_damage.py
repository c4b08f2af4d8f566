"""Damaged, newer and missing files: said clearly, and nothing is silently empty (G4, G6, G20)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from world_kit import eventually, set_home

import jupyter_rm as jrm
from acceptance.conftest import end_all
from jupyter_rm.client import admin, connection
from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session
from jupyter_rm.runtime import journal_store
from jupyter_rm.runtime.home import Home
from jupyter_rm.runtime.journal import Journal


def forget_everything() -> None:
    connection.close_all()
    sessions._open.clear()


def finished_work(name: str = "study") -> list[str]:
    """Run ten tasks, end the pilot and the broker, and return what the tasks wrote."""
    session = jrm.open(name)
    assert session.pilot("local", cores=2).wait(timeout=20) == "ACTIVE"
    bulk = session.array(jrm.Task("/bin/echo", ["{n}"]), n=range(10))
    said = bulk.results(30)
    session.pilots()[0].cancel()
    assert session._replica.wait(lambda: session.pilots()[0].state.final, 20)
    assert admin.stop(force=True)
    forget_everything()
    return said


def journal_files() -> list[Path]:
    journal = Home.locate().journal
    return [path for path in journal.parent.iterdir() if path.name.startswith(journal.name)]


def flip(path: Path, at: int, count: int = 64) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        data = file.read(count)
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in data))


def middle() -> None:
    path = Home.locate().journal
    flip(path, path.stat().st_size // 2)


def head() -> None:
    flip(Home.locate().journal, 0, 100)


def cut() -> None:
    path = Home.locate().journal
    os.truncate(path, path.stat().st_size // 2)


def emptied() -> None:
    for path in journal_files():
        if path.name == Home.locate().journal.name:
            os.truncate(path, 0)


def gone() -> None:
    Home.locate().journal.unlink()


@pytest.mark.parametrize("harm", [middle, head, cut, emptied, gone])
def test_a_damaged_journal_is_told(own_home: Path, harm: Callable[[], None], capfd: pytest.CaptureFixture[str]) -> None:
    finished_work()
    harm()
    try:
        session = jrm.open("study", create=False)
        known = len(session.tasks())
        done = session.counts().get("DONE", 0)
    except jrm.JrmError as error:
        assert error.hint
        known = done = -1
    if known == 10 and done == 10:
        return  # the damage hit nothing that matters: all is there
    told = capfd.readouterr().err
    assert "JRM-D20" in told, f"nobody is told: {told!r}"
    assert "lost" in told
    status = subprocess.run(
        [sys.executable, "-m", "jupyter_rm", "doctor"], capture_output=True, text=True, timeout=30, check=False
    )
    assert "salvaged" in status.stdout or "rows-missing" in status.stdout
    # The damaged file is kept for those who want to look.
    assert [path for path in own_home.rglob("*") if "damaged" in path.name]
    # And work goes on.
    again = jrm.open("after")
    assert again.submit(jrm.Task("/bin/echo", ["on"])).result(20) == "on\n"


def test_work_that_runs_survives_damage_of_the_journal(own_home: Path, tmp_path: Path) -> None:
    session = jrm.open("study")
    pilot = session.pilot("local", cores=1)
    assert pilot.wait(timeout=20) == "ACTIVE"
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    task = session.submit(jrm.Shell(f"read x < {gate}; echo $x"))
    assert session._replica.wait(lambda: task.state == "RUNNING", 20)
    assert admin.stop(force=True)
    forget_everything()
    path = Home.locate().journal
    # The newest rows: those about the run. What came before is salvaged.
    flip(path, path.stat().st_size - 4096, 2000)
    gate.write_text("through\n")
    again = jrm.open("study", create=False)
    task = again["t.0"]
    assert task.wait(30) == "DONE", task.reason
    assert task.result() == "through\n"


@pytest.mark.parametrize("how", ["flip", "cut", "rubbish"])
def test_an_agent_starts_over_a_damaged_spool(own_home: Path, how: str) -> None:
    session = jrm.open("study")
    pilot = session.pilot("local", cores=1)
    assert pilot.wait(timeout=20) == "ACTIVE", pilot.reason
    assert session.array(jrm.Task("/bin/echo", ["{n}"]), n=range(20)).wait(20)
    place = next(own_home.rglob("p.0/spool"))
    guard = psutil.Process(int(pilot.job_id))
    agent = next(child for child in guard.children() if "jupyter_rm.agent" in child.cmdline())
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    assert session._replica.wait(lambda: task.state == "RUNNING", 20)
    guard.send_signal(signal.SIGSTOP)  # so that the damage is done before the agent comes back
    agent.send_signal(signal.SIGKILL)
    for path in place.glob("*.spool"):
        if how == "flip":
            flip(path, path.stat().st_size // 2, 8)
        elif how == "cut":
            os.truncate(path, path.stat().st_size - 3)
        else:
            path.write_bytes(os.urandom(5000))
    guard.send_signal(signal.SIGCONT)
    assert session._replica.wait(lambda: task.attempt == 2 and task.state == "RUNNING", 30), (
        f"{task.state} {task.reason}; {pilot.state} {pilot.reason}"
    )
    assert pilot.state == "ACTIVE"
    assert session["t.0"].counts() == {"DONE": 20}
    task.cancel()
    assert task.wait(15) == "CANCELED"


def test_a_journal_of_a_newer_version(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home.locate()
    with monkeypatch.context() as newer:
        newer.setattr(journal_store, "FORMAT", journal_store.FORMAT + 1)
        Journal.open(home.journal).close()
    before = {path: path.read_bytes() for path in journal_files()}
    with pytest.raises(jrm.JrmError, match="newer version") as caught:
        jrm.open("study")
    assert caught.value.hint
    assert {path: path.read_bytes() for path in journal_files()} == before


def test_a_second_broker_steps_back(own_home: Path) -> None:
    session = jrm.open("study")
    status = admin.status()
    assert status is not None
    done = subprocess.run(
        [sys.executable, "-m", "jupyter_rm.broker", "--ready-fd", "1"], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0
    assert done.stdout == b"ok\n"
    again = admin.status()
    assert again is not None
    assert again["pid"] == status["pid"]
    assert session.counts() == {}


def test_a_broker_of_another_version(own_home: Path) -> None:
    """A client of a newer version says what to do, and does not hang."""
    session = jrm.open("study")
    assert session.counts() == {}
    code = """
from jupyter_rm.model import messages
from jupyter_rm.client import line
def newer(req, **fields):
    return messages.Hello(req, **{**fields, "version": messages.PROTOCOL + 1})
line.Hello = newer
import jupyter_rm as jrm
try:
    jrm.open("study")
except jrm.ProtocolError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert "JRM-N13" in done.stdout, done.stderr
    assert "jrm broker stop" in done.stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    place = tmp_path / "small"
    place.mkdir(mode=0o700)
    return place


def fill(place: Path) -> Path:
    """Take all space that is left."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 1 << 20
        while size >= 512:
            try:
                if file.write(b"\0" * size) < size:
                    size //= 2
            except OSError:
                size //= 2
    return ballast


def on_small_disk(body: Callable[[Path], None], place: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", str(place)], check=True)
    old = os.environ["JUPYTER_RM_HOME"]
    home = place / "home"
    home.mkdir(mode=0o700)
    set_home(home)
    try:
        body(place)
    finally:
        (place / "ballast").unlink(missing_ok=True)
        set_home(home)
        try:
            end_all(home)
        finally:
            set_home(Path(old))
            subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting needs root")
def test_a_full_disk(small_disk: Path, own_home: Path, tmp_path: Path) -> None:
    """New work is refused, what runs goes on, and its end is told when there is space again."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def body(place: Path) -> None:
        session = jrm.open("full")
        pilot = session.pilot("local", cores=2, sandbox=str(tmp_path / "work"))
        assert pilot.wait(timeout=20) == "ACTIVE", pilot.reason
        task = session.submit(jrm.Shell(f"read x < {gate}; echo $x"))
        assert session._replica.wait(lambda: task.state == "RUNNING", 20)
        ballast = fill(place)
        with pytest.raises(jrm.SiteError) as caught:
            session.array(jrm.Task("/bin/echo", ["{n}" * 20]), n=[os.urandom(100).hex() for _ in range(5_000)])
        assert caught.value.code == "JRM-D09", caught.value
        assert caught.value.hint
        gate.write_text("went on\n")
        out = tmp_path / "work" / "000000" / "000000.1" / "stdout"
        eventually(lambda: out.exists() and out.read_text() == "went on\n", "the task goes on")
        assert not task.wait(1).final or task.state == "DONE"
        ballast.unlink()
        assert task.wait(30) == "DONE", task.reason
        assert task.result() == "went on\n"
        assert task.attempt == 1
        assert session.submit(jrm.Task("/bin/echo", ["new"])).result(20) == "new\n"

    on_small_disk(body, small_disk)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting needs root")
def test_a_full_disk_under_the_sandboxes_only(session: Session, small_disk: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=20", "tmpfs", str(small_disk)], check=True)
    try:
        pilot = session.pilot("local", cores=1, sandbox=str(small_disk / "work"), name="small")
        assert pilot.wait(timeout=20) == "ACTIVE", pilot.reason
        bulk = session.submit([jrm.Task("/bin/true", pilot="small")] * 30)
        assert bulk.wait(30), bulk.counts()
        failed = bulk.failed()
        assert len(failed) > 5
        assert {task.cause for task in failed} == {"DISK_FULL"}
        assert "space" in failed[0].reason
        assert session.submit(jrm.Task("/bin/true", pilot="p.0")).wait(20) == "DONE"
        pilot.cancel()
        assert session._replica.wait(lambda: pilot.state.final, 20)
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=True)
