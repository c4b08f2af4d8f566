"""From descriptions to bulks: a list of tasks becomes as few templates with columns as possible.

Tasks that differ only in texts (arguments, names, file names, values of variables) share a template in which the
differing texts are placeholders; literal braces are escaped. Knows nothing about sessions. Read next: :mod:`.session`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from ..model.columns import Array, Column
from ..model.describe import FIELDS, Task, Template
from ..model.errors import RequestError
from ..model.ids import NAME, check_name
from ..model.staging import texts as staged_texts
from ..model.staging import with_texts
from .directives import at_home

# Text fields in which a placeholder is filled in by the agent, and the name, which is filled in here.
_TEXTS = ("executable", "stdin", "stdout", "stderr", "sandbox", "name")
_TEXT_DEFAULTS = tuple((name, FIELDS[name][1]) for name in _TEXTS)
_STAGED = ("input_staging", "output_staging")
_FILES = frozenset(_STAGED)
_NO_SHAPE = frozenset({*_TEXTS, *_STAGED, "arguments", "environment", "after"})


@dataclass
class Group:
    """Tasks that travel as one bulk; ``places`` are their positions in the list given."""

    template: Template
    columns: dict[str, Column]
    places: Array
    after: object

    @property
    def count(self) -> int:
        """Number of tasks."""
        return len(self.places)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _texts(task: Task) -> tuple[str, ...]:
    given = task._given
    texts = [given.get(name, default) for name, default in _TEXT_DEFAULTS]
    if "environment" in given:
        texts += [text for _, text in given["environment"]]
    for name in _STAGED:
        if name in given:
            texts += [text.partition(":")[2] for text in staged_texts(given[name])]
    return (*texts, *given.get("arguments", ()))


def _staged(task: Task) -> tuple[Any, ...]:
    """Return what of the directives of two tasks must be equal for them to share a template: all but the paths."""
    return tuple(
        (name, one.action, one.flags, one.source.partition(":")[0], one.target.partition(":")[0])
        for name in _STAGED
        for one in task._given.get(name, ())
    )


def _shape(task: Task) -> tuple[Any, ...]:
    """Return what must be equal for two tasks to share a template."""
    given = task._given
    return (
        len(given.get("arguments", ())),
        tuple(name for name, _ in given["environment"]) if "environment" in given else (),
        # A field left at its default must not become a placeholder that fills in nothing.
        (bool(given.get("stdin")), bool(given.get("sandbox")), bool(given.get("name"))),
        id(given["after"]) if "after" in given else 0,
        _staged(task),
        tuple(
            (name, str(value) if isinstance(value, dict) else value)
            for name, value in given.items()
            if name not in _NO_SHAPE
        ),
    )


def group(tasks: Sequence[Task]) -> list[Group]:
    """Return the groups in the order of their first tasks.

    Raises:
        RequestError: something in the list is not a task; JRM-Q50, naming its position.
    """
    for place, task in enumerate(tasks):
        if not isinstance(task, Task):
            raise RequestError(
                f"tasks[{place}]: {type(task).__name__} is not a description",
                hint='give jrm.Task("program", ["argument"]) or jrm.Shell("line")',
                code="JRM-Q50",
            )
        name = task._given.get("name", "")
        if "{" in name:
            check_name(name, f"tasks[{place}].name")
        if "service" in task._given:
            raise RequestError(
                f"tasks[{place}]: a service is submitted on its own", hint="s.submit(service)", code="JRM-Q94"
            )
    tasks = [at_home(task) if task._given.keys() & _FILES else task for task in tasks]
    shapes: dict[tuple[Any, ...], list[int]] = {}
    known: dict[int, list[int]] = {}  # the same object many times is a common way to say "again"
    for place, task in enumerate(tasks):
        places = known.get(id(task))
        if places is None:
            places = known[id(task)] = shapes.setdefault(_shape(task), [])
        places.append(place)
    return [_merge([tasks[place] for place in places], places) for places in shapes.values()]


def _merge(tasks: list[Task], places: list[int]) -> Group:
    first = tasks[0]
    where = np.array(places, np.int64)
    if len(tasks) == 1:
        return Group(first.template(), {}, where, first.after)
    rows = [_texts(task) for task in tasks]
    staged = [text for name in _STAGED for text in staged_texts(getattr(first, name))]
    columns: dict[str, Column] = {}
    merged = []
    for number, values in enumerate(zip(*rows, strict=True)):
        if all(value == values[0] for value in values):
            merged.append(_escaped(values[0]))
        else:
            name = _column(number, len(first.environment), len(staged))
            columns[name] = Column.of(list(values), name)
            merged.append("{" + name + "}")
    template = first.template()
    if not columns:
        return Group(template, {}, where, first.after)
    texts, rest = merged[: len(_TEXTS)], merged[len(_TEXTS) :]
    environment, rest = rest[: len(first.environment)], rest[len(first.environment) :]
    paths = iter(f"{old.partition(':')[0]}:{text}" for old, text in zip(staged, rest[: len(staged)], strict=True))
    template = msgspec.structs.replace(
        template,
        **dict(zip(_TEXTS, texts, strict=True)),
        environment=tuple((name, text) for (name, _), text in zip(first.environment, environment, strict=True)),
        arguments=tuple(rest[len(staged) :]),
        params=True,
    )
    if staged:
        made = {name: with_texts(getattr(first, name), paths) for name in _STAGED}
        template = msgspec.structs.replace(template, **made)
    return Group(template, columns, where, first.after)


def _column(number: int, variables: int, files: int) -> str:
    """Return the name of the column for the text at place ``number`` of :func:`_texts`."""
    if number < len(_TEXTS):
        return _TEXTS[number]
    number -= len(_TEXTS)
    if number < variables:
        return f"env_{number}"
    number -= variables
    return f"file_{number}" if number < files else f"a{number - files}"


def array(task: Task, columns: Mapping[str, object]) -> tuple[Template, dict[str, Column], int]:
    """Return template, columns and number of tasks of ``s.array``.

    Args:
        columns: one value per task, or a number or text for all of them; a column ``name`` names the tasks. True and
            False are texts, as they are in ``environment``.

    Raises:
        RequestError: JRM-Q51, naming the placeholder without column, the column of another length, or the field that
            cannot be filled in.
    """
    if not isinstance(task, Task):
        raise RequestError(f"task: {type(task).__name__} is not a description", hint="give a jrm.Task", code="JRM-Q50")
    if task.service:
        raise RequestError("task: a service is one task", hint="s.submit(service)", code="JRM-Q94")
    wanted = task.placeholders()
    for name in sorted(wanted):
        if not name.isidentifier():
            raise RequestError(
                f"placeholder {{{name}}} has no name",
                hint="write {name}, or {{ and }} for literal braces",
                code="JRM-Q51",
            )
        if name not in columns:
            raise RequestError(
                f"{{{name}}} has no column",
                hint=f"give {name}=[...] to s.array, or write {{{{{name}}}}} for literal braces",
                code="JRM-Q51",
            )
    made: dict[str, Column] = {}
    scalars: dict[str, Any] = {}
    count = -1
    longest = ""
    for name, values in columns.items():
        if isinstance(values, (int, float, str, np.integer, np.floating, np.bool_)):
            values = values.item() if isinstance(values, np.generic) else values
            scalars[name] = str(values) if isinstance(values, bool) else values
            continue
        if not isinstance(values, (range, np.ndarray, Column)) and isinstance(values, Iterable):
            values = list(values)
        made[name] = Column.of(_worded(values), name)
        if count >= 0 and len(made[name]) != count:
            raise RequestError(
                f"{name}: {len(made[name])} values, but {longest} has {count}",
                hint="give equal lengths",
                code="JRM-Q51",
            )
        count, longest = len(made[name]), name
        if name in wanted and made[name].kind == "text" and b"\0" in made[name].data:
            raise RequestError(
                f"{name}: a value holds a NUL character", hint="remove it; no system can pass it on", code="JRM-Q05"
            )
    if not columns:
        raise RequestError("array: no columns", hint="give at least one, such as seed=range(100)", code="JRM-Q51")
    if count < 0:
        count = 1
    for name, value in scalars.items():
        made[name] = Column.const(value, count)
    if count == 0:
        raise RequestError(f"{longest}: no values", hint="give at least one value", code="JRM-Q51")
    template = task.template(params=True)
    if "name" in columns:
        template = msgspec.structs.replace(template, name="{name}")
    _check_names(template.name, made, count)
    _check_fills(template, made)
    unused = sorted(set(columns) - wanted - {"name"})
    if unused:
        warnings.warn(
            f"columns without a placeholder, kept as parameters only: {', '.join(unused)}", UserWarning, stacklevel=3
        )
    _check_names(template.name, made, count)
    ordered = {name: made[name] for name in columns}
    return template, ordered, count


def _worded(values: object) -> object:
    """Return truths as texts, anything else as it is."""
    if isinstance(values, np.ndarray) and values.dtype == np.bool_:
        return [str(value) for value in values.tolist()]
    if isinstance(values, (list, np.ndarray)) and all(type(value) is bool for value in values):
        return [str(value) for value in values]
    return values


def _check_fills(template: Template, columns: Mapping[str, Column]) -> None:
    """Fill in the texts of the first task: ``{seed:03d}`` in a column of texts would fail each one where it starts.

    Raises:
        RequestError: JRM-Q51, naming the field.
    """
    row = {name: column.get(0) for name, column in columns.items()}
    fields = [(name, getattr(template, name)) for name in ("executable", "stdin", "stdout", "stderr", "sandbox")]
    fields += [(f"arguments[{place}]", text) for place, text in enumerate(template.arguments)]
    fields += [(f"environment[{name!r}]", text) for name, text in template.environment]
    for name in _STAGED:
        fields += [(f"{name}[{place // 2}]", text) for place, text in enumerate(staged_texts(getattr(template, name)))]
    for field, text in fields:
        if "{" in text:
            try:
                text.format_map(row)
            except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
                raise RequestError(
                    f"{field}: {text!r} cannot be filled in: {error}",
                    hint="write {name}; a form such as {name:03d} needs numbers in the column",
                    code="JRM-Q51",
                ) from None


def _check_names(text: str, columns: Mapping[str, Column], count: int) -> None:
    """Check the names of all tasks of an array as they will be filled in; an empty one is none.

    Raises:
        RequestError: JRM-Q02, the first that is not a name.
    """
    if "{" not in text:
        return
    used = {name: column for name, column in columns.items() if f"{{{name}" in text}

    def filled(places: Iterable[int], values: Iterable[tuple[Any, ...]]) -> None:
        for place, row in zip(places, values, strict=False):
            try:
                name = text.format_map(dict(zip(used, row, strict=True)))
            except (ValueError, KeyError, IndexError, AttributeError) as error:
                raise RequestError(f"name: {text!r}: {error}", hint="write {column} only", code="JRM-Q51") from None
            if name and not NAME.fullmatch(name):
                check_name(name, f"name of task {place}")

    if all(column.kind in ("range", "int", "const") for column in used.values()):
        # Whole numbers change nothing but the length: the longest and the first say enough.
        rows = {0}
        for column in used.values():
            if column.kind != "const":
                values = column.array()
                rows |= {int(values.argmin()), int(values.argmax())}
        filled(sorted(rows), [tuple(column.get(place) for column in used.values()) for place in sorted(rows)])
        return
    filled(range(count), zip(*(column.values() for column in used.values()), strict=True))
