"""The scheduler of the simulated batch system, as a pure function: its rules, and whole lives of random clusters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_rm.simbatch.schedule import (
    ENDING,
    QUEUES,
    RUNNING,
    WAITING,
    Job,
    Node,
    again,
    begin,
    line,
    next_moment,
    plan,
    reasons,
    tell_to_end,
    to_preempt,
    turn,
)


def cluster(nodes: int = 4, cores: int = 2) -> list[Node]:
    return [Node(f"n{number}", cores) for number in range(nodes)]


def job(id: int, nodes: int = 1, limit: float = 10.0, cores: int = 0, queue: str = "batch", at: float = 0.0) -> Job:
    return Job(id, "me", queue, nodes, cores, limit, at, at)


def test_first_come_first_served_and_small_ones_fill_the_gaps() -> None:
    nodes = cluster(2)
    jobs = [job(1, limit=30.0), job(2, 2, 10.0), job(3, 1, 20.0), job(4, 1, 40.0)]
    turn(nodes, jobs, 0.0)
    assert [one.state for one in jobs] == [RUNNING, WAITING, RUNNING, WAITING], "3 ends before 1 does, 4 would not"
    slots = plan(nodes, jobs, 0.0)
    assert slots[2].start == 30.0 and slots[4].start == 40.0
    assert reasons(nodes, jobs, 0.0) == {2: "Resources", 4: "Priority"}
    assert next_moment(nodes, jobs, 0.0) == 20.0


def test_cores_of_a_node_are_shared_and_whole_nodes_are_not() -> None:
    nodes = cluster(1, 4)
    jobs = [job(1, cores=3), job(2, cores=1), job(3), job(4, cores=1)]
    turn(nodes, jobs, 0.0)
    assert [one.own for one in jobs] == [[[0, 1, 2]], [[3]], [], []]
    turn(nodes, jobs, 10.0)
    assert [one.state for one in jobs] == [ENDING, ENDING, WAITING, WAITING]
    del jobs[:2]
    turn(nodes, jobs, 10.0)
    assert jobs[0].own == [[0, 1, 2, 3]]


def test_an_urgent_queue_goes_first_and_another_gives_way() -> None:
    nodes = cluster(2)
    spare = [job(1, queue="spare"), job(2, queue="spare", at=1.0)]
    for one in spare:
        begin(nodes, spare[:1], one, [f"n{one.id - 1}"], one.submitted)
    jobs = [*spare, job(3), job(4, queue="debug")]
    assert [one.id for one in line(jobs)] == [4, 3]
    assert to_preempt(nodes, jobs, 5.0) == [spare[1]], "the youngest"
    turn(nodes, jobs, 5.0)
    assert (spare[1].state, spare[1].becomes, spare[0].state) == (ENDING, "PREEMPTED", RUNNING)
    turn(nodes, jobs, 5.1)
    assert spare[0].state == RUNNING, "one is on its way out; nobody else has to go for the same job"
    spare[1].requeue = True
    assert again(spare[1], 6.0, 2.0)
    turn(nodes, jobs, 6.0)
    assert jobs[3].on == ["n1"] and spare[0].state == ENDING and spare[1].eligible == 8.0
    assert reasons(nodes, jobs, 6.0) == {2: "Requeued", 3: "Resources"}


def test_nobody_is_driven_out_in_vain() -> None:
    nodes = cluster(3)
    one, other, wide = job(1, queue="spare"), job(2, limit=50.0), job(3, 3)
    jobs = [one, other, wide]
    begin(nodes, jobs, one, ["n0"], 0.0)
    begin(nodes, jobs, other, ["n1"], 0.0)
    assert to_preempt(nodes, jobs, 1.0) == [], "the other job stays anyway"
    small, free = job(4), job(5, queue="spare")
    begin(nodes, [], free, ["n2"], 0.5)
    assert to_preempt(nodes, [one, other, free, small], 1.0) == [free]


def test_a_node_that_is_down_holds_nothing() -> None:
    nodes = cluster(2)
    nodes[0].down = "power"
    jobs = [job(1, 2), job(2)]
    turn(nodes, jobs, 0.0)
    assert jobs[1].on == ["n1"] and jobs[0].state == WAITING
    assert plan(nodes, jobs, 0.0) == {} and reasons(nodes, jobs, 0.0) == {1: "NodesDown"}


def test_a_job_is_told_to_end_once_and_the_first_reason_counts() -> None:
    nodes = cluster(1)
    one = job(1)
    begin(nodes, [one], one, ["n0"], 0.0)
    tell_to_end(one, "CANCELLED", 1.0)
    assert turn(nodes, [one], 99.0).told == []
    assert (one.becomes, one.told) == ("CANCELLED", 1.0)
    assert not again(one, 2.0, 0.0), "who cancels a job does not want it again"


JOBS = st.lists(
    st.tuples(
        st.integers(1, 4),  # nodes
        st.integers(0, 2),  # cores, 0: whole nodes
        st.integers(1, 20),  # limit
        st.integers(1, 25),  # how long it really runs, unless its limit ends it
        st.integers(0, 30),  # submitted
        st.sampled_from(sorted(QUEUES)),
    ),
    min_size=1,
    max_size=14,
)


def play(size: int, cores: int, asked: list[tuple[int, int, int, int, int, str]], one_queue: bool) -> list[str]:
    """Let a cluster live until all jobs are over, checking every moment of it; return what is wrong."""
    nodes, wrong = cluster(size, cores), []
    coming = [
        (float(at), job(id, min(n, size), float(limit), min(c, cores), "batch" if one_queue else queue, float(at)), run)
        for id, (n, c, limit, run, at, queue) in enumerate(sorted(asked, key=lambda one: one[4]), 1)
    ]
    jobs: list[Job] = []
    # Who has to be told to end holds its nodes a moment longer than it was planned for.
    takes = {one.id: min(float(run), one.limit_s) if one_queue else float(run) for _, one, run in coming}
    promised: dict[int, float] = {}
    now, over = 0.0, 0
    for _ in range(4000):
        jobs += [one for at, one, _ in coming if at == now]
        # Processes end by themselves, or some time after they were told to.
        gone = [one for one in jobs if one.holds and (now >= one.began + takes[one.id] or one.state == ENDING)]
        over += len(gone)
        jobs[:] = [one for one in jobs if one not in gone]
        turn(nodes, jobs, now)
        for node in nodes:
            held = [n for one in jobs if one.holds and node.name in one.on for n in one.own[one.on.index(node.name)]]
            if len(held) != len(set(held)) or any(n >= node.cores for n in held):
                wrong.append(f"{now}: {node.name} has {sorted(held)} of {node.cores}")
        for one in jobs:
            if one.holds and (len(one.on) != one.nodes or any(len(c) != (one.cores or cores) for c in one.own)):
                wrong.append(f"{now}: job {one.id} got {one.own}")
            if one.state == RUNNING and now > one.due:
                wrong.append(f"{now}: job {one.id} is beyond its limit")
        if one_queue and (ahead := line(jobs)):
            slot = plan(nodes, jobs, now)[ahead[0].id].start
            if slot > promised.setdefault(ahead[0].id, slot):
                wrong.append(f"{now}: job {ahead[0].id} was to start at {promised[ahead[0].id]}, now at {slot}")
            promised[ahead[0].id] = slot
        if over == len(coming):
            return wrong
        now += 1.0
    return [*wrong, f"never over: {[one for one in jobs if one.state == WAITING]}"]


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), JOBS)
def test_no_core_is_given_twice_and_limits_are_kept(size: int, cores: int, asked: list[tuple[int, ...]]) -> None:
    assert play(size, cores, asked, one_queue=False) == []  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), JOBS)
def test_the_first_of_the_line_is_never_put_off(size: int, cores: int, asked: list[tuple[int, ...]]) -> None:
    assert play(size, cores, asked, one_queue=True) == []  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4), JOBS, st.integers(0, 13))
def test_who_comes_later_changes_nobodys_slot(size: int, asked: list[tuple[int, ...]], cut: int) -> None:
    nodes = cluster(size)
    jobs = [job(id, min(one[0], size), float(one[2]), one[1]) for id, one in enumerate(asked, 1)]
    first = jobs[: cut + 1]
    assert plan(nodes, first, 0.0) == {one.id: plan(nodes, jobs, 0.0)[one.id] for one in first}


@pytest.mark.parametrize("spoiled", ["cores", "backfill"])
def test_the_checks_can_fail(spoiled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_rm.simbatch import schedule

    asked = [(1, 0, 9, 9, 0, "batch"), (2, 0, 9, 5, 0, "batch"), (1, 0, 20, 20, 1, "batch"), (1, 0, 20, 20, 2, "batch")]
    assert play(2, 1, asked, one_queue=True) == []
    if spoiled == "cores":
        monkeypatch.setattr(schedule.Profile, "_free", lambda self, node, start, end: node.cores)
    else:
        # Only what can start now is planned for: whoever is small enough goes first.
        whole = schedule.Profile.book
        monkeypatch.setattr(
            schedule.Profile,
            "book",
            lambda self, job, slot, end=0.0: None if slot.start > self._now else whole(self, job, slot, end),
        )
    assert play(2, 1, asked, one_queue=True)
