"""Looking at running programs from outside: which processes, sockets, files and command lines a home has."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from jupyter_rm.runtime.home import Home


def eventually(check: Callable[[], object], what: str, within: float = 20.0) -> None:
    """Wait until ``check()`` is true; fail with ``what`` after ``within`` seconds."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while not check():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        pause.wait(0.02)


def broker() -> psutil.Process:
    """Return the broker of the current home."""
    holder = Home.locate().holder()
    assert holder is not None, "no broker runs"
    return psutil.Process(holder.pid)


def programs() -> list[psutil.Process]:
    """Return the broker and everything under it: guards, agents, spawner hosts, workers, tasks."""
    root = broker()
    return [root, *root.children(recursive=True)]


def own(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that are parts of the system, not a user's programs."""
    return [p for p in processes if "jupyter_rm" in " ".join(p.cmdline())]


def inodes(process: psutil.Process) -> set[str]:
    """Return the inodes of a process's sockets."""
    found = set()
    for fd in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            target = os.readlink(fd)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def sockets(processes: list[psutil.Process]) -> Iterator[tuple[str, str]]:
    """Yield (protocol, line of /proc/net) of every socket of these processes that the kernel lists."""
    wanted = set().union(*map(inodes, processes))
    for protocol, column in [(p, 9) for p in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")] + [("unix", 6)]:
        table = Path(f"/proc/net/{protocol}")
        if not table.exists():
            continue
        for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()[1:]:
            words = line.split()
            if len(words) > column and words[column] in wanted:
                yield protocol, line
