"""Where things lie: equal, nearly square cells in a drawing of 1000 x 1000 units; the line that explains colours.

Knows sizes only. Read next: :mod:`.nodes`.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

UNITS = 1000
LEGEND_COLUMNS = ("key", "x", "tx", "color", "hatch", "text")


def pixels(given: int, default: int) -> int:
    """Return a size that a figure may have."""
    return min(max(given, 80), 8000) if given > 0 else default


def shape(count: int, width: int, height: int, columns: int = 0) -> tuple[int, int]:
    """Return (columns, rows) for ``count`` cells in a figure of ``width`` x ``height`` pixels."""
    if columns <= 0:
        columns = max(1, round(math.sqrt(count * width / max(1, height))))
        # The number of columns nearby that leaves the fewest places empty.
        near = range(max(1, int(columns * 0.8)), min(count, math.ceil(columns * 1.25)) + 1) if count else (1,)
        columns = min(near, key=lambda each: (math.ceil(count / each) * each - count, abs(each - columns)), default=1)
    columns = max(1, min(columns, count))
    return columns, max(1, math.ceil(count / columns))


def cells(
    count: int, width: int, height: int, columns: int = 0
) -> tuple[list[tuple[float, float, float, float]], float]:
    """Return (x centre, y bottom, width, height) of each cell in units, the first at the top left; and cells' px."""
    across, down = shape(count, width, height, columns)
    # Never wider than high: a handful of cells are squares of a sensible size, not posters.
    step_x, step_y = width / across, height / down
    most = min(step_x, step_y, 150)
    step_x, step_y = min(step_x, most * 2.2), min(step_y, most * 1.3)
    gap = 0 if min(step_x, step_y) < 4 else min(4.0, 0.12 * min(step_x, step_y))
    unit_x, unit_y = UNITS / width, UNITS / height
    out = []
    for place in range(count):
        row, column = divmod(place, across)
        out.append(
            (
                round((column + 0.5) * step_x * unit_x, 1),
                round(UNITS - ((row + 1) * step_y - gap / 2) * unit_y, 1),
                round((step_x - gap) * unit_x, 1),
                round((step_y - gap) * unit_y, 1),
            )
        )
    return out, min(step_x, step_y)


def legend(meanings: list[tuple[str, str, str]], width: int) -> list[list[Any]]:
    """Return rows of :data:`LEGEND_COLUMNS`: a small square and a text each, side by side, in 1/1000 of the width."""
    rows: list[list[Any]] = []
    known: Counter[str] = Counter()
    x = 8.0
    for color, hatch, text in meanings:
        known[color] += 1
        key = color if known[color] == 1 else f"{color} {known[color]}"  # many users share a colour; a key occurs once
        rows.append([key, round(1000 * x / width, 1), round(1000 * (x + 11) / width, 1), color, hatch or " ", text])
        x += 11 + 6.6 * len(text) + 18
    return rows
