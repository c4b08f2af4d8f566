"""Whose tasks lie in a directory that somebody chose for a pilot's tasks: one session's only.

Tasks are numbered within their session, so those of two sessions would write over each other's files there. The first
one marks the directory as its own; another one gets a directory in it. Read next: :mod:`jupyter_rm.agent.__main__`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARK = ".jrm-session"


def claimed(spec: Mapping[str, Any]) -> Path:
    """Return where the tasks of a pilot are to lie: its sandbox, or a directory in it if that is another session's.

    Raises:
        OSError: nothing can be written there.
    """
    sandbox, place, session = Path(spec["sandbox"]), Path(spec["place"]), str(spec["session"])
    if sandbox.name == f"p.{spec['pilot']}" and sandbox.parent.name.partition(".")[0] == session:
        return sandbox  # made for this pilot alone
    # The directory of a session's pilots tells it from all others of its machine, elsewhere of all brokers.
    who = os.fsencode(str(place.parent) if spec.get("link") else f"{place.parent} {os.uname().nodename}")
    if _mark(sandbox, who):
        return sandbox
    own = sandbox / f"{session}.{hashlib.blake2s(who, digest_size=4).hexdigest()}"
    own.mkdir(mode=0o700, exist_ok=True)
    return own


def _mark(directory: Path, who: bytes) -> bool:
    """Mark a directory, whole or not at all; say whether it is ours."""
    mark, mine = directory / MARK, directory / f"{MARK}.{os.getpid()}.{os.urandom(4).hex()}"
    mine.write_bytes(who)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(mine, mark)
    except OSError:  # a filesystem without links: the name is taken alone, and what it holds follows
        with contextlib.suppress(FileExistsError), mark.open("xb") as file:
            file.write(who)
    finally:
        mine.unlink()
    try:
        return mark.read_bytes() == who
    except OSError:  # another user's
        return False
