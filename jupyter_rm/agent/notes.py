"""Sentences about ends, for people: what a start failed at, what a signal means, what was written last.

Read next: :mod:`jupyter_rm.agent.executables`.
"""

from __future__ import annotations

import errno
import os
import signal

TAIL = 300  # bytes of standard error that are quoted


def code_note(code: int) -> str:
    """Return how a process ended: ``code`` is its exit code, or minus the signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "?"
    note = f"killed by signal {-code} ({name})"
    if code == -signal.SIGKILL:
        note += ", not by jupyter_rm: perhaps the machine or its batch job ran out of memory"
    return note


def exec_note(name: str, folder: str, number: int, why: str) -> str:
    """Return why a program could not be executed; ``number`` is the errno, ``why`` its text."""
    file = os.path.join(folder, name)  # noqa: PTH118
    if number == errno.ENOENT:
        if os.path.exists(file):  # noqa: PTH110
            return f"executable {name!r}: the interpreter its first line names was not found"
        where = f" in the sandbox {folder}" if not name.startswith("/") else ""
        return f"executable {name!r} not found{where}"
    if number == errno.EACCES and os.path.isdir(file):  # noqa: PTH112
        return f"executable {name!r} is a directory"
    if number == errno.EACCES:
        return f"executable {name!r} is not executable (permission denied); chmod +x it?"
    if number == errno.ENOEXEC:
        return f"executable {name!r} is neither a program of this machine nor a script that begins with '#!'"
    return f"executable {name!r}: {why}"


def tail(folder: str, name: str) -> str:
    """Return the end of a file a task wrote, empty when there is none."""
    if not name:
        return ""
    try:
        # Never block on what a task may have put there instead of a file.
        with open(os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH118
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            return file.read(TAIL).decode("utf-8", "replace").strip()
    except (OSError, ValueError):
        return ""
