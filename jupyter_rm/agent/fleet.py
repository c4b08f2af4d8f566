"""The node agents of a pilot as its head agent sees them: starting them, hearing them, missing them.

Each further node of the pilot runs one node agent, started once through the site's launch method; it dials back over
TCP with keys that only this pilot has (CURVE; other keys are refused before anything they say is read). A node agent
that is started anew has lost what the one before it ran. One that is silent for longer than its lease has ended
itself and all it ran: only then its attempts are given up, a node in reserve takes its place, or it is started again.
Knows sockets and commands, nothing of tasks. Read next: :mod:`jupyter_rm.agent.span` and :mod:`jupyter_rm.agent.node`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import zmq
from zmq.utils import z85

from ..core.patience import DEFAULT, Patience
from ..model.describe import Template
from ..model.errors import SiteError
from ..model.resources import Node
from ..runtime.clock import Clock
from ..runtime.home import write_private
from ..runtime.process import guard_path
from ..wire.link import Inbox, Outbox
from . import talk
from .launch import agents_lines, for_agents
from .link import addresses
from .nodes import STEP_PREFIXES, Host, Hosts, node_of, short

log = logging.getLogger("jupyter_rm.agent")
# Restarts of a node agent by its own guard; beyond that the head starts it anew.
GUARD_RESTARTS = 2
# How often the head starts the agent of a node, in all.
STARTS = 2
# After this long a pilot goes on without the nodes that have not come, s; it takes them in when they do.
GATHER_SECONDS = 30.0
# A launcher that is over, s without a word from its nodes: they are over too.
LAUNCHER_SECONDS = 2.0
LOOK = 0.5
# What a pause between two turns counts at most, s.
AWAKE_STEP = 1.0
# Frames taken before they are acknowledged by a frame of its own: node agents send few at once.
ACK_AFTER = 4
FRAMES = 512
_BOOT = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; import json; "
    "s = json.load(open(sys.argv[1])); sys.path[:0] = [p for p in s['path'] if p not in sys.path]; "
    "from jupyter_rm.agent.node import main; sys.exit(main(sys.argv[1:]))"
)


class Far:
    """One node agent. ``number`` is that of the pilot's node it serves, None: it is in reserve."""

    __slots__ = (
        *("bulks", "facts", "functions", "heard", "host", "index", "number", "out", "owed", "reports", "route"),
        *("said", "starts", "wait_until"),
    )

    def __init__(self, index: int, host: Host, number: int | None) -> None:
        self.index, self.host, self.number = index, host, number
        self.route: bytes | None = None
        self.facts: talk.NodeHello | None = None
        self.out, self.reports = Outbox(), Inbox()
        self.heard = self.said = 0.0
        self.owed = 0
        self.starts = 0
        self.wait_until = 0.0
        self.bulks: dict[int, Template] = {}
        self.functions: set[bytes] = set()

    @property
    def up(self) -> bool:
        """Say whether it is there."""
        return self.route is not None


