"""A merged description and where each of its values came from. Filled by :mod:`.files`, shown by ``explain``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: file, line (0: not known) and the values of lower files that it hides."""

    file: str
    line: int
    value: Any
    hides: tuple[tuple[str, int, Any], ...] = ()

    def __str__(self) -> str:
        text = f"{self.value!r}  from {self.file}:{self.line}"
        return text + "".join(f"\n  hides {value!r}  from {file}:{line}" for file, line, value in self.hides)


@dataclass(slots=True)
class Loaded:
    """The merged tree of a description with the origin of each leaf, by dotted path; ``files`` most special first.

    ``unset``: variables in a leaf that the environment does not have, and that have no default.
    """

    name: str
    tree: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Origin] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    unset: dict[str, list[str]] = field(default_factory=dict)
