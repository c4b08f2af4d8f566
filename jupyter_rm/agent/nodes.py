"""The nodes of a pilot's job: what they are called, what each may be asked for, and which of them are in reserve.

The batch system's own variables say which hosts a job has; what a host is made of is found by looking at it
(:mod:`jupyter_rm.runtime.probe`) and never made larger than what the batch system granted. Knows descriptions of batch
systems and environment variables, starts nothing. Read next: :mod:`jupyter_rm.agent.fleet`.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..batch import BatchSystem, JobContext, known, load
from ..core.sound import CORES_MOST, GPUS_MOST
from ..model.errors import SiteError
from ..model.resources import Node
from ..model.units import human_mib
from .talk import NodeHello

# What is in the environment of a job and its steps and means the step: a task must see the job's values.
STEP_PREFIXES = ("SLURM_", "PMI_", "PMI2_", "PMIX_", "OMPI_", "PRTE_", "HYDI_", "HYDRA_", "MPI_", "FLUX_TASK_", "ALPS_")


@dataclass(frozen=True, slots=True)
class Host:
    """One host of a job and what the batch system granted there; 0 where it does not say.

    ``place``: the position of its first slot in the job's node list.
    """

    name: str
    cores: int = 0
    gpus: int = 0
    mem: int = 0
    place: int = 0


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts of a pilot: those it uses (the head agent's own first, when it is one of them) and its reserve."""

    used: tuple[Host, ...]
    spare: tuple[Host, ...] = ()
    own: int | None = 0  # the number of the head agent's host, None: it runs beside them
    end: float | None = None  # epoch s at which the batch system ends the job, None: not known


def short(name: str) -> str:
    """Return a host name without its domain, in lower case."""
    return name.partition(".")[0].lower()


def own_names(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return what this host may be called in a node list, the surest first."""
    names = [environ.get("JRM_NODE_NAME", ""), environ.get("SLURMD_NODENAME", ""), platform.node()]
    return tuple(dict.fromkeys(name for name in names if name))


def per_node(text: str) -> list[int]:
    """Return the numbers of ``4(x2),8``: Slurm's counts per node."""
    out: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,6})(?:\(x([0-9]{1,6})\))?", part.strip(), re.ASCII)
        if match is None:
            return []
        out += [int(match[1])] * int(match[2] or 1)
    return out


def job_of(spec: Mapping[str, Any], environ: Mapping[str, str]) -> JobContext | None:
    """Return what the job says of itself; None when the pilot is no batch job.

    Args:
        spec: ``job`` is the ``[job]`` table of the batch system's description; without it ``system``, its name, is
            looked up in the package.

    Raises:
        SiteError: this is not inside such a job, or its node list cannot be read.
    """
    name = str(spec.get("system") or "")
    said = spec.get("job")
    if not said and name in known() and name != "base":
        said = load(name).get("job")
    if not said or not said.get("nodes"):
        return None
    system = BatchSystem(name, {"job": said, "title": name}, {})
    return system.job(environ, lambda path: Path(path).read_text(encoding="utf-8", errors="replace"))


