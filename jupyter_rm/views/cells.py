"""Changes of the cells of a table whose rows stay, told column by column and in few bytes.

Of a map of a thousand racks, a change of one task in a hundred changes a number in nearly every row, but one of its
columns, and by little. So what is sent of a column is the difference of all its rows, packed (``add``), or the new
values of those that changed (``cells``), whichever is shorter::

    "add":   {"done": [1, 0, 9, "&4!..."]}       unit, lowest, base, digits: value += unit * (lowest + digit)
             {"mem": [5, 0, 9, "...", 10]}       the same for tenths: 10 * value is a whole number
    "cells": {"state": [[3, 1, 7], ["DONE"]]}    steps from changed row to changed row, the first from row 0; values,
                                                 or one for all of them
             {"state": [[], ["DONE"]]}           no steps: every row
             {"state": ["#!'", ["DONE", "FAILED"], "  !"]}
                                                 packed: a digit a step, and a digit a row that picks its value

    "gone": [2, 5]                               positions before; these rows go first, then cells change
    "new": [[4, 9], [["t.0.9", "t.0.7"], ["DONE"]]]
                                                 positions in the result, rising; the columns of new rows, likewise

Digits stand in :data:`DIGITS`, as many to a character as fit (``base ** n <= 93``), the first one least; base 1 needs
none. Cells that hold no number have a digit and stay as they are. ``add`` comes before ``cells``: what is too far from
the rest is set afterwards. Knows rows only. Read next: :mod:`.feed`.
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


def same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Are two rows the same in JSON? 1, 1.0 and True are equal in Python only."""
    return one == other and list(map(type, one)) == list(map(type, other))


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
        kinds = list(map(type, before)), list(map(type, after))
        if before == after and kinds[0] == kinds[1]:
            continue
        every = enumerate(zip(before, after, *kinds, strict=True))
        places = [place for place, (a, b, kind, other) in every if a != b or kind is not other]
        plain = _set(places, after, len(after))
        packed = _packed(before, after) if len(places) > _FEW else None
        if packed is not None:
            told, left = packed
            rest = _set(left, after, len(after)) if left else None
            if len(_encode(told)) + (len(_encode(rest)) if rest else 0) < len(_encode(plain)):
                add[name] = told
                if rest:
                    cells[name] = rest
                continue
        cells[name] = plain
    return ({"add": add} if add else {}) | ({"cells": cells} if cells else {})


def _set(places: list[int], column: Sequence[Any], rows: int) -> list[Any]:
    steps: Any = [place - last for last, place in itertools.pairwise([0, *places])] if len(places) < rows else []
    if len(steps) > _FEW and max(steps) < len(DIGITS):
        steps = "".join(DIGITS[step] for step in steps)
    values = _short([column[place] for place in places])
    if len(values) > _FEW and all(type(value) is str for value in values):
        known = list(dict.fromkeys(values))
        if len(known) < min(len(DIGITS), len(values) // 2):
            picked = {value: DIGITS[place] for place, value in enumerate(known)}
            return [steps, known, "".join(picked[value] for value in values)]
    return [steps, values]


def _short(values: list[Any]) -> list[Any]:
    """Return one value when all are the same (in JSON, too)."""
    first = values[0]
    return values[:1] if all(value == first and type(value) is type(first) for value in values) else values


def columnar(rows: Rows) -> list[list[Any]]:
    """Return rows by columns; a column whose values are all the same has one."""
    return [_short(list(column)) for column in zip(*rows, strict=True)]


def rowwise(columns: Rows, count: int) -> list[list[Any]]:
    """Return ``count`` rows that are told by columns."""
    full = [column if len(column) > 1 else [column[0]] * count for column in columns]
    return [list(row) for row in zip(*full, strict=True)]


def _packed(before: Sequence[Any], after: Sequence[Any]) -> tuple[list[Any], list[int]] | None:
    """Return the difference of two columns of numbers with at most one decimal, and the places that it leaves wrong.

    What is no number stays as it is: a job that runs has no place in the line.
    """
    both = [(a, b) for a, b in zip(before, after, strict=True) if _number(a) and _number(b)]
    if not both:
        return None
    scale = 10 if any(type(value) is float for pair in both for value in pair) else 1
    if scale > 1 and not all(abs(value) < 1e12 for value in itertools.chain(before, after) if _number(value)):
        return None  # not finite, or too large for tenths
    steps = [round(b * scale) - round(a * scale) for a, b in both]
    unit = math.gcd(*steps) or 1
    if max(map(abs, steps)) > unit << 40:  # numbers of JavaScript are exact up to 2 ** 53
        return None
    count = Counter(step // unit for step in steps)
    size, base, low = min(_fit(count, each, len(before)) for each in _BASES)
    if size > _OUTLIER * len(before):
        return None
    digits = [
        min(max((round(b * scale) - round(a * scale)) // unit - low, 0), base - 1) if _number(a) and _number(b) else 0
        for a, b in zip(before, after, strict=True)
    ]
    told = [unit, low, base, "" if base == 1 else _text(digits, base), *([scale] if scale > 1 else [])]
    given = [_added(a, unit * (low + digit), scale) for a, digit in zip(before, digits, strict=True)]
    # Halves of a tenth are rounded differently by others.
    sure = [scale == 1 or not _number(a) or _moved(a, 0, scale) == a for a in before]
    every = enumerate(zip(given, after, sure, strict=True))
    return told, [at for at, (a, b, exact) in every if not exact or a != b or type(a) is not type(b)]


def _number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _added(value: Any, step: int, scale: int) -> Any:
    """Return what becomes of a cell to which a difference is added."""
    if not _number(value):
        return value
    return _moved(value, step, scale) if scale > 1 else value + step


def _moved(value: float, step: int, scale: int) -> float:
    whole = round(value * scale) + step
    return whole / scale if whole % scale else whole // scale


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
    for name, (unit, low, base, text, *decimals) in part.get("add", {}).items():
        room = per_character(base)
        column = where[name]
        for number, row in enumerate(made):
            digit = 0 if base == 1 else DIGITS.index(text[number // room]) // base ** (number % room) % base
            row[column] = _added(row[column], unit * (low + digit), decimals[0] if decimals else 1)
    for name, (steps, values, *picked) in part.get("cells", {}).items():
        column = where[name]
        taken = map(DIGITS.index, steps) if isinstance(steps, str) else steps
        for at, place in enumerate(itertools.accumulate(taken) if steps else range(len(made))):
            which = DIGITS.index(picked[0][at]) if picked else at if len(values) > 1 else 0
            made[place][column] = values[which]
    return made