@dataclass(frozen=True, slots=True)
class Lost:
    """What ran on the node is over; nothing may be started there until it is :class:`Back`."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Back:
    """The node can be used (again), as ``node`` says."""

    number: int
    node: Node


@dataclass(frozen=True, slots=True)
class Said:
    """Reports of the node agent that serves node ``number``."""

    number: int
    reports: list[talk.Report]


Event = Lost | Back | Said


@dataclass(slots=True)
class _Launcher:
    process: subprocess.Popen[bytes]
    fars: list[Far] = field(default_factory=list)


class Fleet:
    """All node agents of a pilot.

    Args:
        hosts: of the job; spec: as the broker wrote it (place, sandbox, session, pilot, launch, launches).
        epoch: which life of the head agent this is.
        environ: the job's environment.
    """

    def __init__(
        self,
        hosts: Hosts,
        spec: Mapping[str, Any],
        epoch: int,
        environ: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        patience: Patience = DEFAULT,
    ) -> None:
        self._spec, self._epoch, self._patience = spec, epoch, patience
        self._environ = dict(os.environ if environ is None else environ)
        self.clock = clock or Clock()
        self._hosts = hosts
        self._place = Path(spec["place"])
        used = [(number, host) for number, host in enumerate(hosts.used) if number != hosts.own]
        self.names = [host.name for host in hosts.used]
        listed: list[tuple[int | None, Host]] = [*used, *((None, host) for host in hosts.spare)]
        self.fars = [Far(index, host, number) for index, (number, host) in enumerate(listed)]
        self.serving = {far.number: far for far in self.fars if far.number is not None}
        self._route: dict[bytes, Far] = {}
        self._launchers: list[_Launcher] = []
        self._events: list[Event] = []
        self._look_at = 0.0
        self._seen = self.clock.now()
        self._awake = 0.0
        self._closing = False
        self._head, self._node = zmq.curve_keypair(), zmq.curve_keypair()
        self._context = zmq.Context()
        self._gate = self._context.socket(zmq.REP)
        self._gate.bind("inproc://zeromq.zap.01")
        self._socket = self._context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.CURVE_SERVER, 1),
            (zmq.CURVE_PUBLICKEY, self._head[0]),
            (zmq.CURVE_SECRETKEY, self._head[1]),
            (zmq.ZAP_DOMAIN, b"jupyter_rm"),
            (zmq.ZAP_ENFORCE_DOMAIN, 1),
            (zmq.ROUTER_HANDOVER, 1),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.LINGER, 500),
            (zmq.SNDHWM, 10_000),
            (zmq.RCVHWM, 10_000),
            (zmq.MAXMSGSIZE, talk.FRAME_LIMIT),
            (zmq.TCP_KEEPALIVE, 1),
        ):
            self._socket.setsockopt(option, value)
        self._port = int(self._socket.bind_to_random_port("tcp://*"))

    # ------------------------------------------------------------ starting

    def start(self) -> None:
        """Start all node agents; SiteError or RequestError when there is no way to."""
        near = self._spec.get("launch") == "fork"
        said = {
            "session": self._spec["session"],
            "pilot": self._spec["pilot"],
            "epoch": self._epoch,
            "hosts": ["127.0.0.1"] if near else [*addresses(), "127.0.0.1"],
            "port": self._port,
            "head_key": self._head[0].decode(),
            "public": self._node[0].decode(),
            "secret": self._node[1].decode(),
            "place": str(self._place),
            "sandbox": self._spec["sandbox"],
            "path": [part for part in sys.path if part.startswith("/")],
            "environ": {key: text for key, text in self._environ.items() if key.startswith(STEP_PREFIXES)},
            "methods": list(self._spec.get("launches") or ()),
            "hooks": dict(self._spec.get("hooks") or {}),
            "facts": dict(self._spec.get("facts") or {}),
            "envs": dict(self._spec.get("envs") or {}),
            "launch": self._spec.get("launch") or "",
            "beat": self._patience.beat,
            "lease": self._patience.node,
            "patience": 2 * GATHER_SECONDS,
        }
        self._file = self._place / f"nodes.{self._epoch}.json"
        write_private(self._file, json.dumps(said).encode())
        self._chosen = for_agents(said["launch"], said["methods"], self._environ)
        log.info("node agents on %d nodes through %s", len(self.fars), self._chosen.method.name)
        self._launch(self.fars)

    def _launch(self, fars: Sequence[Far]) -> None:
        guard = guard_path()
        argv = [sys.executable, "-c", _BOOT, str(self._file)]
        if guard is not None:
            argv = [str(guard), "-r", str(GUARD_RESTARTS), "-o", str(self._place / "guard.log"), "--", *argv]
        if start := self._environ.get("JRM_START"):
            # The environment is on this node only; the start program brings it to others (bootstrap/target/start.py).
            guarded = ["--guarded", str(self._place / "guard.log"), str(GUARD_RESTARTS), "jupyter_rm.agent.node"]
            argv = [*json.loads(start), *guarded, str(self._file)]
        targets = [(far.host.name, far.host.place) for far in fars]
        lines = agents_lines(self._chosen.method, targets, argv, program=self._chosen.program, root=os.geteuid() == 0)
        left = list(fars)
        now = self._awake
        with (self._place / "nodes.log").open("ab") as out:
            for line, names in lines:
                mine, left = left[: len(names)], left[len(names) :]
                env = {key: text for key, text in self._environ.items() if key != "JRM_EPOCH"} | line.env
                env.setdefault("SLURM_OVERLAP", "1")  # leaves room for steps of tasks, whoever makes the step
                if self._chosen.method.name == "fork":
                    env["JRM_NODE_NUMBER"], env["JRM_NODE_NAME"] = str(mine[0].index), mine[0].host.name
                try:
                    process = subprocess.Popen(
                        line.argv,
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=out,
                        cwd="/",
                        env=env,
                        start_new_session=True,
                    )
                except OSError as error:
                    raise SiteError(
                        f"{line.argv[0]} cannot be started: {error}", hint="is it a program here?", code="JRM-S82"
                    ) from None
                self._launchers.append(_Launcher(process, mine))
                for far in mine:
                    far.starts += 1
                    far.wait_until = now + 2 * GATHER_SECONDS

    def gather(self, seconds: float = GATHER_SECONDS) -> None:
        """Wait until all node agents have come, or ``seconds`` are over and the pilot goes on without the rest."""
        until = self.clock.now() + seconds
        poller = zmq.Poller()
        for source in self.sockets():
            poller.register(source, zmq.POLLIN)
        while not all(far.up for far in self.fars) and (left := until - self.clock.now()) > 0:
            poller.poll(int(min(left, LOOK) * 1000) + 1)
            self.turn()  # who came is seen in the end
            if not any(one.process.poll() is None for one in self._launchers) and not any(far.up for far in self.fars):
                break
        self._events = []
        missing = [far.host.name for far in self.fars if not far.up]
        if missing:
            log.warning("no word from %s; %s", ", ".join(missing), self._last_line())
        if missing and self._hosts.own is None and not self.serving_up():
            raise SiteError(
                f"no node agent came up on {len(missing)} nodes: {self._last_line()}",
                hint=f"see {self._place / 'nodes.log'}",
                code="JRM-S82",
            )

    def serving_up(self) -> list[Far]:
        """Return the node agents that serve a node of the pilot now."""
        return [far for far in self.serving.values() if far.up]

    def _last_line(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._place / "nodes.log").read_bytes()[-2000:].decode("utf-8", "replace").strip().splitlines()
            if lines:
                return f"last words of their launcher: {lines[-1][:300]}"
        return "their launcher said nothing"

    # ------------------------------------------------------------ hearing

    def sockets(self) -> list[Any]:
        """Return what is readable when :meth:`turn` has something to do."""
        return [self._socket, self._gate]

    def turn(self) -> list[Event]:
        """Take in what node agents said, look after the silent ones, send what is due; never blocks."""
        events, self._events = self._events, []
        self._judge()
        clock = self.clock.now()
        # While this program was itself stopped (a machine that slept, a frozen job) it heard nobody: that is nobody's
        # silence. A node agent that gave it up meanwhile has ended, and a new one says hello.
        self._awake += min(max(0.0, clock - self._seen), AWAKE_STEP)
        self._seen = clock
        now = self._awake
        for _ in range(FRAMES):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if len(frames) == 2:
                self._heard(now, frames[0], frames[1], events)
        if clock >= self._look_at:
            self._look_at = clock + LOOK
            self._look(now, events)
        for far in self.fars:
            if far.up:
                self._transmit(far, now)
        return events

    def due(self) -> float:
        """Return in how many seconds :meth:`turn` is to be called even without news."""
        return max(0.0, self._look_at - self.clock.now())

    def _judge(self) -> None:
        """Let node agents of this pilot in and nobody else (RFC 27: ..., mechanism, key)."""
        key = z85.decode(self._node[0])
        while True:
            try:
                request = self._gate.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            right = len(request) == 7 and request[5] == b"CURVE" and request[6] == key
            if not right:
                log.warning("somebody with another key wanted to be a node of this pilot")
            answer = (b"200", b"OK") if right else (b"400", b"this key is not known here")
            self._gate.send_multipart([b"1.0", request[1] if len(request) > 1 else b"", *answer, b"", b""])

    def _heard(self, now: float, route: bytes, body: bytes, events: list[Event]) -> None:
        try:
            word = talk.from_node(body)
            if isinstance(word, talk.NodeHello):
                self._hello(now, route, word, events)
                return
            far = self._route.get(route)
            if far is None:
                self._put(route, talk.encode(talk.NodeRefused("another one is there already")))
                return
            far.heard = now
            far.out.ack(word.ack, now)
            far.out.forget(word.ack)
            if word.body:
                far.owed += 1
                if far.reports.take(word.seq) and far.number is not None:
                    events.append(Said(far.number, talk.reports(word.body)))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            log.warning("frame of a node agent dropped: %s", error)

    def _find(self, hello: talk.NodeHello) -> Far | None:
        if 0 <= hello.number < len(self.fars):
            return self.fars[hello.number]
        for name in hello.names:
            for far in self.fars:
                if name == far.host.name:
                    return far
        found = [far for name in hello.names for far in self.fars if short(name) == short(far.host.name)]
        return found[0] if found else None

    def _hello(self, now: float, route: bytes, hello: talk.NodeHello, events: list[Event]) -> None:
        far = self._find(hello)
        if far is None or hello.version != talk.VERSION or self._closing:
            why = "the pilot ends" if self._closing else f"version {hello.version} of {', '.join(hello.names)}"
            self._put(route, talk.encode(talk.NodeRefused(why)))
            return
        if far.route != route:
            if far.up:
                self._drop(far, events, f"the node agent on {far.host.name} was started anew")
            far.route, far.facts = route, hello
            far.out, far.reports = Outbox(), Inbox()
            far.bulks, far.functions = {}, set()
            self._route[route] = far
            if far.number is not None:
                events.append(Back(far.number, self.node(far)))
        far.heard = now
        node, pin = node_of(far.host, hello)
        number = far.number if far.number is not None else len(self.names) + far.index
        names = [*self.names, *("" for _ in range(number + 1 - len(self.names)))]
        names[number] = far.host.name
        self._put(route, talk.encode(talk.NodeWelcome(number, tuple(names), node.cores, node.core_ids, pin)))

    def node(self, far: Far) -> Node:
        """Return what may be placed on the node that a node agent serves."""
        assert far.facts is not None
        return node_of(far.host, far.facts)[0]

    # ------------------------------------------------------------ missing

    def _look(self, now: float, events: list[Event]) -> None:
        over = [one for one in self._launchers if one.process.poll() is not None]
        for one in over:
            self._launchers.remove(one)
        ended = [far for one in over for far in one.fars]
        for far in self.fars:
            far.owed = ACK_AFTER if far.owed else 0
            silent = now - far.heard
            if far.up and (silent > self._patience.node + self._patience.node_grace):
                self._give_up(far, events, f"{far.host.name} has been silent for {silent:.0f} s")
            elif far in ended:
                if far.up and silent <= LAUNCHER_SECONDS + self._patience.beat and not self._closing:
                    far.wait_until = now + LAUNCHER_SECONDS + self._patience.beat
                elif not far.up and far.number is not None and not self._closing:
                    self._replace(far, f"{far.host.name} cannot be used: {self._last_line()}")
            elif far.up and far.wait_until and now > far.wait_until and not self._launched(far):
                if silent > LAUNCHER_SECONDS + self._patience.beat:
                    self._give_up(far, events, f"the node agent on {far.host.name} ended; {self._last_line()}")
            elif not far.up and far.number is not None and far.wait_until and now > far.wait_until:
                far.wait_until = 0.0
                self._replace(far, f"{far.host.name} does not come back")

    def _launched(self, far: Far) -> bool:
        return any(far in one.fars for one in self._launchers)

    def _drop(self, far: Far, events: list[Event], why: str) -> None:
        if far.route is not None:
            self._route.pop(far.route, None)
        far.route = None
        if far.number is not None:
            events.append(Lost(far.number, why))

    def _give_up(self, far: Far, events: list[Event], why: str) -> None:
        log.warning("%s: what ran there is lost", why)
        self._drop(far, events, why)
        if not self._closing:
            self._replace(far, why, events)

    def _replace(self, far: Far, why: str, events: list[Event] | None = None) -> None:
        """Let a node in reserve take over, or start the node's agent again if that was not tried too often."""
        events = self._events if events is None else events
        spare = next((one for one in self.fars if one.number is None and one.up), None)
        if spare is not None and far.number is not None:
            log.warning("%s takes the place of %s", spare.host.name, far.host.name)
            number, far.number = far.number, None
            spare.number = number
            self.serving[number] = spare
            self.names[number] = spare.host.name
            for other in self.fars:
                if other.up and other.number is not None:
                    self.send(other, [talk.Names(tuple(self.names), other.number)])
            events.append(Back(number, self.node(spare)))
        elif far.starts < STARTS and not self._launched(far):
            log.info("starting the node agent on %s again (%s)", far.host.name, why)
            try:
                self._launch([far])
            except SiteError as error:
                log.warning("%s", error)

    # ------------------------------------------------------------ saying

    def send(self, far: Far, orders: list[talk.Order]) -> None:
        """Give orders to a node agent; they arrive in order, once, or the node is lost."""
        far.out.put(talk.encode(orders))
        if far.up:
            self._transmit(far, self._awake)

    def _transmit(self, far: Far, now: float) -> None:
        if far.out.overdue(now):
            far.out.rewind(far.out.acked, now)
        frames = far.out.take(now)
        beat = now - far.said >= self._patience.beat / 2 or far.owed >= ACK_AFTER
        for seq, body in frames or ([(far.out.sent, b"")] if beat else []):
            far.said, far.owed = now, 0
            self._put(far.route, talk.encode(talk.Frame(seq, far.reports.last, body)))

    def _put(self, route: bytes | None, body: bytes) -> None:
        if route is not None:
            with contextlib.suppress(zmq.ZMQError):  # nobody there, or full: the stream sends it again
                self._socket.send_multipart([route, body], zmq.NOBLOCK, copy=False)

    def close(self, grace: float = 2.0) -> None:
        """End all node agents with everything they run, and wait for it."""
        self._closing = True
        for far in self.fars:
            if far.up:
                self.send(far, [talk.Close()])
        until = self.clock.now() + grace + 5.0
        for stop in (None, signal.SIGTERM, signal.SIGKILL):
            for one in self._launchers:
                if stop is not None and one.process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(one.process.pid, stop)
            while any(one.process.poll() is None for one in self._launchers) and self.clock.now() < until:
                self._socket.poll(50)
                self.turn()
            until = self.clock.now() + grace + 3.0
        self._socket.close()
        self._gate.close(0)
        self._context.term()
        with contextlib.suppress(OSError, AttributeError):
            self._file.unlink()
