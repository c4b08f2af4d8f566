"""Several nodes made of this machine, through a broker: the whole way, the end of the time, and what is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jupyter_rm as jrm
from jupyter_rm.agent.leftovers import Mark, clear_leftovers, own_folder
from jupyter_rm.client.session import Session
from jupyter_rm.core.agent import AgentMachine
from jupyter_rm.model.columns import Picks, pack
from jupyter_rm.model.describe import Task
from jupyter_rm.model.effects import End, Finished, Freed, FromBroker, Launch, Send, Spool
from jupyter_rm.model.messages import AgentWelcome, Assign, Down, Returned, Stock
from jupyter_rm.model.resources import Node
from jupyter_rm.model.states import TaskState
from jupyter_rm.wire import codec


def test_a_pilot_of_two_nodes_made_of_this_machine(bare: Session) -> None:
    pilot = bare.pilot("local", nodes=2, cores=4, launch="fork")
    assert pilot.wait(timeout=60) == "ACTIVE", pilot.reason
    assert [node.cores for node in pilot.nodes] == [2, 2]
    bulk = bare.submit([jrm.Task("/bin/sh", ["-c", "echo $JRM_NODE"])] * 400)
    assert bulk.wait(120) and bulk.counts() == {"DONE": 400}
    assert {task.stdout().strip() for task in bulk} == {node.name for node in pilot.nodes}
    assert bare.map(pow, range(50), [2] * 50).results(timeout=60) == [x * x for x in range(50)]
    pilot.cancel()
    assert pilot.wait("CANCELED", 60) == "CANCELED"


def test_before_the_time_is_over_nothing_new_starts_and_the_rest_is_given_back() -> None:
    machine = AgentMachine("s", 0, 0, [Node("a", 2)])
    machine.start(0.0)
    machine.handle(0.0, FromBroker(AgentWelcome("s", 0, 0, machine.hello, 1, 0, 0)))
    order = Assign(0, Picks.span(0, 5), pack(1, "<u2"), Task("true").template())
    machine.handle(0.0, FromBroker(Down("s", 0, 0, machine.hello, 1, 1, 0, 0, codec.encode(order))))
    (launch,) = [effect for effect in machine.flush(0.0) if isinstance(effect, Launch)]
    assert len(launch.tokens) == 2
    said = [codec.reports.decode(one.body) for one in machine.drain(1.0) if isinstance(one, Spool)]
    assert [one.stock for one in said if isinstance(one, Stock)] == [0], "it must not be sent more"
    assert [one.picks.array().tolist() for one in said if isinstance(one, Returned)] == [[2, 3, 4]]
    zero, time = np.zeros(2, np.uint8), np.ones(2)
    done, wide = np.full(2, TaskState.DONE, np.uint8), np.zeros(2, np.uint32)
    seconds = np.zeros(2, np.float32)
    ends = Finished(launch.tokens, done, zero, wide.view(np.int32), wide, time, time, seconds, seconds, wide)
    machine.handle(2.0, ends)
    machine.handle(2.0, Freed(launch.allocs))
    effects = machine.flush(2.0)
    last = [codec.reports.decode(one.body) for one in effects if isinstance(one, Spool)]
    assert [type(one).__name__ for one in last] == ["Ended", "Goodbye"]
    assert isinstance(effects[-1], (End, Send)) and machine.ended


def test_what_killed_processes_left_is_cleared_away_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = own_folder("py")
    code = (
        "import tempfile, sys; tempfile.tempdir = sys.argv[1]; "
        "from jupyter_rm.agent.leftovers import own_folder; own_folder('py'); own_folder('env')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    other = tmp_path / "jrm-py-somebody"
    other.mkdir()
    assert len(list(tmp_path.iterdir())) == 4
    assert clear_leftovers(str(tmp_path)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([Path(mine).name, other.name])
    shutil.rmtree(mine)


def test_the_next_node_agent_on_a_machine_ends_the_one_before(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from jupyter_rm.agent.leftovers import Mark; "
        "Mark(pathlib.Path(sys.argv[1])).take_over(); print('there', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "node.alive"
    before = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=os.getcwd()
    )
    assert before.stdout is not None and before.stdout.readline() == b"there\n"
    # Nobody waits for it meanwhile: a process that ended and was not waited for is over all the same.
    Mark(path).take_over(seconds=0.5)
    assert before.wait(30) < 0
