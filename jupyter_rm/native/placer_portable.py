"""The rules of ``jupyter_rm.native._placer`` in slow, plain Python, with the same interface.

It serves where the C++ core cannot be loaded: an agent on a machine for which nothing was compiled. And it is the
oracle of the tests: every choice is a ``min`` or a sort over all nodes, so what it does can be read off, and the C++
core must make the same choices to the last core (``tests/native/test_placer_reference.py`` compares them). It knows no
speed, no index and no memory of failures. ``placer_portable_node.py`` holds the rules within one node; read
``placer_core.hpp`` next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jupyter_rm.native.placer_portable_explain import explain
from jupyter_rm.native.placer_portable_node import WHOLE, Held, Node, Request, Waiting

Picks = list[tuple[Node, int]]


class PortablePlacer:
    """The same methods as ``Placer``; see ``_placer.pyi`` for what they take and return."""

    def __init__(
        self,
        cores: Iterable[int],
        gpus: Iterable[int],
        mem: Iterable[int],
        lfs: Iterable[int],
        numa: Iterable[int],
        partition: Iterable[int],
        named: dict[str, Any] | None = None,
        *,
        patience: float = 2.0,
        lookahead: int = 1024,
    ) -> None:
        pools = {name: [int(v) for v in values] for name, values in sorted((named or {}).items())}
        self.nodes_list = [
            Node(i, int(c), int(g), int(m), int(d), int(z), int(p), {name: pools[name][i] for name in pools})
            for i, (c, g, m, d, z, p) in enumerate(zip(cores, gpus, mem, lfs, numa, partition, strict=True))
        ]
        self.patience, self.lookahead = patience, lookahead
        self.shapes: list[Request] = []
        self.classes: dict[tuple[int, int, int, bool], Waiting] = {}
        self.tags: dict[int, list[int]] = {}
        self.reserved: dict[int, tuple[Waiting, list[int]]] = {}
        self.held: dict[int, Held] = {}
        self.placed: dict[int, int] = {}
        self._free_ids: list[int] = []
        self._gens: list[int] = []
        self._clock = 0
        self._seq = 0
        self._front = 0
        self._partitions = sorted({x.partition for x in self.nodes_list})
        for x in self.nodes_list:  # of equal nodes the first is found first
            x.stamp = -x.index

    # -- requests ---------------------------------------------------------------------------------------------------

    def shape(
        self,
        ranks: int = 1,
        cores: int = 1,
        gpus: int = 0,
        mem: int = 0,
        lfs: int = 0,
        ranks_per_node: int = 0,
        named: dict[str, int] | None = None,
        partition: int = -1,
        exclusive: bool = False,
        numa: str = "compact",
    ) -> int:
        pools = tuple(sorted((k, v) for k, v in (named or {}).items() if v))
        fixed = min(ranks_per_node, ranks)
        r = Request(ranks, cores, gpus, mem, lfs, fixed, pools, max(-1, partition), exclusive, numa)
        if r not in self.shapes:
            self.shapes.append(r)
        return self.shapes.index(r)

    def _possible(self, shape: int) -> bool:
        r = self.shapes[shape]
        return r.enough([x.holds_empty(r) for x in self.nodes_list if x.state == "up"])

    def capacity(self, shape: int) -> int:
        r = self.shapes[shape]
        return r.count([x.holds_empty(r) for x in self.nodes_list if x.state == "up"])

    def fits_now(self, shape: int) -> int:
        r = self.shapes[shape]
        return r.count([x.holds_now(r) for x in self.nodes_list if x.held is None])

    # -- the queue --------------------------------------------------------------------------------------------------

    def _class(self, shape: int, prio: int, tag: int, excl: bool) -> Waiting:
        if self.shapes[shape].exclusive:
            excl = False
        return self.classes.setdefault((shape, prio, tag, excl), Waiting(shape, prio, tag, excl))

    def add(
        self, shape: int, tokens: Iterable[int], priority: int = 0, tag: int = 0, exclusive_tag: bool = False
    ) -> None:
        if exclusive_tag and not tag:
            raise ValueError("exclusive_tag needs a tag")
        run = [int(t) for t in tokens]
        if run:
            self._class(shape, priority, tag, exclusive_tag).runs.append((self._seq, run))
            self._seq += 1

    def put_back(self, shape: int, tokens: Iterable[int], priority: int = 0) -> None:
        run = [int(t) for t in tokens]
        if run:
            self._front -= 1
            self._class(shape, priority, 0, False).runs.insert(0, (self._front, run))

    def remove(self, tokens: Iterable[int]) -> NDArray[np.uint64]:
        asked = dict.fromkeys(int(t) for t in tokens)
        gone = set()
        for c in self.classes.values():
            for at, (seq, run) in enumerate(c.runs):
                left = [token for token in run if token not in asked]
                if len(left) < len(run):
                    gone |= asked.keys() & set(run)
                    c.runs[at] = (seq, left)
            c.tidy()
            self._if_empty(c)
        return np.array([token for token in asked if token in gone], np.uint64)

    def take(self, shape: int, n: int) -> NDArray[np.uint64]:
        out: list[int] = []
        mine = [c for c in self.classes.values() if c.shape == shape and not c.tag and c.live]
        for c in sorted(mine, key=lambda c: -c.prio):
            if any(o.prio > c.prio and o.live and self._possible(o.shape) for o in self.classes.values()):
                break
            if any(o is not c and o.prio >= c.prio for o, _ in self.reserved.values()):
                break
            while c.live and len(out) < n:
                out.append(c.pop())
                self.placed[c.prio] = self.placed.get(c.prio, 0) + 1
            self._if_empty(c)
        return np.array(out, np.uint64)

    def _if_empty(self, c: Waiting) -> None:
        if not c.live:
            c.since = None
            self._dissolve(c)

    @property
    def waiting(self) -> int:
        return sum(c.live for c in self.classes.values())

    def waiting_shape(self, shape: int) -> int:
        return sum(c.live for c in self.classes.values() if c.shape == shape)

    # -- the pass ---------------------------------------------------------------------------------------------------

    def schedule(self, limit: int, now: float) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint32]]:
        tokens: list[int] = []
        allocs: list[int] = []
        where: list[int] = []
        stepped_over: list[Waiting] = []
        while len(tokens) < limit and len(stepped_over) < self.lookahead:
            able = [
                c
                for c in self.classes.values()
                if c.live and not any(c is o for o in stepped_over) and self._possible(c.shape)
            ]
            if not able:
                break
            c = min(able, key=lambda c: (-c.prio, c.runs[0][0]))
            picks = self._search(c)
            if not picks:
                self._blocked(c, now)
                stepped_over.append(c)
                continue
            held = self._commit(c, picks)
            tokens.append(c.pop())
            allocs.append(held.id)
            where.append(held.ranks[0].node)
            self.placed[c.prio] = self.placed.get(c.prio, 0) + 1
            c.since = None
            self._dissolve(c)
            self._if_empty(c)
        return np.array(tokens, np.uint64), np.array(allocs, np.uint64), np.array(where, np.uint32)

    def _may_use(self, c: Waiting, x: Node) -> bool:
        return x.held is None or c.holds == x.held or c.prio > self.reserved[x.held][0].prio

    def _bound(self, c: Waiting) -> list[Node] | None:
        r = self.shapes[c.shape]
        home = [self.nodes_list[i] for i in self.tags.get(c.tag, [])] if c.tag else []
        return home if home and r.enough([x.holds_empty(r) for x in home]) else None

    def _search(self, c: Waiting) -> Picks:
        r = self.shapes[c.shape]
        home = self._bound(c)
        tag = c.tag if home else 0
        nodes = [x for x in (home or self.nodes_list) if self._may_use(c, x)]
        now = {x.index: x.holds_now(r, tag, c.excl) for x in nodes}
        order: Callable[[Node], Any]
        if home:
            order = lambda x: home.index(x)  # noqa: E731
        elif r.plain and not c.excl:
            order = self._best_fit
        else:
            order = lambda x: x.thrift  # noqa: E731
        nodes = sorted((x for x in nodes if now[x.index]), key=order)
        if not r.enough([now[x.index] for x in nodes]):
            return []
        full = [x for x in nodes if now[x.index] >= r.per][: r.full]
        if r.fixed:
            rest = [x for x in nodes if now[x.index] >= r.rem and x not in full][:1] if r.rem else []
            return [(x, r.per) for x in full] + [(x, r.rem) for x in rest]
        if full:
            return [(full[0], r.ranks)]
        if not home and not (r.plain and not c.excl):
            enough = next(i for i in range(1, len(nodes) + 1) if sum(now[x.index] for x in nodes[:i]) >= r.ranks)
            nodes = nodes[: max(enough, 16)]
        picks: Picks = []
        left = r.ranks
        for x in sorted(nodes, key=lambda x: -now[x.index]):
            k = min(left, now[x.index])
            if k:
                picks.append((x, k))
            left -= k
        return picks

    def _best_fit(self, x: Node) -> tuple[int, ...]:
        kind = 0 if x.held is None else 1 if x.held == 0 else 2
        return (x.free_gpus, len(x.free_cores), kind, self._partitions.index(x.partition), -x.stamp)

    def _fresh_id(self) -> int:
        if not self._free_ids:
            self._gens.append(0)
            self._free_ids.append(len(self._gens) - 1)
        at = self._free_ids.pop()
        self._gens[at] += 1
        return self._gens[at] << 32 | at

    def _commit(self, c: Waiting, picks: Picks) -> Held:
        r = self.shapes[c.shape]
        if c.tag and self._bound(c) is None:
            self.tags[c.tag] = [x.index for x, _ in picks]
        held = Held(self._fresh_id(), c.shape, [], [x.index for x, _ in picks], c.tag if c.excl else 0)
        for x, k in picks:
            before = self._counts(x)
            held.ranks += [x.take(r) for _ in range(k)]
            x.allocs.append(held.id)
            if r.exclusive:
                x.wipe()
            if held.owner:
                x.owner = held.owner
                x.owners += 1
            self._stamp(x, before)
        self.held[held.id] = held
        return held

    def _counts(self, x: Node) -> tuple[Any, ...]:
        return (x.free_gpus, len(x.free_cores), x.held, x.owner, x.state == "up")

    def _stamp(self, x: Node, before: tuple[Any, ...]) -> None:
        if self._counts(x) != before:
            self._clock += 1
            x.stamp = self._clock

    # -- reservations -----------------------------------------------------------------------------------------------

    def _placed_below(self, prio: int) -> int:
        return sum(n for p, n in self.placed.items() if p <= prio)

    def _blocked(self, c: Waiting, now: float) -> None:
        if c.since is None:
            c.since, c.bypass = now, self._placed_below(c.prio)
        if c.holds is not None or now - c.since < self.patience or self._placed_below(c.prio) == c.bypass:
            return
        want = self.shapes[c.shape].partition
        key = 0 if want < 0 else self._partitions.index(want) + 1
        other = self.reserved.get(key)
        if other:
            if other[0].prio >= c.prio:
                return
            self._dissolve(other[0])
        nodes = self._nearest(c)
        if nodes:
            self.reserved[key] = (c, [x.index for x in nodes])
            c.holds = key
            for x in nodes:
                before = self._counts(x)
                x.held = key
                self._stamp(x, before)

    def _dissolve(self, c: Waiting) -> None:
        if c.holds is None:
            return
        _, nodes = self.reserved.pop(c.holds)
        c.holds = None
        for x in (self.nodes_list[i] for i in nodes):
            before = self._counts(x)
            x.held = None
            self._stamp(x, before)

    def _nearest(self, c: Waiting) -> list[Node]:
        r = self.shapes[c.shape]
        home = self._bound(c)
        able = [
            x
            for x in (home or sorted(self.nodes_list, key=lambda x: x.thrift))
            if x.state == "up" and x.held is None and x.owner in (0, c.tag)
        ]

        def missing(x: Node, t: int) -> tuple[int, int]:
            if r.exclusive or c.excl:
                short = x.cores - len(x.free_cores) + len(x.allocs)
            else:
                short = max(0, t * r.cores - len(x.free_cores)) + max(0, t * r.whole - x.free_gpus)
                short += max(0, t - x.holds_now(r, c.tag, c.excl)) if r.share else 0
            return short, max(0, t * r.mem - x.free_mem) + max(0, t * r.lfs - x.free_lfs)

        def near(t: int, but: list[Node]) -> list[Node]:
            fit = [x for x in able if x.holds_empty(r) >= t and x not in but]
            return sorted(fit, key=lambda x: missing(x, t))

        nodes = near(r.per, [])[: r.full]
        if r.fixed:
            rest = near(r.rem, nodes)[:1] if r.rem else []
            return nodes + rest if len(nodes) == r.full and len(rest) == (1 if r.rem else 0) else []
        if nodes or not r.packs:
            return nodes
        total = 0
        for x in sorted(near(1, []), key=lambda x: -x.holds_now(r, c.tag, c.excl)):
            nodes.append(x)
            total += x.holds_empty(r)
            if total >= r.ranks:
                return nodes
        return []

    def reservations(self) -> list[tuple[int, int, list[int]]]:
        return [(c.shape, c.prio, nodes) for _, (c, nodes) in sorted(self.reserved.items(), key=lambda kv: kv[0])]

    # -- what runs --------------------------------------------------------------------------------------------------

    def release(self, allocs: Iterable[int]) -> None:
        ids = [int(a) for a in allocs]
        if len(set(ids)) != len(ids) or any(a not in self.held for a in ids):
            raise ValueError("unknown or already released")
        for a in ids:
            held = self.held.pop(a)
            r = self.shapes[held.shape]
            befores = {i: self._counts(self.nodes_list[i]) for i in held.nodes}
            if not r.exclusive:
                for rank in held.ranks:
                    self.nodes_list[rank.node].give(r, rank)
            for i in held.nodes:
                x = self.nodes_list[i]
                x.allocs.remove(a)
                if held.owner:
                    x.owners -= 1
                    x.owner = x.owner if x.owners else 0
                if r.exclusive:
                    x.restore()
                self._stamp(x, befores[i])
            at = a & 0xFFFFFFFF
            self._gens[at] += 1
            self._free_ids.append(at)

    @property
    def nodes(self) -> int:
        return len(self.nodes_list)

    @property
    def running(self) -> int:
        return len(self.held)

    def slots(self, alloc: int) -> list[tuple[int, int, list[int], list[tuple[int, int]]]]:
        if alloc not in self.held:
            raise ValueError("unknown or already released")
        return [(i, rank.node, rank.cores, rank.gpus) for i, rank in enumerate(self.held[alloc].ranks)]

    def node_state(self, node: int, state: str) -> NDArray[np.uint64]:
        x = self.nodes_list[node]
        if (x.state == "up") != (state == "up"):
            before = self._counts(x)
            x.state = state
            if x.held is not None:
                self._dissolve(self.reserved[x.held][0])
            if state != "up":
                self.tags = {tag: home for tag, home in self.tags.items() if node not in home}
            self._stamp(x, before)
            for c in self.classes.values():
                if c.live and not self._possible(c.shape):
                    c.since = None
            for _, (c, _nodes) in sorted(self.reserved.items(), key=lambda kv: kv[0]):
                if not self._possible(c.shape):
                    self._dissolve(c)
        x.state = state
        touched = sorted(x.allocs, key=lambda a: a & 0xFFFFFFFF) if state == "down" else []
        return np.array(touched, np.uint64)

    def free(self) -> dict[str, Any]:
        up = [x for x in self.nodes_list if x.state == "up"]
        return {
            "nodes": sum(not x.allocs for x in up),
            "cores": sum(len(x.free_cores) for x in up),
            "gpus": sum(sum(x.room) for x in up),
            "mem": sum(x.free_mem for x in up),
            "lfs": sum(x.free_lfs for x in up),
            "named": {name: sum(x.free_named[name] for x in up) for name in self.nodes_list[0].named},
        }

    @property
    def node_busy_cores(self) -> NDArray[np.uint16]:
        return np.array([x.cores - len(x.free_cores) for x in self.nodes_list], np.uint16)

    @property
    def node_busy_gpus(self) -> NDArray[np.uint32]:
        return np.array([x.gpus * WHOLE - sum(x.room) for x in self.nodes_list], np.uint32)

    def explain(self, shape: int) -> dict[str, Any]:
        return explain(self.nodes_list, self.shapes[shape])
