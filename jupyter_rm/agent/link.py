"""The agent's end of the road to its broker: frames out, frames in, and word that the road is open (again).

On the broker's own machine the agent dials the broker's socket. Elsewhere it listens, because nobody can reach into a
laptop: the broker comes through SSH, and every word is encrypted with keys that only these two have (CURVE; a key that
is not the broker's is refused before anything it says is read). Where nobody may come here, the broker says in a file
where a door of its SSH connection is, and the agent dials that with the same socket and the same keys. Where no network
path exists at all, both leave letters in the pilot's directory. Knows sockets and that directory; what frames mean is
the machine's business.
Read next: :mod:`jupyter_rm.agent.service`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from ..model.errors import ProtocolError
from ..runtime.clock import Clock
from ..runtime.drive import Drive, drain, post
from ..runtime.home import write_private
from ..wire import codec, letters
from ..wire.letters import Dial

log = logging.getLogger("jupyter_rm.agent")
Take = Callable[[list[bytes]], None]
# How the header of a batch job's spec file begins (batch/script.py).
HEADER = b"jupyter_rm spec"
# Letters are looked for so often, s, while nobody speaks through a socket.
LETTERS_EVERY = 0.25
# After this long without a word through the socket, letters count again, s.
SOCKET_QUIET = 6.0
# Once one of the addresses has led to the broker, those that did not within this time are given up, s.
HANDSHAKES = 2.0


class BrokerLink(Protocol):
    """A road to the broker.

    Attributes:
        listens: nobody hears the agent before somebody came.
    """

    listens: bool

    def open(self, drive: Drive, take: Take, met: Callable[[], None]) -> None:
        """Begin; ``take`` gets what comes in, ``met`` is called when somebody is there (again)."""

    def send(self, frame: bytes) -> None:
        """Send a frame, or drop it: the streams above send it again."""

    def flush(self) -> None:
        """Let go of what was gathered in this round."""

    def close(self) -> None:
        """End it."""


def open_link(spec: Mapping[str, Any]) -> BrokerLink:
    """Return the link that a pilot's spec describes: ``endpoint`` to dial, or ``link`` to listen."""
    if spec.get("link"):
        return HeardLink(spec["link"], Path(spec["place"]))
    return DialedLink(spec["endpoint"])


def read_spec(path: Path) -> dict[str, Any]:
    """Return what the agent is told; a batch script's header of three lines may precede the JSON.

    Elsewhere nobody has made the directory of the tasks yet, and the pilot's time begins with its start program.
    """
    body = path.read_bytes()
    if body.startswith(HEADER):
        body = body.split(b"\n", 3)[3]
    spec: dict[str, Any] = json.loads(body)
    if spec.get("link"):
        Path(spec["sandbox"]).mkdir(mode=0o700, parents=True, exist_ok=True)
        spec["since"] = Clock().now() - _age(Path(spec["place"]))
    return spec


def _age(place: Path) -> float:
    """Return for how long the start program of this life has run already, s."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        process = json.loads((place / "process.json").read_bytes())
        if int(process["life"]) == int(os.environ.get("JRM_EPOCH_BASE", "0")) // 1000 + 1:
            return max(0.0, time.time() - float(process["at"]))
    return 0.0


def life() -> int:
    """Return the number of this life of the agent, larger than any before it.

    A guard counts its own restarts. A batch system that starts a job anew starts a new guard too: then the start
    program gives the number to count from.
    """
    return int(os.environ.get("JRM_EPOCH_BASE", "0")) + int(os.environ.get("JRM_EPOCH", "0"))


class DialedLink:
    """The broker's socket on this machine."""

    listens = False

    def __init__(self, endpoint: str) -> None:
        self.context = zmq.Context()
        self._endpoint = endpoint
        self._socket = self.context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.setsockopt(zmq.SNDHWM, 10_000)
        self._socket.setsockopt(zmq.MAXMSGSIZE, codec.AGENT_LIMIT)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_CONNECTED)
        self._drive: Drive | None = None

    def open(self, drive: Drive, take: Take, met: Callable[[], None]) -> None:
        """Dial."""
        self._drive = drive
        self._socket.connect(self._endpoint)
        drive.watch(self._socket, lambda: drain(self._socket, take))
        drive.watch(self._monitor, lambda: drain(self._monitor, lambda _frames: met()))

    def send(self, frame: bytes) -> None:
        """Send a frame, or drop it."""
        try:
            post(self._socket, frame)
        except zmq.Again:
            return

    def flush(self) -> None:
        """Nothing is gathered here."""

    def close(self) -> None:
        """Hang up."""
        if self._drive is not None:
            self._drive.forget(self._monitor)
        self._socket.disable_monitor()
        self._monitor.close(0)  # the context waits for ever for a socket that was not closed
        self._socket.close()
        self.context.term()


