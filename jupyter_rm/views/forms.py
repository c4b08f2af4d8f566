"""The launch form of a site, as plain values: which fields there are, what is wrong with them, what would be sent.

Made from the typed attributes of a batch system's description; the command shown is the one that
:meth:`jupyter_rm.batch.BatchSystem.render` makes, byte for byte. What is only known when it is sent (the token that
finds the job again, and paths on the site) is shown as :data:`LATER` says. Knows no widget and no server.
Read next: :mod:`jupyter_rm.batch.values`, ``docs/batch-systems.md``.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..batch import BATCH_SCRIPT, BatchSystem, known
from ..batch.conditions import holds
from ..batch.values import Attribute, Value, accept, resolve, written
from ..broker.sites import AUTO, PLAIN, SiteName, completed, description_of, parse, search_path, values_of
from ..core.session import SITES
from ..model.errors import JrmError, RequestError
from ..model.facts import PilotSpec
from ..model.sites import SiteQueue
from ..model.units import human_s, memory_mib
from ..runtime.bootstrap.talk import MODES
from ..runtime.connect import Target
from ..runtime.found import Found

# What the program that submits decides; these stand in their places in a preview.
PLACE = "/PLACE-OF-THE-PILOT"
LATER: dict[str, str] = {
    "token": "jrm000000000000",
    "workdir": PLACE,
    "stdout": f"{PLACE}/job.log",
    "stderr": f"{PLACE}/job.log",
    "script": f"{PLACE}/job.sh",
    "spec": f"{PLACE}/spec",
}
# Attributes that are a pilot's own fields, and what they are called there; the others are its ``options``.
PILOT_FIELDS = {
    "name": "name",
    "queue": "queue",
    "project": "project",
    "nodes": "nodes",
    "cores_per_node": "cores",
    "gpus_per_node": "gpus",
    "mem_per_node": "mem",
    "walltime": "walltime",
    "env_mode": "env_mode",
    "python": "python",
}
# What a pilot elsewhere is asked beside the attributes of its batch system.
BESIDE = (
    Attribute(
        name="env_mode",
        type="choice",
        label="Environment",
        help="how the environment of its agent comes to be; create: made there unless it is there",
        choices=[mode for mode in MODES if mode != "use"],
    ),
    Attribute(
        name="python",
        label="Python there",
        help="a path, a command, or a line such as: module load python",
        max_length=1024,
    ),
    Attribute(
        name="before_agent",
        label="Before the agent",
        help="a shell line run in the job first, such as: module load gcc; tasks inherit its environment",
        max_length=1024,
    ),
)
_ON_THIS_MACHINE = ("name", "nodes", "cores_per_node", "gpus_per_node", "mem_per_node", "walltime")
_TITLES = {"local": "this machine", "noop": "nothing is run", "base": "the batch system is found at the login"}
_WITHOUT_A_COMMAND = {
    "local": "The agent is started on this machine; no command of a batch system is run.",
    "noop": "Its tasks end at once: it measures the machinery alone.",
}


def name_of(site: str) -> SiteName:
    """Return what a site's name or URL means; the bare name of a batch system will do here.

    Raises:
        RequestError: JRM-Q17, JRM-Q70, it means nothing.
    """
    if site in SITES:
        return SiteName(site, Target(""), PLAIN)
    if site in known(search_path()):
        with contextlib.suppress(RequestError):
            return parse(site)
        return SiteName(site, Target(""), site)
    return parse(site)


def system_of(site: str) -> BatchSystem:
    """Return the batch system that a site's name or URL stands for.

    Args:
        site: ``local``, ``noop``, ``ssh://me@host``, ``slurm+ssh://me@login``, or a description's name.

    Raises:
        RequestError: JRM-Q17, JRM-Q24, there is no such description.
    """
    # Which system it is turns out when somebody has logged in there: until then, what all of them know.
    name = name_of(site).system
    return description_of("base" if name == AUTO or site == "noop" else name)


def offered(system: BatchSystem, site: str = "") -> list[Attribute]:
    """Return the attributes that a person may choose for a pilot of this system."""
    here = site in _WITHOUT_A_COMMAND
    return [
        each
        for each in system.attributes.values()
        if each.visible
        and each.name not in LATER
        and not each.product
        and (each.name in system.heard or each.optional or system.name == "base")
        and (not here or each.name in _ON_THIS_MACHINE)
    ] + [each for each in BESIDE if not here and each.name not in system.attributes]


def form_of(
    system: BatchSystem,
    values: Mapping[str, object],
    *,
    site: str = "",
    choices: Mapping[str, Sequence[str]] | None = None,
    discovered: Found | None = None,
    hidden: Collection[str] = (),
) -> dict[str, Any]:
    """Return the form of a batch system, filled with ``values``.

    Args:
        system: its description. values: what a person gave, by attribute; None and empty texts are "not given".
        site: the name or URL that is asked for. choices: known ones by attribute, such as the queues.
        discovered: what was found at the site: its queues and projects are choices, and limits of queues hold.
        hidden: attributes that this person does not want to see; they are sent with their defaults, as ever.

    Returns:
        ``{"site", "system", "title", "fields", "errors", "ready", "command", "argv", "stdin", "script", "later",
        "note", "found", "resolved", "left_out", "pilot"}``. A field is ``{"name", "label", "help", "type", "unit",
        "value", "default", "min", "max", "pattern", "max_length", "choices", "required", "read_only", "shown",
        "hidden", "error"}``; ``errors`` are ``{name: text}``, with the name ``""`` for what is wrong with the whole;
        ``found`` is ``{"can", "at", "text", "failure"}``, what discovery told; ``resolved`` the values that are asked
        for, by attribute, ``left_out`` the attributes without one; ``pilot`` is what ``Session.pilot(**pilot)`` takes,
        None while there are errors.
    """
    fields = {each.name: each for each in offered(system, site)}
    queues = discovered.queues if discovered is not None and "queue" in fields else ()
    found = dict(choices or {})
    if queues:
        found.setdefault("queue", [queue.name for queue in queues if queue.open])
    if discovered is not None and discovered.projects and "project" in fields:
        found.setdefault("project", list(discovered.projects))
    hidden = {name for name in hidden if name in fields and not fields[name].required}
    values = {name: value for name, value in values.items() if name not in hidden}
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    errors: dict[str, str] = {}
    good: dict[str, Value] = {}
    for name, value in given.items():
        if name not in fields:
            errors[""] = f"{name}: this site has no such field"
            continue
        try:
            good[name] = accept(fields[name], _typed(fields[name], value), found.get(name, ()))
        except JrmError as error:
            errors[name] = _said(error, name)
    shown = {name: _shown(each, system, good) for name, each in fields.items()}
    for name in [name for name in good if not shown[name]]:
        del good[name]  # what cannot be seen is not sent
    errors |= _beyond(queues, good)
    command = None
    resolved: dict[str, str] = {}
    wanted = None if errors else pilot_of(site or system.name, good, system)
    if wanted is not None:
        try:
            asked = sent(system, wanted)
            command = system.render("submit", asked, choices) if "submit" in system.ops else None
            resolved = _resolved(system, asked) if command else {}
        except JrmError as error:
            name = error.message.partition(":")[0]
            errors[name if name in fields else ""] = _said(error, name)
    without = _WITHOUT_A_COMMAND.get(site, "")
    if not without and system.name == "base":
        without = "Which batch system it has turns out at the login; then the command is made."
    command = None if without else command
    return {
        "site": site or system.name,
        "system": system.name,
        "title": _TITLES.get(site) or _TITLES.get(system.name, system.title),
        "fields": [
            _field(each, values.get(name), shown[name], found.get(name, ()), errors.get(name, ""), queues)
            | {"hidden": name in hidden}
            for name, each in fields.items()
        ],
        "errors": errors,
        "ready": not errors,
        "command": command.line() if command else "",
        "argv": list(command.argv) if command else [],
        "stdin": command.stdin.decode() if command else "",
        "script": BATCH_SCRIPT.decode() if command else "",
        "later": later_of(system) if command else {},
        "note": without,
        "found": _told(discovered, "queue" in fields and not without),
        "resolved": resolved,
        "left_out": sorted(name for name in fields if name not in resolved) if resolved else [],
        "pilot": None if errors else wanted,
    }


def _resolved(system: BatchSystem, asked: Mapping[str, object]) -> dict[str, str]:
    """Return what a batch system is asked for, by attribute, defaults included, as its command writes it."""
    have = resolve(system.attributes, asked)
    return {
        name: written(system.attributes[name], value)
        for name, value in sorted(have.items())
        if name in system.heard or system.attributes[name].optional
    }


def _beyond(queues: Sequence[SiteQueue], good: Mapping[str, Value]) -> dict[str, str]:
    """Return what is more than the chosen queue allows, or the default one when none is chosen."""
    name = good.get("queue")
    queue = next((each for each in queues if (each.name == name if name else each.default)), None)
    if queue is None:
        return {}
    out = {}
    wall, nodes = good.get("walltime"), good.get("nodes")
    if queue.walltime and isinstance(wall, (int, float)) and wall > queue.walltime:
        out["walltime"] = f"longer than queue {queue.name} allows (next: at most {human_s(queue.walltime)})"
    if queue.nodes and isinstance(nodes, int) and nodes > queue.nodes:
        out["nodes"] = f"more than queue {queue.name} allows (next: at most {queue.nodes})"
    return out


def _told(found: Found | None, can: bool) -> dict[str, Any]:
    """Return what discovery told, in words, with its age."""
    if found is None or not can:
        return {"can": can, "at": None, "text": "", "failure": ""}
    text = ""
    if found.at:
        count = len(found.queues)
        age = human_s(max(0.0, time.time() - found.at))
        text = f"{count} queue{'s' if count != 1 else ''}"
        text += f", {len(found.projects)} project{'s' if len(found.projects) != 1 else ''}" if found.projects else ""
        text += f", found {age} ago"
    failure = found.failure and f"Queues were not found: {found.failure}; type them in" + (
        f" (next: {found.hint})" if found.hint else ""
    )
    if found.missed and not failure:
        failure = f"Projects were not found: {found.missed}; type yours in"
    return {"can": True, "at": found.at or None, "text": text, "failure": failure}


def _allows(queue: SiteQueue) -> str:
    parts = [f"at most {human_s(queue.walltime)}"] if queue.walltime else []
    parts += [f"{queue.nodes} nodes"] if queue.nodes else []
    parts += [f"{queue.cores} cores a node"] if queue.cores else []
    return ", ".join(parts)


def later_of(system: BatchSystem) -> dict[str, str]:
    """Return the stand-ins for what is decided when a pilot is submitted, those that the system takes."""
    return {name: text for name, text in LATER.items() if name in system.heard}


def sent(system: BatchSystem, pilot: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the batch system is asked for a pilot, by attribute, with stand-ins for what is decided later.

    Raises:
        RequestError: naming what is wrong.
    """
    fields = dict(pilot)
    if "mem" in fields:
        fields["mem"] = memory_mib(fields["mem"], "mem")
    spec, name = PilotSpec(**fields), name_of(str(pilot["site"]))
    values = values_of(completed(spec, system, name), system, name, LATER["token"], PLACE)
    return values | {"script": LATER["script"], "spec": LATER["spec"]}


