"""Faults under a running pilot on a real cluster: what is done, what must be said of it, and how soon.

Each fault strikes a pilot in Slurm behind SSH while its tasks run; every task writes down each of its starts and ends,
so that what was lost or run twice is counted and not believed. :data:`FAULTS` is the table of ``docs/faults.md``. The
same table at full size: ``benchmarks/faults.py``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm.client.pilot import Pilot
from jupyter_rm.client.session import Session

SLURM, CUT, RELIEF = "slurm+ssh://alice@tb-slurm", "slurm+ssh://alice@tb-cut", "ssh://alice@tb-slurm"
# A start and an end are one line each, appended in one piece.
WORK = 'w="$JRM_TASK_UID $JRM_TASK_ATTEMPT"; echo "$w" >>"$1/starts"; sleep "$2"; echo "$w" >>"$1/ends"'
CORES = 4  # of a node
LOST_CAUSES = ("AGENT_LOST", "NODE_LOST", "PILOT_LOST", "WALLTIME")
_numbers = itertools.count()


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: in ``docs/faults.md``. strike: makes it happen, and heals it where somebody would.
        state: of the pilot, once it is noticed. says: pattern that its reason must hold then ("" nothing is said).
        within: from the fault to that state and reason, s. spares: no task may be run a second time.
        ends: the pilot is over; its tasks finish on another one. site, asks: of the pilot. length: of a task, s.
        lasts: how long it goes on, s at full size; the tasks go on for longer.
    """

    name: str
    strike: Callable[[Trial], None]
    state: str = "ACTIVE"
    says: str = ""
    within: float = 60.0
    spares: bool = False
    ends: bool = False
    site: str = SLURM
    asks: dict[str, Any] = field(default_factory=dict)
    length: float = 1.0
    lasts: float = 0.0


@dataclass
class Outcome:
    """What became of it: seconds to the expected state and reason, that reason, and how the tasks fared."""

    fault: str
    state: str
    reason: str
    seconds: float
    tasks: int
    lost: int
    twice: int
    again: int

    def row(self, within: float = 0.0) -> str:
        """Return one line of the table; ``within``: the documented limit, s."""
        took = f"{self.seconds:.1f} s" + (f" ({within:.0f})" if within else "")
        counts = (self.tasks, self.lost, self.twice, self.again)
        return " | ".join((self.fault, self.state, took, *map(str, counts), self.reason))


