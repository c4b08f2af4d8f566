"""``python -m jupyter_rm.agent.node SPEC``: the node agent of one further node of a pilot.

It dials the pilot's head agent, says what its node has, and then does what the head's performer does on its own node:
starts programs and Python calls and reports what becomes of them, many in one frame. When the head has been silent for
the length of its lease, everything it started is ended and so is it. SPEC is a 0600 file that the head wrote, with the
keys of their link. Read next: :mod:`jupyter_rm.agent.fleet`, the other end.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq

from ..core.holdings import Holdings
from ..model.effects import Finished, Freed, Kill, Launch, Retract, RunAhead, TakenBack
from ..model.ids import by_bulk
from ..model.messages import Assign, Function
from ..model.resources import Node
from ..runtime.clock import Clock
from ..runtime.drive import Drive, drain
from ..wire.link import Inbox, Outbox
from . import talk
from .nodes import STEP_PREFIXES, own_names
from .perform import Performer

log = logging.getLogger("jupyter_rm.agent")
# Pause between two looks at the performer while it has work queued ahead, s.
CALM = 0.02
TICK = 0.25
# What a pause between two ticks counts at most, s.
AWAKE_STEP = 1.0
# Frames under way at once; beyond that, news is gathered into fewer, larger ones.
FLYING = 8
DIAL_SECONDS, WELCOME_SECONDS = 2.0, 5.0


class SlotTable:
    """What an allocation is, as the head said; stands where a performer expects the placer."""

    def __init__(self) -> None:
        self._slots: dict[int, Any] = {}

    def put(self, alloc: int, slots: Any) -> None:
        """Note what an allocation is."""
        self._slots[alloc] = slots

    def slots(self, alloc: int) -> Any:
        """Return (rank, node, cores, GPUs) of each of its ranks."""
        return self._slots[alloc]

    def forget(self, alloc: int) -> None:
        """It was given back."""
        self._slots.pop(alloc, None)


def facts_here(number: int, lfs: Path) -> talk.NodeHello:
    """Return what this node is called and what it has; ``number`` -1: whoever started us did not say."""
    from ..runtime.probe import probe_node

    found = probe_node(lfs)
    return talk.NodeHello(
        talk.VERSION,
        number,
        own_names(os.environ),
        os.getpid(),
        tuple(found.cores),
        tuple(map(tuple, found.numa)),
        len(found.gpus),
        found.mem_mib,
        found.lfs_mib,
    )


def job_environment(job: Mapping[str, str]) -> dict[str, str]:
    """Return the environment tasks start from on this node: its own, but nothing of the step that started us."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(STEP_PREFIXES)}
    return env | dict(job)


