"""Doing it again: copies of tasks that ended badly, submitted as new ones.

Programs are wholly described by the ledger. Calls need their arguments too, which only the process that sent them has:
it keeps those of its latest calls. Knows no results and no files. Read next: :mod:`.bulk`.
"""

from __future__ import annotations

import collections
import threading
from typing import TYPE_CHECKING

import numpy as np

from ..model.columns import Column
from ..model.errors import RequestError
from ..model.messages import Submit
from .bulk import Bulk, joined

if TYPE_CHECKING:
    from .session import Session

KEPT_BYTES = 64 << 20
KEPT_BULKS = 4096


class Payloads:
    """Arguments of the latest calls, by bulk; the oldest are forgotten when there are too many."""

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[int, Column] = collections.OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def keep(self, bulk: int, payload: Column) -> None:
        """Keep the arguments of a bulk."""
        size = _size(payload)
        if size > KEPT_BYTES:
            return
        with self._lock:
            self._kept[bulk] = payload
            self._bytes += size
            while self._bytes > KEPT_BYTES or len(self._kept) > KEPT_BULKS:
                self._bytes -= _size(self._kept.popitem(last=False)[1])

    def get(self, bulk: int) -> Column | None:
        """Return the arguments of a bulk, None when they are not known (any more)."""
        with self._lock:
            return self._kept.get(bulk)


def _size(payload: Column) -> int:
    return len(payload.data) + len(payload.ends)


def retry(session: Session, bulk: Bulk) -> Bulk:
    """Submit copies of the tasks of ``bulk`` as new ones; return them in the same order.

    Raises:
        RequestError: JRM-Q53, the arguments of a call are not known here; nothing was submitted.
    """
    submits: list[Submit] = []
    pieces = []
    for number, _, picks, places in bulk.parts():
        form = session._table(number).form
        payload = None
        if form.template.mode == "call":
            known = session._payloads.get(number)
            if known is None or form.template.function not in session._connection.functions:
                raise RequestError(
                    f"retry: the arguments of t.{number} are not known here (any more)",
                    hint="call s.map on those items again",
                    code="JRM-Q53",
                )
            payload = known.take(picks)
        columns = {name: column.take(picks) for name, column in form.columns.items()}
        submits.append(session._message(form.template, columns, len(picks), payload, ()))
        pieces.append((len(picks), np.arange(len(bulk)) if isinstance(places, slice) else places))
    if not submits:
        return bulk
    for submit in submits:
        session._need_pilot(submit.template)
    numbers = session._send_all(submits)
    return joined(session, [(n, *piece) for n, piece in zip(numbers, pieces, strict=True)], len(bulk))
