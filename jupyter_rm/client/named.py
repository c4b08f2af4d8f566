"""State names as users compare them: text that also equals the member of the enum and knows its place in the order."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class StateName(str):
    """``"RUNNING"`` with ``final`` and the order of life: ``t.state == "DONE"``, ``t.state < "RUNNING"``."""

    _member: IntEnum

    def __new__(cls, member: IntEnum) -> StateName:
        """Return the name of ``member``."""
        self = super().__new__(cls, member.name)
        self._member = member
        return self

    @property
    def name(self) -> str:
        """The plain text."""
        return str.__str__(self)

    @property
    def value(self) -> int:
        """The place in the order of life."""
        return int(self._member)

    @property
    def final(self) -> bool:
        """True for DONE, FAILED and CANCELED."""
        return bool(getattr(self._member, "final", False))

    def _other(self, other: object) -> IntEnum | None:
        if isinstance(other, StateName):
            return other._member
        if isinstance(other, type(self._member)):
            return other
        if isinstance(other, str):
            return type(self._member).__members__.get(other)
        return None

    def __eq__(self, other: object) -> bool:
        return str(self.name) == str.__str__(other) if isinstance(other, str) else other is self._member

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Any) -> bool:
        member = self._other(other)
        return NotImplemented if member is None else int(self._member) < int(member)

    def __gt__(self, other: Any) -> bool:
        member = self._other(other)
        return NotImplemented if member is None else int(self._member) > int(member)

    def __le__(self, other: Any) -> bool:
        return bool(self < other or self == other)

    def __ge__(self, other: Any) -> bool:
        return bool(self > other or self == other)

    def __hash__(self) -> int:
        return str.__hash__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (StateName, (self._member,))


def names(kind: type[IntEnum]) -> list[StateName]:
    """Return the names of all members, by number."""
    return [StateName(member) for member in kind]
