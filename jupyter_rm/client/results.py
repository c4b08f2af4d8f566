"""Results of calls in this process: kept as they came (bytes), turned into objects when asked for.

:class:`ValueStore` holds what came with the news that calls ended; :func:`decode` is the only place of the client that
unpickles, and only what this user's own workers wrote. Read next: :mod:`.replica`.
"""

from __future__ import annotations

import linecache
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..model.columns import Array, Column, Picks
from ..model.errors import LinkError, TaskError
from ..wire import values as forms

_FRAME = re.compile(r'^  File "(.+)", line (\d+), in .*\n(?!    )', re.MULTILINE)


def with_source(trace: str) -> str:
    """Return a remote traceback with the lines of code that only this process knows: those of notebook cells."""

    def fill(frame: re.Match[str]) -> str:
        code = linecache.getline(frame[1], int(frame[2])).strip()
        return f"{frame[0]}    {code}\n" if code else frame[0]

    return _FRAME.sub(fill, trace)


class RemoteTraceback(Exception):
    """The traceback of an exception that was raised in a worker, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def decode(raw: bytes) -> tuple[Any, BaseException | None]:
    """Return (value, None) or (None, exception) for one result as it travelled."""
    marker = raw[:1]
    try:
        if marker == forms.INLINE:
            return pickle.loads(memoryview(raw)[1:]), None  # noqa: S301 (our own workers wrote it)
        if marker == forms.IN_FILE:
            path = Path(raw[1:].decode("utf-8", "surrogateescape"))
            try:
                return pickle.loads(path.read_bytes()), None  # noqa: S301 (our own workers wrote it)
            except OSError as error:
                return None, LinkError(
                    f"the result lies in {path}, which cannot be read here: {error.strerror}",
                    code="JRM-T12",
                    hint="read it on the machine where the task ran, or return less from the function",
                )
        if marker == forms.RAISED:
            return None, _raised(*pickle.loads(memoryview(raw)[1:]))  # noqa: S301 (our own workers wrote it)
    except Exception as error:
        failed = TaskError(
            f"the result cannot be unpickled here: {type(error).__name__}: {error}",
            code="JRM-X46",
            hint="make the classes it uses importable in this kernel",
        )
        failed.__cause__ = error
        return None, failed
    return None, TaskError("the call ended without a result", code="JRM-X46", hint="see t.story()")


def decode_plain(raws: list[bytes | None]) -> list[Any] | None:
    """Return all values when every result is a plain one, None when some need a closer look (:func:`decode`)."""
    loads = pickle.loads
    try:
        if any(not raw or raw[0] for raw in raws):
            return None
        return [loads(raw[1:]) for raw in raws]  # type: ignore[index]
    except Exception:
        return None


def _raised(body: bytes | None, kind: str, message: str, trace: str) -> BaseException:
    error: BaseException | None = None
    trace = with_source(trace)
    if body:
        try:
            error = pickle.loads(body)  # noqa: S301 (our own workers wrote it)
        except Exception:
            error = None
    if not isinstance(error, BaseException):
        error = TaskError(f"{kind}: {message}", code="JRM-X47", hint="the exception itself could not be brought here")
    if isinstance(error, TaskError):
        error.remote_traceback = trace
    error.__cause__ = RemoteTraceback(trace)
    return error


class ValueStore:
    """Raw results of one bulk, in the chunks in which they came."""

    __slots__ = ("_chunks", "_indexed", "_where", "count", "nbytes")

    def __init__(self, count: int) -> None:
        self.count = count
        self.nbytes = 0
        self._chunks: list[tuple[Array, Column] | None] = []
        self._where: Array | None = None
        self._indexed = 0

    def add(self, picks: Picks, values: Column, mask: Array | None = None) -> int:
        """Keep the results of ``picks`` (where ``mask`` is true); return their size in bytes."""
        index = picks.array()
        if mask is not None and not bool(mask.all()):
            keep = np.flatnonzero(mask)
            values = values.take(Picks.of(keep))
            index = index[keep]
        if not len(index):
            return 0
        self._chunks.append((index.astype(np.uint32), values))
        size = len(values.data) + 12 * len(index)
        self.nbytes += size
        return size

    def drop_oldest(self) -> int:
        """Forget the oldest chunk (it can be fetched again); return the bytes freed, 0 when there is none."""
        for number, chunk in enumerate(self._chunks):
            if chunk is not None:
                self._chunks[number] = None
                size = len(chunk[1].data) + 12 * len(chunk[0])
                self.nbytes -= size
                return size
        return 0

    def _index(self) -> Array:
        if self._where is None:
            self._where = np.full(self.count, -1, np.int32)
        for number in range(self._indexed, len(self._chunks)):
            chunk = self._chunks[number]
            if chunk is not None:
                self._where[chunk[0]] = number
        self._indexed = len(self._chunks)
        return self._where

    def get(self, index: int) -> bytes | None:
        """Return the raw result of task ``index``, None when it is not here."""
        if self.count == 1 and len(self._chunks) == 1 and (only := self._chunks[0]) is not None:
            raw = only[1].get(0)
            assert isinstance(raw, bytes)
            return raw
        number = int(self._index()[index])
        chunk = self._chunks[number] if number >= 0 else None
        if chunk is None:
            return None
        indices, values = chunk
        first = int(indices[0])
        offset = index - first
        if not (0 <= offset < len(indices) and int(indices[offset]) == index):
            offset = int(np.flatnonzero(indices == index)[0])
        raw = values.get(offset)
        assert isinstance(raw, bytes)
        return raw

    def raw(self) -> list[bytes | None]:
        """Return the raw results of all tasks in order, None where there is none here."""
        out: list[bytes | None] = [None] * self.count
        for chunk in self._chunks:
            if chunk is not None:
                index, values = chunk[0], chunk[1].values()
                first, count = int(index[0]), len(index)
                if int(index[-1]) - first == count - 1 and bool((np.diff(index) == 1).all()):
                    out[first : first + count] = values  # type: ignore[assignment]
                    continue
                for place, value in zip(index.tolist(), values, strict=True):
                    out[place] = value  # type: ignore[assignment]
        return out
