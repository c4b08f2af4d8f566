"""Staging directives where they are given: relative paths become absolute, and what is to be sent must be there.

The broker works elsewhere than the person who wrote ``"in.dat > x.dat"``; here is the directory that was meant. Knows
templates and columns, no session. Read next: :mod:`jupyter_rm.model.staging`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..model.columns import Column
from ..model.describe import Task, Template
from ..model.errors import RequestError
from ..model.staging import Directive, from_client, split, with_texts

_CLIENT = "client:"
LOOKED_AT = 100_000  # rows of an array whose files are looked for before it is submitted
NAMES = ("input_staging", "output_staging")


def at_home(task: Task) -> Task:
    """Return a task of a list with the places of its files made absolute."""
    given = {name: task._given[name] for name in NAMES if name in task._given}
    return task.replace(**{name: _absolute(staged, {}, False) for name, staged in given.items()}) if given else task


def resolved(template: Template, columns: Mapping[str, Column], count: int) -> Template:
    """Return a template as it travels: with absolute places, after a look at the files that are to be sent.

    Raises:
        RequestError: JRM-Q91, a file to be sent is not there, naming the field and the index.
    """
    if not template.input_staging and not template.output_staging:
        return template
    row = {name: column.get(0) for name, column in columns.items()} if template.params and count else {}
    made = msgspec.structs.replace(
        template,
        input_staging=_absolute(template.input_staging, row, template.params),
        output_staging=_absolute(template.output_staging, row, template.params),
    )
    if template.params:
        for name in NAMES:
            _lines(getattr(made, name), name, columns)
    for at, one in enumerate(made.input_staging):
        if from_client(one) and not one.optional:
            _look(one.source, f"input_staging[{at}]", columns if template.params else {}, count, template.params)
    return made


def _absolute(staged: tuple[Directive, ...], row: Mapping[str, Any], params: bool) -> tuple[Directive, ...]:
    return with_texts(staged, [_place(text, row, params) for one in staged for text in (one.source, one.target)])


def _place(text: str, row: Mapping[str, Any], params: bool) -> str:
    if not text.startswith(_CLIENT):
        return text
    rest = text.removeprefix(_CLIENT)
    begin = _filled(rest, row) if params else rest  # a column may hold whole paths
    if begin.startswith("/"):
        return text
    home = rest == "~" or rest.startswith("~/")  # as written; in a column it is a name like any other
    base = os.path.expanduser("~") if home else os.getcwd()  # noqa: PTH109, PTH111 (text stays text)
    if params:
        base = base.replace("{", "{{").replace("}", "}}")
    return f"client://{base}/{rest[2:] if home else rest}"


def _filled(text: str, row: Mapping[str, Any]) -> str:
    try:
        return text.format_map(row) if "{" in text or "}" in text else text
    except (KeyError, ValueError, IndexError, AttributeError, TypeError):
        return text  # said by whoever checks placeholders


def _lines(staged: tuple[Directive, ...], field: str, columns: Mapping[str, Column]) -> None:
    """Refuse columns of paths in which a value holds a line break: those of the files at a site travel in lines."""
    for name, column in columns.items():
        held = column.data if column.kind == "text" else str(column.get(0)).encode() if column.kind == "const" else b""
        if not any(sign in held for sign in (b"\0", b"\n", b"\r")):
            continue
        for at, one in enumerate(staged):
            if any(f"{{{name}{end}" in path for end in "}:!.[" for path in (one.source, one.target)):
                raise RequestError(
                    f"{field}[{at}]: a value of {name} holds a line break", hint="rename the file", code="JRM-Q91"
                )


def _look(source: str, field: str, columns: Mapping[str, Column], count: int, params: bool) -> None:
    if params and "{" in source:
        used = {name: column for name, column in columns.items() if f"{{{name}" in source}
        rows = range(min(count, LOOKED_AT)) if used else range(1)
        sources = [_filled(source, {name: column.get(row) for name, column in used.items()}) for row in rows]
    else:
        sources = [_filled(source, {}) if params else source]
    for row, one in enumerate(sources):
        path = Path(split(one)[2])
        try:
            there = path.exists()
        except OSError:
            there = False
        if not there:
            which = f" (task {row})" if len(sources) > 1 else ""
            raise RequestError(
                f"{field}: {str(path)!r} is not there{which}",
                hint='check the path; a file that may be missing has the flag "optional"',
                code="JRM-Q91",
            )
