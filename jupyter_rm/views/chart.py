"""The chart of a node map: hosts in the order in which they are drawn, groups over them, and cuts through that tree.

Everything is a range of places, so that sums over any part of the tree are differences of one running sum. Made once
per set of nodes and kept. Knows names and ranges; knows no tasks. Read next: :mod:`.nodes`, :mod:`.layout`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..model.errors import RequestError
from ..model.ids import pilot_uid
from . import layout as layouts
from .gather import Pilot
from .tables import Array
from .texts import line

LAYOUTS = ("physical", "logical", "site")


@dataclass(frozen=True)
class Part:
    """A cell to be drawn: the places [begin, end). ``host``: it is one node. ``columns``: of a group, 0 as they fit."""

    key: str
    label: str
    begin: int
    end: int
    host: bool = False


@dataclass(frozen=True)
class Chart:
    """Hosts in order.

    Attributes:
        names: of hosts, shape (n,). cores, gpus, mem: what pilots hold of each. pilot: number of the pilot (the newest
        of several), -1: none holds it. groups: (path, begin, end, columns) in order. where: per pilot number, the place
        of each of its nodes. marks: host -> DOWN or DRAINED.
    """

    names: list[str]
    cores: Array
    gpus: Array
    mem: Array
    pilot: Array
    groups: list[tuple[str, int, int, int]]
    where: dict[int, Array]
    marks: dict[int, str]
    places: dict[str, int] = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def span(self, focus: str) -> tuple[int, int, int]:
        """Return (begin, end, depth of group names that are spent) of a focus.

        Raises:
            RequestError: nothing is called so; JRM-Q68.
        """
        if not focus:
            return 0, len(self), 0
        if focus.startswith("@"):
            begin, _, end = focus[1:].partition("-")
            if begin.isdecimal() and end.isdecimal() and 0 <= int(begin) < int(end) <= len(self):
                return int(begin), int(end), self._depth(int(begin), int(end))
        inside = [group for group in self.groups if group[0] == focus or group[0].startswith(focus + "/")]
        if inside:
            return inside[0][1], inside[-1][2], focus.count("/") + 1
        if focus in self.places:
            return self.places[focus], self.places[focus] + 1, -1
        raise RequestError(
            f"focus {line(focus, 60)!r}: no such rack or node", hint="go back to the whole system", code="JRM-Q68"
        )

    def _depth(self, begin: int, end: int) -> int:
        """Return how many levels of group names all places share."""
        paths = [group[0].split("/") for group in self.groups if group[1] < end and group[2] > begin]
        depth = 0
        while paths and all(len(path) > depth and path[depth] == paths[0][depth] for path in paths):
            depth += 1
        return depth

    def parts(self, focus: str, limit: int, level: str = "") -> list[Part]:
        """Return at most ``limit`` cells below a focus; ``level`` node: nodes, whatever stands above them."""
        begin, end, depth = self.span(focus)
        if depth < 0:
            return [Part(self.names[begin], self.names[begin], begin, end, True)]
        found: list[Part] = []
        if level != "node":
            for path, low, high, _ in self.groups:
                names = path.split("/") if path else []
                if low < begin or high > end or len(names) <= depth:
                    continue
                above = "/".join(names[: depth + 1])
                if found and found[-1].key == above:
                    found[-1] = Part(above, names[depth], found[-1].begin, high)
                else:
                    found.append(Part(above, names[depth], low, high))
        if len(found) <= 1 and end - begin > limit:
            return self._blocks(begin, end, limit)
        if len(found) <= 1:
            found = [
                Part(name, name, place, place + 1, True) for place, name in enumerate(self.names[begin:end], begin)
            ]
        return _merged(found, limit)

    def _blocks(self, begin: int, end: int, limit: int) -> list[Part]:
        """Return blocks of neighbours: what :func:`_merged` makes of single nodes."""
        size = 2
        while end - begin > size * limit:
            size *= 2
        out = []
        for low in range(begin, end, size):
            high = min(low + size, end)
            first, last = self.names[low], self.names[high - 1]
            one = high - low == 1
            out.append(Part(first if one else f"@{low}-{high}", first if one else f"{first} to {last}", low, high, one))
        return out

    def crumbs(self, focus: str) -> list[list[str]]:
        """Return (key, label) of what stands above a focus, from the system to the focus itself."""
        trail = [["", "system"]]
        if not focus:
            return trail
        begin, end, depth = self.span(focus)
        paths = [group[0] for group in self.groups if group[1] <= begin and group[2] >= end and group[0]]
        names = paths[0].split("/") if paths else focus.split("/")[:depth] if depth > 0 else []
        for count in range(1, len(names) + 1):
            key = "/".join(names[:count])
            if self.span(key)[1] - self.span(key)[0] < len(self) or key == focus:
                trail.append([key, names[count - 1]])
            if key == focus:
                return trail
        if focus != trail[-1][0]:
            label = focus if depth < 0 else f"{self.names[begin]} to {self.names[end - 1]}"
            trail.append([focus, label.rpartition("/")[2] if depth < 0 else label])
        return trail


def _merged(parts: list[Part], limit: int) -> list[Part]:
    """Put neighbours together until there are few enough."""
    if len(parts) <= limit:
        return parts
    size = 2
    while len(parts) > size * limit:
        size *= 2
    out = []
    for at in range(0, len(parts), size):
        some = parts[at : at + size]
        begin, end = some[0].begin, some[-1].end
        label = some[0].label if len(some) == 1 else f"{some[0].label} to {some[-1].label}"
        out.append(Part(f"@{begin}-{end}", label, begin, end))
    return out


_lock = threading.Lock()
_made: dict[tuple[Any, ...], tuple[list[Any], Chart]] = {}
_MOST_KEPT = 8


def chart(pilots: list[Pilot], layout: str, more: tuple[str, ...] = ()) -> Chart:
    """Return the chart of the nodes of some pilots.

    Args:
        layout: ``logical`` (pilot by pilot), ``physical`` (as nodes stand: described, or told by their names), or
            ``site`` (as they stand, with ``more`` hosts, those that no pilot holds).

    Raises:
        RequestError: no such layout, or a description is wrong; JRM-Q60, JRM-Q67.
    """
    if layout not in LAYOUTS:
        raise RequestError(f"layout: {layout!r} is unknown", hint="use " + " or ".join(LAYOUTS), code="JRM-Q60")
    described = layouts.known() if layout != "logical" else []
    more = more if layout == "site" else ()
    mark = (layout, tuple(map(id, described)), tuple((pilot.number, id(pilot.nodes)) for pilot in pilots), more)
    with _lock:
        if mark not in _made:
            if len(_made) >= _MOST_KEPT:
                _made.pop(next(iter(_made)))
            kept = [described, [pilot.nodes for pilot in pilots]]  # their ids stay theirs as long as this is kept
            _made[mark] = kept, (_logical(pilots) if layout == "logical" else _physical(pilots, described, more))
        return _made[mark][1]


def _clean(name: str) -> str:
    return name if len(name) <= 80 and name.isascii() and name.isprintable() else line(name, 80)


def _logical(pilots: list[Pilot]) -> Chart:
    names: list[str] = []
    where: dict[int, Array] = {}
    groups: list[tuple[str, int, int, int]] = []
    for pilot in pilots:
        uid = pilot_uid(pilot.number)
        begin = len(names)
        names += [f"{uid}/{_clean(node.name)}" for node in pilot.nodes]
        where[pilot.number] = np.arange(begin, len(names))
        # A pilot of very many nodes has blocks.
        size = 1 << max(4, (len(pilot.nodes) // 256).bit_length())
        if len(pilot.nodes) > 96:
            for low in range(begin, len(names), size):
                high = min(low + size, len(names))
                label = f"{pilot.nodes[low - begin].name} to {pilot.nodes[high - 1 - begin].name}"
                groups.append((f"{uid}/{line(label, 120)}", low, high, 0))
        else:
            groups.append((uid, begin, len(names), 0))
    return _chart(names, groups, where, pilots, {})


def _physical(pilots: list[Pilot], described: list[layouts.Layout], more: tuple[str, ...] = ()) -> Chart:
    named = {pilot.number: [_clean(node.name) for node in pilot.nodes] for pilot in pilots}
    held = dict.fromkeys(name for names in named.values() for name in names) | dict.fromkeys(map(_clean, more))
    plan = max(described, key=lambda each: sum(name in each.hosts for name in held), default=None)
    groups: list[layouts.Group] = []
    marks: dict[str, str] = {}
    if plan is not None and any(name in plan.hosts for name in held):
        groups = list(plan.groups)
        rest = [name for name in held if name not in plan.hosts]
        groups += (
            [layouts.Group(group.path or "elsewhere", group.hosts) for group in layouts.derived(rest)] if rest else []
        )
        marks = dict.fromkeys(plan.drained, "DRAINED") | dict.fromkeys(plan.down, "DOWN")
    elif held:
        groups = layouts.derived(list(held))
    names: list[str] = []
    spans = []
    for group in groups:
        spans.append((group.path, len(names), len(names) + len(group.hosts), group.columns))
        names += group.hosts
    places = {name: place for place, name in enumerate(names)}
    where = {number: np.array([places[name] for name in each], np.int64) for number, each in named.items()}
    return _chart(names, spans, where, pilots, {places[name]: mark for name, mark in marks.items()}, places)


def _chart(
    names: list[str],
    groups: list[tuple[str, int, int, int]],
    where: dict[int, Array],
    pilots: list[Pilot],
    marks: dict[int, str],
    places: dict[str, int] | None = None,
) -> Chart:
    sums = np.zeros((3, len(names)))
    owner = np.full(len(names), -1, np.int64)
    for pilot in pilots:
        sizes = np.array([(node.cores, node.gpus, node.mem / 1024) for node in pilot.nodes], float).reshape(-1, 3)
        for kind in range(3):
            np.add.at(sums[kind], where[pilot.number], sizes[:, kind])
        owner[where[pilot.number]] = pilot.number
    if places is None:
        places = {name: place for place, name in enumerate(names)}
    return Chart(names, sums[0], sums[1], sums[2], owner, groups, where, marks, places)
