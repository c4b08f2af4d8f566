"""Frames: a screen that follows them shows what the server means, whatever changed; and they are small."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_kit import BEGIN, WORDS, Held

from jupyter_rm.model.states import TaskState
from jupyter_rm.views import feed, pictures, tables
from jupyter_rm.views.feed import Cutter, patch
from jupyter_rm.views.pictures import Picture, Table

Row = list[Any]
PICTURES = st.builds(
    lambda values, keys, cells: Picture(
        values, {"t": Table(["key", "cell"], [[key, cells[key]] for key in keys if key in cells])}
    ),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
    st.permutations(list(range(12))),
    st.dictionaries(st.integers(0, 11), st.integers(0, 2), max_size=12),
)


def shows(picture: Picture) -> dict[str, Any]:
    return {
        "values": picture.values,
        "tables": {name: {"columns": list(t.columns), "rows": t.rows} for name, t in picture.tables.items()},
    }


def named(screen: dict[str, Any]) -> str:
    """Return the name of what a screen shows, found out on its side."""
    return feed.named(msgspec.json.encode(screen))


@given(st.lists(PICTURES, min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_following_frames_shows_the_picture(history: list[Picture]) -> None:
    cutter, seq = Cutter(), 0
    screen: dict[str, Any] = {}
    for picture in history:
        body = cutter.cut(picture, {"id": "x"})
        if body is not None:
            frame = json.loads(body)
            seq += 1
            assert (frame["seq"], frame["id"]) == (seq, "x")
            screen = patch(screen, frame)
        assert screen == shows(picture)


CELLS = st.one_of(
    st.integers(-(2**40), 2**40),
    st.integers(-10, 10).map(lambda value: value / 2),
    st.sampled_from(["a", 'quote " and \\', "", None, True, 2]),
)


@given(st.integers(0, 60), st.integers(0, 2**32), st.lists(CELLS, min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_numbers_that_change_a_little_everywhere_stay_exact(rows: int, seed: int, odd: list[Any]) -> None:
    """Rows that stay, columns of numbers that all move: what the packed differences give is what was meant."""
    chance = random.Random(seed)
    table: list[list[Any]] = [[key, key, 3 * key, chance.choice(odd)] for key in range(rows)]
    cutter = Cutter()
    screen: dict[str, Any] = {}
    for _ in range(6):
        column, width, step = chance.randrange(1, 4), chance.choice([1, 2, 6, 30, 500]), chance.choice([1, 64, -7])
        low, tenth = chance.choice([0, -width // 2, 5]), chance.choice([1, 1, 10, 3])
        for row in (table := [list(row) for row in table]):
            more = step * (low + chance.randrange(width))
            row[column] = tenths(row[column] + more / tenth) if column < 3 else chance.choice(odd)
            if chance.random() < 0.02:
                row[column] = chance.choice(odd)
        for row in table:  # numbers again, so that most steps can be packed
            row[1:3] = [cell if type(cell) in (int, float) else 7 for cell in row[1:3]]
        picture = Picture({}, {"t": Table(["key", "a", "b", "c"], table)})
        body = cutter.cut(picture, {})
        if body is not None:
            screen = patch(screen, json.loads(body))
        assert screen == shows(picture)
        # The cursor is a hash of what is shown: the screen's own state gives the same.
        assert named(screen) == cutter.cursor


def tenths(value: float) -> float:
    """Return a number as pictures have it: one decimal, whole numbers without."""
    return int(value) if value == int(value) else round(value, 1)


def test_a_frame_that_was_lost_is_noticed_and_made_good() -> None:
    cutter, screens = Cutter(), []
    pictures_ = [Picture({"n": n}, {"t": Table(["k", "v"], [[k, k * n] for k in range(99)])}) for n in range(5)]
    frames = [json.loads(cutter.cut(each, {}) or b"") for each in pictures_]
    screen: dict[str, Any] = {}
    last = 0
    for number, frame in enumerate(frames):
        if number == 2:
            continue  # lost on its way
        if frame["kind"] == "delta" and frame["seq"] != last + 1:
            cutter.forget()  # what "resync" does
            frame = json.loads(cutter.cut(pictures_[number], {}) or b"")
            assert frame["kind"] == "snapshot"
        screen, last = patch(screen, frame), frame["seq"]
        screens.append(named(screen) == frame["cursor"])
    assert all(screens) and screen == shows(pictures_[-1])


def test_a_screen_that_comes_back_is_told_only_what_it_lacks() -> None:
    picture = Picture({"a": 1}, {"t": Table(["k"], [["x"]])})
    first = json.loads(Cutter().cut(picture, {}) or b"")
    assert first["kind"] == "snapshot"
    again = json.loads(Cutter().cut(picture, {}, first["cursor"]) or b"")
    assert again["kind"] == "same" and again["cursor"] == first["cursor"]
    other = json.loads(Cutter().cut(Picture({"a": 2}), {}, first["cursor"]) or b"")
    assert other["kind"] == "snapshot" and other["cursor"] != first["cursor"]


def test_after_a_missed_frame_all_of_it_comes() -> None:
    cutter = Cutter()
    picture = Picture({"a": 1}, {"t": Table(["k", "v"], [[key, 0] for key in range(50)])})
    cutter.cut(picture, {})
    assert cutter.cut(picture, {}) is None, "nothing changed, nothing is sent"
    cutter.forget()
    assert json.loads(cutter.cut(picture, {}) or b"")["kind"] == "snapshot"


def test_a_change_names_its_subscription_and_what_changed_and_nothing_else() -> None:
    cutter, head = Cutter(), {"id": "v", "view": "queue", "session": "study", "at": 1795316466.123}
    table = Table(["k", "v"], [[n, "x"] for n in range(60)])
    first = json.loads(cutter.cut(Picture({"a": 1}, {"t": table}), head) or b"")
    assert (first["view"], first["session"]) == ("queue", "study")
    body = cutter.cut(Picture({"a": 2}, {"t": table}), head) or b""
    assert json.loads(body).keys() == {"id", "at", "kind", "seq", "cursor", "values"}
    assert len(body) - len('"values":{"a":2}') < 80, "what stands around a change"


def test_cells_of_few_values_are_told_by_a_digit_each() -> None:
    chance = random.Random(3)
    names = [f"user {n}" for n in range(7)]
    rows = [[key, key if key % 5 else None, "c0"] for key in range(120)]
    cutter = Cutter()
    screen = patch({}, json.loads(cutter.cut(Picture({}, {"t": Table(["k", "n", "c"], rows)}), {}) or b""))
    told: list[dict[str, Any]] = []
    for _ in range(20):
        # As in a line of jobs: all move up by one, those that have no place have none, and colours are mixed anew.
        rows = [[key, place and place - 1, chance.choice(names)] for key, place, _ in rows]
        picture = Picture({}, {"t": Table(["k", "n", "c"], rows)})
        frame = json.loads(cutter.cut(picture, {}) or b"")
        screen = patch(screen, frame)
        assert screen == shows(picture)
        told.append(frame["tables"]["t"])
    assert all(part["add"]["n"] == [1, -1, 1, ""] for part in told[:1]) and all("n" in part["add"] for part in told)
    assert all(len(part["cells"]["c"]) == 3 and len(msgspec.json.encode(part["cells"]["c"])) < 400 for part in told)


def test_a_table_that_scrolls_sends_the_new_rows_only() -> None:
    cutter = Cutter()
    rows = [[key, f"a cell with some text {key}"] for key in range(300)]
    cutter.cut(Picture({}, {"t": Table(["k", "v"], rows[:100])}), {})
    frame = json.loads(cutter.cut(Picture({}, {"t": Table(["k", "v"], rows[5:105])}), {}) or b"")
    assert frame["kind"] == "delta"
    assert len(frame["tables"]["t"]["new"][0]) == len(frame["tables"]["t"]["gone"]) == 5
    # The last row becomes the first: one row moves, not a hundred.
    moved = [rows[104], *rows[5:104]]
    frame = json.loads(cutter.cut(Picture({}, {"t": Table(["k", "v"], moved)}), {}) or b"")
    assert frame["tables"]["t"] == {"gone": [99], "new": [[0], [[104], ["a cell with some text 104"]]]}


def test_one_percent_of_change_is_five_percent_of_traffic_at_most() -> None:
    held = Held()
    count = 200_000
    held.bulk(count)
    held.pilot(nodes=100)
    held.start(0, np.arange(count), node=np.arange(count) % 100)
    rng = np.random.default_rng(1)
    order = rng.permutation(count)
    cutter = Cutter()
    first = cutter.cut(pictures.tasks(held, WORDS, tables.Query(), 0, 200), {}) or b""
    assert 10_000 < len(first) < 300_000
    sizes = []
    for step in range(20):
        ended = np.sort(order[step * count // 100 : (step + 1) * count // 100])
        held.end(0, ended, rng.choice([TaskState.DONE, TaskState.FAILED], len(ended)), at=BEGIN + 20 + step)
        sizes.append(len(cutter.cut(pictures.tasks(held, WORDS, tables.Query(), 0, 200), {}) or b""))
    assert np.median(sizes) <= 0.05 * len(first), (len(first), sizes)
