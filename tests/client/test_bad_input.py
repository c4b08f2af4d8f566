"""What a person gets wrong: one error, at once, that names the field; and nothing is submitted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import jupyter_rm as jrm
from jupyter_rm.client.session import Session

TABLE: list[tuple[str, Callable[[Session], object], str]] = [
    ("form of a text", lambda s: s.array(jrm.Task("x", ["a", "{n:03d}"]), n=["a"]), r"arguments\[1\]"),
    ("form in a variable", lambda s: s.array(jrm.Task("x", env={"A": "{n:.2e}"}), n="a"), r"environment\['A'\]"),
    ("form of a file", lambda s: s.array(jrm.Task("x", output_staging=["o > {n:d}"]), n=["a"]), r"output_staging\[0\]"),
    ("truth as an argument", lambda s: s.submit(jrm.Task("x", [True])), r"arguments\[0\]"),
    ("unknown field", lambda s: s.submit(jrm.Task("x", coers=2)), "coers"),
    ("wrong unit", lambda s: s.submit(jrm.Task("x", mem="4 bananas")), "mem"),
    ("negative", lambda s: s.submit(jrm.Task("x", cores=-1)), "cores"),
    ("bad duration", lambda s: s.submit(jrm.Task("x", timeout="soon")), "timeout"),
    ("no cause", lambda s: s.submit(jrm.Task("x", retry_on=["task_exit"])), "retry_on"),
    ("a cause that says nothing of it", lambda s: s.submit(jrm.Task("x", retry_on="NODE_LOST")), "retry_on"),
    ("pause", lambda s: s.submit(jrm.Task("x", retry_delay="a while")), "retry_delay"),
    ("one string of arguments", lambda s: s.submit(jrm.Task("x", "a b")), "arguments"),
    ("no executable", lambda s: s.submit(jrm.Task("")), "executable"),
    ("impossible cores", lambda s: s.submit(jrm.Task("x", cores=500)), "cores"),
    ("impossible memory", lambda s: s.submit(jrm.Task("x", mem="3PiB")), "mem"),
    ("impossible gpus", lambda s: s.submit(jrm.Task("x", gpus=64)), "gpus"),
    ("text for a task", lambda s: s.submit("echo hello"), "tasks"),  # type: ignore[call-overload]
    ("text among tasks", lambda s: s.submit([jrm.Task("x"), "y"]), r"tasks\[1\]"),
    ("number for a task", lambda s: s.submit(3), "tasks"),  # type: ignore[call-overload]
    ("after nothing", lambda s: s.submit(jrm.Task("x", after=5)), "after"),
    ("after an unknown", lambda s: s.submit(jrm.Task("x", after="t.99.0")), "t.99.0"),
    ("no such uid", lambda s: s["t.99"], "t.99"),
    ("no uid", lambda s: s["nonsense"], "nonsense"),
    ("no such pilot", lambda s: s["p.9"], "p.9"),
    ("pilot field", lambda s: s.pilot("local", coers=2), "coers"),
    ("pilot walltime", lambda s: s.pilot("local", walltime="soon"), "walltime"),
    ("pilot cores", lambda s: s.pilot("local", cores=0), "cores"),
    ("pilot nodes", lambda s: s.pilot("local", nodes=2), "nodes"),
    ("pilot backup", lambda s: s.pilot("local", backup=1), "backup"),
    ("pilot drain", lambda s: s.pilot("local", drain="5m"), "drain"),
    ("pilot site", lambda s: s.pilot("not a site"), "site"),
    ("pilot site kind", lambda s: s.pilot(7), "site"),  # type: ignore[arg-type]
    ("executor", lambda s: s.executor(cores="many"), "cores"),
]


@pytest.mark.parametrize(("act", "says"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_bad_input_is_refused(shared_bad: Session, act: Callable[[Session], object], says: str) -> None:
    with pytest.raises(jrm.RequestError, match=says) as caught:
        act(shared_bad)
    assert caught.value.hint
    assert caught.value.code.startswith("JRM-")
    assert "\n" not in caught.value.message
    assert len(shared_bad.tasks()) == 0
    assert len(shared_bad.pilots()) == 1


@pytest.fixture(scope="module")
def shared_bad(home: object) -> Session:
    session = jrm.open("bad")
    assert session.pilot("local", cores=2).wait(timeout=20) == "ACTIVE"
    return session


def test_without_pilot_one_is_started_and_said(bare: Session, capfd: pytest.CaptureFixture[str]) -> None:
    assert bare.submit(jrm.Task("/bin/echo", ["x"])).result(20) == "x\n"
    assert "started p.0" in capfd.readouterr().err
    bare.submit(jrm.Task("/bin/echo", ["x"])).wait(20)
    assert len(bare.pilots()) == 1
    assert capfd.readouterr().err == ""