class NodeAgent:
    """The program.

    Args:
        spec: what the head wrote; ``life`` is its number, ``lease`` s of silence end this agent.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = spec
        self.clock = Clock()
        self.drive = Drive(self.clock, self._round)
        number = os.environ.get("JRM_NODE_NUMBER", "")
        self._hello = talk.encode(facts_here(int(number) if number.isdecimal() else -1, Path(spec["place"])))
        self._context = zmq.Context()
        self._socket: Any = None
        self._targets = [(host, int(spec["port"])) for host in spec["hosts"]]
        self._at = -1
        self._dialed = 0.0
        self.welcome: talk.NodeWelcome | None = None
        self._out, self._in = Outbox(), Inbox()
        self._heard = self._said = self._began = self._seen = self.clock.now()
        self._awake = self._heard_awake = 0.0
        self._owed = 0
        self._holdings, self._table = Holdings(), SlotTable()
        self._performer: Performer | None = None
        self._news: list[talk.Report] = []
        self._asked: dict[int, int] = {}
        self._listening = False
        self._calm_until = self._look_at = 0.0
        self._code = 0
        self._number = -1
        self.drive.every(TICK, self._tick)

    def run(self) -> int:
        """Work until the head lets go or is gone; returns the exit code."""
        self._dial()
        try:
            self.drive.run()
        finally:
            if self._performer is not None:
                self._performer.close(2.0)
            if self._socket is not None:
                self._socket.close(200)
            self._context.term()
            self.drive.close()
        return self._code

    # ------------------------------------------------------------ the road to the head

    def _dial(self) -> None:
        """Try the head's addresses in turn; only the one that knows the key will welcome us."""
        self._dialed = self.clock.now()
        if self._socket is not None:
            self.drive.forget(self._socket)
            self._socket.close(0)
            self._socket = None
        for _ in self._targets:
            self._at = (self._at + 1) % len(self._targets)
            host, port = self._targets[self._at]
            try:
                socket.create_connection((host, port), DIAL_SECONDS).close()
            except OSError:
                continue
            made = self._context.socket(zmq.DEALER)
            for option, value in (
                (zmq.IDENTITY, b"n" + secrets.token_bytes(15)),
                (zmq.CURVE_SERVERKEY, self._spec["head_key"].encode()),
                (zmq.CURVE_PUBLICKEY, self._spec["public"].encode()),
                (zmq.CURVE_SECRETKEY, self._spec["secret"].encode()),
                (zmq.LINGER, 200),
                (zmq.RECONNECT_IVL, 100),
                (zmq.RECONNECT_IVL_MAX, 1000),
                (zmq.SNDHWM, 10_000),
                (zmq.MAXMSGSIZE, talk.FRAME_LIMIT),
                (zmq.TCP_KEEPALIVE, 1),
                (zmq.IPV6, 1),
            ):
                made.setsockopt(option, value)
            made.connect(f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}")
            made.send(self._hello)
            self._socket = made
            self.drive.watch(made, partial(drain, made, self._frames))
            return

    def _frames(self, frames: list[bytes]) -> None:
        try:
            word = talk.to_node(frames[-1])
            if isinstance(word, talk.NodeRefused):
                log.warning("refused: %s", word.reason)
                self._end(0)
            elif isinstance(word, talk.NodeWelcome):
                self._heard, self._heard_awake = self.clock.now(), self._awake
                if self.welcome is None:
                    self._begin(word)
            elif self.welcome is not None:
                self._frame(word)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            log.warning("frame from the head dropped: %s", error)

    def _frame(self, word: talk.Frame) -> None:
        now = self._heard = self.clock.now()
        self._heard_awake = self._awake
        self._out.ack(word.ack, now)
        self._out.forget(word.ack)
        if word.body:
            self._owed += 1
            if self._in.take(word.seq):
                for order in talk.orders(word.body):
                    self._order(order)

    def _send(self, now: float) -> None:
        if self._news and self._out.unacked < FLYING:
            news, self._news = self._news, []
            self._out.put(talk.encode(news))
        if self._out.overdue(now):
            self._out.rewind(self._out.acked, now)
        frames = self._out.take(now)
        beat = now - self._said >= self._spec["beat"] or self._owed >= 16
        for seq, body in frames or ([(self._out.sent, b"")] if beat else []):
            self._said, self._owed = now, 0
            try:
                self._socket.send(talk.encode(talk.Frame(seq, self._in.last, body)), zmq.NOBLOCK)
            except zmq.Again:
                return  # it is sent again

    def _tick(self) -> None:
        clock = self.clock.now()
        # A machine that slept, or a job that was frozen, has heard nobody in that time: it asks first whether it is
        # still wanted. The head refuses it at the first word if it has given it up.
        self._awake += min(max(0.0, clock - self._seen), AWAKE_STEP)
        self._seen = now = clock
        if self.welcome is None:
            if now - self._began > self._spec["patience"]:
                log.warning("the head at %s does not answer", self._targets)
                self._end(3)
            elif self._socket is None or now - self._dialed > WELCOME_SECONDS:
                self._dial()
            return
        if self._awake - self._heard_awake > self._spec["lease"]:
            log.warning("the head has been silent for %.0f s: everything ends here", now - self._heard)
            self._end(4)
        if self._owed:
            self._owed = 16

    def _end(self, code: int) -> None:
        self._code = code
        self.drive.stop()

    def terminate(self) -> None:
        """End because the system says so."""
        self._end(0)

    # ------------------------------------------------------------ work

    def _begin(self, welcome: talk.NodeWelcome) -> None:
        self.welcome = welcome
        self._number = welcome.number
        self._performer = Performer(
            self._holdings,
            self._table,
            self._nodes(welcome.names),
            Path(self._spec["sandbox"]),
            pin=welcome.pin,
            environ=job_environment(self._spec["environ"]),
            session=self._spec["session"],
            pilot=self._spec["pilot"],
            here=welcome.number,
            methods=tuple(self._spec["methods"]),
            hooks=self._spec["hooks"],
            facts=self._spec["facts"],
            envs=self._spec["envs"],
            launch=self._spec["launch"],
        )
        self._listen(True)

    def _nodes(self, names: tuple[str, ...]) -> list[Node]:
        """Return the nodes as a performer needs them: of the others only their names are known."""
        assert self.welcome is not None
        nodes = [Node(name, 0) for name in names]
        here = self._number
        nodes[here] = Node(names[here], self.welcome.cores, core_ids=self.welcome.core_ids)
        return nodes

    def _order(self, order: talk.Order) -> None:
        performer = self._performer
        assert performer is not None
        if isinstance(order, Assign):
            self._holdings.add(order)
        elif isinstance(order, Function):
            self._holdings.functions[order.sha256] = order.body
        elif isinstance(order, talk.Go):
            allocs = talk.numbers(order.allocs)
            for alloc, slots in zip(allocs.tolist(), talk.slots_of(order), strict=True):
                self._table.put(alloc, slots)
            performer.site.spread.update(order.spread)
            performer.perform(Launch(order.pool, talk.numbers(order.tokens), allocs))
        elif isinstance(order, talk.Ahead):
            performer.perform(RunAhead(order.pool, talk.numbers(order.tokens)))
        elif isinstance(order, talk.TakeBack):
            self._look()  # what came back unasked before is not the answer
            self._asked[order.pool] = self._asked.get(order.pool, 0) + 1
            performer.perform(Retract(order.pool))
            self._look()
        elif isinstance(order, talk.Slay):
            performer.perform(Kill(talk.numbers(order.tokens)))
        elif isinstance(order, talk.Names):
            performer.site.here = self._number = order.number
            performer.site.nodes = self._nodes(order.names)
        elif isinstance(order, talk.Forgotten):
            for bulk in order.bulks:
                if bulk not in self._holdings.bulks:
                    self._holdings.templates.pop(bulk, None)
            for sha in order.functions:
                self._holdings.functions.pop(sha, None)
        else:
            self._end(0)
        self._calm_until = 0.0

    def _look(self) -> None:
        """Take in what the performer has to say, and forget what is over."""
        assert self._performer is not None
        news = self._performer.poll()
        for one in news:
            if isinstance(one, (Finished, TakenBack)):
                for bulk, _, index in by_bulk(one.tokens):
                    self._holdings.drop(bulk, np.sort(index))
            elif isinstance(one, Freed):
                for alloc in one.allocs.tolist():
                    self._table.forget(alloc)
                    self._performer.site.spread.pop(alloc, None)
        self._news += talk.say(news, self._asked)

    def _round(self) -> None:
        if self._performer is None or self.welcome is None:
            return
        now = self.clock.now()
        if now >= self._calm_until:
            self._look()
            calm = self._performer.busy_ahead
            self._calm_until = now + CALM if calm else 0.0
            self._listen(not calm)
            due = self._performer.due()
            if calm or due is not None:
                wait = CALM if calm else max(0.0, (due or 0.0) - time.monotonic())
                if self._look_at <= now or now + wait < self._look_at:
                    self._look_at = now + wait
                    self.drive.later(wait, _nothing)
        self._send(now)

    def _listen(self, on: bool) -> None:
        assert self._performer is not None
        if on != self._listening:
            self._listening = on
            for fd in self._performer.filenos():
                if on:
                    self.drive.watch(fd, _nothing)
                else:
                    self.drive.forget(fd)


def _nothing() -> None:
    """The round that follows does the work."""


def main(argv: list[str] | None = None) -> int:
    """Run the node agent; returns the exit code."""
    os.umask(0o077)
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m jupyter_rm.agent.node SPEC\n")
        return 2
    spec = json.loads(Path(arguments[0]).read_bytes())
    from ..runtime import logs
    from ..runtime.process import become_subreaper
    from .leftovers import Mark, clear_leftovers, no_core_files

    name = own_names(os.environ)[0]
    place = Path(spec["place"])
    logs.setup("jupyter_rm", place / f"node-{name}.trace")
    no_core_files()
    become_subreaper()
    Mark(place / f"node-{name}.alive").take_over()
    clear_leftovers()
    agent = NodeAgent(spec)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    agent.drive.on_signal(signal.SIGTERM, agent.terminate)
    try:
        return agent.run()
    except Exception:
        # The guard takes a signal for an accident: only after that it starts another one.
        log.exception("this life of the node agent ends here")
        os.kill(os.getpid(), signal.SIGABRT)
        return 1


if __name__ == "__main__":
    sys.exit(main())