class Trial:
    """One fault and what it strikes."""

    def __init__(self, far: Far, session: Session, fault: Fault, *, tasks: int = 16, scale: float = 1.0) -> None:
        self.far, self.session, self.fault, self.scale = far, session, fault, scale
        self.folder = far.cluster.state / "home/alice" / f"trial-{os.getpid()}-{next(_numbers)}"
        self.folder.mkdir()
        os.chown(self.folder, 29601, 29601)
        self.pilot: Pilot = session.pilot(fault.site, **{"nodes": 1, "walltime": "20m", **fault.asks})
        self.bulks: list[Any] = []
        self._tasks = tasks
        self._length = max(fault.length, 1.2 * fault.lasts * scale * CORES / tasks)
        self.struck = 0.0
        self.heal: Callable[[], None] = lambda: None

    def task(self, restart: str) -> jrm.Task:
        return jrm.Task("/bin/sh", ["-c", WORK, "sh", str(self.folder), f"{self._length:.1f}"], restart=restart)

    def lines(self, name: str) -> Counter[str]:
        path = self.folder / name
        return Counter(path.read_text().splitlines() if path.exists() else [])

    def run(self) -> Outcome:
        """Let it happen; AssertionError when the state or the reason is not the one that is documented."""
        active(self.pilot, 120)
        fault, pilot = self.fault, self.pilot
        for restart in ("lost", "never"):
            self.bulks.append(self.session.submit([self.task(restart)] * (self._tasks // 2)))
        until(lambda: self.lines("starts"), "nothing runs")
        self.struck = time.monotonic()
        try:
            fault.strike(self)
            until(self.noticed, lambda: f"{fault.name}: {pilot.state}, {pilot.reason!r}", max(180.0, 3 * fault.within))
            seconds, reason = time.monotonic() - self.struck, pilot.reason
        finally:
            self.heal()
        if fault.ends:
            active(self.session.pilot(RELIEF, cores=16))
        deadline = time.monotonic() + 180 + self._tasks * self._length / CORES
        for bulk in self.bulks:
            assert bulk.wait(max(1.0, deadline - time.monotonic())), f"{fault.name}: {bulk.counts()}, {pilot.reason}"
        if not fault.ends:
            until(lambda: pilot.state == "ACTIVE" and not pilot.unreachable, lambda: f"{pilot.state} {pilot.reason}")
        return self.outcome(seconds, fault.state, reason)

    def noticed(self) -> bool:
        pilot, fault = self.pilot, self.fault
        state = "UNREACHABLE" if pilot.unreachable and fault.state == "UNREACHABLE" else str(pilot.state)
        return state == fault.state and bool(re.search(fault.says, pilot.reason))

    def outcome(self, seconds: float, state: str, reason: str) -> Outcome:
        starts, ends = self.lines("starts"), self.lines("ends")
        free, once = self.bulks
        times = Counter(line.split()[0] for line in starts.elements())
        lost = [task.uid for task in free if task.state != "DONE" or not any(e.split()[0] == task.uid for e in ends)]
        given_up = [task for task in once if task.state == "FAILED" and task.cause in LOST_CAUSES]
        lost += [task.uid for task in once if task.state != "DONE" and task.uid not in [one.uid for one in given_up]]
        twice = [line for line, count in starts.items() if count > 1]
        twice += [task.uid for task in once if times[task.uid] > 1]
        if self.fault.spares:
            twice += [uid for uid, count in times.items() if count > 1]
            lost += [task.uid for task in given_up]
        again = sum(count - 1 for count in times.values())
        shutil.rmtree(self.folder, ignore_errors=True)
        done = Outcome(self.fault.name, state, reason, seconds, len(free) + len(once), len(lost), len(twice), again)
        assert not lost and not twice, f"{done}: lost {lost}, twice {twice}"
        return done


# --- hands


def daemon_pid(trial: Trial, name: str) -> int:
    """Return the process of a daemon of the test bed."""
    return int((trial.far.cluster.state / "pids" / f"{name}.pid").read_text().split()[0])


def pause(seconds: float) -> None:
    """Let a fault last: how long it does is part of the fault."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, "", seconds + 30)


def cut(trial: Trial) -> None:
    """The line swallows everything: no side is told."""
    relay = trial.far.relay
    relay.stalled.set()
    relay.refuse = True

    def heal() -> None:
        left = trial.struck + trial.fault.lasts * trial.scale - time.monotonic()
        pause(max(0.0, left))
        relay.refuse = False
        relay.stalled.clear()
        relay.reset()

    trial.heal = heal


def controller(trial: Trial) -> None:
    """Slurmctld is killed and started again."""
    cluster = trial.far.cluster
    saved, mark = cluster.state / "slurm/state/job_state", f"mark{trial.folder.name}"
    # Once this one is saved, it is saved that the other one runs: a controller that forgot a job would end it.
    held = cluster.run("sbatch", "--hold", "--parsable", f"--comment={mark}", "--chdir=/tmp", "--wrap=true").strip()
    until(lambda: mark.encode() in saved.read_bytes(), "jobs are not saved")
    trial.struck = time.monotonic()
    with cluster.dead("slurmctld"):
        pause(5)
    cluster.run("scancel", held)


def slurmd(trial: Trial) -> None:
    """Slurmd of the pilot's node is killed; its service manager starts it again."""
    node = trial.pilot.nodes[0].name
    os.kill(daemon_pid(trial, f"slurmd-{node}"), signal.SIGKILL)
    pause(2)
    trial.far.cluster.script("slurm-node.sh", "start", node)


def sshd(trial: Trial) -> None:
    """The login node's server is killed with all its sessions, and started again."""
    server = psutil.Process(daemon_pid(trial, "sshd-slurm"))
    for process in (server, *server.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()

    trial.heal = lambda: trial.far.cluster.script("sshd-up.sh", env={"TB_SERVERS": "slurm"})


def scancel(trial: Trial) -> None:
    trial.far.cluster.run("scancel", trial.pilot.job_id)


def requeue(trial: Trial) -> None:
    job, cluster = trial.pilot.job_id, trial.far.cluster
    cluster.run("scontrol", "requeue", job)
    until(lambda: "PENDING" in cluster.run("squeue", "-h", "-j", job, "-o", "%T"), "it is not requeued")
    # It would wait for two minutes; at once, the node has not yet buried the start before.
    cluster.run("scontrol", "update", f"jobid={job}", "starttime=now+6")


def preempt(trial: Trial) -> None:
    """A job of a better queue wants all nodes for a moment."""
    cluster = trial.far.cluster
    how = ("--partition=batch", "--nodes=4", "--exclusive", "--time=5", "--chdir=/tmp", "--output=/dev/null")
    cluster.run("sbatch", *how, "--wrap=sleep 300", user="bob")

    def heal() -> None:
        cluster.run("scancel", "-u", "bob")
        if not trial.fault.ends:  # it would wait for two minutes
            cluster.run("scontrol", "update", f"jobid={trial.pilot.job_id}", "starttime=now+6", check=False)

    trial.heal = heal


def limit(trial: Trial) -> None:
    """An administrator shortens its time to one minute."""
    trial.far.cluster.run("scontrol", "update", f"jobid={trial.pilot.job_id}", "timelimit=1")


def lose_node(trial: Trial) -> None:
    """The second node of the pilot dies with all that runs there."""
    node = trial.pilot.nodes[1].name
    trial.far.cluster.script("slurm-node.sh", "kill", node)
    trial.heal = lambda: trial.far.cluster.script("slurm-node.sh", "start", node)


def node_agent(trial: Trial) -> None:
    """The agent of the second node is killed; its guard starts it again."""
    cluster = trial.far.cluster
    life = json.loads((trial.far.place(trial.session.name) / "process.json").read_text())["life"]
    mark = f"^[^ ]*python3? -c .*p[.]0/nodes[.]{(life - 1) * 1000}[.]json"
    agents = cluster.run("pgrep", "-f", mark, check=False).split()
    assert agents, "no node agent was found"
    cluster.run("kill", "-9", agents[-1])


def head_agent(trial: Trial) -> None:
    """The agent that decides for all nodes is killed."""
    os.kill(trial.far.agent_pids()[0], signal.SIGKILL)


TWO = {"nodes": 2}
AGAIN = {"options": {"requeue": "true"}}
FAULTS = (
    Fault(
        *("the line swallows everything", cut, "UNREACHABLE", r"its tasks may be running.*\[JRM-R07\]", 30),
        spares=True,
        site=CUT,
        lasts=120,
    ),
    Fault("slurmctld killed", controller, "ACTIVE", "", 30, spares=True),
    Fault("slurmd killed, started again", slurmd, "ACTIVE", "", 30, spares=True),
    Fault("sshd killed", sshd, "ACTIVE", r"connection to .* is lost \[JRM-T21\]", 10, spares=True),
    Fault("agent killed", head_agent, "ACTIVE", "started again.*JRM-A38", 20),
    Fault("scancel by somebody", scancel, "FAILED", "canceled, and not by this session.*JRM-L33", 20, ends=True),
    Fault("requeued", requeue, "ACTIVE", "may start it anew|was requeued|started anew.*JRM-S30", 30, asks=AGAIN),
    Fault("preempted", preempt, "FAILED", "preempted.*JRM-L36", 60, ends=True, asks={"queue": "scavenge"}, length=8),
    Fault(
        *("preempted, requeued", preempt, "ACTIVE", "JRM-S30", 60),
        asks={"queue": "scavenge", **AGAIN},
        length=8,
    ),
    Fault("time limit", limit, "FAILED", "time limit.*JRM-L35", 120, ends=True, length=10),
    Fault(
        *("node agent killed", node_agent, "ACTIVE", "n0[1-4] is (lost|there again), and what ran.*JRM-L37", 20),
        asks=TWO,
        length=2,
    ),
    Fault("head agent of two nodes killed", head_agent, "ACTIVE", "started again.*JRM-A38", 40, asks=TWO, length=2),
    Fault(
        *("node lost", lose_node, "ACTIVE", "on 1 of 2 nodes: n0[1-4] is lost.*JRM-L37", 60),
        asks={"nodes": 2, "queue": "batch"},
        length=2,
    ),
    Fault(
        *("node lost, one in reserve", lose_node, "ACTIVE", "taken the place of n0[1-4].*JRM-L37", 60),
        asks={"nodes": 2, "backup": 1, "queue": "batch"},
        length=2,
    ),
)
