"""Why a request waits, or can never run: the resource that binds and its numbers, in one plain sentence.

The twin of ``placer_explain.hpp``, word for word. Knows nodes and one request; knows no queue and no time. Read next:
``placer_portable.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from jupyter_rm.native.placer_portable_node import WHOLE, Node, Request


@dataclass(frozen=True)
class _Dimension:
    """One resource: what ranks that share a node need of it, and the most that one node has and has free."""

    name: str
    unit: str
    need: int
    total: int
    free: int


def explain(nodes: Iterable[Node], r: Request) -> dict[str, Any]:
    """Return ``ever``, ``now``, ``reason``, ``limit``, ``free`` and ``largest``, see ``_placer.pyi``."""
    every = list(nodes)
    said: dict[str, Any] = {"ever": False, "now": False}

    def answer(limit: str, free: int, largest: int, reason: str) -> dict[str, Any]:
        return {**said, "reason": reason, "limit": limit, "free": free, "largest": largest}

    if r.partition >= 0 and all(x.partition != r.partition for x in every):
        return answer("partition", 0, 0, f"there is no partition {r.partition}")
    place = [x for x in every if r.partition < 0 or x.partition == r.partition]
    here = [x for x in place if x.state == "up"]
    which = f" in partition {r.partition}" if r.partition >= 0 else ""
    out = len(place) - len(here)
    aside = f" ({_many(out, 'node')} drained or down)" if out else ""
    if not here:
        return answer("nodes", 0, 0, "no node is up" + which + aside)
    unknown = next((name for name, _ in r.named if name not in every[0].named), "")
    if unknown:
        return answer(unknown, 0, 0, f"needs {unknown}; no node offers it")

    together_on_one = 1 if r.packs else r.per
    dims = list(_dimensions(here, r, together_on_one))
    empty = [x.holds_empty(r) for x in here]
    now_all = [x.holds_now(r) for x in here]
    now = [k for x, k in zip(here, now_all, strict=True) if x.held is None]
    most, most_now = max(empty), max(now, default=0)
    said["ever"] = r.enough(empty)
    said["now"] = said["ever"] and r.enough(now)
    together = ", ".join([f"{d.need} {d.unit}" for d in dims] + (["a whole node"] if r.exclusive else []))
    need = r.full + bool(r.rem)
    with_per, with_per_now = sum(k >= r.per for k in empty), sum(k >= r.per for k in now)
    each = f"{_many(need, 'node')} with room for {_many(r.per, 'rank')} each"
    ranks = f"room for {_many(r.ranks, 'rank')}"
    if not said["ever"]:
        for d in dims:
            if d.need > d.total:
                largest = f"the largest node{which} has {d.total}{aside}"
                return answer(d.name, d.free, d.total, f"needs {d.need} {d.unit} on one node; {largest}")
        if most < together_on_one:
            return answer("combination", most_now, most, f"no single node{which} has {together}{aside}")
        if r.packs:
            hold = f"all nodes{which} together hold {sum(empty)}{aside}"
            return answer("ranks", sum(now), sum(empty), f"needs {ranks}; {hold}")
        return answer("nodes", with_per_now, with_per, f"needs {each}; there are {with_per}{which}{aside}")
    if said["now"]:
        return answer("", r.count(now), r.count(empty), "fits now")
    if r.enough(now_all):
        free = sum(x.held is None for x in here)
        return answer("reserved", free, len(here), "free nodes are reserved for a task that has waited longer")
    idle = sum(not x.allocs for x in here)
    if r.exclusive and idle < (need if r.fixed else 1):
        are = f"{_many(idle, 'node')} of {len(here)} {'is' if idle == 1 else 'are'} idle{which}"
        return answer("nodes", idle, len(here), f"waits for whole nodes; {are}")
    for d in dims:
        if d.need > d.free:
            free_there = f"at most {d.free} {'is' if d.free == 1 else 'are'} free on one{which}"
            return answer(d.name, d.free, d.total, f"waits for {d.need} {d.unit} on one node; {free_there}")
    if not (r.packs or r.fixed) or most_now < together_on_one:
        return answer("combination", most_now, most, f"waits for one node{which} with {together} free together")
    if r.packs:
        fit = f"{sum(now)} {'fits' if sum(now) == 1 else 'fit'} now{which}"
        return answer("ranks", sum(now), sum(empty), f"waits for {ranks}; {fit}")
    have = f"{with_per_now} {'has' if with_per_now == 1 else 'have'} it now{which}"
    return answer("nodes", with_per_now, with_per, f"waits for {each}; {have}")


def _many(count: int, one: str) -> str:
    return f"{count} {one}{'' if count == 1 else 's'}"


def _dimensions(here: list[Node], r: Request, t: int) -> Iterable[_Dimension]:
    def one(
        name: str, units: tuple[str, str], need: int, total: Callable[[Node], int], free: Callable[[Node], int]
    ) -> Iterable[_Dimension]:
        if need:
            yield _Dimension(name, units[need != 1], need, max(map(total, here)), max(map(free, here)))

    yield from one("cores", ("core", "cores"), t * r.cores, lambda x: x.cores, lambda x: len(x.free_cores))
    yield from one("gpus", ("GPU", "GPUs"), t * r.whole, lambda x: x.gpus, lambda x: x.free_gpus)
    if r.share:
        share = f"{r.share // 100} % of a GPU"
        units = (f"share of {share}", f"shares of {share}")
        total: Callable[[Node], int] = lambda x: x.gpus * (WHOLE // r.share)  # noqa: E731
        yield from one("gpus", units, t, total, lambda x: sum(room // r.share for room in x.room))
    memory, disk = "MiB of memory", "MiB of local disk"
    yield from one("mem", (memory, memory), t * r.mem, lambda x: x.mem, lambda x: x.free_mem)
    yield from one("lfs", (disk, disk), t * r.lfs, lambda x: x.lfs, lambda x: x.free_lfs)
    for name, amount in r.named:

        def has(x: Node, name: str = name) -> int:
            return x.named[name]

        def free(x: Node, name: str = name) -> int:
            return x.free_named[name]

        yield from one(name, (name, name), t * amount, has, free)
