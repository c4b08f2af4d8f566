"""Hostile text on the whole way to a batch system: refused by its field, or there byte for byte; nothing of it runs.

``tests/batch/test_hostile.py`` renders 5,000 strings in every field of every system; here what was accepted goes
through real connections to a recorder in the place of the command, and file names through real Slurm and Grid Engine.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_kit import Cluster, eventually
from sites_kit import Hand, Job, hand

from jupyter_rm.batch import BATCH_SCRIPT, JobState, load, spec_bytes
from jupyter_rm.model.errors import RequestError
from jupyter_rm.runtime.batchsite import BatchSite

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "batch"))
from test_hostile import VALID, fields, strings

RECORDER = """#!/bin/sh
{ printf '%s\\0' "$@"; printf 'END\\0'; } >>"$RECORDED"
echo 12
"""
NAMES = [
    "a b",
    "it's",
    "$(touch CANARY)",
    "`touch CANARY`",
    "; touch CANARY;",
    "& touch CANARY &",
    '"; touch CANARY; "',
    "#SBATCH --wrap=touch CANARY",
    "#$ -N x",
    "{script}",
    "*?[a-z]",
    "back\\slash\\n",
    "é名💥",
    "-rf",
    "~root !! $HOME",
    "a,b:c=d",
]


def canaries(place: Hand) -> str:
    """Return where something ran: commands start at home, jobs in their directories."""
    said = place.connection.run(["find", place.place, "-name", "CANARY"])
    return said.text + ("at home" if place.connection.stat("CANARY") else "")


@pytest.fixture(scope="module", params=["local", "paramiko"])
def road(request: pytest.FixtureRequest, slurm: Cluster) -> Iterator[Hand]:
    yield from hand(slurm, "slurm", request.param)


@pytest.mark.parametrize(("name", "command"), [("slurm", "sbatch"), ("sge", "qsub")])
def test_what_is_accepted_arrives_byte_for_byte(road: Hand, name: str, command: str) -> None:
    system = load(name)
    commands = f"{road.place}/{name}-bin"
    road.connection.mkdir(commands)
    road.connection.write(f"{commands}/{command}", RECORDER.encode(), 0o700)
    record = f"{road.place}/{name}-recorded"
    site = BatchSite(road.connection, system, "alice", env={"PATH": f"{commands}:/usr/bin:/bin", "RECORDED": record})
    dice = random.Random(7)
    accepted = []
    for text in strings(5000, 11):
        for field in fields(system):
            if field in ("ids", "user", "script", "spec"):
                continue
            try:
                system.render("submit", {**VALID, field: text})
            except RequestError as error:
                assert error.message.startswith(f"{field}: ")
                continue
            accepted.append((field, text))
    sample = dice.sample(accepted, 60)
    spec, script = VALID["spec"], VALID["script"]
    expected = []
    for field, text in sample:
        values = {key: value for key, value in {**VALID, field: text}.items() if key not in ("script", "spec")}
        assert site.submit(values, str(spec), str(script)).id == "12"
        expected.append(system.render("submit", {**VALID, field: text}).argv[1:])
    arrived = [tuple(part.split(b"\0")[:-1]) for part in road.connection.read(record).split(b"END\0")[:-1]]
    assert arrived == [tuple(word.encode() for word in argv) for argv in expected]
    assert canaries(road) == ""


@pytest.fixture(scope="module", params=["slurm", "sge", "local"])
def there(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Hand]:
    login = "slurm" if request.param == "local" else request.param
    yield from hand(cluster.need(login), login, "paramiko", request.param)


def test_jobs_in_directories_with_hostile_names(there: Hand) -> None:
    """Place, script, spec, program and output have the name; it is refused by its field, or the job really runs."""
    jobs: dict[str, Job] = {}
    refused: dict[str, str] = {}
    for name in NAMES:
        place = f"{there.place}/{name}"
        there.connection.mkdir(place)
        out = f"{place}/out {name}"
        program = b"import os, sys; print('ran', os.getcwd()); print(sys.argv[1])\n"
        there.connection.write(f"{place}/program.py", program)
        there.connection.write(f"{place}/{name}.sh", BATCH_SCRIPT)
        there.connection.write(f"{place}/spec", spec_bytes("/usr/bin/python3", f"{place}/program.py"))
        token = f"jrm{len(jobs):012d}"
        values = {"token": token, "walltime": "5m", "workdir": place, "stdout": out, "stderr": out}
        try:
            made = there.site.submit(values, f"{place}/spec", f"{place}/{name}.sh")
        except RequestError as error:
            refused[name] = error.message
            assert error.message.split(":")[0] in ("workdir", "stdout", "stderr", "script", "spec"), error
            continue
        jobs[name] = Job(made.id, token, out, there)
    assert len(jobs) >= 10, refused

    def done() -> bool:
        left = [job for job in jobs.values() if job.seen().state in (JobState.QUEUED, JobState.RUNNING)]
        return not left

    eventually(done, "jobs do not end", 120)
    for name, job in jobs.items():
        place = f"{there.place}/{name}"
        eventually(lambda job=job: there.connection.stat(job.spec), f"{name!r}: no output at {job.spec}")
        assert there.connection.read(job.spec).decode() == f"ran {place}\n{place}/spec\n", name
    assert canaries(there) == ""