class HeardLink:
    """A listening socket behind CURVE, and letters beside it; answers go to whoever spoke last.

    The socket dials too when the broker says where. Who listens and who dials is one thing, who has to prove a key
    first is another: that is always this side, and the broker's key is asked for always.

    Args:
        said: ``bind`` (address to listen at), ``public`` and ``secret`` (the agent's keys, Z85), ``broker`` (the public
            key of the only one who may come), ``letters`` (whether to look for letters).
        place: the pilot's directory; ``contact.json`` is written there when the agent can be reached.
    """

    listens = True

    def __init__(self, said: Mapping[str, Any], place: Path) -> None:
        self._place = place
        self._clock = Clock()
        self._known = z85.decode(said["broker"])
        self.context = zmq.Context()
        self._gate = self.context.socket(zmq.REP)
        self._gate.bind("inproc://zeromq.zap.01")
        self._socket = self.context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.CURVE_SERVER, 1),
            (zmq.CURVE_PUBLICKEY, said["public"].encode()),
            (zmq.CURVE_SECRETKEY, said["secret"].encode()),
            (zmq.ZAP_DOMAIN, b"jupyter_rm"),
            (zmq.ZAP_ENFORCE_DOMAIN, 1),  # without a gatekeeper nobody comes in, instead of everybody
            (zmq.LINGER, 500),
            (zmq.SNDHWM, 10_000),
            (zmq.RCVHWM, 10_000),
            (zmq.MAXMSGSIZE, codec.AGENT_LIMIT),
            (zmq.HANDSHAKE_IVL, 15_000),
            (zmq.HEARTBEAT_IVL, 10_000),
            (zmq.HEARTBEAT_TIMEOUT, 60_000),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.RECONNECT_IVL, 200),
            (zmq.RECONNECT_IVL_MAX, 3000),
        ):
            self._socket.setsockopt(option, value)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._port = self._bind(said["bind"])
        self._route: bytes | None = None
        self._heard_at = -SOCKET_QUIET
        self._letters = _Letters(place) if said.get("letters") else None
        self._dial = Dial([], "")
        self._dialed: list[str] = []
        self._kept = ""  # the one of them that led to the broker first
        self._by_letter = False
        self._drive: Drive | None = None

    def _bind(self, address: str) -> int:
        with contextlib.suppress(zmq.ZMQError, OSError, ValueError, KeyError, TypeError):
            # The port of an earlier life: the broker's road to it still stands.
            before = json.loads((self._place / "contact.json").read_bytes())
            if before["host"] == socket.gethostname():
                self._socket.bind(f"tcp://{address}:{int(before['port'])}")
                return int(before["port"])
        return int(self._socket.bind_to_random_port(f"tcp://{address}"))

    def open(self, drive: Drive, take: Take, met: Callable[[], None]) -> None:
        """Listen, and say where."""
        self._drive = drive
        self._take, self._met = take, met
        drive.watch(self._gate, lambda: drain(self._gate, self._judge))
        drive.watch(self._socket, lambda: drain(self._socket, self._frames))
        drive.watch(self._monitor, lambda: drain(self._monitor, lambda frames: self._event(drive, frames)))
        if self._letters is not None:
            drive.every(LETTERS_EVERY, self._look)
        contact = {
            "port": self._port,
            "host": socket.gethostname(),
            "hosts": addresses(),
            "pid": os.getpid(),
        }
        write_private(self._place / "contact.json", json.dumps(contact).encode())

    def _judge(self, request: list[bytes]) -> None:
        """Let the broker in and nobody else (RFC 27: version, id, domain, address, identity, mechanism, key)."""
        right = len(request) == 7 and request[5] == b"CURVE" and request[6] == self._known
        if not right:
            log.warning("somebody with another key was refused")
        answer = (b"200", b"OK") if right else (b"400", b"this key is not known here")
        self._gate.send_multipart([b"1.0", request[1] if len(request) > 1 else b"", *answer, b"", b""])

    def _frames(self, frames: list[bytes]) -> None:
        if len(frames) != 2:
            return
        route, body = frames
        fresh = route != self._route
        self._route, self._by_letter, self._heard_at = route, False, self._clock.now()
        if body:
            self._take([body])
        if not body or fresh:
            self._met()

    def _look(self) -> None:
        """Read letters while nobody speaks through the socket."""
        if self._letters is None or self._clock.now() - self._heard_at < SOCKET_QUIET:
            return
        said = self._letters.dial()
        if said is not None and said != self._dial:
            self._dial = said
            self._go(said.endpoints)
        for frame in self._letters.read():
            fresh = not self._by_letter
            self._by_letter = True
            if frame:
                self._take([frame])
            if not frame or fresh:
                self._met()

    def _go(self, endpoints: list[str]) -> None:
        """Dial these and no others."""
        for endpoint in self._dialed:
            if endpoint not in endpoints:
                with contextlib.suppress(zmq.ZMQError):
                    self._socket.disconnect(endpoint)
        for endpoint in endpoints:
            if endpoint not in self._dialed:
                try:
                    self._socket.connect(endpoint)
                except zmq.ZMQError as error:
                    log.warning("%s: %s", endpoint, error)
        self._dialed = endpoints
        if self._kept not in endpoints:
            self._kept = ""

    def _event(self, drive: Drive, frames: list[bytes]) -> None:
        """An address led to the broker, or it came itself: the others are not needed; or the road there is cut."""
        said = parse_monitor_message(frames)
        endpoint = said["endpoint"].decode()
        if said["event"] == zmq.EVENT_DISCONNECTED:
            if endpoint in self._dialed:
                self._heard_at = -SOCKET_QUIET  # the broker may have told already where to dial now
        elif endpoint in self._dialed:
            if not self._kept:
                self._kept = endpoint
                # ZeroMQ does not give up what is amid a handshake.
                drive.later(HANDSHAKES, self._prune)
            elif endpoint != self._kept:
                self._go([one for one in self._dialed if one != endpoint])
        elif endpoint.endswith(f":{self._port}"):
            self._go([])

    def _prune(self) -> None:
        if self._kept:
            self._go([self._kept])

    def send(self, frame: bytes) -> None:
        """Send a frame on the road that was heard last, or drop it."""
        if self._by_letter and self._letters is not None:
            self._letters.put(frame)
        elif self._route is not None:
            with contextlib.suppress(zmq.ZMQError):
                self._socket.send_multipart([self._route, frame], zmq.NOBLOCK, copy=False)

    def flush(self) -> None:
        """Write the letter of this round."""
        if self._letters is not None and self._by_letter:
            self._letters.write(self._clock.now())

    def close(self) -> None:
        """Write what is left and stop listening."""
        if self._letters is not None and self._by_letter:
            self._letters.write(float("inf"))
        if self._drive is not None:
            self._drive.forget(self._monitor)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close()
        self._gate.close(0)
        self.context.term()


