"""What a site looks like from outside: its queue and nodes, as the broker tells those who follow a session.

Plain rows; nothing here is ever recorded. Times are seconds since 1970 (0: not known). Read next:
:mod:`jupyter_rm.runtime.collect`, which gathers it.
"""

from __future__ import annotations

import msgspec


class SiteJob(msgspec.Struct, frozen=True, array_like=True):
    """A job that the batch system lists.

    Attributes:
        id: the batch system's; user: whose; mine: of the account that pilots run under.
        state: ``queued``, ``running`` ... with a finer word behind a colon where there is one.
        queue, reason: as the site says, the reason in plain words.
        position: 1 is next in its queue (0: not known, or in no line); nodes: how many it runs on.
        hosts: their names, as in ``n[01-04],n07`` (empty: none, not told, or too many to write down).
    """

    id: str
    user: str
    mine: bool
    state: str
    queue: str = ""
    reason: str = ""
    position: int = 0
    submit: float = 0.0
    start: float = 0.0
    estimate: float = 0.0
    nodes: int = 0
    hosts: str = ""


class SiteNode(msgspec.Struct, frozen=True, array_like=True):
    """A node: ``state`` is free, busy, mixed, offline or unknown; memory in MiB; zeros are not known."""

    name: str
    state: str
    raw: str = ""
    cores: int = 0
    mem: int = 0
    gpus: int = 0
    load: float = -1.0
    reason: str = ""
    queues: tuple[str, ...] = ()


class SiteQueue(msgspec.Struct, frozen=True, array_like=True):
    """A queue (partition) with its limits, zeros: none, or not told; ``walltime`` in seconds, memory in MiB a node."""

    name: str
    open: bool = True
    default: bool = False
    walltime: float = 0.0
    nodes: int = 0
    cores: int = 0
    mem: int = 0


class SiteView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A site at one moment.

    Attributes:
        site: as it was named; title: of its batch system.
        jobs: own ones first, then others by their place in the line; left_out: how many are not in ``jobs``.
        whole: everybody's jobs are listed there, not only one's own.
        nodes: of the site; nodes_left_out: how many are not in ``nodes``; node_states: how many of each state, all.
        heard: when each part (jobs, queue, nodes, queues) was heard last; failures: why not since then, by part.
        number: of the collection that this is a picture of; it grows with every change.
        queues: where jobs can be put, with limits.
        projects: what jobs of this account can be charged to.
        ops: what its batch system can be asked to do, such as ``hold`` and ``suspend``.
        sources: by part, where it is from at a site with a collection for all its users.
    """

    site: str
    title: str = ""
    jobs: tuple[SiteJob, ...] = ()
    left_out: int = 0
    whole: bool = True
    nodes: tuple[SiteNode, ...] = ()
    nodes_left_out: int = 0
    node_states: dict[str, int] = {}
    heard: dict[str, float] = {}
    failures: dict[str, str] = {}
    number: int = 0
    queues: tuple[SiteQueue, ...] = ()
    ops: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    sources: dict[str, str] = {}

    def __repr__(self) -> str:
        own = sum(job.mine for job in self.jobs)
        others = len(self.jobs) - own + self.left_out
        states = ", ".join(f"{count} {state}" for state, count in self.node_states.items()) or "nodes not told"
        lines = [f"<site {self.site}: {own} jobs of yours, {others} of others; {states}>"]
        for job in self.jobs[:20]:
            line = f"{job.queue} place {job.position}" if job.position else job.queue
            lines.append(
                f"  {'*' if job.mine else ' '} {job.id:<10} {job.user:<10} {job.state:<18} {line} {job.reason}"
            )
        lines += [f"  {part}: {source}" for part, source in self.sources.items()]
        lines += [f"  {part}: {why}" for part, why in self.failures.items()]
        return "\n".join(lines)
