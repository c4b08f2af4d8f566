"""Curves over time: integrals and counts against adding up task by task."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from ledger_kit import BEGIN, WORDS, Held

from jupyter_rm.model import facts as f
from jupyter_rm.model.describe import Template
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.resources import Request
from jupyter_rm.model.states import PilotState, TaskState
from jupyter_rm.notebook import paint
from jupyter_rm.views import catalog
from jupyter_rm.views.pictures import Picture
from jupyter_rm.views.windows import Window

REQUESTS = (Request(cores=2, mem=512), Request(ranks=2, cores=3, gpus=5000))


@pytest.fixture(scope="module")
def held() -> Held:
    held, rng = Held(), np.random.default_rng(11)
    held.pilot(nodes=10, cores=16)
    held.pilot(nodes=5, cores=8)
    for number, request in enumerate(REQUESTS):
        held.apply(
            f.BulkSubmitted(
                number, bytes([number]) * 16, BEGIN + 1 + number, 400, Template(executable="x", request=request), {}
            )
        )
        held.start(number, np.arange(300), at=BEGIN + rng.uniform(5, 90, 300))
        states = rng.choice([TaskState.DONE, TaskState.FAILED, TaskState.CANCELED], 250)
        held.end(number, np.arange(250), states, at=held.ledger.bulks[number].started[:250] + rng.uniform(1, 60, 250))
    held.apply(f.PilotChanged(1, PilotState.DONE, BEGIN + 70))
    return held


def show(held: Held, view: str, now: float, **window: Any) -> Picture:
    return catalog.picture(view, held, WORDS, Window(**window), now)


def records(picture: Picture, table: str) -> list[dict[str, Any]]:
    made = picture.tables[table]
    return [dict(zip(made.columns, row, strict=True)) for row in made.rows]


@pytest.mark.parametrize("by", ["cores", "gpus", "mem"])
@pytest.mark.parametrize("at", [None, 61.7])
def test_the_bar_of_who_holds_how_much_adds_up(held: Held, by: str, at: float | None) -> None:
    picture = show(held, "usage", BEGIN + 200, by=by, at=None if at is None else BEGIN + at)
    rows = records(picture, "shares")
    busy, most = picture.values["mem_gib" if by == "mem" else by]
    used = [row for row in rows if row["key"] != "free"]
    assert sum(row["amount"] for row in used) == pytest.approx(busy) and (busy > 0 or by == "gpus" or not used)
    assert [row["amount"] for row in used] == sorted((row["amount"] for row in used), reverse=True)
    if rows:
        assert rows[0]["x"] == 0 and rows[-1]["x1"] == 1000
        assert all(one["x1"] == other["x"] for one, other in itertools.pairwise(rows))
    if busy < most:
        assert rows[-1]["key"] == "free" and sum(row["amount"] for row in rows) == pytest.approx(most)
    assert sum(row["tasks"] for row in used) <= 600


def test_many_small_submissions_are_put_together() -> None:
    held = Held()
    held.pilot(nodes=10, cores=100)
    for number in range(60):
        cores = 200 if number == 7 else 40 if number == 3 else 2
        template = Template(executable="x", name=f"job{number}", request=Request(cores=cores))
        held.apply(f.BulkSubmitted(number, number.to_bytes(16, "big"), BEGIN + 1, 1, template, {}))
        held.start(number, [0])
    rows = records(show(held, "usage", BEGIN + 30), "shares")
    assert [(row["uid"], row["name"], row["amount"]) for row in rows] == [
        ("t.7", "job7", 200), ("t.3", "job3", 40), ("", "58 more", 116), ("", "free", 644)
    ]  # fmt: skip
    assert show(held, "usage", BEGIN + 30).values["cores"] == [356, 1000]


@pytest.mark.parametrize("by", ["cores", "gpus", "mem"])
@pytest.mark.parametrize(("now", "at"), [(200.0, None), (203.3, None), (200.0, 61.7)])
def test_means_are_exact(held: Held, by: str, now: float, at: float | None) -> None:
    moment = BEGIN + (now if at is None else at)
    picture = show(held, "usage", BEGIN + now, bins=60, by=by, at=None if at is None else moment)
    rows, width = records(picture, "usage"), picture.values["bin_s"]
    sizes = {"cores": (2, 6), "gpus": (0, 1.0), "mem": (0.5, 0)}[by]
    total = sum(
        size * max(0.0, (min(ended, moment) if ended else moment) - started)
        for size, table in zip(sizes, held.ledger.bulks, strict=True)
        for started, ended in zip(table.started[:300].tolist(), table.ended[:300].tolist(), strict=True)
    )
    edges = np.array([row["x"] / 1000 for row in rows])
    lengths = np.minimum(edges, moment) - (edges - width)
    assert sum(row["busy"] * length for row, length in zip(rows, lengths, strict=True)) == pytest.approx(
        total, rel=1e-3
    )
    if by == "cores":
        second = min(70.0, moment - BEGIN) - 3
        assert sum(row["held"] * length for row, length in zip(rows, lengths, strict=True)) == pytest.approx(
            160 * (moment - BEGIN - 3) + 40 * second, rel=1e-3
        )
        assert picture.values["cores"][1] == (160 if at is None else 200)
    started = sum(int((table.started[:300] <= moment).sum()) for table in held.ledger.bulks)
    assert sum(row["started"] for row in rows) == started
    failed = sum(
        int(((table.state == TaskState.FAILED) & (table.ended <= moment)).sum()) for table in held.ledger.bulks
    )
    assert sum(row["failed"] for row in rows) == failed


def test_history_ends_with_the_counts(held: Held) -> None:
    picture = show(held, "tasks", BEGIN + 200, bins=100)
    rows = records(picture, "history")
    counts = picture.values["counts"]
    last = rows[-1]
    assert (last["running"], last["done"], last["failed"], last["canceled"], last["waiting"]) == (
        *(counts[name] for name in ("RUNNING", "DONE", "FAILED", "CANCELED", "WAITING")),
    )
    for row in rows:
        moment = row["x"] / 1000
        if moment > BEGIN + 2:
            assert sum(row[name] for name in ("running", "done", "failed", "canceled", "waiting")) == 800
        running = sum(
            int(((t.started[:300] < moment) & ((t.ended[:300] == 0) | (t.ended[:300] >= moment))).sum())
            for t in held.ledger.bulks
        )
        assert row["running"] == running
    assert "history" not in show(held, "tasks", BEGIN + 200, bins=0).tables


def _area(rows: list[dict[str, Any]], column: str) -> float:
    """What a figure draws of a column: each level reaches from the row before it to its own."""
    return sum((row["x"] - before["x"]) / 1000 * row[column] for before, row in itertools.pairwise(rows))


def test_the_first_bin_is_drawn() -> None:
    held = Held()
    held.pilot(cores=4)
    held.bulk(31)
    held.start(0, np.arange(30), at=BEGIN + 3.1)
    held.end(0, np.arange(30), at=BEGIN + 3.4)
    shown = show(held, "usage", BEGIN + 60, bins=20)
    rows = records(shown, "usage")
    assert rows[1]["ended"] == 30 and shown.values["bin_s"] == 5, "all of it happened in the first bin"
    assert _area(rows, "rate") == pytest.approx(30) and _area(rows[:2], "busy") > 0
    assert rows[0]["x"] == shown.values["begin"] * 1000
    assert 'points="44,162 ' not in paint._usage(shown, shown.tables["usage"]), "a still picture has steps, no slopes"
    history = records(show(held, "tasks", BEGIN + 60, bins=20), "history")
    assert (history[0]["done"], history[1]["done"]) == (0, 30)
    # A later left edge begins with what had happened before it.
    assert records(show(held, "tasks", BEGIN + 60, bins=20, begin=BEGIN + 30), "history")[0]["done"] == 30


def test_time_going_on_changes_only_the_last_bins(held: Held) -> None:
    before = show(held, "usage", BEGIN + 151.0, bins=100).tables["usage"].rows
    after = show(held, "usage", BEGIN + 152.5, bins=100).tables["usage"].rows
    assert after[: len(before) - 1] == before[:-1]


def test_nothing_moves_when_all_is_over() -> None:
    held = Held()
    held.bulk(10)
    held.pilot()
    held.start(0, np.arange(10))
    held.end(0, np.arange(10))
    early, late = (show(held, "tasks", BEGIN + now) for now in (100, 5000))
    assert early.tables["history"] == late.tables["history"], "an idle session sends nothing"
    held.apply(f.PilotChanged(0, PilotState.DONE, BEGIN + 50))
    assert show(held, "usage", BEGIN + 100) == show(held, "usage", BEGIN + 5000)


def test_tasks_that_never_began_leave_the_queue() -> None:
    held = Held()
    held.bulk(4)
    held.end(0, [0, 1], TaskState.CANCELED, pilot=-1, at=0.0)
    held.ledger.bulks[0].ended[:2] = 0
    last = records(show(held, "tasks", BEGIN + 100), "history")[-1]
    assert (last["waiting"], last["canceled"], last["running"]) == (2, 2, 0)


@pytest.mark.parametrize("window", [{"bins": 1}, {"bins": 501}, {"by": "moons"}])
def test_a_wrong_window_is_named(held: Held, window: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        show(held, "usage", BEGIN + 200, **window)
    assert caught.value.hint


@pytest.mark.parametrize("view", ["tasks", "nodes", "queue", "timeline", "usage", "activity"])
@pytest.mark.parametrize("field", ["begin", "end", "at"])
@pytest.mark.parametrize("moment", [float("nan"), float("inf"), -1e308, -1.0, 1e12])
def test_a_moment_that_is_none_is_refused(held: Held, view: str, field: str, moment: float) -> None:
    with pytest.raises(RequestError, match=f"^{field}: ") as caught:
        show(held, view, BEGIN + 200, **{field: moment})
    assert "1970" in caught.value.hint


@pytest.mark.parametrize("view", ["tasks", "nodes", "queue", "timeline", "usage"])
@pytest.mark.parametrize("field", ["begin", "end", "at"])
@pytest.mark.parametrize("moment", [0.0, 1e11])
def test_an_odd_moment_is_one(held: Held, view: str, field: str, moment: float) -> None:
    assert show(held, view, BEGIN + 200, **{field: moment}).tables


@pytest.mark.parametrize("view", ["nodes", "timeline", "queue"])
def test_what_is_highlighted_is_there_or_missed_in_words(held: Held, view: str) -> None:
    for select in ("t", "p", "nope", "t.x", "p.0.1", "t.1.2.3"):
        with pytest.raises(RequestError, match=r"^select: ") as caught:
            show(held, view, BEGIN + 80, select=select)
        assert "t.3.17" in caught.value.hint and "p.0" in caught.value.hint
    table = records(show(held, view, BEGIN + 80, select="p.0"), "cells" if view == "nodes" else "bars")
    assert any(row["lit"] for row in table)
    for select in ("p.9", "p.99999999999999999999") + (("t.2", "t.0.400", f"t.0.{10**20}") if view != "queue" else ()):
        shown = show(held, view, BEGIN + 80, select=select)
        assert shown.values["note"] == f"This session has no {select}."
        assert not any(row["lit"] for row in records(shown, "cells" if view == "nodes" else "bars"))
    for select in ("", "p.1", "t.1", "t.1.399"):
        assert not show(held, view, BEGIN + 80, select=select).values["note"]


def test_an_empty_session_has_axes() -> None:
    for view in ("usage", "tasks", "nodes"):
        assert show(Held(), view, BEGIN + 5).tables


def test_what_is_over_is_known() -> None:
    held = Held()
    assert catalog.over(held), "nothing was asked for"
    held.bulk(2)
    assert not catalog.over(held)
    held.end(0, [0, 1], pilot=-1)
    assert catalog.over(held)
    held.pilot()
    assert not catalog.over(held)
    held.apply(f.PilotChanged(0, PilotState.DONE, BEGIN + 50))
    assert catalog.over(held)
    for view in ("tasks", "nodes", "queue", "timeline", "usage"):
        assert show(held, view, BEGIN + 100) == show(held, view, BEGIN + 90_000), view
