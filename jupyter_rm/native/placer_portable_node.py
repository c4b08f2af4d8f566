"""One node and one request of the portable placer, as slowly and plainly as possible.

Knows which cores and GPUs a rank gets on a node (NUMA domains, GPU shares) and how many ranks fit; knows nothing of
other nodes, queues or time. ``placer_portable.py`` is the rest: read that next.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WHOLE = 10_000
UNBOUNDED = 1 << 30


@dataclass(frozen=True)
class Request:
    """What one task asks for; all amounts per rank, GPUs in 1/10000, memory and disk in MiB."""

    ranks: int
    cores: int
    gpus: int
    mem: int
    lfs: int
    ranks_per_node: int
    named: tuple[tuple[str, int], ...]
    partition: int
    exclusive: bool
    numa: str

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise ValueError("ranks")
        if self.gpus > WHOLE and self.gpus % WHOLE:
            raise ValueError("more than one GPU must be whole GPUs")
        if self.numa not in ("compact", "spread", "any"):
            raise ValueError("numa")
        if not (self.cores or self.gpus or self.mem or self.lfs or self.named or self.exclusive):
            raise ValueError("a task must ask for something")

    @property
    def whole(self) -> int:
        return self.gpus // WHOLE

    @property
    def share(self) -> int:
        return self.gpus % WHOLE

    @property
    def fixed(self) -> bool:
        return 0 < self.ranks_per_node < self.ranks

    @property
    def packs(self) -> bool:
        return self.ranks_per_node == 0 and self.ranks > 1

    @property
    def per(self) -> int:
        """Ranks on one node: the fixed number, or all of them."""
        return self.ranks_per_node if self.fixed else self.ranks

    @property
    def full(self) -> int:
        return self.ranks // self.per

    @property
    def rem(self) -> int:
        return self.ranks % self.per

    @property
    def plain(self) -> bool:
        return not (self.share or self.mem or self.lfs or self.named or self.exclusive)

    def enough(self, ks: list[int]) -> bool:
        """Does one such task fit on nodes with room for these numbers of ranks?"""
        if self.packs:
            return sum(min(k, self.ranks) for k in ks) >= self.ranks
        full = sum(k >= self.per for k in ks)
        return full >= self.full and (not self.rem or sum(k >= self.rem for k in ks) > self.full)

    def count(self, ks: list[int]) -> int:
        """How many such tasks fit, one after the other, on nodes with room for these numbers of ranks?"""
        if not self.enough(ks):
            return 0
        if self.packs:
            if not self.exclusive:
                return sum(ks) // self.ranks
            tasks = have = 0
            for k in sorted(ks, reverse=True):
                have += k
                if have >= self.ranks:
                    tasks, have = tasks + 1, 0
            return max(1, tasks)
        units = [min(1, k // self.per) if self.exclusive else k // self.per for k in ks]
        if not self.fixed:
            return sum(units)
        need = self.full + (1 if self.rem else 0)
        tasks = 1
        while sum(min(u, tasks + 1) for u in units) >= (tasks + 1) * need:
            tasks += 1
        return tasks


@dataclass
class Rank:
    node: int
    cores: list[int]
    gpus: list[tuple[int, int]]


@dataclass(eq=False)
class Node:
    """One node: totals, what is free, and who has a say over it."""

    index: int
    cores: int
    gpus: int
    mem: int
    lfs: int
    domains: int
    partition: int
    named: dict[str, int]
    state: str = "up"
    held: int | None = None  # key of the reservation that holds the node
    owner: int = 0  # exclusive tag
    owners: int = 0
    allocs: list[int] = field(default_factory=list)
    stamp: int = 0  # when its free counts last changed
    free_cores: set[int] = field(default_factory=set)
    room: list[int] = field(default_factory=list)  # per GPU
    free_mem: int = 0
    free_lfs: int = 0
    free_named: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.domains = max(1, self.domains)
        self.restore()

    def restore(self) -> None:
        self.free_cores = set(range(self.cores))
        self.room = [WHOLE] * self.gpus
        self.free_mem, self.free_lfs, self.free_named = self.mem, self.lfs, dict(self.named)

    def wipe(self) -> None:
        self.free_cores = set()
        self.room = [0] * self.gpus
        self.free_mem = self.free_lfs = 0
        self.free_named = dict.fromkeys(self.named, 0)

    @property
    def thrift(self) -> tuple[int, ...]:
        return (self.gpus, self.mem, self.lfs, self.cores, self.index)

    @property
    def free_gpus(self) -> int:
        return self.room.count(WHOLE)

    def _hold(self, r: Request, cores: int, room: list[int], mem: int, lfs: int, named: dict[str, int]) -> int:
        if r.partition >= 0 and r.partition != self.partition:
            return 0
        k = [UNBOUNDED]
        if r.cores:
            k.append(cores // r.cores)
        if r.whole:
            k.append(room.count(WHOLE) // r.whole)
        if r.share:
            k.append(sum(x // r.share for x in room))
        if r.mem:
            k.append(mem // r.mem)
        if r.lfs:
            k.append(lfs // r.lfs)
        k += [named.get(name, 0) // amount for name, amount in r.named]
        return min(k)

    def holds_empty(self, r: Request) -> int:
        """Ranks that fit when nothing runs here."""
        return self._hold(r, self.cores, [WHOLE] * self.gpus, self.mem, self.lfs, self.named)

    def holds_now(self, r: Request, tag: int = 0, idle: bool = False) -> int:
        """Ranks that fit now, for a task of this tag; idle: an exclusive tag wants it idle or its own."""
        if self.state != "up" or (self.owner and self.owner != tag):
            return 0
        if self.allocs and (r.exclusive or (idle and not self.owner)):
            return 0
        return self._hold(r, len(self.free_cores), self.room, self.free_mem, self.free_lfs, self.free_named)

    def _cut(self, total: int) -> list[range]:
        size = total // self.domains
        return [range(d * size, total if d == self.domains - 1 else (d + 1) * size) for d in range(self.domains)]

    def take(self, r: Request) -> Rank:
        """Choose and take what one rank gets."""
        free = [[c for c in block if c in self.free_cores] for block in self._cut(self.cores)]
        blocks = [list(block) for block in self._cut(self.gpus)]
        near = list(range(self.gpus))
        if r.numa == "any":
            cores = sorted(self.free_cores)[: r.cores]
        elif r.numa == "spread":
            cores = _round_robin(free, r.cores)
            if r.whole:
                near = _round_robin([[g for g in b if self.room[g] == WHOLE] for b in blocks], r.whole)
        else:
            fitting = [d for d in range(self.domains) if len(free[d]) >= r.cores]
            if fitting:
                best = min(fitting, key=lambda d: (-self._gpus_near(r, blocks[d]), len(free[d]), d))
                cores, near = free[best][: r.cores], blocks[best]
            else:
                cores, near = [], []
                for d in sorted(range(self.domains), key=lambda d: (-len(free[d]), d)):
                    if len(cores) < r.cores:
                        cores = cores + free[d][: r.cores - len(cores)]
                        near = near + blocks[d]
        gpus = self._take_gpus(r, near)
        self.free_cores -= set(cores)
        self.free_mem -= r.mem
        self.free_lfs -= r.lfs
        for name, amount in r.named:
            self.free_named[name] -= amount
        return Rank(self.index, sorted(cores), gpus)

    def _gpus_near(self, r: Request, block: list[int]) -> int:
        if r.whole:
            return min(r.whole, sum(self.room[g] == WHOLE for g in block))
        if r.share:
            if any(r.share <= self.room[g] < WHOLE for g in block):
                return 2
            return int(any(self.room[g] == WHOLE for g in block))
        return 0

    def _take_gpus(self, r: Request, near: list[int]) -> list[tuple[int, int]]:
        if r.whole:
            free = [g for g in range(self.gpus) if self.room[g] == WHOLE]
            chosen = sorted(free, key=lambda g: (g not in near, g))[: r.whole]
            for g in chosen:
                self.room[g] = 0
            return [(g, WHOLE) for g in sorted(chosen)]
        if r.share:
            for where in (near, range(self.gpus)):
                shared = [g for g in where if r.share <= self.room[g] < WHOLE]
                fresh = [g for g in where if self.room[g] == WHOLE]
                if shared or fresh:
                    g = min(shared, key=lambda g: (self.room[g], g)) if shared else min(fresh)
                    self.room[g] -= r.share
                    return [(g, r.share)]
        return []

    def give(self, r: Request, rank: Rank) -> None:
        """Take back what one rank had."""
        self.free_cores |= set(rank.cores)
        for g, share in rank.gpus:
            self.room[g] += share
        self.free_mem += r.mem
        self.free_lfs += r.lfs
        for name, amount in r.named:
            self.free_named[name] += amount


def _round_robin(blocks: list[list[int]], want: int) -> list[int]:
    out: list[int] = []
    turn = 0
    while len(out) < want:
        rest = [x for x in blocks[turn % len(blocks)] if x not in out]
        out += rest[:1]
        turn += 1
    return out


@dataclass(eq=False)
class Waiting:
    """A class: tokens of equal priority, shape and tag, in runs of one add() each."""

    shape: int
    prio: int
    tag: int
    excl: bool
    runs: list[tuple[int, list[int]]] = field(default_factory=list)  # (sequence number, tokens)
    since: float | None = None
    bypass: int = 0
    holds: int | None = None

    @property
    def live(self) -> int:
        return sum(len(tokens) for _, tokens in self.runs)

    def pop(self) -> int:
        token = self.runs[0][1].pop(0)
        self.tidy()
        return token

    def tidy(self) -> None:
        self.runs = [run for run in self.runs if run[1]]


@dataclass
class Held:
    """An allocation: what it holds."""

    id: int
    shape: int
    ranks: list[Rank]
    nodes: list[int]
    owner: int
