"""What tests of the performer share: a performer on a real placer and spawner, and a tiny stand-in for the machine."""

from __future__ import annotations

import hashlib
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import psutil
import pytest

from jupyter_rm.agent.perform import Performer
from jupyter_rm.core.holdings import Holdings
from jupyter_rm.core.placing import make_placer, shape_of
from jupyter_rm.model.columns import Column, Picks, pack
from jupyter_rm.model.describe import Task, Template
from jupyter_rm.model.effects import Begun, Finished, Freed, Input, Kill, Launch, Retract, RunAhead, TakenBack
from jupyter_rm.model.ids import tokens
from jupyter_rm.model.messages import Assign
from jupyter_rm.model.resources import Node
from jupyter_rm.model.states import Cause, TaskState


class End:
    """One row of a Finished."""

    def __init__(self, news: Finished, at: int) -> None:
        self.state = TaskState(int(news.state[at]))
        self.cause = Cause(int(news.cause[at]))
        self.code = int(news.code[at])
        self.node = int(news.node[at])
        self.started, self.ended = float(news.started[at]), float(news.ended[at])
        self.user, self.rss = float(news.user[at]), int(news.rss[at])
        self.note = news.notes.get(at, "")
        value = news.values.get(at) if news.values is not None else b""
        assert isinstance(value, bytes)
        self.value = value

    def __repr__(self) -> str:
        return f"End({self.state.name}, {self.cause.name}, code={self.code}, note={self.note!r})"


