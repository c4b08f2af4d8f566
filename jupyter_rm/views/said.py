"""Texts that whoever draws a table makes from its numbers: they are not sent, the numbers are.

A text is the parts, joined by commas, of which all named columns hold something; ``{name}`` stands for a column. Pages
do the same (``said`` of a figure's template). Knows no figures. Read next: :mod:`.export`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .pictures import Table

Parts = Sequence[tuple[Sequence[str], str]]
SAID: dict[str, dict[str, Parts]] = {
    "cells": {
        "text": (
            (("nodes", "cores"), "{busy} of {cores} cores busy"),
            (("nodes", "gpus"), "{gpus_busy} of {gpus} GPUs"),
            (("nodes", "mem_busy"), "{mem_busy} of {mem} GiB"),
            (("nodes", "running"), "{running} running"),
            (("nodes", "done"), "{done} done"),
            (("nodes", "failed"), "{failed} failed"),
            (("note",), "{note}"),
        )
    },
    "line": {
        "text": (
            (("place",), "place {place}"),
            (("first",), "places {first} to {last}"),
            (("note",), "{note}"),
        )
    },
    "shares": {"text": ((("uid",), "{uid}"), (("amount",), "{amount} {unit}"), (("tasks",), "{tasks} tasks run"))},
}
_NAME = re.compile(r"\{(\w+)\}")


def said(name: str, table: Table) -> dict[str, list[str]]:
    """Return the columns of texts that belong to a table of a name."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return {column: [text(parts, row) for row in rows] for column, parts in SAID.get(name, {}).items()}


def text(parts: Parts, row: Mapping[str, Any]) -> str:
    """Return what is said of one row."""
    return ", ".join(
        _NAME.sub(lambda found: _shown(row[found[1]]), words) for needs, words in parts if all(row[n] for n in needs)
    )


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)