def pilot_of(site: str, values: Mapping[str, Value], system: BatchSystem) -> dict[str, Any]:
    """Return the arguments of ``Session.pilot`` for checked values: ``site``, its own fields, ``options``."""
    made: dict[str, Any] = {"site": site}
    nodes = values.get("nodes", 1) if site != "noop" else 1  # there a pilot counts per node
    options = {}
    for name, value in values.items():
        field = PILOT_FIELDS.get(name)
        if field in ("cores", "gpus") and isinstance(value, int) and isinstance(nodes, int):
            made[field] = value * nodes  # a pilot counts them in total
        elif field == "mem":
            made[field] = f"{value}MiB"
        elif field is not None:
            made[field] = value
        elif name == "before_agent" and name not in system.attributes:
            made["hooks"] = {name: str(value)}
        else:
            options[name] = _option(value, system.attributes[name].type)
    return made | ({"options": options} if options else {})


def _option(value: Value, kind: str) -> str:
    """Write a checked value such that it is accepted again."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)) and kind in ("duration", "memory"):
        return f"{math.ceil(value)}{'MiB' if kind == 'memory' else 's'}"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _typed(attribute: Attribute, value: object) -> object:
    """Return what a person typed as the type that the attribute wants; all that forms send is text or a flag."""
    if isinstance(value, str):
        value = value.strip()
        if attribute.type == "bool" and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if attribute.type == "list":
            return [each.strip() for each in value.split(attribute.separator or ",") if each.strip()]
    return value


def _shown(attribute: Attribute, system: BatchSystem, good: Mapping[str, Value]) -> bool:
    if not attribute.depends:
        return True
    known = system.attributes.values()
    have: dict[str, Value] = {each.name: each.default for each in known if each.default is not None}
    return holds(attribute.depends, {**have, **good})


def _said(error: JrmError, name: str) -> str:
    text = error.message.removeprefix(f"{name}: ") if name else error.message
    return f"{text} (next: {error.hint})" if isinstance(error, RequestError) and error.hint else text


def _field(
    attribute: Attribute, value: object, shown: bool, found: Sequence[str], error: str, queues: Sequence[SiteQueue]
) -> dict[str, Any]:
    help_, default = attribute.help, attribute.default
    if attribute.name == "queue" and queues:
        usual = next((queue for queue in queues if queue.default), None)
        chosen = next((queue for queue in queues if queue.name == (value or (usual and usual.name))), None)
        default = default or (usual and usual.name)
        if chosen is not None and (limits := _allows(chosen)):
            help_ = f"{chosen.name}: {limits}"
    choices = list(found) or list(attribute.choices)
    if attribute.type == "choice" and not choices:
        choices = [str(attribute.default)] if attribute.default is not None else []
    return {
        "name": attribute.name,
        "label": attribute.label or attribute.name.replace("_", " ").capitalize(),
        "help": help_,
        "type": "choice" if choices and attribute.type == "string" else attribute.type,
        "unit": attribute.unit,
        "value": value,
        "default": default,
        "min": attribute.min,
        "max": attribute.max,
        "pattern": attribute.pattern,
        "max_length": attribute.max_length,
        "choices": choices,
        "required": attribute.required,
        "read_only": attribute.read_only,
        "shown": shown,
        "error": error,
    }
