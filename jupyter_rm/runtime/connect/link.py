"""What a transport must be able to do: one live login, out of which channels are opened until it dies.

Three transports keep this contract: ``local.py``, ``chain.py`` (paramiko) and ``openssh.py``. They know how to speak;
when to reconnect, how many channels may be open and what is told to whom is decided once, in ``connection.py``.

Knows: the words of the contract. Does not know: any transport. Read next: ``connection.py``.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from jupyter_rm.model.errors import LinkError


class Busy(Exception):
    """The server refuses one more session on this connection (MaxSessions)."""


class Channel(Protocol):
    """One running command: three byte streams and an exit code."""

    def read_out(self, size: int) -> bytes:
        """Return up to ``size`` bytes of stdout as soon as there are any; empty at the end."""

    def read_err(self, size: int) -> bytes:
        """Return up to ``size`` bytes of stderr; empty at the end."""

    def write(self, data: bytes) -> None:
        """Write all to stdin; OSError when nobody reads."""

    def close_write(self) -> None:
        """End stdin."""

    def wait(self, timeout_s: float | None) -> int | None:
        """Return the exit code (128 + n for a death by signal), or None after ``timeout_s``; LinkError when lost."""

    def close(self) -> None:
        """Give up the channel; the command is not signalled."""


@dataclass(frozen=True)
class Address:
    """Where a forwarded connection ends or begins: a port on a host, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class Link(ABC):
    """One login that is alive until it is not."""

    name = ""

    @abstractmethod
    def alive(self) -> bool:
        """Return whether channels can be opened, as far as is known without asking the peer."""

    @abstractmethod
    def watch(self, stop: threading.Event) -> str:
        """Return why the link died, once it did; empty when ``stop`` was set first (looked at about every second)."""

    @abstractmethod
    def close(self) -> None:
        """End the login and everything in it."""

    @abstractmethod
    def spawn(self, line: str) -> Channel:
        """Start a command line in the login shell; Busy, or LinkError."""

    @abstractmethod
    def files(self) -> Any:
        """Return a new file client with the methods of ``paramiko.SFTPClient``; Busy, or LinkError."""

    @abstractmethod
    def forward(self, here: Address, there: Address) -> tuple[Address, Callable[[], None]]:
        """Listen at ``here`` on this machine, join each connection to ``there``; return where, and how to end it."""

    @abstractmethod
    def reverse(self, there: Address, here: Address) -> tuple[Address, Callable[[], None]]:
        """Listen at ``there`` on the other machine, join connections to ``here``; return where, and how to end it."""

    @abstractmethod
    def ping(self) -> float:
        """Return the seconds that a question to the peer and its answer take."""

    def address(self) -> str:
        """Return the network address that was reached first, for noticing that a name means another machine now."""
        return ""


def lost(name: str, why: str = "") -> LinkError:
    """Return the error for what was under way when a connection broke."""
    return LinkError(
        f"the connection to {name} is lost{f' ({why})' if why else ''}; running work there is unaffected",
        code="JRM-T21",
        hint="it is tried again by itself; repeat the call when it is back",
        retry=True,
    )
