"""RP-01: sessions, pilots, tasks and bulks have a dict form that round-trips, whoever made them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jupyter_rm as jrm
from jupyter_rm.client.session import Session
from jupyter_rm.model.describe import Task
from jupyter_rm.notebook.magics import Magics


def test_a_dict_names_what_it_came_from(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/echo", ["x"], name="one"))
    bulk = session.array(jrm.Task("/bin/echo", ["{n}"]), n=range(20))
    calls = session.map(abs, [-1, -2, -3])
    assert session.wait(20)
    some = [session, session["p.0"], task, calls[2], bulk, calls, bulk[5:9], bulk[::-3] + task + calls, bulk[:0]]
    for thing in some:
        fields = json.loads(json.dumps(thing.as_dict()))
        again = type(thing).from_dict(fields)
        assert again == thing, fields
        assert again.as_dict() == thing.as_dict()
    assert len({task, jrm.TaskHandle.from_dict(task.as_dict())}) == len({bulk, jrm.Bulk.from_dict(bulk.as_dict())}) == 1
    assert [bulk, bulk[5:9], bulk[:19]] != [bulk[:19], bulk[4:8], bulk]
    task_again = Task.from_dict(json.loads(json.dumps(jrm.Task("x", ["a"], cores=2).as_dict())))
    assert task_again == jrm.Task("x", ["a"], cores=2)
    assert np.array_equal(jrm.Bulk.from_dict((bulk[::-3] + task).as_dict()).column("started") > 0, np.ones(8, bool))


def test_magics_and_the_command_line_make_the_same(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/true"))
    task.wait(20)
    magics = Magics({})
    magics.line(f"attach {session.name}")
    pilot = magics.line("pilot local --cores 1")
    other = magics.cell("run", "true\n")
    other.wait(20)
    assert pilot.as_dict().keys() == session["p.0"].as_dict().keys()
    assert other.as_dict().keys() == task.as_dict().keys()
    printed = _jrm("status", "-s", session.name)
    assert printed.keys() == session.as_dict().keys()
    assert jrm.Pilot.from_dict(printed["pilots"][0]) == session["p.0"]
    assert jrm.TaskHandle.from_dict(_jrm("tasks", "-s", session.name)[0]) == task


def _jrm(verb: str, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "jupyter_rm", verb, "--json", *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_dict_goes_to_another_process(session: Session, tmp_path: Path) -> None:
    bulk = session.map(abs, [-4, -5])
    bulk.wait(20)
    (tmp_path / "bulk.json").write_text(json.dumps(bulk.as_dict()))
    code = "import json, sys, jupyter_rm as jrm; print(jrm.Bulk.from_dict(json.load(open(sys.argv[1]))).results(20))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bulk.json")], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[4, 5]\n", done.stderr


def test_a_dict_of_something_else_is_refused(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/true"))
    bulk = session.array(jrm.Task("/bin/echo", ["{n}"]), n=[1, 2])
    things = {"s": session, "p": session["p.0"], "t": task, "b": bulk}
    fields = {kind: thing.as_dict() for kind, thing in things.items()}
    for kind, each in ((jrm.Session, "s"), (jrm.Pilot, "p"), (jrm.TaskHandle, "t"), (jrm.Bulk, "b")):
        for wrong in ({}, None, [1], *(given for name, given in fields.items() if name != each)):
            with pytest.raises(jrm.RequestError, match=f"no dict of a {kind.__name__}") as caught:
                kind.from_dict(wrong)
            assert caught.value.code == "JRM-Q57" and "as_dict" in caught.value.hint
    for wrong in ({**fields["b"], "of": 7}, {**fields["b"], "of": [["t.0"]]}, {**fields["b"], "submitted": None}):
        with pytest.raises(jrm.RequestError, match="no dict of a Bulk"):
            jrm.Bulk.from_dict(wrong)
    with pytest.raises(jrm.RequestError, match=r"t\.1\.8: no such task"):
        jrm.Bulk.from_dict({**fields["b"], "of": [["t.1", 0, 9]]})
    name = session.name
    session.close()
    assert jrm.TaskHandle.from_dict(fields["t"]).as_dict() == task.as_dict(), "what was is still told"
    with pytest.raises(jrm.RequestError, match="JRM-Q08"):
        jrm.TaskHandle.from_dict({**fields["t"], "session": "nobody"})
    with jrm.open(name) as later:
        later.pilot("noop", nodes=1, cores=1).wait(timeout=20)
        later.submit([jrm.Task("x")] * 2)
        later.submit([jrm.Task("x")] * 2)
        for kind, each in ((jrm.Session, "s"), (jrm.Pilot, "p"), (jrm.TaskHandle, "t"), (jrm.Bulk, "b")):
            with pytest.raises(jrm.RequestError, match="is another one now"):
                kind.from_dict(fields[each])
        later.close()
