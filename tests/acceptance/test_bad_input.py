"""What cannot travel is refused by name, at once, and harms nothing else; what kills a helper costs its own task."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client.session import Session

BIG = b"x" * (40 << 20)


class Stubborn:
    """Cannot be pickled, and cannot be brought back either."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Stubborn stays where it is")


def returns_stubborn() -> Stubborn:
    return Stubborn()


def raises_stubborn() -> None:
    error = ValueError("seed 7 diverged")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


REFUSED: list[tuple[str, Callable[[Session], object], str]] = [
    ("not UTF-8", lambda s: s.submit(jrm.Task("/bin/echo", ["\udc80"])), "arguments"),
    ("not UTF-8 at all", lambda s: s.submit(jrm.Task(b"/bin/\xff")), "executable"),
    ("huge description", lambda s: s.submit(jrm.Task("/bin/true", ["x" * 1000] * 90_000)), "description"),
    ("huge column", lambda s: s.array(jrm.Task("/bin/echo", ["{a}"]), a=["x" * len(BIG), "y"]), "a"),
    ("huge argument", lambda s: s.call(len, BIG), "arguments"),
    ("huge item", lambda s: s.map(len, [b"", BIG]), "item"),
    ("huge closure", lambda s: s.map(lambda n: BIG[n], range(3)), "function"),
    ("unpicklable function", lambda s: s.call(threading.Lock().acquire), "function"),
    ("unpicklable argument", lambda s: s.call(len, Stubborn()), "argument 0"),
]


@pytest.mark.parametrize(("act", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_cannot_travel_is_refused(session: Session, act: Callable[[Session], object], says: str) -> None:
    with pytest.raises(jrm.RequestError, match=says) as caught:
        act(session)
    assert caught.value.hint
    assert len(session.tasks()) == 0
    assert session.call(pow, 2, 3).result(20) == 8, "and everything else goes on"


def test_what_cannot_come_back_is_said(session: Session) -> None:
    with pytest.raises(Exception, match="stays where it is") as caught:
        session.call(returns_stubborn).result(20)
    assert "pickl" in str(caught.value) or isinstance(caught.value, TypeError)
    with pytest.raises(Exception, match="seed 7 diverged"):
        session.call(raises_stubborn).result(20)
    assert session.tasks().counts() == {"FAILED": 2}
    assert {task.cause for task in session.tasks()} <= {"BAD_PAYLOAD", "CALL_RAISED"}


def test_unequal_items(session: Session) -> None:
    items = [b"y"] * 500 + [b"x" * 2_000_000] * 20 + [b"y"] * 500
    assert session.map(len, items).results(60) == [len(item) for item in items]


def test_hostile_text_arrives_as_it_was(session: Session) -> None:
    words = ["a\nb", "$(id)", "`id`", "'\"", "-n", "--", "\u202e", "{x}", "%s", "\\", "*", "~", "é" * 1000]
    task = session.submit(jrm.Task("/usr/bin/printf", ["%s\\0", *words], metadata={"k": "\x1b[31m"}))
    assert task.result(20).split("\0")[:-1] == words
    again = session.array(jrm.Task("/usr/bin/printf", ["%s", "{word}"]), word=words)
    assert again.results(20) == words


def test_names_that_are_no_text_in_columns(session: Session, tmp_path: Path) -> None:
    """A file name is bytes; from a column it arrives as such."""
    names = [os.fsencode(tmp_path) + b"/" + name for name in (b"plain", b"\xff\xfe")]
    for name in names:
        with open(name, "w") as file:
            file.write("#!/bin/sh\necho ran\n")
        os.chmod(name, 0o755)
    assert session.submit([jrm.Task(name) for name in names]).results(20) == ["ran\n"] * 2


def test_descriptions_survive_a_round_trip() -> None:
    """RP-01: the dict form says everything."""
    dice = random.Random(3)
    choices: dict[str, list[Any]] = {
        "arguments": [["a", 7], [], ["{x}"]],
        "ranks": [1, 4],
        "cores": [1, 3],
        "gpus": [0, 0.25, 2],
        "mem": ["4GiB", 100],
        "environment": [{"A": "1", "B": "x=y"}],
        "pre_exec": [["module load x"]],
        "timeout": ["10m", 2.5],
        "retries": [0, 3],
        "priority": [-5, 9],
        "tags": [{"colocate": "a"}, {"colocate": "b", "exclusive": True}],
        "resources": [{"licenses": 2}],
        "metadata": [{"why": "test"}],
        "name": ["a-name"],
        "restart": ["lost", "never"],
        "numa": ["spread", "any"],
    }
    for _ in range(300):
        fields = {key: dice.choice(values) for key, values in choices.items() if dice.random() < 0.4}
        for task in (jrm.Task("/bin/x", **fields), jrm.Shell("a | b", **{**fields, "arguments": []})):
            assert jrm.Task.from_dict(task.as_dict()) == task
            assert jrm.Task.from_dict(task.as_dict()).template() == task.template()


def test_a_task_that_kills_what_started_it(session: Session) -> None:
    """The program that starts processes is killed by a task: others and the pilot go on, the task is tried again."""
    guilty = session.submit(jrm.Shell("test $JRM_TASK_ATTEMPT = 1 || exit 0; kill -9 $PPID; sleep 600"))
    assert guilty.wait(40) == "DONE", guilty.reason
    assert guilty.attempt in (2, 3), "the agent may have taken the second one along"
    never = session.submit(jrm.Shell("kill -9 $PPID; sleep 600", restart="never"))
    assert never.wait(40) == "FAILED"
    assert never.cause == "AGENT_LOST"
    assert session.submit(jrm.Task("/bin/echo", ["on"])).result(30) == "on\n"
    assert session.pilots()[0].state == "ACTIVE"


def test_a_pilot_ends_with_its_walltime(bare: Session) -> None:
    short = bare.pilot("local", cores=1, walltime="1s", name="short")
    assert short.wait(timeout=20).final or short.state == "ACTIVE"
    task = bare.submit(jrm.Task("/bin/sleep", ["600"]))
    assert short.wait("DONE", timeout=15).final, short.reason
    assert short.cause == "WALLTIME"
    eventually(lambda: not task.state.final and task.cause in (None, "WALLTIME"), "the task waits for another pilot")
    assert bare.pilot("local", cores=1).wait(timeout=20) == "ACTIVE"
    eventually(lambda: task.state == "RUNNING", "it goes on there")
    task.cancel()


def test_callbacks_may_submit_and_wait(session: Session) -> None:
    seen: list[object] = []
    done = threading.Event()

    def chain(task: Any) -> None:
        seen.append(task.result(10))
        seen.append(session.submit(jrm.Task("/bin/echo", ["second"])).result(20))
        done.set()

    session.submit(jrm.Task("/bin/echo", ["first"])).add_done_callback(chain)
    assert done.wait(30)
    assert seen == ["first\n", "second\n"]


def test_a_waiter_ends_when_the_session_is_closed(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    assert session._replica.wait(lambda: task.state == "RUNNING", 20)
    told: list[BaseException] = []

    def wait() -> None:
        try:
            task.result()
        except BaseException as error:
            told.append(error)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    session.close()
    waiter.join(15)
    assert not waiter.is_alive(), "it waits for ever"
    assert isinstance(told[0], jrm.JrmError)
