"""What is sent of a view when one task in a hundred changes: five percent of the whole at most, wherever they are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ledger_kit import BEGIN, WORDS, Held
from test_lines import runs, show, waits, world

from jupyter_rm.model import facts as f
from jupyter_rm.model.describe import Template
from jupyter_rm.model.resources import Request
from jupyter_rm.model.states import TaskState
from jupyter_rm.views import catalog
from jupyter_rm.views.feed import Cutter, patch
from jupyter_rm.views.queue import FEW_JOBS
from jupyter_rm.views.windows import Window

TASKS, NODES = 200_000, 20_000
SMALL = 4_000  # bytes of a picture of which the frame around a change is a part worth mention
WINDOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "tasks": ("tasks", {}),
    "racks": ("nodes", {}),
    "nodes": ("nodes", {"level": "node", "limit": 4000}),
    "racks by load": ("nodes", {"color": "load"}),
    "racks by submission": ("nodes", {"color": "task"}),
    "timeline": ("timeline", {}),
    "timeline of tasks": ("timeline", {"by": "task"}),
    "usage": ("usage", {}),
    "queue": ("queue", {}),
}


def busy() -> Held:
    """20,000 nodes of 64 cores, 200,000 tasks of two submissions: half over, most of the rest running."""
    held, rng = Held(), np.random.default_rng(5)
    held.pilot(nodes=NODES, cores=64)
    half = TASKS // 2
    for number, cores in enumerate((1, 4)):
        request = Request(cores=cores, mem=512)
        template = Template(executable="x", request=request)
        held.apply(f.BulkSubmitted(number, number.to_bytes(16, "big"), BEGIN + 1, half, template, {}))
        begun = np.arange(int(0.9 * half))
        held.start(number, begun, node=rng.integers(0, NODES, len(begun)), at=BEGIN + rng.uniform(10, 3000, len(begun)))
        over = begun[: half // 2]
        states = rng.choice([TaskState.DONE, TaskState.FAILED], len(over), p=[0.99, 0.01])
        held.end(number, over, states, at=held.ledger.bulks[number].started[over] + rng.uniform(1, 500, len(over)))
    return held


def change(held: Held, rng: np.random.Generator, how: str, now: float) -> None:
    """End half a percent of the tasks and begin as many: on few nodes, on the same ones anywhere, or on any others."""
    for number, table in enumerate(held.ledger.bulks):
        running = np.flatnonzero(table.state == TaskState.RUNNING)
        if how == "near":
            running = running[table.node[running] < NODES // 100]
        ended = np.unique(rng.choice(running, min(len(running), len(table) // 200), replace=False))
        begun = np.flatnonzero(table.state == TaskState.WAITING)[: len(ended)]
        node = table.node[ended].copy() if how != "apart" else rng.integers(0, NODES, len(begun))
        held.end(number, ended, rng.choice([TaskState.DONE, TaskState.FAILED], len(ended), p=[0.99, 0.01]), at=now)
        held.start(number, begun, node=node[: len(begun)], at=now)


@pytest.fixture(scope="module")
def story() -> Iterator[tuple[Held, dict[str, tuple[Cutter, Any]], dict[str, int]]]:
    held = busy()
    cutters: dict[str, tuple[Cutter, Any]] = {}
    whole = {}
    for name, (view, window) in WINDOWS.items():
        cutter = Cutter()
        body = cutter.cut(catalog.picture(view, held, WORDS, Window(**window), BEGIN + 3600), {"id": "v"})
        assert body is not None
        cutters[name] = cutter, patch({}, json.loads(body))
        whole[name] = len(body)
    yield held, cutters, whole


@pytest.mark.parametrize("how", ["near", "far", "apart"])
def test_one_task_in_a_hundred_is_five_percent_at_most(
    story: tuple[Held, dict[str, tuple[Cutter, Any]], dict[str, int]], how: str
) -> None:
    held, cutters, whole = story
    rng, told = np.random.default_rng(len(how)), {}
    now = BEGIN + 3600 + next(_seconds)
    change(held, rng, how, now)
    for name, (view, window) in WINDOWS.items():
        cutter, screen = cutters[name]
        picture = catalog.picture(view, held, WORDS, Window(**window), now)
        body = cutter.cut(picture, {"id": "v"})
        if view == "queue":
            # It shows pilots and jobs; that time has gone on is told every few seconds, in what a bar has grown.
            assert body is None or set(json.loads(body)["tables"]) == {"bars"}, body
            told[name] = round(100 * len(body or b"") / whole[name], 2)
            continue
        assert body is not None, f"{name}: nothing has changed"
        screen = patch(screen, json.loads(body))
        cutters[name] = cutter, screen
        for table, made in picture.tables.items():
            assert screen["tables"][table]["rows"] == made.rows, (name, table)
        told[name] = round(100 * len(body) / whole[name], 2)
    print(f"\n{how}: percent of the whole: {told}; bytes of the whole: {whole}")
    assert all(share <= 5.0 for name, share in told.items() if whole[name] > SMALL), told
    assert {"racks", "nodes", "timeline"} <= {name for name, size in whole.items() if size > 50_000}, whole


@pytest.mark.parametrize("length", [100, 200, 450, 2000])
def test_one_job_in_a_hundred_that_starts_is_five_percent_at_most(length: int) -> None:
    """Everybody behind them moves up, in the list and in the drawn line; a pilot of one's own stands among them."""
    cutter, told, screen = Cutter(), list[int](), dict[str, Any]()
    many = min(length, FEW_JOBS) // 100  # of those that are listed
    for begun in (range(0), range(many), {*range(many), *range(20, 20 + many)}, range(0, 3 * many, 2)):
        jobs = [
            runs(n, f"user{n % 17}", f"n{n % 8 + 1:02d}") if n in begun
            else waits(n, f"user{n % 17}", 10_000 - n, reason_text="waits for nodes")
            for n in range(length)
        ]  # fmt: skip
        jobs.append(waits(900_000, "me", 10_000 - 45.5, reason_text="waits for nodes"))
        body = cutter.cut(show(world(jobs)), {"id": "v"})
        assert body is not None
        told.append(len(body))
        screen = patch(screen, json.loads(body))
    made = show(world(jobs))
    assert all(screen["tables"][name]["rows"] == table.rows for name, table in made.tables.items())
    print(f"\n{length} jobs: {told[0]} bytes, then {[round(100 * size / told[0], 2) for size in told[1:]]} %")
    assert max(told[1:]) <= 0.05 * told[0], told


_seconds = itertools.count()
