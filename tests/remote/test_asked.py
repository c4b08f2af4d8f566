"""What a person asks of a batch system out of turn: how it stands now, to hold a job back, to let it go."""

from __future__ import annotations

import json
import time

import pytest
from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm import cli
from jupyter_rm.client.session import Session

SLURM = "slurm+ssh://alice@tb-slurm"


def test_status_on_demand_asks_the_batch_system_and_not_a_memory(
    far: Far, study: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    held = study.pilot(SLURM, nodes=1, options={"hold": "true"})
    assert held.wait("QUEUED", 60) == "QUEUED", held.reason
    until(lambda: "held" in held.reason, lambda: held.reason)
    far.cluster.run("scancel", held.job_id)
    began = time.monotonic()
    assert cli.main(["--json", "status", "--refresh", "-s", study.name]) == 0
    took = time.monotonic() - began
    told = json.loads(capsys.readouterr().out)["pilots"][0]
    assert told["state"] == "FAILED", told  # what it is told of is what was heard just now
    assert "cancel" in told["reason"].lower()
    assert took < 15, took  # 5 s on a quiet machine
    assert study.refresh()[0].state == "FAILED"  # nothing lives: nobody has to be asked


def test_a_job_is_held_and_released(far: Far, study: Session) -> None:
    pilot = study.pilot(SLURM, nodes=1, options={"hold": "true"})
    assert pilot.wait("QUEUED", 60) == "QUEUED", pilot.reason
    pilot.release()
    active(pilot)
    with pytest.raises(jrm.RequestError, match="its job runs"):
        pilot.hold()
    assert pilot.refresh() == "ACTIVE"
    here = study.pilot("local", cores=1)
    with pytest.raises(jrm.RequestError, match="no job at a batch system"):
        here.hold()
    assert here.wait("ACTIVE", 60) == "ACTIVE"
    assert here.refresh() == "ACTIVE"
