"""The one directory of a cluster: its size, its nodes, its jobs, and what became of those that are over.

One JSON document under a lock, replaced as a whole, so a program that is killed leaves the last good state. Nothing is
synced: a machine that stops takes all jobs with it anyway. Knows files, decides nothing. Read next: :mod:`.commands`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from .schedule import Job, Node

# The record of jobs that are over is cut to its younger half beyond so many bytes.
RECORD_MOST = 1 << 20
T = TypeVar("T")


@dataclass
class Settings:
    """How large a cluster is and how it behaves.

    Attributes:
        nodes, cores: how many virtual nodes, with how many cores each. wait: a job waits at least so long, s.
        busy: jobs of other people that are there when one's own first comes. pace: one of them ends every so many s.
        grace: a job that is told to end is killed so long after, s.
    """

    nodes: int = 4
    cores: int = 2
    wait: float = 2.0
    busy: int = 0
    pace: float = 6.0
    grace: float = 10.0


@dataclass
class State:
    """All that a cluster knows."""

    name: str
    settings: Settings
    nodes: list[Node] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    next: int = 1
    made: str = ""  # a word that no other cluster has: jobs of two are never mixed up

    def job(self, id: int) -> Job | None:
        """Return a job that is not over, None when there is none."""
        return next((job for job in self.jobs if job.id == id), None)

    @property
    def real(self) -> list[Job]:
        """The jobs that are, or will be, processes."""
        return [job for job in self.jobs if not job.lasts]


def build(state: State) -> None:
    """Make the nodes that the settings ask for."""
    width = max(2, len(str(state.settings.nodes)))
    count = range(1, state.settings.nodes + 1)
    state.nodes = [Node(f"{state.name}-{n:0{width}d}", state.settings.cores) for n in count]


def _made(kind: type[T], said: dict[str, Any]) -> T:
    """Return an object of what was written, perhaps by a version that knew more."""
    return kind(**{one.name: said[one.name] for one in fields(kind) if one.name in said})  # type: ignore[arg-type]


class Store:
    """The directory of one cluster; ``place`` must be private to its owner."""

    def __init__(self, place: Path) -> None:
        self.place = place

    @property
    def jobs(self) -> Path:
        """Where the files of jobs are."""
        return self.place / "jobs"

    @property
    def bell(self) -> Path:
        """The pipe at which the controller listens."""
        return self.place / "bell"

    @contextlib.contextmanager
    def open(self) -> Iterator[State]:
        """Hold the lock and hand out the state; what was changed is kept when the block ends well."""
        with (self.place / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            text, state = self._read()
            yield state
            made = json.dumps(asdict(state))
            if made != text:
                part = self.place / "state.part"
                part.write_text(made)
                part.replace(self.place / "state.json")

    def _read(self) -> tuple[str, State]:
        try:
            text = (self.place / "state.json").read_text()
        except FileNotFoundError:
            state = State(self.place.name, Settings(), made=os.urandom(6).hex())
            build(state)
            return "", state
        said: dict[str, Any] = json.loads(text)
        said["settings"] = _made(Settings, said["settings"])
        said["nodes"] = [_made(Node, node) for node in said["nodes"]]
        said["jobs"] = [_made(Job, job) for job in said["jobs"]]
        return text, _made(State, said)

    def record(self, job: Job, outcome: str, exit: int | None, end: float) -> None:
        """Write down how a job ended; the lock must be held."""
        row = {**asdict(job), "outcome": outcome, "exit": exit, "ended": end}
        path = self.place / "record"
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if path.stat().st_size > RECORD_MOST:
            lines = path.read_text().splitlines(keepends=True)
            part = self.place / "record.part"
            part.write_text("".join(lines[len(lines) // 2 :]))
            part.replace(path)

    def recorded(self) -> list[dict[str, Any]]:
        """Return the jobs that are over, the oldest first."""
        try:
            lines = (self.place / "record").read_text().splitlines()
        except FileNotFoundError:
            return []
        rows = []
        for line in lines:
            with contextlib.suppress(ValueError):  # cut off by a full disk
                rows.append(json.loads(line))
        return rows

    def base(self, job: Job) -> Path:
        """Return what the names of all files of one start of a job begin with."""
        return self.jobs / f"{job.id}.{job.restarts}"

    def file(self, job: Job, what: str) -> Path:
        """Return the path of a file of one start of a job (``pid``, ``exit``), or of all of them (``env``)."""
        return self.jobs / f"{job.id}.env" if what == "env" else self.jobs / f"{job.id}.{job.restarts}.{what}"
