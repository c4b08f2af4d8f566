"""An error that nobody expected in the thread of a site: its pilots say so, and end or are tried again."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from remote_kit import until

from jupyter_rm.broker import watched
from jupyter_rm.broker.faraway import Faraway
from jupyter_rm.broker.places import SUBMITTED, Places
from jupyter_rm.broker.site import Site
from jupyter_rm.broker.sites import parse
from jupyter_rm.model.effects import Input, JobChanged, StartPilot, StepTaken
from jupyter_rm.model.facts import PilotSpec
from jupyter_rm.model.states import Cause
from jupyter_rm.runtime.home import Home

NAME = "slurm+ssh://me@nowhere"


class Rig:
    """A site that needs no login: what its pilots do is the test's."""

    def __init__(self, home: Home) -> None:
        self.said: list[Input] = []
        self.places = Places(home)
        nothing: Any = None
        self.site = Site(
            *(parse(NAME), nothing, self.places, nothing, nothing),
            *(self.said.append, lambda _: None, lambda _: True, nothing),
        )
        self.site._reach = lambda: None  # type: ignore[method-assign]
        self.site._look_around = lambda: None  # type: ignore[method-assign]
        self.site._ask_status = lambda: None  # type: ignore[method-assign]
        self.site.start()

    def order(self, pilot: int, phase: str = "") -> StartPilot:
        made = StartPilot("0-s", pilot, PilotSpec(site=NAME), bytes([pilot]) * 16)
        if phase:
            record = self.places.open(made)
            record.phase, record.job_id = phase, "7"
            self.places.save("0-s", pilot, record)
        return made

    def ends(self, pilot: int) -> list[JobChanged]:
        return [one for one in self.said if isinstance(one, JobChanged) and one.pilot == pilot and not one.alive]

    def steps(self, pilot: int) -> list[str]:
        return [one.text for one in self.said if isinstance(one, StepTaken) and one.pilot == pilot]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setenv("JUPYTER_RM_HOME", str(tmp_path))
    monkeypatch.setattr(watched, "STUMBLE_FIRST", 0.01)
    made = Rig(Home.locate())
    yield made
    made.site.stop()
    made.site.join(10)
    assert not made.site.is_alive()


def test_a_pilot_whose_looking_after_fails_says_so_and_ends_or_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = threading.Event()
    turns: list[int] = []

    def turn(self: Faraway) -> None:
        turns.append(self.key[1])
        if self.key[1] == 2:
            raise OSError(errno.ENOSPC, "No space left on device", "/home/me/remote.json")
        if not fixed.is_set():
            raise ZeroDivisionError("nobody thought of that")
        self.due = float("inf")

    monkeypatch.setattr(Faraway, "turn", turn)
    rig.site.start_pilot(rig.order(1))
    (end,) = until(lambda: rig.ends(1), lambda: str(rig.said))
    assert end.cause == Cause.BOOT_STEP_FAILED
    assert "ZeroDivisionError: nobody thought of that [JRM-R13]; next: please report it" in end.reason
    assert turns.count(1) == watched.STUMBLES

    # One that was submitted may be running: it is not given up, and mended it goes on as if nothing had been.
    rig.site.start_pilot(rig.order(3, SUBMITTED))
    until(lambda: turns.count(3) > 2, "it is not tried again")
    assert "[JRM-R13]" in rig.steps(3)[-1] and "; again in" in rig.steps(3)[-1]
    fixed.set()
    count = turns.count(3)
    until(lambda: turns.count(3) > count or not rig.site._pilots, "it is not tried again once it is mended")
    assert not rig.ends(3)

    # ... unless nobody wants it any more: then it must not hang for ever.
    rig.site.start_pilot(rig.order(2, SUBMITTED))
    until(lambda: turns.count(2) > watched.STUMBLES, "it is not tried again", 90)
    rig.site.end_pilot(("0-s", 2))
    (end,) = until(lambda: rig.ends(2), lambda: str(rig.said[-3:]), 90)
    assert end.cause == Cause.USER_CANCEL and "No space left on device" in end.reason
    assert "[JRM-R09]" in end.reason and "job 7 may still be there" in end.reason


def test_an_order_that_cannot_be_taken_in_ends_its_pilot_and_not_the_thread(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faraway, "turn", lambda self: setattr(self, "due", float("inf")))
    rig.places._path("0-s", 4).write_bytes(b"{not json")
    rig.site.start_pilot(rig.order(4))
    (end,) = until(lambda: rig.ends(4), "nothing is said of a record that cannot be read")
    assert "[JRM-R13]" in end.reason
    rig.site.start_pilot(rig.order(5))
    until(lambda: ("0-s", 5) in rig.site._pilots, "the thread is gone")
