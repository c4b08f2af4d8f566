"""Pilots on two clusters, bulks of tasks of varying length, and a kernel that is killed half-way.

The published demonstration of pilot systems, for a test and a benchmark, on real Slurm and Grid Engine behind SSH.
Every task writes its own name into one file as it starts, so the file counts each start. Read next:
``benchmarks/two_sites.py``.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote_kit import Far

import jupyter_rm as jrm

ROOT = Path(__file__).resolve().parents[2]  # kernels import the package from there
URLS = ("slurm+ssh://alice@tb-slurm", "sge+ssh://alice@tb-sge")
# One kernel: asks for pilots when there are none, submits its bulks, and follows the work until it ends or is killed.
KERNEL = """
import json, os, random, sys, time
import jupyter_rm as jrm

name, place, first, after, tasks, pilots = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])
begun = time.monotonic()
session = jrm.open(name)
known = sum(session.counts().values())
attached = time.monotonic() - begun
if not session.pilots():
    for url in sys.argv[7:]:
        for _ in range(pilots):
            session.pilot(url, walltime="30m", **({"cores": 1} if url.startswith("sge") else {}))
for bulk in range(first, after):
    lengths = [round(random.Random(bulk * 1000 + n).uniform(0.0, 0.4), 2) for n in range(tasks)]
    session.array(jrm.Shell(f'echo "$JRM_TASK_UID" >> {place}; sleep {{t}}'), t=lengths)
os.write(1, json.dumps({"known": known, "attached": attached}).encode() + b"\\n")
session.wait()
os.write(1, b"over\\n")
"""


@dataclass
class Report:
    """What the study came to.

    Attributes:
        counts: tasks by state. starts: starts by task. known: tasks that the second kernel found at once.
        attached: s until it knew them. took: s from the first to the last start and end of a task.
        busy: share of the time of all cores, while their pilot was there, that tasks ran. used: tasks by pilot.
    """

    counts: dict[str, int]
    starts: Counter[str]
    known: int
    attached: float
    took: float
    busy: float
    used: dict[str, int]


def study(far: Far, name: str, pilots: int, bulks: int, tasks: int, within_s: float) -> Report:
    """Run it and return what came of it; AssertionError or TimeoutError when a kernel does not get so far.

    Args:
        pilots: on each of the two clusters. bulks: so many, half of them by each kernel. tasks: in each bulk.
    """
    place = far.cluster.state / "home/alice" / f"starts-{name}"
    place.touch()
    place.chmod(0o666)
    half = bulks // 2
    first = _kernel(name, place, 0, half, tasks, pilots)
    try:
        _says(first)
    finally:
        first.kill()
        first.wait()
    second = _kernel(name, place, half, bulks, tasks, pilots)
    try:
        said = json.loads(_says(second))
        assert _says(second, within_s) == "over"
    finally:
        second.kill()
        second.wait()
    session = jrm.open(name)
    session.wait(60)  # until this client knows it too
    frame = session.frame()
    begun, ended = frame["started"].min(), frame["ended"].max()
    took = float((ended - begun).total_seconds())
    ran = float((frame["ended"] - frame["started"]).dt.total_seconds().sum())
    held = 0.0
    for pilot in session.pilots():
        mine = frame[frame["pilot"] == pilot.uid]
        if len(mine):
            held += float((ended - mine["started"].min()).total_seconds()) * sum(node.cores for node in pilot.nodes)
    return Report(
        session.counts(),
        Counter(place.read_text().split()),
        said["known"],
        said["attached"],
        took,
        ran / held,
        frame["pilot"].value_counts().to_dict(),
    )


def _kernel(name: str, place: Path, first: int, after: int, tasks: int, pilots: int) -> subprocess.Popen[str]:
    words: list[Any] = [name, place, first, after, tasks, pilots, *URLS]
    return subprocess.Popen(
        [sys.executable, "-c", KERNEL, *map(str, words)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def _says(kernel: subprocess.Popen[str], within_s: float = 120.0) -> str:
    """Return the next line of a kernel."""
    assert kernel.stdout is not None
    with selectors.DefaultSelector() as wait:
        wait.register(kernel.stdout, selectors.EVENT_READ)
        until = time.monotonic() + within_s
        while not wait.select(1.0):
            if time.monotonic() > until:
                raise TimeoutError(f"the kernel said nothing for {within_s:.0f} s")
    line = kernel.stdout.readline().strip()
    assert line, f"the kernel ended with {kernel.wait()}"
    return line
