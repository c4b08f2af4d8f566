"""What the programs of the batch system do: one function a verb, words in, one JSON document or a number out.

Each holds the lock, lets time pass for what is due, does its part, and rings for the controller. What is refused is
said on standard error with exit code 1. Read next: ``batch/systems/sim.toml``, which describes them as any other
system is described; :mod:`.control`.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from . import others, schedule
from .control import advance, ring
from .schedule import ENDING, QUEUES, RUNNING, WAITING, Job
from .store import State, Store

# Whom a job may be charged to: there is nothing to charge.
PROJECTS = ("practice",)


class Refused(Exception):
    """What was asked for cannot be."""


def me() -> str:
    """Return the account of this process."""
    return pwd.getpwuid(os.geteuid()).pw_name


def say(document: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(document) + "\n")


def row(job: Job, slots: dict[int, schedule.Slot], why: dict[int, str]) -> dict[str, Any]:
    """Return a job that is not over as a listing shows it."""
    state = {WAITING: "REQUEUED" if job.restarts else "PENDING", RUNNING: "RUNNING", ENDING: "ENDING"}[job.state]
    if job.state == WAITING and job.held:
        state = "HELD"
    elif job.state == RUNNING and job.suspended:
        state = "SUSPENDED"
    made = {
        "id": job.id,
        "name": job.name,
        "user": job.user,
        "token": job.token,
        "queue": job.queue,
        "state": state,
        "priority": QUEUES[job.queue].urgency,
        "submitted": job.submitted,
        "limit": job.limit_s,
        "restarts": job.restarts,
        "nodes": ",".join(job.on),
    }
    if job.state == WAITING:
        slot = slots.get(job.id)
        return made | {"reason": why.get(job.id, ""), **({"estimate": slot.start} if slot else {})}
    return made | {"began": job.began, "due": job.due, "reason": job.becomes}


def submit(store: Store, asked: Namespace) -> None:
    """Take a job."""
    with store.open() as state:
        now = time.time()
        advance(store, state, now)
        job = _checked(state, asked, now)
        if not state.real:
            others.come(state, now)
        job.id, state.next = state.next, state.next + 1
        path = store.file(job, "env")
        path.touch(mode=0o600)
        path.write_text(json.dumps(dict(os.environ)))
        state.jobs.append(job)
        advance(store, state, now)
        ring(store, state)
    say(job.id)


def _checked(state: State, asked: Namespace, now: float) -> Job:
    queue, size = QUEUES.get(asked.queue), state.settings
    if queue is None:
        raise Refused(f"no such queue: {asked.queue}")
    if asked.project and asked.project not in PROJECTS:
        raise Refused(f"no such project: {asked.project}")
    limit = asked.time or queue.longest_s
    if limit > queue.longest_s:
        raise Refused(f"time limit {limit:.0f} s: queue {queue.name} allows {queue.longest_s:.0f} s")
    most = min(size.nodes, queue.most_nodes or size.nodes)
    if asked.nodes > most:
        raise Refused(f"{asked.nodes} nodes: queue {queue.name} has {most} of {size.cores} cores")
    if asked.cores > size.cores:
        raise Refused(f"{asked.cores} cores on a node: the nodes have {size.cores}")
    if not os.access(asked.script, os.R_OK):
        raise Refused(f"cannot read script {asked.script}")
    job = Job(0, me(), queue.name, asked.nodes, 0 if asked.exclusive else asked.cores, limit, now, now + size.wait)
    job.held = asked.hold
    for name in ("name", "token", "requeue", "no_kill", "script", "spec", "workdir", "stdout", "stderr"):
        setattr(job, name, getattr(asked, name))
    return job


def listed(store: Store, asked: Namespace) -> None:
    """List jobs that are not over."""
    with store.open() as state:
        now = time.time()
        advance(store, state, now)
        ring(store, state)
        slots = schedule.plan(state.nodes, state.jobs, now)
        why = schedule.reasons(state.nodes, state.jobs, now)
        wanted = {int(one) for one in asked.ids.split(",") if one}
        jobs = [
            job for job in state.jobs if (not wanted or job.id in wanted) and (not asked.user or job.user == asked.user)
        ]
    say({"jobs": [row(job, slots, why) for job in jobs]})


def ended(store: Store, asked: Namespace) -> None:
    """Tell how jobs ended."""
    with store.open() as state:
        advance(store, state, time.time())
        rows = [one for one in store.recorded() if not asked.ids or one["id"] in asked.ids]
    keys = ("id", "name", "user", "token", "queue", "submitted", "began", "restarts", "exit", "ended")
    made = [{key: one[key] for key in keys} | {"state": one["outcome"], "reason": one["why"]} for one in rows]
    say({"jobs": [one | {"nodes": ",".join(old["on"])} for one, old in zip(made, rows, strict=True)]})


@dataclass(frozen=True)
class Moment:
    """A cluster as it is now, with its lock held."""

    store: Store
    state: State
    now: float


def each(act: Callable[[Moment, Job], None]) -> Callable[[Store, Namespace], None]:
    """Return the verb that does something to one's own jobs by number."""

    def do(store: Store, asked: Namespace) -> None:
        wrong: list[str] = []
        with store.open() as state:
            now = time.time()
            advance(store, state, now)
            for id in asked.ids:
                job = state.job(id)
                if job is None:
                    wrong.append(f"no job {id}")
                elif job.user != me():
                    wrong.append(f"job {id} is not yours")
                else:
                    try:
                        act(Moment(store, state, now), job)
                    except Refused as error:
                        wrong.append(str(error))
            advance(store, state, now)
            ring(store, state)
        if wrong:
            raise Refused("\n".join(wrong))

    return do


