"""Columns and picks: how many tasks are spoken of at once.

A :class:`Column` holds one value per task (a parameter, a payload, a result) in a compact form; :class:`Picks` names a
set of tasks of one bulk; a *vec* is the packed form of one number per picked task, a single element when all are
equal. These three keep a fact's size proportional to what changed and free of Python objects per task.
Knows nothing about tasks themselves. Read next: :mod:`jupyter_rm.model.facts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from .errors import RequestError

Array = npt.NDArray[Any]
Scalar = int | float | str | bytes


class Column(msgspec.Struct, frozen=True, array_like=True):
    """``count`` values of one kind: ``const``, ``range``, ``int``, ``float``, ``text`` or ``bytes``.

    Attributes:
        kind: which of the encodings below.
        count: number of values.
        first: the constant, or the start of the range.
        step: step of the range.
        data: little-endian int64 or float64, or the joined bytes of all texts.
        ends: uint64 cumulative ends into ``data`` for text and bytes.
    """

    kind: str
    count: int
    first: int | float | str = 0
    step: int = 0
    data: bytes = b""
    ends: bytes = b""

    @classmethod
    def of(cls, values: object, field: str = "column") -> Column:
        """Encode a range, array, or sequence of int, float, bool, str or bytes (all of one kind).

        Raises RequestError naming ``field`` for anything else.
        """
        if isinstance(values, Column):
            return values
        if isinstance(values, range):
            return cls("range", len(values), values.start, values.step)
        if isinstance(values, np.ndarray):
            if values.ndim != 1:
                raise RequestError(f"{field}: an array of {values.ndim} dimensions", hint="give one value per task")
            if values.dtype.kind in "iub":
                return cls("int", len(values), data=values.astype("<i8").tobytes())
            if values.dtype.kind == "f":
                return cls("float", len(values), data=values.astype("<f8").tobytes())
            values = values.tolist()
        items = list(values) if isinstance(values, Iterable) and not isinstance(values, (str, bytes)) else None
        if items is None:
            raise RequestError(f"{field}: {type(values).__name__} is not a sequence", hint="give one value per task")
        kinds = {type(item) for item in items}
        if kinds <= {bytes}:
            return cls.of_bytes(items)
        if kinds <= {str}:
            return cls._of_text(items, field)
        if all(isinstance(item, (int, np.integer)) for item in items):
            try:
                return cls("int", len(items), data=np.array(items, "<i8").tobytes())
            except OverflowError:
                return cls._joined("text", [str(item).encode() for item in items])
        if all(isinstance(item, (int, float, np.integer, np.floating)) for item in items):
            return cls("float", len(items), data=np.array(items, "<f8").tobytes())
        return cls._of_text(list(map(str, items)), field)

    @classmethod
    def _of_text(cls, items: Sequence[str], field: str) -> Column:
        made: list[bytes] = []
        try:
            for item in items:
                made.append(item.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError as error:
            raise RequestError(
                f"{field}: value {len(made)} holds {items[len(made)][error.start]!a}, half of a character",
                hint="remove it",
                code="JRM-Q05",
            ) from None
        return cls._joined("text", made)

    @classmethod
    def const(cls, value: int | float | str, count: int) -> Column:
        """Return ``count`` times the same value."""
        return cls("const", count, value)

    @classmethod
    def of_bytes(cls, items: Sequence[bytes]) -> Column:
        """Encode byte strings of any lengths."""
        return cls._joined("bytes", items)

    @classmethod
    def _joined(cls, kind: str, items: Sequence[bytes]) -> Column:
        if len(items) == 1:
            return cls(kind, 1, data=bytes(items[0]), ends=len(items[0]).to_bytes(8, "little"))
        ends = np.cumsum(np.fromiter(map(len, items), "<u8", len(items)), dtype="<u8")
        return cls(kind, len(items), data=b"".join(items), ends=ends.tobytes())

    def __len__(self) -> int:
        return self.count

    def check(self) -> None:
        """Raise ValueError unless the parts fit together: a column from another program may say anything."""
        if self.count < 0:
            raise ValueError(f"a column of {self.count} values")
        if self.kind == "range":
            if not isinstance(self.first, int) or abs(self.first) + abs(self.step) * self.count >= 2**63:
                raise ValueError(f"a range from {self.first!r} in steps of {self.step}")
            if self.step == 0:
                raise ValueError("a range in steps of 0")
        elif self.kind in ("int", "float"):
            if len(self.data) != 8 * self.count:
                raise ValueError(f"{len(self.data)} bytes for {self.count} numbers")
        elif self.kind in ("text", "bytes"):
            if len(self.ends) != 8 * self.count:
                raise ValueError(f"{len(self.ends)} bytes for {self.count} ends")
            if self.count == 1:
                if int.from_bytes(self.ends, "little") != len(self.data):
                    raise ValueError("ends that do not divide the data")
                return
            ends = np.frombuffer(self.ends, "<u8")
            if bool((ends[1:] < ends[:-1]).any()) or int(ends[-1] if self.count else 0) != len(self.data):
                raise ValueError("ends that do not divide the data")
        elif self.kind != "const":
            raise ValueError(f"the unknown kind {self.kind!r}")

    def get(self, index: int) -> Scalar:
        """Return the value of task ``index``."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        if self.kind == "const":
            return self.first
        if self.kind == "range":
            return int(self.first) + index * self.step
        if self.kind == "int":
            return int(np.frombuffer(self.data, "<i8", 1, index * 8)[0])
        if self.kind == "float":
            return float(np.frombuffer(self.data, "<f8", 1, index * 8)[0])
        place = 8 * index
        start = int.from_bytes(self.ends[place - 8 : place], "little") if index else 0
        raw = self.data[start : int.from_bytes(self.ends[place : place + 8], "little")]
        return raw if self.kind == "bytes" else raw.decode("utf-8", "surrogateescape")

    def values(self) -> list[Scalar]:
        """Return all values as Python objects, in order."""
        if self.kind == "const":
            return [self.first] * self.count
        if self.kind == "range":
            start = int(self.first)
            return list(range(start, start + self.count * self.step, self.step))
        if self.kind in ("int", "float"):
            return list(self.array().tolist())
        data, start, out = self.data, 0, []
        for end in np.frombuffer(self.ends, "<u8").tolist():
            out.append(data[start:end])
            start = end
        return list(out) if self.kind == "bytes" else [item.decode("utf-8", "surrogateescape") for item in out]

    def array(self) -> Array:
        """Return a numpy array (object dtype for text and bytes), shape (count,)."""
        if self.kind == "int":
            return np.frombuffer(self.data, "<i8")
        if self.kind == "float":
            return np.frombuffer(self.data, "<f8")
        if self.kind == "range":
            start = int(self.first)
            return np.arange(start, start + self.count * self.step, self.step, dtype="<i8")[: self.count]
        if self.kind == "const" and isinstance(self.first, (int, float)):
            return np.full(self.count, self.first)
        out = np.empty(self.count, object)
        out[:] = self.values()
        return out

    def take(self, picks: Picks) -> Column:
        """Return the values of the picked tasks only, in the order of ``picks``."""
        if self.kind == "const":
            return Column("const", len(picks), self.first)
        if not picks.rest:
            if picks.lo == 0 and picks.hi == self.count:
                return self
            return self._cut(picks.lo, picks.hi)
        index = picks.array()
        if self.kind == "range":
            values = int(self.first) + index.astype("<i8") * self.step
            return Column("int", len(values), data=values.tobytes())
        if self.kind in ("int", "float"):
            return Column(self.kind, len(index), data=self.array()[index].tobytes())
        ends = np.frombuffer(self.ends, "<u8").astype("<i8")
        starts = np.concatenate((np.zeros(1, "<i8"), ends[:-1]))
        data = self.data
        parts = [data[a:b] for a, b in zip(starts[index].tolist(), ends[index].tolist(), strict=True)]
        return self._joined(self.kind, parts)

    def _cut(self, lo: int, hi: int) -> Column:
        if self.kind == "range":
            return Column("range", hi - lo, int(self.first) + lo * self.step, self.step)
        if self.kind in ("int", "float"):
            return Column(self.kind, hi - lo, data=self.data[lo * 8 : hi * 8])
        ends = np.frombuffer(self.ends, "<u8")
        start = int(ends[lo - 1]) if lo else 0
        stop = int(ends[hi - 1]) if hi else 0
        return Column(self.kind, hi - lo, data=self.data[start:stop], ends=(ends[lo:hi] - np.uint64(start)).tobytes())

    @classmethod
    def join(cls, parts: Sequence[Column]) -> Column:
        """Concatenate columns of bytes."""
        if len(parts) == 1:
            return parts[0]
        ends, base = [], 0
        for part in parts:
            ends.append(np.frombuffer(part.ends, "<u8") + np.uint64(base))
            base += len(part.data)
        return cls(
            parts[0].kind if parts else "bytes",
            sum(part.count for part in parts),
            data=b"".join(part.data for part in parts),
            ends=np.concatenate(ends).tobytes() if ends else b"",
        )


