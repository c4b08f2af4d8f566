"""Files to where tasks run on this machine, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

import jupyter_rm as jrm
from jupyter_rm.client.session import Session
from jupyter_rm.model.errors import RequestError


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


def test_what_cannot_be_staged_is_said(bare: Session, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no pilot"):
        bare.stage(tmp_path)
    with pytest.raises(RequestError, match="not there"):
        bare.stage(tmp_path / "x")
