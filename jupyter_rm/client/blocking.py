"""Blocking and awaiting: the same conditions, for threads and for event loops.

A wait ends at Ctrl-C at once and leaves everything running; it says so in one line. A wait for something that can no
longer happen by itself (no pilot is there for it) says that too. Progress is drawn by
:mod:`.progress` and costs nothing when nobody looks. Read next: :mod:`.replica`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ..core.vain import nobody
from ..model.states import TaskState
from . import ask
from .progress import Progress

if TYPE_CHECKING:
    from .replica import Replica
    from .settings import Settings


WORRY_S = 2.0
AGAIN_S = 2.0  # a second Ctrl-C within this time meant more than the first


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a wait, in IPython: what there is to say has been said, so it shows no traceback."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks the exception itself; thirty frames of waiting would hide the one line that helps.
        return [f"KeyboardInterrupt: {self}"]


class _Interrupts:
    """The last Ctrl-C in a wait, to tell a second one from a first."""

    what = ""
    at = 0.0

    @classmethod
    def say(cls, what: str, cancel: str) -> None:
        """Say that ``what`` goes on; more clearly when somebody presses Ctrl-C at it again."""
        now = time.monotonic()
        again = cls.what == what and now - cls.at < AGAIN_S
        cls.what, cls.at = what, now
        text = f"\nstill running: {what}; cancel with {cancel}\n"
        if again:
            text = f"\nCtrl-C ends the waiting only, nothing was cancelled ({what}); to cancel: {cancel}\n"
        sys.stderr.write(text)
        sys.stderr.flush()


def in_ipython() -> bool:
    """Does IPython show what this code raises?"""
    module = sys.modules.get("IPython")
    return module is not None and module.get_ipython() is not None


def how_to_cancel(session: str, uid: str = "--all") -> str:
    """Return the line to type that cancels ``uid`` here: in a cell, or in a shell."""
    return f"%jrm cancel {uid}" if in_ipython() else f"jrm cancel -s {session} {uid}"


def wait(
    replica: Replica,
    ready: Callable[[], bool],
    timeout: float | None,
    *,
    what: str,
    cancel: Callable[[], str],
    settings: Settings,
    picture: Callable[[], dict[str, int]] | None = None,
    cheap: bool = False,
) -> bool:
    """Block until ``ready()`` or ``timeout`` seconds are over; say whether it is ready.

    Args:
        what: what is waited for, for people ("12 tasks of session 'study'").
        cancel: returns the line to type that cancels it, for what is printed at Ctrl-C.
        picture: tasks per state for a progress display; None: no display.
        cheap: ``ready`` costs nothing and may be asked on the connection's thread: then this one is woken only once.

    Raises:
        KeyboardInterrupt: Ctrl-C (:class:`Interrupted` in IPython); what was waited for goes on.
    """
    with replica.changed:
        if ready():
            return True
    progress = Progress(what, settings, picture) if picture is not None and settings.progress else None
    deadline = None if timeout is None else time.monotonic() + timeout
    step = WORRY_S if progress is None else settings.progress_interval_s
    worry_at = time.monotonic() + WORRY_S
    try:
        while True:
            left = step if deadline is None else min(step, deadline - time.monotonic())
            if cheap and replica.wait_cheaply(ready, max(0.0, left)):
                return True
            if not cheap and replica.wait(lambda: ready() or replica.asking() is not None, max(0.0, left)):
                with replica.changed:
                    if ready():
                        return True
            if (asked := replica.asking()) is not None:
                ask.put(asked)
                continue
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            if progress is not None:
                progress.update()
            if now >= worry_at:
                worry_at = now + (3600.0 if tell_stuck(replica) else WORRY_S)
    except KeyboardInterrupt:
        try:
            if progress is not None:
                progress.close()
            progress = None
            _Interrupts.say(what, cancel())
        except KeyboardInterrupt:  # pressed twice
            _Interrupts.say(what, cancel())
        if settings.traceback or not in_ipython():
            raise  # plain Python ends the usual way
        raise Interrupted("the wait ended, the work goes on") from None
    finally:
        if progress is not None:
            progress.close()


def tell_stuck(replica: Replica) -> bool:
    """Print why a wait may never end; False when it may."""
    text = stuck(replica)
    if text:
        sys.stderr.write(f"jupyter_rm: {text}\n")
    return bool(text)


def stuck(replica: Replica) -> str:
    """Return why a wait may never end: no pilot is left for all or some of the open tasks. Empty: it may."""
    with replica.changed:
        ledger = replica.ledger
        pilots = [row for row in ledger.pilots if not row.spec.script]
        if not pilots or not ledger.unfinished:
            return ""
        for number, table in ledger.open_bulks():
            if table.counts[TaskState.WAITING] and (why := nobody(table.form.template, pilots)):
                return f"t.{number} of session {replica.name!r} {why}"
        if any(not row.state.final for row in pilots):
            return ""
        last = pilots[-1]
        why = f": {last.reason}" if last.reason else ""
    return (
        f"no pilot of session {replica.name!r} is alive (p.{last.number} {last.state.name}{why}); its tasks wait "
        "until you start one: s.pilot(...)"
    )


def until(watch: Callable[[Callable[[], None]], None], replica: Replica) -> Generator[Any, None, None]:
    """Wait inside the running event loop until ``watch`` calls back (from any thread)."""
    loop = asyncio.get_running_loop()
    worry: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal worry
        if not tell_stuck(replica):
            worry = loop.call_later(WORRY_S, look)

    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    def callback() -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
            return

    watch(callback)
    worry = loop.call_later(WORRY_S, look)
    try:
        yield from woken
    finally:
        worry.cancel()
        if woken.cancelled():
            replica.forget(lambda call: call is callback)


class Until:
    """Awaited, it waits until ``ready()`` is true in a replica; LinkError when no more news will come."""

    def __init__(self, replica: Replica, ready: Callable[[], bool]) -> None:
        self._replica, self._ready = replica, ready

    def __await__(self) -> Generator[Any, None, None]:
        yield from until(lambda call: self._replica.when(self._ready, call), self._replica)
        if self._replica.error is not None and not self._ready():
            raise self._replica.error
