"""Which task starts where: the agent's view of its nodes, its waiting tasks and its run-ahead queues.

The C++ placer decides about single tasks; this class keeps what belongs around it: pools (tasks of equal shape and
mode, inside which an allocation may pass from one task to the next without asking), how far to run ahead, what each
pool's tasks take. It knows nothing about links or processes. Read next: :mod:`jupyter_rm.core.agent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..model.describe import Template
from ..model.effects import Effect, Input, Launch, Retract, RunAhead, Tokens
from ..model.ids import INDEX_BITS
from ..model.resources import Node, Request
from .patience import Patience

BATCH = 16_384
AHEAD_MOST = 16_384
_NOBODY: Tokens = np.zeros(0, np.uint64)


def make_placer(nodes: Sequence[Node]) -> Any:
    """Return the C++ placer for ``nodes``, or its slow twin on a machine for which none was built."""
    placer: Any
    try:
        from ..native._placer import Placer as placer
    except ImportError:
        from ..native.placer_portable import PortablePlacer as placer
    names = sorted({name for node in nodes for name, _ in node.named})
    return placer(
        np.array([node.cores for node in nodes], np.uint16),
        np.array([node.gpus for node in nodes], np.uint16),
        np.array([node.mem for node in nodes], np.uint32),
        np.array([node.lfs for node in nodes], np.uint32),
        np.array([max(node.numa, 1) for node in nodes], np.uint8),
        np.array([node.partition for node in nodes], np.uint16),
        {name: np.array([dict(node.named).get(name, 0) for node in nodes], np.uint32) for name in names},
    )


def shape_of(placer: Any, request: Request, partition: int = -1) -> int:
    """Return the placer's number for a request."""
    return int(
        placer.shape(
            ranks=request.ranks,
            cores=request.cores,
            gpus=request.gpus,
            mem=request.mem,
            lfs=request.lfs,
            ranks_per_node=request.ranks_per_node,
            named=dict(request.named),
            partition=partition,
            exclusive=request.exclusive,
            numa=request.numa,
        )
    )


@dataclass(frozen=True, slots=True)
class NodeChanged(Input):
    """A node is lost (what ran there was reported before), or can be used (again), by now perhaps another machine."""

    number: int
    up: bool
    node: Node | None = None


class Ground:
    """What one pilot's nodes can hold at all, empty: asked before tasks are bound to it, and to say why not.

    Shapes are numbered by the placer, so answers are kept with it and go with it when the nodes change.
    """

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes
        self.cores = sum(node.cores for node in nodes)
        self._placer = make_placer(nodes)
        self._why: dict[tuple[Request, int], str] = {}

    def fits(self, template: Template) -> bool:
        """Say whether a task of this kind can ever run here."""
        return not self.why_not(template)

    def why_not(self, template: Template) -> str:
        """Return why such a task can never run here, '' when it can."""
        key = (template.request, template.partition)
        why = self._why.get(key)
        if why is None:
            told = self._placer.explain(shape_of(self._placer, *key))
            # Of a reason that is not given the answer remains no.
            why = self._why[key] = "" if told["ever"] else str(told["reason"]) or "its nodes cannot hold it"
        return why


class Pool:
    """Tasks of one shape and mode. ``handed`` were given to the performer and have not ended; ``allocs`` are held.

    ``called_back``: what is to leave this agent if it has not begun.
    """

    __slots__ = ("ahead_ok", "allocs", "called_back", "handed", "mean", "retracting", "shape")

    def __init__(self, shape: int, ahead_ok: bool) -> None:
        self.shape = shape
        self.ahead_ok = ahead_ok
        self.handed = 0
        self.allocs = 0
        self.mean = -1.0  # seconds a task takes; -1 not known yet
        self.retracting = False
        self.called_back: Tokens = _NOBODY


