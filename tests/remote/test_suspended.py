"""A pilot whose job the batch system stops for a while: nothing is lost, nothing runs twice, and all of it goes on."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

import psutil
import pytest
from cluster_kit import Cluster
from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm import cli
from jupyter_rm.client import session as sessions
from jupyter_rm.client.pilot import Pilot
from jupyter_rm.client.session import Session
from jupyter_rm.notebook.cards import of_pilot
from jupyter_rm.notebook.magics import Magics

# Says that it began, ticks until it is let go.
WORK = 'echo "$0 $1" >> {place}/began; while [ ! -e {place}/go ]; do date +%N > {place}/tick.$1; sleep 0.1; done'


@pytest.fixture(scope="module")
def grid(cluster: Cluster) -> Iterator[Far]:
    with Far(cluster.need("sge", "slurm")) as made:
        yield made


@pytest.fixture
def study(grid: Far) -> Iterator[Session]:
    del grid
    yield sessions.open("stopped")
    sessions.open("stopped").close()


def stopped(far: Far) -> list[str]:
    """Return the state of each process of the pilots there."""
    found = []
    for pid in far.agent_pids():
        with contextlib.suppress(psutil.NoSuchProcess):
            here = psutil.Process(pid)
            found += [one.status() for one in [here, *here.children(recursive=True)]]
    return [state for state in found if state != psutil.STATUS_ZOMBIE]  # nobody has taken note of its end yet


def buttons(pilot: Pilot) -> dict[str, str]:
    """Return what its card offers to do with its job, and why not now."""
    return {one["op"]: one["why"] for one in of_pilot(pilot).shown()["buttons"] if one["op"] not in ("drain", "cancel")}


def test_a_suspended_pilot_stands_still_and_goes_on(grid: Far, study: Session) -> None:
    pilot = active(study.pilot("sge+ssh://alice@tb-sge", cores=2, options={"parallel_environment": "smp"}))
    place = grid.cluster.state / f"home/alice/stopped-{secrets.token_hex(4)}"
    grid.cluster.run("mkdir", "-p", str(place), user="alice")
    work = WORK.format(place=place)
    bulk = study.array(jrm.Task("sh", ["-c", work, "task", "{n}"]), n=range(6))
    until(lambda: len(list(place.glob("tick.*"))) == 2, lambda: f"{bulk.counts()}; {[t.reason for t in bulk]}")
    until(lambda: set(buttons(pilot)) == {"hold", "release", "suspend", "resume"}, lambda: str(buttons(pilot)))
    assert buttons(pilot)["suspend"] == "" and buttons(pilot)["resume"] and buttons(pilot)["hold"]
    magics = Magics({})
    magics.line(f"attach {study.name}")
    assert magics.line(f"suspend {pilot.uid}").suspended
    assert buttons(pilot)["suspend"] and buttons(pilot)["resume"] == ""
    assert pilot.suspended and "suspended at Grid Engine" in pilot.reason, pilot.reason
    until(lambda: set(stopped(grid)) == {psutil.STATUS_STOPPED}, lambda: f"something runs: {stopped(grid)}")
    before = {path: path.read_text() for path in place.glob("tick.*")}
    # For so long that everybody else would take it for lost.
    until(lambda: pilot.unreachable, "nobody noticed its silence")
    assert pilot.state == "ACTIVE" and "suspended at Grid Engine" in pilot.reason, pilot.reason
    running = [task for task in bulk if task.state == "RUNNING"]
    assert len(running) == 2 and all("stands still" in task.reason for task in running), [t.reason for t in bulk]
    assert {path: path.read_text() for path in place.glob("tick.*")} == before
    assert cli.main(["resume", pilot.uid, "-s", study.name]) == 0
    until(lambda: not pilot.suspended and not pilot.unreachable, lambda: pilot.reason)
    until(lambda: {path: path.read_text() for path in place.glob("tick.*")} != before, "its tasks stand still")
    grid.cluster.run("touch", str(place / "go"), user="alice")
    assert bulk.wait(timeout=60)
    assert bulk.counts() == {"DONE": 6} and [task.attempt for task in bulk] == [1] * 6, bulk.counts()
    assert sorted((place / "began").read_text().split("\n"))[1:] == [f"task {n}" for n in range(6)]
    assert "suspended" not in pilot.reason and pilot.state == "ACTIVE"


def test_who_may_not_is_told_so_in_the_words_of_the_batch_system(grid: Far, study: Session) -> None:
    del grid
    pilot = study.pilot("slurm+ssh://alice@tb-slurm", nodes=1, options={"hold": "true"})
    assert pilot.wait("QUEUED", 60) == "QUEUED", pilot.reason
    with pytest.raises(jrm.RequestError, match="does not run yet"):
        pilot.suspend()
    pilot.release()
    active(pilot)
    with pytest.raises(jrm.SiteError, match=r"only an operator may.*Access/permission denied"):
        pilot.suspend()
    assert not pilot.suspended and pilot.state == "ACTIVE"