def cancel(at: Moment, job: Job) -> None:
    """End a job."""
    if job.state == WAITING:
        at.state.jobs.remove(job)
        at.store.file(job, "env").unlink(missing_ok=True)
        at.store.record(job, "CANCELLED", None, at.now)
    else:
        schedule.tell_to_end(job, "CANCELLED", at.now)


def hold(_: Moment, job: Job) -> None:
    """Keep a job from starting."""
    if job.state != WAITING:
        raise Refused(f"job {job.id} runs already")
    job.held = True


def release(_: Moment, job: Job) -> None:
    """Let a held job have its turn."""
    job.held = False


def suspend(_: Moment, job: Job) -> None:
    """Let all that runs in a job stand still; its time goes on."""
    if job.state != RUNNING:
        raise Refused(f"job {job.id} does not run")
    job.suspended = True


def resume(_: Moment, job: Job) -> None:
    """Let a suspended job go on."""
    if job.state != RUNNING or not job.suspended:
        raise Refused(f"job {job.id} is not suspended")
    job.suspended = False


def nodes(store: Store, _: Namespace) -> None:
    """List the nodes."""
    with store.open() as state:
        advance(store, state, time.time())
        made = []
        for node in state.nodes:
            taken = sum(job.cores or node.cores for job in state.jobs if job.holds and node.name in job.on)
            how = "down" if node.down else "idle" if not taken else "allocated" if taken >= node.cores else "mixed"
            made.append({"name": node.name, "state": how, "cores": node.cores, "taken": taken, "reason": node.down})
    say({"nodes": made})


def queues(store: Store, _: Namespace) -> None:
    """List the queues."""
    with store.open() as state:
        advance(store, state, time.time())
        size = state.settings
        made = [
            {
                "name": queue.name,
                "default": queue.default,
                "longest": queue.longest_s,
                "nodes": size.nodes,
                "most_nodes": min(size.nodes, queue.most_nodes or size.nodes),
                "cores": size.cores,
                "running": sum(job.queue == queue.name and job.holds for job in state.jobs),
                "queued": sum(job.queue == queue.name and not job.holds for job in state.jobs),
            }
            for queue in QUEUES.values()
        ]
    say({"queues": made})


def projects(_: Store, __: Namespace) -> None:
    """List the projects."""
    say({"projects": [{"name": name} for name in PROJECTS]})


def fail(store: Store, asked: Namespace) -> None:
    """Take nodes away as a power cut would: all that runs there ends at once."""
    with store.open() as state:
        now = time.time()
        advance(store, state, now)
        for node in _named(state, asked.nodes):
            node.down = asked.why
            for job in [job for job in state.jobs if job.holds and node.name in job.on]:
                if job.lasts:
                    state.jobs.remove(job)
                    store.record(job, "NODE_FAIL", None, now)
                elif job.no_kill and job.on[0] != node.name:
                    job.lost.append(node.name)
                else:
                    schedule.tell_to_end(job, "NODE_FAIL", now, f"node {node.name} failed")
        advance(store, state, now)
        ring(store, state)


def repair(store: Store, asked: Namespace) -> None:
    """Take nodes back into service."""
    with store.open() as state:
        now = time.time()
        for node in _named(state, asked.nodes):
            node.down = ""
        advance(store, state, now)
        ring(store, state)


def _named(state: State, names: Iterable[str]) -> list[schedule.Node]:
    known = {node.name: node for node in state.nodes}
    strange = [name for name in names if name not in known]
    if strange:
        raise Refused(f"no such node: {', '.join(strange)}; there are {', '.join(known)}")
    return [known[name] for name in names]
