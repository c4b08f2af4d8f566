"""Paths of this machine as people write them, and its programs. Read next: :mod:`.staging`, :mod:`.script`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from ..model.errors import RequestError


def path(given: str | os.PathLike[str], field: str) -> Path:
    """Return the path that a text means: ``~`` and ``~/...`` are the home, everything else is as it stands.

    Raises:
        RequestError: JRM-Q73, it is empty (not the directory one is in), or holds what no path can; names the field.
    """
    text = os.fspath(given)
    try:
        possible = bool(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise RequestError(f"{field}: {text!a} is no path", hint="check the path", code="JRM-Q73")
    return Path(os.path.expanduser(text)) if text == "~" or text.startswith("~/") else Path(text)  # noqa: PTH111


def program_hint(name: str) -> str:
    """Return how a task names a program that this process finds and tasks do not; '' when it is not here either."""
    # A kernel is often started by its path: its own environment counts although nobody has activated it.
    own = str(Path(sys.prefix) / "bin")
    found = shutil.which(name, path=os.pathsep.join([own, os.environ.get("PATH", os.defpath)]))
    if found is None:
        return ""
    prefix = Path(found).parent.parent
    if (prefix / "pyvenv.cfg").exists() or (prefix / "conda-meta").is_dir():
        return f"it is in the environment {prefix}, which tasks are not in by themselves: named_env={str(prefix)!r}; "
    return f"here it is {found}: give that path; "


def exists(found: Path) -> bool:
    """Say whether something is there; a name that no file can have is not."""
    try:
        return found.exists()
    except OSError:
        return False