class Rig:
    """A performer with bulks, placed at once; what it reports is counted and checked."""

    def __init__(self, root: Path, *, nodes: int = 1, cores: int = 2, gpus: int = 0, **settings: Any) -> None:
        self.root = root
        self.nodes = [Node(f"n{i}", cores, gpus) for i in range(nodes)]
        self.placer = make_placer(self.nodes)
        self.holdings = Holdings()
        self.p = Performer(self.holdings, self.placer, self.nodes, root, session="s", pilot=7, **settings)
        self.ends: dict[tuple[int, int], End] = {}
        self.begun: set[int] = set()
        self.taken: list[TakenBack] = []
        self.allocs: set[int] = set()
        self.freed: list[int] = []
        self.bulks = 0
        self.count = 0
        self.per_bulk: dict[int, int] = {}
        self.homeless: list[int] = []
        self.asked = 0

    def bulk(
        self,
        template: Template | Task,
        count: int = 1,
        *,
        payload: list[bytes] | None = None,
        attempt: int = 1,
        **columns: Any,
    ) -> int:
        if isinstance(template, Task):
            template = template.template(params=bool(columns))
        number = self.bulks
        self.bulks += 1
        cols = {name: Column.of(values) for name, values in columns.items()}
        self.holdings.add(
            Assign(
                number,
                Picks.span(0, count),
                pack(attempt, "<u2"),
                template,
                cols,
                Column.of_bytes(payload) if payload is not None else None,
            )
        )
        return number

    def calls(self, function: Any, arguments: list[Any], **fields: Any) -> int:
        body = function if isinstance(function, bytes) else cloudpickle.dumps(function, 5)
        sha = hashlib.sha256(body).digest()
        self.holdings.functions[sha] = body
        payload = [a if isinstance(a, bytes) else cloudpickle.dumps(((a,), {}), 5) for a in arguments]
        return self.bulk(Template(mode="call", function=sha, **fields), len(arguments), payload=payload)

    def launch(self, bulk: int, count: int | None = None, pool: int = 0, first: int = 0) -> int:
        """Launch as many tasks of a bulk as fit, at most ``count``; return how many."""
        template = self.holdings.bulks[bulk].template
        shape = shape_of(self.placer, template.request)
        index = np.arange(first, first + (self.size(bulk) if count is None else count), dtype=np.int64)
        mine = tokens(bulk, index)
        self.placer.add(shape, mine)
        placed, allocs, _ = self.placer.schedule(len(mine), 0.0)
        self.placer.remove(mine)
        self.allocs.update(allocs.tolist())
        self.p.perform(Launch(pool, placed, allocs))
        return len(placed)

    def size(self, bulk: int) -> int:
        return int(self.holdings.bulks[bulk].segments[0].hi)

    def ahead(self, bulk: int, first: int, last: int | None = None, pool: int = 0) -> None:
        index = np.arange(first, self.size(bulk) if last is None else last, dtype=np.int64)
        self.p.perform(RunAhead(pool, tokens(bulk, index)))

    def run(self, bulk: int, timeout: float = 30, pool: int = 0) -> list[End]:
        """Run all tasks of a bulk: launch what fits, the rest runs ahead; return their ends."""
        placed = self.launch(bulk, pool=pool)
        if placed < self.size(bulk):
            self.ahead(bulk, placed, pool=pool)
        return self.wait(bulk, timeout)

    def kill(self, bulk: int, *index: int) -> None:
        self.p.perform(Kill(tokens(bulk, np.array(index, np.int64))))

    def retract(self, pool: int = 0) -> np.ndarray[Any, Any]:
        before = len(self.taken)
        self.asked += 1
        self.p.perform(Retract(pool))
        self.until(lambda: len(self.taken) > before, what="an answer to Retract")
        return self.taken[-1].tokens

    def wait(self, bulk: int, timeout: float = 30) -> list[End]:
        size = self.size(bulk)
        self.until(lambda: self.done(bulk) >= size, timeout, f"{size} ends of bulk {bulk}")
        return [self.ends[bulk, i] for i in range(size)]

    def done(self, bulk: int) -> int:
        return self.per_bulk.get(bulk, 0)

    def until(self, true: Any, timeout: float = 30, what: str = "it") -> None:
        deadline = time.monotonic() + timeout
        while True:
            for news in self.p.poll():
                self.take(news)
            while self.homeless:
                token = self.homeless[0]
                if not self.launch(token >> 32, 1, first=token & 0xFFFFFFFF):
                    break
                self.homeless.pop(0)
            self.p.flush()
            if true():
                return
            left = deadline - time.monotonic()
            assert left > 0, f"waited {timeout} s for {what}; ends: {len(self.ends)}, allocs held: {len(self.allocs)}"
            due = self.p.due()
            if due is not None:
                left = min(left, max(0.0, due - time.monotonic()))
            if self.p.busy_ahead:  # as the agent does: nothing here is waited for
                select.select([], [], [], 0.01)
            else:
                self.wait_for_news(left)

    def wait_for_news(self, seconds: float) -> None:
        select.select(self.p.filenos(), [], [], seconds)

    def take(self, news: Input) -> None:
        if isinstance(news, Begun):
            self.begun.update(news.tokens.tolist())
        elif isinstance(news, Finished):
            self.count += len(news.tokens)
            for at, token in enumerate(news.tokens.tolist()):
                key = (token >> 32, token & 0xFFFFFFFF)
                assert key not in self.ends, f"{key} ended twice"
                self.ends[key] = End(news, at)
                self.per_bulk[key[0]] = self.per_bulk.get(key[0], 0) + 1
        elif isinstance(news, Freed):
            for alloc in news.allocs.tolist():
                assert alloc in self.allocs, f"allocation {alloc} freed but not held"
                self.allocs.remove(alloc)
                self.freed.append(alloc)
            self.placer.release(news.allocs)
        elif isinstance(news, TakenBack):
            self.taken.append(news)
            if self.asked:
                self.asked -= 1
            else:  # unasked for: as the machine does, look for another place
                self.homeless.extend(news.tokens.tolist())

    def drained(self, timeout: float = 10) -> None:
        self.until(lambda: not self.allocs, timeout, "all allocations to be freed")
        assert self.placer.running == 0

    def folder(self, bulk: int, index: int, attempt: int = 1) -> Path:
        return self.root / f"{bulk:06d}" / f"{index:06d}.{attempt}"

    def text(self, bulk: int, index: int, name: str = "stdout") -> str:
        return (self.folder(bulk, index) / name).read_text()


def children() -> set[int]:
    """Return the pids of this process and the spawner started, zombies included."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Make performers; afterwards they are closed and no process of theirs is left, not even a zombie."""
    before = children()
    made: list[Rig] = []

    def make(**settings: Any) -> Rig:
        rig = Rig(tmp_path / f"pilot{len(made)}", **settings)
        made.append(rig)
        return rig

    yield make
    for rig in made:
        rig.p.close(1.0)
    assert children() <= before, "processes are left"


@pytest.fixture
def rig(rigs: Callable[..., Rig]) -> Rig:
    """One node of two cores."""
    return rigs()
