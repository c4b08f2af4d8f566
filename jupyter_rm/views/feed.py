"""What travels to a screen: the first picture whole, of later ones what changed, each frame with a number.

A :class:`Cutter` is the memory of one subscription: the picture that the screen shows now. Frames are made only when
the screen can take one, so a slow screen sees fewer pictures and never an old one. :func:`patch` is what a screen does
with a delta; screens in other languages do the same. Knows no sockets and no clock. Read next: :mod:`.cells`,
:mod:`.pictures`.

A frame of a view is JSON::

    {"kind": "snapshot", "seq": 1, "cursor": "...", "values": {...},
     "tables": {name: {"columns": [...], "rows": [...]}}}
    {"kind": "delta",    "seq": 2, "cursor": "...", "values": {changed}, "dropped": [names of values that are gone],
     "tables": {name: {"gone": [positions], "add": {column: [...]}, "cells": {column: [steps, values]},
                       "rows": [rows that changed in most cells], "new": [positions, columns]}}}
    {"kind": "same",     "seq": 1, "cursor": "..."}

What a delta has nothing of is left out, and of the head all that names the subscription but its ``id``.

The first cell of a row is its key. ``cursor`` names a picture: a screen that comes back with the cursor of what it
still shows is told "same" when nothing changed. A screen that misses a number asks for a snapshot. Changes of cells
and new rows are told column by column, see :mod:`.cells`.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import itertools
from typing import Any

import msgspec

from . import cells
from .pictures import Picture, Table

# A delta larger than this share of the whole is sent as a snapshot.
_WORTH = 0.8
_FEW = 4  # changed rows of which it is worth to look whether they are shorter whole
_FIXED = ("view", "session")  # of the head: a screen knows them from the first frame
_encoder = msgspec.json.Encoder()


def _sent(picture: Picture) -> dict[str, Any]:
    return {
        "values": picture.values,
        "tables": {name: {"columns": table.columns, "rows": table.rows} for name, table in picture.tables.items()},
    }


class Cutter:
    """One subscription's memory.

    Attributes:
        seq: number of the last frame. cursor: name of the picture that the screen shows, empty before the first.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.cursor = ""
        self._shown: Picture | None = None

    def forget(self) -> None:
        """Send the next picture whole."""
        self._shown = None

    def cut(self, picture: Picture, head: dict[str, Any], known: str = "") -> bytes | None:
        """Return the frame that brings the screen to ``picture``; None when it shows that already.

        Args:
            head: further fields of the frame. known: the cursor a screen came back with.
        """
        body = _encoder.encode(_sent(picture))
        cursor = named(body)
        shown, self._shown = self._shown, picture
        if shown is None and known == cursor:
            self.seq, self.cursor = self.seq + 1, cursor
            return _encoder.encode(head | {"kind": "same", "seq": self.seq, "cursor": cursor})
        if shown is not None and cursor == self.cursor:
            return None
        self.seq, self.cursor = self.seq + 1, cursor
        numbered = {"seq": self.seq, "cursor": cursor}
        if shown is not None and shown.tables.keys() == picture.tables.keys():
            brief = {name: value for name, value in head.items() if name not in _FIXED}
            frame = _encoder.encode(brief | {"kind": "delta"} | numbered | delta(shown, picture))
            if len(frame) < _WORTH * len(body):
                return frame
        # The body is encoded already: put the head before it.
        return _encoder.encode(head | {"kind": "snapshot"} | numbered)[:-1] + b"," + body[1:]


def named(body: bytes) -> str:
    """Return the name of an encoded picture: eight characters, two pictures of one name in some 10 ** 14."""
    return base64.urlsafe_b64encode(hashlib.blake2b(body, digest_size=6).digest()).decode()


def delta(old: Picture, new: Picture) -> dict[str, Any]:
    """Return what changed from ``old`` to ``new``, which have the same tables."""
    values = {name: value for name, value in new.values.items() if old.values.get(name, delta) != value}
    dropped = [name for name in old.values if name not in new.values]
    tables = {name: part for name in new.tables if (part := _table(old.tables[name], new.tables[name]))}
    every = {"values": values, "dropped": dropped, "tables": tables}
    return {name: part for name, part in every.items() if part}


def _table(old: Table, new: Table) -> dict[str, Any]:
    before = {row[0]: row for row in old.rows}
    after = {row[0]: place for place, row in enumerate(new.rows)}
    gone = {key for key in before if key not in after}
    kept = [key for key in before if key in after]
    # Rows that changed their order among each other are taken out and put in again.
    order = [after[key] for key in kept]
    if any(b < a for a, b in itertools.pairwise(order)):
        stay = _longest_rising(order)
        gone |= {key for key in kept if after[key] not in stay}
        kept = [key for key in kept if after[key] in stay]
    held = set(kept)
    part: dict[str, Any] = {}
    if gone:
        part["gone"] = [place for place, row in enumerate(old.rows) if row[0] in gone]
    rows = [new.rows[after[key]] for key in kept]
    told = cells.changes(new.columns, [before[key] for key in kept], rows)
    other = [row for row in rows if not cells.same(before[row[0]], row)] if told else []
    if not 0 < len(other) <= _FEW or len(_encoder.encode(told)) < len(_encoder.encode(other)):
        part |= told
        other = []  # but a row that changed in most of its cells is shorter when it is told whole
    fresh = [place for place, row in enumerate(new.rows) if row[0] not in held]
    if other:
        part["rows"] = other
    if fresh:
        part["new"] = [fresh, cells.columnar([new.rows[place] for place in fresh])]
    return part


def _longest_rising(numbers: list[int]) -> set[int]:
    """Return a longest rising subsequence of different numbers."""
    ends: list[int] = []
    came: dict[int, int | None] = {}
    for number in numbers:
        place = bisect.bisect_left(ends, number)
        came[number] = ends[place - 1] if place else None
        ends[place : place + 1] = [number]
    found: set[int] = set()
    last: int | None = ends[-1] if ends else None
    while last is not None:
        found.add(last)
        last = came[last]
    return found


def patch(shown: dict[str, Any], frame: dict[str, Any]) -> dict[str, Any]:
    """Return what a screen shows after ``frame``: ``{"values": ..., "tables": {name: {"columns", "rows"}}}``.

    Raises:
        KeyError, IndexError: the frame does not belong to what is shown.
    """
    if frame["kind"] == "same":
        return shown
    if frame["kind"] == "snapshot":
        return {"values": frame["values"], "tables": frame["tables"]}
    values = {k: v for k, v in shown["values"].items() if k not in frame.get("dropped", ())} | frame.get("values", {})
    result = dict(shown["tables"])
    for name, part in frame.get("tables", {}).items():
        gone = set(part.get("gone", ()))
        rows = {row[0]: row for row in part.get("rows", ())}
        kept = [row for place, row in enumerate(result[name]["rows"]) if place not in gone]
        kept = [rows.get(row[0], row) for row in cells.changed(result[name]["columns"], kept, part)]
        if "new" in part:
            places, columns = part["new"]
            for place, row in zip(places, cells.rowwise(columns, len(places)), strict=True):
                kept.insert(place, row)
        result[name] = {"columns": result[name]["columns"], "rows": kept}
    return {"values": values, "tables": result}
