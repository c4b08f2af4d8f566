"""The broker's roads to agents elsewhere: one encrypted socket for each, to an address that a connection opened.

The broker goes to the agent; where only the other direction is open, it waits at a private address for the agent to
come through the connection. Each pilot has keys of its own, so an agent can speak of its own pilot and of nothing else;
whatever another one says here is dropped, and without the agent's key nobody gets so far. A socket comes back by itself
after every cut; then the broker knocks and the agent says hello. Knows sockets; how an address came to lead to an agent
is the business of :mod:`jupyter_rm.broker.reach` and :mod:`jupyter_rm.broker.back`. Runs in the loop's thread; a
:class:`Road` may be looked at from any thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from ..model.messages import Message
from ..runtime.drive import Drive, drain
from ..wire import codec

log = logging.getLogger("jupyter_rm.broker")
Key = tuple[str, int]
# Until an agent has said a word the broker knocks again this often, s.
KNOCK_EVERY = 1.0
_EVENTS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


@dataclass
class Keys:
    """The keys of one pilot's link, Z85 text: the broker's pair and the agent's public one."""

    public: str
    secret: str
    agent: str


@dataclass
class Road:
    """How a road to an agent stands; any thread may wait for ``changed``.

    Attributes:
        up: the handshake is done and nothing has cut the road since. said: what happened last, for people.
        refused: the other side has other keys. heard: the agent has spoken on it.
    """

    up: bool = False
    said: str = ""
    refused: bool = False
    heard: bool = False
    failures: int = 0
    changed: threading.Event = field(default_factory=threading.Event)

    def note(self, up: bool, said: str) -> None:
        """Write down what happened."""
        self.up, self.said = up, said
        self.failures += not up
        self.changed.set()


class _Link:
    def __init__(self, socket: zmq.Socket[bytes], monitor: Any, road: Road, listens: bool) -> None:
        self.socket, self.monitor, self.road, self.listens = socket, monitor, road, listens

    def put(self, frame: bytes) -> None:
        with contextlib.suppress(zmq.ZMQError):  # the streams above send it again
            self.socket.send(frame, zmq.NOBLOCK, copy=False)


class Links:
    """All roads to agents elsewhere.

    Args:
        context: of the broker's sockets.
        take: gets each frame with the pilot it must be about.
        changed: called when a road came up or went down.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        drive: Drive,
        take: Callable[[Key, bytes], None],
        changed: Callable[[Key], None] = lambda _: None,
    ) -> None:
        self._context = context
        self._drive = drive
        self._take = take
        self._changed = changed
        self._links: dict[Key, _Link] = {}
        self._letters: dict[Key, Callable[[bytes], None]] = {}
        drive.every(KNOCK_EVERY, self._knock_again)

    def open(self, key: Key, endpoint: str, keys: Keys, road: Road, listen: bool = False) -> None:
        """Go to ``endpoint``, or with ``listen`` wait there for the agent; an earlier road of the pilot ends.

        Either way the agent is the side that proves its key first: whoever has not got it comes no further.
        """
        self.close(key)
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.CURVE_SERVERKEY, keys.agent.encode()),
            (zmq.CURVE_PUBLICKEY, keys.public.encode()),
            (zmq.CURVE_SECRETKEY, keys.secret.encode()),
            (zmq.LINGER, 500),
            (zmq.SNDHWM, 10_000),
            (zmq.RCVHWM, 10_000),
            (zmq.MAXMSGSIZE, codec.AGENT_LIMIT),
            (zmq.RECONNECT_IVL, 200),
            (zmq.RECONNECT_IVL_MAX, 3000),
            (zmq.HANDSHAKE_IVL, 15_000),
            (zmq.HEARTBEAT_IVL, 10_000),
            (zmq.HEARTBEAT_TIMEOUT, 60_000),
        ):
            socket.setsockopt(option, value)
        monitor = socket.get_monitor_socket(_EVENTS)
        link = _Link(socket, monitor, road, listen)
        self._links[key] = link
        self._drive.watch(socket, lambda: drain(socket, lambda frames: self._frames(key, link, frames)))
        self._drive.watch(monitor, lambda: drain(monitor, lambda frames: self._event(key, link, frames)))
        if not listen:
            socket.connect(endpoint)
            return
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            road.refused = True
            road.note(False, f"{endpoint}: {error}")

    def by_letter(self, key: Key, put: Callable[[bytes], None]) -> None:
        """Say what is for this agent by letter until a road to it is open."""
        self._letters[key] = put

    def arrived(self, key: Key, frames: list[bytes]) -> None:
        """Take in frames that came by letter."""
        for frame in frames:
            if frame:
                self._take(key, frame)

    def send(self, key: object, message: Message) -> bool:
        """Send a message to an agent elsewhere; False when there is no road to it."""
        link = self._links.get(key)  # type: ignore[call-overload]
        put = link.put if link is not None and link.road.up else self._letters.get(key)  # type: ignore[call-overload]
        if put is None:
            return False
        put(codec.encode(message))
        return True

    def close(self, key: Key, letters: bool = False) -> None:
        """End the road to an agent, and with ``letters`` the letters too."""
        if letters:
            self._letters.pop(key, None)
        link = self._links.pop(key, None)
        if link is None:
            return
        self._drive.forget(link.socket)
        self._drive.forget(link.monitor)
        link.road.note(False, "closed here")
        link.socket.disable_monitor()
        link.monitor.close(0)
        link.socket.close()

    def close_all(self) -> None:
        """End all roads."""
        for key in list(self._links):
            self.close(key, letters=True)

    def _frames(self, key: Key, link: _Link, frames: list[bytes]) -> None:
        if self._links.get(key) is link and len(frames) == 1:
            if not link.road.heard:
                link.road.heard = True
                link.road.changed.set()
            self._take(key, frames[0])

    def _event(self, key: Key, link: _Link, frames: list[bytes]) -> None:
        if self._links.get(key) is not link:
            return
        event = int(parse_monitor_message(frames)["event"])
        road = link.road
        if link.listens:
            self._look(key, link)
            return
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            road.note(True, "connected")
            link.put(b"")  # a knock: the agent may have said hello to nobody
        elif event == zmq.EVENT_DISCONNECTED:
            road.note(False, "the way there is cut")
        elif event in (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
            road.refused = True
            road.note(False, "whoever listens there has other keys")
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            road.note(False, "nobody answers there")
        else:
            return
        self._changed(key)

    def _look(self, key: Key, link: _Link) -> None:
        """Look whether anybody with the right key is at a socket that listens.

        Strangers knock there too, and events do not say whose they are; but only after the handshake can be written.
        """
        up = bool(link.socket.poll(0, zmq.POLLOUT))
        if up == link.road.up:
            return
        link.road.note(up, "connected" if up else "the way here is cut")
        if up:
            link.road.heard = False
            link.put(b"")
        self._changed(key)

    def _knock_again(self) -> None:
        for key, link in list(self._links.items()):
            if link.listens:
                self._look(key, link)
            if link.road.up and not link.road.heard:
                link.put(b"")