class Floor:
    """The nodes of one pilot and everything that waits for them."""

    def __init__(self, nodes: Sequence[Node], patience: Patience, placer: Any = None) -> None:
        self.nodes = tuple(nodes)
        self._lost: set[int] = set()
        self._cores = sum(node.cores for node in nodes)
        self.placer = placer if placer is not None else make_placer(nodes)
        self.patience = patience
        self.pools: list[Pool] = []
        self._pool_keys: dict[tuple[int, str, str], int] = {}
        self._bulk_pool: dict[int, int] = {}
        self._alloc_pool: dict[int, int] = {}
        self._tags: dict[str, int] = {}
        self.draining = False

    @property
    def performing(self) -> int:
        """Return how many tasks the performer has."""
        return sum(pool.handed for pool in self.pools)

    def open(self, bulk: int, template: Template) -> tuple[int, str]:
        """Make a bulk known; return (pool, '') or (pool, why it can never run here)."""
        shape = shape_of(self.placer, template.request, template.partition)
        key = (shape, "call" if template.mode == "call" else "process", template.restart)
        number = self._pool_keys.get(key)
        if number is None:
            number = self._pool_keys[key] = len(self.pools)
            # A task that forbids a second start is recorded before each start, so it cannot start unasked.
            self.pools.append(Pool(shape, template.restart != "never" and template.request.ranks == 1))
        self._bulk_pool[bulk] = number
        why = self.placer.explain(shape)
        return number, "" if why["ever"] else str(why["reason"])

    def close(self, bulk: int) -> None:
        """Forget a bulk of which nothing is held."""
        self._bulk_pool.pop(bulk, None)

    def add(self, bulk: int, tokens: Tokens, template: Template) -> None:
        """Let tasks wait for their place."""
        tag = self._tags.setdefault(template.colocate, len(self._tags) + 1) if template.colocate else 0
        self.placer.add(
            self.pools[self._bulk_pool[bulk]].shape,
            tokens,
            priority=template.priority,
            tag=tag,
            exclusive_tag=template.exclusive_tag,
        )

    def remove(self, tokens: Tokens) -> Tokens:
        """Take back those of ``tokens`` that still wait here; return them."""
        removed: Tokens = self.placer.remove(tokens)
        return removed

    def call_back(self, tokens: Tokens, effects: list[Effect]) -> Tokens:
        """Take back those of ``tokens`` that still wait here; the performer is asked for those it may have in line."""
        removed = self.remove(tokens)
        rest = np.setdiff1d(tokens, removed)
        for number, where in self._by_pool(rest):
            pool = self.pools[number]
            if pool.handed > pool.allocs:
                pool.called_back = np.union1d(pool.called_back, rest if where is None else rest[where])
                if not pool.retracting:
                    pool.retracting = True
                    effects.append(Retract(number))
        return removed

    def change(self, news: NodeChanged) -> bool:
        """Let a node out of the placing, or in; say whether the pilot consists of something else now."""
        before = self.there
        old = self.nodes[news.number]
        node = news.node if news.node is not None else old
        # What is placed on it was counted out for the node that was there first.
        small = node.cores < old.cores or node.gpus < old.gpus or node.mem < old.mem
        self.placer.node_state(news.number, "up" if news.up and not small else "down")
        self._lost.add(news.number)
        if news.up and not small:
            self._lost.discard(news.number)
            node = msgspec.structs.replace(old, name=node.name, core_ids=node.core_ids)
            self.nodes = (*self.nodes[: news.number], node, *self.nodes[news.number + 1 :])
        return self.there != before

    @property
    def there(self) -> tuple[Node, ...]:
        """What the pilot consists of now: a lost node keeps its number and name, and has nothing."""
        return tuple(Node(node.name, 0) if n in self._lost else node for n, node in enumerate(self.nodes))

    def free(self, allocs: npt.NDArray[np.uint64]) -> None:
        """Take allocations back from the performer."""
        self.placer.release(allocs)
        for alloc in allocs.tolist():
            self.pools[self._alloc_pool.pop(alloc)].allocs -= 1

    def ended(self, bulk: int, count: int, mean: float) -> None:
        """Count tasks of a bulk out of the performer's hands; ``mean`` s is how long those that ran took (-1: none)."""
        pool = self.pools[self._bulk_pool[bulk]]
        pool.handed -= count
        if mean >= 0:
            pool.mean = mean if pool.mean < 0 else 0.7 * pool.mean + 0.3 * mean

    def brief(self, bulk: int) -> bool:
        """Say whether tasks like those of ``bulk`` are known to end within moments."""
        return 0 <= self.pools[self._bulk_pool[bulk]].mean < self.patience.ahead

    def taken_back(self, number: int, tokens: Tokens, priorities: dict[int, int]) -> Tokens:
        """Let run-ahead tasks that came back wait again, first in line; return those that are to leave this agent."""
        pool = self.pools[number]
        pool.retracting = False
        pool.handed -= len(tokens)
        called, pool.called_back = np.isin(tokens, pool.called_back), _NOBODY
        leave, tokens = tokens[called], tokens[~called]
        for bulk in np.unique(tokens >> np.uint64(INDEX_BITS)).tolist():
            mine = tokens[(tokens >> np.uint64(INDEX_BITS)) == bulk]
            self.placer.put_back(pool.shape, mine, priorities[int(bulk)])
        return leave

    def place(self, now: float) -> list[Effect]:
        """Start what fits now and queue what may run ahead."""
        effects: list[Effect] = []
        if self.draining:
            return effects
        while self.placer.waiting:
            tokens, allocs, _ = self.placer.schedule(BATCH, now)
            if len(tokens) == 0:
                break
            for number, where in self._by_pool(tokens):
                pool = self.pools[number]
                mine = tokens if where is None else tokens[where]
                held = allocs if where is None else allocs[where]
                pool.handed += len(mine)
                pool.allocs += len(held)
                for alloc in held.tolist():
                    self._alloc_pool[alloc] = number
                effects.append(Launch(number, mine, held))
            if len(tokens) < BATCH:
                break
        if self.placer.waiting:
            effects += self._retract() if self.placer.reservations() else self._run_ahead()
        return effects

    def _retract(self) -> list[Effect]:
        """Nodes are reserved for a wide task: what is queued ahead must not pass allocations on beside it."""
        effects: list[Effect] = []
        for number, pool in enumerate(self.pools):
            if pool.handed > pool.allocs and not pool.retracting:
                pool.retracting = True
                effects.append(Retract(number))
        return effects

    def _run_ahead(self) -> list[Effect]:
        effects: list[Effect] = []
        for number, pool in enumerate(self.pools):
            if not pool.ahead_ok or pool.allocs == 0 or not 0 <= pool.mean <= self.patience.ahead_longest:
                continue
            depth = int(pool.allocs * min(self.patience.ahead / max(pool.mean, 1e-6), AHEAD_MOST / pool.allocs))
            room = depth - (pool.handed - pool.allocs)
            # Refill in large steps: a queue that is still half full can wait for the next turn.
            if room <= 0 or 2 * room < depth:
                continue
            tokens = self.placer.take(pool.shape, room)
            for other, where in self._by_pool(tokens):
                mine = tokens if where is None else tokens[where]
                if other == number:
                    pool.handed += len(mine)
                    effects.append(RunAhead(number, mine))
                else:  # equal shape, other mode: its allocations do not pass on to us
                    self.placer.put_back(pool.shape, mine, 0)
        return effects

    def lasts(self) -> float:
        """Return for how many seconds the shortest line of run-ahead tasks will last, by what its tasks took so far."""
        return min(
            (
                (pool.handed - pool.allocs) * pool.mean / pool.allocs
                for pool in self.pools
                if pool.allocs and pool.handed > pool.allocs and pool.mean >= 0
            ),
            default=0.0,
        )

    def _by_pool(self, tokens: Tokens) -> list[tuple[int, npt.NDArray[np.bool_] | None]]:
        if len(tokens) == 0:
            return []
        if len(tokens) == 1:
            return [(self._bulk_pool[int(tokens[0]) >> INDEX_BITS], None)]
        bulks = tokens >> np.uint64(INDEX_BITS)
        first = bulks[0]
        if bool((bulks == first).all()):
            return [(self._bulk_pool[int(first)], None)]
        unique, inverse = np.unique(bulks, return_inverse=True)
        pools = np.array([self._bulk_pool[int(bulk)] for bulk in unique.tolist()])[inverse]
        return [(int(number), pools == number) for number in np.unique(pools).tolist()]

    def capacity(self) -> int:
        """Return how many single-core tasks the empty nodes hold."""
        return self._cores

    def why(self, bulk: int) -> str:
        """Return why tasks of a bulk do not start now, in plain words."""
        pool = self.pools[self._bulk_pool[bulk]]
        why = self.placer.explain(pool.shape)
        if self.draining:
            return "the pilot is draining and starts nothing new"
        if pool.handed > pool.allocs:
            return f"{pool.handed - pool.allocs} equal tasks are queued to follow the {pool.allocs} that run"
        return str(why["reason"]) or f"{self.placer.waiting} tasks wait for the same resources"
