"""A submission that ends in words no rule knows: the job is looked for, tried again, and after that it was refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from zorp_kit import Zorp

from jupyter_rm.broker.faraway import RESOLVE_TIMES, SAME_WORDS, Faraway
from jupyter_rm.broker.places import NEW, SUBMITTED, SUBMITTING, Record
from jupyter_rm.model.effects import Input, JobChanged, StartPilot, StepTaken
from jupyter_rm.model.facts import PilotSpec
from jupyter_rm.runtime.connect import Connection, Nobody, connect

TOKEN = "jrm0123456789"


class Desk:
    """What a pilot needs of its site, over a Zorp that really runs."""

    def __init__(self, zorp: Zorp, connection: Connection) -> None:
        self.connection = connection
        self.batch, self.system, self.site = zorp.site, zorp.site.system, "zorp://"
        self.told: list[Input] = []
        self.tell = self.told.append
        self.places = SimpleNamespace(save=lambda *_: None, forget_keys=lambda *_: None, broker="b")

    def choices(self, about: str) -> list[str]:
        return []

    def reached(self) -> tuple[Connection, None]:
        return self.connection, None

    def hurry(self, seconds: float) -> None: ...

    def tidy(self, record: Record) -> None: ...

    def call(self, what: Any) -> None: ...


@pytest.fixture
def here() -> Iterator[Connection]:
    with connect("local", Nobody()) as connection:
        yield connection


@pytest.fixture
def zorp(tmp_path: Path, here: Connection) -> Iterator[Zorp]:
    made = Zorp(tmp_path / "zorp", here)
    yield made
    made.site.cancel([job.id for job in made.site.queue().mine])


@pytest.fixture
def pilot(zorp: Zorp, here: Connection, tmp_path: Path) -> Faraway:
    (tmp_path / "spec").write_text("")
    (tmp_path / "job.sh").write_text("#!/bin/sh\nexec sleep 60\n")
    record = Record("zorp://", TOKEN, "", "", "", "", place=str(tmp_path))
    return Faraway(Desk(zorp, here), StartPilot("s", 0, PilotSpec(), b"k"), record)  # type: ignore[arg-type]


def submitted(pilot: Faraway) -> None:
    """Submit once more, and look for the job as often as it takes to conclude something."""
    pilot._submit({"name": "p", "token": TOKEN, "workdir": pilot.record.place})
    for _ in range(RESOLVE_TIMES):
        assert pilot.record.phase == SUBMITTING
        pilot._resolve()


def test_a_refusal_in_unknown_words_is_told_verbatim_after_a_few_tries(zorp: Zorp, pilot: Faraway) -> None:
    (zorp.place / "grumpy").write_text("you must say please, see https://zorp.example/manners")
    for _ in range(SAME_WORDS):
        assert not pilot.over
        submitted(pilot)
    assert len(zorp.named("zput")) == SAME_WORDS
    assert pilot.over
    ends = [one for one in pilot._site.told if isinstance(one, JobChanged)]  # type: ignore[attr-defined]
    assert "you must say please" in ends[-1].reason and "[JRM-S31]; next: it said so 3 times" in ends[-1].reason


def test_each_submission_is_looked_for_as_long_as_the_first(zorp: Zorp, pilot: Faraway) -> None:
    """A second submission may be slow to be listed, too."""
    (zorp.place / "grumpy").write_text("not today")
    submitted(pilot)
    assert pilot.record.phase == NEW
    looks = len(zorp.named("zlook"))
    submitted(pilot)
    assert len(zorp.named("zlook")) == looks + RESOLVE_TIMES


def test_other_words_each_time_are_no_refusal_and_a_job_in_the_end_is_one(zorp: Zorp, pilot: Faraway) -> None:
    for number in range(SAME_WORDS + 1):
        (zorp.place / "grumpy").write_text(f"not today, {number}")
        submitted(pilot)
        assert not pilot.over and pilot.record.phase == NEW
    (zorp.place / "grumpy").unlink()
    pilot._submit({"name": "p", "token": TOKEN, "workdir": pilot.record.place})
    assert pilot.record.phase == SUBMITTED
    steps = [one for one in pilot._site.told if isinstance(one, StepTaken)]  # type: ignore[attr-defined]
    assert steps[-1].status == "ok"
