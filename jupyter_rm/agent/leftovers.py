"""What a process leaves behind when it is killed, and how the next one on the machine tidies up.

Directories under /tmp are named so that whoever comes later can tell that their owner is gone.

A process that is killed cannot tidy up; the next agent on the machine does it. The name holds the owner's process id,
its start time and the process table both are valid in, so that neither a reused number nor a container's numbers are
mistaken. Knows directories and process ids. Read next: :mod:`jupyter_rm.agent.crew`, who uses them.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import resource
import shutil
import signal
import tempfile
import time
from functools import lru_cache
from pathlib import Path

from ..runtime.home import write_private

_NAME = re.compile(r"jrm-(?:py|env)-([0-9]+)\.([0-9]+)\.([0-9]+)-\w+", re.ASCII)


def _table() -> str:
    """Return the number of the process table (a namespace) in which ids of this process are valid."""
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")  # noqa: PTH115
    except OSError:
        return "0"


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's own units, '' when there is none or it is over."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        words = text.rpartition(") ")[2].split()
        return "" if words[0] in "ZX" else words[19]
    except (OSError, IndexError):
        return ""


@lru_cache(maxsize=2)
def _own(pid: int) -> str:
    return f"{_table()}.{pid}.{_started(pid) or 0}"


def no_core_files() -> None:
    """Let this process, which has seen keys, leave no core file; what it starts may ask for some."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


class Mark:
    """A file that says which process of this machine is the node agent of a pilot's node.

    The next one on the same machine ends it first: it may be the last to have learned that its head is gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def take_over(self, seconds: float = 15.0) -> None:
        """End whoever is named there, and all below it, then name this process (or its guard). OSError."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            said = json.loads(self._path.read_bytes())
            self._end(int(said["pid"]), str(said["started"]), str(said["table"]), seconds)
        pid = os.getppid() if guarded() else os.getpid()
        now = {"pid": pid, "started": _started(pid), "table": f"{platform.node()} {_table()}"}
        write_private(self._path, json.dumps(now).encode())

    @staticmethod
    def _end(pid: int, started: str, table: str, seconds: float) -> None:
        if table != f"{platform.node()} {_table()}" or pid in (os.getpid(), os.getppid()):
            return
        until = time.monotonic() + seconds
        number = signal.SIGTERM
        while started and _started(pid) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            time.sleep(0.1)
            if time.monotonic() > until:
                if number == signal.SIGKILL:
                    return  # not ours to end, or stuck in the kernel
                number, until = signal.SIGKILL, until + seconds


def guarded() -> bool:
    """Say whether the parent of this process is a guard, which ends with it."""
    try:
        return Path(f"/proc/{os.getppid()}/comm").read_text(encoding="utf-8").strip() == "jrm-guard"
    except OSError:
        return False


def own_folder(kind: str) -> str:
    """Make a private directory for this process and return its path; ``kind`` is ``py`` or ``env``. OSError."""
    return tempfile.mkdtemp(prefix=f"jrm-{kind}-{_own(os.getpid())}-")


def clear_leftovers(where: str = "") -> int:
    """Remove what dead processes of this user left; returns how many directories that were."""
    count, table = 0, _table()
    if table == "0":
        return 0  # no way to tell who is alive
    folder = Path(where or tempfile.gettempdir())
    try:
        names = [one.name for one in folder.iterdir() if one.name.startswith("jrm-")]
    except OSError:
        return 0
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None or match[1] != table or _started(int(match[2])) == match[3]:
            continue
        path = folder / name
        try:
            mine = path.lstat().st_uid == os.getuid()
        except OSError:
            continue
        if mine and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            count += 1
    return count
