"""Session: what a user holds. Submits tasks and calls, asks for pilots, and shows what became of them.

A session lives in the broker: this object can be dropped, made again in another process, or held twice. It translates
what people write into messages and never decides anything. Read next: :mod:`.grouping`, :mod:`.calls`, :mod:`.bulk`.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..model.bulktable import BulkTable
from ..model.columns import Array, Column, Picks
from ..model.describe import Task, Template
from ..model.errors import LinkError, RequestError
from ..model.ids import NAME, check_name, parse_pilot, parse_task
from ..model.messages import Accepted, AskSite, Cancel, RequestPilot, Submit
from ..model.sites import SiteView
from . import blocking, capacity, closing, dicts, limits, show, staging
from .again import Payloads, retry
from .ask import Ask
from .bulk import Bulk, joined
from .calls import CallQueue, Templates
from .connection import Connection
from .directives import resolved
from .executor import SessionExecutor
from .functions import Functions, call_template, dump_arguments, dump_items
from .grouping import array, group
from .news import Telling
from .order import after as after_of
from .pilot import Pilot, Pilots, refresh, which
from .reading import Reading
from .sending import send_all
from .task import TaskHandle

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .bundle import Bundle
    from .closing import Cleaned
    from .fs import SiteFiles
    from .prepared import PreparedEnvs, Sources
    from .script import Job, Jobs
    from .services import Services

PAYLOAD_PART = 64 << 20  # bytes of arguments in one submission


class Session(Telling, Reading):
    """One session; :func:`open` makes it.

    Attributes:
        name: its name.
    """

    def __init__(self, connection: Connection, name: str, create: bool = True) -> None:
        self.name = name
        self._connection = connection
        self._settings = connection.settings
        self._replica = connection.attach(name, create)
        self._functions = Functions(connection.functions)
        self._templates = Templates()
        self._payloads = Payloads()
        self._queue = CallQueue(connection, self._replica, self._payloads)
        self._pilot_lock = threading.Lock()
        self._plain_call: Template | None = None
        self._closed = False
        connection.add_source(self._queue)

    # ------------------------------------------------------------ pilots

    @capacity.with_fields
    def pilot(self, site: str = "local", **fields: Any) -> Pilot:
        """Ask ``site`` for a pilot; returns at once. One of the same ``name`` that lives is returned, not asked again.

        Args:
            site: ``local``, ``noop``, or a URL such as ``slurm+ssh://me@login``.
            **fields: ``cores``, ``gpus`` (in total), ``nodes``, ``mem`` (per node, "64GiB"), ``walltime`` ("1h"),
                ``queue``, ``project``, ``name``, ``sandbox`` (from home), ``drain`` (no new task so long before the
                end), ``qos``, ``reservation``, ``constraint``, ``exclusive``, ``options`` (further attributes of
                the batch system), ``launch`` (method inside the job), ``env_mode``, ``env``, ``env_source`` (the
                agent's environment), ``hooks``, ``backup`` (nodes), ``partitions`` (a number, or the nodes of each),
                ``resources`` (what each node has besides, by names of your own: ``{"license": 2}``),
                ``renew`` (how many pilots like it follow, each asked for before the one before it ends).

        Raises:
            RequestError: an unknown field or an impossible value, or a pilot of this name that lives and differs. GPUs
                or memory that are asked for and not there are no error: the pilot's ``reason`` says so.
        """
        spec = capacity.pilot_spec(site, fields)
        known = capacity.named(self._replica.ledger.pilots, spec)
        if known is not None:
            return Pilot(self, known)
        key = os.urandom(16)
        connection = self._connection
        answer: Accepted = connection.request(RequestPilot(connection.number(), self.name, key, spec))
        number = answer.number
        self._replica.wait(lambda: number < len(self._replica.ledger.pilots), self._settings.request_timeout_s)
        return Pilot(self, number)

    def _pilot(self, number: int) -> Pilot:
        return Pilot(self, number)

    def _requested(self, number: int) -> Pilot | Job:
        """Return the handle of one row of pilots and scripts."""
        if self._replica.ledger.pilots[number].spec.script:
            from .script import Job

            return Job(self, number)
        return Pilot(self, number)

    def _some(self, number: int, index: Array) -> Bulk:
        return Bulk.select(self, np.array([number]), index)

    @property
    def questions(self) -> list[Ask]:
        """What logins for pilots of this session ask a person now (host key, password, one-time code)."""
        return self._connection.desk.questions(self.name)

    @property
    def sites(self) -> dict[str, SiteView]:
        """What the sites of its pilots look like from outside: everybody's jobs, the nodes; by name."""
        with self._replica.changed:
            return dict(self._replica.sites)

    def log_in(self) -> None:
        """Try logins again that failed for want of a person (an unanswered question, an expired key): now there is one.

        Raises:
            LinkError: the broker does not answer.
        """
        self._connection.request(AskSite(self._connection.number(), self.name))

    def refresh(self) -> Pilots:
        """Ask the batch systems now how the jobs of all pilots stand, instead of at their next turn; return the pilots.

        Raises:
            SiteError: JRM-S35, one of them cannot say; what the others said is known now.
        """
        refresh(self, -1)
        return self.pilots()

    def pilots(self) -> Pilots:
        """Return all pilots, first to last."""
        rows = self._replica.ledger.pilots
        return Pilots(self, [number for number, row in enumerate(rows) if not row.spec.script])

    def _need_pilot(self, template: Template) -> None:
        """Start a local pilot when there is none, and refuse what can run nowhere; the broker knows a pilot by name."""
        request = template.request
        rows = [row for row in self._replica.ledger.pilots if not row.spec.script]
        if template.pilot or any(not row.state.final for row in rows):
            capacity.check_fits(request, rows)
            return
        with self._pilot_lock:
            if any(not row.state.final and not row.spec.script for row in self._replica.ledger.pilots):
                return
            spec = capacity.local_spec()
            capacity.check_fits(request, [], spec)
            pilot = self.pilot("local", cores=spec.cores)
            why = f"every pilot of {self.name!r} has ended" if rows else f"no pilot in session {self.name!r} yet"
            sys.stderr.write(f"jupyter_rm: {why}; started {pilot.uid} on this machine with {spec.cores} cores\n")

    # ------------------------------------------------------------ tasks

    @overload
    def submit(self, tasks: Task) -> TaskHandle: ...
    @overload
    def submit(self, tasks: Iterable[Task]) -> Bulk: ...

    def submit(self, tasks: Task | Iterable[Task]) -> TaskHandle | Bulk:
        """Record one task or many; returns when they are safe.

        Args:
            tasks: a description, or a list of them (then the handle is a :class:`Bulk` in the same order).

        Raises:
            RequestError: something in it is impossible; nothing was submitted.
        """
        if isinstance(tasks, Task):
            bulk = self._submit(tasks.template(), {}, 1, None, after_of(self, tasks.after))
            return TaskHandle(self, bulk, 0)
        if isinstance(tasks, (str, bytes, Mapping)) or not isinstance(tasks, Iterable):
            raise RequestError(
                f"tasks: {type(tasks).__name__} is not a description", hint="give a jrm.Task or a list", code="JRM-Q50"
            )
        given = list(tasks)
        if not given:
            return Bulk.select(self, np.zeros(0), np.zeros(0))
        groups = group(given)
        for each in groups:
            self._need_pilot(each.template)
        submits = [
            self._message(each.template, each.columns, each.count, None, after_of(self, each.after)) for each in groups
        ]
        numbers = self._send_all(submits)
        return joined(self, [(n, g.count, g.places) for n, g in zip(numbers, groups, strict=True)], len(given))

    def array(self, task: Task, /, **columns: Any) -> Bulk:
        """Record one task per row of the columns; ``{name}`` in its texts is filled from column ``name``.

        Args:
            task: the description.
            **columns: sequences or arrays of equal length (one value per task), or one value for all.

        Raises:
            RequestError: a placeholder has no column, or lengths differ.
        """
        template, made, count = array(task, columns)
        return Bulk.whole(self, self._submit(template, made, count, None, after_of(self, task.after)), count)

    def bundle(self, site: str | os.PathLike[str], *work: Any, **fields: Any) -> Bundle:
        """Submit a pilot and its work in one; the job needs neither client nor broker from then on.

        Args:
            site: as for :meth:`pilot`; or the path (not text) of a bundle's file, which says all of it.
            *work: tasks, lists of them, ``jrm.Array(task, column=values)``, ``jrm.Calls(function, items)``.
            **fields: of the pilot.

        Raises:
            RequestError: some of it is impossible; nothing was submitted.
        """
        from .bundle import submit

        return submit(self, site, work, fields)

    def script(self, site: str, script: str | bytes | os.PathLike[str], **attributes: Any) -> Job:
        """Submit a batch script of your own to ``site`` as it is, byte for byte; returns at once.

        Args:
            script: its path here, or its text.
            **attributes: of the batch system, such as ``queue``, ``walltime``, ``nodes``, ``qos``: they go on the
                command line of the submission and go before what the script says itself.

        Raises:
            RequestError: no such file or attribute, or a site that takes no scripts.
        """
        from .script import submit

        return submit(self, site, script, attributes)

    def jobs(self) -> Jobs:
        """Return all scripts that were submitted with :meth:`script`, first to last."""
        from .script import jobs

        return jobs(self)

    def services(self) -> Services:
        """Return all services by name: state, endpoint, and the variable that tells tasks of it."""
        from .services import services

        return services(self)

    def register_service(self, name: str, endpoint: str) -> None:
        """Tell tasks that say ``services=[name]`` of a service elsewhere; ``endpoint`` '' takes it back.

        Raises:
            RequestError: JRM-Q94, a service of this name runs; a name or an endpoint that is none.
        """
        from .services import give

        give(self, name, endpoint)

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskHandle:
        """Run ``fn(*args, **kwargs)`` in a worker; the handle's ``result()`` is what it returns.

        Raises:
            RequestError: function or arguments cannot be pickled.
        """
        if self._plain_call is None:
            self._plain_call = call_template({})
        sha = self._functions.sha(fn)
        payload = dump_arguments(args, kwargs)
        self._need_pilot(self._plain_call)
        ticket, index = self._queue.put_handle(self._templates.of(self._plain_call, sha), payload)
        return TaskHandle(self, -1, index, ticket)

    def map(self, fn: Callable[..., Any], xs: Iterable[Any], /, *more: Iterable[Any], **fields: Any) -> Bulk:
        """Run ``fn(x)`` for each x (or ``fn(x, y)`` for pairs of two iterables); ``results()`` has the values in order.

        Args:
            **fields: ``cores``, ``mem``, ``timeout``, ``retries`` ... of every call, as in ``jrm.Task``.

        Raises:
            RequestError: function or an item cannot be pickled.
        """
        base = call_template(fields)
        sha = self._functions.sha(fn)
        if more:
            bodies = [dump_arguments(items, {}) for items in zip(xs, *more, strict=False)]
        else:
            bodies = dump_items(xs if isinstance(xs, Sequence) else list(xs))
        if not bodies:
            return Bulk.select(self, np.zeros(0), np.zeros(0))
        template = self._templates.of(base, sha)
        self._need_pilot(template)
        after = after_of(self, fields.get("after", ()))
        submits, pieces, start, size = [], [], 0, 0
        for place, body in enumerate(bodies):
            size += len(body)
            if size > PAYLOAD_PART or place + 1 == len(bodies):
                part = bodies[start : place + 1]
                submits.append(self._message(template, {}, len(part), Column.of_bytes(part), after))
                pieces.append((len(part), np.arange(start, place + 1)))
                start, size = place + 1, 0
        numbers = self._send_all(submits)
        return joined(self, [(n, *piece) for n, piece in zip(numbers, pieces, strict=True)], len(bodies))

    def executor(self, max_workers: int | None = None, **fields: Any) -> SessionExecutor:
        """Return a :class:`concurrent.futures.Executor` that runs its calls here."""
        return SessionExecutor(self, max_workers, **fields)

    def _message(
        self,
        template: Template,
        columns: dict[str, Column],
        count: int,
        payload: Column | None,
        after: tuple[tuple[int, Picks], ...],
    ) -> Submit:
        if self.closed:
            raise RequestError(
                f"session {self.name!r} is closed", hint="open it again under this or another name", code="JRM-Q10"
            )
        template = resolved(template, columns, count)
        number, key = self._connection.number(), os.urandom(16)
        submit = Submit(number, self.name, key, count, template, columns, payload, {}, after)
        limits.check(submit)
        return submit

    def _submit(
        self,
        template: Template,
        columns: dict[str, Column],
        count: int,
        payload: Column | None,
        after: tuple[tuple[int, Picks], ...],
    ) -> int:
        self._need_pilot(template)
        answer: Accepted = self._connection.request(self._message(template, columns, count, payload, after))
        return answer.number

    def _send_all(self, submits: list[Submit]) -> list[int]:
        """Send all, then wait for all; a refusal cancels those that were accepted and is raised."""
        timeout = self._settings.request_timeout_s
        undo = lambda numbers: self._cancel(tuple((number, None) for number in numbers))  # noqa: E731
        numbers = send_all(self._connection, submits, timeout, undo)
        for submit, number in zip(submits, numbers, strict=True):
            if submit.payload is not None:
                self._payloads.keep(number, submit.payload)
        return numbers

    def _table(self, number: int) -> BulkTable:
        replica = self._replica
        if number >= len(replica.ledger.bulks):
            ready = replica.wait(lambda: number < len(replica.ledger.bulks), self._settings.request_timeout_s)
            if not ready:
                raise LinkError(f"no news of t.{number} from the broker", code="JRM-T02", hint="jrm broker status")
        return replica.ledger.bulks[number]

    # ------------------------------------------------------------ looking

    def __getitem__(self, uid: str) -> Any:
        """Return the task ``t.3.17``, the bulk ``t.3``, or the pilot ``p.0``."""
        ledger = self._replica.ledger
        if isinstance(uid, str) and uid.startswith("p."):
            number = parse_pilot(uid)
            if number >= len(ledger.pilots):
                raise RequestError(
                    f"{uid}: no such pilot in session {self.name!r}", hint="see s.pilots()", code="JRM-Q03"
                )
            return self._requested(number)
        number, index = parse_task(uid)
        if number >= len(ledger.bulks) or index >= len(ledger.bulks[number]):
            raise RequestError(f"{uid}: no such task in session {self.name!r}", hint="see s.tasks()", code="JRM-Q03")
        if uid.count(".") == 1 and len(ledger.bulks[number]) > 1:
            return Bulk.whole(self, number, len(ledger.bulks[number]))
        return TaskHandle(self, number, index)

    def tasks(self) -> Bulk:
        """Return all tasks, in the order of submission."""
        with self._replica.changed:
            counts = [len(table) for table in self._replica.ledger.bulks]
        if len(counts) == 1:
            return Bulk.whole(self, 0, counts[0])
        bulks: Array = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
        starts = np.repeat(np.cumsum([0, *counts[:-1]], dtype=np.int64), counts) if counts else np.zeros(0)
        return Bulk.select(self, bulks, np.arange(len(bulks)) - starts)

    @property
    def closed(self) -> bool:
        """Was the session closed?"""
        return self._closed or self._replica.ledger.closed

    # ------------------------------------------------------------ waiting, ending

    def _all_ended(self) -> bool:
        if self._queue.waiting or self._replica.batches:
            return False
        return all(table.form.template.service for _, table in self._replica.ledger.open_bulks())

    def wait(self, timeout: float | None = None) -> bool:
        """Block until all tasks but services have ended or ``timeout`` seconds are over; say whether they have."""
        return blocking.wait(
            self._replica,
            self._all_ended,
            timeout,
            what=f"session {self.name!r}",
            cancel=lambda: blocking.how_to_cancel(self.name),
            settings=self._settings,
            picture=self.counts,
        )

    async def wait_async(self) -> bool:
        """Wait until all tasks but services have ended without blocking the running event loop."""
        await blocking.Until(self._replica, self._all_ended)
        return True

    def _retry(self, bulk: Bulk) -> Bulk:
        return retry(self, bulk)

    def cancel(self) -> int:
        """Cancel all tasks that have not ended; return how many were hit."""
        numbers = [number for number, _ in self._replica.ledger.open_bulks()]
        return self._cancel(tuple((number, None) for number in numbers)) if numbers else 0

    def _cancel(self, what: tuple[tuple[int, Picks | None], ...]) -> int:
        answer: Accepted = self._connection.request(Cancel(self._connection.number(), self.name, what))
        return answer.count

    def detach(self) -> None:
        """Stop following the session here; everything in it goes on."""
        self._leave()
        self._connection.detach(self.name)

    def close(self, cleanup: bool = False, force: bool = False) -> Cleaned | None:
        """End the session: cancel what is open and end its pilots.

        Args:
            cleanup: remove its files at all sites too, but not ``resource:///``; returns what. force: while tasks run.

        Raises:
            RequestError: JRM-Q93, tasks have not ended; nothing was done.
        """
        return closing.close(self, cleanup, force)

    def _leave(self) -> None:
        self._connection.remove_source(self._queue)
        self._queue.give_up()
        with _lock:
            for key, session in list(_open.items()):
                if session is self:
                    del _open[key]

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Leaving a block, by an error above all, must not kill hours of work: only close() does.
        if self._replica.error is None:
            self.detach()

    def stage(
        self, *paths: str | os.PathLike[str], pilot: Pilot | str | None = None, to: str = "pilot"
    ) -> str | list[str]:
        """Bring files or directories to where tasks run; return their paths as tasks see them (one path: one text).

        Args:
            pilot: only this one; default: every pilot that has begun. One that begins later has to be staged again.
            to: ``pilot``; or ``session`` or ``resource``, shared with more: what is returned is for input_staging then.

        Raises:
            RequestError: a path is not there, or no pilot has begun. SiteError, LinkError: it failed there.
        """
        seen = staging.stage(self, paths, [which(self, pilot)] if pilot is not None else self.pilots(), to)
        return seen[0] if len(paths) == 1 else seen

    def files(self, task: TaskHandle | str, *patterns: str, to: str | os.PathLike[str] = ".") -> list[Path]:
        """Bring files of a task's sandbox here (those that fit a pattern such as ``*.csv``); return where they are.

        Raises:
            RequestError: no such task. SiteError, LinkError: the site cannot be reached, or a file did not arrive.
        """
        found = self[task] if isinstance(task, str) else task
        if not isinstance(found, TaskHandle):
            raise RequestError(f"{task}: not one task", hint="name one, such as t.3.0", code="JRM-Q03")
        return staging.bring(found, patterns, to)

    def prepare_env(
        self, name: str, requirements: str | os.PathLike[str] | Iterable[str], **how: Unpack[Sources]
    ) -> PreparedEnvs:
        """Make an environment for tasks at the pilots' sites from wheels sent from here: ``named_env=NAME`` is it.

        Args:
            requirements: as pip takes them (``["numpy==2.*"]``), or the path of a file of them.
            **how: ``pilot`` (only there), ``wheels`` (a directory), ``index_url``, ``find_links``, ``update``.

        Raises:
            RequestError: JRM-B11, no such wheels; JRM-Q14, no pilot. SiteError, LinkError: it failed there.
        """
        from .prepared import prepare

        return prepare(self, name, requirements, **how)

    def fs(self, where: Pilot | str) -> SiteFiles:
        """Return the files at a pilot's site: ``ls``, ``get``, ``put``, ``read``, ``mkdir``, ``remove``.

        Args:
            where: a pilot, its name or uid, or a site at which this session has one.
        """
        from .fs import of

        return of(self, where)

    def view(self, name: str = "tasks", **window: Any) -> Any:
        """Return a live view: ``tasks``, ``nodes``, ``queue``, ``timeline``, ``usage`` or ``summary``.

        Args:
            **window: what part of it, such as ``state="FAILED"`` or ``sort="started"``; see docs/server.md.

        Raises:
            RequestError: no such view or setting.
        """
        return show.view(self, name, window)

    def __repr__(self) -> str:
        return show.session_line(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return show.session_bundle(self)


_KEY = re.compile(r"[0-9]+-" + NAME.pattern)
_open: dict[tuple[str, str], Session] = {}
_lock = threading.RLock()


def open(name: str = "default", *, create: bool = True) -> Session:
    """Create the session of this name or attach to it again; the same object while it is open in this process.

    Args:
        name: letters, digits, ``. _ -``, at most 64; or the key (``0-study``) of an earlier one of the same name.
        create: make it when there is none (else RequestError).

    Raises:
        RequestError: not a name, or no such session. SiteError, LinkError: the broker cannot be started or reached.
    """
    if isinstance(name, str) and _KEY.fullmatch(name):
        create = False
    else:
        check_name(name, "name")
    connection = Connection.shared()
    key = (str(connection.home.state_path), name)
    with _lock:
        session = _open.get(key)
        if session is not None and session.closed and create and session._replica.error is None:
            session.detach()  # the name is free again: a new session begins
        elif session is not None and session._connection is connection and session._replica.error is None:
            return session
        session = _open[key] = Session(connection, name, create)
    show.met(session)
    return session


dicts.attach = lambda name: open(name, create=False)
