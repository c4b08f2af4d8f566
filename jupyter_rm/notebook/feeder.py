"""A view fed by the kernel itself, for pages that no server of ours feeds: a thread that sends frames when it may.

The frames and their limits are those of the server's feed: at most ten a second, none while the view is hidden, each
made from the state of its moment. It runs beside a busy cell. Pages answer late when the kernel is busy: until the
first answer every frame is whole, one a second at first, so that a page that came late shows it too. Knows no widget:
it is given a ``send``. Read next: :mod:`.look`, :mod:`jupyter_rm.views.feed`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..client import session as sessions
from ..model.errors import JrmError, ProtocolError
from ..views.feed import Cutter
from . import look

if TYPE_CHECKING:
    from ..client.session import Session

BURST, RATE = 2, 8.0  # at most BURST + RATE = 10 frames in any second
GAP_S = 0.02  # least time between a change and the frame that shows it: changes come in flocks
BYTES_PER_S = 1_000_000
COST, LONGEST_S = 8, 3.0  # a picture that takes 0.1 s of computing is made again after 0.8 s; 3 s at most
LOOK_S = 1.0  # how often to look for what no change tells
# Before the page has answered: after so many frames a second apart they come rarer, and after a time not at all. Where
# a page draws the view by itself, through the server, nobody will ever answer.
BLIND_S, BLIND_MANY, BLIND_LONGEST_S, GIVE_UP_S = 1.0, 5, 30.0, 600.0
_numbers = itertools.count()


class Feeder:
    """Feeds one view.

    Args:
        send: takes a frame (JSON) and passes it on; called on the feeder's thread.
    """

    def __init__(self, session: Session, view: str, window: Mapping[str, Any], send: Callable[[bytes], None]) -> None:
        self.frames = 0
        self._session = session
        self._view = view
        self._window = dict(window)
        self._send = send
        self._cutter = Cutter()
        self._woken = threading.Event()
        self._closed = False
        self._visible = True
        self._answered = False
        self._dirty = True
        self._moves = 0
        self._armed = False
        self._seen = -1
        self._due = 0.0
        self._tokens = float(BURST)
        self._sent_at = 0.0
        self._trouble = ""
        self._blind_until = time.monotonic() + GIVE_UP_S
        self._thread = threading.Thread(target=self._run, name=f"jrm-view-{next(_numbers)}", daemon=True)

    def start(self) -> None:
        """Begin; sends the first frame soon."""
        self._thread.start()

    def obey(self, told: Mapping[str, Any]) -> None:
        """Do what the page asks: ``{"op": "show"}``, ``hide``, ``resync``, or ``window`` with a ``window``."""
        op = told.get("op")
        self._answered = True
        if op == "hide":
            self._visible = False
        elif op in ("show", "resync"):
            self._visible, self._dirty, self._due = True, True, 0.0
            self._cutter.forget()
        elif op == "window" and isinstance(told.get("window"), dict):
            self._window, self._dirty, self._due = dict(told["window"]), True, 0.0
            self._moves += 1
        self._woken.set()

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        self._woken.set()

    @property
    def resting(self) -> bool:
        """Is nothing sent now, since nobody looks?"""
        blind = not self._answered and time.monotonic() > self._blind_until
        return self._closed or not self._visible or blind

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        while not self._closed:
            now = time.monotonic()
            if self.resting:
                self._woken.wait()
            elif self._dirty and self._due <= now:
                self._show(now)
                continue
            else:
                waited = not self._woken.wait(self._due - now if self._dirty else LOOK_S)
                if waited and (look.moving(self._session, self._view) or self._trouble):
                    self._dirty = True
            self._woken.clear()

    def _mark(self) -> None:
        self._armed = False
        if not self._dirty:
            self._due = max(self._due, time.monotonic() + GAP_S)
            self._dirty = True
        self._woken.set()

    def _show(self, now: float) -> None:
        self._dirty, moves = False, self._moves
        computing = time.thread_time()
        if not self._answered:
            self._cutter.forget()
        try:
            frame = self._picture()
            self._trouble = ""
        except JrmError as error:
            frame = self._excuse(error)
        except Exception as error:  # a view must not end the thread and leave a picture that lies
            broken = ProtocolError(f"the view broke: {type(error).__name__}: {error}", code="JRM-N05")
            frame = self._excuse(broken)
        cost = time.thread_time() - computing
        # Who has moved on meanwhile does not wait for what the picture of the former place has cost.
        self._due = now + (max(GAP_S, min(LONGEST_S, COST * cost)) if moves == self._moves else 0.0)
        if frame is not None:
            self._pass_on(frame, now)

    def _pass_on(self, frame: bytes, now: float) -> None:
        try:
            self._send(frame)
        except Exception:  # the kernel ends, or the page's side is gone: nobody is left to be told
            self._closed = True
            return
        self.frames += 1
        self._tokens = min(BURST, self._tokens + (now - self._sent_at) * RATE) - 1.0
        self._sent_at = now
        wait = 0.0 if self._tokens >= 1.0 else (1.0 - self._tokens) / RATE
        self._due = max(self._due, now + wait, now + len(frame) / BYTES_PER_S)
        if not self._answered:
            rarer = 2.0 ** max(0, self.frames - BLIND_MANY)
            self._due = max(self._due, now + min(BLIND_LONGEST_S, BLIND_S * rarer))

    def _picture(self) -> bytes | None:
        session = self._living()
        replica = session._replica
        self._seen = replica.cursor
        if replica.error is not None and not session.closed:
            raise replica.error
        self._closed = replica.error is not None  # nothing will change any more
        picture = look.picture(session, self._view, self._window)
        if not (self._armed or self._closed):
            self._armed = True
            replica.when(lambda: replica.cursor != self._seen, self._mark)
        head = {"view": self._view, "session": session.name, "at": round(time.time(), 3)}
        return self._cutter.cut(picture, head)

    def _living(self) -> Session:
        """Return the session, or the one that was opened in its place."""
        if self._session._replica.error is not None:
            for other in list(sessions._open.values()):
                if other.name == self._session.name and other._replica.error is None:
                    self._session, self._armed = other, False
        return self._session

    def _excuse(self, error: JrmError) -> bytes | None:
        trouble = f"{error.code} {error.message}"
        if trouble == self._trouble:
            return None
        self._trouble = trouble
        self._cutter.forget()
        told = {"kind": "lost", "code": error.code, "message": error.message, "hint": error.hint}
        return msgspec.json.encode(told)
