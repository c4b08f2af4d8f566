"""Finding the broker of this user and profile, and starting it when there is none.

Many clients may do this at once: the lock of the profile lets one broker win, and the loser's child says so and ends.
Knows: the lock holder, how to start a detached process. Does not know: what is said on the socket.
Read next: :mod:`.connection`.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from ..model.errors import ErrorForm, SiteError

if TYPE_CHECKING:
    from ..runtime.home import Home


LOOK_S = 0.25  # while a broker starts, so often we look how far it is
SAY_AFTER_S = 3.0
SAY_EVERY_S = 10.0


def broker_command(ready_fd: int, profile: str) -> list[str]:
    """Return the command line of a broker that reports on ``ready_fd``."""
    command = [sys.executable, "-m", "jupyter_rm.broker", "--ready-fd", str(ready_fd)]
    return command if profile == "default" else [*command, "--profile", profile]


def start_broker(home: Home, timeout_s: float) -> None:
    """Start a broker, detached from this process, and return when it (or a rival) accepts clients.

    Raises:
        SiteError: it could not start; the text says why and where its log is.
    """
    reading, writing = os.pipe()
    log = os.open(home.broker_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    environment = dict(os.environ)
    # The broker is this very program: it must find the same package even when the notebook changed directory.
    environment.pop("PYTHONSTARTUP", None)
    environment.pop("JRM_TASK_UID", None)  # one that a task starts is no part of the task, and does not end with it
    try:
        child = subprocess.Popen(
            broker_command(writing, home.profile),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            pass_fds=(writing,),
            start_new_session=True,
        )
    finally:
        os.close(writing)
        os.close(log)
    try:
        said = _read_line(reading, timeout_s, home)
    finally:
        os.close(reading)
    if said is not None and (said == b"ok" or said.startswith(b"ok ")):
        _forget(child)
        if said != b"ok":
            text = said[3:].decode("utf-8", "replace")
            sys.stderr.write(
                f"jupyter_rm: {text} What is missing here was lost with it; agents report what they know.\n"
            )
        return
    where = f"see {home.broker_log}"
    if said is None:
        child.kill()
        child.wait()
        raise SiteError(f"the broker did not start within {timeout_s:g} s", code="JRM-S02", hint=where, retry=True)
    code = child.wait()
    if said:
        raise _told(said, where)
    raise SiteError(f"the broker ended at once (exit code {code}): {_last_line(home)}", code="JRM-S02", hint=where)


def _read_line(fd: int, timeout_s: float, home: Home) -> bytes | None:
    """Return the line written to ``fd`` (b"" at its end), None when nothing happened in time."""
    data, look = b"", Reading()
    deadline = time.monotonic() + timeout_s
    while b"\n" not in data:
        left = deadline - time.monotonic()
        if not select.select([fd], [], [], max(0.0, min(left, LOOK_S)))[0]:
            if look.moved(home):
                deadline = time.monotonic() + timeout_s
            elif left <= 0:
                return None
            continue
        more = os.read(fd, 4096)
        if not more:
            break
        data += more
    return data.split(b"\n")[0]


def _told(said: bytes, where: str) -> Exception:
    try:
        error = ErrorForm(*json.loads(said)["error"]).error()
    except (ValueError, KeyError, TypeError):
        return SiteError(f"the broker did not start: {said[:200]!r}", code="JRM-S02", hint=where)
    error.hint = error.hint or where
    return error


def _last_line(home: Home) -> str:
    try:
        with open(home.broker_log, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 2000))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"
    except OSError:
        return "it said nothing"


class Reading:
    """Whether a broker that starts gets on with its journal; says so to a person who waits for long."""

    def __init__(self) -> None:
        self._seen = -1.0
        self._said = time.monotonic() + SAY_AFTER_S - SAY_EVERY_S

    def moved(self, home: Home) -> bool:
        """Has it read more than at the last look?"""
        holder = home.holder()
        if holder is None or holder.reading <= self._seen:
            return False
        self._seen, now = holder.reading, time.monotonic()
        if now - self._said >= SAY_EVERY_S:
            self._said = now
            sys.stderr.write(f"jupyter_rm: the broker is reading its journal ({100 * self._seen:.0f} %)\n")
        return True


_children: set[int] = set()


def _forget(child: subprocess.Popen[bytes]) -> None:
    """Let the broker outlive us: remember its pid only, so that it can be reaped when it ends first."""
    if child.poll() is None:
        _children.add(child.pid)
        child.returncode = 0  # it is nobody's business here any more whether it runs
    reap()


def reap() -> None:
    """Collect brokers that this process started and that have ended."""
    for pid in list(_children):
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            ended = pid
        if ended:
            _children.discard(pid)
