"""Command lines from the table of launch methods.

Text in, text out. Nothing of a task becomes shell text: arguments stay arguments, and the one method that hands a line
to a remote shell (ssh) quotes every word of it. Read next: :mod:`.choose`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...batch.templates import Hole, fill
from ...model.errors import RequestError
from .methods import Item, Method

_MANY = ("{argv}", "{exports}", "{line}")


@dataclass(frozen=True, slots=True)
class Rank:
    """One rank: its host, and the numbers of its cores and GPUs there. ``place``: the host's position in the job."""

    host: str
    cores: tuple[int, ...] = (0,)
    gpus: tuple[int, ...] = ()
    place: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """What to run: ``argv``, variables to add, and the text of the host file ('' none is needed)."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    file: str = ""


def ranks_line(
    method: Method,
    ranks: Sequence[Rank],
    argv: Sequence[str],
    *,
    program: str = "",
    exports: Sequence[str] = (),
    file: str = "",
    pmi: str = "",
    first: int = 0,
    root: bool = False,
) -> Line:
    """Return the command that starts the ranks of one task.

    Args:
        ranks: in order; argv: what each runs; program: path of the launcher.
        exports: names of variables the ranks must see, for methods that do not pass the environment on.
        file: path of the host file, should one be needed; first: position of the first slot in the job's list.
        pmi: how ranks meet (srun); root: this is root, whom some launchers refuse.

    Raises:
        RequestError: the method cannot do that.
    """
    if not method.ranks or (method.name in ("fork", "ssh") and len(ranks) > 1):
        raise RequestError(
            f"launch: {method.name} cannot start {len(ranks)} ranks that belong together",
            hint="choose srun, mpirun, mpiexec or what the site has",
            code="JRM-Q81",
        )
    counts: dict[str, int] = {}
    for rank in ranks:
        counts[rank.host] = counts.get(rank.host, 0) + 1
    even = len(set(counts.values())) == 1 and _blocks(ranks)
    if method.name == "ibrun" and not even:
        raise RequestError(
            "launch: ibrun places ranks evenly only", hint="give ranks_per_node, or launch='mpirun'", code="JRM-Q81"
        )
    text = ""
    if method.file == "erf":
        text = "".join(_erf(number, rank) for number, rank in enumerate(ranks))
    elif method.file == "ranks" and not even:
        text = "".join(f"{rank.host}\n" for rank in ranks)
    have = {
        "program": program or None,
        "n": str(len(ranks)),
        "nodes": str(len(counts)),
        "hosts": ",".join(counts),
        "host": ranks[0].host,
        "counts": ",".join(f"{host}:{count}" for host, count in counts.items()) if len(counts) > 1 else None,
        "per_node": str(max(counts.values())) if even else None,
        "uneven": None if even else "arbitrary",
        "blocks": ",".join(counts) if even else None,
        "cores": str(max(len(rank.cores) for rank in ranks) or 1),
        "gpus": str(max(len(rank.gpus) for rank in ranks)) if any(rank.gpus for rank in ranks) else None,
        "file": file if text else None,
        "first": str(first),
        "pmi": pmi or None,
        "root": "" if root else None,
    }
    passed = [part.format(name=name) for name in exports for part in method.export] if len(counts) > 1 else []
    env = {key: said for key, template in method.env if (said := fill(template, _of(have))) is not None}
    return Line(_filled(method.ranks, have, list(argv), passed), env, text)


def agents_lines(
    method: Method, hosts: Sequence[tuple[str, int]], argv: Sequence[str], *, program: str = "", root: bool = False
) -> list[tuple[Line, list[str]]]:
    """Return the commands that start one process per host, each with the names of its hosts.

    Args:
        hosts: (name, position of its first slot in the job's node list); argv: what to run on each.

    Raises:
        RequestError: the method cannot do that.
    """
    if not method.agents:
        raise RequestError(
            f"launch: {method.name} cannot start one process per node",
            hint="choose srun, ssh, mpirun or mpiexec",
            code="JRM-Q81",
        )
    groups = [[host] for host in hosts] if method.each else [list(hosts)]
    out = []
    for group in groups:
        names = [name for name, _ in group]
        have = {
            "program": program or None,
            "n": str(len(group)),
            "nodes": str(len(group)),
            "hosts": ",".join(names),
            "host": names[0],
            "ones": ",".join(f"{name}:1" for name in names),
            "first": str(group[0][1]),
            "root": "" if root else None,
        }
        out.append((Line(_filled(method.agents, have, list(argv), [])), names))
    return out


def _blocks(ranks: Sequence[Rank]) -> bool:
    """Say whether the ranks of each host follow one another, as launchers number them by themselves."""
    seen: list[str] = []
    for rank in ranks:
        if not seen or seen[-1] != rank.host:
            if rank.host in seen:
                return False
            seen.append(rank.host)
    return True


def _erf(number: int, rank: Rank) -> str:
    """Return a line of jsrun's explicit resource file; its hosts are counted from 1, the launch node being 0."""
    gpus = f"; gpu: {{{','.join(map(str, rank.gpus))}}}" if rank.gpus else ""
    return f"rank: {number}: {{ host: {rank.place + 1}; cpu: {{{','.join(map(str, rank.cores))}}}{gpus} }}\n"


def _of(have: Mapping[str, str | None]) -> Callable[[Hole], str | None]:
    return lambda hole: have.get(hole.name)


def _filled(items: Sequence[Item], have: Mapping[str, str | None], argv: list[str], exports: list[str]) -> list[str]:
    out: list[str] = []
    for item in items:
        if item in _MANY:
            out += {"{argv}": argv, "{exports}": exports, "{line}": [shlex.join(argv)]}[str(item)]
            continue
        filled = [fill(template, _of(have)) for template in ([item] if isinstance(item, str) else item)]
        if None not in filled:
            out += [text for text in filled if text is not None]
    return out
