"""What pilots are asked for, and what can run nowhere: checked before anything is sent.

The broker checks again; here the answer comes at once and names the field. Knows this machine's cores.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..model import hooks
from ..model.describe import named_amounts
from ..model.errors import RequestError
from ..model.facts import PilotSpec
from ..model.ids import check_name, pilot_uid
from ..model.late import capability_names
from ..model.pilotrow import PilotRow
from ..model.resources import Request
from ..model.states import PilotState
from ..model.units import GPU_UNIT, duration_s, human_mib, memory_mib, whole

_LOCAL = ("local", "noop")
_Method = TypeVar("_Method", bound=Callable[..., Any])


def usable_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def local_spec() -> PilotSpec:
    """Return the pilot that is started when there is none: all usable cores of this machine."""
    return PilotSpec(site="local", cores=usable_cores())


def named(rows: Sequence[PilotRow], spec: PilotSpec) -> int | None:
    """Return the number of the living pilot that has the name of ``spec``, None when there is none.

    A cell that asks for a named pilot can so be run again.

    Raises:
        RequestError: JRM-Q02, it is another kind of pilot.
    """
    for row in rows:
        if spec.name and row.spec.name == spec.name and row.state < PilotState.DRAINING:
            if row.spec != spec:
                raise RequestError(
                    f"name: {pilot_uid(row.number)} is called {spec.name!r} too, and is another kind of pilot",
                    hint="choose another name, or cancel that one first",
                    code="JRM-Q02",
                )
            return row.number
    return None


def _text(value: object, field: str) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise RequestError(f"{field}: {value!r} is not text", hint=f"give {field} as a string", code="JRM-Q05")
    text = os.fspath(value)
    if "\0" in text or "\n" in text:
        raise RequestError(f"{field}: holds a line break or NUL", hint="remove it", code="JRM-Q05")
    return _whole(text, field)


def _whole(text: str, field: str) -> str:
    """Refuse text that cannot travel: halves of characters, and bytes that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{field}: holds {text[error.start]!a}, which is no character", hint="remove it", code="JRM-Q05"
        ) from None
    return text


