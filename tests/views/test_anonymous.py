"""Pictures without names: nothing of a person, job, host or site is left, whatever the view; all else is the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from ledger_kit import BEGIN, WORDS, Held

from jupyter_rm.batch import JobRecord, JobState, NodeRecord
from jupyter_rm.batch.picture import SitePicture, picture
from jupyter_rm.broker.seen import view_of
from jupyter_rm.model import facts as f
from jupyter_rm.model.describe import Template
from jupyter_rm.model.resources import Node, Request
from jupyter_rm.model.states import PilotState, TaskState
from jupyter_rm.views import catalog, export
from jupyter_rm.views.anonymous import Veil
from jupyter_rm.views.pictures import Picture, Table
from jupyter_rm.views.windows import DRAWN, Window

SITE = "slurm+ssh://zorro@gate.quux.org"
# Names that look like our own colours and states too: hosts are called c1, and a queue busy.
NAMES = ["zorro", "yolanda", "gate.quux.org", "quux", "wolfgang-relax", "hush", "proj-x", "/home/zorro", "vertigo-run"]
HOSTS = [f"c{number}" for number in range(1, 7)]
WINDOWS: list[tuple[str, dict[str, Any]]] = [
    *((view, {}) for view in (*DRAWN, "summary", "sites", "activity")),
    ("nodes", {"focus": "c3"}),
    ("nodes", {"layout": "logical"}),
    ("nodes", {"layout": "site", "color": "user"}),
    ("timeline", {"by": "pilot"}),
    ("timeline", {"by": "task"}),
    ("queue", {"search": "hush"}),
]


@pytest.fixture(scope="module")
def held() -> Held:
    held = Held()
    held.apply(f.SessionOpened("vertigo-run", BEGIN))
    template = Template(executable="wolfgang-relax", name="wolfgang-relax", request=Request(cores=1))
    held.apply(f.BulkSubmitted(0, b"0" * 16, BEGIN + 1, 40, template, {}))
    held.apply(f.PilotRequested(0, b"1" * 16, BEGIN, f.PilotSpec(site=SITE, name="hush", queue="hush", cores=4)))
    nodes = tuple(Node(name, 4) for name in HOSTS)
    held.apply(f.PilotChanged(0, PilotState.ACTIVE, BEGIN + 3, job_id="990011", reason="takes tasks", nodes=nodes))
    held.apply(
        f.PilotRequested(1, b"2" * 16, BEGIN, f.PilotSpec(site=SITE, name="hush", project="proj-x", queue="hush"))
    )
    held.apply(f.PilotChanged(1, PilotState.QUEUED, BEGIN + 5, job_id="990012", reason="proj-x waits for yolanda"))
    held.apply(f.PilotQueued(1, BEGIN + 6, 3, 9, BEGIN + 900, "squeue of gate.quux.org", "behind yolanda"))
    held.start(0, np.arange(30), node=np.arange(30) % 6)
    held.end(0, np.arange(10), TaskState.FAILED)
    held.ledger.bulks[0].notes[3] = "cannot open /home/zorro/secret"
    jobs = [
        JobRecord("990012", JobState.QUEUED, queue="hush", user="zorro", priority=3, submit=BEGIN),
        JobRecord("990013", JobState.QUEUED, queue="hush", user="yolanda", priority=9, submit=BEGIN, reason="Priority"),
        JobRecord("990014", JobState.RUNNING, queue="hush", user="yolanda", priority=9, submit=BEGIN, nodes=("c6",)),
    ]
    machines = tuple(NodeRecord(name, "busy", "mix", 4, 0, 0, 0.0, "yolanda broke it") for name in HOSTS[:2])
    seen = SitePicture(1, {jobs[0].id: jobs[0]}, queue=picture(jobs, "zorro"), nodes=machines)
    held.sites = {SITE: view_of(SITE, "Slurm at quux", seen)}
    return held


def texts(value: Any) -> list[str]:
    """Return all texts in a value, names of fields too."""
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in texts(each)]
    if isinstance(value, (list, tuple)):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def shape(value: Any) -> Any:
    """Return a value with its texts taken out."""
    if isinstance(value, dict):
        return [shape(each) for each in value.values()]
    if isinstance(value, (list, tuple)):
        return [shape(each) for each in value]
    return "" if isinstance(value, str) else value


@pytest.mark.parametrize(("view", "window"), WINDOWS, ids=[f"{view} {window or ''}" for view, window in WINDOWS])
def test_no_name_is_left_and_all_else_is_the_same(held: Held, view: str, window: dict[str, Any]) -> None:
    made = catalog.picture(view, held, WORDS, Window(**window), BEGIN + 100)
    veiled = Veil(["takes tasks"]).picture(made)
    left = [text for text in texts(veiled.values) for name in NAMES if name in text]
    for name, table in veiled.tables.items():
        for row in table.rows:
            for column, cell in zip(table.columns, row, strict=True):
                found = texts(cell)
                left += [f"{name}.{column}: {text}" for text in found for one in (*NAMES, "99001") if one in text]
                # Hosts are called as colours are: they may stand in columns of colours only.
                colour = column in ("color", "ink") or (name, column) == ("legend", "key")
                left += [f"{name}.{column}: {text}" for text in found if text in HOSTS and not colour]
    assert left == []
    assert list(veiled.tables) == list(made.tables)
    for name, table in made.tables.items():
        assert list(veiled.tables[name].columns) == list(table.columns)
        assert [shape(row) for row in veiled.tables[name].rows] == [shape(row) for row in table.rows], name
        keys = [json.dumps(row[0]) for row in veiled.tables[name].rows]
        assert len(set(keys)) == len(keys), f"{name}: keys are still different from each other"
    assert shape(veiled.values) == shape(made.values)


def test_the_same_name_is_the_same_everywhere_and_states_are_told(held: Held) -> None:
    veil = Veil(["takes tasks"])
    tasks = veil.picture(catalog.picture("tasks", held, WORDS, Window(), BEGIN + 100)).tables["tasks"]
    rows = [dict(zip(tasks.columns, row, strict=True)) for row in tasks.rows]
    assert len({row["name"] for row in rows}) == 1 and rows[0]["name"].startswith("name-")
    assert [row["node"] for row in rows[:6]] == [row["node"] for row in rows[6:12]]
    assert {row["state"] for row in rows} == {"FAILED", "RUNNING", "WAITING"} and rows[3]["reason"] == "failed"
    cells = veil.picture(catalog.picture("nodes", held, WORDS, Window(), BEGIN + 100)).tables["cells"]
    assert {row[1] for row in cells.rows} == {row["node"] for row in rows[:6]}


@pytest.mark.parametrize("view", DRAWN)
def test_a_page_without_names(held: Held, view: str) -> None:
    made = Veil().picture(catalog.picture(view, held, WORDS, Window(), BEGIN + 100))
    page = export.page(view, made, at=BEGIN + 100)
    assert [name for name in NAMES if name in page] == []


def test_what_a_later_version_adds_is_veiled_too() -> None:
    made = Picture(
        {"owner": "zorro", "map": {"zorro": ["zorro"]}, "n": 1},
        {"new": Table(("key", "boss", "state"), [["zorro/c1", "zorro", "zorro"], [3, None, "RUNNING"]])},
    )
    veiled = Veil().picture(made)
    assert "zorro" not in json.dumps([veiled.values, [table.rows for table in veiled.tables.values()]])
    assert veiled.tables["new"].rows[1] == [3, None, "RUNNING"]
