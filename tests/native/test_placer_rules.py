"""What users may rely on: GPU shares, NUMA, tags, whole nodes, partitions, node states, cancel, run-ahead, reasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from placer_kit import cluster, u64

from jupyter_rm.native._placer import Placer


def start(p: Placer, shape: int, count: int = 1, first: int = 1, now: float = 0.0, **keywords: Any) -> list[int]:
    """Queue tokens first.. and run one pass; the allocations that started."""
    p.add(shape, u64(range(first, first + count)), **keywords)
    return [int(a) for a in p.schedule(1 << 20, now)[1]]


def nodes_of(p: Placer, alloc: int) -> list[int]:
    return sorted({node for _, node, _, _ in p.slots(alloc)})


def test_halves_share_gpus_eight_wide_on_four() -> None:
    p = cluster(1, cores=16, gpus=4)
    allocs = start(p, p.shape(gpus=5_000), 10)
    assert [p.slots(a)[0][3] for a in allocs] == [[(g, 5_000)] for g in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert p.node_busy_gpus.tolist() == [40_000]
    p.release(u64(allocs))
    assert p.node_busy_gpus.tolist() == [0]
    assert p.free()["gpus"] == 40_000


def test_a_share_never_spans_two_gpus_and_fills_the_fullest() -> None:
    p = cluster(1, cores=16, gpus=2)
    first = start(p, p.shape(gpus=7_000), 2)
    assert [p.slots(a)[0][3][0][0] for a in first] == [0, 1]
    assert start(p, p.shape(gpus=4_000), first=10) == []  # 3000 + 3000 are free, on two GPUs
    p.remove(u64([10]))
    start(p, p.shape(gpus=1_000), first=20)  # GPU 0 now has 2000 left, GPU 1 3000
    assert p.slots(start(p, p.shape(gpus=2_000), first=30)[0])[0][3] == [(0, 2_000)]


def test_fractions_above_one_gpu_must_be_whole() -> None:
    with pytest.raises(ValueError, match="whole GPUs"):
        cluster(1).shape(gpus=15_000)


def test_compact_keeps_a_rank_and_its_gpu_in_one_domain() -> None:
    p = cluster(1, cores=16, gpus=4, numa=2)
    a, b, c = start(p, p.shape(cores=5, gpus=10_000), 3)
    assert p.slots(a) == [(0, 0, [0, 1, 2, 3, 4], [(0, 10_000)])]
    assert p.slots(b) == [(0, 0, [8, 9, 10, 11, 12], [(2, 10_000)])]
    assert p.slots(c) == [(0, 0, [5, 6, 7, 13, 14], [(1, 10_000)])], "3 + 3 cores are left: it has to span both"
    p = cluster(1, cores=16, gpus=4, numa=2)
    start(p, p.shape(cores=1, gpus=20_000))  # both GPUs of domain 0
    near = start(p, p.shape(cores=2, gpus=10_000), first=2)[0]
    assert p.slots(near) == [(0, 0, [8, 9], [(2, 10_000)])]


def test_compact_prefers_the_fullest_domain_that_fits_and_spread_uses_all() -> None:
    p = cluster(1, cores=12, numa=3)
    start(p, p.shape(cores=2))  # domain 0 has 2 left
    assert p.slots(start(p, p.shape(cores=2), first=2)[0])[0][2] == [2, 3]
    assert p.slots(start(p, p.shape(cores=4, numa="spread"), first=3)[0])[0][2] == [4, 5, 8, 9]
    assert p.slots(start(p, p.shape(cores=3, numa="any"), first=4)[0])[0][2] == [6, 7, 10]


def test_cpu_tasks_leave_gpu_nodes_alone_while_others_have_room() -> None:
    two = np.array([8, 8], np.uint16)
    none = np.zeros(2, np.uint32)
    p = Placer(two, np.array([4, 0], np.uint16), none, none, np.ones(2, np.uint8), np.zeros(2, np.uint16))
    assert [nodes_of(p, a) for a in start(p, p.shape(cores=4), 3)] == [[1], [1], [0]]


def test_ranks_share_a_node_if_they_can_and_spread_if_they_must() -> None:
    p = cluster(3, cores=8)
    (one,) = start(p, p.shape(ranks=4, cores=2))
    assert nodes_of(p, one) == [0]
    (wide,) = start(p, p.shape(ranks=7, cores=2), first=2)
    assert [len([r for r in p.slots(wide) if r[1] == n]) for n in (1, 2)] == [4, 3]
    assert [r[0] for r in p.slots(wide)] == list(range(7))


def test_ranks_per_node_is_exact_and_the_last_node_takes_the_rest() -> None:
    p = cluster(4, cores=8)
    (a,) = start(p, p.shape(ranks=5, ranks_per_node=2))
    per_node = [sum(r[1] == n for r in p.slots(a)) for n in range(4)]
    assert sorted(per_node, reverse=True) == [2, 2, 1, 0]


def test_all_or_nothing() -> None:
    p = cluster(2, cores=4)
    start(p, p.shape(cores=1))
    assert start(p, p.shape(ranks=8, cores=1), first=2) == []
    assert p.node_busy_cores.sum() == 1


def test_whole_nodes_admit_nobody_else() -> None:
    p = cluster(2, cores=8)
    (whole,) = start(p, p.shape(cores=1, exclusive=True))
    others = start(p, p.shape(cores=1), 20, first=2)
    assert len(others) == 8
    assert set(map(tuple, (nodes_of(p, a) for a in others))).isdisjoint({tuple(nodes_of(p, whole))})
    assert start(p, p.shape(cores=2, exclusive=True), first=90) == []
    p.release(u64([whole]))
    assert len(p.schedule(100, 0.0)[0]) > 0


def test_one_tag_one_home_even_after_its_first_task_ended() -> None:
    p = cluster(4, cores=8)
    shape = p.shape(cores=8)
    (first,) = start(p, shape, tag=5)
    home = nodes_of(p, first)
    assert start(p, shape, first=2, tag=5) == []  # other nodes are free, its home is not
    assert len(start(p, shape, 2, first=10)) == 2
    p.release(u64([first]))
    _, allocs, where = p.schedule(10, 0.0)
    assert where.tolist() == home, "the second task of the tag must go where the first was"
    assert len(allocs) == 1


def test_exclusive_tag_keeps_others_away_until_it_ends() -> None:
    p = cluster(2, cores=8)
    mine = start(p, p.shape(), 3, tag=5, exclusive_tag=True)
    home = nodes_of(p, mine[0])
    assert {tuple(nodes_of(p, a)) for a in mine} == {tuple(home)}
    others = start(p, p.shape(), 30, first=10)
    assert len(others) == 8
    assert all(nodes_of(p, a) != home for a in others)
    p.release(u64(mine))
    assert len(p.schedule(100, 0.0)[0]) == 8
    with pytest.raises(ValueError, match="tag"):
        p.add(p.shape(), u64([99]), exclusive_tag=True)


def test_a_tag_finds_a_new_home_when_its_node_is_gone() -> None:
    p = cluster(2, cores=8)
    (first,) = start(p, p.shape(), tag=5)
    assert p.node_state(0, "down").tolist() == [first]
    (second,) = start(p, p.shape(), first=2, tag=5)
    assert nodes_of(p, second) == [1]


def test_partitions_do_not_mix() -> None:
    p = cluster(4, cores=2, partition=[0, 7, 7, 0])
    seven = start(p, p.shape(partition=7), 9)
    assert sorted(nodes_of(p, a)[0] for a in seven) == [1, 1, 2, 2]
    assert len(start(p, p.shape(), 9, first=20)) == 4


def test_drain_admits_nothing_and_down_names_what_runs_there() -> None:
    p = cluster(2, cores=2)
    (a,) = start(p, p.shape(ranks=2, ranks_per_node=1))
    assert p.node_state(0, "drain").tolist() == []
    assert [nodes_of(p, x) for x in start(p, p.shape(), 5, first=2)] == [[1]]
    assert p.node_state(0, "down").tolist() == [a]
    p.release(u64([a]))
    assert p.node_state(0, "down").tolist() == []
    assert p.running == 1
    assert len(p.schedule(9, 0.0)[0]) == 1  # on node 1 only
    p.node_state(0, "up")
    assert len(p.schedule(9, 0.0)[0]) == 2


def test_priority_first_then_the_order_of_arrival() -> None:
    p = cluster(1, cores=2)
    one, two = p.shape(cores=1), p.shape(cores=1, mem=1)
    p.add(one, u64([1, 2]))
    p.add(two, u64([3]))
    p.add(one, u64([4]))
    p.add(two, u64([5]), priority=2)
    order: list[int] = []
    while p.waiting:
        tokens, allocs, _ = p.schedule(10, 0.0)
        order += tokens.tolist()
        p.release(allocs)
    assert order == [5, 1, 2, 3, 4]


def test_remove_names_exactly_what_was_still_waiting() -> None:
    p = cluster(1, cores=2)
    shape = p.shape()
    p.add(shape, u64(range(1, 100_001)))
    p.schedule(2, 0.0)
    assert p.remove(u64([1, 5, 5, 100_000, 200_000])).tolist() == [5, 100_000]
    assert p.waiting == p.waiting_shape(shape) == 99_996
    p.add(shape, u64([200_000]))
    assert p.remove(u64([200_000, 3])).tolist() == [200_000, 3]
    everything = p.remove(u64(range(1, 100_001)))
    assert len(everything) == p.running + 99_993
    assert p.waiting == 0


def test_remove_finds_tokens_wherever_they_came_from() -> None:
    p = cluster(1, cores=1)
    shape = p.shape()
    scattered = [int(x) for x in np.random.default_rng(4).permutation(5_000) * 7 + 1_000_000]
    p.add(shape, u64(range(50)))  # a run
    p.add(shape, u64(scattered))
    p.schedule(1, 0.0)
    assert p.remove(u64([0, 1, 49, 50, *scattered[::2]])).tolist() == [1, 49, *scattered[::2]]
    taken = p.take(shape, 20)
    assert taken.tolist() == list(range(2, 22))
    assert p.remove(taken).tolist() == []
    p.put_back(shape, taken[::-1])
    p.add(shape, u64(range(100, 200)))
    p.add(shape, u64([1, 49]))  # cancelled once, submitted again
    assert p.remove(u64([21, 1, 2, 150, 22, 49, 1])).tolist() == [21, 1, 2, 150, 22, 49]
    left = p.remove(u64([*range(200), *scattered])).tolist()
    assert len(left) == len(set(left))
    assert p.waiting == 0


def test_take_pops_in_order_and_put_back_stands_in_front() -> None:
    p = cluster(1, cores=1)
    shape = p.shape()
    start(p, shape)
    p.add(shape, u64([10, 11, 12]))
    p.add(shape, u64([20]), priority=5)
    assert p.take(shape, 3).tolist() == [20, 10, 11]
    p.put_back(shape, u64([10, 11]))
    assert p.take(shape, 9).tolist() == [10, 11, 12]
    p.put_back(shape, u64([12]))
    p.add(p.shape(mem=1), u64([30]), priority=1)
    assert p.take(shape, 1).tolist() == []
    assert p.waiting == 2


def test_release_refuses_strangers_and_then_releases_nothing() -> None:
    p = cluster(1, cores=8)
    a, b = start(p, p.shape(), 2)
    for wrong in ([a, 12345], [a, b, a], [a, 1 << 63]):
        with pytest.raises(ValueError, match="unknown or already released"):
            p.release(u64(wrong))
        assert p.running == 2
    p.release(u64([b, a]))
    with pytest.raises(ValueError, match="unknown or already released"):
        p.release(u64([a]))
    with pytest.raises(ValueError, match="unknown or already released"):
        p.slots(a)


def test_equal_requests_are_one_shape() -> None:
    p = cluster(1, named={"fpga": [1]})
    assert p.shape(named={"fpga": 0}) == p.shape() == p.shape(cores=1, ranks_per_node=0)
    assert p.shape(named={"fpga": 1}) != p.shape()
    for bad in ({"cores": 0}, {"ranks": 0}, {"numa": "near"}):
        with pytest.raises(ValueError):
            p.shape(**bad)  # type: ignore[arg-type]


WHY = [
    ({"cores": 9}, "cores", "needs 9 cores on one node; the largest node has 8"),
    ({"gpus": 80_000}, "gpus", "needs 8 GPUs on one node; the largest node has 4"),
    (
        {"gpus": 5_000, "ranks": 9, "ranks_per_node": 9, "cores": 0},
        "gpus",
        "needs 9 shares of 50 % of a GPU on one node",
    ),
    ({"mem": 2048}, "mem", "needs 2048 MiB of memory on one node; the largest node has 1024"),
    ({"lfs": 11}, "lfs", "needs 11 MiB of local disk on one node; the largest node has 10"),
    ({"named": {"fpga": 3}}, "fpga", "needs 3 fpga on one node; the largest node has 1"),
    ({"named": {"tape": 1}}, "tape", "needs tape; no node offers it"),
    ({"partition": 4}, "partition", "there is no partition 4"),
    ({"cores": 8, "named": {"fpga": 1}, "partition": 0}, "fpga", "the largest node in partition 0 has 0"),
    ({"ranks": 40}, "ranks", "needs room for 40 ranks; all nodes together hold 32"),
    ({"ranks": 20, "ranks_per_node": 4}, "nodes", "needs 5 nodes with room for 4 ranks each; there are 4"),
]


@pytest.mark.parametrize(("request_", "limit", "words"), WHY)
def test_explain_says_what_can_never_be(request_: dict[str, Any], limit: str, words: str) -> None:
    p = cluster(4, cores=8, gpus=4, lfs=10, partition=[0, 0, 1, 1], named={"fpga": [0, 0, 0, 1]})
    why = p.explain(p.shape(**request_))
    assert (why["ever"], why["now"], why["limit"]) == (False, False, limit), why
    assert words in why["reason"], why
    assert p.capacity(p.shape(**request_)) == 0


def test_explain_names_a_combination_no_node_has() -> None:
    eight, none = np.array([8, 2], np.uint16), np.zeros(2, np.uint32)
    p = Placer(eight, np.array([0, 4], np.uint16), none, none, np.ones(2, np.uint8), np.zeros(2, np.uint16))
    why = p.explain(p.shape(cores=4, gpus=10_000))
    assert (why["ever"], why["limit"]) == (False, "combination"), why
    assert "no single node has 4 cores, 1 GPU" in why["reason"], why


def test_explain_tells_waiting_from_never() -> None:
    p = cluster(2, cores=8, gpus=1)
    start(p, p.shape(cores=6), 2)
    why = p.explain(p.shape(cores=4))
    assert (why["ever"], why["now"], why["limit"], why["free"], why["largest"]) == (True, False, "cores", 2, 8)
    assert why["reason"] == "waits for 4 cores on one node; at most 2 are free on one"
    assert p.explain(p.shape(cores=2))["now"] is True
    assert p.explain(p.shape(ranks=5))["limit"] == "ranks"
    assert p.explain(p.shape(exclusive=True))["reason"] == "waits for whole nodes; 0 nodes of 2 are idle"
    p.node_state(0, "drain")
    assert p.explain(p.shape(ranks=9))["reason"].endswith("all nodes together hold 8 (1 node drained or down)")
    p.node_state(1, "down")
    why = p.explain(p.shape())
    assert (why["ever"], why["limit"]) == (False, "nodes"), why


def test_capacity_and_fits_now_count_tasks() -> None:
    p = cluster(3, cores=8, gpus=2)
    wide = p.shape(ranks=10)
    halves = p.shape(gpus=5_000)
    assert (p.capacity(wide), p.capacity(halves), p.capacity(p.shape(exclusive=True))) == (2, 12, 3)
    start(p, p.shape(cores=3), 3)
    assert (p.fits_now(wide), p.fits_now(halves), p.fits_now(p.shape(exclusive=True))) == (1, 10, 1)


def test_arrays_of_different_length_are_refused() -> None:
    two, three = np.ones(2, np.uint16), np.ones(3, np.uint16)
    with pytest.raises(ValueError, match="same length"):
        Placer(two, three, two.astype(np.uint32), two.astype(np.uint32), two.astype(np.uint8), two)
    with pytest.raises(ValueError, match="1 to 65536"):
        cluster(0)


def test_a_shape_that_slept_while_thousands_ended_still_finds_every_place() -> None:
    p = cluster(100, cores=20)
    sleeper = p.shape(mem=1)  # one that keeps a record of full nodes
    allocs = start(p, sleeper, 2_000)
    assert len(allocs) == 2_000
    p.release(u64(allocs))
    assert len(start(p, sleeper, 2_000, first=3_000)) == 2_000
