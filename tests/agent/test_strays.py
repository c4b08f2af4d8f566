"""Processes that leave the group of their task end with it, and no sooner; those of nobody stay."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from perform_kit import Rig
from world_kit import eventually

from jupyter_rm.model.describe import Shell, Task
from jupyter_rm.model.states import TaskState
from jupyter_rm.runtime.process import native_supported

pytestmark = pytest.mark.skipif(
    not native_supported() or not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="nobody adopts here"
)


def daemon(note: Path, before: str = "", how: str = "exec sleep 1000") -> str:
    """Return shell lines that start a process in a session of its own, which writes its number, and wait for that."""
    own = f"echo $$ > {note}.new; mv {note}.new {note}; {how}"
    return f"({before} setsid sh -c '{own}' &); while [ ! -e {note} ]; do :; done"


def over(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("end", ["exit 0", "exit 3", "sleep 1000"])
def test_it_ends_with_its_task(rig: Rig, tmp_path: Path, end: str) -> None:
    note = tmp_path / "pid"
    bulk = rig.bulk(Shell(f"{daemon(note)}; {end}"))
    rig.launch(bulk)
    eventually(note.exists, "the daemon begins")
    if "sleep" in end:
        rig.kill(bulk, 0)
    rig.wait(bulk)
    rig.until(lambda: over(int(note.read_text())), 10, "the end of the daemon")


def test_one_that_ignores_term_is_killed_and_so_is_what_it_started(rigs: Callable[..., Rig], tmp_path: Path) -> None:
    rig, note, below = rigs(grace=0.5), tmp_path / "pid", tmp_path / "below"
    how = f'trap "" TERM; (trap "" TERM; sleep 1000) & echo $! > {below}; wait'
    rig.run(rig.bulk(Shell(daemon(note, how=how))))
    rig.until(lambda: over(int(note.read_text())), 10, "the end of the daemon")
    rig.until(lambda: over(int(below.read_text())), 10, "the end of what it started")


def test_it_lives_as_long_as_its_task_although_others_end(rig: Rig, tmp_path: Path) -> None:
    note, gate = tmp_path / "pid", tmp_path / "gate"
    os.mkfifo(gate)
    task = rig.bulk(Shell(f"{daemon(note)}; read x < {gate}"))
    rig.launch(task)
    eventually(note.exists, "the daemon begins")
    pid = int(note.read_text())
    # The second daemon is looked at after the first: when it is over, the first one was spared.
    other = tmp_path / "other"
    assert rig.run(rig.bulk(Shell(daemon(other))), pool=1)[0].state == TaskState.DONE
    rig.until(lambda: over(int(other.read_text())), 10, "the end of the other task's daemon")
    assert not over(pid)
    gate.write_text("go\n")
    assert rig.wait(task)[0].state == TaskState.DONE
    rig.until(lambda: over(pid), 10, "the end of the daemon")


def test_an_earlier_attempt_is_not_the_one_that_runs(rig: Rig, tmp_path: Path) -> None:
    note, gate = tmp_path / "pid", tmp_path / "gate"
    os.mkfifo(gate)
    # It says of itself that it is of attempt 1, and the one that runs is attempt 2.
    bulk = rig.bulk(Shell(f"{daemon(note, 'JRM_TASK_ATTEMPT=1')}; read x < {gate}"), attempt=2)
    rig.launch(bulk)
    eventually(note.exists, "the daemon begins")
    rig.run(rig.bulk(Task("true")), pool=1)
    rig.until(lambda: over(int(note.read_text())), 10, "the end of the daemon")
    gate.write_text("go\n")
    assert rig.wait(bulk)[0].state == TaskState.DONE


def test_ranks_are_one_task(rigs: Callable[..., Rig], tmp_path: Path) -> None:
    rig = rigs(cores=3)
    note, gate, quick = tmp_path / "pid", tmp_path / "gate", tmp_path / "quick"
    os.mkfifo(gate)
    first = f"{daemon(note)}; touch {quick}"
    bulk = rig.bulk(Shell(f"if [ $JRM_RANK = 0 ]; then {first}; else read x < {gate}; fi", ranks=2))
    rig.launch(bulk)
    eventually(quick.exists, "the first rank comes to its end")
    other = tmp_path / "other"
    rig.run(rig.bulk(Shell(daemon(other))), pool=1)
    rig.until(lambda: over(int(other.read_text())), 10, "the end of the other task's daemon")
    assert not over(int(note.read_text()))
    gate.write_text("go\n")
    assert rig.wait(bulk)[0].state == TaskState.DONE
    rig.until(lambda: over(int(note.read_text())), 10, "the end of the daemon")


def test_what_has_no_mark_stays(rig: Rig, tmp_path: Path) -> None:
    note, other = tmp_path / "pid", tmp_path / "other"
    rig.run(rig.bulk(Shell(daemon(note, "unset JRM_TASK_UID;"))))
    rig.run(rig.bulk(Shell(daemon(other))))
    rig.until(lambda: over(int(other.read_text())), 10, "the end of the other daemon")
    assert not over(int(note.read_text()))
    rig.p.close(0.5)
    assert over(int(note.read_text()))
