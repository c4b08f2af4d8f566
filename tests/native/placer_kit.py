"""Random machines, requests and histories for the placement tests: one seed, one story, told to both placers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from jupyter_rm.native._placer import Placer
from jupyter_rm.testing.placer_reference import ReferencePlacer

NAMES = ("fpga", "licence")


def u64(values: Any) -> Any:
    return np.array(list(values), np.uint64)


def cluster(
    n: int,
    cores: int = 8,
    gpus: int = 0,
    mem: int = 1024,
    lfs: int = 0,
    numa: int = 1,
    partition: list[int] | None = None,
    named: dict[str, Any] | None = None,
    **keywords: Any,
) -> Placer:
    """A placer of n equal nodes."""
    parts = np.array(partition or [0] * n, np.uint16)
    pools = {name: np.array(values, np.uint32) for name, values in (named or {}).items()}
    short, long = (lambda v: np.full(n, v, np.uint16)), (lambda v: np.full(n, v, np.uint32))
    domains = np.full(n, numa, np.uint8)
    return Placer(short(cores), short(gpus), long(mem), long(lfs), domains, parts, pools, **keywords)


def machine(rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    """Arguments for both placers: 1 to 8 nodes, sometimes all alike, sometimes all different."""
    n = rng.choice((1, 2, 3, 4, 6, 8))
    kinds = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        kinds.append(
            (
                rng.choice((1, 2, 4, 7, 8, 16, 70, 130)),
                rng.choice((0, 0, 1, 2, 4, 5)),
                rng.choice((0, 64, 100)),
                rng.choice((0, 50)),
                rng.choice((0, 1, 1, 2, 3, 4)),
            )
        )
    rows = [rng.choice(kinds) for _ in range(n)]
    parts = [rng.choice((0, 0, 3)) for _ in rows] if rng.random() < 0.4 else [0] * n
    types = (np.uint16, np.uint16, np.uint32, np.uint32, np.uint8)
    columns: list[Any] = [np.array([row[i] for row in rows], types[i]) for i in range(5)]
    columns.append(np.array(parts, np.uint16))
    pools = NAMES[: rng.choice((0, 1, 2))]
    named = {name: np.array([rng.choice((0, 2, 3)) for _ in rows], np.uint32) for name in pools}
    return [*columns, named], {"patience": rng.choice((0.0, 1.5, 3.0)), "lookahead": rng.choice((1, 3, 1024, 1024))}


def request(rng: random.Random) -> dict[str, Any]:
    r: dict[str, Any] = {"cores": rng.choice((0, 1, 1, 2, 3, 4, 8, 40, 66))}
    r["gpus"] = rng.choice((0, 0, 0, 10_000, 20_000, 40_000, 5_000, 2_500, 3_333))
    r["ranks"] = rng.choice((1, 1, 1, 1, 2, 3, 5, 12))
    r["ranks_per_node"] = rng.choice((0, 0, 0, 1, 2, 3))
    r["numa"] = rng.choice(("compact", "compact", "spread", "any"))
    if rng.random() < 0.3:
        r["mem"] = rng.choice((1, 10, 33, 64))
    if rng.random() < 0.1:
        r["lfs"] = rng.choice((5, 25))
    if rng.random() < 0.1:
        r["named"] = {rng.choice(NAMES): rng.choice((1, 2))}
    if rng.random() < 0.2:
        r["partition"] = rng.choice((-1, 0, 3, 4))
    r["exclusive"] = rng.random() < 0.08
    if not any(r.get(k) for k in ("cores", "gpus", "mem", "lfs", "named", "exclusive")):
        r["cores"] = 1
    return r


class Story:
    """Tell the same random history to the core and to the oracle, and compare every answer."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        args, keywords = machine(self.rng)
        self.core, self.oracle = Placer(*args, **keywords), ReferencePlacer(*args, **keywords)
        self.n = len(args[0])
        self.requests = [request(self.rng) for _ in range(self.rng.choice((1, 2, 3, 6)))]
        self.next_token, self.now = 1, 0.0
        self.alive: list[int] = []
        self.started: dict[int, int] = {}  # token -> alloc
        self.taken: list[tuple[int, list[int]]] = []
        self.told: list[str] = []
        self.tags = self.rng.random() < 0.4
        self.shapes = [self.both("shape", **r) for r in self.requests]

    def both(self, name: str, *args: Any, **keywords: Any) -> Any:
        self.told.append(f"{name}{args}{keywords}")
        mine, theirs = (getattr(p, name)(*args, **keywords) for p in (self.core, self.oracle))
        same = str(mine) == str(theirs)
        assert same, "\n".join([*self.told[-40:], f"core:   {mine}", f"oracle: {theirs}"])
        return mine

    def step(self) -> None:
        rng = self.rng
        what = rng.random()
        if what < 0.30:
            tag = rng.choice((0, 0, 7, 8, 9)) if self.tags else 0
            k = rng.choice((1, 1, 2, 5, 20))
            tokens = u64(range(self.next_token, self.next_token + k))
            self.next_token += k
            exclusive = bool(tag) and rng.random() < 0.4
            self.both("add", rng.choice(self.shapes), tokens, rng.choice((0, 0, 0, 1, -5)), tag, exclusive)
        elif what < 0.60:
            self.schedule()
        elif what < 0.82:
            gone = rng.sample(self.alive, min(len(self.alive), rng.choice((1, 2, 4, 30))))
            self.alive = [a for a in self.alive if a not in gone]
            self.both("release", u64(gone))
        elif what < 0.87:
            known = range(1, self.next_token + 3)
            self.both("remove", u64(rng.sample(known, min(len(known), rng.choice((1, 6))))))
        elif what < 0.91:
            shape = rng.choice(self.shapes)
            tokens = [int(t) for t in self.both("take", shape, rng.choice((1, 3, 10)))]
            if tokens:
                self.taken.append((shape, tokens))
        elif what < 0.94:
            if self.taken:
                shape, tokens = self.taken.pop()
                self.both("put_back", shape, u64(tokens), rng.choice((0, 1)))
        else:
            self.both("node_state", rng.randrange(self.n), rng.choice(("up", "up", "drain", "down")))

    def schedule(self) -> None:
        self.now += self.rng.choice((0.0, 0.5, 1.0, 4.0))
        _, allocs, _ = self.both("schedule", self.rng.choice((1, 3, 10_000, 10_000)), self.now)
        for alloc in (int(a) for a in allocs):
            self.alive.append(alloc)
            self.both("slots", alloc)

    def compare_views(self) -> None:
        for name in ("waiting", "running", "node_busy_cores", "node_busy_gpus"):
            mine, theirs = getattr(self.core, name), getattr(self.oracle, name)
            assert str(mine) == str(theirs), "\n".join([*self.told[-40:], f"{name}: core {mine}, oracle {theirs}"])
        self.both("free")
        self.both("reservations")
        for shape in self.shapes:
            for name in ("waiting_shape", "capacity", "fits_now"):
                self.both(name, shape)
            mine, theirs = self.core.explain(shape), self.oracle.explain(shape)
            assert mine == theirs, "\n".join([*self.told[-40:], f"explain: core {mine}, oracle {theirs}"])
            assert mine["ever"] == (self.core.capacity(shape) > 0)