class Picks(msgspec.Struct, frozen=True, array_like=True):
    """A set of task indices of one bulk: the range [lo, hi), or the uint32 indices in ``rest``."""

    lo: int
    hi: int
    rest: bytes = b""

    @classmethod
    def span(cls, lo: int, hi: int) -> Picks:
        """Return the range [lo, hi)."""
        return cls(lo, hi)

    @classmethod
    def of(cls, index: Array | Sequence[int]) -> Picks:
        """Encode indices, keeping their order; a range when they are consecutive."""
        array = np.asarray(index)
        count = len(array)
        if count == 0:
            return cls(0, 0)
        first, last = int(array[0]), int(array[-1])
        if count == 1:
            return cls(first, first + 1)
        if last - first == count - 1 and (count < 3 or bool((np.diff(array) == 1).all())):
            return cls(first, last + 1)
        return cls(int(array.min()), int(array.max()) + 1, array.astype("<u4").tobytes())

    def __len__(self) -> int:
        return len(self.rest) // 4 if self.rest else self.hi - self.lo

    def check(self, count: int) -> None:
        """Raise ValueError unless these are distinct indices below ``count``: another program may say anything."""
        if not 0 <= self.lo <= self.hi <= count or len(self.rest) % 4:
            raise ValueError(f"tasks {self.lo} to {self.hi} of {count}")
        if self.rest:
            index = np.sort(np.frombuffer(self.rest, "<u4"))
            if int(index[0]) < self.lo or int(index[-1]) >= self.hi or bool((index[1:] == index[:-1]).any()):
                raise ValueError(f"tasks beyond {self.lo} to {self.hi}, or one twice")

    def array(self) -> npt.NDArray[np.int64]:
        """Return the indices, shape (len,), int64."""
        if self.rest:
            return np.frombuffer(self.rest, "<u4").astype(np.int64)
        return np.arange(self.lo, self.hi, dtype=np.int64)

    @property
    def where(self) -> slice | Array:
        """Return a numpy index expression, a slice when possible."""
        return np.frombuffer(self.rest, "<u4") if self.rest else slice(self.lo, self.hi)

    def __contains__(self, index: object) -> bool:
        if not isinstance(index, int) or not self.lo <= index < self.hi:
            return False
        return not self.rest or bool((np.frombuffer(self.rest, "<u4") == index).any())

    def where_true(self, mask: Array) -> Picks:
        """Return the picks at which ``mask`` (shape (len,)) is true."""
        return self if every(mask) else Picks.of(self.array()[mask])


def every(mask: Array) -> bool:
    """Say whether a mask is true everywhere; of one element at the price of one."""
    return bool(mask[0]) if len(mask) == 1 else bool(mask.all())


def pack(values: Array | Sequence[float] | float, dtype: str) -> bytes:
    """Pack one number per pick as ``dtype``; one element alone stands for 'all equal'."""
    if isinstance(values, np.ndarray) and values.size == 1:
        return values.astype(dtype).tobytes()
    array = np.ascontiguousarray(values, dtype=dtype).reshape(-1)
    if len(array) > 1 and bool((array[1:] == array[0]).all()):
        array = array[:1]
    return array.tobytes()


def unpack(data: bytes, dtype: str, count: int) -> Array:
    """Return the ``count`` numbers packed by :func:`pack`, shape (count,)."""
    array = np.frombuffer(data, dtype)
    if len(array) == count:
        return array
    if len(array) != 1:
        raise ValueError(f"{len(array)} numbers for {count} tasks")
    return np.broadcast_to(array, (count,))
