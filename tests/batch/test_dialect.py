"""A batch system that nobody has ever seen, added with one TOML file and no Python, keeps the whole contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_rm.batch import (
    Acknowledged,
    BatchError,
    JobRecord,
    JobState,
    NodeRecord,
    QueueRecord,
    Submitted,
    check,
    load,
)
from jupyter_rm.model.errors import RequestError

TOML = r"""
extends = "base"
title = "Zorp"
detect = ["zput"]
id = 'Z[0-9]+'
nothing = ["?"]

[attributes]
ids.pattern = 'Z[0-9]+'
name.args = ["++called", "{value}<~{token}>"]
name.default = "job"
token.required = true
queue.args = ["++lane={value}"]
nodes.args = ["++boxes={value}<x{cores_per_node}>"]
walltime.args = ["++until={value:hm}"]
mem_per_node.args = ["++ram={value:gib}G"]
exclusive.map = { true = "alone", false = "shared" }
exclusive.args = ["++mode={value}"]
exclusive.args_false = ["++mode={value}"]

[attributes.colour]
type = "choice"
choices = ["red", "blue"]
default = "red"
depends = "queue == 'rainbow' and not exclusive"
args = ["++colour={value}"]
env = { ZCOLOUR = "{value}" }

[attributes.licences]
type = "list"
pattern = '[a-z]+'
each = true
args = ["++licence={value:each}"]

[ops.submit]
argv = ["zput", "{attributes}", "++run", "{script}", ["++with", "{spec}"]]
reader = "ticket"

[ops.status]
argv = ["zlook", "++only={ids}"]
reader = "look"
gone = 'who is (?P<id>Z[0-9]+)\?'

[ops.cancel]
argv = ["zstop", "{ids:each}"]
gone = 'who is (?P<id>Z[0-9]+)\?'

[ops.nodes]
argv = ["zboxes"]
reader = "boxes"

[ops.queues]
argv = ["zlanes"]
reader = "lanes"

[readers.ticket]
format = "regex"
stream = "stderr"
pattern = '^ticket no\. (?P<id>Z[0-9]+) \(thank you\)$'
must = true
fields = { id = "id" }

[readers.look]
format = "blocks"
start = '^@@ Z[0-9]+'
pair = '^(?:@@ )?(?P<key>Z(?=[0-9])|[a-z]+(?= is ))(?: is )?(?P<value>.*)$'
empty = '^nobody here$'

[readers.look.fields]
id = { path = "Z", match = '^[0-9]+', map = { "7" = "Z7", "8" = "Z8", "9" = "Z9" } }
state = "mood"
reason = "because"
nodes = { path = "boxes", form = "hostlist" }
start = "since"
token = { path = "called", match = '~(jrm[a-z0-9]{6,32})$' }
exit = "verdict"

[readers.boxes]
format = "table"
header = '^BOX +FEELS'
columns = ["box", "feels", "cores", "remarks"]
fields = { name = "box", state = "feels", cores = "cores", reason = "remarks" }

[readers.lanes]
format = "xml"
rows = "lane"
header = "lanes"
fields = { name = "@id", max_walltime_s = "limit", max_nodes = "boxes/@most" }

[states]
yawning = "queued"
busy = "running"
"gone home" = "ended"

[reasons]
crowded = "waits for boxes to become free"

[node_states]
fine = "free"
ill = "offline"

[errors.rude]
match = 'go away, (?P<who>\w+)'
say = "it does not like {who}"
hint = "ask somebody who knows it"

[job]
id = ["ZTICKET"]
nodes = [{ var = "ZBOXES", form = "hostlist" }]
"""
VALUES = {"token": "jrm0a1b2c3d", "script": "/home/a/b.sh", "spec": "/home/a/spec"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "zorp.toml").write_text(TOML)
    return tmp_path


def test_the_whole_contract(place: Path) -> None:
    assert check("zorp", [place]) == [] and check(place / "zorp.toml") == []
    zorp = load("zorp", [place])

    more = {**VALUES, "name": "relax", "nodes": 2, "cores_per_node": 8, "walltime": "1h1s", "mem_per_node": "1500MiB"}
    command = zorp.render("submit", {**more, "queue": "rainbow", "licences": ["matlab", "ansys"]})
    assert command.argv == (
        "zput", "++called", "relax~jrm0a1b2c3d", "++lane=rainbow", "++boxes=2x8", "++ram=2G", "++until=1:01",
        "++colour=red", "++licence=matlab", "++licence=ansys", "++run", "/home/a/b.sh", "++with", "/home/a/spec",
    )  # fmt: skip
    assert command.env == {"ZCOLOUR": "red"}
    bare = zorp.render("submit", {"token": "jrm0a1b2c3d", "script": "/x", "exclusive": True})
    assert bare.argv == ("zput", "++called", "job~jrm0a1b2c3d", "++boxes=1", "++mode=alone", "++run", "/x")
    assert "++mode=shared" in zorp.render("submit", {**VALUES, "exclusive": False}).argv

    # Split, noisy and on the wrong stream: still one id.
    assert zorp.read("submit", "", "warning: 12\nticket no. Z7 (thank you)\nbye\n") == Submitted(
        "Z7", warnings="warning: 12\nticket no. Z7 (thank you)\nbye"
    )
    listing = """@@ Z7
