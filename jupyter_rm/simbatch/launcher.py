"""``simrun``: what starts programs on the other nodes of a job, and the ranks of an MPI program.

A virtual node is this machine under another name, so a program is started there by becoming it; but only inside a job
that has the node, and only while the node is up. Read next: :mod:`jupyter_rm.agent.launch.methods`.
"""

from __future__ import annotations

import os
import shutil
from argparse import Namespace
from typing import NoReturn

from .commands import Refused
from .processes import MARK, REAL, keep_to, mark, of_node
from .store import Store


def run(store: Store, asked: Namespace) -> NoReturn:
    """Become the program that is asked for.

    Raises:
        Refused: this is not inside a job, or the node is not one of it, or is down.
    """
    if not asked.argv:
        raise Refused("simrun: no program")
    with store.open() as state:
        id = os.environ.get("SIM_JOB_ID", "")
        job = state.job(int(id)) if id.isdecimal() else None
        if job is None or not job.holds or os.environ.get(MARK) != mark(state, job):
            raise Refused("simrun: this is not inside a running job")
        if asked.node and asked.node not in job.on:
            raise Refused(f"simrun: {asked.node} is no node of job {job.id}")
        down = [node.name for node in state.nodes if node.down or node.name in job.lost]
        if asked.node in down:
            raise Refused(f"simrun: {asked.node} does not answer")
        if asked.node:
            real = os.environ.get(REAL, "")
            keep_to(state, job, asked.node, [int(core) for core in real.split(",") if core])
    argv = [*_mpi(asked.ranks), *asked.argv] if asked.ranks else asked.argv
    try:
        os.execvpe(argv[0], argv, {**os.environ, **(of_node(asked.node) if asked.node else {})})  # noqa: S606
    except OSError as error:
        raise Refused(f"simrun: {argv[0]}: {error.strerror}") from None


def _mpi(ranks: int) -> list[str]:
    """Return the MPI library's own launcher, told that all its ranks are on this machine."""
    program = shutil.which("mpirun") or shutil.which("mpiexec")
    if program is None:
        raise Refused("simrun: there is no mpirun on PATH")
    real = os.path.realpath(program)
    if "hydra" in real or "mpich" in real:
        return [program, "-n", str(ranks)]
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return [program, "-n", str(ranks), "--oversubscribe", "--bind-to", "none", *root]
