"""What an agent holds: segments of bulks, attempts of the same task side by side, and nothing forgotten too early."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_rm.core.holdings import Holdings, cut_assign
from jupyter_rm.model.columns import Column, Picks, pack
from jupyter_rm.model.describe import Template
from jupyter_rm.model.messages import Assign


def assign(index: list[int], attempt: int, bulk: int = 0) -> Assign:
    count = len(index)
    return Assign(
        bulk,
        Picks.of(index),
        pack(np.full(count, attempt), "<u2"),
        Template(mode="call"),
        {"x": Column.of([10 * i + attempt for i in index])},
        Column.of_bytes([b"%d/%d" % (i, attempt) for i in index]),
    )


def test_a_retry_on_the_same_agent_leaves_its_neighbours_held() -> None:
    # Seed 7 of the simulation: task 1 was counted out of the first segment twice, and task 2 was forgotten.
    holdings = Holdings()
    holdings.add(assign([0, 1, 2], 1))
    holdings.drop(0, np.array([1]))
    holdings.add(assign([1], 2))
    holdings.drop(0, np.array([1]))
    holdings.drop(0, np.array([0]))
    assert holdings.bulks[0].attempts(np.array([2])).tolist() == [1]
    holdings.drop(0, np.array([2]))
    assert not holdings.bulks


def test_a_run_that_holds_a_retry_has_the_attempts_of_both() -> None:
    # The answer for a run came from the segment of its first task: task 1 was reported as an attempt that is over.
    holdings = Holdings()
    holdings.add(assign([0, 1, 2], 1))
    holdings.drop(0, np.array([1]))
    holdings.add(assign([1], 2))
    assert holdings.bulks[0].attempts(np.array([0, 1, 2])).tolist() == [1, 2, 1]


def test_tasks_out_of_order_are_no_run() -> None:
    # Seed 197 of the simulation: the end of attempt 2 was reported as attempt 1, and the task never ended.
    holdings = Holdings()
    holdings.add(assign(list(range(40, 80)), 1))
    holdings.drop(0, np.array([43]))
    holdings.add(assign([43], 2))
    held = holdings.bulks[0]
    assert held.attempts(np.array([76, 43, 78])).tolist() == [1, 2, 1]
    assert held.payloads(np.array([76, 43, 78])) == [b"76/1", b"43/2", b"78/1"]


def test_a_later_attempt_wins() -> None:
    holdings = Holdings()
    holdings.add(assign([4, 7, 9], 1))
    holdings.drop(0, np.array([7]))
    holdings.add(assign([7], 3))
    held = holdings.bulks[0]
    assert held.attempts(np.array([4, 7, 9])).tolist() == [1, 3, 1]
    assert held.params(7) == {"x": 73}
    assert held.payloads(np.array([4, 7])) == [b"4/1", b"7/3"]


def test_what_is_not_held_is_a_key_error() -> None:
    holdings = Holdings()
    holdings.add(assign([4, 7, 9], 1))
    with pytest.raises(KeyError):
        holdings.bulks[0].params(5)
    with pytest.raises(KeyError):
        holdings.bulks[0].params(10)


def test_cut_assign_keeps_rows_together() -> None:
    cut = cut_assign(assign([4, 7, 9], 2), np.array([True, False, True]))
    assert cut.picks.array().tolist() == [4, 9]
    assert cut.columns["x"].values() == [42, 92]
    assert cut.payload is not None
    assert cut.payload.values() == [b"4/2", b"9/2"]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_holdings_equal_a_dict(data: st.DataObject) -> None:
    """Any order of assignments, ends and retries: the same answers as one dict entry per task."""
    holdings = Holdings()
    known: dict[int, int] = {}
    attempts = dict.fromkeys(range(25), 0)
    for _ in range(data.draw(st.integers(1, 30))):
        free = sorted(set(attempts) - set(known))
        if free and data.draw(st.booleans()):
            chosen = sorted(data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True)))
            if data.draw(st.booleans()):  # a run, as the broker makes them
                chosen = [i for i in free if chosen[0] <= i <= chosen[0] + len(chosen)]
                chosen = [i for at, i in enumerate(chosen) if i == chosen[0] + at]
            attempt = max(attempts[i] for i in chosen) + 1
            holdings.add(assign(chosen, attempt))
            for i in chosen:
                known[i] = attempts[i] = attempt
        elif known:
            gone = data.draw(st.lists(st.sampled_from(sorted(known)), min_size=1, unique=True))
            holdings.drop(0, np.array(gone, np.int64))
            for i in gone:
                del known[i]
        assert bool(known) == (0 in holdings.bulks)
        if known:
            index = np.array(data.draw(st.permutations(sorted(known))), np.int64)
            held = holdings.bulks[0]
            assert held.attempts(index).tolist() == [known[i] for i in index.tolist()]
            assert held.payloads(index) == [b"%d/%d" % (i, known[i]) for i in index.tolist()]


def test_only_a_run_in_order_is_taken_as_one() -> None:
    """Files of tasks are in place in any order: 4, 2, 3, 7 begins and ends like a run of four and is none."""
    holdings = Holdings()
    holdings.add(assign(list(range(10)), 1))
    held = holdings.bulks[0]
    assert held.run(np.array([4, 5, 6, 7])) == (held.segments[0], 4)
    for index in ([4, 2, 3, 7], [4, 6, 5, 7], [7, 6, 5, 4], [8, 9, 10, 11]):
        assert held.run(np.array(index)) is None, index
    holdings.drop(0, np.array([5]))
    assert held.run(np.array([4, 5, 6])) is None
