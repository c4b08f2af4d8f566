"""A user's own batch script on real Slurm and Grid Engine behind real SSH: as it is, followed to its end."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from remote_kit import Far, until

import jupyter_rm as jrm
from jupyter_rm.client.script import Job
from jupyter_rm.client.session import Session
from jupyter_rm.notebook.magics import Magics

SITE = "slurm+ssh://alice@tb-slurm"
# Bytes that a careless way would change: no line break at the end, blanks, CR, no UTF-8.
OWN = b"""#!/bin/sh
#SBATCH --job-name=its-own
#SBATCH --nodes=2   --exclusive

cat -- "$0" | sha256sum
echo "on $SLURM_JOB_NUM_NODES nodes as $SLURM_JOB_NAME in $PWD"
echo oops >&2
# \xff\xfe \r $HOME `id` "quotes' \\
exit 3"""


def at_slurm(far: Far, job: Job, field: str) -> str:
    """Return what Slurm's controller says of a job."""
    for word in far.cluster.run("scontrol", "-o", "show", "job", job.job_id).split(" "):
        if word.startswith(f"{field}="):
            return str(word.partition("=")[2])
    raise AssertionError(field)


def test_scripts_go_there_as_they_are_and_are_tracked_to_their_ends(far: Far, study: Session, tmp_path: Path) -> None:
    """One story, because a batch system is asked for its jobs only every 30 s."""
    far.cluster.need("sge")
    path = tmp_path / "own script.sh"
    path.write_bytes(OWN)
    gate = far.cluster.state / "home/alice" / f"gate-{far.dir.name}"
    wait = f"until [ -e {gate} ]; do sleep 0.2; done"
    text = f"#!/bin/sh\n#SBATCH -o own-%j.txt\necho begun\n{wait}\necho more\nsleep 600\n"
    own = study.script(SITE, path, walltime="5m")
    long = study.script(SITE, text, queue="batch")
    magics = Magics({})
    magics.line(f"open {study.name}")
    held = magics.cell(f"script {SITE} --name waits --set hold=true -o handle", "#!/bin/sh\nexit 0\n")
    assert magics.space["handle"] is held
    said = subprocess.run(
        [sys.executable, "-m", "jupyter_rm", "script", "-s", study.name, "sge+ssh://alice@tb-sge", "-"],
        input='#!/bin/sh\n#$ -S /bin/sh\necho "at $JOB_ID"\n', capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    until(lambda: len(study.jobs()) == 4, lambda: str(study.jobs()))
    other = study.jobs()[3]
    assert other.uid in said.stdout
    assert not study.pilots()
    assert [job.name for job in study.jobs()] == ["own script.sh", long.uid, "waits", other.uid]
    until(lambda: all(job.state >= "QUEUED" for job in study.jobs()), lambda: str(study.jobs()), 90)
    out = f"{far.cluster.state}/home/alice/own-{long.job_id}.txt"
    assert long.files == (out, out)
    # What both batch systems make of it, seen from outside; then nobody need wait for the next listing.
    for path, words in ((Path(out), "begun"), (Path(own.files[1]), "oops"), (Path(other.files[0]), "at ")):
        until(lambda path=path, words=words: path.exists() and words in path.read_text(), f"{path} stays empty", 90)

    far.kill_broker()
    again = far.new_client(study.name)
    own, long, held, other = again.jobs()
    until(lambda: long.state == "RUNNING", lambda: str(long), 90)
    assert long.script == text.encode()
    until(lambda: "held" in held.reason, lambda: str(held), 90)
    assert held.state == "QUEUED"
    pieces = long.follow()
    assert next(pieces) == "begun\n"
    gate.touch()
    assert next(pieces) == "more\n"

    assert own.wait(120) == "FAILED", own
    assert (own.exit_code, own.cause) == (3, "TASK_EXIT")
    assert "exit code 3" in own.reason
    assert "sacct says FAILED" in own.reason or "scontrol says FAILED" in own.reason
    lines = own.stdout().splitlines()
    assert lines[0].split()[0] == hashlib.sha256(OWN).hexdigest(), "the bytes that ran are not those given"
    assert lines[1] == f"on 2 nodes as its-own in {far.cluster.state}/home/alice", lines
    assert own.stderr() == "oops\n"
    assert at_slurm(far, own, "TimeLimit") == "00:05:00", "what was asked for besides is asked for"
    assert at_slurm(far, own, "Requeue") == "1", "what was not asked for is as the site has it"
    assert far.jobs_of(far.record(study.name)["token"]) == [own.job_id]

    task = again.submit(jrm.Task("/bin/true"))  # a script is no pilot: one is started for the task
    assert task.wait(60) == "DONE"
    long.cancel()
    held.cancel()
    assert long.wait(90) == "CANCELED", long
    assert long.cause == "USER_CANCEL"
    assert "more" not in "".join(pieces)
    assert long.job_id not in far.cluster.run("squeue", "-h", "-o", "%i").split()
    assert again[long.uid].state == "CANCELED"
    assert other.wait(120) == "DONE", other
    assert other.exit_code == 0
    assert other.stdout() == f"at {other.job_id}\n"
    assert held.wait(90) == "CANCELED", held
    again.close()


@pytest.mark.parametrize(
    ("site", "script", "attributes", "code", "names"),
    [
        (SITE, "echo no first line\n", {}, "JRM-Q28", "first line"),
        (SITE, "/nowhere/script.sh", {}, "JRM-Q28", "/nowhere/script.sh"),
        (SITE, "#!/bin/sh\n", {"qoss": "x"}, "JRM-Q22", "qoss"),
        (SITE, "#!/bin/sh\n", {"queue": "-x"}, "JRM-Q21", "queue"),
        (SITE, "#!/bin/sh\n", {"token": "x"}, "JRM-Q21", "token"),
        (SITE, "#!/bin/sh\n" + "x" * (2 << 20), {}, "JRM-Q28", "limit"),
        ("ssh://alice@tb-slurm", "#!/bin/sh\n", {}, "JRM-Q28", "takes no batch scripts"),
        ("local", "#!/bin/sh\n", {}, "JRM-Q28", "takes no batch scripts"),
    ],
)
def test_what_cannot_be_submitted_is_refused_before_anything_is_recorded(
    study: Session, site: str, script: str, attributes: dict[str, str], code: str, names: str
) -> None:
    with pytest.raises(jrm.RequestError) as refused:
        study.script(site, script, **attributes)
    assert refused.value.code == code
    assert names in str(refused.value)
    assert not study.jobs()
