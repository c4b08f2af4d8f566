"""Bundles: a pilot and its work in one, submitted as one job that needs nobody from then on.

``s.bundle(site, work, ...)`` records both at once; the job runs to its end alone, and what became of the work is read
by whoever attaches later. A bundle may stand in a file (:func:`read`), which is all of it: site, pilot and work. Knows
descriptions and messages; what the agent does alone stands in :mod:`jupyter_rm.core.bundle`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ..model.columns import Array as Vector
from ..model.columns import Column
from ..model.describe import Shell, Task
from ..model.errors import RequestError
from ..model.messages import Accepted, Submit, SubmitBundle
from . import blocking, capacity, grouping, here
from .bulk import Bulk, joined
from .functions import call_template, dump_arguments
from .pilot import Pilot

if TYPE_CHECKING:
    from .session import Session

_toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
_HINT = "give jrm.Task(...), a list of them, jrm.Array(task, column=values) or jrm.Calls(function, items)"


class Array:
    """One task per row of columns, as ``s.array`` takes them: work for a bundle."""

    def __init__(self, task: Task, /, **columns: Any) -> None:
        self.task, self.columns = task, columns

    def __repr__(self) -> str:
        return f"Array({self.task!r}, {', '.join(self.columns)})"


class Calls:
    """One call of ``fn`` per item, as ``s.map`` takes them: work for a bundle."""

    def __init__(self, fn: Callable[..., Any], xs: Iterable[Any], /, *more: Iterable[Any], **fields: Any) -> None:
        self.fn, self.items, self.fields = fn, list(zip(xs, *more, strict=False)), fields

    def __repr__(self) -> str:
        return f"Calls({getattr(self.fn, '__name__', self.fn)!s}, {len(self.items)} items)"


class Bundle:
    """A bundle that was submitted.

    Attributes:
        session: the session. pilot: its pilot. tasks: all its tasks, in the order given.
    """

    def __init__(self, session: Session, pilot: Pilot, tasks: Bulk) -> None:
        self.session, self.pilot, self.tasks = session, pilot, tasks

    def counts(self) -> dict[str, int]:
        """Return the number of tasks per state."""
        return self.tasks.counts()

    def done(self) -> bool:
        """Have all tasks ended?"""
        return self.tasks.done()

    def results(self, timeout: float | None = None) -> list[Any]:
        """Return what the calls returned, or the output of programs, in order; raises as ``Bulk.results``."""
        return self.tasks.results(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until all tasks have ended, or its pilot, or ``timeout`` s are over; say whether all tasks have ended.

        What a pilot that failed left undone waits for another pilot of the session.
        """
        session, pilot = self.session, self.pilot
        blocking.wait(
            session._replica,
            lambda: self.done() or pilot._row().state.final,
            timeout,
            what=f"the bundle of {pilot.uid} of session {session.name!r}",
            cancel=lambda: blocking.how_to_cancel(session.name, pilot.uid),
            settings=session._settings,
            picture=self.counts,
        )
        return self.done()

    def cancel(self) -> int:
        """Cancel its tasks and end its pilot; return how many tasks had not ended."""
        hit = self.tasks.cancel()
        self.pilot.cancel()
        return hit

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts().items())
        return f"<bundle {self.pilot.uid} at {self.pilot.site}, {self.pilot.state}: {counts}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        pilot, tasks = self.pilot._repr_mimebundle_(), self.tasks._repr_mimebundle_()
        return {"text/plain": repr(self), "text/html": pilot.get("text/html", "") + tasks.get("text/html", "")}


def submit(session: Session, site: str | os.PathLike[str], work: tuple[Any, ...], fields: Mapping[str, Any]) -> Bundle:
    """Record a bundle and return it; see :meth:`Session.bundle`."""
    if isinstance(site, os.PathLike):
        if work:
            raise RequestError("work: the file says what it is", hint="give a site and work, or a file", code="JRM-Q27")
        site, work, said = read(site)
        fields = {**said, **fields}
    spec = capacity.pilot_spec(site, fields)
    submits: list[Submit] = []
    places: list[Vector] = []
    count = 0
    for each in work:
        parts = _messages(session, each)
        submits += [message for message, _ in parts]
        places += [where + count for _, where in parts]
        count += sum(message.count for message, _ in parts)
    if not submits:
        raise RequestError("work: there is none", hint=_HINT, code="JRM-Q27")
    connection = session._connection
    key = os.urandom(16)
    answer: Accepted = connection.request(SubmitBundle(connection.number(), session.name, key, spec, tuple(submits)))
    replica = session._replica
    replica.wait(
        lambda: answer.number < len(replica.ledger.pilots) and submits[-1].key in replica.ledger.bulk_keys,
        session._settings.request_timeout_s,
    )
    numbers = [replica.ledger.bulk_keys[message.key] for message in submits]
    pieces = [(number, message.count, where) for number, message, where in zip(numbers, submits, places, strict=True)]
    return Bundle(session, Pilot(session, answer.number), joined(session, pieces, count))


