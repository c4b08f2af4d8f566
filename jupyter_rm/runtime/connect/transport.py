"""paramiko's transport with what it lacks: unix sockets through the connection, signs of life, deaths by signal.

OpenSSH's extension for unix sockets (``PROTOCOL``, section 2.4: ``direct-streamlocal@openssh.com`` and
``forwarded-streamlocal@openssh.com``) differs from the port messages only in the address fields, so the two messages
are rewritten on their way. A death by signal (RFC 4254, 6.10) becomes the exit code 128 + n.

Knows: a few SSH messages. Does not know: logins and policy. Read next: ``chain.py``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
    cMSG_CHANNEL_OPEN,
    cMSG_GLOBAL_REQUEST,
)

from jupyter_rm.runtime.connect.link import Address
from jupyter_rm.runtime.connect.stream import SIGNALS

WINDOW = 8 << 20  # bytes in flight to us for each channel: 100 ms of an 80 MB/s link
_RAW: Any = paramiko.Channel
_TABLE: Any = vars(paramiko.Transport)["_channel_handler_table"]
# What a channel that was closed must not say any more.
_OF_CHANNELS = (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
)
UNIX = "unix-socket:"  # marks a path where paramiko expects a host name


def _request(channel: Any, message: Any) -> None:
    start = message.packet.tell()
    kind = message.get_text()
    message.get_boolean()
    if kind == "exit-signal" and not channel.status_event.is_set():
        channel.exit_status = 128 + SIGNALS.get(message.get_text(), 0)
        channel.status_event.set()
    message.packet.seek(start)
    _RAW._handle_request(channel, message)


class Transport(paramiko.Transport):
    """One SSH connection.

    Attributes:
        ended: set when it is over, whoever ended it.
        heard: when the last packet came, by the monotonic clock.
    """

    _channel_handler_table = {**_TABLE, MSG_CHANNEL_REQUEST: _request}  # noqa: RUF012

    def __init__(self, sock: Any) -> None:
        super().__init__(sock, default_window_size=WINDOW)
        self.daemon = True
        self.ended = threading.Event()
        self.heard = time.monotonic()
        self._turn = threading.Lock()
        self._order = threading.Lock()
        self._replied = threading.Event()
        self._reply: Any = None
        inner: Any = self  # what paramiko does not publish, and keeps stable
        inner._handler_table.update(
            {
                MSG_CHANNEL_OPEN: self._opened_by_peer,
                MSG_REQUEST_SUCCESS: self._answered,
                MSG_REQUEST_FAILURE: self._refused,
            }
        )
        read = inner.packetizer.read_message

        def reading() -> Any:
            packet = read()
            self.heard = time.monotonic()
            return packet

        inner.packetizer.read_message = reading

    def run(self) -> None:
        """Serve the connection until it ends."""
        try:
            super().run()
        finally:
            self.ended.set()

    # --- questions about the whole connection: answered in order and without a name, so one at a time

    def _answered(self, message: Any) -> None:
        self._reply = message
        self._replied.set()

    def _refused(self, _message: Any) -> None:
        self._reply = None
        self._replied.set()

    def request(self, kind: str, *fields: Any, timeout_s: float) -> tuple[bool, Any]:
        """Ask something of the connection; whether an answer came, and the answer (None for no).

        When none comes in time the connection is closed: a late answer would be taken for the next one's.
        """
        with self._turn:
            self._replied.clear()
            message = paramiko.Message()
            message.add_byte(cMSG_GLOBAL_REQUEST)
            message.add_string(kind)
            message.add_boolean(True)
            message.add(*fields)
            self._send_user_message(message)
            # Counted in short waits: a program that was stopped, and its machine with it, has not waited meanwhile.
            left = timeout_s
            while not self._replied.wait(min(0.25, left)):
                left -= 0.25
                if self.ended.is_set():
                    return False, None
                if left <= 0:
                    self.close()
                    return False, None
            return True, self._reply

    def on_arrival(self, take: Callable[[Any, Any, tuple[str, int]], None]) -> None:
        """Call ``take(channel, origin, listener)`` for each connection that the other machine accepted for us."""
        inner: Any = self
        inner._tcp_handler = take

    def _is_open(self, number: int) -> bool:
        """Say whether the peer's channel of this number is open here; one that is being opened has none yet."""
        inner: Any = self
        there = [channel for channel in inner._channels.values() if channel.remote_chanid == number]
        return any(channel.active and not channel.closed for channel in there)

    # --- unix sockets

    def dial(self, address: Address, timeout_s: float) -> Any:
        """Return a channel to a port or unix socket that the other machine can reach; SSHException when it cannot."""
        where = (UNIX + address.path, 0) if address.path else (address.host, address.port)
        return self.open_channel("direct-tcpip", where, ("127.0.0.1", 0), timeout=timeout_s)

    def _send_user_message(self, data: Any) -> None:
        packet = data.asbytes()
        if packet[0] in _OF_CHANNELS or packet[0] == MSG_CHANNEL_CLOSE:
            # A command may end, and its channel be closed, while somebody is just about to say that its input is over:
            # for that word after the close sshd ends the whole connection.
            with self._order:
                if packet[0] == MSG_CHANNEL_CLOSE or self._is_open(int.from_bytes(packet[1:5], "big")):
                    super()._send_user_message(data)  # type: ignore[misc]
            return
        if packet[:1] == cMSG_CHANNEL_OPEN and UNIX.encode() in packet[:80]:
            old = paramiko.Message(packet[1:])
            old.get_text()
            numbers = [old.get_int() for _ in range(3)]
            data = paramiko.Message()
            data.add_byte(cMSG_CHANNEL_OPEN)
            data.add_string("direct-streamlocal@openssh.com")
            for number in numbers:
                data.add_int(number)
            data.add_string(old.get_text().removeprefix(UNIX))
            data.add_string("")
            data.add_int(0)
        base: Any = super()
        base._send_user_message(data)

    def _opened_by_peer(self, message: Any) -> None:
        start = message.packet.tell()
        if message.get_text() == "forwarded-streamlocal@openssh.com":
            numbers = [message.get_int() for _ in range(3)]
            path = message.get_text()
            new = paramiko.Message()
            new.add_string("forwarded-tcpip")
            for number in numbers:
                new.add_int(number)
            new.add(UNIX + path, 0, "", 0)
            message = paramiko.Message(new.asbytes())
        else:
            message.packet.seek(start)
        inner: Any = self
        inner._parse_channel_open(message)
