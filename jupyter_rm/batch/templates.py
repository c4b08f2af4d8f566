"""Argument templates: text with ``{name}`` or ``{name:form}`` holes, and ``<...>`` around parts that may be left out.

A template whose hole has no value vanishes; inside ``<...>`` only that part vanishes. ``{{ }} << >>`` are the signs
themselves. There is no code in a template and no shell: one template makes one argument, whatever stands in the values.
Read next: :mod:`.values`, which knows the forms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

_TOKEN = re.compile(r"\{\{|\}\}|<<|>>|\{([a-z][a-z0-9_]*)(?::([a-z0-9_]+))?\}|[{}<>]|[^{}<>]+")


@dataclass(frozen=True, slots=True)
class Hole:
    """A place for the value of ``name``, written in ``form``."""

    name: str
    form: str


Piece = str | Hole | tuple["Piece", ...]


class TemplateError(ValueError):
    """A template that cannot be read; the text says where."""


@lru_cache(maxsize=4096)
def parse(text: str) -> tuple[Piece, ...]:
    """Return the pieces of a template; an optional part is a tuple of pieces.

    Raises:
        TemplateError: brackets do not match, or a hole is not ``{name}`` or ``{name:form}``.
    """
    outer: list[Piece] = []
    inner: list[Piece] | None = None
    for match in _TOKEN.finditer(text):
        sign = match[0]
        into = outer if inner is None else inner
        if match[1]:
            into.append(Hole(match[1], match[2] or ""))
        elif sign in ("{{", "}}", "<<", ">>"):
            into.append(sign[0])
        elif sign == "<":
            if inner is not None:
                raise TemplateError("a '<' inside '<...>' (write '<<' for the sign itself)")
            inner = []
        elif sign == ">":
            if inner is None:
                raise TemplateError("a '>' without '<' (write '>>' for the sign itself)")
            if not any(isinstance(piece, Hole) for piece in inner):
                raise TemplateError("'<...>' without a {name} inside would never vanish")
            outer.append(tuple(inner))
            inner = None
        elif sign in "{}":
            raise TemplateError(f"{sign!r} at {match.start()} is no {{name}} (write {sign * 2!r} for the sign itself)")
        else:
            into.append(sign)
    if inner is not None:
        raise TemplateError("'<' without '>'")
    return tuple(outer)


def holes(text: str) -> list[Hole]:
    """Return every hole of a template, those of optional parts too."""
    out: list[Hole] = []
    for piece in parse(text):
        out += [p for p in (piece if isinstance(piece, tuple) else (piece,)) if isinstance(p, Hole)]
    return out


def fill(text: str, value: Callable[[Hole], str | None]) -> str | None:
    """Return the argument, or None when it vanishes because a hole outside ``<...>`` has no value.

    Args:
        text: the template; value: gives the text for a hole, None for no value.
    """

    def join(pieces: tuple[Piece, ...]) -> str | None:
        out = []
        for piece in pieces:
            if isinstance(piece, Hole):
                found = value(piece)
                if found is None:
                    return None
                out.append(found)
            elif isinstance(piece, tuple):
                out.append(join(piece) or "")
            else:
                out.append(piece)
        return "".join(out)

    pieces = parse(text)
    filled = join(pieces)
    if not filled and pieces and all(isinstance(piece, tuple) for piece in pieces):
        return None  # nothing but parts that were left out
    return filled
