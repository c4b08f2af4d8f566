"""This machine behind the interface of a remote one, so that everything above needs no special case.

Knows: processes and files of the user. Does not know: SSH. Read next: ``link.py`` for the contract.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_rm.runtime.connect.forwarder import Forwarder, dial_here
from jupyter_rm.runtime.connect.link import Address, Channel, Link
from jupyter_rm.runtime.connect.programs import ProcessChannel


class _Listed:
    """An entry of a directory, with the names that paramiko gives its attributes."""

    def __init__(self, path: Path) -> None:
        info = path.lstat()
        self.filename = path.name
        self.st_mode, self.st_size, self.st_mtime = info.st_mode, info.st_size, info.st_mtime


class LocalFiles:
    """The user's files with the methods of ``paramiko.SFTPClient``; relative paths start at home, as over SFTP."""

    def _at(self, path: str) -> Path:
        return Path.home() / path

    def open(self, path: str, mode: str) -> Any:
        """Open a file in binary; SFTP's ``wx`` is Python's ``x``."""
        return self._at(path).open(mode.replace("wx", "x"))

    def stat(self, path: str) -> os.stat_result:
        """Return the facts about a path."""
        return self._at(path).stat()

    def posix_rename(self, old: str, new: str) -> None:
        """Rename over whatever is there."""
        self._at(old).replace(self._at(new))

    def chmod(self, path: str, mode: int) -> None:
        """Set the permissions."""
        self._at(path).chmod(mode)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Make one directory."""
        self._at(path).mkdir(mode)

    def remove(self, path: str) -> None:
        """Remove a file."""
        self._at(path).unlink()

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._at(path).rmdir()

    def listdir_attr(self, path: str) -> list[_Listed]:
        """Return the entries of a directory."""
        return [_Listed(entry) for entry in self._at(path).iterdir()]

    def lstat(self, path: str) -> os.stat_result:
        """Return the facts about a path itself, not about what a link points to."""
        return self._at(path).lstat()

    def close(self) -> None:
        """Nothing to close."""


def is_dir(mode: int) -> bool:
    """Return whether a mode is a directory's."""
    return stat.S_ISDIR(mode)


class LocalLink(Link):
    """Always alive."""

    name = "local"

    def alive(self) -> bool:
        """Return True."""
        return True

    def watch(self, stop: threading.Event) -> str:
        """Return when told to stop."""
        stop.wait()
        return ""

    def close(self) -> None:
        """Nothing to close: forwards are ended by whoever made them."""

    def spawn(self, line: str) -> Channel:
        """Run the line in ``/bin/sh`` in the home directory."""
        return ProcessChannel(["/bin/sh", "-c", line], cwd=str(Path.home()))

    def files(self) -> Any:
        """Return the user's files."""
        return LocalFiles()

    def forward(self, here: Address, there: Address) -> tuple[Address, Callable[[], None]]:
        """Listen here and dial there, both on this machine."""
        door = Forwarder(here, lambda: dial_here(there))
        return door.address, door.close

    def reverse(self, there: Address, here: Address) -> tuple[Address, Callable[[], None]]:
        """Listen there and dial here, both on this machine."""
        return self.forward(there, here)

    def ping(self) -> float:
        """Return 0."""
        return 0.0
