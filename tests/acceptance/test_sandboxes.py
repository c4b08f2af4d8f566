"""The tree of directories is as its paths say, and a directory that cannot be used is told (RP-15)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jupyter_rm as jrm
from jupyter_rm.client.session import Session


def test_the_tree_is_as_said(session: Session, home: Path) -> None:
    bulk = session.array(jrm.Shell("pwd; echo {n} > mine"), n=range(3))
    assert bulk.wait(20)
    pilot = session.pilots()[0]
    assert pilot.sandbox is not None
    assert pilot.sandbox.is_dir()
    assert home in pilot.sandbox.parents
    assert session.name in str(pilot.sandbox)
    for n, task in enumerate(bulk):
        assert task.sandbox is not None
        assert pilot.sandbox in task.sandbox.parents
        assert task.stdout() == f"{task.sandbox}\n"
        assert (task.sandbox / "mine").read_text() == f"{n}\n"
        assert sorted(path.name for path in task.files()) == ["mine", "stderr", "stdout"]
    assert len({task.sandbox for task in bulk}) == 3


def test_overrides(bare: Session, tmp_path: Path) -> None:
    place = tmp_path / "pilot place"
    pilot = bare.pilot("local", cores=1, sandbox=str(place))
    assert pilot.wait(timeout=20) == "ACTIVE", pilot.reason
    assert pilot.sandbox == place
    absolute = bare.submit(jrm.Shell("pwd; touch here", sandbox=str(tmp_path / "own")))
    relative = bare.submit(jrm.Shell("pwd; touch here", sandbox="shared/one"))
    assert absolute.result(20) == f"{tmp_path}/own\n"
    assert (tmp_path / "own" / "here").exists()
    assert absolute.sandbox == tmp_path / "own"
    assert relative.result(20) == f"{place}/shared/one\n"
    assert (place / "shared" / "one" / "here").exists()
    assert relative.sandbox == place / "shared" / "one"


def test_two_sessions_in_one_directory_do_not_write_over_each_other(bare: Session, tmp_path: Path) -> None:
    place = tmp_path / "shared"
    first = bare.pilot("local", cores=1, sandbox=str(place))
    task = bare.submit(jrm.Shell("echo first; echo 1 >result"))
    assert task.wait(30) == "DONE", task.reason
    with jrm.open(f"{bare.name}-other") as other:
        pilot = other.pilot("local", cores=1, sandbox=str(place))
        second = other.submit(jrm.Shell("echo second; ls"))
        assert second.wait(30) == "DONE", second.reason
        assert pilot.sandbox is not None and pilot.sandbox.parent == place
        assert "result" not in second.stdout().split()
    assert first.sandbox == place
    assert task.stdout() == "first\n" and task.sandbox is not None and (task.sandbox / "result").read_text() == "1\n"
    # Another pilot of the session is at home there.
    again = bare.pilot("local", cores=1, sandbox=str(place))
    assert again.wait(timeout=30) == "ACTIVE" and again.sandbox == place


def test_output_goes_where_it_was_asked_for(session: Session, tmp_path: Path) -> None:
    task = session.submit(jrm.Shell("cat; echo e >&2", stdin=str(tmp_path / "in"), stdout="out.txt", stderr="err.txt"))
    assert task.wait(20) == "FAILED"
    assert "stdin" in task.reason
    (tmp_path / "in").write_text("read\n")
    task = session.submit(jrm.Shell("cat; echo e >&2", stdin=str(tmp_path / "in"), stdout="out.txt", stderr="err.txt"))
    assert task.result(20) == "read\n"
    assert task.sandbox is not None
    assert (task.sandbox / "err.txt").read_text() == "e\n"
    assert task.stderr() == "e\n"


def test_an_unusable_sandbox_is_named(session: Session, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    # Root may write anywhere, so a file in the way and a filesystem without directories stand for "no".
    for bad in (str(tmp_path / "file"), str(tmp_path / "file" / "below"), "/proc/nowhere"):
        task = session.submit(jrm.Task("/bin/true", sandbox=bad))
        assert task.wait(20) == "FAILED"
        assert task.cause == "START_FAILED"
        assert bad in task.reason
        with pytest.raises(jrm.TaskError) as caught:
            task.result(0)
        assert caught.value.hint
    assert (tmp_path / "file").read_text() == "in the way"
    assert session.submit(jrm.Task("/bin/true")).wait(20) == "DONE"


def test_where_calls_run_and_what_their_sandbox_is(session: Session) -> None:
    """They share the pilot's directory; what they print gets one of their own, not named before it is there."""
    pilot = session.pilots()[0]
    assert pilot.sandbox is not None
    silent, loud, broken = session.call(os.getcwd), session.call(print, "hello"), session.call(int, "x")
    assert silent.result(20) == str(pilot.sandbox)
    assert silent.sandbox is None
    assert silent.files() == []
    assert loud.wait(20) == "DONE"
    assert loud.sandbox is not None
    assert [path.name for path in loud.files()] == ["stdout"]
    assert broken.wait(20) == "FAILED"
    assert broken._error().hint == f"jrm story {broken.uid} shows what happened"
    mine = session.map(os.getenv, ["JRM_SANDBOX"], sandbox="mine")
    assert mine.results(20) == [str(pilot.sandbox / "mine")]
    assert mine[0].sandbox == pilot.sandbox / "mine"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("grpe", "grep"),
        ("no-such-program-anywhere", "not found"),
        ("/usr/bin/no-such-program", "not found"),
        ("./run.sh", "not found"),
    ],
)
def test_a_missing_program_is_named_with_a_guess(session: Session, name: str, says: str) -> None:
    task = session.submit(jrm.Task(name))
    assert task.wait(20) == "FAILED"
    assert task.cause == "START_FAILED"
    assert name in task.reason
    assert says in task.reason


def test_a_program_without_x_and_one_of_another_machine(session: Session, tmp_path: Path) -> None:
    plain, rubbish, orphan = tmp_path / "plain", tmp_path / "rubbish", tmp_path / "orphan"
    plain.write_text("#!/bin/sh\n")
    rubbish.write_bytes(b"\x00\x01\x02")
    orphan.write_text("#!/no/such/interpreter\n")
    rubbish.chmod(0o755)
    orphan.chmod(0o755)
    tasks = session.submit([jrm.Task(str(path)) for path in (plain, rubbish, orphan)])
    assert tasks.wait(20)
    assert tasks.counts() == {"FAILED": 3}
    assert "chmod" in tasks[0].reason
    assert "neither a program" in tasks[1].reason
    assert "interpreter" in tasks[2].reason


def test_deleted_sandbox_of_a_pilot(session: Session) -> None:
    """Somebody cleans up under a living pilot: tasks make their directories again, or say what is wrong."""
    pilot = session.pilots()[0]
    assert pilot.sandbox is not None
    subprocess.run(["rm", "-rf", str(pilot.sandbox)], check=True)
    task = session.submit(jrm.Task(sys.executable, ["-c", "print(6*7)"]))
    assert task.wait(20).final
    if task.state == "DONE":
        assert task.stdout() == "42\n"
    else:
        assert str(pilot.sandbox) in task.reason
    assert session.call(os.getcwd).result(20)
