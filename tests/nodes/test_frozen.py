"""A job that was stopped for a while: when it goes on, its agents take nobody's silence for an end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_rm.agent.node import NodeAgent
from jupyter_rm.core.patience import DEFAULT


class Clock:
    """A clock that jumps when told."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Any]:
    """A node agent that was welcomed, with a clock of ours."""
    spec = {"place": str(tmp_path), "hosts": [], "port": 0, "lease": DEFAULT.node, "beat": 5.0, "patience": 60.0}
    made: Any = NodeAgent(spec)
    made.clock = Clock()
    made._heard = made._said = made._began = made._seen = made.clock.at
    made.welcome = object()
    yield made
    made.drive.close()
    made._context.term()


def ticks(node: Any, seconds: float) -> None:
    for _ in range(int(seconds * 4)):
        node.clock.at += 0.25
        node._tick()


def test_a_node_agent_that_stood_still_for_an_hour_asks_before_it_ends(node: Any) -> None:
    ticks(node, 10)
    node.clock.at += 3600
    ticks(node, DEFAULT.node / 4)
    assert node._code == 0, "it ended, and all it ran with it, though its head may have stood still too"
    ticks(node, DEFAULT.node)
    assert node._code == 4, "its head has said nothing since: it has gone"
