"""Bundles on real Slurm behind real SSH: nobody is there while they run, and everything is known afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm.client.session import Session
from jupyter_rm.runtime.home import Home

SITE = "slurm+ssh://alice@tb-slurm"
# Leaves one file per attempt and fails when it is there: a second start of an attempt, or of what needs none, is seen.
# Of case 3 the first attempt fails, of case 4 every one does.
PROGRAM = """
import os, sys, time
place, case = sys.argv[1], int(sys.argv[2])
tries = len([name for name in os.listdir(place) if name.split(".")[0] == str(case)])
os.close(os.open(f"{place}/{case}.{tries}", os.O_CREAT | os.O_EXCL))
print("case", case)
sys.exit(7 if case == 4 or (case == 3 and tries == 0) else 0)
"""
# Takes files from here, fails the first time, and gives one back.
FILES = "test -e ../tried.{n} || { touch ../tried.{n}; exit 1; }; cat {n}.in tree/x > out"
# A client that submits a bundle, and is killed before it could say goodbye.
CLIENT = """
import sys, jupyter_rm as jrm, os, signal
name, site, place, program, files, here = sys.argv[1:]
s = jrm.open(name)
files = jrm.Shell(files.replace("{", "{{").replace("}", "}}").replace("{{n}}", "{n}"), retries=1,
    input_staging=[f"client://{here}/{{n}}.in", f"client://{here}/tree"], output_staging=f"out > client://{here}/{{n}}.out")
task = jrm.Task("/usr/bin/python3", ["-c", program.replace("{", "{{").replace("}", "}}"), place, "{case}"], retries=2)
b = s.bundle(site, jrm.Array(task, case=range(100)), jrm.Calls(pow, range(10), [2] * 10),
    jrm.Array(files, n=range(3)), nodes=2, walltime="10m")
assert b.pilot.wait("QUEUED", 60) >= "QUEUED", b.pilot.reason
os.kill(os.getpid(), signal.SIGKILL)
"""


def marks(far: Far, name: str) -> Path:
    """Return a directory of the account there for the files of PROGRAM."""
    path = far.cluster.state / "home/alice" / f"marks-{far.dir.name}-{name}"
    path.mkdir()
    os.chown(path, 29601, 29601)
    return path


def ended(far: Far, session: str) -> dict[str, object]:
    """Return what the start program of a bundle's job wrote last, {} before it did."""
    path = far.place(session) / "ended.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def test_a_bundle_runs_with_nobody_there_and_is_read_afterwards(far: Far, tmp_path: Path) -> None:
    name = "alone"
    directory = marks(far, name)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/x").write_text("tree\n")
    for number in range(3):
        (tmp_path / f"{number}.in").write_text(f"in {number}\n")
    words = [name, SITE, str(directory), PROGRAM, FILES, str(tmp_path)]
    client = subprocess.run([sys.executable, "-c", CLIENT, *words], capture_output=True, text=True, timeout=120)
    assert client.returncode == -9, client.stderr
    far.kill_broker()
    assert Home.locate().holder() is None
    job = str(far.record(name)["job_id"])
    until(lambda: ended(far, name), lambda: far.cluster.run("squeue", "-l") + str(list(directory.iterdir())), 120)
    until(lambda: job not in far.cluster.run("squeue", "-h", "-o", "%i").split(), "its job stays")
    assert Home.locate().holder() is None, "somebody started a broker"

    session = far.new_client(name)
    pilot = session.pilots()[0]
    assert pilot.wait("DONE", 60) == "DONE", pilot.reason
    assert pilot.reason == "its work is done"
    assert len(pilot.nodes) == 2
    tasks = session.tasks()
    assert session.wait(60), "files do not come home"
    assert tasks.counts() == {"DONE": 112, "FAILED": 1}
    program, calls, files = tasks[:100], tasks[100:110], tasks[110:]
    assert [(tmp_path / f"{number}.out").read_text() for number in range(3)] == [f"in {n}\ntree\n" for n in range(3)]
    assert [task.attempt for task in files] == [2, 2, 2]
    assert [task.attempt for task in program][:6] == [1, 1, 1, 2, 3, 1]
    assert program[4].exit_code == 7
    assert program[5].stdout() == "case 5\n"
    assert calls.results() == [number**2 for number in range(10)]
    assert len(list(directory.iterdir())) == 103
    assert far.jobs_of(far.record(name)["token"]) == [job]
    session.close()


