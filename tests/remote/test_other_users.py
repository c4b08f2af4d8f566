"""What another user of the same cluster can learn of a pilot and its tasks: nothing that was not theirs to know."""

from __future__ import annotations

import json

from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm.client.session import Session

SECRET = "s3cr3t-0f-al1ce"
# Everything that tools and files tell about others; errors are what we hope for.
LOOK = """
squeue --all -o '%all' 2>/dev/null
scontrol show job 2>/dev/null
sacct --allusers --format=ALL -P 2>/dev/null
cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '
"""
FIND = """
find "$1" -user alice -type f -readable 2>/dev/null
find /tmp /var/tmp /dev/shm -maxdepth 3 -user alice -type f -readable 2>/dev/null
"""


def test_another_user_of_the_cluster_learns_nothing(far: Far, study: Session) -> None:
    pilot = active(study.pilot("slurm+ssh://alice@tb-slurm", nodes=1, walltime="10m"))
    script = f"#!/bin/sh\n# {SECRET}\nsleep 60\n"
    task = study.submit(jrm.Shell("echo $TOKEN >here; sleep 60", environment={"TOKEN": SECRET}, name="quiet"))
    until(lambda: task.state == "RUNNING", lambda: task.reason)
    own = far.cluster.state / "home/alice"
    until(lambda: any(path.read_text().strip() == SECRET for path in own.rglob("here")), "the task wrote nothing")
    job = study.script("slurm+ssh://alice@tb-slurm", script, queue="batch")
    until(lambda: job.job_id, lambda: job.reason)
    keys = json.loads((far.place(study.name) / "spec").read_text().splitlines()[-1])["link"]
    secrets = [value for name, value in keys.items() if "secret" in name and value] + [SECRET]
    assert len(secrets) >= 2, f"which of these is the secret key? {sorted(keys)}"
    seen = far.cluster.run("sh", "-c", LOOK, user="bob", check=False)
    assert pilot.job_id in seen, "bob sees that there is a job; or this test looks at nothing"
    assert [secret for secret in secrets if secret in seen] == []
    found = far.cluster.run("sh", "-c", FIND, "find", str(own), user="bob", check=False).splitlines()
    inside = [path.removeprefix(f"{own}/") for path in found]  # the home itself lies in a directory of that name
    assert [path for path in inside if "jupyter_rm" in path or "jrm" in path] == []
    mine = far.cluster.run("sh", "-c", FIND, "find", str(own), user="alice", check=False).splitlines()
    assert any(path.endswith("/here") for path in mine), "alice sees her own files; or this test looks at nothing"
    job.cancel()
