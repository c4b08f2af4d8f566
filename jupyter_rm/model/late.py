"""Facts of a pilot in the texts of a task: ``${facts.NAME}``, filled in where the task starts.

What a pilot will be like is not known when a task is described: its hosts, its modules, where a data set lies there.
So arguments and variables may name a fact, and the pilot's agent puts its value in. ``$${facts.NAME}`` stands for the
text ``${facts.NAME}`` itself. A value is never looked at again and never becomes part of a shell line. Knows texts
only. Read next: :mod:`jupyter_rm.agent.facts`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .errors import RequestError

Value = str | int | float | bool | tuple[str, ...]
MARK = "${facts."
MOST = 128  # facts of a pilot
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
# Between the names of a probe's answer, whatever its type.
_BETWEEN = re.compile(r"[,\s]+")
_CAPABILITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", re.ASCII)
_HOLE = re.compile(r"\$?\$\{facts\.([^{}]*)\}")


class Unknown(Exception):
    """A text names a fact that is not there; ``args[0]`` is its name."""


def check(text: str, field: str) -> None:
    """Refuse a text that names no fact where it should (RequestError JRM-Q05, with the field)."""
    for hole in _HOLE.finditer(text):
        if not hole[0].startswith("$$") and not NAME.fullmatch(hole[1]):
            raise RequestError(
                f"{field}: {hole[0]!r} is not the name of a fact",
                hint="write ${facts.name}; or $${facts.name} for that text itself",
                code="JRM-Q05",
            )


def forbid(text: str, field: str) -> None:
    """Refuse facts in a field where they are not filled in (RequestError JRM-Q05, with the field)."""
    if MARK in text and any(not hole[0].startswith("$$") for hole in _HOLE.finditer(text)):
        raise RequestError(
            f"{field}: facts are filled in in arguments and environment only",
            hint='environment={"X": "${facts.x}"}, and use the variable',
            code="JRM-Q05",
        )


def names(text: str) -> list[str]:
    """Return the facts that a text names."""
    return [hole[1] for hole in _HOLE.finditer(text) if not hole[0].startswith("$$")] if MARK in text else []


def braced(text: str) -> str:
    """Return a text in which the holes for facts come through ``str.format`` as they are."""
    return _HOLE.sub(lambda hole: hole[0].replace("{", "{{").replace("}", "}}"), text) if MARK in text else text


def sound(facts: Mapping[str, Value]) -> dict[str, Value]:
    """Return what of the facts that an agent tells can be kept: named like facts, of decent size, not too many."""
    fit = {name: value for name, value in facts.items() if NAME.fullmatch(name) and len(str(value)) <= 65_536}
    return dict(list(fit.items())[:MOST])


def capabilities(given: tuple[str, ...], facts: Mapping[str, Value]) -> frozenset[str]:
    """Return what a pilot offers: what was asked for it, and its fact ``capabilities`` (of a probe, or added later)."""
    told = facts.get("capabilities", ())
    texts = told if isinstance(told, (tuple, list)) else [str(told)]
    return frozenset(given) | {name for text in texts for name in _BETWEEN.split(text) if name}


def renewed(before: Mapping[str, Value], told: Mapping[str, Value]) -> dict[str, Value]:
    """Return the facts that an agent tells now, with the capabilities that were known before."""
    known = capabilities((), before) | capabilities((), told)
    return sound(told) | ({"capabilities": tuple(sorted(known))} if known else {})


def capability_names(value: object, field: str) -> tuple[str, ...]:
    """Return names of capabilities, sorted (RequestError JRM-Q05, with the field)."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)) or not all(map(_is_name, items)) or len(items) > MOST:
        raise RequestError(
            f"{field}: {value!r} are no names of capabilities",
            hint='write {"dataset:x"}: letters, digits and . _ : / @ + - only',
            code="JRM-Q05",
        )
    return tuple(sorted(set(items)))


def _is_name(item: object) -> bool:
    return isinstance(item, str) and bool(_CAPABILITY.fullmatch(item))


def written(value: Value) -> str:
    """Return a fact as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, (tuple, list)) else str(value)


def filled(text: str, facts: Mapping[str, Value]) -> str:
    """Return a text with the facts that it names put in; raises :class:`Unknown`."""
    if MARK not in text:
        return text

    def one(hole: re.Match[str]) -> str:
        if hole[0].startswith("$$"):
            return hole[0][1:]
        if hole[1] not in facts:
            raise Unknown(hole[1])
        return written(facts[hole[1]])

    return _HOLE.sub(one, text)