def test_a_broker_that_comes_in_the_middle_of_a_bundle_takes_part(far: Far, study: Session) -> None:
    directory = marks(far, study.name)
    slow = PROGRAM.replace('print("case', 'time.sleep(0.5); print("case')
    task = jrm.Task("/usr/bin/python3", ["-c", slow.replace("{", "{{").replace("}", "}}"), str(directory), "{case}"])
    bundle = study.bundle(SITE, jrm.Array(task, case=range(5, 65)), nodes=1)
    until(lambda: any(directory.iterdir()), lambda: bundle.pilot.reason)
    far.kill_broker()
    before = len(list(directory.iterdir()))
    until(lambda: len(list(directory.iterdir())) > before + 5, "the work stopped with the broker")
    again = far.new_client(study.name)
    active(again.pilots()[0])
    mixed = again.submit([jrm.Task("/bin/true")] * 5)
    assert again.wait(120)
    assert again.counts() == {"DONE": 65}, again.counts()
    assert mixed.done()
    assert again.pilots()[0].wait("DONE", 60) == "DONE"
    assert len(list(directory.iterdir())) == 60
    again.close()


def test_a_bundle_on_this_machine_outlives_a_killed_agent_and_its_broker(far: Far, study: Session) -> None:
    bundle = study.bundle("local", [jrm.Shell(f"sleep 0.2; echo {case}") for case in range(40)], cores=2)
    active(bundle.pilot)
    until(lambda: bundle.counts().get("DONE", 0) > 3, lambda: str(bundle))
    far.kill_broker()
    place = next((far.dir / "home/default/pilots").glob(f"*-{study.name}/p.0"))
    agents = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(place / "spec.json") in (line := process.info["cmdline"] or []) and "guard" not in line[0]
    ]
    assert len(agents) == 1
    agents[0].kill()
    until(lambda: _free(place), "its job does not end", 60)
    again = far.new_client(study.name)
    assert again.pilots()[0].wait("DONE", 60) == "DONE", again.pilots()[0].reason
    assert again.counts() == {"DONE": 40}
    assert [task.stdout() for task in again.tasks()] == [f"{case}\n" for case in range(40)]
    again.close()


def _free(place: Path) -> bool:
    return not any(
        str(place / "spec.json") in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    )


@pytest.mark.parametrize(
    ("work", "fields", "code", "names"),
    [
        ([], {}, "JRM-Q27", "work"),
        (["/bin/true"], {}, "JRM-Q27", "work"),
        ([jrm.Task("/bin/true", after="t.0")], {}, "JRM-Q27", "after"),
        ([jrm.Task("/bin/true", pilot="p.0")], {}, "JRM-Q27", "pilot"),
        ([jrm.Array(jrm.Task("/bin/{x}"), y=[1])], {}, "JRM-Q51", "x"),
        ([jrm.Task("/bin/true")], {"queue": "-x"}, "JRM-Q21", "queue"),
    ],
)
def test_what_cannot_be_a_bundle_is_refused_and_nothing_is_recorded(
    study: Session, work: list[object], fields: dict[str, str], code: str, names: str
) -> None:
    with pytest.raises(jrm.RequestError) as refused:
        study.bundle(SITE, *work, **fields)
    assert refused.value.code == code
    assert names in str(refused.value)
    assert not study.pilots()
    assert not len(study.tasks())
