"""Notices: the few events a person wants to be told of, and the watch over the broker that finds them.

The list of sessions is asked for now and then, as often as somebody looks; two lists beside each other tell what
happened. Goes out as jupyter_events (schema in ``notice.yaml``), so that JupyterLab shows them and a site may log them.
Read next: :mod:`.extension`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..model.errors import JrmError
from .hub import Hub

SCHEMA = Path(__file__).parent / "notice.yaml"
SCHEMA_ID = "https://events.jupyter.org/jupyter_rm/notice/v1"
WATCHED_S = 1.0  # somebody follows the list of sessions
UNWATCHED_S = 15.0
FAILURES_S = 5.0  # failures of one session are told of together, at most so often
_OPEN = ("NEW", "SUBMITTED", "WAITING", "STAGING_IN", "SCHEDULED", "RUNNING", "STAGING_OUT")
_ALIVE = ("STARTING", "ACTIVE", "DRAINING")
Line = Mapping[str, Any]


class Notices:
    """Compares lists of sessions and says what is worth telling."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, float], Line] | None = None
        self._told: dict[tuple[str, float], tuple[float, int]] = {}  # when failures were told, and how many in all

    def compare(self, lines: Sequence[Line], now: float) -> list[dict[str, Any]]:
        """Return notices of what is new since the last call; none at the first.

        Args:
            lines: as :func:`jupyter_rm.views.pictures.sessions` takes them. now: seconds of any steady clock.
        """
        fresh = {(line["name"], line["opened_at"]): line for line in lines}
        before, self._lines = self._lines, fresh
        if before is None:
            self._told = {key: (now - FAILURES_S, line["tasks"].get("FAILED", 0)) for key, line in fresh.items()}
            return []
        out: list[dict[str, Any]] = []
        for key, line in fresh.items():
            old = before.get(key, {"tasks": {}, "pilots": ()})
            out += self._pilots(line, old)
            out += self._failures(key, line, now)
            left, open_now = _count(old["tasks"], _OPEN), _count(line["tasks"], _OPEN)
            if left and not open_now and line["state"] == "open":
                out.append(_notice("tasks-ended", line, _count(line["tasks"], line["tasks"]), "all tasks have ended"))
        self._told = {key: told for key, told in self._told.items() if key in fresh}
        return out

    @staticmethod
    def _pilots(line: Line, old: Line) -> list[dict[str, Any]]:
        out = []
        for number, (name, site, state) in enumerate(line["pilots"]):
            was = old["pilots"][number][2] if number < len(old["pilots"]) else ""
            if state == was or state not in ("ACTIVE", "FAILED"):
                continue
            word = "is active" if state == "ACTIVE" else "has failed"
            notice = _notice(f"pilot-{state.lower()}", line, 1, f"pilot {name} at {site} {word}")
            out.append(notice | {"pilot": f"p.{number}"})
        return out

    def _failures(self, key: tuple[str, float], line: Line, now: float) -> list[dict[str, Any]]:
        failed = line["tasks"].get("FAILED", 0)
        at, told = self._told.get(key, (now - FAILURES_S, 0))
        if failed <= told or now - at < FAILURES_S:
            return []
        self._told[key] = (now, failed)
        count = failed - told
        return [_notice("tasks-failed", line, count, f"{count} task{'s' * (count != 1)} failed")]


def _count(tasks: Mapping[str, int], states: Any) -> int:
    return sum(tasks.get(state, 0) for state in states)


def _notice(kind: str, line: Line, count: int, text: str) -> dict[str, Any]:
    return {"kind": kind, "session": line["name"], "pilot": "", "count": count, "text": text}


class Watch:
    """Looks after the broker while the server runs.

    Args:
        hub: what the server shares. emit: told every notice. alive: told now and then how many pilots hold resources.
    """

    def __init__(self, hub: Hub, emit: Callable[[dict[str, Any]], None], alive: Callable[[int], None]) -> None:
        self.hub = hub
        self._emit = emit
        self._alive = alive
        self._notices = Notices()
        hub.heard = self._heard

    def _heard(self, lines: list[dict[str, Any]]) -> None:
        self._alive(sum(pilot[2] in _ALIVE for line in lines for pilot in line["pilots"]))
        for notice in self._notices.compare(lines, time.monotonic()):
            self._emit(notice)

    async def run(self) -> None:
        """Look again and again; ends when canceled."""
        loop = asyncio.get_running_loop()
        looked = -UNWATCHED_S
        while True:
            await asyncio.sleep(WATCHED_S)
            wanted = self.hub.listing_wanted
            # A broker that somebody has stopped stays so until somebody wants to see something.
            if not wanted and (loop.time() - looked < UNWATCHED_S or not self.hub.keeper.connected):
                continue
            looked = loop.time()
            try:
                lines = await self.hub.pulse.do(self._listing, 5.0)
                self.hub.listed(lines)
                await self.hub.hands.do(partial(self.hub.sweep, self.hub.shown()))
            except JrmError as error:
                # Views of a session say by themselves what is wrong; the list of sessions is told by us.
                self.hub.unlisted(error)
                continue
            except Exception:
                logging.getLogger("jupyter_rm").exception("the watch over the broker goes on")

    def _listing(self) -> list[dict[str, Any]]:
        from . import work

        return work.listing(self.hub)
