"""Files to where tasks run, and back: ``s.stage(...)``, ``s.files(...)``.

What is staged lies in one directory per pilot, ``shared`` beside its tasks' sandboxes, and has the same relative path
seen from every task: ``../../shared/NAME``; or in the session's or the account's, which directives name. On this
machine files are copied; at other sites the broker brings them through the login it has, each content once, resumable
and checked. Read next: :mod:`.distant`, :mod:`.files`.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.errors import LinkError, RequestError, SiteError
from ..model.messages import FilesMoved, MoveFiles
from ..model.staging import SHARED, SPACES, hidden, spaces
from . import distant, files, here

if TYPE_CHECKING:
    from .pilot import Pilot
    from .session import Session
    from .task import TaskHandle

SEEN = f"../../{SHARED}"  # from a sandbox <root>/<bulk>/<task>.<attempt>
AT_ONCE = 200
MOST_S = 3600.0  # of one go


def stage(
    session: Session, paths: Sequence[str | os.PathLike[str]], pilots: Sequence[Pilot], to: str = "pilot"
) -> list[str]:
    """Bring files and directories to pilots; return their paths as tasks see them, one per path.

    Args:
        to: one of the shared directories: ``pilot``, ``session`` or ``resource``; of the latter two the places are
            returned, as directives name them.

    Raises:
        RequestError: JRM-Q73, a path is not there; JRM-Q14, no pilot has begun yet; JRM-Q05, no such directory.
        LinkError, SiteError: it failed.
    """
    if to not in SPACES:
        raise RequestError(f"to: {to!r} is no shared directory", hint="use " + ", ".join(SPACES), code="JRM-Q05")
    found = [_found(path) for path in paths]
    ready = [pilot for pilot in pilots if pilot.sandbox is not None and not pilot._row().state.final]
    if not ready:
        raise RequestError("stage: no pilot has begun yet", hint="wait for it: pilot.wait()", code="JRM-Q14")
    pairs = [pair for path in found for pair in _pairs(path)]
    roots: dict[tuple[str, Path], Pilot] = {}  # pilots of one site share the larger directories
    for pilot in ready:
        root = Path(spaces(str(pilot.sandbox), pilot._number)[to])
        roots.setdefault((pilot._row().spec.site, root), pilot)
    for (_, root), pilot in roots.items():
        if distant.elsewhere(session, pilot._number) and not distant.seen_here(root):
            for start in range(0, len(pairs), AT_ONCE):
                some = pairs[start : start + AT_ONCE]
                _move(session, pilot._number, "put", [str(s) for s, _ in some], [str(root / t) for _, t in some])
            continue
        for source, target in pairs:
            _copy(source, root / target)
    return [f"{SEEN if to == 'pilot' else f'{to}://'}/{path.name}" for path in found]


def bring(task: TaskHandle, patterns: Sequence[str], to: str | os.PathLike[str]) -> list[Path]:
    """Bring files of a task's sandbox here; return where they are now.

    Args:
        patterns: such as ``*.csv``, compared with paths relative to the sandbox; none: all files.
        to: directory here, made when missing.

    Raises:
        LinkError, SiteError: the site cannot be reached, or a file did not arrive.
    """
    sandbox = files.sandbox_of(task)
    if sandbox is None:
        return []
    goal = here.path(to, "to").resolve()
    far = files.is_far(task, sandbox / "stdout")
    number = task._pilot_number()
    if far:
        names = _move(task._session, number, "list", [str(sandbox)], [])
    else:
        names = tuple(sorted(str(path.relative_to(sandbox)) for path in sandbox.rglob("*") if path.is_file()))
    chosen = [name for name in names if not patterns or any(fnmatch.fnmatch(name, each) for each in patterns)]
    # A name from elsewhere must not leave the directory it is meant for.
    chosen = [name for name in chosen if (goal / name).resolve().is_relative_to(goal)]
    targets = [goal / name for name in chosen]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    if far:
        for start in range(0, len(chosen), AT_ONCE):
            some = [str(sandbox / name) for name in chosen[start : start + AT_ONCE]]
            _move(task._session, number, "get", some, [str(each) for each in targets[start : start + AT_ONCE]])
    else:
        for name, target in zip(chosen, targets, strict=True):
            _copy(sandbox / name, target)
    return targets


def _found(path: str | os.PathLike[str]) -> Path:
    found = here.path(path, "stage")
    if not here.exists(found):
        raise RequestError(f"stage: {os.fspath(path)!r} is not there", hint="check the path", code="JRM-Q73")
    return found.resolve()


def _pairs(path: Path) -> list[tuple[Path, str]]:
    """Return (file here, path below the shared directory) of a file or of all files of a directory."""
    if path.is_dir():
        inside = sorted(each for each in path.rglob("*") if each.is_file())
        return [(each, str(each.relative_to(path.parent))) for each in inside]
    return [(path, path.name)]


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Beside it, then in its place: a task that reads meanwhile sees the old file or the new one.
        part = target.with_name(hidden(target.name, "here"))
        shutil.copy2(source, part)
        part.replace(target)
    except OSError as error:
        raise SiteError(
            f"{target}: {error.strerror}", hint="check free space and permissions there", code="JRM-F61"
        ) from None


def _move(session: Session, pilot: int, what: str, sources: list[str], targets: list[str]) -> tuple[str, ...]:
    connection = session._connection
    asked = MoveFiles(connection.number(), session.name, pilot, what, tuple(sources), tuple(targets))
    answer: FilesMoved = connection.request(asked, MOST_S)
    if what != "list" and len(answer.names) != len(sources):
        raise LinkError("not all files arrived", hint="try again", code="JRM-T11", retry=True)
    return answer.names
