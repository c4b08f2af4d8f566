"""A listener on this machine whose connections are joined to somewhere else, byte for byte.

Unix sockets are made in a private directory, because loopback ports can be used by everybody on a shared machine.

Knows: sockets, threads. Does not know: SSH (it is given a function that dials). Read next: ``chain.py``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_rm.model.errors import LinkError
from jupyter_rm.runtime.connect.link import Address

_log = logging.getLogger(__name__)
_CHUNK = 1 << 18


def dial_here(address: Address, timeout_s: float = 10.0) -> socket.socket:
    """Return a connection to an address that this machine can reach itself; OSError when it cannot."""
    if address.path:
        wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            wire.connect(address.path)
        except OSError:
            wire.close()
            raise
        return wire
    wire = socket.create_connection((address.host, address.port), timeout=timeout_s)
    wire.settimeout(None)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return wire


def listen(address: Address) -> socket.socket:
    """Return a listening socket: a unix socket with mode 0600, or a port.

    Raises:
        LinkError: JRM-T30, the address cannot be had.
    """
    try:
        if address.path:
            with contextlib.suppress(FileNotFoundError):
                if Path(address.path).is_socket():
                    Path(address.path).unlink()
            wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                wire.bind(address.path)
                os.chmod(address.path, 0o600)  # noqa: PTH101  # before listen(): nobody could connect earlier
                wire.listen(128)
            except OSError:
                wire.close()
                raise
            return wire
        return socket.create_server((address.host, address.port), backlog=128)
    except OSError as error:
        raise LinkError(
            f"{address}: {error.strerror or error}", code="JRM-T30", hint="choose another address"
        ) from None


def join(one: Any, other: Any) -> None:
    """Copy both ways until both ends are done, then close both; returns when that is so."""
    back = threading.Thread(target=_copy, args=(other, one), name="connect-copy", daemon=True)
    back.start()
    _copy(one, other)
    back.join()
    for wire in (one, other):
        with contextlib.suppress(OSError, EOFError):  # EOFError is what paramiko says on a dead connection
            wire.close()


def _copy(source: Any, sink: Any) -> None:
    try:
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    except (OSError, EOFError):
        # One side is broken: end the other too, so that nobody waits for what cannot come.
        for wire in (source, sink):
            with contextlib.suppress(OSError, EOFError):
                wire.close() if hasattr(wire, "shutdown_write") else wire.shutdown(socket.SHUT_RDWR)
        return
    with contextlib.suppress(OSError, EOFError):
        sink.shutdown_write() if hasattr(sink, "shutdown_write") else sink.shutdown(socket.SHUT_WR)


class Forwarder:
    """Accepts at ``address`` and joins each connection to what ``dial`` returns.

    Attributes:
        address: where it listens, with the port that was given out.
    """

    def __init__(self, address: Address, dial: Callable[[], Any]) -> None:
        self._dial = dial
        self._door = listen(address)
        self.address = address if address.path else Address(address.host, self._door.getsockname()[1])
        self._closed = threading.Event()
        self._open: set[Any] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="connect-accept", daemon=True).start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                wire, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(wire,), name="connect-copy", daemon=True).start()

    def _serve(self, wire: socket.socket) -> None:
        with self._lock:
            self._open.add(wire)
        try:
            if not self.address.path:
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            far = self._dial()
            with self._lock:
                self._open.add(far)
            try:
                join(wire, far)
            finally:
                with self._lock:
                    self._open.discard(far)
        except Exception as error:  # paramiko has its own tree; whatever it is, this visitor is turned away
            _log.info("forward at %s: %s", self.address, error)
        finally:
            wire.close()
            with self._lock:
                self._open.discard(wire)

    def close(self) -> None:
        """Stop listening and cut every connection that came through here."""
        if self._closed.is_set():
            return
        self._closed.set()
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)  # wakes accept() on Linux; on macOS close() does
        self._door.close()
        if self.address.path:
            with contextlib.suppress(FileNotFoundError):
                Path(self.address.path).unlink()
        with self._lock:
            wires = list(self._open)
        for wire in wires:
            with contextlib.suppress(OSError, EOFError):
                if isinstance(wire, socket.socket):
                    wire.shutdown(socket.SHUT_RDWR)
                else:
                    wire.close()
