"""Paths of this machine as people write them. Knows no files. Read next: :mod:`.staging`, :mod:`.script`."""

from __future__ import annotations

import os
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


def exists(found: Path) -> bool:
    """Say whether something is there; a name that no file can have is not."""
    try:
        return found.exists()
    except OSError:
        return False
