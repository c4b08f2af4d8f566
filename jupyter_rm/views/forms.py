"""The launch form of a site, as plain values: which fields there are, what is wrong with them, what would be sent.

Made from the typed attributes of a batch system's description; the command shown is the one that
:meth:`jupyter_rm.batch.BatchSystem.render` makes, byte for byte. What is only known when it is sent (the token that
finds the job again, and paths on the site) is shown as :data:`LATER` says. Knows no widget and no server.
Read next: :mod:`jupyter_rm.batch.values`, ``docs/batch-systems.md``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..batch import BATCH_SCRIPT, BatchSystem, known, load
from ..batch.conditions import holds
from ..batch.values import Attribute, Value, accept
from ..broker.sites import AUTO, PLAIN, SiteName, parse, search_path, values_of
from ..core.session import SITES
from ..model.errors import JrmError, RequestError
from ..model.facts import PilotSpec
from ..model.units import memory_mib
from ..runtime.connect import Target

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
}
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
    return load("base" if name == AUTO or site == "noop" else name, search_path())


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
    ]


def form_of(
    system: BatchSystem,
    values: Mapping[str, object],
    *,
    site: str = "",
    choices: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Return the form of a batch system, filled with ``values``.

    Args:
        system: its description. values: what a person gave, by attribute; None and empty texts are "not given".
        site: the name or URL that is asked for. choices: discovered ones by attribute, such as the queues.

    Returns:
        ``{"site", "system", "title", "fields", "errors", "ready", "command", "argv", "stdin", "script", "later",
        "note", "pilot"}``. A field is ``{"name", "label", "help", "type", "unit", "value", "default", "min", "max",
        "pattern", "max_length", "choices", "required", "read_only", "shown", "error"}``; ``errors`` are
        ``{name: text}``, with the name ``""`` for what is wrong with the whole; ``pilot`` is what
        ``Session.pilot(**pilot)`` takes, None while there are errors.
    """
    fields = {each.name: each for each in offered(system, site)}
    found = dict(choices or {})
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
    command = None
    wanted = None if errors else pilot_of(site or system.name, good)
    if wanted is not None:
        try:
            command = system.render("submit", sent(system, wanted), choices) if "submit" in system.ops else None
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
            _field(each, values.get(name), shown[name], found.get(name, ()), errors.get(name, ""))
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
        "pilot": None if errors else wanted,
    }


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
    spec = PilotSpec(**fields)
    values = values_of(spec, system, name_of(spec.site), LATER["token"], PLACE)
    return values | {"script": LATER["script"], "spec": LATER["spec"]}


def pilot_of(site: str, values: Mapping[str, object]) -> dict[str, Any]:
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
        else:
            options[name] = _option(value)
    return made | ({"options": options} if options else {})


def _option(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
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


def _field(attribute: Attribute, value: object, shown: bool, found: Sequence[str], error: str) -> dict[str, Any]:
    choices = list(found) or list(attribute.choices)
    if attribute.type == "choice" and not choices:
        choices = [str(attribute.default)] if attribute.default is not None else []
    return {
        "name": attribute.name,
        "label": attribute.label or attribute.name.replace("_", " ").capitalize(),
        "help": attribute.help,
        "type": "choice" if choices and attribute.type == "string" else attribute.type,
        "unit": attribute.unit,
        "value": value,
        "default": attribute.default,
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
