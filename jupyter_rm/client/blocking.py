"""Blocking and awaiting: the same conditions, for threads and for event loops.

A wait ends at Ctrl-C at once and leaves everything running; it says so in one line. Progress is drawn by
:mod:`.progress` and costs nothing when nobody looks. Read next: :mod:`.replica`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from .progress import Progress

if TYPE_CHECKING:
    from .replica import Replica
    from .settings import Settings


WORRY_S = 2.0


def wait(
    replica: Replica,
    ready: Callable[[], bool],
    timeout: float | None,
    *,
    what: str,
    cancel: str,
    settings: Settings,
    picture: Callable[[], dict[str, int]] | None = None,
) -> bool:
    """Block until ``ready()`` or ``timeout`` seconds are over; say whether it is ready.

    Args:
        what: what is waited for, for people ("12 tasks of session 'study'").
        cancel: the call that cancels it, for the line printed at Ctrl-C.
        picture: tasks per state for a progress display; None: no display.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was waited for goes on.
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
            if replica.wait(ready, max(0.0, left)):
                return True
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            if progress is not None:
                progress.update()
            if now >= worry_at:
                text = stuck(replica)
                worry_at = now + (3600.0 if text else WORRY_S)
                if text:
                    sys.stderr.write(f"jupyter_rm: {text}\n")
    except KeyboardInterrupt:
        sys.stderr.write(f"\nstill running: {what}; cancel with {cancel}\n")
        sys.stderr.flush()
        raise
    finally:
        if progress is not None:
            progress.close()


def stuck(replica: Replica) -> str:
    """Return why a wait may never end: tasks are open and every pilot of the session has ended. Empty: it may."""
    with replica.changed:
        ledger = replica.ledger
        if not ledger.pilots or any(not row.state.final for row in ledger.pilots):
            return ""
        if not any(table.open for table in ledger.bulks):
            return ""
        last = ledger.pilots[-1]
        why = f": {last.reason}" if last.reason else ""
    return (
        f"no pilot of session {replica.name!r} is alive (p.{last.number} {last.state.name}{why}); its tasks wait "
        "until you start one: s.pilot(...)"
    )


def until(watch: Callable[[Callable[[], None]], None]) -> Generator[Any, None, None]:
    """Wait inside the running event loop until ``watch`` calls back (from any thread)."""
    loop = asyncio.get_running_loop()
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
    yield from woken
