"""Ends of jobs of which the batch system remembers nothing: no accounting, no entry in the queue, and nobody there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cluster_kit import Cluster
from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm.client import connection
from jupyter_rm.client.session import Session
from jupyter_rm.runtime.home import Home

# benchmarks/ends.py asks for more of them.
BUNDLES = int(os.environ.get("JRM_ENDS_BUNDLES", "3"))
PATIENCE = 90 + 5 * BUNDLES
# A Slurm that forgets a job in the moment in which it ends.
FORGETFUL = """
extends = "slurm"
title = "Forgetful"
[site]
url = "slurm+ssh://alice@tb-slurm"
[ops.final]
argv = ["false"]
[ops.ended]
argv = ["false"]
[ops.find]
argv = ["squeue", "--noheader", "--user={user}", "--format=%i|%T|%r|%P|%Q|%V|%S|%e|%l|%N|%u|%Z|%k"]
"""


@pytest.fixture(scope="module", autouse=True)
def sites(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A directory of site files for the broker of this module."""
    del slurm
    config = tmp_path_factory.mktemp("config")
    (config / "jupyter_rm/sites").mkdir(parents=True)
    (config / "jupyter_rm/sites/forgetful.toml").write_text(FORGETFUL)
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(config)
    yield
    os.environ.pop("XDG_CONFIG_HOME") if before is None else os.environ.__setitem__("XDG_CONFIG_HOME", before)


def child_of(place: Path) -> psutil.Process:
    """Return what the start program of a place has started: the guard."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if str(place / "guard.log") in line:
            return process
    raise AssertionError(f"no guard in {place}")


def test_every_end_is_known_when_nobody_was_there_and_nobody_remembers(far: Far, study: Session) -> None:
    done = [study.bundle("forgetful", jrm.Task("/bin/true"), cores=1, hold=True) for _ in range(BUNDLES)]
    failing = study.bundle("forgetful", [jrm.Task("/bin/false", retries=1)] * 3, cores=1, hold=True)
    canceled, killed, taken = (study.pilot("forgetful", cores=1) for _ in range(3))
    for pilot in (killed, taken):
        active(pilot, PATIENCE)
    for bundle in (*done, failing):
        assert bundle.pilot.wait("QUEUED", PATIENCE) >= "QUEUED", bundle
    canceled.cancel()
    until(lambda: canceled.state >= "DRAINING", lambda: str(canceled))
    jobs = {pilot.uid: pilot.job_id for pilot in (killed, taken)}
    gone, place = canceled.job_id, far.place(study.name, killed._number)
    held = ",".join(bundle.pilot.job_id for bundle in (*done, failing))
    connection.close_all()  # or this client would have a broker started again
    far.kill_broker()
    child_of(place).send_signal(signal.SIGKILL)
    far.cluster.run("scancel", jobs[taken.uid])
    far.cluster.run("scontrol", "release", held)  # they begin when nobody is there any more
    ours = str(far.cluster.state / "home/alice/.jupyter_rm/pilots")

    def left() -> list[str]:
        listed = far.cluster.run("squeue", "-h", "-u", "alice", "-o", "%i %T %Z").splitlines()
        return [line for line in listed if ours in line and gone != line.split()[0]]

    until(lambda: not left(), lambda: str(left()), PATIENCE)
    assert Home.locate().holder() is None

    again = far.new_client(study.name)
    for bundle in (*done, failing):
        pilot = again[bundle.pilot.uid]
        assert pilot.wait("DONE", PATIENCE) == "DONE", pilot
        assert pilot.reason == "its work is done"
    assert again.counts() == {"DONE": BUNDLES, "FAILED": 3}
    assert [task.attempt for task in again.tasks().where("FAILED")] == [2, 2, 2]
    assert [task.exit_code for task in again.tasks().where("FAILED")] == [1, 1, 1]
    ends = {pilot.uid: again[pilot.uid] for pilot in (canceled, killed, taken)}
    for pilot in ends.values():
        pilot.wait("DONE", PATIENCE)
    assert {uid: str(pilot.state) for uid, pilot in ends.items()} == {
        canceled.uid: "CANCELED",
        killed.uid: "FAILED",
        taken.uid: "FAILED",
    }, ends
    for pilot in (ends[killed.uid], ends[taken.uid]):
        assert (pilot.cause, "ended from outside" in pilot.reason) == ("PILOT_LOST", True), pilot
    print(f"{BUNDLES + 4} of {BUNDLES + 4} ends are known and right")
    again.close()
