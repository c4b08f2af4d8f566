"""Ranks that talk to each other through a real MPI (the mpich and mpi4py wheels)."""

from __future__ import annotations

import sys
from pathlib import Path

import jupyter_rm as jrm

SUM = """
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.Get_rank() + 1)
if world.Get_rank() == 0:
    print(world.Get_size(), total)
"""


def test_ranks_sum_what_they_were_given(session: jrm.Session) -> None:
    session.pilot("local", cores=4)
    launchers = f'PATH="{Path(sys.executable).parent}:$PATH"'
    task = session.submit(
        jrm.Task(sys.executable, ["-c", SUM], ranks=4, mpi=True, pre_exec=[f"export {launchers}"], timeout=60)
    )
    assert task.result(timeout=90) == "4 10\n"
    assert task.state == "DONE"


def test_a_failing_rank_fails_the_task(session: jrm.Session) -> None:
    session.pilot("local", cores=4)
    launchers = f'PATH="{Path(sys.executable).parent}:$PATH"'
    code = "from mpi4py import MPI; import sys; sys.exit(MPI.COMM_WORLD.Get_rank() == 1 and 7)"
    task = session.submit(
        jrm.Task(sys.executable, ["-c", code], ranks=2, mpi=True, pre_exec=[f"export {launchers}"], timeout=60)
    )
    task.wait(90)
    assert (task.state, task.exit_code) == ("FAILED", 7), task.stderr()
