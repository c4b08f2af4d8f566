"""What counts as proof that nothing of a local pilot runs any more."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jupyter_rm.agent.__main__ import own_node
from jupyter_rm.broker.jobs import LocalJobs, _Job
from jupyter_rm.model.effects import StartPilot
from jupyter_rm.model.facts import PilotSpec
from jupyter_rm.runtime import probe
from jupyter_rm.runtime.clock import Clock
from jupyter_rm.runtime.drive import Drive
from jupyter_rm.runtime.home import Home
from jupyter_rm.runtime.probe import NodeFacts


def test_a_removed_directory_is_no_proof_that_a_pilot_is_gone(tmp_path: Path) -> None:
    job = _Job("0-s", 0, tmp_path / "removed")
    assert not LocalJobs._gone(job)
    job.pid = os.getpid()
    assert not LocalJobs._gone(job)
    over = subprocess.Popen(["/bin/true"])
    over.wait()
    job.pid = over.pid
    assert LocalJobs._gone(job)


def test_a_relative_sandbox_counts_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    jobs = LocalJobs(Home.locate(environ={}), Drive(Clock(), list), "", lambda news: None)
    for asked in ("work/here", "~/work/here", str(tmp_path / "work/here")):
        order = StartPilot("0-s", 0, PilotSpec(sandbox=asked), b"")
        assert jobs._sandbox(order) == tmp_path / "work/here", asked
    assert (tmp_path / "work/here").is_dir()


def test_a_machine_larger_than_a_node_can_be_is_used_as_far_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = NodeFacts(
        "huge", list(range(768)), None, 1 << 20, [], [list(range(384)), list(range(384, 768))], 1 << 20, []
    )
    monkeypatch.setattr(probe, "probe_node", lambda place: huge)
    spec = {"site": "local", "nodes": 0, "cores": 0, "gpus": 0, "mem": 0}
    node, pin, _ = own_node(spec, None, tmp_path)
    assert (node.cores, len(node.core_ids), pin) == (512, 512, True)


def test_what_was_asked_for_in_vain_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = NodeFacts("small", [0, 1], None, 2048, [], [[0, 1]], 1 << 20, [])
    monkeypatch.setattr(probe, "probe_node", lambda place: small)
    spec = {"site": "local", "nodes": 0, "cores": 2, "gpus": 1, "mem": 1 << 20}
    node, _, lacking = own_node(spec, None, tmp_path)
    assert (node.gpus, node.mem) == (1, 2048)
    assert lacking == "gpus: 1 asked for, none found there; mem: 1.0 TiB asked for, 2.0 GiB there"
    assert own_node({**spec, "gpus": 0, "mem": 1024}, None, tmp_path)[2] == ""
