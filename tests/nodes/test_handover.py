"""A pilot hands its work over to one like it: on request, and by itself before its time is over. Nothing runs twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm.client.session import Session

WAITS = "until [ -e ../../go ]; do sleep 0.1; done"


@pytest.mark.parametrize("site", ["local", "slurm+ssh://alice@tb-slurm"])
def test_on_request_what_runs_ends_here_and_the_rest_runs_there(far: Far, study: Session, site: str) -> None:
    old = active(study.pilot(site, **({"cores": 2} if site == "local" else {"nodes": 1, "walltime": "20m"})))
    bulk = study.submit([jrm.Task("/bin/sh", ["-c", WAITS])] * 12)
    cores = sum(node.cores for node in old.nodes)
    until(lambda: bulk.counts().get("RUNNING") == cores, lambda: str(bulk.counts()))
    began = [task for task in bulk if task.state == "RUNNING"]
    new = active(old.renew())
    until(lambda: old.state == "DRAINING", lambda: old.reason)
    assert f"{new.uid} has taken over" in old.reason
    assert new._row().spec.nodes == old._row().spec.nodes
    until(lambda: bulk.counts().get("RUNNING") == 2 * cores, lambda: str(bulk.counts()))
    for pilot in (old, new):
        (Path(pilot.sandbox or "") / "go").touch()
    assert bulk.wait(90), bulk.counts()
    assert bulk.counts() == {"DONE": 12}
    assert {task.pilot.uid for task in began} == {old.uid} and {task.attempt for task in began} == {1}
    until(lambda: old.state == "DONE", lambda: f"{old.state} {old.reason}")
    assert new.state == "ACTIVE" and len(study.pilots()) == 2
    with pytest.raises(jrm.RequestError, match="DONE"):
        old.renew()


def test_before_its_time_is_over_a_pilot_is_followed_as_often_as_was_asked(far: Far, study: Session) -> None:
    del far
    first = active(study.pilot("local", cores=2, walltime="8s", drain="2s", renew=2))
    bulk = study.submit([jrm.Task("/bin/sleep", ["1"])] * 26)
    assert bulk.wait(120), bulk.counts()
    assert bulk.counts() == {"DONE": 26}
    pilots = study.pilots()
    assert [pilot._row().spec.replaces for pilot in pilots] == [-1, 0, 1], [pilot.reason for pilot in pilots]
    assert {task.pilot.uid for task in bulk} == {pilot.uid for pilot in pilots}
    assert {task.attempt for task in bulk if task.pilot.uid == first.uid} == {1}, "nothing that began here ran again"
    until(lambda: all(pilot.state == "DONE" for pilot in pilots), lambda: str([one.reason for one in pilots]))
