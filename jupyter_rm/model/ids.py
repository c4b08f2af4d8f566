"""Identifiers: how things are called, by people and by programs.

A session has a name. Inside it, bulks and pilots are numbered from 0 in the order the broker accepted them, and a task
is (bulk, index): ``t.3.17`` is task 17 of bulk 3, ``p.0`` the first pilot. Programs pack a task into one integer, the
*token* (bulk << 32 | index), so that a million tasks are one array. Submissions carry a 16-byte key chosen by the
client, which makes repeating them harmless.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from .errors import RequestError

# What may be shown to a batch system, a path and a shell prompt without any quoting.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_TASK = re.compile(r"t\.(\d+)(?:\.(\d+))?")
_PILOT = re.compile(r"p\.(\d+)")
INDEX_BITS = 32
INDEX_MASK = (1 << INDEX_BITS) - 1
_FIRST: npt.NDArray[np.int64] = np.zeros(1, np.int64)
_FIRST.setflags(write=False)


def check_name(name: object, field: str) -> str:
    """Return ``name`` if it is letters, digits, ``. _ -``, at most 64, starting with a letter."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RequestError(
            f"{field}: {name!r} is not a name",
            hint="use letters, digits, '.', '_' and '-', at most 64, starting with a letter",
            code="JRM-Q02",
        )
    return name


def task_uid(bulk: int, index: int) -> str:
    """Return ``t.BULK.INDEX``."""
    return f"t.{bulk}.{index}"


def pilot_uid(pilot: int) -> str:
    """Return ``p.N``."""
    return f"p.{pilot}"


def parse_task(uid: str) -> tuple[int, int]:
    """Return (bulk, index) of ``t.3.17``; ``t.3`` means index 0. RequestError for anything else."""
    match = _TASK.fullmatch(uid) if isinstance(uid, str) else None
    if not match:
        raise RequestError(f"{uid!r} is not a task uid", hint="task uids look like t.3.17", code="JRM-Q03")
    return int(match[1]), int(match[2] or 0)


def parse_pilot(uid: str) -> int:
    """Return N of ``p.N``."""
    match = _PILOT.fullmatch(uid) if isinstance(uid, str) else None
    if not match:
        raise RequestError(f"{uid!r} is not a pilot uid", hint="pilot uids look like p.0", code="JRM-Q03")
    return int(match[1])


def tokens(bulk: int, index: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return the tokens of tasks ``index`` of one bulk, shape (n,)."""
    token: npt.NDArray[np.uint64]
    if len(index) == 1:
        token = np.array([bulk << INDEX_BITS | int(index[0])], np.uint64)
    else:
        token = index.astype(np.uint64) | np.uint64(bulk << INDEX_BITS)
    return token


def by_bulk(token: npt.NDArray[np.uint64]) -> list[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Group tokens by bulk: (bulk, positions in ``token``, task indices), order kept inside a bulk."""
    if len(token) == 0:
        return []
    if len(token) == 1:
        only = int(token[0])
        return [(only >> INDEX_BITS, _FIRST, np.array([only & INDEX_MASK], np.int64))]
    bulk = (token >> np.uint64(INDEX_BITS)).astype(np.int64)
    index = (token & np.uint64(INDEX_MASK)).astype(np.int64)
    if bool((bulk == bulk[0]).all()):
        return [(int(bulk[0]), np.arange(len(token)), index)]
    out = []
    for number in np.unique(bulk).tolist():
        where = np.flatnonzero(bulk == number)
        out.append((int(number), where, index[where]))
    return out
