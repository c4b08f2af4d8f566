"""The start program: one agent at a time, its end written last, and the truth about it whoever asks."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Iterator

import psutil
import pytest
from bootstrap_kit import PATIENT_S, Account, Place
from connect_kit import Bed, eventually

from jupyter_rm.runtime.bootstrap import Environment

_numbers = itertools.count()


@pytest.fixture(scope="module")
def ready(bed: Bed) -> Iterator[tuple[Account, Environment]]:
    """An account with an environment in it."""
    account = Account(bed)
    yield account, account.ensure()
    account.close()


@pytest.fixture
def place(ready: tuple[Account, Environment]) -> Iterator[Place]:
    """A pilot's place on the target."""
    account, made = ready
    place = Place(account, made, f"p.{next(_numbers)}")
    yield place
    account.kill(str(place.path))


def agent_of(place: Place) -> psutil.Process | None:
    """Return the agent itself, below its guard, None when there is none."""
    for process in place.account.processes("-m jupyter_rm.agent", place.spec):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "jrm-guard" not in process.cmdline()[0]:
                return process
    return None


def other_than(place: Place, agent: psutil.Process) -> psutil.Process | None:
    found = agent_of(place)
    return found if found is not None and found.pid != agent.pid else None


def test_one_agent_its_lives_and_its_end(place: Place) -> None:
    assert place.look()["alive"] is None, "nothing is known about a pilot that was never started"
    stream = place.start()
    seen = place.until(lambda seen: seen["alive"], "it does not start")
    assert seen["process"]["life"] == 1 and seen["process"]["host"] == os.uname().nodename
    agent = eventually(lambda: agent_of(place), "no agent", PATIENT_S)
    place.until(lambda seen: seen["silent_s"] >= 0, "no sign of life")

    again = place.start()
    assert again.wait(PATIENT_S) == 75 and b"runs already" in again.err.read_all()
    assert psutil.pid_exists(agent.pid)

    agent.kill()
    eventually(lambda: (place.path / "guard.log").exists(), "the guard noted no death", PATIENT_S)
    eventually(lambda: other_than(place, agent), "no second life of the agent", PATIENT_S)
    assert place.look()["alive"] is True

    assert place.program("--signal", "TERM")["process"]["life"] == 1
    seen = place.until(lambda seen: seen["ended"], "it does not end")
    assert (seen["alive"], seen["ended"]["told"], seen["ended"]["life"]) == (False, True, 1)
    # 143: the second life was so young that it did not listen yet.
    assert stream.wait(PATIENT_S) == seen["ended"]["code"] in (0, 143)
    assert place.account.processes(str(place.path)) == []

    # A batch system starts a job anew: the earlier end is no end any more.
    stream = place.start()
    seen = place.until(lambda seen: seen["process"]["life"] == 2, "it does not start again")
    assert seen["ended"] == {} and seen["alive"] is True
    agent = eventually(lambda: agent_of(place), "no agent", PATIENT_S)
    assert agent.environ()["JRM_EPOCH_BASE"] == "1000"
    seen = place.program("--signal", "KILL")
    seen = place.until(lambda seen: seen["ended"], "it is not killed")
    assert seen["ended"]["code"] == 128 + signal.SIGKILL and agent_of(place) is None
    assert stream.wait(PATIENT_S) == 128 + signal.SIGKILL


def test_a_start_program_that_is_killed_takes_the_agent_along(place: Place) -> None:
    place.start()
    seen = place.until(lambda seen: seen["alive"], "it does not start")
    eventually(lambda: agent_of(place), "no agent", PATIENT_S)
    os.kill(seen["process"]["pid"], signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(seen["process"]["pid"]), "it is not killed", PATIENT_S)
    seen = place.until(lambda seen: seen["alive"] is False, "it does not end")
    assert seen["ended"] == {}, "nobody was there to write that"
    eventually(lambda: agent_of(place) is None, "the agent goes on without its root", PATIENT_S)


def test_an_end_that_nobody_wrote_down_is_told_from_the_machine(place: Place) -> None:
    record = {"life": 1, "host": os.uname().nodename, "boot": "another", "pid": 1, "ticks": "1", "child": 1}
    path = place.path / "process.json"
    path.write_text(json.dumps({**record, "child_ticks": "1"}))
    assert place.look()["alive"] is False, "it ran before the machine was started again"
    assert place.program("--signal", "KILL")["alive"] is False and psutil.pid_exists(1)
    path.write_text(json.dumps({**record, "child_ticks": "1", "host": "elsewhere"}))
    assert place.look()["alive"] is None, "this machine cannot know"


def test_an_agent_that_cannot_start_leaves_its_reason(place: Place) -> None:
    package = next((place.account.home / ".jupyter_rm" / "env").glob("*/lib/*/site-packages/jupyter_rm/agent"))
    module = package / "service.py"
    module.rename(package / "kept")
    module.write_text("raise RuntimeError('the disk has a hole')\n")
    try:
        assert place.start().wait(PATIENT_S) == 1
    finally:
        (package / "kept").rename(module)
    seen = place.look()
    assert seen["alive"] is False and seen["ended"]["code"] == 1
    assert "the disk has a hole" in seen["ended"]["reason"]


def test_the_users_python_settings_do_not_reach_the_agent(place: Place) -> None:
    for name in ("numpy", "json", "select"):
        place.account.file(f"trap/{name}.py", f"raise RuntimeError('the wrong {name}')\n")
    trap = str(place.account.home / "trap")
    argv = [place.made.python, place.made.program, place.spec]
    place.account.plain.start(argv, {"PYTHONPATH": trap, "PYTHONHOME": "/nowhere"})
    place.until(lambda seen: seen["alive"], "it does not start")
    trace = place.path / "agent.trace"
    place.until(lambda seen: trace.exists() or seen["ended"], "the agent did nothing")
    assert not place.look()["ended"]
    assert "PYTHONPATH" not in eventually(lambda: agent_of(place), "no agent", PATIENT_S).environ()
    place.program("--signal", "TERM")
    place.until(lambda seen: seen["ended"], "it does not end")
