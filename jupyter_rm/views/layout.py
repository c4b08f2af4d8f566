"""Where nodes stand: a description of a machine, or what their names tell.

A description is a TOML file in the directory ``layouts`` of the settings (``JUPYTER_RM_LAYOUTS`` names another one)::

    name = "our cluster"
    [[group]]
    name = "row[1-2]/rack[01-16]"     # levels from outside in, any number of them
    nodes = "r{0}-{1}-n[1-64]"        # {0}, {1}: what the brackets of the name stand for in this group
    columns = 8                       # nodes side by side; default: as they fit
    [marks]
    down = "r1-01-n[3,7]"             # known to be out of order
    drained = "r1-02-n5"

Host names are written as batch systems write them, with brackets and leading zeros. Without a description hosts are
grouped by their names (``r03-n17`` stands in ``r03``), or else cut into blocks. Knows files and names; knows no pilots.
Read next: :mod:`.nodes`.
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..batch.nodelist import expand
from ..batch.records import BatchError
from ..model.errors import RequestError

_toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
MOST_GROUPS = 20_000
_BRACKET = re.compile(r"\[[^\]]*\]")
_PLACE = re.compile(r"\{(\d*)\}")
# Two numbers with something between them: the first one counts racks.
_TWO = re.compile(r"(.*?\d+)(\D.*?)(\d+)(\D*)")
_PARTS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Group:
    """Nodes that stand together: ``path`` names them from outside in; ``columns`` 0: as they fit."""

    path: str
    hosts: tuple[str, ...]
    columns: int = 0


@dataclass(frozen=True)
class Layout:
    """A described machine."""

    name: str
    groups: tuple[Group, ...]
    down: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()
    hosts: frozenset[str] = field(default=frozenset(), repr=False)


def _wrong(where: str, what: str, hint: str) -> RequestError:
    return RequestError(f"{where}: {what}", hint=hint, code="JRM-Q67")


def _hosts(text: object, where: str) -> tuple[str, ...]:
    if not isinstance(text, str) or not text.strip():
        raise _wrong(where, f"{text!r} is no list of hosts", 'write "n[01-64]"')
    try:
        return expand(text)
    except BatchError as error:
        raise _wrong(where, error.message, error.hint) from None


def _fill(text: str, values: Sequence[str], where: str) -> str:
    """Put the values of a group into the names of its nodes."""
    counter = itertools.count()

    def one(match: re.Match[str]) -> str:
        place = int(match[1]) if match[1] else next(counter)
        if place >= len(values):
            raise _wrong(where, f"{match[0]} stands for nothing", f"the group's name has {len(values)} brackets")
        return values[place]

    return _PLACE.sub(one, text)


def _groups(entry: Any, where: str) -> Iterable[Group]:
    if not isinstance(entry, dict):
        raise _wrong(where, f"{entry!r} is no table", "begin it with [[group]]")
    unknown = set(entry) - {"name", "nodes", "columns"}
    if unknown:
        raise _wrong(where, f"{sorted(unknown)[0]}: no such key", "known: name, nodes, columns")
    name, nodes, columns = entry.get("name"), entry.get("nodes"), entry.get("columns", 0)
    if not isinstance(name, str) or not name.strip("/") or not all(name.split("/")):
        raise _wrong(f"{where}.name", f"{name!r} names no group", 'write "rack[01-16]" or "row1/rack[01-16]"')
    if not isinstance(nodes, str):
        raise _wrong(f"{where}.nodes", f"{nodes!r} is no list of hosts", 'write "n[01-64]"')
    if not isinstance(columns, int) or isinstance(columns, bool) or not 0 <= columns <= 10_000:
        raise _wrong(f"{where}.columns", f"{columns!r} is not a number of columns", "give 1 to 10000, or leave it out")
    choices = [tuple(expand(f"x{part}")) for part in _BRACKET.findall(name)] if "[" in name else []
    for values in itertools.product(*choices):
        plain = [value[1:] for value in values]
        rest = iter(plain)
        path = _BRACKET.sub(lambda _, rest=rest: next(rest), name)  # type: ignore[misc]
        yield Group(path, _hosts(_fill(nodes, plain, f"{where}.nodes"), f"{where}.nodes"), columns)


def parse(text: str, where: str = "layout") -> Layout:
    """Return the layout that a TOML text describes.

    Raises:
        RequestError: naming place, what was found and what is expected; JRM-Q67.
    """
    try:
        told = _toml.loads(text)
    except _toml.TOMLDecodeError as error:
        raise _wrong(where, str(error), "see docs/server.md") from None
    unknown = set(told) - {"name", "group", "marks"}
    if unknown:
        raise _wrong(where, f"{sorted(unknown)[0]}: no such key", "known: name, group, marks")
    entries = told.get("group", [])
    if not isinstance(entries, list) or not entries:
        raise _wrong(where, "describes no group", "begin one with [[group]]")
    groups: list[Group] = []
    home: dict[str, str] = {}
    for number, entry in enumerate(entries):
        place = f"{where}: group[{number}]"
        try:
            for group in _groups(entry, place):
                if len(groups) >= MOST_GROUPS:
                    raise _wrong(place, f"more than {MOST_GROUPS} groups", "describe a coarser level")
                for host in group.hosts:
                    if home.setdefault(host, group.path) != group.path:
                        raise _wrong(place, f"{host} stands in {home[host]} and in {group.path}", "name it once")
                groups.append(group)
        except BatchError as error:
            raise _wrong(f"{place}.name", error.message, error.hint) from None
    marks = told.get("marks", {})
    if not isinstance(marks, dict) or set(marks) - {"down", "drained"}:
        raise _wrong(f"{where}: marks", f"{marks!r} is not understood", "known: down, drained")
    marked = {
        name: frozenset(_hosts(marks[name], f"{where}: marks.{name}")) if marks.get(name) else frozenset()
        for name in ("down", "drained")
    }
    return Layout(str(told.get("name", "")), tuple(groups), marked["down"], marked["drained"], frozenset(home))


def folder() -> Path:
    """Return the directory of descriptions."""
    chosen = os.environ.get("JUPYTER_RM_LAYOUTS")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_config_dir("jupyter_rm")) / "layouts"


_read: dict[Path, tuple[tuple[int, int], Layout]] = {}


def known() -> list[Layout]:
    """Return the described machines; a file is read again when it has changed.

    Raises:
        RequestError: a file is wrong; JRM-Q67.
    """
    try:
        paths = sorted(folder().glob("*.toml"))
    except OSError:
        return []
    found = []
    for path in paths:
        try:
            state = path.stat()
            mark = state.st_mtime_ns, state.st_size
            if path not in _read or _read[path][0] != mark:
                _read[path] = mark, parse(path.read_text("utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise _wrong(str(path), str(error), "make it readable, or remove it") from None
        found.append(_read[path][1])
    return found


def natural(name: str) -> tuple[Any, ...]:
    """Return a key that sorts n2 before n10."""
    parts = _PARTS.split(name)
    if len(parts) == 3:  # most names have one number; a hundred thousand of them must not take a second
        return parts[0], int(parts[1]), parts[1], parts[2]
    keys: list[Any] = list(parts)
    keys[1::2] = [(int(part), part) for part in parts[1::2]]
    return tuple(each for key in keys for each in (key if isinstance(key, tuple) else (key,)))


def derived(hosts: Sequence[str], few: int = 96) -> list[Group]:
    """Return the groups that the names of hosts tell, in natural order; one of no name when they tell none.

    Args:
        few: hosts that are shown without any grouping.
    """
    order = sorted(hosts, key=natural)
    if len(order) <= few:
        return [Group("", tuple(order))]
    racks: dict[str, list[str]] = {}
    for host in order:
        match = _TWO.fullmatch(host.split(".")[0])
        racks.setdefault(match[1] if match else "", []).append(host)
    if "" not in racks and 1 < len(racks) <= max(2, len(order) // 2):
        return [Group(name, tuple(each)) for name, each in racks.items()]
    size = next((size for size in (16, 32, 64, 128, 256, 512, 1024) if len(order) <= size * 512), 2048)
    blocks = [order[at : at + size] for at in range(0, len(order), size)]
    return [Group(f"{block[0]} to {block[-1]}", tuple(block)) for block in blocks]
