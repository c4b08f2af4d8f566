"""The node map: what stands in its cells is what counting task by task gives, at every level, now and replayed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledger_kit import BEGIN, WORDS, Held

from jupyter_rm.model import facts as f
from jupyter_rm.model.describe import Template
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.resources import Node, Request
from jupyter_rm.model.sites import SiteNode, SiteView
from jupyter_rm.model.states import PilotState, TaskState
from jupyter_rm.views import catalog, layout
from jupyter_rm.views.feed import Cutter, delta
from jupyter_rm.views.pictures import Picture
from jupyter_rm.views.windows import Window

NOW = BEGIN + 500
CORES = (1, 4)


@pytest.fixture(scope="module")
def held() -> Held:
    """300 nodes in two pilots, 4000 tasks of two submissions, half of them over."""
    held, rng = Held(), np.random.default_rng(7)
    held.pilot(nodes=200, cores=16)
    held.pilot(nodes=100, cores=32)
    for number, cores in enumerate(CORES):
        template = Template(executable="x", request=Request(cores=cores))
        held.apply(f.BulkSubmitted(number, number.to_bytes(16, "big"), BEGIN + 1, 2000, template, {}))
        for pilot, nodes in ((0, 200), (1, 100)):
            index = np.arange(pilot * 1000, pilot * 1000 + 1000)
            where, at = rng.integers(0, nodes, 1000), BEGIN + rng.integers(10, 200, 1000)
            held.start(number, index, pilot=pilot, node=where, at=at)
            states = rng.choice([TaskState.DONE, TaskState.FAILED], 500)
            held.end(number, index[:500], states, pilot=pilot, at=BEGIN + rng.integers(200, 400, 500))
    return held


def show(held: Held, now: float = NOW, **window: Any) -> Picture:
    return catalog.picture("nodes", held, WORDS, Window(**window), now)


def records(picture: Picture, table: str = "cells") -> list[dict[str, Any]]:
    made = picture.tables[table]
    return [dict(zip(made.columns, row, strict=True)) for row in made.rows]


def counted(held: Held, at: float | None = None) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Count cores busy, tasks that run, and tasks that failed, per node name, task by task."""
    busy: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for number, table in enumerate(held.ledger.bulks):
        for index in range(len(table)):
            name = f"node{table.node[index]}"
            over = table.state[index] >= TaskState.DONE and (at is None or table.ended[index] <= at)
            if over:
                failed[name] += int(table.state[index] == TaskState.FAILED)
            elif at is None or table.started[index] <= at:
                busy[name] += CORES[number]
                runs[name] += 1
    return busy, runs, failed


@pytest.mark.parametrize("at", [None, BEGIN + 150.0, BEGIN + 300.0])
def test_cells_hold_what_counting_gives(held: Held, at: float | None) -> None:
    busy, runs, failed = counted(held, at)
    cells = records(show(held, at=at, level="node"))
    assert len(cells) == 200, "two pilots on the same host: one cell"
    for cell in cells:
        name = cell["label"]
        most = 16 + (32 if int(name[4:]) < 100 else 0)
        assert (cell["cores"], cell["busy"]) == (most, min(most, busy[name])), name
        assert (cell["running"], cell["failed"]) == (runs[name], failed[name]), name
    racks = records(show(held, at=at))
    assert sum(cell["running"] for cell in racks) == sum(runs.values())
    assert sum(cell["nodes"] for cell in racks) == 200 and len(racks) < 20


def test_going_down_and_back(held: Held) -> None:
    rack = records(show(held))[3]
    inside = show(held, focus=rack["key"])
    nodes = records(inside)
    assert sum(cell["running"] for cell in nodes) == rack["running"] and len(nodes) == rack["nodes"]
    assert inside.values["cores"] == [rack["busy"], rack["cores"]]
    node = next(cell for cell in nodes if cell["running"])
    bottom = show(held, focus=node["key"])
    cores = records(bottom)
    assert bottom.values["level"] == "node" and len(cores) == node["cores"]
    assert sum(cell["state"] == "RUNNING" for cell in cores) == node["busy"]
    assert len({cell["uid"] for cell in cores if cell["uid"]}) <= node["running"]
    trail = records(bottom, "crumbs")
    assert [crumb["key"] for crumb in trail] == ["", rack["key"], node["key"]]
    assert show(held, focus=trail[1]["key"]).tables == inside.tables