class _Letters:
    """Letters of this life of the agent; old ones of earlier lives are stale for the broker and do no harm."""

    def __init__(self, place: Path) -> None:
        self._in, self._out = place / letters.DOWN, place / letters.UP
        for directory in (self._in, self._out):
            directory.mkdir(mode=0o700, exist_ok=True)
        self._waiting: list[bytes] = []
        self._number = max([0, *map(letters.number_of, letters.letters_in(one.name for one in self._out.iterdir()))])
        self._written_at = 0.0

    def put(self, frame: bytes) -> None:
        self._waiting.append(frame)

    def write(self, now: float) -> None:
        """Write what waits: at most four letters a second, so that the other side keeps up."""
        if not self._waiting or now - self._written_at < LETTERS_EVERY:
            return
        waiting, self._waiting = self._waiting, []
        self._written_at = now
        try:
            for body in letters.pack(waiting):
                self._number += 1
                write_private(self._out / letters.name_of(self._number, os.getpid()), body)
        except OSError as error:
            log.warning("letter not written: %s", error)

    def dial(self) -> Dial | None:
        """Return where the broker says to dial, None when it says nothing."""
        path = self._in / letters.DIAL
        try:
            return Dial.read(path.read_bytes())
        except (OSError, ProtocolError) as error:
            log.debug("%s: %s", path, error)  # most often: nothing is said
            return None

    def read(self) -> list[bytes]:
        frames: list[bytes] = []
        with contextlib.suppress(OSError):
            for name in letters.letters_in([one.name for one in self._in.iterdir()]):
                path = self._in / name
                try:
                    frames += letters.unpack(path.read_bytes())
                except ProtocolError as error:
                    log.warning("%s: %s", path, error)
                path.unlink()
        return frames


def addresses() -> list[str]:
    """Return names and addresses under which this machine may be reached, the most likely one first."""
    name = socket.gethostname()
    found = [name]
    with contextlib.suppress(OSError):
        found.append(socket.getfqdn())
    with contextlib.suppress(OSError):
        found += [str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    import psutil

    with contextlib.suppress(OSError):
        for several in psutil.net_if_addrs().values():
            found += [one.address for one in several if one.family in (socket.AF_INET,)]
    kept = dict.fromkeys(one.partition("%")[0] for one in found)
    return [one for one in kept if not one.startswith(("127.", "::1", "fe80:")) and one != "localhost"] or ["127.0.0.1"]
