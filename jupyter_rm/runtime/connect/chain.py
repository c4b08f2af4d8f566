"""The transport on paramiko: any number of hops inside one TCP connection.

The first hop is reached by TCP, each further one through a port channel of the one before; encryption, host key and
login are checked end to end at every hop.

Knows: sockets, paramiko. Does not know: when to reconnect. Read next: ``login.py``, ``hosts.py``, ``transport.py``.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import paramiko

from jupyter_rm.model.errors import LinkError
from jupyter_rm.runtime.connect import hosts
from jupyter_rm.runtime.connect.ask import Asker
from jupyter_rm.runtime.connect.forwarder import Forwarder, dial_here, join
from jupyter_rm.runtime.connect.link import Address, Busy, Channel, Link, lost
from jupyter_rm.runtime.connect.login import Keys, Login
from jupyter_rm.runtime.connect.settings import ConnectSettings
from jupyter_rm.runtime.connect.target import Hop, Route
from jupyter_rm.runtime.connect.transport import UNIX, Transport

_log = logging.getLogger(__name__)
logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it logs tracebacks of what is raised here anyway


def reach(hop: Hop, settings: ConnectSettings) -> socket.socket:
    """Return a TCP connection to the first hop, tuned for small messages and for noticing a dead peer.

    Raises:
        LinkError: JRM-T20, naming each address that was tried.
    """
    try:
        found = socket.getaddrinfo(hop.host, hop.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise unreachable(hop, [f"{hop.host}: {error.strerror or error}"]) from None
    tried: list[str] = []
    where: Any
    for family, kind, protocol, _, where in found:
        wire = socket.socket(family, kind, protocol)
        wire.settimeout(settings.connect_timeout_s)
        try:
            wire.connect(where)
        except OSError as error:
            wire.close()
            says = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
            line = f"{where[0]} port {where[1]}: {says}"
            if line not in tried:
                tried.append(line)
            continue
        wire.settimeout(None)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each small exchange waits 40 ms
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Linux: a peer that acknowledges nothing for so long is gone. Elsewhere the questions in watch() find out.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.dead_after_s * 1000))
        return wire
    raise unreachable(hop, tried)


def unreachable(hop: Hop, tried: list[str], via: str = "") -> LinkError:
    """Return the error for a machine that does not open its door, naming each attempt."""
    return LinkError(
        f"{hop} cannot be reached{f' from {via}' if via else ''}: {'; '.join(tried)}",
        code="JRM-T20",
        hint="check the name, the port, and whether you must be on the site's network (VPN)",
        retry=True,
    )


class SessionChannel:
    """A command in a session channel."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel = channel
        self._name = name

    def read_out(self, size: int) -> bytes:
        """Return some of stdout; empty at the end."""
        return bytes(self._channel.recv(size))

    def read_err(self, size: int) -> bytes:
        """Return some of stderr; empty at the end."""
        return bytes(self._channel.recv_stderr(size))

    def write(self, data: bytes) -> None:
        """Write all to stdin."""
        try:
            self._channel.sendall(data)
        except EOFError:
            raise BrokenPipeError("the connection ended") from None

    def close_write(self) -> None:
        """End stdin."""
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
            self._channel.shutdown_write()

    def wait(self, timeout_s: float | None) -> int | None:
        """Return the exit code, None after ``timeout_s``.

        Raises:
            LinkError: JRM-T21, the connection ended first.
        """
        if not self._channel.status_event.wait(timeout_s):
            return None
        if self._channel.exit_status == -1 and not self._channel.get_transport().is_active():
            raise lost(self._name)
        return int(self._channel.exit_status)

    def close(self) -> None:
        """Close the channel."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):  # on a connection that is dead already
            self._channel.close()


class ChainLink(Link):
    """A login through a chain of paramiko transports.

    Args:
        route: the hops.
        ask: who answers questions during the login.
        settings: timeouts.
        keys: keys opened so far.

    Raises:
        LinkError: JRM-T20 unreachable, T24 and T25 refused, T26 host key, T29 cancelled.
    """

    def __init__(self, route: Route, ask: Asker, settings: ConnectSettings, keys: Keys) -> None:
        self.name = str(route.last)
        self._settings = settings
        self._chain: list[Transport] = []
        self._back: dict[str, Callable[[Any], None]] = {}
        self._address = ""
        try:
            for number, hop in enumerate(route.hops):
                transport = self._hop(hop, route.hops[number - 1] if number else None, ask)
                Login(transport, hop, ask, keys, settings.use_agent, settings.ask_timeout_s).run()
        except (paramiko.SSHException, EOFError, OSError) as error:
            self.close()
            raise unreachable(hop, [f"the login broke off ({error or type(error).__name__})"]) from None
        except BaseException:
            self.close()
            raise
        self._end = self._chain[-1]
        self._end.on_arrival(self._arrived)

    def _hop(self, hop: Hop, before: Hop | None, ask: Asker) -> Transport:
        """Return an encrypted connection to ``hop`` whose host key is right, and add it to the chain."""
        wait = self._settings.connect_timeout_s
        wire: Any
        if before is None:
            wire = reach(hop, self._settings)
            self._address = str(wire.getpeername()[0])
        else:
            try:
                wire = self._chain[-1].dial(Address(hop.host, hop.port), wait)
            except (paramiko.SSHException, EOFError, OSError) as error:
                says = error.text if isinstance(error, paramiko.ChannelException) else str(error)
                raise unreachable(hop, [f"{hop.host} port {hop.port}: {says}"], before.name) from None
        transport = Transport(wire)
        self._chain.append(transport)
        transport.banner_timeout = wait
        options = transport.get_security_options()
        known = hosts.known_types(hop)
        if known:  # ask for a key of a type that is on file, as OpenSSH does
            ours = [
                name
                for name in options.key_types
                if name in known or (name.startswith("rsa-sha2") and "ssh-rsa" in known)
            ]
            options.key_types = (*ours, *(name for name in options.key_types if name not in ours))
        try:
            transport.start_client(timeout=wait)
            key = transport.get_remote_server_key()  # fails when the time was over
        except (paramiko.SSHException, EOFError, OSError) as error:
            says = "no answer" if transport.is_active() else str(error) or type(error).__name__
            raise unreachable(hop, [f"{hop.host} port {hop.port}: no SSH there ({says})"]) from None
        hosts.check(hop, key.get_name(), key.asbytes(), ask, self._settings.ask_timeout_s)
        return transport

    def address(self) -> str:
        """Return the IP address of the first hop."""
        return self._address

    def alive(self) -> bool:
        """Return whether every hop is connected."""
        return all(transport.is_active() for transport in self._chain)

    def close(self) -> None:
        """Close all hops, the last first."""
        for transport in reversed(self._chain):
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                transport.close()

    def watch(self, stop: threading.Event) -> str:
        """Return why the link died: it ended, or did not answer in time."""
        every = self._settings.keepalive_s
        while not stop.is_set():
            if self._end.ended.wait(min(1.0, every)):
                error = self._chain[0].get_exception()
                return str(error) if error else "closed by the other side"
            if time.monotonic() - self._end.heard < every:
                continue
            patience = every * (self._settings.keepalive_misses - 1)
            answered, _ = self._end.request("keepalive@openssh.com", timeout_s=max(1.0, patience))
            if not answered:
                return f"no answer for {time.monotonic() - self._end.heard:.0f} s"
        return ""

    def spawn(self, line: str) -> Channel:
        """Start a command line in a session channel."""
        channel = self._session()
        try:
            channel.exec_command(line)
        except (paramiko.SSHException, EOFError, OSError):
            channel.close()
            raise self._gone("the command was not accepted") from None
        return SessionChannel(channel, self.name)

    def _session(self) -> Any:
        try:
            return self._end.open_session(timeout=self._settings.dead_after_s)
        except paramiko.ChannelException as error:
            raise Busy(error.text) from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            # Two refusals at once share one place for their reason in paramiko, and one of them finds it empty.
            if str(error) == "Unable to open channel." and self.alive():
                raise Busy(str(error)) from None
            raise self._gone(str(error)) from None

    def _gone(self, why: str) -> LinkError:
        if self.alive():
            return LinkError(f"{self.name}: {why}", code="JRM-T22", hint="try again", retry=True)
        return lost(self.name, why)

    def files(self) -> Any:
        """Return an SFTP client in a session of its own."""
        channel = self._session()
        try:
            channel.invoke_subsystem("sftp")
            return paramiko.SFTPClient(channel)
        except (paramiko.SSHException, EOFError, OSError) as error:
            channel.close()
            raise self._gone(f"no SFTP there ({error})") from None

    def forward(self, here: Address, there: Address) -> tuple[Address, Callable[[], None]]:
        """Listen here; each connection gets a channel of its own."""
        door = Forwarder(here, lambda: self._end.dial(there, self._settings.connect_timeout_s))
        return door.address, door.close

    def reverse(self, there: Address, here: Address) -> tuple[Address, Callable[[], None]]:
        """Have the other machine listen; each connection there comes as a channel and is joined to ``here``."""
        kind, stop, fields = "tcpip-forward", "cancel-tcpip-forward", [there.host, there.port]
        if there.path:
            kind, stop, fields = (
                "streamlocal-forward@openssh.com",
                "cancel-streamlocal-forward@openssh.com",
                [there.path],
            )
        answered, reply = self._end.request(kind, *fields, timeout_s=self._settings.dead_after_s)
        if not answered:
            self.close()
            raise lost(self.name)
        if reply is None:
            raise LinkError(
                f"{self.name} does not listen at {there} for us", code="JRM-T30", hint="choose another address"
            )
        where = there
        if not there.path and there.port == 0:
            where = Address(there.host, reply.get_int())
            fields[1] = where.port
        mine = UNIX + there.path if there.path else str(where.port)

        def serve(channel: Any) -> None:
            try:
                near = dial_here(here)
            except OSError as error:
                _log.info("reverse to %s: %s", here, error)
                with contextlib.suppress(OSError, EOFError):
                    channel.close()
                return
            join(near, channel)

        self._back[mine] = serve

        def end() -> None:
            self._back.pop(mine, None)
            if self.alive():
                self._end.request(stop, *fields, timeout_s=self._settings.dead_after_s)

        return where, end

    def _arrived(self, channel: Any, _origin: tuple[str, int], server: tuple[str, int]) -> None:
        serve = self._back.get(server[0] if server[0].startswith(UNIX) else str(server[1]))
        if serve is None:
            channel.close()
            return
        # This is the thread that reads the whole connection: it must not wait.
        threading.Thread(target=serve, args=(channel,), name="connect-reverse", daemon=True).start()

    def ping(self) -> float:
        """Return the round trip of a question to the last hop.

        Raises:
            LinkError: JRM-T21, no answer.
        """
        start = time.perf_counter()
        answered, _ = self._end.request("keepalive@openssh.com", timeout_s=self._settings.dead_after_s)
        if not answered:
            self.close()
            raise lost(self.name, "no answer")
        return time.perf_counter() - start