def test_never_more_cells_than_asked_for(held: Held) -> None:
    for limit in (1, 7, 100, 4000):
        cells = records(show(held, limit=limit, level="node"))
        assert len(cells) <= limit and sum(cell["nodes"] for cell in cells) == 200
        again = show(held, focus=cells[-1]["key"], limit=limit)
        assert sum(cell["nodes"] or 1 for cell in records(again)) >= 1
    small = records(show(held, level="node", width=80, height=80))
    assert len(small) <= 100, "cells that nobody could point at are put together"


@pytest.mark.parametrize("layout", ["physical", "logical"])
def test_selecting_lights_what_it_is_on(held: Held, layout: str) -> None:
    lit = {cell["label"] for cell in records(show(held, level="node", layout=layout, select="p.1")) if cell["lit"]}
    assert len(lit) == 100
    table = held.ledger.bulks[1]
    cells = records(show(held, level="node", layout=layout, select="t.1.1700"))
    (one,) = [cell["label"] for cell in cells if cell["lit"]]
    assert one.endswith(f"node{table.node[1700]}")
    assert not any(cell["lit"] for cell in records(show(held, select="t.9.1", layout=layout)))


def test_what_is_wrong_with_a_node_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()
    held.pilot(nodes=8)
    held.pilot(nodes=0)
    hosts = tuple(Node(f"m{place}", 8) for place in range(4))
    held.apply(f.PilotChanged(1, PilotState.ACTIVE, BEGIN + 3, nodes=hosts))
    held.apply(f.PilotSilent(1, True, BEGIN + 9))
    monkeypatch.setenv("JUPYTER_RM_LAYOUTS", str(tmp_path))
    (tmp_path / "m.toml").write_text('[[group]]\nname = "left"\nnodes = "node[0-9]"\n[marks]\ndown = "node3"\n')
    states = {cell["label"]: cell["state"] for cell in records(show(held, level="node"))}
    assert states["node3"] == "DOWN" and states["node0"] == "IDLE"
    assert states["node9"] == "ABSENT", "described, and held by nobody here"
    assert {states[f"m{place}"] for place in range(4)} == {"SILENT"}
    assert [cell["label"] for cell in records(show(held))] == ["left", "elsewhere"]
    assert show(held).values["special"] == {"DOWN": 1, "SILENT": 4}
    held.apply(f.PilotSilent(1, False, BEGIN + 10))
    held.apply(f.PilotChanged(1, PilotState.DRAINING, BEGIN + 11))
    states = {cell["label"]: cell["state"] for cell in records(show(held, level="node"))}
    assert states["m0"] == "DRAINED"


@pytest.mark.parametrize(("layout", "prefix"), [("physical", ""), ("logical", "p.0/")])
def test_what_a_batch_system_says_of_nodes_is_shown(layout: str, prefix: str) -> None:
    held = Held()
    held.pilot(nodes=4, cores=8)
    nodes = (
        SiteNode("node1", "offline", "DOWN*"),
        SiteNode("node2", "offline", "IDLE+DRAIN"),
        SiteNode("node3", "busy"),
    )
    held.sites = {"slurm": SiteView("slurm", nodes=nodes)}  # type: ignore[attr-defined]
    states = {cell["label"]: cell["state"] for cell in records(show(held, level="node", layout=layout))}
    assert states == {f"{prefix}node{n}": s for n, s in enumerate(("IDLE", "DOWN", "DRAINED", "IDLE"))}


@pytest.mark.parametrize("color", ["state", "load", "task", "pilot", "user"])
def test_every_cell_has_a_colour_of_the_palette(held: Held, color: str) -> None:
    from jupyter_rm.views.palette import DARK, LIGHT

    picture = show(held, color=color)
    keys = {cell["color"] for cell in records(picture)} | {row["color"] for row in records(picture, "legend")}
    assert keys <= set(LIGHT.keys()[0]) and LIGHT.keys()[0] == DARK.keys()[0]
    assert records(picture, "legend")


def test_a_view_without_nodes_says_so() -> None:
    picture = show(Held())
    assert records(picture) == [] and "No pilot" in picture.values["note"]
    assert Cutter().cut(picture, {})


@pytest.mark.parametrize(
    ("window", "names"),
    [
        ({"focus": "nowhere"}, "nowhere"),
        ({"focus": "@5-2"}, "@5-2"),
        ({"focus": "@0-99999"}, "@0-99999"),
        ({"color": "moon"}, "moon"),
        ({"layout": "odd"}, "odd"),
        ({"limit": 0}, "limit"),
        ({"select": "x"}, "x"),
    ],
)
def test_a_wrong_window_is_named(held: Held, window: dict[str, Any], names: str) -> None:
    with pytest.raises(RequestError, match=names) as caught:
        show(held, **window)
    assert caught.value.hint


