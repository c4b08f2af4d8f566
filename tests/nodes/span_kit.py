"""What tests of pilots with several nodes share: a head's performer with real node agents, all on this machine."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from perform_kit import Rig, children

from jupyter_rm.agent.fleet import Fleet
from jupyter_rm.agent.node import SlotTable
from jupyter_rm.agent.nodes import Host, Hosts
from jupyter_rm.agent.perform import Performer
from jupyter_rm.agent.span import SpanPerformer
from jupyter_rm.core.holdings import Holdings
from jupyter_rm.core.patience import Patience
from jupyter_rm.core.placing import NodeChanged, make_placer
from jupyter_rm.model.effects import Input
from jupyter_rm.model.resources import Node

QUICK = Patience(beat=0.5, node=3.0, node_grace=3.0)


class Span(Rig):
    """A performer over ``nodes`` nodes: the first is this process, the others node agents that it started."""

    def __init__(
        self,
        root: Path,
        *,
        nodes: int = 2,
        cores: int = 2,
        spare: int = 0,
        patience: Patience = QUICK,
        launch: str = "fork",
        environ: dict[str, str] | None = None,
    ) -> None:
        self.root = root / "sandbox"
        self.place = root / "place"
        for folder in (self.root, self.place):
            folder.mkdir(parents=True, mode=0o700)
        names = [f"node{number}" for number in range(nodes + spare)]
        hosts = tuple(Host(name, cores) for name in names)
        spec: dict[str, Any] = {
            "session": "s",
            "pilot": 7,
            "place": str(self.place),
            "sandbox": str(self.root),
            "launch": launch,
            "launches": ["fork"],
        }
        self.hosts = Hosts(hosts[:nodes], hosts[nodes:])
        self.fleet = Fleet(self.hosts, spec, 0, environ, patience=patience)
        self.fleet.start()
        self.fleet.gather()
        self.nodes = [Node(name, cores, mem=1000) for name in names[:nodes]]
        self.placer = make_placer(self.nodes)
        self.holdings = Holdings()
        self.changes: list[NodeChanged] = []
        table = SlotTable()
        self.local = Performer(
            self.holdings, table, self.nodes, self.root, session="s", pilot=7, here=0, environ=environ
        )
        self.p: Any = SpanPerformer(self.holdings, self.placer, self.fleet, nodes, 0, self.local, table)
        self.ends = {}
        self.begun = set()
        self.taken = []
        self.allocs = set()
        self.freed = []
        self.bulks = self.count = self.asked = 0
        self.per_bulk = {}
        self.homeless = []

    def take(self, news: Input) -> None:
        if isinstance(news, NodeChanged):
            self.changes.append(news)
            self.placer.node_state(news.number, "up" if news.up else "down")
            return
        super().take(news)

    def wait_for_news(self, seconds: float) -> None:
        poller = zmq.Poller()
        for source in self.p.filenos():
            poller.register(source, zmq.POLLIN)
        poller.poll(int(seconds * 1000) + 1)

    def drained(self, timeout: float = 10) -> None:
        super().drained(timeout)
        for hand in self.p._hands:
            assert not hand.tokens and not hand.allocs, f"node {hand.number} still has something"

    def agent(self, number: int) -> psutil.Process:
        """Return the process of the node agent that serves a node."""
        facts = self.fleet.serving[number].facts
        assert facts is not None
        return psutil.Process(facts.pid)


__all__ = ["QUICK", "Span", "os", "signal", "socket"]


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[Callable[..., Span]]:
    """Make performers over several nodes; afterwards no process of theirs is left."""
    before = children()
    made: list[Span] = []

    def make(**settings: Any) -> Span:
        span = Span(tmp_path / f"pilot{len(made)}", **settings)
        made.append(span)
        return span

    yield make
    for span in made:
        span.p.close(1.0)
    assert children() <= before, "processes are left"
