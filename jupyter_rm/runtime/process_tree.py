"""Ending whole process trees: adopting orphans, and killing everything below a process.

What it is: `become_subreaper` (Linux: orphaned descendants come to this process instead of to init, so the tree below
it stays complete) and `kill_descendants`.

What it knows and does not know: parents and children as the system lists them. It does not know which are tasks.
Where orphans cannot be adopted (macOS), the process groups that the caller has recorded stand in for them.

Read next: native/process_tree.hpp, the same for the guard and the spawner's host.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable

import psutil

__all__ = ["become_subreaper", "descendants", "kill_descendants"]

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Adopt orphaned descendants from now on; False where the system has no such thing. They must be reaped then."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def descendants(pid: int | None = None) -> list[int]:
    """The living processes below `pid` (default: this one); zombies do not count."""
    top = os.getpid() if pid is None else pid
    children: dict[int, list[int]] = {}
    dead: set[int] = set()
    for child, parent, state in _linux_table() if sys.platform == "linux" else _portable_table():
        children.setdefault(parent, []).append(child)
        if state:
            dead.add(child)
    found = [top]
    for one in found:  # grows while it is walked
        found.extend(children.get(one, ()))
    return [p for p in found[1:] if p not in dead]


def kill_descendants(
    pid: int | None = None, grace: float = 2.0, groups: Iterable[int] = (), patience: float = 10.0
) -> int:
    """End everything below a process: TERM, after `grace` s KILL, again and again until nothing is left.

    pid: whose descendants, default this process (which reaps those that are or become its own children). groups:
    process groups to end as well. Returns how many different processes were signalled; gives up `patience` s after the
    first KILL, for a process that hangs in the kernel cannot be killed by anyone.
    """
    own = pid is None or pid == os.getpid()
    groups = list(groups)
    seen: set[int] = set()
    begin = time.monotonic()
    while True:
        now = descendants(pid)
        groups = [g for g in groups if _send(-g, 0)]
        age = time.monotonic() - begin
        if (not now and not groups) or age > grace + patience:
            break
        for one in [*now, *(-g for g in groups)]:
            if age >= grace:
                _send(one, signal.SIGKILL)
            elif one not in seen:
                _send(one, signal.SIGTERM)
                _send(one, signal.SIGCONT)  # a stopped process cannot act on TERM
            seen.add(one)
        if own:
            _reap(seen)
        time.sleep(0.002 if age < 0.05 else 0.02)
    if own:
        _reap(seen)
    return len(seen)


def _linux_table() -> Iterable[tuple[int, int, bool]]:
    for name in os.listdir("/proc"):  # noqa: PTH208  (a thousand entries: names are enough)
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as f:
                state, parent = f.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        yield int(name), int(parent), state in (b"Z", b"X")


def _portable_table() -> Iterable[tuple[int, int, bool]]:
    for p in psutil.process_iter(["pid", "ppid", "status"]):
        yield p.info["pid"], p.info["ppid"], p.info["status"] == psutil.STATUS_ZOMBIE


def _send(target: int, sig: int) -> bool:
    try:
        os.kill(target, sig)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _reap(pids: Iterable[int]) -> None:
    """Take the status of those among `pids` that are children of ours and dead."""
    for pid in pids:
        if pid > 0:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
