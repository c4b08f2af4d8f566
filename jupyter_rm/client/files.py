"""A task's files as seen from here: its sandbox, its output so far, its output as it grows.

Knows where sandboxes lie (``<pilot sandbox>/<bulk>/<index>.<attempt>``). Reads files of this machine only.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.errors import LinkError

if TYPE_CHECKING:
    from .task import TaskHandle

LIMIT = 64 << 20
FOLLOW_S = 0.1


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


def read(task: TaskHandle, stream: str) -> str:
    """Return the text of stdout or stderr so far; empty when there is none.

    Raises:
        LinkError: the file exists elsewhere only, or is too large to be shown.
    """
    path = _path(task, stream)
    if path is None:
        return ""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > LIMIT:
                raise LinkError(
                    f"{path} is larger than {LIMIT >> 20} MiB", code="JRM-T11", hint=f"open it yourself: {path}"
                )
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise LinkError(f"{path}: {error.strerror}", code="JRM-T11", hint="check the sandbox directory") from None


def tail(task: TaskHandle, stream: str, size: int = 2000) -> str:
    """Return the last ``size`` bytes of stdout or stderr; empty when they cannot be read."""
    path = _path(task, stream)
    if path is None:
        return ""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def follow(task: TaskHandle, stream: str) -> Iterator[str]:
    """Yield what is written to stdout or stderr until the task has ended and all is read; new attempts go on."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    replica = task._session._replica
    at: Path | None = None
    place = 0
    while True:
        ended = task.done()
        path = _path(task, stream)
        if path != at:
            at, place = path, 0
        text = ""
        if path is not None:
            try:
                with open(path, "rb") as file:
                    file.seek(place)
                    data = file.read(1 << 20)
                    place += len(data)
                    text = decoder.decode(data)
            except OSError:
                text = ""
        if text:
            yield text
            continue
        if ended:
            return
        replica.wait(task.done, FOLLOW_S)
