"""A task's files as seen from here: its sandbox, its output so far, its output as it grows.

Knows where sandboxes lie (``<pilot sandbox>/<bulk>/<index>.<attempt>``). A file that this machine does not see is read
by the broker through the login of the pilot's site. Read next: :mod:`.distant`.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.errors import JrmError, LinkError, RequestError
from . import distant
from .stream import Pause

if TYPE_CHECKING:
    from .task import TaskHandle

LIMIT = 64 << 20
PIECE = 1 << 20
FOLLOW_S, FOLLOW_FAR_S = 0.1, 1.0


def sandbox_of(task: TaskHandle) -> Path | None:
    """Return the working directory of the task's current attempt, None before it has a pilot with one."""
    number = task._pilot_number()
    if number < 0:
        return None
    root = task._session._replica.ledger.pilots[number].sandbox
    own = task._field("sandbox")
    if own.startswith("/"):
        return Path(own)
    if not root:
        return None
    return Path(root) / (own or f"{task._number():06d}/{task._index:06d}.{task.attempt}")


def _path(task: TaskHandle, stream: str) -> Path | None:
    sandbox = sandbox_of(task)
    return None if sandbox is None else sandbox / (task._field(stream) or stream)


def is_far(task: TaskHandle, path: Path) -> bool:
    """Does only the task's site see this file? (Many sites share a file system with the machine one works at.)"""
    number = task._pilot_number()
    return number >= 0 and distant.elsewhere(task._session, number) and not distant.seen_here(path)


def read(task: TaskHandle, stream: str, rank: int = 0) -> str:
    """Return the text of stdout or stderr of a rank so far; empty when there is none.

    Raises:
        RequestError: JRM-Q05, it has no such rank.
        LinkError: the file cannot be read, its site cannot be reached, or it is too large to be shown.
    """
    most = 1 if task._table().form.template.mpi else task._table().form.template.request.ranks
    if not 0 <= rank < most:
        why = f"{task.uid} has {most} rank{'s' * (most > 1)} with an output of its own"
        raise RequestError(f"rank: {rank}: {why}", hint="count from 0", code="JRM-Q05")
    path = _path(task, stream)
    if path is None:
        return ""
    if rank:
        path = path.with_name(f"{path.name}.{rank}")
    if is_far(task, path):
        return distant.read(task._session, task._pilot_number(), path, LIMIT).decode("utf-8", "replace")
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > LIMIT:
                raise distant.too_large(path, LIMIT)
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise LinkError(f"{path}: {error.strerror}", code="JRM-T11", hint="check the sandbox directory") from None


def read_many(tasks: Mapping[int, TaskHandle], stream: str = "stdout") -> dict[int, str]:
    """Return the texts of those tasks' output that only their sites see, by key: some hundred files in one go.

    Raises:
        LinkError: as :func:`read`.
    """
    far: dict[int, list[tuple[int, Path]]] = {}
    for key, task in tasks.items():
        path = _path(task, stream)
        if path is not None and is_far(task, path):
            far.setdefault(task._pilot_number(), []).append((key, path))
    out: dict[int, str] = {}
    for pilot, wanted in far.items():
        session = tasks[wanted[0][0]]._session
        parts = distant.read_all(session, pilot, [path for _, path in wanted], LIMIT)
        out |= {key: part.decode("utf-8", "replace") for (key, _), part in zip(wanted, parts, strict=True)}
    return out


def tail(task: TaskHandle, stream: str, size: int = 2000) -> str:
    """Return the last ``size`` bytes of stdout or stderr; empty when they cannot be read."""
    path = _path(task, stream)
    if path is None:
        return ""
    try:
        if is_far(task, path):
            return distant.part(task._session, task._pilot_number(), path, -size, size)[1].decode("utf-8", "replace")
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read().decode("utf-8", "replace")
    except (OSError, JrmError):
        return ""


def size_of(task: TaskHandle, path: Path) -> int:
    """Return the size of a file of a task in bytes, 0 when it cannot be read."""
    try:
        if is_far(task, path):
            return max(0, distant.part(task._session, task._pilot_number(), path, 0, 1)[0])
        return path.stat().st_size
    except (OSError, JrmError):
        return 0


def _more(task: TaskHandle, path: Path, place: int) -> bytes:
    try:
        if is_far(task, path):
            return distant.part(task._session, task._pilot_number(), path, place, PIECE)[1]
        with open(path, "rb") as file:
            file.seek(place)
            return file.read(PIECE)
    except (OSError, JrmError):
        return b""


def follow(task: TaskHandle, stream: str) -> Generator[str | Pause, None, None]:
    """Yield what is written to stdout or stderr until the task has ended and all is read; new attempts go on."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    at: Path | None = None
    place = 0
    while True:
        ended = task.done()
        path = _path(task, stream)
        if path != at:
            at, place = path, 0
        data = b"" if path is None else _more(task, path, place)
        place += len(data)
        text = decoder.decode(data)
        if text:
            yield text
            continue
        if ended:
            return
        yield Pause(task.done, FOLLOW_FAR_S if path is not None and is_far(task, path) else FOLLOW_S)
