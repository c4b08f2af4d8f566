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
    try:
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            step = left if progress is None else min(settings.progress_interval_s, left if left is not None else 3600.0)
            if replica.wait(ready, step if step is None else max(0.0, step)):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            if progress is not None:
                progress.update()
    except KeyboardInterrupt:
        sys.stderr.write(f"\nstill running: {what}; cancel with {cancel}\n")
        sys.stderr.flush()
        raise
    finally:
        if progress is not None:
            progress.close()


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
