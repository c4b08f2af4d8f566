"""Directories of this process under /tmp, named so that whoever comes later can tell that their owner is gone.

A process that is killed cannot tidy up; the next agent on the machine does it. The name holds the owner's process id,
its start time and the process table both are valid in, so that neither a reused number nor a container's numbers are
mistaken. Knows directories only. Read next: :mod:`jupyter_rm.agent.crew`, who uses them.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

_NAME = re.compile(r"jrm-(?:py|env)-([0-9]+)\.([0-9]+)\.([0-9]+)-\w+", re.ASCII)


def _table() -> str:
    """Return the number of the process table (a namespace) in which ids of this process are valid."""
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")  # noqa: PTH115
    except OSError:
        return "0"


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's own units, '' when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(") ")[2].split()[19]
    except (OSError, IndexError):
        return ""


@lru_cache(maxsize=2)
def _own(pid: int) -> str:
    return f"{_table()}.{pid}.{_started(pid) or 0}"


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