def _texts(value: object, field: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise RequestError(f"{field}: {value!r} is no mapping", hint=f'{field}={{"name": "value"}}', code="JRM-Q05")
    return {_text(name, field): _option(said, f"{field}[{name!r}]") for name, said in value.items()}


def _hooks(value: object, field: str) -> dict[str, str]:
    """Return hooks; each is a shell line, or a list of them."""
    if not isinstance(value, Mapping):
        hint = f'{field}={{"before_agent": "module load gcc"}}'
        raise RequestError(f"{field}: {value!r} is no mapping", hint=hint, code="JRM-Q05")
    made = {}
    for name, said in value.items():
        parts = said if isinstance(said, (list, tuple)) else [said]
        for part in parts:
            if not isinstance(part, str):
                raise RequestError(
                    f"{field}[{name!r}]: {part!r} is not text", hint="give a shell line, or a list", code="JRM-Q05"
                )
        made[_text(name, field)] = _whole("\n".join(parts), f"{field}[{name!r}]")
    return made


def _option(value: object, field: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else _text(value, field)


# What an agent on this machine has no use for: said so, not passed over.
_ELSEWHERE = ("queue", "project", "env", "env_mode", "env_source", "env_base", "env_prefer", "python", "connect")
# Attributes of batch systems that may be given by name, like the fields; all others stand in options=.
_OPTIONS = ("qos", "reservation", "constraint", "exclusive", "requeue", "hold")
_FIELDS: dict[str, Any] = {
    "name": check_name,
    "nodes": lambda value, field: whole(value, field, 1),
    "cores": lambda value, field: whole(value, field, 1),
    "gpus": lambda value, field: whole(value, field, 0),
    "mem": memory_mib,
    "walltime": duration_s,
    "queue": _text,
    "project": _text,
    "sandbox": _text,
    "options": _texts,
    "launch": _text,
    "env_mode": _text,
    "env": _text,
    "env_source": _text,
    "drain": duration_s,
    "hooks": _hooks,
    "python": _text,
    "capabilities": capability_names,
    "envs": _texts,
    "env_base": _text,
    "env_prefer": _text,
    "connect": _text,
    "backup": lambda value, field: whole(value, field, 0),
    "partitions": lambda value, field: _partitions(value, field),
    "resources": lambda value, field: dict(named_amounts(value, field)),
    "renew": lambda value, field: whole(value, field, 0),
    **dict.fromkeys(_OPTIONS, _option),
}


def with_fields(method: _Method) -> _Method:
    """Let help and completion of ``method(self, site, **fields)`` show the fields of a pilot."""
    kind = inspect.Parameter
    first = [each for each in inspect.signature(method).parameters.values() if each.kind is not kind.VAR_KEYWORD]
    named = [kind(name, kind.KEYWORD_ONLY, default=None) for name in _FIELDS]
    method.__signature__ = inspect.Signature([*first, *named])  # type: ignore[attr-defined]
    return method


def _partitions(value: object, field: str) -> int | tuple[int, ...]:
    if isinstance(value, (list, tuple)):
        return tuple(whole(each, f"{field}[{at}]", 1) for at, each in enumerate(value))
    return whole(value, field, 1)


def _shared_out(parts: int | tuple[int, ...], nodes: int) -> tuple[int, ...]:
    """Return the nodes of each partition."""
    if isinstance(parts, tuple):
        return parts
    if parts > nodes:
        raise RequestError(
            f"partitions: {parts} of {nodes} node{'s' * (nodes != 1)}",
            hint=f"a partition is made of whole nodes: nodes={parts} or more",
            code="JRM-Q54",
        )
    return tuple(nodes // parts + (at < nodes % parts) for at in range(parts))


def _of_file(site: str) -> dict[str, Any]:
    if site in _LOCAL or "://" in site:
        return {}
    from ..broker.sites import given_at  # it brings all that is needed to reach other machines

    return given_at(site)


def pilot_spec(site: object, fields: Mapping[str, Any], *, settled: bool = True) -> PilotSpec:
    """Return the checked request for a pilot.

    Args:
        site: its name or URL; fields: what is asked for; settled: with what the site's file says beside it.

    Raises:
        RequestError: an unknown or impossible field, named.
    """
    site = _text(site, "site")
    if not site:
        raise RequestError("site: empty", hint='use "local" or a URL such as slurm+ssh://me@login', code="JRM-Q54")
    made: dict[str, Any] = {"site": site}
    for name, value in fields.items():
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, 1)
            hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(_FIELDS)
            raise RequestError(f"{name}: no such field of a pilot", hint=hint, code="JRM-Q06")
        if value is not None:
            made[name] = _FIELDS[name](value, name)
    if isinstance(made.get("partitions"), tuple):  # a list of them says how many nodes there are
        made.setdefault("nodes", sum(made["partitions"]))
    made = {**(_of_file(site) if settled else {}), **made}
    if "partitions" in made:
        made["partitions"] = _shared_out(made["partitions"], made.get("nodes", 1))
    options = {name: made.pop(name) for name in _OPTIONS if name in made}
    if options:
        made["options"] = {**made.get("options", {}), **options}
    if site in _LOCAL and (named := sorted(made.get("options", {}))):
        raise RequestError(
            f"options[{named[0]!r}]: this machine has no batch system",
            hint="leave it out, or name a cluster",
            code="JRM-Q54",
        )
    if site in _LOCAL:
        for name in _ELSEWHERE:
            if made.get(name):
                raise RequestError(
                    f"{name}: means nothing on this machine", hint="leave it out, or name a cluster", code="JRM-Q54"
                )
        if made.get("backup") and made.get("launch") != "fork":
            raise RequestError("backup: this machine is one node", hint="leave it out", code="JRM-Q54")
        if made.get("drain") and not made.get("walltime"):
            raise RequestError("drain: the pilot has no end to drain before", hint="give walltime", code="JRM-Q54")
        hooks.check(made.get("hooks", {}), here=True)
    if site == "local":
        made.setdefault("cores", usable_cores())
        if made.get("nodes", 1) > 1 and made.get("launch") != "fork":
            hint = "leave it out; launch='fork' makes several of it, to try things out"
            raise RequestError("nodes: this machine is one node", hint=hint, code="JRM-Q54")
    elif "://" not in site and site not in _LOCAL and not site.replace("-", "").replace("_", "").isalnum():
        raise RequestError(f"site: {site!r} is not a site", hint="local, noop, a site's name or a URL", code="JRM-Q54")
    return PilotSpec(**made)


def check_fits(request: Request, rows: Sequence[PilotRow], extra: PilotSpec | None = None) -> None:
    """Refuse a task that no pilot of a session on this machine can ever hold.

    Raises:
        RequestError: JRM-Q14, naming what is too large. Says nothing while any pilot is elsewhere or of several nodes.
    """
    if not request.gpus and not request.mem:  # most often: one look at one node
        cores = request.ranks * request.cores
        for row in rows:
            if row.nodes and row.nodes[0].cores >= cores and not row.state.final:
                return
    alive = [row for row in rows if not row.state.final]
    if any(row.spec.site != "local" or row.spec.nodes > 1 for row in alive):
        return
    holds = [(_cores(row), max((node.gpus for node in row.nodes), default=row.spec.gpus), _mem(row)) for row in alive]
    if extra is not None:
        holds.append((extra.cores, extra.gpus, 0))
    if not holds:
        return
    cores = request.ranks * request.cores
    if all(cores > held[0] for held in holds):
        most = max(held[0] for held in holds)
        each = f" ({request.ranks} ranks of {request.cores})" if request.ranks > 1 else ""
        raise RequestError(
            f"cores: the task asks for {cores}{each}, but the largest pilot has {most}",
            hint=f'ask for at most {most}, or start a larger pilot: s.pilot("local", cores={cores})',
            code="JRM-Q14",
        )
    gpus = request.ranks * request.gpus
    if gpus and all(gpus > held[1] * GPU_UNIT for held in holds):
        raise RequestError(
            f"gpus: the task asks for {gpus / GPU_UNIT:g}, but no pilot has so many",
            hint='start a pilot with GPUs: s.pilot("local", gpus=1)',
            code="JRM-Q14",
        )
    memory = request.ranks * request.mem
    if memory and all(held[2] and memory > held[2] for held in holds):
        most = max(held[2] for held in holds)
        raise RequestError(
            f"mem: the task asks for {human_mib(memory)}, but the largest pilot has {human_mib(most)}",
            hint="ask for less",
            code="JRM-Q14",
        )


def _cores(row: PilotRow) -> int:
    return max((node.cores for node in row.nodes), default=row.spec.cores or usable_cores())


def _mem(row: PilotRow) -> int:
    return max((node.mem for node in row.nodes), default=row.spec.mem)
