"""The environments of agent and task are apart, and what prepares one is run once (RP-10)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client.session import Session


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_nothing_of_the_agents_environment_leaks(own_home: Path) -> None:
    """A kernel inside a virtual environment starts broker and agent; the program it runs must not see that."""
    code = """
import jupyter_rm as jrm
s = jrm.open("leak")
s.pilot("local", cores=2)
print(s.submit(jrm.Task("/usr/bin/env", environment={"MINE": "a b=c"})).result(40))
s.close()
"""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(own_home),
        "JUPYTER_RM_HOME": str(own_home),
        "VIRTUAL_ENV": str(Path(sys.executable).parent.parent),
        "PYTHONPATH": str(Path(jrm.__file__).parent.parent),
        "THEIRS": "kept",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    seen = variables(done.stdout)
    assert seen["MINE"] == "a b=c", done.stderr
    assert seen["THEIRS"] == "kept"
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "JRM_EPOCH", "JRM_READY_FD"):
        assert name not in seen, f"{name} leaked: {seen[name]}"
    assert str(Path(sys.executable).parent) not in seen["PATH"].split(":")


def test_the_same_pre_exec_runs_once_for_a_hundred_tasks(session: Session, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    lines = [f"echo x >> {counter}", "export LEVEL=7"]
    hundred = session.submit(
        [jrm.Shell(f"test $LEVEL = 7 # {n}", pre_exec=lines) for n in range(50)]
        + [jrm.Task("/usr/bin/env", pre_exec=lines)] * 50
    )
    assert hundred.wait(40)
    assert hundred.counts() == {"DONE": 100}, hundred[0].reason
    assert "LEVEL=7" in hundred[99].stdout()
    assert counter.read_text() == "x\n"


def test_a_failing_pre_exec_is_told_as_such(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/true", pre_exec=["echo no module called foam >&2; false"]))
    assert task.wait(20) == "FAILED"
    assert task.cause == "ENV_FAILED"
    assert "pre_exec" in task.reason
    assert "no module called foam" in task.reason
    task = session.submit(jrm.Task("/bin/true", pre_exec=["exit 0"]))
    assert task.wait(20) == "FAILED"
    assert "its lines ended the shell" in task.reason
    assert "/tmp" not in task.reason


def test_what_a_task_waits_for_while_its_pre_exec_runs(session: Session, tmp_path: Path) -> None:
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    os.mkfifo(gate)
    lines = [f"touch {begun}", f"read x < {gate}"]
    task = session.submit(jrm.Task("/bin/true", pre_exec=lines))
    eventually(lambda: begun.exists() and task.state == "SCHEDULED", "pre_exec begins", 20)
    assert "its pre_exec lines have been running since " in str(task.explain())
    gate.write_text("go\n")
    assert task.wait(20) == "DONE"
