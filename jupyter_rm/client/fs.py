"""The files at a pilot's site, by hand: ``s.fs(...)``.

Works over the login that the broker has already. Paths are relative to the pilot's sandbox; ``~/...`` is the account's
home, and the places of staging directives (``pilot:///``, ``session:///``, ``resource:///``, ``task://t.3.1/``) mean
what they mean there. Read next: :mod:`.staging` (for tasks), :mod:`.distant` (parts of files).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.errors import RequestError, SiteError
from ..model.ids import parse_task
from ..model.messages import FilesMoved, MoveFiles
from ..model.staging import ON_TARGET, base_name, spaces, split
from ..runtime.depot import copy_here
from . import distant, here

if TYPE_CHECKING:
    from .pilot import Pilot
    from .session import Session

MOST_S = 3600.0
READ_MOST = 64 << 20


@dataclass(frozen=True)
class Entry:
    """One entry of a directory: ``kind`` is ``file``, ``dir``, ``link`` or ``other``; ``modified`` in s since 1970."""

    name: str
    kind: str
    size: int
    modified: float

    def __str__(self) -> str:
        return f"{self.name}{'/' if self.kind == 'dir' else ''}"


class SiteFiles:
    """The files of one pilot's site.

    Args:
        session: whose pilot it is. pilot: the pilot.
    """

    def __init__(self, session: Session, pilot: Pilot) -> None:
        self._session, self._pilot = session, pilot
        self._far = distant.elsewhere(session, pilot._number)

    def __repr__(self) -> str:
        row = self._pilot._row()
        return f"<files of {row.spec.site}, {self._pilot.uid}{': ' + row.sandbox if row.sandbox else ''}>"

    def path(self, text: str | os.PathLike[str] = "") -> str:
        """Return the absolute path (or ``~/...``) that a path or place stands for there.

        Raises:
            RequestError: JRM-Q92, the pilot has no sandbox yet, or the place is none of the target.
        """
        text = os.fspath(text)
        if any(sign in text for sign in "\0\n\r") or not _is_text(text):
            why = "holds a line break, a NUL or what is no character"
            raise RequestError(f"path: {text!a} {why}", hint="rename the file", code="JRM-Q92")
        if text == "~" or text.startswith(("/", "~/")):
            return text if self._far else str(here.path(text, "path"))
        scheme, owner, path = split(text)
        if "://" in text and scheme not in ON_TARGET:
            raise RequestError(f"path: {text!r} is no place there", hint=f"use {', '.join(ON_TARGET)}", code="JRM-Q92")
        if scheme == "file":
            return path
        sandbox = self._pilot._row().sandbox
        if not sandbox:
            raise RequestError(
                f"path: {self._pilot.uid} has no sandbox yet", hint="wait for it, or give a full path", code="JRM-Q92"
            )
        if scheme == "task":
            where = self._session[f"t.{'.'.join(map(str, parse_task(owner.partition('@')[0])))}"].sandbox
            return f"{where or sandbox}/{path}".rstrip("/")
        return f"{spaces(sandbox, self._pilot._number)[scheme] if scheme else sandbox}/{path}".rstrip("/")

    def ls(self, path: str | os.PathLike[str] = "") -> list[Entry]:
        """Return what is in a directory, by name (SiteError when it cannot be read)."""
        where = self.path(path)
        if self._far:
            return [_entry(line) for line in self._ask("ls", [where])]
        try:
            return sorted((_here(each) for each in Path(where).iterdir()), key=lambda entry: entry.name)
        except OSError as error:
            raise _failed(where, error) from None

    def read(self, path: str | os.PathLike[str]) -> bytes:
        """Return the content of a file of at most 64 MiB; empty when it is not there."""
        where = Path(self.path(path))
        if self._far:
            return distant.read(self._session, self._pilot._number, where, READ_MOST)
        try:
            return where.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise _failed(str(where), error) from None

    def get(self, path: str | os.PathLike[str], to: str | os.PathLike[str] = ".") -> Path:
        """Bring a file or directory here, whole and checked; return where it is.

        Args:
            to: its path here; a directory that is there gets it under its own name.

        Raises:
            SiteError, LinkError: it cannot be had.
        """
        where, goal = self.path(path), here.path(to, "to").resolve()
        if goal.is_dir():
            goal /= base_name(where)
        if self._far:
            self._ask("get", [where], [str(goal)])
            return goal
        try:
            copy_here(Path(where), goal)
        except OSError as error:
            raise _failed(where, error) from None
        return goal

    def put(self, local: str | os.PathLike[str], to: str | os.PathLike[str] = "") -> str:
        """Bring a file or directory there; return its path there.

        Args:
            to: its path there; left out or ending in ``/``: under its own name in that directory.

        Raises:
            RequestError: JRM-Q73, it is not here. SiteError, LinkError: it did not arrive.
        """
        source = here.path(local, "local")
        if not here.exists(source):
            raise RequestError(f"local: {os.fspath(local)!r} is not there", hint="check the path", code="JRM-Q73")
        source, goal = source.resolve(), self.path(to)
        if not os.fspath(to) or os.fspath(to).endswith("/"):
            goal = f"{goal.rstrip('/')}/{source.name}"
        if self._far:
            pairs = [(source, goal)]
            if source.is_dir():
                inside = sorted(each for each in source.rglob("*") if each.is_file())
                pairs = [(each, f"{goal}/{each.relative_to(source)}") for each in inside]
            for start in range(0, len(pairs), 200):
                some = pairs[start : start + 200]
                self._ask("put", [str(each) for each, _ in some], [each for _, each in some])
            return goal
        try:
            copy_here(source, Path(goal))
        except OSError as error:
            raise _failed(goal, error) from None
        return goal

    def mkdir(self, path: str | os.PathLike[str]) -> str:
        """Make a directory, with those above it; return its path. One that is there is fine."""
        where = self.path(path)
        if self._far:
            self._ask("mkdir", [where])
            return where
        try:
            Path(where).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _failed(where, error) from None
        return where

    def remove(self, path: str | os.PathLike[str]) -> None:
        """Remove a file or an empty directory; one that is not there is fine."""
        where = self.path(path)
        if self._far:
            self._ask("remove", [where])
            return
        try:
            found = Path(where)
            found.rmdir() if found.is_dir() and not found.is_symlink() else found.unlink(missing_ok=True)
        except OSError as error:
            raise _failed(where, error) from None

    def _ask(self, what: str, sources: list[str], targets: list[str] | None = None) -> tuple[str, ...]:
        connection = self._session._connection
        asked = MoveFiles(
            connection.number(), self._session.name, self._pilot._number, what, tuple(sources), tuple(targets or ())
        )
        answer: FilesMoved = connection.request(asked, MOST_S)
        return answer.names


def of(session: Session, where: Pilot | str) -> SiteFiles:
    """Return the files of a pilot (itself, its name or uid) or of a site at which the session has one.

    Raises:
        RequestError: JRM-Q92, there is no such pilot or site in the session.
    """
    for pilot in reversed(list(session.pilots())):
        row = pilot._row()
        if getattr(where, "uid", where) in (pilot.uid, row.spec.name, row.spec.site):
            return SiteFiles(session, pilot)
    known = ", ".join(f"{pilot.uid} ({pilot._row().spec.site})" for pilot in session.pilots()) or "none yet"
    raise RequestError(f"fs: {where!r} is no pilot or site of this session", hint=f"pilots: {known}", code="JRM-Q92")


def _is_text(text: str) -> bool:
    try:
        return bool(text.encode() or True)
    except UnicodeEncodeError:
        return False


def _here(path: Path) -> Entry:
    info = path.lstat()
    kinds = ((stat.S_ISDIR, "dir"), (stat.S_ISREG, "file"), (stat.S_ISLNK, "link"))
    kind = next((name for check, name in kinds if check(info.st_mode)), "other")
    return Entry(path.name, kind, info.st_size, info.st_mtime)


def _entry(line: str) -> Entry:
    kind, size, modified, name = line.split(" ", 3)
    return Entry(name, kind, int(size), float(modified))


def _failed(where: str, error: OSError) -> SiteError:
    return SiteError(f"{where}: {error.strerror or error}", hint="check path, owner and free space", code="JRM-F61")
