"""Columns, picks, vecs and units: what goes in comes out, however it is cut; bad input names its field."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_rm.model import units
from jupyter_rm.model.columns import Column, Picks, pack, unpack
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.ids import by_bulk, parse_pilot, parse_task, pilot_uid, task_uid, tokens

texts = st.text(st.characters(codec="utf-8"), max_size=12)
values = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    st.lists(st.floats(allow_nan=False), max_size=20),
    st.lists(texts, max_size=20),
    st.lists(st.binary(max_size=12), max_size=20),
    st.builds(lambda start, count, step: range(start, start + count * step, step), *[st.integers(1, 9)] * 3),
)


@settings(max_examples=500, deadline=None)
@given(values, st.data())
def test_columns_keep_their_values(items: Any, data: st.DataObject) -> None:
    column = msgspec.msgpack.decode(msgspec.msgpack.encode(Column.of(items)), type=Column)
    expected = list(items)
    assert column.values() == expected
    assert [column.get(i) for i in range(len(column))] == expected
    assert [type(value) for value in column.values()] == [type(value) for value in expected]
    if expected:
        index = data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, unique=True))
        lo = data.draw(st.integers(0, len(expected) - 1))
        hi = data.draw(st.integers(lo, len(expected)))
        assert column.take(Picks.of(index)).values() == [expected[i] for i in index]
        assert column.take(Picks.span(lo, hi)).values() == expected[lo:hi]
        again = column.take(Picks.span(lo, hi))
        if hi > lo:
            assert again.take(Picks.span(0, hi - lo)).values() == expected[lo:hi]
    with pytest.raises(IndexError):
        column.get(len(expected))


@given(st.lists(st.lists(st.binary(max_size=9), min_size=1, max_size=6), min_size=1, max_size=5))
def test_joined_columns_are_their_parts_in_order(parts: list[list[bytes]]) -> None:
    assert Column.join([Column.of_bytes(part) for part in parts]).values() == [item for part in parts for item in part]


@pytest.mark.parametrize("bad", [3, "text", b"bytes", None, np.zeros((2, 2))])
def test_what_is_no_column_names_its_field(bad: object) -> None:
    with pytest.raises(RequestError, match="seed"):
        Column.of(bad, "seed")


@settings(max_examples=500, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), unique=True, max_size=30))
def test_picks_keep_indices_and_order(index: list[int]) -> None:
    picks = msgspec.msgpack.decode(msgspec.msgpack.encode(Picks.of(index)), type=Picks)
    assert picks.array().tolist() == index
    assert len(picks) == len(index)
    assert all(i in picks for i in index)
    assert not index or max(index) + 1 not in picks
    mask = np.array([i % 3 == 0 for i in index], bool)
    if index:
        assert picks.where_true(mask).array().tolist() == [i for i in index if i % 3 == 0]


@given(st.integers(0, 1000), st.integers(1, 100))
def test_a_run_is_a_range(lo: int, count: int) -> None:
    picks = Picks.of(np.arange(lo, lo + count))
    assert picks == Picks.span(lo, lo + count)
    assert picks.where == slice(lo, lo + count)


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=20))
def test_vecs_are_exact_and_short_when_all_are_equal(numbers: list[int]) -> None:
    packed = pack(numbers, "<u2")
    assert unpack(packed, "<u2", len(numbers)).tolist() == numbers
    assert len(packed) == (2 if len(set(numbers)) == 1 else 2 * len(numbers))


def test_a_vec_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 numbers for 3 tasks"):
        unpack(pack([1, 2], "<u2"), "<u2", 3)


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1)), max_size=20, unique=True))
def test_tokens_keep_bulk_and_index(tasks: list[tuple[int, int]]) -> None:
    token = np.concatenate([tokens(bulk, np.array([index])) for bulk, index in tasks] or [np.zeros(0, np.uint64)])
    back: dict[int, tuple[int, int]] = {}
    for bulk, where, index in by_bulk(token):
        back.update({int(at): (bulk, int(i)) for at, i in zip(where, index, strict=True)})
    assert [back[at] for at in range(len(tasks))] == tasks
    assert all(parse_task(task_uid(*task)) == task for task in tasks)


@pytest.mark.parametrize("bad", ["", "t", "t.", "t.1.2.3", "p.1", "t.-1", "t.1.x", 5])
def test_bad_uids_are_refused(bad: Any) -> None:
    with pytest.raises(RequestError):
        parse_task(bad)
    assert parse_pilot(pilot_uid(12)) == 12


@pytest.mark.parametrize(
    ("text", "mib"),
    [("4GiB", 4096), ("512 MB", 512), ("1.5g", 1536), (7, 7), ("1T", 1 << 20), ("1k", 1), ("1048577 B", 2), (0, 0)],
)
def test_memory_is_read_as_written(text: object, mib: int) -> None:
    assert units.memory_mib(text, "mem") == mib


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("01:30:00", 5400), ("10:00", 600), (2.5, 2.5), ("2 d", 172800), ("250ms", 0.25)],
)
def test_durations_are_read_as_written(text: object, seconds: float) -> None:
    assert units.duration_s(text, "timeout") == pytest.approx(seconds)


@pytest.mark.parametrize(("share", "parts"), [(2, 20_000), (0.5, 5000), (0, 0), (0.0001, 1)])
def test_gpu_shares_are_exact(share: float, parts: int) -> None:
    assert units.gpu_share(share, "gpus") == parts


@pytest.mark.parametrize(
    ("read", "bad"),
    [
        *(
            (units.memory_mib, bad)
            for bad in ("4 apples", "512", "GiB", -1, float("nan"), None, True, 2**33, "4 GiB x")
        ),
        *((units.duration_s, bad) for bad in ("soon", "1x", -1, float("inf"), None, True, "1:2:3:4", "1..5s", "")),
        *((units.gpu_share, bad) for bad in (-1, 1.5, 0.00001, "1", None, True, float("nan"))),
        *((units.whole, bad) for bad in (1.5, "3", None, True, -1, 2**40)),
    ],
)
def test_bad_quantities_name_their_field(read: Any, bad: object) -> None:
    with pytest.raises(RequestError, match="the_field") as caught:
        read(bad, "the_field")
    assert caught.value.hint


@given(st.floats(0, 1e6))
def test_times_are_written_for_people(seconds: float) -> None:
    assert units.human_s(seconds).split()[-1] in ("ms", "s", "min")
    assert units.human_mib(seconds)
