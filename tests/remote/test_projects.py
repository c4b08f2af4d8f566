"""Projects and queues that a batch system knows: found for forms and completion, and named when others are refused."""

from __future__ import annotations

from remote_kit import Far

from jupyter_rm.client import discover
from jupyter_rm.client.session import Session

SLURM = "slurm+ssh://alice@tb-slurm"


def test_a_wrong_project_is_refused_with_those_that_are_known(far: Far, study: Session) -> None:
    del far
    pilot = study.pilot(SLURM, nodes=1, walltime="5m", project="nosuch")
    assert pilot.wait("QUEUED", 60) == "FAILED", pilot.reason
    assert "Invalid account" in pilot.reason and "known there: proj2, tb" in pilot.reason, pilot.reason
    pilot = study.pilot(SLURM, nodes=1, walltime="5m", queue="nosuch")
    assert pilot.wait("QUEUED", 60) == "FAILED", pilot.reason
    assert "nvalid partition" in pilot.reason and "known there: batch, " in pilot.reason, pilot.reason
    found = discover.discover(SLURM)
    assert found.projects == ("proj2", "tb") and not (found.missed or found.failure), found
