"""What a bootstrap asks of a connection, what it promises to its caller, and the words both use.

Knows: shapes. Does not know: how anything is done. Read next: ``ensure.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from jupyter_rm.model.errors import RequestError
from jupyter_rm.runtime.connect.files import FileInfo
from jupyter_rm.runtime.connect.stream import Result, Stream

MODES = ("create", "use", "update", "recreate", "private", "local", "none")
SOURCES = ("staged", "index", "installed")
PREFER = ("staged", "system-then-staged", "system")
TAIL = 2000  # characters of a failed command's output that are shown


class Runs(Protocol):
    """The part of :class:`~jupyter_rm.runtime.connect.Connection` that is needed here."""

    @property
    def name(self) -> str: ...
    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, env: Mapping[str, str] | None = None
    ) -> Result: ...
    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Stream: ...
    def put(
        self,
        local: str | Path,
        remote: str,
        *,
        resume: bool = True,
        mode: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> str: ...
    def stat(self, path: str) -> FileInfo | None: ...


@dataclass(frozen=True)
class Step:
    """One line about a bootstrap in progress.

    Attributes:
        name: ``before``, ``python``, ``pack``, ``wait``, ``send``, ``unpack``, ``install``, ``verify``, ``after``; and
            ``environment``, which begins first and ends last.
        status: ``start``, ``progress``, ``ok`` or ``fail``.
        percent: 0 to 100, -1 when unknown.
        text: one line for a person.
    """

    name: str
    status: str
    percent: int = -1
    text: str = ""


Tell = Callable[[Step], None]


@dataclass(frozen=True)
class Wanted:
    """Which environment an agent shall run in.

    Attributes:
        mode: ``create`` (make it unless it is there), ``use`` (a named one, as it is), ``update`` (``create``, and a
            name is led to the new one), ``recreate`` (make it anew), ``private`` (a copy of the pilot's own), ``local``
            (unpacked on each node when the job starts), ``none`` (whatever package the machine's Python has).
        name: of the environment: a plain name below ``~/.jupyter_rm/env``, or with ``use`` and ``private`` the path
            (absolute, or beginning with ``~/``) of its directory (``use``: or of its Python). Empty: after its content.
        source: where the package comes from: ``staged`` (from here), ``index`` (``pip install`` there), ``installed``
            (it is there already, as with ``none``).
        python: the interpreter to use there: a path, the name of a command, or a shell line (with a blank in it) after
            which ``python3`` is the one, such as ``module load python/3.12``; empty: the best one found.
        base: directory there for environments and archives; empty: ``~/.jupyter_rm``.
        prefer: where the packages of others come from that an agent needs: ``staged`` (all from here), ``system`` (all
            from the interpreter there), ``system-then-staged`` (from there what is new enough, else from here).
        before, after: commands, as lists of arguments, run there before and after all this.
    """

    mode: str = "create"
    name: str = ""
    source: str = "staged"
    python: str = ""
    base: str = ""
    prefer: str = "staged"
    before: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        for name, value, known in (
            ("env_mode", self.mode or "create", MODES),
            ("env_source", self.source, SOURCES),
            ("env_prefer", self.prefer, PREFER),
        ):
            if value not in known:
                raise RequestError(
                    f"{name}: {value!r} is unknown", code="JRM-B02", hint=f"use one of {', '.join(known)}"
                )
        if self.prefer != "staged" and self.source == "index":
            raise RequestError(
                "env_prefer: with env_source 'index' pip there decides", code="JRM-B02", hint="leave one of them out"
            )
        if self.mode == "use" and not self.name:
            raise RequestError(
                "env: mode 'use' needs to know which environment",
                code="JRM-B02",
                hint="give its path, or the name it was made under",
            )
        plain = self.name.replace("-", "").replace("_", "").replace(".", "")
        path = self.name.startswith(("/", "~/")) and self.mode in ("use", "private")
        path = path and not {"\0", "\n"} & set(self.name)
        if self.name and not path and not (plain.isalnum() and self.name.isascii() and len(self.name) <= 64):
            raise RequestError(
                f"env: {self.name!r} is not the name of an environment",
                code="JRM-B02",
                hint="use letters, digits, dot, dash and underscore; a path only with 'use' and 'private'",
            )
        for name, value in (("python", self.python), ("env_base", self.base)):
            if "\0" in value or "\n" in value or value.startswith("-"):
                raise RequestError(
                    f"{name}: {value!r} holds a line break or NUL, or begins with '-'",
                    code="JRM-B02",
                    hint="give a path, for python also a command or a line such as 'module load python'",
                )
        if self.base and not self.base.startswith(("/", "~/")):
            raise RequestError(
                f"env_base: {self.base!r} is not a full path", code="JRM-B02", hint="begin it with / or ~/"
            )


@dataclass(frozen=True)
class Environment:
    """An environment that is ready: ``[python, program, SPEC]`` runs an agent (see ``target/start.py``).

    Attributes:
        python, program: absolute paths there; one of ours is started without the user's Python settings (``-I``).
        root: its directory; empty for one that is not ours.
        key: what it was made from, as a hash; empty for one that is not ours.
        how: ``made`` or ``found``.
        versions: of each package in it.
        deps: of each package of others where it comes from, when that was a choice.
        notes: what a person should know, such as that the slow placer is used.
    """

    python: str
    program: str
    root: str
    key: str
    how: str
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    deps: Mapping[str, str] = field(default_factory=dict)


def tail(*outputs: bytes, most: int = TAIL) -> str:
    """Return the last lines of the first output that has any."""
    for output in outputs:
        text = output.decode("utf-8", "replace").strip()
        if text:
            return text if len(text) <= most else "..." + text[-most:]
    return "it printed nothing"
