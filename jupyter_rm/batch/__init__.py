"""Batch systems as data: one TOML file per system, and the code between values, commands, output and records.

Text in, records out: nothing here starts a program, opens a connection or knows the time. A caller renders a command,
runs it wherever the batch system is, and hands the output back. Only :mod:`.files` reads files (descriptions, never a
batch system's own). Read next: :mod:`.system`, then ``systems/slurm.toml`` and ``docs/batch-systems.md``.
"""

from __future__ import annotations

from .files import check, known, load, recognise, recognised_by
from .nodelist import expand, of_file
from .records import (
    Acknowledged,
    BatchError,
    Command,
    JobContext,
    JobRecord,
    JobState,
    NodeRecord,
    Problem,
    ProjectRecord,
    QueueRecord,
    Submitted,
)
from .script import BATCH_SCRIPT, spec_bytes
from .shape import LAUNCHES, OF_PILOT, WAYS_TEXT, ways_in
from .system import BatchSystem

__all__ = [
    "BATCH_SCRIPT",
    "LAUNCHES",
    "OF_PILOT",
    "WAYS_TEXT",
    "Acknowledged",
    "BatchError",
    "BatchSystem",
    "Command",
    "JobContext",
    "JobRecord",
    "JobState",
    "NodeRecord",
    "Problem",
    "ProjectRecord",
    "QueueRecord",
    "Submitted",
    "check",
    "expand",
    "known",
    "load",
    "of_file",
    "recognise",
    "recognised_by",
    "spec_bytes",
    "ways_in",
]