def test_little_is_sent_when_little_changes() -> None:
    held = Held()
    held.pilot(nodes=1000, cores=4)
    held.bulk(3000)
    held.start(0, np.arange(2000), node=np.arange(2000) % 1000)
    before = show(held, level="node")
    whole = Cutter().cut(before, {})
    held.start(0, np.arange(2000, 2010), node=np.arange(10) * 97)  # 1 % of the nodes
    after = show(held, level="node")
    changed = delta(before, after)
    steps, values = changed["tables"]["cells"]["cells"]["running"]
    assert len(steps) == 10 and values == [3]
    cutter = Cutter()
    cutter.cut(before, {})
    frame = cutter.cut(after, {})
    assert whole and frame and len(frame) <= 0.05 * len(whole), (len(frame or b""), len(whole or b""))


# ------------------------------------------------------------ descriptions of machines


LAYOUTS = [
    ('[[group]]\nname="all"\nnodes="n[1-4]"', {"all": "n1 n2 n3 n4"}),
    ('[[group]]\nname="rack[1-2]"\nnodes="r{0}n[01-02]"', {"rack1": "r1n01 r1n02", "rack2": "r2n01 r2n02"}),
    (
        '[[group]]\nname="row[a]"\nnodes="n1"\n[[group]]\nname="b"\nnodes="n2"',
        None,  # letters are no range
    ),
    (
        '[[group]]\nname="R[0-1]/M[0-1]"\nnodes="R{0}M{1}[0-1]"',
        {"R0/M0": "R0M00 R0M01", "R0/M1": "R0M10 R0M11", "R1/M0": "R1M00 R1M01", "R1/M1": "R1M10 R1M11"},
    ),
    ('[[group]]\nname="gpu"\nnodes="g[1,3]"\n[[group]]\nname="cpu"\nnodes="c1"', {"gpu": "g1 g3", "cpu": "c1"}),
    ('[[group]]\nname="x"\nnodes="n[1-3:2],m"\ncolumns=2', {"x": "n1 n3 m"}),
]


@pytest.mark.parametrize(("text", "expected"), LAYOUTS)
def test_descriptions_of_machines(text: str, expected: dict[str, str] | None) -> None:
    if expected is None:
        with pytest.raises(RequestError):
            layout.parse(text)
    else:
        assert {group.path: " ".join(group.hosts) for group in layout.parse(text).groups} == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "no group"),
        ("[[group]", "here"),
        ('[[group]]\nname="a"\nnodes=7', r"group\[0\].nodes: 7"),
        ('[[group]]\nname=""\nnodes="n1"', "names no group"),
        ('[[group]]\nname="a"\nnodes="n[2-1]"', "backwards"),
        ('[[group]]\nname="a"\nnodes="n1"\ncolour="red"', "colour"),
        ('[[group]]\nname="a"\nnodes="n1"\n[[group]]\nname="b"\nnodes="n[1-2]"', "n1 stands in a and in b"),
        ('[[group]]\nname="a"\nnodes="n{0}"', "stands for nothing"),
        ('[[group]]\nname="a"\nnodes="n1"\ncolumns=-1', "columns"),
        ('size=3\n[[group]]\nname="a"\nnodes="n1"', "size"),
        ('[[group]]\nname="a"\nnodes="n1"\n[marks]\nbroken="n1"', "broken"),
    ],
)
def test_a_wrong_description_is_told_with_its_place(text: str, names: str) -> None:
    with pytest.raises(RequestError, match=names) as caught:
        layout.parse(text, "here.toml")
    assert "here.toml" in caught.value.message and caught.value.hint and caught.value.code == "JRM-Q67"


def test_names_tell_racks() -> None:
    groups = layout.derived([f"r{rack:02}-n{node}" for rack in range(8) for node in range(20)])
    assert [group.path for group in groups] == [f"r{rack:02}" for rack in range(8)]
    assert groups[0].hosts[:3] == ("r00-n0", "r00-n1", "r00-n2")
    assert len(layout.derived([f"n{i}" for i in range(90)])) == 1
    blocks = layout.derived([f"n{i}" for i in range(5000)])
    assert blocks[0].path == "n0 to n15" and sum(len(block.hosts) for block in blocks) == 5000
