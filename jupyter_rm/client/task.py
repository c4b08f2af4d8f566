"""TaskHandle: one task as a user holds it, a view on the replica made on demand.

Nothing is stored here but which task it is; every attribute reads the session's columns at that moment.
Read next: :mod:`.bulk` (many tasks), :mod:`.files` (their output).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.bulktable import BulkTable
from ..model.columns import Picks
from ..model.errors import RequestError, TaskError
from ..model.ids import task_uid
from ..model.messages import Explain, FetchStory, FetchValues
from ..model.states import Cause, TaskState
from . import blocking, calls, dicts, distant, files, here, news, show
from .named import StateName, names
from .results import decode
from .stream import Stream

if TYPE_CHECKING:
    from .news import Subscription
    from .pilot import Pilot
    from .session import Session

_STATES = names(TaskState)


class TaskHandle:
    """One task of a session."""

    __slots__ = ("_bulk", "_index", "_session", "_ticket")

    def __init__(self, session: Session, bulk: int, index: int, ticket: calls.Ticket | None = None) -> None:
        self._session = session
        self._bulk = bulk
        self._index = index
        self._ticket = ticket

    # ------------------------------------------------------------ what it is

    def _number(self) -> int:
        if self._bulk < 0:
            assert self._ticket is not None
            self._bulk = self._ticket.wait(self._session._settings.request_timeout_s)
        return self._bulk

    def _table(self) -> BulkTable:
        return self._session._table(self._number())

    @property
    def uid(self) -> str:
        """``t.BULK.INDEX``."""
        return task_uid(self._number(), self._index)

    @property
    def name(self) -> str:
        """The name given to it, else its uid."""
        return self._field("name") or self.uid

    def _field(self, field: str) -> str:
        """Return a text field of the description with its parameters filled in."""
        table = self._table()
        text = getattr(table.form.template, field)
        if isinstance(text, tuple):
            text = " ".join(text)
        if table.form.template.params and "{" in text:
            try:
                return str(text.format_map(self.parameters))
            except (KeyError, ValueError, IndexError, AttributeError):
                return str(text)
        return str(text)

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of its bulk's columns."""
        return {name: column.get(self._index) for name, column in self._table().form.columns.items()}

    @property
    def state(self) -> StateName:
        """Its state: text that compares and sorts by the order of life."""
        if self._bulk < 0 and self._ticket is not None and self._ticket.number is None:
            return _STATES[TaskState.NEW]
        number = self._number()
        ledger = self._session._replica.ledger
        if number >= len(ledger.bulks):
            return _STATES[TaskState.SUBMITTED]
        return _STATES[int(ledger.bulks[number].state[self._index])]

    @property
    def cause(self) -> str | None:
        """Why it (or its last attempt) ended as it did, None when there is nothing to say."""
        cause = Cause(int(self._table().cause[self._index]))
        return cause.name if cause is not Cause.NONE else None

    @property
    def reason(self) -> str:
        """The reason of its state in words."""
        from .show import reason_of

        return reason_of(self._session, self._table(), self._index)

    @property
    def exit_code(self) -> int | None:
        """Exit code, -signal when a signal ended it; None: it has not ended, never ran, or is a call that raised."""
        from .frames import coded

        table = self._table()
        here = slice(self._index, self._index + 1)
        return int(table.code[self._index]) if coded(table, here)[0] else None

    @property
    def attempt(self) -> int:
        """Number of its current attempt, from 1."""
        return int(self._table().attempt[self._index])

    @property
    def pilot(self) -> Pilot | None:
        """The pilot that holds or held it."""
        number = self._pilot_number()
        return self._session._pilot(number) if number >= 0 else None

    def _pilot_number(self) -> int:
        table = self._table()
        if table.state[self._index] < TaskState.STAGING_IN:
            return -1
        number = int(table.pilot[self._index])
        # Columns start as zero: pilot 0 is only meant once the task was bound.
        return number if table.state[self._index] < TaskState.DONE or table.ended[self._index] else -1

    @property
    def node(self) -> str | None:
        """Name of the host it runs or ran on."""
        number = self._pilot_number()
        table = self._table()
        if number < 0 or not table.started[self._index]:
            return None
        nodes = self._session._replica.ledger.pilots[number].nodes
        place = int(table.node[self._index])
        return nodes[place].name if place < len(nodes) else None

    @property
    def slots(self) -> dict[str, Any] | None:
        """Where it runs and what it holds there: pilot, node and request; None before it started."""
        pilot = self.pilot
        if pilot is None or self.node is None:
            return None
        request = self._table().form.template.request
        return {"pilot": pilot.uid, "node": self.node, "ranks": request.ranks, "cores": request.cores}

    @property
    def started(self) -> float | None:
        """When its last attempt started, seconds since 1970."""
        return float(self._table().started[self._index]) or None

    @property
    def ended(self) -> float | None:
        """When its last attempt ended, seconds since 1970."""
        return float(self._table().ended[self._index]) or None

    @property
    def sandbox(self) -> Path | None:
        """Its own directory, None before it has one: where a program works, or a call's output is (None: it has none).

        Calls work in the pilot's directory, or in their field ``sandbox``, which is then what this names.
        """
        path = files.sandbox_of(self)
        if path is not None and self._is_call() and not self._field("sandbox") and not path.is_dir():
            return None
        return path

    # ------------------------------------------------------------ waiting

    def _final(self) -> bool:
        if self._bulk < 0:
            assert self._ticket is not None
            if self._ticket.error is not None:
                return True
            if self._ticket.number is None:
                return False
            self._bulk = self._ticket.number
        return self._session._replica.final(self._bulk, self._index)

    def done(self) -> bool:
        """Has it a final state?"""
        return self._final()

    def wait(self, timeout: float | None = None) -> StateName:
        """Block until it has a final state or ``timeout`` seconds are over; return its state then."""
        if not self._final():
            what = self.uid if self._bulk >= 0 else "a call"
            session = self._session
            blocking.wait(
                session._replica,
                self._final,
                timeout,
                what=f"{what} of session {session.name!r}",
                cancel=lambda: blocking.how_to_cancel(session.name, self.uid) if self._bulk >= 0 else "its cancel()",
                settings=session._settings,
                cheap=True,
            )
        return self.state

    async def wait_async(self) -> StateName:
        """Wait until it has a final state without blocking the running event loop; return it."""
        await blocking.Until(self._session._replica, self._final)
        return self.state

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end and return the result, like :meth:`result`."""
        if not self._final():
            replica = self._session._replica
            if self._bulk >= 0:
                yield from blocking.until(lambda call: replica.watch(self._bulk, self._index, call), replica)
            else:
                yield from blocking.until(lambda call: replica.when(self._final, call), replica)
        return self.result(0)

    def result(self, timeout: float | None = None) -> Any:
        """Return what the call returned, or the standard output of an executable that ended DONE.

        Raises:
            TimeoutError: it has not ended in time. TaskError: it ended otherwise; or the call's own exception.
        """
        self.wait(timeout)
        if not self._done_well():
            error = self.exception(0)
            if error is not None:
                raise error
        if self._is_call():
            raw = self._raw()
            value, failed = decode(raw) if raw else (None, None)
            if failed is not None:
                raise failed
            return value
        return self.stdout() if self.sandbox is not None else ""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception it ended with, None when it ended DONE.

        Raises:
            TimeoutError: it has not ended in time.
        """
        self.wait(timeout)
        if not self._final():
            raise TimeoutError(f"{self.uid} has not ended yet: {self.state}")
        if self._ticket is not None and self._ticket.error is not None:
            return self._ticket.error
        if self.state == "DONE":
            return None
        if self._is_call():
            raw = self._raw()
            if raw:
                error = decode(raw)[1]
                if error is not None:
                    if isinstance(error, TaskError):
                        error.uid, error.cause = self.uid, self.cause or ""
                    return error
        return self._error()

    def _done_well(self) -> bool:
        """Say whether it ended DONE, at the price of one look."""
        if self._bulk < 0:
            return False
        bulks = self._session._replica.ledger.bulks
        return self._bulk < len(bulks) and bulks[self._bulk].state.item(self._index) == TaskState.DONE

    def _is_call(self) -> bool:
        return self._table().form.template.mode == "call"

    def _raw(self) -> bytes | None:
        bulk = self._number()
        replica = self._session._replica
        with replica.changed:
            store = replica.values.get(bulk)
            raw = store.get(self._index) if store is not None else None
        if raw is not None:
            return raw
        connection = self._session._connection
        picks = Picks.span(self._index, self._index + 1)
        answer = connection.request(FetchValues(connection.number(), self._session.name, bulk, picks))
        return answer.values.get(0) if len(answer.picks) else None

    def _error(self) -> TaskError:
        table, index = self._table(), self._index
        note = table.notes.get(index, "")
        state = self.state
        reason = show.reason_of(self._session, table, index)
        error = TaskError(f"{self.uid} ended {state}: {reason}", code=f"JRM-X{int(table.cause[index]):02d}")
        error.hint = self._hint()
        error.uid, error.cause, error.exit_code = self.uid, self.cause or "", self.exit_code
        error.output = files.tail(self, "stderr") or note
        return error

    def _hint(self) -> str:
        sandbox = self.sandbox
        where = f"its files are in {sandbox}; " if sandbox is not None else ""
        if self.cause == Cause.START_FAILED.name and "not found on PATH" in self.reason:
            number = int(self._table().pilot[self._index])
            if number >= 0 and not distant.elsewhere(self._session, number):
                where = here.program_hint(self._field("executable")) + where
        return f"{where}jrm story {self.uid} shows what happened"

    def add_done_callback(self, callback: Callable[[TaskHandle], object]) -> None:
        """Call ``callback(self)`` on another thread when it has ended (also when it has already)."""
        ended = calls.WhenEnded(self, callback)
        if self._bulk >= 0:
            self._session._replica.watch(self._bulk, self._index, ended)
        else:
            self._session._replica.when(self._final, ended)

    def remove_done_callback(self, callback: Callable[[TaskHandle], object]) -> int:
        """Take back every :meth:`add_done_callback` of ``callback`` that is not due yet; return how many."""

        def same(call: Callable[[], None]) -> bool:
            return isinstance(call, calls.WhenEnded) and call.callback == callback and self._same(call.owner)

        return self._session._replica.forget(same, self._known(), self._index)

    def _known(self) -> int:
        """Return the number of its bulk without waiting for it; -1: it has none yet."""
        if self._bulk < 0 and self._ticket is not None and self._ticket.number is not None:
            return self._ticket.number
        return self._bulk

    def _same(self, other: object) -> bool:
        """Say whether this is the same task, without waiting for numbers."""
        if not isinstance(other, TaskHandle) or other._session is not self._session or other._index != self._index:
            return False
        if self._ticket is not None and other._ticket is self._ticket:
            return True
        return self._known() == other._known() >= 0

    def on_state(self, callback: Callable[[TaskHandle, StateName], object], *, attempts: bool = False) -> Subscription:
        """Call ``callback(self, state)`` on another thread: with the state it has now, then with each one it takes.

        Args:
            attempts: tell the states of further attempts too, from WAITING on; else each state is told once.
        """
        return news.of_task(self, callback, attempts)

    @property
    def endpoint(self) -> str | None:
        """Where a service can be reached; None while it is not ready, and for tasks that are none."""
        return self._table().endpoint or None

    def wait_ready(self, timeout: float | None = None) -> str:
        """Block until a service is ready; return its endpoint.

        Raises:
            TimeoutError: not in time. TaskError: it ended before. RequestError: JRM-Q95, this is no service.
        """
        from .services import wait_ready

        return wait_ready(self, timeout)

    # ------------------------------------------------------------ acting

    def cancel(self) -> bool:
        """Cancel it in whatever state; False when it has already ended."""
        if self._final():
            return False
        number = self._number()
        return self._session._cancel(((number, Picks.span(self._index, self._index + 1)),)) > 0

    # ------------------------------------------------------------ looking

    def stdout(self, rank: int = 0) -> str:
        """Return what it wrote to standard output so far; each of several ranks has its own (but not with ``mpi``)."""
        return files.read(self, "stdout", rank)

    def stderr(self, rank: int = 0) -> str:
        """Return what it wrote to standard error so far; of ``rank`` as for :meth:`stdout`."""
        return files.read(self, "stderr", rank)

    def follow(self, stream: str = "stdout") -> Stream[str]:
        """Yield pieces of its output as they are written, until it has ended; to ``for`` or to ``async for``."""
        if stream not in ("stdout", "stderr"):
            raise RequestError(f"stream: {stream!r} is unknown", hint="use stdout or stderr", code="JRM-Q05")
        return Stream(self._session._replica, files.follow(self, stream), slow=True)

    def files(self) -> list[Path]:
        """Return the files in its sandbox."""
        sandbox = self.sandbox
        return sorted(path for path in sandbox.rglob("*") if path.is_file()) if sandbox and sandbox.is_dir() else []

    def story(self) -> show.Text:
        """Return everything that happened to it, one line per fact with time and reason."""
        from .story import lines

        connection = self._session._connection
        answer = connection.request(FetchStory(connection.number(), self._session.name, self._number(), self._index))
        return show.Text("\n".join(lines(answer.facts, self._number(), self._index, self._session._replica.ledger)))

    def explain(self) -> show.Text:
        """Return why it waits (or what became of it) in plain words."""
        if self._final():
            return show.Text(f"{self.uid} ended {self.state}: {self.reason}")
        connection = self._session._connection
        answer = connection.request(Explain(connection.number(), self._session.name, self._number(), self._index))
        return show.Text(answer.text)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``jrm tasks --json`` prints of it: plain values, from which :meth:`from_dict` finds it again."""
        return dicts.of_task(self)

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> TaskHandle:
        """Return the task that :meth:`as_dict` described; attaches to its session.

        Raises:
            RequestError: JRM-Q57, no such dict, or it names another task now; JRM-Q08, JRM-Q03: there is none.
        """
        return dicts.task_of(fields, TaskHandle)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskHandle) or other._session is not self._session or other._index != self._index:
            return False
        return other is self or other._number() == self._number()

    def __hash__(self) -> int:
        return hash((self._session.name, self._index))

    def view(self) -> Any:
        """Return a living card of it: state and why, buttons; on a page without widgets the table it shows anyway."""
        return show.card(self)

    def __repr__(self) -> str:
        return show.task_line(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return show.task_bundle(self)
