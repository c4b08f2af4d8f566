"""A pilot or a task as a small living card: state and why, what it holds, buttons that say why they cannot be pressed.

``pilot.view()``, ``task.view()``. The card is synced at most twice a second and only while something changes; it stops
with its last state. Without a page it is the table that the object shows anyway. Read next: :mod:`.widgets`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..client import show
from ..client.bulk import Bulk
from ..model.errors import JrmError
from ..model.pilotrow import PilotRow
from ..model.states import PilotState
from ..model.units import human_s
from ..views.texts import line
from . import widgets

if TYPE_CHECKING:
    from ..client.pilot import Pilot
    from ..client.replica import Replica
    from ..client.session import Session
    from ..client.task import TaskHandle

LEAST_S = 0.5  # between two updates
Shown = dict[str, Any]


class Card:
    """One pilot or task.

    Args:
        draw: returns what is shown now. over: will nothing change any more? act: does what a button says, and returns
            what to tell. still: the mime bundle of a page without widgets.
    """

    def __init__(
        self,
        session: Session,
        draw: Callable[[], Shown],
        over: Callable[[], bool],
        act: Callable[[str], str],
        still: Callable[[], dict[str, str]],
    ) -> None:
        self._session, self._draw, self._over, self._act, self._still = session, draw, over, act, still
        self._widget: Any = None
        self._told = ""
        self._news = threading.Event()

    def shown(self) -> Shown:
        """Return what the card shows now: ``title``, ``state``, ``rows``, ``buttons``, ``told``."""
        return {**self._draw(), "told": self._told}

    def heard(self, told: Mapping[str, Any]) -> None:
        """Do what a button of the page says; refusals are told on the card."""
        op = told.get("op")
        allowed = [button["op"] for button in self._draw()["buttons"] if not button["why"]]
        if op not in allowed:
            return

        def work() -> None:
            try:
                self._told = self._act(str(op))
            except JrmError as error:
                self._told = f"{error.message} (next: {error.hint})" if error.hint else error.message
            self._push()

        # Asking the broker takes a moment, and the kernel has other things to do.
        threading.Thread(target=work, name="jrm-card", daemon=True).start()

    def _push(self) -> None:
        made = self._widget
        now = self.shown()
        if made is not None and made.comm is not None and now != made.shown:
            made.shown = now

    def _follow(self) -> None:
        """Show what changes until nothing will; on a thread of its own, so beside a busy cell too."""
        replica = self._session._replica
        pause = threading.Event()  # never set
        while self._widget.comm is not None:
            seen, over = replica.cursor, self._over() or replica.error is not None
            self._push()
            if over:
                return
            self._news.clear()
            replica.when(functools.partial(_moved, replica, seen), self._news.set)
            self._news.wait()
            pause.wait(LEAST_S)  # changes come in flocks

    def __repr__(self) -> str:
        return str(self._still()["text/plain"])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        made: dict[str, Any] = dict(self._still())
        if widgets.somebody_looks():
            if self._widget is None:
                self._widget = widgets.widget("card.js", self.shown(), self.heard)
                if self._widget is not None:
                    threading.Thread(target=self._follow, name="jrm-card", daemon=True).start()
            made |= widgets.bundle(self._widget)
        return made


def _moved(replica: Replica, seen: int) -> bool:
    return replica.cursor != seen


def _rows(*rows: tuple[str, Any]) -> list[list[str]]:
    return [[label, line(str(value))] for label, value in rows if value not in ("", None)]


# What may be done to a pilot's job: the word, its label, what it does, what the card says once it was done.
_JOB = (
    ("hold", "Hold", "keep its job from starting", "it is held"),
    ("release", "Release", "let it wait for its turn again", "it waits for its turn"),
    ("suspend", "Suspend", "stop what runs in its job for a while", "it is suspended"),
    ("resume", "Resume", "let it go on", "it goes on"),
)


def _job_buttons(row: PilotRow, ops: Collection[str]) -> list[dict[str, str]]:
    """Return the buttons for what the batch system of a pilot can do to its job; none where it can do nothing."""
    runs = row.state in (PilotState.STARTING, PilotState.ACTIVE, PilotState.DRAINING)
    stopped = show.suspended(row)
    why = {
        "hold": "" if row.state is PilotState.QUEUED else "it does not wait in a queue",
        "release": "" if row.state is PilotState.QUEUED else "it does not wait in a queue",
        "suspend": "its job does not run" if not runs else "it is suspended" if stopped else "",
        "resume": "" if stopped else "it is not suspended",
    }
    return [{"op": op, "label": label, "why": why[op], "help": help_} for op, label, help_, _ in _JOB if op in ops]


def of_pilot(pilot: Pilot) -> Card:
    """Return the card of a pilot."""
    session = pilot._session

    def draw() -> Shown:
        row = pilot._row()
        final = row.state.final
        why = f"it has ended: {row.state.name}" if final else ""
        seen = session._replica.sites.get(row.spec.site)
        return {
            "title": f"pilot {pilot.uid} at {row.spec.site}" + (f" · {row.spec.name}" if row.spec.name else ""),
            "state": row.state.name,
            "rows": _rows(
                ("state", row.state.name.lower()),
                ("why", show.pilot_reason(row)),
                ("holds", show._pilot_size(row)),
                ("job", row.job_id),
                ("since", show.stamp(row.since)),
            ),
            "buttons": [
                *(_job_buttons(row, seen.ops) if seen is not None and not final else ()),
                {"op": "drain", "label": "Let it drain", "why": why, "help": "what runs may end, nothing new starts"},
                {"op": "cancel", "label": "Cancel", "why": why, "help": "end it now; its tasks go back"},
            ],
        }

    def act(op: str) -> str:
        for word, _, _, told in _JOB:
            if op == word:
                getattr(pilot, word)()
                return told
        pilot.cancel(drain=op == "drain")
        return "it drains" if op == "drain" else "it is being ended"

    return Card(session, draw, lambda: pilot._row().state.final, act, pilot._repr_mimebundle_)


def of_task(task: TaskHandle) -> Card:
    """Return the card of a task."""

    def draw() -> Shown:
        done = task.done()
        failed = done and task.state != "DONE"
        took = human_s(task.ended - task.started) if task.started and task.ended else ""
        return {
            "title": f"task {task.uid}" + (f" · {line(task.name)}" if task.name != task.uid else ""),
            "state": str(task.state),
            "rows": _rows(
                ("state", str(task.state).lower()),
                ("why", task.reason),
                ("runs", show._command(task)),
                ("where", " ".join(str(part) for part in (task.pilot.uid if task.pilot else "", task.node) if part)),
                ("endpoint", task.endpoint),
                ("attempt", task.attempt),
                ("exit code", task.exit_code),
                ("took", took),
            ),
            "buttons": [
                {"op": "cancel", "label": "Cancel", "why": "it has ended" if done else "", "help": "in whatever state"},
                {
                    "op": "retry",
                    "label": "Try again",
                    "why": "" if failed else "only what failed or was cancelled can be tried again",
                    "help": "submit it again, as a new task",
                },
            ],
        }

    def act(op: str) -> str:
        if op == "cancel":
            return "cancelled" if task.cancel() else "it had ended already"
        again = Bulk.select(task._session, np.array([task._number()]), np.array([task._index])).retry()
        return f"submitted again as {again[0].uid}"

    return Card(task._session, draw, task.done, act, task._repr_mimebundle_)
