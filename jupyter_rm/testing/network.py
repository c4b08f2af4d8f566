"""A network that does everything a network may do: lose, repeat, delay, reorder, stop, and go on where it stopped.

What travels is bytes. A *link* is one direction between two addresses. ``cut`` drops frames silently; ``clog`` holds
them and lets them go later, in order, the way a stalled connection does. Knows nothing about messages.
Read next: :mod:`jupyter_rm.testing.faults`.
"""

from __future__ import annotations

from collections.abc import Callable

from .chance import Random
from .loop import Loop
from .trace import Trace

Handler = Callable[[str, bytes], None]


class Link:
    """One direction between two addresses; probabilities in [0, 1], seconds for ``slow``."""

    __slots__ = ("clogged", "cut", "held", "last", "loss", "repeat", "slow")

    def __init__(self) -> None:
        self.loss = self.repeat = self.slow = 0.0
        self.cut = self.clogged = 0
        self.held: list[bytes] = []
        self.last = 0.0


class Network:
    """All links between addresses.

    Args:
        latency: seconds a frame takes when nothing is wrong.
        ordered: links keep the order (as streams do) unless they are slow.
    """

    def __init__(self, loop: Loop, rng: Random, trace: Trace, latency: float, ordered: bool) -> None:
        self._loop, self._rng, self._trace = loop, rng, trace
        self.latency, self.ordered = latency, ordered
        self.links: dict[tuple[str, str], Link] = {}
        self._handlers: dict[str, Handler] = {}
        self.frames = 0

    def listen(self, address: str, handler: Handler | None) -> None:
        """Let ``handler(source, frame)`` take what arrives at ``address``; None: nobody is there."""
        if handler is None:
            self._handlers.pop(address, None)
        else:
            self._handlers[address] = handler

    def link(self, source: str, target: str) -> Link:
        """Return the link of one direction."""
        link = self.links.get((source, target))
        if link is None:
            link = self.links[source, target] = Link()
        return link

    def send(self, source: str, target: str, frame: bytes) -> None:
        """Send a frame; whether it arrives, when, and how often, is the link's business."""
        link = self.link(source, target)
        self.frames += 1
        if link.cut or (link.loss and self._rng.random() < link.loss):
            return
        if link.clogged:
            link.held.append(frame)
            return
        copies = 2 if link.repeat and self._rng.random() < link.repeat else 1
        for _ in range(copies):
            delay = self.latency * (0.5 + self._rng.random())
            if link.slow:
                delay += link.slow * self._rng.random()
            elif self.ordered:
                delay = max(delay, link.last - self._loop.now + 1e-6)
                link.last = self._loop.now + delay
            self._loop.after(delay, self._arrive, source, target, frame)

    def _arrive(self, source: str, target: str, frame: bytes) -> None:
        handler = self._handlers.get(target)
        if handler is None or self.link(source, target).cut:
            return
        self._trace.frame(self._loop.now, source, target, frame)
        handler(source, frame)

    def unclog(self, source: str, target: str) -> None:
        """Let a clogged link go on; what it held arrives, in order."""
        link = self.link(source, target)
        link.clogged = max(0, link.clogged - 1)
        if not link.clogged:
            held, link.held = link.held, []
            for frame in held:
                self.send(source, target, frame)

    def heal(self) -> None:
        """End all faults; from now on all links keep the order, as streams do."""
        self.ordered = True
        for (source, target), link in self.links.items():
            link.loss = link.repeat = link.slow = 0.0
            link.cut = 0
            if link.clogged:
                link.clogged = 1
                self.unclog(source, target)
