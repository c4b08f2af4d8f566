"""A cluster with a long line of other people's jobs, and a JupyterLab whose broker knows its login node."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_kit import Cluster, eventually
from lab_kit import Jupyter, free_port

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "remote"))
from remote_kit import Far

# Jobs with priorities of their own; `--uid` lets root submit for others.
_SUBMIT = """
while read -r user priority; do
  sbatch --parsable --partition=batch --uid="$user" --priority="$priority" --time=5 --chdir=/tmp \\
    --output=/dev/null --wrap=true </dev/null
done
"""


@pytest.fixture(scope="module")
def far(cluster: Cluster) -> Iterator[Far]:
    """A home whose broker knows the login nodes."""
    with Far(cluster.need("slurm", "mfa")) as made:
        yield made


@pytest.fixture(scope="module")
def afar(far: Far) -> Iterator[Jupyter]:
    """JupyterLab with that broker."""
    made = Jupyter(far.dir / "home", "lab", free_port())
    yield made
    made.stop()


@pytest.fixture(scope="module")
def line(slurm: Cluster) -> Iterator[list[str]]:
    """Two hundred jobs of several users that wait behind one that fills the cluster; their ids."""
    slurm.wait_idle()
    quiet = ("--chdir=/tmp", "--output=/dev/null")
    full = slurm.run("sbatch", "--parsable", "--nodes=4", "--exclusive", *quiet, "--wrap=sleep 900", user="bob").strip()
    try:
        eventually(
            lambda: slurm.run("squeue", "-h", "-j", full, "-t", "R", "-o", "%i"),
            lambda: "nothing fills the cluster: " + slurm.run("scontrol", "show", "job", full, check=False),
        )
        chance = random.Random(5)
        priorities = chance.sample(range(1000, 9000), 200)
        users = ["bob"] * 120 + ["root"] * 70 + ["alice"] * 10
        asked = "".join(f"{user} {priority}\n" for user, priority in zip(users, priorities, strict=True))
        ids = slurm.run("sh", "-c", f"{_SUBMIT.strip()} <<'EOF'\n{asked}EOF\n").split()
        assert len(ids) == 200, ids
        yield ids
    finally:
        slurm.run("scancel", "--partition=batch", check=False)
        slurm.wait_idle()
