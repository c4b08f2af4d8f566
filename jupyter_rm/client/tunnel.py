"""A tunnel on its own: an address that another machine can reach becomes an address here, through one login.

For a dashboard on a compute node, a database behind a firewall, or ZeroMQ sockets of one's own: whatever speaks over a
stream. Any number of hops (``ProxyJump`` of ``~/.ssh/config``); the door is put up again after a cut. Knows nothing of
brokers, pilots and agents. Read next: :mod:`jupyter_rm.runtime.connect`.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from ..model.errors import RequestError

if TYPE_CHECKING:
    from types import TracebackType

    from ..runtime.connect import Asker, Connection, ConnectSettings, Forward


class Tunnel:
    """One open door; ``close()`` or the end of a ``with`` block shuts it.

    Attributes:
        via, to: the machine it goes through, and where it leads as seen from there.
        host, port: where it listens here (a port of the loopback address), or ``path``: a unix socket.
    """

    def __init__(self, via: str, to: str, connection: Connection, door: Forward) -> None:
        self.via, self.to = via, to
        self._connection, self._door = connection, door
        self._open = True

    @property
    def host(self) -> str:
        """The address here, empty for a unix socket."""
        return self._door.address.host

    @property
    def port(self) -> int:
        """The port here, 0 for a unix socket."""
        return self._door.address.port

    @property
    def path(self) -> str:
        """The path of the unix socket here, empty for a port."""
        return self._door.address.path

    @property
    def endpoint(self) -> str:
        """The same for ZeroMQ: ``tcp://...`` or ``ipc://...``."""
        return f"ipc://{self.path}" if self.path else f"tcp://{self.host}:{self.port}"

    @property
    def alive(self) -> bool:
        """Is it open, and is the login behind it up now? After a cut it comes back by itself."""
        return self._open and self._connection.alive

    def close(self) -> None:
        """Shut it and hang up; harmless when that was done."""
        if self._open:
            self._open = False
            self._door.close()
            self._connection.close()

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = self.path or f"{self.host}:{self.port}"
        return f"<tunnel {where} -> {self.to} through {self.via}{'' if self._open else ' (closed)'}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": f"<p><code>{html.escape(repr(self)[1:-1])}</code></p>"}


def goal(to: str) -> tuple[str, int, str]:
    """Return (host, port, path) of where a tunnel leads: ``8888``, ``n01:8888``, ``[::1]:8888`` or ``/path``.

    Raises:
        RequestError: JRM-Q35, it is none of these.
    """
    if to.startswith("/") and "\0" not in to:
        return "", 0, to
    host, mark, port = to.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536 or (mark and not host) or len(port) > 5:
        raise RequestError(
            f"to: {to!r} is no address", hint="write a port (8888), host:port (n01:8888) or /path", code="JRM-Q35"
        )
    return host or "127.0.0.1", int(port), ""


def tunnel(
    via: str,
    to: str | int,
    *,
    port: int = 0,
    private: bool = False,
    asker: Asker | None = None,
    settings: ConnectSettings | None = None,
) -> Tunnel:
    """Make an address that ``via`` can reach an address here.

    Args:
        via: ``me@host``, ``ssh://me@host:port``, an alias of the SSH configuration, a site's name, or ``local``.
        to: where it leads as seen from there: a port there, ``host:port``, or the path of a unix socket.
        port: of the loopback address here; 0: any free one. Every user of this machine can use it.
        private: listen at a unix socket instead that only you can open.
        asker: who answers what the login asks (default: the person at this terminal or cell).

    Raises:
        RequestError: an address is none. LinkError: the login failed, or the address here is taken.
    """
    from ..broker.sites import machine
    from ..runtime.connect import Address, connect
    from .sites import Person, _settings

    host, number, path = goal(str(to))
    if (private and port) or not 0 <= port < 65536:
        raise RequestError("port: not with private=, and below 65536", hint="leave one out", code="JRM-Q35")
    connection = connect(machine(via), asker or Person(), settings or _settings())
    try:
        listen = None if private else Address("127.0.0.1", port)
        door = connection.forward(host if not path else "", number, path=path, listen=listen)
    except BaseException:
        connection.close()
        raise
    return Tunnel(via, str(to), connection, door)
