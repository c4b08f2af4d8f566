"""Machines of any shape: twelve schemes, uniform and not, in which names and places lead to each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger_kit import BEGIN, WORDS, Held

from jupyter_rm.model import facts as f
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.states import PilotState
from jupyter_rm.views import catalog, layout
from jupyter_rm.views.chart import chart
from jupyter_rm.views.gather import gather
from jupyter_rm.views.windows import Window


def group(name: str, nodes: str, **more: int) -> str:
    extra = "".join(f"{key} = {value}\n" for key, value in more.items())
    return f'[[group]]\nname = "{name}"\nnodes = "{nodes}"\n{extra}'


# Name, description, levels above a node, groups, nodes.
SCHEMES = [
    ("flat", group("all", "n[001-128]"), 1, 1, 128),
    ("racks", group("rack[01-16]", "r{0}-n[1-32]"), 1, 16, 512),
    ("rows of racks", group("row[1-4]/rack[01-08]", "r{0}-{1}-n[1-16]"), 2, 32, 512),
    ("torus", group("R[0-1]/M[0-1]/N[00-15]", "R{0}-M{1}-N{2}-J[00-31]"), 3, 64, 2048),
    ("racks of different sizes", group("r1", "a[1-10]") + group("r2", "a[11-13]") + group("r3", "a14"), 1, 3, 14),
    ("two kinds of nodes", group("cpu/rack[1-2]", "c{0}n[1-8]") + group("gpu", "g[1-4]"), 2, 3, 20),
    ("levels of different depth", group("a/b/c[1-2]", "x{0}y[1-2]") + group("d", "z[1-3]"), 3, 3, 7),
    ("with a step", group("odd", "n[1-9:2]") + group("even", "n[2-8:2]"), 1, 2, 9),
    ("names one by one", group("login", "alpha,beta,gamma") + group("rest", "delta,e[1-2]"), 1, 2, 6),
    ("zeros and none", group("z", "n[008-011]") + group("y", "n[8-11]"), 1, 2, 8),
    ("two ranges in a name", group("cage[0-1]", "c{0}-[0-1]s[0-3]"), 1, 2, 16),
    ("another order than in the name", group("x[0-1]/y[0-2]", "n{1}{0}"), 2, 6, 6),
]


@pytest.mark.parametrize(("name", "text", "depth", "groups", "nodes"), SCHEMES, ids=[each[0] for each in SCHEMES])
def test_names_and_places_lead_to_each_other(
    name: str, text: str, depth: int, groups: int, nodes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = layout.parse(text, name)
    hosts = [host for each in plan.groups for host in each.hosts]
    assert (len(plan.groups), len(hosts), len(set(hosts))) == (groups, nodes, nodes)
    assert max(each.path.count("/") + 1 for each in plan.groups) == depth
    (tmp_path / "machine.toml").write_text(text)
    monkeypatch.setenv("JUPYTER_RM_LAYOUTS", str(tmp_path))
    held = Held()
    held.apply(f.PilotRequested(0, b"k" * 16, BEGIN, f.PilotSpec(site="local")))
    some = tuple(f.Node(host, 4) for host in hosts[:: max(1, nodes // 7)])
    held.apply(f.PilotChanged(0, PilotState.ACTIVE, BEGIN + 1, nodes=some))
    drawn = chart(gather(held).pilots, "physical")
    assert drawn.names == hosts, "every node stands there, held or not"
    assert all(drawn.names[drawn.places[host]] == host for host in hosts)
    for each in plan.groups:
        begin, end, _ = drawn.span(each.path)
        assert tuple(drawn.names[begin:end]) == each.hosts
    # Way down by what is shown: from the system to one node, and the way back.
    focus, host = "", hosts[-1]
    for _ in range(depth + 1):
        parts = drawn.parts(focus, 4000)
        focus = next(part.key for part in parts if part.begin <= drawn.places[host] < part.end)
    assert focus == host and drawn.crumbs(host)[-1][0] == host
    made = catalog.picture("nodes", held, WORDS, Window(level="node", select="p.0"), BEGIN + 9).tables["cells"]
    lit = made.columns.index("lit")
    assert sum(row[lit] for row in made.rows) == len(some)


@pytest.mark.parametrize(
    "text",
    [
        group("a", "n[1-4]") + group("b", "n[4-6]"),  # a node in two places
        group("r[1-2]", "n[1-3]"),  # the same nodes in both racks
        group("r[1-2]", "n{1}"),  # stands for nothing
    ],
)
def test_what_is_ambiguous_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="stands"):
        layout.parse(text)