called is relax~jrm0a1b2c3d
mood is busy
boxes is b[1-2]
since is 2026-11-22T02:18:56Z
@@ Z8
mood is yawning
because is crowded
"""
    found = zorp.read("status", listing, asked=["Z7", "Z8", "Z9"])
    assert isinstance(found, list) and all(isinstance(one, JobRecord) for one in found)
    seven, eight, nine = (one for one in found if isinstance(one, JobRecord))
    assert (seven.state, seven.token, seven.nodes, seven.start) == (
        JobState.RUNNING,
        "jrm0a1b2c3d",
        ("b1", "b2"),
        1795313936.0,
    )
    assert (eight.state, eight.reason_text) == (JobState.QUEUED, "waits for boxes to become free")
    assert nine.state is JobState.UNKNOWN
    assert zorp.read("status", "nobody here\n", asked=["Z7"])[0].state is JobState.UNKNOWN  # type: ignore[index,union-attr]
    assert zorp.read("status", "", "who is Z9?\n", 3, asked=["Z9"])[0].state is JobState.UNKNOWN  # type: ignore[index,union-attr]
    ended = zorp.read("status", "@@ Z7\nmood is gone home\nverdict is 3\n@@ Z8\nmood is gone home\n")
    assert isinstance(ended, list) and [getattr(one, "state", None) for one in ended] == [
        JobState.FAILED,
        JobState.ENDED,
    ]
    with pytest.raises(BatchError, match="cannot be read"):
        zorp.read("status", "segmentation fault\n")
    with pytest.raises(BatchError, match="it does not like alice") as caught:
        zorp.read("submit", "", "go away, alice\n", 1)
    assert caught.value.refused and caught.value.raw == "go away, alice"

    assert zorp.render("cancel", {"ids": ["Z7", "Z9"]}).argv == ("zstop", "Z7", "Z9")
    assert zorp.read("cancel", "ok\n", "who is Z9?\n", 3) == Acknowledged(("Z9",), "ok")
    nodes = zorp.read(
        "nodes",
        "Boxes\nBOX   FEELS  CORES  REMARKS\nb1    fine   8      all is well\nb2    ill    8      has a cold\n",
    )
    assert nodes == [
        NodeRecord("b1", "free", "fine", 8, reason="all is well"),
        NodeRecord("b2", "offline", "ill", 8, reason="has a cold"),
    ]
    lanes = zorp.read("queues", '<lanes><lane id="rainbow"><limit>2-00:00:00</limit><boxes most="9"/></lane></lanes>')
    assert lanes == [QueueRecord("rainbow", max_walltime_s=172800.0, max_nodes=9)]
    assert zorp.job({"ZTICKET": "Z7", "ZBOXES": "b[1-2]"}, str).nodes == (("b1", 0), ("b2", 0))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"colour": "blue"}, "colour"),
        ({"queue": "rainbow", "colour": "green"}, "colour"),
        ({"queue": "rainbow", "exclusive": True, "colour": "blue"}, "colour"),
        ({"licences": ["matlab", "Ansys"]}, "licences"),
        ({"nodes": 0}, "nodes"),
        ({"nodes": 2.5}, "nodes"),
        ({"nodes": True}, "nodes"),
        ({"walltime": "soon"}, "walltime"),
        ({"walltime": "0s"}, "walltime"),
        ({"mem_per_node": "4 apples"}, "mem_per_node"),
        ({"exclusive": "yes"}, "exclusive"),
        ({"gpus_per_node": 1}, "gpus_per_node"),
        ({"token": None}, "token"),
        ({"wings": 2}, "'wings'"),
        ({"script": None}, "script"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(place: Path, values: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        load("zorp", [place]).render("submit", {**VALUES, **values})
    assert caught.value.message.startswith(f"{field}: ") and caught.value.hint


def test_discovered_choices_bind(place: Path) -> None:
    zorp = load("zorp", [place])
    assert zorp.attributes["queue"].choices_from == "queues"
    assert "++lane=fast" in zorp.render("submit", {**VALUES, "queue": "fast"}, {"queue": ["fast", "slow"]}).argv
    with pytest.raises(RequestError, match=r"^queue: 'rainbow' is not one of fast, slow"):
        zorp.render("submit", {**VALUES, "queue": "rainbow"}, {"queue": ["fast", "slow"]})


def test_operations_that_are_not_there_are_said(place: Path) -> None:
    with pytest.raises(RequestError, match="Zorp has no operation 'hold'"):
        load("zorp", [place]).render("hold", {"ids": ["Z1"]})
    with pytest.raises(RequestError, match=r"^ids: needed to cancel"):
        load("zorp", [place]).render("cancel")
