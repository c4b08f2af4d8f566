"""Journals that earlier versions wrote are opened, folded and taken up for ever; one directory a version.

A new one is made when a version is released (``-pre``: before that); none is ever changed or removed.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from world_kit import end_world, set_home

import jupyter_rm as jrm
from jupyter_rm.client import offline

OLD = sorted((Path(__file__).resolve().parent.parent / "journals").iterdir())


def unpacked(version: Path, into: Path) -> Path:
    into.mkdir(parents=True, exist_ok=True)
    for packed in version.glob("*.gz"):
        made = into / packed.name.removesuffix(".gz")
        made.write_bytes(gzip.decompress(packed.read_bytes()))
        made.chmod(0o600)
    return into / "journal"


@pytest.fixture(params=OLD, ids=lambda path: str(path.name))
def version(request: pytest.FixtureRequest) -> Path:
    """The directory of one version."""
    path: Path = request.param
    return path


def test_it_is_folded_to_what_it_meant_then(version: Path, tmp_path: Path) -> None:
    found = offline.replay(str(unpacked(version, tmp_path)))
    assert found.report.state in ("clean", "recovered"), found.report
    told = json.loads((version / "told.json").read_text())
    assert found.as_dict()["sessions"] == told["sessions"]
    assert any("exit code 3" in line for line in found.story("old", "t.1.0"))


@pytest.fixture
def house(version: Path, tmp_path: Path) -> Iterator[Path]:
    """A home with the journal of that version."""
    home = tmp_path / "home"
    unpacked(version, home / "default")
    for folder in (home, home / "default"):
        folder.chmod(0o700)
    set_home(home)
    yield home
    end_world(home)


def test_a_broker_of_today_takes_it_up(house: Path) -> None:
    del house
    assert {line.name: line.state for line in jrm.sessions()} == {"old": "closed", "open": "open"}
    old = jrm.open("0-old")
    assert old["t.3"].results(timeout=60) == [8, 81]
    assert old["t.1"].cause == "TASK_EXIT"
    again = jrm.open("open")
    assert again["t.0"].counts() == {"DONE": 2}
    more = again.submit(jrm.Task("true"))
    assert more.wait(90) == "DONE", more.explain()
