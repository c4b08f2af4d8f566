"""The broker as a program: what it says of itself, ending it, its log. Never starts one."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec

from ..model.errors import JrmError, LinkError
from ..model.messages import StopBroker
from .connection import Connection
from .listing import broker_status
from .settings import current


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
        force: go on waiting for its end even if it does not answer.

    Raises:
        LinkError: it did not answer (unless ``force``), or did not end in time.
    """
    home = _home()
    if home.holder() is None:
        return False
    deadline = time.monotonic() + timeout_s
    while (holder := home.holder()) is not None and time.monotonic() < deadline:
        _ask_to_stop(force, max(0.1, deadline - time.monotonic()))
        # A client that lost this broker may start the next one in the same moment: that one is asked too.
        while (now := home.holder()) is not None and now.pid == holder.pid and time.monotonic() < deadline:
            _pause(holder.pid, 0.05)
    if holder is None:
        return True
    raise LinkError(f"the broker (pid {holder.pid}) has not ended", code="JRM-T02", hint=f"kill {holder.pid}")


def _ask_to_stop(force: bool, timeout_s: float) -> None:
    connection = Connection.shared()
    try:
        connection.request(StopBroker(connection.number(), force), timeout=timeout_s)
    except LinkError:
        if not force:
            raise
    finally:
        connection.close(0.2)


def _pause(pid: int, seconds: float) -> None:
    """Wait a moment, less when the process ends."""
    import select

    try:
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
