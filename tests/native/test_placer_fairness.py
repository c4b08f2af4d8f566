"""A wide task starts although narrow ones keep coming, within the documented bound, and would not without the rule."""

from __future__ import annotations

import heapq
import random
from typing import Any

import pytest
from placer_kit import cluster, u64

from jupyter_rm.native._placer import Placer

LENGTH = 5.0  # the longest task, in seconds of simulated time
PATIENCE = 2.0


def time_to_start(
    p: Placer, wide: int, narrow: int, *, horizon: float, priority: int = 0, exclusive_tag: bool = False
) -> float | None:
    """Feed one narrow task whenever one ends, for ever; how long after its submission the wide task starts."""
    rng = random.Random(3)
    ends: list[tuple[float, int]] = []
    now, token, submitted = 0.0, 2, 10.0
    p.add(narrow, u64(range(token, token + 100)))
    token += 100
    asked = False
    while now < horizon:
        if not asked and now >= submitted:
            p.add(wide, u64([1]), priority=priority, tag=9 if exclusive_tag else 0, exclusive_tag=exclusive_tag)
            asked = True
        tokens, allocs, _ = p.schedule(1 << 20, now)
        for t, a in zip(tokens.tolist(), allocs.tolist(), strict=True):
            if t == 1:
                return now - submitted
            heapq.heappush(ends, (now + rng.uniform(1.0, LENGTH), a))
        now, alloc = heapq.heappop(ends)
        p.release(u64([alloc]))
        p.add(narrow, u64([token]))
        token += 1
    return None


WIDE: list[dict[str, Any]] = [
    {"cores": 8},
    {"ranks": 24},
    {"ranks": 12, "ranks_per_node": 4, "mem": 10},
    {"exclusive": True},
    {"ranks": 2, "cores": 8, "mem": 5},
    {"cores": 2, "gpus": 20_000},
    {"partition": 0, "cores": 7},
]


@pytest.mark.parametrize("request_", WIDE, ids=str)
def test_a_wide_task_starts_within_patience_and_the_longest_task(request_: dict[str, Any]) -> None:
    def world(patience: float) -> tuple[Placer, int, int]:
        p = cluster(3, cores=8, gpus=2, patience=patience)
        return p, p.shape(**request_), p.shape(gpus=2_500) if "gpus" in request_ else p.shape()

    waited = time_to_start(*world(PATIENCE), horizon=500.0)
    assert waited is not None, "the wide task starved"
    # passes happen when tasks end, so patience is noticed one end late
    assert waited <= PATIENCE + LENGTH + LENGTH / 8, f"started {waited:.1f} s after submission"
    assert time_to_start(*world(1e9), horizon=500.0) is None, (
        "it starts without a reservation too: the test shows nothing"
    )


def test_an_exclusive_tag_does_not_starve_either() -> None:
    p = cluster(2, cores=8, patience=PATIENCE)
    waited = time_to_start(p, p.shape(), p.shape(), horizon=500.0, exclusive_tag=True)
    assert waited is not None
    assert waited <= PATIENCE + LENGTH + LENGTH / 8


def test_lower_priority_holds_nothing_against_higher() -> None:
    p = cluster(1, cores=4, patience=0.0)
    narrow, wide = p.shape(), p.shape(cores=4)
    p.add(narrow, u64([1, 2]))
    first = p.schedule(9, 0.0)[1]
    p.add(wide, u64([10]))
    p.add(narrow, u64([3]))
    p.schedule(9, 1.0)  # 3 starts beside 1 and 2; the wide one was bypassed
    assert p.schedule(9, 2.0)[0].tolist() == []
    assert p.reservations() == [(wide, 0, [0])]
    p.add(narrow, u64([4]))
    p.add(narrow, u64([5]), priority=1)
    assert p.schedule(9, 3.0)[0].tolist() == [5], "4 must wait for the reservation, 5 need not"
    assert p.take(narrow, 1).tolist() == [], "run-ahead would keep the reserved node busy for ever"
    p.release(first)
    assert p.schedule(9, 4.0)[0].tolist() == []


def test_a_reservation_ends_with_its_reason() -> None:
    p = cluster(2, cores=4, patience=0.0)
    narrow, wide = p.shape(), p.shape(cores=4)
    p.add(narrow, u64(range(1, 7)))
    p.schedule(9, 0.0)
    p.add(wide, u64([10]))
    p.add(narrow, u64([20]))
    for now in (1.0, 2.0):
        p.schedule(9, now)
    ((_, _, nodes),) = p.reservations()
    p.remove(u64([10]))
    assert p.reservations() == []
    p.add(wide, u64([11]))
    p.add(narrow, u64([21]))
    for now in (3.0, 4.0):
        p.schedule(9, now)
    assert p.reservations()
    p.node_state(nodes[0], "drain")
    assert all(nodes[0] not in held for _, _, held in p.reservations())


def test_bounded_look_ahead_counts_classes_not_tasks() -> None:
    p = cluster(1, cores=4, lookahead=2)
    blocker = p.shape(cores=4)
    p.add(p.shape(cores=2), u64([1]))
    p.schedule(9, 0.0)
    p.add(blocker, u64(range(100, 200)), priority=9)
    p.add(p.shape(cores=1), u64([2]))
    assert p.schedule(9, 0.0)[0].tolist() == [2], "a hundred blocked tasks of one class are one step"
    p.add(p.shape(cores=3), u64([300]), priority=8)
    p.add(p.shape(cores=1), u64([3]))
    assert p.schedule(9, 0.0)[0].tolist() == [], "two blocked classes are all this placer steps over"


def test_each_reservation_is_held_against_its_own_priority() -> None:
    p = cluster(2, cores=4, partition=[0, 1], patience=0.0)
    for part, priority in ((0, 0), (1, 5)):
        first = 100 * (part + 1)
        p.add(p.shape(partition=part), u64([first]), priority=priority)
        p.schedule(9, 0.0)
        p.add(p.shape(cores=4, partition=part), u64([first + 1]), priority=priority)
        p.add(p.shape(partition=part), u64([first + 2]), priority=priority)
        p.schedule(9, 1.0)
    p.schedule(9, 2.0)
    assert [(prio, nodes) for _, prio, nodes in p.reservations()] == [(0, [0]), (5, [1])]
    p.add(p.shape(mem=1), u64(range(10, 20)), priority=3)
    assert p.schedule(99, 3.0)[2].tolist() == [0, 0], "priority 3 may pass the reservation of 0, not that of 5"
