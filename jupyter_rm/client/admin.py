"""The broker as a program: what it says of itself, ending it, its log. Never starts one."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from typing import Any

import msgspec

from ..model.errors import JrmError, LinkError
from ..model.messages import StopBroker
from .connection import Connection
from .line import Line
from .listing import broker_status
from .settings import current

KILLED_S = 10.0  # a killed process is gone after this long, or the machine stands still


def _home() -> Any:
    from ..runtime.home import Home

    return Home.locate(current().profile)


def status() -> dict[str, Any] | None:
    """Return what the broker says of itself, None when none runs."""
    home = _home()
    if home.holder() is None:
        return None
    told: dict[str, Any] = msgspec.structs.asdict(broker_status())
    told.pop("req", None)
    return {**told, "home": str(home.state_path), "profile": home.profile}


def stop(force: bool = False, timeout_s: float = 15.0) -> bool:
    """End the broker and wait until it has gone; False when none runs. Agents keep working, open tasks or not.

    Args:
        force: kill it when it has not ended in time; what it promised is in the journal.

    Raises:
        LinkError: JRM-T02 it did not end in time, JRM-T07 it runs on another machine.
    """
    home = _home()
    if home.holder() is None:
        return False
    _let_go(home)
    deadline = time.monotonic() + timeout_s
    while (holder := home.holder()) is not None:
        if holder.host not in ("", platform.node()):
            text = f"the broker (pid {holder.pid}) runs on {holder.host}, out of reach from here"
            raise LinkError(text, code="JRM-T07", hint=f"on {holder.host}: jrm broker stop")
        # A client that lost this broker may start the next one in the same moment: that one is asked too.
        if _ended(home, holder, deadline):
            continue
        if not force or not holder.pid:
            text = f"the broker (pid {holder.pid or 'unknown'}) has not ended within {timeout_s:g} s"
            raise LinkError(text, code="JRM-T02", hint="try: jrm broker stop --force")
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGKILL)
        force, deadline = False, time.monotonic() + KILLED_S
        _gone(home, holder, deadline)
    return True


def _let_go(home: Any) -> None:
    """Close this process's own connection: it would start the next broker for tasks that are open."""
    own = Connection._shared.get(str(home.state_path))
    if own is not None:
        own.close(0.2)


def _ended(home: Any, holder: Any, deadline: float) -> bool:
    """Ask this one broker to end, and nobody after it; say whether it has gone."""
    line = Line(home)
    try:
        # No greeting: a broker of another version understands this as well.
        line.send(StopBroker(1, holder.pid))
        return _gone(home, holder, deadline)
    finally:
        line.close()


def _gone(home: Any, holder: Any, deadline: float) -> bool:
    while (now := home.holder()) is not None and now.pid == holder.pid:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        _pause(holder.pid, min(0.05, left))
    return True


def _pause(pid: int, seconds: float) -> None:
    """Wait a moment, less when the process ends."""
    import select

    try:
        if not pid:
            raise OSError
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        time.sleep(seconds)
        return
    try:
        select.select([fd], [], [], seconds)
    finally:
        os.close(fd)


def log_tail(lines: int) -> str:
    """Return the last lines of the broker's log; empty when there is none."""
    try:
        with open(_home().broker_log, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 200 * max(1, lines)))
            return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError as error:
        raise JrmError(f"the broker's log cannot be read: {error.strerror}", hint="no broker ran yet?") from None
