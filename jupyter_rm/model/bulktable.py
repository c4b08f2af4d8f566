"""The tasks of one bulk as columns: a numpy array per attribute, moved on together.

News that is late or repeated changes nothing (:func:`jupyter_rm.model.states.advances`, here on whole arrays). A small
bulk that is over is *sealed*: its columns lie in one piece of bytes, for an array of one number is mostly wrapping.
Knows nothing of facts but the submission. Read next: :mod:`jupyter_rm.model.ledger`, which folds facts into it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .columns import Array, Picks, unpack
from .facts import BulkSubmitted, StagingSeen
from .states import TaskState

STATES = len(TaskState)
NOBODY = -1
# column -> dtype; zero is the right start for all but pilot
COLUMNS: dict[str, str] = {
    "state": "u1",
    "cause": "u1",
    "flags": "u1",
    "failures": "u1",
    "attempt": "u2",
    "pilot": "i2",
    "code": "i4",
    "node": "u4",
    "started": "f8",
    "ended": "f8",
    "user": "f4",
    "sys": "f4",
    "rss": "u4",
}
CANCEL_ASKED = 1
LEFT = 2  # no agent holds it any more: what is left to do in STAGING_OUT is done without the pilot
UNSERVED = 4  # this attempt is to end because a service it uses has
# Bulks up to this size are sealed when they are over: an array for each of a few numbers is mostly wrapping.
SEALED_MOST = 64
# Plain numbers: compared for every single task.
_BOUND, _DONE = int(TaskState.STAGING_IN), int(TaskState.DONE)
_NOT = np.zeros(1, np.bool_), np.zeros(0, np.int64)
_NO_NOTES: dict[int, str] = {}
_NOT_MOVING: dict[tuple[int, int], StagingSeen] = {}


def _places() -> dict[str, tuple[int, np.dtype[Any]]]:
    """Return where the columns of one task lie in a sealed table, widest first so that each is aligned."""
    out, place = {}, 0
    for name, code in sorted(COLUMNS.items(), key=lambda item: -int(item[1][1:])):
        out[name] = (place, np.dtype(code))
        place += int(code[1:])
    return out


_PLACES = _places()


class BulkTable:
    """The tasks of one bulk, a numpy column per attribute, shape (count,).

    Attributes: those of :data:`COLUMNS`; ``form`` is the submission; ``counts`` the number of tasks per state;
    ``notes`` short texts by index; ``since`` the wall time of the last change; ``endpoint`` where the service of this
    bulk can be reached, '' while it cannot. Once all tasks of a small bulk have ended its columns are read-only.
    """

    __slots__ = (*COLUMNS, "_sealed", "counts", "endpoint", "form", "moving", "notes", "since", "stale")
    state: npt.NDArray[np.uint8]
    cause: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]
    failures: npt.NDArray[np.uint8]
    attempt: npt.NDArray[np.uint16]
    pilot: npt.NDArray[np.int16]
    code: npt.NDArray[np.int32]
    node: npt.NDArray[np.uint32]
    started: npt.NDArray[np.float64]
    ended: npt.NDArray[np.float64]
    user: npt.NDArray[np.float32]
    sys: npt.NDArray[np.float32]
    rss: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.int64]
    notes: dict[int, str]
    moving: dict[tuple[int, int], StagingSeen]  # (pilot, index or -1): for people, in no snapshot

    def __init__(self, form: BulkSubmitted) -> None:
        self.form = form
        self._sealed = b""
        for name, dtype in COLUMNS.items():
            setattr(self, name, np.zeros(form.count, dtype))
        first = TaskState.SUBMITTED if form.after else TaskState.WAITING
        self.state[:] = first
        self.pilot[:] = NOBODY
        self.attempt[:] = 1
        self.counts = np.zeros(STATES, np.int64)
        self.counts[first] = form.count
        self.notes = {}
        self.moving = {}
        self.since = form.at
        self.stale = 0
        self.endpoint = ""

    def __len__(self) -> int:
        return self.form.count

    @property
    def open(self) -> int:
        """Return how many tasks have no final state yet."""
        return 0 if self._sealed else sum(self.counts.tolist()[:_DONE])

    @property
    def sealed(self) -> bool:
        """Say whether nothing changes here any more, and the columns lie in one piece."""
        return bool(self._sealed)

    def seal(self) -> None:
        """Put the columns of a small bulk that is over into one piece; they are read as before."""
        if 0 < len(self) <= SEALED_MOST and not self._sealed:
            # Readers in other threads find either the arrays or the piece.
            self._sealed = b"".join([getattr(self, name).tobytes() for name in _PLACES])
            for name in (*COLUMNS, "counts"):
                delattr(self, name)
            self.notes, self.moving = self.notes or _NO_NOTES, _NOT_MOVING

    def __getattr__(self, name: str) -> Array:
        """Return a column of a sealed table; only called for what is not there as an array."""
        if name == "counts":
            return np.bincount(self.state, minlength=STATES)
        if name not in _PLACES:
            raise AttributeError(name)
        place, dtype = _PLACES[name]
        return np.frombuffer(self._sealed, dtype, len(self), place * len(self))

    def advance(self, picks: Picks, attempt: bytes, state: int | Array) -> tuple[Any, Array | None]:
        """Move the picked tasks on where this is news.

        Returns (where, mask): the index expression of the accepted ones, and the mask over ``picks`` (None: all).
        """
        if picks.hi - picks.lo == 1:
            return self._advance_one(picks.lo, attempt, state)
        where = picks.where
        count = len(picks)
        old = self.state[where]
        new_attempt = unpack(attempt, "<u2", count)
        known = self.attempt[where]
        ok = (old < TaskState.DONE) & ((new_attempt > known) | ((new_attempt == known) & (old < state)))
        accepted: Any = where
        mask: Array | None = None
        if not bool(ok.all()):
            mask = ok
            self.stale += count - int(ok.sum())
            accepted = picks.array()[ok]
            old, new_attempt = old[ok], new_attempt[ok]
            if isinstance(state, np.ndarray):
                state = state[ok]
        self.counts -= np.bincount(old, minlength=STATES)
        self.state[accepted] = state
        self.attempt[accepted] = new_attempt
        if isinstance(state, np.ndarray):
            self.counts += np.bincount(state, minlength=STATES)
        else:
            self.counts[state] += len(old)
        return accepted, mask

    def _advance_one(self, index: int, attempt: bytes, state: int | Array) -> tuple[Any, Array | None]:
        """Do the same for one task, which is most of what happens when somebody waits for each."""
        news = int.from_bytes(attempt, "little")
        after = int(state[0]) if isinstance(state, np.ndarray) else int(state)
        old, known = self.state.item(index), self.attempt.item(index)
        if old >= _DONE or news < known or (news == known and old >= after):
            self.stale += 1
            return _NOT[1], _NOT[0]
        self.counts[old] -= 1
        self.counts[after] += 1
        self.state[index] = after
        self.attempt[index] = news
        return slice(index, index + 1), None

    def set(
        self,
        accepted: Any,
        mask: Array | None,
        count: int,
        columns: tuple[tuple[str, np.dtype[Any]], ...],
        source: object,
    ) -> None:
        """Store packed columns, attributes of ``source``, at the accepted places."""
        for name, dtype in columns:
            values = np.frombuffer(getattr(source, name), dtype)
            if mask is not None:
                values = values[mask] if len(values) == count else values
            getattr(self, name)[accepted] = values

    def open_held(self, pilot: int, where: Any) -> int:
        """Return how many of the tasks at ``where`` this pilot holds without a final state."""
        if type(where) is slice and where.stop - where.start == 1:
            one = where.start
            held = _BOUND <= self.state.item(one) < _DONE and self.pilot.item(one) == pilot
            return int(held and not self.flags.item(one) & LEFT)
        state = self.state[where]
        mine = (state >= TaskState.STAGING_IN) & (state < TaskState.DONE) & (self.pilot[where] == pilot)
        return int((mine & ((self.flags[where] & LEFT) == 0)).sum())

    def moving_of(self, index: int) -> str:
        """Return what is known of files on their way for a task, '' when nothing is."""
        told = self.moving.get((int(self.pilot[index]), index)) or self.moving.get((int(self.pilot[index]), -1))
        if told is None:
            return ""
        percent = f", {100 * told.done / told.size:.0f} % of {told.size / 1e6:.1f} MB" if told.size else ""
        return told.text + percent

    def nbytes(self) -> int:
        """Return the memory of the columns, bytes."""
        return sum(int(getattr(self, name).nbytes) for name in COLUMNS)
