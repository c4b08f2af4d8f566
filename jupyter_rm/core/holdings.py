"""What an agent holds: the descriptions behind the tokens.

Assignments arrive as cuts of bulks and are kept as they came: a template per bulk and segments of columns. A task's row
is looked up only when it is started. Shared by the agent's machine (attempts) and its performers (the rest). Read
next: :mod:`jupyter_rm.core.agent`.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import numpy.typing as npt

from ..model.columns import Array, Column, Picks, Scalar, pack, unpack
from ..model.describe import Template
from ..model.messages import Assign


def cut_assign(order: Assign, keep: npt.NDArray[np.bool_]) -> Assign:
    """Return the part of an assignment at which ``keep`` is true."""
    where = Picks.of(np.flatnonzero(keep))
    return Assign(
        order.bulk,
        Picks.of(order.picks.array()[keep]),
        pack(unpack(order.attempt, "<u2", len(order.picks))[keep], "<u2"),
        order.template,
        {name: column.take(where) for name, column in order.columns.items()},
        order.payload.take(where) if order.payload is not None else None,
    )


def _consecutive(index: npt.NDArray[np.int64]) -> bool:
    # Tasks end in any order: 76, 43, 78 has the ends of a run and is none.
    if len(index) == 1:
        return True
    return int(index[-1]) - int(index[0]) == len(index) - 1 and bool((np.diff(index) == 1).all())


class Segment:
    """One assignment's cut of a bulk: sorted indices [lo, hi) with their columns."""

    __slots__ = ("_gone", "attempt", "columns", "hi", "index", "left", "lo", "payload")

    def __init__(self, order: Assign) -> None:
        index = order.picks.array()
        count = len(index)
        if order.picks.rest and bool((np.diff(index) < 0).any()):
            raise ValueError("picks of an assignment must be sorted")
        self.lo, self.hi = (int(index[0]), int(index[-1]) + 1) if count else (0, 0)
        self.index: npt.NDArray[np.int64] | None = index if order.picks.rest else None
        self.attempt: Array = unpack(order.attempt, "<u2", count)
        self.columns: dict[str, Column] = order.columns
        self.payload: Column | None = order.payload
        self.left = count
        self._gone: npt.NDArray[np.bool_] = np.zeros(count, np.bool_)

    def drop(self, index: npt.NDArray[np.int64]) -> None:
        """Count out those of ``index`` that are here and were not counted out before (as an earlier attempt)."""
        if len(index) == 1 and self.index is None:
            row = int(index[0]) - self.lo
            if self.lo <= index[0] < self.hi and not self._gone[row]:
                self.left -= 1
                self._gone[row] = True
            return
        inside = index[(index >= self.lo) & (index < self.hi)]
        rows = inside - self.lo
        if self.index is not None:
            rows = np.searchsorted(self.index, inside)
            rows = rows[self.index[rows] == inside]
        self.left -= int(np.count_nonzero(~self._gone[rows]))
        self._gone[rows] = True

    def rows(self, index: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return (rows, which of ``index`` they are) of those tasks of ``index`` that this cut still holds."""
        here = (index >= self.lo) & (index < self.hi)
        rows = index[here] - self.lo
        if self.index is not None:
            rows = np.searchsorted(self.index, index[here])
            found = self.index[rows] == index[here]
            here[here] = found
            rows = rows[found]
        still = ~self._gone[rows]
        here[here] = still
        return rows[still], here

    def has(self, row: int, end: int = -1) -> bool:
        """Say whether the tasks of rows ``row`` .. ``end`` (one, if it is left out) are all still held by this cut."""
        return not self._gone[row] if end < 0 else not self._gone[row:end].any()

    def row(self, index: int) -> int:
        """Return the position of task ``index`` in the segment's columns; KeyError if it is not there."""
        if not self.lo <= index < self.hi:
            raise KeyError(index)
        if self.index is None:
            return index - self.lo
        at = int(np.searchsorted(self.index, index))
        if self.index[at] != index:
            raise KeyError(index)
        return at


class HeldBulk:
    """All segments of one bulk that an agent holds; a later assignment of the same task wins."""

    __slots__ = ("_starts", "segments", "template")

    def __init__(self, template: Template) -> None:
        self.template = template
        self.segments: list[Segment] = []
        self._starts: list[int] | None = None

    def add(self, segment: Segment) -> None:
        """Keep a segment."""
        self.segments.append(segment)
        self._starts = None

    def find(self, index: int) -> tuple[Segment, int]:
        """Return (segment, row) of a task; KeyError if it is not held."""
        if len(self.segments) > 8:
            if self._starts is None:
                self.segments.sort(key=lambda segment: segment.lo)
                self._starts = [segment.lo for segment in self.segments]
            at = bisect_right(self._starts, index) - 1
            if at >= 0:
                segment = self.segments[at]
                if segment.lo <= index < segment.hi and segment.index is None and segment.has(index - segment.lo):
                    return segment, index - segment.lo
        best: tuple[Segment, int] | None = None
        for segment in self.segments:
            try:
                row = segment.row(index)
            except KeyError:
                continue
            if segment.has(row) and (best is None or segment.attempt[row] >= best[0].attempt[best[1]]):
                best = (segment, row)
        if best is None:
            raise KeyError(index)
        return best

    def run(self, index: npt.NDArray[np.int64]) -> tuple[Segment, int] | None:
        """Return (segment, row of the first) when tasks stand one after the other, in this order, in one cut."""
        segment, row = self.find(int(index[0]))
        count = len(index)
        whole = segment.index is None and _consecutive(index) and row + count <= len(segment.attempt)
        return (segment, row) if whole and segment.has(row, row + count) else None

    def params(self, index: int) -> dict[str, Scalar]:
        """Return the column values of one task."""
        segment, row = self.find(index)
        return {name: column.get(row) for name, column in segment.columns.items()}

    def payload(self, index: int) -> bytes:
        """Return the pickled arguments of one call."""
        segment, row = self.find(index)
        assert segment.payload is not None, "a call without payload"
        value = segment.payload.get(row)
        assert isinstance(value, bytes)
        return value

    def payloads(self, index: npt.NDArray[np.int64]) -> list[bytes]:
        """Return the pickled arguments of several calls, in order; quick when they are consecutive."""
        if len(index) > 1 and (run := self.run(index)) is not None:
            segment, row = run
            assert segment.payload is not None, "a call without payload"
            return segment.payload.take(Picks.span(row, row + len(index))).values()  # type: ignore[return-value]
        return [self.payload(int(i)) for i in index]

    def attempts(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        """Return the attempt numbers of several tasks, shape (n,)."""
        count = len(index)
        if count and (run := self.run(index)) is not None:
            segment, row = run
            return segment.attempt[row : row + count].astype(np.uint16)
        out = np.zeros(count, np.uint16)
        for at, i in enumerate(index.tolist()):
            segment, row = self.find(i)
            out[at] = segment.attempt[row]
        return out

    def following(self, bulk: int, index: npt.NDArray[np.int64]) -> list[Assign]:
        """Return assignments of the next attempts of tasks that are held here; ``index`` is sorted."""
        out = []
        for segment in self.segments:
            rows, here = segment.rows(index)
            if len(rows):
                where = Picks.of(rows)
                columns = {name: column.take(where) for name, column in segment.columns.items()}
                payload = segment.payload.take(where) if segment.payload is not None else None
                attempt = pack(segment.attempt[rows] + np.uint16(1), "<u2")
                out.append(Assign(bulk, Picks.of(index[here]), attempt, self.template, columns, payload))
        return out

    def drop(self, index: npt.NDArray[np.int64]) -> None:
        """Forget tasks that ended; whole segments go when nothing of them is left."""
        left = len(index)
        if left == 0:
            return
        lo, hi = (int(index[0]),) * 2 if left == 1 else (int(index.min()), int(index.max()))
        gone = False
        for segment in self.segments:
            if segment.lo > hi or segment.hi <= lo:
                continue
            segment.drop(index)
            gone |= segment.left <= 0
        if gone:
            self.segments = [segment for segment in self.segments if segment.left > 0]
            self._starts = None


class Holdings:
    """Everything an agent holds, by bulk; ``functions`` are pickled functions by sha256."""

    def __init__(self) -> None:
        self.bulks: dict[int, HeldBulk] = {}
        self.templates: dict[int, Template] = {}
        self.functions: dict[bytes, bytes] = {}

    def add(self, order: Assign) -> HeldBulk:
        """Keep an assignment."""
        if order.template is not None:
            self.templates[order.bulk] = order.template
        held = self.bulks.get(order.bulk)
        if held is None:
            held = self.bulks[order.bulk] = HeldBulk(self.templates[order.bulk])
        elif order.template is not None and order.template != held.template:
            held.template = order.template  # a service it uses is somewhere else now
        held.add(Segment(order))
        return held

    def prune(self) -> None:
        """Keep only what the bulks that are held need; a broker sends the rest again in every new connection."""
        self.templates = {bulk: held.template for bulk, held in self.bulks.items()}
        called = {template.function for template in self.templates.values()}
        self.functions = {sha: body for sha, body in self.functions.items() if sha in called}

    def drop(self, bulk: int, index: npt.NDArray[np.int64]) -> None:
        """Forget tasks that ended."""
        held = self.bulks.get(bulk)
        if held is not None:
            held.drop(index)
            if not held.segments:
                del self.bulks[bulk]
