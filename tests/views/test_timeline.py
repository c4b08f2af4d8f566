"""The timeline: every task stands where and when it ran; of very many, lanes tell the same in less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ledger_kit import BEGIN, WORDS, Held

from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.states import TaskState
from jupyter_rm.views import catalog
from jupyter_rm.views.pictures import Picture
from jupyter_rm.views.timeline import MOST_BARS, MOST_BINS
from jupyter_rm.views.windows import Window

NOW = BEGIN + 400


def made(count: int, nodes: int = 6) -> Held:
    held, rng = Held(), np.random.default_rng(3)
    held.pilot(nodes=nodes, cores=8)
    held.bulk(count)
    held.start(0, np.arange(count), node=np.arange(count) % nodes, at=BEGIN + rng.uniform(5, 250, count))
    half = count // 2
    states = rng.choice([TaskState.DONE, TaskState.FAILED], half, p=[0.8, 0.2])
    held.end(0, np.arange(half), states, at=held.ledger.bulks[0].started[:half] + rng.uniform(1, 90, half))
    return held


@pytest.fixture(scope="module")
def few() -> Held:
    return made(200)


@pytest.fixture(scope="module")
def many() -> Held:
    return made(20_000)


def show(held: Held, **window: Any) -> Picture:
    return catalog.picture("timeline", held, WORDS, Window(**window), NOW)


def records(picture: Picture, table: str = "bars") -> list[dict[str, Any]]:
    found = picture.tables[table]
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def tasks(picture: Picture) -> dict[str, dict[str, Any]]:
    return {bar["uid"]: bar for bar in records(picture) if bar["uid"]}


def test_each_task_stands_where_and_when_it_ran(few: Held) -> None:
    picture = show(few)
    lanes = {row["label"]: row["y"] for row in records(picture, "lanes")}
    assert list(lanes) == [f"node{place}" for place in range(6)]
    bars, table = tasks(picture), few.ledger.bulks[0]
    thin = round(400 * picture.values["bin_s"])
    assert len(bars) == 200 and picture.values["matched"] == 200
    for uid, bar in bars.items():
        index = int(uid.split(".")[2])
        assert bar["x"] == round(table.started[index] * 1000)
        assert bar["state"] == TaskState(int(table.state[index])).name
        if index < 100:
            assert bar["x1"] == max(bar["x"] + thin, round(table.ended[index] * 1000))
        nearest = min(lanes, key=lambda name, bar=bar: abs(lanes[name] - (bar["y"] + bar["y1"]) / 2))  # type: ignore[misc]
        assert nearest == f"node{index % 6}"
    assert {bar["color"] for bar in bars.values() if bar["state"] == "FAILED"} == {"FAILED"}
    ordered = sorted(bars.values(), key=lambda bar: bar["y"])
    for bar in ordered:
        clash = [o for o in ordered if o is not bar and o["y"] < bar["y1"] and bar["y"] < o["y1"]]
        assert all(o["x1"] <= bar["x"] + thin or bar["x1"] <= o["x"] + thin for o in clash), "no bar lies over another"


def test_bars_of_running_tasks_change_only_now_and_then(few: Held) -> None:
    def rows(now: float) -> Any:
        return catalog.picture("timeline", few, WORDS, Window(), now).tables["bars"].rows

    width = show(few).values["bin_s"]
    assert rows(NOW + 0.1 * width) == rows(NOW + 0.6 * width)


def test_by_task_and_by_pilot(few: Held) -> None:
    picture = show(few, by="task", rows=10, offset=50)
    table = few.ledger.bulks[0]
    order = np.argsort(table.started, kind="stable")[50:60]
    assert [row["key"] for row in records(picture, "lanes")] == [f"t.0.{index}" for index in order]
    waited = [bar for bar in records(picture) if bar["key"].startswith("h:")]
    assert len(waited) == 10 and all(bar["x"] == (BEGIN + 1) * 1000 for bar in waited)
    (lane,) = records(show(few, by="pilot"), "lanes")
    assert lane["key"] == "p.0"


def test_replay_shows_what_was_known_then(few: Held) -> None:
    at = BEGIN + 120.0
    picture = show(few, at=at)
    table, bars = few.ledger.bulks[0], tasks(picture)
    assert len(bars) == int((table.started <= at).sum())
    running = (table.started <= at) & ((table.ended == 0) | (table.ended > at))
    assert sum(bar["state"] == "RUNNING" for bar in bars.values()) == int(running.sum())
    assert [mark["x"] for mark in records(picture, "marks")] == [at * 1000]


def test_a_window_of_time_holds_what_overlaps_it(few: Held) -> None:
    picture = show(few, begin=BEGIN + 100, end=BEGIN + 110)
    table = few.ledger.bulks[0]
    low, high = picture.values["begin"], picture.values["end"]
    thin = round(400 * picture.values["bin_s"])
    ends = np.where(table.ended > 0, table.ended, np.inf)
    assert len(tasks(picture)) == int(((table.started <= high) & (ends >= low)).sum())
    assert all(low * 1000 <= bar["x"] < bar["x1"] <= high * 1000 + thin for bar in records(picture))


def test_many_tasks_are_told_in_few_marks(many: Held) -> None:
    picture = show(many)
    bars = records(picture)
    assert picture.values["binned"] and len(bars) <= MOST_BARS + MOST_BINS and not tasks(picture)
    table = many.ledger.bulks[0]
    failed = int((table.state == TaskState.FAILED).sum())
    assert failed and any(bar["state"] == "FAILED" for bar in bars)
    lanes = len(records(picture, "lanes"))
    busy = [bar for bar in bars if bar["state"] == "BUSY"]
    assert len({bar["key"].split(":")[0] for bar in busy}) == lanes == 6
    # Zoomed in, they are drawn one by one.
    near = show(many, begin=BEGIN + 100, end=BEGIN + 100.5, focus="node3")
    assert not near.values["binned"] and len(tasks(near)) == near.values["matched"] > 0


def test_a_thousand_nodes_fit_into_the_lanes_of_a_screen() -> None:
    picture = show(made(3000, nodes=1000), rows=40)
    assert 20 <= len(records(picture, "lanes")) <= 40
    inside = show(made(3000, nodes=1000), rows=40, focus=records(picture, "lanes")[3]["key"])
    assert inside.values["matched"] < picture.values["matched"]


def test_selecting_lights_bars(few: Held) -> None:
    lit = {uid for uid, bar in tasks(show(few, select="t.0.17")).items() if bar["lit"]}
    assert lit == {"t.0.17"}
    assert all(bar["lit"] for bar in tasks(show(few, select="p.0")).values())
    assert not any(bar["lit"] for bar in tasks(show(few, select="t.5")).values())


@pytest.mark.parametrize(
    "window", [{"by": "moon"}, {"color": "x"}, {"focus": "nix"}, {"by": "task", "offset": -1}, {"select": "?"}]
)
def test_a_wrong_window_is_named(few: Held, window: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        show(few, **window)
    assert caught.value.hint


def test_an_empty_session_says_so() -> None:
    picture = show(Held())
    assert picture.values["note"] and records(picture) == []
