"""Files to where tasks run on this machine, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

import jupyter_rm as jrm
from jupyter_rm.client.session import Session
from jupyter_rm.model.errors import RequestError, SiteError


def test_a_shared_file_is_seen_by_every_task(session: Session, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("first\n")
    where = session.stage(data)
    tasks = session.array(jrm.Shell(f"cat {where}; echo $N > n.out", environment={"N": "{n}"}), n=range(5))
    assert tasks.results() == ["first\n"] * 5
    data.write_text("second\n")
    assert session.stage(data, tmp_path) == ["../../shared/data.txt", f"../../shared/{tmp_path.name}"]
    assert session.submit(jrm.Task("cat", [where])).result(timeout=30) == "second\n"
    (brought,) = session.files(tasks[3], "*.out", to=tmp_path / "back")
    assert brought.read_text() == "3\n"
    assert session.files(tasks[3].uid, "*.nothing", to=tmp_path / "back") == []


def test_a_pilot_is_named_by_itself_its_uid_or_its_name(session: Session, tmp_path: Path) -> None:
    pilot = session.pilots()[0]
    ways = [pilot, pilot.uid, pilot.name]
    assert [jrm.Task("x", pilot=way).pilot for way in ways] == [pilot.uid, pilot.uid, pilot.name]
    assert session.submit(jrm.Task("true", pilot=pilot)).wait(30) == "DONE"
    (tmp_path / "data").write_text("x")
    assert len({session.stage(tmp_path / "data", pilot=way) for way in ways}) == 1
    for act in (
        lambda: session.stage(tmp_path / "data", pilot="p.99"),
        lambda: session.prepare_env("fit", ["six"], pilot="nobody"),
    ):
        with pytest.raises(RequestError, match=r"pilot: '(p\.99|nobody)' is none of this session"):
            act()
    with pytest.raises(RequestError, match=r"pilot: .* is not text"):
        jrm.Task("x", pilot=session.submit(jrm.Task("true")))


def test_what_cannot_be_staged_is_said(bare: Session, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no pilot"):
        bare.stage(tmp_path)
    with pytest.raises(RequestError, match="not there"):
        bare.stage(tmp_path / "x")


def test_what_is_shared_with_more_is_named_by_a_place(session: Session, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("wide\n")
    assert session.stage(data, to="session") == "session:///data.txt"
    assert session.stage(data, to="resource") == "resource:///data.txt"
    both = ["session:///data.txt > a", {"source": "resource:///data.txt", "target": "b", "action": "link"}]
    assert session.submit(jrm.Shell("cat a b", input_staging=both)).result(timeout=30) == "wide\nwide\n"
    with pytest.raises(RequestError, match="no shared directory"):
        session.stage(data, to="everywhere")


def test_files_by_hand_on_this_machine(session: Session, tmp_path: Path) -> None:
    task = session.submit(jrm.Shell("mkdir -p d/e; echo one > d/e/f; echo two > g"))
    assert task.wait(30) == "DONE"
    there = session.fs("p.0")
    assert [str(entry) for entry in there.ls(f"task://{task.uid}/")] == ["d/", "g", "stderr", "stdout"]
    assert there.read(f"task://{task.uid}/g") == b"two\n"
    assert there.read("pilot:///nothing") == b""
    assert (there.get(f"task://{task.uid}/d", tmp_path) / "e/f").read_text() == "one\n"
    assert there.put(tmp_path / "d", "pilot:///") == there.path("pilot:///d")
    assert session.submit(jrm.Shell("cat ../../shared/d/e/f")).result(timeout=30) == "one\n"
    assert there.mkdir("session:///made") == there.path("session:///made")
    there.remove("session:///made")
    there.remove("session:///made")
    with pytest.raises(SiteError, match="made"):
        there.ls("session:///made")
    with pytest.raises(RequestError, match="no pilot or site"):
        session.fs("slurm+ssh://elsewhere")
    with pytest.raises(RequestError, match="no place there"):
        there.ls("client:///etc")
