"""Parts of a pilot that tasks are confined to, and nodes that are not alike: nothing lands where it must not."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import jupyter_rm as jrm
from jupyter_rm.client import overview
from jupyter_rm.client.session import Session
from jupyter_rm.core.patience import DEFAULT
from jupyter_rm.core.placing import Floor
from jupyter_rm.model.describe import Task
from jupyter_rm.model.effects import Launch
from jupyter_rm.model.ids import tokens
from jupyter_rm.model.resources import Node


@pytest.mark.parametrize("parts", [1, 4, 16])
def test_sixty_four_nodes_in_parts_and_each_task_in_its_own(bare: Session, parts: int) -> None:
    pilot = bare.pilot("noop", nodes=64, cores=2, partitions=parts)
    assert pilot.wait(timeout=60) == "ACTIVE", pilot.reason
    assert Counter(node.partition for node in pilot.nodes) == dict.fromkeys(range(parts), 64 // parts)
    bulks = [bare.submit([jrm.Task("true", partition=part)] * 50) for part in range(parts)]
    free = bare.submit([jrm.Task("true")] * 50)
    assert free.wait(60)
    assert all(bulk.wait(60) and bulk.counts() == {"DONE": 50} for bulk in bulks)
    with pytest.raises(jrm.RequestError, match=f"there is no partition {parts}"):
        bare.submit(jrm.Task("true", partition=parts))
    # A noop pilot runs nothing anywhere: where its agent's placement puts tasks is looked at here.
    floor = Floor(pilot.nodes, DEFAULT)
    for part in range(parts):
        template = jrm.Task("true", partition=part).template()
        floor.open(part, template)
        floor.add(part, tokens(part, np.arange(50)), template)
    places = []
    while floor.placer.waiting:
        for launch in (effect for effect in floor.place(0.0) if isinstance(effect, Launch)):
            for token, alloc in zip(launch.tokens.tolist(), launch.allocs.tolist(), strict=True):
                places += [(token >> 32, pilot.nodes[slot[1]].partition) for slot in floor.placer.slots(alloc)]
            floor.free(launch.allocs)
    assert len(places) == 50 * parts
    assert all(wanted == got for wanted, got in places)
    with pytest.raises(jrm.RequestError, match=f"there is no partition {parts}"):
        bare.submit(jrm.Task("true", partition=parts))


def test_parts_of_unequal_size_on_real_nodes(bare: Session) -> None:
    pilot = bare.pilot("local", launch="fork", cores=6, partitions=[1, 2])
    assert pilot.wait(timeout=60) == "ACTIVE", pilot.reason
    assert [node.partition for node in pilot.nodes] == [0, 1, 1]
    first, second = (bare.submit([jrm.Shell("echo $JRM_NODE", partition=part)] * 40) for part in (0, 1))
    assert first.wait(60) and second.wait(60)
    names = [node.name for node in pilot.nodes]
    assert {task.stdout().strip() for task in first} == {names[0]}
    assert {task.stdout().strip() for task in second} == set(names[1:])
    wide = bare.submit(jrm.Task("true", ranks=4, cores=1, partition=1))
    assert wide.wait(60) == "DONE", wide.reason
    with pytest.raises(jrm.RequestError, match="can ever hold"):
        bare.submit(jrm.Task("true", ranks=3, cores=1, partition=0))  # its node has two cores
    assert "partition" in repr(overview.nodes(bare))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"nodes": 4, "partitions": 5}, "5 of 4 nodes"),
        ({"nodes": 4, "partitions": [1, 2]}, "2 with 3 nodes of the pilot's 4"),
        ({"nodes": 4, "partitions": [4, 0]}, r"partitions\[1\]"),
        ({"nodes": 4, "partitions": "two"}, "not a whole number"),
    ],
)
def test_parts_that_cannot_be_are_refused(bare: Session, fields: dict[str, object], says: str) -> None:
    with pytest.raises(jrm.RequestError, match=says):
        bare.pilot("noop", **fields)
    assert not bare.pilots()


def test_mixed_nodes_take_only_what_they_have() -> None:
    """4 fat, 4 with GPUs, 8 thin; 200 mixed tasks: all run, none on a node that lacks what it asked for."""
    nodes = [Node(f"fat{n}", 32, 0, 512_000) for n in range(4)]
    nodes += [Node(f"gpu{n}", 16, 4, 128_000) for n in range(4)] + [Node(f"thin{n}", 4, 0, 8_000) for n in range(8)]
    kinds = (
        Task("a", cores=1, mem="1GiB"),
        Task("b", cores=24, mem="64GiB"),
        Task("c", cores=2, gpus=0.5),
        Task("d", cores=4, gpus=2),
        Task("e", cores=4, mem="6GiB"),
        Task("f", cores=1, mem="400GiB"),
        Task("g", ranks=6, cores=4, mem="2GiB"),
    )
    chosen = random.Random(7).choices(range(len(kinds)), k=200)
    floor = Floor(nodes, DEFAULT)
    templates = [kind.template() for kind in kinds]
    for bulk, template in enumerate(templates):
        assert floor.open(bulk, template)[1] == ""
        floor.add(bulk, tokens(bulk, np.arange(chosen.count(bulk), dtype=np.uint32)), template)
    began: Counter[int] = Counter()
    used: set[str] = set()
    now = 0.0
    while sum(began.values()) < 200:
        launched = [effect for effect in floor.place(now) if isinstance(effect, Launch)]
        assert launched, f"{began}: {[floor.why(bulk) for bulk in range(len(kinds))]}"
        held = np.concatenate([effect.allocs for effect in launched])
        load = np.zeros((len(nodes), 3))
        for effect in launched:
            for token, alloc in zip(effect.tokens.tolist(), effect.allocs.tolist(), strict=True):
                bulk = token >> 32
                began[bulk] += 1
                want = templates[bulk].request
                for _, place, cores, gpus in floor.placer.slots(alloc):
                    used.add(nodes[place].name[:3])
                    assert len(cores) == want.cores
                    assert sum(share for _, share in gpus) == want.gpus
                    load[place] += (want.cores, want.gpus / 10_000, want.mem)
        for node, (cores, gpus, mem) in zip(nodes, load, strict=True):
            assert cores <= node.cores and gpus <= node.gpus and mem <= node.mem, (node, cores, gpus, mem)
        floor.free(held)
        now += 1.0
    assert began == Counter(chosen)
    assert used == {"fat", "gpu", "thi"}


def test_what_has_a_name_of_ones_own_is_shared_out(bare: Session, tmp_path: Path) -> None:
    pilot = bare.pilot("local", cores=2, resources={"license": 1})
    assert pilot.wait(timeout=20) == "ACTIVE", pilot.reason
    assert [node.named for node in pilot.nodes] == [(("license", 1),)]
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    first = bare.submit(jrm.Shell(f"read x < {gate}", resources={"license": 1}))
    assert bare._replica.wait(lambda: first.state == "RUNNING", 20), first.state
    second = bare.submit(jrm.Task("/bin/true", resources={"license": 1}))
    assert bare.submit(jrm.Task("/bin/true")).wait(20) == "DONE", "a core is free"
    assert second.state < "RUNNING"
    assert "license" in str(second.explain())
    gate.write_text("go\n")
    assert second.wait(20) == "DONE"
    for asked in ({"license": 2}, {"seat": 1}):
        with pytest.raises(jrm.RequestError, match=next(iter(asked))) as caught:
            bare.submit(jrm.Task("/bin/true", resources=asked))
        assert caught.value.code == "JRM-Q14"
    with pytest.raises(jrm.RequestError, match="resources"):
        bare.pilot("local", resources=["license"])
