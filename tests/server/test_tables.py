"""Windows of tables: the same rows as sorting everything would give, and texts fit to be shown."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_kit import BEGIN, WORDS, Held

from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.ids import task_uid
from jupyter_rm.model.states import TaskState
from jupyter_rm.views import pictures, tables
from jupyter_rm.views.texts import line, plain


@pytest.fixture(scope="module")
def held() -> Held:
    """Two submissions in all states: 300 and 50 tasks."""
    rng = np.random.default_rng(5)
    held = Held()
    held.bulk(300, "job-{x}", x=rng.integers(0, 20, 300), label=[f"l{i}" for i in range(300)])
    held.bulk(50, "other")
    held.pilot(nodes=4)
    held.pilot(nodes=1)
    held.start(0, np.arange(0, 200), pilot=0, node=np.arange(200) % 4, at=BEGIN + 10 + rng.integers(0, 30, 200))
    held.start(1, [3, 4, 5], pilot=1, at=BEGIN + 11)
    states = rng.choice([TaskState.DONE, TaskState.FAILED], 150)
    held.end(0, np.arange(0, 150), states, at=BEGIN + 40 + rng.integers(0, 9, 150))
    held.ledger.bulks[0].notes[7] = "cannot open \x1b[31mfile\x1b[0m"
    return held


def everything(held: Held) -> list[dict[str, Any]]:
    places = [(number, index) for number, table in enumerate(held.ledger.bulks) for index in range(len(table))]
    return [dict(zip(tables.COLUMNS, row, strict=True)) for row in tables.rows(held, places, WORDS.task)]


def window(held: Held, offset: int = 0, limit: int = 1000, **given: str) -> list[str]:
    page = tables.select(held, tables.Query.of(given), offset, limit)
    return [task_uid(*place) for place in page.places]


def expected(held: Held, key: Any, descending: bool) -> list[str]:
    """Sort all rows in Python: missing last, ties in the order of submission."""
    rows = everything(held)

    def rank(row: dict[str, Any]) -> float:
        value = key(row)
        return math.inf if value is None else -value if descending else value

    return [row["uid"] for row in sorted(rows, key=rank)]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("started", lambda row: row["started"]),
        ("ended", lambda row: row["ended"]),
        ("exit_code", lambda row: row["exit_code"]),
        ("state", lambda row: TaskState[row["state"]]),
        ("duration", lambda row: row["ended"] - row["started"] if row["ended"] else None),
        ("node", lambda row: int(row["node"][4:]) if row["node"] else None),
        ("pilot", lambda row: int(row["pilot"][2:]) if row["pilot"] else None),
    ],
)
def test_sorting_is_that_of_all_rows(held: Held, sort: str, key: Any, order: str) -> None:
    whole = expected(held, key, order == "desc")
    assert window(held, sort=sort, order=order) == whole
    for offset, limit in ((0, 5), (10, 7), (340, 30), (0, 1), (100, 0)):
        assert window(held, offset, limit, sort=sort, order=order) == whole[offset : offset + limit]


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, math.inf]), max_size=300), st.integers(0, 320), st.integers(0, 40))
@settings(max_examples=200, deadline=None)
def test_the_lowest_are_those_of_a_stable_sort(keys: list[float], offset: int, limit: int) -> None:
    found = tables.lowest(np.array(keys, float), offset, limit).tolist()
    assert found == sorted(range(len(keys)), key=keys.__getitem__)[offset : offset + limit]


def test_filters_choose_what_they_say(held: Held) -> None:
    rows = everything(held)
    failed = [row["uid"] for row in rows if row["state"] == "FAILED"]
    assert failed and window(held, state="failed") == failed
    assert window(held, cause="TASK_EXIT") == failed
    assert window(held, state="FAILED, RUNNING", bulk="t.1") == ["t.1.3", "t.1.4", "t.1.5"]
    assert window(held, pilot="p.1") == ["t.1.3", "t.1.4", "t.1.5"]
    assert window(held, search="t.0.17") == ["t.0.17"]
    assert len(window(held, search="t.1")) == 50
    assert window(held, search="Cannot OPEN") == ["t.0.7"]
    assert len(window(held, search="SIMULATE")) == 350
    assert window(held, search="nowhere") == []
    assert window(held, state="CANCELED") == []
    assert window(held, state="RUNNING", sort="started", order="desc", limit=3)[0] in window(held, state="RUNNING")
    x = held.ledger.bulks[0].form.columns["x"].array()
    best = max(range(150), key=lambda index: (x[index], -index))
    assert window(held, sort="param:x", order="desc", pilot="p.0", limit=1, state="DONE,FAILED") == [f"t.0.{best}"]


def test_a_window_past_the_end_shows_the_last_task(held: Held) -> None:
    page = tables.select(held, tables.Query(), 10_000, 10)
    assert (page.offset, page.places, page.total) == (349, [(1, 49)], 350)
    assert tables.select(Held(), tables.Query(), 5, 10).places == []


@pytest.mark.parametrize(
    "given",
    [
        {"state": "BUSY"},
        {"cause": "bad luck"},
        {"sort": "colour"},
        {"sort": "param:"},
        {"order": "up"},
        {"bulk": "p.0"},
        {"pilot": "t.0"},
        {"what": "x"},
        {"search": "x" * 201},
        {"search": 7},
    ],
)
def test_a_wrong_filter_is_named(given: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        tables.Query.of(given)
    assert caught.value.hint


def test_sorting_by_a_parameter_of_texts_is_refused(held: Held) -> None:
    with pytest.raises(RequestError, match="label holds texts"):
        tables.select(held, tables.Query.of({"sort": "param:label"}))


def test_names_get_their_parameters(held: Held) -> None:
    x = held.ledger.bulks[0].form.columns["x"].array()
    assert [row["name"] for row in everything(held)[:3]] == [f"job-{value}" for value in x[:3]]
    assert everything(held)[-1]["name"] == "other"


def test_activity_adds_up(held: Held) -> None:
    picture = pictures.activity(held, BEGIN + 60, bins=100)
    table = picture.tables["activity"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert 50 <= len(rows) <= 100
    counts = pictures.counts_of(held.ledger)
    assert sum(row["started"] for row in rows) == 203
    assert sum(row["done"] for row in rows) == counts["DONE"]
    assert sum(row["failed"] for row in rows) == counts["FAILED"]
    assert rows[-1]["running"] == counts["RUNNING"] and max(row["running"] for row in rows) > counts["RUNNING"]
    # Time goes on: bins keep their places, so that little has to be sent.
    later = pictures.activity(held, BEGIN + 61, bins=100).tables["activity"].rows
    assert later[: len(rows) - 1] == table.rows[:-1]
    # A window that begins later counts what ran before.
    late = pictures.activity(held, BEGIN + 60, bins=100, begin=BEGIN + 45).tables["activity"].rows
    whole = {row["at"]: row["running"] for row in rows}
    assert [row[5] for row in late if row[0] in whole] == [whole[row[0]] for row in late if row[0] in whole]


@pytest.mark.parametrize("begin", [-1e300, 0.0, BEGIN + 59.9, BEGIN + 1e6, 1e300])
def test_any_left_edge_gives_a_picture(held: Held, begin: float) -> None:
    table = pictures.activity(held, BEGIN + 60, bins=100, begin=begin).tables["activity"]
    assert 1 <= len(table.rows) <= 100
    assert len({row[0] for row in table.rows}) == len(table.rows), "every bin has its own key"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07text", "text"),
        ("10%\r50%\r100%\n", "100%\n"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("user\u202egpj.exe", "user\N{REPLACEMENT CHARACTER}gpj.exe"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("tab\tand\x00zero", "tab\tand\N{REPLACEMENT CHARACTER}zero"),
        ("\x9b31mc1", "c1"),
        ("unfinished \x1b[3", "unfinished "),
        ("no \udcff UTF-8", "no \N{REPLACEMENT CHARACTER} UTF-8"),
        ("ümläut 漢字 👍", "ümläut 漢字 👍"),
    ],
)
def test_text_is_made_plain(given: str, shown: str) -> None:
    assert plain(given) == shown


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_terminal_command_survives(text: str) -> None:
    shown = plain("\x1b" + text + "\x1b[0m")
    assert not set(shown) & {"\x1b", "\x9b", "\x07", "\x08", "\r", "\u202e"}
    assert plain(shown) == shown
    assert "\n" not in line(text) and len(line(text * 20)) <= 300