def _messages(session: Session, work: Any) -> list[tuple[Submit, Vector]]:
    """Return the submissions of one piece of work, with the positions of their tasks in it."""
    if isinstance(work, Array):
        template, columns, count = grouping.array(work.task, work.columns)
        return [(session._message(template, columns, count, None, _no_after(work.task)), np.arange(count))]
    if isinstance(work, Calls):
        if not work.items:
            return []
        sha = session._functions.sha(work.fn)
        template = session._templates.of(call_template(work.fields), sha)
        payload = Column.of_bytes([dump_arguments(items, {}) for items in work.items])
        message = session._message(template, {}, len(work.items), payload, _no_after(work.fields.get("after")))
        message = msgspec.structs.replace(message, functions={sha: session._connection.functions[sha]})
        return [(message, np.arange(len(work.items)))]
    if isinstance(work, Task):
        work = [work]
    if isinstance(work, (str, bytes, Mapping)) or not isinstance(work, Iterable):
        raise RequestError(f"work: {type(work).__name__} is no work", hint=_HINT, code="JRM-Q27")
    groups = grouping.group(list(work))
    return [
        (session._message(each.template, each.columns, each.count, None, _no_after(each.after)), each.places)
        for each in groups
    ]


def _no_after(given: object) -> tuple[()]:
    if isinstance(given, Task):
        given = given.after
    if given:
        raise RequestError(
            "after: nobody is there to see to that while a bundle runs",
            hint="leave it out, or use s.pilot and s.submit",
            code="JRM-Q27",
        )
    return ()


# ------------------------------------------------------------ files

TEMPLATE = """\
# A bundle: everything that one job needs. Submit it with: jrm bundle submit {name}
site = "{site}"

# What to ask the site for: nodes, cores, gpus, mem, walltime, queue, project, name, options and so on.
nodes = 1
walltime = "1h"

# Work, as many parts as you like. The fields are those of jrm.Task; columns fill the placeholders.
[[work]]
executable = "/bin/echo"
arguments = ["case", "{{case}}"]
cores = 1
retries = 1

[work.columns]
case = {{ from = 0, count = 100 }}      # or a list: ["a", "b"]; or one value for all

[[work]]
shell = "hostname | tr a-z A-Z"       # a line of shell instead of a program
"""


def make(path: str | os.PathLike[str], site: str = "", force: bool = False) -> Path:
    """Write a file to start from and return its path.

    Raises:
        RequestError: JRM-Q27, it is there already, or cannot be written.
    """
    path = Path(path)
    site = site or "slurm+ssh://me@login"
    if '"' in site or "\\" in site or not site.isprintable():
        raise RequestError(f"site: {site!r} is not a site", hint="local, a site's name or a URL", code="JRM-Q54")
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(name=path.name, site=site))
    except FileExistsError:
        raise RequestError(f"{path}: is there already", hint="choose another name, or force", code="JRM-Q27") from None
    except OSError as error:
        raise RequestError(
            f"{path}: {error.strerror}", hint="choose a place that can be written", code="JRM-Q27"
        ) from None
    return path


def read(path: str | os.PathLike[str]) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Return (site, work, fields of the pilot) of a bundle's file, each checked.

    Raises:
        RequestError: naming what is wrong and where.
    """
    path = Path(path)
    try:
        said: dict[str, Any] = _toml.loads(here.path(path, "file").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, _toml.TOMLDecodeError) as error:
        why = getattr(error, "strerror", "") or str(error)
        hint = "jrm bundle make FILE writes one to start from"
        raise RequestError(f"{path}: {why}", hint=hint, code="JRM-Q27") from None
    site, parts = said.pop("site", None), said.pop("work", None)
    if not isinstance(site, str) or not site:
        raise RequestError(f"{path}: site: missing", hint='site = "slurm+ssh://me@login"', code="JRM-Q27")
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise RequestError(f"{path}: work: there is none", hint="write [[work]] and below it a task", code="JRM-Q27")
    capacity.pilot_spec(site, said)
    work = []
    for number, part in enumerate(parts):
        try:
            work.append(_work(part))
        except RequestError as error:
            error.message = f"{path}: work[{number}]: {error.message}"
            raise
    return site, tuple(work), said


def _work(part: dict[str, Any]) -> Any:
    columns, line = part.pop("columns", None), part.pop("shell", None)
    if "mode" in part or (line is not None and "executable" in part):
        raise RequestError("shell and executable: one of them", hint='shell = "a | b"', code="JRM-Q27")
    if line is None and "executable" not in part:
        raise RequestError("executable: missing", hint='executable = "/bin/echo", or shell = "a | b"', code="JRM-Q27")
    if line is not None and not isinstance(line, str):
        raise RequestError(f"shell: {line!r} is not text", hint='shell = "a | b"', code="JRM-Q27")
    task = Shell(line, **part) if line is not None else Task(**part)
    if columns is None:
        return task
    if not isinstance(columns, dict) or not columns:
        raise RequestError("columns: no table of columns", hint="columns.case = [1, 2, 3]", code="JRM-Q27")
    return Array(task, **{name: _column(name, values) for name, values in columns.items()})


def _column(name: str, values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values.values())
    if "count" not in values or set(values) - {"from", "count", "step"} or not whole or values["count"] < 1:
        raise RequestError(f"columns.{name}: unclear", hint="{ from = 0, count = 100, step = 1 }", code="JRM-Q27")
    first, step = values.get("from", 0), values.get("step", 1)
    return range(first, first + step * values["count"], step) if step else [first] * values["count"]


def described(path: str | os.PathLike[str]) -> str:
    """Return what a bundle's file holds, in words; RequestError when something in it is wrong."""
    site, work, fields = read(path)
    lines = [f"a bundle for {site}: " + (", ".join(f"{name}={value}" for name, value in fields.items()) or "as it is")]
    for each in work:
        if isinstance(each, Array):
            template, _, count = grouping.array(each.task, each.columns)
            lines.append(f"  {count} x {template.executable}")
        else:
            lines.append(f"  1 x {each.template().executable}")
    return "\n".join(lines)
