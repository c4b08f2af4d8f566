"""The way back: where the broker may not go to an agent, the agent comes to the broker.

The broker waits at a private unix socket; a reverse forward of its SSH connection makes a port of the login node lead
there. The agent is told by a file beside its letters where to dial. The port may be open to others: behind it the first
word is the agent's proof of its key, and nobody else gets to say a second one. Runs in the thread of the site; blocks
at most some seconds. Read next: :mod:`jupyter_rm.broker.reach`, :mod:`jupyter_rm.broker.links`.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable

import msgspec

from ..model.errors import JrmError
from ..runtime.connect import Address, Connection, Forward
from ..wire import letters
from .links import Road
from .reach import TRIES_MOST, Reached, wait

# How long the agent may take to come once it was told, s. It looks for that four times a second; a network file system
# may show it later, so the door stays open while letters are written.
COME_S = 6.0
# Constant text: the addresses of a login node; not every system knows the first form.
_ADDRESSES = ["/bin/sh", "-c", "hostname -I 2>/dev/null || hostname -i"]


class Back(Reached):
    """A door at the site through which the agent comes, or may still come.

    Args:
        place: the pilot's directory on the target. hosts: addresses under which the door may be reached there.
    """

    def __init__(self, road: Road, door: Forward, connection: Connection, place: str, hosts: list[str]) -> None:
        super().__init__(road, door)
        self._connection, self._file, self._hosts = connection, f"{place}/{letters.DOWN}/{letters.DIAL}", hosts
        self._opened, self._told, self._failures = door, 0, road.failures

    @property
    def name(self) -> str:
        """Which road this is, for people."""
        return f"reverse, port {self._opened.address.port} of {self._connection.name} ({', '.join(self._hosts)})"

    def tell(self) -> None:
        """Say to the agent where the door is, unless it was told: after a reconnect it may be at another port."""
        port = self._opened.address.port
        if port == self._told:
            return
        said = letters.Dial([f"tcp://{host}:{port}" for host in self._hosts], secrets.token_hex(8))
        self._connection.write(self._file, msgspec.json.encode(said), 0o600)
        self._told = port

    def broke(self) -> bool:
        """Say whether the road was cut since the last look: the door is put up again, and the agent comes back."""
        before, self._failures = self._failures, self.road.failures
        return self._failures > before


def come_back(
    connection: Connection, place: str, same_host: bool, listen: Callable[[str], Road]
) -> tuple[Back | None, list[str]]:
    """Open a door at the site and have the agent come; return the door (or None) and what became of the attempt.

    The door is returned also when the agent did not come so far: its road is not up then.

    Args:
        place: the pilot's directory on the target. same_host: the agent runs on the login machine itself.
        listen: waits for the agent at a ZeroMQ address.

    Raises:
        LinkError: the connection was lost meanwhile; nothing is concluded.
    """
    door: Forward | None = None
    try:
        hosts = ["127.0.0.1"] if same_host else _addresses(connection)
        if not hosts:
            return None, [f"reverse: {connection.name} names no address of its own"]
        path = connection.settings.control_dir / f"b{secrets.token_hex(4)}"
        # All addresses, for agents on other machines: where the server does not allow that, it listens on its loopback.
        door = connection.reverse(Address("127.0.0.1" if same_host else "", 0), path=str(path))
        back = Back(listen(f"ipc://{path}"), door, connection, place, hosts)
        back.tell()
    except JrmError as error:
        if door is not None:
            door.close()
        if not connection.alive:
            raise
        return None, [f"reverse: {error.message}"]
    why = wait(back.road, COME_S)
    return back, [f"{back.name}: {why or 'connected'}"]


def _addresses(connection: Connection) -> list[str]:
    """Return the numeric addresses of the login node that others may reach."""
    found = []
    for word in connection.run(_ADDRESSES).text.split():
        try:
            address = ipaddress.IPv4Address(word)
        except ValueError:
            continue  # of the other family, or a name
        if not address.is_loopback:
            found.append(word)
    return found[:TRIES_MOST]
