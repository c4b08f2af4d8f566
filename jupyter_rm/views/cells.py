"""Changes of the cells of a table whose rows stay, told column by column and in few bytes.

Of a map of a thousand racks, a change of one task in a hundred changes a number in nearly every row, but one of its
columns, and by little. So what is sent of a column is the difference of all its rows, packed (``add``), or the new
values of those that changed (``cells``), whichever is shorter::

    "add":   {"done": [1, 0, 9, "&4!..."]}       unit, lowest, base, digits: value += unit * (lowest + digit)
    "cells": {"state": [[3, 1, 7], ["DONE"]]}    steps from changed row to changed row, the first from row 0; values,
                                                 or one for all of them

Digits stand in :data:`DIGITS`, as many to a character as fit (``base ** n <= 93``), the first one least; base 1 needs
none. ``add`` comes before ``cells``: what is too far from the rest is set afterwards. Knows rows only. Read next:
:mod:`.feed`.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

# Printable, one byte each in JSON.
DIGITS = "".join(chr(code) for code in range(32, 127) if chr(code) not in '"\\')
_BASES = (1, 2, 3, 4, 9, len(DIGITS))
_FEW = 8  # changes that are not worth the search
_OUTLIER = 8  # bytes that a value of its own costs, about
_encode = msgspec.json.encode
Rows = Sequence[Sequence[Any]]


def per_character(base: int) -> int:
    """Return how many digits of a base fit into a character."""
    return next(count for count in range(6, 0, -1) if base**count <= len(DIGITS))


def changes(columns: Sequence[str], old: Rows, new: Rows) -> dict[str, Any]:
    """Return what changed: ``add`` and ``cells``, those that there are.

    Args:
        old, new: the same rows in the same order, then and now.
    """
    add: dict[str, Any] = {}
    cells: dict[str, Any] = {}
    for name, before, after in zip(columns, zip(*old, strict=True), zip(*new, strict=True), strict=False):
        # 1, 1.0 and True are equal here, but not in JSON.
        kinds = list(map(type, before)), list(map(type, after))
        if before == after and kinds[0] == kinds[1]:
            continue
        every = enumerate(zip(before, after, *kinds, strict=True))
        places = [place for place, (a, b, kind, other) in every if a != b or kind is not other]
        plain = _set(places, after)
        packed = _packed(before, after) if len(places) > _FEW else None
        if packed is not None:
            told, left = packed
            rest = _set(left, after) if left else None
            if len(_encode(told)) + (len(_encode(rest)) if rest else 0) < len(_encode(plain)):
                add[name] = told
                if rest:
                    cells[name] = rest
                continue
        cells[name] = plain
    return ({"add": add} if add else {}) | ({"cells": cells} if cells else {})


def _set(places: list[int], column: Sequence[Any]) -> list[list[Any]]:
    steps = [place - last for last, place in itertools.pairwise([0, *places])]
    values = [column[place] for place in places]
    return [steps, values[:1] if all(value == values[0] for value in values) else values]


def _packed(before: Sequence[Any], after: Sequence[Any]) -> tuple[list[Any], list[int]] | None:
    """Return the difference of two columns of whole numbers, and the places that it leaves wrong."""
    if any(type(value) is not int for value in itertools.chain(before, after)):
        return None
    steps = [b - a for a, b in zip(before, after, strict=True)]
    unit = math.gcd(*steps)
    steps = [step // unit for step in steps]
    if max(map(abs, steps)) > 1 << 40:  # numbers of JavaScript are exact up to 2 ** 53
        return None
    count = Counter(steps)
    size, base, low = min(_fit(count, each, len(steps)) for each in _BASES)
    if size > _OUTLIER * len(steps):
        return None
    inside = [low <= step < low + base for step in steps]
    digits = [step - low if fits else 0 for step, fits in zip(steps, inside, strict=True)]
    wrong = [place for place, fits in enumerate(inside) if not fits]
    return [unit, low, base, "" if base == 1 else _text(digits, base)], wrong


def _fit(count: Counter[int], base: int, rows: int) -> tuple[int, int, int]:
    """Return (bytes, base, lowest) of the best window of ``base`` steps that follow each other."""
    known = sorted(count)
    best = most = end = 0
    held = 0
    low = known[0]
    for begin, first in enumerate(known):
        while end < len(known) and known[end] < first + base:
            held += count[known[end]]
            end += 1
        if held > most:
            best, most, low = begin, held, first
        held -= count[first]
    text = 0 if base == 1 else math.ceil(rows / per_character(base))
    return text + _OUTLIER * (rows - most), base, known[best] if known else low


def _text(digits: list[int], base: int) -> str:
    room = per_character(base)
    return "".join(
        DIGITS[sum(digit * base**power for power, digit in enumerate(digits[at : at + room]))]
        for at in range(0, len(digits), room)
    )


def changed(columns: Sequence[str], rows: Rows, part: Mapping[str, Any]) -> list[list[Any]]:
    """Return rows after a change of their cells.

    Raises:
        ValueError, IndexError: the change does not belong to these rows.
    """
    made = [list(row) for row in rows]
    where = {name: place for place, name in enumerate(columns)}
    for name, (unit, low, base, text) in part.get("add", {}).items():
        room = per_character(base)
        column = where[name]
        for number, row in enumerate(made):
            digit = 0 if base == 1 else DIGITS.index(text[number // room]) // base ** (number % room) % base
            row[column] += unit * (low + digit)
    for name, (steps, values) in part.get("cells", {}).items():
        column = where[name]
        for at, place in enumerate(itertools.accumulate(steps)):
            made[place][column] = values[at if len(values) > 1 else 0]
    return made