def hosts_of(spec: Mapping[str, Any], environ: Mapping[str, str]) -> Hosts | None:
    """Return the hosts of the pilot that ``spec`` describes; None when it is this machine alone.

    Args:
        spec: as the broker wrote it; see :func:`job_of` for a batch job. With ``launch`` ``fork`` several nodes of a
            pilot without a batch system are this machine several times over, to try things out.
        environ: the environment of the job.

    Raises:
        SiteError: this is not inside the job that was asked for, or its node list cannot be read.
    """
    job = job_of(spec, environ)
    asked = max(int(spec.get("nodes") or 0), 0)
    if job is None or not job.nodes:
        if asked > 1 and spec.get("launch") == "fork" and spec["site"] != "noop":
            cores = -(-spec["cores"] // asked) if spec["cores"] else 1
            gpus = -(-spec["gpus"] // asked) if spec["gpus"] else 0
            backup = int(spec.get("backup") or 0)
            made = tuple(Host(f"{short(platform.node())}-{n}", cores, gpus, spec["mem"]) for n in range(asked + backup))
            return Hosts(made[:asked], made[asked:])
        return None
    cores = per_node(environ.get("SLURM_JOB_CPUS_PER_NODE", ""))
    gpus = int(environ["SLURM_GPUS_ON_NODE"]) if environ.get("SLURM_GPUS_ON_NODE", "").isdecimal() else 0
    mem = environ.get("SLURM_MEM_PER_NODE", "")
    hosts, place = [], 0
    for number, (name, slots) in enumerate(job.nodes):
        known = slots or (cores[number] if len(cores) == len(job.nodes) else 0)
        hosts.append(Host(name, known, gpus, int(mem) if mem.isdecimal() else 0, place))
        place += slots or 1
    return arranged(hosts, own_names(environ), asked if spec.get("backup") else 0, job.end)


def arranged(hosts: Sequence[Host], own: Sequence[str], asked: int, end: float | None = None) -> Hosts:
    """Return the hosts with one's own first and, when fewer are ``asked`` for (0: all), the rest in reserve."""
    mine = None
    for name in own:
        for number, host in enumerate(hosts):
            if mine is None and (host.name == name or short(host.name) == short(name)):
                mine = number
    first = [hosts[mine]] if mine is not None else []
    ordered = [*first, *(host for number, host in enumerate(hosts) if number != mine)]
    count = asked or len(ordered)
    if count > len(ordered):
        raise SiteError(
            f"the job has {len(ordered)} nodes, {count} were asked for",
            hint="see the batch system's own limits",
            code="JRM-S81",
        )
    return Hosts(tuple(ordered[:count]), tuple(ordered[count:]), 0 if mine is not None else None, end)


def partitioned(nodes: list[Node], sizes: Sequence[int]) -> list[Node]:
    """Return the nodes with the number of their part; ``sizes``: how many in their order make each part, () one."""
    numbers = [number for number, size in enumerate(sizes) for _ in range(size)]
    if not numbers:
        return nodes
    return [msgspec.structs.replace(node, partition=at) for node, at in zip(nodes, numbers, strict=True)]


def offering(nodes: list[Node], resources: Mapping[str, int]) -> list[Node]:
    """Return the nodes with what the user says that each of them has, by name."""
    named = tuple(sorted(resources.items()))
    return [msgspec.structs.replace(node, named=named) for node in nodes] if named else nodes


def shortage(host: Host, facts: NodeHello) -> str:
    """Return what a host was said to have and has not, in words; empty: nothing."""
    parts = []
    if host.gpus > facts.gpus:
        parts.append(f"gpus: {host.gpus} asked for, {facts.gpus or 'none'} found there")
    if host.mem > facts.mem:
        parts.append(f"mem: {human_mib(host.mem)} asked for, {human_mib(facts.mem)} there")
    return "; ".join(parts)


def node_of(host: Host, facts: NodeHello, name: str = "") -> tuple[Node, bool]:
    """Return (what may be placed on a host, whether tasks may be bound to its cores), given what was found there."""
    # The largest machines have more than one node may have; what is beyond that stays idle.
    cores = min(host.cores or len(facts.cores), CORES_MOST)
    pin = cores <= len(facts.cores)
    even = len({len(group) for group in facts.numa}) == 1 and cores == len(facts.cores)
    ids = tuple(core for group in facts.numa for core in group) if even else facts.cores[:cores]
    node = Node(
        name or host.name,
        cores,
        min(host.gpus or facts.gpus, GPUS_MOST),
        min(host.mem, facts.mem) if host.mem else facts.mem,
        facts.lfs,
        len(facts.numa) if even else 1,
        # More cores promised than there are: the surplus has no numbers, so nothing is bound and none is named.
        core_ids=ids if pin else (),
    )
    return node, pin
